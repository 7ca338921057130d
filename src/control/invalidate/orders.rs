//! Orders: what is to be forgotten because somebody says so, who is neither the server nor a
//! client that writes (R15): an operator over HTTP, an application or a peer on the channel.
//!
//! An order is in force when [`Orders::carry_out`] returns. How many keys it has removed is known
//! at once for keys, and when the next sweep is through for namespaces and patterns.

use crate::cache::{Ban, Banned, Cache, Source};
use crate::control::invalidate::history::History;
use crate::control::office::Sweeper;
use crate::stats::{Block, Counter};
use crate::units::clock::Clock;
use std::fmt;
use std::sync::Arc;

/// Bytes of a pattern or of the name of a namespace at most: what it costs to hold a key against
/// it is bounded by its length (T18).
pub const TEXT_MAX: usize = 1024;

/// What is to be forgotten. Keys are the client's: without version prefix, in every database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// These keys.
    Keys(Vec<Vec<u8>>),
    /// All keys whose first segment is this.
    Namespace(Vec<u8>),
    /// All keys that this glob matches.
    Pattern(Vec<u8>),
    /// Everything.
    All,
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

    /// The keys it means, as a ban; keys and everything need none.
    pub fn banned(&self) -> Option<Banned> {
        match self {
            Self::Namespace(name) => Some(Banned::Namespace(name.as_slice().into())),
            Self::Pattern(pattern) => Some(Banned::Pattern(pattern.as_slice().into())),
            Self::Keys(_) | Self::All => None,
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

/// An order that is in force.
#[derive(Clone, Debug)]
pub enum Done {
    /// It has removed this many keys.
    Removed(u64),
    /// What it has removed is being counted.
    Banned(Arc<Ban>),
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
}

impl Orders {
    /// In force when this returns.
    pub fn carry_out(&self, order: &Order, source: Source) -> Done {
        let done = self.enforce(order, source);
        self.history.note(order, source, &done);
        done
    }

    fn enforce(&self, order: &Order, source: Source) -> Done {
        let counter = match source {
            Source::Admin => Counter::InvalidationsAdmin,
            Source::Pubsub => Counter::InvalidationsPubsub,
        };
        self.block.add(counter, 1);
        match order {
            Order::Keys(keys) => {
                let remove = |key: &Vec<u8>| self.cache.invalidate_by(source, self.cache.hash(key));
                Done::Removed(keys.iter().filter(|key| remove(key)).count() as u64)
            }
            Order::All => {
                let held = self.cache.figures().entries;
                self.cache.clear();
                let flush = match source {
                    Source::Admin => Counter::FlushesAdmin,
                    Source::Pubsub => Counter::FlushesPubsub,
                };
                self.block.add(flush, 1);
                Done::Removed(held)
            }
            Order::Namespace(_) | Order::Pattern(_) => match order.banned() {
                Some(banned) => {
                    let ban = self.cache.ban(banned, source);
                    if self.cache.has_many_bans() {
                        self.sweeper.hurry();
                    }
                    Done::Banned(ban)
                }
                None => Done::Removed(0),
            },
        }
    }

    /// How many keys it has removed, once that is known.
    pub async fn count(&self, done: Done) -> u64 {
        match done {
            Done::Removed(count) => count,
            Done::Banned(ban) => {
                self.sweeper.settled(&ban).await;
                ban.removed()
            }
        }
    }

    /// How many keys an order would remove now.
    pub async fn matched(&self, order: &Order) -> u64 {
        let Some(banned) = order.banned() else {
            return match order {
                Order::Keys(keys) => self.held(keys),
                _ => self.cache.figures().entries,
            };
        };
        let mut count = 0;
        let look = |key: &[u8]| count += u64::from(banned.covers(key));
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
