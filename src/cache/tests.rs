//! The cache's rules, one by one. All interleavings of them: `model.rs` here and `tests/model`.

use super::{Banned, Cache, Extra, Filled, Lookup, Policy, Question, Reply, Source, Space, Token};
use crate::units::clock::Tick;

pub(super) const SECOND: u64 = 1_000_000_000;

/// When everything here is asked, unless it says otherwise.
pub(super) const NOW: Tick = Tick(100 * SECOND);

pub(super) const POLICY: Policy = Policy {
    ttl: 60 * SECOND,
    negative_ttl: 5 * SECOND,
    max_staleness: SECOND,
    tracked: true,
    value_max: 1 << 20,
    grace: 0,
    keep: 0,
    refresh_ahead: 0,
    whole_key: false,
    ttl_jitter: 0,
};

/// A cache whose link is up and synced.
pub(super) fn cache(max_bytes: u64) -> Cache {
    let cache = Cache::new(max_bytes, 4);
    cache.tracking_up();
    cache.tracking().synced(NOW);
    cache
}

pub(super) fn question<'b>(cache: &Cache, key: &'b [u8]) -> Question<'b> {
    Question {
        key,
        hash: cache.hash(key),
        command: 1,
        space: Space::default(),
        proto: 0,
        extra: Extra::Written(&[]),
    }
}

fn token(cache: &Cache, question: &Question<'_>) -> Token {
    cache.token(question.hash, &POLICY, NOW).unwrap()
}

fn fill(cache: &Cache, question: &Question<'_>, token: &Token, value: &[u8]) -> Filled {
    cache.fill(question, token, &POLICY, Reply::Bytes(value))
}

/// Stores and proves.
pub(super) fn store(cache: &Cache, question: &Question<'_>, value: &[u8]) {
    let token = token(cache, question);
    let Filled::Stored(entry) = fill(cache, question, &token, value) else {
        panic!("not stored");
    };
    assert!(cache.prove(question.hash, &entry, &token, &POLICY, -1));
}

pub(super) fn get_at(cache: &Cache, question: &Question<'_>, now: Tick) -> Result<Vec<u8>, Lookup> {
    let mut value = Vec::new();
    let lookup = cache.get(question, &cache.view(now), |entry| value.extend(entry.as_ref()));
    if lookup == Lookup::Hit { Ok(value) } else { Err(lookup) }
}

fn get(cache: &Cache, question: &Question<'_>) -> Result<Vec<u8>, Lookup> {
    get_at(cache, question, NOW)
}

pub(super) fn sweep_all(cache: &Cache, now: Tick) {
    let mut sweep = cache.start_sweep();
    while cache.sweep(&mut sweep, 100, now) {}
}

#[test]
fn a_hit_needs_every_part_of_the_question() {
    let cache = cache(1 << 20);
    let asked = Question { extra: Extra::Written(b"field"), ..question(&cache, b"key") };
    store(&cache, &asked, b"$1\r\n1\r\n");
    assert_eq!(get(&cache, &asked).unwrap(), b"$1\r\n1\r\n");
    for other in [
        // As if the hashes of two keys were equal.
        Question { key: b"kez", ..asked },
        Question { key: b"ke", ..asked },
        Question { command: 2, ..asked },
        Question { space: Space::own(1), ..asked },
        Question { proto: 3, ..asked },
        Question { extra: Extra::Written(b"fielD"), ..asked },
        Question { extra: Extra::Written(b""), ..asked },
        question(&cache, b"another"),
    ] {
        assert_eq!(get(&cache, &other), Err(Lookup::Miss));
    }
    // Two keys of one hash: the second is not stored, the first stays.
    let twin = Question { key: b"kez", ..asked };
    assert!(matches!(fill(&cache, &twin, &token(&cache, &twin), b"2"), Filled::Full));
    assert!(get(&cache, &asked).is_ok());
}

