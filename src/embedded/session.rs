//! One connection: what is remembered of it, and the commands that change that.

use super::args::Args;
use super::blocking::Wait;
use super::core::Core;
use super::keyspace;
use super::pubsub::Subscriptions;
use super::reply::{Done, Fault, Out, SYNTAX};
use super::transaction::Queue;
use crate::wire::number::parse_i64;
use crate::wire::request::{Arg, Scan};
use crate::wire::write::Proto;
use bytes::{Bytes, BytesMut};

/// The version whose behaviour this server has.
pub const VERSION: &str = "7.0.15";

const WRONG_PASSWORD: Fault =
    Fault::text("WRONGPASS invalid username-password pair or user is disabled.");

/// Which replies CLIENT REPLY lets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Replies {
    #[default]
    On,
    Off,
    /// The next command's reply is not sent.
    SkipNext,
    /// This command's reply is not sent.
    Skip,
}

/// A connection's state.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) name: Bytes,
    pub(super) db: usize,
    pub(super) replies: Replies,
    /// Commands queued since MULTI.
    pub(super) queue: Option<Queue>,
    /// EXEC runs: nothing blocks.
    pub(super) executing: bool,
    /// What it waits for; until it has it, its requests stay in `input`.
    pub(super) wait: Option<Wait>,
    pub(super) subscriptions: Subscriptions,
    pub(super) no_evict: bool,
    /// Close it when its output is written.
    pub(super) closing: bool,
    pub(super) created: i64,
    pub(super) seen: i64,
    pub(super) last_command: &'static str,
    pub(super) input: BytesMut,
    pub(super) scan: Scan,
    pub(super) ranges: Vec<Arg>,
    pub(super) out: Out,
}

impl Client {
    pub(super) fn new(id: u64, now: i64) -> Self {
        Self {
            id,
            name: Bytes::new(),
            db: 0,
            replies: Replies::On,
            queue: None,
            executing: false,
            wait: None,
            subscriptions: Subscriptions::default(),
            no_evict: false,
            closing: false,
            created: now,
            seen: now,
            last_command: "NULL",
            input: BytesMut::new(),
            scan: Scan::default(),
            ranges: Vec::new(),
            out: Out::default(),
        }
    }

    /// A command was refused before it could be queued: EXEC will fail.
    pub(super) fn abort_transaction(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.aborted = true;
        }
    }

    /// Must the reply of the command that just ran be dropped? Moves on to the next command.
    pub(super) fn is_muted(&mut self) -> bool {
        let muted = self.replies != Replies::On;
        self.replies = match self.replies {
            Replies::SkipNext => Replies::Skip,
            Replies::Skip => Replies::On,
            other => other,
        };
        muted
    }

    /// Sets the name; an empty one takes it away.
    pub(super) fn set_name(&mut self, name: &[u8]) -> Done {
        if !name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
            return Err(Fault::text(
                "ERR Client names cannot contain spaces, newlines or special characters.",
            ));
        }
        self.name = Bytes::copy_from_slice(name);
        Ok(())
    }
}

/// There is one user, `default`, and it has no password.
pub(super) fn auth(_: &mut Core, _: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    match args.len() {
        2 => Err(Fault::text(
            "ERR AUTH <password> called without any password configured for the default user. Are \
             you sure your configuration is correct?",
        )),
        3 if args.at(1) == b"default" => {
            out.ok();
            Ok(())
        }
        3 => Err(WRONG_PASSWORD),
        _ => Err(SYNTAX),
    }
}

pub(super) fn hello(_: &mut Core, client: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    const NOT_A_VERSION: Fault =
        Fault::text("ERR Protocol version is not an integer or out of range");
    let proto = match args.len() {
        1 => out.proto,
        _ => match parse_i64(args.at(1)).ok_or(NOT_A_VERSION)? {
            2 => Proto::Resp2,
            3 => Proto::Resp3,
            _ => return Err(Fault::text("NOPROTO unsupported protocol version")),
        },
    };
    let mut at = 2;
    while at < args.len() {
        let more = args.len() - at - 1;
        if args.is(at, "auth") && more >= 2 {
            if args.at(at + 1) != b"default" {
                return Err(WRONG_PASSWORD);
            }
            at += 3;
        } else if args.is(at, "setname") && more >= 1 {
            client.set_name(args.at(at + 1))?;
            at += 2;
        } else {
            let text = [b"ERR Syntax error in HELLO option '", args.at(at), b"'"].concat();
            return Err(Fault::owned(text));
        }
    }
    out.proto = proto;
    out.map(7);
    for (name, value) in [("server", "redis"), ("version", VERSION)] {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"proto");
    out.integer(if proto == Proto::Resp3 { 3 } else { 2 });
    out.bulk(b"id");
    out.integer(i64::try_from(client.id).unwrap_or(i64::MAX));
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"modules");
    out.array(0);
    Ok(())
}

pub(super) fn ping(_: &mut Core, client: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    match args.len() {
        1 | 2 if out.proto == Proto::Resp2 && client.subscriptions.is_any() => {
            // Among messages the reply must look like one.
            out.array(2);
            out.bulk(b"pong");
            out.bulk(args.at(1));
        }
        1 => out.simple("PONG"),
        2 => out.bulk(args.at(1)),
        _ => return Err(Fault::arity("ping")),
    }
    Ok(())
}

pub(super) fn echo(_: &mut Core, _: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    out.bulk(args.at(1));
    Ok(())
}

pub(super) fn select(core: &mut Core, client: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    client.db = keyspace::database(args, 1)?;
    // Inside EXEC the commands that follow see it, too.
    core.store.select(client.db);
    out.ok();
    Ok(())
}

pub(super) fn quit(_: &mut Core, client: &mut Client, _: Args<'_>, out: &mut Out) -> Done {
    client.closing = true;
    out.ok();
    Ok(())
}

pub(super) fn reset(core: &mut Core, client: &mut Client, _: Args<'_>, out: &mut Out) -> Done {
    core.stop_tracking(client.id);
    core.pubsub.forget(client);
    core.store.changes.unwatch(client.id);
    client.queue = None;
    client.db = 0;
    client.name = Bytes::new();
    client.replies = Replies::On;
    out.proto = Proto::Resp2;
    out.simple("RESET");
    Ok(())
}
