//! Floating point as C and Redis 7.0 read and print it.
//!
//! Scores are doubles, read by `strtod` and printed by `%.17g`. INCRBYFLOAT and HINCRBYFLOAT count
//! in `long double`, which on x86-64 has 64 bits of mantissa: [`Long`] is that type in software,
//! as far as reading, adding and printing with 17 decimals need it.

use super::bignum::Big;

/// `%.17g`, with Redis' words for infinities.
pub(super) fn format(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    let scientific = format!("{value:.16e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..17).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa), exponent.unsigned_abs());
    }
    let decimals = usize::try_from(16 - exponent).unwrap_or(0);
    trimmed(&format!("{value:.decimals$}")).to_owned()
}

/// Without the zeros, and the point, that end a fraction.
fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Reads a double as `string2d`: all of the text, no space before it, no overflow, no NaN.
pub(super) fn parse(text: &[u8]) -> Option<f64> {
    let value = match Number::read(text)? {
        Number::Infinite { negative } => return Some(signed(f64::INFINITY, negative)),
        Number::Hexadecimal(number) => number.to_double(),
        Number::Decimal { zero } => {
            let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
            // `strtod` reports a result that had to become zero.
            if value == 0.0 && !zero {
                return None;
            }
            value
        }
    };
    value.is_finite().then_some(value)
}

/// Reads a double as a bare `strtod` whose end must be the text's: spaces before it are skipped, a
/// NUL ends it, overflow is infinite, nothing at all is 0.
pub(super) fn parse_c(text: &[u8]) -> Option<f64> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    let number = text.trim_ascii_start();
    match Number::read(number)? {
        Number::Infinite { negative } => Some(signed(f64::INFINITY, negative)),
        Number::Hexadecimal(number) => Some(number.to_double()),
        Number::Decimal { .. } => std::str::from_utf8(number).ok()?.parse().ok(),
    }
}

fn signed(value: f64, negative: bool) -> f64 {
    if negative { -value } else { value }
}

/// A text that C takes for a number.
enum Number {
    Infinite { negative: bool },
    Hexadecimal(Long),
    Decimal { zero: bool },
}

impl Number {
    fn read(text: &[u8]) -> Option<Self> {
        let (negative, digits) = sign(text);
        if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
            return Some(Self::Infinite { negative });
        }
        if let [b'0', b'x' | b'X', digits @ ..] = digits {
            let read = Digits::read(digits, 16)?;
            let (mantissa, inexact) = read.digits.top();
            let exponent = i64::from(mantissa.exponent) + read.exponent;
            let long = Long::rounded(negative, mantissa.bits, inexact, exponent)?;
            return Some(Self::Hexadecimal(long));
        }
        let read = Digits::read(digits, 10)?;
        Some(Self::Decimal { zero: read.digits.is_zero() })
    }
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] | rest => (false, rest),
    }
}

/// Digits and a power, of ten for decimal numbers and of two for hexadecimal ones.
struct Digits {
    digits: Big,
    exponent: i64,
}

impl Digits {
    /// Reads `12.5e3` or, behind `0x`, `1f.8p3`.
    fn read(text: &[u8], base: u32) -> Option<Self> {
        let mark = if base == 16 { b'p' } else { b'e' };
        let split = text.iter().position(|byte| byte.to_ascii_lowercase() == mark);
        let (mantissa, power) = match split {
            Some(at) => (text.get(..at)?, Some(text.get(at + 1..)?)),
            None => (text, None),
        };
        let (mut digits, mut exponent) = (Big::default(), 0_i64);
        let (mut seen, mut fraction) = (false, false);
        for &byte in mantissa {
            if byte == b'.' && !fraction {
                fraction = true;
                continue;
            }
            let digit = char::from(byte).to_digit(base)?;
            digits.times_plus(base, digit);
            exponent -= i64::from(fraction) * if base == 16 { 4 } else { 1 };
            seen = true;
        }
        if let Some(power) = power {
            let (negative, text) = sign(power);
            if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
                return None;
            }
            let size = text.iter().fold(0_i64, |value, digit| {
                value.saturating_mul(10).saturating_add(i64::from(digit - b'0')).min(1 << 40)
            });
            exponent += if negative { -size } else { size };
        }
        seen.then_some(Self { digits, exponent })
    }
}

