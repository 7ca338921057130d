//! `[invalidation]`: where nearside hears what is to be forgotten, beside tracking.

use crate::config::check::{Notes, secret};
use crate::config::written::{self, Patterns};
use crate::config::{Invalidation, InvalidationSource};
use crate::net::address::Address;
use crate::net::target::Target;
use std::collections::BTreeSet;

/// Where applications and peers say what is to be forgotten.
const CHANNEL_DEFAULT: &str = "system:cache_invalidation";

/// The main upstream's name where sources are told apart.
pub const UPSTREAM: &str = "upstream";

/// Each has a connection and a series of its own.
const SOURCES_MAX: usize = 16;

pub(super) fn invalidation(written: &written::Invalidation, notes: &mut Notes) -> Invalidation {
    let channels = channels(written, notes);
    let mut sources: Vec<InvalidationSource> = Vec::new();
    for (place, source) in written.sources.iter().enumerate() {
        let key = format!("invalidation.sources[{place}]");
        if let Some(source) = one_source(&key, source, notes) {
            if sources.iter().any(|other| other.name == source.name) {
                let name = &source.name;
                notes.fault(format!("{key}.name: `{name}` is another source's already"));
            }
            sources.push(source);
        }
    }
    if written.sources.len() > SOURCES_MAX {
        let count = written.sources.len();
        notes.fault(format!("invalidation.sources: {count} are more than {SOURCES_MAX}"));
    }
    if channels.is_empty() && !sources.is_empty() {
        notes.warn("invalidation.channel is \"\": invalidation.sources are not listened to");
    }
    Invalidation { channels, publish: written.publish.unwrap_or(true), sources }
}

/// An empty name, or an empty list, turns it off.
fn channels(written: &written::Invalidation, notes: &mut Notes) -> Vec<String> {
    match &written.channel {
        None => vec![CHANNEL_DEFAULT.to_owned()],
        Some(Patterns::One(name)) if name.is_empty() => Vec::new(),
        Some(Patterns::One(name)) => vec![name.clone()],
        Some(Patterns::Many(names)) => {
            if names.iter().any(String::is_empty) {
                notes.fault("invalidation.channel: a name in a list must not be empty");
            }
            let mut seen = BTreeSet::new();
            names.iter().filter(|name| seen.insert(*name)).cloned().collect()
        }
    }
}

fn one_source(
    key: &str,
    source: &written::Source,
    notes: &mut Notes,
) -> Option<InvalidationSource> {
    let name = source.name.clone().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
        notes.fault(format!(
            "{key}.name: `{name}` is not a name of 1 to 64 letters, digits and `-_.`"
        ));
    } else if name == UPSTREAM {
        notes.fault(format!("{key}.name: `{name}` is what the main upstream is called"));
    }
    let inline = source.password.as_ref().map(|password| &password.0);
    let password = secret(key, inline, source.password_file.as_deref(), notes);
    let Some(url) = &source.url else {
        notes.fault(format!("{key}: url is missing, such as url = \"redis://other:6379\""));
        return None;
    };
    let mut target = notes.take(&format!("{key}.url"), url.0.parse::<Target>())?;
    if target.address == Address::Embedded {
        notes.fault(format!("{key}.url: `embedded:` is this very process, where nobody publishes"));
    }
    if source.username.is_some() {
        target.username.clone_from(&source.username);
    }
    if password.is_some() {
        target.password = password;
    }
    Some(InvalidationSource { name, target })
}
