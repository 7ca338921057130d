//! How nearside hears of changes that did not come through it.

pub mod canary;
pub mod channel;
pub mod event;
pub mod fleet;
pub mod history;
pub mod listener;
pub mod message;
pub mod orders;
pub mod outbox;
pub mod signature;
pub mod subscription;
mod timers;
pub mod tracking;
