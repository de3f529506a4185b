//! Tokenizers that an adapter carries. A normaliser that rewrites words, or a token that stands for a sentence, changes what the
//! model is told without touching a weight.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use crate::check::{Check, Observation};
use crate::files::{Found, read_up_to};
use crate::json::{Key, shown};
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

/// Tokens that are compared by name.
const COMPARED: usize = 200_000;

/// What of `tokenizer.json` is compared. Nothing but the names of added tokens is kept: as a tree the file would take ten times
/// its size.
#[derive(Default, Deserialize)]
struct Definition {
    #[serde(default)]
    added_tokens: AddedTokens,
    #[serde(default)]
    normalizer: Fingerprint,
    #[serde(default)]
    pre_tokenizer: Fingerprint,
    #[serde(default)]
    post_processor: Fingerprint,
    #[serde(default)]
    decoder: Fingerprint,
}

/// The names of the first so many added tokens.
#[derive(Default)]
struct AddedTokens(BTreeSet<String>);

#[derive(Deserialize)]
struct AddedToken {
    content: String,
}

impl<'de> Deserialize<'de> for AddedTokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TokensVisitor;
        impl<'de> Visitor<'de> for TokensVisitor {
            type Value = AddedTokens;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of tokens")
            }
            fn visit_unit<E>(self) -> Result<AddedTokens, E> {
                Ok(AddedTokens::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut tokens: A) -> Result<AddedTokens, A::Error> {
                let mut names = BTreeSet::new();
                while let Some(token) = tokens.next_element::<AddedToken>()? {
                    if names.len() < COMPARED {
                        names.insert(shown(&token.content));
                    }
                }
                Ok(AddedTokens(names))
            }
        }
        deserializer.deserialize_any(TokensVisitor)
    }
}

/// A JSON value, known by its digest and the beginning of its text.
#[derive(Default, PartialEq, Eq)]
struct Fingerprint {
    digest: Vec<u8>,
    /// The texts in it, as far as a message quotes them.
    texts: String,
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut reading = Reading { hasher: Sha256::new(), pending: Vec::new(), texts: String::new() };
        Piece(&mut reading).deserialize(deserializer)?;
        reading.hasher.update(&reading.pending);
        Ok(Self { digest: reading.hasher.finalize().to_vec(), texts: shown(&reading.texts) })
    }
}

/// A value on its way into a digest.
struct Reading {
    hasher: Sha256,
    /// What the digest has not yet taken: many short pieces cost it more than a long one.
    pending: Vec<u8>,
    texts: String,
}

impl Reading {
    /// Takes one part: what it is, then its length, then its bytes, so that no two values are read as one.
    fn take(&mut self, kind: u8, bytes: &[u8]) {
        const QUOTED: usize = 240;
        const HELD: usize = 1 << 14;
        self.pending.push(kind);
        self.pending.extend((bytes.len() as u64).to_le_bytes());
        self.pending.extend(bytes);
        if self.pending.len() >= HELD {
            self.hasher.update(&self.pending);
            self.pending.clear();
        }
        if kind == b's' && self.texts.len() < QUOTED {
            let space = if self.texts.is_empty() { "" } else { " " };
            self.texts.push_str(space);
            self.texts.extend(String::from_utf8_lossy(bytes).chars().take(QUOTED));
        }
    }
}

struct Piece<'a>(&'a mut Reading);

impl<'de> DeserializeSeed<'de> for Piece<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Piece<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.take(b'n', &[]);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.take(b'b', &[u8::from(value)]);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0.take(b'u', &value.to_le_bytes());
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.take(b'i', &value.to_le_bytes());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.0.take(b'f', &value.to_le_bytes());
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.take(b's', text.as_bytes());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.take(b'[', &[]);
        while items.next_element_seed(Piece(self.0))?.is_some() {}
        self.0.take(b']', &[]);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.take(b'{', &[]);
        while let Some(Key(key)) = map.next_key::<Key>()? {
            self.0.take(b's', key.as_bytes());
            map.next_value_seed(Piece(self.0))?;
        }
        self.0.take(b'}', &[]);
        Ok(())
    }
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
            let message = format!("`{part}` is not the base's: `{}`, in the base `{}`", own.texts, known.texts);
            found.push(Observation::new(Check::TokenizerDiffers, name, message).at(part));
        }
    }
    let (own, known) = (&own.added_tokens.0, &known.added_tokens.0);
    differing |= own != known;
    added(name, own, known, found);
    if !differing {
        let message = "is not the base's file: vocabulary, merges or their order differ";
        found.push(Observation::new(Check::TokenizerDiffers, name, message).at("model"));
    }
}

fn compare_names(name: &str, own: &[u8], known: &[u8], found: &mut Vec<Observation>) {
    let names = |bytes: &[u8]| -> BTreeSet<String> {
        let map: BTreeMap<String, u64> = serde_json::from_slice(bytes).unwrap_or_default();
        map.into_keys().map(|name| shown(&name)).take(COMPARED).collect()
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
