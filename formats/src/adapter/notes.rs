//! What a reader of the audit should know about an adapter's files, and what kind of thing that is.

use std::collections::BTreeMap;
use std::fmt;

use super::{Adapter, is_classification_head, module_of};

/// What a note is about; a scan makes an observation of each kind that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteKind {
    /// The tensors are relative to a base that their initialisation changed.
    BaseChanged,
    /// What loading does with modules that have no tensors.
    Initialization,
    /// Whole tensors that the config does not announce.
    UndeclaredWhole,
    /// Versions or kinds of loaders make different things of the files.
    LoadersDisagree,
    /// Keys hold the name of an adapter, which loaders insert by themselves.
    AdapterNameInKeys,
    /// A head that classifies texts, which no language model has.
    ClassificationHead,
    /// Changes to a part of a model that sees or hears.
    Senses,
}

/// One note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub kind: NoteKind,
    /// What a person reads.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Keys that hold the name of an adapter: the first of each name.
pub(super) fn names_in_keys(names: &BTreeMap<String, String>) -> Option<Note> {
    let (first, key) = names.first_key_value()?;
    let listed: Vec<String> = names.keys().take(4).map(|name| format!("`{name}`")).collect();
    let marked = key.rsplit_once(&format!(".{first}")).map_or(key.as_str(), |(before, _)| before);
    let marker = marked.rsplit('.').next().unwrap_or(marked);
    let text = format!(
        "the keys hold the name of an adapter ({}, as in `{key}`), which files saved by PEFT do not: PEFT up to 0.20 \
         makes `{marker}.{first}.default` of it and drops the tensor with a warning, so that the loaded adapter does \
         nothing, later versions take it only where the adapter is loaded under that name, and vLLM refuses it. What \
         is read here is the change that the tensors hold. Take the name out of the keys, or save the adapter with \
         save_pretrained",
        listed.join(", ")
    );
    Some(Note { kind: NoteKind::AdapterNameInKeys, text })
}

/// A whole tensor under `modules_to_save`, as a running model calls it; its first key.
pub(super) fn marked_whole(key: &str) -> Note {
    let text = format!(
        "`{key}` is a whole tensor as a running model names it: files saved by PEFT leave `modules_to_save` out, PEFT \
         itself finds no place for this key and drops the tensor with a warning, and other loaders read it. What is \
         measured here is the tensor put in place. Take `modules_to_save.` out of the key, or save the adapter with \
         save_pretrained"
    );
    Note { kind: NoteKind::LoadersDisagree, text }
}

impl Adapter {
    /// Notes on what the modules are, by their paths.
    pub(super) fn note_modules(&mut self) {
        let whole = self.modules_to_save.keys().map(|name| module_of(name));
        let low_rank = self.modules.keys().chain(self.embeddings.keys()).chain(self.biases.keys());
        let mut paths: Vec<&str> = low_rank.map(String::as_str).chain(whole).collect();
        paths.sort_unstable();
        paths.dedup();
        let heads: Vec<String> =
            paths.iter().filter(|path| is_classification_head(path)).map(|path| format!("`{path}`")).collect();
        let senses: Vec<&&str> = paths.iter().filter(|path| super::foreign::is_of_senses(path)).collect();
        let mut notes = Vec::new();
        if !heads.is_empty() {
            let text = format!(
                "{} is a classification head, not a head over tokens: a language model has none, so a comparison sets \
                 it aside and audits the rest",
                heads.join(", ")
            );
            notes.push(Note { kind: NoteKind::ClassificationHead, text });
        }
        if let Some(first) = senses.first() {
            let text = format!(
                "changes a part that sees or hears, in {} of its modules (first: `{first}`): such an adapter cannot be \
                 compared with a text model",
                senses.len()
            );
            notes.push(Note { kind: NoteKind::Senses, text });
        }
        self.notes.extend(notes);
    }
}
