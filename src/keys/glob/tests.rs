//! The matcher against a table, and against a plain port of Redis' recursive function.

use super::reference::redis;
use super::{Glob, escape, literal_prefix, matches};
use proptest::prelude::{ProptestConfig, any, prop, proptest};
use proptest::{prop_assert, prop_assert_eq};

#[test]
fn a_table_of_patterns() {
    for (pattern, text, expected) in [
        ("", "", true),
        ("", "a", false),
        ("*", "", true),
        ("**", "", false),
        ("*", "a", true),
        ("a", "a", true),
        ("a", "A", false),
        ("a*", "a", true),
        ("a**", "a", true),
        ("*a", "a", true),
        ("a?", "a", false),
        ("?", "a", true),
        ("orders:*", "orders:42", true),
        ("orders:*", "order:42", false),
        ("*:4?:*", "a:b:42:c", true),
        ("*ab", "aab", true),
        ("*a*b", "xaxbx", false),
        ("h[ae]llo", "hello", true),
        ("h[^e]llo", "hello", false),
        ("h[^e]llo", "hallo", true),
        ("h[a-e]llo", "hcllo", true),
        ("h[e-a]llo", "hcllo", true),
        ("[\\]]", "]", true),
        ("[\\a-c]", "b", false),
        ("[\\a-c]", "-", true),
        ("[", "[", false),
        ("[^", "x", true),
        ("[a", "a", true),
        ("[a-", "-", true),
        ("[a-]", "_", true),
        ("[]", "a", false),
        ("[]a]", "]a]", false),
        ("\\*", "*", true),
        ("\\*", "a", false),
        ("a\\", "a\\", true),
        ("\\a", "a", true),
        ("*\\", "x\\", true),
    ] {
        let (glob, text) = (pattern.as_bytes(), text.as_bytes());
        assert_eq!(matches(glob, text), expected, "{pattern:?} {text:?}");
        if glob != b"*" {
            assert_eq!(redis(glob, text), expected, "{pattern:?} {text:?}: the port");
        }
    }
}

#[test]
fn many_stars_take_no_exponential_time() {
    let pattern = [b"*a".repeat(2000), b"b".to_vec()].concat();
    assert!(!matches(&pattern, &b"a".repeat(20_000)));
    assert!(!matches(&b"*".repeat(100_000), b""));
}

#[test]
fn literal_prefixes() {
    for (pattern, literal, exact) in [
        ("", "", true),
        ("orders:42", "orders:42", true),
        ("orders:*", "orders:", false),
        ("a?b", "a", false),
        ("a[b]", "a", false),
        ("a\\*b", "a*b", true),
        ("a\\", "a\\", true),
        ("*", "", false),
    ] {
        let found = literal_prefix(pattern.as_bytes());
        assert_eq!(found, (literal.as_bytes().to_vec(), exact), "{pattern:?}");
    }
}

fn bytes_of(
    alphabet: &'static [u8],
    most: usize,
) -> impl prop::strategy::Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(alphabet), 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_redis(
        pattern in bytes_of(b"ab*?[]^-\\c", 10),
        text in bytes_of(b"abc]-^\\", 8),
    ) {
        let expected = pattern == b"*" || redis(&pattern, &text);
        prop_assert_eq!(matches(&pattern, &text), expected);
    }

    #[test]
    fn an_escaped_literal_matches_itself_alone(
        literal in prop::collection::vec(any::<u8>(), 0..12),
        other in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut pattern = Vec::new();
        escape(&literal, &mut pattern);
        prop_assert!(matches(&pattern, &literal));
        prop_assert_eq!(matches(&pattern, &other), literal == other);
        prop_assert_eq!(literal_prefix(&pattern), (literal, true));
    }

    #[test]
    fn every_match_begins_with_the_literal_prefix(
        pattern in bytes_of(b"ab*?[\\", 8),
        text in bytes_of(b"ab\\*", 6),
    ) {
        let (literal, exact) = literal_prefix(&pattern);
        if matches(&pattern, &text) {
            prop_assert!(text.starts_with(&literal));
            prop_assert!(!exact || text == literal);
        }
    }

    #[test]
    fn the_short_way_says_what_the_glob_says(
        pattern in bytes_of(b"ab*?\\[]", 6),
        text in bytes_of(b"ab*\\", 6),
    ) {
        let glob = Glob::new(&pattern);
        prop_assert_eq!(glob.matches(&text), matches(&pattern, &text));
        if glob.takes_all(&text) {
            prop_assert!(glob.matches(&text));
        }
    }
}
