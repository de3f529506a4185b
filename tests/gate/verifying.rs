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

/// By the policy that the report was judged by.
fn verify_by_policy(bench: &Bench) -> Run {
    verify(bench, &["--policy", "policy.toml"])
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
    let run = verify_by_policy(&bench);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!((&run.json()["agrees"], &run.json()["complete"]), (&true.into(), &true.into()));
    let printed = bench.run(["verify", "gate.json", "--policy", "policy.toml"]);
    assert!(printed.stdout.ends_with("everything agrees\n"), "{}", printed.stdout);
    assert!(printed.stdout.contains("paths `adapters`, as the report names them"), "{}", printed.stdout);
    // Neither does another layout of the same document.
    let report = bench.json("gate.json");
    bench.write("gate.json", report.to_string());
    assert_eq!(verify_by_policy(&bench).code, 0);
}

#[test]
fn one_changed_byte_of_an_adapter_differs() {
    let bench = reported();
    bench.flip("adapters/a/adapter_model.safetensors");
    differs(&verify_by_policy(&bench), "adapter adapters/a");
}

#[test]
fn the_policy_is_never_the_one_that_the_report_names() {
    let bench = reported();
    let run = verify(&bench, &[]);
    differs(&run, "policy");
    assert!(run.stdout.contains("--policy FILE"), "{}", run.stdout);
    bench.write("other.toml", "version = 1\n[rules]\npickle = \"allow\"\n");
    differs(&verify(&bench, &["--policy", "other.toml"]), "policy");
    // The policy of the folder is what `gate` takes by itself, and so does `verify`.
    fs_err::copy(bench.path("policy.toml"), bench.path("lcr-audit.toml")).expect("copied");
    assert_eq!(bench.run(["gate", "adapters", "--write", "json=gate.json", "--quiet"]).code, 1);
    assert_eq!(verify(&bench, &[]).code, 0);
    bench.write("forger.toml", "version = 1\n[rules]\npickle = \"allow\"\npickle-import = \"allow\"\n");
    let forged = ["gate", "adapters", "--policy", "forger.toml", "--write", "json=gate.json", "--quiet"];
    assert_eq!(bench.run(forged).code, 0);
    differs(&verify(&bench, &[]), "policy");
}

#[test]
fn every_edit_differs() {
    type Edit = fn(&mut Value);
    let edits: [(&str, Edit); 22] = [
        ("verdict", |report| report["verdict"] = "pass".into()),
        ("verdict on adapters/b", |report| report["artifacts"][1]["verdict"] = "pass".into()),
        ("adapter adapters/b", |report| {
            report["artifacts"].as_array_mut().expect("a list").remove(1);
            report["verdict"] = "pass".into();
        }),
        ("adapters", |report| report["artifacts"].as_array_mut().expect("a list").reverse()),
        ("adapter adapters/a (2)", |report| {
            let first = report["artifacts"][0].clone();
            report["artifacts"].as_array_mut().expect("a list").push(first);
        }),
        ("findings of adapters/b", |report| report["artifacts"][1]["findings"] = Value::Array(Vec::new())),
        ("findings of adapters/b", |report| report["artifacts"][1]["findings"][0]["level"] = "allow".into()),
        ("findings of adapters/b", |report| report["artifacts"][1]["findings"][0]["state"] = "unchanged".into()),
        ("findings of adapters/b", |report| report["artifacts"][1]["findings"][0]["message"] = "fine".into()),
        ("findings of adapters/b", |report| {
            report["artifacts"][1]["findings"][0]["waiver"] =
                serde_json::json!({"reason": "fine", "owner": "me", "expires": "2999-01-01"});
        }),
        ("findings of adapters/a", |report| report["artifacts"][0]["findings"][0]["measured"] = 3.5.into()),
        ("findings of adapters/a", |report| report["artifacts"][0]["findings"][0]["limit"] = 1000.into()),
        ("adapter adapters/a", |report| report["artifacts"][0]["adapter"]["ranks"] = serde_json::json!([1])),
        ("adapter adapters/a", |report| report["artifacts"][0]["adapter"]["base_model"] = "Qwen/Qwen3-8B".into()),
        ("adapter adapters/a", |report| report["artifacts"][0]["error"] = "the disk was full".into()),
        ("adapter adapters/a", |report| report["artifacts"][0]["compared"] = true.into()),
        ("program", |report| report["pins"]["tool"] = Value::Null),
        ("probes", |report| report["pins"]["probes"] = serde_json::json!({"source": "general", "sha256": ""})),
        ("baseline", |report| report["pins"]["baseline"] = "0".repeat(64).into()),
        ("day", |report| report["pins"]["date"] = "soon".into()),
        ("level that fails", |report| report["fail_on"] = "warn".into()),
        ("reviewed", |report| report["reviewed"] = "by security".into()),
    ];
    let bench = reported();
    let sound = fs_err::read(bench.path("gate.json")).expect("readable");
    for (what, edit) in edits {
        bench.write("gate.json", &sound);
        edit_json(bench.path("gate.json"), edit);
        differs(&verify_by_policy(&bench), what);
    }
}

