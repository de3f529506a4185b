//! The rules of a comparison: each fires on what it is for, and not on a plain adapter.

use lcr_documents::audit::{Audit, Finding, Level, RowNormChange, Verdict, WeightChange};

use super::coverage::UNCOVERED_TENSORS;
use super::weights::{INTRUDER_DIMENSIONS, LARGER_THAN_WEIGHT, MAGNITUDE_SPIKE, VANISHES_WHEN_MERGED};
use crate::policy::Policy;
use crate::rules::between_modules::{COHERENT_READS, COHERENT_WRITES};
use crate::rules::changed_modules::{TARGETED_WITHOUT_TENSORS, WHOLE_TENSOR, ZERO_EFFECT};
use crate::rules::rows::DEAD_ROWS;
use crate::rules::{Rule, support};
use crate::{judge_comparison, judge_numbers};

fn judge(audit: &mut Audit) {
    judge_numbers(audit, &Policy::default());
}

fn judged(change: impl FnOnce(&mut Audit)) -> Audit {
    let mut audit = support::toy();
    change(&mut audit);
    judge(&mut audit);
    audit
}

fn found<'a>(audit: &'a Audit, rule: &Rule) -> Option<&'a Finding> {
    audit.findings.iter().find(|finding| finding.rule == rule.code)
}

