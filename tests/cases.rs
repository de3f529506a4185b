//! Attacks that once walked around the gate, and honest files that it once refused: each is run as it was met, and the
//! answer held against what is right.
//!
//! `cargo test --release --test cases -- --nocapture` prints the table, `CASES=tpl-` runs those whose name begins so.
//! `cases/cases.toml` says how each is run and what is right; a case's folder holds the files that differ from those of
//! `cases/honest`. Cases whose files git cannot hold, or whose commands are several, are tests of their own in `gate`
//! and `zoo`.

#![cfg(unix)]

mod support;

#[path = "zoo/running.rs"]
mod running;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use lcr_documents::characters::is_deceptive;
use serde_json::Value;
use support::{copied, repository};

/// What is right of one case.
struct Case {
    name: String,
    run: String,
    /// Exit codes that are right.
    exit: Vec<i64>,
    /// Rules of which one must have a finding that fails the gate; `*` for any.
    deny: Vec<String>,
    /// Rules of which one must have a finding that warns or fails.
    warn: Vec<String>,
    /// Rules that must have no finding that warns or fails.
    never: Vec<String>,
    /// Words that must be printed.
    text: Vec<String>,
    /// Folders that are filled up with the honest adapter's files.
    honest: Vec<String>,
    /// The case whose files it has.
    like: String,
    /// Links to lay, each with what it leads to.
    links: Vec<(String, String)>,
}

fn cases() -> Vec<Case> {
    let text = fs_err::read_to_string(repository("tests/cases/cases.toml")).expect("readable");
    let document: toml::Table = text.parse().expect("TOML");
    let cases = document["case"].as_array().expect("cases");
    cases.iter().map(|case| Case::of(case.as_table().expect("a table"))).collect()
}

impl Case {
    fn of(table: &toml::Table) -> Self {
        let known = ["name", "run", "exit", "deny", "warn", "never", "text", "honest", "like", "links"];
        assert!(table.keys().all(|key| known.contains(&key.as_str())), "{table:?}");
        let texts = |key: &str| -> Vec<String> {
            let values = table.get(key).and_then(toml::Value::as_array).into_iter().flatten();
            values.map(|value| value.as_str().expect("text").to_owned()).collect()
        };
        let exit = table["exit"].as_array().expect("codes").iter().map(|code| code.as_integer().expect("a code"));
        let name = table["name"].as_str().expect("a name").to_owned();
        let links = texts("links");
        Self {
            run: table["run"].as_str().expect("a command").to_owned(),
            exit: exit.collect(),
            deny: texts("deny"),
            warn: texts("warn"),
            never: texts("never"),
            text: texts("text"),
            honest: texts("honest"),
            like: table.get("like").and_then(toml::Value::as_str).unwrap_or(&name).to_owned(),
            links: links.chunks_exact(2).map(|link| (link[0].clone(), link[1].clone())).collect(),
            name,
        }
    }

    /// What is right, in a few words.
    fn right(&self) -> String {
        let mut right = format!("exit {:?}", self.exit);
        for (meaning, rules) in [("deny", &self.deny), ("warn", &self.warn), ("no", &self.never), ("says", &self.text)]
        {
            if !rules.is_empty() {
                write!(right, ", {meaning} {}", rules.join(" or ")).expect("written");
            }
        }
        right
    }

    /// Lays the files out.
    fn lay(&self, at: &Path, all: &[Self]) {
        let source = all.iter().find(|case| case.name == self.like).expect("a case of that name");
        copy_tree(Path::new(&repository(&format!("tests/cases/{}", source.name))), at);
        for folder in &source.honest {
            let target = at.join(folder);
            fs_err::create_dir_all(&target).expect("created");
            for name in ["adapter_config.json", "adapter_model.safetensors"] {
                if !target.join(name).exists() {
                    fs_err::copy(repository(&format!("tests/cases/honest/{name}")), target.join(name)).expect("copied");
                }
            }
        }
        for (link, target) in &source.links {
            std::os::unix::fs::symlink(target, at.join(link)).expect("a link");
        }
        if self.run.contains("TEMPLATED") {
            copied(&repository("bundled/stories260K"), at, "templated");
            fs_err::copy(at.join("in/chat_template.jinja"), at.join("templated/chat_template.jinja")).expect("copied");
        }
    }

