//! The part of the composition root that puts together what works beside requests and needs both
//! wings: jobs upstream, and warm-up, which fills by the same right as a read.

use crate::config::Settings;
use crate::control::jobs::{Jobs, Tools, Works};
use crate::control::warm::Warm;
use crate::control::warm::fill::{Denied, Filler, Judge, Right};
use crate::control::workshop::Workshop;
use crate::data::{Shared, consult};
use crate::keys::Names;
use crate::stats::Counter;
use std::sync::Arc;

/// Puts it together; the main thread does the works.
pub(super) fn assemble(settings: &Settings, shared: &Arc<Shared>) -> (Workshop, Works) {
    let (jobs, works) = Jobs::new(shared.clock.clone());
    let jobs = Arc::new(jobs);
    let tools = Arc::new(Tools {
        dialer: Arc::clone(&shared.dialer),
        behind: shared.behind.clone(),
        cache: Arc::clone(&shared.cache),
        key_prefix: settings.key_prefix.clone(),
        separator: settings.separator.clone(),
        version_key: settings.version_key.clone(),
        names: names(shared),
        timeout: settings.upstream.write_timeout,
    });
    let filler = Filler {
        cache: Arc::clone(&shared.cache),
        clock: shared.clock.clone(),
        judge: judge(shared),
        names: names(shared),
        get: shared.get,
        database: settings.upstream.target.database,
    };
    let (warming, live) = (settings.warming.clone(), Arc::clone(&shared.live));
    let warm = Warm::new(warming, Arc::clone(&jobs), Arc::clone(&tools), filler, live);
    (Workshop { jobs, tools, warm: Arc::new(warm) }, works)
}

/// How keys are named now.
fn names(shared: &Arc<Shared>) -> Box<dyn Fn() -> Names + Send + Sync> {
    let shared = Arc::clone(shared);
    Box::new(move || shared.snapshots.newest().names.clone())
}

/// The right to fill, as a read has it under the newest snapshot. (While one is being exchanged
/// the gate is closed, and what was asked before it is refused after it.)
fn judge(shared: &Arc<Shared>) -> Judge {
    let shared = Arc::clone(shared);
    Box::new(move |key, hash, now| {
        let snapshot = shared.snapshots.newest();
        let rule = snapshot.rules.find(key);
        // What no client may name is no hit for any.
        rule.key_bounds.check(key).map_err(|_| Denied::Never)?;
        let right = consult::right(&shared, &snapshot, shared.get, rule, hash, now);
        let token = right.map_err(|why| match why {
            Counter::BypassTrackingDown => Denied::NotNow,
            _ => Denied::Never,
        })?;
        let policy = consult::policy(&shared, shared.get, rule);
        Ok(Right { token, policy, ttl_probe: rule.ttl_probe })
    })
}
