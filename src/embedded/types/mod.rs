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
