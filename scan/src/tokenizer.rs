//! Tokenizers that an adapter carries. A normaliser that rewrites words, or a token that stands for a sentence, changes
//! what the model is told without touching a weight.
//!
//! With a base, every file is held against the base's by its bytes, else by what it says; a file that was only saved
//! again says the same. Without one, a tokenizer is listed, and only what no honest one does is objected to.

mod compare;
mod definition;
mod fingerprint;
mod keys;
mod known;
mod ordinary;
mod parts;
mod statements;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use self::compare::Differences;
use self::definition::{Definition, Wanted, merges_of_lines, vocabulary};
use self::fingerprint::Fingerprint;
use self::known::{Known, counterpart, spellings};
use self::statements::{Settings, Statement};
use crate::check::{Check, Observation};
use crate::files::{Found, begins_with_all, read_up_to};
use crate::json::shown;
use crate::limits::Limits;

/// Files that make up a tokenizer: THE list.
const FILES: [&str; 20] = [
    "added_tokens.json",
    "bpe.codes",
    "encoder.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "source.spm",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "target.spm",
    "tekken.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer.model.v1",
    "tokenizer.model.v3",
    "tokenizer_config.json",
    "vocab.bpe",
    "vocab.json",
    "vocab.txt",
];
/// Files that a message lists, and tokens that are objected to one by one.
const LISTED: usize = 8;

/// Whether a file of this name, without its folder, is part of a tokenizer.
pub fn is_file(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    FILES.contains(&name.as_str()) || name.ends_with(".tiktoken")
}

/// Whether it is one that holds neither JSON nor lines of text.
pub(crate) fn is_binary(name: &str) -> bool {
    let extension = crate::kind::extension(name);
    is_file(name.rsplit('/').next().unwrap_or(name)) && !["json", "txt"].contains(&extension.as_str())
}

/// A file of the adapter's tokenizer.
struct Own<'a> {
    name: &'a str,
    content: Content,
    /// Whether the base has a file of that name.
    is_in_base: bool,
    /// What it holds, where that is compared whole.
    counterpart: Option<Fingerprint>,
}

/// What a file holds.
enum Content {
    Definition(Box<Definition>),
    Settings(Settings),
    Vocabulary(Fingerprint),
    Merges(Fingerprint),
    Json(Fingerprint),
    /// JSON that cannot be read.
    Broken,
    Other,
}

impl Own<'_> {
    fn tokens(&self) -> &[Statement] {
        match &self.content {
            Content::Definition(definition) => &definition.tokens,
            Content::Settings(settings) => &settings.tokens,
            _ => &[],
        }
    }

    /// Whether the file says anything about tokens or ids: settings that hold a template and a length do not.
    fn says_something(&self) -> bool {
        match &self.content {
            Content::Settings(settings) if file_name(self.name) == "tokenizer_config.json" => {
                !settings.tokens.is_empty() || keys::decides(&settings.keys) || settings.is_cut
            }
            _ => true,
        }
    }
}

/// Looks at the tokenizer's files of the adapter, against those of the base's folder where there is one.
pub(crate) fn observe(files: &[Found], base: Option<&Path>, limits: &Limits, found: &mut Vec<Observation>) {
    let carried: Vec<&Found> = files.iter().filter(|file| is_file(file_name(&file.record.path))).collect();
    if carried.is_empty() {
        return;
    }
    let Some(base) = base else {
        let own: Vec<Own> = carried.iter().filter_map(|file| own(file, None, limits)).collect();
        let saying: Vec<&str> = own.iter().filter(|own| own.says_something()).map(|own| own.name).collect();
        if let Some((first, others)) = saying.split_first() {
            let listed: Vec<String> = saying.iter().take(LISTED).map(|name| shown(name)).collect();
            let more = if saying.len() > LISTED { ", …" } else { "" };
            let message = format!(
                "a tokenizer ({}{more}); give --base to hold it against the base's: it decides what the model is told",
                listed.join(", ")
            );
            found.push(Observation::new(Check::TokenizerCarried, first, message).resting_on(others.iter().copied()));
        }
        return rewriting(&own, None, found);
    };
    let own: Vec<Own> = carried.iter().filter_map(|file| own(file, Some(base), limits)).collect();
    if own.is_empty() {
        return;
    }
    let known = Known::read(base, &wanted(&own), limits);
    let mut differences = Differences::default();
    own.iter().for_each(|own| differences.compare(own, &known));
    found.extend(differences.finish());
    rewriting(&own, Some(&known), found);
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What a file holds; none where it is the base's.
fn own<'a>(file: &'a Found, base: Option<&Path>, limits: &Limits) -> Option<Own<'a>> {
    let name = file.record.path.as_str();
    let bytes = read_up_to(&file.path, limits.text_bytes).unwrap_or_default();
    let known = base.map(|base| counterpart(base, name));
    let is_known = known.as_ref().and_then(|known| begins_with_all(known, &bytes, limits.text_bytes).ok());
    // Of what is longer than the limit only the beginning was read.
    if is_known == Some(true) && (bytes.len() as u64) < limits.text_bytes {
        return None;
    }
    let content = content(name, &bytes);
    // A tokenizer may be as long as the limit: the adapter's and the base's are never in memory together.
    drop(bytes);
    let known = known.filter(|_| is_known.is_some()).and_then(|known| read_up_to(&known, limits.text_bytes).ok());
    let is_in_base = known.is_some();
    let counterpart = known.and_then(|known| print(name, &known));
    Some(Own { name, content, is_in_base, counterpart })
}

