//! JSON of strangers: parsed within bounds, searched for what makes a loader run code, shown without what deceives a terminal.

use std::borrow::Cow;
use std::path::Path;

use lcr_documents::characters::is_deceptive;
use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

use crate::check::{Check, Observation};
use crate::files::read_up_to;
use crate::limits::Limits;

/// Characters of a stranger's text that a message quotes.
const SHOWN: usize = 120;
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

/// Looks through any JSON file for keys that make a loader run code; nothing of it is kept, so its length costs no memory.
pub(crate) fn observe(name: &str, path: &Path, limits: &Limits, found: &mut Vec<Observation>) {
    let bytes = match read(name, path, limits.text_bytes) {
        Ok(bytes) => bytes,
        Err(observation) => return found.push(observation),
    };
    let mut search = Search { wanted: 0, hits: Vec::new() };
    // The parser gives up at 128 levels of nesting, so depth is bounded as well.
    let mut parser = serde_json::Deserializer::from_slice(&bytes);
    let outcome = Node(&mut search).deserialize(&mut parser).and_then(|_| parser.end());
    found.extend(search.hits.into_iter().map(|hit| hit.observation(name)));
    if let Err(error) = outcome {
        found.push(Observation::new(Check::ConfigSyntax, name, format!("not valid JSON: {error}")));
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

/// A walk through a document.
#[derive(Default)]
struct Search {
    /// Keys that loaders act on and that the walk is inside of: texts are kept only there.
    wanted: usize,
    hits: Vec<Hit>,
}

/// A key that makes a loader run code. Its path is put together on the way out, so that a document without any costs none.
struct Hit {
    /// The innermost first.
    path: Vec<String>,
    value: String,
    reason: &'static str,
}

impl Hit {
    fn observation(self, name: &str) -> Observation {
        let path: Vec<String> = self.path.into_iter().rev().collect();
        let place = path.join(".").replace(".[]", "[]");
        let message = format!("`{place}` is {}: {}", shown(&self.value), self.reason);
        Observation::new(Check::RemoteCode, name, message).at(shown(&place))
    }
}

impl Search {
    /// Judges the value of a key that loaders act on.
    fn key(&mut self, key: &str, seen: &Seen) {
        const MOST: usize = 20;
        let reason = match key {
            "parent_library" if seen.asks && !seen.text.as_deref().is_some_and(is_known_library) => {
                "the library imports a module of that name when it loads the adapter"
            }
            key if CODE_KEYS.contains(&key) && seen.asks => {
                "a loader that trusts it imports and runs code that is no part of the weights"
            }
            _ => return,
        };
        if self.hits.len() < MOST {
            let value = seen.text.clone().unwrap_or_else(|| "set".to_owned());
            self.hits.push(Hit { path: Vec::new(), value, reason });
        }
    }

    /// Puts a step before the paths of what was found since there were so many.
    fn lead(&mut self, since: usize, step: &str) {
        for hit in self.hits.iter_mut().skip(since) {
            hit.path.push(shown(step));
        }
    }
}

/// A key that is copied only where it has escapes.
pub(crate) struct Key<'de>(pub(crate) Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// What a value amounts to.
#[derive(Default)]
struct Seen {
    /// Whether it asks for anything: null, false and what holds nothing else do not.
    asks: bool,
    /// A text, or the first text in a list or an object.
    text: Option<String>,
}

impl Seen {
    fn scalar(asks: bool) -> Self {
        Self { asks, text: None }
    }
}

/// One value of the document.
struct Node<'a>(&'a mut Search);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Seen;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Seen, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Seen;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::default())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Seen, E> {
        Ok(Seen::scalar(value))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Seen, E> {
        Ok(Seen::scalar(true))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen::scalar(true))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen::scalar(true))
    }

    fn visit_str<E>(self, text: &str) -> Result<Seen, E> {
        Ok(Seen { asks: true, text: (self.0.wanted > 0).then(|| shown(text)) })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Seen, A::Error> {
        let mut whole = Seen::default();
        let since = self.0.hits.len();
        loop {
            let item = items.next_element_seed(Node(self.0));
            if !matches!(item, Ok(Some(_))) {
                self.0.lead(since, "[]");
            }
            let Some(seen) = item? else { return Ok(whole) };
            whole.asks |= seen.asks;
            whole.text = whole.text.or(seen.text);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        let mut whole = Seen::default();
        while let Some(Key(key)) = map.next_key::<Key>()? {
            let is_wanted = key == "parent_library" || CODE_KEYS.contains(&key.as_ref());
            let since = self.0.hits.len();
            self.0.wanted += usize::from(is_wanted);
            let seen = map.next_value_seed(Node(self.0));
            self.0.wanted -= usize::from(is_wanted);
            if let Ok(seen) = &seen {
                whole.asks |= seen.asks;
                whole.text = whole.text.or_else(|| seen.text.clone());
                if is_wanted {
                    self.0.key(&key, seen);
                }
            }
            // A document that breaks off later still has what it had.
            self.0.lead(since, &key);
            seen?;
        }
        Ok(whole)
    }
}

/// Libraries whose modules an adapter's `auto_mapping` may name.
fn is_known_library(name: &str) -> bool {
    ["transformers.", "diffusers.", "peft."].iter().any(|known| name.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn searched(text: &str) -> Vec<Observation> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
        let mut found = Vec::new();
        observe("config.json", file.path(), &Limits::default(), &mut found);
        found
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
        assert!(searched(r#"{"auto_mapping": {"parent_library": "transformers.models.gpt2"}}"#).is_empty());
        assert!(searched(r#"{"auto_mapping": {"parent_library": null}}"#).is_empty());
    }

    #[test]
    fn what_is_no_json_is_said() {
        for text in ["", "{", "[1,]", "{} {}", &"[".repeat(100_000)] {
            assert_eq!(searched(text).first().map(|found| found.check), Some(Check::ConfigSyntax), "{text:.20}");
        }
    }

    #[test]
    fn what_deceives_a_terminal_is_escaped() {
        assert_eq!(shown("a\u{1b}[2Kb\u{202e}"), "a\\u{1b}[2Kb\\u{202e}");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), SHOWN + 1);
    }
}
