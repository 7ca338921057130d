//! One phase: clients play, the nemesis strikes, then everything is compared and checked.

use crate::check::{self, Findings, Terms, Violation};
use crate::client::Client;
use crate::clients::{self, Plan, Session};
use crate::draw::Draw;
use crate::field::{Field, Kind, LEVELS};
use crate::history::{History, ROUTES, Route, Variant};
use crate::nemesis::Nemesis;
use crate::pace;
use crate::requests::Op;
use crate::world::World;
use parking_lot::Mutex;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// Clients of each route.
const CLIENTS: [usize; 3] = [6, 6, 2];

/// How long after a fault requests may still fail for it: until all have their links again.
const AFTERMATH: u64 = 1_000_000_000;

/// What a phase is.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) number: u32,
    pub(crate) length: Duration,
    pub(crate) keys: usize,
    /// All clients use the first proxy.
    pub(crate) is_linear: bool,
    /// See [`Plan::is_calm`].
    pub(crate) is_calm: bool,
    /// Each strikes one after the other from its list, all lists at once.
    pub(crate) nemeses: Vec<Vec<Nemesis>>,
}

impl Script {
    pub(crate) fn name(&self) -> String {
        let lists = self.nemeses.iter();
        let mut words: Vec<String> =
            lists.map(|list| list.iter().map(|n| n.word()).collect::<Vec<_>>().join(",")).collect();
        if self.is_linear {
            words.push("all through one proxy".to_owned());
        }
        let words = if words.is_empty() { "no fault".to_owned() } else { words.join(" + ") };
        if self.is_calm { format!("{words} (calm)") } else { words }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) findings: Findings,
    pub(crate) faults: u64,
    pub(crate) hits: u64,
    pub(crate) lookups: u64,
    pub(crate) errors: u64,
    pub(crate) torn: u64,
    /// Which keys' caches differ from the server, by level.
    pub(crate) divergent: [u64; LEVELS.len()],
    /// For whoever looks into it.
    pub(crate) history: History,
}

/// What the lists of faults have done: since when, until when.
type Strikes = Mutex<Vec<(Nemesis, u64, u64)>>;

/// Plays one phase.
pub(crate) fn play(world: &World, script: &Script, seed: u64) -> (Outcome, Field) {
    let mut draw = Draw::new(seed, u64::from(script.number));
    world.prepare();
    let field = Field::new(script.number, script.keys, *world.version.lock(), &mut draw);
    let before = world.lookups();
    let strikes = Strikes::default();
    let mut history = clash(world, &field, script, &strikes, &mut draw);
    // A proxy that was replaced has forgotten what it had counted.
    let is_counted = !script.nemeses.iter().flatten().any(|n| *n == Nemesis::ReplaceProxy);
    let after = if is_counted { world.lookups() } else { before };
    history.wipes = std::mem::take(&mut *field.wipes.lock());
    let mut outcome = Outcome {
        hits: after.0.saturating_sub(before.0),
        lookups: after.1.saturating_sub(before.1),
        errors: history.errors.len() as u64,
        torn: history.torn[0],
        ..Outcome::default()
    };
    let strikes = strikes.into_inner();
    outcome.faults = strikes.len() as u64;
    let terms = Terms {
        evicts: strikes.iter().any(|strike| strike.0 == Nemesis::Memory),
        is_linear: script.is_linear,
    };
    let apart = converge(world, &field, &mut outcome);
    outcome.findings = check::check(&field, &mut history, terms);
    outcome.findings.violations.extend(apart);
    outcome.findings.violations.extend(unexplained(&history, &strikes));
    outcome.history = history;
    (outcome, field)
}

/// Clients and nemesis, until the time is over.
fn clash(
    world: &World,
    field: &Field,
    script: &Script,
    strikes: &Strikes,
    draw: &mut Draw,
) -> History {
    let mut history = History::default();
    let plans = plans(world, field, script, draw);
    for plan in &plans {
        history.routes.extend(plan.sessions.map(|session| session.route));
    }
    let ends = field.now() + script.length.as_nanos() as u64;
    thread::scope(|scope| {
        let play = |plan| scope.spawn(move || clients::play(field, plan));
        let players: Vec<_> = plans.into_iter().map(play).collect();
        let lists = script.nemeses.iter().map(|list| {
            let draw = Draw::new(draw.next(), 7);
            scope.spawn(move || torment(world, field, list, strikes, draw, ends))
        });
        for list in lists.collect::<Vec<_>>() {
            list.join().expect("the nemesis does not panic");
        }
        pace::play(Duration::from_nanos(ends.saturating_sub(field.now())));
        field.end();
        for player in players {
            history.merge(player.join().expect("a client does not panic"));
        }
    });
    history
}

