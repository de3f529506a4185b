//! Configs that import code, do not parse, contradict the tensors, or take long to understand.

use serde_json::json;

use super::hostile_case::HostileCase;
use super::making::{
    CONFIG, QUERY, RANK, TENSORS, WIDTH, beside, configured, layered, noise, path, raw, repeated, setting, sound, write,
};

pub(crate) fn code() -> Vec<HostileCase> {
    vec![
        HostileCase::new("auto-map", &["remote-code"], |at| {
            beside(at, "config.json", r#"{"auto_map": {"AutoModel": "modeling_evil.Model"}}"#);
        }),
        HostileCase::new("auto-map-deep", &["remote-code"], |at| {
            let deep = format!("{}{{\"auto_map\": \"a--b.C\"}}{}", "[".repeat(100), "]".repeat(100));
            beside(at, "generation_config.json", deep);
        }),
        HostileCase::new("auto-map-escaped", &["remote-code"], |at| {
            beside(at, "tokenizer_config.json", r#"{"auto\u005fmap": {"AutoTokenizer": ["t.T", null]}}"#);
        }),
        HostileCase::new("auto-map-escaped-in-a-long-file", &["remote-code"], |at| {
            sound().write(at);
            let start = br#"{"auto\u005fmap": {"AutoTokenizer": ["t.T", null]}, "pad": ["#;
            repeated(at, "config.json", [start, b"\"padding\",", b"0]}"], 500_000);
        }),
        HostileCase::new("trust", &["remote-code"], |at| beside(at, "config.json", r#"{"trust_remote_code": true}"#)),
        HostileCase::new("parent-library", &["remote-code"], |at| {
            setting(at, "auto_mapping", json!({ "base_model_class": "M", "parent_library": "evil.module" }));
        }),
        HostileCase::new("hydra-target", &["remote-code"], |at| {
            beside(at, "scheduler.json", r#"{"_target_": "os.system", "command": "id"}"#);
        }),
        HostileCase::new("generation-fetched", &["remote-code"], |at| {
            beside(at, "generation_config.json", r#"{"custom_generate": "owner/sampler"}"#);
        }),
        HostileCase::new("kernel-fetched", &["remote-code"], |at| {
            beside(at, "config.json", r#"{"text_config": {"_attn_implementation": "owner/kernel"}}"#);
        }),
        HostileCase::new("encoder-of-a-module", &["remote-code"], |at| {
            beside(at, "modules.json", r#"[{"idx": 0, "name": "0", "path": "", "type": "encoder.Encoder"}]"#);
        }),
        HostileCase::new("pickled-in-json", &["remote-code"], |at| {
            beside(at, "data.json", r#"{"policy": {":serialized:": "gASVAAAA"}}"#);
        }),
        HostileCase::new("hydra-target-in-yaml", &["remote-code"], |at| {
            beside(at, "run.yaml", "a:\n  - {\"\\x5ftarget_\": os.system, command: id}\n");
        }),
        HostileCase::new("object-in-yaml", &["remote-code"], |at| {
            beside(at, "x.yml", "%TAG !p! tag:yaml.org,2002:python/\n---\nx: !p!object/apply:os.system [id]\n");
        }),
        HostileCase::new("object-in-broken-yaml", &["remote-code"], |at| {
            beside(at, "x.yml", "a: [1\nx: !!python/object/apply:os.system [id]\n");
        }),
        HostileCase::new("training-settings-in-yaml", &[], |at| {
            beside(at, "axolotl.yaml", "base_model: m\ntrust_remote_code: true\nlora_r: 8\n");
        })
        .without(&["remote-code", "unknown-file"]),
        HostileCase::new("yaml-of-a-megabyte", &[], |at| {
            sound().write(at);
            repeated(at, "deep.yaml", [b"", b"- ", b"1"], 500_000);
            repeated(at, "flow.yaml", [b"", b"[", b""], 1_000_000);
            repeated(at, "keys.yml", [b"", b"? ", b"1"], 500_000);
            repeated(at, "anchors.yml", [b"", b"- &a [*a, *a]\n", b""], 70_000);
        }),
    ]
}

/// One key twice, in the settings that loaders read.
pub(crate) fn twice() -> Vec<HostileCase> {
    vec![
        HostileCase::new("alpha-twice", &["duplicate-key"], |at| {
            sound().write(at);
            let text = sound().config.to_string();
            write(at, CONFIG, format!("{},\"lora\\u005falpha\":4096}}", text.trim_end_matches('}')));
        }),
        HostileCase::new("tokens-twice", &["duplicate-key"], |at| {
            beside(at, "tokenizer.json", r#"{"added_tokens": [{"id": 1, "content": "a", "content": "b"}]}"#);
        }),
        HostileCase::new("shards-twice", &["duplicate-key"], |at| {
            beside(at, "model.safetensors.index.json", r#"{"weight_map": {"a": "x", "a": "y"}}"#);
        }),
        HostileCase::new("keys-of-a-megabyte", &["duplicate-key"], |at| {
            sound().write(at);
            repeated(at, "config.json", [b"{", b"\"a\":{\"b\":0},", b"\"a\":0}"], 80_000);
        }),
        HostileCase::new("notes-twice", &["header-syntax"], |at| {
            sound().write(at);
            raw(at, r#"{"__metadata__": {"format": "pt", "format": "np"}}"#, &[]);
        }),
        HostileCase::new("log-with-names-of-numbers", &[], |at| {
            beside(at, "trainer_state.json", r#"{"log_history": [{"loss": NaN, "loss": Infinity}]}"#);
        })
        .without(&["config-syntax", "duplicate-key", "unknown-file"]),
        HostileCase::new("rows-in-json", &[], |at| beside(at, "train.json", "{\"a\": 1}\n{\"a\": 2}\n"))
            .without(&["config-syntax", "unknown-file"]),
    ]
}

pub(crate) fn syntax() -> Vec<HostileCase> {
    vec![
        HostileCase::new("config-not-json", &["config-syntax"], |at| {
            sound().write(at);
            write(at, CONFIG, "{\"peft_type\": ");
        }),
        HostileCase::new("config-a-list", &["config-syntax"], |at| {
            sound().write(at);
            write(at, CONFIG, "[]");
        }),
        HostileCase::new("config-empty", &["config-syntax"], |at| {
            sound().write(at);
            write(at, CONFIG, "");
        }),
        HostileCase::new("config-nested", &["config-syntax"], |at| {
            sound().write(at);
            let deep = "[".repeat(100_000);
            write(at, CONFIG, format!("{{\"r\": {deep}{}}}", "]".repeat(100_000)));
        }),
        HostileCase::new("config-nested-without-end", &["config-syntax"], |at| {
            sound().write(at);
            repeated(at, "config.json", [b"", b"{\"a\":", b""], 2_000_000);
        }),
        HostileCase::new("alpha-beyond-all", &["config-syntax"], |at| {
            sound().write(at);
            let text = sound().config.to_string();
            write(at, CONFIG, text.replace("\"lora_alpha\":8", "\"lora_alpha\":1e400"));
        }),
        HostileCase::new("alpha-no-number", &["config-syntax"], |at| {
            sound().write(at);
            let text = sound().config.to_string();
            write(at, CONFIG, text.replace("\"lora_alpha\":8", "\"lora_alpha\":NaN"));
        }),
        HostileCase::new("alpha-negative-and-large", &["scale"], |at| setting(at, "lora_alpha", json!(-1e9))),
        HostileCase::new("rank-of-none", &["config-syntax"], |at| setting(at, "r", json!(0))),
        HostileCase::new("rank-beyond-all", &["config-mismatch"], |at| setting(at, "r", json!(u64::MAX))),
        HostileCase::new("pattern-of-a-size", &["beyond-limits"], |at| {
            setting(at, "target_modules", json!("((a{1,1000}){1,1000}){1,1000}"));
        }),
        HostileCase::new("pattern-does-not-compile", &["config-syntax"], |at| {
            setting(at, "target_modules", json!("a)|(b"));
        }),
        HostileCase::new("config-of-100-mb", &["beyond-limits"], |at| {
            sound().write(at);
            repeated(at, CONFIG, [b"{", &[b' '; 1 << 20], b"}"], 100);
        }),
        HostileCase::new("config-of-spaces", &["config-syntax"], |at| {
            sound().write(at);
            repeated(at, CONFIG, [b"{", &[b' '; 1 << 20], b"}"], 20);
        }),
        HostileCase::new("config-beside-of-60-mb", &[], |at| {
            sound().write(at);
            repeated(at, "config.json", [b"[", &b"0, ".repeat(1 << 18), b"0]"], 80);
        }),
    ]
}

#[expect(clippy::too_many_lines, reason = "a list reads best whole")]
pub(crate) fn meaning() -> Vec<HostileCase> {
    vec![
        HostileCase::new("rank-mismatch", &["config-mismatch"], |at| setting(at, "r", json!(8))),
        HostileCase::new("alpha-beyond-the-numbers", &["scale", "overflow"], |at| {
            setting(at, "lora_alpha", json!(1e39));
        }),
        HostileCase::new("base-of-another-name", &["base-name-mismatch"], |at| {
            setting(at, "base_model_name_or_path", json!("somebody/Other-7B"));
        })
        .against(|at| write(at, "config.json", json!({ "_name_or_path": "somebody/This-4B" }).to_string())),
        HostileCase::new("revision-of-a-pull-request", &["base-revision"], |at| {
            setting(at, "revision", json!("refs/pr/3"));
        }),
        HostileCase::new("alpha-negative", &["negative-scale"], |at| setting(at, "lora_alpha", json!(-8))),
        HostileCase::new("initialisation-unknown", &["unknown-initialization"], |at| {
            setting(at, "init_lora_weights", json!("pizza\u{1b}[2J"));
        }),
        HostileCase::new("alpha-large", &["scale"], |at| setting(at, "lora_alpha", json!(1e9))),
        HostileCase::new("unknown-setting", &["config-unsupported"], |at| setting(at, "use_twist", json!(true))),
        HostileCase::new("unknown-setting-with-escapes", &["config-unsupported"], |at| {
            setting(at, "\u{1b}[2Jx", json!("\u{1b}]0;\u{7}"));
        }),
        HostileCase::new("another-method", &["config-unsupported"], |at| setting(at, "peft_type", json!("IA3"))),
        HostileCase::new("layers-replicated", &["config-unsupported"], |at| {
            setting(at, "layer_replication", json!([[0, 1], [0, 1]]));
        }),
        HostileCase::new("pattern-that-backtracks", &[], |at| setting(at, "target_modules", json!("(a+)+$"))),
        HostileCase::new("rank-pattern-that-backtracks", &["beyond-limits"], |at| {
            let mut made = sound();
            made.config["rank_pattern"] = json!({ "(a+)+b(?=x)": 8 });
            for side in ["A", "B"] {
                let shape = if side == "A" { [RANK, WIDTH] } else { [WIDTH, RANK] };
                let name = format!("base_model.model.{}.q_proj.lora_{side}.weight", "a".repeat(5_000));
                made.set(&name, &shape, noise(7, RANK * WIDTH));
            }
            made.write(at);
        }),
        HostileCase::new("no-config", &["no-adapter"], |at| {
            sound().write(at);
            fs_err::remove_file(at.join(CONFIG)).expect("removed");
        }),
        HostileCase::new("no-tensor-file", &["no-adapter"], |at| write(at, CONFIG, sound().config.to_string())),
        HostileCase::new("half-a-pair", &["config-mismatch"], |at| {
            let mut made = sound();
            made.tensors.remove(&format!("{QUERY}.lora_B.weight"));
            made.write(at);
        }),
        HostileCase::new("factors-that-do-not-fit", &["config-mismatch"], |at| {
            let mut made = sound();
            made.set(&format!("{QUERY}.lora_B.weight"), &[WIDTH, 3], noise(1, 3 * WIDTH));
            made.write(at);
        }),
        HostileCase::new("magnitude-nobody-announced", &["config-mismatch"], |at| {
            let mut made = sound();
            made.set(&format!("{QUERY}.lora_magnitude_vector"), &[WIDTH], vec![1.0; WIDTH]);
            made.write(at);
        }),
        HostileCase::new("tensor-without-a-place", &["config-mismatch"], |at| {
            let mut made = sound();
            made.set("backdoor", &[2], [1.0, 2.0]);
            made.write(at);
        }),
        HostileCase::new("target-without-tensors", &["targeted-without-tensors"], |at| {
            setting(at, "target_modules", json!(["q_proj", "v_proj", "o_proj\u{1b}[2J"]));
        }),
        HostileCase::new("head-saved-whole", &["whole-tensor", "embedding-change"], |at| {
            let mut made = sound();
            made.config["modules_to_save"] = json!(["lm_head"]);
            made.set("base_model.model.lm_head.weight", &[97, WIDTH], noise(5, 97 * WIDTH));
            made.write(at);
        }),
        HostileCase::new("head-nobody-announced", &["whole-tensor", "embedding-change"], |at| {
            let mut made = sound();
            made.set("base_model.model.lm_head.weight", &[97, WIDTH], noise(5, 97 * WIDTH));
            made.write(at);
        }),
        HostileCase::new("head-of-a-classifier", &["classification-head"], |at| {
            let mut made = sound();
            made.config["task_type"] = json!("SEQ_CLS");
            made.config["modules_to_save"] = json!(["classifier", "score"]);
            made.set("base_model.model.score.weight", &[2, WIDTH], noise(5, 2 * WIDTH));
            made.write(at);
        }),
        HostileCase::new("names-of-an-adapter-in-keys", &["adapter-name-in-keys"], |at| {
            let mut made = sound();
            let named = |key: String| key.replace(".weight", ".default.weight");
            made.tensors = made.tensors.into_iter().map(|(key, stored)| (named(key), stored)).collect();
            made.write(at);
        }),
        HostileCase::new("image-model-in-kohyas-naming", &["foreign-format"], |at| {
            let mut made = sound();
            made.tensors.clear();
            let module = "lora_unet_down_blocks_0_attentions_0_proj_in";
            made.set(&format!("{module}.lora_down.weight"), &[RANK, WIDTH], noise(1, RANK * WIDTH));
            made.set(&format!("{module}.lora_up.weight"), &[WIDTH, RANK], noise(2, RANK * WIDTH));
            fs_err::create_dir_all(at).expect("created");
            crate::support::write_tensors(at.join("style.safetensors"), &made.tensors);
        }),
        HostileCase::new("alpha-that-mlx-lm-ignores", &["loaders-disagree"], |at| {
            let mlx = json!({
                "fine_tune_type": "lora", "num_layers": 1,
                "lora_parameters": { "rank": RANK, "scale": 2.0, "alpha": 16, "dropout": 0.0 },
            });
            write(at, CONFIG, mlx.to_string());
            let mut made = sound();
            made.tensors.clear();
            made.set("model.layers.0.self_attn.q_proj.lora_a", &[WIDTH, RANK], noise(1, WIDTH * RANK));
            made.set("model.layers.0.self_attn.q_proj.lora_b", &[RANK, WIDTH], noise(2, WIDTH * RANK));
            crate::support::write_tensors(at.join("adapters.safetensors"), &made.tensors);
        }),
        HostileCase::new("embedding", &["embedding-change"], |at| {
            let mut made = sound();
            made.config["target_modules"] = json!(["q_proj", "v_proj", "embed_tokens"]);
            let name = |side: &str| format!("base_model.model.model.embed_tokens.lora_embedding_{side}");
            made.set(&name("A"), &[RANK, 97], noise(5, RANK * 97));
            made.set(&name("B"), &[WIDTH, RANK], noise(6, RANK * WIDTH));
            made.write(at);
        }),
        HostileCase::new("biases", &["bias-change"], |at| {
            let mut made = sound();
            made.config["bias"] = json!("all");
            made.set("base_model.model.model.layers.0.mlp.up_proj.bias", &[WIDTH], noise(5, WIDTH));
            made.write(at);
        }),
        HostileCase::new("router", &["router-change"], |at| layered(2, &["mlp.gate"], RANK).write(at)),
        HostileCase::new("zero-effect", &["zero-effect"], |at| {
            let mut made = sound();
            let ups: Vec<String> = made.tensors.keys().filter(|name| name.contains("lora_B")).cloned().collect();
            ups.iter().for_each(|name| made.set(name, &[WIDTH, RANK], vec![0.0; WIDTH * RANK]));
            made.write(at);
        }),
        HostileCase::new("base-changed", &["base-changed"], |at| {
            setting(at, "init_lora_weights", json!("pissa_niter_16"));
        }),
        HostileCase::new("rank-of-300", &["rank"], |at| layered(2, &["self_attn.q_proj"], 300).write(at)),
        HostileCase::new("both-layouts", &["unanalysed-tensor"], |at| {
            // The config is MLX's, so that the tensors of the other layout are what nobody looks at.
            let mlx = json!({
                "fine_tune_type": "lora", "num_layers": 1,
                "lora_parameters": { "rank": 4, "scale": 2.0, "dropout": 0.0, "keys": ["self_attn.q_proj"] },
            });
            write(at, CONFIG, mlx.to_string());
            let mut made = sound();
            made.tensors.clear();
            made.set("model.layers.0.self_attn.q_proj.lora_a", &[WIDTH, RANK], noise(1, WIDTH * RANK));
            made.set("model.layers.0.self_attn.q_proj.lora_b", &[RANK, WIDTH], noise(2, WIDTH * RANK));
            crate::support::write_tensors(at.join("adapters.safetensors"), &made.tensors);
            crate::support::write_tensors(at.join(TENSORS), &sound().tensors);
        }),
        HostileCase::new("tensors-that-no-config-names", &["unanalysed-tensor"], |at| {
            let mut made = sound();
            made.write(at);
            made.set("base_model.model.lm_head.weight", &[97, WIDTH], noise(5, 97 * WIDTH));
            crate::support::write_tensors(at.join("adapter_model-00002-of-00002.safetensors"), &made.tensors);
        }),
        HostileCase::new("module-of-a-long-name", &["scale"], |at| {
            configured(at, |config| config["lora_alpha"] = json!(1e6));
            let mut made = sound();
            made.config["lora_alpha"] = json!(1e6);
            let module = path(0, &format!("{}.q_proj", "x".repeat(1 << 20)));
            made.set(&format!("{module}.lora_A.weight"), &[RANK, WIDTH], noise(8, RANK * WIDTH));
            made.set(&format!("{module}.lora_B.weight"), &[WIDTH, RANK], noise(9, RANK * WIDTH));
            made.write(at);
        }),
    ]
}
