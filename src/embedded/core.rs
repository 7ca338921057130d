//! The server without its sockets: bytes of a client in, bytes for clients out.
//!
//! A batch is what one read brought. [`Core::feed`] runs all complete requests of it; what they
//! changed is told to tracking clients when the batch ends, before anybody's output is written.
//! The shell asks [`Core::take_told`] which other clients have something to be written.
//!
//! Invariant: between two calls no client is missing from `clients`, except one whose request
//! panicked: the shell closes it.

use super::args::Args;
use super::pubsub::PubSub;
use super::reply::{Done, Fault, OUT_OF_MEMORY, Out};
use super::session::Client;
use super::stand_in::{self, StandIn};
use super::store::Store;
use super::table::{Claim, Run, Table};
use super::tracking::{self, Tracking};
use super::transaction;
use crate::command::errors;
use crate::wire::inline;
use crate::wire::request::{Arg, Found, Limits, Malformed, Scan};
use crate::wire::write::Proto;
use bytes::{Buf, BytesMut};
use foldhash::fast::RandomState;
use indexmap::{IndexMap, IndexSet};

/// What a client may send, as Redis limits it.
const LIMITS: Limits = Limits { args_max: 1 << 20, bulk_max: 512 << 20, unauthenticated: false };

/// An empty input buffer larger than this is given back.
const INPUT_KEPT: usize = 64 * 1024;

/// A client that sends more while it waits is closed: Redis' `client-query-buffer-limit`.
const INPUT_MAX: usize = 1 << 30;

/// Keys deleted by one tick at most, so that it never holds up requests for long.
pub(super) const EXPIRED_PER_TICK: usize = 1000;

/// Data, clients, and who is told of what.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) store: Store,
    pub(super) tracking: Tracking,
    pub(super) pubsub: PubSub,
    pub(super) clients: IndexMap<u64, Box<Client>, RandomState>,
    pub(super) table: Table,
    pub(super) max_memory: usize,
    /// Set where it stands in for another server.
    pub(super) stand_in: Option<StandIn>,
    pub(super) started: i64,
    pub(super) commands_run: u64,
    clock: fn() -> u64,
    clients_seen: u64,
    /// Clients whose output somebody else wrote to.
    pub(super) told: IndexSet<u64, RandomState>,
    /// Clients that wait no more, but whose further requests have not been looked at.
    pub(super) unblocked: Vec<u64>,
}

impl Core {
    pub(super) fn new(max_memory: usize, clock: fn() -> u64) -> Self {
        let started = read_clock(clock);
        Self {
            store: Store::new(clock()),
            tracking: Tracking::default(),
            pubsub: PubSub::default(),
            clients: IndexMap::default(),
            table: Table::new(),
            max_memory,
            stand_in: None,
            started,
            commands_run: 0,
            clock,
            clients_seen: 0,
            told: IndexSet::default(),
            unblocked: Vec::new(),
        }
    }

    /// It stands in for another server.
    pub(super) fn standing_in(mut self, policy: stand_in::Policy) -> Self {
        self.store.changes.named = Some(stand_in::Named::default());
        self.stand_in = Some(StandIn { policy });
        self
    }

    /// Every client is to go, once it has its replies.
    pub(super) fn close_clients(&mut self) {
        self.clients.values_mut().for_each(|client| client.closing = true);
    }

    /// What follows happens now.
    pub(super) fn refresh_clock(&mut self) {
        self.store.now = read_clock(self.clock);
    }

    /// A client came; returns its number.
    pub(super) fn connect(&mut self) -> u64 {
        self.clients_seen += 1;
        let id = self.clients_seen;
        let client = Client::new(id, read_clock(self.clock));
        self.clients.insert(id, Box::new(client));
        id
    }

    /// A client went.
    pub(super) fn disconnect(&mut self, id: u64) {
        if let Some(mut client) = self.clients.swap_remove(&id) {
            self.pubsub.forget(&mut client);
            self.forget_wait(&client);
        }
        self.stop_tracking(id);
        self.store.changes.unwatch(id);
        self.told.swap_remove(&id);
    }

    pub(super) fn stop_tracking(&mut self, id: u64) {
        self.tracking.stop(id);
        self.store.changes.tracked = self.tracking.is_active();
    }