#[test]
fn statistics_that_were_taken_out_differ() {
    let bench = reported();
    bench.run(["scan", "adapters", "--statistics", "--write", "json=gate.json", "--quiet"]);
    assert_eq!(verify(&bench, &[]).code, 0);
    edit_json(bench.path("gate.json"), |report| {
        report["artifacts"][0].as_object_mut().expect("an object").remove("statistics");
    });
    differs(&verify(&bench, &[]), "adapter adapters/a");
}

#[test]
fn waivers_and_baselines_are_those_of_the_verifier() {
    let bench = Bench::new();
    bench.hostile("adapters/b");
    let report = bench.run(["scan", "adapters", "--json"]).json();
    let digest = report["artifacts"][0]["sha256"].as_str().expect("a digest").to_owned();
    let waiver = |rule: &str| {
        format!(
            "[[waivers]]\nrule = \"{rule}\"\nsha256 = \"{digest}\"\nreason = \"r\"\nowner = \"o\"\nexpires = \
             2026-06-30\n"
        )
    };
    bench.policy(&(waiver("pickle") + &waiver("pickle-import")));
    let gate = ["gate", "adapters", "--policy", "policy.toml", "--write", "json=gate.json", "--quiet"];
    assert_eq!(bench.run(gate.iter().chain(&["--date", "2026-06-30"])).code, 0);
    let by = |more: &[&str]| verify(&bench, &[&["--policy", "policy.toml"], more].concat());
    assert_eq!(by(&["--date", "2026-06-30"]).code, 0);
    differs(&by(&["--date", "2026-07-01"]), "verdict");
    // Today is later.
    differs(&by(&[]), "findings about the policy");
    // A day that was moved back to before the waivers' end.
    assert_eq!(bench.run(gate.iter().chain(&["--date", "2026-07-01"])).code, 1);
    edit_json(bench.path("gate.json"), |report| report["policy_findings"] = Value::Array(Vec::new()));
    differs(&by(&["--date", "2026-07-01"]), "findings about the policy");
    assert_eq!(bench.run(["scan", "adapters", "--write", "json=accepted.json", "--quiet"]).code, 1);
    let scan = ["scan", "adapters", "--baseline", "accepted.json", "--write", "json=gate.json", "--quiet"];
    assert_eq!(bench.run(scan).code, 0);
    assert_eq!(verify(&bench, &["--baseline", "accepted.json"]).code, 0);
    let run = verify(&bench, &[]);
    differs(&run, "baseline");
    assert!(run.stdout.contains("--baseline FILE"), "{}", run.stdout);
}