#[test]
fn variants_are_one_chain_and_go_together() {
    let cache = cache(1 << 20);
    let key = question(&cache, b"hash");
    let fields: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"e"];
    let fields = fields.map(|field| Question { extra: Extra::Written(field), ..key });
    for (place, field) in fields.iter().take(4).enumerate() {
        store(&cache, field, place.to_string().as_bytes());
    }
    // The fifth is one too many; the others are untouched.
    assert!(matches!(fill(&cache, &fields[4], &token(&cache, &fields[4]), b"4"), Filled::Full));
    for (place, field) in fields.iter().take(4).enumerate() {
        assert_eq!(get(&cache, field).unwrap(), place.to_string().as_bytes());
    }
    assert_eq!(cache.figures().entries, 1);
    assert!(cache.invalidate(key.hash));
    assert!(!cache.invalidate(key.hash));
    for field in &fields {
        assert_eq!(get(&cache, field), Err(Lookup::Miss));
    }
    assert_eq!((cache.figures().entries, cache.figures().used_bytes), (0, 0));
}

#[test]
fn an_invalidation_after_the_question_refuses_the_fill() {
    let cache = cache(1 << 20);
    let key = question(&cache, b"key");
    let old = token(&cache, &key);
    cache.invalidate(key.hash);
    assert!(matches!(fill(&cache, &key, &old, b"old"), Filled::Raced));
    // Between value and proof, too.
    let late = token(&cache, &key);
    let Filled::Stored(entry) = fill(&cache, &key, &late, b"old") else { panic!() };
    cache.invalidate(key.hash);
    assert!(!cache.prove(key.hash, &entry, &late, &POLICY, -1));
    assert_eq!(get(&cache, &key), Err(Lookup::Miss));
}

#[test]
fn two_replies_to_one_question_must_be_equal() {
    let cache = cache(1 << 20);
    let key = question(&cache, b"key");
    let (first, second) = (token(&cache, &key), token(&cache, &key));
    store(&cache, &key, b"new");
    assert!(matches!(fill(&cache, &key, &first, b"new"), Filled::Stored(_)));
    assert!(get(&cache, &key).is_ok());
    assert!(matches!(fill(&cache, &key, &second, b"old"), Filled::Raced));
    assert_eq!(get(&cache, &key), Err(Lookup::Miss));
    // Nor is any other token of that time good any more.
    assert!(matches!(fill(&cache, &key, &first, b"new"), Filled::Raced));
}

#[test]
fn a_value_is_no_hit_before_its_proof() {
    let cache = cache(1 << 20);
    let key = question(&cache, b"key");
    let asked = token(&cache, &key);
    let Filled::Stored(entry) = fill(&cache, &key, &asked, b"1") else { panic!() };
    assert_eq!(get(&cache, &key), Err(Lookup::Miss));
    assert!(cache.prove(key.hash, &entry, &asked, &POLICY, -1));
    assert!(get(&cache, &key).is_ok());
}

#[test]
fn the_proof_decides_how_long_it_lives() {
    let day = 86_400_000;
    for (pttl, life) in [
        (-2, None),
        (0, None),
        (-1, Some(POLICY.ttl)),
        (1, Some(1_000_000)),
        (500, Some(500_000_000)),
        (day, Some(POLICY.ttl)),
        (i64::MAX, Some(POLICY.ttl)),
        (-3, None),
    ] {
        let cache = cache(1 << 20);
        let key = question(&cache, b"key");
        let asked = token(&cache, &key);
        let Filled::Stored(entry) = fill(&cache, &key, &asked, b"1") else { panic!() };
        let proved = cache.prove(key.hash, &entry, &asked, &POLICY, pttl);
        assert_eq!(proved, life.is_some(), "{pttl}");
        let Some(life) = life else {
            assert_eq!(get(&cache, &key), Err(Lookup::Miss));
            assert!(!cache.is_current(key.hash, &asked), "{pttl}");
            continue;
        };
        // From the question on, not from the answer.
        let end = Tick(NOW.0 + life);
        cache.tracking().synced(end);
        assert!(get_at(&cache, &key, Tick(end.0 - 1)).is_ok(), "{pttl}");
        assert_eq!(get_at(&cache, &key, end), Err(Lookup::Miss));
        // It expired, which is an event: an older reply must not come back.
        assert!(!cache.is_current(key.hash, &asked), "{pttl}");
        assert_eq!(cache.figures().expired, 1);
        assert_eq!(cache.figures().used_bytes, 0);
    }
}

