//! Settings beside an adapter: what a tokenizer's files say against the base's, keys that stand twice, logs.

use serde_json::{Value, json};

use super::bench::{Bench, findings};

/// A tokenizer of a few pieces.
fn tokenizer() -> Value {
    let token = |id: u64, content: &str, special: bool| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": special })
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null, "added_tokens": [token(0, "<s>", true), token(1, "</s>", true)],
        "model": { "type": "BPE", "vocab": { "<s>": 0, "</s>": 1, "n": 2, "o": 3, "no": 4 }, "merges": ["n o"] },
    })
}

fn settings() -> Value {
    json!({ "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "model_max_length": 64 })
}

fn bench() -> Bench {
    let bench = Bench::new();
    bench.sound("adapter");
    bench.write("base/tokenizer.json", tokenizer().to_string());
    bench.write("base/tokenizer_config.json", settings().to_string());
    bench
}

/// The exit code and the rules that found something, each once.
fn scanned(bench: &Bench, base: bool) -> (i32, Vec<String>) {
    let options: &[&str] = if base { &["--base", "base"] } else { &[] };
    let run = bench.run([&["scan", "adapter", "--json"], options].concat());
    let report = run.json();
    let mut rules: Vec<String> =
        findings(&report).into_iter().map(|finding| finding["rule"].as_str().expect("a code").to_owned()).collect();
    rules.sort();
    rules.dedup();
    (run.code, rules)
}

#[test]
fn a_word_made_special_fails_with_and_without_a_base() {
    let bench = bench();
    let token = json!({ "content": "not ", "special": true, "lstrip": false, "rstrip": false });
    let hostile = json!({ "eos_token": "the", "added_tokens_decoder": { "5": token } });
    bench.write("adapter/tokenizer_config.json", hostile.to_string());
    assert_eq!(scanned(&bench, false), (1, vec!["tokenizer-carried".to_owned(), "tokenizer-rewrites".to_owned()]));
    let against = ["added-tokens", "tokenizer-differs", "tokenizer-rewrites"].map(str::to_owned).to_vec();
    assert_eq!(scanned(&bench, true), (1, against));
}

#[test]
fn a_tokenizer_that_training_saved_again_passes() {
    let bench = bench();
    let mut again = tokenizer();
    again["truncation"] = json!({ "max_length": 32, "strategy": "LongestFirst", "stride": 0, "direction": "Right" });
    again["model"]["merges"] = json!([["n", "o"]]);
    bench.write("adapter/tokenizer.json", again.to_string());
    let object = |content: &str| json!({ "content": content, "lstrip": false, "normalized": false, "rstrip": false });
    let saved = json!({
        "eos_token": object("</s>"), "bos_token": "<s>", "pad_token": "</s>", "padding_side": "left", "extra_special_tokens": {},
        "tokenizer_class": "TokenizersBackend", "model_max_length": 64, "added_tokens_decoder": { "0": object("<s>") },
    });
    bench.write("adapter/tokenizer_config.json", saved.to_string());
    bench.write("adapter/special_tokens_map.json", json!({ "eos_token": object("</s>") }).to_string());
    let log = "{\"log_history\": [{\"loss\": NaN, \"loss\": 1}]}";
    bench.write("adapter/trainer_state.json", log);
    bench.write("adapter/config.yaml", "base_model: m\ntrust_remote_code: true\n");
    assert_eq!(scanned(&bench, true), (0, vec!["tokenizer-settings".to_owned()]));
}

#[test]
fn a_key_that_stands_twice_fails_and_the_last_counts() {
    let bench = bench();
    let path = bench.path("adapter/adapter_config.json");
    let config = fs_err::read_to_string(&path).expect("readable");
    let twice = format!("{}, \"lora_alpha\": 4096}}", config.trim_end().trim_end_matches('}'));
    fs_err::write(&path, twice).expect("written");
    let (code, rules) = scanned(&bench, false);
    assert_eq!(code, 1);
    assert!(rules.contains(&"duplicate-key".to_owned()), "{rules:?}");
    // What a loader of Python would scale by is what is measured.
    assert!(rules.contains(&"scale".to_owned()), "{rules:?}");
}
