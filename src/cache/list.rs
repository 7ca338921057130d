//! A list of what is stored, for people: part by part, each beginning where the last one ended,
//! however long ago that was. Off the path of a request, and never for long under one lock.
//!
//! In: a [`Cursor`]. Out: what comes behind it, and the cursor moved on. Invariant: the order is
//! that of shards and hashes, which nothing ever changes; so what is stored from the first part to
//! the last is listed once, whatever else comes, leaves or has its table rebuilt.

use crate::cache::{Cache, Entry, Variant};
use crate::units::clock::Tick;
use std::fmt;

/// Digits of a cursor's text: of its shard, and of its hash.
const SHARD_DIGITS: usize = 4;
const HASH_DIGITS: usize = 16;

/// Where a list goes on. What it is compared with are hashes: none is left out because a key at
/// the very place has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    shard: u16,
    /// The least hash that was not looked at yet.
    from: u64,
}

/// A key that is stored.
#[derive(Debug)]
pub struct Listed {
    entry: Entry,
    /// Its replies that may be served, or are kept past their time; the newest first.
    pub variants: Vec<Variant>,
}

impl Listed {
    /// The client's key.
    pub fn key(&self) -> &[u8] {
        self.entry.key()
    }
}

impl Cursor {
    /// What its text says; `None` if it is none.
    pub fn read(text: &str) -> Option<Self> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (shard, from) = text.split_at_checked(SHARD_DIGITS).filter(|_| is_hex)?;
        let from = Some(from).filter(|from| from.len() == HASH_DIGITS)?;
        let shard = u16::from_str_radix(shard, 16).ok()?;
        Some(Self { shard, from: u64::from_str_radix(from, 16).ok()? })
    }

    /// Behind what has this hash, in the same shard.
    fn behind(self, hash: u64) -> Self {
        hash.checked_add(1).map_or_else(|| self.next_shard(), |from| Self { from, ..self })
    }

    const fn next_shard(self) -> Self {
        Self { shard: self.shard.saturating_add(1), from: 0 }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0SHARD_DIGITS$x}{:0HASH_DIGITS$x}", self.shard, self.from)
    }
}

impl Cache {
    /// Adds to `list`, until it has `most`, what is stored behind `cursor` in the shard where that
    /// stands, of keys that begin with `prefix`; moves the cursor on. Answers how many places were
    /// looked at; `None` if the list has come to its end.
    pub fn list(
        &self,
        cursor: &mut Cursor,
        prefix: &[u8],
        now: Tick,
        most: usize,
        list: &mut Vec<Listed>,
    ) -> Option<usize> {
        let view = self.view(now);
        let mut found: Vec<Entry> = Vec::new();
        let places = self.store.visit(usize::from(cursor.shard), |entry| {
            if entry.hash() >= cursor.from && entry.key().starts_with(prefix) {
                found.push(entry.clone());
            }
        })?;
        // Twice is there what was seen before and after its table was rebuilt.
        found.sort_unstable_by_key(Entry::hash);
        found.dedup_by_key(|entry| entry.hash());
        for entry in found {
            let shown = self.shown(&entry, &view, now);
            let variants: Vec<Variant> = shown.map(|(variant, _)| variant).collect();
            if variants.is_empty() {
                continue;
            }
            *cursor = cursor.behind(entry.hash());
            list.push(Listed { entry, variants });
            if list.len() >= most {
                return Some(places);
            }
        }
        *cursor = cursor.next_shard();
        Some(places)
    }
}

#[cfg(test)]
mod tests {
    use super::Cursor;
    use crate::cache::Cache;
    use crate::cache::tests::{NOW, cache, question, store};
    use std::collections::BTreeSet;

    fn put(cache: &Cache, key: &str) {
        store(cache, &question(cache, key.as_bytes()), b"$1\r\nv\r\n");
    }

    fn part(cache: &Cache, cursor: &mut Cursor, prefix: &str, most: usize) -> Option<Vec<String>> {
        let mut list = Vec::new();
        cache.list(cursor, prefix.as_bytes(), NOW, most, &mut list)?;
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        Some(list.iter().map(|listed| text(listed.key())).collect())
    }

    #[test]
    fn what_stays_is_listed_once_whatever_else_comes_and_goes() {
        let cache = cache(1 << 26);
        let stays: BTreeSet<String> = (0..3000).map(|number| format!("stay:{number}")).collect();
        for key in &stays {
            put(&cache, key);
        }
        (0..9000).for_each(|number| put(&cache, &format!("first:{number}")));
        let (mut cursor, mut listed, mut parts) = (Cursor::default(), Vec::new(), 0_u32);
        while let Some(keys) = part(&cache, &mut cursor, "stay:", 2) {
            listed.extend(keys);
            parts += 1;
            // The tables grow, and later shrink, between two parts.
            let others = (0..40).map(|number| format!("other:{}", parts % 500 * 40 + number));
            for other in others {
                put(&cache, &other);
            }
            if parts == 700 {
                for number in 0..9000 {
                    let key = format!("first:{number}");
                    cache.invalidate(cache.hash(key.as_bytes()));
                }
            }
        }
        assert_eq!(listed.len(), stays.len());
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), stays);
    }

    #[test]
    fn only_what_is_there_and_begins_so_is_listed() {
        let cache = cache(1 << 20);
        for key in ["a:1", "a:2", "b:1"] {
            put(&cache, key);
        }
        cache.invalidate(cache.hash(b"a:1"));
        let (mut cursor, mut listed) = (Cursor::default(), Vec::new());
        while let Some(keys) = part(&cache, &mut cursor, "a:", 100) {
            listed.extend(keys);
        }
        assert_eq!(listed, ["a:2"]);
    }

    #[test]
    fn a_cursor_is_what_its_text_says() {
        let last = Cursor { shard: 7, from: 0 }.behind(u64::MAX);
        assert_eq!(last, Cursor { shard: 8, from: 0 });
        let cursor = Cursor { shard: 1023, from: 0xfeed_0000_0000_0000 };
        assert_eq!(cursor.to_string(), "03fffeed000000000000");
        assert_eq!(Cursor::read(&cursor.to_string()), Some(cursor));
        let wrong =
            ["", "0", "03ff+eed000000000000", "03fffeed0000000000000", "\u{fc}3fffeed0000000000"];
        for text in wrong {
            assert_eq!(Cursor::read(text), None, "{text}");
        }
    }
}
