//! A JSON value that is kept whole, up to a size that no settings have.

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::json::Key;

/// What may yet be kept of a file's settings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    left: usize,
    /// Whether something was left out.
    pub(super) is_spent: bool,
}

impl Default for Budget {
    /// The longest part of an honest file is the table of a normaliser: one text of half a megabyte.
    fn default() -> Self {
        Self { left: 100_000, is_spent: false }
    }
}

impl Budget {
    /// Takes a value with a text of this length; false where nothing is left.
    fn take(&mut self, bytes: usize) -> bool {
        let cost = 1 + bytes / 64;
        self.is_spent |= self.left < cost;
        self.left = self.left.saturating_sub(cost);
        !self.is_spent
    }
}

/// Reads one value; null in place of what the budget does not hold.
pub(super) struct Tree<'a>(pub(super) &'a mut Budget);

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        self.0.take(0);
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        self.0.take(0);
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        self.0.take(0);
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        self.0.take(0);
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        self.0.take(0);
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(if self.0.take(text.len()) { Value::String(text.to_owned()) } else { Value::Null })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while self.0.take(0) {
            match items.next_element_seed(Tree(self.0))? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = serde_json::Map::new();
        while self.0.take(0) {
            match map.next_key::<Key>()? {
                Some(Key(key)) => {
                    self.0.take(key.len());
                    let value = map.next_value_seed(Tree(self.0))?;
                    // Of two equal keys the last counts, as for Python.
                    object.insert(key.into_owned(), value);
                }
                None => return Ok(Value::Object(object)),
            }
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }
}
