//! The real binary between real servers (Redis and Valkey) and real clients.
//!
//! ```text
//!   harness        servers, proxies and raw connections; each ends with the test that made it
//!   differential   the same commands direct and through nearside: the same bytes
//!   foreign        writes past nearside are seen through it
//!   clients        redis-cli, redis-py, ioredis, node-redis; handshakes of others as transcripts
//!   hostile        what is not RESP, or too much of it
//!   own_links      transactions, blocking, subscriptions, tracking: the same plays direct and through it
//!   outage         upstream gone, frozen, or refusing; drain
//!   doors          passwords, TLS to upstream, Unix sockets
//! ```
//!
//! `tests/run` installs what these tests need. What is missing fails them: nothing is skipped.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod clients;
mod differential;
mod doors;
mod foreign;
mod harness;
mod hostile;
mod outage;
mod own_links;
