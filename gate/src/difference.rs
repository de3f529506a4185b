//! Two documents held against each other, place by place; and a reader that takes no document for another.
//!
//! What a report says is compared as JSON and not as the types that this program reads it into: a key that nobody
//! knows, or one that stands twice, is in the file that others read.

use std::collections::HashMap;
use std::fmt;

use lcr_documents::characters::visible;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Characters of a value that is shown.
const SHOWN: usize = 160;

/// One place at which two documents differ.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// `artifacts[adapters/b].findings[2].level`.
    pub path: String,
    /// What the report says there.
    pub reported: String,
    /// What was found.
    pub found: String,
}

/// How close two numbers must be to be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// To the last digit.
    Exact,
    /// Within what another processor's arithmetic may do.
    Rounded,
}

/// Relative difference that rounding explains.
const ROUNDING: f64 = 1e-5;

/// A comparison in progress.
#[derive(Debug)]
pub struct Comparison {
    numbers: Numbers,
    /// What differs.
    pub differences: Vec<Difference>,
    /// Numbers that are equal but for rounding.
    pub rounded: usize,
}

impl Comparison {
    /// Nothing compared yet.
    pub fn new(numbers: Numbers) -> Self {
        Self { numbers, differences: Vec::new(), rounded: 0 }
    }

    /// Notes what is on one side only.
    pub fn missing(&mut self, path: &str, reported: Option<&Value>, found: Option<&Value>) {
        let side = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), shown);
        self.note(path, side(reported), side(found));
    }

    /// Notes every place at which the two differ.
    pub fn compare(&mut self, path: &str, reported: &Value, found: &Value) {
        match (reported, found) {
            (Value::Object(left), Value::Object(right)) => {
                for (key, value) in left {
                    match right.get(key) {
                        Some(other) => self.compare(&join(path, key), value, other),
                        None => self.missing(&join(path, key), Some(value), None),
                    }
                }
                for (key, value) in right.iter().filter(|(key, _)| !left.contains_key(*key)) {
                    self.missing(&join(path, key), None, Some(value));
                }
            }
            (Value::Array(left), Value::Array(right)) => self.lists(path, left, right),
            (Value::Number(left), Value::Number(right)) if left != right => self.unequal(path, left, right),
            (left, right) if left != right => self.note(path, shown(left), shown(right)),
            _ => {}
        }
    }

    /// Lists of things that have a name (adapters, files, findings) are compared by it, others by their order.
    fn lists(&mut self, path: &str, reported: &[Value], found: &[Value]) {
        let (Some(left), Some(right)) = (named(reported), named(found)) else {
            for (index, (left, right)) in reported.iter().zip(found).enumerate() {
                self.compare(&format!("{path}[{index}]"), left, right);
            }
            for (index, left) in reported.iter().enumerate().skip(found.len()) {
                self.missing(&format!("{path}[{index}]"), Some(left), None);
            }
            for (index, right) in found.iter().enumerate().skip(reported.len()) {
                self.missing(&format!("{path}[{index}]"), None, Some(right));
            }
            return;
        };
        let of_right: HashMap<&Name, usize> = right.iter().enumerate().map(|(index, name)| (name, index)).collect();
        let mut places = Vec::new();
        for (name, value) in left.iter().zip(reported) {
            let place = format!("{path}[{}]", name.shown());
            match of_right.get(name).and_then(|index| Some((*index, found.get(*index)?))) {
                Some((index, other)) => {
                    places.push(index);
                    self.compare(&place, value, other);
                }
                None => self.missing(&place, Some(value), None),
            }
        }
        let of_left: std::collections::HashSet<&Name> = left.iter().collect();
        for (name, value) in right.iter().zip(found).filter(|(name, _)| !of_left.contains(name)) {
            self.missing(&format!("{path}[{}]", name.shown()), None, Some(value));
        }
        if !places.is_sorted() {
            self.note(path, "another order".to_owned(), "this order".to_owned());
        }
    }

    fn unequal(&mut self, path: &str, reported: &Number, found: &Number) {
        let (left, right) = (reported.as_f64().unwrap_or(f64::NAN), found.as_f64().unwrap_or(f64::NAN));
        let is_close = (left - right).abs() <= ROUNDING * left.abs().max(right.abs());
        let are_floats = reported.is_f64() && found.is_f64();
        if is_close && are_floats && self.numbers == Numbers::Rounded {
            self.rounded += 1;
        } else {
            self.note(path, reported.to_string(), found.to_string());
        }
    }

    fn note(&mut self, path: &str, reported: String, found: String) {
        self.differences.push(Difference { path: path.to_owned(), reported, found });
    }
}

fn join(path: &str, key: &str) -> String {
    let key = visible(key);
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// A value in one line, cut.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let cut: String = text.chars().take(SHOWN).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{}{dots}", visible(&cut))
}

/// What an item of a list is called: its path or fingerprint, and the how manieth of that name it is.
#[derive(PartialEq, Eq, Hash)]
struct Name {
    key: &'static str,
    text: String,
    turn: usize,
    /// What a person calls it.
    rule: Option<String>,
}

