//! The rules themselves. Each looks at the whole audit and gives at most one finding, which names the worst place and how
//! many others there are: two hundred lines that say the same would bury the one that does not.

use lcr_analysis::audit::{Audit, Finding, Level, WeightChange};

use super::Rule;
use crate::charts::locate;
use crate::number::{below_one, percent, plain, plural};

/// A row norm that changes by at least this much, and by no more than [`ROW_NORM_LIMIT`], is zero or doubled.
const ROW_GONE: f64 = 0.999;

/// A row norm that changes by more than the row itself.
const ROW_NORM_LIMIT: f64 = 1.0;

/// What rounding may add to a row that is exactly doubled.
const ROW_NORM_ROUNDING: f64 = 1e-3;

/// ‖ΔW‖/‖W‖ from which on the change is at least what it changes.
const RELATIVE_NORM_LIMIT: f64 = 1.0;

/// Mean |cos| from which on modules agree on one direction, if chance is far below.
const COHERENCE_LIMIT: f64 = 0.5;

/// Of ten leading directions, how many intruders are half of them.
const INTRUDER_LIMIT: usize = 5;

/// |cos| below which a direction counts as an intruder; where chance reaches it the count says nothing.
const INTRUDER_COSINE: f64 = 0.5;

/// Share of entries that must change in a merge for the change to count as merged.
const CHANGED_SHARE_LIMIT: f64 = 0.05;

/// Cosine of merged and trained change under which the merged model is another one.
const MERGE_COSINE_LIMIT: f64 = 0.5;

/// Modules that write into the stream.
const WRITERS: [&str; 2] = ["o_proj", "down_proj"];

/// A finding without numbers.
fn finding(rule: Rule, level: Level, location: &str, message: String) -> Finding {
    Finding {
        rule: rule.code().to_owned(),
        level,
        location: location.to_owned(),
        measured: None,
        floor: None,
        null: None,
        interval: None,
        limit: None,
        message,
    }
}

/// The modules that `measure` gives a number for: how many, and the one with the largest.
fn worst(audit: &Audit, measure: impl Fn(&WeightChange) -> Option<f64>) -> Option<(usize, &str, &WeightChange, f64)> {
    let mut count = 0;
    let mut found: Option<(&str, &WeightChange, f64)> = None;
    for (tensor, change) in &audit.weights {
        let Some(value) = measure(change).filter(|value| value.is_finite()) else {
            continue;
        };
        count += 1;
        if found.is_none_or(|(_, _, most)| value > most) {
            found = Some((tensor, change, value));
        }
    }
    found.map(|(tensor, change, value)| (count, tensor, change, value))
}

/// `, and in 3 other modules`, or nothing.
fn and_others(count: usize) -> String {
    if count < 2 {
        String::new()
    } else {
        format!(", and in {}", plural(count - 1, "other module"))
    }
}

pub(super) fn uncovered_tensors(audit: &Audit) -> Option<Finding> {
    let coverage = &audit.adapter.coverage;
    let missing = coverage
        .tensors
        .saturating_sub(coverage.applied)
        .max(coverage.unmatched.len());
    let first = coverage.unmatched.first();
    (missing > 0).then(|| {
        let named = first.map(|name| format!(" (first: {name})")).unwrap_or_default();
        let message = format!(
            "{} of the adapter took no part in this audit{named}. What they do was not looked at, so nothing below speaks for \
             them. Find out which program would load them before anyone uses the adapter.",
            plural(missing, "tensor"),
        );
        let location = first.map_or("adapter", String::as_str);
        Finding {
            measured: Some(missing as f64),
            limit: Some(0.0),
            ..finding(Rule::UncoveredTensors, Level::Fail, location, message)
        }
    })
}

/// Whether W' is certainly (close to) zero. Every row's norm changes by the whole row, and so does the matrix: then each row is
/// 0 or 2w, and cos(W, W') = ‖doubled rows‖/‖W‖ says how much of the weight is left; below a half, three quarters are gone.
fn is_killed(change: &WeightChange) -> bool {
    change.row_norm_change.mean_abs >= ROW_GONE
        && change.row_norm_change.max_abs <= ROW_NORM_LIMIT + ROW_NORM_ROUNDING
        && change.relative_norm.is_some_and(|norm| (norm - 1.0).abs() <= ROW_NORM_ROUNDING)
        && (change.cosine < 0.5 || change.cosine.is_nan())
}

