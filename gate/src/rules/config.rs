//! Rules on the adapter's config: whether it can be read, and whether it says what the tensors are.

use lcr_scan::Check;

use crate::rules::{Judge, RestsOn, Rule, Severity, Stage};

/// Every rule of the family.
pub(crate) static RULES: &[&Rule] = &[
    &NO_ADAPTER,
    &FOREIGN_FORMAT,
    &WHOLE_MODEL,
    &CONFIG_SYNTAX,
    &DUPLICATE_KEY,
    &CONFIG_UNSUPPORTED,
    &CONFIG_MISMATCH,
    &ADAPTER_NAME_IN_KEYS,
    &LOADERS_DISAGREE,
    &BASE_CHANGED,
    &UNKNOWN_INITIALIZATION,
];

/// What these rules share.
const FAMILY: Rule = Rule { stage: Stage::Adapter, level: Severity::Deny, rests_on: RestsOn::Adapter, ..Rule::NONE };

pub(crate) static NO_ADAPTER: Rule = Rule {
    code: "no-adapter",
    title: "No adapter where one is expected",
    why: "The config or the tensors are missing. Without \
          both, the scale and the place of every tensor are unknown, so nothing can be said of what would be \
          changed. The files that are there were still scanned.",
    example: "A folder holds `adapter_config.json` and no tensor file; or a lone `weights.safetensors` was \
              given.",
    accept: "Publish config and tensors together, one adapter per folder. To accept a lone tensor file that no \
             adapter loader will open, waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::NoAdapter)],
    ..FAMILY
};

pub(crate) static FOREIGN_FORMAT: Rule = Rule {
    code: "foreign-format",
    title: "An adapter in a format that is not read",
    why: "The file is an adapter, or looks like one, in another format than those of PEFT and mlx-lm: a LoRA of an \
        image model (kohya, diffusers), GGUF, numpy arrays of an old mlx-lm, the first layout of mlx-vlm, or a whole \
        model where an adapter is expected. What it changes was not looked at. The finding names the format and the \
        way out.",
    example: "`style.safetensors` holds `lora_unet_down_blocks_0_….lora_down.weight`.",
    accept: "Follow the way out that the finding names. A file that belongs to another program is best kept elsewhere, \
             or waived by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::ForeignFormat)],
    ..FAMILY
};

pub(crate) static WHOLE_MODEL: Rule = Rule {
    code: "whole-model",
    title: "A whole model among the adapters",
    level: Severity::Warn,
    why: "A tensor file that belongs to a config.json is a model of its own. Its format was read strictly, its weights \
          were not: what a whole model does cannot be told from its files, and no rule of this gate is made for it.",
    example: "`base/model.safetensors` in the repository whose adapters are scanned.",
    accept: "Name the adapters' folders instead of the whole repository, or set the rule to allow for the base's path: \
             `[[paths]]` with `match = \"base/**\"`.",
    judges: &[Judge::Scan(Check::WholeModel)],
    ..FAMILY
};

pub(crate) static CONFIG_SYNTAX: Rule = Rule {
    code: "config-syntax",
    title: "A config that is not valid",
    why: "A JSON file that loaders read does not parse, or a field of the adapter's config has a type or a pattern \
        that cannot be used. Loaders that are more lenient may read another meaning into it than the author or a \
        reviewer did. If it is the adapter's own config, the tensors could not be interpreted.",
    example: "`adapter_config.json` holds `\"r\": \"16\"`, or ends after a comma.",
    accept: "Correct the file or export the adapter again. A broken JSON file that nothing loads can be removed, \
             or waived by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::ConfigSyntax)],
    ..FAMILY
};

pub(crate) static DUPLICATE_KEY: Rule = Rule {
    code: "duplicate-key",
    title: "A key that stands twice",
    why: "A JSON file that loaders read has one key twice in an object. Python's reader takes the last, others the \
          first or refuse the file, so that a reviewer, this program and a loader may each see another adapter. No \
          library writes such a file; logs and data sets, which nobody loads, are not looked through for it.",
    example: "`adapter_config.json` holds `\"lora_alpha\": 8`, and `\"lora_alpha\": 4096` further down.",
    accept: "Remove the key that is not meant, or save the adapter again. A waiver by digest with an owner and an \
             expiry date accepts that readers disagree.",
    judges: &[Judge::Scan(Check::DuplicateKey)],
    ..FAMILY
};

