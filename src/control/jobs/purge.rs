//! Deletes keys upstream: those that an order names under the key version in force, or everything
//! of another version. SCAN and UNLINK, page by page, in every database that has keys.
//!
//! What is deleted is forgotten here, too, whatever became of the request. Keys that are written
//! while it runs may stay: a SCAN promises no more.

use super::line::{Line, LineError};
use super::pace::Pace;
use super::{Count, Running, Stopped, Tools};
use crate::cache::Banned;
use crate::keys::{Names, Prefix, ROOT, glob};
use crate::units::rate::Rate;
use crate::wire::reply;
use std::fmt;

/// Keys of one UNLINK at most.
const PART: usize = 100;

/// What is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// These keys of clients.
    Keys(Vec<Vec<u8>>),
    /// The keys of clients that are meant by this.
    Banned(Banned),
    /// The keys of clients that are meant by any of these.
    Group {
        /// What they are called.
        name: String,
        /// These.
        bans: Vec<Banned>,
    },
    /// Every key behind the prefix of another key version.
    Version(Prefix),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(keys) => write!(f, "{} keys", keys.len()),
            Self::Banned(Banned::Namespace(name)) => {
                write!(f, "namespace {}", name.escape_ascii())
            }
            Self::Banned(Banned::Pattern(pattern)) => {
                write!(f, "pattern {}", pattern.escape_ascii())
            }
            Self::Group { name, .. } => write!(f, "group {name}"),
            Self::Version(prefix) => write!(f, "version {}*", prefix.as_bytes().escape_ascii()),
        }
    }
}

impl Target {
    /// True if it means the key of this name.
    fn covers(&self, name: &[u8], names: &Names) -> bool {
        let key = names.strip(name);
        let is = |meant: &dyn Fn(&[u8]) -> bool| key.is_some_and(meant);
        match self {
            Self::Keys(keys) => is(&|key| keys.iter().any(|own| own == key)),
            Self::Banned(banned) => is(&|key| banned.covers(key)),
            Self::Group { bans, .. } => is(&|key| bans.iter().any(|banned| banned.covers(key))),
            // A key that clients see may begin like that, if it is excluded.
            Self::Version(prefix) => key.is_none() && prefix.strip(name).is_some(),
        }
    }
}

/// How.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What.
    pub target: Target,
    /// Only count.
    pub dry_run: bool,
    /// Keys per second; 0: as fast as it goes.
    pub rate: u64,
    /// No more than so many.
    pub max_keys: Option<u64>,
}

/// Carries a plan out.
pub async fn run(tools: &Tools, plan: Plan, job: Running) {
    let result = match tools.open().await {
        Ok(line) => Purge::new(tools, line, &plan).run(&plan.target, &job).await,
        Err(error) => Err(error.into()),
    };
    job.end(result);
}

struct Purge<'t> {
    tools: &'t Tools,
    line: Line,
    /// How the keys of clients are named.
    names: Names,
    pace: Pace,
    left: u64,
    /// UNLINK, or DEL where the server does not know it.
    verb: &'static [u8],
    dry_run: bool,
    /// The other version that is purged: no key that clients see may be deleted.
    other_version: Option<Prefix>,
}

impl<'t> Purge<'t> {
    fn new(tools: &'t Tools, line: Line, plan: &Plan) -> Self {
        let other_version = match &plan.target {
            Target::Version(prefix) => Some(prefix.clone()),
            Target::Keys(_) | Target::Banned(_) | Target::Group { .. } => None,
        };
        let (pace, left) =
            (Pace::new(Rate::of_second(plan.rate)), plan.max_keys.unwrap_or(u64::MAX));
        let (verb, dry_run) = (b"UNLINK", plan.dry_run);
        let names = (tools.names)();
        Self { tools, line, names, pace, left, verb, dry_run, other_version }
    }

    async fn run(mut self, target: &Target, job: &Running) -> Result<(), Stopped> {
        let databases = self.line.databases().await?;
        let count = databases.len();
        if let Target::Keys(keys) = target {
            job.set_total((keys.len() * count) as u64);
        }
        for (place, (database, _)) in databases.into_iter().enumerate() {
            self.line.select(database).await?;
            if let Target::Keys(keys) = target {
                let keys: Vec<Vec<u8>> = keys.iter().map(|key| self.names.name(key)).collect();
                self.delete(&keys, job).await?;
            } else {
                self.scan(target, job, |within| job.set_share(place, count, within)).await?;
            }
        }
        Ok(())
    }

    /// Deletes what is meant of one database.
    async fn scan(
        &mut self,
        target: &Target,
        job: &Running,
        share: impl Fn(u64),
    ) -> Result<(), Stopped> {
        let pattern = pattern(&self.names, target);
        let mut cursor = Some(Line::start());
        while let (Some(at), true) = (cursor, self.left > 0) {
            job.check()?;
            self.check_version()?;
            let mut page = self.line.page(&at, &pattern).await?;
            // Whatever the server makes of the pattern: nobody else's key is ever deleted.
            page.keys.retain(|name| target.covers(name, &self.names));
            self.delete(&page.keys, job).await?;
            share(page.share());
            cursor = page.next;
        }
        Ok(())
    }

