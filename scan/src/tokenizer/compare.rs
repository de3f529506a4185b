//! An adapter's tokenizer against the base's: every token, part and key that is not the base's, and what that amounts
//! to.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::definition::{Definition, Model};
use super::fingerprint::Fingerprint;
use super::keys::{self, Weight};
use super::known::{Known, KnownToken};
use super::ordinary::is_prose;
use super::statements::{Flags, Settings, Statement};
use super::{Content, Own, file_name, parts};
use crate::check::{Check, Observation};
use crate::json::shown;

/// Tokens and keys that a message lists.
const LISTED: usize = 8;

/// What the files of an adapter say that the base's do not.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// New tokens, and the files that have any.
    new: BTreeSet<String>,
    with_new: BTreeSet<String>,
    found: Vec<Observation>,
}

impl Differences {
    /// Compares one file by what it holds.
    pub(super) fn compare(&mut self, own: &Own, known: &Known) {
        let before = self.found.len();
        match &own.content {
            Content::Definition(definition) => self.definition(own.name, definition, known),
            Content::Settings(settings) => self.settings(own.name, settings, known),
            Content::Vocabulary(print) => {
                let model = known.definition.as_ref().and_then(|known| known.model.vocabulary.as_ref());
                self.equal_or_not(own, print, model);
            }
            Content::Merges(print) => {
                let model = known.definition.as_ref().and_then(|known| known.model.merges.as_ref());
                self.equal_or_not(own, print, model);
            }
            Content::Json(print) => self.equal_or_not(own, print, None),
            Content::Broken => {
                self.differs(own.name, "", "is not the base's file, and is no tokenizer that can be read".to_owned());
            }
            Content::Other if own.is_in_base => {
                self.differs(own.name, "", "is not the base's file".to_owned());
            }
            Content::Other => self.lacking(own.name),
        }
        // Settings without a counterpart are held against the base's other files, where it has any.
        let is_settings = matches!(own.content, Content::Settings(_));
        if is_settings && !known.is_there && self.found.len() == before && own.says_something() {
            self.lacking(own.name);
        }
    }

    /// Everything found; new tokens once, whatever the number of files that have them.
    pub(super) fn finish(mut self) -> Vec<Observation> {
        if let Some(first) = self.with_new.first() {
            let listed = list(self.new.iter().map(|token| format!("`{}`", shown(token))));
            let message = format!("{} tokens that the base does not have: {listed}", self.new.len());
            let observation = Observation::new(Check::AddedTokens, first, message)
                .at("added_tokens")
                .measured(self.new.len() as f64)
                .resting_on(self.with_new.iter().skip(1));
            self.found.push(observation);
        }
        self.found
    }

    fn differs(&mut self, name: &str, place: &str, message: String) {
        self.found.push(Observation::new(Check::TokenizerDiffers, name, message).at(place));
    }

    fn lacking(&mut self, name: &str) {
        let message =
            "the base has no such file that can be read: what it adds to the tokenizer cannot be held against anything";
        self.differs(name, "", message.to_owned());
    }

    fn settings_differ(&mut self, name: &str, differing: &[String]) {
        if !differing.is_empty() {
            let listed = list(differing.iter().cloned());
            let message = format!("settings that change no ids are not the base's: {listed}");
            self.found.push(Observation::new(Check::TokenizerSettings, name, message));
        }
    }

    /// A file that is the base's where its content is, whatever its bytes.
    fn equal_or_not(&mut self, own: &Own, print: &Fingerprint, model: Option<&Fingerprint>) {
        if own.counterpart.as_ref() == Some(print) || model == Some(print) {
            return;
        }
        if !own.is_in_base && model.is_none() {
            self.lacking(own.name);
        } else {
            self.differs(own.name, "", "is not the base's: pieces, ids or their order differ".to_owned());
        }
    }

