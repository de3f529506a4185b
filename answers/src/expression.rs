//! Exact sums of products, in one order: what a formula is compared by.
//!
//! 6 − 5i and −5i + 6 become the same sum, (a+5)(b+2) and (b+2)(a+5) the same product. Nothing is multiplied out here;
//! formulas that are spelled differently are compared as functions ([`identity`]), so the factored and the expanded
//! form are one answer. Numbers are exact fractions; roots and π are kept as symbols with a value in double precision
//! beside them.
//!
//! An expression remembers whether it left *arithmetic undone*: terms that could be added, numbers that could be
//! multiplied. `48+24` has the value 72, but whoever may box it is rewarded for copying the question.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::identity;
use super::rational::Rational;

/// Between a decimal and a number, relative.
const DECIMAL_TOLERANCE: f64 = 1e-6;
/// Between two rational numbers one of which is a decimal, absolute: the tolerance is for rounding, and must not make
/// two large amounts of money equal.
const RATIONAL_LIMIT: f64 = 5e-4;
/// Between two exact irrational numbers, relative: the rounding of a few dozen operations.
const EXACT_TOLERANCE: f64 = 1e-12;
/// Roots beyond this are not taken.
const MAX_ROOT: i128 = 64;

/// What a symbol stands for.
#[derive(Debug, Clone)]
pub(super) enum Inside {
    /// A variable, a constant, a function of something.
    Letter,
    /// A sum in brackets.
    Sum(Arc<Expression>),
    /// A root of a number.
    Root {
        /// 2 for a square root.
        degree: u32,
        /// What it is taken of; above 0.
        radicand: Rational,
    },
}

/// A symbol to a power.
#[derive(Debug, Clone)]
pub(super) struct Factor {
    pub(super) exponent: i64,
    /// The symbol's own value, where it has one.
    value: Option<f64>,
    pub(super) inside: Inside,
}

/// A coefficient times symbols.
#[derive(Debug, Clone)]
pub(super) struct Term {
    pub(super) coefficient: Rational,
    pub(super) factors: BTreeMap<String, Factor>,
}

/// A sum of terms, none of which is 0; no terms are 0.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    terms: BTreeMap<String, Term>,
    /// A number was written with a point, and may be rounded.
    decimal: bool,
    /// Numbers or like terms were left uncombined.
    pub(super) undone: bool,
    notation: Notation,
}

/// How an expression is written, where that decides whether what stands beside it is left undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notation {
    /// One number, perhaps with a sign.
    Plain,
    /// A power of ten, as in 3·10⁵.
    PowerOfTen,
    /// In any other way.
    Composed,
}

impl Term {
    fn number(coefficient: Rational) -> Self {
        Self { coefficient, factors: BTreeMap::new() }
    }

    /// The symbols, which are what makes terms alike.
    fn key(&self) -> String {
        let mut key = String::new();
        for (symbol, factor) in &self.factors {
            // Writing to a string cannot fail.
            let _ = if factor.exponent == 1 {
                write!(key, "*{symbol}")
            } else {
                write!(key, "*{symbol}^{}", factor.exponent)
            };
        }
        key
    }

    fn value(&self) -> Option<f64> {
        let mut product = self.coefficient.to_f64();
        for factor in self.factors.values() {
            product *= factor.value?.powi(i32::try_from(factor.exponent).ok()?);
        }
        product.is_finite().then_some(product)
    }

    /// Product, and whether something in it could be combined that was not.
    fn multiply(mut self, other: Self) -> Option<(Self, bool)> {
        let symbols = !self.factors.is_empty() || !other.factors.is_empty();
        let mut undone = combinable(self.coefficient, other.coefficient, symbols);
        self.coefficient = self.coefficient.multiply(other.coefficient)?;
        for (symbol, factor) in other.factors {
            let entry = self.factors.entry(symbol).or_insert(Factor { exponent: 0, ..factor.clone() });
            undone |= entry.exponent != 0;
            entry.exponent = entry.exponent.checked_add(factor.exponent)?;
        }
        self.factors.retain(|_, factor| factor.exponent != 0);
        Some((self, undone))
    }
}

/// Whether two coefficients wait to be multiplied. Neither does 1 or −1, nor next to symbols a number above with one
/// below: 2·(x/3) is a way to write 2x/3.
fn combinable(left: Rational, right: Rational, symbols: bool) -> bool {
    let ((top, bottom), (other_top, other_bottom)) = (left.parts(), right.parts());
    let tops = top.abs() != 1 && other_top.abs() != 1;
    let bottoms = bottom != 1 && other_bottom != 1;
    let mixed = (top.abs() != 1 && other_bottom != 1) || (other_top.abs() != 1 && bottom != 1);
    tops || bottoms || (mixed && !symbols)
}

