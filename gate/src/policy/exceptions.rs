//! What can be an exception, and what cannot.
//!
//! A waiver and a baseline accept bytes by their digest. What was not read has no digest, so an exception for it would hold for
//! whatever takes its place.

use lcr_scan::Check;

use crate::GateFinding;

/// Why a finding of what was not read cannot be accepted.
pub(crate) const UNREAD: &str = "what was not read has no digest, so a waiver would hold for whatever takes its place";

/// Why no finding of a rule can be waived or known from a baseline; `None` where some can.
pub(crate) fn refusal(code: &str) -> Option<&'static str> {
    if Check::ALL.iter().any(|check| check.code() == code && check.is_unread()) {
        return Some(UNREAD);
    }
    match code {
        "base-digest" => Some("it is about the base, which the digest of an adapter does not name"),
        "waiver-expired" | "waiver-stale" | "waiver-refused" => Some("it is about a waiver, and not about bytes"),
        _ => None,
    }
}

/// Why this finding cannot be waived or known from a baseline; `None` where it can.
pub(crate) fn refusal_of(finding: &GateFinding) -> Option<&'static str> {
    // A file that was read as far as the limits go has its digest; one that was not read at all has none.
    let is_unread = finding.rule == Check::BeyondLimits.code() && finding.files.is_empty();
    refusal(&finding.rule).or(is_unread.then_some(UNREAD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_read_cannot_be_waived_and_the_rest_can() {
        for code in ["unreadable-file", "link-outside", "special-file", "base-digest", "waiver-stale"] {
            assert!(refusal(code).is_some(), "{code}");
        }
        for code in ["pickle", "scale", "not-compared", "unknown-file", "next-token-kl", "beyond-limits"] {
            assert_eq!(refusal(code), None, "{code}");
        }
    }
}
