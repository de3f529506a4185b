use super::*;

fn searched_as(name: &str, text: &str) -> Vec<Observation> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
    let mut found = Vec::new();
    observe(name, file.path(), &Limits::default(), &mut found);
    found
}

fn searched(text: &str) -> Vec<Observation> {
    searched_as("config.json", text)
}

fn checks(name: &str, text: &str) -> Vec<Check> {
    searched_as(name, text).into_iter().map(|found| found.check).collect()
}

#[test]
fn code_is_found_wherever_it_hides_and_absence_is_not() {
    let found = searched(
        r#"{"a": [{"auto_map": {"AutoModel": "modeling.Evil"}}], "trust_remote_code": false, "auto_map": null}"#,
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].place, "a[].auto_map");
    assert!(found[0].message.contains("modeling.Evil"));
}

#[test]
fn a_key_is_found_however_it_is_written() {
    assert_eq!(searched(r#"{"auto\u005fmap": "x.Y"}"#).len(), 1);
    assert_eq!(searched(r#"{"auto_mapping": {"parent_library": "evil"}}"#).len(), 1);
    assert_eq!(searched(r#"{"parent_library": ["evil"]}"#).len(), 1);
    assert_eq!(searched(r#"{"parent_library": 1}"#).len(), 1);
    for library in ["\"transformers.models.gpt2\"", "null", "\"__main__\"", "\"torch.nn.modules.container\""] {
        assert!(searched(&format!(r#"{{"auto_mapping": {{"parent_library": {library}}}}}"#)).is_empty(), "{library}");
    }
    assert_eq!(searched(r#"{"parent_library": "transformers_modules.evil.modeling"}"#).len(), 1);
}

#[test]
fn kernels_modules_functions_and_objects_are_code() {
    for (name, text) in [
        ("generation_config.json", r#"{"custom_generate": "owner/sampler"}"#),
        ("config.json", r#"{"_attn_implementation": "owner/kernel"}"#),
        ("config.json", r#"{"text_config": {"attn_implementation": "owner/kernel@v1:forward"}}"#),
        ("config.json", r#"{"_attn_implementation": {"text_config": "sdpa", "vision_config": "owner/kernel"}}"#),
        ("config.json", r#"{"_experts_implementation": "owner/experts"}"#),
        ("modules.json", r#"[{"idx": 0, "name": "0", "path": "", "type": "custom_encoder.Encoder"}]"#),
        ("modules.json", r#"[{"type": "sentence_transformers.models.Pooling"}, {"type": "os.system"}]"#),
        ("modules.json", r#"[{"type": "sentence_transformers_x.models.Pooling"}]"#),
        ("2_Dense/config.json", r#"{"in_features": 2, "activation_function": "os.getcwd"}"#),
        ("any.json", r#"{"a": {"py/reduce": [{"py/type": "os.system"}]}}"#),
        ("config.json", r#"{"policy": {":serialized:": "gASV"}}"#),
        ("config.json", r#"{"note": ["__import__('os').system('id')"]}"#),
        ("scheduler.json", r#"{"_target_": "os.system"}"#),
    ] {
        assert_eq!(checks(name, text), [Check::RemoteCode], "{text}");
    }
    for (name, text) in [
        ("generation_config.json", r#"{"custom_generate": null, "do_sample": true}"#),
        ("config.json", r#"{"_attn_implementation": "flash_attention_2", "_attn_implementation_autoset": true}"#),
        (
            "config.json",
            r#"{"attn_implementation": {"": "sdpa"}, "activation_function": "gelu_new", "hidden_act": "silu"}"#,
        ),
        (
            "modules.json",
            r#"[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]"#,
        ),
        ("2_Dense/config.json", r#"{"activation_function": "torch.nn.modules.activation.Tanh"}"#),
        ("config.json", r#"{"architectures": ["LlamaForCausalLM"], "type": "custom.Encoder"}"#),
        ("tokenizer.json", r#"{"model": {"vocab": {"eval(": 1, "__import__": 2, "auto_map": 3}}}"#),
        ("tokenizer_config.json", r#"{"chat_template": "{{ 'use eval(x) and os.system' }}"}"#),
        ("training_args.json", r#"{"trust_remote_code": true}"#),
        ("data.json", r#"[{"text": "import os; os.system('id'); eval(x)"}]"#),
    ] {
        let found: Vec<Check> = checks(name, text);
        // A vocabulary may hold any piece, and a number behind it asks for nothing that a loader acts on.
        let allowed = name == "tokenizer.json" && found == [Check::RemoteCode];
        assert!(found.is_empty() || allowed, "{text}: {found:?}");
    }
}

#[test]
fn keys_that_stand_twice_are_found_at_every_depth_of_what_loaders_read() {
    let text = r#"{"r": 8, "a": [{"b": 1, "c": {"x": 1, "x": 1}}], "lora_alpha": 8, "lora\u005falpha": 4096}"#;
    for name in [
        "adapter_config.json",
        "sub/adapter_config.json",
        "tokenizer_config.json",
        "tokenizer.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "generation_config.json",
        "config.json",
        "chat_template.json",
        "processor_config.json",
        "preprocessor_config.json",
        "model.safetensors.index.json",
        "vocab.json",
    ] {
        let found = searched_as(name, text);
        let places: Vec<&str> = found.iter().map(|found| found.place.as_str()).collect();
        assert_eq!(places, ["a[].c.x", "lora_alpha"], "{name}");
        assert!(found.iter().all(|found| found.check == Check::DuplicateKey));
    }
    for name in ["trainer_state.json", "all_results.json", "run.json", "dataset.json", "training_config.json"] {
        assert!(searched_as(name, text).is_empty(), "{name}");
    }
}

#[test]
fn many_keys_are_remembered_and_the_same_key_in_two_objects_is_no_duplicate() {
    let keys: Vec<String> = (0..100_000).map(|key| format!("\"k{key}\":0")).collect();
    let vocabulary = keys.join(",");
    assert!(searched(&format!("{{{vocabulary}}}")).is_empty());
    let found = searched(&format!("{{{vocabulary},\"k77777\":1}}"));
    assert_eq!(found.iter().map(|found| found.place.as_str()).collect::<Vec<_>>(), ["k77777"]);
    assert!(searched(r#"[{"a": 1}, {"a": 2, "b": {"a": 3}}]"#).is_empty());
}

#[test]
fn what_is_no_json_is_said() {
    for text in ["", "{", "[1,]", "{} {}", &"[".repeat(100_000)] {
        assert_eq!(searched(text).first().map(|found| found.check), Some(Check::ConfigSyntax), "{text:.20}");
    }
}

#[test]
fn adapters_settings_must_be_json_to_every_reader() {
    for text in [
        "\u{feff}{\"r\": 8}",
        "{\"r\": 8} // eight",
        "{/* eight */ \"r\": 8}",
        "{\"lora_alpha\": NaN}",
        "{\"lora_alpha\": -Infinity}",
        "{\"base\": \"\\ud800\"}",
        "{'r': 8}",
        "{\"r\": 8}\n{\"r\": 16}",
    ] {
        for name in ["adapter_config.json", "tokenizer_config.json", "added_tokens.json"] {
            assert_eq!(checks(name, text), [Check::ConfigSyntax], "{name}: {text}");
        }
    }
}

#[test]
fn logs_and_data_are_read_as_python_writes_them() {
    for text in [
        "{\"log_history\": [{\"loss\": NaN, \"grad_norm\": Infinity, \"x\": -Infinity, \"text\": \"NaN\"}]}",
        "{\"a\": 1}\n{\"a\": 2}\n\n{\"a\": 3}",
        "\u{feff}[]",
        "{\"a\": \"a quote \\\" NaN\", \"b\": NaN}",
        "{\"a\": 1, \"a\": 2}",
        "NaN",
    ] {
        for name in ["trainer_state.json", "all_results.json", "eval/samples.json", "run.json"] {
            assert!(checks(name, text).is_empty(), "{name}: {text}: {:?}", searched_as(name, text));
        }
    }
    assert!(searched("{\"time_step_limit\": [0.0, Infinity]}").is_empty());
    for text in ["{\"a\": ", "hello", "{} x", "nan"] {
        assert_eq!(checks("trainer_state.json", text), [Check::UnknownFile], "{text}");
    }
    // What makes a loader run code is found in them all the same.
    assert_eq!(checks("data.json", "{\"x\": NaN}\n{\"_target_\": \"os.system\"}"), [Check::RemoteCode]);
}

#[test]
fn what_deceives_a_terminal_is_escaped() {
    assert_eq!(shown("a\u{1b}[2Kb\u{202e}"), "a\\u{1b}[2Kb\\u{202e}");
    assert_eq!(shown(&"x".repeat(500)).chars().count(), SHOWN + 1);
}
