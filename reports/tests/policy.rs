//! The built-in rules: each fires on what it is for, and not on a plain adapter.

mod support;

use std::collections::HashSet;

use lcr_analysis::audit::{Audit, Finding, Level, Verdict, WeightChange};
use lcr_reports::policy::{Rule, judge};

fn judged(change: impl FnOnce(&mut Audit)) -> Audit {
    let mut audit = support::toy();
    change(&mut audit);
    judge(&mut audit);
    audit
}

fn found(audit: &Audit, rule: Rule) -> Option<&Finding> {
    audit.findings.iter().find(|finding| finding.rule == rule.code())
}

fn first_weight(audit: &mut Audit) -> &mut WeightChange {
    audit.weights.values_mut().next().unwrap()
}

#[test]
fn codes_are_unique_and_described() {
    let codes: HashSet<&str> = Rule::ALL.iter().map(|rule| rule.code()).collect();
    assert_eq!(codes.len(), Rule::ALL.len());
    for rule in Rule::ALL {
        assert!(rule.description().ends_with('.'), "{}", rule.code());
    }
}

#[test]
fn a_plain_adapter_passes() {
    let audit = judged(|_| ());
    assert_eq!(audit.verdict, Verdict::Pass);
    assert!(
        audit.findings.iter().all(|finding| finding.level == Level::Note),
        "{:?}",
        audit.findings
    );
}

#[test]
fn judging_twice_is_judging_once() {
    let mut audit = judged(|audit| audit.adapter.zero_effect = true);
    let once = audit.findings.len();
    judge(&mut audit);
    assert_eq!(audit.findings.len(), once);
    assert_eq!(audit.verdict, Verdict::Warn);
}

#[test]
fn each_rule_fires_on_what_it_is_for() {
    type Case = (Rule, Level, fn(&mut Audit));
    let cases: [Case; 13] = [
        (Rule::UncoveredTensors, Level::Fail, |audit| {
            audit.adapter.coverage.applied -= 1;
        }),
        (Rule::UncoveredTensors, Level::Fail, |audit| {
            audit.adapter.coverage.unmatched.push("x".into());
        }),
        (Rule::DeadRows, Level::Fail, |audit| {
            let weight = first_weight(audit);
            weight.relative_norm = 1.0;
            weight.cosine = 0.0;
            weight.row_norm_change.mean_abs = 1.0;
            weight.row_norm_change.max_abs = 1.0;
        }),
        (Rule::DeadRows, Level::Warn, |audit| {
            first_weight(audit).row_norm_change.max_abs = 1.0;
        }),
        (Rule::LargerThanWeight, Level::Warn, |audit| {
            first_weight(audit).relative_norm = 1.2;
        }),
        (Rule::MagnitudeSpike, Level::Warn, |audit| {
            first_weight(audit).row_norm_change.max_abs = 2.0;
        }),
        (Rule::CoherentWrites, Level::Warn, |audit| {
            audit.coherence.write = Some(0.99);
        }),
        (Rule::CoherentReads, Level::Warn, |audit| {
            audit.coherence.read = Some(0.99);
        }),
        (Rule::IntruderDimensions, Level::Warn, |audit| {
            first_weight(audit).intruder_dimensions = Some(5);
        }),
        (Rule::WholeTensor, Level::Warn, |audit| {
            first_weight(audit).kind = "whole".into();
        }),
        (Rule::ZeroEffect, Level::Warn, |audit| audit.adapter.zero_effect = true),
        (Rule::TargetedWithoutTensors, Level::Warn, |audit| {
            audit.adapter.coverage.targeted_without_tensors.push("x".into());
        }),
        (Rule::VanishesWhenMerged, Level::Note, |audit| {
            first_weight(audit).merge_survival.changed_share = 0.01;
        }),
    ];
    for (rule, level, change) in cases {
        let audit = judged(change);
        let finding = found(&audit, rule).unwrap_or_else(|| panic!("{} did not fire", rule.code()));
        assert_eq!(finding.level, level, "{}", rule.code());
        assert!(!finding.location.is_empty() && finding.message.len() > 60);
    }
}

/// Every row doubled has the same row norms as every row zeroed; the cosine tells them apart.
#[test]
fn a_doubled_weight_is_not_called_dead() {
    let audit = judged(|audit| {
        let weight = first_weight(audit);
        weight.relative_norm = 1.0;
        weight.cosine = 1.0;
        weight.row_norm_change.mean_abs = 1.0;
        weight.row_norm_change.max_abs = 1.0;
    });
    assert_eq!(
        found(&audit, Rule::DeadRows).map(|finding| finding.level),
        Some(Level::Warn)
    );
}

/// In eight dimensions two unrelated directions have |cos| over a half every other time.
#[test]
fn coherence_is_not_judged_where_chance_is_high() {
    let audit = judged(|audit| {
        audit.coherence.write = Some(0.9);
        audit.coherence.chance = (2.0 / (std::f64::consts::PI * 8.0)).sqrt();
    });
    assert!(found(&audit, Rule::CoherentWrites).is_none());
}

#[test]
fn intruders_are_not_judged_where_random_directions_are_none() {
    let audit = judged(|audit| {
        first_weight(audit).intruder_dimensions = Some(9);
        first_weight(audit).intruder_chance_cosine = 0.6;
    });
    assert!(found(&audit, Rule::IntruderDimensions).is_none());
}

#[test]
fn one_finding_names_the_worst_and_counts_the_others() {
    let audit = judged(|audit| {
        for (index, weight) in audit.weights.values_mut().enumerate() {
            weight.row_norm_change.max_abs = 2.0 + index as f64;
        }
    });
    let finding = found(&audit, Rule::MagnitudeSpike).unwrap();
    assert_eq!(Some(&finding.location), audit.weights.keys().last());
    assert!(finding.message.contains("in 3 other modules"), "{}", finding.message);
}

#[test]
fn the_worst_finding_comes_first_and_decides() {
    let mut audit = support::hostile();
    judge(&mut audit);
    assert_eq!(audit.verdict, Verdict::Fail);
    assert!(audit.findings.is_sorted_by(|left, right| left.level >= right.level));
}
