//! Which findings can be an exception, and which cannot.
//!
//! A waiver and a baseline accept bytes by their digest. What was not read has no digest, so an exception for it would
//! hold for whatever takes its place.

use super::{Rule, rule};
use crate::GateFinding;

/// Why a finding of what was not read cannot be accepted.
pub(crate) const UNREAD: &str = "what was not read has no digest, so a waiver would hold for whatever takes its place";

/// Whether findings of a rule can be waived, or known from a baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exception {
    /// All of them.
    Possible,
    /// Those of files that were read, if only in part: they have a digest.
    WhereRead,
    /// None, and why.
    Never(&'static str),
}

impl Rule {
    /// Why none of its findings can be waived or known from a baseline; `None` where some can.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        match self.exception {
            Exception::Never(reason) => Some(reason),
            Exception::Possible | Exception::WhereRead => None,
        }
    }
}

/// The same of the rule of a code; of a code that is no rule's, nothing stands against it.
pub(crate) fn refusal(code: &str) -> Option<&'static str> {
    rule(code)?.refusal()
}

/// Why this finding cannot be waived or known from a baseline; `None` where it can.
pub(crate) fn refusal_of(finding: &GateFinding) -> Option<&'static str> {
    match rule(&finding.rule)?.exception {
        Exception::Never(reason) => Some(reason),
        Exception::WhereRead if finding.files.is_empty() => Some(UNREAD),
        Exception::WhereRead | Exception::Possible => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::rules;

    #[test]
    fn what_was_not_read_cannot_be_waived_and_the_rest_can() {
        for rule in rules() {
            if let Some(check) = rule.check() {
                assert_eq!(rule.refusal() == Some(UNREAD), check.is_unread(), "{}", rule.code);
            }
        }
        for code in ["unreadable-file", "link-outside", "special-file", "base-digest", "waiver-stale"] {
            assert!(refusal(code).is_some(), "{code}");
        }
        for code in ["pickle", "scale", "not-compared", "unknown-file", "next-token-kl", "beyond-limits"] {
            assert_eq!(refusal(code), None, "{code}");
        }
    }
}
