//! Reads a formula, by recursive descent over tokens with a bounded depth. What it cannot read is none, and is compared
//! as text by the caller; so everything here may refuse freely and nothing may panic.
//!
//! ```text
//! sum     = [sign] product (sign product)*
//! product = signed ((* | / | nothing) signed)*
//! signed  = sign* power
//! power   = primary [^ exponent]
//! primary = number [fraction] | \frac a b | \sqrt[n] a | ( sum ) | { sum } | variable | function argument
//! ```

use std::f64::consts::PI;

use super::expression::Expression;
use super::rational::Rational;
use super::token::{Token, spell};

/// Nested deeper than this is not read.
pub(super) const MAX_DEPTH: usize = 48;
/// An exponent of ten beyond this is not a number in scientific notation.
const MAX_SCIENTIFIC: i32 = 36;

/// Functions that stand before their argument.
const FUNCTIONS: [&str; 20] = [
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "ln", "lg",
    "exp", "det", "gcd", "lcm", "arg",
];
/// Commands that stand for a variable or constant of their name.
const LETTERS: [&str; 33] = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "vartheta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "varphi",
    "chi",
    "psi",
    "omega",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Sigma",
    "Phi",
    "Omega",
    "ell",
];

/// Whether a word names a function.
pub(super) fn is_function(word: &str) -> bool {
    FUNCTIONS.contains(&word)
}

/// Whether a command names a variable.
pub(super) fn is_letter(command: &str) -> bool {
    LETTERS.contains(&command)
}

/// The formula that all of `tokens` spell; `upper` chooses the sign that ± stands for.
pub(super) fn expression(tokens: &[Token], upper: bool, depth: usize) -> Option<Expression> {
    let letters = separate_letters(tokens);
    let mut parser = Parser { tokens: &letters, position: 0, upper, depth };
    let sum = parser.sum()?;
    (parser.position == letters.len()).then_some(sum)
}

/// Splits short words, which are products of variables, into their letters.
fn separate_letters(tokens: &[Token]) -> Vec<Token> {
    let mut result = Vec::with_capacity(tokens.len());
    for token in tokens {
        match token {
            Token::Word { text, spaced, upright } if text.chars().count() <= 3 && !is_function(text) => {
                for (place, letter) in text.chars().enumerate() {
                    let spaced = *spaced && place == 0;
                    result.push(Token::Word { text: letter.to_string(), spaced, upright: *upright });
                }
            }
            other => result.push(other.clone()),
        }
    }
    result
}

