//! Who may ask the admin API for what (T20, T21).
//!
//! ```text
//!   Host            one of `admin.allowed_hosts`: a page that rebound its name to us has another
//!   a token         `Authorization: Bearer`, never a cookie: no page has one to send by itself
//!   no token set    only on loopback; then what changes anything must be JSON, and not of a
//!                   foreign page: no form and no image can do that
//! ```
//!
//! Tokens are compared as SHA-256, in constant time. An address that
//! sends wrong ones too often is told to wait; the right one is heard all the same.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method};
use foldhash::{HashMap, HashMapExt};
use parking_lot::{Mutex, RwLock};
use std::net::IpAddr;
use std::time::Duration;

use crate::units::clock::{Clock, Tick};

/// Wrong tokens an address may send in [`WINDOW`].
const FAILURES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_mins(1);

/// Addresses whose failures are remembered.
const ADDRESSES_MAX: usize = 10_000;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Viewer,
    /// And change.
    Operator,
}

impl Role {
    /// The name of its token in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// `Host` is not one of ours.
    Host,
    /// No token.
    NoToken,
    /// Not one of ours.
    WrongToken,
    /// Too many wrong ones.
    TooMany,
    /// A token that may only look.
    Forbidden,
    /// Another site's page asks.
    CrossSite,
    /// What changes something is sent as JSON.
    MediaType,
}

/// The tokens, as configured.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// May change things.
    pub operator: Option<Token>,
    /// May look.
    pub viewer: Option<Token>,
    /// Names under which this port is asked for, without port.
    pub hosts: Vec<String>,
}

impl Access {
    fn has_host(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let name = without_port(host);
        self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name))
    }
}

/// A token's hash.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Token {
    /// Forgets the text.
    pub fn new(text: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(hash)
    }

    fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

/// Judges requests.
#[derive(Debug)]
pub struct Guard {
    /// A reload changes it as a whole.
    access: RwLock<Access>,
    clock: Clock,
    /// By address: wrong tokens since when.
    failures: Mutex<HashMap<IpAddr, (u32, Tick)>>,
}

impl Guard {
    /// For these tokens.
    pub fn new(access: Access, clock: Clock) -> Self {
        Self { access: RwLock::new(access), clock, failures: Mutex::new(HashMap::new()) }
    }

    /// Goes by these from the next request on.
    pub fn set(&self, access: Access) {
        *self.access.write() = access;
    }

    /// Whether this request may be answered.
    /// `wanted` is what the route needs. Answers whose token it has; none, where none is needed.
    pub fn judge(
        &self,
        method: &Method,
        headers: &HeaderMap,
        from: IpAddr,
        wanted: Role,
    ) -> Result<Option<Role>, Denied> {
        let access = self.access.read();
        if !access.has_host(headers) {
            return Err(Denied::Host);
        }
        if is_cross_site(headers) {
            return Err(Denied::CrossSite);
        }
        let role = self.role(&access, headers, from)?;
        if role.is_some_and(|role| role < wanted) {
            return Err(Denied::Forbidden);
        }
        drop(access);
        let has_body = !matches!(*method, Method::GET | Method::HEAD | Method::DELETE);
        if has_body && !is_json(headers) {
            return Err(Denied::MediaType);
        }
        Ok(role)
    }

    /// Whose token a request has, whatever else it is; one must be there.
    pub fn holder(&self, headers: &HeaderMap, from: IpAddr) -> Result<Role, Denied> {
        self.role(&self.access.read(), headers, from)?.ok_or(Denied::NoToken)
    }

    fn role(
        &self,
        access: &Access,
        headers: &HeaderMap,
        from: IpAddr,
    ) -> Result<Option<Role>, Denied> {
        let Access { operator, viewer, .. } = access;
        if operator.is_none() && viewer.is_none() {
            return Ok(None);
        }
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(given) = given.and_then(bearer) else {
            return Err(Denied::NoToken);
        };
        let given = Token::new(given);
        let is = |token: &Option<Token>| token.as_ref().is_some_and(|token| token.is(&given));
        // Both are compared, whichever it is.
        let (is_operator, is_viewer) = (is(operator), is(viewer));
        if is_operator {
            return Ok(Some(Role::Operator));
        }
        if is_viewer {
            return Ok(Some(Role::Viewer));
        }
        // Only who guesses waits: the right token is never kept out by others of its address.
        if self.is_locked_out(from) {
            return Err(Denied::TooMany);
        }
        self.note_failure(from);
        Err(Denied::WrongToken)
    }

    fn is_locked_out(&self, from: IpAddr) -> bool {
        let failures = self.failures.lock();
        failures.get(&from).is_some_and(|(count, since)| {
            *count >= FAILURES_MAX && self.clock.now().since(*since) < WINDOW
        })
    }

    fn note_failure(&self, from: IpAddr) {
        let now = self.clock.now();
        let is_over = |since: Tick| now.since(since) >= WINDOW;
        let mut failures = self.failures.lock();
        if failures.len() >= ADDRESSES_MAX {
            failures.retain(|_, (_, since)| !is_over(*since));
        }
        let known = failures.get(&from).copied().filter(|(_, since)| !is_over(*since));
        let (count, since) = known.unwrap_or((0, now));
        if failures.len() < ADDRESSES_MAX || known.is_some() {
            failures.insert(from, (count + 1, since));
        }
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// `[::1]:8380` and `localhost:8380` without the port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && !port.is_empty() =>
        {
            name
        }
        _ => host,
    }
}

/// Browsers say whose page asks; other clients say nothing.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_foreign =
        text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let host = text(HOST.as_str()).unwrap_or_default();
    let is_ours = |origin: &str| origin.split_once("://").is_some_and(|(_, of)| of == host);
    is_foreign || text(ORIGIN.as_str()).is_some_and(|origin| !is_ours(origin))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
