//! What the control wing asks of the data wing. Neither knows the other: these are the questions,
//! and the composition root answers them.

use crate::stats::Counter;
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// The data wing, as the control wing sees it. Called on the main thread: it may lock, not wait.
pub trait DataWing: Send + Sync {
    /// Who this process is, and how it fares.
    fn facts(&self) -> Facts;
    /// What becomes of a client's key.
    fn place(&self, key: &[u8]) -> Place;
    /// What would become of a request, given by its words, if a client sent it now; or why no
    /// client may send it.
    fn explain(&self, words: &[Vec<u8>]) -> Result<Explained, String>;
    /// What was counted since the last reset.
    fn counted(&self, counters: &[Counter]) -> u64;
    /// How long ago each worker last said that it lives. They say so once a second.
    fn beats(&self) -> Vec<Duration>;
    /// The clients of all workers, the oldest first.
    fn clients(&self) -> Vec<Client>;
    /// How many of them wait in a command.
    fn blocked_clients(&self) -> usize;
    /// Closes a client's connection; false if there is no such client.
    fn end_client(&self, id: u64) -> bool;
    /// Counts anew, for people. Metrics never go back.
    fn reset_counts(&self);
    /// Commands whose answers took long, the latest first.
    fn slow_commands(&self) -> Vec<SlowCommand>;
    /// Forgets them; answers how many there were.
    fn forget_slow_commands(&self) -> usize;
}

/// A worker that has been silent for longer does not live: it says so once a second.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A worker that does not live, if there is one.
pub fn silent_worker(wing: &dyn DataWing) -> Option<usize> {
    wing.beats().iter().position(|silence| *silence > SILENCE_MAX)
}

/// What there is to say of the process.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `instance`.
    pub instance: String,
    /// `region`.
    pub region: String,
    /// `keys.version`.
    pub key_version: String,
    /// Since the start.
    pub uptime: Duration,
    /// Commands in the last second.
    pub ops_per_second: u64,
    /// Clients connected.
    pub clients: usize,
    /// Commands answered since the last reset.
    pub commands: u64,
    /// Error replies among them.
    pub errors: u64,
    /// Mean time of answers that upstream was asked for, since the start; none if there were none.
    pub latency: Option<Duration>,
    /// 99 of 100 of those answers took no longer.
    pub latency_p99: Option<Duration>,
    /// Where upstream is, without user and password.
    pub upstream: String,
    /// True if that is this very process.
    pub is_embedded: bool,
    /// True if some rule needs a tracking link.
    pub is_tracking: bool,
}

/// A command whose answer took long.
#[derive(Clone, Debug)]
pub struct SlowCommand {
    /// Counts them, from 1.
    pub id: u64,
    /// When it was answered, in milliseconds since 1970.
    pub at: u64,
    /// From the request to upstream's answer.
    pub took: Duration,
    /// Its name.
    pub command: &'static str,
    /// `miss`, or `bypass` for whatever the cache was not asked for.
    pub outcome: &'static str,
    /// Who asked, if it was still there: the number that CLIENT ID answers, where it came from,
    /// and what it calls itself.
    pub client: Option<(u64, String, String)>,
    /// Its first key, where that is known and may be told.
    pub key: Option<Vec<u8>>,
    /// Its hash, where that is all that is.
    pub key_hash: Option<String>,
}

/// A client's key.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// What it is called upstream; not as bytes, but for people.
    pub upstream_key: String,
    /// `rules[0]`, or `[cache]` where none matches.
    pub rule: String,
}

/// What would become of a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Explained {
    /// Its name, as people write it.
    pub command: String,
    /// What kind of command it is; absent where nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<&'static str>,
    /// Who answers: `cached`, `forwarded`, `own` (a connection of the client's own), `steps`
    /// (several requests upstream), `local`, `refused`, or `unknown` (upstream or nobody).
    pub fate: &'static str,
    /// The same in a sentence.
    pub happens: String,
    /// The error that the client gets, without its `-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What an operator can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Its keys, in order.
    pub keys: Vec<ExplainedKey>,
    /// The request as upstream gets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<String>,
    /// What its answer makes the cache forget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drops: Option<&'static str>,
}

/// A key of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ExplainedKey {
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
    /// Until the last of what is held of it expires; null: nothing is held now.
    pub ttl_ms: Option<u64>,
    /// True: all that is held of it is past its time.
    pub stale: bool,
}

/// A client, as CLIENT LIST tells of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Client {
    /// The number that CLIENT ID answers.
    pub id: u64,
    /// Where it comes from.
    pub addr: String,
    /// Where it came in.
    pub laddr: String,
    /// What it calls itself.
    pub name: String,
    /// Since it came.
    pub age_seconds: u64,
    /// Since it last sent something.
    pub idle_seconds: u64,
    /// As the letters of CLIENT LIST.
    pub flags: String,
    /// Its database.
    pub db: u32,
    /// Channels, patterns and shard channels subscribed to.
    pub subscriptions: u32,
    /// Keys watched.
    pub watched: u32,
    /// Commands queued since MULTI.
    pub queued: Option<u32>,
    /// Its last command.
    pub command: Option<&'static str>,
    /// Its protocol: 2 or 3.
    pub resp: u16,
    /// The library that it uses.
    pub lib_name: String,
    /// That library's version.
    pub lib_ver: String,
    /// Bytes that it sent.
    pub net_in_bytes: u64,
    /// Bytes that it was sent.
    pub net_out_bytes: u64,
    /// Bytes that it is still to be sent.
    pub unsent_bytes: u64,
    /// Commands that it sent.
    pub commands: u64,
    /// Of these, answered from the cache.
    pub hits: u64,
}
