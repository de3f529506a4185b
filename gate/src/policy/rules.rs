//! The rules themselves. Each looks at the whole audit and gives at most one finding, which names the worst place and how
//! many others there are: two hundred lines that say the same would bury the one that does not.

use lcr_documents::audit::{Audit, Finding, Level, WeightChange};
use lcr_documents::number::{below_one, percent, plain, plural};
use lcr_formats::module::{ModulePath, StreamRole};

use super::Rule;

/// ‖w'‖/‖w‖ − 1 of a row that is gone; −1 but for rounding.
const ROW_GONE: f64 = -0.999;

/// ‖w'‖/‖w‖ − 1 of a row whose norm doubles.
const ROW_DOUBLED: f64 = 1.0;

/// What rounding may add to a row that is exactly doubled, halved or gone.
const ROW_NORM_ROUNDING: f64 = 1e-3;

/// |cos| below which a direction counts as an intruder; where chance reaches it the count says nothing.
const INTRUDER_COSINE: f64 = 0.5;

/// Share of entries that must change in a merge for the change to count as merged.
const CHANGED_SHARE_LIMIT: f64 = 0.05;

/// Cosine of merged and trained change under which the merged model is another one.
const MERGE_COSINE_LIMIT: f64 = 0.5;

/// Angle between a row and what it becomes, degrees, from which it says the opposite: a change in a direction of its own, however
/// large, turns it by a right angle.
const ROW_TURNED: f64 = 150.0;

