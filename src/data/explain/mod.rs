//! What would become of a request: the walk's own knowledge, asked without taking it. In: settings
//! and words; out: who answers, with which keys, or why not. A running proxy adds what it has
//! learned and what it holds. No server is asked, and nothing here is on the path of a request.

pub mod fate;

pub use self::fate::Fate;

use crate::command::learned::Strangers;
use crate::command::{self, CacheRule, Disposition, KeySpec, Spec, errors, keys, own};
use crate::config::{self, Level, Mode, Settings, TrackingMode};
use crate::data::Shared;
use crate::data::behind;
use crate::data::bounds;
use crate::data::forward;
use crate::data::lifetime;
use crate::rules::Rules;
use crate::scripts::{Scripts, Verdict};
use crate::snapshot::Snapshot;
use crate::wire::request::{Found, Limits, Malformed, Request, Scan};
use crate::wire::{reply, write};
use bytes::BytesMut;
use serde::Serialize;
use std::time::Duration;

/// What there is to say about a request.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// Its name, as people write it.
    pub command: String,
    /// What kind of command it is; of one without a row nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<&'static str>,
    /// Who answers.
    pub fate: Fate,
    /// The same in a sentence.
    pub happens: String,
    /// The error that the client gets, without its `-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What an operator can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Its keys, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Key>,
    /// The request as upstream gets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<String>,
    /// What its answer makes the cache forget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drops: Option<&'static str>,
}

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The limits of a request forbid it.
    #[error("no client may send this: {0}")]
    Malformed(Malformed),
    /// It is empty.
    #[error("a request has at least one word")]
    Empty,
}

/// One key, or pattern that keys are built from.
#[derive(Debug, Serialize)]
pub struct Key {
    /// As the client names it.
    pub client: String,
    /// As upstream knows it.
    pub upstream: String,
    /// The rule that it falls under, if the command is one whose replies may be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// True if the reply is kept.
    pub cached: bool,
    /// Why, or why not.
    pub why: String,
    /// Something of it is held, and the last of it expires in so many milliseconds. Only a running
    /// proxy knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// True if all that is held of it is past its time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// The client's key itself.
    #[serde(skip)]
    bytes: Vec<u8>,
}

/// Explains one request as this process would serve it now.
pub fn explain_now(
    shared: &Shared,
    snapshot: &Snapshot,
    words: &[impl AsRef<[u8]>],
) -> Result<Explanation, Unfit> {
    let learned = |asked: &Request<'_>| shared.live.stranger(asked.len(), |index| asked.arg(index));
    let mut explained = explain(&settings_now(shared, snapshot), words, learned)?;
    let now = shared.clock.now();
    for key in &mut explained.keys {
        let held = shared.cache.variants(&key.bytes, now);
        let left = held.iter().map(|variant| variant.left).max();
        key.stale = !held.is_empty() && held.iter().all(|variant| variant.is_stale);
        key.ttl_ms = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
    }
    Ok(explained)
}

/// The settings in force.
pub fn settings_now(shared: &Shared, snapshot: &Snapshot) -> Settings {
    Settings { mode: shared.live.mode(), ..(*snapshot.settings).clone() }
}