pub(crate) static CONFIG_UNSUPPORTED: Rule = Rule {
    code: "config-unsupported",
    title: "A setting that is not known here",
    why: "The config holds a setting that changes what the adapter computes and that this program does not \
          implement, or a field or method that it does not know. Numbers computed without it would describe \
          another adapter than the one that runs. It says nothing about whether the setting is harmful.",
    example: "`\"peft_type\": \"LOHA\"`, or a field that a newer version of the training library introduced.",
    accept: "Convert or merge the adapter into plain LoRA or DoRA with the library that wrote it, or remove a \
             field that changes nothing from a copy. A waiver by digest with an owner and an expiry date lets an \
             adapter pass whose effect was not analysed.",
    judges: &[Judge::Scan(Check::ConfigUnsupported)],
    ..FAMILY
};

pub(crate) static CONFIG_MISMATCH: Rule = Rule {
    code: "config-mismatch",
    title: "Config and tensors contradict each other",
    why: "The config and the tensors disagree: a rank or shape differs, half of a pair is missing, a part exists \
          twice, or a tensor belongs to a module that the config does not select. Loaders commonly drop such \
          tensors silently, so that a reviewer and a user see different adapters. A mix-up of two training runs \
          looks the same as tampering.",
    example: "The config says `\"r\": 8`, and `lora_A.weight` has 16 rows.",
    accept: "Put the config back that belongs to these tensors, or save the adapter again. A waiver by digest \
             with an owner and an expiry date accepts an adapter that was not analysed further.",
    judges: &[Judge::Scan(Check::ConfigMismatch)],
    ..FAMILY
};

pub(crate) static ADAPTER_NAME_IN_KEYS: Rule = Rule {
    code: "adapter-name-in-keys",
    title: "Keys with the name of an adapter",
    why: "The tensors' keys hold the name that the adapter had in the running model, as in `lora_A.default.weight`. \
        PEFT saves keys without it and inserts it on loading: up to version 0.20 such a tensor finds no place and is \
        dropped with a warning, later ones take it only under that very name, and vLLM refuses the file. So the \
        adapter that was reviewed and the one that runs may differ.",
    example: "`base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight` in a file written by torch's \
        own save.",
    accept: "Save the adapter with save_pretrained, or take the name out of the keys. If your loader is known to read \
             such keys, waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::AdapterNameInKeys)],
    ..FAMILY
};

pub(crate) static LOADERS_DISAGREE: Rule = Rule {
    code: "loaders-disagree",
    title: "Loaders make different things of it",
    level: Severity::Warn,
    why: "Something in the config or the file is read by one loader, or one version of it, and ignored by another: \
          `alpha` in a config of mlx-lm, which uses `scale` alone, a config of mlx-lm without `scale`, biases spelled \
          as old versions of PEFT did, or a key that names `modules_to_save`, which PEFT drops. What is measured here \
          is said in the finding.",
    example: "`\"lora_parameters\": {\"rank\": 8, \"alpha\": 16, \"scale\": 10.0}` in a config of mlx-lm.",
    accept: "Remove what is ignored, or save the adapter with a current version of the library. If only one loader is \
             ever used and it reads what was measured, waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::LoadersDisagree)],
    ..FAMILY
};

pub(crate) static BASE_CHANGED: Rule = Rule {
    code: "base-changed",
    title: "Trained on a base that its initialisation changed",
    level: Severity::Warn,
    why: "The config names an initialisation (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) that also changes the weights \
          of the base. The tensors are then relative to a model that nobody published, and on the published base \
          they mean something else. Such an adapter cannot be compared with the published base.",
    example: "`\"init_lora_weights\": \"pissa_niter_16\"` in `adapter_config.json`.",
    accept: "Convert it to plain LoRA with the library that trained it, which stores the difference to the \
             original base. If the loader performs the same initialisation, waive it by digest with an owner and \
             an expiry date.",
    judges: &[Judge::Scan(Check::BaseChanged)],
    ..FAMILY
};

pub(crate) static UNKNOWN_INITIALIZATION: Rule = Rule {
    code: "unknown-initialization",
    title: "An initialisation that is not known",
    level: Severity::Warn,
    why: "The config names an initialisation that this program does not know, and that current versions of the \
          training library may refuse. Some initialisations also change the base, and the tensors then mean \
          something else on the published one. Those that do not (`true`, `false`, `gaussian`, `eva`, \
          `orthogonal`) and those that do (see `base-changed`) are known by name.",
    example: "`\"init_lora_weights\": \"pizza\"` in `adapter_config.json`.",
    accept: "Find out what the library that wrote it does under this name. If it leaves the base as it is, set \
             the field to `true` in a copy: a trained adapter does not depend on it. Otherwise waive it by digest \
             with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::UnknownInitialization)],
    ..FAMILY
};
