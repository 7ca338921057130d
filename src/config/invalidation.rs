//! `[invalidation]`: where nearside hears what is to be forgotten, beside tracking.

use crate::config::admin::token;
use crate::config::check::{Notes, secret, span};
use crate::config::written::{self, Patterns};
use crate::config::{Groups, Invalidation, InvalidationEvent, InvalidationSource};
use crate::keys::template::Template;
use crate::net::address::Address;
use crate::net::target::{Password, Target};
use std::collections::BTreeSet;
use std::time::Duration;

/// Where applications and peers say what is to be forgotten.
pub(super) const CHANNEL_DEFAULT: &str = "system:cache_invalidation";

/// The main upstream's name where sources are told apart.
pub const UPSTREAM: &str = "upstream";

/// Bytes of a pattern or of the name of a namespace at most: what it costs to hold a key against
/// it is bounded by its length (T18).
pub const TEXT_MAX: usize = 1024;

/// Patterns that one order means at most.
pub const PATTERNS_MAX: usize = 64;

/// Bytes of all of them at most: half of what bans may hold.
pub const PATTERNS_ROOM: usize = 8 * 1024;

/// Each is a subscription at every server.
const EVENTS_MAX: usize = 64;

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
    let groups = groups(written, notes);
    let events = events(written, &channels, notes);
    if channels.is_empty() && !(sources.is_empty() && events.is_empty()) {
        notes.warn(
            "invalidation.channel is \"\": nobody listens, neither to invalidation.events nor at \
             invalidation.sources",
        );
    }
    let secret = secret_file(written, &events, notes);
    let max_skew = span(written.max_skew, Duration::from_secs(30));
    // A nonce is remembered for twice as long.
    if max_skew < Duration::from_secs(1) || max_skew > Duration::from_hours(1) {
        notes.fault("invalidation.max_skew: must be between 1s and 1h");
    }
    let publish = written.publish.unwrap_or(true);
    let written_canary = written.written_canary.unwrap_or(false);
    let max_bans = written.max_bans.unwrap_or(1024);
    if max_bans < PATTERNS_MAX {
        notes.fault(format!(
            "invalidation.max_bans: {max_bans} is too few: one group may have {PATTERNS_MAX} \
             patterns"
        ));
    }
    Invalidation {
        channels,
        publish,
        written_canary,
        sources,
        groups,
        events,
        secret,
        max_skew,
        max_bans,
    }
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

fn groups(written: &written::Invalidation, notes: &mut Notes) -> Groups {
    let groups = written.groups.clone().unwrap_or_default();
    for (name, patterns) in &groups {
        let key = format!("invalidation.groups.{name}");
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
            notes.fault(format!(
                "invalidation.groups: `{name}` is not a name of 1 to 64 letters, digits and `-_.`"
            ));
        }
        if patterns.iter().any(String::is_empty) {
            notes.fault(format!("{key}: a pattern is empty: it would mean no key"));
        }
        few(&key, patterns, notes);
    }
    groups
}

fn events(
    written: &written::Invalidation,
    channels: &[String],
    notes: &mut Notes,
) -> Vec<InvalidationEvent> {
    let mut events: Vec<InvalidationEvent> = Vec::new();
    for (place, event) in written.events.iter().enumerate() {
        let key = format!("invalidation.events[{place}]");
        let channel = event.channel.clone().unwrap_or_default();
        if channel.is_empty() {
            notes.fault(format!("{key}: channel is missing, such as channel = \"events:saved\""));
        } else if channels.contains(&channel) {
            notes.fault(format!("{key}.channel: `{channel}` is invalidation.channel already"));
        } else if events.iter().any(|other| other.channel == channel) {
            notes.fault(format!(
                "{key}.channel: `{channel}` is another event's already: write its patterns there"
            ));
        }
        let patterns = templates(&key, event, notes);
        events.push(InvalidationEvent { channel, patterns, signed: event.signed.unwrap_or(false) });
    }
    if events.len() > EVENTS_MAX {
        notes.fault(format!("invalidation.events: {} are more than {EVENTS_MAX}", events.len()));
    }
    events
}

fn secret_file(
    written: &written::Invalidation,
    events: &[InvalidationEvent],
    notes: &mut Notes,
) -> Option<Password> {
    let Some(path) = &written.secret_file else {
        if let Some(place) = events.iter().position(|event| event.signed) {
            notes.fault(format!(
                "invalidation.events[{place}].signed: set invalidation.secret_file, with which it \
                 is to be signed"
            ));
        }
        return None;
    };
    token("invalidation.secret_file", "secret", Some(path), notes)
}

fn templates(key: &str, event: &written::Event, notes: &mut Notes) -> Vec<Template> {
    let key = format!("{key}.patterns");
    let patterns = match &event.patterns {
        None => Vec::new(),
        Some(Patterns::One(pattern)) => vec![pattern.clone()],
        Some(Patterns::Many(patterns)) => patterns.clone(),
    };
    few(&key, &patterns, notes);
    let template = |text: &String| notes.take(&format!("{key}: `{text}`"), Template::parse(text));
    patterns.iter().filter_map(template).collect()
}

/// So many that one order can mean them all.
fn few(key: &str, patterns: &[String], notes: &mut Notes) {
    if !(1..=PATTERNS_MAX).contains(&patterns.len()) {
        let count = patterns.len();
        notes.fault(format!("{key}: {count} patterns are not 1 to {PATTERNS_MAX}"));
    }
    if patterns.iter().any(|pattern| pattern.len() > TEXT_MAX) {
        notes.fault(format!("{key}: a pattern is longer than {TEXT_MAX} bytes"));
    }
    if patterns.iter().map(String::len).sum::<usize>() > PATTERNS_ROOM {
        notes.fault(format!("{key}: all patterns together are longer than {PATTERNS_ROOM} bytes"));
    }
}

fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_.".contains(character)
}

fn one_source(
    key: &str,
    source: &written::Source,
    notes: &mut Notes,
) -> Option<InvalidationSource> {
    let name = source.name.clone().unwrap_or_default();
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
