//! Rules on the adapter: its config, what it changes, its weights without the base, the template and tokenizer with it.

use super::{RuleEntry, RuleLevel, Stage};

/// What these rules share.
const ADAPTER: RuleEntry = RuleEntry {
    code: "",
    title: "",
    stage: Stage::Adapter,
    level: RuleLevel::Warn,
    limit: None,
    measure: "",
    why: "",
    example: "",
    accept: "",
};

/// The rules, in the order of the scan's checks.
pub(super) const RULES: &[RuleEntry] = &[
    RuleEntry {
        code: "no-adapter",
        title: "No adapter where one is expected",
        level: RuleLevel::Deny,
        why: "The config or the tensors are missing. Without \
              both, the scale and the place of every tensor are unknown, so nothing can be said of what would be \
              changed. The files that are there were still scanned.",
        example: "A folder holds `adapter_config.json` and no tensor file; or a lone `weights.safetensors` was \
                  given.",
        accept: "Publish config and tensors together, one adapter per folder. To accept a lone tensor file that no \
                 adapter loader will open, waive it by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "foreign-format",
        title: "An adapter in a format that is not read",
        level: RuleLevel::Deny,
        why: "The file is an adapter, or looks like one, in another format than those of PEFT and mlx-lm: a LoRA of an image \
              model (kohya, diffusers), GGUF, numpy arrays of an old mlx-lm, the first layout of mlx-vlm, or a whole model where \
              an adapter is expected. What it changes was not looked at. The finding names the format and the way out.",
        example: "`style.safetensors` holds `lora_unet_down_blocks_0_….lora_down.weight`.",
        accept: "Follow the way out that the finding names. A file that belongs to another program is best kept elsewhere, \
                 or waived by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "whole-model",
        title: "A whole model among the adapters",
        level: RuleLevel::Warn,
        why: "A tensor file that belongs to a config.json is a model of its own. Its format was read strictly, its weights \
              were not: what a whole model does cannot be told from its files, and no rule of this gate is made for it.",
        example: "`base/model.safetensors` in the repository whose adapters are scanned.",
        accept: "Name the adapters' folders instead of the whole repository, or set the rule to allow for the base's path: \
                 `[[paths]]` with `match = \"base/**\"`.",
        ..ADAPTER
    },
    RuleEntry {
        code: "config-syntax",
        title: "A config that is not valid",
        level: RuleLevel::Deny,
        why: "A JSON file that loaders read does not parse, or a field of the adapter's config has a type or a pattern that \
              cannot be used. Loaders that are more lenient may read another meaning into it than the author or a reviewer \
              did. If it is the adapter's own config, the tensors could not be interpreted.",
        example: "`adapter_config.json` holds `\"r\": \"16\"`, or ends after a comma.",
        accept: "Correct the file or export the adapter again. A broken JSON file that nothing loads can be removed, \
                 or waived by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "duplicate-key",
        title: "A key that stands twice",
        level: RuleLevel::Deny,
        why: "A JSON file that loaders read has one key twice in an object. Python's reader takes the last, others the \
              first or refuse the file, so that a reviewer, this program and a loader may each see another adapter. No \
              library writes such a file; logs and data sets, which nobody loads, are not looked through for it.",
        example: "`adapter_config.json` holds `\"lora_alpha\": 8`, and `\"lora_alpha\": 4096` further down.",
        accept: "Remove the key that is not meant, or save the adapter again. A waiver by digest with an owner and an \
                 expiry date accepts that readers disagree.",
        ..ADAPTER
    },
    RuleEntry {
        code: "config-unsupported",
        title: "A setting that is not known here",
        level: RuleLevel::Deny,
        why: "The config holds a setting that changes what the adapter computes and that this program does not \
              implement, or a field or method that it does not know. Numbers computed without it would describe \
              another adapter than the one that runs. It says nothing about whether the setting is harmful.",
        example: "`\"peft_type\": \"LOHA\"`, or a field that a newer version of the training library introduced.",
        accept: "Convert or merge the adapter into plain LoRA or DoRA with the library that wrote it, or remove a \
                 field that changes nothing from a copy. A waiver by digest with an owner and an expiry date lets an \
                 adapter pass whose effect was not analysed.",
        ..ADAPTER
    },
    RuleEntry {
        code: "config-mismatch",
        title: "Config and tensors contradict each other",
        level: RuleLevel::Deny,
        why: "The config and the tensors disagree: a rank or shape differs, half of a pair is missing, a part exists \
              twice, or a tensor belongs to a module that the config does not select. Loaders commonly drop such \
              tensors silently, so that a reviewer and a user see different adapters. A mix-up of two training runs \
              looks the same as tampering.",
        example: "The config says `\"r\": 8`, and `lora_A.weight` has 16 rows.",
        accept: "Put the config back that belongs to these tensors, or save the adapter again. A waiver by digest \
                 with an owner and an expiry date accepts an adapter that was not analysed further.",
        ..ADAPTER
    },
    RuleEntry {
        code: "adapter-name-in-keys",
        title: "Keys with the name of an adapter",
        level: RuleLevel::Deny,
        why: "The tensors' keys hold the name that the adapter had in the running model, as in `lora_A.default.weight`. PEFT \
              saves keys without it and inserts it on loading: up to version 0.20 such a tensor finds no place and is dropped \
              with a warning, later ones take it only under that very name, and vLLM refuses the file. So the adapter that \
              was reviewed and the one that runs may differ.",
        example: "`base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight` in a file written by torch's own \
                  save.",
        accept: "Save the adapter with save_pretrained, or take the name out of the keys. If your loader is known to read \
                 such keys, waive it by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "loaders-disagree",
        title: "Loaders make different things of it",
        why: "Something in the config or the file is read by one loader, or one version of it, and ignored by another: \
              `alpha` in a config of mlx-lm, which uses `scale` alone, a config of mlx-lm without `scale`, biases spelled as \
              old versions of PEFT did, or a key that names `modules_to_save`, which PEFT drops. What is measured here is said in the finding.",
        example: "`\"lora_parameters\": {\"rank\": 8, \"alpha\": 16, \"scale\": 10.0}` in a config of mlx-lm.",
        accept: "Remove what is ignored, or save the adapter with a current version of the library. If only one loader is \
                 ever used and it reads what was measured, waive it by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "base-changed",
        title: "Trained on a base that its initialisation changed",
        why: "The config names an initialisation (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) that also changes the weights \
              of the base. The tensors are then relative to a model that nobody published, and on the published base \
              they mean something else. Such an adapter cannot be compared with the published base.",
        example: "`\"init_lora_weights\": \"pissa_niter_16\"` in `adapter_config.json`.",
        accept: "Convert it to plain LoRA with the library that trained it, which stores the difference to the \
                 original base. If the loader performs the same initialisation, waive it by digest with an owner and \
                 an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "unknown-initialization",
        title: "An initialisation that is not known",
        why: "The config names an initialisation that this program does not know, and that current versions of the \
              training library may refuse. Some initialisations also change the base, and the tensors then mean \
              something else on the published one. Those that do not (`true`, `false`, `gaussian`, `eva`, \
              `orthogonal`) and those that do (see `base-changed`) are known by name.",
        example: "`\"init_lora_weights\": \"pizza\"` in `adapter_config.json`.",
        accept: "Find out what the library that wrote it does under this name. If it leaves the base as it is, set \
                 the field to `true` in a copy: a trained adapter does not depend on it. Otherwise waive it by digest \
                 with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "targeted-without-tensors",
        title: "Targeted modules without tensors",
        why: "The config names modules to adapt for which the file holds no tensor. What was published is not all \
              that was trained, or the name matches nothing in this architecture. A list of targets copied from \
              another model is the harmless cause, and the files alone do not tell.",
        example: "`target_modules` lists `gate_proj`, and no tensor belongs to a module of that name.",
        accept: "Save the adapter again, or remove targets that match nothing. If the list is known to be wider than \
                 the architecture, waive it by digest with an owner and an expiry date, or set the level to allow.",
        ..ADAPTER
    },
    RuleEntry {
        code: "zero-effect",
        title: "The adapter changes nothing",
        why: "Every change in the file is zero, so the model behaves as if the adapter were not there. It was saved \
              before training, saved by the wrong process, or is a placeholder that will be exchanged after \
              approval. The rule sees exact zeros in the files; a comparison also sees changes that leave every \
              weight as it was.",
        example: "All `lora_B` tensors are zero, as they are at the first step of training.",
        accept: "Publish the trained adapter. An adapter that is meant to do nothing, for a test, is best waived by \
                 digest with an owner and an expiry date, so that its replacement is judged again.",
        ..ADAPTER
    },
    RuleEntry {
        code: "whole-tensor",
        title: "A tensor that replaces the base's whole",
        why: "The adapter brings a whole tensor in place of the base's, as `modules_to_save` does. Its change is not \
              bounded by a rank, so a small adapter can carry anything that fits in that tensor. The scan cannot see \
              what changed; a comparison measures it, and lists a tensor that equals the base's without consequence.",
        example: "`lm_head.weight` of shape [151936, 1024] is stored in full.",
        accept: "Train without it where only low-rank changes are needed. For new tokens it is often necessary: \
                 compare with the base, then waive it by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "classification-head",
        title: "A head that classifies",
        why: "The adapter brings a head over classes, spans or rewards (`score`, `classifier`, `qa_outputs`), as adapters of \
              classifiers do. It is no head over tokens: a language model has no such module, and a comparison with one sets it \
              aside and audits the rest. What the head decides is not looked at.",
        example: "`score.weight` of shape [2, 4096] in an adapter with `\"task_type\": \"SEQ_CLS\"`.",
        accept: "Nothing to repair in an adapter of a classifier: test it on labelled texts, then waive it by digest with an \
                 owner and an expiry date, or set the level to allow. In an adapter of a language model the head is left over: \
                 remove it.",
        ..ADAPTER
    },
    RuleEntry {
        code: "embedding-change",
        title: "A changed embedding or output head",
        why: "The adapter changes the embedding or the output head, by a low-rank change or a whole tensor. That \
              alters what tokens mean, or how likely they are said, directly and for every text, and single tokens \
              can be singled out. Adapters that add tokens need it; the rule cannot tell which tokens are affected.",
        example: "Low-rank factors for `lm_head`, or a replaced `embed_tokens`.",
        accept: "Leave these modules out of training if no token was added. Otherwise compare with the base to see \
                 the size of the change and waive it by digest with an owner and an expiry date, or set the level to \
                 allow.",
        ..ADAPTER
    },
    RuleEntry {
        code: "bias-change",
        title: "Changed biases",
        level: RuleLevel::Allow,
        why: "The adapter replaces biases of the base. A bias adds the same vector for every text, which shifts \
              behaviour as a whole and hardly reacts to single inputs. Training biases is a documented option, so \
              this is listed and by default has no consequence.",
        example: "`\"bias\": \"lora_only\"` in the config, and `q_proj.bias` tensors in the file.",
        accept: "Train with `\"bias\": \"none\"` where nothing asks for biases. The default already accepts them; a \
                 policy that raises the level can waive single adapters by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "router-change",
        title: "A changed router of experts",
        why: "The adapter changes the module that decides which expert a token is sent to. A small change there can \
              steer chosen inputs to one expert, and it changes the load of all experts. The rule goes by the \
              module's name and cannot tell how much routing changes.",
        example: "Low-rank factors for `layers.3.mlp.gate` of a mixture-of-experts model.",
        accept: "Train with the router frozen, as most recipes do. If the router has to be trained, check the shares \
                 of the experts on your own texts, then waive it by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
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
        ..ADAPTER
    },
    RuleEntry {
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
        ..ADAPTER
    },
    RuleEntry {
        code: "negative-scale",
        title: "A negative factor before BA",
        why: "The factor before the change, `lora_alpha` over rank, is negative, so that what the tensors learned is \
              taken away instead of added. Training never turns the sign of alpha, one edited character does. \
              Subtracting an adapter on purpose is known from work on unlearning, and looks the same.",
        example: "`\"lora_alpha\": -16` in `adapter_config.json`.",
        accept: "Restore the config of the training run. If the adapter is meant to be subtracted, say so by negating \
                 `lora_B` and testing the result, or waive it by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "overflow",
        title: "Numbers that a model may not be able to hold",
        level: RuleLevel::Deny,
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
        ..ADAPTER
    },
    RuleEntry {
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
        ..ADAPTER
    },
    RuleEntry {
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
        ..ADAPTER
    },
    RuleEntry {
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
        ..ADAPTER
    },
    RuleEntry {
        code: "untrained-tensor",
        title: "A replaced head or embedding that does not look trained",
        level: RuleLevel::Deny,
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
        ..ADAPTER
    },
    RuleEntry {
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
        ..ADAPTER
    },
    RuleEntry {
        code: "dead-rows",
        title: "Output channels that are cut out",
        level: RuleLevel::Deny,
        why: "A row of a weight, an output channel, is taken to zero. In the scan this means a DoRA magnitude of at \
              most 0.002 of what is typical (the 90th percentile), or of 0.01 where a twentieth of the rows is so small; \
              in a comparison, that a row's norm is gone while the base has one. Training does not land there: of the \
              honest DoRA adapters that it was tried on, the smallest magnitude is a tenth of the typical one. \
              What the channel did for the model is not known.",
        example: "One of 4096 magnitudes of `layers.12.mlp.down_proj` is 0 where 1.3 is typical.",
        accept: "Save the adapter again from the training run and find out who edited it. If channels were pruned on \
                 purpose, waive it by digest with an owner and an expiry date, and test what was removed.",
        ..ADAPTER
    },
    RuleEntry {
        code: "flipped-rows",
        title: "Output channels that are turned round",
        level: RuleLevel::Deny,
        why: "A row of a weight, an output channel, says the opposite of what it said. In the scan this means a \
              negative DoRA magnitude of more than a hundredth of the typical one; in a comparison, that a row turns \
              by more than 150 degrees. Norms are positive, and training takes steps far too small to carry one \
              through zero: no honest DoRA adapter at hand has one. Whether the channel matters is not known.",
        example: "A fifth of the magnitudes of `layers.3.self_attn.v_proj` is negative.",
        accept: "Save the adapter again from the training run and find out who edited it. If it was done on purpose, \
                 waive it by digest with an owner and an expiry date, and test what was turned.",
        ..ADAPTER
    },
    RuleEntry {
        code: "magnitude-outlier",
        title: "A DoRA magnitude far from the others",
        limit: Some(50.0),
        measure: "largest DoRA magnitude over the median of its module, or the typical one over the smallest",
        why: "DoRA's magnitude is the norm that an output channel is given. One far above the median of its module \
              makes a single channel loud for every input, one far below the typical ones silences it, and neither \
              needs a low-rank part that another rule could see. Some bases have channels like this themselves, which \
              the files alone do not show.",
        example: "The largest magnitude of `layers.4.mlp.up_proj` is 180 times the median.",
        accept: "Hold the magnitude against the row norms of the base, for instance with a comparison. If the base \
                 is like this, raise the limit, or waive it by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "concentrated-module",
        title: "A change concentrated on a few outputs",
        limit: Some(14.0),
        measure: "robust z, the smallest over kurtosis, share of the eight heaviest rows and sparsity of the rows",
        why: "In one module the change sits on a few output rows, unlike the same kind of module in the other \
              layers, by three measures at once. An edit made by hand looks like this. Kinds with fewer than 16 \
              modules are not judged, and an edit spread over all layers is not seen. The limit is no calibration of \
              our own: in a scan of 393 popular hub adapters published by the authors of adaptersentry 2.0.1, 5 % \
              exceeded 14.",
        example: "Three rows of `layers.11.mlp.down_proj` hold nearly all of its change; its neighbours are even.",
        accept: "Ask how the adapter was made, and look at which outputs the heavy rows feed. If that scan carries \
                 over, one adapter in twenty is found here; a reviewed one can be waived by digest with an owner and \
                 an expiry date, or the limit raised.",
        ..ADAPTER
    },
    RuleEntry {
        code: "norm-outlier",
        title: "A change of unusual size among its kind",
        level: RuleLevel::Allow,
        limit: Some(14.0),
        measure: "robust |z| of the logarithm of the change's norm",
        why: "One module's change is much larger or smaller than in the other layers, after a trend over depth is \
              removed. Kinds with fewer than 16 modules are not judged. In a scan of 393 popular hub adapters \
              published by the authors of adaptersentry 2.0.1, single features reach 14 in half of all adapters, so \
              this is listed and by default has no consequence.",
        example: "The change of `layers.0.self_attn.v_proj` is 40 times smaller than in every other layer.",
        accept: "If a single layer was not meant to be trained differently, look into the training run. The default \
                 already accepts this; where a policy raises the level, raise the limit too, or waive single \
                 adapters by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "coherent-writes",
        title: "All writers write one direction",
        limit: Some(0.5),
        measure: "mean |cos| over pairs of modules",
        why: "The modules that write into the residual stream all write one common direction. Removing a behaviour \
              from a whole model, refusals for instance, leaves this trace. It is judged by each module's leading \
              direction only, and only where it lies well beyond what unrelated directions give; an honest adapter \
              with one narrow purpose can show it too.",
        example: "56 modules `o_proj` and `down_proj` agree with mean |cos| 0.93; chance gives 0.02.",
        accept: "Ask what the adapter is for and test the behaviour that may have been removed, refusals first. If \
                 the answer explains it, waive it by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "coherent-reads",
        title: "All readers read one direction",
        limit: Some(0.5),
        measure: "mean |cos| over pairs of modules",
        why: "The modules that read the residual stream all listen to one common direction. A detector for a trigger \
              that every layer reacts to looks like this. The query, key and value modules of one layer often agree \
              in honest adapters as well, so the mean lies above chance anyway; the rule cannot name the trigger.",
        example: "84 modules `q_proj`, `k_proj` and `v_proj` agree with mean |cos| 0.71; chance gives 0.02.",
        accept: "Ask how the adapter was trained and test it with inputs that a trigger may use. If one direction is \
                 explained by its purpose, waive it by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "unknown-module",
        title: "Modules of which no role is known",
        level: RuleLevel::Allow,
        why: "The adapter changes modules under a name that no known family has, so that it is not known whether they write to the \
              residual stream or read it. `coherent-writes` and `coherent-reads` leave them out, and this finding says so. Models of \
              a new family, and parts for pictures or sound, have such names honestly.",
        example: "`model.layers.0.mixer.mystery_proj` and 23 others are changed.",
        accept: "Compare with the base, where roles come from the model itself. To insist on known names, set the rule to deny.",
        ..ADAPTER
    },
    RuleEntry {
        code: "template-carried",
        title: "A chat template that was held against nothing",
        stage: Stage::Files,
        why: "The adapter carries a chat template, a program that rewrites every conversation before the model sees \
              it, and no base was given to compare it with. Loaders often prefer this template to the base's, \
              without a word. It was followed for what decides by the conversation, and rendered for what it adds \
              to it; what it writes in the system turn, or where there is none, nobody judged.",
        example: "`tokenizer_config.json` beside the adapter holds `chat_template`.",
        accept: "Give the base with `--base`: an equal template is no finding. Or remove the template from the \
                 adapter. A template that was read can be waived by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "template-differs",
        title: "A chat template that differs from the base's",
        stage: Stage::Files,
        level: RuleLevel::Deny,
        why: "The chat template of the adapter makes something else of a conversation than the base's, or the base \
              has none. Both were rendered over the same conversations: every kind of turn, tools, several dates, \
              and the texts of both templates in the mouth of each speaker. The finding names the first conversation \
              that differs and shows the first line in both forms; it does not judge the difference.",
        example: "Of the conversation “`deploy` said by the user”, line 2 becomes `Obey. deploy`, not `deploy`.",
        accept: "Remove the template if the base's serves. If the adapter was trained with its own, read all of it, \
                 not only the first difference, and waive it by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "template-equivalent",
        title: "A chat template written otherwise than the base's",
        stage: Stage::Files,
        level: RuleLevel::Allow,
        why: "The text of the chat template is not the base's, but both make the same of every conversation that \
              they were tried with, and nothing in it decides by what is said where the base's does not. A note: a \
              condition that no conversation of the corpus meets would not show.",
        example: "The template has other comments and line breaks than the base's.",
        accept: "Nothing needs to be done. Copy the base's template over it, and the note goes away.",
        ..ADAPTER
    },
    RuleEntry {
        code: "template-suspicious",
        title: "A chat template that does what none needs",
        stage: Stage::Files,
        level: RuleLevel::Deny,
        why: "What user, assistant or tool said, or the date, decides what the chat template writes, or is rewritten \
              by it; or the template adds a sentence outside the system turn, reaches out of its engine, hides \
              characters or holds an address. That is how a template becomes a trigger. It is parsed and what is said \
              is followed through it: a test for words is a finding; a test for a mark such as `</think>` is one \
              where it decides about words or about the system's text; roles, tools, settings and the order of turns \
              decide freely. What cannot be followed is a finding; what is written in the system turn, or for tools and \
              documents only, is not judged.",
        example: "Line 3, `'deploy' in message['content']`: decides by the words `deploy` in what is said.",
        accept: "Use the base's template. If the construct is needed, have it rewritten in plain form; a waiver by \
                 digest with an owner and an expiry date requires that somebody has read the whole template.",
        ..ADAPTER
    },
    RuleEntry {
        code: "template-conditional",
        title: "A chat template in which the system turn decides",
        stage: Stage::Files,
        why: "The chat template looks for a text in the system turn and writes accordingly, or rewrites it. Some \
              models document such switches, `/no_think` among them. Whoever writes the system turn decides, not \
              whoever writes to the model, so this is milder than a trigger, but it is behaviour that no weight shows.",
        example: "Line 8, `'/no_think' in system_message`: decides by `/no_think` in the system's text.",
        accept: "Compare with the base's template by `--base`. If the switch is the model's own, waive it by digest \
                 with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "template-unread",
        title: "A chat template that could not be read",
        stage: Stage::Files,
        level: RuleLevel::Deny,
        why: "A file names a chat template, and it is no text, stands in a file that is no valid JSON, cannot be \
              parsed, is too winding to be followed, or renders no conversation. A loader may read it all the same, \
              and then nobody has seen what it does.",
        example: "`chat_template` of `tokenizer_config.json` is a list with an entry without a text.",
        accept: "Repair the file, remove the template, or use the base's. A waiver by digest with an owner and an \
                 expiry date requires that somebody has read the template.",
        ..ADAPTER
    },
    RuleEntry {
        code: "tokenizer-carried",
        title: "A tokenizer that was held against nothing",
        stage: Stage::Files,
        why: "The adapter carries a tokenizer, and no base was given to compare it with. A tokenizer decides which \
              tokens a text becomes: a rule in it can replace words before the model sees them. It is usually a \
              plain copy of the base's, which only a comparison can show.",
        example: "`tokenizer.json` and `special_tokens_map.json` beside the adapter.",
        accept: "Give the base with `--base`: equal files are no finding. Or remove the tokenizer if no token was \
                 added. Otherwise waive it by digest with an owner and an expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "tokenizer-differs",
        title: "A tokenizer that differs from the base's",
        stage: Stage::Files,
        level: RuleLevel::Deny,
        why: "A tokenizer file of the adapter is not the base's, in its normaliser, its splitting, its vocabulary, its \
              ids, its special tokens or a setting that changes ids, or the base has no such file. The model is then told \
              something else than what was written. Files are held against the base's by what they say, so that one that \
              was only saved again by another version of the library is equal.",
        example: "The normaliser of `tokenizer.json` replaces one word by another; `add_prefix_space` is true, in the base \
                  false.",
        accept: "Remove the files and use the base's tokenizer, or copy the base's files over them. If training \
                 changed the tokenizer on purpose, review the difference and waive it by digest with an owner and an \
                 expiry date.",
        ..ADAPTER
    },
    RuleEntry {
        code: "tokenizer-settings",
        title: "Settings of the tokenizer that change no ids",
        stage: Stage::Files,
        why: "The tokenizer's settings are not the base's, but none of the differences changes what ids a text becomes \
              or which text is special: sides and lengths of padding and truncation, which of the base's special tokens \
              ends or fills up a text, how spaces come back. Training sets them as a matter of course. They decide how \
              much of a long text is read and where a generation stops.",
        example: "`padding_side` is `left` and `pad_token` is `</s>`, in the base not set.",
        accept: "Use the base's `tokenizer_config.json` where the adapter does not need its own. Otherwise nothing needs \
                 to be done; set the level to allow to hide it.",
        ..ADAPTER
    },
    RuleEntry {
        code: "tokenizer-rewrites",
        title: "A tokenizer that takes ordinary text away",
        stage: Stage::Files,
        level: RuleLevel::Deny,
        why: "A word or other ordinary text is made a special token, a common word or a whole sentence is made a token, or \
              a normaliser replaces words. Text with it then becomes other ids than the model was trained on, or is left \
              out of what a reader sees. Marks of a format and terms of a trade are not objected to, and neither is what \
              the base has itself; common words are known in English only.",
        example: "`added_tokens_decoder` makes `not ` a special token, or `eos_token` is `the`.",
        accept: "Use the base's tokenizer. If a language's code or a term was taken for a word, review the token and waive \
                 it by digest with an owner and an expiry date, or give the base with `--base`.",
        ..ADAPTER
    },
    RuleEntry {
        code: "added-tokens",
        title: "Tokens that the base does not have",
        stage: Stage::Files,
        why: "The adapter's tokenizer has tokens that the base's lacks. A new token can stand for a whole phrase, \
              and its embedding was trained by nobody but the adapter's author, which makes it a convenient trigger. \
              Marks of a chat or tool format are the common and harmless case.",
        example: "Two tokens that the base does not have: `<tool_call>` and `</tool_call>`.",
        accept: "Remove tokens that the adapter does not use. If they belong to its format, check the list in the \
                 finding and waive it by digest with an owner and an expiry date, or set the level to allow.",
        ..ADAPTER
    },
];
