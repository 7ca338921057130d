//! What operators see: numbers in, text out. Nothing here is on the way of a request.

pub mod logs;
pub mod metrics;
mod process;
mod text;
pub mod traffic;
mod warming;