#[test]
fn of_two_proofs_the_shorter_holds() {
    for pttls in [[1000, 20], [20, 1000]] {
        let cache = cache(1 << 20);
        let key = question(&cache, b"key");
        for pttl in pttls {
            let asked = token(&cache, &key);
            let Filled::Stored(entry) = fill(&cache, &key, &asked, b"1") else { panic!() };
            assert!(cache.prove(key.hash, &entry, &asked, &POLICY, pttl));
        }
        assert!(get_at(&cache, &key, Tick(NOW.0 + 19_000_000)).is_ok());
        assert!(get_at(&cache, &key, Tick(NOW.0 + 20_000_000)).is_err());
    }
}

#[test]
fn a_nil_has_its_own_life() {
    let cache = cache(1 << 20);
    let key = question(&cache, b"missing");
    let nil = |policy| cache.fill(&key, &token(&cache, &key), policy, Reply::Nil);
    let asked = token(&cache, &key);
    let Filled::Stored(entry) = nil(&POLICY) else { panic!("not stored") };
    assert!(get(&cache, &key).is_err(), "not proved yet");
    assert!(cache.prove(
        key.hash,
        &entry,
        &asked,
        &Policy { ttl: POLICY.negative_ttl, ..POLICY },
        -1
    ));
    assert_eq!(get(&cache, &key).unwrap(), b"");
    let end = Tick(NOW.0 + POLICY.negative_ttl);
    cache.tracking().synced(end);
    assert!(get_at(&cache, &key, Tick(end.0 - 1)).is_ok());
    assert_eq!(get_at(&cache, &key, end), Err(Lookup::Miss));
    // Not stored is invalidated: whoever waits for it sees it.
    store(&cache, &key, b"1");
    assert!(matches!(nil(&Policy { negative_ttl: 0, ..POLICY }), Filled::Nil));
    assert_eq!(get(&cache, &key), Err(Lookup::Miss));
}

#[test]
fn what_is_too_large_is_not_stored_and_what_was_stored_goes() {
    let cache = cache(4096);
    let key = question(&cache, b"key");
    store(&cache, &key, b"1");
    let small = Policy { value_max: 3, ..POLICY };
    let asked = token(&cache, &key);
    assert!(matches!(cache.fill(&key, &asked, &small, Reply::Bytes(b"1234")), Filled::TooLarge));
    assert_eq!(get(&cache, &key), Err(Lookup::Miss));
    // A quarter of the store is as much as one key may take, with all its variants.
    assert!(matches!(fill(&cache, &key, &token(&cache, &key), &[7; 1100]), Filled::TooLarge));
    store(&cache, &key, &[7; 600]);
    let variant = Question { command: 2, ..key };
    let asked = token(&cache, &variant);
    assert!(matches!(fill(&cache, &variant, &asked, &[7; 600]), Filled::TooLarge));
    assert_eq!(cache.figures().used_bytes, 0);
}

#[test]
fn a_hit_needs_its_lease() {
    let cache = cache(1 << 20);
    let key = question(&cache, b"key");
    store(&cache, &key, b"1");
    let end = Tick(NOW.0 + POLICY.max_staleness);
    assert!(get_at(&cache, &key, end).is_ok());
    assert_eq!(get_at(&cache, &key, Tick(end.0 + 1)), Err(Lookup::Lease));
    cache.tracking().synced(Tick(NOW.0 + 1));
    assert!(get_at(&cache, &key, Tick(end.0 + 1)).is_ok());
    // It never goes back.
    cache.tracking().synced(NOW);
    assert_eq!(cache.tracking().synced_at(), Tick(NOW.0 + 1));
}