impl Expression {
    fn from_term(term: Term) -> Self {
        let mut terms = BTreeMap::new();
        if term.coefficient != Rational::ZERO {
            terms.insert(term.key(), term);
        }
        Self { terms, decimal: false, undone: false, notation: Notation::Composed }
    }

    /// A number as it is written.
    pub(super) fn number(value: Rational, decimal: bool) -> Self {
        Self { decimal, notation: Notation::Plain, ..Self::from_term(Term::number(value)) }
    }

    /// A number that notation made of several, such as a mixed number.
    pub(super) fn composed(value: Rational) -> Self {
        Self::from_term(Term::number(value))
    }

    /// A symbol, with its value if it has one.
    pub(super) fn symbol(name: String, value: Option<f64>) -> Self {
        Self::from_factor(name, Factor { exponent: 1, value, inside: Inside::Letter })
    }

    fn from_factor(name: String, factor: Factor) -> Self {
        Self::from_term(Term { coefficient: Rational::ONE, factors: BTreeMap::from([(name, factor)]) })
    }

    /// Its terms.
    pub(super) fn terms(&self) -> impl Iterator<Item = &Term> {
        self.terms.values()
    }

    /// The exact number that it is, if it is one.
    pub(super) fn constant(&self) -> Option<Rational> {
        match self.terms.len() {
            0 => Some(Rational::ZERO),
            1 => self.terms.get("").map(|term| term.coefficient),
            _ => None,
        }
    }

    /// Its value, where all its symbols have one.
    fn value(&self) -> Option<f64> {
        let mut sum = 0.0;
        for term in self.terms.values() {
            sum += term.value()?;
        }
        Some(sum)
    }

    /// One spelling for all equal sums.
    pub(super) fn spelling(&self) -> String {
        let mut text = String::new();
        for (key, term) in &self.terms {
            let (numerator, denominator) = term.coefficient.parts();
            let _ = write!(text, "{numerator:+}/{denominator}{key}");
        }
        text
    }

    /// The same with the marks of both.
    fn marked(self, decimal: bool, undone: bool) -> Self {
        Self { decimal: self.decimal || decimal, undone: self.undone || undone, ..self }
    }

    /// Itself as one term: a sum of several becomes a symbol.
    fn into_term(self) -> Term {
        if self.terms.len() > 1 {
            let (value, name) = (self.value(), format!("({})", self.spelling()));
            let factor = Factor { exponent: 1, value, inside: Inside::Sum(Arc::new(self)) };
            return Term { coefficient: Rational::ONE, factors: BTreeMap::from([(name, factor)]) };
        }
        self.terms.into_values().next().unwrap_or(Term::number(Rational::ZERO))
    }

    /// −x; the sign goes into every term.
    pub(super) fn negate(mut self) -> Self {
        for term in self.terms.values_mut() {
            term.coefficient = term.coefficient.negate();
        }
        self
    }

    /// Sum. Like terms are added, and that they could be is remembered.
    pub(super) fn add(mut self, other: Self) -> Option<Self> {
        for (key, term) in other.terms {
            match self.terms.remove(&key) {
                None => {
                    self.terms.insert(key, term);
                }
                Some(known) => {
                    self.undone = true;
                    let coefficient = known.coefficient.add(term.coefficient)?;
                    if coefficient != Rational::ZERO {
                        self.terms.insert(key, Term { coefficient, ..known });
                    }
                }
            }
        }
        let sum = Self { notation: Notation::Composed, ..self };
        Some(sum.marked(other.decimal, other.undone))
    }

    /// Product. A power of ten after a number is how large numbers are written.
    pub(super) fn multiply(self, other: Self) -> Option<Self> {
        let (decimal, undone) = (self.decimal || other.decimal, self.undone || other.undone);
        let scientific = self.notation == Notation::PowerOfTen || other.notation == Notation::PowerOfTen;
        let minus = Some(Rational::ONE.negate());
        if self.constant() == minus && other.terms.len() > 1 {
            return Some(other.negate().marked(decimal, undone));
        }
        let (product, combinable) = self.into_term().multiply(other.into_term())?;
        Some(Self::from_term(product).marked(decimal, undone || (combinable && !scientific)))
    }

    /// Quotient. A fraction of two written numbers is a number; one of fractions is arithmetic.
    pub(super) fn divide(self, other: Self) -> Option<Self> {
        let (decimal, undone) = (self.decimal || other.decimal, self.undone || other.undone);
        let numbers = self.constant().is_some() && other.constant().is_some();
        let plain = self.notation == Notation::Plain && other.notation == Notation::Plain;
        let mut inverse = other.into_term();
        inverse.coefficient = inverse.coefficient.invert()?;
        for factor in inverse.factors.values_mut() {
            factor.exponent = factor.exponent.checked_neg()?;
        }
        let divides_number = inverse.factors.is_empty();
        let (quotient, combinable) = self.into_term().multiply(inverse)?;
        let left = if numbers { !plain } else { combinable && !divides_number };
        Some(Self::from_term(quotient).marked(decimal, undone || left))
    }