    fn definition(&mut self, name: &str, own: &Definition, known: &Known) {
        let Some(base) = &known.definition else {
            self.tokens(name, &own.tokens, known);
            return self.lacking(name);
        };
        if own.is_cut || base.is_cut {
            self.differs(name, "", "is larger than any tokenizer that is compared: not all of it was".to_owned());
        }
        self.parts(name, &own.parts, &base.parts);
        self.model(name, &own.model, &base.model);
        self.tokens(name, &own.tokens, known);
        let contents: BTreeSet<&String> = own.tokens.iter().map(|token| &token.content).collect();
        let gone: BTreeSet<&String> =
            base.tokens.iter().map(|token| &token.content).filter(|content| !contents.contains(content)).collect();
        if !gone.is_empty() {
            let listed = list(gone.iter().map(|token| format!("`{}`", shown(token))));
            let message = format!("{} tokens of the base are missing: {listed}", gone.len());
            self.differs(name, "added_tokens", message);
        }
    }

    fn parts(&mut self, name: &str, own: &BTreeMap<String, Value>, base: &BTreeMap<String, Value>) {
        let all: BTreeSet<&String> = own.keys().chain(base.keys()).collect();
        let mut handling = Vec::new();
        for part in all {
            let normal =
                |parts: &BTreeMap<String, Value>| parts.get(part).map_or(Value::Null, |own| parts::normal(part, own));
            let (own, base) = (normal(own), normal(base));
            if own == base {
                continue;
            }
            let difference = format!("`{}`, in the base `{}`", parts::texts(&own), parts::texts(&base));
            if parts::OF_CALLS.contains(&part.as_str()) {
                handling.push(format!("`{}`", shown(part)));
            } else if parts::of_one_text(&own) == parts::of_one_text(&base) {
                handling.push(format!("`{}` for pairs of texts", shown(part)));
            } else {
                self.differs(name, &shown(part), format!("`{}` is not the base's: {difference}", shown(part)));
            }
        }
        self.settings_differ(name, &handling);
    }

    fn model(&mut self, name: &str, own: &Model, base: &Model) {
        let keys: BTreeSet<&String> = own.keys.keys().chain(base.keys.keys()).collect();
        let mut differing: Vec<String> = keys
            .into_iter()
            .filter(|key| own.keys.get(*key) != base.keys.get(*key))
            .map(|key| format!("`{}`", shown(key)))
            .collect();
        if own.vocabulary != base.vocabulary {
            differing.push("the vocabulary".to_owned());
        }
        if own.merges != base.merges {
            differing.push("the merges or their order".to_owned());
        }
        if !differing.is_empty() {
            let listed = list(differing.into_iter());
            self.differs(name, "model", format!("the model is not the base's: {listed}"));
        }
    }

    fn settings(&mut self, name: &str, own: &Settings, known: &Known) {
        if own.is_cut {
            self.differs(name, "", "is larger than any settings that are compared: not all of it was".to_owned());
        }
        self.tokens(name, &own.tokens, known);
        let mut handling = Vec::new();
        self.roles(name, own, known, &mut handling);
        let none = BTreeMap::new();
        let keys = if file_name(name) == "tokenizer_config.json" { &own.keys } else { &none };
        let base_keys = known.keys.as_ref().filter(|_| !keys.is_empty()).unwrap_or(&none);
        for (key, weight, own, base) in keys::differences(keys, base_keys) {
            let text = |value: Option<&Value>| {
                value.map_or("not set".to_owned(), |value| format!("`{}`", shown(&value.to_string())))
            };
            let difference = format!("`{}` is {}, in the base {}", shown(key), text(own), text(base));
            match weight {
                Weight::Ids => self.differs(name, &shown(key), format!("{difference}: a text may become other ids")),
                Weight::Handling if known.keys.is_some() => handling.push(difference),
                Weight::Handling => {}
            }
        }
        self.settings_differ(name, &handling);
    }