    pub(super) const fn clients_seen(&self) -> u64 {
        self.clients_seen
    }

    /// Where the shell reads into.
    pub(super) fn input(&mut self, id: u64) -> Option<&mut BytesMut> {
        self.clients.get_mut(&id).map(|client| &mut client.input)
    }

    /// Where the shell writes from.
    pub(super) fn output(&mut self, id: u64) -> Option<&mut BytesMut> {
        self.clients.get_mut(&id).map(|client| &mut client.out.bytes)
    }

    /// Is this client to be closed once its output is written?
    pub(super) fn is_closing(&self, id: u64) -> bool {
        self.clients.get(&id).is_none_or(|client| client.closing)
    }

    /// Clients that were told something since the last call.
    pub(super) fn take_told(&mut self) -> IndexSet<u64, RandomState> {
        std::mem::take(&mut self.told)
    }

    /// Runs all complete requests in a client's input, and those of clients that stop waiting by
    /// it.
    pub(super) fn feed(&mut self, id: u64) {
        self.store.now = read_clock(self.clock);
        if let Some(client) = self.clients.get_mut(&id) {
            client.seen = self.store.now;
        }
        self.run_input(id);
        self.resume();
        self.tell();
    }

    /// Looks at the further requests of clients that wait no more.
    fn resume(&mut self) {
        while !self.unblocked.is_empty() {
            for id in std::mem::take(&mut self.unblocked) {
                self.run_input(id);
            }
        }
    }

    fn run_input(&mut self, id: u64) {
        let Some(mut client) = self.clients.swap_remove(&id) else {
            return;
        };
        let mut input = std::mem::take(&mut client.input);
        let mut out = std::mem::take(&mut client.out);
        if let Err(malformed) = self.requests(&mut client, &mut input, &mut out) {
            out.fault(&Fault::owned(format!("ERR Protocol error: {malformed}")));
            client.closing = true;
        }
        if input.is_empty() && input.capacity() > INPUT_KEPT {
            input = BytesMut::new();
        }
        client.input = input;
        client.out = out;
        if client.wait.is_some() && client.input.len() > INPUT_MAX {
            client.closing = true;
        }
        self.clients.insert(id, client);
    }

    fn requests(
        &mut self,
        client: &mut Client,
        input: &mut BytesMut,
        out: &mut Out,
    ) -> Result<(), Malformed> {
        let mut ranges = std::mem::take(&mut client.ranges);
        while !client.closing && client.wait.is_none() {
            match client.scan.next(input, &mut ranges, &LIMITS)? {
                Found::NeedMore => break,
                Found::Request(length) => {
                    self.request(client, Args::new(input, &ranges), out);
                    input.advance(length);
                }
                Found::Inline(length) => {
                    let line = input.split_to(length);
                    self.inline(client, &line, &mut ranges, out)?;
                }
            }
            client.scan = Scan::default();
            ranges.clear();
        }
        client.ranges = ranges;
        Ok(())
    }

    fn inline(
        &mut self,
        client: &mut Client,
        line: &[u8],
        ranges: &mut Vec<Arg>,
        out: &mut Out,
    ) -> Result<(), Malformed> {
        let request = inline::to_multibulk(line)?;
        if let Found::Request(_) = Scan::default().next(&request, ranges, &LIMITS)? {
            self.request(client, Args::new(&request, ranges), out);
        }
        Ok(())
    }

    /// Runs one request, and mutes its reply if the client asked for that.
    fn request(&mut self, client: &mut Client, args: Args<'_>, out: &mut Out) {
        if args.len() == 0 {
            return;
        }
        if args.is(0, "post") || args.is(0, "host:") {
            // A browser was made to send this: it gets nothing, as from Redis.
            out.bytes.clear();
            client.closing = true;
            return;
        }
        let start = out.bytes.len();
        out.kept.clear();
        self.commands_run += 1;
        self.store.select(client.db);
        if let Err(fault) = self.dispatch(client, args, out) {
            out.bytes.truncate(start);
            out.fault(&fault);
        }
        if client.is_muted() {
            out.mute(start);
            if let Some(wait) = &mut client.wait {
                wait.muted = true;
            }
        }
        if self.store.changes.take_flushed() {
            self.tell_flushed(client.id, out);
        }
        self.serve_waiting();
    }

