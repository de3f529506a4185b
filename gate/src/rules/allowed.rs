//! Rules on what the policy lists under `[allowed]`.

use crate::rules::{Evidence, Found, Judge, RestsOn, Rule, Severity, Stage};

/// Every rule of the family.
pub(crate) static RULES: &[&Rule] =
    &[&FORMAT_NOT_ALLOWED, &TARGET_NOT_ALLOWED, &BASE_MODEL_NOT_ALLOWED, &REVISION_NOT_ALLOWED];

/// What these rules share.
const FAMILY: Rule = Rule { stage: Stage::Policy, level: Severity::Deny, rests_on: RestsOn::Adapter, ..Rule::NONE };

pub(crate) static FORMAT_NOT_ALLOWED: Rule = Rule {
    code: "format-not-allowed",
    title: "A layout that the policy does not list",
    why: "The adapter's layout is not among the policy's `formats` under `[allowed]`. Your loaders may not read \
          it, or your tests may not have covered how they do. The rule is silent where the policy lists no \
          formats.",
    example: "The adapter is in the MLX layout, and the policy says `formats = [\"PEFT\"]`.",
    accept: "Convert the adapter to an allowed layout. To accept this layout, add it to `formats`; to accept \
             this adapter alone, waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Policy(format_not_allowed)],
    ..FAMILY
};

fn format_not_allowed(evidence: &Evidence<'_>) -> Vec<Found> {
    let (Some(adapter), Some(formats)) = (&evidence.scan.adapter, &evidence.policy.allowed.formats) else {
        return Vec::new();
    };
    if formats.contains(&adapter.format) {
        return Vec::new();
    }
    let message = format!("the layout is {}, the policy allows {}", adapter.format, formats.join(", "));
    vec![Found::at("", message).in_file(&adapter.file)]
}

pub(crate) static TARGET_NOT_ALLOWED: Rule = Rule {
    code: "target-not-allowed",
    title: "A changed module that the policy does not list",
    why: "The adapter changes a kind of module that is not among the policy's `targets` under `[allowed]`. A \
          list of targets keeps embeddings, heads and routers out of reach whatever the training config says. \
          The rule goes by the last part of the module's name.",
    example: "The adapter changes `lm_head`, and the policy lists the attention projections only.",
    accept: "Train again without the module. To accept this kind, add it to `targets`; to accept this adapter \
             alone, waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Policy(target_not_allowed)],
    ..FAMILY
};

fn target_not_allowed(evidence: &Evidence<'_>) -> Vec<Found> {
    let (Some(adapter), Some(targets)) = (&evidence.scan.adapter, &evidence.policy.allowed.targets) else {
        return Vec::new();
    };
    let others = adapter.targets.iter().filter(|target| !targets.contains(target));
    others
        .map(|target| {
            let message = format!("`{target}` is changed, the policy allows {}", targets.join(", "));
            Found::at(target, message).in_file(&adapter.file)
        })
        .collect()
}

pub(crate) static BASE_MODEL_NOT_ALLOWED: Rule = Rule {
    code: "base-model-not-allowed",
    title: "Made for a base that the policy does not list",
    why: "The base that the adapter's config names matches none of the policy's `base_models`, or the config \
          names none. On another base the low-rank changes mean something else. The name is what the author \
          wrote: it does not prove which base was used, and a renamed copy of the right base is reported too.",
    example: "The config names `someone/model-abliterated`, and the policy allows `Qwen/*`.",
    accept: "Correct `base_model_name_or_path` if it is a local path or misspelt. To accept the base, add a \
             pattern to `base_models`; to accept this adapter alone, waive it by digest with an owner and an \
             expiry date.",
    judges: &[Judge::Policy(base_model_not_allowed)],
    ..FAMILY
};

fn base_model_not_allowed(evidence: &Evidence<'_>) -> Vec<Found> {
    let Some(adapter) = &evidence.scan.adapter else { return Vec::new() };
    let name = adapter.base_model.as_deref().unwrap_or("");
    if evidence.policy.allows_base_model(name) {
        return Vec::new();
    }
    let message = format!("the config names the base `{name}`, which the policy does not list");
    vec![Found::at("", message).in_file(&adapter.file)]
}

pub(crate) static REVISION_NOT_ALLOWED: Rule = Rule {
    code: "revision-not-allowed",
    title: "Made for a revision that the policy does not list",
    why: "The revision of the base that the adapter's config names matches none of the policy's `revisions` under \
          `[allowed]`; a config that names none asks for `main`. Branches move and tags can be moved: only a \
          commit's digest is one model. The rule is silent where the policy lists no revisions.",
    example: "The config says `\"revision\": \"dev\"`, and the policy allows `main` only.",
    accept: "Correct `revision` in the config. To accept it, add a pattern to `revisions`; to accept this adapter \
             alone, waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Policy(revision_not_allowed)],
    ..FAMILY
};

fn revision_not_allowed(evidence: &Evidence<'_>) -> Vec<Found> {
    let Some(adapter) = &evidence.scan.adapter else { return Vec::new() };
    let revision = adapter.revision.as_deref();
    if evidence.policy.allows_revision(revision) {
        return Vec::new();
    }
    let asked = revision.map_or("none, which means `main`".to_owned(), |name| format!("`{name}`"));
    let message = format!("the revision that the config names is {asked}: the policy does not list it");
    vec![Found::at("", message).in_file(&adapter.file)]
}
