//! JSON of strangers: parsed within bounds, searched for what makes a loader run code and for keys that stand twice,
//! shown without what deceives a terminal.
//!
//! How strictly a file is read depends on who reads it. What a loader takes must be JSON to every reader, since two
//! readers that disagree see two adapters. Logs and data sets are read by nobody here: Python writes NaN into them, and
//! rows without a list.

mod lenient;
mod search;

use std::path::Path;

use lcr_documents::characters::is_deceptive;

use crate::check::{Check, Observation};
use crate::files::read_up_to;
use crate::limits::Limits;
pub(crate) use search::Key;

/// Characters of a stranger's text that a message quotes.
const SHOWN: usize = 120;

/// A stranger's text for a message: one line, control and direction characters escaped, cut.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == SHOWN {
            out.push('…');
            break;
        }
        if is_deceptive(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

/// A message of any length with strangers' text in it: one line, control and direction characters escaped, cut late.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 800;
    let mut out = String::new();
    for character in text.chars().take(LONGEST) {
        if is_deceptive(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

/// Who reads a JSON file of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Loaders of models and adapters: settings.
    Loader,
    /// The same; holds a vocabulary, in which any text may stand.
    Tokenizer,
    /// Nobody who loads: logs, results, data.
    Nobody,
}

impl Reader {
    /// By the file's name, whatever folder it lies in.
    pub(crate) fn of(name: &str) -> Self {
        const LOADED: [&str; 6] =
            ["modules.json", "model_index.json", "chat_template.json", "params.json", "normalizer.json", "config.json"];
        // What a trainer was told, and not what it made.
        const RECORDS: [&str; 6] = ["train", "run", "wandb", "experiment", "sweep", "axolotl"];
        let base = name.rsplit('/').next().unwrap_or(name).to_lowercase();
        if crate::tokenizer::is_file(&base) && base != "tokenizer_config.json" {
            return Self::Tokenizer;
        }
        let is_settings = ["config", "token", "quant", "processor"].iter().any(|part| base.contains(part));
        let is_record = RECORDS.iter().any(|record| base.starts_with(record));
        match () {
            () if LOADED.contains(&base.as_str()) || base.ends_with(".index.json") => Self::Loader,
            () if is_settings && !is_record => Self::Loader,
            () => Self::Nobody,
        }
    }
}

/// Looks through any JSON file for keys that make a loader run code; nothing of it is kept, so its length costs no
/// memory.
pub(crate) fn observe(name: &str, path: &Path, limits: &Limits, found: &mut Vec<Observation>) {
    let mut bytes = match read(name, path, limits.text_bytes) {
        Ok(bytes) => bytes,
        Err(observation) => return found.push(observation),
    };
    let reader = Reader::of(name);
    let base = name.rsplit('/').next().unwrap_or(name);
    let outcome = match reader {
        Reader::Nobody => {
            lenient::without_names_of_numbers(&mut bytes);
            search::values(base, lenient::without_mark(&bytes), found, name)
        }
        // Python writes `Infinity` into configs of state-space models (`time_step_limit`).
        Reader::Loader if base == "config.json" => {
            lenient::without_names_of_numbers(&mut bytes);
            search::value(base, &bytes, found, name)
        }
        Reader::Loader | Reader::Tokenizer => search::value(base, &bytes, found, name),
    };
    if let Err(error) = outcome {
        found.push(match reader {
            Reader::Nobody => {
                let message = format!("not JSON, and read by no loader under this name: {error}");
                Observation::new(Check::UnknownFile, name, message)
            }
            Reader::Loader | Reader::Tokenizer => {
                Observation::new(Check::ConfigSyntax, name, format!("not valid JSON: {error}"))
            }
        });
    }
}

/// The bytes of a text file, or an observation that says why there are none.
pub(crate) fn read(name: &str, path: &Path, limit: u64) -> Result<Vec<u8>, Observation> {
    let bytes = read_up_to(path, limit + 1)
        .map_err(|error| Observation::new(Check::Unreadable, name, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > limit {
        let message = format!("more than {limit} bytes of text; not looked into");
        return Err(Observation::new(Check::BeyondLimits, name, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
