//! What the cache would serve now: looked at after each step, and judged as if a client had asked.

use crate::oracle::{Judged, Oracle, Time};
use crate::proxy::Proxy;
use crate::words::{CELLS, FIELD, FIELDS, KEYS, Names, Op, Sort, cell, sort};
use nearside::cache::{Entry, Extra, Lookup, Question, Reply, Space};
use nearside::config::Mode;
use nearside::wire::reply;

/// A read that the cache may answer.
struct Watched {
    cell: usize,
    key: usize,
    hash: u64,
    command: u16,
    extra: Vec<u8>,
}

/// The questions of the cache that are looked at.
pub(crate) struct Watch(Vec<Watched>);

impl Watch {
    /// All that there are.
    pub(crate) fn new(proxy: &Proxy, names: &Names) -> Self {
        let get = nearside::command::by_name("get").unwrap().index;
        let hget = nearside::command::by_name("hget").unwrap().index;
        let of = |key: usize, field: Option<usize>| {
            let hash = proxy.shared.cache.hash(names.of_key(key).as_bytes());
            let cell = cell(key, field.unwrap_or(0));
            let command = if field.is_some() { hget } else { get };
            let extra = field.map_or_else(Vec::new, |field| {
                let length = u32::try_from(FIELD[field].len()).unwrap().to_le_bytes();
                [&length, FIELD[field]].concat()
            });
            Watched { cell, key, hash, command, extra }
        };
        let all = reads()
            .into_iter()
            .filter_map(|op| match op {
                Op::Get(key) => Some(of(key, None)),
                Op::HGet(key, field) => Some(of(key, Some(field))),
                _ => None,
            })
            .collect();
        Self(all)
    }

    /// Nothing that would be served now is anything but what the server said, new enough; and, if
    /// that is promised, all of a key is of one moment.
    pub(crate) fn judge(
        &self,
        proxy: &Proxy,
        names: &Names,
        oracle: &Oracle,
        (staleness, is_whole): (&[Time; CELLS], bool),
    ) -> Result<(), String> {
        let shared = &proxy.shared;
        if shared.live.gate() != Mode::Cache {
            return Ok(());
        }
        let asked_at = shared.clock.now().0;
        let view = shared.cache.view(shared.clock.now());
        let mut cached: [Vec<_>; KEYS] = Default::default();
        for watched in &self.0 {
            let question = Question {
                key: names.of_key(watched.key).as_bytes(),
                hash: watched.hash,
                command: watched.command,
                space: Space::default(),
                proto: 0,
                extra: Extra::Written(&watched.extra),
            };
            let mut stored = None;
            let found = shared.cache.get(&question, &view, |entry| stored = Some(entry.clone()));
            if found != Lookup::Hit {
                continue;
            }
            let value = match stored.as_ref().map(Entry::reply) {
                Some(Reply::Bytes(bytes)) => match reply::bulk(bytes) {
                    None => return Err(format!("cached: {}", bytes.escape_ascii())),
                    value => value,
                },
                Some(Reply::Nil) | None => None,
            };
            let floor = oracle.floor(watched.cell);
            let staleness = staleness[watched.cell];
            let judged = Judged { asked_at, floor, staleness };
            oracle.judge(watched.cell, value, judged).map_err(|why| format!("cached: {why}"))?;
            cached[watched.key].push((watched.cell, value.map(<[u8]>::to_vec)));
        }
        match cached.iter().position(|of_key| is_whole && !oracle.share_a_moment(of_key)) {
            Some(key) => Err(format!("cached: k{key}'s fields are of several moments")),
            None => Ok(()),
        }
    }
}

/// A read of every cell.
pub(crate) fn reads() -> Vec<Op> {
    (0..KEYS)
        .flat_map(|key| match sort(key) {
            Sort::Hash => (0..FIELDS).map(|field| Op::HGet(key, field)).collect(),
            Sort::Text | Sort::Counter => vec![Op::Get(key)],
        })
        .collect()
}
