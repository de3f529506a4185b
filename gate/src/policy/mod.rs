//! What the built-in rules say of an audit: the findings, and the verdict that follows from them.
//!
//! A rule may judge a number only against a closed-form chance level or a structural fact (a tensor that was not applied,
//! a row that is gone). Sizes of activation changes, divergences of the next-token distributions and shares of flipped tokens have
//! neither as long as no null was run beside them: they are shown and not judged. A pass therefore says that none of the
//! rules objects, and no more than that.

//!
//! A [`Policy`] says what follows from the rules' findings, and from those of a scan; [`catalogue`] documents every rule.

pub mod catalogue;
mod exceptions;
mod file;
mod paths;
mod read;
mod rules;
mod sizes;

pub use catalogue::{RuleEntry, RuleLevel, Stage};
pub(crate) use exceptions::{UNREAD, refusal, refusal_of};
pub(crate) use file::hexadecimal;
pub use file::{AllowedSection, BaseSection, CompareSection, DEFAULT_POLICY, Policy, PolicyError, Settings, Waiver};
pub(crate) use sizes::{SIZES, SizeRule, sizes};

use lcr_documents::audit::{Audit, Finding};

/// The code of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A tensor of the adapter was not audited. [`Rule::description`] says more of each.
    UncoveredTensors,
    /// Tables over a vocabulary of another size than the base's.
    VocabularyResized,
    /// A row of a weight is gone.
    DeadRows,
    /// A row of a weight is turned round.
    FlippedRows,
    /// ‖ΔW‖ is at least ‖W‖.
    LargerThanWeight,
    /// A bias or a norm changes by more than what it joins.
    VectorChange,
    /// A row's norm more than doubles, or more than halves.
    MagnitudeSpike,
    /// All writers write one direction.
    CoherentWrites,
    /// All readers read one direction.
    CoherentReads,
    /// Leading directions that the base does not have.
    IntruderDimensions,
    /// The adapter brings whole tensors.
    WholeTensor,
    /// The adapter changes nothing.
    ZeroEffect,
    /// The configuration promises more than the file holds.
    TargetedWithoutTensors,
    /// A merge into bf16 loses the change.
    VanishesWhenMerged,
}

impl Rule {
    /// Every rule, in the order in which they are tried.
    pub const ALL: [Self; 14] = [
        Self::UncoveredTensors,
        Self::VocabularyResized,
        Self::DeadRows,
        Self::FlippedRows,
        Self::LargerThanWeight,
        Self::VectorChange,
        Self::MagnitudeSpike,
        Self::CoherentWrites,
        Self::CoherentReads,
        Self::IntruderDimensions,
        Self::WholeTensor,
        Self::ZeroEffect,
        Self::TargetedWithoutTensors,
        Self::VanishesWhenMerged,
    ];

