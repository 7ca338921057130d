//! When each invalidation channel was last heard: what says that somebody still speaks there.
//!
//! In: the counters of its messages, looked at several times a second, so that nothing is noted
//! where they come. Out: text of /metrics. A time is right to a pulse of the main thread.

use crate::control::observe::text;
use crate::stats::counters::Family;
use crate::stats::{Counter, Stats};
use crate::units::clock::unix_seconds;
use std::sync::atomic::{AtomicU64, Ordering};

const LAST: Family = Family {
    name: "nearside_invalidation_last_message_timestamp_seconds",
    help: "Unix time of the last message; 0 = none yet.",
};

/// The channels, and what is counted of each.
const CHANNELS: [(&str, &[Counter]); 2] = [
    ("tracking", &[Counter::InvalidationsTracking]),
    (
        "pubsub",
        &[
            Counter::MessagesKey,
            Counter::MessagesNamespace,
            Counter::MessagesPattern,
            Counter::MessagesAll,
            Counter::MessagesMalformed,
        ],
    ),
];

/// See the module.
#[derive(Debug, Default)]
pub struct Heard([Channel; CHANNELS.len()]);

#[derive(Debug, Default)]
struct Channel {
    messages: AtomicU64,
    at: AtomicU64,
}

impl Heard {
    /// Looks whether there was any message.
    pub fn look(&self, stats: &Stats) {
        for ((_, counters), channel) in CHANNELS.iter().zip(&self.0) {
            let messages = counters.iter().map(|counter| stats.counter(*counter)).sum();
            if channel.messages.swap(messages, Ordering::Relaxed) != messages {
                channel.at.store(unix_seconds(), Ordering::Relaxed);
            }
        }
    }

    pub(super) fn write(&self, out: &mut String) {
        text::family(out, LAST, "gauge");
        for ((name, _), channel) in CHANNELS.iter().zip(&self.0) {
            let at = channel.at.load(Ordering::Relaxed);
            text::line(out, &format!("{}{{channel=\"{name}\"}} {at}", LAST.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Heard;
    use crate::stats::{Counter, Stats};
    use crate::units::clock::unix_seconds;

    #[test]
    fn only_a_channel_that_is_heard_has_a_time() {
        let (stats, heard, began) = (Stats::new(0), Heard::default(), unix_seconds());
        let block = stats.new_block();
        block.add(Counter::MessagesPattern, 1);
        heard.look(&stats);
        let mut text = String::new();
        heard.write(&mut text);
        let at = |channel: &str| {
            let line = text.lines().find(|line| line.contains(channel)).unwrap();
            line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        };
        assert!(at("pubsub") >= began);
        assert_eq!(at("tracking"), 0);
    }
}
