//! Moves keys into a key version and out of it again, by RENAMENX in every database that has keys:
//! what an operator does once with the data that was there before nearside.
//!
//! ```text
//!   adopt   orders:42 -> v1:orders:42      every key that a pattern names and that has no prefix
//!                                          (nor is it excluded, nor has its rule another version)
//!   strip   v1:orders:42 -> orders:42
//! ```
//!
//! No key is overwritten: where the new name is another key's, both stay, and are counted. What has
//! moved is not looked at again, so a job that ended early is resumed by asking for it anew. A
//! lifetime moves with its key.

use super::line::{Line, LineError};
use super::pace::Pace;
use super::purge::all;
use super::{Count, Kind, Running, Stopped, Tools};
use crate::keys::{Names, Prefix, glob};
use crate::units::rate::Rate;
use crate::wire::reply;

/// Keys renamed at a time at most.
const PART: usize = 100;

/// What is to be moved.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The prefix of the version that keys are moved into, or out of.
    pub prefix: Prefix,
    /// Which: a glob on the name without prefix.
    pub pattern: Vec<u8>,
    /// Only count.
    pub dry_run: bool,
    /// Keys per second; 0: as fast as it goes.
    pub rate: u64,
}

/// Carries a plan out; whether it adopts or strips, its job's kind says.
pub async fn run(tools: &Tools, plan: Plan, job: Running) {
    let is_adopting = job.job().kind == Kind::Adopt;
    let mover = Mover { tools, pace: Pace::new(Rate::of_second(plan.rate)), is_adopting, plan };
    let result = mover.run(&job).await;
    job.end(result);
}

struct Mover<'t> {
    tools: &'t Tools,
    pace: Pace,
    is_adopting: bool,
    plan: Plan,
}

impl Mover<'_> {
    async fn run(mut self, job: &Running) -> Result<(), Stopped> {
        let mut line = self.tools.open().await?;
        let databases = line.databases().await?;
        let count = databases.len();
        for (place, (database, _)) in databases.into_iter().enumerate() {
            line.select(database).await?;
            let mut cursor = Some(Line::start());
            while let Some(at) = cursor {
                job.check()?;
                let page = line.page(&at, &self.scanned()).await?;
                let share = page.share();
                let names = (self.tools.names)();
                let moves: Vec<Move> =
                    page.keys.into_iter().filter_map(|key| self.plan_of(key, &names)).collect();
                for part in moves.chunks(self.pace.part(PART)) {
                    self.pace.pass(part.len(), job).await?;
                    self.rename(&mut line, part, job).await?;
                }
                job.set_share(place, count, share);
                cursor = page.next;
            }
        }
        Ok(())
    }

    /// What upstream is asked for.
    fn scanned(&self) -> Vec<u8> {
        if self.is_adopting { self.plan.pattern.clone() } else { all(&self.plan.prefix) }
    }

    /// Where a key goes; `None` if it is not to be moved.
    fn plan_of(&self, old: Vec<u8>, names: &Names) -> Option<Move> {
        let prefix = &self.plan.prefix;
        let others = || names.prefixes().iter().filter(|other| !other.is_empty());
        let has_prefix = |key: &[u8]| {
            prefix.strip(key).is_some() || others().any(|other| other.strip(key).is_some())
        };
        // Into a version in force only what is looked for there; and what is shared stays.
        let belongs = |key: &[u8]| {
            let is_in_force = others().any(|other| other == prefix);
            !names.is_excluded(key) && (!is_in_force || names.of(key) == prefix)
        };
        let new = if self.is_adopting {
            let is_version =
                self.tools.version_key.as_ref().is_some_and(|key| key.as_bytes() == old);
            (!has_prefix(&old) && !is_version && belongs(&old))
                .then(|| [prefix.as_bytes(), &old].concat())?
        } else {
            // Behind a second prefix is a key that would be taken for one of a version again.
            prefix.strip(&old).filter(|key| !has_prefix(key))?.to_vec()
        };
        let name = if self.is_adopting { &old } else { &new };
        glob::matches(&self.plan.pattern, name).then_some(Move { old, new })
    }

    async fn rename(&self, line: &mut Line, part: &[Move], job: &Running) -> Result<(), Stopped> {
        for Move { old, new } in part {
            if self.plan.dry_run {
                line.write(&[b"EXISTS", new]);
            } else {
                line.write(&[b"RENAMENX", old, new]);
            }
        }
        let (mut moved, mut exists, mut gone, mut refused) = (0, 0, 0, None);
        let heard = line
            .exchange(|answer| match (reply::integer(answer), self.plan.dry_run) {
                (Some(0), false) | (Some(1), true) => exists += 1,
                (Some(1), false) => moved += 1,
                (Some(_), _) => {}
                (None, _) if answer.starts_with(b"-ERR no such key") => gone += 1,
                (None, _) => {
                    refused.get_or_insert_with(|| LineError::refused("RENAMENX", answer));
                    job.add_errors(1);
                }
            })
            .await;
        if !self.plan.dry_run {
            // Also if nobody knows what became of it.
            for name in part.iter().flat_map(|planned| [&planned.old, &planned.new]) {
                self.tools.forget(name);
            }
        }
        job.add(Count::Matched, part.len() as u64);
        job.add(Count::Moved, moved);
        job.add(Count::Exists, exists);
        job.add(Count::Gone, gone);
        job.add_done(part.len() as u64);
        heard?;
        refused.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// A key's name and its new one.
struct Move {
    old: Vec<u8>,
    new: Vec<u8>,
}
