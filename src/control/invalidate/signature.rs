//! Signed messages (`invalidation.secret_file`): members of a JSON object in; out, that who wrote
//! them has the secret, wrote them now, and that they were not heard before.
//!
//! What is signed is the object without `hmac`, written in one way ([`canonical`]): so a program in
//! any language can sign, and no space between members matters.
//!
//! Invariant: what is remembered is bounded, and only of messages whose signature is right. Where
//! there is no room to remember one it is refused: it could be repeated.

use crate::net::target::Password;
use aws_lc_rs::{digest, hmac, rand};
use foldhash::HashSet;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

/// Bytes of a nonce at most.
const NONCE_MAX: usize = 128;

/// Nonces remembered at most: 3 MB.
const SEEN_MAX: usize = 65_536;

/// Why a message is not obeyed although it means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Plain text, or without a member that signed messages have.
    #[error("it is not signed: `{0}` is missing or of a wrong kind")]
    Unsigned(&'static str),
    /// It cannot be written in one way only.
    #[error("a number in it is not whole")]
    Number,
    /// Signed with another secret, or changed on its way.
    #[error("`hmac` is not that of this message under invalidation.secret_file")]
    Signature,
    /// Not of now.
    #[error("`ts` is more than invalidation.max_skew away from the time here")]
    Stale,
    /// Heard before.
    #[error("`nonce` was heard before")]
    Replayed,
    /// There is no room to remember it.
    #[error("{SEEN_MAX} messages within twice invalidation.max_skew: no more are remembered")]
    Full,
    /// What only signed messages may say.
    #[error("only a signed message switches the key version (invalidation.secret_file)")]
    Version,
}

/// The one text of a message that is signed: JSON without `hmac`, members by name in the order of
/// their bytes, no space, numbers whole.
pub fn canonical(members: &Map<String, Value>) -> Result<String, Refused> {
    let mut text = String::new();
    object(members.iter().filter(|(name, _)| *name != "hmac"), &mut text)?;
    Ok(text)
}

fn object<'m>(
    members: impl Iterator<Item = (&'m String, &'m Value)>,
    text: &mut String,
) -> Result<(), Refused> {
    let mut members: Vec<_> = members.collect();
    members.sort_unstable_by_key(|(name, _)| name.as_bytes());
    text.push('{');
    for (place, (name, member)) in members.into_iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        // Writing to a string cannot fail.
        write!(text, "{}:", Value::from(name.as_str())).ok();
        value(member, text)?;
    }
    text.push('}');
    Ok(())
}

/// No deeper than the parser lets values be.
fn value(one: &Value, text: &mut String) -> Result<(), Refused> {
    match one {
        Value::Object(members) => object(members.iter(), text)?,
        Value::Array(list) => {
            text.push('[');
            for (place, one) in list.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                value(one, text)?;
            }
            text.push(']');
        }
        Value::Number(number) if number.is_f64() => return Err(Refused::Number),
        plain => {
            write!(text, "{plain}").ok();
        }
    }
    Ok(())
}

fn key(secret: &Password) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.bytes().map(|byte| char::from(byte).to_digit(16));
    let digits: Vec<u8> = digits.map(|digit| u8::try_from(digit?).ok()).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Signs a message that has its `ts`; `None` if the system gives no random bytes.
pub fn sign(secret: &Password, members: &mut Map<String, Value>) -> Option<()> {
    let mut nonce = [0; 16];
    rand::fill(&mut nonce).ok()?;
    members.insert("nonce".to_owned(), hex(&nonce).into());
    let text = canonical(members).ok()?;
    let tag = hmac::sign(&key(secret), text.as_bytes());
    members.insert("hmac".to_owned(), hex(tag.as_ref()).into());
    Some(())
}

/// Judges signed messages, and remembers them.
#[derive(Debug, Default)]
pub struct Judge(Mutex<Seen>);

impl Judge {
    /// Whether a message is to be obeyed at `now`, in milliseconds since 1970.
    pub fn judge(
        &self,
        members: &Map<String, Value>,
        secret: &Password,
        max_skew: Duration,
        now: u64,
    ) -> Result<(), Refused> {
        let text = |name| members.get(name).and_then(Value::as_str);
        let nonce = text("nonce").filter(|nonce| (1..=NONCE_MAX).contains(&nonce.len()));
        let nonce = nonce.ok_or(Refused::Unsigned("nonce"))?;
        let ts = members.get("ts").and_then(Value::as_u64).ok_or(Refused::Unsigned("ts"))?;
        let tag = text("hmac").and_then(unhex).ok_or(Refused::Unsigned("hmac"))?;
        // In constant time.
        hmac::verify(&key(secret), canonical(members)?.as_bytes(), &tag)
            .map_err(|_| Refused::Signature)?;
        let max_skew = u64::try_from(max_skew.as_millis()).unwrap_or(u64::MAX);
        if ts.abs_diff(now) > max_skew {
            return Err(Refused::Stale);
        }
        // It may be from the future: it stays valid for twice the skew at most.
        self.0.lock().note(nonce, now, max_skew.saturating_mul(2))
    }
}

/// The start of a nonce's SHA-256: as good as the nonce, and never longer.
type Print = [u8; 16];

#[derive(Debug, Default)]
struct Seen {
    prints: HashSet<Print>,
    /// In the order in which they came, with the time.
    order: VecDeque<(u64, Print)>,
}

