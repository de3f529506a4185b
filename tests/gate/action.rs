//! The Action's steps, run in order as a runner does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::bench::{Bench, sarif_results};
use crate::support::{repository, text, tree};

/// A YAML file of the repository.
pub(crate) fn yaml(path: &str) -> Value {
    let content = fs_err::read_to_string(repository(path)).expect("readable");
    yaml_serde::from_str(&content).unwrap_or_else(|error| panic!("{path}: {error}"))
}

type Texts = BTreeMap<String, String>;

/// How a run of the Action ended.
struct Ended {
    code: i32,
    outputs: Texts,
    log: String,
    summary: String,
}

/// A workspace with a runner's folders beside it.
struct Runner {
    bench: Bench,
    temp: tempfile::TempDir,
    /// Folders before those of `PATH`.
    path: Option<PathBuf>,
}

impl Runner {
    fn new() -> Self {
        Self { bench: Bench::new(), temp: tempfile::tempdir().expect("a folder"), path: None }
    }

    /// Runs the Action on the program under test.
    fn run(&self, inputs: &[(&str, &str)]) -> Ended {
        let program = [("binary", env!("CARGO_BIN_EXE_lcr-audit"))];
        self.run_as_given(&[&program, inputs].concat())
    }

    fn run_as_given(&self, inputs: &[(&str, &str)]) -> Ended {
        let action = yaml("action.yml");
        assert_eq!(action["runs"]["using"], "composite");
        let mut given: Texts = BTreeMap::new();
        for (name, input) in action["inputs"].as_object().expect("inputs") {
            assert!(input["description"].is_string(), "{name}");
            given.insert(name.clone(), input["default"].as_str().expect("a default").to_owned());
        }
        for (name, value) in inputs {
            assert!(given.insert((*name).to_owned(), (*value).to_owned()).is_some(), "{name} is no input");
        }
        let summary = self.temp.path().join("summary.md");
        let mut steps: BTreeMap<String, Texts> = BTreeMap::new();
        let (mut code, mut log) = (0, String::new());
        for (index, step) in action["runs"]["steps"].as_array().expect("steps").iter().enumerate() {
            let (step_code, step_log, outputs) = self.step(index, step, &given, &steps, &summary);
            log.push_str(&step_log);
            if let Some(id) = step["id"].as_str() {
                steps.insert(id.to_owned(), outputs);
            }
            // A step without a condition is left out once one has failed.
            assert!(step["if"].is_null());
            code = step_code;
            if code != 0 {
                break;
            }
        }
        let declared = action["outputs"].as_object().expect("outputs").iter();
        let outputs = declared.map(|(name, output)| {
            (name.clone(), evaluated(output["value"].as_str().expect("an expression"), &given, &steps))
        });
        let outputs = outputs.collect();
        Ended { code, outputs, log, summary: fs_err::read_to_string(&summary).unwrap_or_default() }
    }

    fn step(
        &self,
        index: usize,
        step: &Value,
        inputs: &Texts,
        steps: &BTreeMap<String, Texts>,
        summary: &Path,
    ) -> (i32, String, Texts) {
        assert_eq!(step["shell"], "bash");
        let script = step["run"].as_str().expect("a script");
        assert!(!script.contains("${{"), "an expression in a script is code by whoever writes the input:\n{script}");
        let file = self.temp.path().join(format!("step-{index}.sh"));
        fs_err::write(&file, script).expect("written");
        let output = self.temp.path().join(format!("output-{index}"));
        fs_err::write(&output, "").expect("written");
        let before: Vec<PathBuf> = self.path.clone().into_iter().collect();
        let path = std::env::var_os("PATH").expect("a PATH");
        let path = std::env::join_paths(before.into_iter().chain(std::env::split_paths(&path))).expect("a PATH");
        let mut command = Command::new("bash");
        command
            .args(["--noprofile", "--norc", "-eo", "pipefail", text(&file)])
            .current_dir(self.bench.root())
            .env_clear()
            .env("PATH", path)
            .env("GITHUB_ACTION_PATH", repository(""))
            .env("GITHUB_OUTPUT", &output)
            .env("GITHUB_STEP_SUMMARY", summary)
            .env("RUNNER_TEMP", self.temp.path());
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            command.env(name, evaluated(value.as_str().expect("text"), inputs, steps));
        }
        let ended = command.output().expect("bash starts");
        let log = String::from_utf8([ended.stdout, ended.stderr].concat()).expect("UTF-8");
        let lines = fs_err::read_to_string(&output).expect("readable");
        let outputs = lines.lines().map(|line| {
            let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("`{line}` is no output"));
            (name.to_owned(), value.to_owned())
        });
        (ended.status.code().expect("an exit code"), log, outputs.collect())
    }
}

