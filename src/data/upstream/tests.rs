//! One link's state, without a socket.

use super::pipeline::UNSENT_MAX;
use super::{ClientId, Kind, Pipeline, Ticket, Waiter};
use crate::cache::Space;
use crate::command;
use crate::config::{Overrides, load};
use crate::snapshot::Snapshot;
use crate::units::clock::Tick;
use crate::wire::write::Proto;
use bytes::BytesMut;
use std::rc::Rc;

fn snapshot() -> Rc<Snapshot> {
    Rc::new(Snapshot::of(&load(&Overrides::default()).unwrap().settings))
}

fn ticket(keys: u32) -> Ticket {
    let client = ClientId { place: 0, number: 0 };
    let owner = Waiter { client, slot: 0 };
    let set = command::find(b"set").unwrap();
    Ticket { keys, ..Ticket::new(owner, set, Tick(0), Kind::Forward) }
}

#[test]
fn nothing_of_a_suspect_link_is_left() {
    let mut link = Pipeline::new(Space::own(0), None, Proto::Resp2, snapshot());
    link.output.extend_from_slice(b"a whole request");
    link.name_key(1);
    link.push(ticket(1));
    link.output.extend_from_slice(b"half a requ");
    link.name_key(2);
    link.suspect();
    assert!(link.is_suspect() && link.front_is_sent());
    let mut keys = Vec::new();
    while link.pop(|key| keys.push(key)).is_some() {}
    link.reset();
    assert_eq!(keys, [1]);
    assert!(!link.is_suspect() && !link.front_is_sent());
    assert!(link.output.is_empty() && link.writing.is_empty());
    // The next ticket's key is its own.
    link.name_key(3);
    link.push(ticket(1));
    link.pop(|key| keys.push(key));
    assert_eq!(keys, [1, 3]);
}

#[test]
fn an_answer_is_read_under_what_its_request_was_written_under() {
    let numbered = |number| Rc::new(Snapshot { number, ..Snapshot::clone(&snapshot()) });
    let mut link = Pipeline::new(Space::own(0), None, Proto::Resp2, numbered(0));
    link.adopt(&numbered(1));
    assert_eq!(link.snapshot_of_front().number, 1, "nothing was out");
    for number in 2..4 {
        link.push(ticket(0));
        link.push(ticket(0));
        link.adopt(&numbered(number));
        assert_eq!(link.snapshot().number, number);
    }
    link.push(ticket(0));
    let read_under: Vec<u64> = std::iter::from_fn(|| {
        let number = link.snapshot_of_front().number;
        link.pop(|_| {}).map(|_| number)
    })
    .collect();
    assert_eq!(read_under, [1, 1, 2, 2, 3]);
}

#[test]
fn who_fills_a_link_waits_until_it_has_less_to_send() {
    let mut link = Pipeline::new(Space::own(0), None, Proto::Resp2, snapshot());
    assert!(!link.hand_over());
    assert!(!link.has_drained(), "nobody waits");
    link.output.resize(UNSENT_MAX, b'x');
    assert!(link.hand_over());
    assert!(!link.has_drained());
    link.seal();
    let writing = std::mem::take(&mut link.writing);
    link.put_back_writing(writing);
    assert!(!link.has_drained(), "the socket took nothing");
    link.put_back_writing(BytesMut::with_capacity(UNSENT_MAX));
    assert!(link.has_drained());
    assert!(!link.has_drained(), "said once");
    assert_eq!(link.writing.capacity(), 0, "a burst's memory goes back");
}
