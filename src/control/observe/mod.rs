//! What operators see: numbers in, text out. Nothing here is on the way of a request.

pub mod chart;
pub mod events;
pub mod feed;
pub mod heard;
mod histograms;
pub mod logs;
pub mod metrics;
mod process;
mod quiet;
mod stamp;
pub mod state;
mod text;
pub mod traffic;
mod warming;