#[test]
fn a_lost_link_ends_what_it_guarded_and_nothing_else() {
    let cache = cache(1 << 20);
    let (key, free) = (question(&cache, b"tracked"), question(&cache, b"untracked"));
    store(&cache, &key, b"1");
    let untracked = Policy { tracked: false, max_staleness: u64::MAX, ..POLICY };
    let loose = cache.token(free.hash, &untracked, NOW).unwrap();
    let Filled::Stored(entry) = cache.fill(&free, &loose, &untracked, Reply::Bytes(b"2")) else {
        panic!()
    };
    assert!(cache.prove(free.hash, &entry, &loose, &POLICY, -1));
    let flying = token(&cache, &key);

    cache.tracking_lost();
    assert_eq!(get(&cache, &key), Err(Lookup::Miss));
    assert!(get(&cache, &free).is_ok());
    assert_eq!(cache.token(key.hash, &POLICY, NOW), None);
    assert!(cache.token(free.hash, &untracked, NOW).is_some());
    cache.tracking_up();
    assert_eq!(get(&cache, &key), Err(Lookup::Miss));
    assert!(matches!(fill(&cache, &key, &flying, b"1"), Filled::Raced));

    // A dead entry is in nobody's way.
    store(&cache, &key, b"3");
    assert_eq!(get(&cache, &key).unwrap(), b"3");
    cache.clear();
    assert_eq!(get(&cache, &key), Err(Lookup::Miss));
    assert_eq!(get(&cache, &free), Err(Lookup::Miss));
}

#[test]
fn a_flight_is_joined_while_it_is_young_and_nothing_has_happened() {
    let cache = cache(1 << 20);
    let key = question(&cache, b"key");
    let flight = token(&cache, &key);
    let at = |tick| cache.token(key.hash, &POLICY, Tick(tick)).unwrap();
    assert!(flight.may_be_joined_by(&at(NOW.0 + POLICY.max_staleness)));
    assert!(!flight.may_be_joined_by(&at(NOW.0 + POLICY.max_staleness + 1)));
    cache.invalidate(key.hash);
    assert!(!flight.may_be_joined_by(&at(NOW.0)));
}

#[test]
fn a_sweep_gives_back_what_has_ended() {
    let cache = cache(1 << 20);
    let keys: Vec<String> = (0..500).map(|number| format!("key:{number}")).collect();
    let mut tokens = Vec::new();
    for (place, key) in keys.iter().enumerate() {
        let key = question(&cache, key.as_bytes());
        let asked = token(&cache, &key);
        tokens.push((key.hash, asked));
        let Filled::Stored(entry) = fill(&cache, &key, &asked, &[1; 100]) else { panic!() };
        let pttl = if place % 2 == 0 { 1000 } else { -1 };
        assert!(cache.prove(key.hash, &entry, &asked, &POLICY, pttl));
    }
    let full = cache.figures().used_bytes;
    assert!(full > 500 * 100);
    sweep_all(&cache, NOW);
    assert_eq!((cache.figures().entries, cache.figures().used_bytes), (500, full));
    sweep_all(&cache, Tick(NOW.0 + SECOND));
    let half = cache.figures();
    assert_eq!((half.entries, half.expired), (250, 250));
    assert!(half.used_bytes < full);
    assert!(tokens.iter().step_by(2).all(|(hash, asked)| !cache.is_current(*hash, asked)));
    cache.clear();
    sweep_all(&cache, NOW);
    let none = cache.figures();
    // Dead, not expired.
    assert_eq!((none.entries, none.used_bytes, none.expired), (0, 0, 250));
}