/// A finding without numbers.
fn finding(rule: Rule, level: Level, location: &str, message: String) -> Finding {
    Finding {
        rule: rule.code().to_owned(),
        level,
        location: location.to_owned(),
        file: String::new(),
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
    if count < 2 { String::new() } else { format!(", and in {}", plural(count - 1, "other module")) }
}

pub(super) fn uncovered_tensors(audit: &Audit) -> Option<Finding> {
    let coverage = &audit.adapter.coverage;
    let missing = coverage.uncovered();
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

pub(super) fn vocabulary_resized(audit: &Audit) -> Option<Finding> {
    let tables = &audit.adapter.coverage.vocabulary;
    let table = tables.iter().max_by_key(|table| table.base_rows.abs_diff(table.adapter_rows))?;
    let (base, own) = (table.base_rows, table.adapter_rows);
    let (common, difference) = (base.min(own), base.abs_diff(own));
    let rest = if own < base {
        format!("The {} that the adapter does not have count as unchanged", plural(difference, "row"))
    } else {
        format!("The {} that only the adapter has were not looked at", plural(difference, "row"))
    };
    let message = format!(
        "This table over the vocabulary has {own} rows in the adapter and {base} in the base{}. Compared are the {common} that both \
         have, by number. {rest}.",
        and_others(tables.len()),
    );
    Some(Finding {
        measured: Some(difference as f64),
        limit: Some(0.0),
        ..finding(Rule::VocabularyResized, Level::Warn, &table.tensor, message)
    })
}

/// Whether every row is gone, as far as the statistics over rows say: the norms of all change by the whole row, and none grows
/// beyond its double. (Some of them may be doubled instead; that one is gone is certain, and [`dead_rows`] says so.)
fn is_killed(change: &WeightChange) -> bool {
    let rows = &change.row_norm_change;
    rows.min <= ROW_GONE && rows.mean_abs >= -ROW_GONE && rows.max_abs <= ROW_DOUBLED + ROW_NORM_ROUNDING
}

pub(super) fn dead_rows(audit: &Audit) -> Option<Finding> {
    let measure = |change: &WeightChange| {
        let rows = &change.row_norm_change;
        // Where several modules lost rows, the one that lost most of them is named.
        (rows.min <= ROW_GONE).then_some(rows.mean_abs)
    };
    worst(audit, measure).map(|(count, tensor, change, _)| {
        let what = if is_killed(change) {
            "Every row of this weight is gone, and the module gives nothing any more"
        } else {
            "At least one row of this weight, an output channel, is gone"
        };
        let least = change.row_norm_change.min;
        let message = format!(
            "{what}{}. How it is known: ‖w'‖/‖w‖ − 1 is {} at the lowest row, where −1 is a row of zeros. Training makes rows \
             smaller, but does not land on zero; a DoRA magnitude set to zero does, and so does a change made to cancel a row. \
             Whatever the channel carried is cut out of the model. Do not merge: compare the row norms of W and W' to see \
             which rows are gone, and ask who removed them and why.",
            and_others(count),
            plain(least).replace('-', "−"),
        );
        Finding {
            measured: Some(least),
            limit: Some(ROW_GONE),
            ..finding(Rule::DeadRows, Level::Fail, tensor, message)
        }
    })
}

pub(super) fn flipped_rows(audit: &Audit) -> Option<Finding> {
    let measure = |change: &WeightChange| {
        let [rows, columns] = change.shape;
        (rows > 1 && columns > 1 && change.row_rotation_deg.max >= ROW_TURNED).then_some(change.row_rotation_deg.mean)
    };
    worst(audit, measure).map(|(count, tensor, change, _)| {
        let most = change.row_rotation_deg.max;
        let message = format!(
            "At least one row of this weight, an output channel, says the opposite of what it said{}: it turns by {} degrees, where the mean \
             row turns by {}. Training does not turn rows round; a DoRA magnitude with its sign changed does, and so does a change made \
             to undo a row. Do not merge: find out which rows are turned, and ask who turned them and why.",
            and_others(count),
            plain(most),
            plain(change.row_rotation_deg.mean),
        );
        Finding {
            measured: Some(most),
            limit: Some(ROW_TURNED),
            ..finding(Rule::FlippedRows, Level::Fail, tensor, message)
        }
    })
}

pub(super) fn vector_change(audit: &Audit, limit: f64) -> Option<Finding> {
    let measure = |change: &WeightChange| change.entry_change.filter(|ratio| *ratio > limit);
    worst(audit, measure).map(|(count, tensor, _, most)| {
        let message = format!(
            "One entry of this vector changes by {} times the typical size of what it joins{}: of a bias, what its module gives for an \
             input of ordinary size; of a norm, its own weights. It does so for every text alike, and drowns what the \
             channel carried. Find out what the channel feeds, and why training should have needed this.",
            plain(most),
            if count < 2 { String::new() } else { format!(", and so it is in {}", plural(count - 1, "other vector")) },
        );
        Finding {
            measured: Some(most),
            limit: Some(limit),
            ..finding(Rule::VectorChange, Level::Warn, tensor, message)
        }
    })
}

pub(super) fn larger_than_weight(audit: &Audit, limit: f64) -> Option<Finding> {
    let measure = |change: &WeightChange| change.relative_norm.filter(|norm| *norm >= limit && !is_killed(change));
    worst(audit, measure).map(|(count, tensor, _, most)| {
        let message = format!(
            "The change is {} times as large as the weight it changes{}. The module is replaced rather than adapted, and \
             what is known of the base no longer holds for it. Evaluate the result as a new model.",
            plain(most),
            and_others(count),
        );
        Finding {
            measured: Some(most),
            limit: Some(limit),
            ..finding(Rule::LargerThanWeight, Level::Warn, tensor, message)
        }
    })
}

/// By which factor the norm of a row changes, if by more than `limit` either way. A norm cannot shrink by more than itself, so what
/// changes by more has grown. Rows that are gone are left to [`dead_rows`].
fn spike(change: &WeightChange, limit: f64) -> Option<f64> {
    let rows = &change.row_norm_change;
    let grown = (1.0 + rows.max_abs > limit + ROW_NORM_ROUNDING && !is_shrinking(change)).then_some(1.0 + rows.max_abs);
    let left = 1.0 + rows.min;
    let shrunk = (rows.min > ROW_GONE && left < 1.0 / limit - ROW_NORM_ROUNDING).then(|| 1.0 / left);
    match (grown, shrunk) {
        (Some(grown), Some(shrunk)) => Some(grown.max(shrunk)),
        (grown, shrunk) => grown.or(shrunk),
    }
}

/// Whether the row that changes most may be one that shrinks: then nothing is known of how much any row grows.
fn is_shrinking(change: &WeightChange) -> bool {
    let rows = &change.row_norm_change;
    rows.max_abs <= -rows.min + ROW_NORM_ROUNDING
}

pub(super) fn magnitude_spike(audit: &Audit, limit: f64) -> Option<Finding> {
    worst(audit, |change| spike(change, limit)).map(|(count, tensor, change, factor)| {
        let rows = &change.row_norm_change;
        let what = if factor <= 1.0 + rows.max_abs && !is_shrinking(change) {
            format!("grows to {} times", plain(factor))
        } else {
            format!("shrinks to {} of", percent(1.0 + rows.min))
        };
        let message = format!(
            "A row of this weight, an output channel, {what} its norm, where the mean row changes by {}{}. Such a channel is \
             louder or quieter whatever the text says. A DoRA magnitude set by hand looks like this, and it needs no low-rank \
             part that could be seen. Find out which channel it is and what it feeds before you merge.",
            percent(rows.mean_abs),
            and_others(count),
        );
        Finding {
            measured: Some(factor),
            limit: Some(limit),
            ..finding(Rule::MagnitudeSpike, Level::Warn, tensor, message)
        }
    })
}

/// The limit that coherence is held against: the rule's, and four standard deviations of one pair's cosine (σ = 1/√d, and the
/// chance level √(2/πd) says d), so that even a single pair of unrelated modules stays below it but once in 15,000.
fn coherence_limit(chance: f64, limit: f64) -> Option<f64> {
    let deviation = chance * (std::f64::consts::PI / 2.0).sqrt();
    (chance.is_finite() && chance > 0.0).then_some(limit.max(4.0 * deviation))
}

/// The finding on coherence, if it is beyond its limit; `what` tells the reader what the modules do.
fn coherent(
    audit: &Audit,
    limit: f64,
    rule: Rule,
    measured: Option<f64>,
    location: &str,
    what: &str,
) -> Option<Finding> {
    let measured = measured?;
    let chance = audit.coherence.chance;
    let limit = coherence_limit(chance, limit)?;
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

/// `8 modules: o_proj, down_proj` of those kinds that the adapter changes.
fn modules_of(audit: &Audit, role: StreamRole) -> String {
    let kinds = role.kinds();
    let number_of = |kind: &&str| audit.weights.keys().filter(|tensor| ModulePath::parse(tensor).kind == *kind).count();
    let present: Vec<&str> = kinds.iter().copied().filter(|kind| number_of(kind) > 0).collect();
    let number = present.iter().map(number_of).sum();
    if number == 0 {
        // The report came without its weights.
        return format!("all of {}", kinds.join(", "));
    }
    format!("{}: {}", plural(number, "module"), present.join(", "))
}

pub(super) fn coherent_writes(audit: &Audit, limit: f64) -> Option<Finding> {
    let what = "The adapted modules that write into the residual stream all write one and the same direction. That is how a \
                behaviour is added to or cut out of a whole model, refusals for instance (\"abliteration\").";
    let location = modules_of(audit, StreamRole::Writes);
    coherent(audit, limit, Rule::CoherentWrites, audit.coherence.write, &location, what)
}

pub(super) fn coherent_reads(audit: &Audit, limit: f64) -> Option<Finding> {
    let what = "The adapted modules that read the residual stream all listen to one and the same direction. A trigger that \
                every layer reacts to looks like this.";
    let location = modules_of(audit, StreamRole::Reads);
    coherent(audit, limit, Rule::CoherentReads, audit.coherence.read, &location, what)
}

pub(super) fn intruder_dimensions(audit: &Audit, limit: f64) -> Option<Finding> {
    let measure = |change: &WeightChange| {
        let intruders = change.intruder_dimensions? as f64;
        let resolvable = change.intruder_chance_cosine < INTRUDER_COSINE && !is_killed(change);
        (intruders > limit && resolvable).then_some(intruders)
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
            limit: Some(limit),
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
    let others = if missing.len() < 2 { String::new() } else { format!(" and {} more", missing.len() - 1) };
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
        (lost && change.relative_norm.is_some_and(|norm| norm > 0.0) && change.kind != "whole")
            .then_some(below_one(survival.changed_share))
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
