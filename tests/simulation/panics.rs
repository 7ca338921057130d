//! Panics, which nearside catches: a connection ends and the process lives. Here each is a fault.

use std::cell::RefCell;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on panics of this process are noted, not printed.
pub(crate) fn note() {
    std::panic::set_hook(Box::new(|info| {
        LAST.with_borrow_mut(|last| *last = Some(info.to_string()));
    }));
}

/// The last panic on this thread since this was asked.
pub(crate) fn take() -> Option<String> {
    LAST.take()
}
