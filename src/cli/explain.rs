//! `nearside explain CMD ARGS...`: what would happen to one request under the settings in force.
//! No server is asked.

use crate::cli::fate::{self, Fate};
use crate::command::learned::Strangers;
use crate::command::{self, CacheRule, Disposition, KeySpec, Spec, errors, keys};
use crate::config::{Level, Settings, TrackingMode};
use crate::data::forward;
use crate::rules::Rules;
use crate::scripts::{Scripts, Verdict};
use crate::wire::request::{Found, Limits, Request, Scan};
use crate::wire::{reply, write};
use bytes::BytesMut;
use serde::Serialize;
use std::io::{self, Write};
use std::time::Duration;

/// What there is to say about a request.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    fate: Fate,
    happens: String,
    /// The error that the client gets, without its `-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<Key>,
    /// The request as upstream gets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drops: Option<&'static str>,
}

/// One key, or pattern that keys are built from.
#[derive(Debug, Serialize)]
struct Key {
    client: String,
    upstream: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    cached: bool,
    why: String,
}

/// Explains one request: its words.
pub(super) fn explain(settings: &Settings, words: &[Vec<u8>]) -> anyhow::Result<Explanation> {
    let mut bytes = BytesMut::new();
    write::array(&mut bytes, words.len());
    for word in words {
        write::bulk(&mut bytes, word);
    }
    let (mut args, limits) = (Vec::new(), limits(settings));
    let found = Scan::default().next(&bytes, &mut args, &limits);
    let found = found.map_err(|why| anyhow::anyhow!("no client may send this: {why}"))?;
    anyhow::ensure!(matches!(found, Found::Request(_)), "a request has at least one word");
    let request = Request::new(&bytes, &args);
    let arg = |index| request.arg(index);
    Ok(match command::resolve(request.len(), arg) {
        Err(unknown) => stranger(settings, &request, |out| {
            errors::unknown(out, unknown, request.len(), arg);
        }),
        Ok(spec) if !spec.accepts(request.len()) => {
            refused(spec, error(|out| errors::arity(out, spec)), None)
        }
        Ok(spec) => known(settings, spec, &request),
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
    if disposition == Disposition::Script
        && let Verdict::Refused(text) =
            Scripts::new(&settings.scripts, policy.prefixed).judge(spec, |index| request.arg(index))
    {
        return refused(spec, text, None);
    }
    let keys = keys_of(settings, spec, request);
    let fate = match fate {
        // Cached by its command, but by none of its keys.
        Fate::Cached if !keys.iter().any(|key| key.cached) => Fate::Forwarded,
        fate => fate,
    };
    let is_sent = matches!(fate, Fate::Cached | Fate::Forwarded | Fate::Own);
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
        sent: is_sent.then(|| sent(settings, spec, request)),
        drops: if is_sent { drops(spec) } else { None },
        keys,
    }
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
fn keys_of(settings: &Settings, spec: &Spec, request: &Request<'_>) -> Vec<Key> {
    let rules = Rules::compile(settings);
    let mut found = Vec::new();
    keys::for_each(
        spec,
        request.len(),
        |index| request.arg(index),
        |at| {
            let key = request.arg(at);
            let index = usize::from(rules.find(key).index);
            let upstream = [settings.prefix.as_bytes(), key].concat();
            let (cached, why) = kept(settings, spec, index, request.len());
            found.push(Key {
                client: shown(key),
                upstream: shown(&upstream),
                rule: spec.cacheable().then(|| rule_name(settings, index)),
                cached,
                why,
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
        Level::Coherent | Level::Relaxed if settings.tracking == TrackingMode::Off => {
            let why = format!("level \"{level}\" needs invalidation.tracking, which is \"off\"");
            return (false, why);
        }
        Level::Coherent => {
            let bound = humantime(rule.max_staleness);
            format!("level \"coherent\": never more than {bound} stale, kept for at most {ttl}")
        }
        Level::Relaxed | Level::Ttl => format!("level \"{level}\": kept for at most {ttl}"),
    };
    let second = match rule.admission {
        crate::config::Admission::SecondHit => ", once it was asked for twice",
        crate::config::Admission::Always => "",
    };
    (true, format!("{why}{second}"))
}

fn rule_name(settings: &Settings, index: usize) -> String {
    settings.rules.get(index).map_or_else(
        || "[cache]".to_owned(),
        |rule| format!("rules[{index}] {}", rule.patterns.join(" ")),
    )
}

fn humantime(time: Duration) -> String {
    crate::units::duration::Span(time).to_string()
}

/// The request as the data path writes it.
fn sent(settings: &Settings, spec: &'static Spec, request: &Request<'_>) -> String {
    let mut out = BytesMut::new();
    forward::write_request(&mut out, spec, request, &settings.prefix, |_| {});
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

/// Prints it for people.
pub(super) fn print(explained: &Explanation, out: &mut impl Write) -> io::Result<()> {
    let Explanation { command, class, happens, error, remedy, keys, sent, drops, .. } = explained;
    let class = class.map_or_else(String::new, |class| format!(" ({class})"));
    writeln!(out, "command  {command}{class}")?;
    writeln!(out, "happens  {happens}")?;
    let lines = [("error", error.as_deref()), ("remedy", remedy.as_deref())];
    let tail = [("sent", sent.as_deref()), ("drops", *drops)];
    for (name, text) in lines {
        if let Some(text) = text {
            writeln!(out, "{name:7}  {text}")?;
        }
    }
    for Key { client, upstream, rule, cached, why } in keys {
        writeln!(out, "key      {client} -> {upstream}")?;
        let cached = if *cached { "yes" } else { "no" };
        let rule = rule.as_ref().map_or_else(String::new, |rule| format!("{rule}, "));
        writeln!(out, "cached   {cached}: {rule}{why}")?;
    }
    for (name, text) in tail {
        if let Some(text) = text {
            writeln!(out, "{name:7}  {text}")?;
        }
    }
    Ok(())
}
