//! Ports for the processes that tests start.
//!
//! A port that was free a moment ago is anybody's: another test binary chooses the same way, and
//! Linux gives it to a connection. So they are below those that Linux gives out by itself, and a
//! test binary takes them from blocks that it alone has: a UDP socket on a block's first port is
//! the claim, which ends with the process however that ends.

use parking_lot::Mutex;
use std::net::{TcpStream, UdpSocket};
use std::ops::Range;

/// Above those of tests/tcl, below Linux' 32768.
const FIRST: u16 = 23_000;
/// Ports of a block.
const BLOCK: u16 = 100;
const BLOCKS: u16 = 95;

/// What this process has claimed.
struct Claims {
    held: Vec<UdpSocket>,
    /// Not given out yet.
    left: Range<u16>,
}

static CLAIMS: Mutex<Claims> = Mutex::new(Claims { held: Vec::new(), left: 0..0 });

/// A port that nobody listens on, and that no other test is given.
pub(crate) fn free_port() -> u16 {
    let mut claims = CLAIMS.lock();
    loop {
        // (Asked by a connection: a listener that tries would for a moment be in the way itself.)
        let is_free = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_err();
        if let Some(port) = claims.left.find(is_free) {
            return port;
        }
        // Each process begins elsewhere, so that ports rest before they are used again.
        let elsewhere = u16::try_from(std::process::id() % u32::from(BLOCKS)).unwrap();
        let blocks = (0..BLOCKS).map(|block| FIRST + (elsewhere + block) % BLOCKS * BLOCK);
        let claim = |first| Some((UdpSocket::bind(("127.0.0.1", first)).ok()?, first));
        let (claim, first) = blocks.into_iter().find_map(claim).unwrap();
        claims.held.push(claim);
        claims.left = first..first + BLOCK;
    }
}
