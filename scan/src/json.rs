//! JSON of strangers: parsed within bounds, searched for what makes a loader run code, shown without what deceives a terminal.

use std::path::Path;

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::check::{Check, Observation};
use crate::files::{is_deceptive, read_up_to};
use crate::limits::Limits;

/// Characters of a stranger's text that a message quotes.
const SHOWN: usize = 120;
/// Bytes of a JSON file that is searched key by key; longer ones (tokenizers) are read by their own readers.
const SEARCHED_BYTES: u64 = 4 << 20;
/// Keys that name code to be imported from the folder, or elsewhere.
const CODE_KEYS: [&str; 4] = ["auto_map", "trust_remote_code", "custom_pipelines", "_target_"];

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

/// A file's JSON, or an observation that says why there is none.
pub(crate) fn parse(name: &str, path: &Path, limits: &Limits) -> Result<Value, Observation> {
    let bytes = read(name, path, limits)?;
    if bytes.len() as u64 > SEARCHED_BYTES {
        let message = format!("more than {SEARCHED_BYTES} bytes of settings; not looked into");
        return Err(Observation::new(Check::BeyondLimits, name, message));
    }
    // The parser gives up at 128 levels of nesting, so depth is bounded as well.
    serde_json::from_slice(&bytes).map_err(|error| invalid(name, &error))
}

/// Looks through any JSON file for keys that make a loader run code.
pub(crate) fn observe(name: &str, path: &Path, limits: &Limits, found: &mut Vec<Observation>) {
    let bytes = match read(name, path, limits) {
        Ok(bytes) => bytes,
        Err(observation) => return found.push(observation),
    };
    if bytes.len() as u64 <= SEARCHED_BYTES {
        return match serde_json::from_slice(&bytes) {
            Ok(value) => search_for_code(name, &value, found),
            Err(error) => found.push(invalid(name, &error)),
        };
    }
    // As a tree a vocabulary would take ten times its size: here only its syntax is checked, and the keys are searched as text.
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(&bytes) {
        found.push(invalid(name, &error));
    }
    for key in CODE_KEYS {
        let quoted = format!("\"{key}\"");
        if bytes.windows(quoted.len()).any(|window| window == quoted.as_bytes()) {
            let message =
                format!("holds the key `{key}`, which makes a loader import and run code; too long to say where");
            found.push(Observation::new(Check::RemoteCode, name, message).at(key));
        }
    }
}

fn read(name: &str, path: &Path, limits: &Limits) -> Result<Vec<u8>, Observation> {
    let bytes = read_up_to(path, limits.text_bytes + 1)
        .map_err(|error| Observation::new(Check::Unreadable, name, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > limits.text_bytes {
        let message = format!("more than {} bytes of JSON; not looked into", limits.text_bytes);
        return Err(Observation::new(Check::BeyondLimits, name, message));
    }
    Ok(bytes)
}

fn invalid(name: &str, error: &serde_json::Error) -> Observation {
    Observation::new(Check::ConfigSyntax, name, format!("not valid JSON: {error}"))
}

/// Reports keys that make a loader run code.
fn search_for_code(name: &str, value: &Value, found: &mut Vec<Observation>) {
    let mut waiting: Vec<(String, &Value)> = vec![(String::new(), value)];
    while let Some((path, value)) = waiting.pop() {
        match value {
            Value::Object(map) => {
                for (key, below) in map {
                    let path = if path.is_empty() { shown(key) } else { format!("{path}.{}", shown(key)) };
                    if CODE_KEYS.contains(&key.as_str()) && asks_for_code(below) {
                        let message = format!(
                            "`{path}` is {}: a loader that trusts it imports and runs code that is no part of the weights",
                            shown(&below.to_string())
                        );
                        found.push(Observation::new(Check::RemoteCode, name, message).at(path.clone()));
                    }
                    if key == "parent_library" && !below.as_str().is_some_and(is_known_library) {
                        let message = format!(
                            "`{path}` is {}: the library imports a module of that name when it loads the adapter",
                            shown(&below.to_string())
                        );
                        found.push(Observation::new(Check::RemoteCode, name, message).at(path.clone()));
                    }
                    waiting.push((path, below));
                }
            }
            Value::Array(items) => waiting.extend(items.iter().map(|item| (format!("{path}[]"), item))),
            _ => {}
        }
    }
}

/// Libraries whose modules an adapter's `auto_mapping` may name.
fn is_known_library(name: &str) -> bool {
    ["transformers.", "diffusers.", "peft."].iter().any(|known| name.starts_with(known))
}

/// `auto_map: null` and `trust_remote_code: false` ask for nothing.
fn asks_for_code(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Object(map) => map.values().any(asks_for_code),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_found_wherever_it_hides_and_absence_is_not() {
        let value = serde_json::json!({
            "a": [{ "auto_map": { "AutoModel": "modeling.Evil" } }], "trust_remote_code": false, "auto_map": null,
        });
        let mut found = Vec::new();
        search_for_code("config.json", &value, &mut found);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, "a[].auto_map");
    }

    #[test]
    fn what_deceives_a_terminal_is_escaped() {
        assert_eq!(shown("a\u{1b}[2Kb\u{202e}"), "a\\u{1b}[2Kb\\u{202e}");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), SHOWN + 1);
    }
}
