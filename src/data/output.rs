//! Bytes on their way to one client: small replies in one buffer, large ones shared, not copied.
//!
//! Who shares a large reply with others holds it as a whole, until its last byte was sent.

use crate::units::size_class::size_class;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;

/// From this size on a reply is queued as shared bytes.
pub const SHARE_MIN: usize = 16 * 1024;

/// Most pieces handed to the socket at once.
const PIECES: usize = 16;

/// What one client has not been sent yet.
#[derive(Debug, Default)]
pub struct Output {
    /// Complete pieces, oldest first; empty for every client that reads what it asks for.
    pieces: VecDeque<Piece>,
    /// What follows the pieces.
    tail: BytesMut,
    /// Bytes in `pieces`.
    pieces_bytes: usize,
    /// Memory that `pieces` hold.
    pieces_held: usize,
}

#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    /// Memory that it holds, sent or not.
    held: usize,
}

impl Output {
    /// The buffer to which the next small reply is appended.
    #[inline]
    pub fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Queues a large reply behind everything queued so far.
    pub fn share(&mut self, bytes: Bytes) {
        if !self.tail.is_empty() {
            let tail = self.tail.split().freeze();
            self.push(tail);
        }
        self.push(bytes);
    }

    fn push(&mut self, bytes: Bytes) {
        let held = size_class(bytes.len());
        self.pieces_bytes += bytes.len();
        self.pieces_held += held;
        self.pieces.push_back(Piece { bytes, held });
    }

    /// Bytes queued.
    #[inline]
    pub fn len(&self) -> usize {
        self.pieces_bytes + self.tail.len()
    }

    /// Memory held, by what is queued and for what will be.
    #[inline]
    pub fn held(&self) -> usize {
        self.pieces_held + self.tail.capacity()
    }

    /// True if there is nothing to send.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends as much as `write` takes, by calling it until it says no or all is sent.
    pub fn write_to(
        &mut self,
        write: impl Fn(&[IoSlice<'_>]) -> std::io::Result<usize>,
    ) -> std::io::Result<()> {
        while self.pieces.is_empty() && !self.tail.is_empty() {
            let written = write(&[IoSlice::new(&self.tail)])?;
            if written == self.tail.len() {
                self.tail.clear();
            } else {
                self.tail.advance(written);
            }
        }
        while !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            let all =
                self.pieces.iter().map(|piece| piece.bytes.as_ref()).chain([self.tail.as_ref()]);
            for (slice, piece) in slices.iter_mut().zip(all) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let written = write(slices.get(..count).unwrap_or_default())?;
            self.advance(written);
        }
        self.release();
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let length = piece.bytes.len();
            if written < length {
                piece.bytes.advance(written);
                self.pieces_bytes -= written;
                return;
            }
            written -= length;
            self.pieces_bytes -= length;
            self.pieces_held -= piece.held;
            self.pieces.pop_front();
        }
        self.tail.advance(written);
    }

    /// Gives a buffer back that one burst made large; a small one is kept for the next reply.
    fn release(&mut self) {
        if self.tail.capacity() > SHARE_MIN * 4 {
            self.tail = BytesMut::new();
        }
    }

    /// Gives all memory back; nothing may be queued.
    pub fn shrink(&mut self) {
        if self.is_empty() && self.tail.capacity() > 0 {
            self.tail = BytesMut::new();
            self.pieces = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Output;
    use bytes::Bytes;
    use std::cell::{Cell, RefCell};
    use std::io;

    #[test]
    fn pieces_leave_in_order_whatever_the_socket_takes() {
        for step in [1, 3, 7, 1000] {
            let mut output = Output::default();
            output.tail().extend_from_slice(b"abc");
            output.share(Bytes::from_static(b"DEFGH"));
            output.tail().extend_from_slice(b"ij");
            output.share(Bytes::from_static(b"K"));
            output.tail().extend_from_slice(b"l");
            assert_eq!(output.len(), 12);
            let (sent, stops) = (RefCell::new(Vec::new()), Cell::new(0));
            while !output.is_empty() {
                let result = output.write_to(|slices| {
                    stops.set(stops.get() + 1);
                    if stops.get() % 3 == 0 {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                    let part = &all[..step.min(all.len())];
                    sent.borrow_mut().extend_from_slice(part);
                    Ok(part.len())
                });
                assert!(result.is_ok() || !output.is_empty());
            }
            assert_eq!(sent.into_inner(), b"abcDEFGHijKl");
        }
    }

    #[test]
    fn a_piece_is_held_until_its_last_byte_has_left() {
        let mut output = Output::default();
        assert_eq!(output.held(), 0);
        output.tail().extend_from_slice(b"abc");
        let kept = output.held();
        assert!(kept >= 3);
        output.share(Bytes::from(vec![b'x'; 100_000]));
        let all = output.held();
        assert!(all > 100_000, "{all}");
        let write = |count: usize| {
            let rest = Cell::new(count);
            move |slices: &[io::IoSlice<'_>]| {
                let all = slices.iter().map(|slice| slice.len()).sum::<usize>().min(rest.get());
                rest.set(rest.get() - all);
                if all == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(all) }
            }
        };
        output.write_to(write(3 + 99_999)).unwrap_err();
        assert_eq!(output.len(), 1);
        assert!(output.held() > 100_000);
        output.write_to(write(1)).unwrap();
        assert!(output.is_empty() && output.held() <= kept, "{}", output.held());
        output.shrink();
        assert_eq!(output.held(), 0);
    }
}
