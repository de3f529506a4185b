//! The parts of `tokenizer.json` that say how a text is normalised, split and wrapped, in one writing.
//!
//! Versions of the library write the same part differently: a default more, an older name, a list of one. What does
//! nothing to a text is left out, so that a file that was only saved again is equal to the one that it came from.

use serde_json::{Map, Value};

/// Parts that decide how much of a text is read and how batches are filled up; every call of a loader sets them anew.
pub(super) const OF_CALLS: [&str; 2] = ["padding", "truncation"];

/// A part in one writing.
pub(super) fn normal(part: &str, value: &Value) -> Value {
    match value {
        Value::Object(object) => normal_object(part, object),
        Value::Array(items) => Value::Array(items.iter().map(|item| normal(part, item)).collect()),
        other => other.clone(),
    }
}

fn normal_object(part: &str, object: &Map<String, Value>) -> Value {
    let mut out: Map<String, Value> = object
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.clone(), normal(part, value)))
        .collect();
    let is = |out: &Map<String, Value>, key: &str, value: bool| out.get(key) == Some(&Value::Bool(value));
    match object.get("type").and_then(Value::as_str).unwrap_or_default() {
        // After the text was split it only moves offsets.
        "ByteLevel" if part == "post_processor" => return Value::Null,
        "ByteLevel" => {
            out.remove("trim_offsets");
            if part == "decoder" || is(&out, "use_regex", true) {
                out.remove("use_regex");
            }
            if part == "decoder" {
                out.remove("add_prefix_space");
            }
        }
        "Metaspace" => {
            out.remove("str_rep");
            if let Some(Value::Bool(adds)) = out.remove("add_prefix_space")
                && !out.contains_key("prepend_scheme")
            {
                let scheme = if adds { "always" } else { "never" };
                out.insert("prepend_scheme".to_owned(), scheme.into());
            }
            if is(&out, "split", true) {
                out.remove("split");
            }
        }
        "Sequence" => return sequence(out),
        _ => {}
    }
    Value::Object(out)
}

/// A sequence without what does nothing; one of a single step is that step.
fn sequence(mut out: Map<String, Value>) -> Value {
    const STEPS: [&str; 4] = ["normalizers", "pretokenizers", "processors", "decoders"];
    let Some(key) = STEPS.into_iter().find(|key| out.contains_key(*key)) else { return Value::Object(out) };
    let Some(Value::Array(steps)) = out.get_mut(key) else { return Value::Object(out) };
    steps.retain(|step| !step.is_null());
    match steps.len() {
        0 => Value::Null,
        1 => steps.remove(0),
        _ => Value::Object(out),
    }
}

/// A part without what it does to pairs of texts, which a conversation is none of.
pub(super) fn of_one_text(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let is_wrapping = object.get("type").and_then(Value::as_str) == Some("TemplateProcessing");
            let kept = object.iter().filter(|(key, _)| !(is_wrapping && *key == "pair"));
            Value::Object(kept.map(|(key, value)| (key.clone(), of_one_text(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(of_one_text).collect()),
        other => other.clone(),
    }
}

/// The texts in a part, for a message.
pub(super) fn texts(value: &Value) -> String {
    fn gather(value: &Value, out: &mut String) {
        const QUOTED: usize = 240;
        match value {
            _ if out.len() > QUOTED => {}
            Value::String(text) => {
                let space = if out.is_empty() { "" } else { " " };
                out.push_str(space);
                out.extend(text.chars().take(QUOTED));
            }
            Value::Object(object) => {
                for (key, value) in object {
                    gather(&Value::String(key.clone()), out);
                    gather(value, out);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| gather(item, out)),
            Value::Null => {}
            other => gather(&Value::String(other.to_string()), out),
        }
    }
    let mut out = String::new();
    gather(value, &mut out);
    let shown = crate::json::shown(&out);
    if shown.is_empty() { "null".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_only_saved_again_is_equal() {
        for (part, old, new) in [
            (
                "pre_tokenizer",
                json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true }),
                json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true }),
            ),
            (
                "pre_tokenizer",
                json!({ "type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": true }),
                json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true }),
            ),
            ("normalizer", json!({ "type": "Sequence", "normalizers": [{ "type": "NFC" }] }), json!({ "type": "NFC" })),
            ("normalizer", json!({ "type": "Sequence", "normalizers": [] }), json!(null)),
            ("post_processor", json!({ "type": "ByteLevel", "trim_offsets": true }), json!(null)),
        ] {
            assert_eq!(normal(part, &old), normal(part, &new), "{part}");
        }
    }

    #[test]
    fn what_does_something_to_a_text_is_not() {
        let bytes =
            |prefix: bool, regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": prefix, "use_regex": regex });
        assert_ne!(normal("pre_tokenizer", &bytes(true, true)), normal("pre_tokenizer", &bytes(false, true)));
        assert_ne!(normal("pre_tokenizer", &bytes(false, true)), normal("pre_tokenizer", &bytes(false, false)));
        let wrap =
            |single: &str, pair: &str| json!({ "type": "TemplateProcessing", "single": [single], "pair": [pair] });
        assert_ne!(of_one_text(&wrap("a", "p")), of_one_text(&wrap("b", "p")));
        assert_eq!(of_one_text(&wrap("a", "p")), of_one_text(&wrap("a", "q")));
    }
}
