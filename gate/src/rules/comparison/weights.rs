//! Rules that hold a change against the base's own weight.

use lcr_documents::audit::{Audit, ROW_FACTOR, WeightChange};
use lcr_documents::number::{below_one, percent, plain, plural};

use super::{and_others, worst};
use crate::rules::{Comparison, Found, Judge, RestsOn, Rule, Severity, Stage};

/// Every rule of the family.
pub(crate) static RULES: &[&Rule] =
    &[&LARGER_THAN_WEIGHT, &VECTOR_CHANGE, &MAGNITUDE_SPIKE, &INTRUDER_DIMENSIONS, &VANISHES_WHEN_MERGED];

/// What these rules share.
const FAMILY: Rule = Rule { stage: Stage::Comparison, level: Severity::Warn, rests_on: RestsOn::ItsFile, ..Rule::NONE };

/// |cos| below which a direction counts as an intruder; where chance reaches it the count says nothing.
const INTRUDER_COSINE: f64 = 0.5;

/// Share of entries that must change in a merge for the change to count as merged.
const CHANGED_SHARE_LIMIT: f64 = 0.05;

/// Cosine of merged and trained change under which the merged model is another one.
const MERGE_COSINE_LIMIT: f64 = 0.5;

pub(crate) static LARGER_THAN_WEIGHT: Rule = Rule {
    code: "larger-than-weight",
    title: "A change as large as the weight",
    limit: Some(1.0),
    measure: "largest ||dW||/||W||, from which on it is a finding",
    why: "The norm of a module's change is at least the norm of the weight that it changes. The module is \
          replaced rather than adapted, and what is known of the base no longer holds for it. Size does not tell \
          whether that is wanted; a diverged training run looks the same.",
    example: "The change of `layers.2.self_attn.o_proj` is 1.8 times as large as the weight.",
    accept: "Lower the scale or the learning rate, or exclude the module. If it is wanted, evaluate the result \
             as a new model, then waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Comparison(Comparison {
        judge: larger_than_weight,
        needs_weights: true,
        summary: "Warns when ‖ΔW‖ is at least ‖W‖: the weight is replaced rather than adapted. Whole tensors included.",
    })],
    ..FAMILY
};

fn larger_than_weight(audit: &Audit, limit: f64) -> Option<Found> {
    let measure =
        |change: &WeightChange| change.relative_norm.filter(|norm| *norm >= limit && !change.loses_every_row());
    worst(audit, measure).map(|(count, tensor, _, most)| {
        let message = format!(
            "The change is {} times as large as the weight it changes{}. The module is replaced rather than adapted, \
             and what is known of the base no longer holds for it. Evaluate the result as a new model.",
            plain(most),
            and_others(count),
        );
        Found::at(tensor, message).beyond(most, limit)
    })
}

pub(crate) static VECTOR_CHANGE: Rule = Rule {
    code: "vector-change",
    title: "A bias or norm that changes by more than what it joins",
    limit: Some(2.0),
    measure: "largest change of an entry over what its module typically gives; of a norm, over its weights",
    why: "An entry of a bias, the base's or that of `lora_bias`, changes by more than twice what its module \
          gives for an input of ordinary size, or an entry of a norm by more than twice the norm's typical weight. \
          The change is the same for every text and drowns what the channel carried. Of the trained adapters \
          with biases or norms that it was tried on, none reaches 0.4.",
    example: "`layers.0.self_attn.q_proj.bias` moves by 10,000 where the module typically gives 1.4.",
    accept: "Train without biases, or restore the tensors of the training run. Otherwise find out what the \
             channel feeds, test the adapted model, and waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Comparison(Comparison {
        judge: vector_change,
        needs_weights: true,
        summary: "Warns when an entry of a bias changes by more than twice what its module typically gives, or one of \
            a norm by more than twice its weights.",
    })],
    ..FAMILY
};

fn vector_change(audit: &Audit, limit: f64) -> Option<Found> {
    let measure = |change: &WeightChange| change.entry_change.filter(|ratio| *ratio > limit);
    worst(audit, measure).map(|(count, tensor, _, most)| {
        let message = format!(
            "One entry of this vector changes by {} times the typical size of what it joins{}: of a bias, what its \
             module gives for an input of ordinary size; of a norm, its own weights. It does so for every text alike, \
             and drowns what the channel carried. Find out what the channel feeds, and why training should have needed \
             this.",
            plain(most),
            if count < 2 { String::new() } else { format!(", and so it is in {}", plural(count - 1, "other vector")) },
        );
        Found::at(tensor, message).beyond(most, limit)
    })
}

