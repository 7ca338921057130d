//! What long jobs work with, for those who begin them.

use super::jobs::{Jobs, Tools};
use super::warm::Warm;
use std::sync::Arc;

/// Jobs, their tools, and warm-up. The composition root puts it together.
#[derive(Clone, Debug)]
pub struct Workshop {
    /// All jobs.
    pub jobs: Arc<Jobs>,
    /// What those work with that change upstream.
    pub tools: Arc<Tools>,
    /// Warm-up.
    pub warm: Arc<Warm>,
}
