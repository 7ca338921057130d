//! The PROXY family's slow half: letters of clients in, replies out. What changes something for
//! all is done here, on the main thread, and may take its time; the rows stand in `command/own`,
//! what is answered at once in the data wing. [`shown`] has what is to be seen.

mod shown;

use crate::config::Mode;
use crate::control::admin::Api;
use crate::control::invalidate::orders::{Invalid, Order, UnknownGroup};
use crate::control::jobs::Kind;
use crate::control::reload::{self, Cause, Switched};
use crate::control::warm::Wanted;
use crate::mail::{Letter, Letters};
use crate::net::client::PeerAddress;
use crate::wire::number::parse_i64;
use crate::wire::value::Value;
use crate::wire::write;
use bytes::{Bytes, BytesMut};
use std::fmt::Display;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Letters that are worked on at a time: those behind them wait in their box.
const OPEN_MAX: usize = 256;

/// Keys of one order at most.
const KEYS_MAX: usize = 10_000;

/// Who answers letters.
#[derive(Debug)]
pub struct Clerk {
    /// What operators may do.
    pub api: Arc<Api>,
    /// Rung when the process is to end in order.
    pub ending: Arc<Notify>,
}

/// Answers letters for as long as the process lives.
pub async fn serve(clerk: Clerk, mut letters: Letters) {
    let clerk = Arc::new(clerk);
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            letter = letters.recv(), if open.len() < OPEN_MAX => match letter {
                Some(letter) => {
                    open.spawn_local(reply(Arc::clone(&clerk), letter));
                }
                None => return,
            },
            Some(ended) = open.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(error = %error, "a PROXY command failed");
                }
            }
        }
    }
}

async fn reply(clerk: Arc<Clerk>, letter: Letter) {
    let reply = clerk.carry_out(&letter).await;
    let mut out = BytesMut::new();
    match reply {
        Ok(Reply::Done) => write::simple(&mut out, "OK"),
        Ok(Reply::Count(count)) => {
            write::integer(&mut out, i64::try_from(count).unwrap_or(i64::MAX));
        }
        Ok(Reply::Shown(value)) => value.write(&mut out, letter.proto),
        Err(Refused(text)) => write::error(&mut out, text.as_bytes()),
    }
    letter.answer.give(Bytes::from(out));
}

/// What a client is answered.
enum Reply {
    Done,
    Count(u64),
    Shown(Value),
}

/// Why nothing was done: a whole error, without its `-`.
#[derive(Debug, PartialEq, Eq)]
struct Refused(String);

impl Clerk {
    async fn carry_out(&self, letter: &Letter) -> Result<Reply, Refused> {
        let Letter { row, words, from, .. } = letter;
        match row.word() {
            "mode" => {
                let mode = mode(words)?;
                if self.api.set_mode(mode) != mode {
                    audit("mode", &mode.as_str(), from);
                }
                Ok(Reply::Done)
            }
            "invalidate" => {
                let asked = order(words, |name| self.api.orders.group(name))?;
                Ok(Reply::Count(self.forget("invalidate", &asked, from).await))
            }
            "config" => self.config(words, from).await,
            "hotkeys" => shown::hot_keys(words, &self.api).map(Reply::Shown).ok_or_else(syntax),
            "version" => self.version(words, from).await,
            "warm" => self.warm(words, from),
            "clear" => {
                let all = Asked { order: Order::All, local_only: true, is_soft: false };
                Ok(Reply::Count(self.forget("clear", &all, from).await))
            }
            word @ ("drain" | "resume") => {
                if self.api.live.set_withdrawn(word == "drain") {
                    audit(word, &"", from);
                }
                Ok(Reply::Done)
            }
            "shutdown" => {
                audit("shutdown", &"", from);
                self.ending.notify_one();
                Ok(Reply::Done)
            }
            word => Err(Refused(format!("ERR nobody here answers '{word}'"))),
        }
    }

