//! Waivers: one rule, on exactly these bytes, until a day.

use serde_json::{Value, json};

use super::bench::{Bench, finding, items, sarif_results};
use crate::support::{Run, edit_json};

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

/// An adapter whose alpha is large, and the digest of the finding of `scale`.
fn scaled() -> (Bench, String) {
    let bench = Bench::new();
    bench.sound("adapter");
    alpha(&bench, 128);
    bench.policy("[rules]\nscale = \"deny\"");
    let report = bench.run(["scan", "adapter", "--policy", "policy.toml", "--json"]).json();
    let digest = finding(&report, "scale")["sha256"].as_str().expect("a digest").to_owned();
    (bench, digest)
}

fn alpha(bench: &Bench, alpha: u32) {
    edit_json(bench.path("adapter/adapter_config.json"), |config| config["lora_alpha"] = alpha.into());
}

fn code_under(bench: &Bench, digest: &str, more: &str) -> i32 {
    judged(bench, &format!("[rules]\nscale = \"deny\"\n{}", waiver("scale", digest, more)), "2030-01-01").code
}

#[test]
fn a_number_rests_on_config_and_tensors() {
    let (bench, digest) = scaled();
    let report = bench.run(["scan", "adapter", "--policy", "policy.toml", "--json"]).json();
    let files: Vec<&str> =
        items(finding(&report, "scale"), "/files").iter().map(|file| file["path"].as_str().expect("text")).collect();
    assert_eq!(files, ["adapter_config.json", "adapter_model.safetensors"]);
    // As `sha256sum` makes it.
    let script = "sha256sum adapter_config.json adapter_model.safetensors | sha256sum | cut -d' ' -f1";
    let sum = std::process::Command::new("bash").args(["-c", script]).current_dir(bench.path("adapter")).output();
    assert_eq!(String::from_utf8_lossy(&sum.expect("bash starts").stdout).trim(), digest);
    let tensors = report["artifacts"][0]["adapter"]["sha256"].as_str().expect("a digest").to_owned();
    let whole = report["artifacts"][0]["sha256"].as_str().expect("a digest").to_owned();
    assert_eq!((code_under(&bench, &digest, ""), code_under(&bench, &whole, "")), (0, 0));
    assert_eq!(code_under(&bench, &tensors, ""), 1, "the tensors alone are not what it rests on");
    alpha(&bench, 4_000_000);
    assert_eq!((code_under(&bench, &digest, ""), code_under(&bench, &whole, "")), (1, 1));
    alpha(&bench, 128);
    assert_eq!(code_under(&bench, &digest, ""), 0);
    bench.flip("adapter/adapter_model.safetensors");
    assert_eq!(code_under(&bench, &digest, ""), 1);
}

#[test]
fn a_waiver_holds_up_to_its_number() {
    let (bench, digest) = scaled();
    // Alpha 128 over rank 4.
    for (up_to, code) in [("up_to = 32", 0), ("up_to = 32.5", 0), ("up_to = 31.9", 1), ("up_to = 0", 1)] {
        assert_eq!(code_under(&bench, &digest, up_to), code, "{up_to}");
    }
    bench.policy(&waiver("pickle", &digest, "up_to = 1"));
    let run = bench.run(["policy", "check", "policy.toml"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("waivers[0].up_to: `pickle` measures nothing"), "{}", run.stderr);
}

#[test]
fn what_is_said_of_a_tokenizer_rests_on_all_its_files() {
    let bench = Bench::new();
    bench.sound("adapter");
    bench.write("adapter/added_tokens.json", "{\"<x>\": 5}");
    bench.write("adapter/vocab.json", "{\"a\": 1}");
    let policy = "[rules]\ntokenizer-carried = \"deny\"\n";
    bench.policy(policy);
    let report = bench.run(["scan", "adapter", "--policy", "policy.toml", "--json"]).json();
    let digest = finding(&report, "tokenizer-carried")["sha256"].as_str().expect("a digest").to_owned();
    let code = || judged(&bench, &format!("{policy}{}", waiver("tokenizer-carried", &digest, "")), "2030-01-01").code;
    assert_eq!(code(), 0);
    bench.write("adapter/vocab.json", "{\"b\": 1}");
    assert_eq!(code(), 1);
    bench.write("adapter/vocab.json", "{\"a\": 1}");
    assert_eq!(code(), 0);
    bench.write("adapter/special_tokens_map.json", "{}");
    assert_eq!(code(), 1, "another file of the tokenizer");
}

#[test]
fn the_base_that_is_named_is_in_the_config() {
    let bench = Bench::new();
    bench.sound("adapter");
    let name = |name: &str| {
        edit_json(bench.path("adapter/adapter_config.json"), |config| config["base_model_name_or_path"] = name.into());
    };
    name("someone/base");
    let policy = "[allowed]\nbase_models = [\"Qwen/*\"]\n";
    bench.policy(policy);
    let report = bench.run(["scan", "adapter", "--policy", "policy.toml", "--json"]).json();
    let digest = finding(&report, "base-model-not-allowed")["sha256"].as_str().expect("a digest").to_owned();
    let code =
        || judged(&bench, &format!("{policy}{}", waiver("base-model-not-allowed", &digest, "")), "2030-01-01").code;
    assert_eq!(code(), 0);
    name("evil/base");
    assert_eq!(code(), 1);
}

#[test]
fn what_was_not_read_cannot_be_waived() {
    let bench = Bench::new();
    bench.sound("adapter");
    std::os::unix::fs::symlink("/etc/hostname", bench.path("adapter/notes.txt")).expect("linked");
    let report = bench.run(["scan", "adapter", "--json"]).json();
    let whole = report["artifacts"][0]["sha256"].as_str().expect("a digest").to_owned();
    let policy = format!("[rules]\nlink-outside = \"deny\"\n{}", waiver("link-outside", &whole, ""));
    let run = judged(&bench, &policy, "2030-01-01");
    assert_eq!(run.code, 1);
    let report = run.json();
    assert_eq!(policy_rules(&report), ["waiver-refused"]);
    assert_eq!(finding(&report, "link-outside")["waiver"], Value::Null);
    let checked = bench.run(["policy", "check", "policy.toml"]);
    super::bench::refused(&checked, &["waivers[0]: `link-outside` cannot be waived"]);
    // Nor is it known from a baseline.
    bench.policy("[rules]\nlink-outside = \"deny\"");
    let arguments = ["scan", "adapter", "--policy", "policy.toml"];
    assert_eq!(bench.run(arguments.iter().chain(&["--write", "json=accepted.json"])).code, 1);
    assert_eq!(bench.run(arguments.iter().chain(&["--baseline", "accepted.json"])).code, 1);
}

#[test]
fn many_waivers_that_nothing_needs_are_counted() {
    let bench = Bench::new();
    bench.sound("adapter");
    let text: String = (0..2_500).map(|index| waiver("pickle", &format!("{index:064x}"), "")).collect();
    let report = judged(&bench, &text, "2030-01-01").json();
    let stale = items(&report, "/policy_findings");
    assert_eq!(stale.len(), 1_001);
    assert!(stale[1_000]["message"].as_str().expect("text").starts_with("1500 more waivers"), "{}", stale[1_000]);
}
