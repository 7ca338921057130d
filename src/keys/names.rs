//! How each key of clients is named upstream: behind the usual [`Prefix`], behind that of the
//! version that its rule has of its own, or, if it is excluded, as it is.
//!
//! ```text
//!   client's key -- of --> the prefix before it        upstream's -- strip --> client's key
//! ```
//!
//! Invariant: no two keys of clients share a name, and a name tells its key. For that, what stands
//! before a key is always the longest prefix in force that the name begins with. A key that would
//! break it takes that longer prefix: `v3:a`, left as it is, would be named as `a` under `v3:`, so
//! it is named `v3:v3:a`.

use super::Prefix;
use super::glob::{self, Glob};

/// What stands behind the usual prefix in the name of the written canary.
const CANARY: &[u8] = b"nearside:canary";

/// The same, of the names of all locks of fill leases.
const FILL_LOCK: &[u8] = b"nearside:lease";

/// How keys are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    usual: Prefix,
    /// Nearly everywhere there is one prefix for all.
    several: Option<Box<Several>>,
}

/// Several prefixes, and which keys have which.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Several {
    /// All of them, the longest first.
    prefixes: Box<[Prefix]>,
    /// The place of the usual one.
    usual: usize,
    /// Whose prefix is at which place: the first that matches says it.
    patterns: Box<[(Glob, usize)]>,
    /// So many patterns in front are of excluded keys.
    excluded: usize,
}

/// Keys that begin alike, and that have one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    /// The prefix's place.
    place: usize,
    /// What the clients' keys begin with.
    begins: Vec<u8>,
}