impl Name {
    fn shown(&self) -> String {
        let text = match &self.rule {
            Some(rule) => rule.clone(),
            None => self.text.clone(),
        };
        visible(&text)
    }
}

/// The names of the items, if all of them have one of the same kind.
fn named(items: &[Value]) -> Option<Vec<Name>> {
    let mut turns: HashMap<(&str, &str), usize> = HashMap::new();
    items
        .iter()
        .map(|item| {
            let text = |key: &str| item.get(key).and_then(Value::as_str);
            let (key, name) = match (text("fingerprint"), text("path")) {
                (Some(name), _) => ("fingerprint", name),
                (None, Some(name)) => ("path", name),
                (None, None) => return None,
            };
            let turn = turns.entry((key, name)).or_default();
            *turn += 1;
            let place = text("where").filter(|place| !place.is_empty()).map(|place| format!(" at {place}"));
            let rule = text("rule").map(|rule| format!("{rule}{}", place.unwrap_or_default()));
            Some(Name { key, text: name.to_owned(), turn: *turn, rule: rule.filter(|_| key == "fingerprint") })
        })
        .collect()
}

/// A document in which no key stands twice.
#[derive(Debug)]
pub struct Document(pub Value);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Document(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Document(value))) = fields.next_entry::<String, Document>()? {
            if object.contains_key(&key) {
                let key = visible(&key);
                return Err(A::Error::custom(format!("`{key}` stands twice, and readers differ on which one counts")));
            }
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn differences(reported: &Value, found: &Value) -> Vec<String> {
        let mut comparison = Comparison::new(Numbers::Exact);
        comparison.compare("", reported, found);
        comparison.differences.iter().map(|each| format!("{}: {} / {}", each.path, each.reported, each.found)).collect()
    }

    #[test]
    fn every_edit_is_a_difference_and_has_a_place() {
        let report = json!({
            "verdict": "fail",
            "list": [1, 2],
            "artifacts": [
                {"path": "a", "findings": [{"fingerprint": "f", "rule": "scale", "where": "q", "level": "deny"}]},
                {"path": "b", "findings": []}
            ]
        });
        assert!(differences(&report, &report.clone()).is_empty());
        let edited = |edit: fn(&mut Value)| {
            let mut copy = report.clone();
            edit(&mut copy);
            differences(&copy, &report)
        };
        assert_eq!(edited(|copy| copy["verdict"] = json!("pass")), ["verdict: \"pass\" / \"fail\""]);
        assert_eq!(edited(|copy| copy["more"] = json!(1)), ["more: 1 / nothing"]);
        assert_eq!(edited(|copy| copy["list"] = json!([1])), ["list[1]: nothing / 2"]);
        assert_eq!(edited(|copy| copy["list"] = json!([1.0, 2])), ["list[0]: 1.0 / 1"]);
        assert_eq!(edited(|copy| copy["list"] = json!(null)), ["list: null / [1,2]"]);
        assert_eq!(
            edited(|copy| copy["artifacts"][0]["findings"][0]["level"] = json!("warn")),
            ["artifacts[a].findings[scale at q].level: \"warn\" / \"deny\""]
        );
        let dropped = edited(|copy| {
            copy["artifacts"].as_array_mut().expect("a list").remove(0);
        });
        assert!(dropped[0].starts_with("artifacts[a]: nothing / {"), "{dropped:?}");
        let turned = edited(|copy| copy["artifacts"].as_array_mut().expect("a list").reverse());
        assert_eq!(turned, ["artifacts: another order / this order"]);
        let doubled = edited(|copy| {
            let again = copy["artifacts"][0].clone();
            copy["artifacts"].as_array_mut().expect("a list").push(again);
        });
        assert!(doubled[0].starts_with("artifacts[a]: {"), "{doubled:?}");
    }

    #[test]
    fn rounding_is_told_from_another_number() {
        let mut comparison = Comparison::new(Numbers::Rounded);
        comparison.compare("", &json!([0.1, 1e-300, 0.5]), &json!([0.100_000_01, 1e-300, 0.500_1]));
        assert_eq!((comparison.rounded, comparison.differences.len()), (1, 1));
        assert_eq!(comparison.differences[0].path, "[2]");
    }

    #[test]
    fn a_key_that_stands_twice_is_no_document() {
        let read = |text: &str| serde_json::from_str::<Document>(text).map(|document| document.0);
        let sound = r#"{"a": [1, -2, 0.25, null, true, "x"], "b": {"a": {}}}"#;
        assert_eq!(read(sound).expect("sound"), serde_json::from_str::<Value>(sound).expect("sound"));
        for twice in [r#"{"a": 1, "a": 1}"#, r#"[{"b": {"a": 1, "c": 2, "a": 3}}]"#, r#"{"a": 1, "\u0061": 2}"#] {
            assert!(read(twice).expect_err("twice").to_string().contains("`a` stands twice"), "{twice}");
        }
    }
}
