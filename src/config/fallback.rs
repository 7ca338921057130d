//! `[fallback]`: what clients get while upstream is down, each part of it only if it is chosen.

use crate::config::check::{Notes, span};
use crate::config::key::{Applies, BuiltIn, Key, Kind};
use crate::config::table::{built_in, name, table};
use crate::config::{AuthMode, Fallback, FallbackReads, FallbackWrites, OnRecovery, Settings};
use crate::net::address::Address;
use crate::units::duration::Span;
use crate::units::size::Size;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

table! {
    /// What clients get while upstream is down.
    "fallback." FallbackKeys {
        /// Whether something stands in for an upstream that is down; else clients see what
        /// `upstream.on_down` says.
        enabled: bool = false, Now;
        /// How long upstream is down before that begins.
        after: Span = "2s", Now;
        /// What a read gets: `"stale"`: what the near-cache still holds, else an error; `"nil"`:
        /// the same, else what an empty Redis answers; `"error"`: an error.
        reads: FallbackReads = "stale", Now;
        /// How long past its time a reply is served then.
        max_stale: Span = "1h", Now;
        /// What becomes of writes: `"error"`: they are refused; `"memory"`: they are made in this
        /// process's memory, where this instance's clients read them.
        writes: FallbackWrites = "error", Now;
        /// Whether it is understood that writes which were acknowledged from memory are lost when
        /// this process ends before upstream is back, and that no other instance sees them.
        accept_data_loss: bool = false, Now;
        /// What such writes may hold at most; beyond it they are refused (`-OOM`).
        max_bytes: Size = "64mb", Now;
        /// What becomes of them when upstream is back: `"drop"`: they are forgotten; `"replay"`:
        /// they are made upstream, over whatever is there by then.
        on_recovery: OnRecovery = "drop", Now;
    }
}

/// A store that holds less refuses nearly everything.
const MAX_BYTES_MIN: usize = 1 << 20;

pub(super) fn fallback(written: &FallbackKeys, notes: &mut Notes) -> Fallback {
    let fallback = Fallback {
        enabled: written.enabled.unwrap_or(false),
        after: span(written.after, Duration::from_secs(2)),
        reads: written.reads.unwrap_or(FallbackReads::Stale),
        max_stale: span(written.max_stale, Duration::from_hours(1)),
        writes: written.writes.unwrap_or(FallbackWrites::Error),
        max_bytes: written.max_bytes.unwrap_or(Size(64 << 20)).as_usize(),
        on_recovery: written.on_recovery.unwrap_or(OnRecovery::Drop),
    };
    let takes_writes = fallback.writes == FallbackWrites::Memory;
    if takes_writes && written.accept_data_loss != Some(true) {
        notes.fault(
            "fallback.writes: \"memory\" tells clients that a write was made which only this \
             process's memory holds: it is lost when the process ends before upstream is back, no \
             other instance sees it, and on_recovery either forgets it or puts it over what others \
             wrote meanwhile. If that is meant, say so: accept_data_loss = true",
        );
    }
    if fallback.enabled && !takes_writes && fallback.reads == FallbackReads::Error {
        notes.fault(
            "fallback.enabled: reads and writes are both \"error\", so there is nothing to fall \
             back to: choose reads = \"stale\" or \"nil\", or writes = \"memory\"",
        );
    }
    if fallback.max_bytes < MAX_BYTES_MIN {
        notes.fault("fallback.max_bytes: at least 1mb; to take no writes use writes = \"error\"");
    }
    if fallback.on_recovery == OnRecovery::Replay && !takes_writes {
        notes.warn("fallback.on_recovery has no effect without fallback.writes = \"memory\"");
    }
    fallback
}

/// What can only be seen of the whole.
pub(super) fn check(settings: &Settings, notes: &mut Notes) {
    if !settings.fallback.enabled {
        return;
    }
    if settings.upstream.target.address == Address::Embedded {
        notes.warn("fallback.enabled has no effect: an embedded upstream is never down");
    }
    if settings.auth.mode == AuthMode::Passthrough {
        notes.fault(
            "fallback.enabled: with auth.mode = \"passthrough\" upstream alone knows who may do \
             what, and what stands in for it does not: choose one of them",
        );
    }
}
