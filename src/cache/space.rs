//! Whose database: one of upstream's databases as one identity sees it.
//!
//! Where clients ride on their own credentials (`auth.mode = "passthrough"`) each identity has its
//! own entries, filled by the answers to its own links only: an entry is the proof that its reader
//! could read it. So a question names its space where it would name its database, and a hit pays
//! nothing for it.

/// Bits that hold the database.
const DATABASE_BITS: u32 = 20;

/// Databases with this number and above are not told apart: nobody may select them.
pub const DATABASES_MAX: u32 = 1 << DATABASE_BITS;

/// Slots of identities.
pub const SLOTS_MAX: u16 = 1 << (u32::BITS - DATABASE_BITS);

/// A database, and the slot of the identity that sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Space(u32);

impl Space {
    /// The database `db` of the identity in `slot`.
    pub const fn new(slot: u16, db: u32) -> Self {
        Self(((slot as u32) << DATABASE_BITS) | (db % DATABASES_MAX))
    }

    /// Of what rides on nearside's own credentials.
    pub const fn own(db: u32) -> Self {
        Self::new(0, db)
    }

    /// The database.
    pub const fn db(self) -> u32 {
        self.0 % DATABASES_MAX
    }

    /// The slot of its identity.
    pub const fn slot(self) -> u16 {
        (self.0 >> DATABASE_BITS) as u16
    }

    /// Another database of the same identity.
    #[must_use]
    pub const fn with_db(self, db: u32) -> Self {
        Self::new(self.slot(), db)
    }

    /// As a number, for what tells spaces apart by a hash.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{DATABASES_MAX, SLOTS_MAX, Space};

    #[test]
    fn each_pair_is_its_own() {
        let last = (SLOTS_MAX - 1, DATABASES_MAX - 1);
        for (slot, db) in [(0, 0), (0, 15), (1, 0), (7, 15), last] {
            let space = Space::new(slot, db);
            assert_eq!((space.slot(), space.db()), (slot, db));
            assert_eq!(space.with_db(3), Space::new(slot, 3));
        }
        assert_eq!(Space::own(5), Space::new(0, 5));
        assert_ne!(Space::new(1, 0), Space::own(DATABASES_MAX - 1));
    }
}
