//! The built-in rules: each fires on what it is for, and not on a plain adapter.

#[path = "../../documents/tests/support/mod.rs"]
mod support;

use std::collections::HashSet;

use lcr_documents::audit::{Audit, Finding, Level, RowNormChange, Verdict, WeightChange};
use lcr_gate::judge_comparison;
use lcr_gate::policy::{Policy, Rule, judge};

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
    assert!(audit.findings.iter().all(|finding| finding.level == Level::Note), "{:?}", audit.findings);
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
    let cases: [Case; 14] = [
        (Rule::UncoveredTensors, Level::Fail, |audit| {
            audit.adapter.coverage.applied -= 1;
        }),
        (Rule::UncoveredTensors, Level::Fail, |audit| {
            audit.adapter.coverage.unmatched.push("x".into());
        }),
        (Rule::DeadRows, Level::Fail, |audit| {
            let weight = first_weight(audit);
            weight.relative_norm = Some(1.0);
            weight.cosine = 0.0;
            weight.row_norm_change = RowNormChange { mean_abs: 1.0, max_abs: 1.0, min: -1.0 };
        }),
        (Rule::DeadRows, Level::Fail, |audit| {
            let rows = &mut first_weight(audit).row_norm_change;
            (rows.max_abs, rows.min) = (1.0, -1.0);
        }),
        (Rule::LargerThanWeight, Level::Warn, |audit| {
            first_weight(audit).relative_norm = Some(1.2);
        }),
        (Rule::MagnitudeSpike, Level::Warn, |audit| {
            first_weight(audit).row_norm_change.max_abs = 2.0;
        }),
        (Rule::MagnitudeSpike, Level::Warn, |audit| {
            first_weight(audit).row_norm_change.min = -0.9;
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

/// Every row doubled has the same sizes of row-norm changes as every row zeroed; the sign tells them apart.
#[test]
fn a_doubled_weight_is_not_called_dead() {
    let audit = judged(|audit| {
        let weight = first_weight(audit);
        weight.relative_norm = Some(1.0);
        weight.cosine = 1.0;
        weight.row_norm_change = RowNormChange { mean_abs: 1.0, max_abs: 1.0, min: 1.0 };
    });
    assert!(found(&audit, Rule::DeadRows).is_none());
    assert!(found(&audit, Rule::LargerThanWeight).is_some());
}

/// A row that grows in the same module hides neither that another is gone, nor the other way round.
#[test]
fn a_dead_row_beside_a_spike_is_seen() {
    let audit = judged(|audit| {
        first_weight(audit).row_norm_change = RowNormChange { mean_abs: 0.1, max_abs: 4.0, min: -0.9999 };
    });
    let dead = found(&audit, Rule::DeadRows).unwrap();
    assert!(dead.message.starts_with("At least one row"), "{}", dead.message);
    assert_eq!(dead.measured, Some(-0.9999));
    let spike = found(&audit, Rule::MagnitudeSpike).unwrap();
    assert!(spike.message.contains("grows to 5 times its norm"), "{}", spike.message);
    assert_eq!(audit.verdict, Verdict::Fail);
}

#[test]
fn a_row_that_shrinks_is_not_said_to_grow() {
    let audit = judged(|audit| {
        first_weight(audit).row_norm_change = RowNormChange { mean_abs: 0.1, max_abs: 0.75, min: -0.75 };
    });
    let spike = found(&audit, Rule::MagnitudeSpike).unwrap();
    assert!(spike.message.contains("shrinks to 25.0\u{a0}% of its norm"), "{}", spike.message);
    assert_eq!((spike.measured, spike.limit), (Some(4.0), Some(2.0)));
    assert!(found(&audit, Rule::DeadRows).is_none());
}

/// GPT-2 and Phi-3 name their modules otherwise.
#[test]
fn writers_and_readers_are_counted_in_every_family() {
    for (writer, reader) in [
        ("transformer.h.{}.mlp.c_proj.weight", "transformer.h.{}.attn.c_attn.weight"),
        ("transformer.h.{}.attn.c_proj.weight", "transformer.h.{}.mlp.c_fc.weight"),
        ("model.layers.{}.self_attn.o_proj.weight", "model.layers.{}.self_attn.qkv_proj.weight"),
        ("model.layers.{}.mlp.down_proj.weight", "model.layers.{}.mlp.gate_up_proj.weight"),
    ] {
        let audit = judged(|audit| {
            let change = first_weight(audit).clone();
            audit.weights.clear();
            for layer in 0..3 {
                for name in [writer, reader] {
                    audit.weights.insert(name.replace("{}", &layer.to_string()), change.clone());
                }
            }
            audit.coherence.write = Some(0.99);
            audit.coherence.read = Some(0.99);
        });
        for (rule, name) in [(Rule::CoherentWrites, writer), (Rule::CoherentReads, reader)] {
            let kind = name.trim_end_matches(".weight").rsplit('.').next().unwrap();
            assert_eq!(found(&audit, rule).unwrap().location, format!("3 modules: {kind}"));
        }
    }
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

/// A rule, a limit that finds, a limit that does not, and the audit.
type Limited = (&'static str, &'static str, &'static str, fn(&mut Audit));

/// A policy's own limits go before those that `compare` judges by, both ways.
#[test]
fn limits_of_comparison_rules_can_be_tightened_and_widened() {
    let rules_under = |policy: &str, change: fn(&mut Audit)| -> Vec<String> {
        let policy = Policy::parse("policy.toml", &format!("version = 1\n[rules]\n{policy}")).unwrap();
        judge_comparison(&judged(change), &policy, "adapter", "0").into_iter().map(|finding| finding.rule).collect()
    };
    let cases: [Limited; 5] = [
        ("magnitude-spike", "1.2", "2", |audit| {
            first_weight(audit).row_norm_change = RowNormChange { mean_abs: 0.1, max_abs: 0.4, min: -0.1 };
        }),
        ("magnitude-spike", "1.2", "2", |audit| {
            first_weight(audit).row_norm_change = RowNormChange { mean_abs: 0.1, max_abs: 0.4, min: -0.4 };
        }),
        ("larger-than-weight", "0.4", "1", |audit| first_weight(audit).relative_norm = Some(0.5)),
        ("coherent-writes", "0.3", "0.5", |audit| {
            (audit.coherence.write, audit.coherence.chance) = (Some(0.45), 0.02);
        }),
        ("intruder-dimensions", "0", "4", |audit| first_weight(audit).intruder_dimensions = Some(3)),
    ];
    for (rule, tight, wide, change) in cases {
        let found = |limit: &str| rules_under(&format!("{rule} = {{ level = \"deny\", limit = {limit} }}"), change);
        assert!(found(tight).contains(&rule.to_owned()), "{rule} at {tight}: {:?}", found(tight));
        assert!(!found(wide).contains(&rule.to_owned()), "{rule} at {wide}: {:?}", found(wide));
    }
}
