//! Judges an answer.

mod boxed;

pub use boxed::{Boxed, boxed, holds_box, unbox};

/// Whether two answers are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are.
    Equal,
    /// They are not.
    Different,
    /// The truth cannot be compared with anything.
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
    /// Cannot be judged.
    Invalid(Invalid),
}

/// Why an answer cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No box.
    #[error("there is no box in the answer")]
    NoBox,
    /// An open box.
    #[error("the box of the answer never closes")]
    Unclosed,
    /// Nothing to compare with.
    #[error("the true answer cannot be used: it is empty or too long")]
    Truth,
}

impl Judgement {
    /// 1 for a right answer, 0 for everything else.
    pub fn reward(self) -> f64 {
        if self == Self::Correct { 1.0 } else { 0.0 }
    }
}

/// Compares the content of a box with the truth.
pub fn equivalent(given: &str, truth: &str) -> Verdict {
    if truth.trim().is_empty() {
        return Verdict::Unusable;
    }
    if given.trim().eq_ignore_ascii_case(truth.trim()) { Verdict::Equal } else { Verdict::Different }
}

/// Judges the content of a box.
pub fn judge(given: &str, truth: &str, accepted: &[String]) -> Judgement {
    let verdict = equivalent(given, truth);
    if verdict == Verdict::Unusable {
        return Judgement::Invalid(Invalid::Truth);
    }
    if verdict.is_equal() || accepted.iter().any(|answer| equivalent(given, answer).is_equal()) {
        return Judgement::Correct;
    }
    Judgement::Wrong
}

/// Finds the box in what the model wrote after its thinking, and judges its content.
pub fn judge_text(text: &str, truth: &str, accepted: &[String]) -> Judgement {
    match boxed(text) {
        Boxed::Answer(given) => judge(&given, truth, accepted),
        Boxed::Missing => Judgement::Invalid(Invalid::NoBox),
        Boxed::Unclosed => Judgement::Invalid(Invalid::Unclosed),
        Boxed::Conflicting { .. } => Judgement::Wrong,
    }
}