impl Seen {
    /// Remembers a nonce for `lasting` milliseconds.
    fn note(&mut self, nonce: &str, now: u64, lasting: u64) -> Result<(), Refused> {
        while let Some((came, print)) = self.order.front()
            && now.saturating_sub(*came) > lasting
        {
            self.prints.remove(print);
            self.order.pop_front();
        }
        let hash = digest::digest(&digest::SHA256, nonce.as_bytes());
        let print: Print = hash.as_ref().first_chunk().copied().unwrap_or_default();
        if self.prints.contains(&print) {
            return Err(Refused::Replayed);
        }
        if self.order.len() >= SEEN_MAX {
            return Err(Refused::Full);
        }
        self.prints.insert(print);
        self.order.push_back((now, print));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Judge, Refused, SEEN_MAX, Seen, canonical, sign, unhex};
    use crate::net::target::Password;
    use serde_json::{Map, Value, json};
    use std::time::Duration;

    const NOW: u64 = 1_767_225_600_000;
    const SKEW: Duration = Duration::from_secs(30);

    fn secret() -> Password {
        Password::new("a secret of thirty-two characters".to_owned())
    }

    fn members(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn signed(value: &Value) -> Map<String, Value> {
        let mut members = members(value);
        sign(&secret(), &mut members).unwrap();
        members
    }

    /// As Python's `json.dumps(.., sort_keys=True, separators=(",", ":"), ensure_ascii=False)`.
    #[test]
    fn there_is_one_way_to_write_a_message() {
        let odd = json!({ "hmac": "x", "é": "\n\u{1}\u{7f}/\"\\<é" });
        for (value, wanted) in [
            (json!({}), "{}"),
            (json!({ "hmac": "x" }), "{}"),
            (
                json!({ "b": 1, "a": [true, null, -2, {}], "hmac": "x" }),
                r#"{"a":[true,null,-2,{}],"b":1}"#,
            ),
            (odd, "{\"é\":\"\\n\\u0001\u{7f}/\\\"\\\\<é\"}"),
            (json!({ "a": { "hmac": "x", "b": "é" } }), r#"{"a":{"b":"é","hmac":"x"}}"#),
            (
                json!({ "a": [], "B": [[], ["c", "d"]], "a b": {} }),
                r#"{"B":[[],["c","d"]],"a":[],"a b":{}}"#,
            ),
        ] {
            assert_eq!(canonical(&members(&value)).unwrap(), wanted);
        }
        assert_eq!(canonical(&members(&json!({ "a": [1.5] }))), Err(Refused::Number));
    }

    #[test]
    fn what_is_signed_is_believed_once_and_now() {
        let judge = Judge::default();
        let ask = |members: &Map<_, _>, now| judge.judge(members, &secret(), SKEW, now);
        let message = signed(&json!({ "op": "all", "ts": NOW }));
        assert_eq!(ask(&message, NOW + 30_001), Err(Refused::Stale));
        assert_eq!(ask(&message, NOW - 30_001), Err(Refused::Stale));
        assert_eq!(ask(&message, NOW - 30_000), Ok(()));
        // It could be said again until 30 s after its own time.
        for later in [NOW - 30_000, NOW, NOW + 30_000] {
            assert_eq!(ask(&message, later), Err(Refused::Replayed));
        }
        let other = Password::new("another secret, of as many letters".to_owned());
        let message = signed(&json!({ "op": "all", "ts": NOW }));
        assert_eq!(judge.judge(&message, &other, SKEW, NOW), Err(Refused::Signature));
        for (name, value, wanted) in [
            ("op", json!("pattern"), Refused::Signature),
            ("more", json!(1), Refused::Signature),
            ("more", json!(1.5), Refused::Number),
            ("nonce", json!("other"), Refused::Signature),
            ("nonce", json!(""), Refused::Unsigned("nonce")),
            ("nonce", json!("x".repeat(129)), Refused::Unsigned("nonce")),
            ("nonce", json!(7), Refused::Unsigned("nonce")),
            ("ts", json!(NOW + 1), Refused::Signature),
            ("ts", json!("now"), Refused::Unsigned("ts")),
            ("hmac", json!("00"), Refused::Signature),
            ("hmac", json!("0"), Refused::Unsigned("hmac")),
            ("hmac", json!("xy"), Refused::Unsigned("hmac")),
            ("hmac", Value::Null, Refused::Unsigned("hmac")),
        ] {
            let mut forged = message.clone();
            forged.insert(name.to_owned(), value);
            assert_eq!(ask(&forged, NOW), Err(wanted), "{forged:?}");
        }
        assert_eq!(ask(&message, NOW), Ok(()), "what was refused is not remembered");
        assert_eq!(unhex("0aFf"), Some(vec![10, 255]));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut seen = Seen::default();
        for number in 0..SEEN_MAX {
            assert_eq!(seen.note(&number.to_string(), NOW, 1000), Ok(()));
        }
        assert_eq!(seen.note("one more", NOW + 1000, 1000), Err(Refused::Full));
        assert_eq!(seen.note("0", NOW + 1000, 1000), Err(Refused::Replayed));
        assert_eq!(seen.note("one more", NOW + 1001, 1000), Ok(()));
        assert_eq!((seen.order.len(), seen.prints.len()), (1, 1));
    }
}
