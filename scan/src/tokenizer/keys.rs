//! The keys of `tokenizer_config.json` beside tokens and template: which of them decide what ids a text becomes.
//!
//! A library fills in defaults when it saves, and another version of it drops them again. So a key that says what is
//! the case without it is no difference, and what only decides how a batch is filled up, how much is read or how ids
//! become text again is told apart from what the model is made to read.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a difference between two settings amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// A text may become other ids.
    Ids,
    /// Nothing that the model reads of one text.
    Handling,
}

/// Keys that decide what ids a text becomes.
const IDS: [&str; 34] = [
    "add_bos_token",
    "add_dummy_prefix_space",
    "add_eos_token",
    "add_prefix_space",
    "auto_map",
    "do_basic_tokenize",
    "do_lower",
    "do_lower_case",
    "do_phonemize",
    "do_split_on_punc",
    "do_subword_tokenize",
    "do_word_tokenize",
    "extra_ids",
    "fix_mistral_regex",
    "keep_accents",
    "language",
    "legacy",
    "lower_case",
    "lowercase",
    "never_split",
    "normalization",
    "normalize",
    "offset",
    "predict_timestamps",
    "remove_space",
    "slow_tokenizer_class",
    "sp_model_kwargs",
    "split_special_tokens",
    "src_lang",
    "strip_accents",
    "task",
    "tgt_lang",
    "tokenize_chinese_chars",
    "tokenizer_class",
];

/// Keys that say where something came from, or what is judged elsewhere.
const NOTES: [&str; 22] = [
    "_commit_hash",
    "_name_or_path",
    "added_tokens_file",
    "backend",
    "cache_dir",
    "device_map",
    "feature_extractor_type",
    "from_slow",
    "image_processor_type",
    "is_local",
    "local_files_only",
    "merges_file",
    "name_or_path",
    "processor_class",
    "revision",
    "special_tokens_map_file",
    "tokenizer_file",
    "tokenizer_type",
    "tokenizers_version",
    "transformers_version",
    "use_fast",
    "vocab_file",
];

/// Classes that take `tokenizer.json` as it stands.
const GENERIC: &str = "PreTrainedTokenizer";
/// Classes that begin a text with a token unless they are told otherwise.
const BEGINNING: [&str; 4] = ["CodeLlama", "Cohere", "Gemma", "Llama"];

/// The keys in which two settings differ, each with what it amounts to, and the values here and there.
pub(super) fn differences<'a>(
    own: &'a BTreeMap<String, Value>,
    known: &'a BTreeMap<String, Value>,
) -> Vec<(&'a str, Weight, Option<&'a Value>, Option<&'a Value>)> {
    let mut all: Vec<&str> = own.keys().chain(known.keys()).map(String::as_str).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter()
        .filter(|key| !NOTES.contains(key))
        .filter_map(|key| {
            let (own_value, known_value) = (own.get(key), known.get(key));
            let weight = weigh(key, own_value, known_value, [own, known])?;
            Some((key, weight, own_value, known_value))
        })
        .collect()
}

/// Whether settings decide anything about ids, told without a base.
pub(super) fn decides(own: &BTreeMap<String, Value>) -> bool {
    own.iter().any(|(key, value)| {
        key != "tokenizer_class" && IDS.contains(&key.as_str()) && !is_default(key, value, [own, own])
    })
}

fn weigh(
    key: &str,
    own: Option<&Value>,
    known: Option<&Value>,
    settings: [&BTreeMap<String, Value>; 2],
) -> Option<Weight> {
    let is_default = |value: Option<&Value>| value.is_none_or(|value| is_default(key, value, settings));
    if own == known || (is_default(own) && is_default(known)) {
        return None;
    }
    if key == "tokenizer_class" {
        return weigh_classes(own, known);
    }
    // Whoever drops a key takes the class's default, which only a file without `tokenizer.json` would read out of it.
    let weight = if IDS.contains(&key) && own.is_some() { Weight::Ids } else { Weight::Handling };
    // How spaces come back is a default that changed between versions.
    let is_filled = own.is_none() || known.is_none();
    let is_of_text = ["clean_up_tokenization_spaces", "spaces_between_special_tokens"].contains(&key);
    (!(is_filled && is_of_text)).then_some(weight)
}

