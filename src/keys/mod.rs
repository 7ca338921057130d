//! Keys: the version prefix, namespaces, globs, and which may be named at all.
//!
//! The client's key goes in, the upstream's comes out, and back: [`Names`] knows which [`Prefix`]
//! stands before which key. A prefix that exists is safe:
//! it moves no key to another cluster slot, needs no escaping in a glob, and never overlaps the
//! prefix of another version (`CLIENT TRACKING` refuses overlapping prefixes).

pub mod bounds;
pub mod glob;
mod names;
pub mod template;

pub use self::names::{Names, uncover};

/// The namespace of keys that have none.
pub const ROOT: &[u8] = b"_root";

/// The first segment of `key`, as counted and invalidated by namespace; [`ROOT`] without one.
pub fn namespace(key: &[u8]) -> &[u8] {
    match memchr::memchr(b':', key) {
        None | Some(0) => ROOT,
        Some(end) => key.get(..end).unwrap_or(ROOT),
    }
}

/// Why a key prefix cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A character with a meaning in globs, cluster slots or inline commands.
    #[error("{part} must not contain {character:?}: it has a meaning of its own in keys or globs")]
    Character {
        /// `prefix`, `version` or `separator`.
        part: &'static str,
        /// The character.
        character: char,
    },
    /// Nothing would tell `v1` from `v10`.
    #[error("separator must be punctuation such as \":\", so that v1 and v10 stay apart")]
    Separator,
    /// `v1` and `v1:a` would both own the key `v1:a:b`.
    #[error("version must not contain the separator")]
    VersionHasSeparator,
}

/// What stands before every key upstream: `prefix:version:`, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix(Box<[u8]>);

impl Prefix {
    /// Joins `keys.prefix` and `keys.version`; an empty part is left out with its separator.
    pub fn new(prefix: &str, version: &str, separator: &str) -> Result<Self, Invalid> {
        let mut bytes = Vec::new();
        for (part, text) in [("prefix", prefix), ("version", version), ("separator", separator)] {
            if let Some(character) = text.chars().find(|character| forbidden(*character)) {
                return Err(Invalid::Character { part, character });
            }
        }
        for text in [prefix, version].into_iter().filter(|text| !text.is_empty()) {
            if separator.is_empty() || !separator.bytes().all(|byte| byte.is_ascii_punctuation()) {
                return Err(Invalid::Separator);
            }
            bytes.extend_from_slice(text.as_bytes());
            bytes.extend_from_slice(separator.as_bytes());
        }
        if !separator.is_empty() && version.contains(separator) {
            return Err(Invalid::VersionHasSeparator);
        }
        Ok(Self(bytes.into()))
    }

    /// The bytes that go before a key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True if keys are not rewritten at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes longer a key is upstream.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The client's name of an upstream key; `None` if it belongs to another version.
    pub fn strip<'k>(&self, upstream: &'k [u8]) -> Option<&'k [u8]> {
        upstream.strip_prefix(&*self.0)
    }
}

fn forbidden(character: char) -> bool {
    character.is_control() || " {}*?[]\\^-\"'`".contains(character)
}

#[cfg(test)]
mod tests {
    use super::{Invalid, Prefix, namespace};

    fn prefix(prefix: &str, version: &str) -> Vec<u8> {
        Prefix::new(prefix, version, ":").unwrap().as_bytes().to_vec()
    }

    #[test]
    fn prefix_and_version_are_joined() {
        assert_eq!(prefix("", ""), b"");
        assert_eq!(prefix("", "v1"), b"v1:");
        assert_eq!(prefix("shop", ""), b"shop:");
        assert_eq!(prefix("shop:prod", "v1"), b"shop:prod:v1:");
        assert_eq!(Prefix::new("", "", "").unwrap(), Prefix::default());
    }

    #[test]
    fn only_our_own_keys_are_stripped() {
        let v1 = Prefix::new("", "v1", ":").unwrap();
        assert_eq!(v1.strip(b"v1:orders:42"), Some(&b"orders:42"[..]));
        assert_eq!(v1.strip(b"v1:"), Some(&b""[..]));
        assert_eq!(v1.strip(b"v10:a"), None);
        assert_eq!(v1.strip(b"v1"), None);
        assert_eq!(Prefix::default().strip(b"a"), Some(&b"a"[..]));
    }

    #[test]
    fn what_globs_slots_and_lines_give_a_meaning_is_refused() {
        for character in "{}*?[]\\^-\"'` \r\n\0".chars() {
            let version = format!("v{character}1");
            assert_eq!(
                Prefix::new("", &version, ":"),
                Err(Invalid::Character { part: "version", character }),
            );
            assert!(Prefix::new(&version, "", ":").is_err());
            assert!(Prefix::new("", "v1", &character.to_string()).is_err());
        }
        assert_eq!(Prefix::new("", "v1", ""), Err(Invalid::Separator));
        assert_eq!(Prefix::new("a", "", "0"), Err(Invalid::Separator));
        assert_eq!(Prefix::new("", "v1:a", ":"), Err(Invalid::VersionHasSeparator));
        let text = Prefix::new("", "v{1}", ":").unwrap_err().to_string();
        assert!(text.starts_with("version must not contain '{'"), "{text}");
    }

    #[test]
    fn namespaces() {
        for (key, expected) in [
            ("orders:42", "orders"),
            ("orders:42:items", "orders"),
            ("orders", "_root"),
            (":42", "_root"),
            ("", "_root"),
        ] {
            assert_eq!(namespace(key.as_bytes()), expected.as_bytes(), "{key:?}");
        }
    }
}
