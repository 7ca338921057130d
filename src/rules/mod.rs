//! Rules: which keys are cached, and how.
