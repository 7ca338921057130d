//! Requests cut ahead of being served, so that what they will hit is on its way from memory while
//! the ones before them are served.
//!
//! Bytes in, requests with their rows out. A run ends at the first request that is no cacheable
//! read, because it may change what the next may be (AUTH changes the limits). A request that is
//! alone in what was read is cut and nothing else: there is nothing to hide its wait behind.

use crate::cache::Cache;
use crate::command::{self, CacheRule, Route, Spec};
use crate::wire::request::{Arg, Found, Head, Limits, Malformed, Request, Scan};

/// Longest run: what the processor can have on its way at once, and what its first cache holds.
const RUN_MAX: usize = 16;

/// Room for arguments that each place of a run keeps.
const ARGS_KEPT: usize = 1024;

/// A worker's scratch for one run.
#[derive(Debug, Default)]
pub struct Ahead {
    requests: Vec<Cut>,
    count: usize,
    /// How the last request began, and its row.
    head: Head,
    headed: Option<&'static Spec>,
}

/// One request of a run.
#[derive(Debug, Default)]
pub struct Cut {
    args: Vec<Arg>,
    /// Bytes that it takes.
    pub length: usize,
    /// Its row, if it has one.
    pub spec: Option<&'static Spec>,
    /// The hash of its key, if it was wanted already.
    pub hash: Option<u64>,
}

impl Cut {
    /// The request, in the bytes that start with it.
    #[inline]
    pub fn request<'b>(&'b self, bytes: &'b [u8]) -> Request<'b> {
        Request::new(bytes, &self.args)
    }
}

/// What follows a run.
#[derive(Debug)]
pub enum Tail {
    /// Nothing, or what has not been looked at yet.
    Open,
    /// The first part of a request; its arguments so far.
    Part(Scan, Vec<Arg>),
    /// An inline command of this many bytes.
    Inline(usize),
    /// Nothing that could be served.
    Malformed(Malformed),
}

impl Ahead {
    /// Cuts the next run from the front of `bytes`, whose first request has been scanned as far as
    /// `begun` says.
    #[inline]
    pub fn cut(
        &mut self,
        bytes: &[u8],
        begun: Option<(Scan, Vec<Arg>)>,
        limits: &Limits,
        cache: &Cache,
    ) -> Tail {
        let tail = self.cut_run(bytes, begun, limits, cache);
        for hash in self.run().iter().filter_map(|cut| cut.hash) {
            cache.prefetch_entry(hash);
        }
        tail
    }

    #[inline]
    fn cut_run(
        &mut self,
        bytes: &[u8],
        begun: Option<(Scan, Vec<Arg>)>,
        limits: &Limits,
        cache: &Cache,
    ) -> Tail {
        if self.requests.is_empty() {
            self.requests.resize_with(RUN_MAX, Cut::default);
        }
        self.count = 0;
        let (mut scan, mut begun) =
            begun.map_or_else(Default::default, |(scan, args)| (scan, Some(args)));
        let mut unread = bytes;
        for cut in &mut self.requests {
            if unread.is_empty() {
                break;
            }
            let alike = if let Some(args) = begun.take() {
                cut.args = args;
                None
            } else {
                cut.args.clear();
                cut.args.shrink_to(ARGS_KEPT);
                self.head.next(unread, &mut cut.args, limits)
            };
            if let Some(length) = alike {
                (cut.length, cut.spec) = (length, self.headed);
            } else {
                match scan.next(unread, &mut cut.args, limits) {
                    Ok(Found::Request(length)) => cut.length = length,
                    Ok(Found::Inline(length)) => return Tail::Inline(length),
                    Ok(Found::NeedMore) => return Tail::Part(scan, std::mem::take(&mut cut.args)),
                    Err(malformed) => return Tail::Malformed(malformed),
                }
                let request = Request::new(unread, &cut.args);
                cut.spec = command::resolve(request.len(), |index| request.arg(index)).ok();
                // Of a container the row follows from what stands behind the head.
                if cut.spec.is_some_and(|spec| is_read(spec) && !spec.name.contains('|')) {
                    self.head = Head::of(unread, &cut.args);
                    self.headed = cut.spec;
                }
            }
            let request = Request::new(unread, &cut.args);
            let key = cut.spec.and_then(|spec| key_read(spec, &request));
            let is_alone = self.count == 0 && cut.length == unread.len();
            cut.hash = key.filter(|_| !is_alone).map(|key| cache.hash(key));
            if let Some(hash) = cut.hash {
                cache.prefetch_place(hash);
            }
            self.count += 1;
            if key.is_none() {
                break;
            }
            unread = unread.get(cut.length..).unwrap_or_default();
            scan = Scan::default();
        }
        Tail::Open
    }

    /// The run.
    #[inline]
    pub fn run(&self) -> &[Cut] {
        self.requests.get(..self.count).unwrap_or_default()
    }
}

/// The key of a read that the cache may answer as a whole.
#[inline]
fn key_read<'b>(spec: &Spec, request: &Request<'b>) -> Option<&'b [u8]> {
    (is_read(spec) && request.len() > 1).then(|| request.arg(1))
}

#[inline]
fn is_read(spec: &Spec) -> bool {
    spec.route == Route::Cacheable && spec.cache != CacheRule::Multi
}

#[cfg(test)]
mod tests {
    use super::{Ahead, Tail};
    use crate::cache::Cache;
    use crate::command::{all, resolve};
    use crate::wire::request::Limits;
    use crate::wire::write;
    use bytes::BytesMut;

    const LIMITS: Limits = Limits { args_max: 100, bulk_max: 1000, unauthenticated: false };

    /// A head leads to a row: of each command, after every other and after itself, to its own. Of
    /// containers it is the second word that tells.
    #[test]
    fn a_request_has_its_own_row_whatever_was_before_it() {
        let cache = Cache::new(1 << 20, 4);
        let mut ahead = Ahead::default();
        for _ in 0..2 {
            for spec in all() {
                let (name, word) = spec.name.split_once('|').unwrap_or((spec.name, "k"));
                let mut bytes = BytesMut::new();
                for word in [word, "another key", word] {
                    write::array(&mut bytes, 2);
                    write::bulk(&mut bytes, name.to_ascii_uppercase().as_bytes());
                    write::bulk(&mut bytes, word.as_bytes());
                }
                let (mut unread, mut found) = (&bytes[..], Vec::new());
                while !unread.is_empty() {
                    let tail = ahead.cut(unread, None, &LIMITS, &cache);
                    assert!(matches!(tail, Tail::Open));
                    for cut in ahead.run() {
                        let request = cut.request(unread);
                        let row = resolve(request.len(), |index| request.arg(index)).ok();
                        assert_eq!(cut.spec.map(|spec| spec.name), row.map(|spec| spec.name));
                        found.push(row.map(|row| row.name));
                        unread = &unread[cut.length..];
                    }
                }
                let row = (spec.subcommands == 0).then_some(spec.name);
                assert_eq!((found.len(), found[0]), (3, row));
            }
        }
    }
}
