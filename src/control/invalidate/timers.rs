//! When the tracking link has something to do: a barrier round, a question whether the server still
//! tracks, a canary. Time in, what is due out; what is late is done once.

use std::task::Poll;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior};

/// How often the server is asked whether it still tracks (R9).
const INFO_EVERY: Duration = Duration::from_secs(30);

/// When the link has something to do.
pub(super) struct Timers {
    rounds: Interval,
    infos: Interval,
    canaries: Option<Interval>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Due {
    pub(super) round: bool,
    pub(super) info: bool,
    pub(super) canary: bool,
}

impl Timers {
    /// Rounds and canaries so often.
    pub(super) fn new(round_every: Duration, canary_every: Option<Duration>) -> Self {
        let (rounds, infos) = (ticks(round_every), ticks(INFO_EVERY));
        Self { rounds, infos, canaries: canary_every.map(ticks) }
    }

    /// Waits for what is due next.
    pub(super) async fn next(&mut self) -> Due {
        let canary = async {
            match &mut self.canaries {
                Some(canaries) => canaries.tick().await,
                None => std::future::pending().await,
            }
        };
        let nothing = Due::default();
        tokio::select! { biased;
            _ = self.rounds.tick() => Due { round: true, ..nothing },
            _ = self.infos.tick() => Due { info: true, ..nothing },
            _ = canary => Due { canary: true, ..nothing },
        }
    }

    /// What is due now.
    pub(super) async fn due(&mut self) -> Due {
        let canary = match &mut self.canaries {
            Some(canaries) => is_due(canaries).await,
            None => false,
        };
        Due { round: is_due(&mut self.rounds).await, info: is_due(&mut self.infos).await, canary }
    }
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// True if the next tick has come; does not wait for it.
async fn is_due(ticks: &mut Interval) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(ticks.poll_tick(cx).is_ready())).await
}