impl Names {
    /// The usual prefix, the globs of excluded keys, and the rules in their order: their globs,
    /// and the prefix that a rule has of its own.
    pub fn new<'a>(
        usual: Prefix,
        exclude: impl IntoIterator<Item = &'a str>,
        rules: impl IntoIterator<Item = (&'a [String], Option<Prefix>)>,
    ) -> Self {
        let as_it_is = |text: &str| (Glob::new(text.as_bytes()), Prefix::default());
        let mut patterns: Vec<(Glob, Prefix)> = exclude.into_iter().map(as_it_is).collect();
        let excluded = patterns.len();
        for (globs, own) in rules {
            let own = own.unwrap_or_else(|| usual.clone());
            patterns.extend(globs.iter().map(|glob| (Glob::new(glob.as_bytes()), own.clone())));
        }
        // Behind the last that matters nothing is to be looked for.
        let count = patterns.iter().rposition(|(_, own)| *own != usual).map_or(0, |last| last + 1);
        patterns.truncate(count);
        if patterns.is_empty() {
            return Self { usual, several: None };
        }
        let own = patterns.iter().map(|(_, own)| own.clone());
        let mut prefixes: Vec<Prefix> = own.chain([usual.clone()]).collect();
        prefixes.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.as_bytes().cmp(b.as_bytes())));
        prefixes.dedup();
        let place = |own: &Prefix| prefixes.iter().position(|other| other == own).unwrap_or(0);
        let several = Several {
            usual: place(&usual),
            patterns: patterns.into_iter().map(|(glob, own)| (glob, place(&own))).collect(),
            excluded: excluded.min(count),
            prefixes: prefixes.into(),
        };
        Self { usual, several: Some(Box::new(several)) }
    }

    /// These names, and none of them is the written canary's: it is taken for a prefix, behind
    /// which a key of clients that begins with it has its name. Without a usual prefix every name
    /// is a key of clients, and nothing is hidden.
    #[must_use]
    pub fn hiding_canary(self) -> Self {
        let canary = self.canary();
        self.hiding(canary)
    }

    /// The same, of the locks of fill leases.
    #[must_use]
    pub fn hiding_fill_locks(self) -> Self {
        let locks = self.fill_locks();
        self.hiding(locks)
    }

    fn hiding(mut self, hidden: Vec<u8>) -> Self {
        if self.usual.is_empty() {
            return self;
        }
        let hidden = Prefix(hidden.into());
        let one = || Several {
            prefixes: [self.usual.clone()].into(),
            usual: 0,
            patterns: [].into(),
            excluded: 0,
        };
        let mut several = self.several.take().map_or_else(one, |several| *several);
        let at = several.prefixes.partition_point(|other| other.len() >= hidden.len());
        let moved = |place: usize| place + usize::from(place >= at);
        several.usual = moved(several.usual);
        for (_, place) in &mut several.patterns {
            *place = moved(*place);
        }
        let mut prefixes = several.prefixes.into_vec();
        prefixes.insert(at, hidden);
        several.prefixes = prefixes.into();
        self.several = Some(Box::new(several));
        self
    }

    /// The name of the canary that nearside writes, to hear of it.
    pub fn canary(&self) -> Vec<u8> {
        [self.usual.as_bytes(), CANARY].concat()
    }

    /// What the names of all locks of fill leases begin with.
    pub fn fill_locks(&self) -> Vec<u8> {
        [self.usual.as_bytes(), FILL_LOCK].concat()
    }

    /// The name of the lock beside a key, in the same slot of a cluster: it has the key's hash tag,
    /// or the key's whole name for one. (Of a key without a tag, but with a `}`, it has another.)
    pub fn fill_lock(&self, key: &[u8]) -> Vec<u8> {
        let (name, mut lock) = (self.name(key), self.fill_locks());
        if has_tag(&name) {
            lock.push(b':');
            lock.extend_from_slice(&name);
        } else {
            lock.extend_from_slice(b"-of:{");
            lock.extend_from_slice(&name);
            lock.push(b'}');
        }
        lock
    }

    /// What stands before the keys of which nothing else is said.
    pub fn usual(&self) -> &Prefix {
        &self.usual
    }

    /// True if keys are not rewritten at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.usual.is_empty() && self.several.is_none()
    }

    /// True if not all keys have the same prefix.
    #[inline]
    pub fn has_several(&self) -> bool {
        self.several.is_some()
    }

    /// Every prefix in force, the longest first.
    pub fn prefixes(&self) -> &[Prefix] {
        match &self.several {
            None => std::slice::from_ref(&self.usual),
            Some(several) => &several.prefixes,
        }
    }

    /// What stands before this key.
    #[inline]
    pub fn of(&self, key: &[u8]) -> &Prefix {
        match &self.several {
            None => &self.usual,
            Some(several) => several.prefixes.get(several.place(key)).unwrap_or(&self.usual),
        }
    }

    /// The name of this key.
    pub fn name(&self, key: &[u8]) -> Vec<u8> {
        [self.of(key).as_bytes(), key].concat()
    }

    /// The key of this name; `None` if it names no key of clients: it is of another version.
    #[inline]
    pub fn strip<'k>(&self, name: &'k [u8]) -> Option<&'k [u8]> {
        match &self.several {
            None => self.usual.strip(name),
            Some(several) => several.strip(name),
        }
    }

    /// What is left of a text that a name begins, and of which nobody knows where that name ends.
    pub fn cut<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        self.prefixes().iter().find_map(|prefix| prefix.strip(text)).unwrap_or(text)
    }

    /// True for a key that is shared with others, so that it is named as it is.
    pub fn is_excluded(&self, key: &[u8]) -> bool {
        self.several.as_ref().is_some_and(|several| several.is_excluded(key))
    }

    /// A glob on names that matches those of all keys that this one matches, and perhaps others:
    /// what comes of it is held against the client's own.
    pub fn pattern(&self, pattern: &[u8]) -> Vec<u8> {
        let Some(several) = &self.several else {
            return [self.usual.as_bytes(), pattern].concat();
        };
        let (literal, is_one_key) = glob::literal_prefix(pattern);
        if is_one_key {
            return [self.of(&literal).as_bytes(), pattern].concat();
        }
        several.pattern(several.parts(&literal), pattern)
    }

    /// As [`Self::pattern`], of all keys but those that are excluded.
    pub fn pattern_of_own(&self) -> Vec<u8> {
        let Some(several) = &self.several else {
            return [self.usual.as_bytes(), b"*"].concat();
        };
        let mut parts = several.parts(b"");
        let own = several.patterns.iter().skip(several.excluded).map(|(_, place)| *place);
        let own: Vec<usize> = own.chain([several.usual]).collect();
        // (An excluded key with a prefix is one that begins with it.)
        parts.retain(|part| own.contains(&part.place));
        several.pattern(parts, b"*")
    }

    /// The client's glob that [`Self::pattern`] has made this of; `None` if it was none.
    pub fn client_pattern<'p>(&self, upstream: &'p [u8]) -> Option<&'p [u8]> {
        let of_one = self.prefixes().iter().filter_map(|prefix| prefix.strip(upstream));
        let longest = self.prefixes().first().map_or(0, Prefix::len);
        let stars =
            upstream.iter().take(longest + 1).enumerate().filter(|(_, byte)| **byte == b'*');
        let of_several = stars.filter_map(|(at, _)| upstream.get(at + 1..));
        of_one
            .chain(of_several)
            .chain([&b"*"[..]])
            .find(|pattern| self.pattern(pattern) == upstream)
    }

    /// What the names of all keys begin with that begin with this, none covering another.
    pub fn beginnings(&self, key: &[u8]) -> Vec<Vec<u8>> {
        let Some(several) = &self.several else {
            return vec![[self.usual.as_bytes(), key].concat()];
        };
        let mut names: Vec<Vec<u8>> = several
            .parts(key)
            .iter()
            .map(|part| [several.prefix(part.place), part.begins.as_slice()].concat())
            .collect();
        uncover(&mut names);
        names
    }
}

