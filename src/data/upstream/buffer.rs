//! The memory of a link's bytes: room for what is read next, replies that leave it as shared bytes,
//! and what is kept of a buffer between two bursts.
//!
//! A large reply may wait for a client for minutes. It holds no more memory than about its own
//! length: neither the room that a growing buffer has beyond it nor other replies.

use bytes::{Buf, Bytes, BytesMut};

/// Room made for each read.
pub const READ_SIZE: usize = 64 * 1024;

/// Longest bulk for which room is made at once, on the word of its head: no other bulk is worth
/// more than a copy or two.
const WHOLE_MAX: usize = 16 * 1024 * 1024;

/// What a buffer without bytes keeps.
const KEPT: usize = 1024 * 1024;

/// Makes room for the next read. `wanted` bytes are what the reply that has begun has in all, if
/// that is known, else 0: it gets exactly that, as Redis does for large arguments
/// (`PROTO_MBULK_BIG_ARG`).
pub(super) fn make_room(input: &mut BytesMut, wanted: usize) {
    if (READ_SIZE..=WHOLE_MAX).contains(&wanted) {
        if wanted > input.capacity() {
            let mut whole = BytesMut::with_capacity(wanted);
            whole.extend_from_slice(input);
            *input = whole;
        }
        if wanted > input.len() {
            return;
        }
    }
    input.reserve(READ_SIZE);
}

/// Takes the reply of so many bytes that `input` begins with.
pub fn take_shared(input: &mut BytesMut, length: usize) -> Bytes {
    if length < READ_SIZE / 2 {
        // Less than half of the buffer that it would hold.
        let reply = Bytes::copy_from_slice(input.get(..length).unwrap_or_default());
        input.advance(length);
        return reply;
    }
    input.split_to(length).freeze()
}

/// An empty buffer keeps its memory, but not what only a burst needed.
pub(super) fn slim(buffer: BytesMut) -> BytesMut {
    if buffer.is_empty() && buffer.capacity() > KEPT { BytesMut::new() } else { buffer }
}

#[cfg(test)]
mod tests {
    use super::{READ_SIZE, WHOLE_MAX, make_room, slim, take_shared};
    use bytes::BytesMut;

    #[test]
    fn a_large_bulk_gets_a_buffer_of_its_length() {
        let mut input = BytesMut::new();
        make_room(&mut input, 0);
        assert!(input.capacity() >= READ_SIZE);
        input.extend_from_slice(b"$300000\r\nabc");
        let wanted = 300_011;
        make_room(&mut input, wanted);
        assert_eq!(input.capacity(), wanted);
        input.resize(wanted - 1, b'x');
        make_room(&mut input, wanted);
        assert_eq!(input.capacity(), wanted, "it is there");
        input.resize(wanted, b'x');
        let reply = take_shared(&mut input, wanted);
        assert!(reply.starts_with(b"$300000\r\nabc") && reply.len() == wanted);
        make_room(&mut input, 0);
        assert!(input.is_empty() && input.capacity() >= READ_SIZE);
    }

    #[test]
    fn the_word_of_a_head_is_not_taken_for_everything() {
        for wanted in [0, 100, READ_SIZE - 1, WHOLE_MAX + 1, usize::MAX] {
            let mut input = BytesMut::new();
            make_room(&mut input, wanted);
            assert_eq!(input.capacity(), READ_SIZE, "{wanted}");
        }
    }

    #[test]
    fn what_is_short_leaves_the_buffer_alone() {
        let mut input = BytesMut::with_capacity(READ_SIZE);
        input.resize(READ_SIZE, b'x');
        let (short, long) = (take_shared(&mut input, 20_000), take_shared(&mut input, 40_000));
        assert_eq!((short.len(), long.len(), input.len()), (20_000, 40_000, READ_SIZE - 60_000));
        drop(long);
        input.clear();
        // Nobody else has a part of it: it is used again, as it was.
        make_room(&mut input, 0);
        assert_eq!(input.capacity(), READ_SIZE);
    }

    #[test]
    fn what_a_burst_needed_is_given_back() {
        let mut large = BytesMut::with_capacity(2 << 20);
        large.extend_from_slice(b"x");
        let kept = slim(large);
        assert!(kept.capacity() >= 2 << 20);
        let mut empty = kept;
        empty.clear();
        assert_eq!(slim(empty).capacity(), 0);
    }
}
