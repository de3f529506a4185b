//! A comparison under a policy: the gate's judge is asked about one adapter, and its answer goes into the audit.
//!
//! What the files hold and what the numbers are is judged together, by the same levels, limits and waivers as in the
//! gate, so that `compare` cannot pass what `scan` refuses. The audit says besides which parts were looked at, and by
//! how many rules.

use std::cmp::Reverse;

use lcr_documents::audit::{Audit, Checked, Finding, Judgement, Level, Part, PartState, Verdict};
use lcr_scan::Scan;

use super::judge::{ScannedAdapter, judge, judge_comparison};
use super::report::{GateFinding, Provenance};
use crate::policy::Policy;
use crate::rules::{self, Found, Rule, Severity, Stage, verdict_of};

/// Replaces the audit's findings and verdict by what the policy makes of its numbers and of its adapter's files.
pub fn judge_audit(audit: &mut Audit, scan: Scan, policy: &Policy, pins: Provenance) {
    let path = audit.adapter.path.clone();
    if let (Some(provenance), false) = (&mut audit.provenance, policy.waivers.is_empty()) {
        provenance.date = Some(pins.date.clone());
    }
    let subject = ScannedAdapter { path, scan, audit: Some(audit.clone()), not_compared: None, error: None };
    // Findings about the policy itself, such as waivers that this one adapter does not need, are no matter of the
    // comparison.
    let artifacts = judge(vec![subject], policy, pins).artifacts;
    let found: Vec<GateFinding> = artifacts.into_iter().flat_map(|artifact| artifact.findings).collect();
    audit.unanswered = policy.unanswered(audit);
    conclude(audit, &found, policy, true);
}

/// The same of the numbers alone, where the adapter's files are not at hand.
pub fn judge_numbers(audit: &mut Audit, policy: &Policy) {
    let found = judge_comparison(audit, policy, &audit.adapter.path, "");
    audit.unanswered = policy.unanswered(audit);
    conclude(audit, &found, policy, false);
}

fn conclude(audit: &mut Audit, found: &[GateFinding], policy: &Policy, files: bool) {
    let path = audit.adapter.path.clone();
    // They know of chance levels, which a gate's finding has no place for.
    let settings = policy.at(&path);
    let compared = rules::compared(audit, |rule| settings.limit(rule));
    let mut findings: Vec<Finding> = found
        .iter()
        .filter(|finding| !is_said_better(finding, found))
        .map(|finding| {
            let origin = compared.iter().find(|(rule, _)| is_of_comparison(finding) && rule.code == finding.rule);
            finding_of(finding, origin.map(|(_, found)| found), policy.fail_on)
        })
        .collect();
    findings.sort_by_key(|finding| Reverse(finding.level));
    audit.verdict = verdict_of(findings.iter().map(|finding| finding.level).max());
    audit.sizes = rules::sizes(audit, &settings).into_iter().map(|(_, size)| size).collect();
    let is_large = audit.sizes.iter().any(|size| !size.judged && size.measured > size.limit);
    audit.judgement = Some(match audit.verdict {
        Verdict::Fail => Judgement::Fail,
        Verdict::Warn => Judgement::Warn,
        Verdict::Pass if is_large => Judgement::LargeChangeNotJudged,
        Verdict::Pass => Judgement::NoObjection,
    });
    audit.checked = Some(checked(audit, &findings, files));
    audit.findings = findings;
}

/// Whether a finding comes from base and adapted model side by side.
fn is_of_comparison(finding: &GateFinding) -> bool {
    finding.file.is_empty() && rules::rule(&finding.rule).is_some_and(Rule::is_of_comparison)
}

/// Whether the comparison says the same of what a scan said without the base, and no milder.
fn is_said_better(finding: &GateFinding, all: &[GateFinding]) -> bool {
    let says_it =
        |other: &GateFinding| is_of_comparison(other) && other.rule == finding.rule && other.level >= finding.level;
    !is_of_comparison(finding) && all.iter().any(says_it)
}

