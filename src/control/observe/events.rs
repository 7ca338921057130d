//! The log's events, told as they are logged: the same names, members and level, to whoever
//! listens at a [`Feed`].
//!
//! In: what is logged, whoever logs it: a state change has one place where it is said, and this
//! hears it there. Out: frames `event`. What is no event of the list in README, and what
//! `log.level` or `log.rate_limit` leaves out, is not told. Nothing is written if nobody listens.

use crate::control::observe::feed::{Feed, frame};
use crate::units::clock::unix_millis;
use parking_lot::RwLock;
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where they are told: the process has one log.
static FEED: RwLock<Option<Arc<Feed>>> = RwLock::new(None);

/// Has them told there from now on.
pub fn tell(feed: Arc<Feed>) {
    *FEED.write() = Some(feed);
}

/// See the module.
#[derive(Debug)]
pub(super) struct Told;

impl<S: Subscriber> Layer<S> for Told {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let is_event = event.metadata().fields().field("event").is_some();
        let feed = FEED.read().clone().filter(|feed| is_event && feed.has_readers());
        if let Some(feed) = feed {
            feed.tell(&frame("event", &members(event)));
        }
    }
}

/// As it stands in the log.
fn members(event: &Event<'_>) -> Map<String, Value> {
    let time = UNIX_EPOCH + Duration::from_millis(unix_millis());
    let level = event.metadata().level().as_str().to_ascii_lowercase();
    let mut members = Members::default();
    members.0.insert("time".to_owned(), humantime::format_rfc3339_millis(time).to_string().into());
    members.0.insert("level".to_owned(), level.into());
    event.record(&mut members);
    members.0
}

#[derive(Debug, Default)]
struct Members(Map<String, Value>);

impl Members {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Members {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}