#[test]
fn eviction_keeps_the_limit_and_voids_the_tokens() {
    let max = 64 << 10;
    let cache = cache(max);
    let first = question(&cache, b"key:0");
    store(&cache, &first, &[1; 64]);
    let asked = token(&cache, &first);
    let mut lost = 0;
    for number in 1..2000 {
        let key = format!("key:{number}");
        lost += store_or_lose(&cache, &question(&cache, key.as_bytes()));
        assert!(cache.figures().used_bytes <= max);
    }
    let figures = cache.figures();
    assert!(figures.evicted > 0 && figures.entries > 0);
    assert_eq!(figures.entries + figures.evicted + lost, 2000);
    assert_eq!(get(&cache, &first), Err(Lookup::Miss));
    assert!(matches!(fill(&cache, &first, &asked, &[1; 64]), Filled::Raced));
}

/// Stores; its own entry may be the one that makes room. How many the proof has removed: one, where
/// what made room is of the same stripe.
fn store_or_lose(cache: &Cache, question: &Question<'_>) -> u64 {
    let asked = token(cache, question);
    let Filled::Stored(entry) = fill(cache, question, &asked, &[1; 64]) else {
        panic!("not stored");
    };
    let held = cache.figures().entries;
    cache.prove(question.hash, &entry, &asked, &POLICY, -1);
    held - cache.figures().entries
}

#[test]
fn the_hand_spares_what_is_used() {
    let cache = cache(256 << 10);
    let hot: Vec<String> = (0..20).map(|number| format!("hot:{number}")).collect();
    for key in &hot {
        let key = question(&cache, key.as_bytes());
        store(&cache, &key, &[1; 64]);
        for _ in 0..3 {
            assert!(get(&cache, &key).is_ok());
        }
    }
    let mut number = 0;
    // Once round: as many are evicted as there is room for.
    while cache.figures().evicted < cache.figures().entries {
        let key = format!("cold:{number}");
        store_or_lose(&cache, &question(&cache, key.as_bytes()));
        number += 1;
    }
    assert!(hot.iter().all(|key| get(&cache, &question(&cache, key.as_bytes())).is_ok()));
}

#[test]
fn a_prefetch_changes_nothing() {
    let cache = cache(1 << 20);
    let key = question(&cache, b"key");
    cache.prefetch_place(key.hash);
    cache.prefetch_entry(key.hash);
    assert_eq!(get(&cache, &key), Err(Lookup::Miss));
    store(&cache, &key, b"1");
    cache.prefetch_place(key.hash);
    cache.prefetch_entry(key.hash);
    assert!(get(&cache, &key).is_ok());
}

#[test]
fn the_doorkeeper_knows_a_key_the_second_time() {
    let cache = cache(1 << 20);
    let hash = cache.hash(b"key");
    assert!(!cache.seen_before(hash));
    assert!(cache.seen_before(hash));
}

fn namespace(name: &str) -> Banned {
    Banned::Namespace(name.as_bytes().into())
}

fn pattern(glob: &str) -> Banned {
    Banned::Pattern(glob.as_bytes().into())
}

fn held(cache: &Cache, key: &str) -> bool {
    get(cache, &question(cache, key.as_bytes())).is_ok()
}

