//! Exact fractions of 128-bit integers. Every operation says when the result does not fit, and then the caller falls
//! back to comparing text: a wrapped number must never be able to equal a true answer.

/// Exponents beyond this are not computed.
const MAX_EXPONENT: u64 = 1024;

/// A fraction in lowest terms with a positive denominator. The numerator is never `i128::MIN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rational {
    numerator: i128,
    denominator: i128,
}

/// Greatest common divisor; 0 only of two zeros.
fn divisor(mut left: u128, mut right: u128) -> u128 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

impl Rational {
    /// 0.
    pub(super) const ZERO: Self = Self { numerator: 0, denominator: 1 };
    /// 1.
    pub(super) const ONE: Self = Self { numerator: 1, denominator: 1 };

    /// `numerator`/`denominator`; none for a zero denominator or where it does not fit.
    pub(super) fn new(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        let common = divisor(numerator.unsigned_abs(), denominator.unsigned_abs());
        let top = i128::try_from(numerator.unsigned_abs() / common).ok()?;
        let bottom = i128::try_from(denominator.unsigned_abs() / common).ok()?;
        let negative = (numerator < 0) != (denominator < 0);
        Some(Self { numerator: if negative { -top } else { top }, denominator: bottom })
    }

    /// A whole number.
    pub(super) fn whole(value: i128) -> Option<Self> {
        Self::new(value, 1)
    }

    /// The value of decimal digits with at most one point, times 10^`exponent`.
    pub(super) fn decimal(digits: &str, exponent: i32) -> Option<Self> {
        let (before, after) = digits.split_once('.').unwrap_or((digits, ""));
        let mut value = 0_i128;
        for digit in before.chars().chain(after.chars()) {
            let digit = i128::from(digit.to_digit(10)?);
            value = value.checked_mul(10)?.checked_add(digit)?;
        }
        let scale = i64::from(exponent).checked_sub(i64::try_from(after.len()).ok()?)?;
        Self::whole(value)?.multiply(Self::whole(10)?.power(scale)?)
    }

    /// Whether it is a whole number.
    pub(super) fn is_whole(self) -> bool {
        self.denominator == 1
    }

    /// The whole number that it is.
    pub(super) fn to_whole(self) -> Option<i128> {
        self.is_whole().then_some(self.numerator)
    }

    /// Numerator and denominator.
    pub(super) fn parts(self) -> (i128, i128) {
        (self.numerator, self.denominator)
    }

    /// Whether it is below 0.
    pub(super) fn is_negative(self) -> bool {
        self.numerator < 0
    }

    /// The nearest double, to within two roundings.
    pub(super) fn to_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    /// −x.
    pub(super) fn negate(self) -> Self {
        Self { numerator: -self.numerator, denominator: self.denominator }
    }

    /// 1/x.
    pub(super) fn invert(self) -> Option<Self> {
        Self::new(self.denominator, self.numerator)
    }