/// An x87 extended number that is finite: `mantissa * 2^exponent`, the top bit of the mantissa
/// set, or zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finite {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

/// A `long double`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Long {
    /// Neither infinite nor NaN.
    Finite(Finite),
    /// Redis reads `inf`, and refuses it where a sum would be one.
    Infinite,
}

/// Longest text that `string2ld` reads.
const TEXT_MAX: usize = 5 * 1024;

impl Long {
    pub(super) const ZERO: Self =
        Self::Finite(Finite { negative: false, mantissa: 0, exponent: 0 });

    /// Reads a `long double` as `string2ld`.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= TEXT_MAX {
            return None;
        }
        match Number::read(text)? {
            Number::Infinite { .. } => return Some(Self::Infinite),
            Number::Hexadecimal(number) => return Some(number),
            Number::Decimal { .. } => {}
        }
        let (negative, rest) = sign(text);
        let Digits { digits, exponent } = Digits::read(rest, 10)?;
        if digits.is_zero() {
            return Some(Self::Finite(Finite { negative, mantissa: 0, exponent: 0 }));
        }
        // Far outside of the type's range, before any work is done.
        let magnitude = i64::try_from(digits.bits()).ok()? * 3 / 10 + exponent;
        if !(-5100..5100).contains(&magnitude) {
            return None;
        }
        let power = u32::try_from(exponent.unsigned_abs()).ok()?;
        if exponent >= 0 {
            let (top, inexact) = digits.times_power_of_ten(power).top();
            return Self::rounded(negative, top.bits, inexact, i64::from(top.exponent));
        }
        let divisor = Big::from(1).times_power_of_ten(power);
        // Enough zeros behind the digits that the quotient has more than 64 bits.
        let shift = (divisor.bits() + 66).saturating_sub(digits.bits());
        let (quotient, remainder) = digits.shifted(shift).divided_by(&divisor);
        let (top, inexact) = quotient.top();
        let exponent = i64::from(top.exponent) - i64::try_from(shift).ok()?;
        Self::rounded(negative, top.bits, inexact || !remainder.is_zero(), exponent)
    }

    /// The number `bits * 2^exponent`, rounded half to even to 64 bits; `inexact` says that there
    /// was more behind them. `None` if it overflows, or becomes zero without being it.
    fn rounded(negative: bool, bits: u128, inexact: bool, exponent: i64) -> Option<Self> {
        if bits == 0 {
            return (!inexact).then_some(Self::Finite(Finite {
                negative,
                mantissa: 0,
                exponent: 0,
            }));
        }
        let excess = 128 - i64::from(bits.leading_zeros()) - 64;
        let (mut mantissa, mut exponent) = if excess > 0 {
            let cut = bits & ((1 << excess) - 1);
            let half = 1_u128 << (excess - 1);
            let kept = bits >> excess;
            let up = cut > half || (cut == half && (inexact || kept & 1 == 1));
            (kept + u128::from(up), exponent + excess)
        } else {
            (bits << -excess, exponent + excess)
        };
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
        if !(-16_445 - 63..=16_383 - 63).contains(&exponent) {
            return None;
        }
        let (mantissa, exponent) = (u64::try_from(mantissa).ok()?, i32::try_from(exponent).ok()?);
        Some(Self::Finite(Finite { negative, mantissa, exponent }))
    }

    /// The sum; `None` if it is not finite.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        let (Self::Finite(a), Self::Finite(b)) = (self, other) else {
            return None;
        };
        if a.mantissa == 0 || b.mantissa == 0 {
            return Some(Self::Finite(if b.mantissa == 0 { a } else { b }));
        }
        let (large, small) =
            if (a.exponent, a.mantissa) >= (b.exponent, b.mantissa) { (a, b) } else { (b, a) };
        // 62 bits of room below the larger mantissa, one above for the carry.
        let base = u128::from(large.mantissa) << 62;
        let shifted = u128::from(small.mantissa) << 62;
        let distance = large.exponent.abs_diff(small.exponent);
        let (aligned, lost) = match distance {
            0..=127 => (shifted >> distance, shifted & ((1 << distance) - 1) != 0),
            _ => (0, true),
        };
        // What was shifted out stands as one lowest bit: it only ever decides a rounding.
        let aligned = aligned | u128::from(lost);
        let bits = if a.negative == b.negative { base + aligned } else { base - aligned };
        let exponent = i64::from(large.exponent) - 62;
        let negative = large.negative && bits != 0;
        Self::rounded(negative, bits, false, exponent)
    }

    /// `%.17Lf` without trailing zeros, as `ld2string` prints for people.
    pub(super) fn format(self) -> String {
        let Self::Finite(Finite { negative, mantissa, exponent }) = self else {
            return "inf".to_owned();
        };
        const SCALE: u128 = 100_000_000_000_000_000;
        let text = if exponent >= 0 {
            Big::from(mantissa).shifted(usize::try_from(exponent).unwrap_or(0)).to_decimal()
        } else {
            let (scaled, shift) = (u128::from(mantissa) * SCALE, exponent.unsigned_abs());
            let rounded = if shift < 128 {
                let (kept, cut) = (scaled >> shift, scaled & ((1 << shift) - 1));
                let half = 1_u128 << (shift - 1);
                kept + u128::from(cut > half || (cut == half && kept & 1 == 1))
            } else {
                0
            };
            let text = format!("{}.{:017}", rounded / SCALE, rounded % SCALE);
            trimmed(&text).to_owned()
        };
        if negative && text != "0" { format!("-{text}") } else { text }
    }

    /// The nearest double.
    fn to_double(self) -> f64 {
        let Self::Finite(Finite { negative, mantissa, exponent }) = self else {
            return f64::NAN;
        };
        #[expect(clippy::cast_precision_loss, reason = "rounding to 53 bits is what is asked for")]
        let value = mantissa as f64 * 2_f64.powi(exponent);
        signed(value, negative)
    }
}

