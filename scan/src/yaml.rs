//! YAML of strangers: searched for what makes a reader build objects of Python or call what a key names.
//!
//! Settings of a training run lie beside many adapters and are read by nobody who loads one, so they are not objected
//! to. What is looked for harms whoever opens the file with the wrong reader. Events are read one by one and aliases
//! are not followed, so that no document grows.

use std::path::Path;

use saphyr_parser::{Event, Parser, Tag};

use crate::check::{Check, Observation};
use crate::json::shown;
use crate::limits::Limits;

/// What the tags of Python's objects begin with.
const PYTHON: &str = "tag:yaml.org,2002:python/";
/// Python's plain values, which no reader calls anything for.
const PLAIN: [&str; 12] =
    ["none", "bool", "str", "unicode", "bytes", "int", "long", "float", "complex", "list", "tuple", "dict"];
/// The key by which hydra calls what its value names.
const TARGET: &str = "_target_";
/// Findings that are listed of a file.
const MOST: usize = 20;
/// Bytes of a document that is parsed: the parser holds a line of many pairs whole, at some three hundred times its
/// length.
const PARSED: usize = 256 << 10;
/// What a longer document is searched for as text; the last ones are ways to spell the others otherwise.
const WORDS: [&str; 7] = ["!!python/", "tag:yaml.org", TARGET, "%TAG", "\\x5f", "\\u005f", "!!py%"];

/// Whether a name is a YAML file's.
pub(crate) fn is_named(name: &str) -> bool {
    ["yaml", "yml"].contains(&crate::kind::extension(name).as_str())
}

/// Looks through a YAML file.
pub(crate) fn observe(name: &str, path: &Path, limits: &Limits, found: &mut Vec<Observation>) {
    match crate::json::read(name, path, limits.settings_bytes) {
        Ok(bytes) => found.extend(
            search(&String::from_utf8_lossy(&bytes))
                .into_iter()
                .map(|(place, message)| Observation::new(Check::RemoteCode, name, message).at(place)),
        ),
        Err(observation) => found.push(observation),
    }
}

/// Places and what is there.
fn search(text: &str) -> Vec<(String, String)> {
    if text.len() > PARSED {
        return search_as_text(text).into_iter().collect();
    }
    let mut found = Vec::new();
    let mut follows_target = false;
    for event in Parser::new_from_str(text) {
        // Other readers may go on where this one gives up.
        let Ok((event, span)) = event else {
            found.extend(search_as_text(text));
            break;
        };
        let place = || format!("line {}", span.start.line());
        let tag = match &event {
            Event::Scalar(_, _, _, tag) | Event::SequenceStart(_, tag) | Event::MappingStart(_, tag) => tag.as_deref(),
            _ => None,
        };
        if let Some(named) = tag.and_then(python) {
            let message =
                format!("the tag `!!python/{}`: a reader that rebuilds objects imports and calls it", shown(&named));
            found.push((place(), message));
        }
        if std::mem::take(&mut follows_target) {
            let value = if let Event::Scalar(value, ..) = &event { shown(value) } else { "set".to_owned() };
            found.push((place(), format!("`{TARGET}` is {value}: hydra imports what it names and calls it")));
        }
        follows_target = matches!(&event, Event::Scalar(value, ..) if value == TARGET);
        if found.len() >= MOST {
            break;
        }
    }
    found
}

/// What of Python's a tag names, beyond plain values.
fn python(tag: &Tag) -> Option<String> {
    let whole = format!("{}{}", tag.handle, tag.suffix);
    let whole = whole.strip_prefix("!!").map_or(whole.clone(), |suffix| format!("tag:yaml.org,2002:{suffix}"));
    let named = whole.strip_prefix(PYTHON)?;
    (!PLAIN.contains(&named)).then(|| named.to_owned())
}

/// Where a document is not followed, what stands in it says enough.
fn search_as_text(text: &str) -> Option<(String, String)> {
    let has_words = |line: &str| WORDS.iter().any(|word| line.contains(word));
    let (number, line) = text.lines().enumerate().find(|(_, line)| has_words(line))?;
    let what = shown(line.trim());
    let message = format!("a reader that is lenient may import and call what stands in this line: `{what}`");
    Some((format!("line {}", number + 1), message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_python_are_found_however_they_are_tagged() {
        for text in [
            "x: !!python/object/apply:os.system [id]\n",
            "- !!python/name:os.system ''\n",
            "x: !<tag:yaml.org,2002:python/object/new:os.system> [id]\n",
            "%TAG !p! tag:yaml.org,2002:python/\n---\nx: !p!object/apply:os.system [id]\n",
            "%TAG ! tag:yaml.org,2002:python/\n---\nx: !object/apply:os.system [id]\n",
            "%TAG !! tag:yaml.org,2002:py\n---\nx: !!thon/object/apply:os.system [id]\n",
            "x: !!py%74hon/object/apply:os.system [id]\n",
            "? !!python/module:os ''\n: 1\n",
            "a: &a {b: [!!python/object:m.C {x: 1}]}\n",
            "a: [1\nx: !!python/object/apply:os.system [id]\n",
        ] {
            assert!(!search(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn targets_are_found_however_the_key_is_written() {
        for text in [
            "_target_: os.system\n",
            "a:\n  - {\"_target_\": os.system, command: id}\n",
            "'_target_' : os.system\n",
            "\"\\x5ftarget_\": os.system\n",
            "? _target_\n: os.system\n",
            "{_target_: os.system}",
        ] {
            assert_eq!(search(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn settings_of_a_training_run_are_not_objected_to() {
        for text in [
            "base_model: meta-llama/Llama-3.1-8B\ntrust_remote_code: true\nadapter: lora\nlora_r: 16\n",
            "model:\n  _component_: torchtune.models.llama3.lora_llama3_8b\n",
            "# _target_: what hydra would call\nplugins:\n  - axolotl.integrations.liger.LigerPlugin\n",
            "stage: sft\ntemplate: llama3\nscopes: !!python/tuple [1, 2]\n",
            "defaults: &d {lr: 1.0e-4}\nrun:\n  <<: *d\n",
            "",
            "text: |\n  !!python/object/apply:os.system is a tag\n",
        ] {
            assert!(search(text).is_empty(), "{text}: {:?}", search(text));
        }
        assert!(search(&"target_modules: [q_proj]\n".repeat(20_000)).is_empty());
    }

    #[test]
    fn long_documents_are_searched_as_text() {
        let long = "key: value\n".repeat(PARSED / 10);
        for end in ["_target_: os.system\n", "\"\\x5ftarget_\": x\n", "a: !!python/name:os.system\n"] {
            assert_eq!(search(&format!("{long}{end}")).len(), 1, "{end}");
        }
    }

    #[test]
    fn long_and_deep_documents_end() {
        for text in ["[", "{", "- ", "? ", "a: ", "!!python/x ", "&a ", "\"", "- [", "*a ", "a:\n ", "|\n"] {
            let found = search(&text.repeat(1_000_000 / text.len()));
            assert!(found.len() <= MOST, "{text}");
        }
    }
}