    /// Finds the command, checks what Redis checks before it runs, and runs or queues it.
    fn dispatch(&mut self, client: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
        let claim = match self.table.find(args) {
            Ok(claim) => claim,
            Err(unknown) => {
                client.abort_transaction();
                errors::unknown(&mut out.bytes, unknown, args.len(), |at| args.at(at));
                return Ok(());
            }
        };
        let name = claim.spec.name;
        if let Some(fault) = self.refusal(client, claim, args, out.proto) {
            if name == "exec" {
                return transaction::abort(self, client, &fault);
            }
            client.abort_transaction();
            return Err(fault);
        }
        client.last_command = name;
        if client.queue.is_some() && !matches!(claim.run(), Run::Now(_)) {
            transaction::queue(self, client, claim, args);
            out.simple("QUEUED");
            return Ok(());
        }
        self.run(client, claim, args, out)
    }

    /// Why this command may not run now.
    fn refusal(
        &self,
        client: &Client,
        claim: Claim,
        args: Args<'_>,
        proto: Proto,
    ) -> Option<Fault> {
        let name = claim.spec.name;
        if !claim.accepts(args.len()) {
            return Some(Fault::arity(name));
        }
        let short = self.max_memory > 0 && self.store.used() > self.max_memory;
        // What is queued takes memory, whatever it is.
        let needs_memory = match (&client.queue, name) {
            (None, _) => claim.deny_oom(),
            (Some(queue), "exec") => queue.deny_oom,
            (Some(_), "discard" | "quit" | "reset") => false,
            (Some(_), _) => true,
        };
        if short && needs_memory {
            return Some(OUT_OF_MEMORY);
        }
        // In RESP2 a subscriber could not tell replies from messages.
        let deaf = proto == Proto::Resp2 && client.subscriptions.is_any();
        let heard = ["ping", "quit", "reset"].contains(&name) || name.ends_with("subscribe");
        if deaf && !heard {
            return Some(Fault::owned(format!(
                "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT \
                 / RESET are allowed in this context"
            )));
        }
        let queued = client.queue.as_ref().map_or(&[][..], |queue| &queue.replaced);
        let stand_in = self.stand_in.as_ref()?;
        stand_in.refusal(&self.store, client.db, claim.spec, args, queued)
    }

    pub(super) fn run(
        &mut self,
        client: &mut Client,
        claim: Claim,
        args: Args<'_>,
        out: &mut Out,
    ) -> Done {
        stand_in::note_deleted(&mut self.store, claim.spec, args);
        match claim.run() {
            Run::Store(run) => run(&mut self.store, args, out),
            Run::Core(run) | Run::Now(run) => run(self, client, args, out),
            // A container without a subcommand fails its arity.
            Run::Container => Err(Fault::arity(claim.spec.name)),
        }
    }

    /// Deletes keys whose time is over, and tells of it.
    pub(super) fn tick(&mut self) {
        self.store.now = read_clock(self.clock);
        self.store.expire_due(EXPIRED_PER_TICK);
        self.end_overdue();
        self.resume();
        self.tell();
    }

    /// Tells followers which keys changed in this batch.
    fn tell(&mut self) {
        if !self.store.changes.tracked {
            return;
        }
        let keys = self.store.changes.take_keys();
        for (push, followers) in self.tracking.pushes(&keys) {
            for id in followers {
                if let Some(client) = self.clients.get_mut(id)
                    && client.out.proto == Proto::Resp3
                {
                    client.out.bytes.extend_from_slice(&push);
                    self.told.insert(*id);
                }
            }
        }
    }

    /// Tells followers that everything is gone; the running client's output is `out`.
    fn tell_flushed(&mut self, running: u64, out: &mut Out) {
        for id in self.tracking.clients() {
            if id == running {
                tracking::push_flushed(out);
            } else if let Some(client) = self.clients.get_mut(&id) {
                tracking::push_flushed(&mut client.out);
                self.told.insert(id);
            }
        }
    }
}

fn read_clock(clock: fn() -> u64) -> i64 {
    i64::try_from(clock()).unwrap_or(i64::MAX / 2)
}
