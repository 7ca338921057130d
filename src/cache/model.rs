//! All interleavings of the cache's own halves: what `tests/model` takes as one step is several
//! here, because other threads may come between.
//!
//! ```text
//!   invalidation   bump | take                    token    generation and epoch | link up?
//!   link lost      down | epoch moves on          fill     decide and store (one step: its lock)
//!   a ban          issued | found | checked | settled
//! ```

use super::ban::Pass;
use super::tests::{POLICY, cache, question};
use super::{
    Banned, Cache, Entry, Filled, Lookup, Policy, Question, Reply, Source, Strength, Token,
};
use crate::units::clock::Tick;

const NOW: Tick = Tick(100_000_000_000);

/// What is put out stays where it is.
const KEPT: Policy = Policy { keep: 1, ..POLICY };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A reader, in five steps.
    Token,
    IsUp,
    Ask,
    Fill,
    Prove,
    /// The key changes on the server.
    Write,
    /// Its invalidation.
    Bump,
    Take,
    /// The second half of a soft one.
    PutOut,
    /// Its place is evicted.
    Evict,
    /// The link is lost, and comes back.
    Down,
    Epoch,
    Up,
    /// Its namespace is banned, and what is banned is swept: found, held against the ban, settled.
    Ban,
    SoftBan,
    Sweep,
    Check,
    Settle,
}

use Step::{
    Ask, Ban, Bump, Check, Down, Epoch, Evict, Fill, IsUp, Prove, PutOut, Settle, SoftBan, Sweep,
    Take, Up, Write,
};

const READ: &[Step] = &[Step::Token, IsUp, Ask, Fill, Prove];

/// One reader's belongings.
#[derive(Default)]
struct Reader {
    token: Option<Token>,
    value: u8,
    entry: Option<Entry>,
}

struct World<'c> {
    cache: &'c Cache,
    question: Question<'c>,
    readers: Vec<Reader>,
    /// What a sweep has found, and its bans.
    swept: Option<(Pass, Vec<Entry>)>,
    /// What the server holds.
    value: u8,
    /// What the cache has been told of, or has handed out.
    known: u8,
}

impl World<'_> {
    fn take(&mut self, actor: usize, step: Step) {
        let (cache, hash) = (self.cache, self.question.hash);
        match step {
            Step::Token => self.readers[actor].token = Some(cache.token_now(hash, true, NOW)),
            IsUp if cache.tracking().is_up() => {}
            IsUp => self.readers[actor].token = None,
            Ask => self.readers[actor].value = self.value,
            Fill => self.fill(actor),
            Prove => {
                let reader = &mut self.readers[actor];
                if let (Some(entry), Some(token)) = (reader.entry.take(), reader.token) {
                    cache.prove(hash, &entry, &token, &KEPT, -1);
                }
            }
            Write => self.value += 1,
            Bump => cache.store.generations().bump(hash),
            Take => {
                cache.store.take(hash);
            }
            PutOut => {
                cache.store.look(hash, |entry| entry.put_out(NOW));
            }
            Evict => {
                cache.store.sweep(&mut super::store::Place::default(), 2048, |_| true);
            }
            Down => cache.tracking.set_down(),
            Epoch => cache.epochs.bump_tracked(),
            Up => cache.tracking_up(),
            Ban => {
                cache.ban(Banned::Namespace(b"space".as_slice().into()), Source::Admin);
            }
            SoftBan => {
                let namespace = Banned::Namespace(b"space".as_slice().into());
                cache.ban_all(vec![namespace], Source::Admin, Strength::Soft(NOW));
            }
            Sweep => {
                let pass = cache.bans.pass();
                let mut found = Vec::new();
                let mut place = super::store::Place::default();
                cache.store.sweep(&mut place, 2048, |entry| {
                    found.push(entry.clone());
                    false
                });
                self.swept = Some((pass, found));
            }
            Check => {
                if let Some((pass, found)) = &mut self.swept {
                    found.drain(..).for_each(|entry| cache.check(&entry, pass));
                }
            }
            Settle => {
                if let Some((pass, _)) = self.swept.take() {
                    cache.bans.settle(&pass);
                }
            }
        }
    }

    fn fill(&mut self, actor: usize) {
        let reader = &mut self.readers[actor];
        let bytes = [reader.value];
        match &reader.token {
            Some(token) => {
                let reply = Reply::Bytes(&bytes);
                if let Filled::Stored(entry) = self.cache.fill(&self.question, token, &KEPT, reply)
                {
                    reader.entry = Some(entry);
                }
            }
            None => {
                self.cache.invalidate(self.question.hash);
            }
        }
        // Its client has the answer.
        self.known = self.known.max(reader.value);
    }

    fn cached(&self) -> Option<u8> {
        let mut value = None;
        let view = self.cache.view(NOW);
        let lookup = self.cache.get(&self.question, &view, |entry| value = Some(entry.as_ref()[0]));
        assert_eq!(lookup == Lookup::Hit, value.is_some());
        value
    }
}

