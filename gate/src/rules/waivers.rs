//! Rules on the policy's own waivers.

use lcr_documents::number::plain;

use crate::policy::Waiver;
use crate::rules::{Exception, Judge, Rule, Severity, Stage, WaiverEvidence};

/// Every rule of the family, in the order in which they are asked: the first that has something to say of a waiver says
/// it.
pub(crate) static RULES: &[&Rule] = &[&WAIVER_REFUSED, &WAIVER_EXPIRED, &WAIVER_STALE];

/// What these rules share.
const FAMILY: Rule = Rule {
    stage: Stage::Policy,
    exception: Exception::Never("it is about a waiver, and not about bytes"),
    ..Rule::NONE
};

pub(crate) static WAIVER_REFUSED: Rule = Rule {
    code: "waiver-refused",
    title: "A waiver of what cannot be waived",
    why: "The waiver is of a rule on what was not read (files beyond the limits, unreadable ones, links out of the \
          folder, pipes), on the base, or on waivers themselves. No digest covers what was not read, so any other \
          content could take its place under the same waiver. It covers nothing.",
    example: "A waiver of `beyond-limits` for a file of 5 GiB, by the digest of the adapter's other files.",
    accept: "Remove the waiver, and the file if it is not needed. Where it has to stay, set the rule's level for \
             that path in the policy, which says openly that nobody looks there.",
    judges: &[Judge::Waiver(waiver_refused)],
    ..FAMILY
};

fn waiver_refused(evidence: &WaiverEvidence<'_>) -> Option<String> {
    let Waiver { rule, owner, .. } = evidence.waiver;
    let reason = evidence.refused?;
    Some(format!("`{rule}` cannot be waived: {reason}. The waiver by {owner} covers nothing"))
}

pub(crate) static WAIVER_EXPIRED: Rule = Rule {
    code: "waiver-expired",
    title: "A waiver past its last day",
    why: "A waiver's `expires` lies before the date of the run. It covers nothing any more: the findings that it \
          covered count again, and this one shows why. It is reported whether or not such findings are still \
          there.",
    example: "A waiver of `whole-tensor` with `expires = 2026-01-31` in a run on 1 February 2026.",
    accept: "Remove the waiver if the cause is repaired. If not, its owner reviews the adapter again and sets a \
             new date with a reason. Expired waivers cannot be waived; a lower level in the policy leaves the \
             findings as they are.",
    judges: &[Judge::Waiver(waiver_expired)],
    ..FAMILY
};

fn waiver_expired(evidence: &WaiverEvidence<'_>) -> Option<String> {
    let Waiver { rule, owner, expires, reason, .. } = evidence.waiver;
    (expires.as_str() < evidence.date)
        .then(|| format!("the waiver of `{rule}` by {owner} expired on {expires}: {reason}"))
}

/// A waiver that nothing needed.
pub static WAIVER_STALE: Rule = Rule {
    code: "waiver-stale",
    title: "A waiver that nothing needed",
    level: Severity::Warn,
    why: "No finding of this run has the rule, the digest and the place that the waiver names. The adapter was \
          changed, repaired or removed, or the digest is misspelt. A run over only some of the adapters reports \
          the waivers of the others too, since it cannot know of them.",
    example: "The adapter was trained again, and the waiver still holds the digest of the old file.",
    accept: "Remove the waiver, or correct its digest after a new review. In runs over part of a repository, set \
             the level to allow, or use a policy of their own for them.",
    judges: &[Judge::Waiver(waiver_stale)],
    ..FAMILY
};

fn waiver_stale(evidence: &WaiverEvidence<'_>) -> Option<String> {
    let Waiver { rule, owner, sha256, up_to, .. } = evidence.waiver;
    let up_to = up_to.map(|most| format!(", up to {}", plain(most))).unwrap_or_default();
    (!evidence.is_used).then(|| {
        format!(
            "nothing needs the waiver of `{rule}` by {owner} any more (digest {sha256}{up_to}): remove it, lest it \
             cover what comes next"
        )
    })
}
