//! Judges the boxed answer, which alone decides the reward.
//!
//! [`boxed`] finds the answer in what the model wrote after its thinking, [`equivalent`] compares it with the truth,
//! [`judge`] and [`judge_text`] say correct, wrong, or invalid: no box, or a truth that nothing can be compared with.
//! Whoever counts rewards counts the invalid ones apart.
//!
//! Two answers are equal when one of these holds, tried in this order:
//!
//! 1. the same tokens, after what carries no meaning is dropped (`\dfrac`, `\left(`, `\!`, `$`, `\text{…}`, spaces,
//!    `1,000`);
//! 2. the same letter of a multiple choice: `(B)`, `B.`, `\text{b}`;
//! 3. the same shape with equal parts (the `form` module): tuples and intervals in order; sets, unions and lists
//!    without brackets in any order; `x = 5` is `5`, but not `y = 5`; a unit may be left out, but not be another one;
//! 4. and of the parts: the same fraction exactly; a decimal within 1e-6 (and, next to a rational number, within
//!    0.0005); irrational numbers by value; formulas as functions of their variables, factored or multiplied out; 50%
//!    as 0.5 and as 50; anything else as text without case, double spaces and punctuation at the end.
//!
//! Equality is symmetric, with one exception: an answer that leaves *arithmetic undone* is not the number that it
//! amounts to. `48+24` is no answer to "how much is 48 + 24", and a trainer that pays for it teaches to copy the
//! question. Notations of one number are numbers: 48/2, `\sqrt{16}`, 2^{10}, 3·10⁵, `1\frac12`.
//!
//! The text comes from a policy that is paid for finding holes. Every step is bounded: the length here, the nesting in
//! `parser`, the parts in `form`; numbers are exact or not compared as numbers; what cannot be read is compared as
//! text.
//!
//! ```
//! use lcr_answers::{Judgement, equivalent, judge_text};
//!
//! assert!(equivalent(r"\dfrac{1}{2}", "0.5").is_equal());
//! assert!(!equivalent("48+24", "72").is_equal());
//! assert_eq!(judge_text(r"so it is \boxed{72}", "72", &[]), Judgement::Correct);
//! ```

mod boxed;
mod expression;
mod form;
mod hours;
mod identity;
mod parser;
mod rational;
mod token;
mod unit;

use token::{Token, spell, tokens};

pub use boxed::{Boxed, boxed, holds_box, unbox};

/// A longer answer is wrong, and a longer truth unusable. In bytes.
pub const MAX_ANSWER_BYTES: usize = 4096;

/// Whether two answers are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are.
    Equal,
    /// They are not.
    Different,
    /// The truth is empty or longer than [`MAX_ANSWER_BYTES`]: nothing can be compared with it.
    Unusable,
}

impl Verdict {
    /// Whether it is [`Verdict::Equal`].
    pub fn is_equal(self) -> bool {
        self == Self::Equal
    }
}

/// What is said about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Right.
    Correct,
    /// Not right.
    Wrong,
    /// Cannot be judged. It earns nothing, and is counted apart from the wrong ones.
    Invalid(Invalid),
}

/// Why an answer cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Invalid {
    /// There is no box, or only mentions of one.
    #[error("the text holds no boxed answer")]
    NoBox,
    /// The box has no end.
    #[error("the box of the answer never closes")]
    Unclosed,
    /// The true answer is empty or too long.
    #[error("the true answer is empty or longer than {MAX_ANSWER_BYTES} bytes, so nothing can be compared with it")]
    Truth,
}

impl Judgement {
    /// 1 for a correct answer, 0 for everything else.
    pub fn reward(self) -> f64 {
        if self == Self::Correct { 1.0 } else { 0.0 }
    }
}

/// Whether `given`, the content of a box, is the answer `truth`.
pub fn equivalent(given: &str, truth: &str) -> Verdict {
    if truth.len() > MAX_ANSWER_BYTES {
        return Verdict::Unusable;
    }
    let right = tokens(truth);
    if right.is_empty() {
        return Verdict::Unusable;
    }
    if given.len() > MAX_ANSWER_BYTES {
        return Verdict::Different;
    }
    let left = tokens(given);
    let equal = !left.is_empty()
        && (spell(&left) == spell(&right)
            || same_choice(&left, &right)
            || form::form(&left).answers(&form::form(&right)));
    if equal { Verdict::Equal } else { Verdict::Different }
}

/// Judges the content of a box against the truth and further answers that count as right.
pub fn judge(given: &str, truth: &str, accepted: &[String]) -> Judgement {
    let mut usable = true;
    for truth in std::iter::once(truth).chain(accepted.iter().map(String::as_str)) {
        match equivalent(given, truth) {
            Verdict::Equal => return Judgement::Correct,
            Verdict::Different => {}
            Verdict::Unusable => usable = false,
        }
    }
    if usable { Judgement::Wrong } else { Judgement::Invalid(Invalid::Truth) }
}

/// Finds the box in what the model wrote after its thinking, and judges its content. Two different boxes are wrong.
pub fn judge_text(text: &str, truth: &str, accepted: &[String]) -> Judgement {
    match boxed(text) {
        Boxed::Answer(given) => judge(&given, truth, accepted),
        Boxed::Missing => Judgement::Invalid(Invalid::NoBox),
        Boxed::Unclosed => Judgement::Invalid(Invalid::Unclosed),
        Boxed::Conflicting { .. } => Judgement::Wrong,
    }
}

/// Whether both are the same letter of a multiple choice. One of them must look like one, by being A to J: variables
/// such as x and X differ.
fn same_choice(left: &[Token], right: &[Token]) -> bool {
    match (choice(left), choice(right)) {
        (Some(left), Some(right)) => {
            left.eq_ignore_ascii_case(&right) && (('A'..='J').contains(&left) || ('A'..='J').contains(&right))
        }
        _ => false,
    }
}

/// The letter of `B`, `(B)`, `B)`, `[B]` or `B:`.
fn choice(tokens: &[Token]) -> Option<char> {
    let ([word]
    | [word, Token::Symbol(')')]
    | [Token::Symbol('('), word, Token::Symbol(')')]
    | [Token::Symbol('['), word, Token::Symbol(']')]) = tokens
    else {
        return None;
    };
    match word {
        Token::Word { text, .. } if text.len() == 1 => text.chars().next(),
        _ => None,
    }
}
