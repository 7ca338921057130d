//! The sections of INFO that only nearside has: `Proxy`, `ProxyCache` and `ProxyUpstreams`.
//!
//! In come the sections that a client wants, out come their lines. PROXY INFO tells nothing else;
//! INFO has them behind upstream's ([`super`]). What other answers tell of the same (the server
//! behind, what was forgotten) they take from here, so that all tell the same figures.

use super::{Wanted, push};
use crate::config::Mode;
use crate::data::Shared;
use crate::live::Server;
use crate::stats::{Counter, Outcome};
use std::fmt::Write as _;

/// All that makes keys be forgotten, one by one or by what they have in common.
pub const INVALIDATIONS: &[Counter] = &[
    Counter::InvalidationsTracking,
    Counter::InvalidationsWrite,
    Counter::InvalidationsReconnect,
    Counter::InvalidationsAdmin,
    Counter::InvalidationsPubsub,
];

/// All that makes everything be forgotten.
pub const FLUSHES: &[Counter] = &[
    Counter::FlushesReconnect,
    Counter::FlushesFlushall,
    Counter::FlushesAdmin,
    Counter::FlushesPubsub,
];

/// Only what nearside has to say of itself: of the sections that are named, or all.
pub fn own_sections(names: impl Iterator<Item: AsRef<[u8]>>, shared: &Shared) -> String {
    let name = |name: &[u8]| String::from_utf8_lossy(name).to_ascii_lowercase();
    let wanted = Wanted { sections: names.map(|section| name(section.as_ref())).collect() };
    let mut text = String::new();
    append_own(&mut text, &wanted, shared);
    text
}

/// Nearside's own sections, as far as they are wanted.
pub(super) fn append_own(text: &mut String, wanted: &Wanted, shared: &Shared) {
    for title in ["Proxy", "ProxyCache", "ProxyUpstreams"] {
        if wanted.has(&title.to_ascii_lowercase()) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            push(text, &format!("# {title}"));
            text.push_str(&match title {
                "Proxy" => proxy(shared),
                "ProxyCache" => proxy_cache(shared),
                _ => proxy_upstreams(shared),
            });
        }
    }
}

fn proxy(shared: &Shared) -> String {
    let snapshot = shared.snapshots.newest();
    let mut body = format!(
        "proxy_version:{}\r\nproxy_mode:{}\r\nproxy_key_version:{}\r\nproxy_key_prefix:{}\r\n\
         proxy_connected_clients:{}\r\nproxy_draining:{}\r\n\
         proxy_fallback_active:{}\r\n",
        env!("CARGO_PKG_VERSION"),
        shared.live.mode().as_str(),
        snapshot.settings.version,
        String::from_utf8_lossy(snapshot.names.usual().as_bytes()),
        shared.registry.len(),
        u8::from(shared.live.is_draining()),
        u8::from(shared.live.fallback.is_active()),
    );
    for outcome in Outcome::ALL {
        let latency = shared.ledger.stats().latency(*outcome);
        let usec = |quantile| latency.quantile(quantile).unwrap_or(0) / 1000;
        let line = format!(
            "proxy_latency_usec_{}:count={},p50={},p99={},p99.9={}",
            outcome.as_str(),
            latency.count(),
            usec(0.5),
            usec(0.99),
            usec(0.999)
        );
        push(&mut body, &line);
    }
    body
}

