//! Keys that are hits here look idle upstream, whose eviction takes those first: a few hits have
//! their key touched there (R19).
//!
//! In: one hit in N, which is `cache.touch`. Out: TOUCH on the link that clients share, whose
//! answer goes to nobody. It changes nothing that anybody is told of.

use crate::cache::{Question, Space};
use crate::command::by_name;
use crate::data::batch::Batch;
use crate::data::sample::OneIn;
use crate::wire::write::Proto;
use std::cell::RefCell;

/// A key, and the link that it goes to.
type Touch = (Box<[u8]>, Space, Proto);

/// The keys that one batch of requests has chosen.
#[derive(Debug, Default)]
pub struct Touches {
    one_in: OneIn,
    chosen: RefCell<Vec<Touch>>,
}

/// True if a hit's key is one to be touched.
pub fn choose(proto: Proto, question: &Question<'_>, batch: &Batch<'_>) -> bool {
    let (limits, touches) = (&batch.snapshot.limits, &batch.links.samples.touches);
    let is_it = touches.one_in.is_it(limits.touch, limits.sample);
    if is_it {
        touches.chosen.borrow_mut().push((question.key.into(), question.space, proto));
    }
    is_it
}

/// Touches what was chosen in this batch.
pub fn ask(batch: &mut Batch<'_>) {
    let Some(spec) = by_name("touch") else {
        return;
    };
    for (key, space, proto) in batch.links.samples.touches.chosen.take() {
        let name = batch.snapshot.names.name(&key);
        let link = batch.links.at(space, proto);
        if link.is_up() && !link.is_full() {
            link.push_silent(spec, &[b"TOUCH", &name], false, batch.view.now);
        }
    }
}
