//! The search: depth first, every state once.

use crate::fixture::{Action, Fixture, Scenario};
use crate::world::World;
use std::collections::HashSet;
use std::fmt::Write as _;

/// What a search found.
pub(crate) struct Report {
    pub(crate) states: usize,
    pub(crate) steps: usize,
    /// The first fault, and the way to it.
    pub(crate) fault: Option<(String, String)>,
}

/// Plays every interleaving of `scenario`, until the first fault.
pub(crate) fn explore(fixture: &Fixture, scenario: &'static Scenario) -> Report {
    let mut world = World::new(fixture, scenario);
    let mut seen = HashSet::from([world.fingerprint()]);
    let mut path: Vec<Action> = Vec::new();
    let mut open = vec![world.actions()];
    // True while the world stands further on than `path` says.
    let mut is_past = false;
    let mut steps = 0;
    while let Some(actions) = open.last_mut() {
        let Some(action) = actions.pop() else {
            open.pop();
            path.pop();
            is_past = true;
            continue;
        };
        if std::mem::take(&mut is_past) {
            world = World::new(fixture, scenario);
            for &action in &path {
                world.take(action);
            }
        }
        world.take(action);
        path.push(action);
        steps += 1;
        let next = world.actions();
        if next.is_empty() {
            world.check_end();
        }
        if let Some(fault) = world.fault.take() {
            let fault = Some((fault, written(scenario, &path)));
            return Report { states: seen.len(), steps, fault };
        }
        if seen.insert(world.fingerprint()) {
            open.push(next);
        } else {
            path.pop();
            is_past = true;
        }
    }
    Report { states: seen.len(), steps, fault: None }
}

fn written(scenario: &Scenario, path: &[Action]) -> String {
    let mut text = String::new();
    for action in scenario.prelude.iter().chain(path) {
        write!(text, "{action:?} ").unwrap();
    }
    text
}
