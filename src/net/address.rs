//! An address as operators write it: `127.0.0.1:6380`, `[::1]:6380`, `unix:/run/nearside.sock`.
//!
//! Text in, [`Address`] out, or an error that says what to write instead. Nothing is resolved here.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where to listen, or what to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host name or IP address (without brackets) and a port.
    Tcp {
        /// Host name, IPv4 or IPv6 address.
        host: String,
        /// Port; 0 lets the system choose, for listening only.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
    /// The in-process upstream.
    Embedded,
}

/// Written as it is read.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Embedded => f.write_str("embedded:"),
        }
    }
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing, or nothing before the port.
    #[error("no host in `{0}`: write 127.0.0.1:PORT, or 0.0.0.0:PORT for all interfaces")]
    NoHost(String),
    /// Nothing after the host.
    #[error("no port in `{0}`: write HOST:PORT, such as {0}:6380")]
    NoPort(String),
    /// What follows the last colon is no port.
    #[error("`{0}` is not a port: a number from 0 to 65535 is")]
    Port(String),
    /// An IPv6 address without brackets.
    #[error("`{0}` has several colons: write an IPv6 address in brackets, such as [::1]:6380")]
    Brackets(String),
    /// What stands in brackets is no IPv6 address.
    #[error("`{0}` is not an IPv6 address")]
    Ipv6(String),
    /// A character that no host name has.
    #[error("`{0}` is not a host name or IP address")]
    Host(String),
    /// A URL, or the name of the in-process upstream.
    #[error("`{0}` is not an address to listen on: write HOST:PORT or unix:PATH")]
    NotForListening(String),
    /// `unix:` without a path.
    #[error("no path after `unix:`")]
    NoPath,
}

/// Reads an address to listen on. (For an upstream see `target`.)
impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(AddressError::NoPath)
            } else {
                Ok(Self::Unix(PathBuf::from(path)))
            };
        }
        if text.contains("://") || text.starts_with("embedded") {
            return Err(AddressError::NotForListening(text.to_owned()));
        }
        match host_and_port(text)? {
            (host, Some(port)) => Ok(Self::Tcp { host, port }),
            (host, None) if host.bytes().all(|byte| byte.is_ascii_digit()) => {
                Err(AddressError::NoHost(format!(":{host}")))
            }
            (_, None) => Err(AddressError::NoPort(text.to_owned())),
        }
    }
}

/// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(super) fn host_and_port(text: &str) -> Result<(String, Option<u16>), AddressError> {
    if let Some(inside) = text.strip_prefix('[') {
        let (host, rest) =
            inside.split_once(']').ok_or_else(|| AddressError::Ipv6(text.to_owned()))?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(AddressError::Ipv6(host.to_owned()));
        }
        return match rest.strip_prefix(':') {
            Some(digits) => Ok((host.to_owned(), Some(port(digits)?))),
            None if rest.is_empty() => Ok((host.to_owned(), None)),
            None => Err(AddressError::Port(rest.to_owned())),
        };
    }
    let (host, digits) = match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => {
            return Err(AddressError::Brackets(text.to_owned()));
        }
        Some((host, digits)) => (host, Some(digits)),
        None => (text, None),
    };
    if matches!(host, "" | "*") {
        return Err(AddressError::NoHost(text.to_owned()));
    }
    // Underscores are no host name by RFC 952, but common in container networks.
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        return Err(AddressError::Host(host.to_owned()));
    }
    Ok((host.to_owned(), digits.map(port).transpose()?))
}

/// Digits only: `u16::from_str` would take a plus sign.
fn port(text: &str) -> Result<u16, AddressError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| AddressError::Port(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{Address, AddressError};

    #[test]
    fn reads_and_writes_the_same() {
        for text in ["127.0.0.1:6380", "[::1]:0", "my_redis.local:65535", "unix:/run/a b.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let tcp = Address::Tcp { host: "::1".to_owned(), port: 6380 };
        assert_eq!("[::1]:6380".parse::<Address>(), Ok(tcp));
        assert_eq!("unix:///run/x".parse::<Address>(), Ok(Address::Unix("/run/x".into())));
        assert_eq!("unix:run/x".parse::<Address>(), Ok(Address::Unix("run/x".into())));
        assert_eq!(Address::Embedded.to_string(), "embedded:");
    }

    #[test]
    fn errors_say_what_to_write() {
        use AddressError as E;
        let own = str::to_owned;
        for (text, error) in [
            ("", E::NoHost(own(""))),
            (":6380", E::NoHost(own(":6380"))),
            ("*:6380", E::NoHost(own("*:6380"))),
            ("6380", E::NoHost(own(":6380"))),
            ("localhost", E::NoPort(own("localhost"))),
            ("[::1]", E::NoPort(own("[::1]"))),
            ("localhost:", E::Port(own(""))),
            ("localhost:65536", E::Port(own("65536"))),
            ("localhost:+80", E::Port(own("+80"))),
            ("[::1]6380", E::Port(own("6380"))),
            ("::1:6380", E::Brackets(own("::1:6380"))),
            ("[::x]:1", E::Ipv6(own("::x"))),
            ("[::1", E::Ipv6(own("[::1"))),
            ("a host:1", E::Host(own("a host"))),
            ("redis://localhost:6379", E::NotForListening(own("redis://localhost:6379"))),
            ("embedded:", E::NotForListening(own("embedded:"))),
            ("unix:", E::NoPath),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text:?}");
        }
    }
}