/// A gate's finding as a report's: what fails the policy fails, and what it waives is noted.
fn finding_of(found: &GateFinding, origin: Option<&Found>, fail_on: Severity) -> Finding {
    let level = if found.counts() { found.level.in_audit(fail_on) } else { Level::Note };
    let waived = found.waiver.as_ref().map_or_else(String::new, |waiver| {
        format!(" Waived until {} by {}: {}", waiver.expires, waiver.owner, waiver.reason)
    });
    Finding {
        rule: found.rule.clone(),
        level,
        location: found.location.clone(),
        file: found.file.clone(),
        measured: found.measured,
        floor: origin.and_then(|origin| origin.floor),
        null: origin.and_then(|origin| origin.null),
        interval: origin.and_then(|origin| origin.interval),
        limit: found.limit,
        message: format!("{}{waived}", found.message),
    }
}

/// What was looked at, by how many of the rules, and what came of it.
fn checked(audit: &Audit, findings: &[Finding], files: bool) -> Checked {
    let part = |state, tried, rules, belongs: &dyn Fn(&Finding) -> bool| {
        let levels = || findings.iter().filter(|finding| belongs(finding)).map(|finding| finding.level);
        let notes = levels().filter(|level| *level == Level::Note).count();
        Part { state, tried, rules, findings: levels().count() - notes, notes }
    };
    let size_of = |code: &str| rules::rule(code).and_then(Rule::size);
    let question_of = |code: &str| rules::rule(code).and_then(Rule::question);
    let of_behaviour = |finding: &Finding| {
        size_of(&finding.rule).is_some_and(|size| size.of_behaviour)
            || question_of(&finding.rule).is_some_and(|question| question.of_behaviour)
    };
    let of_weights = |finding: &Finding| {
        let is_of_comparison = rules::rule(&finding.rule).is_some_and(Rule::is_of_comparison);
        finding.file.is_empty() && is_of_comparison && !of_behaviour(finding)
    };
    let of_files = |finding: &Finding| !of_behaviour(finding) && !of_weights(finding);

    let on_files = rules::rules().filter(|rule| matches!(rule.stage, Stage::Files | Stage::Adapter)).count();
    let judged = |of_behaviour: bool| {
        let sizes = audit.sizes.iter().filter(|size| size.judged).filter_map(|size| size_of(&size.rule));
        sizes.filter(|size| size.of_behaviour == of_behaviour).count()
    };
    // Of an adapter without effect every change is known to be nothing.
    let has_weights = !audit.weights.is_empty() || audit.adapter.zero_effect;
    let comparisons = || rules::rules().filter_map(Rule::comparison);
    let on_weights = comparisons().filter(|comparison| has_weights || !comparison.needs_weights).count();
    let said = rules::rules().filter_map(Rule::size).filter(|size| size.of_behaviour).count();
    let asked = |of_behaviour: bool| {
        rules::rules().filter_map(Rule::question).filter(move |question| question.of_behaviour == of_behaviour)
    };
    let answered = |of_behaviour: bool| asked(of_behaviour).filter(|question| question.is_answered(audit)).count();
    let tried = judged(true) + answered(true);
    let behaviour = match (audit.tokens.as_ref().is_some_and(|tokens| tokens.positions > 0), tried) {
        (_, 1..) => PartState::Judged,
        (true, 0) => PartState::Shown,
        (false, 0) => PartState::NotChecked,
    };
    Checked {
        files: if files {
            part(PartState::Judged, on_files, on_files, &of_files)
        } else {
            part(PartState::NotChecked, 0, on_files, &of_files)
        },
        weights: part(
            if has_weights { PartState::Judged } else { PartState::NotChecked },
            on_weights + judged(false) + answered(false),
            comparisons().count() + judged(false) + asked(false).count(),
            &of_weights,
        ),
        behaviour: part(behaviour, tried, said + asked(true).count(), &of_behaviour),
    }
}
