//! Tokenizers that an adapter carries. A normaliser that rewrites words, or a token that stands for a sentence, changes what the
//! model is told without touching a weight.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::check::{Check, Observation};
use crate::files::{Found, read_up_to};
use crate::json::shown;
use crate::limits::Limits;

/// Files that make up a tokenizer, less the settings that hold the chat template.
const FILES: [&str; 7] = [
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
];
/// Tokens that a message lists.
const LISTED: usize = 8;

/// What of `tokenizer.json` is compared; the vocabulary is passed over, for a `Value` of it would take ten times its size.
#[derive(Debug, Default, Deserialize)]
struct Definition {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default, rename = "model")]
    _model: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct AddedToken {
    content: String,
}

/// Looks at the tokenizer's files beside the adapter, against those of the base's folder where there is one.
pub(crate) fn observe(files: &[Found], base: Option<&Path>, limits: &Limits, found: &mut Vec<Observation>) {
    let carried: Vec<&Found> = files.iter().filter(|file| FILES.contains(&file.record.path.as_str())).collect();
    if carried.is_empty() {
        return;
    }
    let Some(base) = base else {
        let names: Vec<&str> = carried.iter().map(|file| file.record.path.as_str()).collect();
        let message = format!(
            "a tokenizer ({}); give --base to hold it against the base's: it decides what the model is told",
            names.join(", ")
        );
        let first = names.first().copied().unwrap_or_default();
        return found.push(Observation::new(Check::TokenizerCarried, first, message));
    };
    for file in carried {
        compare(file, &base.join(&file.record.path), limits, found);
    }
}

fn compare(file: &Found, base: &Path, limits: &Limits, found: &mut Vec<Observation>) {
    let name = file.record.path.as_str();
    let read = |path: &Path| read_up_to(path, limits.text_bytes);
    let (Ok(own), Ok(known)) = (read(&file.path), read(base)) else {
        let message =
            "the base has no such file: what it adds to the tokenizer cannot be held against anything".to_owned();
        return found.push(Observation::new(Check::TokenizerDiffers, name, message));
    };
    if own == known {
        return;
    }
    match name {
        "tokenizer.json" => compare_definitions(name, &own, &known, found),
        "added_tokens.json" => compare_names(name, &own, &known, found),
        _ => found.push(Observation::new(Check::TokenizerDiffers, name, "is not the base's file")),
    }
}

fn compare_definitions(name: &str, own: &[u8], known: &[u8], found: &mut Vec<Observation>) {
    let (Ok(own), Ok(known)) = (serde_json::from_slice::<Definition>(own), serde_json::from_slice::<Definition>(known))
    else {
        let message = "is not the base's file, and is no tokenizer that can be read";
        return found.push(Observation::new(Check::TokenizerDiffers, name, message));
    };
    let parts = [
        ("normalizer", &own.normalizer, &known.normalizer),
        ("pre_tokenizer", &own.pre_tokenizer, &known.pre_tokenizer),
        ("post_processor", &own.post_processor, &known.post_processor),
        ("decoder", &own.decoder, &known.decoder),
    ];
    let mut differing = false;
    for (part, own, known) in parts {
        if own != known {
            differing = true;
            let message = format!("`{part}` is {}, in the base {}", shown(&own.to_string()), shown(&known.to_string()));
            found.push(Observation::new(Check::TokenizerDiffers, name, message).at(part));
        }
    }
    let names = |tokens: &[AddedToken]| tokens.iter().map(|token| token.content.clone()).collect::<BTreeSet<String>>();
    let (own, known) = (names(&own.added_tokens), names(&known.added_tokens));
    differing |= own != known;
    added(name, &own, &known, found);
    if !differing {
        let message = "is not the base's file: vocabulary, merges or their order differ";
        found.push(Observation::new(Check::TokenizerDiffers, name, message).at("model"));
    }
}

fn compare_names(name: &str, own: &[u8], known: &[u8], found: &mut Vec<Observation>) {
    let names = |bytes: &[u8]| -> BTreeSet<String> {
        let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
        value.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default()
    };
    let (own, known) = (names(own), names(known));
    if own == known {
        found.push(Observation::new(Check::TokenizerDiffers, name, "gives tokens other ids than the base's file"));
    }
    added(name, &own, &known, found);
}

fn added(name: &str, own: &BTreeSet<String>, known: &BTreeSet<String>, found: &mut Vec<Observation>) {
    let new: Vec<&String> = own.difference(known).collect();
    if !new.is_empty() {
        let listed: Vec<String> = new.iter().take(LISTED).map(|token| format!("`{}`", shown(token))).collect();
        let more = if new.len() > LISTED { ", …" } else { "" };
        let message = format!("{} tokens that the base does not have: {}{more}", new.len(), listed.join(", "));
        found.push(Observation::new(Check::AddedTokens, name, message).at("added_tokens").measured(new.len() as f64));
    }
    let gone: Vec<&String> = known.difference(own).collect();
    if let Some(first) = gone.first() {
        let message = format!("{} tokens of the base are missing, `{}` first", gone.len(), shown(first));
        found.push(Observation::new(Check::TokenizerDiffers, name, message).at("added_tokens"));
    }
}
