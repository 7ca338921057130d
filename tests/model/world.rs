//! One path through the model: the real rooms, and the queues between them.

use crate::fixture::{Action, Fixture, Op, POLICY, STALENESS, Scenario, TICK_MS};
use crate::parts::{Answer, Asked, Mirror, Person, Thread, joined, waiters};
use crate::server::{ByName, Message, Server};
use bytes::BytesMut;
use foldhash::quality::FixedState;
use nearside::cache::{Banned, Cache, Policy, Reply, Source, Token};
use nearside::config::Mode;
use nearside::control::invalidate::listener::Listener;
use nearside::data::batch::Batch;
use nearside::data::flights::{Landing, News};
use nearside::data::lost::Lost;
use nearside::data::order::Frame;
use nearside::data::pause::Held;
use nearside::data::session::Session;
use nearside::data::settle::{Desk, fail_front, settle};
use nearside::data::upstream::{ClientId, State, Waiter, flight_name};
use nearside::data::worker::Clients;
use nearside::units::clock::Tick;
use nearside::wire;
use std::cell::Cell;
use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hash, Hasher as _};
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;

/// How often something may still happen.
#[derive(Clone, Copy, Hash)]
struct Budget {
    direct: u8,
    ticks: u8,
    rounds: u8,
    cuts: u8,
    drops: u8,
    deaths: u8,
    bans: u8,
    switches: u8,
}

/// A path so far.
pub(crate) struct World<'f> {
    fixture: &'f Fixture,
    scenario: &'static Scenario,
    begin: u64,
    now: u64,
    people: Vec<Person>,
    threads: Vec<Thread>,
    server: Server,
    late: VecDeque<Vec<Vec<u8>>>,
    listener: Listener,
    is_up: bool,
    /// When the listener's rounds were sent: the last that was answered, and the one that is out.
    rounds: (Option<u64>, Option<u64>),
    /// How many were sent.
    sent: u64,
    /// When what was proved had been asked, and the answer.
    proofs: Vec<(u64, Vec<u8>)>,
    /// By name the newest version that anybody has seen, and that clients of this instance have.
    all: ByName<u32>,
    here: ByName<u32>,
    /// The version at the last ban; and whether a change waits for one.
    told: u32,
    is_to_ban: bool,
    switch: Switch,
    left: Budget,
    pub(crate) fault: Option<String>,
}

/// How far the switch of the key version has got.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Switch {
    /// Not begun, or over.
    Idle,
    /// Published: each adopts it when it comes to it.
    Published,
    /// All have, and what was stored is dead.
    Cleared,
}

/// Settles all bans.
fn sweep(cache: &Cache) {
    if cache.figures().bans > 0 {
        let mut sweep = cache.start_sweep();
        while cache.sweep(&mut sweep, 4096, Tick(1)) {}
    }
}

impl<'f> World<'f> {
    pub(crate) fn new(fixture: &'f Fixture, scenario: &'static Scenario) -> Self {
        let begin = fixture.begin.get() + 3_600_000_000_000;
        fixture.begin.set(begin);
        let cache = &fixture.shared.cache;
        fixture.shared.live.open_gate();
        cache.tracking_lost();
        cache.invalidate(fixture.hash);
        cache.tracking_up();
        // Of a path that was left halfway.
        let round = cache.tracking().begin_round();
        cache.tracking().passed(round);
        sweep(cache);
        fixture.shared.flights.crash(flight_name(&fixture.question()));
        for inbox in fixture.inboxes.borrow_mut().iter_mut() {
            while inbox.try_recv().is_ok() {}
        }
        let people = scenario.programs.iter().enumerate().map(|(place, _)| Person {
            session: Session::new(
                Arc::clone(&fixture.clients[place]),
                &fixture.snapshots[0].limits,
            ),
            next: 0,
            seen: [0; 2],
            out: VecDeque::new(),
            unserved: VecDeque::new(),
            wants: 0,
        });
        let count = scenario.programs.iter().zip(scenario.workers).map(|(_, w)| w + 1).max();
        let first = if scenario.is_level_linear { &fixture.linear } else { &fixture.snapshots[0] };
        let mut world = Self {
            fixture,
            scenario,
            begin,
            now: 0,
            people: people.collect(),
            threads: (0..count.unwrap()).map(|_| Thread::new(first)).collect(),
            server: Server::new(scenario.life),
            late: VecDeque::new(),
            listener: Listener::default(),
            is_up: true,
            rounds: (None, None),
            sent: 0,
            proofs: Vec::new(),
            all: [0; 2],
            here: [0; 2],
            told: 0,
            is_to_ban: false,
            switch: Switch::Idle,
            left: Budget {
                direct: scenario.direct,
                ticks: scenario.ticks,
                rounds: scenario.rounds,
                cuts: scenario.cuts,
                drops: scenario.drops,
                deaths: scenario.deaths,
                bans: scenario.bans,
                switches: scenario.switches,
            },
            fault: None,
        };
        for (person, &worker) in world.people.iter_mut().zip(scenario.workers) {
            world.threads[worker].links.of(&mut person.session).state = State::Up;
        }
        for &action in scenario.prelude {
            world.take(action);
        }
        world
    }

