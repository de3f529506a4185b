//! The examples for many machines, run on this one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::action::yaml;
use super::batches::fleet;
use super::bench::{Bench, items, sarif_results};
use crate::support::{repository, text, tree};

/// A folder with a program called `lcr-audit` that adds what the examples leave out: ids in place of prompts, the day.
fn program(bench: &Bench) -> PathBuf {
    let stand_in = format!(
        "#!/usr/bin/env bash\nif [ \"$1\" = batch ]; then shift; \
         exec '{0}' batch --tokens ids.json --date 2030-01-01 \"$@\"; fi\nexec '{0}' \"$@\"\n",
        env!("CARGO_BIN_EXE_lcr-audit")
    );
    let program = bench.write("tools/lcr-audit", stand_in);
    fs_err::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("made a program");
    bench.path("tools")
}

/// Runs a shell on a script, with the program before all others.
fn run(bench: &Bench, shell: &[&str], variables: &[(&str, &str)]) -> Output {
    let path = std::env::var("PATH").expect("a PATH");
    let (name, arguments) = shell.split_first().expect("a shell");
    Command::new(name)
        .args(arguments)
        .current_dir(bench.root())
        .env("PATH", format!("{}:{path}", program(bench).display()))
        .env_remove("POLICY")
        .envs(variables.iter().copied())
        .output()
        .expect("the shell starts")
}

#[track_caller]
fn ended(output: &Output, code: i32) {
    let printed = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&printed));
}

/// The merged results are those of one run.
#[track_caller]
fn is_one_run(bench: &Bench, merged: &str) {
    let out = ["batch", "base", "adapters", "--tokens", "ids.json", "--quiet", "--out", "whole"];
    assert_eq!(bench.run(out).code, 1);
    let artifacts = |folder: &str| -> Vec<Value> {
        let lines = bench.lines(&format!("{folder}/results.jsonl"));
        lines.into_iter().map(|line| line["artifact"].clone()).collect()
    };
    assert_eq!(artifacts(merged), artifacts("whole"));
    assert!(Path::new(text(&bench.path(merged))).join("index.html").exists());
}

const VARIABLES: [(&str, &str); 4] = [("BASE", "base"), ("ADAPTERS", "adapters"), ("OUT", "fleet"), ("SHARDS", "3")];

#[test]
fn several_processes_on_one_machine() {
    let bench = fleet();
    let script = repository("examples/fleet/parallel.sh");
    let shell = ["bash", script.as_str(), "base", "adapters", "fleet", "--no-reports", "--metrics", "weights"];
    let variables = [("SHARDS", "3"), ("JOBS", "2")];
    ended(&run(&bench, &shell, &variables), 1);
    let log = bench.json("fleet/fleet.sarif");
    assert!(!sarif_results(&log).is_empty());
    let before = tree(&bench.path("fleet"));
    ended(&run(&bench, &shell, &variables), 1);
    assert!(tree(&bench.path("fleet")) == before, "started again it does something else");
    // One share is lost: it alone is done again.
    fs_err::remove_dir_all(bench.path("fleet/shards/2")).expect("removed");
    ended(&run(&bench, &shell, &variables), 1);
    assert!(tree(&bench.path("fleet")) == before);
    // Fewer shares: what the earlier ones left behind is not merged twice.
    ended(&run(&bench, &shell, &[("SHARDS", "2"), ("JOBS", "1")]), 1);
    assert_eq!(bench.lines("fleet/merged/results.jsonl").len(), 6);
    ended(&run(&bench, &["bash", &script], &[]), 3);
}

#[test]
fn one_machine_gives_what_one_process_gives_under_any_policy() {
    let bench = fleet();
    let script = repository("examples/fleet/parallel.sh");
    ended(&run(&bench, &["bash", &script, "base", "adapters", "fleet"], &[("SHARDS", "3")]), 1);
    is_one_run(&bench, "fleet/merged");
    bench.policy(
        "[rules]\npickle = \"allow\"\npickle-import = \"allow\"\nnot-compared = \"allow\"\ntruncated = \"allow\"\n\
                  tensor-layout = \"allow\"\nunclaimed-bytes = \"allow\"\nconfig-mismatch = \"allow\"",
    );
    let variables = [("SHARDS", "3"), ("POLICY", "policy.toml")];
    ended(&run(&bench, &["bash", &script, "base", "adapters", "lenient"], &variables), 0);
}

