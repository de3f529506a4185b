//! Rules on how large a change is by itself, without the base: rank, factor, norms, values.

use lcr_scan::Check;

use crate::rules::{Judge, RestsOn, Rule, Severity, Stage};

/// Every rule of the family.
pub(crate) static RULES: &[&Rule] = &[
    &RANK,
    &SCALE,
    &NEGATIVE_SCALE,
    &OVERFLOW,
    &CHANGE_SIZE,
    &TENSOR_SIZE,
    &WHOLE_OUTLIER,
    &UNTRAINED_TENSOR,
    &BIAS_OUTLIER,
];

/// What these rules share.
const FAMILY: Rule = Rule { stage: Stage::Adapter, level: Severity::Warn, rests_on: RestsOn::Adapter, ..Rule::NONE };

pub(crate) static RANK: Rule = Rule {
    code: "rank",
    title: "A large rank",
    limit: Some(256.0),
    measure: "largest rank",
    why: "The rank bounds how many independent directions a module's change can have. A rank near the width of \
          the model is a full replacement in the form of an adapter. A large rank is a matter of capacity and no \
          sign of intent, and a small one does not make an adapter harmless.",
    example: "Rank 1024 on a model of width 2048.",
    accept: "Train with a smaller rank, or reduce the rank by a truncated singular value decomposition and test \
             again. If the rank is wanted, raise the limit for the paths that need it, or waive it by digest \
             with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::Rank)],
    ..FAMILY
};

pub(crate) static SCALE: Rule = Rule {
    code: "scale",
    title: "A large factor before BA",
    limit: Some(16.0),
    measure: "largest absolute factor before BA, alpha/rank or alpha/sqrt(rank)",
    why: "The factor multiplies the whole change. It stands in the config, so one edited number makes a trained \
          adapter many times stronger without touching a tensor. A large factor with small tensors can be \
          harmless: only the product counts, which a comparison measures.",
    example: "`lora_alpha` 512 with rank 8 gives the factor 64.",
    accept: "Compare the config with that of the training run and restore it. If the run used this factor, raise \
             the limit, or waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::Scale)],
    ..FAMILY
};

pub(crate) static NEGATIVE_SCALE: Rule = Rule {
    code: "negative-scale",
    title: "A negative factor before BA",
    why: "The factor before the change, `lora_alpha` over rank, is negative, so that what the tensors learned is \
          taken away instead of added. Training never turns the sign of alpha, one edited character does. \
          Subtracting an adapter on purpose is known from work on unlearning, and looks the same.",
    example: "`\"lora_alpha\": -16` in `adapter_config.json`.",
    accept: "Restore the config of the training run. If the adapter is meant to be subtracted, say so by negating \
             `lora_B` and testing the result, or waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::NegativeScale)],
    ..FAMILY
};

pub(crate) static OVERFLOW: Rule = Rule {
    code: "overflow",
    title: "Numbers that a model may not be able to hold",
    level: Severity::Deny,
    limit: Some(65504.0),
    measure: "largest value that a tensor gives for an input of unit root mean square; beyond f32, that on the way",
    why: "The rows of the change, a bias, a magnitude or a replaced tensor are so large that an ordinary input can \
          lead to numbers beyond float16, or beyond float32 and bfloat16: the model then gives infinities, NaN, \
          or one token for every text. The bound is that of the worst input of ordinary size, so it is known \
          without the base. Tried on 34 honest adapters (published ones for GPT-2 and Qwen2.5, trained and made \
          ones for small models): the largest is 40. The limit is the end of float16.",
    example: "`lora_alpha` 1e39, or factors of 1e19 whose products are beyond every number.",
    accept: "Restore the config or the tensors of the training run: no model is better for such numbers. Where \
             the base runs in bfloat16 only, the limit can be raised, and the adapter is then still changed beyond \
             all measure.",
    judges: &[Judge::Scan(Check::Overflow)],
    ..FAMILY
};

