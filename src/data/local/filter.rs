//! Which clients a CLIENT LIST or a CLIENT KILL means.
//!
//! Redis and Valkey read the same options differently, so the server upstream decides: Valkey
//! takes several numbers behind ID, negations, and more to filter by.

use crate::data::registry::{Client, Mark};
use crate::net::client::PeerAddress;
use crate::units::clock::Tick;
use crate::wire::number::parse_i64;
use crate::wire::request::Request;
use std::sync::atomic::Ordering;

/// An error text.
pub type Refused = Vec<u8>;

/// What is said of options that cannot be read.
pub const SYNTAX: &[u8] = b"ERR syntax error";

/// Whose grammar holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// That of Redis.
    Redis,
    /// That of Valkey from 8.1 on.
    Valkey,
}

/// What must be true of a client.
#[derive(Debug)]
pub struct Filter<'a> {
    conditions: Vec<Condition<'a>>,
    /// True if the client that asks is left out; `None` = it did not say.
    pub skip_me: Option<bool>,
}

#[derive(Debug)]
struct Condition<'a> {
    what: What<'a>,
    is_negated: bool,
}

#[derive(Debug)]
enum What<'a> {
    Ids(Vec<i64>),
    /// A type: its name stands for those that no client of a proxy is of.
    Subscriber(bool),
    Nobody,
    Address(&'a [u8]),
    Local(&'a [u8]),
    Ip(&'a [u8]),
    Name(&'a [u8]),
    LibName(&'a [u8]),
    LibVersion(&'a [u8]),
    Flags(&'a [u8]),
    Age(u64),
    Idle(u64),
    Database(i64),
    User(&'a [u8]),
}

/// Which users there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// The one that everybody is.
    Default,
    /// Those of upstream: any name may be one.
    Upstreams,
}

impl<'a> Filter<'a> {
    /// The one condition of the old form: `CLIENT KILL addr:port`.
    pub fn address(address: &'a [u8]) -> Self {
        let condition = Condition { what: What::Address(address), is_negated: false };
        Self { conditions: vec![condition], skip_me: Some(false) }
    }

    /// Reads options and values from the argument at `at` on.
    pub fn parse(
        request: &Request<'a>,
        mut at: usize,
        (dialect, users): (Dialect, Users),
    ) -> Result<Self, Refused> {
        let mut filter = Self { conditions: Vec::new(), skip_me: None };
        while at < request.len() {
            if at + 1 >= request.len() {
                return Err(SYNTAX.to_vec());
            }
            let option = request.arg(at).to_ascii_lowercase();
            let (word, is_negated) = match option.strip_prefix(b"not-") {
                Some(word) if dialect == Dialect::Valkey => (word, true),
                _ => (option.as_slice(), false),
            };
            at += 1;
            let value = request.arg(at);
            if word == b"skipme" && !is_negated {
                filter.skip_me = Some(yes_or_no(value)?);
                at += 1;
                continue;
            }
            let what = if word == b"id" {
                What::Ids(ids(request, &mut at, dialect)?)
            } else {
                at += 1;
                condition(word, value, (dialect, users))?
            };
            filter.conditions.push(Condition { what, is_negated });
        }
        Ok(filter)
    }

    /// True if the client is meant.
    pub fn takes(&self, client: &Client, now: Tick) -> bool {
        self.conditions
            .iter()
            .all(|condition| condition.what.is(client, now) != condition.is_negated)
    }
}

/// A client type; `None` if there is no such.
pub fn client_type(name: &[u8]) -> Option<Filter<'static>> {
    let what = what_type(name)?;
    Some(Filter { conditions: vec![Condition { what, is_negated: false }], skip_me: None })
}

fn what_type(name: &[u8]) -> Option<What<'static>> {
    match name.to_ascii_lowercase().as_slice() {
        b"normal" => Some(What::Subscriber(false)),
        b"pubsub" => Some(What::Subscriber(true)),
        b"master" | b"primary" | b"replica" | b"slave" => Some(What::Nobody),
        _ => None,
    }
}

fn yes_or_no(value: &[u8]) -> Result<bool, Refused> {
    match value.to_ascii_lowercase().as_slice() {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        _ => Err(SYNTAX.to_vec()),
    }
}

/// The numbers behind ID: one, or in Valkey's grammar as many as there are.
fn ids(request: &Request<'_>, at: &mut usize, dialect: Dialect) -> Result<Vec<i64>, Refused> {
    const TOO_SMALL: &[u8] = b"ERR client-id should be greater than 0";
    let mut ids = Vec::new();
    while let Some(id) = (*at < request.len()).then(|| parse_i64(request.arg(*at))).flatten() {
        if id < 1 {
            return Err(TOO_SMALL.to_vec());
        }
        ids.push(id);
        *at += 1;
        if dialect == Dialect::Redis {
            break;
        }
    }
    match (ids.is_empty(), dialect) {
        (false, _) => Ok(ids),
        (true, Dialect::Redis) => Err(TOO_SMALL.to_vec()),
        (true, Dialect::Valkey) => Err(SYNTAX.to_vec()),
    }
}

fn condition<'a>(
    word: &[u8],
    value: &'a [u8],
    (dialect, users): (Dialect, Users),
) -> Result<What<'a>, Refused> {
    Ok(match word {
        b"type" => what_type(value).ok_or_else(|| unknown_type(value))?,
        b"addr" => What::Address(value),
        b"laddr" => What::Local(value),
        b"user" if users == Users::Upstreams || value == b"default" => What::User(value),
        b"user" => return Err([b"ERR No such user '".as_slice(), value, b"'"].concat()),
        b"maxage" => What::Age(above_zero(value, "maxage")?),
        b"ip" if dialect == Dialect::Valkey => What::Ip(value),
        b"name" if dialect == Dialect::Valkey => What::Name(value),
        b"lib-name" if dialect == Dialect::Valkey => What::LibName(value),
        b"lib-ver" if dialect == Dialect::Valkey => What::LibVersion(value),
        b"flags" if dialect == Dialect::Valkey => What::Flags(value),
        b"idle" if dialect == Dialect::Valkey => What::Idle(above_zero(value, "idle")?),
        b"db" if dialect == Dialect::Valkey => What::Database(
            parse_i64(value).ok_or_else(|| b"ERR DB is not an integer or out of range".to_vec())?,
        ),
        _ => return Err(SYNTAX.to_vec()),
    })
}

/// `Unknown client type 'x'`.
pub fn unknown_type(value: &[u8]) -> Refused {
    [b"ERR Unknown client type '".as_slice(), value, b"'"].concat()
}

fn above_zero(value: &[u8], name: &str) -> Result<u64, Refused> {
    match parse_i64(value).map(u64::try_from) {
        Some(Ok(seconds @ 1..)) => Ok(seconds),
        Some(_) => Err(format!("ERR {name} should be greater than 0").into_bytes()),
        None => Err(format!("ERR {name} is not an integer or out of range").into_bytes()),
    }
}

impl What<'_> {
    fn is(&self, client: &Client, now: Tick) -> bool {
        let is_text = |text: String, value: &[u8]| text.as_bytes() == value;
        match self {
            Self::Ids(ids) => i64::try_from(client.id).is_ok_and(|id| ids.contains(&id)),
            Self::Subscriber(is) => client.has(Mark::Subscriber) == *is,
            Self::Nobody => false,
            Self::User(value) => client.names.lock().user.as_bytes() == *value,
            Self::Address(value) => is_text(client.address.to_string(), value),
            Self::Local(value) => is_text(client.local.to_string(), value),
            Self::Ip(value) => match &client.address {
                PeerAddress::Tcp(address) => is_text(address.ip().to_string(), value),
                PeerAddress::Unix(path) => is_text(path.display().to_string(), value),
            },
            Self::Name(value) => client.names.lock().name.as_bytes() == *value,
            Self::LibName(value) => client.names.lock().lib_name.as_bytes() == *value,
            Self::LibVersion(value) => client.names.lock().lib_ver.as_bytes() == *value,
            Self::Flags(value) => {
                let flags = client.flags();
                value.iter().all(|letter| flags.as_bytes().contains(letter))
            }
            Self::Age(seconds) => client.age(now) >= *seconds,
            Self::Idle(seconds) => client.idle(now) >= *seconds,
            Self::Database(number) => i64::from(client.db.load(Ordering::Relaxed)) == *number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Filter, Users};
    use crate::data::registry::{Mark, Registry};
    use crate::net::client::PeerAddress;
    use crate::units::clock::Tick;
    use crate::wire::inline::to_multibulk;
    use crate::wire::request::{Limits, Request, Scan};

    const LIMITS: Limits = Limits { args_max: 100, bulk_max: 1000, unauthenticated: false };

    /// The numbers of the clients that a line takes, or the error.
    fn taken(registry: &Registry, line: &str, dialect: Dialect) -> Result<Vec<u64>, String> {
        let bytes = to_multibulk(format!("CLIENT KILL {line}\r\n").as_bytes()).unwrap();
        let mut args = Vec::new();
        Scan::default().next(&bytes, &mut args, &LIMITS).unwrap();
        let filter = Filter::parse(&Request::new(&bytes, &args), 2, (dialect, Users::Default))
            .map_err(|error| String::from_utf8(error).unwrap())?;
        let clients = registry.list();
        let now = Tick(10_000_000_000);
        Ok(clients.iter().filter(|one| filter.takes(one, now)).map(|one| one.id).collect())
    }

    fn registry() -> Registry {
        let registry = Registry::default();
        for port in 1..=3 {
            let peer = PeerAddress::Tcp(([127, 0, 0, 1], port).into());
            let local = PeerAddress::Tcp(([127, 0, 0, 1], 6380).into());
            registry.enter(peer, local, Tick(u64::from(port) * 1_000_000_000));
        }
        registry.find(2).unwrap().mark(Mark::Subscriber, true);
        registry.find(3).unwrap().names.lock().name = "x".to_owned();
        registry
    }

    #[test]
    fn every_condition_must_hold() {
        let registry = registry();
        for (line, ids) in [
            ("ID 2", &[2][..]),
            ("TYPE normal", &[1, 3]),
            ("TYPE PUBSUB", &[2]),
            ("TYPE replica", &[]),
            ("ADDR 127.0.0.1:3", &[3]),
            ("LADDR 127.0.0.1:6380 TYPE normal", &[1, 3]),
            ("USER default ID 4", &[]),
            // The first is 9 seconds old, the last 7.
            ("MAXAGE 8", &[1, 2]),
            ("SKIPME no MAXAGE 9", &[1]),
        ] {
            for dialect in [Dialect::Redis, Dialect::Valkey] {
                assert_eq!(taken(&registry, line, dialect).unwrap(), ids, "{line} {dialect:?}");
            }
        }
        for (line, ids) in [
            ("ID 1 3 TYPE normal", &[1, 3][..]),
            ("NOT-ID 1 2", &[3]),
            ("NOT-TYPE pubsub NOT-NAME x", &[1]),
            ("NAME x DB 0 IP 127.0.0.1 FLAGS N", &[3]),
            ("FLAGS P", &[2]),
            ("IDLE 9", &[1]),
        ] {
            assert_eq!(taken(&registry, line, Dialect::Valkey).unwrap(), ids, "{line}");
            assert_eq!(taken(&registry, line, Dialect::Redis).unwrap_err(), "ERR syntax error");
        }
    }

    #[test]
    fn errors_are_worded_by_dialect() {
        let registry = Registry::default();
        let too_small = "ERR client-id should be greater than 0";
        for (line, redis, valkey) in [
            ("ID x", too_small, "ERR syntax error"),
            ("ID 0", too_small, too_small),
            ("ID", "ERR syntax error", "ERR syntax error"),
            ("TYPE no", "ERR Unknown client type 'no'", "ERR Unknown client type 'no'"),
            ("USER no", "ERR No such user 'no'", "ERR No such user 'no'"),
            ("SKIPME no TYPE", "ERR syntax error", "ERR syntax error"),
        ] {
            for (dialect, text) in [(Dialect::Redis, redis), (Dialect::Valkey, valkey)] {
                assert_eq!(taken(&registry, line, dialect).unwrap_err(), text, "{line}");
            }
        }
    }
}
