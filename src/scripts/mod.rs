//! Which scripts may run, and the texts of those that passed through here.
//!
//! ```text
//!   EVAL, SCRIPT LOAD --> text --(SHA1)--> memory: bounded, text and verdict
//!   EVALSHA ------------> SHA1 ----------> pass | no such script | refused, and why
//!   -NOSCRIPT ----------> SHA1 ----------> the text again, to be sent once more
//!   FCALL --> FUNCTION LIST WITHCODE ----> pass | refused, and why
//! ```
//!
//! Without a key prefix every script passes; the texts are kept so that a server which has lost
//! them (a restart, a failover) can be given them again, and are read only where the answer to one
//! that may use other keys than it is given waits (`cache.script_barrier`). Under a prefix only
//! what is in KEYS can be rewritten, so a script is read first ([`lua`]), once; what is listed in
//! `scripts.allow` is not read. Both bounds of the memory hold always, and what falls out of it is
//! asked for again by its client, who hears `-NOSCRIPT`.
//!
//! Where clients are kept to their prefix (`keys.tenant_mode`), a script calls only what stays
//! there by itself; and only listed functions run, as libraries are everybody's.
//!
//! A script's name says what it is; a function's does not, for anybody may replace its library, at
//! the server as well. So nothing that was known of a function lets it pass: its library is asked
//! of the server right before each call, see [`libraries`].

mod libraries;

pub use self::libraries::Heard;

use self::libraries::Libraries;
use crate::command::{Spec, lua, tenant};
use crate::config;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use parking_lot::RwLock;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// What a script costs beside its text.
const OVERHEAD: usize = 256;

/// Scripts at most, whatever their length: Redis itself warns of fewer.
const COUNT_MAX: usize = 10_000;

/// The name of a script: SHA1 of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sha([u8; 20]);

/// Names of scripts that are remembered at most.
const GIVEN_MAX: usize = 10_000;

/// Of which scripts one worker knows that the server has them, or has not.
#[derive(Debug, Default)]
pub struct Given {
    known: RefCell<HashMap<Sha, bool, RandomState>>,
    /// True once a connection was lost: what is not known is not there.
    is_doubtful: Cell<bool>,
}

impl Given {
    /// True if the server has a script, as far as is known.
    pub fn is_there(&self, sha: Sha) -> bool {
        self.known.borrow().get(&sha).copied().unwrap_or_else(|| !self.is_doubtful.get())
    }

    /// The server has a script, or has not.
    pub fn note(&self, sha: Sha, is_there: bool) {
        let mut known = self.known.borrow_mut();
        if known.len() >= GIVEN_MAX {
            known.clear();
        }
        known.insert(sha, is_there);
    }

    /// A connection was lost: another server, or one that was started anew, may be there now.
    pub fn doubt(&self) {
        self.known.borrow_mut().clear();
        self.is_doubtful.set(true);
    }
}

impl Sha {
    /// Of a text.
    pub fn of(text: &[u8]) -> Self {
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, text);
        Self(digest.as_ref().try_into().unwrap_or_default())
    }

    /// Of 40 hexadecimal digits, in any case; `None` if it is not that.
    pub fn parse(digits: &[u8]) -> Option<Self> {
        let digit =
            |byte: u8| char::from(byte).to_digit(16).and_then(|digit| digit.try_into().ok());
        let mut sha = [0_u8; 20];
        if digits.len() != 2 * sha.len() {
            return None;
        }
        for (byte, pair) in sha.iter_mut().zip(digits.as_chunks::<2>().0) {
            let (high, low): (u8, u8) = (digit(pair[0])?, digit(pair[1])?);
            *byte = high << 4 | low;
        }
        Some(Self(sha))
    }
}

impl std::fmt::Display for Sha {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What becomes of a request of the scripting family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes upstream. The script that it names, or whose text it has.
    Pass(Option<Sha>),
    /// `-NOSCRIPT`: its text has not been seen, so that nobody can say if it keeps to its keys. The
    /// client sends the text then.
    NoScript,
    /// A function: what its library says now must be asked of the server first.
    Unread,
    /// The text of the error.
    Refused(String),
}

