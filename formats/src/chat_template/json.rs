//! `tojson` as Python writes it.

use minijinja::value::Value;
use minijinja::{Error, ErrorKind};
use serde_json::Value as Json;

/// JSON as `json.dumps(value, ensure_ascii=False, indent=indent)` writes it: a space after `:` and, on one line, after
/// `,`; nothing is escaped for HTML, unlike the template engine's own filter.
pub(super) fn to_json(value: &Value, indent: Option<u32>) -> Result<Value, Error> {
    let json = serde_json::to_value(value).map_err(|error| {
        Error::new(ErrorKind::BadSerialization, format!("`tojson` was given what JSON cannot hold: {error}"))
    })?;
    let mut text = String::new();
    write_json(&mut text, &json, indent.map(|width| width as usize), 0);
    Ok(Value::from_safe_string(text))
}

fn write_json(text: &mut String, json: &Json, indent: Option<usize>, level: usize) {
    let line = |text: &mut String, level: usize| {
        if let Some(width) = indent {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', width.saturating_mul(level)));
        }
    };
    let separator = if indent.is_some() { "," } else { ", " };
    match json {
        Json::Array(items) if !items.is_empty() => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { separator });
                line(text, level + 1);
                write_json(text, item, indent, level + 1);
            }
            line(text, level);
            text.push(']');
        }
        Json::Object(entries) if !entries.is_empty() => {
            text.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { separator });
                line(text, level + 1);
                text.push_str(&Json::from(key.as_str()).to_string());
                text.push_str(": ");
                write_json(text, item, indent, level + 1);
            }
            line(text, level);
            text.push('}');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}