    /// Sum.
    pub(super) fn add(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::new(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    /// Product; common factors go first, so that it fits wherever its value does.
    pub(super) fn multiply(self, other: Self) -> Option<Self> {
        let first = Self::new(self.numerator, other.denominator)?;
        let second = Self::new(other.numerator, self.denominator)?;
        Self::new(first.numerator.checked_mul(second.numerator)?, first.denominator.checked_mul(second.denominator)?)
    }

    /// x^`exponent`; 0^0 is refused.
    pub(super) fn power(self, exponent: i64) -> Option<Self> {
        if exponent == 0 {
            return (self != Self::ZERO).then_some(Self::ONE);
        }
        let base = if exponent < 0 { self.invert()? } else { self };
        if base == Self::ONE || base == Self::ZERO {
            return Some(base);
        }
        if exponent.unsigned_abs() > MAX_EXPONENT {
            return None;
        }
        let exponent = u32::try_from(exponent.unsigned_abs()).ok()?;
        Self::new(base.numerator.checked_pow(exponent)?, base.denominator.checked_pow(exponent)?)
    }

    /// The exact `degree`-th root, where there is one among the fractions.
    pub(super) fn root(self, degree: u32) -> Option<Self> {
        if degree == 0 || (self.is_negative() && degree.is_multiple_of(2)) {
            return None;
        }
        let top = whole_root(self.numerator.unsigned_abs(), degree)?;
        let bottom = whole_root(self.denominator.unsigned_abs(), degree)?;
        let root = Self::new(top, bottom)?;
        Some(if self.is_negative() { root.negate() } else { root })
    }
}

/// The whole `degree`-th root of `value`, if it has one: the rounded root of the double and its neighbours are tried,
/// and decided exactly. A double has 53 bits, so beyond 2^53 the guess is refined by Newton's steps.
fn whole_root(value: u128, degree: u32) -> Option<i128> {
    let mut guess = (value as f64).powf(1.0 / f64::from(degree)).round() as u128;
    for _ in 0..4 {
        let Some(power) = guess.checked_pow(degree - 1).filter(|power| *power > 0) else { break };
        guess = guess.checked_mul(u128::from(degree - 1))?.checked_add(value / power)? / u128::from(degree);
    }
    (guess.saturating_sub(1)..=guess.saturating_add(1))
        .find(|candidate| candidate.checked_pow(degree) == Some(value))
        .and_then(|root| i128::try_from(root).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fraction(numerator: i128, denominator: i128) -> Rational {
        Rational::new(numerator, denominator).expect("fits")
    }

    #[test]
    fn lowest_terms_and_signs() {
        assert_eq!(fraction(6, -4).parts(), (-3, 2));
        assert_eq!(fraction(0, -5), Rational::ZERO);
        assert_eq!(Rational::new(1, 0), None);
        assert_eq!(Rational::new(i128::MIN, 1), None);
        assert_eq!(fraction(i128::MIN, 2).parts(), (i128::MIN / 2, 1));
        assert_eq!(Rational::decimal("0012.50", 0), Some(fraction(25, 2)));
        assert_eq!(Rational::decimal("6.72", -5), Some(fraction(672, 10_000_000)));
        assert_eq!(Rational::decimal("1", 1000), None);
    }

    #[test]
    fn what_does_not_fit_is_none() {
        let large = fraction(i128::MAX, 1);
        assert_eq!(large.add(Rational::ONE), None);
        assert_eq!(large.multiply(large), None);
        assert_eq!(large.multiply(fraction(2, i128::MAX)), Some(fraction(2, 1)));
        assert_eq!(fraction(2, 1).power(127), None);
        assert_eq!(fraction(2, 1).power(126), Some(fraction(1 << 126, 1)));
        assert_eq!(fraction(2, 1).power(i64::MIN), None);
        assert_eq!(fraction(-1, 1).power(1_000_000), None);
        assert_eq!(Rational::ZERO.power(0), None);
        assert_eq!(Rational::ZERO.power(-1), None);
    }

    #[test]
    fn roots_are_exact_or_none() {
        assert_eq!(fraction(8, 27).root(3), Some(fraction(2, 3)));
        assert_eq!(fraction(-8, 1).root(3), Some(fraction(-2, 1)));
        assert_eq!(fraction(-4, 1).root(2), None);
        assert_eq!(fraction(2, 1).root(2), None);
        let side = 9_876_543_210_987_654_321_i128;
        assert_eq!(fraction(side * side, 1).root(2), Some(fraction(side, 1)));
        assert_eq!(fraction(side * side + 1, 1).root(2), None);
        assert_eq!(Rational::ZERO.root(2), Some(Rational::ZERO));
        assert_eq!(Rational::ONE.root(0), None);
        assert_eq!(fraction(5, 1).root(1), Some(fraction(5, 1)));
        assert_eq!(fraction(5, 1).root(u32::MAX), None);
    }

    proptest! {
        /// Against cross-multiplied integers, which small operands cannot overflow.
        #[test]
        fn arithmetic_is_that_of_fractions(a in -99_i128..99, b in 1_i128..99, c in -99_i128..99, d in 1_i128..99) {
            let (left, right) = (fraction(a, b), fraction(c, d));
            prop_assert_eq!(left.add(right), Some(fraction(a * d + c * b, b * d)));
            prop_assert_eq!(left.multiply(right), Some(fraction(a * c, b * d)));
            prop_assert_eq!(left.power(3).and_then(|cube| cube.root(3)), Some(left));
        }
    }
}
