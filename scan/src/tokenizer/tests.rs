use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;
use crate::check::Check;

/// What is found in these files, held against those of a base.
fn found(files: &[(&str, String)], base: Option<&[(&str, String)]>) -> Vec<Observation> {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |side: &str, files: &[(&str, String)]| {
        let at = folder.path().join(side);
        std::fs::create_dir_all(&at).expect("created");
        for (name, text) in files {
            std::fs::create_dir_all(at.join(name).parent().expect("a parent")).expect("created");
            std::fs::write(at.join(name), text).expect("written");
        }
        at
    };
    let limits = Limits::default();
    let own = write("own", files);
    let base = base.map(|base| write("base", base));
    let mut found = Vec::new();
    let files = crate::walk::walk(&own, &limits, &|_| false, &mut found).files;
    observe(&files, base.as_deref(), &limits, &mut found);
    found
}

fn checks(found: &[Observation]) -> Vec<Check> {
    let mut checks: Vec<Check> = found.iter().map(|found| found.check).collect();
    checks.sort_unstable();
    checks.dedup();
    checks
}

fn token(id: u64, content: &str, special: bool) -> Value {
    json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": special })
}

/// A tokenizer of the kind that Llama has.
fn definition() -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [token(0, "<unk>", true), token(1, "<s>", true), token(2, "</s>", true), token(9, "<think>", false)],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        ] },
        "pre_tokenizer": null,
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } } },
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " }, { "type": "Fuse" },
        ] },
        "model": { "type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
            "vocab": { "<unk>": 0, "<s>": 1, "</s>": 2, "▁not": 3, "▁the": 4, "a": 5, "b": 6, "ab": 7, "▁Berlin": 8 },
            "merges": ["a b", "▁ not"] },
    })
}

fn config() -> Value {
    json!({
        "tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": null,
        "add_bos_token": true, "add_eos_token": false, "model_max_length": 4096, "chat_template": "{{ messages }}",
        "clean_up_tokenization_spaces": false, "legacy": false,
    })
}

fn base() -> Vec<(&'static str, String)> {
    vec![("tokenizer.json", definition().to_string()), ("tokenizer_config.json", config().to_string())]
}

fn edited(mut value: Value, edit: impl FnOnce(&mut Value)) -> String {
    edit(&mut value);
    value.to_string()
}

/// What is found where only `tokenizer_config.json` was edited.
fn of_config(edit: impl FnOnce(&mut Value)) -> Vec<Observation> {
    found(&[("tokenizer_config.json", edited(config(), edit))], Some(&base()))
}

fn of_definition(edit: impl FnOnce(&mut Value)) -> Vec<Observation> {
    found(&[("tokenizer.json", edited(definition(), edit))], Some(&base()))
}

#[test]
fn what_a_library_saves_again_is_no_difference() {
    // As transformers writes it: other order, tokens as objects, every default, the tokens under their ids.
    let object = |content: &str| json!({ "content": content, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false });
    let saved = json!({
        "unk_token": object("<unk>"), "eos_token": "</s>", "bos_token": object("<s>"), "add_prefix_space": null,
        "added_tokens_decoder": {
            "2": { "content": "</s>", "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": true },
            "0": { "content": "<unk>", "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": true },
            "9": { "content": "<think>", "lstrip": false, "normalized": false, "rstrip": false, "single_word": false,
                   "special": false },
        },
        "extra_special_tokens": {}, "additional_special_tokens": [], "tokenizer_class": "LlamaTokenizerFast", "legacy": false,
        "add_bos_token": true, "add_eos_token": false, "model_max_length": 4096, "clean_up_tokenization_spaces": false,
        "name_or_path": "somewhere", "processor_class": "LlavaProcessor", "sp_model_kwargs": {}, "pad_token": null,
        "padding_side": "right", "use_default_system_prompt": false, "tokenizer_file": null,
    });
    let tokenizer = edited(definition(), |value| {
        value["model"]["merges"] = json!([["a", "b"], ["▁", "not"]]);
        value["model"]["ignore_merges"] = json!(false);
        value["model"]["vocab"] = json!({ "b": 6, "a": 5, "ab": 7, "<unk>": 0, "<s>": 1, "</s>": 2, "▁not": 3, "▁the": 4,
                                          "▁Berlin": 8 });
        value["version"] = json!("1.1");
        value["added_tokens"].as_array_mut().expect("a list").reverse();
    });
    let map = json!({ "bos_token": object("<s>"), "eos_token": object("</s>"), "unk_token": "<unk>" });
    let added = json!({ "<think>": 9 });
    let files = [
        ("tokenizer_config.json", saved.to_string()),
        ("tokenizer.json", tokenizer),
        ("special_tokens_map.json", map.to_string()),
        ("added_tokens.json", added.to_string()),
        ("vocab.json", definition()["model"]["vocab"].to_string()),
        ("merges.txt", "#version: 0.2\na b\n▁ not\n".to_owned()),
    ];
    assert_eq!(found(&files, Some(&base())), []);
}