#[test]
fn tasks_of_a_slurm_array() {
    let bench = fleet();
    let script = repository("examples/fleet/slurm.sh");
    let content = fs_err::read_to_string(&script).expect("readable");
    assert!(content.lines().nth(1).is_some_and(|line| line.starts_with("#SBATCH ")), "directives come first");
    for task in ["1", "2", "3"] {
        let of_task = [("SLURM_ARRAY_TASK_ID", task), ("SLURM_CPUS_PER_TASK", "1")];
        ended(&run(&bench, &["bash", &script], &[&VARIABLES[..], &of_task].concat()), 0);
    }
    // The line that the head of the script gives for the merge.
    let merge = content.lines().find_map(|line| line.split("--wrap '").nth(1)).expect("a merge").trim_end_matches('\'');
    ended(&run(&bench, &["bash", "-c", merge], &VARIABLES), 1);
    is_one_run(&bench, "fleet/merged");
    // A task that cannot be done is a failed task.
    let wrong = [("BASE", "nowhere"), ("ADAPTERS", "adapters"), ("OUT", "fleet"), ("SLURM_ARRAY_TASK_ID", "1")];
    ended(&run(&bench, &["bash", &script], &wrong), 2);
}

/// Shell, script and variables of a Job's only container.
fn container(job: &Value) -> (Vec<&str>, Vec<(&str, &str)>) {
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never");
    let containers = items(pod, "/containers");
    assert_eq!(containers.len(), 1);
    let words = items(&containers[0], "/command").iter().chain(items(&containers[0], "/args"));
    let variables = items(&containers[0], "/env").iter();
    (
        words.map(|word| word.as_str().expect("text")).collect(),
        variables
            .map(|entry| (entry["name"].as_str().expect("text"), entry["value"].as_str().expect("text")))
            .collect(),
    )
}

#[test]
fn indices_of_a_kubernetes_job() {
    let bench = fleet();
    let (job, merge) = (yaml("examples/fleet/job.yaml"), yaml("examples/fleet/merge.yaml"));
    for document in [&job, &merge] {
        assert_eq!((&document["apiVersion"], &document["kind"]), (&"batch/v1".into(), &"Job".into()));
    }
    assert_eq!(job["spec"]["completionMode"], "Indexed");
    let (shell, variables) = container(&job);
    let shards = variables.iter().find(|(name, _)| *name == "SHARDS").expect("SHARDS").1;
    assert_eq!(job["spec"]["completions"].to_string(), shards, "as many shares as indices");
    for index in ["0", "1", "2"] {
        let of_pod = [("JOB_COMPLETION_INDEX", index)];
        ended(&run(&bench, &shell, &[&variables[..], &VARIABLES, &of_pod].concat()), 0);
    }
    let (shell, variables) = container(&merge);
    ended(&run(&bench, &shell, &[&variables[..], &VARIABLES].concat()), 1);
    is_one_run(&bench, "fleet/merged");
    assert!(bench.path("fleet/fleet.sarif").exists());
}

/// The script of a job's step.
fn step<'a>(job: &'a Value, name: &str) -> &'a str {
    let steps = items(job, "/steps");
    let script = steps.iter().find(|step| step["name"] == name).and_then(|step| step["run"].as_str());
    let script = script.unwrap_or_else(|| panic!("no step `{name}` in {job}"));
    assert!(!script.contains("${{"), "{script}");
    script
}

#[test]
fn jobs_of_a_github_matrix() {
    let bench = fleet();
    let workflow = yaml("examples/fleet/matrix.yml");
    let (batch, merge) = (&workflow["jobs"]["batch"], &workflow["jobs"]["merge"]);
    assert_eq!(
        items(batch, "/strategy/matrix/shard").len() as u64,
        workflow["env"]["SHARDS"].as_u64().expect("SHARDS")
    );
    assert_eq!(batch["strategy"]["fail-fast"], false);
    for shard in ["1", "2", "3"] {
        let script = bench.write("step.sh", step(batch, "Batch"));
        let shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", text(&script)];
        ended(&run(&bench, &shell, &[&VARIABLES[..], &[("SHARD", shard)]].concat()), 0);
    }
    let script = bench.write("step.sh", step(merge, "Merge"));
    let shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", text(&script)];
    ended(&run(&bench, &shell, &[("GITHUB_STEP_SUMMARY", "summary.md")]), 1);
    is_one_run(&bench, "fleet/merged");
    assert!(bench.path("fleet.sarif").exists() && bench.path("summary.md").exists());
}
