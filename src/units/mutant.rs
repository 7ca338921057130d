//! Faults on purpose: one build in which a rule of coherence can be switched off, so that a test
//! can show that the tests would notice.
//!
//! Without the feature `mutants` there is no switch and nothing is ever active. With it the fault
//! is named by the environment variable `NEARSIDE_MUTANT`, or set by a test, for the process.

/// A rule of coherence to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A fill does not check its token (R3).
    NoToken = 1,
    /// A read joins any flight (R5).
    NoJoinCheck,
    /// Acknowledged writes and replies that bypass the cache do not invalidate (R4).
    NoAckInvalidate,
    /// One PONG sets `synced_at` to the time its PING was sent (R8 wants two rounds).
    Pong1,
    /// PTTL is ignored: everything lives as long as the rule allows (R10).
    NoTtl,
    /// A fill asks nothing about bans (R15).
    NoBanCheck,
    /// The cache is served and filled while the key version is exchanged (R16).
    NoGate,
    /// What a client has out is forgotten when it goes, so that its answers are taken for others'.
    ForgetSlot,
    /// What was stored is served without waiting for the canary.
    NoCanary,
}

/// True if `mutant` was switched on.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn active(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use switch::{active, set};

#[cfg(feature = "mutants")]
mod switch {
    use super::Mutant;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU8, Ordering};

    impl Mutant {
        /// All of them.
        pub const ALL: [Self; 9] = [
            Self::NoToken,
            Self::NoJoinCheck,
            Self::NoAckInvalidate,
            Self::Pong1,
            Self::NoTtl,
            Self::NoBanCheck,
            Self::NoGate,
            Self::ForgetSlot,
            Self::NoCanary,
        ];

        /// Its name in `NEARSIDE_MUTANT`.
        pub const fn name(self) -> &'static str {
            match self {
                Self::NoToken => "no_token",
                Self::NoJoinCheck => "no_join_check",
                Self::NoAckInvalidate => "no_ack_invalidate",
                Self::Pong1 => "pong1",
                Self::NoTtl => "no_ttl",
                Self::NoBanCheck => "no_ban_check",
                Self::NoGate => "no_gate",
                Self::ForgetSlot => "forget_slot",
                Self::NoCanary => "no_canary",
            }
        }
    }

    /// The active mutant; 0 = none.
    static ACTIVE: LazyLock<AtomicU8> = LazyLock::new(|| {
        let name = std::env::var("NEARSIDE_MUTANT").unwrap_or_default();
        let named = Mutant::ALL.into_iter().find(|mutant| mutant.name() == name);
        assert!(named.is_some() || name.is_empty(), "NEARSIDE_MUTANT: no mutant is named `{name}`");
        AtomicU8::new(named.map_or(0, |mutant| mutant as u8))
    });

    /// True if `mutant` was switched on.
    #[inline]
    pub fn active(mutant: Mutant) -> bool {
        ACTIVE.load(Ordering::SeqCst) == mutant as u8
    }

    /// Switches `mutant` on, and any other off.
    pub fn set(mutant: Option<Mutant>) {
        ACTIVE.store(mutant.map_or(0, |mutant| mutant as u8), Ordering::SeqCst);
    }
}