/// True if only a part of this name, `{...}`, says in which slot of a cluster it is.
fn has_tag(name: &[u8]) -> bool {
    let opened = name.iter().position(|byte| *byte == b'{');
    let tag = opened.and_then(|at| name.get(at + 1..)).unwrap_or_default();
    tag.iter().position(|byte| *byte == b'}').is_some_and(|length| length > 0)
}

/// Sorts what names begin with, and takes out what another one covers: of two such prefixes the
/// server refuses to track both.
pub fn uncover(beginnings: &mut Vec<Vec<u8>>) {
    beginnings.sort();
    beginnings.dedup_by(|longer, shorter| longer.starts_with(shorter));
}

impl Several {
    fn prefix(&self, place: usize) -> &[u8] {
        self.prefixes.get(place).map(Prefix::as_bytes).unwrap_or_default()
    }

    /// The place of a key's prefix.
    fn place(&self, key: &[u8]) -> usize {
        let found = self.patterns.iter().find(|(glob, _)| glob.matches(key));
        let mut place = found.map_or(self.usual, |(_, place)| *place);
        while let Some(longer) = self.longest_of(place, key) {
            place = longer;
        }
        place
    }

    /// The longest prefix that a key behind the one at `place` begins with, if that is another.
    fn longest_of(&self, place: usize, key: &[u8]) -> Option<usize> {
        // (The longest stand first.)
        (0..place)
            .find(|longer| self.rest(*longer, place).is_some_and(|rest| key.starts_with(rest)))
    }

    /// What a longer prefix has beyond a shorter one that it begins with.
    fn rest(&self, longer: usize, shorter: usize) -> Option<&[u8]> {
        self.prefix(longer).strip_prefix(self.prefix(shorter))
    }

