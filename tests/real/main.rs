//! The real binary between real servers (Redis and Valkey) and real clients.
//!
//! ```text
//!   harness        servers, proxies and raw connections; each ends with the test that made it
//!   differential   the same commands direct and through nearside: the same bytes
//!   every_row      every row of the table: vectors of all kinds, direct and through nearside
//!   sweep          each cached read and every write that can change its reply
//!   fleet          a key version that several instances share
//!   held           what is cached now, by namespace
//!   foreign        writes past nearside are seen through it
//!   admin_api      every endpoint of the admin port
//!   admin_tls      the admin port by HTTPS, and the command line there
//!   clients        redis-cli, redis-py, ioredis, node-redis; handshakes of others as transcripts
//!   figures        what is counted and shown: hot keys, namespaces, windows, the curve
//!   lookups        what is held of one key, and what would become of one request, over HTTP and by the
//!                  command line
//!   introspection  CLIENT, INFO, CONFIG: nearside's own answers
//!   proxy_commands what a client asks of nearside itself
//!   proxy_changes  and what it changes: settings, the key version, warm-up
//!   logged         who did what, and readiness, in the log
//!   tools          redis-cli's modes; what RedisInsight and redis_exporter ask
//!   own_links      transactions, blocking, subscriptions, tracking: the same plays on both ways
//!   reload         key version and configuration, exchanged while clients ask
//!   names          keys of several versions beside each other
//!   scripts        scripts and functions, with and without a version
//!   jobs           keys deleted upstream, moved into a version and out again
//!   warm           keys loaded before anybody asks
//!   waits          WAIT and its link; links of clients that wait for long
//!   noise          random bytes: a worker goes on with its other clients
//!   outage         upstream gone, frozen, or refusing; drain
//!   outages        queues of jobs and plain clients while their server is away, direct and by nearside
//!   handover       another process takes nearside's place
//!   fallback       what clients get while upstream is gone, or never was there
//!   upstreams      links to upstream closed by an operator, for good or to be opened anew
//!   users          what is built on clients: queues of jobs, locks, sessions, rooms; with a version
//!                  of keys and without
//!   leases         one client of many computes a missing value
//!   canary         the key that nearside writes to hear of it
//!   channel        where it is said what is to be forgotten
//!   secrets        are told to nobody
//!   rights         random users: nearside serves what ACL DRYRUN permits, and nothing else
//!   passthrough    clients that ride on their own credentials, which upstream judges
//!   doors          passwords, TLS to upstream, Unix sockets
//!   tls            TLS for clients, certificates that are exchanged, the PROXY protocol
//!   config_keys    what keys of proxy.toml do that no other test is about
//!   top            the live screen, in a real terminal
//!   bench          the load generator
//!   prometheus     a real Prometheus scrapes it; its rules are sound
//!   bounds         keys that may not be named
//!   tenant         clients that are kept to their key prefix reach nothing of others
//!   table          COMMAND of both servers, profiles, lists, commands without a row
//! ```
//!
//! `tests/run` installs what these tests need. What is missing fails them: nothing is skipped.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod admin_api;
mod admin_tls;
#[path = "../support/authority.rs"]
mod authority;
mod behind;
mod behind_breaks;
mod bench;
mod bounds;
mod canary;
mod channel;
mod clients;
mod config_keys;
mod differential;
mod doors;
mod every_row;
mod fallback;
mod figures;
mod fleet;
mod foreign;
mod handover;
mod harness;
mod held;
mod introspection;
mod jobs;
mod leases;
mod logged;
mod lookups;
mod names;
mod noise;
mod orders;
mod outage;
mod outages;
mod own_links;
mod passthrough;
mod prometheus;
mod proxy_changes;
mod proxy_commands;
mod reload;
mod rights;
mod scripts;
mod secrets;
mod sweep;
mod table;
mod tenant;
mod tls;
mod tools;
mod top;
mod upstreams;
mod user_rights;
mod users;
mod waits;
mod warm;