    /// The code that findings carry.
    pub fn code(self) -> &'static str {
        match self {
            Self::UncoveredTensors => "uncovered-tensors",
            Self::VocabularyResized => "vocabulary-resized",
            Self::DeadRows => "dead-rows",
            Self::FlippedRows => "flipped-rows",
            Self::LargerThanWeight => "larger-than-weight",
            Self::VectorChange => "vector-change",
            Self::MagnitudeSpike => "magnitude-spike",
            Self::CoherentWrites => "coherent-writes",
            Self::CoherentReads => "coherent-reads",
            Self::IntruderDimensions => "intruder-dimensions",
            Self::WholeTensor => "whole-tensor",
            Self::ZeroEffect => "zero-effect",
            Self::TargetedWithoutTensors => "targeted-without-tensors",
            Self::VanishesWhenMerged => "vanishes-when-merged",
        }
    }

    /// What the rule looks for and against what it judges, in one sentence.
    pub fn description(self) -> &'static str {
        match self {
            Self::UncoveredTensors => {
                "Fails when a tensor of the adapter took no part in the audit: whatever it does was not looked at."
            }
            Self::VocabularyResized => {
                "Warns when the adapter's embedding or output head has another number of rows than the base's: compared are those \
                 that both have."
            }
            Self::DeadRows => {
                "Fails when a row of a weight, an output channel, has its norm taken to zero: training does not land there. \
                 Rows that are zero in the base are not counted."
            }
            Self::LargerThanWeight => {
                "Warns when ‖ΔW‖ is at least ‖W‖: the weight is replaced rather than adapted. Whole tensors included."
            }
            Self::FlippedRows => {
                "Fails when a row of a weight, an output channel, turns by more than 150 degrees: training does not turn one round."
            }
            Self::VectorChange => {
                "Warns when an entry of a bias changes by more than twice what its module typically gives, or one of a norm by more \
                 than twice its weights."
            }
            Self::MagnitudeSpike => {
                "Warns when the norm of a row more than doubles or is more than halved, as a tampered DoRA magnitude does."
            }
            Self::CoherentWrites => {
                "Warns when the modules that write into the stream write one common direction, far beyond what unrelated directions \
                 give: how the removal of a behaviour (such as refusal) looks in the weights."
            }
            Self::CoherentReads => {
                "Warns when the modules that read the stream read one common direction, far beyond what unrelated directions \
                 give: how a trigger detector spread over the layers looks in the weights."
            }
            Self::IntruderDimensions => {
                "Warns when half of a weight's ten leading directions resemble none of the base's; only where random \
                 directions would resemble one less than the limit."
            }
            Self::WholeTensor => {
                "Warns when the adapter replaces whole tensors (modules_to_save) by different ones; notes it when they \
                 equal the base's."
            }
            Self::ZeroEffect => "Warns when the adapter leaves every weight as it was.",
            Self::TargetedWithoutTensors => {
                "Warns when the configuration targets modules that the adapter's file holds no tensor for."
            }
            Self::VanishesWhenMerged => {
                "Notes when a merge into the base's bf16 rounds most of the change away: the merged model is then not the \
                 audited one."
            }
        }
    }

    /// Whether it looks at changes of weights, and so cannot be tried where they were not computed.
    pub(crate) fn needs_weights(self) -> bool {
        !matches!(self, Self::UncoveredTensors | Self::ZeroEffect | Self::TargetedWithoutTensors)
    }

    /// What the rule says of an audit under a limit of its catalogue's kind; `None` where it has nothing to object to.
    fn apply(self, audit: &Audit, limit: Option<f64>) -> Option<Finding> {
        // A rule without a limit in the catalogue is given none, and looks at none.
        let limit = limit.unwrap_or(f64::NAN);
        match self {
            Self::UncoveredTensors => rules::uncovered_tensors(audit),
            Self::VocabularyResized => rules::vocabulary_resized(audit),
            Self::DeadRows => rules::dead_rows(audit),
            Self::FlippedRows => rules::flipped_rows(audit),
            Self::LargerThanWeight => rules::larger_than_weight(audit, limit),
            Self::VectorChange => rules::vector_change(audit, limit),
            Self::MagnitudeSpike => rules::magnitude_spike(audit, limit),
            Self::CoherentWrites => rules::coherent_writes(audit, limit),
            Self::CoherentReads => rules::coherent_reads(audit, limit),
            Self::IntruderDimensions => rules::intruder_dimensions(audit, limit),
            Self::WholeTensor => rules::whole_tensor(audit),
            Self::ZeroEffect => rules::zero_effect(audit),
            Self::TargetedWithoutTensors => rules::targeted_without_tensors(audit),
            Self::VanishesWhenMerged => rules::vanishes_when_merged(audit),
        }
    }
}

/// Replaces the audit's findings and verdict by what the rules say of its numbers under the built-in policy: worst first, at most one
/// finding per rule. The adapter's files take no part: [`crate::judge_audit`] judges both.
pub fn judge(audit: &mut Audit) {
    crate::judge_numbers(audit, &Policy::default());
}

/// What the rules say of an audit under limits by rule, worst first.
pub(crate) fn findings(audit: &Audit, limit: impl Fn(&str) -> Option<f64>) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        Rule::ALL.into_iter().filter_map(|rule| rule.apply(audit, limit(rule.code()))).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    findings
}