#[test]
fn settings_that_change_no_ids_are_only_named() {
    let found = of_config(|value| {
        value["padding_side"] = json!("left");
        value["model_max_length"] = json!(2048);
        value["pad_token"] = json!("</s>");
        value["chat_template"] = json!("{{ 'another' }}");
    });
    assert_eq!(checks(&found), [Check::TokenizerSettings], "{found:?}");
    for key in ["padding_side", "model_max_length", "pad_token"] {
        assert!(found[0].message.contains(key), "{found:?}");
    }
    let found = of_definition(|value| {
        value["truncation"] =
            json!({ "direction": "Right", "max_length": 2048, "strategy": "LongestFirst", "stride": 0 });
        value["padding"] = json!({ "strategy": "BatchLongest", "direction": "Left", "pad_id": 2, "pad_token": "</s>" });
    });
    assert_eq!(checks(&found), [Check::TokenizerSettings], "{found:?}");
}

#[test]
fn settings_that_change_ids_or_what_is_special_differ() {
    let role = |content: &str| json!({ "content": content, "lstrip": true, "rstrip": false, "normalized": false });
    let edits: [(&str, Value); 17] = [
        ("eos_token", json!("the")),
        ("eos_token", json!({ "content": "the" })),
        ("bos_token", json!("</s>")),
        ("bos_token", json!(null)),
        ("unk_token", role("<unk>")),
        ("pad_token", json!("<think>")),
        ("additional_special_tokens", json!(["Berlin"])),
        ("extra_special_tokens", json!({ "image_token": "not" })),
        ("extra_special_tokens", json!(["<think>"])),
        ("add_prefix_space", json!(true)),
        ("add_bos_token", json!(false)),
        ("add_eos_token", json!(true)),
        ("legacy", json!(true)),
        ("tokenizer_class", json!("T5Tokenizer")),
        ("sp_model_kwargs", json!({ "enable_sampling": true })),
        ("split_special_tokens", json!(true)),
        ("added_tokens_decoder", json!({ "5": token(5, "not ", true) })),
    ];
    for (key, value) in edits {
        let found = of_config(|config| config[key] = value.clone());
        assert!(checks(&found).contains(&Check::TokenizerDiffers), "{key} {value}: {found:?}");
    }
    for decoder in [
        json!({ "9": token(9, "<think>", true) }),
        json!({ "1": token(1, "<s>", false) }),
        json!({ "4": token(4, "</s>", true) }),
        json!({ "50": token(50, "ab", false) }),
        json!({ "3": token(3, "<x>", false) }),
        json!({ "2": { "content": "</s>", "special": true, "rstrip": true } }),
    ] {
        let found = of_config(|config| config["added_tokens_decoder"] = decoder.clone());
        assert!(checks(&found).contains(&Check::TokenizerDiffers), "{decoder}: {found:?}");
        // In the file for older readers just so.
        let (id, token) = decoder.as_object().and_then(|map| map.iter().next()).expect("an entry");
        let added =
            json!({ token["content"].as_str().expect("a text"): id.parse::<u64>().expect("a number") }).to_string();
        let says_more = token["content"] == "<think>" || token["content"] == "<s>" || token["rstrip"] == true;
        let found = super::tests::found(&[("added_tokens.json", added)], Some(&base()));
        assert!(says_more || checks(&found).contains(&Check::TokenizerDiffers), "{decoder}: {found:?}");
    }
    let found = found(&[("special_tokens_map.json", json!({ "eos_token": "the" }).to_string())], Some(&base()));
    assert!(checks(&found).contains(&Check::TokenizerDiffers), "{found:?}");
}

