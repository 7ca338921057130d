//! The tracking link: one RESP3 connection with `CLIENT TRACKING ON BCAST`, on a thread of its
//! own that does nothing but listen, so that no scrape, sweep or slow client delays it.
//!
//! Up means: what is stored under it is told of every change, and a barrier round has proved it.
//! On any loss or doubt everything stored under it is dead at once (R9), and misses go on working.
//! The log is told of a change of that state, not of each attempt. Where a canary is written
//! (`canary`), up also means that the link has heard of it, and still does.

use crate::cache::Cache;
use crate::control::fill_lease::waited::Waited;
use crate::control::invalidate::canary::{Canary, Writer};
use crate::control::invalidate::fleet::{FleetVersion, Said};
use crate::control::invalidate::listener::{Doubt, Listener};
use crate::control::invalidate::timers::{Due, Timers};
use crate::keys::Names;
use crate::live::Live;
use crate::net::dialer::{Dialer, OpenError, Opened, Turn};
use crate::net::stream::Stream;
use crate::snapshot::{Snapshot, Snapshots};
use crate::stats::{Block, Counter};
use crate::units::clock::Clock;
use crate::wire::handshake::{HandshakeError, Options};
use crate::wire::write::Proto;
use bytes::BytesMut;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, watch};

/// Time between barrier rounds where no rule promises a bound.
const ROUND_DEFAULT: Duration = Duration::from_millis(250);

/// Pause before tracking is asked for again where the server refuses it.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// What the tracking thread works with.
#[derive(Debug)]
pub struct Tracking {
    /// What it invalidates.
    pub cache: Arc<Cache>,
    /// Where it connects.
    pub dialer: Arc<Dialer>,
    /// Which keys it is to hear of, and how they are named upstream.
    pub snapshots: Arc<Snapshots>,
    /// Time.
    pub clock: Clock,
    /// Shared state.
    pub live: Arc<Live>,
    /// This thread's counters.
    pub block: Arc<Block>,
    /// Where a version that is not in force goes, if the fleet's is another.
    pub versions: watch::Sender<Option<String>>,
    /// Tells those who wait for a barrier to look.
    pub ring: Ring,
    /// Names of keys that somebody waits for.
    pub waited: Arc<Waited>,
}

/// Rings for somebody.
pub struct Ring(pub Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

/// What one connection is for.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// How keys are named upstream.
    names: Names,
    /// Prefixes to be told of; empty = everything.
    tracked: Vec<Vec<u8>>,
    /// Time between barrier rounds: the smallest `max_staleness` / 4.
    round_every: Duration,
    /// Silence after which the link is given up. Hits have stopped long before, when their lease
    /// ended; a server that was only paused is not punished by a cold cache.
    silence_max: Duration,
    /// The key of the fleet's version and the one in force, if it stands upstream.
    fleet: Option<(String, String)>,
    /// The canary that is written, and how often: once in the smallest `max_staleness`.
    canary: Option<(Vec<u8>, Duration)>,
}

impl Plan {
    /// `None` if no rule needs a tracking link.
    fn of(snapshot: &Snapshot) -> Option<Self> {
        // Where nothing is coherent, the rounds only prove that the link lives.
        let staleness = snapshot.min_staleness.unwrap_or(ROUND_DEFAULT * 4);
        Some(Self {
            names: snapshot.names.clone(),
            tracked: snapshot.tracked.clone()?,
            round_every: staleness / 4,
            silence_max: staleness.max(snapshot.limits.read_timeout),
            fleet: snapshot
                .settings
                .version_key
                .clone()
                .map(|key| (key, snapshot.settings.version.clone())),
            canary: snapshot.settings.canary().map(|key| (key, staleness)),
        })
    }

    /// What hears one connection.
    fn listener(&self) -> Listener {
        let fleet = self.fleet.as_ref().map(|(key, version)| FleetVersion::new(key, version));
        Listener::new(fleet, self.canary.as_ref().map(|(key, _)| Canary::new(key)))
    }
}

/// What the log was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Down,
    /// The link is there, and the server lets no round count.
    Refused,
    /// The link is there, and hears of no writes.
    Deaf,
    Up,
}

/// What outlives a connection.
#[derive(Debug)]
struct Story {
    /// Attempts since the last connection that proved itself.
    attempt: u32,
    told: Told,
    /// Why the fleet's version is not known, as the log was told last.
    unversioned: Option<String>,
    /// The barrier that those who wait were told of last.
    rung: u64,
    /// True from a replica to the next primary.
    is_of_replica: bool,
}

/// True if it is a server that refuses, or is not what it should be: one that is there.
fn is_there(error: &anyhow::Error) -> bool {
    error.is::<Doubt>() || error.downcast_ref::<OpenError>().is_some_and(OpenError::is_refusal)
}