    /// Roles of tokens: which token ends a text, fills it up, begins it.
    fn roles(&mut self, name: &str, own: &Settings, known: &Known, handling: &mut Vec<String>) {
        let ends = own.keys.get("add_eos_token") == Some(&Value::Bool(true));
        for (role, content) in &own.roles {
            // What the base does not say, its class or its config does.
            let Some(base) = known.roles.get(role).filter(|base| !base.contains(content)) else { continue };
            let text = |content: &Option<String>| {
                content.as_ref().map_or("none".to_owned(), |content| format!("`{}`", shown(content)))
            };
            let base = base.iter().map(text).collect::<Vec<String>>().join(" or ");
            let difference = format!("`{}` is {}, in the base {base}", shown(role), text(content));
            let is_known = content.as_ref().is_none_or(|content| known.tokens.contains_key(content));
            match role.as_str() {
                "pad_token" if is_known => handling.push(difference),
                "eos_token" if is_known && !ends => handling.push(difference),
                // A token that the base lacks is judged as one.
                _ if !is_known => {}
                _ => self.differs(name, &shown(role), difference),
            }
        }
    }

    /// Holds statements about tokens against the base's.
    fn tokens(&mut self, name: &str, own: &[Statement], known: &Known) {
        let is_whole = file_name(name) == "tokenizer.json";
        let mut differing: BTreeSet<&str> = BTreeSet::new();
        let mut reasons = Vec::new();
        for statement in own {
            let reason = if let Some(token) = known.tokens.get(&statement.content) {
                judge_known(statement, token, is_whole)
            } else {
                self.new.insert(statement.content.clone());
                self.with_new.insert(name.to_owned());
                judge_new(statement, known)
            };
            if let Some(reason) = reason
                && differing.insert(&statement.content)
                && reasons.len() <= LISTED
            {
                reasons.push(format!("`{}` {reason}", shown(&statement.content)));
            }
        }
        if !differing.is_empty() {
            let message = format!("{} tokens are not the base's: {}", differing.len(), list(reasons.into_iter()));
            self.differs(name, "added_tokens", message);
        }
    }
}

/// In which way a token that the base has is another one here.
///
/// Versions of the library disagree on whether marks are looked for in normalised text; what splits a text is in
/// `tokenizer.json`.
fn judge_known(statement: &Statement, token: &KnownToken, is_whole: bool) -> Option<String> {
    let is_loose = !is_whole && is_mark(&statement.content);
    let flags = Flags { normalized: statement.flags.normalized.filter(|_| !is_loose), ..statement.flags };
    if let Some((flag, value)) = token.differing(flags) {
        return Some(format!("has `{flag}` {value}"));
    }
    if statement.is_special() && !token.is_special {
        return Some("is special here".to_owned());
    }
    if statement.role.is_none() && statement.flags.special == Some(false) && !token.is_plain() {
        return Some("is not special here".to_owned());
    }
    let id = statement.id.filter(|id| !token.ids.is_empty() && !token.ids.contains(id))?;
    Some(format!("has id {id}"))
}

/// Why a token that the base does not have is more than one with a place of its own.
fn judge_new(statement: &Statement, known: &Known) -> Option<String> {
    let content = statement.content.as_str();
    let other = statement.id.and_then(|id| Some((id, known.at_id(id)?))).filter(|(_, other)| *other != content);
    if let Some((id, other)) = other {
        return Some(format!("has id {id}, in the base that of `{}`", shown(other)));
    }
    if known.piece(content).is_some() && !is_mark(content) {
        return Some("is a piece of the base's vocabulary, and a token of its own here".to_owned());
    }
    (statement.is_special() && is_prose(content)).then(|| "is ordinary text, and special here".to_owned())
}

/// Whether a text is a mark that vocabularies list among their pieces, such as `<pad>`, though no text is split into
/// it.
fn is_mark(content: &str) -> bool {
    let pairs = [('<', '>'), ('[', ']'), ('{', '}'), ('|', '|')];
    content.chars().count() > 2
        && pairs.iter().any(|(open, close)| content.starts_with(*open) && content.ends_with(*close))
}

/// The first of a list in words.
fn list(items: impl Iterator<Item = String>) -> String {
    let mut items = items.peekable();
    let listed: Vec<String> = items.by_ref().take(LISTED).collect();
    let more = if items.peek().is_some() { ", …" } else { "" };
    format!("{}{more}", listed.join(", "))
}
