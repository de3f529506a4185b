//! Whether two formulas are one rational function: `(x+2)²` and `x² + 4x + 4`, `(x+5)/9` and `x/9 + 5/9`.
//!
//! Both are first evaluated at one point of a finite field, which tells almost all different ones apart at the cost of
//! reading them. Those that agree there are multiplied out with exact fractions and compared term by term, so no
//! accident and no answer that was made for the point can be taken for equal. Both steps are bounded; beyond the bounds
//! formulas are different. Powers of one root of a number are reduced (√2·√2 is 2), not those that arise when sums are
//! multiplied out; everything else that is no sum or product is a letter, and no other identity is known.

use std::collections::BTreeMap;

use super::expression::{Expression, Inside, Term};
use super::rational::Rational;

/// The prime 2⁶¹ − 1.
const PRIME: u128 = (1 << 61) - 1;
/// Terms of a product that is multiplied out.
const MAX_TERMS: usize = 96;
/// Largest exponent of a sum that is multiplied out.
const MAX_POWER: u64 = 32;

/// Whether both are one function wherever both have a value.
pub(super) fn same(left: &Expression, right: &Expression) -> bool {
    let agree = evaluate(left).is_some_and(|value| evaluate(right) == Some(value));
    agree && multiplied_out(left, right).unwrap_or(false)
}

fn multiplied_out(left: &Expression, right: &Expression) -> Option<bool> {
    let (left, right) = (Fraction::of(left)?, Fraction::of(right)?);
    let crossed = left.top.times(&right.bottom)?;
    Some(crossed.terms == right.top.times(&left.bottom)?.terms)
}

/// Exponent of a root of degree `degree`, as whole powers of what stands under it and a rest that is not negative.
fn reduce(exponent: i64, degree: u32) -> (i64, i64) {
    (exponent.div_euclid(i64::from(degree)), exponent.rem_euclid(i64::from(degree)))
}

// At one point of a finite field.

fn product(left: u128, right: u128) -> u128 {
    left * right % PRIME
}

fn raise(mut base: u128, mut exponent: u128) -> u128 {
    let mut result = 1;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = product(result, base);
        }
        base = product(base, base);
        exponent >>= 1;
    }
    result
}

/// `value` to a power of either sign; none where that divides by 0.
fn raise_signed(value: u128, exponent: i64) -> Option<u128> {
    let power = raise(value, u128::from(exponent.unsigned_abs()));
    match (exponent < 0, power) {
        (false, power) => Some(power),
        (true, 0) => None,
        (true, power) => Some(raise(power, PRIME - 2)),
    }
}

fn residue(number: Rational) -> Option<u128> {
    let (numerator, denominator) = number.parts();
    let modulus = i128::try_from(PRIME).ok()?;
    let [top, bottom] = [numerator, denominator].map(|part| part.rem_euclid(modulus).unsigned_abs());
    Some(product(top, raise_signed(bottom, -1)?))
}

/// Where a letter is evaluated: a number that follows from its name.
fn point(name: &str) -> u128 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The low bits of this sum change too little from name to name.
    let mixed = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    u128::from(mixed ^ (mixed >> 32)) % (PRIME - 2) + 2
}

fn evaluate(formula: &Expression) -> Option<u128> {
    let mut sum = 0;
    for term in formula.terms() {
        sum = (sum + evaluate_term(term)?) % PRIME;
    }
    Some(sum)
}

fn evaluate_term(term: &Term) -> Option<u128> {
    let mut value = residue(term.coefficient)?;
    for (name, factor) in &term.factors {
        let power = match &factor.inside {
            Inside::Letter => raise_signed(point(name), factor.exponent)?,
            Inside::Sum(inner) => raise_signed(evaluate(inner)?, factor.exponent)?,
            Inside::Root { degree, radicand } => {
                let (whole, rest) = reduce(factor.exponent, *degree);
                product(raise_signed(residue(*radicand)?, whole)?, raise_signed(point(name), rest)?)
            }
        };
        value = product(value, power);
    }
    Some(value)
}

// Multiplied out.

/// Letters with their exponents, all above 0.
type Monomial = BTreeMap<String, u64>;

#[derive(Clone, PartialEq, Eq)]
struct Polynomial {
    /// None of the coefficients is 0.
    terms: BTreeMap<Monomial, Rational>,
}

impl Polynomial {
    fn number(value: Rational) -> Self {
        let terms = if value == Rational::ZERO { BTreeMap::new() } else { BTreeMap::from([(Monomial::new(), value)]) };
        Self { terms }
    }

    fn letter(name: &str, exponent: u64) -> Self {
        let monomial = if exponent == 0 { Monomial::new() } else { Monomial::from([(name.to_owned(), exponent)]) };
        Self { terms: BTreeMap::from([(monomial, Rational::ONE)]) }
    }

    fn plus(mut self, other: Self) -> Option<Self> {
        for (monomial, coefficient) in other.terms {
            self.take(monomial, coefficient)?;
        }
        Some(self)
    }

    fn take(&mut self, monomial: Monomial, coefficient: Rational) -> Option<()> {
        let known = self.terms.remove(&monomial).unwrap_or(Rational::ZERO);
        let sum = known.add(coefficient)?;
        if sum != Rational::ZERO {
            self.terms.insert(monomial, sum);
        }
        (self.terms.len() <= MAX_TERMS).then_some(())
    }

