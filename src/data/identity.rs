//! On whose credentials clients ride (`auth.mode = "passthrough"`): who has logged in with what, as
//! upstream itself has judged it.
//!
//! ```text
//!   AUTH --> known, verified within `auth.cache_ttl` --> a seat            (data/login)
//!        \-> upstream is asked with just these credentials --> admitted, or refused in its words
//!   seat     a session that rides on an identity; its space (cache/space) is that identity's
//!   link     shakes hands with its identity's credentials, and carries only its requests
//!   nobody   who has not logged in: links without any credentials, if upstream lets those in
//! ```
//!
//! In: credentials, upstream's verdicts, time. Out: seats. Invariants: a slot is another identity's
//! only when no link and no session of the one before is left, and when nothing that was cached
//! under it is served any more; a password is compared only as a hash with a salt of this process,
//! kept only to open links, and shown nowhere.

use crate::cache::{Cache, SLOTS_MAX, Space};
use crate::net::client::PeerAddress;
use crate::units::clock::Tick;
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;
use foldhash::HashMap;
use parking_lot::Mutex;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The slot of who has not logged in. Slot 0 rides on nearside's own credentials.
const NOBODY: u16 = 1;

/// How long an identity is remembered that nobody uses: who connects for each request finds its
/// links and its entries again.
const KEPT: Duration = Duration::from_mins(1);

/// How long it is believed that upstream lets nobody in without credentials.
const REFUSAL_KEPT: Duration = Duration::from_secs(1);

/// Failed logins of one address are counted for so long.
const WINDOW: Duration = Duration::from_mins(1);

/// Addresses whose failures are remembered.
const ADDRESSES_MAX: usize = 10_000;

/// What is written to a socket, compared as a hash, and shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a client logs in with.
#[derive(Clone, Debug)]
pub struct Login {
    /// `None`: AUTH had the password alone, which is the default user's.
    user: Option<Box<[u8]>>,
    password: Secret,
}

impl Login {
    /// Of AUTH's arguments.
    pub fn new(user: Option<&[u8]>, password: &[u8]) -> Self {
        Self { user: user.map(Into::into), password: Secret(password.into()) }
    }

    /// The user, if it was named.
    pub fn user(&self) -> Option<&[u8]> {
        self.user.as_deref()
    }

    /// The password, for what writes it to a socket.
    pub fn reveal(&self) -> &[u8] {
        &self.password.0
    }
}

/// A login as it is compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Print([u8; 32]);

impl fmt::Debug for Print {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a print")
    }
}

/// Credentials that upstream has accepted; or none at all.
#[derive(Debug)]
pub struct Identity {
    slot: u16,
    login: Option<Login>,
    /// Sessions that ride on it.
    seats: AtomicUsize,
    /// Upstream does not accept it any more: its sessions end, and its links.
    is_gone: AtomicBool,
    /// Nobody has used it for long: its links end.
    is_forgotten: AtomicBool,
    slots: Arc<Mutex<Slots>>,
}

impl Identity {
    fn new(slot: u16, login: Option<Login>, slots: &Arc<Mutex<Slots>>) -> Arc<Self> {
        Arc::new(Self {
            slot,
            login,
            seats: AtomicUsize::new(0),
            is_gone: AtomicBool::new(false),
            is_forgotten: AtomicBool::new(false),
            slots: Arc::clone(slots),
        })
    }

    /// What its links log in with; `None`: nothing.
    pub const fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Who it is, in ACL WHOAMI's word.
    pub fn user(&self) -> &[u8] {
        self.login.as_ref().and_then(Login::user).unwrap_or(b"default")
    }

    /// True if upstream has taken it back.
    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::SeqCst)
    }

    /// True if its links are to be closed.
    pub fn is_over(&self) -> bool {
        self.is_gone() || self.is_forgotten.load(Ordering::SeqCst)
    }
}

