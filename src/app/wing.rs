//! The data wing's answers to the control wing's questions.

use crate::control::wing::{Client, DataWing, Explained, ExplainedKey, Facts, Place, SlowCommand};
use crate::data::Shared;
use crate::data::explain::{Explanation, Key, explain_now};
use crate::data::registry::{self, Mark};
use crate::data::slow::{Hexadecimal, Key as SlowKey, Slow};
use crate::net::address::Address;
use crate::stats::{Counter, Outcome};
use crate::units::clock::Tick;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What all workers share, looked at from outside.
pub(super) struct View(pub(super) Arc<Shared>);

impl DataWing for View {
    fn facts(&self) -> Facts {
        let Shared { ledger, dialer, registry, clock, snapshots, .. } = &*self.0;
        let snapshot = snapshots.newest();
        let latency = ledger.stats().latency_of(&[Outcome::Miss, Outcome::Bypass]);
        let commands = ledger.totals().commands;
        Facts {
            instance: ledger.profile.instance.clone(),
            region: ledger.profile.region.clone(),
            key_version: snapshot.settings.version.clone(),
            uptime: clock.now().since(ledger.started_at),
            ops_per_second: ledger.rates().commands,
            clients: registry.len(),
            commands: commands.iter().map(|row| row.ok + row.error).sum(),
            errors: commands.iter().map(|row| row.error).sum(),
            latency: latency.sum().checked_div(latency.count()).map(Duration::from_nanos),
            latency_p99: latency.quantile(0.99).map(Duration::from_nanos),
            upstream: dialer.target.address.to_string(),
            is_embedded: dialer.target.address == Address::Embedded,
            is_tracking: snapshot.tracked.is_some(),
        }
    }

    fn place(&self, key: &[u8]) -> Place {
        let snapshot = self.0.snapshots.newest();
        let index = snapshot.rules.find(key).index;
        let upstream_key = snapshot.names.name(key);
        Place {
            upstream_key: String::from_utf8_lossy(&upstream_key).into_owned(),
            rule: if snapshot.rules.is_default(index) {
                "[cache]".to_owned()
            } else {
                format!("rules[{index}]")
            },
        }
    }

    fn explain(&self, words: &[Vec<u8>]) -> Result<Explained, String> {
        let explained = explain_now(&self.0, &self.0.snapshots.newest(), words);
        explained.map(told).map_err(|unfit| unfit.to_string())
    }

    fn counted(&self, counters: &[Counter]) -> u64 {
        self.0.ledger.totals().sum(counters)
    }

    fn beats(&self) -> Vec<Duration> {
        let Shared { ledger, clock, .. } = &*self.0;
        let now = clock.now();
        let beats = ledger.stats().worker_beats();
        // Who has not begun is as old as the process.
        beats.into_iter().map(|beat| now.since(beat.max(ledger.started_at))).collect()
    }

    fn clients(&self) -> Vec<Client> {
        let now = self.0.clock.now();
        self.0.registry.list().iter().map(|client| shown(client, now)).collect()
    }

    fn blocked_clients(&self) -> usize {
        self.0.registry.blocked()
    }

    fn end_client(&self, id: u64) -> bool {
        let client = self.0.registry.find(id);
        if let Some(client) = &client {
            client.mark(Mark::Killed, true);
            self.0.bells.ring();
        }
        client.is_some()
    }

    fn reset_counts(&self) {
        self.0.ledger.reset(self.0.clock.now());
    }

    fn slow_commands(&self) -> Vec<SlowCommand> {
        let told = |slow: Slow| {
            let Slow { id, at, command, outcome, took, client, key } = slow;
            let client = client.map(|client| {
                (client.id, client.address.to_string(), client.names.lock().name.clone())
            });
            let (key, key_hash) = match key {
                Some(SlowKey { name: Some(name), .. }) => (Some(name.into_vec()), None),
                Some(SlowKey { hash, .. }) => (None, Some(Hexadecimal(hash).to_string())),
                None => (None, None),
            };
            let outcome = outcome.as_str();
            SlowCommand { id, at, took, command, outcome, client, key, key_hash }
        };
        self.0.slow.list().into_iter().map(told).collect()
    }

    fn forget_slow_commands(&self) -> usize {
        self.0.slow.clear()
    }
}

fn told(explained: Explanation) -> Explained {
    let Explanation { command, class, fate, happens, error, remedy, keys, sent, drops } = explained;
    let key = |key: Key| {
        let Key { client, upstream, rule, cached, why, ttl_ms, stale, .. } = key;
        ExplainedKey { client, upstream, rule, cached, why, ttl_ms, stale }
    };
    let (fate, keys) = (fate.as_str(), keys.into_iter().map(key).collect());
    Explained { command, class, fate, happens, error, remedy, keys, sent, drops }
}

fn shown(client: &registry::Client, now: Tick) -> Client {
    let few = |figure: &AtomicU32| figure.load(Ordering::Relaxed);
    let many = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
    let (names, state) = (client.names.lock().clone(), &client.state);
    let row = client.command.load(Ordering::Relaxed);
    Client {
        id: client.id,
        addr: client.address.to_string(),
        laddr: client.local.to_string(),
        name: names.name,
        age_seconds: client.age(now),
        idle_seconds: client.idle(now),
        flags: client.flags(),
        db: few(&client.db),
        subscriptions: few(&state.channels) + few(&state.patterns) + few(&state.shard_channels),
        watched: few(&state.watched),
        queued: u32::try_from(state.queued.load(Ordering::Relaxed)).ok(),
        command: crate::command::all().get(usize::from(row)).map(|row| row.name),
        resp: client.resp.load(Ordering::Relaxed),
        lib_name: names.lib_name,
        lib_ver: names.lib_ver,
        net_in_bytes: many(&client.bytes_in),
        net_out_bytes: many(&client.bytes_out),
        unsent_bytes: many(&client.unsent),
        commands: many(&client.commands),
        hits: many(&client.hits),
    }
}
