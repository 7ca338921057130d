//! stub
use crate::config::Level;
/// r
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// a
    pub index: u16,
    /// a
    pub level: Level,
    /// a
    pub max_staleness_ns: u64,
    /// a
    pub ttl_ns: u64,
    /// a
    pub negative_ttl_ns: u64,
    /// a
    pub hash_max_ttl_ns: u64,
    /// a
    pub max_value_size: usize,
    /// a
    pub ttl_probe: bool,
    /// a
    pub second_hit: bool,
}
/// r
#[derive(Debug, Clone)]
pub struct Rules {
    /// d
    pub default: Rule,
}
impl Rules {
    /// f
    pub fn find(&self, _k: &[u8]) -> &Rule {
        &self.default
    }
    /// g
    pub fn get(&self, _i: u16) -> &Rule {
        &self.default
    }
}
impl Rule {
    /// m
    pub fn may_cache(&self) -> bool {
        self.level != Level::Bypass
    }
}