/// Nothing of it is left: its slot may be another's.
impl Drop for Identity {
    fn drop(&mut self) {
        if self.slot != NOBODY {
            self.slots.lock().used.push(self.slot);
        }
    }
}

/// A session's place on an identity.
#[derive(Debug)]
pub struct Seat(Arc<Identity>);

impl Seat {
    fn on(identity: &Arc<Identity>) -> Self {
        identity.seats.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(identity))
    }

    /// The identity.
    pub const fn identity(&self) -> &Arc<Identity> {
        &self.0
    }

    /// A database as this identity sees it.
    pub fn space(&self, db: u32) -> Space {
        Space::new(self.0.slot, db)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seats.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Slots that may be given out.
#[derive(Debug)]
struct Slots {
    /// Under these nothing is stored that could be served.
    clean: Vec<u16>,
    /// Under these there may be.
    used: Vec<u16>,
}

/// There are as many as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// All identities of the process.
#[derive(Debug)]
pub struct Identities {
    salt: [u8; 16],
    slots: Arc<Mutex<Slots>>,
    nobody: Arc<Identity>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    logins: HashMap<Print, Member>,
    by_slot: HashMap<u16, Weak<Identity>>,
    /// Whether upstream lets in who has no credentials, and when it said so.
    lets_nobody_in: Option<(bool, Tick)>,
    /// Counts what may have changed any verdict.
    doubts: u64,
    /// By address: failed logins since when.
    failures: HashMap<IpAddr, (u32, Tick)>,
}

#[derive(Debug)]
struct Member {
    identity: Arc<Identity>,
    /// When upstream last said so; `None`: since then something has changed.
    verified_at: Option<Tick>,
    /// Since when it was seen without a seat.
    idle_since: Option<Tick>,
}

impl Default for Identities {
    fn default() -> Self {
        Self::with_slots(SLOTS_MAX)
    }
}

impl Identities {
    fn with_slots(end: u16) -> Self {
        let mut salt = [0; 16];
        // Without it, equal passwords have equal hashes in every process, none of which is told.
        let _is_salted = rand::fill(&mut salt);
        let clean = (NOBODY + 1..end).rev().collect();
        let slots = Arc::new(Mutex::new(Slots { clean, used: Vec::new() }));
        let nobody = Identity::new(NOBODY, None, &slots);
        Self { salt, slots, nobody, known: Mutex::default() }
    }

    /// A login as it is compared with others.
    pub fn print(&self, user: Option<&[u8]>, password: &[u8]) -> Print {
        let mut hash = Context::new(&SHA256);
        hash.update(&self.salt);
        hash.update(&[u8::from(user.is_some())]);
        let user = user.unwrap_or_default();
        hash.update(&(user.len() as u64).to_le_bytes());
        hash.update(user);
        hash.update(password);
        let mut print = [0; 32];
        print.copy_from_slice(hash.finish().as_ref());
        Print(print)
    }

    /// A seat for who logs in so, if upstream has said so within `ttl`.
    pub fn verified(&self, print: &Print, ttl: Duration, now: Tick) -> Option<Seat> {
        let known = self.known.lock();
        let member = known.logins.get(print)?;
        let is_fresh = member.verified_at.is_some_and(|at| now.since(at) < ttl);
        let seat = is_fresh.then(|| Seat::on(&member.identity));
        drop(known);
        seat
    }

    /// Upstream has accepted a login, which it was asked about after so many doubts; there may be
    /// `most` identities.
    pub fn admit(
        &self,
        print: Print,
        login: &Login,
        (most, doubts): (usize, u64),
        now: Tick,
        cache: &Cache,
    ) -> Result<Seat, Full> {
        let mut known = self.known.lock();
        let verified_at = (known.doubts == doubts).then_some(now);
        if let Some(member) = known.logins.get_mut(&print) {
            (member.verified_at, member.idle_since) = (verified_at, None);
            return Ok(Seat::on(&member.identity));
        }
        if known.logins.len() >= most {
            known.forget_one();
        }
        let slot = if known.logins.len() < most { self.slot(cache) } else { None };
        let identity = Identity::new(slot.ok_or(Full)?, Some(login.clone()), &self.slots);
        known.by_slot.insert(identity.slot, Arc::downgrade(&identity));
        let seat = Seat::on(&identity);
        known.logins.insert(print, Member { identity, verified_at, idle_since: None });
        drop(known);
        Ok(seat)
    }

    /// A slot under which nothing can be served.
    fn slot(&self, cache: &Cache) -> Option<u16> {
        let mut slots = self.slots.lock();
        if slots.clean.is_empty() && !slots.used.is_empty() {
            cache.clear();
            let used = std::mem::take(&mut slots.used);
            slots.clean = used;
        }
        slots.clean.pop()
    }

    /// Whether upstream lets in who has no credentials; `None`: it is to be asked.
    pub fn lets_nobody_in(&self, ttl: Duration, now: Tick) -> Option<bool> {
        let (lets_in, said_at) = self.known.lock().lets_nobody_in?;
        let ttl = if lets_in { ttl } else { REFUSAL_KEPT };
        (now.since(said_at) < ttl).then_some(lets_in)
    }

    /// Upstream lets in who has no credentials, or does not.
    pub fn nobody_judged(&self, lets_in: bool, doubts: u64, now: Tick) {
        let mut known = self.known.lock();
        known.lets_nobody_in = (known.doubts == doubts).then_some((lets_in, now));
    }

    /// The seat of who has no credentials.
    pub fn nobody(&self) -> Seat {
        Seat::on(&self.nobody)
    }

    /// Whose links are of this slot; `None`: nearside's own.
    pub fn of(&self, slot: u16) -> Option<Arc<Identity>> {
        match slot {
            0 => None,
            NOBODY => Some(Arc::clone(&self.nobody)),
            // What is left of one that is gone may do what nobody may.
            slot => {
                let found = self.known.lock().by_slot.get(&slot).and_then(Weak::upgrade);
                Some(found.unwrap_or_else(|| Arc::clone(&self.nobody)))
            }
        }
    }

    /// Something has changed upstream that may concern any login: each is asked for anew.
    pub fn doubt(&self) {
        let mut known = self.known.lock();
        known.doubts += 1;
        known.lets_nobody_in = None;
        known.logins.values_mut().for_each(|member| member.verified_at = None);
    }

    /// Upstream does not accept this one any more. True if its sessions are to end.
    pub fn take_back(&self, identity: &Arc<Identity>) -> bool {
        let mut known = self.known.lock();
        if identity.slot == NOBODY {
            known.lets_nobody_in = None;
            return false;
        }
        known.logins.retain(|_, member| !Arc::ptr_eq(&member.identity, identity));
        drop(known);
        !identity.is_gone.swap(true, Ordering::SeqCst)
    }

    /// How often [`Self::doubt`] was called: an answer to what was asked before is good once only.
    pub fn doubts(&self) -> u64 {
        self.known.lock().doubts
    }

    /// Forgets what nobody has used for long.
    pub fn tidy_up(&self, now: Tick) {
        let mut known = self.known.lock();
        known.logins.retain(|_, member| {
            if member.identity.seats.load(Ordering::SeqCst) > 0 {
                member.idle_since = None;
                return true;
            }
            let is_kept = now.since(*member.idle_since.get_or_insert(now)) < KEPT;
            member.identity.is_forgotten.store(!is_kept, Ordering::SeqCst);
            is_kept
        });
        known.by_slot.retain(|_, identity| identity.strong_count() > 0);
    }

    /// True if too many logins from this address have failed lately.
    pub fn is_barred(&self, from: &PeerAddress, most: u32, now: Tick) -> bool {
        let known = self.known.lock();
        let failures = address(from).and_then(|from| known.failures.get(&from));
        most > 0
            && failures.is_some_and(|(count, since)| *count >= most && now.since(*since) < WINDOW)
    }

    /// A login from this address has failed.
    pub fn count_failure(&self, from: &PeerAddress, now: Tick) {
        let Some(from) = address(from) else {
            return;
        };
        let failures = &mut self.known.lock().failures;
        if failures.len() >= ADDRESSES_MAX {
            failures.retain(|_, (_, since)| now.since(*since) < WINDOW);
        }
        if failures.len() >= ADDRESSES_MAX && !failures.contains_key(&from) {
            return;
        }
        let (count, since) = failures.entry(from).or_insert((0, now));
        if now.since(*since) >= WINDOW {
            (*count, *since) = (0, now);
        }
        *count += 1;
    }
}

impl Known {
    /// Makes room for another by forgetting one that nobody uses, if there is one.
    fn forget_one(&mut self) {
        let is_idle = |member: &&Member| member.identity.seats.load(Ordering::SeqCst) == 0;
        let idle = self.logins.iter().filter(|(_, member)| is_idle(member));
        let oldest = idle.min_by_key(|(_, member)| member.idle_since.unwrap_or(Tick(u64::MAX)));
        if let Some(member) = oldest.map(|(print, _)| *print).and_then(|it| self.logins.remove(&it))
        {
            member.identity.is_forgotten.store(true, Ordering::SeqCst);
        }
    }
}

/// Clients of a Unix socket are told apart by nothing, and are not counted.
const fn address(peer: &PeerAddress) -> Option<IpAddr> {
    match peer {
        PeerAddress::Tcp(address) => Some(address.ip()),
        PeerAddress::Unix(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Full, Identities, KEPT, Login, NOBODY, Seat};
    use crate::cache::Cache;
    use crate::net::client::PeerAddress;
    use crate::units::clock::Tick;
    use std::sync::Arc;
    use std::time::Duration;

    const TTL: Duration = Duration::from_mins(1);

    fn at(seconds: u64) -> Tick {
        Tick(Duration::from_secs(1000 + seconds).as_nanos().try_into().unwrap())
    }

    fn admit(all: &Identities, user: &str, most: usize, cache: &Cache) -> Result<Seat, Full> {
        let login = Login::new(Some(user.as_bytes()), b"pw");
        let print = all.print(login.user(), login.reveal());
        all.admit(print, &login, (most, all.doubts()), at(0), cache)
    }

    #[test]
    fn a_verdict_is_good_for_a_while_and_until_a_doubt() {
        let (all, cache) = (Identities::default(), Cache::new(1 << 20, 4));
        let print = all.print(Some(b"a"), b"pw");
        assert!(all.verified(&print, TTL, at(0)).is_none());
        let seat = admit(&all, "a", 9, &cache).unwrap();
        assert_eq!(seat.identity().user(), b"a");
        let again = all.verified(&print, TTL, at(59)).unwrap();
        assert_eq!(again.space(3), seat.space(3));
        assert_eq!(again.space(3).db(), 3);
        assert!(all.verified(&print, TTL, at(60)).is_none());
        assert!(all.verified(&print, Duration::ZERO, at(0)).is_none());
        for other in [all.print(Some(b"a"), b"pW"), all.print(None, b"apw"), all.print(None, b"pw")]
        {
            assert!(all.verified(&other, TTL, at(0)).is_none());
        }
        all.doubt();
        assert!(all.verified(&print, TTL, at(0)).is_none());
        // What was asked before the doubt lets one in, and nobody behind it.
        let late = Login::new(Some(b"a"), b"pw");
        assert!(all.admit(print, &late, (9, 0), at(0), &cache).is_ok());
        assert!(all.verified(&print, TTL, at(0)).is_none());
        all.nobody_judged(true, 0, at(0));
        assert_eq!(all.lets_nobody_in(TTL, at(0)), None);
        // It is the same identity when upstream says so again.
        assert_eq!(admit(&all, "a", 9, &cache).unwrap().space(0), seat.space(0));
    }

    #[test]
    fn who_is_used_is_kept_and_others_make_room() {
        let (all, cache) = (Identities::default(), Cache::new(1 << 20, 4));
        let one = admit(&all, "one", 2, &cache).unwrap();
        let two = admit(&all, "two", 2, &cache).unwrap();
        assert_eq!(admit(&all, "three", 2, &cache).unwrap_err(), Full);
        let gone = Arc::clone(two.identity());
        drop(two);
        let three = admit(&all, "three", 2, &cache).unwrap();
        assert!(gone.is_over() && !gone.is_gone() && !one.identity().is_over());
        drop(three);
        let forgotten = Arc::clone(admit(&all, "three", 2, &cache).unwrap().identity());
        all.tidy_up(at(1));
        let late = Tick(at(1).0 + u64::try_from(KEPT.as_nanos()).unwrap());
        all.tidy_up(Tick(late.0 - 1));
        assert!(!forgotten.is_over());
        all.tidy_up(late);
        assert!(forgotten.is_over() && !one.identity().is_over());
    }

    #[test]
    fn a_slot_is_anothers_when_nothing_of_the_first_is_left() {
        let cache = Cache::new(1 << 20, 4);
        let all = Identities::with_slots(NOBODY + 2);
        let one = admit(&all, "one", 9, &cache).unwrap();
        let (slot, link) = (one.space(0).slot(), Arc::clone(one.identity()));
        assert_eq!(all.of(slot).unwrap().user(), b"one");
        assert!(all.take_back(one.identity()) && !all.take_back(&link));
        drop(one);
        // A link is still there.
        assert_eq!(admit(&all, "two", 9, &cache).unwrap_err(), Full);
        assert_eq!(all.of(slot).unwrap().user(), b"one");
        drop(link);
        assert!(all.of(slot).unwrap().login().is_none());
        let token = cache.right_to_join(7, 0, at(0));
        assert!(cache.is_current(7, &token));
        let two = admit(&all, "two", 9, &cache).unwrap();
        assert_eq!(two.space(0).slot(), slot);
        assert!(!cache.is_current(7, &token), "all that was cached is out");
    }

    #[test]
    fn nobody_is_let_in_as_upstream_says() {
        let all = Identities::default();
        assert_eq!(all.lets_nobody_in(TTL, at(0)), None);
        all.nobody_judged(true, 0, at(0));
        assert_eq!(all.lets_nobody_in(TTL, at(59)), Some(true));
        assert_eq!(all.lets_nobody_in(TTL, at(60)), None);
        all.nobody_judged(false, 0, at(0));
        assert_eq!(all.lets_nobody_in(TTL, at(0)), Some(false));
        assert_eq!(all.lets_nobody_in(TTL, at(1)), None);
        let nobody = all.nobody();
        assert!(!all.take_back(nobody.identity()), "its sessions are told NOAUTH");
        assert!(nobody.identity().login().is_none() && nobody.space(0).slot() == NOBODY);
        assert!(all.of(0).is_none());
    }

    #[test]
    fn failures_bar_an_address_for_a_minute() {
        let all = Identities::default();
        let from = |last| PeerAddress::Tcp(([10, 0, 0, last], 1).into());
        for _ in 0..3 {
            assert!(!all.is_barred(&from(1), 3, at(0)));
            all.count_failure(&from(1), at(0));
        }
        assert!(all.is_barred(&from(1), 3, at(59)) && !all.is_barred(&from(2), 3, at(0)));
        assert!(!all.is_barred(&from(1), 3, at(60)) && !all.is_barred(&from(1), 0, at(0)));
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let (all, cache) = (Identities::default(), Cache::new(1 << 20, 4));
        let login = Login::new(Some(b"me"), b"hunter2");
        let print = all.print(login.user(), login.reveal());
        let seat = all.admit(print, &login, (9, 0), at(0), &cache).unwrap();
        let shown = format!("{login:?} {seat:?} {all:?}");
        assert!(!shown.contains("hunter2") && !shown.contains(&format!("{:?}", b"hunter2")));
    }
}
