//! Hears of changed rights (`auth.mode = "passthrough"`): servers tell nobody, so they are asked.
//!
//! ```text
//!   each `auth.acl_poll`   ACL LIST on a connection of nearside's own --> is it as it was?
//!     another, or no answer at the second attempt   everything cached is forgotten at once, fills
//!                                                   on their way are refused (Cache::clear), and
//!                                                   upstream is asked for each login anew
//!     not permitted, or there are no users          entries live for `auth.acl_proof_ttl` at most
//! ```
//!
//! In: settings, upstream's answers. Out: clears. Invariant: nobody is served a key that it could
//! not read at some moment within the last `auth.acl_poll` and one round trip. So polls begin by
//! the clock, whatever they take, and one that takes as long as their period has failed.

use crate::cache::Cache;
use crate::config::AuthMode;
use crate::control::jobs::line::{Line, LineError};
use crate::live::Live;
use crate::net::dialer::Dialer;
use crate::snapshot::{Snapshot, Snapshots};
use crate::stats::{Block, Counter};
use aws_lc_rs::digest::{Digest, SHA256, digest};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

/// What it takes to hear of changed rights, and to act on it.
pub struct Polls {
    /// How upstream is asked.
    pub dialer: Arc<Dialer>,
    /// Where it is said how often.
    pub snapshots: Arc<Snapshots>,
    /// What is forgotten.
    pub cache: Arc<Cache>,
    /// Where it is said how long entries live.
    pub live: Arc<Live>,
    /// Where it is counted what came of it.
    pub block: Arc<Block>,
    /// Has upstream asked for each login anew.
    pub doubt: Box<dyn Fn() + Send>,
}

impl fmt::Debug for Polls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polls").finish_non_exhaustive()
    }
}

/// What is known of the rights upstream.
enum Known {
    /// Nothing.
    Nothing,
    /// They were these, by their hash: passwords are among them.
    Rights(Digest),
    /// It may not be asked for.
    Denied,
}

/// By the clock; what was missed (a machine that slept) is not made up for.
fn turns(period: Duration) -> Interval {
    let mut turns = interval(period);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}

impl Polls {
    /// Asks for as long as the process lives, while clients ride on their own credentials.
    pub async fn run(self) {
        loop {
            let snapshot = self.snapshots.newest();
            if snapshot.limits.auth.mode == AuthMode::Passthrough {
                self.poll().await;
                self.live.set_proof_ttl(None);
            } else {
                self.snapshots.newer(snapshot.number).await;
            }
        }
    }

    /// Asks until clients do not ride on their own credentials any more.
    async fn poll(&self) {
        let (mut line, mut known) = (None, Known::Nothing);
        let mut turns = turns(self.snapshots.newest().limits.auth.acl_poll);
        loop {
            turns.tick().await;
            let snapshot = self.snapshots.newest();
            if snapshot.limits.auth.mode != AuthMode::Passthrough {
                return;
            }
            let period = snapshot.limits.auth.acl_poll;
            if period != turns.period() {
                turns = self::turns(period);
                turns.tick().await;
            }
            let asking = async {
                match self.ask(&mut line, period).await {
                    // The connection may have been closed long ago.
                    Err(_) => self.ask(&mut line, period).await,
                    answer => answer,
                }
            };
            let answer = timeout(period, asking).await.unwrap_or(Err(LineError::Silent(period)));
            let (rights, outcome) = self.compare(&known, answer, &snapshot);
            known = rights;
            // What follows from it is done.
            self.block.add(outcome, 1);
        }
    }

    async fn ask(&self, line: &mut Option<Line>, period: Duration) -> Result<Vec<u8>, LineError> {
        let mut open = match line.take() {
            Some(open) => open,
            None => Line::open(&self.dialer, period).await?,
        };
        let answer = open.ask(&[b"ACL", b"LIST"]).await?;
        // A server that is busy or loading has not said what it will say of it.
        if answer.starts_with(b"-BUSY") || answer.starts_with(b"-LOADING") {
            return Err(LineError::refused("ACL LIST", &answer));
        }
        *line = Some(open);
        Ok(answer)
    }

    fn compare(
        &self,
        known: &Known,
        answer: Result<Vec<u8>, LineError>,
        snapshot: &Snapshot,
    ) -> (Known, Counter) {
        let proof = snapshot.limits.auth.acl_proof_ttl;
        match answer {
            Ok(list) if list.starts_with(b"*") => {
                let rights = digest(&SHA256, &list);
                let is_same =
                    matches!(known, Known::Rights(before) if before.as_ref() == rights.as_ref());
                if !is_same {
                    if matches!(known, Known::Rights(_)) {
                        tracing::info!(
                            event = "acl_changed",
                            "users' rights upstream have changed: all that was cached is forgotten"
                        );
                    }
                    self.live.set_proof_ttl(None);
                    self.forget();
                }
                (
                    Known::Rights(rights),
                    if is_same { Counter::AclSame } else { Counter::AclChanged },
                )
            }
            Ok(refusal) => {
                self.live.set_proof_ttl(Some(proof));
                if !matches!(known, Known::Denied) {
                    tracing::warn!(
                        event = "acl_unheard",
                        "upstream answers ACL LIST with \"{}\": cached replies live for \
                         auth.acl_proof_ttl at most (nearside's user needs +acl|list)",
                        refusal.trim_ascii().escape_ascii()
                    );
                    self.forget();
                }
                (Known::Denied, Counter::AclDenied)
            }
            Err(error) => {
                tracing::debug!(error = %error, "ACL LIST has failed");
                self.live.set_proof_ttl(Some(proof));
                self.forget();
                (Known::Nothing, Counter::AclFailed)
            }
        }
    }

    fn forget(&self) {
        self.cache.clear();
        (self.doubt)();
    }
}
