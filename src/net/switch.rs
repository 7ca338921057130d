//! What is said of the links to one upstream: that there are to be none, or that all are to be
//! opened anew (operators do, and links that find a primary turned into a replica), or that data
//! links are to lead elsewhere while it is down (the fallback does).
//!
//! In: orders, from the main thread. Out: a link asks for its [`Entry`] before it is opened, and
//! closes when its entry is over. Each order that closes links begins a round.
//!
//! Invariant: the server may be another after a round (its name is resolved anew), so what was
//! read by a link of one round is never held against the tracking link of another. No data link of
//! a round is opened before the tracking link has let go of those before, and no tracking link
//! while a shared data link of a round before is still there. While data links lead elsewhere there
//! is no tracking link, and none of them leads upstream before the last of those is closed, or
//! given up by who has diverted them.
//!
//! Who waits is woken in the order of waiting (`Notify`; a `watch` wakes in any), so that the
//! simulation can play a run again.

use crate::net::dialer::Door;
use crate::units::clock::Tick;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Links are not closed more often than this because of what the server says.
const DOUBT_EVERY: Duration = Duration::from_secs(1);

/// Where data links lead.
#[derive(Debug)]
enum Way {
    /// Upstream.
    Upstream,
    /// Through this door.
    Detour(Arc<Door>),
    /// Nowhere: those that lead elsewhere are to be closed, and no others are opened yet.
    Closed,
}

/// What is to be, and what is.
#[derive(Debug)]
struct State {
    is_enabled: bool,
    way: Way,
    /// Data links that lead elsewhere.
    diverted: usize,
    /// Counts the orders that close links.
    round: u64,
    /// The round that the tracking link belongs to, or may.
    tracked: u64,
    /// Shared data links by their round.
    shared: BTreeMap<u64, usize>,
    /// When it was doubted last that the server is the right one.
    doubted_at: Option<Tick>,
}

/// See the module.
#[derive(Debug)]
pub struct Switch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

/// The right to be open.
#[derive(Clone, Debug)]
pub struct Entry {
    inner: Arc<Inner>,
    round: u64,
    /// Where it leads, if not upstream.
    pub door: Option<Arc<Door>>,
}

/// A shared data link, or any that leads elsewhere, which is open or being opened; dropped when it
/// is closed.
#[derive(Debug)]
pub struct Held<'s> {
    inner: &'s Inner,
    round: u64,
    is_detour: bool,
}

impl Default for Switch {
    fn default() -> Self {
        let state = State {
            is_enabled: true,
            way: Way::Upstream,
            diverted: 0,
            round: 0,
            tracked: 0,
            shared: BTreeMap::new(),
            doubted_at: None,
        };
        Self(Arc::new(Inner { state: Mutex::new(state), changed: Notify::new() }))
    }
}

impl Inner {
    /// Changes something, and has all who wait look at it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.lock());
        self.changed.notify_waiters();
        changed
    }

    /// Waits until `found` has found something.
    async fn until<T>(&self, mut found: impl FnMut(&State) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before the look: what changes behind it is not missed.
            changed.as_mut().enable();
            let found = found(&self.state.lock());
            match found {
                Some(found) => return found,
                None => changed.await,
            }
        }
    }
}

impl Switch {
    /// True unless operators want no links.
    pub fn is_enabled(&self) -> bool {
        self.0.state.lock().is_enabled
    }

    /// No link is to be open. True if that is news.
    pub fn disable(&self) -> bool {
        self.0.change(|state| {
            let is_news = std::mem::replace(&mut state.is_enabled, false);
            state.round += u64::from(is_news);
            is_news
        })
    }

    /// Links may be open again. True if that is news.
    pub fn enable(&self) -> bool {
        self.0.change(|state| !std::mem::replace(&mut state.is_enabled, true))
    }

    /// Every link is to be closed, and opened anew.
    pub fn reconnect(&self) {
        self.0.change(|state| state.round += 1);
    }

    /// The server is not what it was, and its name may be another's: [`Self::reconnect`], but once
    /// a second, however many say so. True if it was done.
    pub fn doubt(&self, now: Tick) -> bool {
        self.0.change(|state| {
            let is_news = state.doubted_at.is_none_or(|then| now.since(then) >= DOUBT_EVERY);
            if is_news {
                state.doubted_at = Some(now);
                state.round += 1;
            }
            is_news
        })
    }

    /// Data links lead through this door from now on, and those that do not are to be closed.
    pub fn divert(&self, door: Arc<Door>) {
        self.0.change(|state| {
            state.way = Way::Detour(door);
            state.round += 1;
        });
    }

    /// Those that lead elsewhere are to be closed, and none is opened before [`Self::undivert`].
    pub fn close_detour(&self) {
        self.0.change(|state| {
            state.way = Way::Closed;
            state.round += 1;
        });
    }

    /// Data links lead upstream again.
    pub fn undivert(&self) {
        self.0.change(|state| state.way = Way::Upstream);
    }

    /// Waits until no data link leads elsewhere.
    pub async fn until_no_detour(&self) {
        self.0.until(|state| (state.diverted == 0).then_some(())).await;
    }

    /// Waits until data links lead elsewhere.
    pub async fn until_diverted(&self) {
        self.0.until(|state| matches!(state.way, Way::Detour(_)).then_some(())).await;
    }