/// The one kind of expression that the Action uses: a whole value that is an input or an output of a step.
fn evaluated(value: &str, inputs: &Texts, steps: &BTreeMap<String, Texts>) -> String {
    let Some(expression) = value.strip_prefix("${{ ").and_then(|rest| rest.strip_suffix(" }}")) else {
        assert!(!value.contains("${{"), "{value}");
        return value.to_owned();
    };
    let parts: Vec<&str> = expression.split('.').collect();
    match parts.as_slice() {
        ["inputs", name] => inputs.get(*name).unwrap_or_else(|| panic!("{name} is no input")).clone(),
        ["steps", id, "outputs", name] => {
            steps.get(*id).and_then(|outputs| outputs.get(*name)).cloned().unwrap_or_default()
        }
        _ => panic!("`{expression}` is not understood"),
    }
}

#[test]
fn a_passing_adapter() {
    let runner = Runner::new();
    runner.bench.sound("adapters/a");
    let ended = runner.run(&[("paths", "adapters")]);
    assert_eq!(ended.code, 0, "{}", ended.log);
    assert_eq!((ended.outputs["verdict"].as_str(), ended.outputs["exit-code"].as_str()), ("pass", "0"));
    assert_eq!(ended.outputs["sarif"], "lcr-audit.sarif");
    let log = runner.bench.json("lcr-audit.sarif");
    assert!(sarif_results(&log).is_empty());
    assert!(ended.summary.starts_with("## Adapter audit: PASS\n"), "{}", ended.summary);
    assert_eq!(crate::support::read_json(&ended.outputs["report"])["verdict"], "pass");
}

