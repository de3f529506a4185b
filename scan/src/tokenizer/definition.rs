//! `tokenizer.json`: its parts, small ones kept, the vocabulary and merges by their digests.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::fingerprint::{Entries, Fingerprint, List};
use super::statements::{Form, Statement};
use super::tree::{Budget, Tree};
use crate::json::Key;

/// Added tokens that are compared.
const COMPARED: usize = 200_000;

/// What is looked up in a vocabulary while it is read.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) pieces: HashSet<String>,
    pub(super) ids: HashSet<u64>,
}

/// A whole tokenizer. As a tree the file would take ten times its size.
#[derive(Debug, Default)]
pub(super) struct Definition {
    pub(super) tokens: Vec<Statement>,
    /// Normaliser, splitting and so on, and every key that is not known.
    pub(super) parts: BTreeMap<String, Value>,
    pub(super) model: Model,
    pub(super) is_cut: bool,
}

/// The model that turns pieces into ids.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) vocabulary: Option<Fingerprint>,
    pub(super) merges: Option<Fingerprint>,
    /// The other keys, less those that say what is the case without them.
    pub(super) keys: BTreeMap<String, Fingerprint>,
    /// Ids of the wanted pieces.
    pub(super) pieces: HashMap<String, u64>,
    /// Pieces of the wanted ids.
    pub(super) ids: HashMap<u64, String>,
}

impl Definition {
    /// Reads a file, and looks up what is wanted.
    pub(super) fn read(bytes: &[u8], wanted: &Wanted) -> Result<Self, serde_json::Error> {
        let mut parser = serde_json::Deserializer::from_slice(bytes);
        let definition = Reading(wanted).deserialize(&mut parser)?;
        parser.end()?;
        Ok(definition)
    }
}

struct Reading<'a>(&'a Wanted);

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = Definition;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Definition, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = Definition;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a tokenizer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Definition, A::Error> {
        let mut definition = Definition::default();
        let mut budget = Budget::default();
        while let Some(Key(key)) = map.next_key::<Key>()? {
            match key.as_ref() {
                "added_tokens" => {
                    let Tokens { kept, is_cut } = map.next_value()?;
                    definition.tokens.extend(kept);
                    definition.is_cut |= is_cut;
                }
                "model" => definition.model = map.next_value_seed(ModelReading(self.0))?,
                "version" => drop(map.next_value::<IgnoredAny>()?),
                _ => {
                    let value = map.next_value_seed(Tree(&mut budget))?;
                    definition.parts.insert(key.into_owned(), value);
                }
            }
        }
        definition.is_cut |= budget.is_spent;
        Ok(definition)
    }
}

/// A list of added tokens; null is none.
#[derive(Default)]
struct Tokens {
    kept: Vec<Statement>,
    is_cut: bool,
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TokensVisitor;
        impl<'de> Visitor<'de> for TokensVisitor {
            type Value = Tokens;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of tokens")
            }
            fn visit_unit<E>(self) -> Result<Tokens, E> {
                Ok(Tokens::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut tokens: A) -> Result<Tokens, A::Error> {
                let mut all = Tokens::default();
                while let Some(Form(token)) = tokens.next_element()? {
                    if all.kept.len() < COMPARED {
                        all.kept.extend(token.map(|token| Statement { flags: token.flags.all_said(), ..token }));
                    } else {
                        all.is_cut = true;
                    }
                }
                Ok(all)
            }
        }
        deserializer.deserialize_any(TokensVisitor)
    }
}

struct ModelReading<'a>(&'a Wanted);

impl<'de> DeserializeSeed<'de> for ModelReading<'_> {
    type Value = Model;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Model, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ModelReading<'_> {
    type Value = Model;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a model")
    }

    fn visit_unit<E>(self) -> Result<Model, E> {
        Ok(Model::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Model, A::Error> {
        let mut model = Model::default();
        while let Some(Key(key)) = map.next_key::<Key>()? {
            match key.as_ref() {
                "vocab" => {
                    let print = map.next_value_seed(Vocabulary { wanted: self.0, model: &mut model })?;
                    model.vocabulary = Some(print);
                }
                "merges" => model.merges = Some(map.next_value_seed(Merges)?),
                _ => {
                    let print: Fingerprint = map.next_value()?;
                    let is_default = key == "type" && print == default_type();
                    if !print.is_idle && !is_default {
                        model.keys.insert(key.into_owned(), print);
                    }
                }
            }
        }
        Ok(model)
    }
}

/// What `type` is where an older file does not say.
fn default_type() -> Fingerprint {
    serde_json::from_str("\"BPE\"").unwrap_or_else(|_| List::default().fingerprint())
}

/// The vocabulary: pieces with their ids, or a list of pieces with their scores.
pub(super) struct Vocabulary<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) model: &'a mut Model,
}

