//! Where `/metrics` and the admin API have their figures from: every room is asked, and no room
//! knows of it.

use crate::app::App;
use crate::cache::Source;
use crate::command;
use crate::command::own;
use crate::config::TrackingMode;
use crate::control::admin::stats::View;
use crate::control::observe::metrics::{CacheFigures, Identity, Metrics, Sources, TrackingFigures};
use crate::control::observe::state::{State, UpstreamFigures};
use crate::data::Shared;
use crate::data::registry::Mark;
use crate::live;
use std::sync::Arc;
use std::time::Duration;

impl App {
    /// The text of /metrics.
    pub fn metrics(&self) -> Arc<Metrics> {
        let (cache, tracked) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        let (up, mode) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        let version = Arc::clone(&self.shared);
        let warm = Arc::clone(&self.workshop.warm);
        let sources = Sources {
            cache: Box::new(move || {
                let figures = cache.cache.figures();
                CacheFigures {
                    entries: figures.entries,
                    used_bytes: figures.used_bytes,
                    max_bytes: figures.max_bytes,
                    evicted: figures.evicted,
                    expired: figures.expired,
                    bans: figures.bans,
                    forgotten: figures.forgotten,
                    removed: Source::ALL.map(|source| cache.cache.removed_by(source)),
                }
            }),
            tracking: (self.settings.tracking == TrackingMode::Broadcast).then(
                || -> Box<dyn Fn() -> _ + Send + Sync> {
                    Box::new(move || tracking_figures(&tracked))
                },
            ),
            channel_up: self.channel.clone().map(|channel| -> Box<dyn Fn() -> _ + Send + Sync> {
                Box::new(move || channel.live.is_channel_heard())
            }),
            upstream_up: Box::new(move || up.live.is_upstream_up()),
            warm: Box::new(move || warm.figures()),
            mode: Box::new(move || mode.live.mode().as_str()),
            key_version: Box::new(move || version.snapshots.newest().version.clone()),
            state: self.state(),
        };
        let me = Identity {
            upstream: self.settings.upstream.target.address.to_string(),
            workers: self.settings.server.workers,
        };
        let rows = command::all().iter().chain(own::all());
        let names: Vec<&str> = rows.map(|row| row.name).collect();
        Arc::new(Metrics::new(Arc::clone(&self.stats), &names, &me, sources))
    }

    /// What `/metrics` tells of that nobody counts.
    fn state(&self) -> State {
        let (met, clients) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        let (reloader, runtimes) = (Arc::clone(&self.reloader), Arc::clone(&self.runtimes));
        State {
            config: Box::new(move || reloader.figures()),
            upstream: Box::new(move || {
                let live::Identity { role, version, .. } = met.live.identity()?;
                let role = if role == "master" { "primary".to_owned() } else { role };
                Some(UpstreamFigures { role, version })
            }),
            subscribers: Box::new(move || clients.registry.count(Mark::Subscriber)),
            runtimes: Box::new(move || runtimes.figures()),
        }
    }

    /// What the API tells of what was counted.
    pub(super) fn view(&self) -> View {
        let shared = Arc::clone(&self.shared);
        View {
            stats: Arc::clone(&self.stats),
            clock: shared.clock.clone(),
            cache: Arc::clone(&shared.cache),
            show: self.settings.hot_keys.show,
            snapshots: Arc::clone(&shared.snapshots),
            reset: Box::new(move || shared.ledger.reset(shared.clock.now())),
        }
    }
}

fn tracking_figures(shared: &Shared) -> TrackingFigures {
    let synced_at = shared.cache.tracking().synced_at();
    let lag = Duration::from_nanos(shared.live.barrier_ns());
    TrackingFigures {
        up: shared.cache.tracking().is_up(),
        synced_age: (synced_at.0 > 0).then(|| shared.clock.now().since(synced_at)),
        lag: (!lag.is_zero()).then_some(lag),
    }
}
