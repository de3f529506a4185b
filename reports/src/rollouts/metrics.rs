//! `metrics.jsonl` as curves, where there is one beside the rollouts.
//!
//! Any number on its lines is a curve under its own key; what stands in an object within is called `object.key`. So the
//! page need not know what a trainer logs. Nothing here can fail: the curves are an addition to the page.

use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value as Json;

/// Curves that a page has room for.
const CURVES: usize = 12;
/// Keys that are looked at, however many a file has.
const KEYS: usize = 256;
/// Keys that count and do not measure.
const COUNTERS: [&str; 4] = ["step", "iteration", "epoch", "sample"];

/// One quantity over the steps.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve {
    /// Its key.
    pub(super) name: String,
    /// Its values in the order of the lines.
    pub(super) values: Vec<f64>,
}

/// The first dozen quantities that change, in the order in which the file names them; empty without a file.
pub(super) fn read(path: &Path) -> Vec<Curve> {
    let Ok(file) = fs_err::File::open(path) else { return Vec::new() };
    let mut curves: Vec<Curve> = Vec::new();
    for line in BufReader::new(file).lines() {
        let Ok(line) = line else { break };
        if let Ok(Json::Object(fields)) = serde_json::from_str(&line) {
            for (name, value) in &fields {
                add(&mut curves, name, value);
            }
        }
    }
    curves.retain(|curve| curve.values.windows(2).any(|pair| pair.first() != pair.last()));
    curves.truncate(CURVES);
    curves
}

/// Adds a number to its curve, an object's numbers to theirs.
fn add(curves: &mut Vec<Curve>, name: &str, value: &Json) {
    if let Json::Object(fields) = value {
        for (key, inner) in fields.iter().filter(|(_, inner)| inner.is_number()) {
            add(curves, &format!("{name}.{key}"), inner);
        }
        return;
    }
    let Some(value) = value.as_f64() else { return };
    if COUNTERS.contains(&name) {
        return;
    }
    if let Some(curve) = curves.iter_mut().find(|curve| curve.name == name) {
        curve.values.push(value);
    } else if curves.len() < KEYS {
        curves.push(Curve { name: name.to_owned(), values: vec![value] });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_change_become_curves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        assert_eq!(read(&path), []);
        let lines = [
            r#"{"step":1,"loss":0.5,"rate":1e-5,"accuracy":{"naked":0.25,"scaffold_0":null},"note":"x"}"#,
            "no json",
            r#"{"step":2,"loss":0.25,"rate":1e-5,"accuracy":{"naked":0.5}}"#,
            r#"{"step":3,"lo"#,
        ];
        fs_err::write(&path, lines.join("\n")).unwrap();
        let expected = [("loss", [0.5, 0.25]), ("accuracy.naked", [0.25, 0.5])];
        assert_eq!(
            read(&path),
            expected.map(|(name, values)| Curve { name: name.to_owned(), values: values.to_vec() })
        );
    }
}
