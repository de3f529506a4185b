//! The figures of README and docs against the commands that make them: `docs/figures.toml` lists both.
//!
//! In every run those that take seconds; `FIGURES=all` in the environment runs them all.

mod support;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use support::{audit, repository, text};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    figure: Vec<Figure>,
}

/// A figure as a document has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Figure {
    file: String,
    text: String,
    command: String,
    read: String,
    value: f64,
    tolerance: f64,
    #[serde(default)]
    slow: bool,
}

fn figures() -> Vec<Figure> {
    let listed = std::fs::read_to_string(repository("docs/figures.toml")).expect("readable");
    toml::from_str::<Figures>(&listed).expect("a list of figures").figure
}

/// What a command prints.
fn printed(command: &str) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    audit(command.split(' ').map(|word| if word == "OUT" { text(&out) } else { word })).json()
}

#[test]
fn every_figure_stands_in_its_file() {
    for figure in figures() {
        let file = std::fs::read_to_string(repository(&figure.file)).expect("readable");
        assert!(file.contains(&figure.text), "{} does not say `{}`", figure.file, figure.text);
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "what was found, for who asks with --nocapture")]
fn every_figure_is_what_its_command_gives() {
    let all = std::env::var("FIGURES").is_ok_and(|which| which == "all");
    let mut results: BTreeMap<String, Value> = BTreeMap::new();
    let mut wrong = Vec::new();
    for figure in figures().into_iter().filter(|figure| all || !figure.slow) {
        let result = results.entry(figure.command.clone()).or_insert_with(|| printed(&figure.command));
        let Some(found) = result.pointer(&figure.read).and_then(Value::as_f64) else {
            panic!("`{}` prints no number at {}", figure.command, figure.read);
        };
        println!("{found:>12.6}  {}: {}", figure.file, figure.text);
        if (found - figure.value).abs() > figure.tolerance {
            wrong.push(format!("{} says `{}`; `{}` gives {found}", figure.file, figure.text, figure.command));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