    fn cache(&self) -> &'f Cache {
        &self.fixture.shared.cache
    }

    fn tick(&self) -> Tick {
        Tick(self.begin + self.now * TICK_MS * 1_000_000)
    }

    /// What may happen next.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (place, person) in self.people.iter().enumerate() {
            let has_next = person.next < self.scenario.programs[place].len();
            if person.out.is_empty() && person.unserved.is_empty() && has_next {
                actions.push(Action::Feed(place));
            }
            let is_held = person.session.is_stalled(&self.fixture.snapshots[0]);
            if !person.unserved.is_empty() && !is_held {
                actions.push(Action::Resume(place));
            }
        }
        for (place, thread) in self.threads.iter().enumerate() {
            let mut may = |condition: bool, action: fn(usize) -> Action| {
                if condition {
                    actions.push(action(place));
                }
            };
            may(thread.tickets.iter().any(|ticket| !ticket.is_sealed), Action::Seal);
            may(!thread.up.is_empty(), Action::Execute);
            may(!thread.down.is_empty(), Action::Deliver);
            may(!thread.letters.is_empty(), Action::Letter);
            may(self.left.deaths > 0 && !thread.tickets.is_empty(), Action::Death);
            may(self.switch == Switch::Published && thread.name() == 0, Action::Adopt);
        }
        let left = &self.left;
        let is_published = self.switch == Switch::Published;
        let is_adopted = self.server.tracked == 1 && self.threads.iter().all(|t| t.name() == 1);
        let asks = self.is_up && self.listener.may_ask();
        let is_wanted = self.cache().tracking().is_barrier_wanted();
        for (condition, action) in [
            (!self.late.is_empty(), Action::Late),
            (left.direct > 0, Action::Direct),
            (self.server.has_news(), Action::Broadcast),
            (!self.server.stream.is_empty(), Action::Listen),
            ((left.rounds > 0 || is_wanted) && asks, Action::Round),
            (self.server.rounds > 0, Action::Ping),
            (left.cuts > 0 && self.server.tracks, Action::Cut),
            (left.drops > 0 && self.is_up, Action::Drop),
            (!self.is_up, Action::Up),
            (left.ticks > 0, Action::Tick),
            (left.bans > 0 && !self.is_to_ban, Action::Silent),
            (self.is_to_ban, Action::Ban),
            (self.cache().figures().bans > 0, Action::Sweep),
            (left.switches > 0, Action::Switch),
            (is_published && self.server.tracked == 0, Action::Replan),
            (is_published && is_adopted, Action::Clear),
            (self.switch == Switch::Cleared, Action::Open),
        ] {
            if condition {
                actions.push(action);
            }
        }
        actions
    }

    /// One step.
    pub(crate) fn take(&mut self, action: Action) {
        match action {
            Action::Feed(person) => self.feed(person),
            Action::Resume(person) => self.serve(person, Session::resume),
            Action::Seal(thread) => self.threads[thread].seal(),
            Action::Execute(thread) => self.execute(thread),
            Action::Deliver(thread) => self.deliver(thread),
            Action::Letter(thread) => {
                let Landing { waiters, news } = self.threads[thread].letters.pop_front().unwrap();
                match news {
                    News::Reply(bytes) | News::Stale(_, bytes) => self.hand_out(&waiters, &bytes),
                    News::Lost(read) => self.ask_again(&waiters, &read),
                }
            }
            Action::Death(thread) => self.die(thread),
            Action::Late => {
                let words = self.late.pop_front().unwrap();
                self.server.execute(&words, self.now);
            }
            Action::Direct => {
                self.left.direct -= 1;
                // By the name that the link is told of.
                let name = self.server.tracked;
                let version = self.server.write(name);
                self.server.acked_at[version as usize] = Some(self.now);
                self.all[name] = version;
            }
            Action::Broadcast => self.server.broadcast(),
            Action::Listen => self.listen(),
            Action::Round => {
                self.left.rounds = self.left.rounds.saturating_sub(1);
                self.sent += 1;
                let (now, cache) = (self.tick(), self.cache());
                self.listener.ask_round(&mut BytesMut::new(), now, cache);
                self.rounds.1 = Some(self.now);
                self.server.rounds += u8::from(self.server.tracks);
            }
            Action::Ping => self.server.ping(),
            Action::Cut => {
                self.left.cuts -= 1;
                self.server.cut();
            }
            Action::Drop => {
                self.left.drops -= 1;
                self.drop_link();
            }
            Action::Switch => {
                self.left.switches -= 1;
                self.fixture.shared.live.close_gate();
                self.switch = Switch::Published;
            }
            Action::Adopt(thread) => {
                self.threads[thread].links.adopt(Rc::clone(&self.fixture.snapshots[1]));
            }
            Action::Replan => {
                self.drop_link();
                self.server.tracked = 1;
            }
            Action::Clear => {
                self.cache().clear();
                self.switch = Switch::Cleared;
            }
            Action::Open => {
                self.fixture.shared.live.open_gate();
                self.switch = Switch::Idle;
            }
            Action::Up => {
                self.server.tracks = true;
                self.cache().tracking_up();
                self.is_up = true;
            }
            Action::Silent => {
                self.left.bans -= 1;
                self.server.change();
                self.is_to_ban = true;
            }
            Action::Ban => {
                self.cache().ban(Banned::Pattern(b"k*".as_slice().into()), Source::Pubsub);
                self.told = self.server.stands[0];
                self.is_to_ban = false;
            }
            Action::Sweep => sweep(self.cache()),
            Action::Tick => {
                self.left.ticks -= 1;
                self.now += 1;
                self.server.expire(self.now);
                self.release();
            }
        }
    }

    fn drop_link(&mut self) {
        self.server.cut();
        self.server.stream.clear();
        self.listener = Listener::default();
        self.rounds = (None, None);
        self.is_up = false;
        self.cache().tracking_lost();
        self.release();
    }

    /// Who waits for a barrier, and need not any more, goes on.
    fn release(&mut self) {
        let (shared, now) = (&self.fixture.shared, self.tick());
        for person in &mut self.people {
            let session = &mut person.session;
            if session.sought.is_some_and(|sought| !sought.is_awaited(shared, now)) {
                session.release();
            }
        }
    }

    fn listen(&mut self) {
        let message = self.server.stream.pop_front().unwrap();
        let Fixture { shared, block, .. } = self.fixture;
        let now = self.tick();
        let names = &self.fixture.snapshots[self.server.tracked].names;
        self.listener.feed(message.bytes(), now, &shared.cache, names, block).unwrap();
        if message == Message::Pong {
            self.rounds.0 = self.rounds.1.take();
        }
        self.release();
    }

    /// The next packet of a client.
    fn feed(&mut self, place: usize) {
        let person = &mut self.people[place];
        let packet = self.scenario.programs[place][person.next];
        person.next += 1;
        let all = self.all[self.threads[self.scenario.workers[place]].name()];
        person.unserved.extend(packet.iter().map(|op| (*op, all)));
        let bytes: Vec<u8> = packet.iter().flat_map(|op| op.bytes()).copied().collect();
        self.serve(place, |session, batch| session.feed(&bytes, batch));
    }

    /// Lets a client's session run: what is new on its link afterwards says how each request was
    /// answered that it served.
    fn serve(&mut self, place: usize, run: impl FnOnce(&mut Session, &mut Batch<'_>)) {
        let worker = self.scenario.workers[place];
        let waiting = self.threads[worker].links.get(0).unwrap().len();
        let did_seek = self.people[place].session.sought.is_some();
        let served = self.run(place, run);
        let person = &mut self.people[place];
        if !did_seek && person.session.sought.is_some() {
            person.wants = self.sent + 1;
        }
        let served: Vec<(Op, u32)> = person.unserved.drain(..served).collect();
        let holes = person.session.order.holes() as usize;
        let asked = self.threads[worker].links.get(0).unwrap().len() - waiting;
        assert!(holes - asked <= 1, "a client with a request out must not join");
        let (fresh, name) = (self.fresh(), self.threads[worker].name());
        for (index, &(op, came)) in served.iter().enumerate() {
            let answer = if index < served.len() - holes {
                Answer::Hit
            } else if index < served.len() - asked {
                joined(&mut self.threads, worker, fresh.as_ref()).joined.push(place);
                Answer::Joined
            } else {
                self.mirror(place, op);
                Answer::Own
            };
            // At level `linear` a request may be served later than it came.
            let all = if self.scenario.is_level_linear { came } else { self.all[name] };
            let (at, here, told) = (self.now, self.here[name], self.told);
            self.people[place].out.push_back(Asked { op, at, name, all, here, told, answer });
        }
        if !self.scenario.splits_seal {
            self.threads[worker].seal();
        }
        self.read_replies(place);
    }

    /// The token that a read would get now.
    fn fresh(&self) -> Option<Token> {
        let Fixture { shared, hash, .. } = self.fixture;
        let (cache, now) = (&shared.cache, self.tick());
        let max_staleness = if self.scenario.is_level_linear { 0 } else { POLICY.max_staleness };
        let policy = Policy { max_staleness, ttl: u64::MAX, ..POLICY };
        let joins = || cache.right_to_join(*hash, max_staleness, now);
        let is_open = shared.live.gate() == Mode::Cache;
        is_open.then(|| cache.token(*hash, &policy, now).unwrap_or_else(joins))
    }

    /// Runs a session on its worker; answers how many requests it served.
    fn run(&mut self, place: usize, run: impl FnOnce(&mut Session, &mut Batch<'_>)) -> usize {
        let Fixture { shared, block, .. } = self.fixture;
        let gate = shared.live.gate();
        let view = shared.cache.view(self.tick());
        let worker = self.scenario.workers[place];
        let thread = &mut self.threads[worker];
        let snapshot = Rc::clone(thread.links.snapshot());
        let mut batch = Batch {
            gate,
            me: ClientId { place: u32::try_from(place).unwrap(), number: 0 },
            links: &mut thread.links,
            worker,
            shared,
            snapshot: &snapshot,
            block,
            view,
            held: Held::Nothing,
            ahead: &mut thread.ahead,
            seekers: &mut Vec::new(),
            hits: 0,
            commands: 0,
            last: u16::MAX,
        };
        run(&mut self.people[place].session, &mut batch);
        usize::try_from(batch.commands).unwrap()
    }

    /// A request went to the client's own link: what the model knows of its ticket.
    fn mirror(&mut self, place: usize, op: Op) {
        let token = match op {
            Op::Read | Op::Many => self.fresh(),
            Op::Reveal | Op::Write => None,
        };
        let mut all = self.threads.iter().flat_map(|thread| &thread.tickets);
        let is_taken = all.any(|other| other.is_published && other.answered.is_none());
        let is_published = op == Op::Read && !is_taken && token.is_some();
        self.threads[self.scenario.workers[place]].tickets.push_back(Mirror {
            is_published,
            owner: place,
            joined: Vec::new(),
            op,
            token,
            asked_at: self.now,
            answered: None,
            is_sealed: false,
        });
    }

    /// A flight of another worker is lost: its waiters read for themselves.
    fn ask_again(&mut self, waiters: &[Waiter], read: &[u8]) {
        for waiter in waiters {
            let place = waiter.client.place as usize;
            self.run(place, |session, batch| {
                session.ask_again(waiter.slot, read, Vec::new(), batch);
            });
            self.mirror(place, Op::Read);
            if !self.scenario.splits_seal {
                self.threads[self.scenario.workers[place]].seal();
            }
        }
    }

    fn execute(&mut self, place: usize) {
        let thread = &mut self.threads[place];
        loop {
            let words = thread.up.pop_front().unwrap();
            thread.down.push_back(self.server.execute(&words, self.now));
            let is_probe = thread.up.front().is_some_and(|next| next[0] == b"PTTL");
            if !is_probe || self.scenario.splits_probe {
                return;
            }
        }
    }

    fn deliver(&mut self, place: usize) {
        loop {
            let frame = self.threads[place].down.pop_front().unwrap();
            self.settle(place, &frame);
            let front = self.threads[place].tickets.front();
            let has_probe = front.is_some_and(|ticket| ticket.answered.is_some());
            if !has_probe || self.scenario.splits_probe || self.threads[place].down.is_empty() {
                return;
            }
        }
    }

    fn settle(&mut self, place: usize, frame: &[u8]) {
        let now = self.tick();
        let Fixture { shared, block, .. } = self.fixture;
        let thread = &mut self.threads[place];
        let link = thread.links.get(0).unwrap();
        let waiters = waiters(link.front().unwrap());
        let waiting = link.len();
        link.input.extend_from_slice(frame);
        let (mut clients, mut scratch) = (Clients::default(), BytesMut::new());
        let mut desk = Desk::new(&mut clients, shared, block, &mut scratch, now);
        settle(link, &mut desk).unwrap();
        if waiters.is_empty() {
            self.proofs.push((thread.tickets[0].asked_at, frame.to_vec()));
        }
        if link.len() < waiting {
            thread.tickets.pop_front();
        } else {
            thread.tickets[0].answered = Some(frame.to_vec());
        }
        self.hand_out(&waiters, frame);
        self.collect_letters();
    }

    fn collect_letters(&mut self) {
        for (thread, inbox) in
            self.threads.iter_mut().zip(self.fixture.inboxes.borrow_mut().iter_mut())
        {
            while let Ok(landing) = inbox.try_recv() {
                thread.letters.push_back(landing);
            }
        }
    }

    /// Settling found no clients, for they are the model's: they have their answer from here.
    fn hand_out(&mut self, waiters: &[Waiter], frame: &[u8]) {
        for waiter in waiters {
            let place = waiter.client.place as usize;
            self.people[place].session.deliver(waiter.slot, &Frame::Borrowed(frame));
            self.read_replies(place);
        }
    }

    fn die(&mut self, place: usize) {
        self.left.deaths -= 1;
        let now = self.tick();
        let Fixture { shared, block, .. } = self.fixture;
        let thread = &mut self.threads[place];
        self.late.extend(thread.up.drain(..));
        thread.down.clear();
        let link = thread.links.get(0).unwrap();
        let (mut clients, mut scratch) = (Clients::default(), BytesMut::new());
        let mut desk = Desk::new(&mut clients, shared, block, &mut scratch, now);
        let mut failed = Vec::new();
        while link.front_is_sent() {
            let Some(ticket) = link.front() else { break };
            failed.extend(waiters(ticket));
            fail_front(link, Lost::OutcomeUnknown("gone"), &mut desk);
            thread.tickets.pop_front();
        }
        link.reset();
        link.state = State::Up;
        self.hand_out(&failed, b"-ERR gone\r\n");
        self.collect_letters();
    }

    /// Takes what a client was sent, and judges it.
    fn read_replies(&mut self, place: usize) {
        let mut bytes = Vec::new();
        let sent = Cell::new(Some(&mut bytes));
        let take = |slices: &[IoSlice<'_>]| {
            let sink = sent.take().unwrap();
            let before = sink.len();
            for slice in slices {
                sink.extend_from_slice(slice);
            }
            let taken = sink.len() - before;
            sent.set(Some(sink));
            Ok(taken)
        };
        self.people[place].session.output.write_to(take).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let version = match line.split_at(1) {
                ("*", _) => continue,
                ("$", "-1") => Some(self.server.version_of(None)),
                ("$", _) => lines.next().unwrap().parse().ok(),
                ("+", version) => version.parse().ok(),
                ("-", _) => None,
                _ => panic!("no reply of the model: {line}"),
            };
            let asked = self.people[place].out.pop_front().unwrap();
            if let Some(version) = version {
                self.judge(place, asked, version);
            }
        }
    }

    fn judge(&mut self, place: usize, asked: Asked, version: u32) {
        let server = &mut self.server;
        if asked.op == Op::Write {
            server.acked_at[version as usize] = Some(self.now);
        }
        let name = asked.name;
        let newer = server.acked_at.iter().zip(&server.name).skip(version as usize + 1);
        let mut newer = newer.filter(|(_, other)| **other == name).filter_map(|(at, _)| *at);
        let is_late = newer.any(|acked_at| acked_at + STALENESS < asked.at);
        let has_ended = server.ends_at[version as usize].is_some_and(|end| asked.at >= end);
        let is_read = asked.op != Op::Write;
        let seen = self.people[place].seen[name];
        for (is_broken, rule, bound) in [
            (server.name[version as usize] != name, "NAMED", version),
            (version < seen, "RYW", seen),
            (!is_read && version == seen, "ORDER", version + 1),
            (is_read && version < asked.here, "PROXY", asked.here),
            (self.scenario.is_linear && is_read && version < asked.all, "LIN", asked.all),
            (is_read && is_late, "BOUNDED", version + 1),
            (is_read && version < asked.told, "BANNED", asked.told),
            (asked.answer == Answer::Hit && has_ended, "EXPIRED", version + 1),
        ] {
            if is_broken && self.fault.is_none() {
                let fault = format!(
                    "{rule}: client {place} got version {version} ({:?}), expected {bound} or newer",
                    asked.answer
                );
                self.fault = Some(fault);
            }
        }
        for newest in [&mut self.people[place].seen, &mut self.all, &mut self.here] {
            newest[name] = version.max(newest[name]);
        }
    }

    /// Everything has been processed.
    pub(crate) fn check_end(&mut self) {
        if self.people.iter().any(|person| !person.out.is_empty()) {
            self.fault = Some("STUCK: a client has no answer".to_owned());
        }
        let version = self.server.stands[self.server.tracked];
        let has_ended = |version: u32| self.server.ends_at[version as usize].is_some();
        if let Some(cached) = self.cached()
            && self.server.tracks
            && cached != version
            && !has_ended(cached)
        {
            self.fault = Some(format!("QUIET: {cached} is cached for ever, {version} is stored"));
        }
    }

    /// The version that is cached, whatever the time.
    fn cached(&self) -> Option<u32> {
        let question = self.fixture.question();
        let mut version = None;
        self.cache().get(&question, &self.cache().view(Tick(1)), |entry| {
            version = Some(match entry.reply() {
                Reply::Nil => self.server.version_of(None),
                Reply::Bytes(bytes) => {
                    let digits = wire::reply::bulk(bytes).unwrap();
                    std::str::from_utf8(digits).unwrap().parse().unwrap()
                }
            });
        });
        version
    }

    /// A hash of all that decides what can happen from here on.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hash = FixedState::default().build_hasher();
        let fresh = self.fresh();
        for person in &self.people {
            (person.next, person.seen, person.session.out_mask).hash(&mut hash);
            (&person.out, &person.unserved, person.session.is_abroad).hash(&mut hash);
            let sought = person.session.sought;
            sought.map(|_| self.sent.wrapping_sub(person.wants)).hash(&mut hash);
            if !person.session.order.is_clear() {
                format!("{:?}", person.session.order).hash(&mut hash);
            }
        }
        for thread in &self.threads {
            (&thread.up, &thread.down, thread.tickets.len(), thread.name()).hash(&mut hash);
            for letter in &thread.letters {
                format!("{:?}", letter.news).hash(&mut hash);
                letter.waiters.iter().for_each(|waiter| waiter.client.place.hash(&mut hash));
            }
            for ticket in &thread.tickets {
                let right = ticket.token.map(|token| {
                    let joins = fresh.is_some_and(|fresh| token.may_be_joined_by(&fresh));
                    // How many bans ago: of those that are forgotten nobody knows.
                    let bans = fresh.map(|fresh| fresh.bans - token.bans);
                    (joins, self.cache().is_current(self.fixture.hash, &token), bans)
                });
                (ticket.owner, &ticket.joined, ticket.op, right).hash(&mut hash);
                (ticket.asked_at, &ticket.answered, ticket.is_sealed, ticket.is_published)
                    .hash(&mut hash);
            }
        }
        let synced_at = self.cache().tracking().synced_at().0.checked_sub(self.begin);
        let bans = self.cache().figures().bans;
        (&self.server, self.now, self.is_up, self.rounds, synced_at).hash(&mut hash);
        (bans, self.told, self.is_to_ban, self.switch).hash(&mut hash);
        (self.cached(), &self.proofs, self.all, self.here, self.left, &self.late).hash(&mut hash);
        hash.finish()
    }
}
