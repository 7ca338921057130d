//! From the name on the wire to its row: any case, no copy, no allocation, no loop.
//!
//! A name is packed into three words, folded to lower case eight bytes at a time; one
//! multiplication, with a constant found by the generator, leads to the only row it can be; one
//! comparison of the words says whether it is. The length is compared too: a NUL hides nothing.

use crate::command::Spec;
use crate::command::table::{COUNT, MULTIPLIER, TABLE};

/// The longest name that can be found: 22 bytes, so that the length fits beside it.
pub const NAME_MAX: usize = 22;

/// log2 of the number of slots.
pub const SLOT_BITS: u32 = 13;

/// A name of at most [`NAME_MAX`] bytes in lower case, padded with zeros; the last byte is its
/// length.
pub type Packed = [u64; 3];

/// A slot without a row; also beyond every row.
const EMPTY: u16 = u16::MAX;

/// Which row a slot leads to, and the packed names of the rows; both made by the compiler.
struct Names {
    slots: [u16; 1 << SLOT_BITS],
    packed: [Packed; COUNT],
}

static NAMES: Names = Names::of(&TABLE);

/// The row of a command. Subcommands are not found here.
#[inline]
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    let packed = pack(name)?;
    let row = usize::from(*NAMES.slots.get(slot(packed, MULTIPLIER))?);
    if *NAMES.packed.get(row)? == packed { TABLE.get(row) } else { None }
}

/// The row of a subcommand.
pub fn find_sub(container: &Spec, sub: &[u8]) -> Option<&'static Spec> {
    container.subs().iter().find(|spec| spec.word().as_bytes().eq_ignore_ascii_case(sub))
}

/// The row of `get` or `client|setname`, for names written in code.
pub fn by_name(name: &str) -> Option<&'static Spec> {
    match name.split_once('|') {
        None => find(name.as_bytes()),
        Some((container, sub)) => find_sub(find(container.as_bytes())?, sub.as_bytes()),
    }
}

/// What [`resolve`] could not find.
#[derive(Clone, Copy, Debug)]
pub enum Unknown {
    /// No command has this name, or the request is empty.
    Command,
    /// The command is a container, and has no such subcommand.
    Subcommand(&'static Spec),
}

/// The row of a request, with its subcommand if it is a container's. A container alone gives the
/// container: its arity error, or its own meaning (`COMMAND`).
#[inline]
pub fn resolve<'a>(argc: usize, arg: impl Fn(usize) -> &'a [u8]) -> Result<&'static Spec, Unknown> {
    if argc == 0 {
        return Err(Unknown::Command);
    }
    let spec = find(arg(0)).ok_or(Unknown::Command)?;
    if spec.subcommands == 0 || argc == 1 {
        return Ok(spec);
    }
    find_sub(spec, arg(1)).ok_or(Unknown::Subcommand(spec))
}

/// What a request asks for that the server does not have: a subcommand, if its container is known.
#[cold]
pub fn unknown<'a>(argc: usize, arg: impl Fn(usize) -> &'a [u8]) -> Unknown {
    let container = if argc > 1 { find(arg(0)) } else { None };
    container.filter(|spec| spec.subcommands > 0).map_or(Unknown::Command, Unknown::Subcommand)
}

/// Packs a name; `None` if it is too long to be one.
#[inline]
pub const fn pack(name: &[u8]) -> Option<Packed> {
    if name.len() > NAME_MAX {
        return None;
    }
    let length = (name.len() as u64) << 56;
    let (first, rest) = word(name);
    // Nearly every name on the wire.
    if rest.is_empty() {
        return Some([first, 0, length]);
    }
    let (second, rest) = word(rest);
    let (third, _) = word(rest);
    Some([first, second, third | length])
}

/// The slot of a name; distinct for all commands with the right multiplier.
#[inline]
pub const fn slot(name: Packed, multiplier: u64) -> usize {
    let [first, second, third] = name;
    let mixed = first ^ second.rotate_left(25) ^ third.rotate_left(47);
    (mixed.wrapping_mul(multiplier) >> (u64::BITS - SLOT_BITS)) as usize
}

/// The first eight bytes as a word in lower case, and the bytes behind them.
#[inline]
const fn word(bytes: &[u8]) -> (u64, &[u8]) {
    if let Some((chunk, rest)) = bytes.split_first_chunk::<8>() {
        return (fold(u64::from_le_bytes(*chunk)), rest);
    }
    // At most seven bytes: two halves that overlap, or fewer than four bytes one by one.
    let word = match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            let last = u32::from_le_bytes(*last) as u64;
            u32::from_le_bytes(*first) as u64 | last << (8 * (bytes.len() - 4))
        }
        _ => match *bytes {
            [] => 0,
            [a] => u64::from_le_bytes([a, 0, 0, 0, 0, 0, 0, 0]),
            [a, b] => u64::from_le_bytes([a, b, 0, 0, 0, 0, 0, 0]),
            [a, b, c, ..] => u64::from_le_bytes([a, b, c, 0, 0, 0, 0, 0]),
        },
    };
    (fold(word), &[])
}

/// Lower case of eight ASCII bytes at once; other bytes stay.
const fn fold(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let low = word & (ONES * 0x7f);
    let above_z = low + ONES * (0x7f - b'Z' as u64);
    let from_a = low + ONES * (0x80 - b'A' as u64);
    let upper = (from_a ^ above_z) & !word & (ONES * 0x80);
    word | upper >> 2
}

impl Names {
    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "the compiler runs this, over a table of fixed size: a fault is a build error"
    )]
    const fn of(table: &[Spec; COUNT]) -> Self {
        let mut names = Self { slots: [EMPTY; 1 << SLOT_BITS], packed: [[0; 3]; COUNT] };
        let (mut row, mut subcommands) = (0, 0);
        while row < COUNT {
            if subcommands > 0 {
                subcommands -= 1;
            } else {
                subcommands = table[row].subcommands;
                // Two names in one slot would lose the first: the tests look for every row.
                if let Some(packed) = pack(table[row].name.as_bytes()) {
                    names.packed[row] = packed;
                    names.slots[slot(packed, MULTIPLIER)] = row as u16;
                }
            }
            row += 1;
        }
        names
    }
}