/// Plays every interleaving of `actors`; the first that reads older than what is known, if any,
/// and how many there are. `told` is the step after which the cache knows of the last write.
fn play(actors: &[&[Step]], told: Step) -> (usize, Option<Vec<Step>>) {
    let cache = cache(1 << 20);
    let mut paths = 0;
    let mut fault = None;
    let mut order = Vec::new();
    each_order(&mut vec![0; actors.len()], actors, &mut order, &mut |order| {
        paths += 1;
        if fault.is_none() && is_broken(&cache, actors, order, told) {
            fault = Some(steps(actors, order).map(|(_, step)| step).collect());
        }
    });
    (paths, fault)
}

fn each_order(
    done: &mut Vec<usize>,
    actors: &[&[Step]],
    order: &mut Vec<usize>,
    play: &mut impl FnMut(&[usize]),
) {
    if order.len() == actors.iter().map(|steps| steps.len()).sum::<usize>() {
        play(order);
        return;
    }
    for actor in 0..actors.len() {
        if done[actor] < actors[actor].len() {
            done[actor] += 1;
            order.push(actor);
            each_order(done, actors, order, play);
            order.pop();
            done[actor] -= 1;
        }
    }
}

fn steps<'o>(
    actors: &'o [&[Step]],
    order: &'o [usize],
) -> impl Iterator<Item = (usize, Step)> + 'o {
    let mut done = vec![0; actors.len()];
    order.iter().map(move |&actor| {
        done[actor] += 1;
        (actor, actors[actor][done[actor] - 1])
    })
}

fn is_broken(cache: &Cache, actors: &[&[Step]], order: &[usize], told: Step) -> bool {
    // Nothing is left of the path before.
    let question = question(cache, b"space:key");
    cache.invalidate(question.hash);
    let readers = actors.iter().map(|_| Reader::default()).collect();
    let mut world = World { cache, question, readers, swept: None, value: 0, known: 0 };
    for (actor, step) in steps(actors, order) {
        world.take(actor, step);
        if step == told {
            world.known = world.value;
        }
        if world.cached().is_some_and(|cached| cached < world.known) {
            return true;
        }
    }
    false
}

fn assert_holds(name: &str, actors: &[&[Step]], told: Step) {
    let (paths, fault) = play(actors, told);
    println!("{name}: {paths} paths");
    assert_eq!(fault, None, "{name}");
}

#[test]
fn nothing_comes_between_bump_and_take() {
    assert_holds("an invalidation and two readers", &[&[Write, Bump, Take], READ, READ], Take);
}

#[test]
fn nothing_comes_between_bump_and_put_out() {
    assert_holds("a soft one and two readers", &[&[Write, Bump, PutOut], READ, READ], PutOut);
}

#[test]
fn a_lost_link_leaves_no_gap() {
    // The write that nobody tells of may come at any time after the link is dead.
    let lost: &[Step] = &[Write, Down, Epoch, Up];
    assert_holds("a lost link and a reader", &[lost, READ], Epoch);
    assert_holds("a write after it is down", &[&[Down, Write, Epoch, Up], READ], Up);
    assert_holds("a write before it is up", &[&[Down, Epoch, Write, Up], READ], Up);
    assert_holds("a lost link and two readers", &[lost, READ, &READ[..4]], Epoch);
}

#[test]
fn an_eviction_is_an_event() {
    // One reads before the write, one after; what the second stored is evicted.
    assert_holds("an eviction", &[&[Write, Evict], READ, READ], Up);
}

#[test]
fn a_soft_ban_leaves_no_gap() {
    let banned: &[Step] = &[Write, SoftBan, Sweep, Check, Settle];
    assert_holds("a soft ban and a reader", &[banned, READ], SoftBan);
    assert_holds("a soft ban and two readers", &[&banned[..2], READ, READ], SoftBan);
    assert_holds("a swept soft ban", &[banned, READ, &READ[..4]], SoftBan);
}

#[test]
fn a_ban_leaves_no_gap() {
    // Nobody tells of the write but the ban that follows it.
    let banned: &[Step] = &[Write, Ban, Sweep, Check, Settle];
    assert_holds("a ban and a reader", &[banned, READ], Ban);
    assert_holds("a ban and two readers", &[&banned[..2], READ, READ], Ban);
    assert_holds("a swept ban and two readers", &[banned, READ, &READ[..4]], Ban);
    assert_holds("two bans", &[&[Write, Ban, Write, Ban, Sweep, Check, Settle], READ], Ban);
}

/// The model would notice.
#[test]
fn the_other_order_would_not_do() {
    assert!(play(&[&[Write, Take, Bump], READ], Bump).1.is_some());
    assert!(play(&[&[Write, PutOut, Bump], READ], Bump).1.is_some());
    assert!(play(&[&[Epoch, Write, Down, Up], READ], Up).1.is_some());
    assert!(play(&[&[Write, Down, Up], READ], Up).1.is_some());
    assert!(play(&[&[Ban, Write, Sweep, Check, Settle], READ], Settle).1.is_some());
}