pub(super) fn dead_rows(audit: &Audit) -> Option<Finding> {
    let bounds = ROW_GONE..=ROW_NORM_LIMIT + ROW_NORM_ROUNDING;
    if let Some((count, tensor, change, _)) = worst(audit, |change| is_killed(change).then_some(change.relative_norm).flatten()) {
        let message = format!(
            "The adapter takes the weight to zero here{}: the module gives nothing any more. No training does that; it \
             disables a part of the model. Do not merge.",
            and_others(count),
        );
        return Some(Finding {
            measured: Some(change.row_norm_change.mean_abs),
            limit: Some(ROW_GONE),
            ..finding(Rule::DeadRows, Level::Fail, tensor, message)
        });
    }
    let suspect = |change: &WeightChange| {
        let most = change.row_norm_change.max_abs;
        bounds.contains(&most).then_some(most)
    };
    worst(audit, suspect).map(|(count, tensor, _, most)| {
        let message = format!(
            "At least one row of this weight changes its norm by exactly its own size{}: it is either zero or doubled, and \
             this report's numbers cannot tell which. Training lands on neither. Compare the row norms of W and W' by hand.",
            and_others(count),
        );
        Finding {
            measured: Some(most),
            limit: Some(ROW_GONE),
            ..finding(Rule::DeadRows, Level::Warn, tensor, message)
        }
    })
}

pub(super) fn larger_than_weight(audit: &Audit) -> Option<Finding> {
    let measure = |change: &WeightChange| {
        change.relative_norm.filter(|norm| *norm >= RELATIVE_NORM_LIMIT && !is_killed(change))
    };
    worst(audit, measure).map(|(count, tensor, _, most)| {
        let message = format!(
            "The change is {} times as large as the weight it changes{}. The module is replaced rather than adapted, and \
             what is known of the base no longer holds for it. Evaluate the result as a new model.",
            plain(most),
            and_others(count),
        );
        Finding {
            measured: Some(most),
            limit: Some(RELATIVE_NORM_LIMIT),
            ..finding(Rule::LargerThanWeight, Level::Warn, tensor, message)
        }
    })
}

pub(super) fn magnitude_spike(audit: &Audit) -> Option<Finding> {
    let measure = |change: &WeightChange| {
        let most = change.row_norm_change.max_abs;
        (most > ROW_NORM_LIMIT + ROW_NORM_ROUNDING).then_some(most)
    };
    worst(audit, measure).map(|(count, tensor, change, most)| {
        let message = format!(
            "One output channel's weight row grows to {} times its norm, where the mean row changes by {}{}. A DoRA magnitude \
             set by hand looks like this and works without any low-rank part. Find out which channel it is and what it feeds.",
            plain(1.0 + most),
            percent(change.row_norm_change.mean_abs),
            and_others(count),
        );
        Finding {
            measured: Some(most),
            limit: Some(ROW_NORM_LIMIT),
            ..finding(Rule::MagnitudeSpike, Level::Warn, tensor, message)
        }
    })
}

/// The limit that coherence is held against: a half, and four standard deviations of one pair's cosine (σ = 1/√d, and the
/// chance level √(2/πd) says d), so that even a single pair of unrelated modules stays below it but once in 15,000.
fn coherence_limit(chance: f64) -> Option<f64> {
    let deviation = chance * (std::f64::consts::PI / 2.0).sqrt();
    (chance.is_finite() && chance > 0.0).then_some(COHERENCE_LIMIT.max(4.0 * deviation))
}

/// The finding on coherence, if it is beyond its limit; `what` tells the reader what the modules do.
fn coherent(audit: &Audit, rule: Rule, measured: Option<f64>, location: &str, what: &str) -> Option<Finding> {
    let measured = measured?;
    let chance = audit.coherence.chance;
    let limit = coherence_limit(chance)?;
    (measured > limit).then(|| {
        let message = format!(
            "{what} The mean |cos| between modules is {}, where unrelated directions give {}. Ask what the adapter is for; if the \
             answer does not explain one direction in every layer, do not merge.",
            plain(measured),
            plain(chance),
        );
        Finding {
            measured: Some(measured),
            null: Some(chance),
            limit: Some(limit),
            ..finding(rule, Level::Warn, location, message)
        }
    })
}

pub(super) fn coherent_writes(audit: &Audit) -> Option<Finding> {
    let what = "The adapted modules that write into the residual stream all write one and the same direction. That is how a \
                behaviour is added to or cut out of a whole model, refusals for instance (\"abliteration\").";
    let location = format!("all {} modules", WRITERS.join(" and "));
    let writers = audit
        .weights
        .keys()
        .filter(|tensor| WRITERS.contains(&locate(tensor).1))
        .count();
    let location = if writers > 0 {
        format!("{location} ({writers})")
    } else {
        location
    };
    coherent(audit, Rule::CoherentWrites, audit.coherence.write, &location, what)
}