/// The server holds the connection, and says nothing.
#[derive(Debug, thiserror::Error)]
#[error("no answer for {0:?}")]
struct Silence(Duration);

/// True if the server stands still, as far as is known.
fn is_silence(error: &anyhow::Error) -> bool {
    error.is::<Silence>() || error.downcast_ref::<OpenError>().is_some_and(OpenError::is_silence)
}

impl Story {
    fn new() -> Self {
        Self { attempt: 0, told: Told::Nothing, unversioned: None, rung: 0, is_of_replica: false }
    }

    /// How long to wait before the next attempt. A connection that was only let in, and not
    /// confirmed by a barrier, does not count as a success: else a replica would be asked
    /// without end.
    fn pause(&mut self, error: &anyhow::Error) -> Duration {
        let is_refused = matches!(
            error.downcast_ref::<OpenError>(),
            Some(OpenError::Handshake(HandshakeError::TrackingRefused(_)))
        );
        let attempt = self.attempt;
        self.attempt = attempt.saturating_add(1);
        if is_refused { REFUSED_PAUSE } else { crate::net::backoff(attempt) }
    }

    /// A barrier was confirmed.
    fn proved(&mut self) {
        self.attempt = 0;
        self.told = Told::Up;
    }
}

impl Tracking {
    /// Keeps the link open for as long as the process lives, for each plan a new one.
    pub async fn run(self) {
        let mut story = Story::new();
        let mut snapshot = self.snapshots.newest();
        loop {
            let plan = Plan::of(&snapshot);
            let entry = self.dialer.switch.follow();
            self.dialer.switch.let_go(&entry);
            let keeping = async {
                match &plan {
                    None => std::future::pending().await,
                    Some(plan) => {
                        self.dialer.switch.until_alone(&entry).await;
                        self.keep(plan, snapshot.number, &mut story).await
                    }
                }
            };
            let newer = tokio::select! { biased;
                newer = self.other(snapshot.number, plan.as_ref()) => Some(newer),
                () = entry.over() => None,
                never = keeping => match never {},
            };
            match newer {
                Some(newer) => {
                    self.put_down();
                    snapshot = newer;
                }
                None => self.closed(&mut story),
            }
        }
    }

    /// An operator has the link closed, to be opened anew or not.
    fn closed(&self, story: &mut Story) {
        if !self.dialer.switch.is_enabled() {
            self.live.set_upstream_up(false);
        }
        if self.put_down() {
            self.block.add(Counter::InvalidationsReconnect, 1);
            self.block.add(Counter::FlushesReconnect, 1);
        }
        let is_of_replica = story.is_of_replica;
        *story = Story { told: Told::Down, is_of_replica, ..Story::new() };
    }

    /// The next snapshot that has another plan. Those with the same one go by the link that is
    /// there: a limit that was changed is no reason to start cold.
    async fn other(&self, mut number: u64, plan: Option<&Plan>) -> Arc<Snapshot> {
        loop {
            // What this snapshot's requests bring is not stored before a link of its own is up.
            self.snapshots.note_tracking(number);
            let newer = self.snapshots.newer(number).await;
            if Plan::of(&newer).as_ref() != plan {
                return newer;
            }
            number = newer.number;
        }
    }

    /// Keeps one plan's link open.
    #[expect(clippy::significant_drop_tightening, reason = "the turn is kept during the pause")]
    async fn keep(&self, plan: &Plan, number: u64, story: &mut Story) -> std::convert::Infallible {
        if plan.fleet.is_some() {
            // The version is known once no worker serves under another.
            self.snapshots.adopted(number).await;
        }
        loop {
            // Without the fleet's version nothing at all may be asked.
            if plan.fleet.is_none() {
                self.live.until_caching().await;
            }
            // While upstream is down this link takes turns with all others in trying it.
            let mut turn = self.live.turn().await;
            let error = match self.session(plan, story, &mut turn).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            self.lost(&error, story);
            let own = story.pause(&error);
            // Who is refused tries again by itself: others may be what upstream lets in.
            let turn = turn.filter(|_| !is_there(&error));
            let pause = turn.as_ref().map_or(own, |turn| crate::net::backoff(turn.count_failure()));
            tokio::time::sleep(pause).await;
        }
    }

    /// There is no link, and what it guarded is dead. True if there was one.
    fn put_down(&self) -> bool {
        self.live.set_tracking_on(false);
        self.live.forget_version();
        let was_up = self.cache.tracking().is_up();
        if was_up {
            self.cache.tracking_lost();
            (self.ring.0)();
        }
        was_up
    }