    /// Waits until a data link may be opened.
    pub async fn entry(&self) -> Entry {
        let (round, door) = self
            .0
            .until(|state| match &state.way {
                Way::Upstream if state.is_enabled && state.tracked >= state.round => {
                    Some((state.round, None))
                }
                Way::Detour(door) => Some((state.round, Some(Arc::clone(door)))),
                Way::Upstream | Way::Closed => None,
            })
            .await;
        Entry { inner: Arc::clone(&self.0), round, door }
    }

    /// A shared data link with this right is about to be opened, or any if it leads elsewhere.
    pub fn hold(&self, entry: &Entry) -> Held<'_> {
        let (round, is_detour) = (entry.round, entry.door.is_some());
        self.0.change(|state| {
            let elsewhere = &mut state.diverted;
            let links = if is_detour { elsewhere } else { state.shared.entry(round).or_default() };
            *links += 1;
        });
        Held { inner: &self.0, round, is_detour }
    }

    /// What is so from now on, for the tracking link.
    pub fn follow(&self) -> Entry {
        let round = self.0.state.lock().round;
        Entry { inner: Arc::clone(&self.0), round, door: None }
    }

    /// There is no tracking link of a round before this one any more.
    pub fn let_go(&self, entry: &Entry) {
        self.0.change(|state| state.tracked = entry.round);
    }

    /// Waits until a tracking link with this right may be opened.
    pub async fn until_alone(&self, entry: &Entry) {
        let is_alone = |state: &State| {
            state.is_enabled
                && matches!(state.way, Way::Upstream)
                && state.shared.keys().all(|round| *round >= entry.round)
        };
        self.0.until(|state| is_alone(state).then_some(())).await;
    }
}

impl Entry {
    /// True if the link is to be closed.
    pub fn is_over(&self) -> bool {
        let state = self.inner.state.lock();
        !state.is_enabled && self.door.is_none() || state.round != self.round
    }

    /// Waits until the link is to be closed. Who follows while links are disabled has none to
    /// close, and is not told so again and again.
    pub async fn over(&self) {
        let round = self.round;
        self.inner.until(|state| (state.round != round).then_some(())).await;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.inner.change(|state| {
            if self.is_detour {
                state.diverted -= 1;
                return;
            }
            if let Some(links) = state.shared.get_mut(&self.round) {
                *links -= 1;
            }
            state.shared.retain(|_, links| *links > 0);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{DOUBT_EVERY, Door, Switch};
    use crate::units::clock::Clock;
    use std::pin::pin;
    use std::sync::Arc;
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
        assert!(now(tracking.over()).is_some());
        let tracking = switch.follow();
        assert!(now(tracking.over()).is_none(), "nothing is left to be closed");
        switch.let_go(&tracking);
        assert!(now(switch.entry()).is_none());
        assert!(now(switch.until_alone(&tracking)).is_none());
        assert!(switch.enable() && !switch.enable());
        assert!(entry.is_over(), "what was open is not wanted again");
        assert!(!now(switch.entry()).unwrap().is_over());
        assert!(now(switch.until_alone(&tracking)).is_some());
    }

    /// A detour is taken also while no link upstream may be open; nothing that leads upstream is
    /// opened before it is over.
    #[test]
    fn who_is_diverted_and_who_is_not_are_never_there_together() {
        let nowhere = || Door::new(|| Err(std::io::ErrorKind::NotFound.into()));
        let switch = Switch::default();
        let before = now(switch.entry()).unwrap();
        let held = switch.hold(&before);
        assert!(before.door.is_none() && now(switch.until_diverted()).is_none());
        switch.divert(Arc::new(nowhere()));
        assert!(before.is_over() && now(switch.until_diverted()).is_some());
        drop(held);
        let tracking = switch.follow();
        switch.let_go(&tracking);
        assert!(now(switch.until_alone(&tracking)).is_none());
        switch.disable();
        let stray = now(switch.entry()).unwrap();
        assert!(stray.door.is_some() && !stray.is_over());
        switch.enable();
        let held = switch.hold(&stray);
        switch.close_detour();
        assert!(stray.is_over() && now(switch.entry()).is_none());
        assert!(now(switch.until_no_detour()).is_none());
        drop(held);
        assert!(now(switch.until_no_detour()).is_some() && now(switch.entry()).is_none());
        switch.undivert();
        assert!(now(switch.entry()).is_none(), "the tracking link's turn comes first");
        let tracking = switch.follow();
        switch.let_go(&tracking);
        assert!(now(switch.entry()).unwrap().door.is_none());
        assert!(now(switch.until_alone(&tracking)).is_some());
    }

    #[test]
    fn many_doubts_are_one() {
        let (clock, hands) = Clock::manual();
        let switch = Switch::default();
        let entry = now(switch.entry()).unwrap();
        assert!(switch.doubt(clock.now()) && entry.is_over());
        let tracking = switch.follow();
        switch.let_go(&tracking);
        let next = now(switch.entry()).unwrap();
        assert!(!switch.doubt(clock.now()) && !next.is_over());
        hands.advance(DOUBT_EVERY);
        assert!(switch.doubt(clock.now()) && next.is_over());
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
