//! Rules: which keys are cached, and how. First match wins; a rule is looked for on a miss only,
//! and remembered by its index.

use crate::config::{self, Admission, Fallback, FallbackReads, Level, MultiKey, Settings};
use crate::keys::bounds::KeyBounds;
use crate::keys::glob::Glob;
use std::time::Duration;

/// How the keys of one rule are cached. Times in nanoseconds, sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its place; [`Rules::get`] finds it by this.
    pub index: u16,
    /// What a cached reply promises.
    pub level: Level,
    /// The bound of `coherent`; of `linear` 0.
    pub max_staleness_ns: u64,
    /// Longest local life of a value.
    pub ttl_ns: u64,
    /// Local life of a nil; 0 = nil is not stored.
    pub negative_ttl_ns: u64,
    /// Longest local life of a hash's reply where fields may expire on their own.
    pub hash_max_ttl_ns: u64,
    /// Longest reply stored.
    pub max_value_size: usize,
    /// What a SET without expiry is given.
    pub write_ttl: Option<Duration>,
    /// True if writes are acknowledged before upstream has them.
    pub write_behind: bool,
    /// True if a fill asks upstream for the key's remaining life.
    pub ttl_probe: bool,
    /// True if only a key that missed not long ago is stored.
    pub second_hit: bool,
    /// True if an MGET of this key and others is asked of upstream as it is.
    pub of_one_moment: bool,
    /// True if all replies of one key are of one moment.
    pub whole_key: bool,
    /// How long past its time something is served while upstream cannot be reached.
    pub stale_if_error_ns: u64,
    /// The same, while something stands in for upstream (`[fallback]`); 0 = nothing does.
    pub fallback_ns: u64,
    /// How long past its deadline something is served while it is read anew.
    pub grace_ns: u64,
    /// How long a fill lease is good whose client does not say; zero: there are none.
    pub fill_lease: Duration,
    /// The part of its life, in millionths, before whose end a hit has it read anew.
    pub refresh_ahead: u32,
    /// The part of its longest life, in millionths, that something may miss.
    pub ttl_jitter: u32,
    /// Which keys may be named.
    pub key_bounds: KeyBounds,
}

impl Rule {
    /// True if replies may be stored at all.
    #[inline]
    pub fn may_cache(&self) -> bool {
        self.level != Level::Bypass
    }

    /// True if anything is ever served past its time.
    #[inline]
    pub fn serves_stale(&self) -> bool {
        self.stale_if_error_ns | self.fallback_ns | self.grace_ns != 0
    }

    /// True if what is stored dies with the tracking link.
    #[inline]
    pub fn is_tracked(&self) -> bool {
        self.level.is_tracked()
    }
}

/// A pattern and its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    glob: Glob,
    rule: u16,
}

/// All rules, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    patterns: Vec<Pattern>,
    /// By index; the last applies where no pattern matches.
    compiled: Vec<Rule>,
    default: Rule,
    gives_lifetimes: bool,
    has_one_moment: bool,
    lends: bool,
    writes_behind: bool,
    bounds_keys: bool,
}

impl Rules {
    /// Compiles the rules of the configuration.
    pub fn compile(settings: &Settings) -> Self {
        let mut patterns = Vec::new();
        let mut compiled = Vec::new();
        for (place, written) in settings.rules.iter().enumerate() {
            let index = u16::try_from(place).unwrap_or(u16::MAX);
            for pattern in &written.patterns {
                patterns.push(Pattern { glob: Glob::new(pattern.as_bytes()), rule: index });
            }
            compiled.push(rule(index, written, &settings.fallback));
        }
        let last = u16::try_from(compiled.len()).unwrap_or(u16::MAX);
        let default = rule(last, &settings.default_rule, &settings.fallback);
        compiled.push(default);
        let gives_lifetimes = compiled.iter().any(|rule| rule.write_ttl.is_some());
        let has_one_moment = compiled.iter().any(|rule| rule.of_one_moment);
        let lends = compiled.iter().any(|rule| !rule.fill_lease.is_zero());
        let writes_behind = compiled.iter().any(|rule| rule.write_behind);
        let bounds_keys = compiled.iter().any(|rule| !rule.key_bounds.are_none());
        Self {
            patterns,
            compiled,
            default,
            gives_lifetimes,
            has_one_moment,
            lends,
            writes_behind,
            bounds_keys,
        }
    }

    /// The rule of a client's key.
    #[inline]
    pub fn find(&self, key: &[u8]) -> &Rule {
        let found = self.patterns.iter().find(|pattern| pattern.glob.matches(key));
        found.map_or(&self.default, |pattern| self.get(pattern.rule))
    }