fn content(name: &str, bytes: &[u8]) -> Content {
    let settings = |read: Result<Settings, serde_json::Error>| read.map_or(Content::Broken, Content::Settings);
    match file_name(name).to_ascii_lowercase().as_str() {
        "tokenizer.json" => match Definition::read(bytes, &Wanted::default()) {
            Ok(definition) => Content::Definition(Box::new(definition)),
            Err(_) => Content::Broken,
        },
        "tokenizer_config.json" | "special_tokens_map.json" => settings(Settings::read(bytes)),
        "added_tokens.json" => settings(Settings::read_added(bytes)),
        "vocab.json" | "encoder.json" => vocabulary(bytes).map_or(Content::Broken, Content::Vocabulary),
        "merges.txt" | "vocab.bpe" => Content::Merges(merges_of_lines(&String::from_utf8_lossy(bytes))),
        "tekken.json" => serde_json::from_slice(bytes).map_or(Content::Broken, Content::Json),
        _ => Content::Other,
    }
}

/// The digest of what a file of the base holds, where that is compared whole.
fn print(name: &str, bytes: &[u8]) -> Option<Fingerprint> {
    if ["tokenizer.json", "tokenizer_config.json"].contains(&file_name(name)) {
        return None;
    }
    match content(name, bytes) {
        Content::Vocabulary(print) | Content::Merges(print) | Content::Json(print) => Some(print),
        _ => None,
    }
}

/// What is looked up in the base's vocabulary: the texts and ids of all tokens that the adapter states.
fn wanted(own: &[Own]) -> Wanted {
    let mut wanted = Wanted::default();
    for statement in own.iter().flat_map(Own::tokens) {
        wanted.pieces.extend(spellings(&statement.content));
        wanted.ids.extend(statement.id);
    }
    wanted
}

/// Objects to what takes ordinary text out of the model's sight and is not the base's.
fn rewriting(own: &[Own], known: Option<&Known>, found: &mut Vec<Observation>) {
    let is_known = |statement: &Statement| {
        known.is_some_and(|known| {
            known.tokens.get(&statement.content).is_some_and(|token| token.is_special == statement.is_special())
        })
    };
    let mut tokens: BTreeMap<&str, (&'static str, Vec<&str>)> = BTreeMap::new();
    for own in own {
        for statement in own.tokens().iter().filter(|statement| !is_known(statement)) {
            let id = statement.id.filter(|_| known.is_none());
            if let Some(reason) = ordinary::objection(statement, id) {
                let (_, files) = tokens.entry(&statement.content).or_insert((reason, Vec::new()));
                if files.last() != Some(&own.name) {
                    files.push(own.name);
                }
            }
        }
        let Content::Definition(definition) = &own.content else { continue };
        for part in ["normalizer", "decoder"] {
            let value = definition.parts.get(part);
            let of_base = known.and_then(|known| known.definition.as_ref()?.parts.get(part));
            if let Some(what) = value.filter(|value| of_base != Some(value)).and_then(ordinary::rewriting) {
                let message = format!("`{part}` replaces {what}: what was written is not what is read");
                found.push(Observation::new(Check::TokenizerRewrites, own.name, message).at(part));
            }
        }
    }
    let count = tokens.len();
    for (index, (token, (reason, files))) in tokens.into_iter().take(LISTED).enumerate() {
        let more =
            if index + 1 == LISTED && count > LISTED { format!(" ({} more)", count - LISTED) } else { String::new() };
        let message = format!("`{}` is made a token, {reason}{more}", shown(token));
        let first = files.first().copied().unwrap_or_default();
        let observation = Observation::new(Check::TokenizerRewrites, first, message)
            .at(shown(token))
            .resting_on(files.iter().skip(1).copied());
        found.push(observation);
    }
}
