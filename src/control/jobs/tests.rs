use super::{Busy, Count, Jobs, KEPT, Kind, State, Stopped};
use crate::units::clock::Clock;
use std::time::Duration;

#[test]
fn one_that_changes_upstream_and_one_that_warms() {
    let (jobs, _works) = Jobs::new(Clock::system());
    let purge = jobs.begin(Kind::Purge, String::new(), false).unwrap();
    let warm = jobs.begin(Kind::Warm, String::new(), false).unwrap();
    let busy = Busy { id: 1, kind: Kind::Purge };
    assert_eq!(jobs.begin(Kind::Strip, String::new(), false).unwrap_err(), busy);
    assert_eq!(busy.to_string(), "job 1 (purge) is still running");
    assert_eq!(jobs.begin(Kind::Warm, String::new(), false).unwrap_err().id, 2);
    purge.end(Ok(()));
    let strip = jobs.begin(Kind::Strip, String::new(), true).unwrap();
    assert_eq!(jobs.get(1).unwrap().state(), State::Done);
    assert_eq!(jobs.running(Kind::Warm), 1);
    drop(warm);
    let dropped = jobs.get(2).unwrap();
    assert_eq!((dropped.state(), dropped.error().is_some()), (State::Failed, true));
    jobs.cancel_all();
    assert!(matches!(strip.check(), Err(Stopped::Cancelled)));
    assert_eq!(strip.job().state(), State::Running, "until it has stopped");
    strip.end(Err(Stopped::Cancelled));
    assert_eq!(jobs.get(3).unwrap().state(), State::Cancelled);
}

#[test]
fn the_last_hundred_are_kept_and_those_that_run() {
    let (jobs, _works) = Jobs::new(Clock::system());
    let first = jobs.begin(Kind::Warm, String::new(), false).unwrap();
    for _ in 0..2 * KEPT {
        jobs.begin(Kind::Purge, String::new(), false).unwrap().end(Ok(()));
    }
    let ids: Vec<u64> = jobs.all().iter().map(|job| job.id).collect();
    assert_eq!((ids.len(), ids[0], ids[KEPT - 1]), (KEPT, 201, first.job().id));
}

#[test]
fn what_is_left_is_reckoned_from_what_is_done() {
    let (clock, hands) = Clock::manual();
    let (jobs, _works) = Jobs::new(clock);
    let known = jobs.begin(Kind::Warm, String::new(), false).unwrap();
    known.set_total(40);
    let eta = || jobs.get(1).unwrap().eta(jobs.now());
    assert_eq!(eta(), None);
    hands.advance(Duration::from_secs(3));
    known.add_done(10);
    known.add(Count::Loaded, 7);
    assert_eq!(eta(), Some(Duration::from_secs(9)));
    assert_eq!(known.job().count(Count::Loaded), 7);
    known.end(Ok(()));
    hands.advance(Duration::from_secs(3));
    assert_eq!((eta(), jobs.get(1).unwrap().took(jobs.now())), (None, Duration::from_secs(3)));

    // The second of four databases is half looked at.
    let scanned = jobs.begin(Kind::Purge, String::new(), false).unwrap();
    hands.advance(Duration::from_secs(3));
    scanned.set_share(1, 4, 1 << 63);
    assert_eq!(scanned.job().eta(jobs.now()), Some(Duration::from_secs(5)));
}
