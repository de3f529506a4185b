//! Rules on the base: whether it is the one that the adapter names, and the one that the policy pins.

use lcr_scan::Check;

use crate::rules::{Evidence, Exception, Found, Judge, RestsOn, Rule, Severity, Stage};

/// Every rule of the family.
pub(crate) static RULES: &[&Rule] = &[&BASE_NAME_MISMATCH, &BASE_REVISION, &BASE_DIGEST];

/// What these rules share.
const FAMILY: Rule = Rule { stage: Stage::Adapter, level: Severity::Warn, rests_on: RestsOn::Adapter, ..Rule::NONE };

pub(crate) static BASE_NAME_MISMATCH: Rule = Rule {
    code: "base-name-mismatch",
    title: "Made for another base than the one given",
    why: "The config names a base that is not the one it is held against, by the last part of the name, less \
          what says how weights are stored (`-4bit`, `-hf`). Siblings have equal shapes (Instruct or not, Coder \
          or not): everything runs, and the numbers are of a pair that was not trained together. A base is known \
          by its folder, by `_name_or_path` in its config and by the title of its card; that a name fits proves \
          nothing.",
    example: "The config names `Qwen/Qwen3-4B-Instruct`, and `--base` is the folder of Qwen3-4B.",
    accept: "Give the base that the adapter was trained on. If it is this one under another name, list that name \
             under `[base]` as `names = [\"org/name\"]`.",
    judges: &[Judge::ScanUnless(Check::BaseNameMismatch, is_a_name_of_the_base)],
    ..FAMILY
};

/// Whether the policy says that the base goes by the name that the config gives.
fn is_a_name_of_the_base(evidence: &Evidence<'_>) -> bool {
    let named = evidence.scan.adapter.as_ref().and_then(|adapter| adapter.base_model.as_deref());
    named.is_some_and(|name| evidence.policy.is_name_of_base(name))
}

pub(crate) static BASE_REVISION: Rule = Rule {
    code: "base-revision",
    title: "A revision of the base that anybody may have proposed",
    why: "The config's `revision` is no branch, tag or commit of the base's publisher, such as `refs/pr/7`, which \
          holds what a stranger proposed. Loaders that pass it on load those weights. What an allowed name \
          promises is then not what runs.",
    example: "The config says `\"revision\": \"refs/pr/666\"` beside the name of a well-known base.",
    accept: "Remove `revision`, or pin a commit of the publisher. Which revisions are accepted, `revisions` under \
             `[allowed]` says.",
    judges: &[Judge::Scan(Check::BaseRevision)],
    ..FAMILY
};

pub(crate) static BASE_DIGEST: Rule = Rule {
    code: "base-digest",
    title: "A base other than the pinned one",
    stage: Stage::Policy,
    level: Severity::Deny,
    why: "The base that was given has another digest than `sha256` under `[base]`. Templates, tokenizers and all \
          results of a comparison are then held against another model than the one that the policy trusts. Any \
          changed byte of its weights or config causes this, a newer revision included.",
    example: "The download fetched a later revision of the base than the one whose digest was pinned.",
    accept: "Fetch the pinned revision. If the new one was reviewed, put its digest into the policy; do not \
             waive this, for the results would describe another pair of models.",
    rests_on: RestsOn::ItsFile,
    exception: Exception::Never("it is about the base, which the digest of an adapter does not name"),
    judges: &[Judge::Policy(base_digest)],
    ..FAMILY
};

fn base_digest(evidence: &Evidence<'_>) -> Vec<Found> {
    let (Some(expected), Some(found)) = (&evidence.policy.base.sha256, evidence.base_sha256) else {
        return Vec::new();
    };
    if expected.eq_ignore_ascii_case(found) {
        return Vec::new();
    }
    vec![Found::at("", format!("the base has digest {found}, the policy asks for {expected}"))]
}
