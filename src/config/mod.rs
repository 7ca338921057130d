//! stub
/// m
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// c
    Cache,
    /// b
    Bypass,
}
impl Mode {
    /// a
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Bypass => "bypass",
        }
    }
}
/// o
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDown {
    /// c
    Close,
    /// e
    Error,
}
/// l
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// a
    Coherent,
    /// a
    Relaxed,
    /// a
    Ttl,
    /// a
    Bypass,
}
