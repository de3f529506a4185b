//! Sizes that a limit may be set for: how much changes, which says nothing of whether any change of that size would do the same.
//!
//! The catalogue has a limit for each and leaves it at `allow`: beyond it a size is said to be large, and only a policy that raises the
//! level holds it against an adapter.

use lcr_documents::audit::{Audit, Size, WeightChange};

use super::{Policy, RuleLevel};

/// A rule whose number is a size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SizeRule {
    /// Its code.
    pub(crate) code: &'static str,
    /// Whether it is about what the model says, and not about a weight.
    pub(crate) of_behaviour: bool,
    /// What is measured, in words.
    pub(crate) meaning: &'static str,
}

/// Every such rule.
pub(crate) const SIZES: [SizeRule; 3] = [
    SizeRule { code: "next-token-kl", of_behaviour: true, meaning: "mean KL(base‖adapted) of the next token, nats" },
    SizeRule {
        code: "flipped-tokens",
        of_behaviour: true,
        meaning: "share of positions whose most likely next token differs",
    },
    SizeRule { code: "weight-change", of_behaviour: false, meaning: "largest ‖ΔW‖/‖W‖" },
];

impl SizeRule {
    /// The rule of a code, where it is about a size.
    pub(crate) fn of(code: &str) -> Option<&'static Self> {
        SIZES.iter().find(|rule| rule.code == code)
    }

    /// Where the size is largest, and what it is there; `None` where it was not measured.
    fn measure<'a>(&self, audit: &'a Audit) -> Option<(&'a str, f64)> {
        let tokens = audit.tokens.as_ref();
        let (location, measured) = match self.code {
            "next-token-kl" => ("", tokens?.kl.mean),
            "flipped-tokens" => ("", tokens?.top1_flip_rate),
            _ => largest(audit, |change| change.relative_norm)?,
        };
        measured.is_finite().then_some((location, measured))
    }
}

/// The sizes that were measured, each beside the policy's limit for the adapter.
pub(crate) fn sizes(audit: &Audit, policy: &Policy, path: &str) -> Vec<Size> {
    let size = |rule: &SizeRule| {
        let (location, measured) = rule.measure(audit)?;
        Some(Size {
            rule: rule.code.to_owned(),
            location: location.to_owned(),
            measured,
            limit: policy.limit(rule.code, path)?,
            judged: policy.level(rule.code, path) > RuleLevel::Allow,
        })
    };
    SIZES.iter().filter_map(size).collect()
}

/// The module where a measure is largest.
fn largest(audit: &Audit, measure: impl Fn(&WeightChange) -> Option<f64>) -> Option<(&str, f64)> {
    let sizes = audit.weights.iter().filter_map(|(name, change)| Some((name.as_str(), measure(change)?)));
    sizes.filter(|(_, size)| size.is_finite()).max_by(|left, right| left.1.total_cmp(&right.1))
}
