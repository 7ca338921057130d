//! Bytes in JSON: as text where they are UTF-8, else in base64; and keys, where they may be told.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use utoipa::ToSchema;

/// One of both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bytes {
    /// What is UTF-8.
    pub(super) text: Option<String>,
    /// What is not.
    pub(super) base64: Option<String>,
}

impl Bytes {
    /// All of them.
    pub(super) fn of(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(
            |_| Self { text: None, base64: Some(BASE64_STANDARD.encode(bytes)) },
            |text| Self { text: Some(text.to_owned()), base64: None },
        )
    }

    /// The first `most`, but no part of a character; and how many there are, if some are left out.
    pub(super) fn cut(bytes: &[u8], most: usize) -> (Self, Option<usize>) {
        let Some((head, _)) = bytes.split_at_checked(most).filter(|(_, rest)| !rest.is_empty())
        else {
            return (Self::of(bytes), None);
        };
        let whole = match std::str::from_utf8(head) {
            // The last character is the one that was cut.
            Err(error) if error.error_len().is_none() => head.split_at(error.valid_up_to()).0,
            _ => head,
        };
        (Self::of(whole), Some(bytes.len()))
    }
}

/// A key, as far as it may be told: by one of these.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct KeyName {
    /// Itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The same where it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    /// Its hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hash: Option<String>,
}

impl KeyName {
    /// Itself.
    pub(super) fn plain(key: &[u8]) -> Self {
        let Bytes { text: key, base64: key_base64 } = Bytes::of(key);
        Self { key, key_base64, key_hash: None }
    }

    /// By its hash alone.
    pub(super) fn hashed(hash: String) -> Self {
        Self { key_hash: Some(hash), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn what_is_cut_stays_text() {
        let text = |text: &str| Bytes { text: Some(text.to_owned()), base64: None };
        assert_eq!(Bytes::cut("née".as_bytes(), 4), (text("née"), None));
        assert_eq!(Bytes::cut("née".as_bytes(), 3), (text("né"), Some(4)));
        assert_eq!(Bytes::cut("née".as_bytes(), 2), (text("n"), Some(4)));
        let bytes = Bytes { text: None, base64: Some("/wA=".to_owned()) };
        assert_eq!(Bytes::cut(&[255, 0, 1], 2), (bytes.clone(), Some(3)));
        assert_eq!(Bytes::of(&[255, 0]), bytes);
    }
}
