//! The tracking link: one RESP3 connection with `CLIENT TRACKING ON BCAST`, on a thread of its
//! own that does nothing but listen, so that no scrape, sweep or slow client delays it.
//!
//! Up means: what is stored under it is told of every change. On any loss or doubt everything
//! stored under it is dead at once (R9), and misses go on working.

use crate::cache::Cache;
use crate::control::invalidate::listener::Listener;
use crate::keys::Prefix;
use crate::live::Live;
use crate::net::dialer::{Dialer, OpenError};
use crate::net::stream::Stream;
use crate::stats::{Block, Counter};
use crate::units::clock::Clock;
use crate::wire::handshake::{HandshakeError, Options};
use crate::wire::write::Proto;
use bytes::BytesMut;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::MissedTickBehavior;

/// How often the server is asked whether it still tracks (R9).
const INFO_EVERY: Duration = Duration::from_secs(30);

/// Pause before tracking is asked for again where the server refuses it.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// What the tracking thread works with.
#[derive(Debug)]
pub struct Tracking {
    /// What it invalidates.
    pub cache: Arc<Cache>,
    /// Where it connects.
    pub dialer: Arc<Dialer>,
    /// Stands before every key upstream.
    pub prefix: Prefix,
    /// Prefixes to be told of; empty = everything.
    pub tracked: Vec<Vec<u8>>,
    /// Time between barrier rounds: the smallest `max_staleness` / 4.
    pub round_every: Duration,
    /// Silence after which the link is given up. Hits have stopped long before, when their lease
    /// ended; a server that was only paused is not punished by a cold cache.
    pub silence_max: Duration,
    /// Time.
    pub clock: Clock,
    /// Shared state.
    pub live: Arc<Live>,
    /// This thread's counters.
    pub block: Arc<Block>,
}

impl Tracking {
    /// Keeps the link open for as long as the process lives.
    pub async fn run(self) {
        let mut attempt = 0;
        loop {
            let error = match self.session(&mut attempt).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            self.live.set_upstream_up(false);
            if self.cache.tracking().is_up() {
                self.cache.tracking_lost();
                self.block.add(Counter::InvalidationsReconnect, 1);
                self.block.add(Counter::FlushesReconnect, 1);
                tracing::warn!(
                    event = "invalidation_channel_down",
                    upstream = %self.dialer.target,
                    error = %error,
                    "tracking link lost: nothing it guarded is served any more"
                );
            } else if attempt == 0 {
                tracing::warn!(
                    event = "invalidation_channel_down",
                    upstream = %self.dialer.target,
                    error = %error,
                    "no tracking link: nothing is served from the cache but `ttl` rules"
                );
            }
            let is_refused = matches!(
                error.downcast_ref::<OpenError>(),
                Some(OpenError::Handshake(HandshakeError::TrackingRefused(_)))
            );
            let pause = if is_refused { REFUSED_PAUSE } else { crate::net::backoff(attempt) };
            attempt += 1;
            tokio::time::sleep(pause).await;
        }
    }

    /// One connection, from its handshake to its end.
    async fn session(&self, attempt: &mut u32) -> anyhow::Result<std::convert::Infallible> {
        let options = Options {
            proto: Proto::Resp3,
            username: self.dialer.username(),
            password: self.dialer.password(),
            database: 0,
            name: Some(&self.dialer.name),
            tracking: Some(&self.tracked),
        };
        let (mut stream, server) = self.dialer.open(&options).await?;
        if let Some(server) = server {
            self.live.set_identity(server.into());
        }
        *attempt = 0;
        // Acknowledged: from here on every change is told. Only now may a read take a token (R1).
        self.cache.tracking_up();
        self.live.set_upstream_up(true);
        tracing::info!(
            event = "invalidation_channel_up",
            upstream = %self.dialer.target,
            "tracking link is up"
        );
        self.listen(&mut stream).await
    }

    async fn listen(&self, stream: &mut Stream) -> anyhow::Result<std::convert::Infallible> {
        let mut listener = Listener::default();
        let mut rounds = tokio::time::interval(self.round_every);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut infos = tokio::time::interval(INFO_EVERY);
        infos.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut input = BytesMut::with_capacity(64 * 1024);
        let mut out = BytesMut::new();
        listener.ask_databases(&mut out);
        let mut heard_at = self.clock.now();
        loop {
            if !out.is_empty() {
                stream.write_all_buf(&mut out).await?;
            }
            tokio::select! { biased;
                read = stream.read_buf(&mut input) => {
                    if read? == 0 {
                        anyhow::bail!("the server closed the connection");
                    }
                    let now = self.clock.now();
                    heard_at = now;
                    listener.feed(&input, now, &self.cache, &self.prefix, &self.block)?;
                    input.clear();
                    self.live.set_barrier_ns(listener.round_trip_ns());
                    if let Some(databases) = listener.databases() {
                        self.live.set_databases(databases);
                    }
                    if listener.is_eager() {
                        listener.ask_round(&mut out, now);
                    }
                }
                _ = rounds.tick() => {
                    let now = self.clock.now();
                    let silence = Duration::from_nanos(now.0.saturating_sub(heard_at.0));
                    if silence > self.silence_max {
                        anyhow::bail!("no answer for {:?}", self.silence_max);
                    }
                    if listener.may_ask() {
                        listener.ask_round(&mut out, now);
                    }
                }
                _ = infos.tick() => listener.ask_tracking_info(&mut out),
            }
        }
    }
}
