//! Rules on what a policy restricts or asks for, and on its waivers.

use super::{RuleEntry, RuleLevel, Stage};

/// What these rules share.
const POLICY: RuleEntry = RuleEntry {
    code: "",
    title: "",
    stage: Stage::Policy,
    level: RuleLevel::Deny,
    limit: None,
    measure: "",
    why: "",
    example: "",
    accept: "",
};

/// The rules.
pub(super) const RULES: &[RuleEntry] = &[
    RuleEntry {
        code: "format-not-allowed",
        title: "A layout that the policy does not list",
        why: "The adapter's layout is not among the policy's `formats` under `[allowed]`. Your loaders may not read \
              it, or your tests may not have covered how they do. The rule is silent where the policy lists no \
              formats.",
        example: "The adapter is in the MLX layout, and the policy says `formats = [\"PEFT\"]`.",
        accept: "Convert the adapter to an allowed layout. To accept this layout, add it to `formats`; to accept \
                 this adapter alone, waive it by digest with an owner and an expiry date.",
        ..POLICY
    },
    RuleEntry {
        code: "target-not-allowed",
        title: "A changed module that the policy does not list",
        why: "The adapter changes a kind of module that is not among the policy's `targets` under `[allowed]`. A \
              list of targets keeps embeddings, heads and routers out of reach whatever the training config says. \
              The rule goes by the last part of the module's name.",
        example: "The adapter changes `lm_head`, and the policy lists the attention projections only.",
        accept: "Train again without the module. To accept this kind, add it to `targets`; to accept this adapter \
                 alone, waive it by digest with an owner and an expiry date.",
        ..POLICY
    },
    RuleEntry {
        code: "base-model-not-allowed",
        title: "Made for a base that the policy does not list",
        why: "The base that the adapter's config names matches none of the policy's `base_models`, or the config \
              names none. On another base the low-rank changes mean something else. The name is what the author \
              wrote: it does not prove which base was used, and a renamed copy of the right base is reported too.",
        example: "The config names `someone/model-abliterated`, and the policy allows `Qwen/*`.",
        accept: "Correct `base_model_name_or_path` if it is a local path or misspelt. To accept the base, add a \
                 pattern to `base_models`; to accept this adapter alone, waive it by digest with an owner and an \
                 expiry date.",
        ..POLICY
    },
    RuleEntry {
        code: "revision-not-allowed",
        title: "Made for a revision that the policy does not list",
        why: "The revision of the base that the adapter's config names matches none of the policy's `revisions` under \
              `[allowed]`; a config that names none asks for `main`. Branches move and tags can be moved: only a \
              commit's digest is one model. The rule is silent where the policy lists no revisions.",
        example: "The config says `\"revision\": \"dev\"`, and the policy allows `main` only.",
        accept: "Correct `revision` in the config. To accept it, add a pattern to `revisions`; to accept this adapter \
                 alone, waive it by digest with an owner and an expiry date.",
        ..POLICY
    },
    RuleEntry {
        code: "base-name-mismatch",
        title: "Made for another base than the one given",
        stage: Stage::Adapter,
        level: RuleLevel::Warn,
        why: "The config names a base that is not the one it is held against, by the last part of the name, less \
              what says how weights are stored (`-4bit`, `-hf`). Siblings have equal shapes (Instruct or not, Coder \
              or not): everything runs, and the numbers are of a pair that was not trained together. A base is known \
              by its folder, by `_name_or_path` in its config and by the title of its card; that a name fits proves \
              nothing.",
        example: "The config names `Qwen/Qwen3-4B-Instruct`, and `--base` is the folder of Qwen3-4B.",
        accept: "Give the base that the adapter was trained on. If it is this one under another name, list that name \
                 under `[base]` as `names = [\"org/name\"]`.",
        ..POLICY
    },
    RuleEntry {
        code: "base-revision",
        title: "A revision of the base that anybody may have proposed",
        stage: Stage::Adapter,
        level: RuleLevel::Warn,
        why: "The config's `revision` is no branch, tag or commit of the base's publisher, such as `refs/pr/7`, which \
              holds what a stranger proposed. Loaders that pass it on load those weights. What an allowed name \
              promises is then not what runs.",
        example: "The config says `\"revision\": \"refs/pr/666\"` beside the name of a well-known base.",
        accept: "Remove `revision`, or pin a commit of the publisher. Which revisions are accepted, `revisions` under \
                 `[allowed]` says.",
        ..POLICY
    },
    RuleEntry {
        code: "base-digest",
        title: "A base other than the pinned one",
        why: "The base that was given has another digest than `sha256` under `[base]`. Templates, tokenizers and all \
              results of a comparison are then held against another model than the one that the policy trusts. Any \
              changed byte of its weights or config causes this, a newer revision included.",
        example: "The download fetched a later revision of the base than the one whose digest was pinned.",
        accept: "Fetch the pinned revision. If the new one was reviewed, put its digest into the policy; do not \
                 waive this, for the results would describe another pair of models.",
        ..POLICY
    },
    RuleEntry {
        code: "size",
        title: "An adapter that is too large",
        level: RuleLevel::Warn,
        limit: Some(1_073_741_824.0),
        measure: "bytes of all files of the adapter",
        why: "All files of the adapter together exceed the limit. Adapters are small beside their base; a large one \
              mostly carries optimiser states, whole tensors or a merged model. Size alone is harmless, and a small \
              adapter is not safer.",
        example: "A folder of 3.2 GB, of which `optimizer.pt` takes 3.1 GB.",
        accept: "Remove what loading does not need. If the adapter is that large, raise the limit for its path, or \
                 waive it by digest with an owner and an expiry date.",
        ..POLICY
    },
    RuleEntry {
        code: "not-compared",
        title: "No comparison where the policy asks for one",
        why: "The policy says `required = true` under `[compare]`, and base and adapter could not be run side by \
              side: no base was given, it does not fit, or the run failed. What the adapter does to the model was \
              not measured, and the rules on the comparison did not speak.",
        example: "The gate ran without `--base`, or the adapter's tensors have shapes that the base does not have.",
        accept: "Give the right base and run again; the finding names the reason. Where a scan is enough, set \
                 `required` to false or lower this level for some paths. A waiver by digest with an owner and an \
                 expiry date suits a base that is not available for a while.",
        ..POLICY
    },
    RuleEntry {
        code: "waiver-refused",
        title: "A waiver of what cannot be waived",
        why: "The waiver is of a rule on what was not read (files beyond the limits, unreadable ones, links out of the \
              folder, pipes), on the base, or on waivers themselves. No digest covers what was not read, so any other \
              content could take its place under the same waiver. It covers nothing.",
        example: "A waiver of `beyond-limits` for a file of 5 GiB, by the digest of the adapter's other files.",
        accept: "Remove the waiver, and the file if it is not needed. Where it has to stay, set the rule's level for \
                 that path in the policy, which says openly that nobody looks there.",
        ..POLICY
    },
    RuleEntry {
        code: "waiver-expired",
        title: "A waiver past its last day",
        why: "A waiver's `expires` lies before the date of the run. It covers nothing any more: the findings that it \
              covered count again, and this one shows why. It is reported whether or not such findings are still \
              there.",
        example: "A waiver of `whole-tensor` with `expires = 2026-01-31` in a run on 1 February 2026.",
        accept: "Remove the waiver if the cause is repaired. If not, its owner reviews the adapter again and sets a \
                 new date with a reason. Expired waivers cannot be waived; a lower level in the policy leaves the \
                 findings as they are.",
        ..POLICY
    },
    RuleEntry {
        code: "waiver-stale",
        title: "A waiver that nothing needed",
        level: RuleLevel::Warn,
        why: "No finding of this run has the rule, the digest and the place that the waiver names. The adapter was \
              changed, repaired or removed, or the digest is misspelt. A run over only some of the adapters reports \
              the waivers of the others too, since it cannot know of them.",
        example: "The adapter was trained again, and the waiver still holds the digest of the old file.",
        accept: "Remove the waiver, or correct its digest after a new review. In runs over part of a repository, set \
                 the level to allow, or use a policy of their own for them.",
        ..POLICY
    },
];
