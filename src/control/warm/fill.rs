//! Fills the cache as a read does (R1, R3, R10): a token before the question, the value stored and
//! not servable, the key's remaining life asked behind it, servable if nothing happened meanwhile.
//!
//! What differs from a read: many keys are asked for at once, on a connection of the job's own;
//! nobody waits for the replies, so one that is not stored has shown nobody anything; and a key
//! need not have been asked for before.

use crate::cache::{Cache, Entry, Extra, Filled, Lookup, Policy, Question, Reply, Space, Token};
use crate::command::Spec;
use crate::control::jobs::line::{Line, LineError};
use crate::control::jobs::{Count, Running, Stopped};
use crate::keys::Names;
use crate::units::clock::{Clock, Tick};
use crate::wire::reply;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long the tracking link may be down before a job gives up, and how often it is looked at.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// The right to store the reply to a GET.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// Taken before the question is sent.
    pub token: Token,
    /// How it is stored.
    pub policy: Policy,
    /// Whether the key's remaining life is asked for.
    pub ttl_probe: bool,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The tracking link is down.
    NotNow,
    /// By the key's rule, the mode, or `cache.commands`.
    Never,
}

/// Whether the reply to a GET of this key, whose hash is given, may be stored if it is asked now.
pub type Judge = Box<dyn Fn(&[u8], u64, Tick) -> Result<Right, Denied> + Send + Sync>;

/// What fills.
pub struct Filler {
    /// What is filled.
    pub cache: Arc<Cache>,
    /// Time.
    pub clock: Clock,
    /// Gives the right to, as to a read.
    pub judge: Judge,
    /// How keys are named upstream now. A change of it is followed by a clear, so that
    /// what was asked under the old one is refused: it is read after the tokens were taken.
    pub names: Box<dyn Fn() -> Names + Send + Sync>,
    /// GET's row.
    pub get: &'static Spec,
    /// The database that is filled.
    pub database: u32,
}

impl fmt::Debug for Filler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filler").finish_non_exhaustive()
    }
}

/// A key that is asked for.
struct Asked {
    key: Vec<u8>,
    hash: u64,
    right: Right,
    /// Stored, and not servable yet.
    unproved: Option<Entry>,
    /// What upstream says of its life ([`Cache::prove`]).
    pttl: i64,
    outcome: Outcome,
}

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Loaded,
    Missing,
    Skipped,
    Error,
}

/// What became of many.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Stored.
    pub loaded: u64,
    /// Upstream does not have them.
    pub missing: u64,
    /// Not stored.
    pub skipped: u64,
    /// Answered with an error.
    pub errors: u64,
    /// The first of these.
    pub error: Option<String>,
}

impl Tally {
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Loaded => self.loaded += 1,
            Outcome::Missing => self.missing += 1,
            Outcome::Skipped => self.skipped += 1,
            Outcome::Error => self.errors += 1,
        }
    }

    /// Keys in all.
    pub const fn sum(&self) -> u64 {
        self.loaded + self.missing + self.skipped + self.errors
    }

    /// Notes it where everybody sees it.
    pub fn note(&self, job: &Running) {
        job.add(Count::Loaded, self.loaded);
        job.add(Count::Missing, self.missing);
        job.add(Count::Skipped, self.skipped);
        job.add_errors(self.errors);
        job.add_done(self.sum());
    }
}

impl Filler {
    /// True if a GET of this key is answered from the cache.
    pub fn is_cached(&self, key: &[u8]) -> bool {
        let question = self.question(key, self.cache.hash(key));
        let view = self.cache.view(self.clock.now());
        matches!(self.cache.get(&question, &view, |_| {}), Lookup::Hit | Lookup::Lease)
    }

