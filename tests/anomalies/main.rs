//! The anomalies that a near-cache can show, each forced by a scripted upstream.
//!
//! The whole proxy runs in this process; its clock stands still until a test moves it; its
//! clients are real sockets. Upstream is a script: a test sees each request arrive and decides
//! when, in what order and whether it is answered, which real servers cannot be made to do.
//! Nothing here waits for time to pass: every step waits for bytes or for a counter, and the one
//! time limit (`stage::PATIENCE`) only turns a hang into a failure. The numbers A1 to A36 are
//! those of the project's list of anomalies.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod again;
mod barriers;
mod canaries;
mod fallback;
mod faults;
mod fills;
mod flights;
mod functions;
mod keys;
mod leases;
mod links;
mod neighbours;
mod own_links;
mod own_losses;
mod pipelines;
mod shadows;
mod stage;
mod stale;
mod tracking;
mod verify;
mod walks;
mod writes;