pub(super) fn coherent_reads(audit: &Audit) -> Option<Finding> {
    let what = "The adapted modules that read the residual stream all listen to one and the same direction. A trigger that \
                every layer reacts to looks like this.";
    coherent(
        audit,
        Rule::CoherentReads,
        audit.coherence.read,
        "all q, k, v, gate and up modules",
        what,
    )
}

pub(super) fn intruder_dimensions(audit: &Audit) -> Option<Finding> {
    let measure = |change: &WeightChange| {
        let intruders = change.intruder_dimensions?;
        let resolvable = change.intruder_chance_cosine < INTRUDER_COSINE && !is_killed(change);
        (intruders >= INTRUDER_LIMIT && resolvable).then_some(intruders as f64)
    };
    worst(audit, measure).map(|(count, tensor, change, most)| {
        let message = format!(
            "{} of the ten leading directions of the adapted weight resemble none of the base's (|cos| < 0.5, where random directions \
             reach {}){}. An unchanged weight has none. Such weights forget what the base knew and rest on new content: \
             test the base's abilities again after merging.",
            plain(most),
            plain(change.intruder_chance_cosine),
            and_others(count),
        );
        Finding {
            measured: Some(most),
            floor: Some(0.0),
            limit: Some(INTRUDER_LIMIT as f64),
            ..finding(Rule::IntruderDimensions, Level::Warn, tensor, message)
        }
    })
}

pub(super) fn whole_tensor(audit: &Audit) -> Option<Finding> {
    let measure = |change: &WeightChange| (change.kind == "whole").then_some(change.relative_norm.unwrap_or(0.0));
    worst(audit, measure).map(|(count, tensor, _, most)| {
        let others = if count < 2 { String::new() } else { format!(" (and {} more)", count - 1) };
        let (level, message) = if most > 0.0 {
            let message = format!(
                "The adapter brings this tensor whole{others}, and it differs from the base's by {} of its norm. Whole tensors are not \
                 bound by the rank, so the adapter's small size is no bound on what it can do. Ask why training needed them.",
                percent(most),
            );
            (Level::Warn, message)
        } else {
            let message = format!(
                "The adapter brings this tensor whole{others}, equal to the base's. It changes nothing, but it is loaded in \
                 place of the base's on whatever base it is put."
            );
            (Level::Note, message)
        };
        Finding { measured: Some(most), limit: Some(0.0), ..finding(Rule::WholeTensor, level, tensor, message) }
    })
}

pub(super) fn zero_effect(audit: &Audit) -> Option<Finding> {
    audit.adapter.zero_effect.then(|| {
        let message = "The adapter leaves every weight as it was. Either it was never trained or saved wrongly, or what was \
                       audited is not the file that is meant to be used: check its SHA-256.";
        finding(Rule::ZeroEffect, Level::Warn, "adapter", message.to_owned())
    })
}

pub(super) fn targeted_without_tensors(audit: &Audit) -> Option<Finding> {
    let missing = &audit.adapter.coverage.targeted_without_tensors;
    let first = missing.first()?;
    let others = if missing.len() < 2 {
        String::new()
    } else {
        format!(" and {} more", missing.len() - 1)
    };
    let message = format!(
        "The configuration says that this module{others} is adapted, and the file holds no tensor for it. The file is incomplete, \
         or was put together from parts. Ask for the original."
    );
    Some(Finding {
        measured: Some(missing.len() as f64),
        limit: Some(0.0),
        ..finding(Rule::TargetedWithoutTensors, Level::Warn, first, message)
    })
}

pub(super) fn vanishes_when_merged(audit: &Audit) -> Option<Finding> {
    // How much is lost: by the share of entries where none changes, else by direction.
    let measure = |change: &WeightChange| {
        let survival = &change.merge_survival;
        let lost = survival.changed_share < CHANGED_SHARE_LIMIT
            || survival.cosine.is_some_and(|cosine| cosine < MERGE_COSINE_LIMIT);
        (lost && change.relative_norm.is_some_and(|norm| norm > 0.0) && change.kind != "whole").then_some(below_one(survival.changed_share))
    };
    worst(audit, measure).map(|(count, tensor, change, lost)| {
        let survival = &change.merge_survival;
        let direction =
            survival.cosine.map_or_else(String::new, |cosine| format!(", and what is left has cosine {} with what was trained", plain(cosine)));
        let message = format!(
            "Merged into bf16, {} of this weight's entries change at all{direction}{}. The merged model is not the one audited \
             here. Keep the adapter apart, or merge in f32 and audit the result.",
            percent(survival.changed_share),
            if count < 2 { String::new() } else { format!("; likewise {}", plural(count - 1, "other module")) },
        );
        Finding {
            measured: Some(1.0 - lost),
            limit: Some(CHANGED_SHARE_LIMIT),
            ..finding(Rule::VanishesWhenMerged, Level::Note, tensor, message)
        }
    })
}
