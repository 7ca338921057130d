//! What operators say of the links to one upstream: that there are to be none, or that all are to
//! be opened anew.
//!
//! In: orders, from the main thread. Out: a link asks for its [`Entry`] before it is opened, and
//! closes when its entry is over. Each order that closes links begins a round.
//!
//! Invariant: the server may be another after a round (its name is resolved anew), so what was
//! read by a link of one round is never held against the tracking link of another. No data link of
//! a round is opened before the tracking link has let go of those before, and no tracking link
//! while a shared data link of a round before is still there.

use std::collections::BTreeMap;
use tokio::sync::watch;

/// What is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    is_enabled: bool,
    round: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Switch {
    order: watch::Sender<Order>,
    /// The round that the tracking link belongs to, or may.
    tracked: watch::Sender<u64>,
    /// Shared data links by their round.
    shared: watch::Sender<BTreeMap<u64, usize>>,
}

/// The right to be open.
#[derive(Clone, Debug)]
pub struct Entry {
    order: watch::Receiver<Order>,
    round: u64,
}

/// A shared data link that is open, or being opened; dropped when it is closed.
#[derive(Debug)]
pub struct Held<'s> {
    switch: &'s Switch,
    round: u64,
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            order: watch::Sender::new(Order { is_enabled: true, round: 0 }),
            tracked: watch::Sender::new(0),
            shared: watch::Sender::default(),
        }
    }
}

impl Switch {
    /// True unless operators want no links.
    pub fn is_enabled(&self) -> bool {
        self.order.borrow().is_enabled
    }

    /// No link is to be open. True if that is news.
    pub fn disable(&self) -> bool {
        self.order.send_if_modified(|order| {
            let is_news = order.is_enabled;
            *order = Order { is_enabled: false, round: order.round + u64::from(is_news) };
            is_news
        })
    }

    /// Links may be open again. True if that is news.
    pub fn enable(&self) -> bool {
        self.order.send_if_modified(|order| !std::mem::replace(&mut order.is_enabled, true))
    }

    /// Every link is to be closed, and opened anew.
    pub fn reconnect(&self) {
        self.order.send_modify(|order| order.round += 1);
    }

    /// Waits until a data link may be opened.
    pub async fn entry(&self) -> Entry {
        let (mut order, mut tracked) = (self.order.subscribe(), self.tracked.subscribe());
        loop {
            // The senders live as long as this.
            let wanted = order.wait_for(|order| order.is_enabled).await.map(|order| *order);
            let Ok(Order { round, .. }) = wanted else { std::future::pending().await };
            tokio::select! { biased;
                _ = order.changed() => {}
                _ = tracked.wait_for(|tracked| *tracked >= round) => return Entry { order, round },
            }
        }
    }

    /// A shared data link with this right is about to be opened.
    pub fn hold(&self, entry: &Entry) -> Held<'_> {
        let round = entry.round;
        self.shared.send_modify(|shared| *shared.entry(round).or_default() += 1);
        Held { switch: self, round }
    }

    /// What is so from now on, for the tracking link.
    pub fn follow(&self) -> Entry {
        let order = self.order.subscribe();
        let round = order.borrow().round;
        Entry { order, round }
    }

    /// There is no tracking link of a round before this one any more.
    pub fn let_go(&self, entry: &Entry) {
        self.tracked.send_replace(entry.round);
    }

    /// Waits until a tracking link with this right may be opened.
    pub async fn until_alone(&self, entry: &Entry) {
        let (mut order, mut shared) = (self.order.subscribe(), self.shared.subscribe());
        order.wait_for(|order| order.is_enabled).await.ok();
        shared.wait_for(|shared| shared.keys().all(|round| *round >= entry.round)).await.ok();
    }
}

impl Entry {
    /// True if the link is to be closed.
    pub fn is_over(&self) -> bool {
        let Order { is_enabled, round } = *self.order.borrow();
        !is_enabled || round != self.round
    }

    /// Waits until the link is to be closed. Who follows while links are disabled has none to
    /// close, and is not told so again and again.
    pub async fn over(&mut self) {
        let round = self.round;
        self.order.wait_for(|order| order.round != round).await.ok();
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.switch.shared.send_modify(|shared| {
            if let Some(links) = shared.get_mut(&self.round) {
                *links -= 1;
            }
            shared.retain(|_, links| *links > 0);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::Switch;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// What a future says when it is polled now.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn no_link_is_open_while_it_is_disabled() {
        let switch = Switch::default();
        let entry = now(switch.entry()).unwrap();
        let tracking = switch.follow();
        assert!(switch.disable() && !switch.disable());
        assert!(entry.is_over() && tracking.is_over() && !switch.is_enabled());
        assert!(now(tracking.clone().over()).is_some());
        let tracking = switch.follow();
        assert!(now(tracking.clone().over()).is_none(), "nothing is left to be closed");
        switch.let_go(&tracking);
        assert!(now(switch.entry()).is_none());
        assert!(now(switch.until_alone(&tracking)).is_none());
        assert!(switch.enable() && !switch.enable());
        assert!(entry.is_over(), "what was open is not wanted again");
        assert!(!now(switch.entry()).unwrap().is_over());
        assert!(now(switch.until_alone(&tracking)).is_some());
    }

    #[test]
    fn rounds_of_data_links_and_of_the_tracking_link_do_not_mix() {
        let switch = Switch::default();
        let (one, two) = (now(switch.entry()).unwrap(), now(switch.entry()).unwrap());
        let (held, other) = (switch.hold(&one), switch.hold(&two));
        switch.reconnect();
        assert!(one.is_over() && switch.is_enabled());
        assert!(now(switch.entry()).is_none(), "the tracking link is still there");
        let tracking = switch.follow();
        switch.let_go(&tracking);
        let next = now(switch.entry()).unwrap();
        let _held = switch.hold(&next);
        drop(held);
        assert!(now(switch.until_alone(&tracking)).is_none(), "one of the round before is");
        drop(other);
        assert!(now(switch.until_alone(&tracking)).is_some() && !next.is_over());
    }
}
