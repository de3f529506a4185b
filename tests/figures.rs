//! The figures of README and docs against the commands that make them: `docs/figures.toml` lists both.
//!
//! In every run those that take seconds; `FIGURES=all` in the environment runs them all. Tables that take hours are
//! read from the folder of their finished runs, where it is.

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
    runs: Option<String>,
}

fn figures() -> Vec<Figure> {
    let listed = std::fs::read_to_string(repository("docs/figures.toml")).expect("readable");
    toml::from_str::<Figures>(&listed).expect("a list of figures").figure
}

/// What a script of the repository, or else a command of the program, prints.
fn printed(command: &str) -> Value {
    if let Some(script) = command.strip_prefix("python3 ") {
        let done = std::process::Command::new("python3").args(script.split(' ')).current_dir(repository("")).output();
        let done = done.expect("a Python");
        assert!(done.status.success(), "`{command}`: {}", String::from_utf8_lossy(&done.stderr));
        return serde_json::from_slice(&done.stdout).expect("JSON");
    }
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
        if let Some(runs) = figure.runs.filter(|runs| !std::path::Path::new(&repository(runs)).exists()) {
            println!("{:>12}  {}: {} (no {runs})", "not checked", figure.file, figure.text);
            continue;
        }
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
