//! Orders: what is to be forgotten because somebody says so, who is neither the server nor a
//! client that writes (R15): an operator over HTTP, an application or a peer on the channel.
//!
//! An order is in force when [`Orders::carry_out`] returns. How many keys it has removed is known
//! at once for keys, and when the next sweep is through for namespaces and patterns.

use crate::cache::{Ban, Banned, Cache, Source, Strength};
use crate::config::Groups;
use crate::config::invalidation::TEXT_MAX;
use crate::control::invalidate::history::History;
use crate::control::office::Sweeper;
use crate::keys::glob;
use crate::snapshot::Snapshots;
use crate::stats::{Block, Counter};
use crate::units::clock::Clock;
use std::fmt;
use std::sync::Arc;

/// What is to be forgotten. Keys are the client's: without version prefix, in every database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// These keys.
    Keys(Vec<Vec<u8>>),
    /// All keys whose first segment is this.
    Namespace(Vec<u8>),
    /// All keys that this glob matches.
    Pattern(Vec<u8>),
    /// All keys that any of several globs matches.
    Several(Several),
    /// Everything.
    All,
}

/// Globs that are forgotten together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Several {
    /// Why.
    pub of: Of,
    /// The group's name, or the event's channel.
    pub name: String,
    /// The globs.
    pub patterns: Vec<Vec<u8>>,
}

/// What has several globs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// One of `invalidation.groups`.
    Group,
    /// One of `[[invalidation.events]]` that has come.
    Event,
}

impl Of {
    /// The word of logs and of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Event => "event",
        }
    }
}

/// A group that nobody has configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no group `{name}`: {}", listed(.known))]
pub struct UnknownGroup {
    name: String,
    known: Vec<String>,
}

fn listed(groups: &[String]) -> String {
    if groups.is_empty() {
        return "invalidation.groups has none".to_owned();
    }
    format!("invalidation.groups has {}", groups.join(", "))
}

/// Why an order cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It would mean nothing.
    #[error("is empty: it would mean no key")]
    Empty,
    /// It would cost too much.
    #[error("is longer than {TEXT_MAX} bytes")]
    TooLong,
    /// It would be the end of another segment.
    #[error("holds a `:`: a namespace is what stands before the first one")]
    Separator,
}

impl Order {
    /// All keys of a namespace.
    pub fn namespace(name: &[u8]) -> Result<Self, Invalid> {
        sound(name)?;
        if name.contains(&b':') {
            Err(Invalid::Separator)
        } else {
            Ok(Self::Namespace(name.into()))
        }
    }

    /// All keys that a glob matches.
    pub fn pattern(pattern: &[u8]) -> Result<Self, Invalid> {
        sound(pattern)?;
        Ok(Self::Pattern(pattern.into()))
    }

    /// All keys that the patterns of a group match.
    pub fn group(groups: &Groups, name: &str) -> Result<Self, UnknownGroup> {
        let unknown = || UnknownGroup {
            name: name.chars().take(64).collect(),
            known: groups.keys().cloned().collect(),
        };
        let patterns = groups.get(name).ok_or_else(unknown)?;
        let patterns = patterns.iter().map(|pattern| pattern.clone().into_bytes()).collect();
        Ok(Self::Several(Several { of: Of::Group, name: name.to_owned(), patterns }))
    }

    /// The keys it means, as bans; keys and everything need none.
    pub fn banned(&self) -> Vec<Banned> {
        let pattern = |pattern: &Vec<u8>| Banned::Pattern(pattern.as_slice().into());
        match self {
            Self::Namespace(name) => vec![Banned::Namespace(name.as_slice().into())],
            Self::Pattern(glob) => vec![pattern(glob)],
            Self::Several(several) => several.patterns.iter().map(pattern).collect(),
            Self::Keys(_) | Self::All => Vec::new(),
        }
    }
}

/// As it stands in the log. Keys are not named: that goes wherever logs go.
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(keys) => write!(f, "{} keys", keys.len()),
            Self::Namespace(name) => write!(f, "namespace {}", name.escape_ascii()),
            Self::Pattern(pattern) => write!(f, "pattern {}", pattern.escape_ascii()),
            Self::Several(several) => write!(f, "{} {}", several.of.as_str(), several.name),
            Self::All => f.write_str("everything"),
        }
    }
}

fn sound(text: &[u8]) -> Result<(), Invalid> {
    match text.len() {
        0 => Err(Invalid::Empty),
        length if length > TEXT_MAX => Err(Invalid::TooLong),
        _ => Ok(()),
    }
}

/// The only key that a pattern matches, if it is one.
fn literal(banned: &Banned) -> Option<Vec<u8>> {
    let Banned::Pattern(pattern) = banned else { return None };
    let (key, is_all) = glob::literal_prefix(pattern);
    is_all.then_some(key)
}