    /// Power.
    pub(super) fn power(self, exponent: &Self) -> Option<Self> {
        let (decimal, undone) = (self.decimal || exponent.decimal, self.undone || exponent.undone);
        let result = if let Some(number) = exponent.constant() {
            let (numerator, denominator) = number.parts();
            let power = self.whole_power(i64::try_from(numerator).ok()?)?;
            if denominator == 1 { power } else { power.root(denominator)? }
        } else {
            let value = self.value().zip(exponent.value()).filter(|(base, _)| *base > 0.0);
            let value = value.map(|(base, exponent)| base.powf(exponent)).filter(|value| value.is_finite());
            Self::symbol(format!("({})^({})", self.spelling(), exponent.spelling()), value)
        };
        Some(result.marked(decimal, undone))
    }

    /// Power with a whole exponent.
    fn whole_power(self, exponent: i64) -> Option<Self> {
        if exponent == 1 {
            return Some(self);
        }
        if let Some(number) = self.constant() {
            let ten = self.notation == Notation::Plain && Rational::whole(10) == Some(number);
            let notation = if ten { Notation::PowerOfTen } else { Notation::Composed };
            return Some(Self { notation, ..Self::composed(number.power(exponent)?) });
        }
        if exponent == 0 {
            return Some(Self { undone: true, ..Self::from_term(Term::number(Rational::ONE)) });
        }
        let mut term = self.into_term();
        // (2x)³ could be 8x³.
        let undone = term.coefficient != Rational::ONE || term.factors.len() > 1;
        term.coefficient = term.coefficient.power(exponent)?;
        for factor in term.factors.values_mut() {
            factor.exponent = factor.exponent.checked_mul(exponent)?;
        }
        Some(Self { undone, ..Self::from_term(term) })
    }

    /// Root. Exact ones are numbers, and whoever writes one as a root has still given a number.
    pub(super) fn root(self, degree: i128) -> Option<Self> {
        if !(1..=MAX_ROOT).contains(&degree) {
            return None;
        }
        let whole = u32::try_from(degree).ok()?;
        let (decimal, undone) = (self.decimal, self.undone);
        let odd = degree % 2 == 1;
        let root = match self.constant() {
            Some(number) if number.root(whole).is_some() => Self::from_term(Term::number(number.root(whole)?)),
            Some(number) if number.is_negative() => {
                if !odd {
                    return None;
                }
                Self::composed(number.negate()).root(degree)?.negate()
            }
            constant => {
                let spelling = match constant {
                    Some(number) => format!("{}/{}", number.parts().0, number.parts().1),
                    None => self.spelling(),
                };
                let value = self.value().filter(|value| *value >= 0.0).map(|value| value.powf(1.0 / degree as f64));
                let inside = match constant {
                    Some(radicand) => Inside::Root { degree: whole, radicand },
                    None => Inside::Letter,
                };
                Self::from_factor(format!("root{degree}({spelling})"), Factor { exponent: 1, value, inside })
            }
        };
        Some(root.marked(decimal, undone))
    }

    /// The same times an exact number.
    pub(super) fn scaled(self, factor: Rational) -> Option<Self> {
        let (decimal, undone) = (self.decimal, self.undone);
        let (product, _) = self.into_term().multiply(Term::number(factor))?;
        Some(Self::from_term(product).marked(decimal, undone))
    }

    /// Whether the absolute value of a number is at least 1.
    pub(super) fn at_least_one(&self) -> bool {
        self.value().is_some_and(|value| value.abs() >= 1.0)
    }

    /// Whether an answer is the true one. The two are treated alike, but for arithmetic that the answer left undone and
    /// the truth did not.
    pub(super) fn answers(&self, truth: &Self) -> bool {
        (!self.undone || truth.undone) && self.equals(truth)
    }

    /// Whether both have one value, or are one function of their variables.
    pub(super) fn equals(&self, other: &Self) -> bool {
        if self.spelling() == other.spelling() {
            return true;
        }
        let decimal = self.decimal || other.decimal;
        let (Some(left), Some(right)) = (self.value(), other.value()) else {
            return identity::same(self, other);
        };
        let difference = (left - right).abs();
        let size = left.abs().max(right.abs());
        if self.constant().is_some() && other.constant().is_some() {
            // Both are known exactly, so only a decimal's rounding excuses a difference.
            return decimal && difference <= (DECIMAL_TOLERANCE * size).min(RATIONAL_LIMIT);
        }
        difference <= size * if decimal { DECIMAL_TOLERANCE } else { EXACT_TOLERANCE }
    }
}