/// Explains one request: its words. `learned` knows the rows that only upstream has told of, if it
/// was asked.
pub fn explain(
    settings: &Settings,
    words: &[impl AsRef<[u8]>],
    learned: impl FnOnce(&Request<'_>) -> Option<&'static Spec>,
) -> Result<Explanation, Unfit> {
    let mut bytes = BytesMut::new();
    write::array(&mut bytes, words.len());
    for word in words {
        write::bulk(&mut bytes, word.as_ref());
    }
    let (mut args, limits) = (Vec::new(), limits(settings));
    let found = Scan::default().next(&bytes, &mut args, &limits).map_err(Unfit::Malformed)?;
    if !matches!(found, Found::Request(_)) || args.is_empty() {
        return Err(Unfit::Empty);
    }
    let request = Request::new(&bytes, &args);
    let (argc, arg) = (request.len(), |index| request.arg(index));
    let word = settings.server.proxy_command.as_bytes();
    let spec = command::resolve(argc, arg).ok().or_else(|| own::resolve(word, argc, arg));
    Ok(match spec.or_else(|| learned(&request)) {
        None => stranger(settings, &request, |out| {
            let unknown = own::unknown(word, argc, arg);
            let unknown = unknown.unwrap_or_else(|| command::unknown(argc, arg));
            errors::unknown(out, unknown, argc, arg);
        }),
        Some(spec) if !spec.accepts(argc) => {
            refused(spec, error(|out| errors::arity(out, spec)), None)
        }
        Some(spec) => known(settings, spec, &request),
    })
}

fn limits(settings: &Settings) -> Limits {
    let server = &settings.server;
    Limits { args_max: server.max_args, bulk_max: server.max_request_size, unauthenticated: false }
}

/// A request whose command the table has.
fn known(settings: &Settings, spec: &'static Spec, request: &Request<'_>) -> Explanation {
    let policy = settings.policy();
    let disposition = spec.disposition(&policy, request.len(), |index| request.arg(index));
    let fate = Fate::of(disposition, spec, settings);
    if let (Disposition::Refuse(refusal), Fate::Refused) = (disposition, fate) {
        let text = errors::refusal_text(spec, refusal);
        return refused(spec, text, errors::remedy(spec, refusal));
    }
    let rules = Rules::compile(settings);
    if let Err(text) = bounds::judge(&rules, spec, request) {
        return refused(spec, text, None);
    }
    let scripts =
        || Scripts::new(&settings.scripts, policy.prefixed).of_tenant(settings.tenant_mode);
    if disposition == Disposition::Script
        && let Verdict::Refused(text) = scripts().judge(spec, |index| request.arg(index))
    {
        return refused(spec, text, None);
    }
    let keys = keys_of(settings, &rules, spec, request);
    let fate = match fate {
        // Cached by its command, but by none of its keys.
        Fate::Cached if !keys.iter().any(|key| key.cached) => Fate::Forwarded,
        Fate::Forwarded if is_behind(settings, spec, request, &rules) => Fate::Behind,
        fate => fate,
    };
    let is_sent = matches!(fate, Fate::Cached | Fate::Forwarded | Fate::Behind | Fate::Own);
    Explanation {
        command: shown_name(spec),
        class: Some(fate::class(spec.class)),
        fate,
        happens: match disposition {
            Disposition::Own(need) => format!("{}: {}", fate.sentence(), need.reason()),
            Disposition::Script => format!("{}: {}", fate.sentence(), fate::SCRIPT),
            Disposition::Edited => format!("{}: {}", fate.sentence(), fate::EDITED),
            _ => fate.sentence().to_owned(),
        },
        error: None,
        remedy: None,
        sent: is_sent.then(|| sent(settings, &rules, spec, request)),
        drops: if is_sent { drops(spec) } else { None },
        keys,
    }
}

fn is_behind(settings: &Settings, spec: &Spec, request: &Request<'_>, rules: &Rules) -> bool {
    let behind = &settings.write_behind;
    settings.mode == Mode::Cache
        && behind.is_on()
        && behind::is_behind(spec, request, behind.assume_replies, rules)
}

fn shown_name(spec: &Spec) -> String {
    spec.name.replace('|', " ").to_ascii_uppercase()
}

fn refused(spec: &Spec, error: String, remedy: Option<String>) -> Explanation {
    Explanation {
        command: shown_name(spec),
        class: Some(fate::class(spec.class)),
        fate: Fate::Refused,
        happens: Fate::Refused.sentence().to_owned(),
        error: Some(error),
        remedy,
        keys: Vec::new(),
        sent: None,
        drops: None,
    }
}

/// The text of an error reply.
fn error(write: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(&mut out);
    String::from_utf8_lossy(&out).trim_start_matches('-').trim_end_matches("\r\n").to_owned()
}

/// A request whose command the table does not have: upstream must be asked.
fn stranger(
    settings: &Settings,
    request: &Request<'_>,
    write: impl FnOnce(&mut BytesMut),
) -> Explanation {
    let text = error(write);
    let (fate, happens, remedy) = match settings.commands.unknown {
        Strangers::Reject => {
            let remedy = "if upstream has it: commands.unknown = \"learn\"";
            (Fate::Refused, "refused: nearside does not know it", Some(remedy.to_owned()))
        }
        Strangers::Learn => (
            Fate::Unknown,
            "forwarded if upstream's COMMAND tells where its keys are (the log says what was \
             learned), else refused",
            None,
        ),
        Strangers::Pass => {
            (Fate::Unknown, "forwarded as it is if upstream has it, else refused", None)
        }
    };
    Explanation {
        command: request.arg(0).escape_ascii().to_string().to_ascii_uppercase(),
        class: None,
        fate,
        happens: happens.to_owned(),
        error: Some(text),
        remedy,
        keys: Vec::new(),
        sent: None,
        drops: None,
    }
}

/// Each key with its rule, and whether its reply is kept.
fn keys_of(settings: &Settings, rules: &Rules, spec: &Spec, request: &Request<'_>) -> Vec<Key> {
    let mut found = Vec::new();
    keys::for_each(
        spec,
        request.len(),
        |index| request.arg(index),
        |at| {
            let key = request.arg(at);
            let index = usize::from(rules.find(key).index);
            let upstream = settings.names.name(key);
            let (cached, why) = kept(settings, spec, index, request.len());
            found.push(Key {
                client: shown(key),
                upstream: shown(&upstream),
                rule: spec.cacheable().then(|| rule_name(settings, index)),
                cached,
                why,
                ttl_ms: None,
                stale: false,
                bytes: key.to_vec(),
            });
        },
    );
    found
}

/// Whether a reply of this row is kept for a key under this rule, and why.
fn kept(settings: &Settings, spec: &Spec, index: usize, argc: usize) -> (bool, String) {
    if !fate::caches(spec, settings) {
        return (false, fate::why_not_cached(spec, settings).to_owned());
    }
    if spec.cache == CacheRule::Multi && spec.name != "mget" && argc > 2 {
        return (false, "a reply about several keys is not kept".to_owned());
    }
    let rule = settings.rules.get(index).unwrap_or(&settings.default_rule);
    let level = rule.level.as_str();
    let ttl = humantime(rule.ttl);
    let why = match rule.level {
        Level::Bypass => return (false, "level \"bypass\"".to_owned()),
        Level::Linear | Level::Coherent | Level::Relaxed
            if settings.tracking == TrackingMode::Off =>
        {
            let why = format!("level \"{level}\" needs invalidation.tracking, which is \"off\"");
            return (false, why);
        }
        Level::Coherent => {
            let bound = humantime(rule.max_staleness);
            format!("level \"coherent\": never more than {bound} stale, kept for at most {ttl}")
        }
        Level::Linear => {
            format!("level \"linear\": never stale, kept for at most {ttl}, each hit proved first")
        }
        Level::Relaxed | Level::Ttl => format!("level \"{level}\": kept for at most {ttl}"),
    };
    let second = match rule.admission {
        config::Admission::SecondHit => ", once it was asked for twice",
        config::Admission::Always => "",
    };
    (true, format!("{why}{second}{}", stale(rule)))
}

/// What a rule says of what is past its time, or soon will be.
fn stale(rule: &config::Rule) -> String {
    let share = f64::from(rule.refresh_ahead) / 1e4;
    let (grace, span) = (humantime(rule.grace), humantime(rule.stale_if_error));
    let ahead = format!(", read anew by a hit when about {share} % of its life are left");
    let refreshing = format!(", served up to {grace} longer while it is read anew");
    let down = format!(", served up to {span} longer while upstream cannot be reached");
    let said = [
        (rule.refresh_ahead > 0, ahead),
        (!rule.grace.is_zero(), refreshing),
        (!rule.stale_if_error.is_zero(), down),
    ];
    said.into_iter().filter_map(|(is_so, text)| is_so.then_some(text)).collect()
}

/// A rule as people find it in proxy.toml; beyond the last, what applies without one.
pub fn rule_name(settings: &Settings, index: usize) -> String {
    settings.rules.get(index).map_or_else(
        || "[cache]".to_owned(),
        |rule| format!("rules[{index}] {}", rule.patterns.join(" ")),
    )
}

fn humantime(time: Duration) -> String {
    crate::units::duration::Span(time).to_string()
}

/// The request as the data path writes it.
fn sent(settings: &Settings, rules: &Rules, spec: &'static Spec, request: &Request<'_>) -> String {
    let mut out = BytesMut::new();
    let life = lifetime::given(spec, request, rules);
    forward::write_request(&mut out, spec, request, &settings.names, life, |_| {});
    let words: Vec<String> = reply::elements(&out).filter_map(reply::bulk).map(shown).collect();
    words.join(" ")
}

/// What a reply of this row makes the cache forget.
fn drops(spec: &Spec) -> Option<&'static str> {
    if spec.writes_everything() {
        Some("everything that is cached, before the client has its answer")
    } else if spec.keys != KeySpec::None && !spec.carries_no_value() && !spec.cacheable() {
        Some("what is cached of these keys, before the client has its answer")
    } else {
        None
    }
}

/// A word as a shell would want it.
fn shown(word: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"'\\".contains(byte);
    if !word.is_empty() && word.iter().all(is_plain) {
        return String::from_utf8_lossy(word).into_owned();
    }
    format!("\"{}\"", word.escape_ascii())
}
