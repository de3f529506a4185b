//! Rules on single rows of a weight, its output channels: cut out, turned round, or far from the others.

use lcr_documents::audit::{Audit, ROW_GONE, ROW_TURNED, WeightChange};
use lcr_documents::number::plain;
use lcr_scan::Check;

use crate::rules::comparison::{and_others, worst};
use crate::rules::{Comparison, Found, Judge, RestsOn, Rule, Severity, Stage};

/// Every rule of the family.
pub(crate) static RULES: &[&Rule] = &[&DEAD_ROWS, &FLIPPED_ROWS, &MAGNITUDE_OUTLIER];

/// What these rules share.
const FAMILY: Rule = Rule { stage: Stage::Adapter, level: Severity::Deny, rests_on: RestsOn::Adapter, ..Rule::NONE };

pub(crate) static DEAD_ROWS: Rule = Rule {
    code: "dead-rows",
    title: "Output channels that are cut out",
    why: "A row of a weight, an output channel, is taken to zero. In the scan this means a DoRA magnitude of at \
          most 0.002 of what is typical (the 90th percentile), or of 0.01 where a twentieth of the rows is so small; \
          in a comparison, that a row's norm is gone while the base has one. Training does not land there: of the \
          honest DoRA adapters that it was tried on, the smallest magnitude is a tenth of the typical one. \
          What the channel did for the model is not known.",
    example: "One of 4096 magnitudes of `layers.12.mlp.down_proj` is 0 where 1.3 is typical.",
    accept: "Save the adapter again from the training run and find out who edited it. If channels were pruned on \
             purpose, waive it by digest with an owner and an expiry date, and test what was removed.",
    judges: &[
        Judge::Scan(Check::DeadRows),
        Judge::Comparison(Comparison {
            judge: dead_rows_compared,
            needs_weights: true,
            summary: "Fails when a row of a weight, an output channel, has its norm taken to zero: training does not \
                land there. Rows that are zero in the base are not counted.",
        }),
    ],
    ..FAMILY
};

fn dead_rows_compared(audit: &Audit, _: f64) -> Option<Found> {
    let measure = |change: &WeightChange| {
        // Where several modules lost rows, the one that lost most of them is named.
        change.loses_rows().then_some(change.row_norm_change.mean_abs)
    };
    worst(audit, measure).map(|(count, tensor, change, _)| {
        let what = if change.loses_every_row() {
            "Every row of this weight is gone, and the module gives nothing any more"
        } else {
            "At least one row of this weight, an output channel, is gone"
        };
        let least = change.row_norm_change.min;
        let message = format!(
            "{what}{}. How it is known: ‖w'‖/‖w‖ − 1 is {} at the lowest row, where −1 is a row of zeros. Training \
             makes rows smaller, but does not land on zero; a DoRA magnitude set to zero does, and so does a change \
             made to cancel a row. Whatever the channel carried is cut out of the model. Do not merge: compare the row \
             norms of W and W' to see which rows are gone, and ask who removed them and why.",
            and_others(count),
            plain(least).replace('-', "−"),
        );
        Found::at(tensor, message).beyond(least, ROW_GONE)
    })
}

pub(crate) static FLIPPED_ROWS: Rule = Rule {
    code: "flipped-rows",
    title: "Output channels that are turned round",
    why: "A row of a weight, an output channel, says the opposite of what it said. In the scan this means a \
          negative DoRA magnitude of more than a hundredth of the typical one; in a comparison, that a row turns \
          by more than 150 degrees. Norms are positive, and training takes steps far too small to carry one \
          through zero: no honest DoRA adapter at hand has one. Whether the channel matters is not known.",
    example: "A fifth of the magnitudes of `layers.3.self_attn.v_proj` is negative.",
    accept: "Save the adapter again from the training run and find out who edited it. If it was done on purpose, \
             waive it by digest with an owner and an expiry date, and test what was turned.",
    judges: &[
        Judge::Scan(Check::FlippedRows),
        Judge::Comparison(Comparison {
            judge: flipped_rows_compared,
            needs_weights: true,
            summary: "Fails when a row of a weight, an output channel, turns by more than 150 degrees: training does \
                not turn one round.",
        }),
    ],
    ..FAMILY
};

fn flipped_rows_compared(audit: &Audit, _: f64) -> Option<Found> {
    let measure = |change: &WeightChange| change.turns_rows().then_some(change.row_rotation_deg.mean);
    worst(audit, measure).map(|(count, tensor, change, _)| {
        let most = change.row_rotation_deg.max;
        let message = format!(
            "At least one row of this weight, an output channel, says the opposite of what it said{}: it turns by {} \
             degrees, where the mean row turns by {}. Training does not turn rows round; a DoRA magnitude with its \
             sign changed does, and so does a change made to undo a row. Do not merge: find out which rows are turned, \
             and ask who turned them and why.",
            and_others(count),
            plain(most),
            plain(change.row_rotation_deg.mean),
        );
        Found::at(tensor, message).beyond(most, ROW_TURNED)
    })
}

pub(crate) static MAGNITUDE_OUTLIER: Rule = Rule {
    code: "magnitude-outlier",
    title: "A DoRA magnitude far from the others",
    level: Severity::Warn,
    limit: Some(50.0),
    measure: "largest DoRA magnitude over the median of its module, or the typical one over the smallest",
    why: "DoRA's magnitude is the norm that an output channel is given. One far above the median of its module \
          makes a single channel loud for every input, one far below the typical ones silences it, and neither \
          needs a low-rank part that another rule could see. Some bases have channels like this themselves, which \
          the files alone do not show.",
    example: "The largest magnitude of `layers.4.mlp.up_proj` is 180 times the median.",
    accept: "Hold the magnitude against the row norms of the base, for instance with a comparison. If the base \
             is like this, raise the limit, or waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::MagnitudeOutlier)],
    ..FAMILY
};
