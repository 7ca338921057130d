//! Who answers a request: the cache, nearside itself, a link, or nobody.
//!
//! In: a request and its row. Out: a reply in its place, or a hole there and a ticket on a link; or
//! word that it has to wait. The command table says which; what most requests need not pay for is
//! asked in [`Session::dispatch`]'s rare branch.

use crate::command::{CacheRule, Disposition, Refusal, Spec, own};
use crate::config::AuthMode;
use crate::data::batch::Batch;
use crate::data::local::proxy;
use crate::data::pause::{self, Held};
use crate::data::session::{Flow, Session};
use crate::data::standing::{self, Fate};
use crate::data::{acl, behind, bounds, consult, forward, local, login, pinned};
use crate::data::{refused, script, split, walk};
use crate::stats::Counter;
use crate::wire::request::Request;

impl Session {
    /// One request: its row, and its key's hash if that is known already.
    #[inline]
    pub(super) fn dispatch(
        &mut self,
        request: &Request<'_>,
        spec: Option<&'static Spec>,
        hash: Option<u64>,
        batch: &mut Batch<'_>,
    ) -> Flow {
        batch.commands += 1;
        let is_odd = batch.held != Held::Nothing
            || self.own.is_some()
            || self.order.is_muted
            || !self.standing.is_plain();
        match spec {
            Some(spec) if !is_odd => self.route(request, spec, hash, batch),
            _ => self.dispatch_odd(request, spec, hash, batch),
        }
    }

    /// A request that something is to be asked of before its row is.
    #[cold]
    fn dispatch_odd(
        &mut self,
        request: &Request<'_>,
        spec: Option<&'static Spec>,
        hash: Option<u64>,
        batch: &mut Batch<'_>,
    ) -> Flow {
        let flow = self.judge(request, spec, hash, batch);
        if flow == Flow::Next {
            // The next request waits for something of its own.
            self.flush = None;
        }
        flow
    }

    /// Everything that most requests need not pay for.
    fn judge(
        &mut self,
        request: &Request<'_>,
        spec: Option<&'static Spec>,
        hash: Option<u64>,
        batch: &mut Batch<'_>,
    ) -> Flow {
        if request.is_empty() {
            batch.commands -= 1;
            return Flow::Next;
        }
        // What only upstream knows.
        let live = &batch.shared.live;
        let spec = spec.or_else(|| proxy::resolve(request, batch.snapshot));
        let spec = spec.or_else(|| {
            let learned = live.stranger(request.len(), |index| request.arg(index))?;
            self.note(u16::MAX, Fate::Forwarded, batch.commands);
            Some(learned)
        });
        if batch.held != Held::Nothing
            && let Some(flow) = pause::hold(self, request, spec, batch)
        {
            return flow;
        }
        if let Some(spec) = spec.filter(|spec| spec.accepts(request.len()))
            && !self.standing.is_authenticated()
            && !matches!(spec.name, "auth" | "hello" | "quit" | "reset")
        {
            match self.come_in(batch) {
                None => return Flow::Behind,
                Some(true) => {}
                Some(false) => {
                    batch.block.reject(spec.index);
                    batch.block.add(Counter::RejectedNoAuth, 1);
                    return Flow::Next;
                }
            }
        }
        // nearside tells of what was: everything before it has its reply first.
        if spec.is_some_and(own::has) {
            if !self.order.is_clear() {
                return Flow::Barrier;
            }
            self.standing.look_back(&self.client, batch.commands, batch.last);
        }
        self.set_replies(self.replies().at_request());
        let flow = match spec {
            _ if self.own.is_some() => spec
                .and_then(|spec| behind::look(self, spec, request, batch))
                .unwrap_or_else(|| pinned::dispatch(self, spec, request, batch)),
            Some(spec) if !acl::permits(self, spec, request, batch) => Flow::Next,
            Some(spec) => behind::look(self, spec, request, batch)
                .unwrap_or_else(|| self.route_odd(request, spec, hash, batch)),
            None => {
                refused::unknown(self, request, batch);
                Flow::Next
            }
        };
        if flow == Flow::Next {
            self.set_replies(self.replies().behind_request());
        }
        flow
    }

    /// True if a client that has not logged in may use commands all the same; else it has its
    /// answer. `None`: its request is to wait.
    fn come_in(&mut self, batch: &mut Batch<'_>) -> Option<bool> {
        const REFUSAL: &[u8] = b"NOAUTH Authentication required.";
        if batch.snapshot.limits.auth.mode == AuthMode::Passthrough {
            return login::admit_nobody(self, REFUSAL, batch);
        }
        self.error(REFUSAL);
        Some(false)
    }

    /// As [`Self::route`], of a client that may have said how its reads are to be served.
    #[cold]
    pub fn route_odd(
        &mut self,
        request: &Request<'_>,
        spec: &'static Spec,
        hash: Option<u64>,
        batch: &mut Batch<'_>,
    ) -> Flow {
        let served = standing::serve(self, spec, request, batch);
        served.unwrap_or_else(|| self.route(request, spec, hash, batch))
    }

    /// Who answers a request.
    #[inline]
    pub fn route(
        &mut self,
        request: &Request<'_>,
        spec: &'static Spec,
        hash: Option<u64>,
        batch: &mut Batch<'_>,
    ) -> Flow {
        if !spec.accepts(request.len()) {
            refused::misfit(self, spec, batch);
            return Flow::Next;
        }
        batch.last = spec.index;
        let policy = &batch.snapshot.limits.policy;
        match spec.disposition(policy, request.len(), |index| request.arg(index)) {
            Disposition::Cacheable => match spec.cache {
                CacheRule::Multi if spec.name == "mget" => split::mget(self, spec, request, batch),
                CacheRule::Multi if request.len() > 2 && self.is_abroad => Flow::Barrier,
                CacheRule::Multi if request.len() > 2 => {
                    if bounds::permits(self, spec, request, batch) {
                        forward::command(self, spec, request, batch);
                    }
                    Flow::Next
                }
                _ => consult::read(self, spec, request, hash, batch),
            },
            // What another worker asked keeps no order with what its own link would ask.
            _ if self.is_abroad => Flow::Barrier,
            Disposition::Forward
            | Disposition::Script
            | Disposition::Own(_)
            | Disposition::Local
                if !bounds::permits(self, spec, request, batch) =>
            {
                Flow::Next
            }
            Disposition::Forward => {
                if walk::begin(self, spec, request, batch) {
                    self.wait();
                } else {
                    forward::command(self, spec, request, batch);
                }
                Flow::Next
            }
            Disposition::Script => script::serve(self, spec, request, batch),
            Disposition::Own(need) => pinned::serve(self, spec, request, need, batch),
            Disposition::Local => local::answer(self, spec, request, batch),
            Disposition::Edited => {
                local::edited(self, spec, request, batch);
                Flow::Next
            }
            // Under a prefix, FLUSHDB and FLUSHALL reach this version's keys by a walk.
            Disposition::Refuse(Refusal::OtherVersions)
                if walk::begin(self, spec, request, batch) =>
            {
                self.wait();
                Flow::Next
            }
            // What upstream does not have either is not refused, but unknown.
            Disposition::Refuse(_) if batch.shared.live.lacks(spec) => {
                refused::unknown(self, request, batch);
                Flow::Next
            }
            Disposition::Refuse(why) => {
                refused::by_policy(self, spec, why, batch);
                Flow::Next
            }
        }
    }
}
