//! How keys are named upstream, and which may be named, out of what `[keys]` and the rules say of
//! it.

use crate::command::learned::Strangers;
use crate::config::check::Notes;
use crate::config::invalidation::CHANNEL_DEFAULT;
use crate::config::written::Invalidation;
use crate::config::{Rule, ScriptPolicy, Settings};
use crate::keys::bounds::{ByteSet, KeyBounds};
use crate::keys::{Invalid, Names, Prefix};
use crate::units::size::Size;

impl Settings {
    /// How keys are named under this key version, as the prefix, the rules and the exceptions of
    /// these settings say it.
    pub(super) fn names_under(&self, version: &str) -> Result<Names, Invalid> {
        let parts = [&self.key_prefix, version, &self.separator];
        let canary = self.invalidation.written_canary;
        let hidden = Hidden { canary, fill_leases: self.lends() };
        names(parts, &self.exclude, &self.rules, hidden)
    }

    /// True if any key may have a fill lease.
    pub fn lends(&self) -> bool {
        lends(&self.default_rule, &self.rules)
    }

    /// The key that nearside writes to hear of it, if it is to.
    pub fn canary(&self) -> Option<Vec<u8>> {
        self.invalidation.written_canary.then(|| self.names.canary())
    }

    /// Keys upstream that are nobody's data.
    pub fn own_keys(&self) -> u8 {
        u8::from(self.version_key.is_some()) + u8::from(self.invalidation.written_canary)
    }
}

/// What nearside keeps upstream that no client is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hidden {
    /// The written canary.
    pub canary: bool,
    /// The locks of fill leases.
    pub fill_leases: bool,
}

impl Hidden {
    /// As it is written.
    pub(super) fn of(invalidation: &Invalidation, default: &Rule, rules: &[Rule]) -> Self {
        let canary = invalidation.written_canary == Some(true);
        Self { canary, fill_leases: lends(default, rules) }
    }
}

/// True if any of these rules lends, or what applies without one.
fn lends(default: &Rule, rules: &[Rule]) -> bool {
    rules.iter().chain([default]).any(|rule| !rule.fill_lease.is_zero())
}

/// How keys are named, by prefix, version and separator; the version of a rule stands where the
/// usual one would.
pub(super) fn names(
    [key_prefix, version, separator]: [&str; 3],
    exclude: &[String],
    rules: &[Rule],
    hidden: Hidden,
) -> Result<Names, Invalid> {
    let prefix = |version: &str| Prefix::new(key_prefix, version, separator);
    let mut named = Vec::new();
    for rule in rules {
        named.push((rule.patterns.as_slice(), rule.version.as_deref().map(prefix).transpose()?));
    }
    let names = Names::new(prefix(version)?, exclude.iter().map(String::as_str), named);
    let names = if hidden.canary { names.hiding_canary() } else { names };
    Ok(if hidden.fill_leases { names.hiding_fill_locks() } else { names })
}

/// What there is to say of it.
pub(super) fn check(settings: &Settings, notes: &mut Notes) {
    if !settings.exclude.is_empty() && settings.names.is_empty() {
        notes.warn(
            "keys.exclude excludes nothing: without keys.version, keys.prefix and rules.version \
             no key is rewritten",
        );
    }
    if let Some(key) = &settings.version_key
        && settings.names.strip(key.as_bytes()).is_some()
    {
        notes.fault(format!(
            "keys.version_key: `{key}` would be a key of clients (keys.exclude, rules.version), \
             which could switch the fleet's version by it"
        ));
    }
    if let Some(key) = settings.canary()
        && settings.names.strip(&key).is_some()
    {
        notes.warn(format!(
            "invalidation.written_canary: without keys.version and keys.prefix clients see its key \
             `{}`",
            key.escape_ascii()
        ));
    }
    check_locks(settings, notes);
    if settings.tenant_mode {
        check_tenant(settings, notes);
    }
}

/// `keys.tenant_mode`, and whatever else would let clients out.
fn check_tenant(settings: &Settings, notes: &mut Notes) {
    if settings.key_prefix.is_empty() {
        notes.fault("keys.tenant_mode needs a keys.prefix, to which it keeps clients");
    }
    if !settings.exclude.is_empty() {
        notes.fault("keys.exclude: with keys.tenant_mode no key is beyond the prefix");
    }
    if settings.commands.unknown != Strangers::Reject {
        notes.fault(
            "commands.unknown: with keys.tenant_mode it is \"reject\": what is not known may reach \
             anything",
        );
    }
    if settings.scripts.policy != ScriptPolicy::Refuse {
        notes.fault(
            "scripts.policy: with keys.tenant_mode it is \"refuse\"; scripts.allow lists those \
             that run unread",
        );
    }
    if settings.invalidation.channels.iter().any(|channel| channel == CHANNEL_DEFAULT) {
        notes.warn(
            "invalidation.channel: with keys.tenant_mode it should be this tenant's own: others on \
             the same server say and hear there which keys are to be forgotten",
        );
    }
    let inside = [&settings.key_prefix, settings.separator.as_str()].concat();
    if let Some(key) = settings.version_key.as_ref().filter(|key| !key.starts_with(&inside)) {
        notes.fault(format!(
            "keys.version_key: `{key}` is beyond the prefix, where others could switch the version \
             (keys.tenant_mode): let it begin with `{inside}`"
        ));
    }
}

/// Which keys a table's `max_key_length` and `forbidden_bytes` let be named.
pub(super) fn bounds(
    table: &str,
    longest: Option<Size>,
    forbidden: Option<&Vec<String>>,
    base: KeyBounds,
    notes: &mut Notes,
) -> KeyBounds {
    let set = |words: &Vec<String>| {
        let mut set = ByteSet::default();
        for word in words {
            if !set.add(word) {
                notes.fault(format!(
                    "{table}.forbidden_bytes: `{}` is neither a character such as \"{{\", nor a \
                     byte or range such as \"0x7f\" or \"0x00-0x1f\", nor \"control\", \
                     \"whitespace\" or \"non_ascii\"",
                    word.escape_debug()
                ));
            }
        }
        set
    };
    KeyBounds {
        longest: longest.map_or(base.longest, Size::as_usize),
        forbidden: forbidden.map_or(base.forbidden, set),
    }
}

/// `fill_lease`, where its locks are seen.
fn check_locks(settings: &Settings, notes: &mut Notes) {
    let locks = settings.names.fill_locks();
    if settings.lends() && settings.names.strip(&locks).is_some() {
        notes.warn(format!(
            "fill_lease: without keys.version and keys.prefix clients see its locks, `{}*`",
            locks.escape_ascii()
        ));
    }
}

/// `keys.exclude`.
pub(super) fn exclude(written: Option<&Vec<String>>, notes: &mut Notes) -> Vec<String> {
    let patterns = written.cloned().unwrap_or_default();
    for (at, pattern) in patterns.iter().enumerate() {
        if pattern.is_empty() {
            notes.fault("keys.exclude: an empty pattern excludes nothing; write one as \"lock:*\"");
        } else if patterns.iter().take(at).any(|other| other == pattern) {
            notes.warn(format!("keys.exclude: `{pattern}` stands there twice"));
        }
    }
    patterns
}