    fn strip<'k>(&self, name: &'k [u8]) -> Option<&'k [u8]> {
        let begins = |prefix: &Prefix| name.starts_with(prefix.as_bytes());
        let place = self.prefixes.iter().position(begins)?;
        let key = name.get(self.prefix(place).len()..)?;
        (self.place(key) == place).then_some(key)
    }

    fn is_excluded(&self, key: &[u8]) -> bool {
        self.patterns.iter().take(self.excluded).any(|(glob, _)| glob.matches(key))
            && self.prefix(self.place(key)).is_empty()
    }

    /// All prefixes that keys beginning with this may have, and what those keys begin with.
    fn parts(&self, begins: &[u8]) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut rest_is_taken = false;
        for (glob, place) in &self.patterns {
            if let Some(begins) = longer(glob.literal(), begins) {
                parts.push(Part { place: *place, begins: begins.to_vec() });
            }
            rest_is_taken |= glob.takes_all(begins);
            if rest_is_taken {
                break;
            }
        }
        if !rest_is_taken {
            parts.push(Part { place: self.usual, begins: begins.to_vec() });
        }
        // Some of them have a longer prefix, as `Self::place` gives it.
        let mut at = 0;
        while let Some(part) = parts.get(at).cloned() {
            at += 1;
            for place in 0..part.place {
                let rest = self.rest(place, part.place);
                let begins = rest.and_then(|rest| longer(rest, &part.begins));
                let found = begins.map(|begins| Part { place, begins: begins.to_vec() });
                if let Some(found) = found
                    && !parts.contains(&found)
                {
                    parts.push(found);
                }
            }
        }
        // Or all of them have.
        parts.retain(|part| self.longest_of(part.place, &part.begins).is_none());
        parts
    }

    /// One glob for keys of all these parts. (A prefix needs no escaping: see [`Prefix`].)
    fn pattern(&self, parts: Vec<Part>, pattern: &[u8]) -> Vec<u8> {
        let mut places: Vec<usize> = parts.into_iter().map(|part| part.place).collect();
        places.sort_unstable();
        places.dedup();
        if let [place] = *places {
            return [self.prefix(place), pattern].concat();
        }
        let mut common = places.first().map(|place| self.prefix(*place)).unwrap_or_default();
        for place in places {
            let alike = common.iter().zip(self.prefix(place)).take_while(|(a, b)| a == b).count();
            common = common.get(..alike).unwrap_or_default();
        }
        // Two stars would ask for a name of one byte at least.
        let star: &[u8] = if pattern == b"*" { b"" } else { b"*" };
        [common, star, pattern].concat()
    }
}

/// The longer of two beginnings, if the other one is how it begins.
fn longer<'b>(one: &'b [u8], other: &'b [u8]) -> Option<&'b [u8]> {
    if one.starts_with(other) { Some(one) } else { other.starts_with(one).then_some(other) }
}

#[cfg(test)]
mod tests {
    use super::{Names, Prefix, glob};
    use proptest::prelude::{Just, Strategy, prop, prop_oneof, proptest};
    use proptest::{prop_assert, prop_assert_eq};

    fn prefix(shop: &str, version: &str) -> Prefix {
        Prefix::new(shop, version, ":").unwrap()
    }

    fn names(usual: &str, exclude: &[&str], rules: &[(&str, Option<&str>)]) -> Names {
        let rules: Vec<(Vec<String>, Option<Prefix>)> = rules
            .iter()
            .map(|(glob, own)| (vec![(*glob).to_owned()], own.map(|own| prefix("", own))))
            .collect();
        let rules = rules.iter().map(|(globs, own)| (globs.as_slice(), own.clone()));
        Names::new(prefix("", usual), exclude.iter().copied(), rules)
    }

    fn name(names: &Names, key: &str) -> String {
        String::from_utf8(names.name(key.as_bytes())).unwrap()
    }

    #[test]
    fn one_prefix_is_all_there_is_unless_something_else_is_said() {
        let usual = names("v1", &[], &[("a:*", None), ("b:*", Some("v1"))]);
        assert!(!usual.has_several() && !usual.is_empty());
        assert_eq!(name(&usual, "a:1"), "v1:a:1");
        assert_eq!(usual.strip(b"v1:a:1"), Some(&b"a:1"[..]));
        assert!(names("", &["a"], &[("b", Some(""))]).is_empty());
    }

    #[test]
    fn the_first_that_matches_says_the_prefix() {
        let rules = [("sub:old:*", None), ("sub:*", Some("v3")), ("job:*", Some(""))];
        let names = names("v1", &["lock:*", "sub:lock"], &rules);
        for (key, expected) in [
            ("user:1", "v1:user:1"),
            ("sub:1", "v3:sub:1"),
            ("sub:old:1", "v1:sub:old:1"),
            ("lock:1", "lock:1"),
            ("sub:lock", "sub:lock"),
            ("job:1", "job:1"),
        ] {
            assert_eq!(name(&names, key), expected);
            assert_eq!(names.strip(expected.as_bytes()), Some(key.as_bytes()));
        }
        for other in ["v3:user:1", "v1:sub:1", "v2:user:1", "user:1", "v1:lock:1"] {
            assert_eq!(names.strip(other.as_bytes()), None, "{other}");
        }
        assert!(names.is_excluded(b"lock:1") && !names.is_excluded(b"job:1"));
    }

