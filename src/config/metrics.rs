//! `[metrics]`: where the page that Prometheus reads is, who may read it, and what it tells apart.

use crate::config::check::Notes;
use crate::config::{Admin, Metrics, written};
use crate::net::address::Address;
use crate::stats::histogram::Bounds;
use crate::stats::{NAME_MAX, Named};

/// Each worker keeps a row of each, and each has two series.
const NAMESPACES_MAX: usize = 10_000;

pub(super) fn metrics(
    written: &written::Metrics,
    admin: &Admin,
    notes: &mut Notes,
) -> Option<Metrics> {
    let is_guarded = written.auth.unwrap_or(false);
    if is_guarded && admin.operator.is_none() && admin.viewer.is_none() {
        notes.fault("metrics.auth: set admin.token_file or admin.readonly_token_file, too");
    }
    let listen = listen(written, admin, notes);
    if is_guarded && listen.is_some() && admin.tls.server.is_some() {
        notes.warn(
            "metrics.auth: metrics.listen speaks plain HTTP, whatever admin.tls says: tokens that \
             are sent there can be read on the way",
        );
    }
    let seconds = written.buckets_seconds.as_deref().unwrap_or(&Bounds::USUAL);
    let bounds = notes.take("metrics.buckets_seconds", Bounds::new(seconds));
    Some(Metrics {
        enabled: written.enabled.unwrap_or(true),
        path: path(written, notes),
        listen,
        auth: is_guarded,
        named: named(written, notes),
        bounds: bounds?,
    })
}

fn path(written: &written::Metrics, notes: &mut Notes) -> String {
    let path = written.path.clone().unwrap_or_else(|| "/metrics".to_owned());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
    if !path.starts_with('/') || !path.bytes().all(plain) {
        notes.fault(format!(
            "metrics.path: `{path}` is not `/` followed by letters, digits and `/-_.`"
        ));
    } else if ["/", "/livez", "/readyz"].contains(&path.as_str()) || path.starts_with("/api/") {
        notes.fault(format!("metrics.path: `{path}` is already another page"));
    }
    path
}

fn listen(written: &written::Metrics, admin: &Admin, notes: &mut Notes) -> Option<String> {
    let listen = written.listen.clone().filter(|listen| !listen.is_empty())?;
    match notes.take(&format!("metrics.listen: `{listen}`"), listen.parse::<Address>()) {
        Some(Address::Unix(_) | Address::Embedded) => {
            notes.fault("metrics.listen: only TCP, such as \"0.0.0.0:9380\", or \"\"");
        }
        Some(Address::Tcp { .. }) | None => {}
    }
    if admin.listen.as_ref() == Some(&listen) {
        notes.fault(format!("metrics.listen: {listen} is admin.listen, which has the page, too"));
    }
    Some(listen)
}

/// Which namespaces are told apart.
fn named(written: &written::Metrics, notes: &mut Notes) -> Named {
    let chosen = written.namespaces.clone().unwrap_or_default();
    for name in &chosen {
        if name.is_empty() || name.contains(':') || name.len() > NAME_MAX {
            notes.fault(format!(
                "metrics.namespaces: `{name}` is not what stands before the first `:` of keys, in \
                 1 to {NAME_MAX} bytes"
            ));
        }
    }
    let max = match chosen.len() {
        0 => written.max_namespaces.unwrap_or_else(|| Named::default().max),
        count => count,
    };
    if !(1..=NAMESPACES_MAX).contains(&max) {
        notes.fault(format!("metrics.max_namespaces: {max} is not between 1 and {NAMESPACES_MAX}"));
    }
    Named { max: max.min(NAMESPACES_MAX), chosen }
}
