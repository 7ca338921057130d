//! An upstream as operators write it: a Redis URL.
//!
//! ```text
//! redis://user:password@host:6379/5      rediss:// the same over TLS
//! unix:/path/to.sock?db=5                redis+unix:///path/to.sock    unix://user:pw@/path
//! embedded:
//! ```
//!
//! Text in, [`Target`] out. Invariant: no password leaves this room as text, neither in `Display`
//! or `Debug` nor in an error; where an error quotes the URL, the quoted part has no password.

use crate::net::address::{Address, AddressError, host_and_port};
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Port of a URL that names none.
const PORT: u16 = 6379;

/// A password. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes the text as it is.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that writes it to a socket.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One upstream server and how to log in. `Display` is the URL with the password masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub address: Address,
    /// True for `rediss://`.
    pub tls: bool,
    /// User, if the URL names one.
    pub username: Option<String>,
    /// Password, if the URL has one.
    pub password: Option<Password>,
    /// Database that a link selects at first.
    pub database: u32,
}

impl Target {
    /// A target without login, in database 0.
    pub const fn new(address: Address) -> Self {
        Self { address, tls: false, username: None, password: None, database: 0 }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = self.username.is_some() || self.password.is_some();
        match &self.address {
            Address::Tcp { .. } if self.tls => f.write_str("rediss://")?,
            Address::Tcp { .. } => f.write_str("redis://")?,
            Address::Unix(_) if login => f.write_str("unix://")?,
            Address::Unix(_) => f.write_str("unix:")?,
            Address::Embedded => return write!(f, "{}", Address::Embedded),
        }
        if login {
            f.write_str(self.username.as_deref().unwrap_or_default())?;
            f.write_str(if self.password.is_some() { ":***@" } else { "@" })?;
        }
        match (&self.address, self.database) {
            (Address::Unix(path), 0) => write!(f, "{}", path.display()),
            (Address::Unix(path), database) => write!(f, "{}?db={database}", path.display()),
            (address, 0) => write!(f, "{address}"),
            (address, database) => write!(f, "{address}/{database}"),
        }
    }
}

/// Why a text is no upstream URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No scheme, or none that is known.
    #[error(
        "an upstream URL begins with redis://, rediss://, unix: or embedded:, such as \
         redis://127.0.0.1:6379"
    )]
    Scheme,
    /// `embedded:` with something behind it.
    #[error("nothing may follow `embedded:`")]
    Embedded,
    /// The URL breaks off before an `@`: a password with `/`, `?` or `#` in it.
    #[error(
        "the password must be percent-encoded: / is %2F, ? is %3F, # is %23, @ is %40, % is %25"
    )]
    Unescaped,
    /// `%` without two hexadecimal digits, or bytes that are no UTF-8.
    #[error("a `%` in the URL is not followed by two hexadecimal digits: write %25 for `%` itself")]
    Percent,
    /// Host or port are wrong.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There is no host between `//` and `/`.
    #[error("no host in the URL: write redis://HOST:PORT")]
    NoHost,
    /// The port is none. Not quoted: of `redis://user:password` it is the password.
    #[error("the port in the URL is not a number from 1 to 65535; is `@HOST` missing?")]
    Port,
    /// A Unix URL that names a host, or has no path.
    #[error("write a Unix socket as unix:/path/to.sock, without a host")]
    UnixPath,
    /// The database is no number.
    #[error("`{0}` is not a database number")]
    Database(String),
    /// Two database numbers.
    #[error("the URL names two databases")]
    TwoDatabases,
    /// A query parameter other than `db`.
    #[error("the URL's parameter `{0}` is not known: `db` is; set the rest in [upstream]")]
    Parameter(String),
    /// `#` and what follows.
    #[error("an upstream URL has no `#` part")]
    Fragment,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (scheme, rest) = text.split_once(':').ok_or(TargetError::Scheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "redis" => tcp(rest, false),
            "rediss" => tcp(rest, true),
            "unix" | "redis+unix" => unix(rest),
            "embedded" if rest.is_empty() => Ok(Self::new(Address::Embedded)),
            "embedded" => Err(TargetError::Embedded),
            _ => Err(TargetError::Scheme),
        }
    }
}