/// An order that is in force.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Keys that it has removed at once.
    pub(super) removed: u64,
    /// What these remove is being counted.
    pub(super) bans: Vec<Arc<Ban>>,
}

impl Done {
    /// Keys that it has removed so far: a namespace's and a pattern's are counted by the sweep.
    pub fn removed(&self) -> u64 {
        self.removed + self.bans.iter().map(|ban| ban.removed()).sum::<u64>()
    }
}

/// Carries orders out.
#[derive(Debug)]
pub struct Orders {
    /// What is invalidated.
    pub cache: Arc<Cache>,
    /// Counts what bans remove.
    pub sweeper: Sweeper,
    /// Time.
    pub clock: Clock,
    /// Where orders are counted; written by the main thread alone.
    pub block: Arc<Block>,
    /// The last ones.
    pub history: History,
    /// Where the settings in force are, with the names of groups.
    pub snapshots: Arc<Snapshots>,
}

impl Orders {
    /// All keys of a group, as it is configured now.
    pub fn group(&self, name: &str) -> Result<Order, UnknownGroup> {
        Order::group(&self.snapshots.newest().settings.invalidation.groups, name)
    }

    /// In force when this returns. `is_soft`: what rules keep past its time stays for that.
    pub fn carry_out(&self, order: &Order, source: Source, is_soft: bool) -> Done {
        let done = self.enforce(order, source, is_soft);
        self.history.note(order, source, is_soft, &done);
        done
    }

    fn enforce(&self, order: &Order, source: Source, is_soft: bool) -> Done {
        let strength = if is_soft { Strength::Soft(self.clock.now()) } else { Strength::Hard };
        let counter = match source {
            Source::Admin => Counter::InvalidationsAdmin,
            Source::Pubsub => Counter::InvalidationsPubsub,
        };
        self.block.add(counter, 1);
        let remove = |key: &[u8]| self.cache.invalidate_by(source, self.cache.hash(key), strength);
        match order {
            Order::Keys(keys) => {
                let removed = keys.iter().filter(|key| remove(key)).count() as u64;
                Done { removed, ..Done::default() }
            }
            Order::All if is_soft => {
                let all = vec![Banned::Pattern(b"*".as_slice().into())];
                Done { removed: 0, bans: self.cache.ban_all(all, source, strength) }
            }
            Order::All => {
                let held = self.cache.figures().entries;
                self.cache.clear();
                let flush = match source {
                    Source::Admin => Counter::FlushesAdmin,
                    Source::Pubsub => Counter::FlushesPubsub,
                };
                self.block.add(flush, 1);
                let reason = source.as_str();
                tracing::info!(event = "cache_flushed", reason, keys = held, "all is forgotten");
                Done { removed: held, ..Done::default() }
            }
            Order::Namespace(_) | Order::Pattern(_) | Order::Several(_) => {
                // A pattern that is a key needs no ban, of which a flood could make many.
                let (mut removed, mut banned) = (0, Vec::new());
                for one in order.banned() {
                    match literal(&one) {
                        Some(key) => removed += u64::from(remove(&key)),
                        None => banned.push(one),
                    }
                }
                let bans = self.cache.ban_all(banned, source, strength);
                if self.cache.has_many_bans() {
                    self.sweeper.hurry();
                }
                Done { removed, bans }
            }
        }
    }

    /// How many keys it has removed, once that is known.
    pub async fn count(&self, done: Done) -> u64 {
        for ban in &done.bans {
            self.sweeper.settled(ban).await;
        }
        done.removed()
    }

    /// How many keys an order would remove now.
    pub async fn matched(&self, order: &Order) -> u64 {
        match order {
            Order::Keys(keys) => return self.held(keys),
            Order::All => return self.cache.figures().entries,
            _ => {}
        }
        let (mut count, bans) = (0, order.banned());
        let look = |key: &[u8]| count += u64::from(bans.iter().any(|ban| ban.covers(key)));
        self.sweeper.visit(&self.clock, look).await;
        count
    }

    fn held(&self, keys: &[Vec<u8>]) -> u64 {
        let now = self.clock.now();
        keys.iter().filter(|key| self.cache.holds(self.cache.hash(key), key, now)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::{Invalid, Order};

    #[test]
    fn an_order_means_something_and_is_bounded() {
        assert_eq!(Order::namespace(b"orders"), Ok(Order::Namespace(b"orders".to_vec())));
        assert_eq!(Order::pattern(b"*:1"), Ok(Order::Pattern(b"*:1".to_vec())));
        assert_eq!(Order::namespace(b""), Err(Invalid::Empty));
        assert_eq!(Order::pattern(b""), Err(Invalid::Empty));
        assert_eq!(Order::namespace(b"orders:1"), Err(Invalid::Separator));
        assert_eq!(Order::pattern(&[b'*'; 1025]), Err(Invalid::TooLong));
        assert!(Order::pattern(&[b'*'; 1024]).is_ok());
    }
}