pub(crate) static MAGNITUDE_SPIKE: Rule = Rule {
    code: "magnitude-spike",
    title: "A row whose norm doubles or halves",
    limit: Some(ROW_FACTOR),
    measure: "factor by which the norm of a row grows or shrinks",
    why: "The norm of one output channel more than doubles, or is more than halved. Such a channel is louder or \
          quieter whatever the text says, and a DoRA magnitude set by hand does this without any visible \
          low-rank part. Strong training of a small model can do it too.",
    example: "One row of `layers.9.mlp.down_proj` grows to 6 times its norm, where the mean row changes by 1 %.",
    accept: "Find out which channel it is and what it feeds, and restore its magnitude if nobody can explain it. \
             Otherwise waive it by digest with an owner and an expiry date after testing the adapted model.",
    judges: &[Judge::Comparison(Comparison {
        judge: magnitude_spike,
        needs_weights: true,
        summary: "Warns when the norm of a row more than doubles or is more than halved, as a tampered DoRA magnitude \
            does.",
    })],
    ..FAMILY
};

fn magnitude_spike(audit: &Audit, limit: f64) -> Option<Found> {
    worst(audit, |change| change.row_factor(limit)).map(|(count, tensor, change, factor)| {
        let rows = &change.row_norm_change;
        let what = if factor <= 1.0 + rows.max_abs && !change.may_only_shrink_rows() {
            format!("grows to {} times", plain(factor))
        } else {
            format!("shrinks to {} of", percent(1.0 + rows.min))
        };
        let message = format!(
            "A row of this weight, an output channel, {what} its norm, where the mean row changes by {}{}. Such a \
             channel is louder or quieter whatever the text says. A DoRA magnitude set by hand looks like this, and it \
             needs no low-rank part that could be seen. Find out which channel it is and what it feeds before you \
             merge.",
            percent(rows.mean_abs),
            and_others(count),
        );
        Found::at(tensor, message).beyond(factor, limit)
    })
}

pub(crate) static INTRUDER_DIMENSIONS: Rule = Rule {
    code: "intruder-dimensions",
    title: "Leading directions that the base does not have",
    limit: Some(4.0),
    measure: "how many of ten leading directions",
    why: "At least half of the ten leading singular directions of an adapted weight resemble none of the base's. \
          Weights like this rest on new content, and models with them tend to forget what the base knew. The \
          rule is tried only where random directions would not resemble one by chance, so in small models its \
          silence means little.",
    example: "Seven of the ten leading directions of `layers.5.mlp.up_proj` have |cos| below 0.5 with all of the \
              base's.",
    accept: "Train with a lower learning rate or another rank and compare again. Otherwise test the base's \
             abilities with the adapter loaded, then waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Comparison(Comparison {
        judge: intruder_dimensions,
        needs_weights: true,
        summary: "Warns when half of a weight's ten leading directions resemble none of the base's; only where random \
                      directions would resemble one less than the limit.",
    })],
    ..FAMILY
};

fn intruder_dimensions(audit: &Audit, limit: f64) -> Option<Found> {
    let measure = |change: &WeightChange| {
        let intruders = change.intruder_dimensions? as f64;
        let resolvable = change.intruder_chance_cosine < INTRUDER_COSINE && !change.loses_every_row();
        (intruders > limit && resolvable).then_some(intruders)
    };
    worst(audit, measure).map(|(count, tensor, change, most)| {
        let message = format!(
            "{} of the ten leading directions of the adapted weight resemble none of the base's (|cos| < 0.5, where \
             random directions reach {}){}. An unchanged weight has none. Such weights forget what the base knew and \
             rest on new content: test the base's abilities again after merging.",
            plain(most),
            plain(change.intruder_chance_cosine),
            and_others(count),
        );
        Found { floor: Some(0.0), ..Found::at(tensor, message).beyond(most, limit) }
    })
}

pub(crate) static VANISHES_WHEN_MERGED: Rule = Rule {
    code: "vanishes-when-merged",
    title: "A change that a merge into bf16 loses",
    level: Severity::Allow,
    why: "Merged into bf16, fewer than 5 % of a weight's entries change, or what is left points in another \
          direction than what was trained. The merged model is then not the one that was compared. This matters \
          only to those who merge, and only in bf16 with rounding to nearest.",
    example: "2 % of the entries of `layers.8.self_attn.k_proj` change when the adapter is merged.",
    accept: "Keep the adapter apart from the base, or merge in f32 and compare the result. The default already \
             accepts it, and there is nothing to waive where nobody merges.",
    judges: &[Judge::Comparison(Comparison {
        judge: vanishes_when_merged,
        needs_weights: true,
        summary: "Notes when a merge into the base's bf16 rounds most of the change away: the merged model is then not \
            the audited one.",
    })],
    ..FAMILY
};

fn vanishes_when_merged(audit: &Audit, _: f64) -> Option<Found> {
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
        let direction = survival.cosine.map_or_else(String::new, |cosine| {
            format!(
                ", and what is left has cosine {} with what was \
                trained",
                plain(cosine)
            )
        });
        let message = format!(
            "Merged into bf16, {} of this weight's entries change at all{direction}{}. The merged model is not the one \
             audited here. Keep the adapter apart, or merge in f32 and audit the result.",
            percent(survival.changed_share),
            if count < 2 { String::new() } else { format!("; likewise {}", plural(count - 1, "other module")) },
        );
        Found::at(tensor, message).beyond(1.0 - lost, CHANGED_SHARE_LIMIT)
    })
}
