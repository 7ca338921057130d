//! Names of keys and locks that somebody waits for: the tracking link rings when it hears of one,
//! so nobody has to ask upstream again and again.
//!
//! In: every name that a push brings. Out: the bell of whoever waits for it. Where nobody waits, a
//! push costs one look at a counter.

use foldhash::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

type Bells = HashMap<Box<[u8]>, Vec<Arc<Notify>>>;

/// The names, and whom to ring for.
#[derive(Debug, Default)]
pub struct Waited {
    count: AtomicUsize,
    bells: Mutex<Bells>,
}

impl Waited {
    /// From now on `bell` is rung when a push names one of these, until what this answers is
    /// dropped.
    pub fn ring<'n>(&'n self, names: [&'n [u8]; 2], bell: &'n Arc<Notify>) -> Ringing<'n> {
        let mut bells = self.bells.lock();
        for name in names {
            bells.entry(name.into()).or_default().push(Arc::clone(bell));
        }
        drop(bells);
        self.count.fetch_add(1, Ordering::SeqCst);
        Ringing { waited: self, names, bell }
    }

    /// A push names this.
    pub fn hear(&self, name: &[u8]) {
        if self.count.load(Ordering::SeqCst) > 0
            && let Some(those) = self.bells.lock().get(name)
        {
            for bell in those {
                bell.notify_one();
            }
        }
    }
}

/// Somebody waits for these.
#[derive(Debug)]
pub struct Ringing<'n> {
    waited: &'n Waited,
    names: [&'n [u8]; 2],
    bell: &'n Arc<Notify>,
}

impl Drop for Ringing<'_> {
    fn drop(&mut self) {
        let mut bells = self.waited.bells.lock();
        for name in self.names {
            if let Some(those) = bells.get_mut(name) {
                those.retain(|other| !Arc::ptr_eq(other, self.bell));
                if those.is_empty() {
                    bells.remove(name);
                }
            }
        }
        drop(bells);
        self.waited.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::Waited;
    use std::sync::Arc;
    use std::task::{Context, Waker};
    use tokio::sync::Notify;

    fn is_rung(bell: &Notify) -> bool {
        let rung = std::pin::pin!(bell.notified());
        rung.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn who_waits_is_rung_for_and_nobody_else() {
        let waited = Waited::default();
        let (one, two) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        waited.hear(b"v1:k");
        let first = waited.ring([b"v1:k", b"k's lock"], &one);
        let _second = waited.ring([b"v1:k", b"v1:l"], &two);
        waited.hear(b"v1:k");
        assert!(is_rung(&one) && is_rung(&two));
        waited.hear(b"v1:l");
        assert!(!is_rung(&one) && is_rung(&two));
        drop(first);
        waited.hear(b"v1:k");
        waited.hear(b"k's lock");
        assert!(!is_rung(&one) && is_rung(&two));
    }
}