#[test]
fn a_ban_is_in_force_at_once_and_means_no_other_key() {
    let keys = ["orders:1", "orders:2:items", "orders", "users:1", "users:2"];
    for (banned, dead) in [
        (namespace("orders"), vec!["orders:1", "orders:2:items"]),
        (namespace("_root"), vec!["orders"]),
        (namespace("order"), vec![]),
        (pattern("*:1"), vec!["orders:1", "users:1"]),
        (pattern("users:[13]"), vec!["users:1"]),
        (pattern("*"), keys.to_vec()),
    ] {
        let cache = cache(1 << 20);
        for key in keys {
            store(&cache, &question(&cache, key.as_bytes()), b"1");
        }
        let ban = cache.ban(banned, Source::Admin);
        // One is met by a reader, the others by the sweep.
        let met = usize::from(!dead.is_empty());
        assert_eq!(dead.iter().take(1).filter(|key| held(&cache, key)).count(), 0);
        assert_eq!((ban.removed(), ban.is_settled()), (met as u64, false));
        sweep_all(&cache, NOW);
        assert_eq!((ban.removed(), ban.is_settled()), (dead.len() as u64, true));
        assert_eq!(cache.removed_by(Source::Admin), dead.len() as u64);
        for key in keys {
            assert_eq!(held(&cache, key), !dead.contains(&key), "{ban:?}: {key}");
            // What is read again is stored again.
            cache.invalidate(cache.hash(key.as_bytes()));
            store(&cache, &question(&cache, key.as_bytes()), b"2");
            assert!(held(&cache, key), "{ban:?}: {key}");
        }
    }
}

#[test]
fn a_ban_after_the_question_refuses_the_fill() {
    let cache = cache(1 << 20);
    let (order, user) = (question(&cache, b"orders:1"), question(&cache, b"users:1"));
    for is_swept in [false, true] {
        let old = [order, user].map(|key| token(&cache, &key));
        cache.ban(namespace("orders"), Source::Admin);
        if is_swept {
            sweep_all(&cache, NOW);
        }
        assert!(matches!(fill(&cache, &order, &old[0], b"old"), Filled::Raced));
        // Once the ban is forgotten nobody can say whom it meant.
        let filled = fill(&cache, &user, &old[1], b"new");
        assert_eq!(matches!(filled, Filled::Raced), is_swept, "{filled:?}");
        let new = token(&cache, &order);
        assert!(!old[0].may_be_joined_by(&new), "a later read wants a later answer");
        store(&cache, &order, b"new");
        assert_eq!(get(&cache, &order).unwrap(), b"new");
        cache.invalidate(order.hash);
        cache.invalidate(user.hash);
    }
    // Between value and proof.
    let late = token(&cache, &order);
    let Filled::Stored(entry) = fill(&cache, &order, &late, b"old") else { panic!() };
    cache.ban(pattern("ord*"), Source::Pubsub);
    cache.prove(order.hash, &entry, &late, &POLICY, -1);
    assert_eq!(get(&cache, &order), Err(Lookup::Miss));
    assert_eq!(cache.removed_by(Source::Pubsub), 1);
}

#[test]
fn a_ban_takes_all_variants_of_a_key() {
    let cache = cache(1 << 20);
    let of = |key: &'static [u8], field: &'static [u8]| Question {
        extra: Extra::Written(field),
        ..question(&cache, key)
    };
    let all = [of(b"a:1", b"x"), of(b"a:1", b"y"), of(b"b:1", b"x"), of(b"b:1", b"y")];
    for (number, variant) in all.iter().enumerate() {
        store(&cache, variant, b"1");
        // Each is held against another one last.
        cache.ban(pattern(&format!("nothing:{number}")), Source::Admin);
    }
    let found = || all.each_ref().map(|variant| get(&cache, variant).is_ok());
    assert_eq!(found(), [true; 4]);
    // A variant does not join the chain of a banned key.
    let ban = cache.ban(pattern("a:*"), Source::Admin);
    let late = of(b"a:1", b"z");
    assert!(matches!(fill(&cache, &late, &token(&cache, &late), b"1"), Filled::Raced));
    assert_eq!(found(), [false, false, true, true]);
    assert_eq!(ban.removed(), 1);
    sweep_all(&cache, NOW);
    assert!(ban.is_settled());
    assert_eq!(found(), [false, false, true, true]);
    assert_eq!(cache.figures().bans, 0);
}

