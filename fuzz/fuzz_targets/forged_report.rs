//! Reports that were edited: whatever the edit, a report agrees only with what it is equal to, and no key may stand
//! twice.
#![no_main]

use lcr_gate::difference::{Comparison, Document, Numbers};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

/// Keys of reports, those by which items of lists are told apart among them.
const KEYS: [&str; 8] = ["path", "fingerprint", "rule", "where", "findings", "artifacts", "level", "measured"];

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(b"{") {
        let read = serde_json::from_slice::<Document>(bytes);
        let plain = serde_json::from_slice::<Value>(bytes);
        match (read, plain) {
            (Ok(Document(read)), Ok(plain)) => assert_eq!(read, plain),
            (Ok(_), Err(error)) => panic!("read what is no JSON: {error}"),
            (Err(error), Ok(_)) => assert!(error.to_string().contains("stands twice"), "{error}"),
            (Err(_), Err(_)) => {}
        }
        return;
    }
    let mut from = Unstructured::new(bytes);
    let (Ok(found), Ok(reported)) = (value(&mut from, 0), value(&mut from, 0)) else { return };
    agrees_only_when_equal(&reported, &found);
    let mut edited = found.clone();
    if edit(&mut edited, &mut from).is_ok() {
        agrees_only_when_equal(&edited, &found);
    }
    agrees_only_when_equal(&found, &found.clone());
});

fn agrees_only_when_equal(reported: &Value, found: &Value) {
    let mut comparison = Comparison::new(Numbers::Exact);
    comparison.compare("", reported, found);
    assert_eq!(comparison.differences.is_empty(), reported == found, "{reported} / {found}");
    assert_eq!(comparison.rounded, 0);
}

/// Any document, with lists of things that have names.
fn value(from: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    Ok(match from.int_in_range(0..=if depth < 4 { 6 } else { 4 })? {
        0 => Value::Null,
        1 => from.arbitrary::<bool>()?.into(),
        2 => from.arbitrary::<i8>()?.into(),
        3 => f64::from(from.arbitrary::<i8>()?).into(),
        4 => text(from)?.into(),
        5 => {
            let count = from.int_in_range(0..=3)?;
            (0..count).map(|_| value(from, depth + 1)).collect::<Result<Vec<Value>>>()?.into()
        }
        _ => {
            let mut object = Map::new();
            for _ in 0..from.int_in_range(0..=4)? {
                object.insert((*from.choose(&KEYS)?).to_owned(), value(from, depth + 1)?);
            }
            object.into()
        }
    })
}

/// A short text, so that names are met twice.
fn text(from: &mut Unstructured<'_>) -> Result<String> {
    Ok((*from.choose(&["", "a", "b", "a\u{0}", "adapters/a"])?).to_owned())
}

/// Replaces one place of a document, or takes it out, or doubles it.
fn edit(document: &mut Value, from: &mut Unstructured<'_>) -> Result<()> {
    match document {
        Value::Array(items) if !items.is_empty() => {
            let place = from.choose_index(items.len())?;
            match from.int_in_range(0..=3)? {
                0 => drop(items.remove(place)),
                1 => items.push(items[place].clone()),
                2 => items.reverse(),
                _ => edit(&mut items[place], from)?,
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            let place = from.choose_index(fields.len())?;
            let key = fields.keys().nth(place).cloned().unwrap_or_default();
            match from.int_in_range(0..=2)? {
                0 => drop(fields.shift_remove(&key)),
                1 => drop(fields.insert("more".to_owned(), Value::Null)),
                _ => edit(&mut fields[&key], from)?,
            }
        }
        other => *other = value(from, 0)?,
    }
    Ok(())
}
