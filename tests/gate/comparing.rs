//! `gate` where the policy asks for a comparison.

use serde_json::{Value, json};

use super::bench::{Bench, finding, items, refused, rules};
use crate::support::{Run, golden_adapter, repository};

const COMPARE: &str = "[compare]\nrequired = true\nmetrics = [\"tokens\", \"weights\"]\nmax_prompts = 4\n";

/// The nano reasoner and its adapter under a policy.
fn nano(policy: &str, more: &[&str]) -> Run {
    let bench = Bench::new();
    bench.policy(policy);
    let (base, adapter) = (repository("bundled/nano"), repository("bundled/nano-lcr"));
    let arguments = ["gate", "--policy", "policy.toml", "--json", "--base", base.as_str(), adapter.as_str()];
    bench.run(arguments.iter().chain(more))
}

#[test]
fn a_size_is_judged_by_the_limit_that_the_policy_sets() {
    let run = nano(&format!("{COMPARE}[rules]\nnext-token-kl = \"deny\""), &[]);
    assert_eq!(run.code, 0, "{}", run.stdout);
    let report = run.json();
    assert_eq!(report["artifacts"][0]["compared"], true);
    assert_eq!(report["pins"]["probes"]["source"], "general");
    for pin in ["/pins/base/sha256", "/pins/base/tokenizer", "/pins/probes/sha256"] {
        assert_eq!(report.pointer(pin).and_then(Value::as_str).map(str::len), Some(64), "{pin}");
    }
    let run = nano(&format!("{COMPARE}[rules]\nnext-token-kl = {{ level = \"deny\", limit = 0.001 }}"), &[]);
    assert_eq!(run.code, 1);
    let report = run.json();
    let kl = finding(&report, "next-token-kl");
    assert!(kl["measured"].as_f64().expect("a number") > 0.001, "{kl}");
    assert_eq!((&kl["level"], &kl["limit"]), (&json!("deny"), &json!(0.001)));
}

#[test]
fn a_comparison_without_a_base_is_refused() {
    let bench = Bench::new();
    bench.sound("adapter");
    bench.policy(COMPARE);
    refused(&bench.run(["gate", "adapter", "--policy", "policy.toml"]), &["policy.toml", "--base"]);
    let run = bench.run(["gate", "adapter", "--policy", "policy.toml", "--base", "nowhere"]);
    refused(&run, &["nowhere"]);
    // `scan` reads files only, whatever the policy asks for.
    assert_eq!(bench.run(["scan", "adapter", "--policy", "policy.toml"]).code, 0);
}

#[test]
fn what_the_policy_names_wrongly_is_refused() {
    let run = nano("[compare]\nrequired = true\nmetrics = [\"charm\"]", &[]);
    refused(&run, &["charm"]);
    let run = nano("[compare]\nrequired = true\nprobes = \"charm\"", &[]);
    refused(&run, &["charm"]);
}

#[test]
fn an_adapter_of_another_base_is_not_passed_over() {
    let run = nano(COMPARE, &[&golden_adapter("qwen3_lora_qv")]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let report = run.json();
    let verdicts: Vec<&Value> = items(&report, "/artifacts").iter().map(|artifact| &artifact["verdict"]).collect();
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == "pass").count(), 1, "{report}");
    assert_eq!(finding(&report, "not-compared")["level"], "deny");
}

#[test]
fn what_cannot_be_analysed_is_neither_pass_nor_fail() {
    let bench = Bench::new();
    bench.base();
    bench.sound("adapters/a");
    bench.infinite("adapters/b");
    // The files alone say that its numbers overflow; here somebody has accepted that.
    bench.policy("[rules]\noverflow = \"warn\"");
    let batch =
        ["batch", "base", "adapters", "--tokens", "ids.json", "--out", "fleet", "--json", "--policy", "policy.toml"];
    let run = bench.run(batch);
    assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(report["verdict"], "incomplete");
    let verdicts: Vec<&Value> = items(&report, "/artifacts").iter().map(|artifact| &artifact["verdict"]).collect();
    assert_eq!(verdicts, [&json!("pass"), &json!("incomplete")]);
    assert!(report["artifacts"][1]["error"].is_string());
    assert!(!rules(&report).contains(&"not-compared"));
}