#[test]
fn a_sweep_counts_exactly_while_the_table_grows() {
    let cache = cache(64 << 20);
    let key = |space: &str, number: usize| format!("{space}:{number}");
    for number in 0..20_000 {
        let space = if number % 4 == 0 { "orders" } else { "users" };
        store(&cache, &question(&cache, key(space, number).as_bytes()), b"1");
    }
    let ban = cache.ban(namespace("orders"), Source::Admin);
    let (mut sweep, mut number) = (cache.start_sweep(), 20_000);
    while cache.sweep(&mut sweep, 50, NOW) {
        for _ in 0..5 {
            store(&cache, &question(&cache, key("late", number).as_bytes()), b"1");
            number += 1;
        }
    }
    assert_eq!((ban.removed(), ban.is_settled()), (5_000, true));
}

#[test]
fn a_flood_of_bans_forgets_the_oldest_and_what_was_not_asked_for_since() {
    let cache = cache(1 << 20);
    for key in ["hot:1", "cold:1", "old:1"] {
        store(&cache, &question(&cache, key.as_bytes()), b"1");
    }
    let first = cache.ban(namespace("old"), Source::Pubsub);
    for _ in 0..5_000 {
        cache.ban(namespace("nothing"), Source::Pubsub);
    }
    assert_eq!((cache.figures().bans, cache.figures().forgotten), (2, 0), "the same is said once");
    for number in 0..5_000 {
        cache.ban(pattern(&format!("nothing:{number}")), Source::Pubsub);
        assert!(held(&cache, "hot:1"));
    }
    assert_eq!(cache.figures().bans, 1024);
    assert!(cache.figures().forgotten > 0 && cache.has_many_bans());
    assert!(first.is_settled(), "nobody waits for it in vain");
    assert!(!held(&cache, "old:1") && !held(&cache, "cold:1"));
    // Long texts count as many.
    cache.ban(pattern(&"x".repeat(1 << 14)), Source::Pubsub);
    assert_eq!(cache.figures().bans, 1);
    sweep_all(&cache, NOW);
    assert_eq!(cache.figures().bans, 0);
}

#[test]
fn what_is_stored_of_a_key_is_shown() {
    let cache = cache(1 << 20);
    let key = question(&cache, b"key");
    let field = Question { command: 2, space: Space::own(3), extra: Extra::Written(b"f"), ..key };
    store(&cache, &key, b"$1\r\n1\r\n");
    store(&cache, &field, b"$1\r\n2\r\n");
    let used = cache.figures().used_bytes;
    let later = Tick(NOW.0 + SECOND / 2);
    let shown = cache.variants(b"key", later);
    let rows: Vec<_> = shown.iter().map(|variant| (variant.command, variant.space.db())).collect();
    assert_eq!(rows, [(2, 3), (1, 0)], "the newest first");
    assert_eq!(shown.iter().map(|variant| variant.size).sum::<u64>(), used);
    for variant in shown {
        let times = (variant.age.as_millis(), variant.left.as_millis());
        assert_eq!(times, (500, 59_500));
    }
    assert!(cache.variants(b"kez", later).is_empty());
    assert!(cache.variants(b"key", Tick(NOW.0 + 60 * SECOND)).is_empty(), "it has expired");
    cache.ban(Banned::Pattern(b"k*"[..].into()), Source::Admin);
    assert!(cache.variants(b"key", later).is_empty(), "it is banned");
}

#[test]
fn what_a_hit_was_served_from_may_be_gone() {
    let cache = cache(1 << 20);
    let asked = question(&cache, b"key");
    store(&cache, &asked, b"$1\r\n1\r\n");
    let at = Tick(NOW.0 + 3 * SECOND);
    assert_eq!(cache.served(&asked, at).unwrap().age.as_secs(), 3);
    assert!(cache.served(&Question { space: Space::own(1), ..asked }, at).is_none());
    // Another reply has come since: it was not that.
    assert!(cache.served(&asked, Tick(NOW.0 - 1)).is_none());
    cache.invalidate(asked.hash);
    assert!(cache.served(&asked, at).is_none());
}