fn first_weight(audit: &mut Audit) -> &mut WeightChange {
    audit.weights.values_mut().next().unwrap()
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
    type Case = (&'static Rule, Level, fn(&mut Audit));
    let cases: [Case; 14] = [
        (&UNCOVERED_TENSORS, Level::Fail, |audit| {
            audit.adapter.coverage.applied -= 1;
        }),
        (&UNCOVERED_TENSORS, Level::Fail, |audit| {
            audit.adapter.coverage.unmatched.push("x".into());
        }),
        (&DEAD_ROWS, Level::Fail, |audit| {
            let weight = first_weight(audit);
            weight.relative_norm = Some(1.0);
            weight.cosine = 0.0;
            weight.row_norm_change = RowNormChange { mean_abs: 1.0, max_abs: 1.0, min: -1.0 };
        }),
        (&DEAD_ROWS, Level::Fail, |audit| {
            let rows = &mut first_weight(audit).row_norm_change;
            (rows.max_abs, rows.min) = (1.0, -1.0);
        }),
        (&LARGER_THAN_WEIGHT, Level::Warn, |audit| {
            first_weight(audit).relative_norm = Some(1.2);
        }),
        (&MAGNITUDE_SPIKE, Level::Warn, |audit| {
            first_weight(audit).row_norm_change.max_abs = 2.0;
        }),
        (&MAGNITUDE_SPIKE, Level::Warn, |audit| {
            first_weight(audit).row_norm_change.min = -0.9;
        }),
        (&COHERENT_WRITES, Level::Warn, |audit| {
            audit.coherence.write = Some(0.99);
        }),
        (&COHERENT_READS, Level::Warn, |audit| {
            audit.coherence.read = Some(0.99);
        }),
        (&INTRUDER_DIMENSIONS, Level::Warn, |audit| {
            first_weight(audit).intruder_dimensions = Some(5);
        }),
        (&WHOLE_TENSOR, Level::Warn, |audit| {
            first_weight(audit).kind = "whole".into();
        }),
        (&ZERO_EFFECT, Level::Warn, |audit| audit.adapter.zero_effect = true),
        (&TARGETED_WITHOUT_TENSORS, Level::Warn, |audit| {
            audit.adapter.coverage.targeted_without_tensors.push("x".into());
        }),
        (&VANISHES_WHEN_MERGED, Level::Note, |audit| {
            first_weight(audit).merge_survival.changed_share = 0.01;
        }),
    ];
    for (rule, level, change) in cases {
        let audit = judged(change);
        let finding = found(&audit, rule).unwrap_or_else(|| panic!("{} did not fire", rule.code));
        assert_eq!(finding.level, level, "{}", rule.code);
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
    assert!(found(&audit, &DEAD_ROWS).is_none());
    assert!(found(&audit, &LARGER_THAN_WEIGHT).is_some());
}

/// A row that grows in the same module hides neither that another is gone, nor the other way round.
#[test]
fn a_dead_row_beside_a_spike_is_seen() {
    let audit = judged(|audit| {
        first_weight(audit).row_norm_change = RowNormChange { mean_abs: 0.1, max_abs: 4.0, min: -0.9999 };
    });
    let dead = found(&audit, &DEAD_ROWS).unwrap();
    assert!(dead.message.starts_with("At least one row"), "{}", dead.message);
    assert_eq!(dead.measured, Some(-0.9999));
    let spike = found(&audit, &MAGNITUDE_SPIKE).unwrap();
    assert!(spike.message.contains("grows to 5 times its norm"), "{}", spike.message);
    assert_eq!(audit.verdict, Verdict::Fail);
}

#[test]
fn a_row_that_shrinks_is_not_said_to_grow() {
    let audit = judged(|audit| {
        first_weight(audit).row_norm_change = RowNormChange { mean_abs: 0.1, max_abs: 0.75, min: -0.75 };
    });
    let spike = found(&audit, &MAGNITUDE_SPIKE).unwrap();
    assert!(spike.message.contains("shrinks to 25.0\u{a0}% of its norm"), "{}", spike.message);
    assert_eq!((spike.measured, spike.limit), (Some(4.0), Some(2.0)));
    assert!(found(&audit, &DEAD_ROWS).is_none());
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
        for (rule, name) in [(&COHERENT_WRITES, writer), (&COHERENT_READS, reader)] {
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
    assert!(found(&audit, &COHERENT_WRITES).is_none());
}

#[test]
fn intruders_are_not_judged_where_random_directions_are_none() {
    let audit = judged(|audit| {
        first_weight(audit).intruder_dimensions = Some(9);
        first_weight(audit).intruder_chance_cosine = 0.6;
    });
    assert!(found(&audit, &INTRUDER_DIMENSIONS).is_none());
}

#[test]
fn one_finding_names_the_worst_and_counts_the_others() {
    let audit = judged(|audit| {
        for (index, weight) in audit.weights.values_mut().enumerate() {
            weight.row_norm_change.max_abs = 2.0 + index as f64;
        }
    });
    let finding = found(&audit, &MAGNITUDE_SPIKE).unwrap();
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
type Limited = (&'static Rule, &'static str, &'static str, fn(&mut Audit));

/// A policy's own limits go before those that `compare` judges by, both ways.
#[test]
fn limits_of_comparison_rules_can_be_tightened_and_widened() {
    let rules_under = |policy: &str, change: fn(&mut Audit)| -> Vec<String> {
        let policy = Policy::parse("policy.toml", &format!("version = 1\n[rules]\n{policy}")).unwrap();
        judge_comparison(&judged(change), &policy, "adapter", "0").into_iter().map(|finding| finding.rule).collect()
    };
    let cases: [Limited; 5] = [
        (&MAGNITUDE_SPIKE, "1.2", "2", |audit| {
            first_weight(audit).row_norm_change = RowNormChange { mean_abs: 0.1, max_abs: 0.4, min: -0.1 };
        }),
        (&MAGNITUDE_SPIKE, "1.2", "2", |audit| {
            first_weight(audit).row_norm_change = RowNormChange { mean_abs: 0.1, max_abs: 0.4, min: -0.4 };
        }),
        (&LARGER_THAN_WEIGHT, "0.4", "1", |audit| first_weight(audit).relative_norm = Some(0.5)),
        (&COHERENT_WRITES, "0.3", "0.5", |audit| {
            (audit.coherence.write, audit.coherence.chance) = (Some(0.45), 0.02);
        }),
        (&INTRUDER_DIMENSIONS, "0", "4", |audit| first_weight(audit).intruder_dimensions = Some(3)),
    ];
    for (rule, tight, wide, change) in cases {
        let found =
            |limit: &str| rules_under(&format!("{} = {{ level = \"deny\", limit = {limit} }}", rule.code), change);
        assert!(found(tight).contains(&rule.code.to_owned()), "{} at {tight}: {:?}", rule.code, found(tight));
        assert!(!found(wide).contains(&rule.code.to_owned()), "{} at {wide}: {:?}", rule.code, found(wide));
    }
}