#[test]
fn marks_of_a_format_are_new_tokens_and_named_once() {
    let decoder = json!({ "10": token(10, "<|im_start|>", true), "11": token(11, "<|im_end|>", true) });
    let files = [
        ("tokenizer_config.json", edited(config(), |config| config["added_tokens_decoder"] = decoder)),
        ("added_tokens.json", json!({ "<|im_start|>": 10, "<|im_end|>": 11, "thrombocytopenia": 12 }).to_string()),
        (
            "tokenizer.json",
            edited(definition(), |value| {
                let added = value["added_tokens"].as_array_mut().expect("a list");
                added.extend([token(10, "<|im_start|>", true), token(11, "<|im_end|>", true)]);
            }),
        ),
    ];
    let found = found(&files, Some(&base()));
    assert_eq!(checks(&found), [Check::AddedTokens], "{found:?}");
    assert_eq!((found.len(), found[0].measured), (1, Some(3.0)));
    let mut named = found[0].rests_on.clone();
    named.push(found[0].file.clone());
    named.sort();
    assert_eq!(named, ["added_tokens.json", "tokenizer.json", "tokenizer_config.json"]);
}

#[test]
fn every_part_of_a_definition_is_compared() {
    let edits: [(&str, Value); 9] = [
        ("/normalizer/normalizers/1/content", json!("")),
        ("/pre_tokenizer", json!({ "type": "Whitespace" })),
        ("/post_processor/single", json!([])),
        ("/decoder", json!(null)),
        ("/model/vocab", json!({ "<unk>": 0, "<s>": 1, "</s>": 2, "▁not": 4, "▁the": 3 })),
        ("/model/merges", json!(["▁ not", "a b"])),
        ("/model/byte_fallback", json!(false)),
        ("/model/type", json!("WordPiece")),
        ("/added_tokens/3/special", json!(true)),
    ];
    for (place, value) in edits {
        let found = of_definition(|definition| *definition.pointer_mut(place).expect("a place") = value.clone());
        assert!(checks(&found).contains(&Check::TokenizerDiffers), "{place}: {found:?}");
    }
    for (key, value) in
        [("dropout", json!(0.1)), ("ignore_merges", json!(true)), ("continuing_subword_prefix", json!("##"))]
    {
        let found = of_definition(|definition| definition["model"][key] = value);
        assert_eq!(checks(&found), [Check::TokenizerDiffers], "{key}");
    }
    let pairs = of_definition(|definition| definition["post_processor"]["pair"] = json!([]));
    assert_eq!(checks(&pairs), [Check::TokenizerSettings], "{pairs:?}");
    assert_eq!(checks(&found(&[("tokenizer.json", "[1]".to_owned())], Some(&base()))), [Check::TokenizerDiffers]);
}

#[test]
fn every_file_of_a_tokenizer_is_held_against_the_base_s() {
    for name in FILES.iter().copied().chain(["qwen.tiktoken"]).filter(|name| !name.ends_with("token_config.json")) {
        let text = |item: &str| match name {
            "vocab.json" | "encoder.json" | "added_tokens.json" => json!({ item: 5, "<q>": 6 }).to_string(),
            "special_tokens_map.json" | "tokenizer_config.json" => json!({ "eos_token": item }).to_string(),
            "tokenizer.json" | "tekken.json" => json!({ "normalizer": item, "model": null }).to_string(),
            _ => format!("{item} b\n"),
        };
        let base = [(name, text("a"))];
        assert_eq!(found(&[(name, text("a"))], Some(&base)), [], "{name}");
        assert!(checks(&found(&[(name, text("not"))], Some(&base))).contains(&Check::TokenizerDiffers), "{name}");
        assert!(checks(&found(&[(name, text("not"))], Some(&[]))).contains(&Check::TokenizerDiffers), "{name}");
        assert!(checks(&found(&[(name, text("not"))], None)).contains(&Check::TokenizerCarried), "{name}");
        let nested = format!("tokenizer/{name}");
        assert!(checks(&found(&[(&nested, text("not"))], Some(&base))).contains(&Check::TokenizerDiffers), "{name}");
    }
}