    fn arguments(&self) -> Vec<String> {
        let stands_for = |word: &str| match word {
            "NANO" => repository("bundled/nano"),
            "STORIES" => repository("bundled/stories260K"),
            "TEMPLATED" => "templated".to_owned(),
            other => other.to_owned(),
        };
        let mut arguments: Vec<String> = self.run.split(' ').map(stands_for).collect();
        if ["scan", "gate"].contains(&arguments[0].as_str()) {
            arguments.extend(["--json".to_owned(), "--date".to_owned(), "2026-12-01".to_owned()]);
        }
        arguments
    }
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in from.read_dir().into_iter().flatten() {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            fs_err::create_dir_all(&target).expect("created");
            copy_tree(&entry.path(), &target);
        } else {
            fs_err::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Rules with the level of their findings, of a gate's report or of an audit.
fn findings(document: &Value) -> Vec<(String, String)> {
    let of = |findings: &Value| -> Vec<(String, String)> {
        let findings = findings.as_array().into_iter().flatten();
        let word = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        findings
            .filter(|finding| finding["waiver"].is_null())
            .map(|finding| (word(finding, "rule"), word(finding, "level")))
            .collect()
    };
    let artifacts = document["artifacts"].as_array().into_iter().flatten();
    let mut all: Vec<(String, String)> = artifacts.flat_map(|artifact| of(&artifact["findings"])).collect();
    all.extend(of(&document["findings"]));
    all.extend(of(&document["policy_findings"]));
    all
}

/// What is wrong with how a case ended; empty where all is right.
fn faults(case: &Case, ended: &running::Ended) -> (String, Vec<String>) {
    let mut faults = Vec::new();
    let (stdout, stderr) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    let document: Value = serde_json::from_str(&stdout).unwrap_or_default();
    let found = findings(&document);
    let denied = |level: &str| ["deny", "fail"].contains(&level);
    let warned = |level: &str| denied(level) || level == "warn";
    let has = |rules: &[String], counts: &dyn Fn(&str) -> bool| {
        found.iter().any(|(rule, level)| counts(level) && rules.iter().any(|wanted| wanted == "*" || wanted == rule))
    };
    let mut seen: Vec<String> =
        found.iter().filter(|(_, level)| warned(level)).map(|(rule, level)| format!("{level} {rule}")).collect();
    seen.sort();
    seen.dedup();
    let code = ended.code.map_or_else(|| "killed".to_owned(), |code| code.to_string());
    let got = format!("exit {code}: {}", if seen.is_empty() { "nothing".to_owned() } else { seen.join(", ") });
    if let Some(reason) = ended.killed {
        faults.push(reason.to_owned());
    }
    if !ended.code.is_some_and(|code| case.exit.contains(&i64::from(code))) {
        let said = stderr.lines().last().unwrap_or_default();
        faults.push(format!("exit {code}, right is {:?} ({said})", case.exit));
    }
    if !case.deny.is_empty() && !has(&case.deny, &denied) {
        faults.push("not denied".to_owned());
    }
    if !case.warn.is_empty() && document.is_object() && !has(&case.warn, &warned) {
        faults.push("not warned of".to_owned());
    }
    if has(&case.never, &warned) {
        faults.push("objected to".to_owned());
    }
    for word in &case.text {
        if !stdout.contains(word.as_str()) && !stderr.contains(word.as_str()) {
            faults.push(format!("`{word}` is not said"));
        }
    }
    for (stream, text) in [("standard output", &stdout), ("standard error", &stderr)] {
        if text.chars().any(|character| is_deceptive(character) && character != '\n') {
            faults.push(format!("{stream} has characters that steer a terminal"));
        }
        if text.lines().any(|line| line.starts_with("FORGED")) {
            faults.push(format!("{stream} has a line that a stranger wrote"));
        }
    }
    (got, faults)
}

#[test]
fn every_case_is_judged_rightly() {
    let all = cases();
    let wanted = std::env::var("CASES").unwrap_or_default();
    let mut table = String::from("| case | right | got | |\n|---|---|---|---|\n");
    let mut wrong = Vec::new();
    for case in all.iter().filter(|case| case.name.starts_with(&wanted)) {
        let folder = tempfile::tempdir().expect("a folder");
        case.lay(folder.path(), &all);
        let arguments = case.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ended = running::run(folder.path(), "case", &arguments);
        let (got, faults) = faults(case, &ended);
        let time = ended.time.as_secs_f64();
        let memory = ended.memory.map_or(0, |bytes| bytes >> 20);
        let mark = if faults.is_empty() { "right".to_owned() } else { format!("WRONG: {}", faults.join("; ")) };
        writeln!(table, "| {} | {} | {got} | {mark}, {time:.2} s, {memory} MB |", case.name, case.right())
            .expect("written");
        if !faults.is_empty() {
            wrong.push(case.name.clone());
        }
    }
    #[expect(clippy::print_stdout, reason = "the table is what the test is read for")]
    {
        println!("{table}");
    }
    assert!(wrong.is_empty(), "{} wrong: {}\n{table}", wrong.len(), wrong.join(", "));
}

#[test]
fn every_folder_is_a_case() {
    let all = cases();
    let folders = Path::new(&repository("tests/cases")).read_dir().expect("a folder");
    let names = folders.filter_map(Result::ok).filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
    for name in names.filter(|name| *name != "honest") {
        assert!(
            all.iter().any(|case| *case.name == *name),
            "{}: no case says how it is run",
            PathBuf::from(name).display()
        );
    }
}
