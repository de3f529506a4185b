//! `verify`: what a report says is recomputed from the files.

use serde_json::Value;

use super::bench::{Bench, items, refused};
use crate::support::{Run, edit_json};

/// A sound and a hostile adapter and the report on them, by a policy.
fn reported() -> Bench {
    let bench = Bench::new();
    bench.sound("adapters/a");
    bench.hostile("adapters/b");
    bench.policy("[rules]\nrank = { level = \"warn\", limit = 3 }");
    let run = bench.run(["gate", "adapters", "--policy", "policy.toml", "--write", "json=gate.json", "--quiet"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    bench
}

fn verify(bench: &Bench, more: &[&str]) -> Run {
    bench.run(["verify", "gate.json", "--json"].iter().chain(more))
}

/// The report is said to differ, in a check of this name.
#[track_caller]
fn differs(run: &Run, what: &str) {
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    let document = run.json();
    assert_eq!(document["agrees"], false);
    let checks = items(&document, "/checks");
    let found = checks
        .iter()
        .any(|check| check["agrees"] == false && check["what"].as_str().is_some_and(|name| name.contains(what)));
    assert!(found, "nothing about `{what}` differs: {document}");
}

#[test]
fn an_untouched_report_agrees() {
    let bench = reported();
    let run = verify(&bench, &[]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(run.json()["agrees"], true);
    let printed = bench.run(["verify", "gate.json"]);
    assert!(printed.stdout.ends_with("everything agrees\n"), "{}", printed.stdout);
}

#[test]
fn one_changed_byte_of_an_adapter_differs() {
    let bench = reported();
    bench.flip("adapters/a/adapter_model.safetensors");
    differs(&verify(&bench, &[]), "adapter adapters/a");
}

#[test]
fn another_policy_differs() {
    let bench = reported();
    bench.write("other.toml", "version = 1\n[rules]\npickle = \"allow\"\n");
    differs(&verify(&bench, &["--policy", "other.toml"]), "policy");
    bench.policy("fail_on = \"warn\"");
    differs(&verify(&bench, &[]), "policy");
}

#[test]
fn an_edited_verdict_differs() {
    let bench = reported();
    edit_json(bench.path("gate.json"), |report| report["verdict"] = "pass".into());
    differs(&verify(&bench, &[]), "verdict");
}

/// Edits every finding of the report, and the verdicts to what a passer-by would like to read.
fn forged(edit: impl Fn(&mut Value)) -> Bench {
    let bench = reported();
    edit_json(bench.path("gate.json"), |report| {
        edit(report);
        report["verdict"] = "pass".into();
        let artifacts = report["artifacts"].as_array_mut().expect("an array");
        artifacts.iter_mut().for_each(|artifact| artifact["verdict"] = "pass".into());
    });
    bench
}

fn each_finding(report: &mut Value, edit: impl Fn(&mut Value)) {
    let artifacts = report["artifacts"].as_array_mut().expect("an array");
    artifacts.iter_mut().flat_map(|artifact| artifact["findings"].as_array_mut().expect("an array")).for_each(edit);
}

#[test]
fn findings_that_were_taken_out_differ() {
    let bench = forged(|report| {
        for artifact in report["artifacts"].as_array_mut().expect("an array") {
            artifact["findings"] = Value::Array(Vec::new());
        }
    });
    differs(&verify(&bench, &[]), "findings of adapters/b");
}

#[test]
fn findings_that_were_made_harmless_differ() {
    for (key, value) in [
        ("level", Value::from("allow")),
        ("state", Value::from("unchanged")),
        ("waiver", serde_json::json!({"reason": "fine", "owner": "me", "expires": "2999-01-01"})),
    ] {
        let bench = forged(|report| each_finding(report, |finding| finding[key] = value.clone()));
        let run = verify(&bench, &[]);
        assert_eq!(run.code, 1, "an edited {key} is not noticed:\n{}", run.stdout);
    }
}

#[test]
fn a_report_without_an_adapter_that_is_there_cannot_be_verified_by_accident() {
    let bench = reported();
    fs_err::remove_dir_all(bench.path("adapters/a")).expect("removed");
    refused(&verify(&bench, &[]), &["adapters/a"]);
}

#[test]
fn what_is_no_report_is_refused() {
    let bench = reported();
    for content in ["", "{}", "[]", "{\"schema\": \"lcr-audit/gate/9\"}", "{\"schema\": \"lcr-audit/gate/1\"}"] {
        bench.write("gate.json", content);
        refused(&verify(&bench, &[]), &["gate.json"]);
    }
    refused(&bench.run(["verify", "none.json"]), &["none.json"]);
}

/// A comparison of a golden adapter with its base.
fn compared() -> Bench {
    let bench = Bench::new();
    bench.base();
    bench.sound("adapter");
    let arguments = ["--tokens", "ids.json", "--metrics", "tokens,weights", "--out", "audit", "--quiet"];
    let run = bench.run(["compare", "base", "adapter"].iter().chain(&arguments));
    assert_eq!(run.code, 0, "{}", run.stderr);
    bench
}

fn verify_audit(bench: &Bench, more: &[&str]) -> Run {
    bench.run(["verify", "audit/report.json", "--json"].iter().chain(more))
}

#[test]
fn the_report_of_a_comparison_agrees_until_something_changes() {
    let bench = compared();
    let run = verify_audit(&bench, &[]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    fs_err::rename(bench.path("adapter"), bench.path("moved")).expect("renamed");
    refused(&verify_audit(&bench, &[]), &["--adapter"]);
    assert_eq!(verify_audit(&bench, &["--adapter", "moved"]).code, 0);
    bench.flip("moved/adapter_model.safetensors");
    differs(&verify_audit(&bench, &["--adapter", "moved"]), "adapter");
}

#[test]
fn another_base_under_a_comparison_differs() {
    let bench = compared();
    bench.flip("base/model.safetensors");
    differs(&verify_audit(&bench, &[]), "base");
}

#[test]
fn an_edited_verdict_of_a_comparison_differs() {
    let bench = compared();
    edit_json(bench.path("audit/report.json"), |report| report["verdict"] = "fail".into());
    differs(&verify_audit(&bench, &[]), "verdict");
}

#[test]
fn a_gate_that_compared_is_verified_against_its_base() {
    let bench = Bench::new();
    bench.policy("[compare]\nrequired = true\nmax_prompts = 2");
    let (base, adapter) = (crate::support::repository("bundled/nano"), crate::support::repository("bundled/nano-lcr"));
    let arguments = ["--policy", "policy.toml", "--write", "json=gate.json", "--quiet"];
    let run = bench.run(["gate", "--base", base.as_str(), adapter.as_str()].iter().chain(&arguments));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let run = verify(&bench, &[]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let other = crate::support::repository("bundled/stories260K");
    differs(&verify(&bench, &["--base", &other]), "base");
}
