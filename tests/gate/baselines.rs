//! Baselines: what is known, on the same bytes, does not fail the gate again.

use serde_json::Value;

use super::bench::{Bench, PICKLE, finding, findings, items, refused, sarif_results};
use crate::support::edit_json;

/// Two adapters, one with a pickle, and a report that has been accepted.
fn accepted() -> Bench {
    let bench = Bench::new();
    bench.sound("adapters/a");
    bench.hostile("adapters/b");
    assert_eq!(bench.run(["scan", "adapters", "--write", "json=accepted.json", "--quiet"]).code, 1);
    bench
}

fn again(bench: &Bench, more: &[&str]) -> crate::support::Run {
    bench.run(["scan", "adapters", "--baseline", "accepted.json"].iter().chain(more))
}

fn states(log: &Value) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    sarif_results(log).iter().map(|result| (word(&result["ruleId"]), word(&result["baselineState"]))).collect()
}

fn pair(rule: &str, state: &str) -> (String, String) {
    (rule.to_owned(), state.to_owned())
}

#[test]
fn what_is_known_does_not_fail_again() {
    let bench = accepted();
    let run = again(&bench, &["--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report = run.json();
    assert!(findings(&report).iter().all(|finding| finding["state"] == "unchanged"), "{report}");
    assert_eq!(findings(&report).len(), 2);
    assert!(report["pins"]["baseline"].is_string());
    let log = again(&bench, &["--format", "sarif"]).json();
    assert_eq!(states(&log), [pair("pickle", "unchanged"), pair("pickle-import", "unchanged")]);
}

#[test]
fn other_bytes_in_the_same_file_are_new() {
    let bench = accepted();
    bench.write("adapters/b/state.pkl", b"cos\nsystem\n(S'evil'\ntR.");
    let run = again(&bench, &["--json"]);
    assert_eq!(run.code, 1);
    assert_eq!(finding(&run.json(), "pickle")["state"], "new");
    let log = again(&bench, &["--format", "sarif"]).json();
    assert_eq!(states(&log), [pair("pickle", "new"), pair("pickle-import", "new")]);
}

#[test]
fn the_same_bytes_elsewhere_are_new() {
    let bench = accepted();
    bench.write("adapters/a/state.pkl", PICKLE);
    let run = again(&bench, &["--json"]);
    assert_eq!(run.code, 1);
    let report = run.json();
    let states: Vec<(&str, &str)> = findings(&report)
        .into_iter()
        .map(|finding| (finding["artifact"].as_str().expect("text"), finding["state"].as_str().expect("text")))
        .collect();
    let expected = [("a", "new"), ("a", "new"), ("b", "unchanged"), ("b", "unchanged")];
    assert_eq!(states, expected.map(|(name, state)| (["adapters/a", "adapters/b"][usize::from(name == "b")], state)));
}

#[test]
fn what_is_gone_is_said_to_be_gone() {
    let bench = accepted();
    fs_err::remove_file(bench.path("adapters/b/state.pkl")).expect("removed");
    let run = again(&bench, &["--json"]);
    assert_eq!(run.code, 0);
    let report = run.json();
    assert!(findings(&report).is_empty());
    assert!(items(&report, "/absent").iter().all(|finding| finding["state"] == "absent"));
    let log = again(&bench, &["--format", "sarif"]).json();
    assert_eq!(states(&log), [pair("pickle", "absent"), pair("pickle-import", "absent")]);
}

#[test]
fn a_baseline_that_is_none_is_an_error() {
    let bench = accepted();
    for content in ["", "{}", "[1, 2]", "{\"schema\": \"lcr-audit/gate/0\"}"] {
        bench.write("accepted.json", content);
        refused(&again(&bench, &[]), &["accepted.json"]);
    }
}

#[test]
fn a_number_is_known_up_to_what_it_was_and_on_the_same_config() {
    let bench = Bench::new();
    bench.sound("adapter");
    let alpha = |alpha: u32| {
        edit_json(bench.path("adapter/adapter_config.json"), |config| config["lora_alpha"] = alpha.into());
    };
    bench.policy("[rules]\nscale = \"deny\"");
    let scan = ["scan", "adapter", "--policy", "policy.toml"];
    let code = || bench.run(scan.iter().chain(&["--baseline", "accepted.json"])).code;
    alpha(128);
    assert_eq!(bench.run(scan.iter().chain(&["--write", "json=accepted.json", "--quiet"])).code, 1);
    assert_eq!(code(), 0);
    alpha(4_000_000);
    assert_eq!(code(), 1);
    alpha(128);
    // The same bytes, and a baseline that accepted less of them.
    edit_json(bench.path("accepted.json"), |report| {
        report["artifacts"][0]["findings"][0]["measured"] = 31.into();
    });
    assert_eq!(code(), 1);
}

#[test]
fn what_a_waiver_covered_is_not_known_for_ever() {
    let bench = Bench::new();
    bench.hostile("adapter");
    let report = bench.run(["scan", "adapter", "--json"]).json();
    let digest = report["artifacts"][0]["sha256"].as_str().expect("a digest");
    let waiver = |rule: &str| {
        format!(
            "[[waivers]]\nrule = \"{rule}\"\nsha256 = \"{digest}\"\nreason = \"r\"\nowner = \"o\"\nexpires = \
             2026-06-30\n"
        )
    };
    bench.policy(&(waiver("pickle") + &waiver("pickle-import")));
    let day = ["scan", "adapter", "--policy", "policy.toml", "--date", "2026-06-30", "--write", "json=accepted.json"];
    assert_eq!(bench.run(day).code, 0);
    assert_eq!(bench.run(["scan", "adapter", "--baseline", "accepted.json"]).code, 1);
}