    /// The connection is over, or there was none: what it guarded is dead.
    fn lost(&self, error: &anyhow::Error, story: &mut Story) {
        if is_silence(error) {
            self.live.set_upstream_silent();
        } else if !is_there(error) {
            self.live.set_upstream_up(false);
        }
        let was_up = self.put_down();
        if was_up {
            self.block.add(Counter::InvalidationsReconnect, 1);
            self.block.add(Counter::FlushesReconnect, 1);
        }
        if error.downcast_ref::<Doubt>() == Some(&Doubt::Role) {
            self.demoted(was_up, story);
        }
        if error.downcast_ref::<Doubt>() == Some(&Doubt::Deaf) {
            self.tell_deaf(story);
            return;
        }
        self.live.set_canary_trouble(None);
        let message = match story.told {
            Told::Down | Told::Refused | Told::Deaf => {
                tracing::debug!(error = %error, "still no tracking link");
                return;
            }
            _ if self.live.is_version_shared() => {
                "no tracking link: until it has told the fleet's key version (keys.version_source) \
                 no new connection to upstream is used, and nothing is served from the cache"
            }
            Told::Up => "tracking link lost: nothing it guarded is served any more",
            Told::Nothing => "no tracking link: nothing is served from the cache but `ttl` rules",
        };
        story.told = Told::Down;
        tracing::warn!(
            event = "invalidation_channel_down",
            upstream = %self.dialer.target,
            error = %error,
            "{message}"
        );
    }

    /// The server is a replica. Its address may lead to another by now, or may soon: data links are
    /// opened anew as soon as it was a primary for this link, and again when it is one.
    fn demoted(&self, was_up: bool, story: &mut Story) {
        if was_up && self.dialer.switch.doubt(self.clock.now()) {
            tracing::warn!(
                event = "upstream_reconnecting",
                upstream = %self.dialer.target,
                "the server is a replica now: all links are opened anew"
            );
        } else {
            story.is_of_replica = true;
        }
    }

    /// The canary was written and not heard, or could not be written.
    fn tell_deaf(&self, story: &mut Story) {
        let trouble = self.live.canary_trouble().unwrap_or_else(|| {
            let prefix =
                self.snapshots.newest().names.usual().as_bytes().escape_ascii().to_string();
            format!(
                "the server tells of no change of it: its user must be allowed to read \
                 `~{prefix}*`, and nothing on the way may drop pushes"
            )
        });
        self.live.set_canary_trouble(Some(trouble.clone()));
        if story.told != Told::Deaf {
            story.told = Told::Deaf;
            tracing::error!(
                event = "canary_missed",
                upstream = %self.dialer.target,
                error = trouble,
                "the tracking link does not hear of a key that nearside writes \
                 (invalidation.written_canary): until it does nothing is served from the cache but \
                 `ttl` rules"
            );
        }
    }