    /// True if any rule has a `write_ttl`.
    #[inline]
    pub fn give_lifetimes(&self) -> bool {
        self.gives_lifetimes
    }

    /// True if any rule has writes acknowledged before upstream has them.
    #[inline]
    pub fn write_behind(&self) -> bool {
        self.writes_behind
    }

    /// True if any rule has fill leases.
    #[inline]
    pub fn lend(&self) -> bool {
        self.lends
    }

    /// True if any rule has a `max_key_length` or `forbidden_bytes`.
    #[inline]
    pub fn bound_keys(&self) -> bool {
        self.bounds_keys
    }

    /// True if an MGET of these keys is asked of upstream as it is.
    #[inline]
    pub fn have_one_moment(&self, mut keys: impl Iterator<Item: AsRef<[u8]>>) -> bool {
        self.has_one_moment && keys.any(|key| self.find(key.as_ref()).of_one_moment)
    }

    /// A rule by its index.
    #[inline]
    pub fn get(&self, index: u16) -> &Rule {
        self.compiled.get(usize::from(index)).unwrap_or(&self.default)
    }

    /// Every rule with its globs, in order; last the one without, which applies where none matches.
    pub fn all(&self) -> impl Iterator<Item = (&Rule, Vec<&[u8]>)> {
        self.compiled.iter().map(|rule| {
            let own = self.patterns.iter().filter(|pattern| pattern.rule == rule.index);
            (rule, own.map(|pattern| pattern.glob.text()).collect())
        })
    }

    /// True for the index of what applies where no pattern matches.
    pub fn is_default(&self, index: u16) -> bool {
        index == self.default.index
    }

    /// The prefixes of the client's keys that must be tracked, none overlapping another; a single
    /// empty one stands for every key, none at all means that no rule needs tracking. More than
    /// `max` are not worth their cost on the server.
    pub fn tracked_prefixes(&self, max: usize) -> Vec<Vec<u8>> {
        let mut prefixes: Vec<Vec<u8>> = self
            .patterns
            .iter()
            .filter(|pattern| self.get(pattern.rule).is_tracked())
            .map(|pattern| pattern.glob.literal().to_vec())
            .collect();
        let rest_is_caught = self.patterns.iter().any(|pattern| pattern.glob.text() == b"*");
        if self.default.is_tracked() && !rest_is_caught {
            prefixes.push(Vec::new());
        }
        // A prefix that begins with another one is covered by it (BCAST refuses the pair).
        prefixes.sort();
        prefixes.dedup_by(|later, earlier| later.starts_with(earlier));
        if prefixes.len() > max { vec![Vec::new()] } else { prefixes }
    }

    /// The smallest bound that any rule promises: barrier rounds are a quarter of it apart.
    pub fn min_staleness(&self) -> Option<Duration> {
        self.bounds().min()
    }

    /// The largest of them.
    pub fn max_staleness(&self) -> Option<Duration> {
        self.bounds().max()
    }

    fn bounds(&self) -> impl Iterator<Item = Duration> {
        let coherent = self.compiled.iter().filter(|rule| rule.level == Level::Coherent);
        coherent.map(|rule| Duration::from_nanos(rule.max_staleness_ns))
    }
}

fn rule(index: u16, written: &config::Rule, fallback: &Fallback) -> Rule {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let serves_stale = fallback.enabled && fallback.reads != FallbackReads::Error;
    Rule {
        index,
        level: written.level,
        max_staleness_ns: match written.level {
            Level::Linear => 0,
            _ => nanos(written.max_staleness),
        },
        ttl_ns: nanos(written.ttl),
        negative_ttl_ns: nanos(written.negative_ttl),
        hash_max_ttl_ns: nanos(written.hash_max_ttl),
        max_value_size: written.max_value_size,
        write_ttl: written.write_ttl,
        write_behind: written.write_behind,
        ttl_probe: written.ttl_probe,
        second_hit: written.admission == Admission::SecondHit,
        of_one_moment: written.multi_key == MultiKey::Bypass,
        // Without tracking no barrier would ever come, and a linear hit has waited for one.
        whole_key: written.whole_key && matches!(written.level, Level::Coherent | Level::Relaxed),
        stale_if_error_ns: nanos(written.stale_if_error),
        fallback_ns: if serves_stale { nanos(fallback.max_stale) } else { 0 },
        grace_ns: nanos(written.grace),
        fill_lease: written.fill_lease,
        refresh_ahead: written.refresh_ahead,
        ttl_jitter: written.ttl_jitter,
        key_bounds: written.key_bounds,
    }
}
