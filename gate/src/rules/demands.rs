//! Rules on what a policy asks of every adapter as a whole: no more than a size, and a comparison.

use lcr_documents::number::plain;

use crate::rules::{Evidence, Found, Judge, RestsOn, Rule, Severity, Stage};

/// Every rule of the family.
pub(crate) static RULES: &[&Rule] = &[&SIZE, &NOT_COMPARED];

/// What these rules share.
const FAMILY: Rule = Rule { stage: Stage::Policy, level: Severity::Deny, rests_on: RestsOn::ItsFile, ..Rule::NONE };

pub(crate) static SIZE: Rule = Rule {
    code: "size",
    title: "An adapter that is too large",
    level: Severity::Warn,
    limit: Some(1_073_741_824.0),
    measure: "bytes of all files of the adapter",
    why: "All files of the adapter together exceed the limit. Adapters are small beside their base; a large one \
          mostly carries optimiser states, whole tensors or a merged model. Size alone is harmless, and a small \
          adapter is not safer.",
    example: "A folder of 3.2 GB, of which `optimizer.pt` takes 3.1 GB.",
    accept: "Remove what loading does not need. If the adapter is that large, raise the limit for its path, or \
             waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Policy(size)],
    ..FAMILY
};

fn size(evidence: &Evidence<'_>) -> Vec<Found> {
    let files = &evidence.scan.files;
    let bytes = files.iter().map(|file| file.bytes).sum::<u64>();
    let Some(limit) = evidence.settings.limit(&SIZE).filter(|limit| bytes as f64 > *limit) else {
        return Vec::new();
    };
    let message = format!("{bytes} bytes in {} files (limit {})", files.len(), plain(limit));
    vec![Found::at("", message).beyond(bytes as f64, limit)]
}

/// No comparison where the policy asks for one.
pub static NOT_COMPARED: Rule = Rule {
    code: "not-compared",
    title: "No comparison where the policy asks for one",
    why: "The policy says `required = true` under `[compare]`, and base and adapter could not be run side by \
          side: no base was given, it does not fit, or the run failed. What the adapter does to the model was \
          not measured, and the rules on the comparison did not speak.",
    example: "The gate ran without `--base`, or the adapter's tensors have shapes that the base does not have.",
    accept: "Give the right base and run again; the finding names the reason. Where a scan is enough, set \
             `required` to false or lower this level for some paths. A waiver by digest with an owner and an \
             expiry date suits a base that is not available for a while.",
    judges: &[Judge::Policy(not_compared)],
    ..FAMILY
};

fn not_compared(evidence: &Evidence<'_>) -> Vec<Found> {
    let found = |reason| Found::at("", format!("the policy asks for a comparison: {reason}"));
    evidence.not_compared.map(found).into_iter().collect()
}
