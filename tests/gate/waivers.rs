//! Waivers: one rule, on exactly these bytes, until a day.

use serde_json::{Value, json};

use super::bench::{Bench, finding, items, sarif_results};
use crate::support::Run;

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const LAST_DAY: &str = "2030-06-30";

fn waiver(rule: &str, sha256: &str, more: &str) -> String {
    format!(
        "[[waivers]]\nrule = \"{rule}\"\nsha256 = \"{sha256}\"\nreason = \"reviewed in #123\"\nowner = \"security\"\n\
         expires = {LAST_DAY}\n{more}\n"
    )
}

/// An adapter with a pickle, and the digests of the pickle and of the whole.
fn hostile() -> (Bench, String, String) {
    let bench = Bench::new();
    bench.hostile("adapter");
    let report = bench.run(["scan", "adapter", "--json"]).json();
    let of_file = finding(&report, "pickle")["sha256"].as_str().expect("a digest").to_owned();
    let whole = report["artifacts"][0]["sha256"].as_str().expect("a digest").to_owned();
    assert_ne!(of_file, whole);
    (bench, of_file, whole)
}

fn both(sha256: &str) -> String {
    waiver("pickle", sha256, "") + &waiver("pickle-import", sha256, "")
}

fn judged(bench: &Bench, policy: &str, date: &str) -> Run {
    bench.policy(policy);
    bench.run(["scan", "adapter", "--policy", "policy.toml", "--date", date, "--json"])
}

fn policy_rules(report: &Value) -> Vec<&str> {
    items(report, "/policy_findings").iter().map(|finding| finding["rule"].as_str().expect("a code")).collect()
}

#[test]
fn a_waiver_on_the_right_bytes_covers_the_finding() {
    let (bench, of_file, whole) = hostile();
    for digest in [of_file.clone(), whole, of_file.to_uppercase()] {
        let run = judged(&bench, &both(&digest), "2030-01-01");
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        let report = run.json();
        assert!(policy_rules(&report).is_empty(), "{report}");
        let covered = finding(&report, "pickle");
        assert_eq!(covered["level"], "deny");
        assert_eq!(covered["waiver"], json!({"reason": "reviewed in #123", "owner": "security", "expires": LAST_DAY}));
    }
    let sarif = bench.run(["scan", "adapter", "--policy", "policy.toml", "--date", "2030-01-01", "--format", "sarif"]);
    let log = sarif.json();
    let results = sarif_results(&log);
    assert_eq!(results.len(), 2);
    for result in results {
        let suppression = &result["suppressions"][0];
        assert_eq!((&suppression["kind"], &suppression["status"]), (&json!("external"), &json!("accepted")));
        assert!(suppression["justification"].as_str().expect("text").contains("reviewed in #123"), "{result}");
    }
}

#[test]
fn a_waiver_on_other_bytes_covers_nothing_and_is_stale() {
    let (bench, of_file, _) = hostile();
    let run = judged(&bench, &both(ZEROS), "2030-01-01");
    assert_eq!(run.code, 1);
    let report = run.json();
    assert_eq!(policy_rules(&report), ["waiver-stale", "waiver-stale"]);
    assert_eq!(finding(&report, "pickle")["waiver"], Value::Null);
    // The very file, changed by one byte behind its end.
    bench.write("adapter/state.pkl", [super::bench::PICKLE, b"\n"].concat());
    assert_eq!(judged(&bench, &both(&of_file), "2030-01-01").code, 1);
}

#[test]
fn a_waiver_is_of_one_rule() {
    let (bench, of_file, _) = hostile();
    let run = judged(&bench, &waiver("pickle", &of_file, ""), "2030-01-01");
    assert_eq!(run.code, 1);
    assert_eq!(finding(&run.json(), "pickle-import")["waiver"], Value::Null);
}

#[test]
fn a_waiver_holds_to_its_last_day_and_then_fails_the_gate_itself() {
    let (bench, of_file, _) = hostile();
    assert_eq!(judged(&bench, &both(&of_file), LAST_DAY).code, 0);
    let run = judged(&bench, &both(&of_file), "2030-07-01");
    assert_eq!(run.code, 1);
    let report = run.json();
    assert_eq!(finding(&report, "pickle")["waiver"], Value::Null);
    assert_eq!(policy_rules(&report), ["waiver-expired", "waiver-expired"]);
    assert_eq!(report["pins"]["date"], "2030-07-01");
    // Nor can it be forgotten once its cause is gone.
    fs_err::remove_file(bench.path("adapter/state.pkl")).expect("removed");
    let run = judged(&bench, &both(&of_file), "2030-07-01");
    assert_eq!(run.code, 1);
    assert_eq!(items(&run.json(), "/policy_findings")[0]["level"], "deny");
}

#[test]
fn a_waiver_that_nothing_needs_is_a_warning() {
    let bench = Bench::new();
    bench.sound("adapter");
    let run = judged(&bench, &waiver("pickle", ZEROS, ""), "2030-01-01");
    assert_eq!(run.code, 0);
    let report = run.json();
    let stale = finding(&report, "waiver-stale");
    assert_eq!((&stale["level"], &stale["where"]), (&json!("warn"), &json!("waivers[0]")));
    assert_eq!(judged(&bench, &format!("fail_on = \"warn\"\n{}", waiver("pickle", ZEROS, "")), "2030-01-01").code, 1);
}

#[test]
fn a_waiver_can_be_of_one_place() {
    let bench = Bench::new();
    bench.warned("adapter");
    let report = bench.run(["scan", "adapter", "--json"]).json();
    let whole = finding(&report, "whole-tensor");
    assert_eq!(whole["where"], "lm_head.weight");
    let digest = whole["sha256"].as_str().expect("a digest");
    let covered = |place: &str| {
        let run = judged(&bench, &waiver("whole-tensor", digest, &format!("where = \"{place}\"")), "2030-01-01");
        !finding(&run.json(), "whole-tensor")["waiver"].is_null()
    };
    assert!(covered("lm_head.weight"));
    assert!(!covered("model.norm.weight"));
}
