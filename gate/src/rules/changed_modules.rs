//! Rules on what the adapter changes: which modules, which whole tensors, and whether anything at all.

use lcr_documents::audit::{Audit, WeightChange};
use lcr_documents::number::percent;
use lcr_scan::Check;

use crate::rules::comparison::worst;
use crate::rules::{Comparison, Found, Judge, RestsOn, Rule, Severity, Stage};

/// Every rule of the family.
pub(crate) static RULES: &[&Rule] = &[
    &TARGETED_WITHOUT_TENSORS,
    &ZERO_EFFECT,
    &WHOLE_TENSOR,
    &CLASSIFICATION_HEAD,
    &EMBEDDING_CHANGE,
    &BIAS_CHANGE,
    &ROUTER_CHANGE,
];

/// What these rules share.
const FAMILY: Rule = Rule { stage: Stage::Adapter, level: Severity::Warn, rests_on: RestsOn::Adapter, ..Rule::NONE };

pub(crate) static TARGETED_WITHOUT_TENSORS: Rule = Rule {
    code: "targeted-without-tensors",
    title: "Targeted modules without tensors",
    why: "The config names modules to adapt for which the file holds no tensor. What was published is not all \
          that was trained, or the name matches nothing in this architecture. A list of targets copied from \
          another model is the harmless cause, and the files alone do not tell.",
    example: "`target_modules` lists `gate_proj`, and no tensor belongs to a module of that name.",
    accept: "Save the adapter again, or remove targets that match nothing. If the list is known to be wider than \
             the architecture, waive it by digest with an owner and an expiry date, or set the level to allow.",
    judges: &[
        Judge::Scan(Check::TargetedWithoutTensors),
        Judge::Comparison(Comparison {
            judge: targeted_without_tensors_compared,
            needs_weights: false,
            summary: "Warns when the configuration targets modules that the adapter's file holds no tensor for.",
        }),
    ],
    ..FAMILY
};

fn targeted_without_tensors_compared(audit: &Audit, _: f64) -> Option<Found> {
    let missing = &audit.adapter.coverage.targeted_without_tensors;
    let first = missing.first()?;
    let others = if missing.len() < 2 { String::new() } else { format!(" and {} more", missing.len() - 1) };
    let message = format!(
        "The configuration says that this module{others} is adapted, and the file holds no tensor for it. The file is \
         incomplete, or was put together from parts. Ask for the original."
    );
    Some(Found::at(first, message).beyond(missing.len() as f64, 0.0))
}

pub(crate) static ZERO_EFFECT: Rule = Rule {
    code: "zero-effect",
    title: "The adapter changes nothing",
    why: "Every change in the file is zero, so the model behaves as if the adapter were not there. It was saved \
          before training, saved by the wrong process, or is a placeholder that will be exchanged after \
          approval. The rule sees exact zeros in the files; a comparison also sees changes that leave every \
          weight as it was.",
    example: "All `lora_B` tensors are zero, as they are at the first step of training.",
    accept: "Publish the trained adapter. An adapter that is meant to do nothing, for a test, is best waived by \
             digest with an owner and an expiry date, so that its replacement is judged again.",
    judges: &[
        Judge::Scan(Check::ZeroEffect),
        Judge::Comparison(Comparison {
            judge: zero_effect_compared,
            needs_weights: false,
            summary: "Warns when the adapter leaves every weight as it was.",
        }),
    ],
    ..FAMILY
};

fn zero_effect_compared(audit: &Audit, _: f64) -> Option<Found> {
    audit.adapter.zero_effect.then(|| {
        let message = "The adapter leaves every weight as it was. Either it was never trained or saved wrongly, or \
            what was audited is not the file that is meant to be used: check its SHA-256.";
        Found::at("adapter", message)
    })
}

pub(crate) static WHOLE_TENSOR: Rule = Rule {
    code: "whole-tensor",
    title: "A tensor that replaces the base's whole",
    why: "The adapter brings a whole tensor in place of the base's, as `modules_to_save` does. Its change is not \
          bounded by a rank, so a small adapter can carry anything that fits in that tensor. The scan cannot see \
          what changed; a comparison measures it, and lists a tensor that equals the base's without consequence.",
    example: "`lm_head.weight` of shape [151936, 1024] is stored in full.",
    accept: "Train without it where only low-rank changes are needed. For new tokens it is often necessary: \
             compare with the base, then waive it by digest with an owner and an expiry date.",
    judges: &[
        Judge::Scan(Check::WholeTensor),
        Judge::Comparison(Comparison {
            judge: whole_tensor_compared,
            needs_weights: true,
            summary: "Warns when the adapter replaces whole tensors (modules_to_save) by different ones; notes it when \
                they equal the base's.",
        }),
    ],
    ..FAMILY
};

