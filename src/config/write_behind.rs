//! `[write_behind]`: writes that are acknowledged before upstream has them, where a rule says so.

use crate::config::check::{Notes, span};
use crate::config::key::{Applies, BuiltIn, Key, Kind};
use crate::config::table::{built_in, name, table};
use crate::config::{Ack, AuthMode, FallbackWrites, Level, Settings, WriteBehind};
use crate::units::duration::Span;
use crate::units::size::Size;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

table! {
    /// Writes that are acknowledged before upstream has them.
    "write_behind." WriteBehindKeys {
        /// The folder of their log, for one process; without it (or `ack = "memory"`) there is no
        /// write-behind.
        directory: PathBuf = (), Restart;
        /// What such a write has outlived when it is acknowledged: `"fsync"`: the end of the
        /// machine, it is on the disk; `"os"`: the end of the process; `"memory"`: nothing, there
        /// is no log.
        ack: Ack = "fsync", Restart;
        /// Whether it is understood that with `ack = "memory"` the writes that wait are lost with
        /// the process.
        accept_data_loss: bool = false, Restart;
        /// How long the first write waits for others to be sent with it; of several that set the
        /// same key the last is sent. Who needs a key that waits is not kept waiting for it.
        flush_interval: Span = "10ms", Now;
        /// What may wait at most; beyond it writes are made upstream at once.
        max_bytes: Size = "64mb", Now;
        /// Whether DEL, UNLINK, HSET, EXPIREAT and PEXPIREAT are written behind, too, and told that
        /// they changed all they name: what was there only upstream knows.
        assume_replies: bool = false, Now;
    }
}

pub(super) fn write_behind(written: &WriteBehindKeys, notes: &mut Notes) -> WriteBehind {
    let settings = WriteBehind {
        directory: written.directory.clone(),
        ack: written.ack.unwrap_or(Ack::Fsync),
        accept_data_loss: written.accept_data_loss.unwrap_or(false),
        flush_interval: span(written.flush_interval, Duration::from_millis(10)),
        max_bytes: written.max_bytes.unwrap_or(Size(64 << 20)).as_usize(),
        assume_replies: written.assume_replies.unwrap_or(false),
    };
    if settings.ack == Ack::Memory && !settings.accept_data_loss {
        notes.fault(
            "write_behind.ack: \"memory\" tells clients that a write was made which only this \
             process's memory holds: it is lost when the process ends before upstream has it. If \
             that is meant, say so: accept_data_loss = true",
        );
    }
    if settings.ack == Ack::Memory && settings.directory.is_some() {
        notes.warn("write_behind.directory has no effect: with ack = \"memory\" there is no log");
    }
    settings
}

/// What can only be seen of the whole.
pub(super) fn check(settings: &Settings, notes: &mut Notes) {
    for (index, rule) in settings.rules.iter().enumerate().filter(|(_, rule)| rule.write_behind) {
        let name = format!("rules[{index}].write_behind");
        if rule.level != Level::Relaxed {
            notes.fault(format!(
                "{name}: others who read upstream see such writes late, so no level but \
                 \"relaxed\" holds: set level = \"relaxed\""
            ));
        }
        if !rule.fill_lease.is_zero() {
            notes.fault(format!(
                "{name}: not with fill_lease, which voids leases upstream before each write"
            ));
        }
        if !settings.write_behind.is_on() {
            notes.fault(format!(
                "{name}: where are writes to wait? Set write_behind.directory, or write_behind.ack \
                 = \"memory\""
            ));
        }
    }
    if settings.write_behind.is_on() {
        check_company(settings, notes);
    }
}

/// What it does not go with.
fn check_company(settings: &Settings, notes: &mut Notes) {
    if settings.auth.mode == AuthMode::Passthrough {
        notes.fault(
            "write_behind: with auth.mode = \"passthrough\" upstream alone knows who may write \
             what, and would be asked too late: choose one of them",
        );
    }
    if settings.fallback.enabled && settings.fallback.writes == FallbackWrites::Memory {
        notes.fault(
            "write_behind: not with fallback.writes = \"memory\": a write would wait for upstream \
             in two places, in no order",
        );
    }
    if settings.server.handover.is_some() {
        notes.fault(
            "write_behind: not with server.handover: the process that takes this one's place \
             would write before what waits here is upstream",
        );
    }
}