    /// Without a usual prefix, too.
    #[test]
    fn a_key_that_looks_like_anothers_name_has_one_of_its_own() {
        let bare = names("", &[], &[("sub:*", Some("v3"))]);
        assert_eq!(name(&bare, "user:1"), "user:1");
        assert_eq!(name(&bare, "sub:1"), "v3:sub:1");
        assert_eq!(name(&bare, "v3:sub:1"), "v3:v3:sub:1");
        let all = names("v1", &["*"], &[]);
        assert_eq!(name(&all, "user:1"), "user:1");
        assert_eq!(name(&all, "v1:user:1"), "v1:v1:user:1");
        assert_eq!(all.strip(b"v1:user:1"), None);
        assert!(!all.is_excluded(b"v1:user:1"));
    }

    #[test]
    fn the_canary_is_no_key_of_clients_and_takes_none_from_them() {
        for names in [names("v1", &[], &[]), names("v1", &["lock:*"], &[("sub:*", Some("v3"))])] {
            let names = names.hiding_canary();
            assert_eq!(names.canary(), b"v1:nearside:canary");
            assert_eq!(names.strip(&names.canary()), None);
            for (key, expected) in [
                ("user:1", "v1:user:1"),
                ("nearside:canary", "v1:nearside:canarynearside:canary"),
                ("nearside:canary:1", "v1:nearside:canarynearside:canary:1"),
                ("nearside:1", "v1:nearside:1"),
            ] {
                assert_eq!(name(&names, key), expected);
                assert_eq!(names.strip(expected.as_bytes()), Some(key.as_bytes()));
            }
            assert_eq!(names.pattern(b"user:*"), b"v1:user:*");
        }
        let bare = names("", &[], &[]).hiding_canary();
        assert!(bare.is_empty(), "nothing is rewritten for it");
        assert_eq!(bare.canary(), b"nearside:canary");
    }

    #[test]
    fn locks_are_no_keys_of_clients_and_stand_beside_theirs() {
        let names = names("v1", &["lock:*"], &[]).hiding_canary().hiding_fill_locks();
        for (key, expected) in [
            ("user:1", "v1:nearside:lease-of:{v1:user:1}"),
            ("{user}:1", "v1:nearside:lease:v1:{user}:1"),
            ("{}user", "v1:nearside:lease-of:{v1:{}user}"),
            ("lock:1", "v1:nearside:lease-of:{lock:1}"),
        ] {
            let lock = names.fill_lock(key.as_bytes());
            assert_eq!(lock, expected.as_bytes());
            assert_eq!(names.strip(&lock), None);
        }
        assert_eq!(names.strip(&names.canary()), None);
        let looks_alike = "nearside:lease-of:{v1:user:1}";
        assert_ne!(names.name(looks_alike.as_bytes()), names.fill_lock(b"user:1"));
    }

    #[test]
    fn patterns_ask_for_no_more_than_they_must() {
        let names = names("v1", &["lock:*"], &[("sub:*", Some("v3"))]);
        for (pattern, expected) in [
            ("user:*", "v1:user:*"),
            ("sub:?", "v3:sub:?"),
            ("lock:[12]", "lock:[12]"),
            ("sub:1", "v3:sub:1"),
            ("s*", "v*s*"),
            ("*:1", "**:1"),
            ("*", "*"),
        ] {
            let asked = names.pattern(pattern.as_bytes());
            assert_eq!(asked, expected.as_bytes(), "{pattern}");
            assert_eq!(names.client_pattern(&asked), Some(pattern.as_bytes()));
        }
        assert_eq!(names.pattern_of_own(), b"v*");
        assert_eq!(names.client_pattern(b"v2:user:*"), None);
    }

