//! Keys that are hits here look idle upstream, whose eviction takes those first: a few hits have
//! their key touched there (R19).
//!
//! In: one hit in N, of those that are looked at anyway (one in sixteen), so a hit costs nothing
//! for it; N is `cache.touch`. Out: TOUCH on the link that clients share, whose answer goes to
//! nobody. It changes nothing that anybody is told of.

use crate::cache::Question;
use crate::command::by_name;
use crate::data::batch::Batch;
use crate::wire::write::Proto;
use std::cell::{Cell, RefCell};

/// Hits of which one is looked at.
const LOOKED_AT: u64 = 16;

/// A key, and the link that it goes to.
type Touch = (Box<[u8]>, u32, Proto);

/// The keys that one batch of requests has chosen.
#[derive(Debug, Default)]
pub struct Touches {
    /// Hits to be looked at before one is chosen.
    left: Cell<u64>,
    chosen: RefCell<Vec<Touch>>,
    is_chosen: Cell<bool>,
}

/// A hit is looked at: its key may be one to be touched.
#[cold]
pub fn sample(proto: Proto, question: &Question<'_>, batch: &Batch<'_>) {
    let (every, touches) = (batch.snapshot.limits.touch, &batch.links.touches);
    if every == 0 {
        return;
    }
    let left = touches.left.get();
    if left > 1 {
        return touches.left.set(left - 1);
    }
    touches.left.set(every.div_ceil(LOOKED_AT));
    touches.chosen.borrow_mut().push((question.key.into(), question.db, proto));
    touches.is_chosen.set(true);
}

/// Touches what was chosen in this batch, if anything was.
#[inline]
pub fn ask(batch: &mut Batch<'_>) {
    if batch.links.touches.is_chosen.get() {
        ask_all(batch);
    }
}

#[cold]
fn ask_all(batch: &mut Batch<'_>) {
    batch.links.touches.is_chosen.set(false);
    let Some(spec) = by_name("touch") else {
        return;
    };
    for (key, db, proto) in batch.links.touches.chosen.take() {
        let name = batch.snapshot.names.name(&key);
        let link = batch.links.at(db, proto);
        if link.is_up() && !link.is_full() {
            link.push_silent(spec, &[b"TOUCH", &name], false, batch.view.now);
        }
    }
}