fn tcp(rest: &str, tls: bool) -> Result<Target, TargetError> {
    let rest = rest.strip_prefix("//").ok_or(TargetError::Scheme)?;
    let parts = Parts::of(rest)?;
    if parts.host.is_empty() || parts.host.starts_with(':') {
        return Err(TargetError::NoHost);
    }
    let (host, port) = host_and_port(parts.host).map_err(|error| match error {
        AddressError::Port(_) => TargetError::Port,
        other => TargetError::Address(other),
    })?;
    let port = port.unwrap_or(PORT);
    if port == 0 {
        return Err(TargetError::Port);
    }
    let path = parts.path.strip_prefix('/').unwrap_or(parts.path);
    let from_path = if path.is_empty() { None } else { Some(database(path)?) };
    let from_query = parts.database()?;
    if from_path.is_some() && from_query.is_some() {
        return Err(TargetError::TwoDatabases);
    }
    Ok(Target {
        address: Address::Tcp { host, port },
        tls,
        database: from_path.or(from_query).unwrap_or(0),
        username: parts.username()?,
        password: parts.password()?,
    })
}

fn unix(rest: &str) -> Result<Target, TargetError> {
    let parts = match rest.strip_prefix("//") {
        Some(rest) => Parts::of(rest)?,
        None => Parts { path: rest, ..Parts::default() }.cut_tail()?,
    };
    if !parts.host.is_empty() || parts.path.is_empty() {
        return Err(TargetError::UnixPath);
    }
    Ok(Target {
        address: Address::Unix(PathBuf::from(decode(parts.path)?.as_ref())),
        tls: false,
        database: parts.database()?.unwrap_or(0),
        username: parts.username()?,
        password: parts.password()?,
    })
}

/// A URL behind its `//`, taken apart, nothing decoded yet.
#[derive(Clone, Copy, Default)]
struct Parts<'t> {
    login: Option<&'t str>,
    host: &'t str,
    path: &'t str,
    query: &'t str,
}

impl<'t> Parts<'t> {
    fn of(rest: &'t str) -> Result<Self, TargetError> {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        // The login ended too early: part of a password stands where host or path should.
        if path.contains('@') && !authority.is_empty() {
            return Err(TargetError::Unescaped);
        }
        Self { login, host, path, query: "" }.cut_tail()
    }

    /// Divides `path` from the query behind it.
    fn cut_tail(self) -> Result<Self, TargetError> {
        if self.path.contains('#') {
            return Err(TargetError::Fragment);
        }
        let (path, query) = self.path.split_once('?').unwrap_or((self.path, ""));
        Ok(Self { path, query, ..self })
    }

    fn username(&self) -> Result<Option<String>, TargetError> {
        let name = self.login.map(|login| login.split_once(':').map_or(login, |(name, _)| name));
        name.filter(|name| !name.is_empty()).map(|name| Ok(decode(name)?.into_owned())).transpose()
    }

    fn password(&self) -> Result<Option<Password>, TargetError> {
        let text = self.login.and_then(|login| login.split_once(':')).map(|(_, text)| text);
        text.map(|text| Ok(Password::new(decode(text)?.into_owned()))).transpose()
    }

    /// The one parameter there is: `db`.
    fn database(&self) -> Result<Option<u32>, TargetError> {
        let mut found = None;
        for pair in self.query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name != "db" {
                return Err(TargetError::Parameter(name.to_owned()));
            }
            if found.replace(database(value)?).is_some() {
                return Err(TargetError::TwoDatabases);
            }
        }
        Ok(found)
    }
}

fn database(text: &str) -> Result<u32, TargetError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| TargetError::Database(text.to_owned()))
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<Cow<'_, str>, TargetError> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(TargetError::Percent);
                let value = digit(*high)? * 16 + digit(*low)?;
                bytes.push(u8::try_from(value).map_err(|_| TargetError::Percent)?);
                rest = tail;
            }
            (b'%', _) => return Err(TargetError::Percent),
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| TargetError::Percent)
}

#[cfg(test)]
mod tests {
    use super::{Password, Target, TargetError};
    use crate::net::address::{Address, AddressError};

    fn tcp(host: &str, port: u16) -> Target {
        Target::new(Address::Tcp { host: host.to_owned(), port })
    }

    fn login(target: Target, username: Option<&str>, password: &str) -> Target {
        let password = Some(Password::new(password.to_owned()));
        Target { username: username.map(str::to_owned), password, ..target }
    }

