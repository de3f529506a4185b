//! Every rule, in one registry for scan, comparison and policy: what it is called, how severe it is, why it is there,
//! and how it judges.
//!
//! A rule is one `static` in the file of its family, with its judgement beside it. What a policy may name, what `policy
//! explain` prints, what SARIF carries and what the gate finds all come from here.
//!
//! A rule of a comparison judges a number only against a closed-form chance level or a structural fact (a tensor that
//! was not applied, a row that is gone). Sizes of activation changes, divergences of the next-token distributions and
//! shares of flipped tokens have neither as long as no null was run beside them: they are shown, and judged only where
//! a policy raises their level. A pass therefore says that none of the rules objects, and no more than that.

mod allowed;
mod base;
mod between_modules;
#[cfg(test)]
mod cases;
mod changed_modules;
mod comparison;
mod config;
mod demands;
mod exceptions;
mod explain;
mod file_kinds;
mod judgement;
mod kinds;
mod pickles_and_archives;
mod questions;
mod rests_on;
mod rows;
mod severity;
mod sizes_of_change;
mod templates;
mod tensor_files;
mod tokenizer;
mod waivers;

pub(crate) use self::comparison::sizes::sizes;
pub use self::comparison::sizes::{FLIPPED_TOKENS, NEXT_TOKEN_KL, WEIGHT_CHANGE};
pub use self::demands::NOT_COMPARED;
pub(crate) use self::exceptions::{Exception, UNREAD, refusal, refusal_of};
pub use self::explain::{explain, markdown};
pub use self::judgement::Comparison;
pub(crate) use self::judgement::{Evidence, Found, Judge, Question, Size, WaiverEvidence, observed};
pub use self::questions::question_names;
pub(crate) use self::questions::unanswered;
pub(crate) use self::rests_on::RestsOn;
pub use self::severity::Severity;
pub(crate) use self::severity::verdict_of;
pub use self::waivers::WAIVER_STALE;

use lcr_documents::audit::Audit;
use lcr_scan::Check;

/// The families, in the order in which rules are listed.
static FAMILIES: [&[&Rule]; 18] = [
    file_kinds::RULES,
    pickles_and_archives::RULES,
    tensor_files::RULES,
    config::RULES,
    changed_modules::RULES,
    sizes_of_change::RULES,
    rows::RULES,
    between_modules::RULES,
    templates::RULES,
    tokenizer::RULES,
    comparison::coverage::RULES,
    comparison::weights::RULES,
    comparison::sizes::RULES,
    questions::RULES,
    allowed::RULES,
    base::RULES,
    demands::RULES,
    waivers::RULES,
];

/// What a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The files alone.
    Files,
    /// The adapter's tensors and config, without its base.
    Adapter,
    /// Base and adapted model side by side.
    Comparison,
    /// The policy and what it asks for.
    Policy,
}

impl Stage {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Adapter => "adapter",
            Self::Comparison => "comparison",
            Self::Policy => "policy",
        }
    }

    /// What is looked at, in a few words.
    pub fn description(self) -> &'static str {
        match self {
            Self::Files => "the files alone",
            Self::Adapter => "the adapter's tensors and config, without its base",
            Self::Comparison => "base and adapted model side by side",
            Self::Policy => "the policy and what it asks for",
        }
    }
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its public code.
    pub code: &'static str,
    /// A few words.
    pub title: &'static str,
    /// What it looks at.
    pub stage: Stage,
    /// Level where the policy says nothing.
    pub level: Severity,
    /// Limit where the policy says nothing; a number above it is a finding. `None` where there is no number.
    pub limit: Option<f64>,
    /// What is measured and in which unit, where there is a limit; otherwise empty.
    pub measure: &'static str,
    /// What the rule looks for and why it matters, two to four sentences.
    pub why: &'static str,
    /// An example of what it finds.
    pub example: &'static str,
    /// How to repair it, or how to accept it with open eyes.
    pub accept: &'static str,
    /// What its findings rest on.
    pub(crate) rests_on: RestsOn,
    /// Whether its findings can be waived.
    pub(crate) exception: Exception,
    /// How it judges; at least one way.
    pub(crate) judges: &'static [Judge],
}

impl Rule {
    /// What an entry of the registry begins with.
    const NONE: Self = Self {
        code: "",
        title: "",
        stage: Stage::Files,
        level: Severity::Deny,
        limit: None,
        measure: "",
        why: "",
        example: "",
        accept: "",
        rests_on: RestsOn::ItsFile,
        exception: Exception::Possible,
        judges: &[],
    };