#[cfg(test)]
mod tests {
    use super::{Long, format, parse};

    #[test]
    fn doubles_print_with_17_digits() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.10000000000000001"),
            (3.5, "3.5"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1e300, "1.0000000000000001e+300"),
            (1e-4, "0.0001"),
            (1e-5, "1.0000000000000001e-05"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (1_125_899_906_842_624.0 + 0.25, "1125899906842624.2"),
        ] {
            assert_eq!(format(value), text);
        }
    }

    #[test]
    fn doubles_are_read_as_c_reads_them() {
        for (text, value) in [
            ("1", Some(1.0)),
            ("+1", Some(1.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("1e3", Some(1000.0)),
            ("0x10", Some(16.0)),
            ("-0x1.8p1", Some(-3.0)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("Infinity", Some(f64::INFINITY)),
            ("0e999999", Some(0.0)),
            ("nan", None),
            ("", None),
            (".", None),
            (" 1", None),
            ("1 ", None),
            ("1e", None),
            ("1e400", None),
            ("1e-400", None),
            ("0x", None),
        ] {
            assert_eq!(parse(text.as_bytes()), value, "{text:?}");
        }
    }

    #[test]
    fn long_doubles_add_as_x87_adds() {
        for (a, b, sum) in [
            ("10.5", "0.1", "10.6"),
            ("0.1", "0.2", "0.3"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-5", "-2"),
            ("1e18", "0.5", "1000000000000000000.5"),
            ("0", "1e20", "100000000000000000000"),
            ("-0.0", "0", "0"),
            ("1.5", "-1.5", "0"),
            ("0x10", "0.25", "16.25"),
            ("0", "1e-17", "0.00000000000000001"),
            ("0", "1e-18", "0"),
            ("1e4000", "0", ""),
        ] {
            let (a, b) = (Long::parse(a.as_bytes()).unwrap(), Long::parse(b.as_bytes()).unwrap());
            let text = a.plus(b).unwrap().format();
            if !sum.is_empty() {
                assert_eq!(text, sum);
            }
        }
        assert_eq!(Long::parse(b"1e5000"), None);
        assert_eq!(Long::parse(b"1e-5000"), None);
        assert_eq!(Long::parse(b"abc"), None);
        assert_eq!(Long::parse(b"inf").unwrap().plus(Long::ZERO), None);
    }
}
