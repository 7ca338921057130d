//! What the service manager is told (`sd_notify(3)`, a unit of `Type=notify-reload`): that nearside
//! accepts clients, reads its configuration again, parts; whether it is ready, for
//! `systemctl status`; and, where the unit has a watchdog, that all workers live.
//!
//! In: what the office and the composition root know. Out: datagrams to `NOTIFY_SOCKET`; without
//! it nothing is said, and nothing here ever holds anybody up or ends anything.

use sd_notify::NotifyState;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Clients are accepted; the configuration that was read again is in force, or refused.
pub fn accepting() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is read again. systemd wants to know when that began.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(error = %error, "no time for the service manager"),
    }
}

/// It drains, and may take so long; a moment more is for the way out.
pub fn parting(most: Duration) {
    let most = u32::try_from((most + Duration::from_secs(5)).as_micros()).unwrap_or(u32::MAX);
    let said = NotifyState::Status("draining: finishing what was received");
    tell(&[NotifyState::Stopping, said, NotifyState::ExtendTimeoutUsec(most)]);
}

/// A line for `systemctl status`.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// Says twice in the watchdog's time (`WatchdogSec`), if there is one, that all workers live; and
/// nothing while one does not: then systemd ends the process and starts another.
pub async fn keep_watchdog(lives: impl Fn() -> bool) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval((limit / 2).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if lives() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::debug!(error = %error, "the service manager cannot be told");
    }
}
