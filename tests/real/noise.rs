//! Random bytes: whatever comes, a worker goes on with its other clients. (Inputs that are compared
//! with a real server's answers are in `tests/faults/inputs.rs`.)

use crate::harness::{Kind, Proxy, Server, request, show};

/// Random bytes, and good requests with one byte changed: whatever becomes of them, the worker
/// goes on, and the same seed fails again.
#[test]
fn noise_is_harmless() {
    let server = Server::start(Kind::Valkey);
    // One worker, so that every client shares it with the bystander.
    let mut proxy = Proxy::start(&server.url(), &["server.workers = 1"]);
    let mut bystander = proxy.dial();
    assert_eq!(bystander.words("SET seen yes"), b"+OK\r\n");
    let mut assert_unaffected = |after: usize| {
        let told = bystander.words("GET seen");
        assert_eq!(show(&told), show(b"$3\r\nyes\r\n"), "after round {after}");
    };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..300 {
        let mut bytes: Vec<u8> = if round % 2 == 0 {
            (0..random() % 500).map(|_| random().to_le_bytes()[3]).collect()
        } else {
            ["GET a", "SET b c", "MGET a b", "CLIENT INFO", "HELLO 3"]
                .iter()
                .flat_map(|line| request(&line.split(' ').collect::<Vec<_>>()))
                .collect()
        };
        if !bytes.is_empty() {
            let at = usize::try_from(random()).unwrap() % bytes.len();
            bytes[at] = random().to_le_bytes()[5];
        }
        proxy.dial().try_send(&bytes).ok();
        if round % 10 == 0 {
            assert_unaffected(round);
        }
    }
    assert_unaffected(300);
    proxy.assert_alive();
}
