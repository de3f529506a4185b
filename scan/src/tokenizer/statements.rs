//! What a tokenizer's settings say: tokens with their flags, special tokens by their names, and all other keys.
//!
//! The same is said in several files and in several ways: `"eos_token": "</s>"`, or an object with `content`; a token
//! of `added_tokens_decoder` under its id, or in a list. Here all of them are statements about one text.

use std::collections::BTreeMap;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::tree::{Budget, Tree};
use crate::json::Key;

/// Statements that are kept of a file; the largest published tokenizers have some thousand added tokens.
const KEPT: usize = 200_000;

/// How a token is found in a text; none where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) special: Option<bool>,
    pub(super) lstrip: Option<bool>,
    pub(super) rstrip: Option<bool>,
    pub(super) single_word: Option<bool>,
    pub(super) normalized: Option<bool>,
}

impl Flags {
    /// The same in a file in which every flag is said: what is missing there is off.
    pub(super) fn all_said(self) -> Self {
        let said = |flag: Option<bool>| Some(flag.unwrap_or(false));
        Self {
            special: said(self.special),
            lstrip: said(self.lstrip),
            rstrip: said(self.rstrip),
            single_word: said(self.single_word),
            normalized: said(self.normalized),
        }
    }
}

/// What is said of one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// The text that is made a token.
    pub(super) content: String,
    pub(super) id: Option<u64>,
    /// The key that gives it a role: `eos_token`, or a list of special tokens.
    pub(super) role: Option<String>,
    pub(super) flags: Flags,
}

impl Statement {
    /// Whether the statement makes the text special: a token that is left out of what a reader sees.
    pub(super) fn is_special(&self) -> bool {
        self.role.is_some() || self.flags.special == Some(true)
    }
}

/// A file of settings.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) tokens: Vec<Statement>,
    /// Roles of single tokens, also those that are given to none.
    pub(super) roles: BTreeMap<String, Option<String>>,
    /// Everything else, less the chat template.
    pub(super) keys: BTreeMap<String, Value>,
    /// Whether something was too large to be kept.
    pub(super) is_cut: bool,
}

impl Settings {
    /// `tokenizer_config.json` or `special_tokens_map.json`.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// `added_tokens.json`: texts with their ids.
    pub(super) fn read_added(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut settings = Self::default();
        let mut parser = serde_json::Deserializer::from_slice(bytes);
        Added(&mut settings).deserialize(&mut parser)?;
        parser.end()?;
        Ok(settings)
    }

    fn push(&mut self, form: Form, role: Option<&str>, id: Option<u64>) {
        let Form(Some(mut statement)) = form else { return };
        if self.tokens.len() == KEPT {
            self.is_cut = true;
            return;
        }
        statement.role = role.map(str::to_owned);
        statement.id = id.or(statement.id);
        self.tokens.push(statement);
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SettingsVisitor;
        impl<'de> Visitor<'de> for SettingsVisitor {
            type Value = Settings;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of settings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
                let mut settings = Settings::default();
                let mut budget = Budget::default();
                while let Some(Key(key)) = map.next_key::<Key>()? {
                    match key.as_ref() {
                        "chat_template" => drop(map.next_value::<IgnoredAny>()?),
                        "added_tokens_decoder" => {
                            map.next_value_seed(Forms { settings: &mut settings, role: None, are_ids: true })?;
                        }
                        "additional_special_tokens" | "extra_special_tokens" | "model_specific_special_tokens" => {
                            let role = Some(key.as_ref());
                            map.next_value_seed(Forms { settings: &mut settings, role, are_ids: false })?;
                        }
                        // `add_bos_token` is a switch.
                        role if role.ends_with("_token") && !role.starts_with("add_") => {
                            let form: Form = map.next_value()?;
                            let content = form.0.as_ref().map(|statement| statement.content.clone());
                            settings.roles.insert(role.to_owned(), content);
                            settings.push(form, Some(role), None);
                        }
                        _ => {
                            let value = map.next_value_seed(Tree(&mut budget))?;
                            settings.keys.insert(key.into_owned(), value);
                        }
                    }
                }
                settings.is_cut |= budget.is_spent;
                Ok(settings)
            }
        }
        deserializer.deserialize_map(SettingsVisitor)
    }
}

/// Tokens in a list, or in an object under their ids or names.
struct Forms<'a> {
    settings: &'a mut Settings,
    role: Option<&'a str>,
    are_ids: bool,
}

impl<'de> DeserializeSeed<'de> for Forms<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Forms<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("tokens")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(form) = items.next_element::<Form>()? {
            self.settings.push(form, self.role, None);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key::<Key>()? {
            let id = if self.are_ids { key.parse().ok() } else { None };
            let form = map.next_value()?;
            self.settings.push(form, self.role, id);
        }
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.settings.push(Form::of(text), self.role, None);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
}

/// Texts with their ids.
struct Added<'a>(&'a mut Settings);

impl<'de> DeserializeSeed<'de> for Added<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Added<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of tokens and their ids")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key::<Key>()? {
            let id = map.next_value_seed(Tree(&mut Budget::default()))?.as_u64();
            self.0.push(Form::of(&key), None, id);
        }
        Ok(())
    }
}

/// One token, as a text or as an object; none where it is neither.
#[derive(Debug, Default)]
pub(super) struct Form(pub(super) Option<Statement>);

impl Form {
    fn of(text: &str) -> Self {
        Self(Some(Statement { content: text.to_owned(), id: None, role: None, flags: Flags::default() }))
    }
}

impl<'de> Deserialize<'de> for Form {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A token's text may be of any length, its object of a few keys only.
        let mut budget = Budget::default();
        let value = Tree(&mut budget).deserialize(deserializer)?;
        Ok(match value {
            Value::String(text) => Self::of(&text),
            Value::Object(object) => {
                let flag = |key: &str| object.get(key).and_then(Value::as_bool);
                let flags = Flags {
                    special: flag("special"),
                    lstrip: flag("lstrip"),
                    rstrip: flag("rstrip"),
                    single_word: flag("single_word"),
                    normalized: flag("normalized"),
                };
                let content = object.get("content").and_then(Value::as_str).map(str::to_owned);
                let id = object.get("id").and_then(Value::as_u64);
                Self(content.map(|content| Statement { content, id, role: None, flags }))
            }
            _ => Self(None),
        })
    }
}