    /// `SET key value`, or `RELOAD`.
    async fn config(&self, words: &[Box<[u8]>], from: &PeerAddress) -> Result<Reply, Refused> {
        match words {
            [verb] if is(verb, "reload") => {
                let done = self.api.reloader.reload().await;
                audit("reload", &if done.is_ok() { "done" } else { "refused" }, from);
                done.map_err(|error| failed(&error))?;
            }
            [verb, key, value] if is(verb, "set") => {
                let (key, value) = (text("key", key)?.to_lowercase(), text("value", value)?);
                let keys = [(key.as_str(), value.to_owned())];
                self.api.reloader.set(&keys).await.map_err(|error| failed(&error))?;
                audit("config_set", &format_args!("{key} = {}", value.escape_debug()), from);
            }
            _ => return Err(syntax()),
        }
        Ok(Reply::Done)
    }

    /// `SET version [IF version]`.
    async fn version(&self, words: &[Box<[u8]>], from: &PeerAddress) -> Result<Reply, Refused> {
        let (version, expected) = match words {
            [set, version] if is(set, "set") => (version, None),
            [set, version, when, expected] if is(set, "set") && is(when, "if") => {
                (version, Some(text("version", expected)?))
            }
            _ => return Err(syntax()),
        };
        let version = text("version", version)?;
        let switched = self.api.reloader.switch_version(version, expected, Cause::Client).await;
        let Switched { version, was } = switched.map_err(|refused| match refused {
            reload::Refused::Invalid(invalid) => Refused(format!("ERR the version {invalid}")),
            other => failed(&other),
        })?;
        audit("key_version", &format_args!("{was} -> {version}"), from);
        Ok(Reply::Done)
    }

    /// `RUN job`, `STATUS`, or `CANCEL id`.
    fn warm(&self, words: &[Box<[u8]>], from: &PeerAddress) -> Result<Reply, Refused> {
        let workshop = &self.api.workshop;
        match words {
            [verb] if is(verb, "status") => Ok(Reply::Shown(shown::runs(&self.api))),
            [verb, name] if is(verb, "run") => {
                let wanted = Wanted::Job(text("job", name)?.to_owned());
                let job = workshop.warm.start(wanted, None).map_err(|error| failed(&error))?;
                audit("warm", &job.what, from);
                Ok(Reply::Count(job.id))
            }
            [verb, id] if is(verb, "cancel") => {
                let number = parse_i64(id).and_then(|id| u64::try_from(id).ok());
                let job = number.and_then(|id| workshop.jobs.get(id));
                let Some(job) = job.filter(|job| job.kind == Kind::Warm) else {
                    return Err(Refused(format!("ERR there is no run {}", id.escape_ascii())));
                };
                job.cancel();
                audit("cancel", &format_args!("job {}", job.id), from);
                Ok(Reply::Done)
            }
            _ => Err(syntax()),
        }
    }

    async fn forget(&self, action: &str, asked: &Asked, from: &PeerAddress) -> u64 {
        let Asked { order, local_only, is_soft } = asked;
        let (done, _) = self.api.forget(order, *local_only, *is_soft);
        audit(action, order, from);
        self.api.orders.count(done).await
    }
}

/// Who did what.
fn audit(action: &str, target: &dyn Display, from: &PeerAddress) {
    tracing::info!(
        event = "admin_action",
        actor = %from,
        action,
        %target,
        remote_addr = %from,
        "PROXY"
    );
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

/// The words of what went wrong: the first fault of several, in one line.
fn failed(why: &dyn Display) -> Refused {
    let why = why.to_string();
    Refused(format!("ERR {}", why.lines().next().unwrap_or_default()))
}

fn text<'a>(what: &str, word: &'a [u8]) -> Result<&'a str, Refused> {
    std::str::from_utf8(word).map_err(|_| Refused(format!("ERR the {what} is no text")))
}

fn syntax() -> Refused {
    Refused("ERR syntax error".to_owned())
}

fn mode(words: &[Box<[u8]>]) -> Result<Mode, Refused> {
    let [word] = words else {
        return Err(syntax());
    };
    let named = |mode: &Mode| word.eq_ignore_ascii_case(mode.as_str().as_bytes());
    let mode = [Mode::Cache, Mode::Observe, Mode::Bypass].into_iter().find(named);
    mode.ok_or_else(|| Refused("ERR Invalid mode: it is one of cache, observe, bypass".to_owned()))
}

/// What is to be forgotten, and how.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    order: Order,
    local_only: bool,
    is_soft: bool,
}