fn whole_tensor_compared(audit: &Audit, _: f64) -> Option<Found> {
    let measure = |change: &WeightChange| (change.kind == "whole").then_some(change.relative_norm.unwrap_or(0.0));
    worst(audit, measure).map(|(count, tensor, _, most)| {
        let others = if count < 2 { String::new() } else { format!(" (and {} more)", count - 1) };
        let (severity, message) = if most > 0.0 {
            let message = format!(
                "The adapter brings this tensor whole{others}, and it differs from the base's by {} of its norm. Whole \
                 tensors are not bound by the rank, so the adapter's small size is no bound on what it can do. Ask why \
                 training needed them.",
                percent(most),
            );
            (None, message)
        } else {
            let message = format!(
                "The adapter brings this tensor whole{others}, equal to the base's. It changes nothing, but it is \
                 loaded in place of the base's on whatever base it is put."
            );
            // Noted, and no reason to refuse.
            (Some(Severity::Allow), message)
        };
        Found { severity, ..Found::at(tensor, message).beyond(most, 0.0) }
    })
}

pub(crate) static CLASSIFICATION_HEAD: Rule = Rule {
    code: "classification-head",
    title: "A head that classifies",
    why: "The adapter brings a head over classes, spans or rewards (`score`, `classifier`, `qa_outputs`), as adapters \
        of classifiers do. It is no head over tokens: a language model has no such module, and a comparison with one \
        sets it aside and audits the rest. What the head decides is not looked at.",
    example: "`score.weight` of shape [2, 4096] in an adapter with `\"task_type\": \"SEQ_CLS\"`.",
    accept: "Nothing to repair in an adapter of a classifier: test it on labelled texts, then waive it by digest with \
        an owner and an expiry date, or set the level to allow. In an adapter of a language model the head is left \
        over: remove it.",
    judges: &[Judge::Scan(Check::ClassificationHead)],
    ..FAMILY
};

pub(crate) static EMBEDDING_CHANGE: Rule = Rule {
    code: "embedding-change",
    title: "A changed embedding or output head",
    why: "The adapter changes the embedding or the output head, by a low-rank change or a whole tensor. That \
          alters what tokens mean, or how likely they are said, directly and for every text, and single tokens \
          can be singled out. Adapters that add tokens need it; the rule cannot tell which tokens are affected.",
    example: "Low-rank factors for `lm_head`, or a replaced `embed_tokens`.",
    accept: "Leave these modules out of training if no token was added. Otherwise compare with the base to see \
             the size of the change and waive it by digest with an owner and an expiry date, or set the level to \
             allow.",
    judges: &[Judge::Scan(Check::EmbeddingChange)],
    ..FAMILY
};

pub(crate) static BIAS_CHANGE: Rule = Rule {
    code: "bias-change",
    title: "Changed biases",
    level: Severity::Allow,
    why: "The adapter replaces biases of the base. A bias adds the same vector for every text, which shifts \
          behaviour as a whole and hardly reacts to single inputs. Training biases is a documented option, so \
          this is listed and by default has no consequence.",
    example: "`\"bias\": \"lora_only\"` in the config, and `q_proj.bias` tensors in the file.",
    accept: "Train with `\"bias\": \"none\"` where nothing asks for biases. The default already accepts them; a \
             policy that raises the level can waive single adapters by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::BiasChange)],
    ..FAMILY
};

pub(crate) static ROUTER_CHANGE: Rule = Rule {
    code: "router-change",
    title: "A changed router of experts",
    why: "The adapter changes the module that decides which expert a token is sent to. A small change there can \
          steer chosen inputs to one expert, and it changes the load of all experts. The rule goes by the \
          module's name and cannot tell how much routing changes.",
    example: "Low-rank factors for `layers.3.mlp.gate` of a mixture-of-experts model.",
    accept: "Train with the router frozen, as most recipes do. If the router has to be trained, check the shares \
             of the experts on your own texts, then waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::RouterChange)],
    ..FAMILY
};
