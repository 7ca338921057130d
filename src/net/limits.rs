//! Descriptors: how many this process may open, raised to fit the clients.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Listeners, shared links, logs, the admin port and what the runtime itself opens.
const RESERVED: u64 = 256;

/// What `RLIMIT_NOFILE` came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// Descriptors wanted: for each client one, one more for a pinned upstream link, and ours.
    pub wanted: u64,
    /// Descriptors that may be open now.
    pub reached: u64,
    /// Clients that fit, at most as many as asked for, while none of them needs a pinned link.
    pub clients: u64,
}

/// Raises the soft limit to fit `max_clients`, as far as the hard limit allows. Never lowers it.
pub fn fit_open_files(max_clients: u32) -> OpenFiles {
    let current = getrlimit(Resource::Nofile);
    let wanted = wanted(max_clients);
    let raised = raise(current, wanted);
    let reached = match raised {
        Some(limit) if setrlimit(Resource::Nofile, limit).is_ok() => limit.current,
        _ => current.current,
    };
    // No limit at all is written as none.
    let reached = reached.unwrap_or(u64::MAX);
    let room = reached.saturating_sub(RESERVED).max(1);
    OpenFiles { wanted, reached, clients: room.min(u64::from(max_clients)) }
}

fn wanted(max_clients: u32) -> u64 {
    2 * u64::from(max_clients) + RESERVED
}

/// The limit to set, if the present one is too small and can be raised.
fn raise(limit: Rlimit, wanted: u64) -> Option<Rlimit> {
    let soft = limit.current?;
    let possible = limit.maximum.map_or(wanted, |hard| hard.min(wanted));
    (possible > soft).then_some(Rlimit { current: Some(possible), maximum: limit.maximum })
}

#[cfg(test)]
mod tests {
    use super::{RESERVED, Rlimit, fit_open_files, raise, wanted};

    fn limit(current: u64, maximum: Option<u64>) -> Rlimit {
        Rlimit { current: Some(current), maximum }
    }

    #[test]
    fn raised_only_as_far_as_needed_and_allowed() {
        let want = wanted(10_000);
        assert_eq!(want, 20_000 + RESERVED);
        let to = |limit| raise(limit, want).and_then(|limit| limit.current);
        assert_eq!(to(limit(1_024, Some(1 << 20))), Some(want));
        assert_eq!(to(limit(1_024, None)), Some(want));
        assert_eq!(to(limit(1_024, Some(4_096))), Some(4_096));
        assert_eq!(to(limit(1_024, Some(1_024))), None);
        assert_eq!(to(limit(1 << 20, Some(1 << 20))), None);
        assert_eq!(to(Rlimit { current: None, maximum: None }), None);
    }

    #[test]
    fn the_report_is_true() {
        let before = fit_open_files(1);
        assert_eq!(before.clients, 1);
        let most = fit_open_files(u32::MAX);
        assert!(most.reached >= before.reached && most.clients <= most.reached, "{most:?}");
        assert!(most.reached >= most.wanted || most.clients < u64::from(u32::MAX), "{most:?}");
    }
}