/// Whether a value says what is the case without it.
fn is_default(key: &str, value: &Value, settings: [&BTreeMap<String, Value>; 2]) -> bool {
    let is_empty = match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    };
    let begins = || settings.iter().any(|settings| settings.get("tokenizer_class").is_some_and(is_beginning));
    match key {
        // A class that begins a text is told otherwise by `false`, which therefore is no default there.
        "add_bos_token" if begins() => value.is_null() || *value == Value::Bool(true),
        "legacy" | "tokenize_chinese_chars" | "do_basic_tokenize" => value.is_null() || *value == Value::Bool(true),
        "padding_side" | "truncation_side" => value == "right",
        "errors" => value == "replace",
        // What stands for no limit at all.
        "model_max_length" => value.as_f64().is_some_and(|length| length >= 1e29),
        _ => is_empty,
    }
}

fn is_beginning(class: &Value) -> bool {
    class.as_str().is_some_and(|class| BEGINNING.iter().any(|known| class.starts_with(known)))
}

/// A class without the parts of its name that say how it is implemented.
fn class(value: Option<&Value>) -> Option<&str> {
    let name = value?.as_str()?;
    let name = name.strip_suffix("Fast").unwrap_or(name);
    Some(if name == "TokenizersBackend" { GENERIC } else { name })
}

fn weigh_classes(own: Option<&Value>, known: Option<&Value>) -> Option<Weight> {
    match (class(own), class(known)) {
        (own, known) if own == known => None,
        // The base leaves it to its config, or the adapter does.
        (Some(_), None) | (None, _) | (Some(GENERIC), Some(_)) => Some(Weight::Handling),
        _ => Some(Weight::Ids),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn weights(own: Value, known: Value) -> Vec<(String, Weight)> {
        let map = |value| serde_json::from_value::<BTreeMap<String, Value>>(value).expect("an object");
        let (own, known) = (map(own), map(known));
        differences(&own, &known).into_iter().map(|(key, weight, ..)| (key.to_owned(), weight)).collect()
    }

    #[test]
    fn what_a_library_fills_in_is_no_difference() {
        let base = json!({ "tokenizer_class": "LlamaTokenizer", "model_max_length": 4096 });
        let saved = json!({
            "tokenizer_class": "LlamaTokenizerFast", "model_max_length": 4096, "add_bos_token": true, "add_eos_token": false,
            "add_prefix_space": null, "legacy": true, "sp_model_kwargs": {}, "use_default_system_prompt": false,
            "clean_up_tokenization_spaces": false, "padding_side": "right", "name_or_path": "x", "processor_class": "P",
            "tokenizer_file": null, "is_local": true, "backend": "tokenizers",
        });
        assert_eq!(weights(saved.clone(), base.clone()), []);
        assert_eq!(weights(base, saved), []);
        let generic = |class: &str| json!({ "tokenizer_class": class });
        assert_eq!(weights(generic("TokenizersBackend"), generic("PreTrainedTokenizerFast")), []);
    }

    #[test]
    fn what_changes_ids_is_told_from_what_does_not() {
        let ids = |key: &str, own: Value, known: Value| {
            let differing = weights(json!({ key: own }), json!({ key: known }));
            assert_eq!(differing, [(key.to_owned(), Weight::Ids)]);
        };
        ids("add_prefix_space", json!(true), json!(false));
        ids("add_bos_token", json!(true), json!(false));
        ids("do_lower_case", json!(true), json!(null));
        ids("legacy", json!(false), json!(true));
        ids("sp_model_kwargs", json!({ "enable_sampling": true }), json!({}));
        ids("tokenizer_class", json!("T5Tokenizer"), json!("LlamaTokenizer"));
        ids("tokenizer_class", json!("LlamaTokenizer"), json!("PreTrainedTokenizerFast"));
        ids("split_special_tokens", json!(true), json!(false));
        assert_eq!(weights(json!({ "add_eos_token": true }), json!({})), [("add_eos_token".to_owned(), Weight::Ids)]);
        let handling = weights(
            json!({ "padding_side": "left", "model_max_length": 2048, "clean_up_tokenization_spaces": true, "max_length": 9 }),
            json!({ "model_max_length": 8192, "clean_up_tokenization_spaces": false }),
        );
        let keys: Vec<&str> = handling.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["clean_up_tokenization_spaces", "max_length", "model_max_length", "padding_side"]);
        assert!(handling.iter().all(|(_, weight)| *weight == Weight::Handling));
    }

    #[test]
    fn a_class_that_begins_texts_is_told_otherwise() {
        let llama = |add: bool| json!({ "tokenizer_class": "LlamaTokenizer", "add_bos_token": add });
        assert_eq!(weights(llama(false), llama(true)), [("add_bos_token".to_owned(), Weight::Ids)]);
        assert_eq!(weights(llama(false), json!({ "tokenizer_class": "LlamaTokenizer" })).len(), 1);
    }
}