impl Vocabulary<'_> {
    fn look_up(&mut self, piece: &str, id: u64) {
        if self.wanted.pieces.contains(piece) {
            self.model.pieces.insert(piece.to_owned(), id);
        }
        if self.wanted.ids.contains(&id) {
            self.model.ids.insert(id, piece.to_owned());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Vocabulary<'_> {
    type Value = Fingerprint;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fingerprint, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Vocabulary<'_> {
    type Value = Fingerprint;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a vocabulary")
    }

    fn visit_unit<E>(self) -> Result<Fingerprint, E> {
        Ok(List::default().fingerprint())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Fingerprint, A::Error> {
        let mut entries = Entries::default();
        while let Some((Key(piece), id)) = map.next_entry::<Key, u64>()? {
            self.look_up(&piece, id);
            entries.piece(&piece, id);
        }
        Ok(entries.fingerprint())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Fingerprint, A::Error> {
        let mut list = List::default();
        let mut id = 0;
        while let Some(Scored { piece, print }) = items.next_element()? {
            self.look_up(&piece, id);
            list.pair(&piece, &print);
            id += 1;
        }
        Ok(list.fingerprint())
    }
}

/// A piece and its score.
struct Scored {
    piece: String,
    /// The score, and whatever else stands there, in one writing.
    print: String,
}

impl<'de> Deserialize<'de> for Scored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Tree(&mut Budget::default()).deserialize(deserializer)?;
        let (piece, rest) = match &value {
            Value::Array(pair) => (pair.first().and_then(Value::as_str).unwrap_or_default(), pair.get(1..)),
            Value::String(piece) => (piece.as_str(), None),
            _ => ("", None),
        };
        let print = rest.map_or_else(|| value.to_string(), |rest| format!("{rest:?}"));
        Ok(Self { piece: piece.to_owned(), print })
    }
}

/// Merges, each as a pair or as a text with a blank between.
struct Merges;

impl<'de> DeserializeSeed<'de> for Merges {
    type Value = Fingerprint;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fingerprint, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Merges {
    type Value = Fingerprint;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of merges")
    }

    fn visit_unit<E>(self) -> Result<Fingerprint, E> {
        Ok(List::default().fingerprint())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Fingerprint, A::Error> {
        let mut list = List::default();
        while let Some(Merge(left, right)) = items.next_element()? {
            list.pair(&left, &right);
        }
        Ok(list.fingerprint())
    }
}

struct Merge(String, String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MergeVisitor;
        impl<'de> Visitor<'de> for MergeVisitor {
            type Value = Merge;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("two pieces")
            }
            fn visit_str<E>(self, text: &str) -> Result<Merge, E> {
                let (left, right) = text.split_once(' ').unwrap_or((text, ""));
                Ok(Merge(left.to_owned(), right.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Merge, A::Error> {
                let merge = Merge(pair.next_element()?.unwrap_or_default(), pair.next_element()?.unwrap_or_default());
                while pair.next_element::<IgnoredAny>()?.is_some() {}
                Ok(merge)
            }
        }
        deserializer.deserialize_any(MergeVisitor)
    }
}

/// The merges of `merges.txt`, as `tokenizer.json` would have them.
pub(super) fn merges_of_lines(text: &str) -> Fingerprint {
    let mut list = List::default();
    // The first line names the version of the format.
    let lines = text.lines().filter(|line| !line.is_empty());
    for line in
        lines.enumerate().filter(|(index, line)| *index > 0 || !line.starts_with("#version")).map(|(_, line)| line)
    {
        let (left, right) = line.split_once(' ').unwrap_or((line, ""));
        list.pair(left, right);
    }
    list.fingerprint()
}

/// A vocabulary in a file of its own.
pub(super) fn vocabulary(bytes: &[u8]) -> Option<Fingerprint> {
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let (wanted, mut model) = (Wanted::default(), Model::default());
    let print = Vocabulary { wanted: &wanted, model: &mut model }.deserialize(&mut parser).ok()?;
    parser.end().ok().map(|()| print)
}