    fn times(&self, other: &Self) -> Option<Self> {
        let mut result = Self { terms: BTreeMap::new() };
        for (left, coefficient) in &self.terms {
            for (right, factor) in &other.terms {
                let mut monomial = left.clone();
                for (name, exponent) in right {
                    let own = monomial.entry(name.clone()).or_insert(0);
                    *own = own.checked_add(*exponent)?;
                }
                result.take(monomial, coefficient.multiply(*factor)?)?;
            }
        }
        Some(result)
    }

    fn power(&self, exponent: u64) -> Option<Self> {
        if exponent > MAX_POWER && self.terms.len() > 1 {
            return None;
        }
        if let (1, Some((monomial, coefficient))) = (self.terms.len(), self.terms.first_key_value()) {
            let raised = monomial.iter().map(|(name, own)| Some((name.clone(), own.checked_mul(exponent)?)));
            let raised = raised.collect::<Option<Monomial>>()?;
            let coefficient = coefficient.power(i64::try_from(exponent).ok()?)?;
            return Some(Self { terms: BTreeMap::from([(raised, coefficient)]) });
        }
        let mut result = Self::number(Rational::ONE);
        for _ in 0..exponent {
            result = result.times(self)?;
        }
        Some(result)
    }
}

/// A quotient of polynomials; the bottom is not 0.
struct Fraction {
    top: Polynomial,
    bottom: Polynomial,
}

impl Fraction {
    fn of(formula: &Expression) -> Option<Self> {
        let mut sum = Self { top: Polynomial::number(Rational::ZERO), bottom: Polynomial::number(Rational::ONE) };
        for term in formula.terms() {
            let term = Self::of_term(term)?;
            sum = if sum.bottom == term.bottom {
                Self { top: sum.top.plus(term.top)?, bottom: sum.bottom }
            } else {
                let top = sum.top.times(&term.bottom)?.plus(term.top.times(&sum.bottom)?)?;
                Self { top, bottom: sum.bottom.times(&term.bottom)? }
            };
        }
        Some(sum)
    }

    fn of_term(term: &Term) -> Option<Self> {
        let one = || Polynomial::number(Rational::ONE);
        let mut product = Self { top: Polynomial::number(term.coefficient), bottom: one() };
        for (name, factor) in &term.factors {
            let size = factor.exponent.unsigned_abs();
            let own = match &factor.inside {
                Inside::Letter => Self { top: Polynomial::letter(name, size), bottom: one() },
                Inside::Sum(inner) => {
                    let inner = Self::of(inner)?;
                    Self { top: inner.top.power(size)?, bottom: inner.bottom.power(size)? }
                }
                Inside::Root { degree, radicand } => {
                    let (whole, rest) = reduce(factor.exponent, *degree);
                    let letter = Polynomial::letter(name, rest.unsigned_abs());
                    let top = letter.times(&Polynomial::number(radicand.power(whole)?))?;
                    product = Self { top: product.top.times(&top)?, bottom: product.bottom };
                    continue;
                }
            };
            let own = if factor.exponent < 0 { Self { top: own.bottom, bottom: own.top } } else { own };
            product = Self { top: product.top.times(&own.top)?, bottom: product.bottom.times(&own.bottom)? };
        }
        (!product.bottom.terms.is_empty()).then_some(product)
    }
}

#[cfg(test)]
mod tests {
    use super::super::equivalent;

    fn equal(left: &str, right: &str) -> bool {
        let there = equivalent(left, right).is_equal();
        assert_eq!(there, equivalent(right, left).is_equal(), "{left} | {right}");
        there
    }

    #[test]
    fn formulas_are_one_function_or_not() {
        for (left, right, expected) in [
            ("(x+1)(x+2)(x+3)", "x^3+6x^2+11x+6", true),
            ("(x+1)(x+2)(x+3)", "x^3+6x^2+11x+7", false),
            ("(a+b+c)^2", "a^2+b^2+c^2+2ab+2ac+2bc", true),
            ("(a+b)^2", "a^2+b^2", false),
            ("\\frac{1}{x-1}-\\frac{1}{x+1}", "\\frac{2}{x^2-1}", true),
            ("\\frac{x}{y}", "\\frac{2x}{2y+1}", false),
            ("(x+\\sqrt[3]{2})^3", "x^3+3\\sqrt[3]{2}x^2+3\\sqrt[3]{4}x+2", false),
            ("n(n+1)/2", "\\frac{n^2+n}{2}", true),
            ("2\\pi r(r+h)", "2\\pi r^2+2\\pi rh", true),
            ("(x+1)\\sin(x)", "x\\sin(x)+\\sin(x)", true),
            ("(x+1)\\sin(x)", "x\\cos(x)+\\sin(x)", false),
            ("(x_1+x_2)^2", "x_1^2+2x_1x_2+x_2^2", true),
        ] {
            assert_eq!(equal(left, right), expected, "{left} | {right}");
        }
    }

    #[test]
    fn what_is_too_large_to_multiply_out_is_different() {
        assert!(!equal("(x+1)^{33}", "(x+1)^{32}"));
        let tower = (0..40).fold("x".to_owned(), |inner, _| format!("({inner}+1)^{{32}}"));
        assert!(!equal(&tower, &format!("{tower}+x")));
        // Of many equal pairs each is multiplied out at most once or compared as it stands.
        let list = |item: &str| vec![item; 200].join(",");
        assert!(equal(&list("(x+1)^9"), &list("(1+x)^9")));
        assert!(!equal(&list("(x+y)^{30}"), &list("(x-y)^{30}")));
    }
}
