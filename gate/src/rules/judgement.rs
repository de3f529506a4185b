//! How a rule comes to its findings: what it is asked about, and what it says.
//!
//! A judgement knows the evidence and the limit, and nothing of levels, waivers or digests: those are put to what it
//! says afterwards, the same for all rules.

use lcr_documents::audit::Audit;
use lcr_documents::number::plain;
use lcr_scan::{Check, Observation, Scan};

use super::{Rule, Severity};
use crate::policy::{Policy, Settings, Waiver};

/// One way in which a rule judges.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Judge {
    /// It finds what a scan observes: all of it, or where the rule has a limit, what lies above that. See [`observed`].
    Scan(Check),
    /// The same, unless the adapter is an exception.
    ScanUnless(Check, fn(&Evidence<'_>) -> bool),
    /// It looks at base and adapted model side by side.
    Comparison(Comparison),
    /// It holds a size of the comparison against its limit.
    Size(Size),
    /// It finds that a question about the adapter is answered with yes.
    Question(Question),
    /// It holds an adapter against what the policy restricts or asks for.
    Policy(fn(&Evidence<'_>) -> Vec<Found>),
    /// It holds a waiver against the day, and what became of it in this run; it says why the waiver should go.
    Waiver(fn(&WaiverEvidence<'_>) -> Option<String>),
}

/// A judgement of base and adapted model side by side.
#[derive(Debug, Clone, Copy)]
pub struct Comparison {
    /// What the rule says of an audit under a limit, NaN where it has none: at most one finding, which names the worst
    /// place and how many others there are. Two hundred lines that say the same would bury the one that does not.
    pub(crate) judge: fn(&Audit, f64) -> Option<Found>,
    /// Whether it looks at changes of weights, and so cannot be tried where they were not computed.
    pub(crate) needs_weights: bool,
    /// What the rule looks for and against what it judges, in one sentence.
    pub summary: &'static str,
}

/// A size of a comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Where the size is largest, and what it is there; `None` where it was not measured.
    pub(crate) measure: fn(&Audit) -> Option<(&str, f64)>,
    /// Whether it is about what the model says, and not about a weight.
    pub(crate) of_behaviour: bool,
    /// What is measured, in words.
    pub(crate) meaning: &'static str,
}

/// A question that a comparison asks about an adapter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    /// What the audit calls it.
    pub(crate) name: &'static str,
    /// Whether it is about what the model does, and not about the weights alone.
    pub(crate) of_behaviour: bool,
}

/// What is known of one adapter when its rules are asked.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    /// What its files hold.
    pub(crate) scan: &'a Scan,
    /// The policy.
    pub(crate) policy: &'a Policy,
    /// Its settings for this adapter.
    pub(crate) settings: &'a Settings<'a>,
    /// Digest of the base, where one was given and read.
    pub(crate) base_sha256: Option<&'a str>,
    /// Why the policy's comparison was not made, where it was asked for.
    pub(crate) not_compared: Option<&'a str>,
}

/// A waiver, and what became of it in this run.
#[derive(Debug)]
pub(crate) struct WaiverEvidence<'a> {
    /// The waiver.
    pub(crate) waiver: &'a Waiver,
    /// Why it can cover nothing, where it cannot.
    pub(crate) refused: Option<&'static str>,
    /// Whether a finding is of its rule, digest, place and number.
    pub(crate) is_used: bool,
    /// The day of the run, YYYY-MM-DD.
    pub(crate) date: &'a str,
}

/// What a rule says: a finding before the policy's level, digests and waivers are put to it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Found {
    /// File; the whole artifact where it is empty.
    pub(crate) file: String,
    /// Tensor, module, key or byte range.
    pub(crate) location: String,
    /// The number that was judged.
    pub(crate) measured: Option<f64>,
    /// The limit that it was held against.
    pub(crate) limit: Option<f64>,
    /// What arithmetic alone gives.
    pub(crate) floor: Option<f64>,
    /// What chance gives.
    pub(crate) null: Option<f64>,
    /// 95 % interval of the number.
    pub(crate) interval: Option<[f64; 2]>,
    /// What was seen.
    pub(crate) message: String,
    /// Further files that it rests on.
    pub(crate) further: Vec<String>,
    /// The severity of this finding, where it is none of those that the rule's level is for.
    pub(crate) severity: Option<Severity>,
}

impl Found {
    /// What is found at a place, without numbers.
    pub(crate) fn at(location: &str, message: impl Into<String>) -> Self {
        Self { location: location.to_owned(), message: message.into(), ..Self::default() }
    }

    /// The same, in a file.
    pub(crate) fn in_file(self, file: &str) -> Self {
        Self { file: file.to_owned(), ..self }
    }

    /// The same, with its number and the limit that this was held against.
    pub(crate) fn beyond(self, measured: f64, limit: f64) -> Self {
        Self { measured: Some(measured), limit: Some(limit), ..self }
    }
}

/// What a rule says of what a scan observed: nothing where the number is within the limit.
pub(crate) fn observed(rule: &Rule, seen: &Observation, evidence: &Evidence<'_>) -> Option<Found> {
    let limit = evidence.settings.limit(rule);
    let message = match (limit, seen.measured) {
        (Some(limit), Some(measured)) if measured <= limit => return None,
        (Some(limit), Some(_)) => format!("{} (limit {})", seen.message, plain(limit)),
        // A rule with a limit whose number could not be had is a finding: nothing passes for want of a number.
        _ => seen.message.clone(),
    };
    Some(Found {
        measured: seen.measured,
        limit,
        further: seen.rests_on.clone(),
        ..Found::at(&seen.place, message).in_file(&seen.file)
    })
}