    /// Loads keys: all are asked for at once.
    pub async fn fill(
        &self,
        line: &mut Line,
        keys: Vec<Vec<u8>>,
        job: &Running,
    ) -> Result<Tally, Stopped> {
        let mut tally = Tally::default();
        let count = keys.len();
        let mut batch = self.rights(keys, job).await?;
        tally.skipped = (count - batch.len()) as u64;
        let names = (self.names)();
        for Asked { key, right, .. } in &batch {
            let name = names.name(key);
            line.write(&[b"GET", &name]);
            if right.ttl_probe {
                line.write(&[b"PTTL", &name]);
            }
        }
        let canary = format!("{:016x}", self.cache.hash(&self.clock.now().0.to_le_bytes()));
        line.write(&[b"PING", canary.as_bytes()]);
        let (mut place, mut is_proof, mut is_whole) = (0, false, false);
        let heard = line
            .exchange(|answer| {
                let Some(asked) = batch.get_mut(place) else {
                    is_whole = reply::bulk(answer) == Some(canary.as_bytes());
                    return;
                };
                if is_proof {
                    // An error proves nothing, as if the key had no time left.
                    asked.pttl = reply::integer(answer).unwrap_or(-2);
                } else {
                    self.value(asked, answer, &mut tally.error);
                }
                is_proof = !is_proof && asked.right.ttl_probe;
                place += usize::from(!is_proof);
            })
            .await;
        let heard = if is_whole { heard } else { heard.and(Err(LineError::Disordered)) };
        if let Err(error) = heard {
            // What waits for its proof will not get it.
            for asked in batch.iter().filter(|asked| asked.unproved.is_some()) {
                self.cache.invalidate(asked.hash);
            }
            return Err(error.into());
        }
        for asked in &mut batch {
            self.prove(asked);
            tally.add(asked.outcome);
        }
        Ok(tally)
    }

    /// Those of the keys that may be stored, each with its right; waits for the tracking link.
    async fn rights(&self, keys: Vec<Vec<u8>>, job: &Running) -> Result<Vec<Asked>, Stopped> {
        let mut waited = Duration::ZERO;
        loop {
            let now = self.clock.now();
            let hashes = keys.iter().map(|key| self.cache.hash(key));
            let judged: Vec<(u64, Result<Right, Denied>)> = keys
                .iter()
                .zip(hashes)
                .map(|(key, hash)| (hash, (self.judge)(key, hash, now)))
                .collect();
            if !judged.iter().any(|(_, right)| matches!(right, Err(Denied::NotNow))) {
                let asked = |(key, (hash, right)): (Vec<u8>, (u64, Result<Right, Denied>))| {
                    let (unproved, pttl, outcome) = (None, -1, Outcome::Skipped);
                    Some(Asked { key, hash, right: right.ok()?, unproved, pttl, outcome })
                };
                return Ok(keys.into_iter().zip(judged).filter_map(asked).collect());
            }
            if waited >= PATIENCE {
                let why = "the tracking link is down, so nothing may be stored";
                return Err(Stopped::Failed(why.to_owned()));
            }
            job.wait(tokio::time::sleep(LOOK)).await?;
            waited += LOOK;
        }
    }

    /// The answer to GET.
    fn value(&self, asked: &mut Asked, answer: &[u8], error: &mut Option<String>) {
        asked.outcome = if reply::is_null(answer) {
            Outcome::Missing
        } else if answer.starts_with(b"$") {
            self.store(asked, answer);
            Outcome::Skipped
        } else if answer.starts_with(b"-WRONGTYPE") {
            Outcome::Skipped
        } else {
            error.get_or_insert_with(|| LineError::refused("GET", answer).to_string());
            Outcome::Error
        };
    }

    fn store(&self, asked: &mut Asked, answer: &[u8]) {
        let question = self.question(&asked.key, asked.hash);
        let Right { token, policy, .. } = &asked.right;
        let filled = self.cache.fill(&question, token, policy, Reply::Bytes(answer));
        if let Filled::Stored(entry) = filled {
            asked.unproved = Some(entry);
        }
    }

    /// All answers have come, in the order of the requests.
    fn prove(&self, asked: &mut Asked) {
        let Some(entry) = asked.unproved.take() else {
            return;
        };
        let Right { token, policy, .. } = &asked.right;
        if self.cache.prove(asked.hash, &entry, token, policy, asked.pttl) {
            asked.outcome = Outcome::Loaded;
        }
    }

    const fn question<'k>(&self, key: &'k [u8], hash: u64) -> Question<'k> {
        let extra = Extra::Written(&[]);
        Question {
            key,
            hash,
            command: self.get.index,
            space: Space::own(self.database),
            proto: 0,
            extra,
        }
    }
}