    /// The observations of a scan that it judges.
    pub(crate) fn check(&self) -> Option<Check> {
        self.judges.iter().find_map(|judge| match judge {
            Judge::Scan(check) | Judge::ScanUnless(check, _) => Some(*check),
            _ => None,
        })
    }

    /// How it judges base and adapted model side by side, where it does so by more than a size.
    pub fn comparison(&self) -> Option<&'static Comparison> {
        self.judges
            .iter()
            .find_map(|judge| if let Judge::Comparison(comparison) = judge { Some(comparison) } else { None })
    }

    /// The size that it limits, where it is about one.
    pub(crate) fn size(&self) -> Option<&'static Size> {
        self.judges.iter().find_map(|judge| if let Judge::Size(size) = judge { Some(size) } else { None })
    }

    /// The question whose answer it judges, where it is about one.
    pub(crate) fn question(&self) -> Option<&'static Question> {
        self.judges.iter().find_map(|judge| if let Judge::Question(question) = judge { Some(question) } else { None })
    }

    /// Whether it judges base and adapted model side by side.
    pub fn is_of_comparison(&self) -> bool {
        self.comparison().is_some() || self.size().is_some() || self.question().is_some()
    }
}

/// Every rule: those on files, on the adapter, on the comparison, on the policy.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    FAMILIES.iter().flat_map(|family| family.iter().copied())
}

/// The rule of a code.
pub fn rule(code: &str) -> Option<&'static Rule> {
    rules().find(|rule| rule.code == code)
}

/// The rule that judges what a scan observes.
pub(crate) fn rule_of_check(check: Check) -> &'static Rule {
    // A test holds every check to a rule.
    rules()
        .find(|rule| rule.check() == Some(check))
        .unwrap_or_else(|| unreachable!("no rule judges `{}`", check.code()))
}

/// What the rules of a comparison say of an audit under limits by rule, and of the answers in it.
pub(crate) fn compared(audit: &Audit, limit: impl Fn(&Rule) -> Option<f64>) -> Vec<(&'static Rule, Found)> {
    let judged = rules().filter_map(|rule| {
        let found = match (rule.comparison(), rule.question()) {
            // A rule without a limit is given none, and looks at none.
            (Some(comparison), _) => (comparison.judge)(audit, limit(rule).unwrap_or(f64::NAN)),
            (None, question) => question?.judge(audit),
        };
        Some((rule, found?))
    });
    judged.collect()
}

#[cfg(test)]
#[path = "../../../documents/tests/support/mod.rs"]
mod support;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_check_has_exactly_one_rule_of_its_code() {
        for check in Check::ALL {
            let judging: Vec<&str> =
                rules().filter(|rule| rule.check() == Some(*check)).map(|rule| rule.code).collect();
            assert_eq!(judging, [check.code()]);
        }
    }

    #[test]
    fn every_rule_judges() {
        for rule in rules() {
            assert!(!rule.judges.is_empty(), "{}", rule.code);
            assert!(rule.comparison().is_none_or(|comparison| comparison.summary.ends_with('.')), "{}", rule.code);
        }
    }

    #[test]
    fn codes_are_unique_and_kebab_case() {
        let codes: BTreeSet<&str> = rules().map(|rule| rule.code).collect();
        assert_eq!(codes.len(), rules().count());
        for code in codes {
            let is_word = |word: &str| {
                !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            };
            assert!(code.split('-').all(is_word), "{code}");
            assert_eq!(rule(code).map(|rule| rule.code), Some(code));
        }
        assert!(rule("no-such-rule").is_none());
    }

    #[test]
    fn every_entry_is_complete() {
        for rule in rules() {
            assert!(!rule.title.is_empty() && !rule.title.ends_with('.'), "{}", rule.code);
            for text in [rule.why, rule.example, rule.accept] {
                assert!(text.len() > 20 && text.ends_with('.'), "{}: {text}", rule.code);
                assert!(!text.contains("  ") && text.trim() == text, "{}: {text}", rule.code);
            }
            let sentences = rule.why.matches(". ").count() + 1;
            assert!((2..=4).contains(&sentences), "{}: {sentences} sentences", rule.code);
            assert_eq!(rule.limit.is_some(), !rule.measure.is_empty(), "{}", rule.code);
            assert!(rule.limit.is_none_or(|limit| limit.is_finite() && limit >= 0.0), "{}", rule.code);
        }
    }
}