/// The commands that a script calls, with no keys but those that it is given; or why that cannot
/// be said.
type Reading = Result<Arc<[&'static Spec]>, Arc<str>>;

/// What a request runs on the server.
#[derive(Clone, Debug)]
pub enum Calls {
    /// `scripts.allow` lists it.
    Vouched,
    /// These commands, with the keys that it is given.
    Of(Arc<[&'static Spec]>),
    /// Its text is not known.
    NoScript,
    /// It cannot be said, for this reason.
    Unseen(Arc<str>),
}

/// What Redis says of a script that it does not have.
pub const NO_SCRIPT: &[u8] = b"NOSCRIPT No matching script. Please use EVAL.";

/// What all workers know of scripts.
#[derive(Debug)]
pub struct Scripts {
    /// True if scripts are read before they may run.
    is_strict: bool,
    /// True if scripts may call no more than what keeps to its keys, and no function is called that
    /// is not listed: functions are everybody's.
    is_tenant: bool,
    allowed: HashSet<Sha, RandomState>,
    functions: Vec<Box<[u8]>>,
    max: usize,
    texts: RwLock<Texts>,
    libraries: Libraries,
}

#[derive(Debug, Default)]
struct Texts {
    known: HashMap<Sha, Known, RandomState>,
    /// The clock of the second-chance rule: who has not been asked for goes first.
    order: VecDeque<Sha>,
    bytes: usize,
}

#[derive(Debug)]
struct Known {
    text: Bytes,
    /// Why it is refused.
    fault: Option<Arc<str>>,
    /// What reading it has told; unset until somebody asks.
    reading: OnceLock<Reading>,
    was_asked: AtomicBool,
}

impl Scripts {
    /// Of the settings; `is_prefixed` says if keys get a prefix.
    pub fn new(settings: &config::Scripts, is_prefixed: bool) -> Self {
        Self {
            is_strict: is_prefixed && settings.policy == config::ScriptPolicy::Refuse,
            is_tenant: false,
            allowed: settings.shas.iter().filter_map(|sha| Sha::parse(sha.as_bytes())).collect(),
            functions: settings.functions.iter().map(|name| name.as_bytes().into()).collect(),
            max: settings.memory,
            texts: RwLock::default(),
            libraries: Libraries::default(),
        }
    }

    /// The same, of clients that are kept to their key prefix, or are not.
    #[must_use]
    pub fn of_tenant(mut self, is_tenant: bool) -> Self {
        self.is_tenant = is_tenant;
        self
    }

    /// What becomes of a request. The text of an EVAL or SCRIPT LOAD is remembered, SCRIPT FLUSH
    /// forgets all.
    pub fn judge<'a>(&self, spec: &Spec, arg: impl Fn(usize) -> &'a [u8]) -> Verdict {
        match spec.name {
            "eval" | "eval_ro" => self.judge_text(arg(1)),
            "evalsha" | "evalsha_ro" => self.judge_sha(arg(1)),
            "fcall" | "fcall_ro" => self.judge_function(arg(1)),
            "script|load" => Verdict::Pass(Some(self.learn(arg(2)).0)),
            "script|flush" => {
                self.clear();
                Verdict::Pass(None)
            }
            _ => Verdict::Pass(None),
        }
    }

    /// The library to ask for first, of a function that is to be read.
    pub fn home(&self, function: &[u8]) -> Option<Arc<[u8]>> {
        self.libraries.home(function)
    }

    /// Takes the server's answer to FUNCTION LIST WITHCODE, which was asked for the sake of these
    /// functions; `None` if it is none.
    pub fn hear(&self, functions: &[Box<[u8]>], answer: &[u8]) -> Option<Heard> {
        self.libraries.hear(functions, answer)
    }

    fn judge_text(&self, text: &[u8]) -> Verdict {
        match self.learn(text) {
            (sha, Some(fault)) => Verdict::Refused(refusal(sha, &fault)),
            (sha, None) => Verdict::Pass(Some(sha)),
        }
    }

    fn judge_sha(&self, digits: &[u8]) -> Verdict {
        // What is no SHA1 is the server's to refuse.
        let Some(sha) = Sha::parse(digits) else {
            return Verdict::Pass(None);
        };
        if !self.is_strict || self.allowed.contains(&sha) {
            return Verdict::Pass(Some(sha));
        }
        match self.texts.read().known.get(&sha) {
            None => Verdict::NoScript,
            Some(Known { fault: Some(fault), .. }) => Verdict::Refused(refusal(sha, fault)),
            Some(known) => {
                known.was_asked.store(true, Ordering::Relaxed);
                Verdict::Pass(Some(sha))
            }
        }
    }

    fn judge_function(&self, name: &[u8]) -> Verdict {
        if !self.is_strict || self.is_vouched_for(name) {
            return Verdict::Pass(None);
        }
        if self.is_tenant {
            let name = name.escape_ascii();
            return Verdict::Refused(format!(
                "ERR nearside refuses function {name}: keys.tenant_mode keeps clients to the \
                 key prefix, and functions are everybody's (scripts.allow = \
                 [\"function:{name}\"] permits it)"
            ));
        }
        Verdict::Unread
    }

    /// True if `scripts.allow` lists a function.
    fn is_vouched_for(&self, function: &[u8]) -> bool {
        self.functions.iter().any(|known| known.eq_ignore_ascii_case(function))
    }

    /// Remembers a text; its name, and why it is refused.
    fn learn(&self, text: &[u8]) -> (Sha, Option<Arc<str>>) {
        let sha = Sha::of(text);
        if let Some(known) = self.texts.read().known.get(&sha) {
            known.was_asked.store(true, Ordering::Relaxed);
            return (sha, known.fault.clone());
        }
        let fault = if self.is_strict && !self.allowed.contains(&sha) {
            self.fault(text).map(Arc::from)
        } else {
            None
        };
        let cost = text.len() + OVERHEAD;
        if cost <= self.max {
            let known = Known {
                text: Bytes::copy_from_slice(text),
                fault: fault.clone(),
                reading: OnceLock::new(),
                was_asked: AtomicBool::new(false),
            };
            self.texts.write().insert(sha, known, self.max);
        }
        (sha, fault)
    }

    /// Why a script may not run.
    fn fault(&self, text: &[u8]) -> Option<String> {
        let called = match lua::check(text) {
            Ok(called) => called,
            Err(fault) => return Some(fault.to_string()),
        };
        let is_beyond = |spec: &&&Spec| self.is_tenant && !tenant::stays_inside_script(spec);
        let beyond = called.iter().find(is_beyond)?;
        let name = beyond.name.replace('|', " ");
        Some(format!("which calls '{name}': keys.tenant_mode keeps clients to the key prefix"))
    }

    /// The text of a script that may run.
    pub fn text(&self, sha: Sha) -> Option<Bytes> {
        self.texts.read().known.get(&sha).map(|known| {
            known.was_asked.store(true, Ordering::Relaxed);
            known.text.clone()
        })
    }

    /// True if a script's text is known.
    pub fn knows(&self, sha: Sha) -> bool {
        self.texts.read().known.contains_key(&sha)
    }

    /// True if a script is known to use no key but those that it is given. It is read when that is
    /// asked for the first time.
    pub fn keeps_to_keys(&self, sha: Sha) -> bool {
        let texts = self.texts.read();
        texts.known.get(&sha).is_some_and(|known| known.read().is_ok())
    }

    /// What a request of EVAL, EVALSHA or FCALL would call, for the sake of a user who may not call
    /// everything.
    pub fn calls<'a>(&self, spec: &Spec, arg: impl Fn(usize) -> &'a [u8]) -> Calls {
        let sha = match spec.name {
            "eval" | "eval_ro" => Some(self.learn(arg(1)).0),
            "evalsha" | "evalsha_ro" => Sha::parse(arg(1)),
            _ if self.is_vouched_for(arg(1)) => return Calls::Vouched,
            _ => return Calls::Unseen(Arc::from("whoever may load functions may change it")),
        };
        // What is no SHA1 is the server's to refuse.
        let Some(sha) = sha.filter(|sha| !self.allowed.contains(sha)) else {
            return Calls::Vouched;
        };
        let known = self.texts.read().known.get(&sha).map(|known| known.read().clone());
        let reading = match (known, spec.name) {
            (Some(reading), _) => reading,
            // There is no room for it.
            (None, "eval" | "eval_ro") => read(arg(1)),
            (None, _) => return Calls::NoScript,
        };
        reading.map_or_else(Calls::Unseen, Calls::Of)
    }

    /// The server does not take this text for a script.
    pub fn forget(&self, sha: Sha) {
        self.texts.write().remove(sha);
    }

    /// SCRIPT FLUSH.
    pub fn clear(&self) {
        *self.texts.write() = Texts::default();
    }
}

/// Reads a text: the commands that it calls, or why that cannot be said.
fn read(text: &[u8]) -> Reading {
    lua::check(text).map(Arc::from).map_err(|fault| Arc::from(fault.to_string()))
}

impl Known {
    fn read(&self) -> &Reading {
        self.reading.get_or_init(|| read(&self.text))
    }
}

fn refusal(sha: Sha, fault: &str) -> String {
    format!(
        "ERR nearside refuses script {sha}, {fault}. Under a key prefix a script may use no key \
         but those in KEYS. If it does, list its SHA1 in scripts.allow; or have no keys.version \
         and no keys.prefix"
    )
}

impl Texts {
    fn insert(&mut self, sha: Sha, known: Known, max: usize) {
        let cost = known.text.len() + OVERHEAD;
        if self.known.contains_key(&sha) {
            return;
        }
        while self.bytes + cost > max || self.order.len() >= COUNT_MAX {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            let is_wanted = |known: &Known| known.was_asked.swap(false, Ordering::Relaxed);
            if self.known.get(&oldest).is_some_and(is_wanted) {
                self.order.push_back(oldest);
            } else {
                self.drop_text(oldest);
            }
        }
        self.bytes += cost;
        self.order.push_back(sha);
        self.known.insert(sha, known);
    }

    fn remove(&mut self, sha: Sha) {
        self.order.retain(|other| *other != sha);
        self.drop_text(sha);
    }

    fn drop_text(&mut self, sha: Sha) {
        if let Some(known) = self.known.remove(&sha) {
            self.bytes -= known.text.len() + OVERHEAD;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{OVERHEAD, Scripts, Sha, Verdict};
    use crate::command::by_name;
    use crate::config::{self, ScriptPolicy};

    const PONG: &[u8] = b"return redis.call('PING')";
    const BUILDS: &[u8] = b"return redis.call('GET', KEYS[1] .. 'x')";

    fn scripts(memory: usize, allow: &[&str], is_prefixed: bool) -> Scripts {
        let (functions, shas): (Vec<&str>, Vec<&str>) =
            allow.iter().partition(|name| name.starts_with("function:"));
        let owned = |names: Vec<&str>| {
            names.iter().map(|name| name.trim_start_matches("function:").to_owned()).collect()
        };
        let settings = config::Scripts {
            policy: ScriptPolicy::Refuse,
            shas: owned(shas),
            functions: owned(functions),
            memory,
        };
        Scripts::new(&settings, is_prefixed)
    }

    fn judge(scripts: &Scripts, words: &[&[u8]]) -> Verdict {
        let name = String::from_utf8(words[0].to_ascii_lowercase()).unwrap();
        scripts.judge(by_name(&name).unwrap(), |at| words[at])
    }

    fn passes(scripts: &Scripts, words: &[&[u8]]) -> bool {
        matches!(judge(scripts, words), Verdict::Pass(_))
    }

    fn hex(text: &[u8]) -> Vec<u8> {
        Sha::of(text).to_string().into_bytes()
    }

    #[test]
    fn a_name_is_the_sha1_in_any_case() {
        let sha = Sha::of(b"return 1");
        assert_eq!(sha.to_string(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(Sha::parse(b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"), Some(sha));
        for digits in [&b"e0e1"[..], b"", &[b'g'; 40], &[b'0'; 41]] {
            assert_eq!(Sha::parse(digits), None);
        }
    }

    #[test]
    fn a_tenant_calls_what_keeps_to_its_keys() {
        let allow = ["function:g", &Sha::of(b"return redis.call('INFO')").to_string()];
        let tenant = scripts(1 << 20, &allow, true).of_tenant(true);
        assert!(passes(&tenant, &[b"eval", b"return redis.call('GET', KEYS[1])", b"1", b"k"]));
        assert!(passes(&tenant, &[b"eval", PONG, b"0"]));
        assert!(passes(&tenant, &[b"eval", b"return redis.call('INFO')", b"0"]), "it is listed");
        assert!(passes(&tenant, &[b"fcall", b"g", b"0"]));
        for words in [
            [&b"eval"[..], b"return redis.call('DBSIZE')", b"0"],
            [b"eval", b"return redis.call('INFO', 'server')", b"0"],
            [b"eval", b"return redis.call('PUBLISH', 'a', 'b')", b"0"],
            [b"fcall", b"f", b"0"],
        ] {
            assert!(matches!(judge(&tenant, &words), Verdict::Refused(_)), "{words:?}");
        }
    }

    #[test]
    fn without_a_prefix_all_pass_and_texts_are_kept() {
        let scripts = scripts(1 << 20, &[], false);
        assert!(passes(&scripts, &[b"evalsha", &hex(BUILDS), b"0"]));
        assert!(passes(&scripts, &[b"eval", BUILDS, b"0"]));
        assert!(passes(&scripts, &[b"fcall", b"f", b"0"]));
        assert_eq!(scripts.text(Sha::of(BUILDS)).unwrap(), BUILDS);
        assert!(passes(&scripts, &[b"script|flush", b""]));
        assert_eq!(scripts.text(Sha::of(BUILDS)), None);
    }

    #[test]
    fn under_a_prefix_what_cannot_be_followed_is_refused() {
        let scripts = scripts(1 << 20, &[], true);
        assert_eq!(judge(&scripts, &[b"evalsha", &hex(PONG), b"0"]), Verdict::NoScript);
        assert!(passes(&scripts, &[b"script|load", b"", PONG]));
        assert!(passes(&scripts, &[b"evalsha", &hex(PONG), b"0"]));
        assert!(passes(&scripts, &[b"evalsha", b"no sha", b"0"]));
        for words in [[&b"eval"[..], BUILDS, b"0"], [b"evalsha", &hex(BUILDS), b"0"]] {
            let Verdict::Refused(text) = judge(&scripts, &words) else {
                panic!("passed");
            };
            assert!(text.contains(&Sha::of(BUILDS).to_string()), "{text}");
            assert!(text.contains("line 1: it builds a name from a key"), "{text}");
            assert!(text.contains("scripts.allow") && text.contains("keys.version"), "{text}");
        }
        assert_eq!(judge(&scripts, &[b"fcall", b"f", b"0"]), Verdict::Unread);
    }

    #[test]
    fn what_is_allowed_is_not_read() {
        let sha = Sha::of(BUILDS).to_string();
        let scripts = scripts(1 << 20, &[&sha, "function:f"], true);
        assert!(passes(&scripts, &[b"evalsha", &hex(BUILDS), b"0"]));
        assert!(passes(&scripts, &[b"eval", BUILDS, b"0"]));
        assert!(passes(&scripts, &[b"fcall_ro", b"F", b"0"]));
        assert_eq!(judge(&scripts, &[b"fcall", b"g", b"0"]), Verdict::Unread);
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_asked_for() {
        let text = |number: usize| format!("return {number:04}").into_bytes();
        let cost = text(0).len() + OVERHEAD;
        let scripts = scripts(10 * cost, &[], false);
        for number in 0..100 {
            judge(&scripts, &[b"eval", &text(number), b"0"]);
            assert!(scripts.text(Sha::of(&text(0))).is_some(), "asked for all the while");
            assert!(scripts.texts.read().bytes <= 10 * cost);
        }
        let kept = (0..100).filter(|number| scripts.knows(Sha::of(&text(*number)))).count();
        assert_eq!(kept, 10);
        scripts.forget(Sha::of(&text(0)));
        assert_eq!(scripts.texts.read().bytes, 9 * cost);
        let long = vec![b' '; 10 * cost];
        judge(&scripts, &[b"eval", &long, b"0"]);
        assert!(!scripts.knows(Sha::of(&long)));
    }
}