#[test]
fn what_has_moved_is_given_and_said() {
    let bench = reported();
    fs_err::rename(bench.path("adapters"), bench.path("moved")).expect("renamed");
    refused(&verify_by_policy(&bench), &["adapters does not exist"]);
    let run = verify(&bench, &["moved", "--policy", "policy.toml"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("path moved, which the report calls `adapters`"), "{}", run.stdout);
    bench.flip("moved/b/adapter_model.safetensors");
    differs(&verify(&bench, &["moved", "--policy", "policy.toml"]), "adapter adapters/b");
}

#[test]
fn an_adapter_that_is_gone_or_new_differs() {
    let bench = reported();
    bench.sound("adapters/c");
    differs(&verify_by_policy(&bench), "adapter adapters/c");
    fs_err::remove_dir_all(bench.path("adapters/c")).expect("removed");
    fs_err::remove_dir_all(bench.path("adapters/a")).expect("removed");
    differs(&verify_by_policy(&bench), "adapter adapters/a");
}

#[test]
fn a_key_that_stands_twice_is_no_report() {
    let bench = reported();
    let text = fs_err::read_to_string(bench.path("gate.json")).expect("readable");
    let doubled = text.replacen("\"verdict\"", "\"verdict\": \"pass\", \"verdict\"", 1);
    bench.write("gate.json", doubled);
    refused(&verify_by_policy(&bench), &["`verdict` stands twice"]);
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
    // The second adapter is the same model with other bytes.
    bench.write("moved/note.txt", "hello");
    differs(&verify_audit(&bench, &["--adapter", "moved"]), "digest of the adapter");
}

#[test]
fn every_edit_of_a_comparison_differs() {
    type Edit = fn(&mut Value);
    let edits: [(&str, Edit); 7] = [
        ("verdict", |report| report["verdict"] = "fail".into()),
        ("weights", |report| report["weights"] = serde_json::json!({})),
        ("weights", |report| {
            let weights = report["weights"].as_object_mut().expect("an object");
            let first = weights.values_mut().next().expect("a weight");
            first["relative_norm"] = (first["relative_norm"].as_f64().expect("a number") / 1e6).into();
        }),
        ("tokens", |report| report["tokens"] = Value::Null),
        ("tokens", |report| {
            report["tokens"]["kl"]["mean"] =
                (report["tokens"]["kl"]["mean"].as_f64().expect("a number") * 0.999).into();
        }),
        ("digest of the probes", |report| report["composition"]["probes"] = "0".repeat(64).into()),
        ("asked", |report| report["asked"]["metrics"] = serde_json::json!(["tokens"])),
    ];
    let bench = compared();
    let sound = fs_err::read(bench.path("audit/report.json")).expect("readable");
    for (what, edit) in edits {
        bench.write("audit/report.json", &sound);
        edit_json(bench.path("audit/report.json"), edit);
        let what = if what == "asked" { "weights" } else { what };
        differs(&verify_audit(&bench, &[]), what);
    }
}

#[test]
fn the_report_on_the_bundled_pair_agrees_without_any_path() {
    let bench = Bench::new();
    let run = bench.run(["compare", "--max-prompts", "2", "--metrics", "tokens,weights", "--quiet"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let run = verify_audit(&bench, &[]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
}

#[test]
fn another_base_under_a_comparison_differs() {
    let bench = compared();
    bench.flip("base/model.safetensors");
    differs(&verify_audit(&bench, &[]), "base");
}

#[test]
fn a_gate_that_compared_is_verified_against_its_base() {
    let bench = Bench::new();
    bench.policy("[compare]\nrequired = true\nmax_prompts = 2");
    let (base, adapter) = (crate::support::repository("bundled/nano"), crate::support::repository("bundled/nano-lcr"));
    let arguments = ["--policy", "policy.toml", "--write", "json=gate.json", "--quiet"];
    let run = bench.run(["gate", "--base", base.as_str(), adapter.as_str()].iter().chain(&arguments));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let run = verify_by_policy(&bench);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let run = verify(&bench, &["--policy", "policy.toml", "--files-only"]);
    assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("the comparison with the base"), "{}", run.stdout);
    let sound = fs_err::read(bench.path("gate.json")).expect("readable");
    edit_json(bench.path("gate.json"), |report| report["pins"]["probes"]["sha256"] = "0".repeat(64).into());
    differs(&verify_by_policy(&bench), "probes");
    bench.write("gate.json", &sound);
    edit_json(bench.path("gate.json"), |report| report["pins"]["base"] = Value::Null);
    differs(&verify_by_policy(&bench), "base");
    bench.write("gate.json", &sound);
    let other = crate::support::repository("bundled/stories260K");
    differs(&verify(&bench, &["--policy", "policy.toml", "--base", &other]), "base");
}
