//! stub
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
/// Nanoseconds of the boot clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u64);
/// c
#[derive(Clone, Debug)]
pub enum Clock {
    /// s
    System,
    /// m
    Manual(Arc<AtomicU64>),
}
impl Clock {
    /// n
    pub fn now(&self) -> Tick {
        match self {
            Self::System => {
                let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                Tick(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
            }
            Self::Manual(c) => Tick(c.load(Ordering::SeqCst)),
        }
    }
}
