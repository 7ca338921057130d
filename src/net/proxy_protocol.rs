//! The header of the PROXY protocol, by which a load balancer says for whom it connects: version 1,
//! a line of text, and version 2, binary.
//!
//! In: the first bytes of a connection. Out: how many more belong to the header for certain, and at
//! its end what it says. The crate `ppp` reads it; here is what a stream adds to that.
//!
//! Invariant: no byte behind the header is ever asked for, so that what follows (a TLS handshake,
//! a request) is still where its reader looks for it.

use ppp::v2::{Command, Protocol};
use ppp::{HeaderResult, v1, v2};
use std::net::SocketAddr;

/// How a header of version 1 begins.
const TEXT: &[u8] = b"PROXY ";

/// The shortest header is a line of 15 bytes: so many can be read before its version is known.
const FIRST: usize = 12;

/// The longest line of version 1, its end included.
const TEXT_MAX: usize = 107;

/// Bytes of a header of version 2 that say how many follow.
const BINARY_HEAD: usize = 16;

/// The longest header of version 2 that is read: addresses take 216 bytes, the rest is what
/// balancers say of TLS and of themselves.
pub const BINARY_MAX: usize = 4096;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// For whom the connection was made, and where that one had connected to.
    Proxied {
        /// The client.
        from: SocketAddr,
        /// The balancer's address.
        to: SocketAddr,
    },
    /// The addresses are those of the socket: a health check of the balancer's own (`LOCAL`), or
    /// what it has no address of (`UNKNOWN`).
    Local,
}

/// Why this is no header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It begins as no header does.
    #[error("the connection does not begin with a PROXY header (server.proxy_protocol)")]
    Missing,
    /// It begins as one, and is none.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(String),
    /// It is longer than any that a balancer sends.
    #[error("the PROXY header is longer than {0} bytes")]
    TooLong(usize),
    /// The connection ended before the header did.
    #[error("the connection ended within the PROXY header")]
    Truncated,
}

/// How many bytes more belong to the header that begins so, at least; 0: it is whole.
pub fn wanted(header: &[u8]) -> Result<usize, HeaderError> {
    let first = header.len().min(FIRST);
    let is_text = begins(header, TEXT);
    if !is_text && !begins(header, v2::PROTOCOL_PREFIX) {
        return Err(HeaderError::Missing);
    }
    if first < FIRST {
        return Ok(FIRST - first);
    }
    if is_text {
        return match header.last() {
            Some(b'\n') if header.ends_with(b"\r\n") => Ok(0),
            // Whoever sends it may mean its line to go on.
            Some(b'\n') => {
                Err(HeaderError::Malformed("its line does not end with CRLF".to_owned()))
            }
            _ if header.len() >= TEXT_MAX => Err(HeaderError::TooLong(TEXT_MAX)),
            // Its end is where it stands: nothing tells before.
            _ => Ok(1),
        };
    }
    let whole = match header.get(BINARY_HEAD - 2..BINARY_HEAD) {
        Some(&[high, low]) => BINARY_HEAD + usize::from(u16::from_be_bytes([high, low])),
        _ => BINARY_HEAD,
    };
    if whole > BINARY_MAX {
        return Err(HeaderError::TooLong(BINARY_MAX));
    }
    Ok(whole.saturating_sub(header.len()))
}

/// True if one is the beginning of the other.
fn begins(header: &[u8], prefix: &[u8]) -> bool {
    let both = header.len().min(prefix.len());
    header.get(..both) == prefix.get(..both)
}

/// What a whole header says.
pub fn parse(header: &[u8]) -> Result<Header, HeaderError> {
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Tcp4(ip) => Header::Proxied {
                from: (ip.source_address, ip.source_port).into(),
                to: (ip.destination_address, ip.destination_port).into(),
            },
            v1::Addresses::Tcp6(ip) => Header::Proxied {
                from: (ip.source_address, ip.source_port).into(),
                to: (ip.destination_address, ip.destination_port).into(),
            },
            v1::Addresses::Unknown => Header::Local,
        }),
        HeaderResult::V2(Ok(header)) => {
            let is_proxied =
                header.command == Command::Proxy && header.protocol != Protocol::Datagram;
            Ok(match header.addresses {
                v2::Addresses::IPv4(ip) if is_proxied => Header::Proxied {
                    from: (ip.source_address, ip.source_port).into(),
                    to: (ip.destination_address, ip.destination_port).into(),
                },
                v2::Addresses::IPv6(ip) if is_proxied => Header::Proxied {
                    from: (ip.source_address, ip.source_port).into(),
                    to: (ip.destination_address, ip.destination_port).into(),
                },
                _ => Header::Local,
            })
        }
        HeaderResult::V1(Err(error)) => Err(HeaderError::Malformed(error.to_string())),
        HeaderResult::V2(Err(error)) => Err(HeaderError::Malformed(error.to_string())),
    }
}
