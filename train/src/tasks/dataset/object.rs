//! One JSON object, read strictly: a key that stands there twice is refused at any depth. The usual reading keeps the
//! last one, so that two readers of one file may see different truths.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Reason;

/// What the message of a duplicate key begins with; how it is told from faults of the syntax.
const DUPLICATE: &str = "duplicate key ";

/// The object in `text`.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, Reason> {
    match serde_json::from_str::<Strict>(text) {
        Ok(Strict(Value::Object(object))) => Ok(object),
        Ok(Strict(other)) => Err(Reason::NotAnObject { found: name(&other) }),
        Err(error) => {
            let message = error.to_string();
            match message.strip_prefix(DUPLICATE).and_then(|rest| rest.rsplit_once(" at line ")) {
                Some((key, _)) => Err(Reason::DuplicateKey { key: key.to_owned() }),
                None => Err(Reason::NotJson { message }),
            }
        }
    }
}

/// The type of a value, with its article.
pub(super) fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A number without the `.0` of a whole one.
pub(super) fn number_text(number: &Number) -> String {
    let text = number.to_string();
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// A value without duplicate keys.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

/// Builds a value.
struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = sequence.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("{DUPLICATE}{key}")));
            }
            let Strict(value) = entries.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_as_the_usual_parser_reads_it() {
        let text = r#"{"a": [1, -2, 2.5, null, true], "b": {"c": "d\u00e9"}}"#;
        let expected: Value = serde_json::from_str(text).expect("valid");
        assert_eq!(parse(text).map(Value::Object), Ok(expected));
    }

    #[test]
    fn what_is_no_object_or_has_a_key_twice_is_named() {
        assert_eq!(parse("[1]"), Err(Reason::NotAnObject { found: "a list" }));
        assert_eq!(parse(r#"{"a": 1, "a": 1}"#), Err(Reason::DuplicateKey { key: "a".to_owned() }));
        assert_eq!(parse(r#"{"x": {"a b": 1, "a b": 2}}"#), Err(Reason::DuplicateKey { key: "a b".to_owned() }));
        assert!(matches!(parse(r#"{"a": 1} x"#), Err(Reason::NotJson { .. })));
        assert!(matches!(parse(&"[".repeat(100_000)), Err(Reason::NotJson { .. })));
    }
}