fn proxy_cache(shared: &Shared) -> String {
    let (figures, totals) = (shared.cache.figures(), shared.ledger.totals());
    let get = |counter| totals.get(counter);
    let (hits, misses) = (get(Counter::LookupHit), get(Counter::LookupMiss));
    let stale = get(Counter::LookupStale);
    let asked = hits + stale + misses + get(Counter::LookupCoalesced);
    let ratio = ((hits + stale) * 10_000).checked_div(asked).unwrap_or(0);
    let invalidations = totals.sum(INVALIDATIONS);
    let rows: [(&str, String); 14] = [
        ("entries", figures.entries.to_string()),
        ("memory_used_bytes", figures.used_bytes.to_string()),
        ("memory_used_human", human(figures.used_bytes)),
        ("memory_max_bytes", figures.max_bytes.to_string()),
        ("hits", hits.to_string()),
        ("stale_hits", stale.to_string()),
        ("misses", misses.to_string()),
        ("coalesced", get(Counter::LookupCoalesced).to_string()),
        ("bypass", get(Counter::LookupBypass).to_string()),
        ("hit_ratio", format!("{}.{:04}", ratio / 10_000, ratio % 10_000)),
        ("invalidations", invalidations.to_string()),
        ("flushes", totals.sum(FLUSHES).to_string()),
        ("evicted", figures.evicted.to_string()),
        ("expired", figures.expired.to_string()),
    ];
    let mut body = String::new();
    for (name, value) in rows {
        push(&mut body, &format!("cache_{name}:{value}"));
    }
    body
}

fn proxy_upstreams(shared: &Shared) -> String {
    let live = &shared.live;
    let Upstream { state, role, errors, p99_usec, tracking, .. } = Upstream::look(shared);
    let mut body = String::new();
    let written = write!(
        body,
        "upstream_kind:standalone\r\nupstream_state:{state}\r\nupstream_links:{}\r\n\
         upstream0:addr={},role={role},state={state},connections={},errors={errors},\
         p99_usec={p99_usec}\r\n\
         invalidation_tracking:{tracking}\r\n",
        live.links_up(),
        shared.dialer.target.address,
        live.links_up(),
    );
    debug_assert!(written.is_ok(), "writing to a String");
    body
}

/// What INFO and PROXY UPSTREAMS tell of the server behind.
#[derive(Debug)]
pub struct Upstream {
    /// `redis` or `valkey`, once it was reached.
    pub server: String,
    /// Its version.
    pub version: String,
    /// `master`, `replica`.
    pub role: String,
    /// `up` or `down`.
    pub state: &'static str,
    /// `up`, `down`, or `off` where nothing needs it.
    pub tracking: &'static str,
    /// Requests without an answer.
    pub errors: u64,
    /// Of the time to an answer, in microseconds.
    pub p99_usec: u64,
}

impl Upstream {
    /// As it is now.
    pub fn look(shared: &Shared) -> Self {
        let (live, totals) = (&shared.live, shared.ledger.totals());
        let told = live.server();
        let unknown = || "unknown".to_owned();
        let (server, version, role) = told.map_or_else(
            || (unknown(), unknown(), unknown()),
            |Server { name, version, role }| (name, version, role),
        );
        let latency = shared.ledger.stats().latency_of(&[Outcome::Miss, Outcome::Bypass]);
        let is_wanted = shared.snapshots.newest().tracked.is_some() && live.mode() != Mode::Bypass;
        Self {
            server,
            version,
            role,
            state: match live.is_upstream_up() {
                _ if !shared.dialer.switch.is_enabled() => "disabled",
                true => "up",
                false => "down",
            },
            tracking: match (is_wanted, shared.cache.tracking().is_up()) {
                (_, true) => "up",
                (true, false) => "down",
                (false, false) => "off",
            },
            errors: totals.sum(&[Counter::UpstreamTimeout, Counter::UpstreamDisconnected]),
            p99_usec: latency.quantile(0.99).unwrap_or(0) / 1000,
        }
    }
}

/// As Redis writes sizes: `58.60M`.
fn human(bytes: u64) -> String {
    let scale = [("G", 1_u64 << 30), ("M", 1 << 20), ("K", 1 << 10)];
    match scale.into_iter().find(|(_, scale)| bytes >= *scale) {
        Some((unit, scale)) => {
            format!("{}.{:02}{unit}", bytes / scale, bytes % scale * 100 / scale)
        }
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes_as_redis_writes_them() {
        for (bytes, text) in [(0, "0B"), (1023, "1023B"), (1536, "1.50K"), (61_442_102, "58.59M")] {
            assert_eq!(human(bytes), text);
        }
    }
}
