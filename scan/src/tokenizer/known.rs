//! What a base's folder says of its tokenizer, all its files together: the same token may be stated in four of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::definition::{Definition, Wanted};
use super::statements::{Flags, Settings, Statement};
use crate::files::read_up_to;
use crate::limits::Limits;

/// A token of the base. Its files need not agree, so a set holds what any of them says.
#[derive(Debug, Default)]
pub(super) struct KnownToken {
    pub(super) ids: BTreeSet<u64>,
    pub(super) is_special: bool,
    said: Vec<Flags>,
}

impl KnownToken {
    /// Whether any of the base's files says that the token is not special.
    pub(super) fn is_plain(&self) -> bool {
        !self.is_special || self.said.iter().any(|flags| flags.special == Some(false))
    }

    /// The first flag that differs from all that the base says, with the value that it has here.
    ///
    /// Where the base says nothing of a flag, off is no difference, and neither is how normalised text is matched.
    pub(super) fn differing(&self, own: Flags) -> Option<(&'static str, bool)> {
        type Flag = fn(&Flags) -> Option<bool>;
        let flags: [(&str, Flag); 4] = [
            ("lstrip", |flags| flags.lstrip),
            ("rstrip", |flags| flags.rstrip),
            ("single_word", |flags| flags.single_word),
            ("normalized", |flags| flags.normalized),
        ];
        flags.into_iter().find_map(|(name, flag)| {
            let value = flag(&own)?;
            let mut said = self.said.iter().filter_map(flag).peekable();
            let is_known = match said.peek() {
                Some(_) => said.any(|said| said == value),
                None => !value || (name == "normalized" && self.said.is_empty()),
            };
            (!is_known).then_some((name, value))
        })
    }
}

/// The tokenizer of a base.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whether there is any file of a tokenizer.
    pub(super) is_there: bool,
    pub(super) tokens: HashMap<String, KnownToken>,
    /// Texts of added tokens by their ids.
    pub(super) by_id: HashMap<u64, BTreeSet<String>>,
    pub(super) roles: BTreeMap<String, BTreeSet<Option<String>>>,
    /// Keys of `tokenizer_config.json`, where there is one.
    pub(super) keys: Option<BTreeMap<String, Value>>,
    /// `tokenizer.json`, where there is one that can be read.
    pub(super) definition: Option<Definition>,
}

impl Known {
    /// Reads the files of a base; of its vocabulary only what is wanted.
    pub(super) fn read(base: &Path, wanted: &Wanted, limits: &Limits) -> Self {
        let mut known = Self::default();
        let bytes = |name: &str| read_up_to(&base.join(name), limits.text_bytes).ok();
        known.is_there = std::fs::read_dir(base)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.file_name().to_str().is_some_and(super::is_file));
        if let Some(definition) = bytes("tokenizer.json").and_then(|bytes| Definition::read(&bytes, wanted).ok()) {
            known.add(&definition.tokens);
            known.definition = Some(definition);
        }
        if let Some(settings) = bytes("tokenizer_config.json").and_then(|bytes| Settings::read(&bytes).ok()) {
            known.add(&settings.tokens);
            known.add_roles(&settings.roles);
            known.keys = Some(settings.keys);
        }
        if let Some(settings) = bytes("special_tokens_map.json").and_then(|bytes| Settings::read(&bytes).ok()) {
            known.add(&settings.tokens);
            known.add_roles(&settings.roles);
        }
        if let Some(settings) = bytes("added_tokens.json").and_then(|bytes| Settings::read_added(&bytes).ok()) {
            known.add(&settings.tokens);
        }
        known
    }

    fn add(&mut self, statements: &[Statement]) {
        for statement in statements {
            let token = self.tokens.entry(statement.content.clone()).or_default();
            token.is_special |= statement.is_special();
            token.ids.extend(statement.id);
            if statement.flags != Flags::default() && !token.said.contains(&statement.flags) {
                token.said.push(statement.flags);
            }
            if let Some(id) = statement.id {
                self.by_id.entry(id).or_default().insert(statement.content.clone());
            }
        }
    }

    fn add_roles(&mut self, roles: &BTreeMap<String, Option<String>>) {
        for (role, content) in roles {
            self.roles.entry(role.clone()).or_default().insert(content.clone());
        }
    }

    /// The id of a text in the base's vocabulary, itself or with a blank before it.
    pub(super) fn piece(&self, content: &str) -> Option<u64> {
        let pieces = &self.definition.as_ref()?.model.pieces;
        spellings(content).find_map(|spelling| pieces.get(&spelling).copied())
    }

    /// What the base has under an id: an added token, or a piece.
    pub(super) fn at_id(&self, id: u64) -> Option<&str> {
        let added = self.by_id.get(&id).and_then(|contents| contents.first());
        added.or_else(|| self.definition.as_ref()?.model.ids.get(&id)).map(String::as_str)
    }
}

/// How a vocabulary may spell a text: as it is, and with its blanks as the two common kinds of piece have them.
pub(super) fn spellings(content: &str) -> impl Iterator<Item = String> {
    let trimmed = content.trim();
    let mut all = vec![content.to_owned(), format!("▁{trimmed}"), format!("Ġ{trimmed}")];
    if content.contains(' ') {
        all.extend([trimmed.to_owned(), content.replace(' ', "▁"), content.replace(' ', "Ġ")]);
    }
    all.into_iter().filter(|spelling| !matches!(spelling.as_str(), "" | "▁" | "Ġ"))
}

/// The base's file of the same name: in the same folder below it, or beside its weights.
pub(super) fn counterpart(base: &Path, name: &str) -> PathBuf {
    let same = base.join(name);
    if same.is_file() { same } else { base.join(name.rsplit('/').next().unwrap_or(name)) }
}