/// `[SOFT] [LOCAL] (KEY key ... | NAMESPACE name | PATTERN glob | GROUP name)`.
fn order(
    words: &[Box<[u8]>],
    group: impl Fn(&str) -> Result<Order, UnknownGroup>,
) -> Result<Asked, Refused> {
    let (is_soft, words) = leading("soft", words);
    let (local_only, words) = leading("local", words);
    let order = match words {
        [kind, keys @ ..] if is(kind, "key") && !keys.is_empty() => {
            if keys.len() > KEYS_MAX {
                return Err(Refused(format!("ERR more than {KEYS_MAX} keys in one order")));
            }
            Order::Keys(keys.iter().map(|key| key.to_vec()).collect())
        }
        [kind, name] if is(kind, "namespace") => named("namespace", Order::namespace(name))?,
        [kind, glob] if is(kind, "pattern") => named("pattern", Order::pattern(glob))?,
        [kind, name] if is(kind, "group") => group(&String::from_utf8_lossy(name))
            .map_err(|unknown| Refused(format!("ERR {unknown}")))?,
        _ => return Err(syntax()),
    };
    Ok(Asked { order, local_only, is_soft })
}

/// Whether the first word is this one, and what follows.
fn leading<'w>(name: &str, words: &'w [Box<[u8]>]) -> (bool, &'w [Box<[u8]>]) {
    match words {
        [first, rest @ ..] if is(first, name) => (true, rest),
        words => (false, words),
    }
}

fn named(kind: &str, order: Result<Order, Invalid>) -> Result<Order, Refused> {
    order.map_err(|invalid| Refused(format!("ERR the {kind} {invalid}")))
}

#[cfg(test)]
mod tests {
    use super::{Asked, KEYS_MAX, Refused, mode};
    use crate::config::{Groups, Mode};
    use crate::control::invalidate::orders::Order;

    fn order(words: &[Box<[u8]>]) -> Result<Asked, Refused> {
        let groups = Groups::from([("shop".to_owned(), vec!["orders:*".to_owned()])]);
        super::order(words, |name| Order::group(&groups, name))
    }

    fn words(text: &str) -> Vec<Box<[u8]>> {
        text.split_whitespace().map(|word| word.as_bytes().into()).collect()
    }

    #[test]
    fn orders_as_they_are_written() {
        let keys = |keys: &[&[u8]]| Order::Keys(keys.iter().map(|key| key.to_vec()).collect());
        for (text, expected) in [
            ("KEY a b", (keys(&[b"a", b"b"]), false, false)),
            ("local key key", (keys(&[b"key"]), true, false)),
            ("soft key soft", (keys(&[b"soft"]), false, true)),
            ("NAMESPACE orders", (Order::Namespace(b"orders".to_vec()), false, false)),
            ("SOFT LOCAL pattern *:1", (Order::Pattern(b"*:1".to_vec()), true, true)),
        ] {
            let (order_meant, local_only, is_soft) = expected;
            let expected = Asked { order: order_meant, local_only, is_soft };
            assert_eq!(order(&words(text)), Ok(expected), "{text}");
        }
        for text in ["KEY", "LOCAL KEY", "a b", "NAMESPACE a b", "LOCAL SOFT KEY a", "PATTERN"] {
            assert_eq!(order(&words(text)), Err(Refused("ERR syntax error".to_owned())), "{text}");
        }
        let Err(Refused(text)) = order(&words("GROUP shp")) else { panic!("there is none") };
        assert_eq!(text, "ERR there is no group `shp`: invalidation.groups has shop");
        let local = order(&words("LOCAL GROUP shop"));
        let Ok(Asked { order: Order::Several(group), local_only: true, .. }) = local else {
            panic!("it is there")
        };
        assert_eq!(group.patterns, [b"orders:*"]);
        let Err(Refused(text)) = order(&words("NAMESPACE a:b")) else { panic!("it is two") };
        assert!(text.starts_with("ERR the namespace holds a `:`"), "{text}");
        let many = format!("KEY {}", "k ".repeat(KEYS_MAX + 1));
        assert!(order(&words(&many)).is_err());
    }

    #[test]
    fn modes_in_any_case() {
        assert_eq!(mode(&words("BYPASS")), Ok(Mode::Bypass));
        assert_eq!(mode(&words("cache")), Ok(Mode::Cache));
        assert_eq!(mode(&words("Observe")), Ok(Mode::Observe));
        assert!(mode(&words("off")).is_err() && mode(&words("cache bypass")).is_err());
    }
}