#[test]
fn a_failing_adapter_fails_the_job_when_everything_is_written() {
    let runner = Runner::new();
    runner.bench.sound("adapters/a");
    runner.bench.hostile("adapters/b");
    // The checkout as a whole is what is looked at where no path is named.
    let ended = runner.run(&[("sarif-file", "out/report.sarif"), ("junit-file", "out/junit.xml")]);
    assert_eq!(ended.code, 1, "{}", ended.log);
    assert_eq!((ended.outputs["verdict"].as_str(), ended.outputs["exit-code"].as_str()), ("fail", "1"));
    assert_eq!(ended.outputs["sarif"], "out/report.sarif");
    let log = runner.bench.json("out/report.sarif");
    assert_eq!(sarif_results(&log).len(), 2);
    let place = &sarif_results(&log)[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(place, "adapters/b/state.pkl");
    assert!(fs_err::read_to_string(runner.bench.path("out/junit.xml")).expect("written").contains("<failure "));
    assert!(ended.summary.starts_with("## Adapter audit: FAIL\n"), "{}", ended.summary);
    assert!(ended.log.contains("FAIL  "), "{}", ended.log);
}

#[test]
fn policy_baseline_and_command_are_handed_on() {
    let runner = Runner::new();
    let bench = &runner.bench;
    bench.warned("a");
    bench.write("lcr-audit.toml", "version = 1\nfail_on = \"warn\"\n");
    bench.write("lenient.toml", "version = 1\n");
    assert_eq!(runner.run(&[("paths", "a")]).code, 1);
    assert_eq!(runner.run(&[("paths", "a"), ("command", "scan")]).code, 0);
    assert_eq!(runner.run(&[("paths", "a"), ("policy", "lenient.toml")]).code, 0);
    let accepted = runner.run(&[("paths", "a")]);
    fs_err::copy(&accepted.outputs["report"], bench.path("accepted.json")).expect("copied");
    assert_eq!(runner.run(&[("paths", "a"), ("baseline", "accepted.json")]).code, 0);
    bench.base();
    bench.write("lcr-audit.toml", "version = 1\n[base]\nsha256 = \"".to_owned() + &"0".repeat(64) + "\"\n");
    let ended = runner.run(&[("paths", "a"), ("base", "base")]);
    assert_eq!((ended.code, ended.outputs["verdict"].as_str()), (1, "fail"), "{}", ended.log);
}

#[test]
fn paths_stand_one_a_line() {
    let runner = Runner::new();
    runner.bench.sound("one");
    runner.bench.sound("with blank");
    runner.bench.hostile("not named");
    let ended = runner.run(&[("paths", "one\r\n\n  \nwith blank")]);
    // A line of blanks is a path of blanks, which is not there.
    assert_eq!(ended.outputs["verdict"], "error", "{}", ended.log);
    let ended = runner.run(&[("paths", "one\r\n\nwith blank\n")]);
    assert_eq!(ended.code, 0, "{}", ended.log);
    let report = crate::support::read_json(&ended.outputs["report"]);
    assert_eq!(report["artifacts"].as_array().map(Vec::len), Some(2));
}

#[test]
fn no_input_is_ever_run_or_taken_for_an_option() {
    let runner = Runner::new();
    runner.bench.sound("adapter");
    runner.bench.write("lenient.toml", "version = 1\n");
    let before = tree(runner.bench.root());
    let hostile =
        ["$(touch pwned)", "`touch pwned`", "; touch pwned", "x\"; touch pwned; \"", "adapter\n$(touch pwned)"];
    for text in hostile {
        for input in ["paths", "policy", "base", "baseline", "command", "binary"] {
            let ended = runner.run(&[("paths", "adapter"), (input, text)]);
            assert_ne!(ended.code, 0, "{input} = {text}: {}", ended.log);
        }
    }
    assert!(tree(runner.bench.root()).keys().all(|name| !name.contains("pwned")));
    for option in ["--policy=lenient.toml", "--help", "--version", "-q"] {
        let ended = runner.run(&[("paths", option)]);
        assert_eq!((ended.code, ended.outputs["verdict"].as_str()), (2, "error"), "{option}: {}", ended.log);
        assert!(ended.log.contains("does not exist"), "{option}: {}", ended.log);
    }
    for file in ["$(touch pwned).sarif", "a\nverdict=pass", "b\rverdict=pass"] {
        let ended = runner.run(&[("paths", "adapter"), ("sarif-file", file)]);
        assert_eq!(ended.outputs["verdict"], "pass", "{}", ended.log);
        assert!(runner.bench.path(&file.replace(['\n', '\r'], "")).exists());
    }
    assert!(!runner.bench.path("pwned").exists());
    assert_eq!(tree(runner.bench.root()).len(), before.len() + 3);
}

#[test]
fn a_run_without_a_report_is_an_error_and_leaves_no_old_report() {
    let runner = Runner::new();
    runner.bench.hostile("adapter");
    assert_eq!(runner.run(&[("paths", "adapter")]).outputs["sarif"], "lcr-audit.sarif");
    let ended = runner.run(&[("paths", "nowhere")]);
    assert_eq!(ended.code, 2, "{}", ended.log);
    assert_eq!((ended.outputs["verdict"].as_str(), ended.outputs["exit-code"].as_str()), ("error", "2"));
    assert_eq!((ended.outputs["sarif"].as_str(), ended.outputs["report"].as_str()), ("", ""));
    assert!(!runner.bench.path("lcr-audit.sarif").exists());
    assert!(ended.summary.ends_with("There is no report (exit code 2); the log says why.\n"), "{}", ended.summary);
    assert_eq!(runner.run(&[("paths", "adapter"), ("command", "train")]).code, 3);
    for binary in ["no/such/program", ".", "./adapter", "eval", "adapter/state.pkl"] {
        assert_eq!(runner.run_as_given(&[("paths", "adapter"), ("binary", binary)]).code, 3, "{binary}");
    }
}

#[test]
fn what_strangers_wrote_is_no_command_to_the_runner() {
    let runner = Runner::new();
    runner.bench.sound("adapter");
    runner.bench.write("adapter/::add-mask::pass.py", "import os\n");
    let ended = runner.run(&[("paths", "adapter")]);
    assert_eq!(ended.code, 0, "{}", ended.log);
    let lines: Vec<&str> = ended.log.lines().collect();
    let stop = lines.iter().position(|line| line.starts_with("::stop-commands::")).expect("commands are stopped");
    let token = lines[stop].trim_start_matches("::stop-commands::");
    assert_eq!(token.len(), 32);
    let resumed = lines.iter().position(|line| *line == format!("::{token}::")).expect("commands are resumed");
    let printed = lines.iter().position(|line| line.contains("add-mask")).expect("the name is printed");
    assert!(stop < printed && printed < resumed, "{}", ended.log);
}

#[test]
fn without_a_program_the_action_builds_its_own_source() {
    let mut runner = Runner::new();
    runner.bench.sound("adapter");
    let stand_in = format!(
        "#!/usr/bin/env bash\necho \"$PWD: $*\" > '{}'\n\
         while [ \"$1\" != --root ]; do shift; done\nmkdir -p \"$2/bin\"\ncp '{}' \"$2/bin/lcr-audit\"\n",
        runner.temp.path().join("cargo.log").display(),
        env!("CARGO_BIN_EXE_lcr-audit"),
    );
    let cargo = runner.bench.write("tools/cargo", stand_in);
    fs_err::set_permissions(&cargo, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("made a program");
    runner.path = Some(runner.bench.path("tools"));
    let root = runner.temp.path().join("lcr-audit");
    let source = repository("");
    let source = source.trim_end_matches('/');
    runner.bench.base();
    // Without a base nothing is compared, and the gate alone is built.
    for (base, features) in [("", " --no-default-features"), ("base", "")] {
        let inputs = [("paths", "adapter"), ("base", base)].into_iter().filter(|(_, value)| !value.is_empty());
        let ended = runner.run_as_given(&inputs.collect::<Vec<_>>());
        assert_eq!((ended.code, ended.outputs["verdict"].as_str()), (0, "pass"), "{}", ended.log);
        let call = fs_err::read_to_string(runner.temp.path().join("cargo.log")).expect("cargo was called");
        assert_eq!(call.trim_end(), format!("{source}: install --locked --path .{features} --root {}", root.display()));
    }
}