pub(crate) static CHANGE_SIZE: Rule = Rule {
    code: "change-size",
    title: "A change larger than any weight",
    limit: Some(10.0),
    measure: "root mean square of the norms of a module's changed rows, or a tenth of the largest, in one module",
    why: "What a module's change adds to an output, for an input of ordinary size, is larger than what a trained \
          weight gives: rows of trained weights have norms from about 0.5 to 10 in models of every size. The module \
          is then replaced rather than adapted, whatever the base is. Of 34 honest adapters that it was tried on, \
          trained ones reach 1.1 and random ones at the largest scale 2.8. A base of unusual weights, or a \
          smaller change that does harm, is not seen; a comparison measures each against its own weight.",
    example: "All factors a thousand times as large as those that were trained.",
    accept: "Restore the scale or the tensors of the training run. Where the base is known to have such weights, \
             compare with it, then raise the limit or waive the adapter by digest with an owner and an expiry \
             date.",
    judges: &[Judge::Scan(Check::ChangeSize)],
    ..FAMILY
};

pub(crate) static TENSOR_SIZE: Rule = Rule {
    code: "tensor-size",
    title: "A replaced tensor of a size that none has",
    limit: Some(100.0),
    measure: "90th percentile of the row norms (of a vector, the absolute values), or a tenth of the largest",
    why: "DoRA's magnitudes, a replaced bias, norm, head or other weight is far larger than those of trained \
          models: rows and values are mostly below 10, and single values of a few hundred are known only of \
          biases of keys. Such a tensor drowns whatever the model computes otherwise. The limit is tried on the \
          base tensors of small models only, and what is large for its own base is left to a comparison.",
    example: "`q_proj.bias` of 10,000 in every output.",
    accept: "Compare with the base: if its own tensor is of that size, raise the limit or waive the adapter by \
             digest with an owner and an expiry date. Otherwise restore the tensor of the training run.",
    judges: &[Judge::Scan(Check::TensorSize)],
    ..FAMILY
};

pub(crate) static WHOLE_OUTLIER: Rule = Rule {
    code: "whole-outlier",
    title: "One row or value of a replaced tensor far above the others",
    limit: Some(50.0),
    measure: "largest row norm (of a norm, the largest value) over the median of its tensor",
    why: "In a tensor that replaces the base's, one row or value is many times as large as the typical one: a \
          token that is always said, a channel that drowns the others. Norms of some models have such values \
          themselves, which only the base can tell. Biases are not judged so, for those of trained models are \
          far from even.",
    example: "`model.norm.weight` is 1 everywhere and 1000 in one channel.",
    accept: "Compare with the base. If the base is like this, raise the limit or waive the adapter by digest with \
             an owner and an expiry date; if not, ask who edited the tensor.",
    judges: &[Judge::Scan(Check::WholeOutlier)],
    ..FAMILY
};

pub(crate) static UNTRAINED_TENSOR: Rule = Rule {
    code: "untrained-tensor",
    title: "A replaced head or embedding that does not look trained",
    level: Severity::Deny,
    limit: Some(0.9),
    measure: "likeness to noise: 1 / (width times the mean squared cosine of pairs of rows)",
    why: "The rows of a replaced output head or table of embeddings are as independent of each other as random \
          numbers, or most of them are zero, or all point in one direction. Tokens of a trained table share \
          directions: in the trained models at hand the likeness is 0.05, in noise 0.98 to 1.02. Tables under 256 rows \
          or 64 columns are not judged, nor is a trained table with other words in its rows told from the right \
          one; `whole-tensor` and a comparison remain.",
    example: "`lm_head.weight` of shape [896, 128], each number drawn at random.",
    accept: "Save the adapter again from the training run: the head was never trained, or was exchanged. If the \
             base itself is a random model, as those of tests are, waive the adapter by digest with an owner and \
             an expiry date.",
    judges: &[Judge::Scan(Check::UntrainedTensor)],
    ..FAMILY
};

pub(crate) static BIAS_OUTLIER: Rule = Rule {
    code: "bias-outlier",
    title: "A bias far larger than the change that it joins",
    limit: Some(50.0),
    measure: "largest bias of B, scaled, over the median row norm of the change; none under 0.5",
    why: "With `lora_bias` the up-projection has a bias, which adds the same to an output for every text. One that \
          is many times what the low-rank change adds makes the change a constant in the disguise of an adapter, \
          and no rule on the factors sees it. Optimisers at usual rates move a bias by about 1 in a whole run; the \
          one trained example at hand has a ratio of 0.9. What it does to the base's own outputs, a comparison \
          measures.",
    example: "`q_proj.lora_B.bias` of 10,000 beside rows of norm 0.03.",
    accept: "Train without `lora_bias`, or restore the tensors. If such a bias is wanted, compare with the base \
             and waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::BiasOutlier)],
    ..FAMILY
};