    #[test]
    fn urls_that_people_have() {
        let unix = || Target::new(Address::Unix("/run/redis.sock".into()));
        for (text, target) in [
            ("redis://localhost", tcp("localhost", 6379)),
            ("redis://localhost/", tcp("localhost", 6379)),
            ("redis://10.0.0.1:7000/3", Target { database: 3, ..tcp("10.0.0.1", 7000) }),
            ("redis://h?db=3", Target { database: 3, ..tcp("h", 6379) }),
            ("REDISS://[::1]:7000", Target { tls: true, ..tcp("::1", 7000) }),
            ("redis://:pw@h", login(tcp("h", 6379), None, "pw")),
            ("redis://app:p%40s%2Fs:w@h", login(tcp("h", 6379), Some("app"), "p@s/s:w")),
            ("redis://app:p@ss@h", login(tcp("h", 6379), Some("app"), "p@ss")),
            ("redis://app@h", Target { username: Some("app".to_owned()), ..tcp("h", 6379) }),
            ("unix:/run/redis.sock", unix()),
            ("unix:///run/redis.sock?db=1", Target { database: 1, ..unix() }),
            ("redis+unix:///run/redis.sock", unix()),
            ("unix://app:pw@/run/redis.sock", login(unix(), Some("app"), "pw")),
            ("unix:run/%20x", Target::new(Address::Unix("run/ x".into()))),
            ("embedded:", Target::new(Address::Embedded)),
        ] {
            assert_eq!(text.parse::<Target>(), Ok(target), "{text:?}");
        }
    }

    #[test]
    fn shown_without_the_password() {
        for (text, shown) in [
            ("redis://app:hunter2@h/0", "redis://app:***@h:6379"),
            ("rediss://:hunter2@[::1]:7000/3", "rediss://:***@[::1]:7000/3"),
            ("redis://app@h", "redis://app@h:6379"),
            ("unix://app:hunter2@/run/x?db=2", "unix://app:***@/run/x?db=2"),
            ("redis+unix:///run/x", "unix:/run/x"),
            ("embedded:", "embedded:"),
        ] {
            let target = text.parse::<Target>().unwrap();
            assert_eq!(target.to_string(), shown);
            assert!(!format!("{target:?}").contains("hunter2"), "{target:?}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        use TargetError as E;
        let own = str::to_owned;
        for (text, error) in [
            ("", E::Scheme),
            ("localhost:6379", E::Scheme),
            ("http://localhost", E::Scheme),
            ("redis:localhost", E::Scheme),
            ("embedded:x", E::Embedded),
            ("redis://", E::NoHost),
            ("redis://:6379", E::NoHost),
            ("redis://h:x", E::Port),
            ("redis://h:0", E::Port),
            ("redis://::1", E::NoHost),
            ("redis://fe80::1:6379", E::Address(AddressError::Brackets(own("fe80::1:6379")))),
            ("redis://h/x", E::Database(own("x"))),
            ("redis://h/-1", E::Database(own("-1"))),
            ("redis://h/4294967296", E::Database(own("4294967296"))),
            ("redis://h/1?db=1", E::TwoDatabases),
            ("redis://h?db=1&db=2", E::TwoDatabases),
            ("redis://h?ssl_cert_reqs=none", E::Parameter(own("ssl_cert_reqs"))),
            ("redis://h#1", E::Fragment),
            ("redis://:p%4@h", E::Percent),
            ("redis://:100%@h", E::Percent),
            ("redis://:%ff@h", E::Percent),
            ("unix:", E::UnixPath),
            ("unix://host/run/x", E::UnixPath),
        ] {
            assert_eq!(text.parse::<Target>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn no_error_quotes_a_password() {
        for text in [
            "redis://app:hunter2",
            "redis://app:hunter2/x@h",
            "redis://app:x@hunter2/hunter2@h",
            "redis://app:hunter2#x@h",
            "redis://app:6379?hunter2@h",
            "redis://hunter2/:x@h",
            "redis://:hunter2%@h",
            "rediss://app:hunter2@h:port#hunter2",
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{text}: {error}");
        }
        let cut = "redis://app:hunter2/x@h".parse::<Target>();
        assert_eq!(cut, Err(TargetError::Unescaped));
    }
}