fn plans(world: &World, field: &Field, script: &Script, draw: &mut Draw) -> Vec<Plan> {
    let count: usize = CLIENTS.iter().sum();
    let routes = ROUTES.into_iter().zip(CLIENTS);
    let routes: Vec<Route> = routes.flat_map(|(route, count)| vec![route; count]).collect();
    let session = |number: usize, route| {
        let route = if script.is_linear { Route::First } else { route };
        Session { number: number as u16, route, port: world.port(route) }
    };
    let mut plan = |client: usize, route: &Route| {
        // The other connection: who is behind a proxy also writes past it, and the other way round.
        let other = if *route == Route::Direct { ROUTES[client % 2] } else { Route::Direct };
        let own = |slot: &usize| {
            matches!(field.slots[*slot].kind, Kind::Owned | Kind::Pair) && slot % count == client
        };
        Plan {
            sessions: [session(client * 2, *route), session(client * 2 + 1, other)],
            is_resp3: client % 2 == 1,
            draw: Draw::new(draw.next(), client as u64),
            owned: (0..field.slots.len()).filter(own).collect(),
            is_calm: script.is_calm,
        }
    };
    routes.iter().enumerate().map(|(client, route)| plan(client, route)).collect()
}

/// Strikes with what is on the list, in turn.
fn torment(
    world: &World,
    field: &Field,
    list: &[Nemesis],
    strikes: &Strikes,
    mut draw: Draw,
    ends: u64,
) {
    for nemesis in list.iter().cycle() {
        pace::play(Duration::from_millis(draw.between(50, 300)));
        if field.now() >= ends {
            return;
        }
        let begun = field.now();
        let done = nemesis.strike(world, field, &mut draw);
        strikes.lock().push((*nemesis, begun, field.now()));
        field.relieve();
        if let Err(error) = done {
            // One fault may be in another's way.
            eprintln!("  {} did not go as it should: {error}", nemesis.word());
        }
    }
}

/// Errors that no fault explains.
fn unexplained(history: &History, strikes: &[(Nemesis, u64, u64)]) -> Option<Violation> {
    let is_explained = |(sent, failed, _): &&(u64, u64, String)| {
        strikes.iter().any(|(nemesis, begun, ended)| {
            nemesis.breaks() && sent <= &(ended + AFTERMATH) && failed >= begun
        })
    };
    let mut left = history.errors.iter().filter(|error| !is_explained(error));
    let (sent, _, first) = left.next()?;
    let text = format!(
        "{} requests failed without a fault, the first, sent at {:.3} ms: {first}",
        1 + left.count(),
        check::millis(*sent)
    );
    Some(Violation { rule: "errors", register: 0, text })
}

/// C9: what the proxies say when all is quiet is what the server says.
fn converge(world: &World, field: &Field, outcome: &mut Outcome) -> Vec<Violation> {
    // The bound is a time: after it nothing older may be said.
    let bound = LEVELS.iter().map(|level| level.bound).max().unwrap_or(0);
    pace::play(Duration::from_nanos(bound));
    let mut violations = Vec::new();
    for which in [Route::First, Route::Second] {
        let compared = compare(world, field, which).unwrap_or_else(|error| {
            vec![(0, format!("{which:?} cannot be asked when all is quiet: {error}"))]
        });
        for (register, text) in compared {
            outcome.divergent[field.slot(register).level] += 1;
            violations.push(Violation { rule: "C9", register, text });
        }
    }
    violations
}

fn compare(world: &World, field: &Field, route: Route) -> std::io::Result<Vec<(u32, String)>> {
    let mut server = Client::dial(world.server_port)?;
    let mut proxy = Client::dial(world.port(route))?;
    let prefix = format!("v{}:", field.version.load(Ordering::SeqCst));
    let mut apart = Vec::new();
    for slot in 0..field.slots.len() {
        for half in 0..=1 {
            let register = field.register(slot, half);
            // What is about to end by itself would differ by the moment.
            let life = server.ask(&["PTTL", &format!("{prefix}{}", field.key(register))])?;
            if life != b":-1\r\n" && life != b":-2\r\n" {
                continue;
            }
            for variant in [Variant::Main, Variant::Other] {
                let op = Op::Read(register, variant);
                let (mut theirs, mut ours) = (Vec::new(), Vec::new());
                op.encode(field, &prefix, &mut theirs);
                op.encode(field, "", &mut ours);
                server.send(&theirs)?;
                let right = server.reply()?;
                // Twice: what is cached, and what is cached by asking.
                for _ in 0..2 {
                    proxy.send(&ours)?;
                    let said = proxy.reply()?;
                    if said != right {
                        apart.push((register, said, right.clone(), variant));
                    }
                }
            }
        }
    }
    let text = |(register, said, right, variant): (u32, Vec<u8>, Vec<u8>, Variant)| {
        let key = field.key(register);
        let (said, right) = (said.escape_ascii(), right.escape_ascii());
        (register, format!("{key} {variant:?}: {route:?} says {said}, the server {right}"))
    };
    Ok(apart.into_iter().map(text).collect())
}
