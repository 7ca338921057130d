//! Natural numbers of any length: just what reading and printing a `long double` exactly needs.

/// Digits of base 2^32, the lowest first, without zeros at the top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Big(Vec<u32>);

/// The highest bits of a number: `bits * 2^exponent`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Top {
    pub(super) bits: u128,
    pub(super) exponent: i32,
}

impl From<u64> for Big {
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    fn from(value: u64) -> Self {
        Self(vec![value as u32, (value >> 32) as u32]).normal()
    }
}

impl Big {
    fn normal(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }

    pub(super) const fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bits it takes.
    pub(super) fn bits(&self) -> usize {
        self.0.last().map_or(0, |top| self.0.len() * 32 - top.leading_zeros() as usize)
    }

    /// Becomes itself times `factor` plus `addend`.
    #[expect(clippy::cast_possible_truncation, reason = "the rest is carried")]
    pub(super) fn times_plus(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for digit in &mut self.0 {
            carry += u64::from(*digit) * u64::from(factor);
            *digit = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    pub(super) fn times_power_of_ten(mut self, power: u32) -> Self {
        for _ in 0..power / 9 {
            self.times_plus(1_000_000_000, 0);
        }
        self.times_plus(10_u32.pow(power % 9), 0);
        self
    }

    /// Itself times 2^`by`.
    #[expect(clippy::cast_possible_truncation, reason = "the rest is carried")]
    pub(super) fn shifted(&self, by: usize) -> Self {
        let mut digits = vec![0; by / 32];
        let mut carry = 0_u64;
        for digit in &self.0 {
            carry |= u64::from(*digit) << (by % 32);
            digits.push(carry as u32);
            carry >>= 32;
        }
        digits.push(carry as u32);
        Self(digits).normal()
    }

    /// The highest four digits, which are at least 97 bits where there are so many, and whether
    /// any bit below them is set.
    pub(super) fn top(&self) -> (Top, bool) {
        let below = self.0.len().saturating_sub(4);
        let (low, high) = self.0.split_at_checked(below).unwrap_or_default();
        let bits = high.iter().rev().fold(0_u128, |bits, digit| bits << 32 | u128::from(*digit));
        let exponent = i32::try_from(below * 32).unwrap_or(i32::MAX);
        (Top { bits, exponent }, low.iter().any(|digit| *digit != 0))
    }

    fn bit(&self, at: usize) -> bool {
        self.0.get(at / 32).is_some_and(|digit| digit >> (at % 32) & 1 == 1)
    }

    fn is_less_than(&self, other: &Self) -> bool {
        let same_length = self.0.len() == other.0.len();
        if same_length {
            self.0.iter().rev().lt(other.0.iter().rev())
        } else {
            self.0.len() < other.0.len()
        }
    }

    /// Takes away a number that is not larger.
    #[expect(clippy::cast_possible_truncation, reason = "the rest is borrowed")]
    fn minus(&mut self, other: &Self) {
        let mut borrow = 0;
        for (at, digit) in self.0.iter_mut().enumerate() {
            let taken = u64::from(other.0.get(at).copied().unwrap_or(0)) + borrow;
            borrow = u64::from(u64::from(*digit) < taken);
            *digit = ((borrow << 32) + u64::from(*digit) - taken) as u32;
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    /// Quotient and remainder, bit by bit: the quotients asked for have about 66 bits.
    pub(super) fn divided_by(&self, divisor: &Self) -> (Self, Self) {
        let start = (self.bits() + 1).saturating_sub(divisor.bits());
        // The bits above `start` are fewer than the divisor has: they are the first remainder.
        let mut remainder = Self::default();
        for at in (start..self.bits()).rev() {
            remainder.times_plus(2, u32::from(self.bit(at)));
        }
        let mut quotient = Self::default();
        for at in (0..start).rev() {
            remainder.times_plus(2, u32::from(self.bit(at)));
            let fits = !remainder.is_less_than(divisor);
            if fits {
                remainder.minus(divisor);
            }
            quotient.times_plus(2, u32::from(fits));
        }
        (quotient, remainder)
    }

    #[expect(clippy::cast_possible_truncation, reason = "a quotient by 10^9 of less than 2^62")]
    pub(super) fn to_decimal(&self) -> String {
        const CHUNK: u64 = 1_000_000_000;
        let (mut digits, mut chunks) = (self.clone(), Vec::new());
        while !digits.is_zero() {
            let mut rest = 0;
            for digit in digits.0.iter_mut().rev() {
                let value = rest << 32 | u64::from(*digit);
                *digit = (value / CHUNK) as u32;
                rest = value % CHUNK;
            }
            chunks.push(rest);
            digits = digits.normal();
        }
        let first = chunks.pop().unwrap_or(0);
        let rest = chunks.iter().rev().map(|chunk| format!("{chunk:09}"));
        std::iter::once(first.to_string()).chain(rest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Big;

    #[test]
    fn a_product_divides_back() {
        let mut state = 7_u64;
        for round in 0..200_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = Big::from(state).times_power_of_ten(round % 40);
            let divisor = Big::from(1).times_power_of_ten(round % 37);
            let (quotient, remainder) = number.divided_by(&divisor);
            if round % 40 >= round % 37 {
                assert_eq!(quotient, Big::from(state).times_power_of_ten(round % 40 - round % 37));
                assert!(remainder.is_zero());
            }
            let text = number.to_decimal();
            let zeros = "0".repeat(usize::try_from(round % 40).unwrap());
            assert_eq!(text, format!("{state}{zeros}"));
        }
        assert_eq!(Big::default().to_decimal(), "0");
        assert_eq!(Big::from(5).shifted(70).bits(), 73);
    }
}