    async fn delete(&mut self, keys: &[Vec<u8>], job: &Running) -> Result<(), Stopped> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(keys.len());
        for part in keys.get(..most).unwrap_or_default().chunks(self.pace.part(PART)) {
            self.pace.pass(part.len(), job).await?;
            self.check_version()?;
            let found = if self.dry_run {
                count(&mut self.line, b"EXISTS", part).await?
            } else {
                let deleted = self.unlink(part).await;
                // Also if nobody knows what became of it.
                for key in part {
                    self.tools.forget(key);
                }
                let deleted = deleted?;
                job.add(Count::Deleted, deleted);
                deleted
            };
            job.add(Count::Matched, found);
            job.add_done(part.len() as u64);
            self.left = self.left.saturating_sub(found);
        }
        Ok(())
    }

    /// The version that is purged may be put in force meanwhile.
    fn check_version(&self) -> Result<(), Stopped> {
        let is_seen = |purged| is_in_force(purged, &(self.tools.names)());
        let why = "this version is in force now: the rest of its keys stays";
        match &self.other_version {
            Some(purged) if is_seen(purged) => Err(Stopped::Failed(why.to_owned())),
            _ => Ok(()),
        }
    }

    async fn unlink(&mut self, keys: &[Vec<u8>]) -> Result<u64, LineError> {
        match count(&mut self.line, self.verb, keys).await {
            Err(LineError::Refused { answer, .. })
                if self.verb == b"UNLINK" && answer.starts_with("ERR unknown command") =>
            {
                self.verb = b"DEL";
                count(&mut self.line, self.verb, keys).await
            }
            counted => counted,
        }
    }
}

/// Asks a command that answers how many of the keys it concerned.
async fn count(line: &mut Line, verb: &'static [u8], keys: &[Vec<u8>]) -> Result<u64, LineError> {
    let words: Vec<&[u8]> = std::iter::once(verb).chain(keys.iter().map(Vec::as_slice)).collect();
    let answer = line.ask(&words).await?;
    let counted = reply::integer(&answer).and_then(|count| u64::try_from(count).ok());
    let name = std::str::from_utf8(verb).unwrap_or_default();
    counted.ok_or_else(|| LineError::refused(name, &answer))
}

/// True if keys behind `purged` are such that clients see, or the other way round. (Keys without a
/// prefix do not count: where others have one, they are told apart one by one.)
pub fn is_in_force(purged: &Prefix, names: &Names) -> bool {
    let purged = purged.as_bytes();
    let mut current = names.prefixes().iter().map(Prefix::as_bytes);
    current.any(|current| !current.is_empty() && is_within(purged, current))
}

fn is_within(one: &[u8], other: &[u8]) -> bool {
    other.starts_with(one) || one.starts_with(other)
}

/// All keys behind a prefix.
pub(super) fn all(prefix: &Prefix) -> Vec<u8> {
    [prefix.as_bytes(), b"*"].concat()
}

/// What upstream is asked for; it may match more than is meant, never less.
fn pattern(names: &Names, target: &Target) -> Vec<u8> {
    match target {
        Target::Banned(Banned::Namespace(name)) if **name != *ROOT => {
            let mut pattern = Vec::new();
            glob::escape(name, &mut pattern);
            pattern.extend_from_slice(b":*");
            names.pattern(&pattern)
        }
        Target::Banned(Banned::Pattern(glob)) => names.pattern(glob),
        Target::Version(prefix) => all(prefix),
        Target::Keys(_) | Target::Banned(_) | Target::Group { .. } => names.pattern(b"*"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Banned, Names, Prefix, Target, glob, is_in_force, pattern};

    fn prefix(version: &str, separator: &str) -> Prefix {
        Prefix::new("", version, separator).unwrap()
    }

    /// A namespace is literal, a pattern is not, and the prefix always is.
    #[test]
    fn upstream_is_asked_for_what_is_meant() {
        let v1 = Names::new(prefix("v1", ":"), [], []);
        let none = Names::default();
        for (prefix, banned, wanted) in [
            (&v1, Banned::Namespace((*b"orders").into()), &b"v1:orders:*"[..]),
            (&v1, Banned::Namespace((*b"o*[1]").into()), b"v1:o\\*\\[1\\]:*"),
            (&v1, Banned::Namespace((*b"_root").into()), b"v1:*"),
            (&none, Banned::Namespace((*b"_root").into()), b"*"),
            (&v1, Banned::Pattern((*b"o?:[12]").into()), b"v1:o?:[12]"),
            (&none, Banned::Pattern((*b"*:1").into()), b"*:1"),
        ] {
            let asked = pattern(prefix, &Target::Banned(banned));
            assert_eq!(asked, wanted, "{}", asked.escape_ascii());
        }
        let odd = Target::Banned(Banned::Namespace((*b"o*[1]").into()));
        assert!(glob::matches(&pattern(&v1, &odd), b"v1:o*[1]:7"));
        assert_eq!(pattern(&none, &Target::Version(prefix("v1", ":"))), b"v1:*");
    }

    #[test]
    fn what_clients_see_is_no_other_version() {
        for (purged, current, is_seen) in [
            (prefix("v1", ":"), prefix("v1", ":"), true),
            (prefix("v1", ":"), prefix("v2", ":"), false),
            (prefix("v1", ":"), prefix("v10", ":"), false),
            // `v1:::a` begins with `v1::`.
            (prefix("v1", "::"), prefix("v1:", "::"), true),
            (prefix("v1:", "::"), prefix("v1", "::"), true),
        ] {
            let names = Names::new(current, [], []);
            assert_eq!(is_in_force(&purged, &names), is_seen, "{purged:?} {names:?}");
        }
        let globs = ["sub:*".to_owned()];
        let rules = [(globs.as_slice(), Some(prefix("v3", ":")))];
        let names = Names::new(prefix("v1", ":"), ["v2:shared"], rules);
        for (version, is_seen) in [("v1", true), ("v2", false), ("v3", true)] {
            assert_eq!(is_in_force(&prefix(version, ":"), &names), is_seen, "{version}");
        }
        let purged = Target::Version(prefix("v2", ":"));
        assert!(purged.covers(b"v2:a", &names) && !purged.covers(b"v2:shared", &names));
        assert!(!purged.covers(b"v1:a", &names));
    }
}
