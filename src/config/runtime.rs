//! Keys that are set while nearside runs, over what was written anywhere: which may be, and the
//! settings that come of it.
//!
//! In: settings as they were read, keys and their new values. Out: settings checked as a whole, or
//! what is wrong. Invariant: nothing else changes by it; what stands in files is not read anew.

use crate::config::key::{Applies, Key, Values};
use crate::config::load::{RUNTIME, checked, is_under};
use crate::config::{ConfigError, Settings, written};
use crate::keys::Invalid;

/// Why a key is not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSet {
    /// Nobody knows it.
    #[error("there is no key `{0}`{1}")]
    Unknown(String, String),
    /// The next process has it.
    #[error("`{0}` takes a restart")]
    Restart(&'static str),
    /// A secret in a command stands in logs; a path, like a list of tables, is for the file.
    #[error("`{0}` is for the configuration: write it there, and reload")]
    Written(&'static str),
    /// There is a command of its own.
    #[error("`{0}` is switched by {1}")]
    Switched(&'static str, &'static str),
    /// The value is none, or does not fit the others.
    #[error(transparent)]
    Wrong(#[from] ConfigError),
    /// The version in force does not fit what is set.
    #[error("the key version {0}")]
    Version(#[from] Invalid),
}

/// The key that may be set so.
pub fn settable(path: &str) -> Result<&'static Key, NotSet> {
    let Some(key) = written::keys().find(|key| key.path == path) else {
        return Err(NotSet::Unknown(path.to_owned(), nearest(path)));
    };
    match key.path {
        "mode" => return Err(NotSet::Switched(key.path, "PROXY MODE")),
        "keys.version" => return Err(NotSet::Switched(key.path, "PROXY VERSION SET")),
        _ => {}
    }
    let is_for_files = matches!(key.values, Values::Secret | Values::Url | Values::File);
    if key.list().is_some() || is_for_files {
        return Err(NotSet::Written(key.path));
    }
    if key.applies == Applies::Restart { Err(NotSet::Restart(key.path)) } else { Ok(key) }
}

fn nearest(path: &str) -> String {
    let distance = |key: &Key| strsim::damerau_levenshtein(path, key.path);
    let nearest = written::keys().min_by_key(|key| distance(key));
    let is_near = |key: &&Key| distance(key) <= key.path.len() / 3;
    nearest
        .filter(is_near)
        .map_or_else(String::new, |key| format!("; did you mean `{}`?", key.path))
}

impl Settings {
    /// These settings, as they were read, with keys and values over them.
    pub fn with_set(&self, set: &[(&'static str, String)]) -> Result<Self, ConfigError> {
        let one =
            |(key, value): &(&str, String)| (RUNTIME.to_owned(), (*key).to_owned(), value.clone());
        let mut next = checked(self.merged.table(), set.iter().map(one).collect())?;
        next.merged = self.merged.clone();
        // What is not set is as it was read, where it was read.
        let is_set = |path: &str| set.iter().any(|(key, _)| is_under(path, key));
        for shown in next.values.iter_mut().filter(|shown| !is_set(&shown.path)) {
            let read = self.values.iter().find(|read| read.path == shown.path);
            shown.origin = read.and_then(|read| read.origin.clone());
        }
        next.auth.password.clone_from(&self.auth.password);
        next.upstream.target.password.clone_from(&self.upstream.target.password);
        next.admin.operator.clone_from(&self.admin.operator);
        next.admin.viewer.clone_from(&self.admin.viewer);
        Ok(next)
    }

    /// The value of a key as it is shown, if it has one.
    pub fn value(&self, path: &str) -> Option<&toml::Value> {
        self.values.iter().find(|shown| shown.path == path).map(|shown| &shown.value)
    }
}

#[cfg(test)]
mod tests {
    use super::{NotSet, settable};
    use crate::config::load_text;
    use std::path::Path;
    use std::time::Duration;

    #[test]
    fn what_is_hot_and_no_secret_may_be_set() {
        for path in ["cache.ttl", "log.level", "server.max_clients", "warming.popular"] {
            assert_eq!(settable(path).unwrap().path, path);
        }
        for (path, why) in [
            ("cache.tll", "there is no key `cache.tll`; did you mean `cache.ttl`?"),
            ("colour", "there is no key `colour`"),
            ("server.workers", "`server.workers` takes a restart"),
            ("auth.password", "`auth.password` is for the configuration"),
            ("admin.token_file", "`admin.token_file` is for the configuration"),
            ("rules.ttl", "`rules.ttl` is for the configuration"),
            ("mode", "`mode` is switched by PROXY MODE"),
            ("keys.version", "`keys.version` is switched by PROXY VERSION SET"),
        ] {
            let error = settable(path).unwrap_err().to_string();
            assert!(error.starts_with(why), "{path}: {error}");
        }
    }

    #[test]
    fn it_stands_over_what_was_written_and_only_for_now() {
        let text = "cache.ttl = '7s'\ncache.negative_ttl = '1s'\n";
        let read = load_text(Path::new("t.toml"), text.to_owned()).unwrap().settings;
        let set = [("cache.ttl", "9s".to_owned()), ("server.max_clients", "77".to_owned())];
        let next = read.with_set(&set).unwrap();
        assert_eq!(next.default_rule.ttl, Duration::from_secs(9));
        assert_eq!(next.default_rule.negative_ttl, Duration::from_secs(1));
        assert_eq!(next.server.max_clients, 77);
        assert_eq!(next.value("cache.ttl").unwrap().as_str(), Some("9s"));
        let again = next.with_set(&[]).unwrap();
        assert_eq!(again.default_rule.ttl, Duration::from_secs(7), "it is in no file");
        let error = read.with_set(&[("cache.ttl", "soon".to_owned())]).unwrap_err();
        let error = NotSet::from(error).to_string();
        assert!(error.starts_with("runtime: cache.ttl: "), "{error}");
    }
}