    /// One connection, from its handshake to its end.
    async fn session(
        &self,
        plan: &Plan,
        story: &mut Story,
        turn: &mut Option<Turn<'_>>,
    ) -> anyhow::Result<std::convert::Infallible> {
        let options = Options {
            proto: Proto::Resp3,
            username: self.dialer.username(),
            password: self.dialer.password(),
            database: 0,
            name: Some(&self.dialer.name),
            tracking: Some(&plan.tracked),
            asks_id: false,
        };
        let Opened { mut stream, server, rest, .. } =
            self.dialer.open_in_turn(&options, turn).await?;
        if let Some(server) = server {
            self.live.set_server(server.into());
        }
        self.live.set_tracking_on(true);
        self.live.set_upstream_up(true);
        drop(turn.take());
        let writer = plan.canary.as_ref().map(|(key, every)| Writer {
            key,
            every: *every,
            timeout: plan.silence_max,
            dialer: &self.dialer,
            live: &self.live,
            due: Notify::new(),
        });
        let writing = async {
            match &writer {
                Some(writer) => writer.run().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! { biased;
            over = self.listen(&mut stream, &rest, plan, writer.as_ref(), story) => over,
            never = writing => match never {},
        }
    }

    async fn listen(
        &self,
        stream: &mut Stream,
        rest: &[u8],
        plan: &Plan,
        writer: Option<&Writer<'_>>,
        story: &mut Story,
    ) -> anyhow::Result<std::convert::Infallible> {
        let mut listener = plan.listener().ringing(&self.waited);
        let mut timers =
            Timers::new(plan.round_every, plan.canary.as_ref().map(|(_, every)| *every));
        let mut input = BytesMut::with_capacity(64 * 1024);
        let mut out = BytesMut::new();
        let mut heard_at = self.clock.now();
        let mut was_silent = false;
        listener.feed(rest, heard_at, &self.cache, &plan.names, &self.block)?;
        loop {
            listener.ask_fleet(&mut out);
            if !out.is_empty() {
                stream.write_all_buf(&mut out).await?;
                stream.flush().await?;
            }
            // Reading comes first: what lies in the socket after a pause of this process proves
            // that the link lives. And silence must be seen twice, because the first look may come
            // before the system has said what there is to read.
            let due = tokio::select! { biased;
                read = stream.read_buf(&mut input) => {
                    if read? == 0 {
                        anyhow::bail!("the server closed the connection");
                    }
                    (heard_at, was_silent) = (self.clock.now(), false);
                    listener.feed(&input, heard_at, &self.cache, &plan.names, &self.block)?;
                    input.clear();
                    self.heard(&mut listener, story);
                    // Under a flood of pushes there is always something to read: what is due is
                    // done in between, or the lease would end.
                    let due = timers.due().await;
                    Due { round: due.round || listener.is_eager(&self.cache), ..due }
                }
                due = timers.next() => {
                    if due.round {
                        let is_silent = self.clock.now().since(heard_at) > plan.silence_max;
                        if is_silent && was_silent {
                            return Err(Silence(plan.silence_max).into());
                        }
                        was_silent = is_silent;
                        listener.tick_fleet();
                    }
                    due
                }
                () = self.live.barrier_is_wanted() => Due { round: true, ..Due::default() },
                () = self.live.version_is_doubted() => {
                    listener.doubt_fleet();
                    Due::default()
                }
            };
            if due.round && listener.may_ask() {
                listener.ask_round(&mut out, self.clock.now(), &self.cache);
            }
            if due.info {
                listener.ask_tracking_info(&mut out);
            }
            if let Some(writer) = writer.filter(|_| due.canary) {
                listener.write_canary(&self.block)?;
                writer.due.notify_one();
            }
        }
    }

    /// Publishes what the link has said.
    fn heard(&self, listener: &mut Listener, story: &mut Story) {
        self.live.set_barrier_ns(listener.round_trip_ns());
        let tracking = self.cache.tracking();
        let (passed, wanted) = (tracking.last_passed(), tracking.last_wanted());
        if passed > story.rung && wanted > story.rung {
            story.rung = passed;
            (self.ring.0)();
        }
        if let Some(said) = listener.take_said() {
            self.hear_fleet(said, story);
        }
        let is_proved = listener.is_synced() && listener.is_of_fleet() && listener.is_hearing();
        if is_proved && std::mem::take(&mut story.is_of_replica) {
            // This link has found a primary, and data links may still be a replica's: all begin
            // anew, this one, too.
            self.dialer.switch.reconnect();
            return;
        }
        if is_proved && !self.cache.tracking().is_up() {
            // Every change is told since the acknowledgement, and a barrier has shown it: only
            // now may a read take a token (R1).
            self.live.set_canary_trouble(None);
            self.cache.tracking_up();
            story.proved();
            tracing::info!(
                event = "invalidation_channel_up",
                upstream = %self.dialer.target,
                "tracking link is up"
            );
        }
        if let Some(refusal) = listener.refusal()
            && story.told != Told::Refused
        {
            story.told = Told::Refused;
            tracing::warn!(
                event = "invalidation_channel_unconfirmed",
                upstream = %self.dialer.target,
                error = refusal,
                "nothing is served from the cache but `ttl` rules: the server refuses PING or \
                 ROLE, without which no barrier round counts; its user needs `+ping +role`"
            );
        }
    }
}

impl Tracking {
    /// What upstream says of the fleet's version. Requests may be sent once it is known: as the one
    /// in force, or as out of reach for good, which only an operator can change.
    fn hear_fleet(&self, said: Said, story: &mut Story) {
        match said {
            Said::Same => {
                story.unversioned = None;
                self.live.know_version();
            }
            // It comes back as another plan.
            Said::Other(version) => {
                self.versions.send_replace(Some(version));
            }
            Said::Refused(error) => {
                self.live.know_version();
                if story.unversioned.as_ref() != Some(&error) {
                    tracing::error!(
                        event = "key_version_unknown",
                        upstream = %self.dialer.target,
                        error,
                        "upstream refuses keys.version_key: the version that was known last stays \
                         in force, and nothing is served from the cache but `ttl` rules"
                    );
                    story.unversioned = Some(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{REFUSED_PAUSE, Story};
    use crate::control::invalidate::listener::Doubt;
    use crate::net::backoff;
    use crate::net::dialer::OpenError;
    use crate::wire::handshake::HandshakeError;

    #[test]
    fn only_a_confirmed_barrier_makes_the_next_pause_short() {
        let mut story = Story::new();
        let replica = anyhow::Error::from(Doubt::Role);
        for attempt in 0..6 {
            assert_eq!(story.pause(&replica), backoff(attempt));
        }
        story.proved();
        assert_eq!(story.pause(&replica), backoff(0));
        let refused = OpenError::from(HandshakeError::TrackingRefused("NOPERM".to_owned()));
        assert_eq!(story.pause(&refused.into()), REFUSED_PAUSE);
    }
}
