//! One JSON object read field by field, so that every refusal names the field and what it held.

use std::path::Path;

use serde_json::{Map, Value};

use super::error::AdapterError;

/// Longest excerpt of a value in a message, characters.
const MAX_SHOWN: usize = 120;

/// A value as JSON, shortened for a message.
pub(crate) fn shown(value: &Value) -> String {
    shortened(&value.to_string())
}

/// A text, shortened for a message.
pub(crate) fn shortened(text: &str) -> String {
    if text.chars().count() <= MAX_SHOWN {
        return text.to_owned();
    }
    let mut head: String = text.chars().take(MAX_SHOWN).collect();
    head.push('…');
    head
}

/// Whether a value says something: not null, not false, not empty.
pub(crate) fn is_active(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// An object of the config at `path`; `prefix` is put before the names of its fields in messages.
pub(crate) struct Fields<'a> {
    path: &'a Path,
    prefix: &'static str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(path: &'a Path, prefix: &'static str, map: &'a Map<String, Value>) -> Self {
        Self { path, prefix, map }
    }

    /// The error for a field of the wrong kind.
    pub(crate) fn wrong(&self, field: &str, reason: &str) -> AdapterError {
        let found = self.map.get(field).map_or_else(|| "missing".to_owned(), shown);
        AdapterError::ConfigField {
            path: self.path.to_path_buf(),
            field: format!("{}{field}", self.prefix),
            found,
            reason: reason.to_owned(),
        }
    }

    /// The value, unless it is missing or null.
    pub(crate) fn value(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    pub(crate) fn flag(&self, field: &str) -> Result<bool, AdapterError> {
        match self.value(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(field, "true or false is needed")),
        }
    }

    pub(crate) fn text(&self, field: &str) -> Result<Option<String>, AdapterError> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong(field, "a string is needed")),
        }
    }

    pub(crate) fn whole_number(&self, field: &str) -> Result<Option<usize>, AdapterError> {
        match self.value(field) {
            None => Ok(None),
            Some(value) => {
                as_size(value).map(Some).ok_or_else(|| self.wrong(field, "a whole number, zero or more, is needed"))
            }
        }
    }

    pub(crate) fn number(&self, field: &str) -> Result<Option<f64>, AdapterError> {
        match self.value(field) {
            None => Ok(None),
            Some(value) => as_finite(value).map(Some).ok_or_else(|| self.wrong(field, "a finite number is needed")),
        }
    }

    /// A list of strings, or one string standing for a list of one.
    pub(crate) fn texts(&self, field: &str) -> Result<Vec<String>, AdapterError> {
        let wrong = || self.wrong(field, "a list of strings is needed");
        match self.value(field) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(items)) => {
                items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    /// A list of whole numbers, or one number standing for a list of one; `None` where nothing is said.
    pub(crate) fn indices(&self, field: &str) -> Result<Option<Vec<usize>>, AdapterError> {
        let wrong = || self.wrong(field, "a whole number or a list of them is needed");
        match self.value(field) {
            None => Ok(None),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| as_size(item).ok_or_else(wrong))
                .collect::<Result<Vec<_>, _>>()
                .map(|items| Some(items).filter(|items| !items.is_empty())),
            Some(value) => as_size(value).map(|index| Some(vec![index])).ok_or_else(wrong),
        }
    }

    /// An object, in the order of the file.
    pub(crate) fn object(&self, field: &str) -> Result<Option<&'a Map<String, Value>>, AdapterError> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(self.wrong(field, "an object is needed")),
        }
    }
}

/// A value as a size, if it is one.
pub(crate) fn as_size(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok())
}

/// A value as a finite number, if it is one.
pub(crate) fn as_finite(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite())
}
