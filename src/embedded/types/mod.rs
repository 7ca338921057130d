//! The five types of value, their commands in one file each.
//!
//! Every collection keeps the bytes of its elements as it changes, so that the weight of a value
//! is known without walking it. An empty collection is never stored: handlers call
//! [`Store::remove_if_empty`](super::store::Store::remove_if_empty).

pub(super) mod hash;
pub(super) mod list;
pub(super) mod scan;
pub(super) mod set;
pub(super) mod set_algebra;
pub(super) mod string;
pub(super) mod zset;
pub(super) mod zset_range;

use self::hash::Hash;
use self::list::List;
use self::set::Set;
use self::zset::Zset;
use super::float;
use bytes::Bytes;

/// A string value.
pub(super) type Text = Vec<u8>;

/// What one element of a collection costs beside its bytes.
pub(super) const ELEMENT_OVERHEAD: usize = 48;

/// The value of a key.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(Text),
    Hash(Hash),
    List(List),
    Set(Set),
    Zset(Zset),
}

/// One of the five types.
pub(super) trait Kind: Default + Into<Value> + std::fmt::Debug {
    fn of(value: &Value) -> Option<&Self>;
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    /// Accounted bytes, in constant time.
    fn weight(&self) -> usize;
}

macro_rules! kind {
    ($type:ty, $variant:ident, $weight:expr) => {
        impl Kind for $type {
            fn of(value: &Value) -> Option<&Self> {
                if let Value::$variant(found) = value { Some(found) } else { None }
            }

            fn of_mut(value: &mut Value) -> Option<&mut Self> {
                if let Value::$variant(found) = value { Some(found) } else { None }
            }

            fn weight(&self) -> usize {
                let weigh: fn(&Self) -> usize = $weight;
                weigh(self)
            }
        }

        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        }
    };
}

kind!(Text, Text, |text| text.len());
kind!(Hash, Hash, |hash| hash.bytes());
kind!(List, List, |list| list.bytes());
kind!(Set, Set, |set| set.bytes());
kind!(Zset, Zset, |zset| zset.bytes());

impl Value {
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.weight(),
            Self::Hash(hash) => hash.weight(),
            Self::List(list) => list.weight(),
            Self::Set(set) => set.weight(),
            Self::Zset(zset) => zset.weight(),
        }
    }

    /// The command that adds its elements to a key that has none, how many arguments each is, and
    /// all of them.
    pub(super) fn elements(&self) -> (&'static str, usize, Vec<Bytes>) {
        let copy = |text: &[u8]| Bytes::copy_from_slice(text);
        match self {
            Self::Text(text) => ("SET", 1, vec![copy(text)]),
            Self::List(list) => ("RPUSH", 1, list.iter().map(copy).collect()),
            Self::Set(set) => ("SADD", 1, set.iter().map(copy).collect()),
            Self::Hash(hash) => {
                let pairs = (0..).map_while(|at| hash.at(at));
                ("HSET", 2, pairs.flat_map(|(field, value)| [copy(field), copy(value)]).collect())
            }
            Self::Zset(zset) => {
                let pair = |(score, member): &(zset::Score, Bytes)| {
                    [Bytes::from(float::format(score.0)), member.clone()]
                };
                ("ZADD", 2, zset.order().iter().flat_map(pair).collect())
            }
        }
    }

    /// Is it a collection without elements?
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Text(_) => false,
            Self::Hash(hash) => hash.len() == 0,
            Self::List(list) => list.len() == 0,
            Self::Set(set) => set.len() == 0,
            Self::Zset(zset) => zset.len() == 0,
        }
    }

    /// The answer of TYPE.
    pub(super) const fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "string",
            Self::Hash(_) => "hash",
            Self::List(_) => "list",
            Self::Set(_) => "set",
            Self::Zset(_) => "zset",
        }
    }
}