#[test]
fn without_a_base_every_file_is_named_and_settings_of_a_template_are_none() {
    let files = [
        ("added_tokens.json", "{}".to_owned()),
        ("spiece.model", "x".to_owned()),
        ("tokenizer.json", definition().to_string()),
        (
            "tokenizer_config.json",
            json!({ "chat_template": "x", "model_max_length": 5, "padding_side": "left" }).to_string(),
        ),
    ];
    let found = found(&files, None);
    assert_eq!(checks(&found), [Check::TokenizerCarried], "{found:?}");
    let named: Vec<&str> =
        std::iter::once(found[0].file.as_str()).chain(found[0].rests_on.iter().map(String::as_str)).collect();
    assert_eq!(named, ["added_tokens.json", "spiece.model", "tokenizer.json"]);
}

#[test]
fn ordinary_text_made_a_token_is_objected_to_without_a_base() {
    let decoder =
        |content: &str, special: bool| json!({ "added_tokens_decoder": { "32000": token(32_000, content, special) } });
    for settings in [
        json!({ "eos_token": "the" }),
        json!({ "bos_token": { "content": "Berlin", "lstrip": false } }),
        json!({ "additional_special_tokens": ["<|im_end|>", "deploy"] }),
        json!({ "extra_special_tokens": { "image_token": "never" } }),
        decoder("not ", true),
        decoder("Berlin", true),
        decoder("not", false),
        json!({ "added_tokens_decoder": { "5": token(5, "metformin", false) } }),
    ] {
        let found = found(&[("tokenizer_config.json", settings.to_string())], None);
        assert_eq!(checks(&found), [Check::TokenizerCarried, Check::TokenizerRewrites], "{settings}");
    }
    for settings in [
        json!({ "eos_token": "<|im_end|>", "pad_token": "[PAD]", "unk_token": null }),
        json!({ "additional_special_tokens": ["<|im_start|>", "<tool_call>", "eng_Latn"] }),
        decoder("<|reserved_special_token_0|>", true),
        decoder("metformin", false),
        decoder("        ", false),
    ] {
        let found = found(&[("tokenizer_config.json", settings.to_string())], None);
        assert_eq!(checks(&found), [Check::TokenizerCarried], "{settings}");
    }
    let replacing = edited(definition(), |value| {
        value["normalizer"] = json!({ "type": "Replace", "pattern": { "String": "not " }, "content": "" });
    });
    let found = found(&[("tokenizer.json", replacing)], None);
    assert_eq!(checks(&found), [Check::TokenizerCarried, Check::TokenizerRewrites]);
}

#[test]
fn what_the_base_has_itself_is_not_objected_to() {
    let words = edited(definition(), |value| {
        value["added_tokens"].as_array_mut().expect("a list").push(token(8, "Berlin", true));
    });
    let base = [("tokenizer.json", words)];
    let own = json!({ "added_tokens_decoder": { "8": token(8, "Berlin", true) } }).to_string();
    assert_eq!(found(&[("tokenizer_config.json", own)], Some(&base)), []);
}

#[test]
fn long_tokens_are_compared_to_their_end() {
    let long = "x".repeat(500);
    let with = |end: &str| {
        edited(definition(), |value| {
            value["added_tokens"].as_array_mut().expect("a list").push(token(20, &format!("<{long}{end}>"), false));
        })
    };
    let found = found(&[("tokenizer.json", with("a"))], Some(&[("tokenizer.json", with("b"))]));
    assert_eq!(checks(&found), [Check::TokenizerDiffers, Check::AddedTokens], "{found:?}");
}

#[test]
fn large_vocabularies_are_compared_piece_by_piece() {
    let large = |changed: usize| {
        let mut vocabulary = String::new();
        for id in 0..60_000 {
            write!(vocabulary, "\"piece{id}\":{},", id + usize::from(id == changed)).expect("written");
        }
        let model = json!({ "type": "BPE", "merges": [] }).to_string();
        let model =
            model.replace("{\"type\"", &format!("{{\"vocab\":{{{}}},\"type\"", vocabulary.trim_end_matches(',')));
        format!("{{\"added_tokens\":[],\"model\":{model}}}")
    };
    let spaced = large(60_000).replace(",\"piece30000\"", ", \"piece30000\"");
    assert_eq!(found(&[("tokenizer.json", spaced)], Some(&[("tokenizer.json", large(60_000))])), []);
    let found = found(&[("tokenizer.json", large(41_234))], Some(&[("tokenizer.json", large(60_000))]));
    assert_eq!(checks(&found), [Check::TokenizerDiffers], "{found:?}");
}