struct Parser<'a> {
    tokens: &'a [Token],
    position: usize,
    upper: bool,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.position)
    }

    fn next(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.position)?;
        self.position += 1;
        Some(token)
    }

    fn accept(&mut self, symbol: char) -> bool {
        let found = self.peek() == Some(&Token::Symbol(symbol));
        self.position += usize::from(found);
        found
    }

    /// Whether the next token is a sign, and whether it negates.
    fn sign(&mut self) -> Option<bool> {
        let negates = match self.peek()? {
            Token::Symbol('+') => false,
            Token::Symbol('-') => true,
            Token::Symbol('±') => !self.upper,
            Token::Symbol('∓') => self.upper,
            _ => return None,
        };
        self.position += 1;
        Some(negates)
    }

    fn sum(&mut self) -> Option<Expression> {
        if self.depth == 0 {
            return None;
        }
        self.depth -= 1;
        let mut sum = self.product()?;
        while let Some(negates) = self.sign() {
            let product = self.product()?;
            sum = sum.add(if negates { product.negate() } else { product })?;
        }
        self.depth += 1;
        Some(sum)
    }

    fn product(&mut self) -> Option<Expression> {
        let mut product = self.signed()?;
        loop {
            if self.accept('*') {
                product = product.multiply(self.signed()?)?;
            } else if self.accept('/') {
                product = product.divide(self.signed()?)?;
            } else if self.begins_factor() {
                product = product.multiply(self.power()?)?;
            } else {
                return Some(product);
            }
        }
    }

    /// Whether the next token may follow a factor without a sign between them. A number may not.
    fn begins_factor(&self) -> bool {
        matches!(
            self.peek(),
            Some(
                Token::Symbol('(')
                    | Token::Open
                    | Token::Fraction
                    | Token::Root
                    | Token::Word { .. }
                    | Token::Command(_)
            )
        )
    }

    fn signed(&mut self) -> Option<Expression> {
        let mut negative = false;
        while let Some(negates) = self.sign() {
            negative ^= negates;
        }
        let power = self.power()?;
        Some(if negative { power.negate() } else { power })
    }

    fn power(&mut self) -> Option<Expression> {
        let base = self.primary()?;
        if !self.accept('^') {
            return Some(base);
        }
        let exponent = self.exponent()?;
        // `a^b^c` is an error in TeX and read in two ways elsewhere.
        if self.peek() == Some(&Token::Symbol('^')) {
            return None;
        }
        base.power(&exponent)
    }

    /// What follows `^`: without braces a sign and one number, letter or bracket.
    fn exponent(&mut self) -> Option<Expression> {
        let negative = self.accept('-');
        let exponent = match self.peek()? {
            Token::Digit { .. } => self.number()?,
            Token::Open | Token::Symbol('(') | Token::Fraction | Token::Word { .. } | Token::Command(_) => {
                self.primary()?
            }
            _ => return None,
        };
        Some(if negative { exponent.negate() } else { exponent })
    }

    fn primary(&mut self) -> Option<Expression> {
        match self.peek()? {
            Token::Digit { .. } | Token::Symbol('.') => self.number_or_mixed(),
            Token::Symbol('(') => self.bracketed(&Token::Symbol(')')),
            Token::Open => self.bracketed(&Token::Close),
            Token::Fraction => {
                self.position += 1;
                let numerator = self.argument()?;
                numerator.divide(self.argument()?)
            }
            Token::Root => self.root(),
            Token::Word { text, .. } => {
                self.position += 1;
                if is_function(text) { self.function(text) } else { self.variable(text) }
            }
            Token::Command(name) => {
                self.position += 1;
                match name.as_str() {
                    "pi" => Some(Expression::symbol("π".to_owned(), Some(PI))),
                    "infty" => Some(Expression::symbol("∞".to_owned(), None)),
                    _ if is_function(name) => self.function(name),
                    _ if is_letter(name) => self.variable(name),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn bracketed(&mut self, close: &Token) -> Option<Expression> {
        self.position += 1;
        let sum = self.sum()?;
        (self.next()? == close).then_some(sum)
    }

    /// An argument of TeX: a group, one digit, one letter, or a command with its own arguments.
    fn argument(&mut self) -> Option<Expression> {
        match self.peek()? {
            Token::Digit { digit, .. } => {
                self.position += 1;
                Some(Expression::number(Rational::decimal(&digit.to_string(), 0)?, false))
            }
            Token::Open | Token::Word { .. } | Token::Command(_) | Token::Root => self.nested(Self::primary),
            _ => None,
        }
    }

    /// Runs a reader one level deeper.
    fn nested(&mut self, read: fn(&mut Self) -> Option<Expression>) -> Option<Expression> {
        if self.depth == 0 {
            return None;
        }
        self.depth -= 1;
        let result = read(self);
        self.depth += 1;
        result
    }

    /// `\sqrt[3]{8}`, `\sqrt2`, `sqrt(2)`, `√2`. Without braces all digits are meant, though TeX takes one.
    fn root(&mut self) -> Option<Expression> {
        self.position += 1;
        let mut degree = 2;
        if self.accept('[') {
            degree = self.digits()?.parse().ok()?;
            if !self.accept(']') {
                return None;
            }
        }
        let radicand = match self.peek()? {
            Token::Digit { .. } => self.number()?,
            Token::Symbol('(') => self.bracketed(&Token::Symbol(')'))?,
            _ => self.argument()?,
        };
        radicand.root(degree)
    }

    /// Digits without space between them.
    fn digits(&mut self) -> Option<String> {
        let mut text = String::new();
        while let Some(Token::Digit { digit, spaced }) = self.peek() {
            if *spaced && !text.is_empty() {
                break;
            }
            text.push(*digit);
            self.position += 1;
        }
        (!text.is_empty()).then_some(text)
    }

    /// Digits, a point and digits, and an exponent as programs write it (`1.5e-3`).
    fn number(&mut self) -> Option<Expression> {
        let whole = self.digits();
        let mut text = whole.clone().unwrap_or_default();
        let mut fraction = None;
        if self.accept('.') {
            fraction = match self.peek() {
                Some(Token::Digit { spaced: false, .. }) => self.digits(),
                _ => None,
            };
            text = format!("{text}.{}", fraction.clone().unwrap_or_default());
        }
        if whole.is_none() && fraction.is_none() {
            return None;
        }
        let value = Rational::decimal(&text, self.scientific().unwrap_or(0))?;
        Some(Expression::number(value, fraction.is_some()))
    }

    /// The exponent of `e5`, `E+5` or `e-5` directly after digits. `2e` and `2e - 5` are products.
    fn scientific(&mut self) -> Option<i32> {
        let start = self.position;
        if !matches!(self.peek(), Some(Token::Word { text, spaced: false, .. }) if text.eq_ignore_ascii_case("e")) {
            return None;
        }
        self.position += 1;
        let negative = self.accept('-');
        if !negative {
            self.accept('+');
        }
        let digits = if matches!(self.peek(), Some(Token::Digit { spaced: false, .. })) { self.digits() } else { None };
        let exponent =
            digits.and_then(|digits| digits.parse::<i32>().ok()).filter(|exponent| *exponent <= MAX_SCIENTIFIC);
        if exponent.is_none() {
            self.position = start;
        }
        exponent.map(|exponent| if negative { -exponent } else { exponent })
    }

    /// A number, a number in another base (`52_8`), or a mixed number (`1\frac{1}{2}`, `1 1/2`).
    fn number_or_mixed(&mut self) -> Option<Expression> {
        let number = self.number()?;
        if self.accept('_') {
            let digits = number.spelling();
            return Some(Expression::symbol(format!("{digits}_{}", self.subscript()?), None));
        }
        let start = self.position;
        if let Some(whole) = number.constant().and_then(Rational::to_whole)
            && let Some(part) = self.proper_fraction()
        {
            return Rational::whole(whole)?.add(part).map(Expression::composed);
        }
        self.position = start;
        Some(number)
    }

    /// The fraction of a mixed number: of two whole numbers and below 1. Anything else is a factor. It looks at digits
    /// alone: a general argument would be read twice, and nested ones 2^depth times.
    fn proper_fraction(&mut self) -> Option<Rational> {
        let (numerator, denominator) = match self.peek()? {
            Token::Fraction => {
                self.position += 1;
                (self.whole_argument()?, self.whole_argument()?)
            }
            Token::Digit { spaced: true, .. } => {
                let numerator = self.digits()?;
                if !self.accept('/') {
                    return None;
                }
                (numerator, self.digits()?)
            }
            _ => return None,
        };
        let numerator: i128 = numerator.parse().ok()?;
        let denominator: i128 = denominator.parse().ok()?;
        let proper = 0 < numerator && numerator < denominator && self.peek() != Some(&Token::Symbol('^'));
        if proper { Rational::new(numerator, denominator) } else { None }
    }

    /// An argument that is one digit, or a group of digits.
    fn whole_argument(&mut self) -> Option<String> {
        match self.next()? {
            Token::Digit { digit, .. } => Some(digit.to_string()),
            Token::Open => {
                let digits = self.digits()?;
                (self.next()? == &Token::Close).then_some(digits)
            }
            _ => None,
        }
    }

    /// The spelling of what follows `_`.
    fn subscript(&mut self) -> Option<String> {
        let start = self.position;
        match self.peek()? {
            Token::Digit { .. } => self.digits(),
            Token::Word { text, .. } => {
                self.position += 1;
                Some(text.clone())
            }
            Token::Open => {
                let rest = self.tokens.get(start + 1..)?;
                let length = rest.iter().position(|token| *token == Token::Close)?;
                self.position = start + length + 2;
                let content = rest.get(..length)?;
                (!content.contains(&Token::Open)).then(|| spell(content))
            }
            _ => None,
        }
    }

    /// A variable, perhaps with a subscript.
    fn variable(&mut self, name: &str) -> Option<Expression> {
        if name.chars().count() > 3 && !is_letter(name) {
            return None;
        }
        let subscript = if self.accept('_') { format!("_{{{}}}", self.subscript()?) } else { String::new() };
        Some(Expression::symbol(format!("{name}{subscript}"), None))
    }

    /// `\sin x`, `\sin^2 x`, `\log_2 (x+1)`: a symbol that contains its argument.
    fn function(&mut self, name: &str) -> Option<Expression> {
        let subscript = if self.accept('_') { format!("_{{{}}}", self.subscript()?) } else { String::new() };
        let exponent = if self.accept('^') { Some(self.exponent()?) } else { None };
        let argument = self.nested(|parser| {
            let mut argument = parser.power()?;
            while parser.begins_factor() && !parser.at_function() {
                argument = argument.multiply(parser.power()?)?;
            }
            Some(argument)
        })?;
        let symbol = Expression::symbol(format!("{name}{subscript}({})", argument.spelling()), None);
        match exponent {
            Some(exponent) => symbol.power(&exponent),
            None => Some(symbol),
        }
    }

    fn at_function(&self) -> bool {
        match self.peek() {
            Some(Token::Word { text: name, .. } | Token::Command(name)) => is_function(name),
            _ => false,
        }
    }
}