    #[test]
    fn what_is_tracked_covers_what_is_named() {
        let names = names("v1", &["lock:*"], &[("sub:*", Some("v3"))]);
        let beginnings = |key: &str| {
            let all = names.beginnings(key.as_bytes());
            all.into_iter().map(|one| String::from_utf8(one).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(beginnings(""), ["lock:", "v1:", "v3:sub:"]);
        assert_eq!(beginnings("sub:"), ["v3:sub:"]);
        assert_eq!(beginnings("user:"), ["v1:user:"]);
        assert_eq!(beginnings("lock:a"), ["lock:a"]);
        assert_eq!(beginnings("v1:"), ["v1:v1:"]);
    }

    fn some_names() -> impl Strategy<Value = Names> {
        let version = || prop_oneof![Just(""), Just("v"), Just("v1"), Just("v3"), Just("v1x")];
        let pattern = || prop_oneof!["(v1:|v3:|[sab:]){0,3}\\*?", "[ab:?*\\\\]{1,4}"];
        let rule = (prop::collection::vec(pattern(), 1..3), prop::option::of(version()));
        let rules = prop::collection::vec(rule, 0..4);
        let exclude = prop::collection::vec(pattern(), 0..3);
        let shop = prop_oneof![Just(""), Just("s"), Just("v1")];
        let all = (shop, version(), exclude, rules, prop::bool::ANY, prop::bool::ANY);
        all.prop_map(|(shop, version, exclude, rules, hides_canary, hides_locks)| {
            let own = |(globs, version): &(Vec<String>, Option<&str>)| {
                (globs.clone(), version.map(|version| prefix(shop, version)))
            };
            let rules: Vec<(Vec<String>, Option<Prefix>)> = rules.iter().map(own).collect();
            let rules = rules.iter().map(|(globs, own)| (globs.as_slice(), own.clone()));
            let exclude = exclude.iter().map(String::as_str);
            let names = Names::new(prefix(shop, version), exclude, rules);
            let names = if hides_canary { names.hiding_canary() } else { names };
            if hides_locks { names.hiding_fill_locks() } else { names }
        })
    }

    const KEYS: &str = "(v1:|v3:|s:|v:|v1x:|nearside:canary|nearside:lease|[ab:]){0,4}";

    proptest! {
        #[test]
        fn a_key_has_one_name_and_a_name_one_key(
            names in some_names(),
            one in KEYS,
            other in KEYS,
        ) {
            let (one, other) = (one.as_bytes(), other.as_bytes());
            let name = names.name(one);
            prop_assert_eq!(names.strip(&name), Some(one));
            prop_assert_eq!(name == names.name(other), one == other);
            if let Some(key) = names.strip(other) {
                prop_assert_eq!(names.name(key), other);
            }
        }

        #[test]
        fn a_pattern_finds_every_key_that_it_means(
            names in some_names(),
            key in KEYS,
            pattern in "(v1:|v3:|s:|[ab:?*]){0,4}",
        ) {
            let (key, pattern) = (key.as_bytes(), pattern.as_bytes());
            let (name, asked) = (names.name(key), names.pattern(pattern));
            if glob::matches(pattern, key) {
                prop_assert!(glob::matches(&asked, &name), "{:?}", asked.escape_ascii());
            }
            prop_assert_eq!(names.client_pattern(&asked), Some(pattern));
            if !names.is_excluded(key) {
                prop_assert!(glob::matches(&names.pattern_of_own(), &name));
            }
        }

        #[test]
        fn what_names_begin_with_is_known(names in some_names(), key in KEYS, cut in 0_usize..9) {
            let key = key.as_bytes();
            let begins = key.get(..cut).unwrap_or(key);
            let all = names.beginnings(begins);
            let name = names.name(key);
            prop_assert!(all.iter().any(|begins| name.starts_with(begins)), "{all:?}");
            for (at, one) in all.iter().enumerate() {
                let others = all.iter().enumerate().filter(|(other, _)| *other != at);
                prop_assert!(!others.into_iter().any(|(_, other)| one.starts_with(other)));
            }
        }
    }
}
