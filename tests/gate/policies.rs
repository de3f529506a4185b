//! `policy`, and what a policy's settings do.

use serde_json::json;

use super::bench::{Bench, finding, refused, rules};
use crate::support::{edit_json, read_json};

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn a_policy_begins_as_the_built_in_one() {
    let bench = Bench::new();
    bench.sound("adapter");
    let built_in = bench.run(["gate", "adapter", "--json"]).json();
    assert_eq!(built_in["pins"]["policy"]["source"], "default");
    assert_eq!(bench.run(["policy", "init"]).code, 0);
    let checked = bench.run(["policy", "check"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(checked.stdout.starts_with("lcr-audit.toml: sound, 0 waivers, sha256 "), "{}", checked.stdout);
    let own = bench.run(["gate", "adapter", "--json"]).json();
    assert_eq!(own["pins"]["policy"]["source"], "lcr-audit.toml");
    assert_eq!(own["pins"]["policy"]["sha256"], built_in["pins"]["policy"]["sha256"]);
}

#[test]
fn a_policy_that_is_there_is_not_replaced_unasked() {
    let bench = Bench::new();
    bench.write("lcr-audit.toml", "mine");
    refused(&bench.run(["policy", "init"]), &["lcr-audit.toml is there already", "--force"]);
    assert_eq!(fs_err::read_to_string(bench.path("lcr-audit.toml")).expect("readable"), "mine");
    assert_eq!(bench.run(["policy", "init", "--force"]).code, 0);
    assert_eq!(bench.run(["policy", "check"]).code, 0);
    assert_eq!(bench.run(["policy", "init", "other.toml"]).code, 0);
    assert_eq!(bench.run(["policy", "check", "other.toml"]).code, 0);
}

#[test]
fn every_rule_that_is_listed_is_explained() {
    let bench = Bench::new();
    let listed = bench.run(["policy", "explain"]);
    assert_eq!(listed.code, 0);
    let codes: Vec<&str> = listed.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(codes.len() > 50, "{codes:?}");
    for code in codes {
        let run = bench.run(["policy", "explain", code]);
        assert_eq!(run.code, 0, "{code}");
        for part in [&format!("{code}: "), "\nWhy\n", "\nExample\n", "\nAccept it\n"] {
            assert!(run.stdout.contains(part), "{part} is not in: {}", run.stdout);
        }
    }
    refused(&bench.run(["policy", "explain", "whole-tenor"]), &["`whole-tenor` is no rule"]);
}

#[test]
fn every_mistake_is_named_at_once() {
    let bench = Bench::new();
    let text = format!(
        r#"version = 2
        fail_on = "allow"
        [base]
        sha256 = "abc"
        [allowed]
        formats = ["GGUF"]
        base_models = ["Qwen/["]
        [rules]
        whole-tenor = "warn"
        pickle = {{ limit = 3 }}
        rank = {{ limit = -1 }}
        [[paths]]
        match = "{{a"
        [paths.rules]
        no-rule-at-all = "allow"
        [[waivers]]
        rule = "pickel"
        sha256 = "{ZEROS}"
        reason = " "
        owner = ""
        expires = 12:00:00
        "#
    );
    bench.write("policy.toml", text);
    let run = bench.run(["policy", "check", "policy.toml"]);
    let words = [
        "version is 2",
        "fail_on is `allow`",
        "base.sha256 is `abc`",
        "`GGUF`",
        "`Qwen/[` is not a pattern",
        "`whole-tenor`, which is no rule (did you mean `whole-tensor`?)",
        "rules.pickle: this rule has no limit",
        "rules.rank: limit -1",
        "`{a` is not a pattern",
        "`no-rule-at-all`",
        "waivers[0].rule names `pickel`",
        "waivers[0].reason is empty",
        "waivers[0].owner is empty",
        "waivers[0].expires holds no day",
    ];
    refused(&run, &words);
    bench.sound("adapter");
    refused(&bench.run(["scan", "adapter", "--policy", "policy.toml"]), &words);
}

#[test]
fn what_a_policy_does_not_know_is_not_passed_over() {
    let bench = Bench::new();
    for (text, words) in [
        ("version = 1\nfail-on = \"warn\"", ["fail-on", "policy.toml"]),
        ("version = 1\n[rules]\npickle = \"forbid\"", ["pickle", "policy.toml"]),
        ("version = 1\n[rules]\nrank = { limit = 3, levle = \"deny\" }", ["rank", "policy.toml"]),
        ("version = 1\n[compare]\nrequire = true", ["require", "policy.toml"]),
        ("fail_on = \"warn\"", ["version", "policy.toml"]),
        ("version = 1\n[rules", ["rules", "policy.toml"]),
    ] {
        bench.write("policy.toml", text);
        refused(&bench.run(["policy", "check", "policy.toml"]), &words);
    }
}

#[test]
fn rules_can_differ_by_path_and_the_last_match_goes_first() {
    let bench = Bench::new();
    for name in ["released/a", "experiments/a", "experiments/strict/a"] {
        bench.sound(name);
        bench.write(&format!("{name}/load.py"), "import os\n");
    }
    bench.policy(
        r#"
        [rules]
        script = "deny"
        [[paths]]
        match = "experiments/**"
        [paths.rules]
        script = "allow"
        [[paths]]
        match = "experiments/strict/**"
        [paths.rules]
        script = "warn"
        "#,
    );
    let levels = |path: &str| {
        let run = bench.run(["scan", path, "--policy", "policy.toml", "--json"]);
        let report = run.json();
        (run.code, finding(&report, "script")["level"].as_str().expect("a level").to_owned())
    };
    assert_eq!(levels("released/a"), (1, "deny".to_owned()));
    assert_eq!(levels("experiments/a"), (0, "allow".to_owned()));
    assert_eq!(levels("experiments/strict/a"), (0, "warn".to_owned()));
}

#[test]
fn a_path_is_the_same_however_it_is_spelled() {
    let bench = Bench::new();
    bench.sound("released/a");
    bench.write("released/a/load.py", "import os\n");
    bench.policy("[[paths]]\nmatch = \"released/**\"\n[paths.rules]\nscript = \"deny\"");
    let scanned = |path: &str| bench.run(["scan", path, "--policy", "policy.toml", "--json"]);
    let plain = scanned("released");
    assert_eq!(plain.code, 1, "{}", plain.stderr);
    for spelled in [".", "./released", "./released/a/", "released//a", "released/./a"] {
        assert_eq!(scanned(spelled).stdout, plain.stdout, "{spelled}");
    }
}

#[test]
fn warnings_fail_where_the_policy_says_so() {
    let bench = Bench::new();
    bench.warned("adapter");
    assert_eq!(bench.run(["scan", "adapter"]).code, 0);
    bench.policy("fail_on = \"warn\"");
    let run = bench.run(["scan", "adapter", "--policy", "policy.toml", "--json"]);
    assert_eq!(run.code, 1);
    assert_eq!(finding(&run.json(), "whole-tensor")["level"], "warn");
    assert_eq!(run.json()["fail_on"], "warn");
    bench.policy("fail_on = \"warn\"\n[rules]\nwhole-tensor = \"allow\"\nembedding-change = \"allow\"");
    assert_eq!(bench.run(["scan", "adapter", "--policy", "policy.toml"]).code, 0);
}

#[test]
fn a_limit_is_what_may_just_be_reached() {
    let bench = Bench::new();
    bench.sound("adapter");
    bench.policy("[rules]\nrank = { level = \"deny\", limit = 4 }");
    let run = bench.run(["scan", "adapter", "--policy", "policy.toml", "--json"]);
    assert_eq!((run.code, rules(&run.json()).len()), (0, 0));
    bench.policy("[rules]\nrank = { level = \"deny\", limit = 3 }");
    let run = bench.run(["scan", "adapter", "--policy", "policy.toml", "--json"]);
    assert_eq!(run.code, 1);
    let report = run.json();
    let rank = finding(&report, "rank");
    assert_eq!((&rank["measured"], &rank["limit"]), (&json!(4.0), &json!(3.0)));
}

#[test]
fn only_what_is_allowed_is_allowed() {
    let bench = Bench::new();
    bench.sound("adapter");
    let judged = |policy: &str| {
        bench.policy(policy);
        let run = bench.run(["scan", "adapter", "--policy", "policy.toml", "--json"]);
        let report = run.json();
        (run.code, rules(&report).into_iter().map(str::to_owned).collect::<Vec<String>>())
    };
    let refusal = |code: &str| (1, vec![code.to_owned()]);
    let nothing = (0, Vec::new());
    assert_eq!(judged("[allowed]\nformats = [\"MLX\"]"), refusal("format-not-allowed"));
    assert_eq!(judged("[allowed]\nformats = [\"MLX\", \"PEFT\"]"), nothing);
    assert_eq!(judged("[allowed]\ntargets = [\"q_proj\"]"), refusal("target-not-allowed"));
    assert_eq!(judged("[allowed]\ntargets = [\"q_proj\", \"v_proj\"]"), nothing);
    // The config names no base.
    assert_eq!(judged("[allowed]\nbase_models = [\"Qwen/*\"]"), refusal("base-model-not-allowed"));
    let config = bench.path("adapter/adapter_config.json");
    edit_json(&config, |config| config["base_model_name_or_path"] = json!("Qwen/Qwen3-0.6B"));
    assert_eq!(judged("[allowed]\nbase_models = [\"Qwen/*\"]"), nothing);
    edit_json(&config, |config| config["base_model_name_or_path"] = json!("mirror/Qwen/Qwen3-0.6B"));
    assert_eq!(judged("[allowed]\nbase_models = [\"Qwen/*\"]"), refusal("base-model-not-allowed"));
    assert_eq!(judged("[rules]\nsize = { level = \"deny\", limit = 1000 }"), refusal("size"));
}

#[test]
fn the_base_must_be_the_one_that_is_pinned() {
    let bench = Bench::new();
    bench.base();
    bench.sound("adapter");
    bench.policy(&format!("[base]\nsha256 = \"{ZEROS}\""));
    let arguments = ["gate", "adapter", "--policy", "policy.toml", "--json"];
    refused(&bench.run(arguments), &["policy.toml", "--base"]);
    let with_base: Vec<&str> = arguments.into_iter().chain(["--base", "base"]).collect();
    let run = bench.run(&with_base);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let report = run.json();
    assert!(finding(&report, "base-digest")["message"].as_str().expect("text").contains(ZEROS));
    let digest = report["pins"]["base"]["sha256"].as_str().expect("a digest").to_owned();
    bench.policy(&format!("[base]\nsha256 = \"{}\"", digest.to_uppercase()));
    assert_eq!(bench.run(&with_base).code, 0);
    bench.flip("base/model.safetensors");
    let run = bench.run(&with_base);
    assert_eq!(run.code, 1);
    assert_ne!(run.json()["pins"]["base"]["sha256"], digest.as_str());
}

#[test]
fn gate_takes_the_policy_of_the_folder_and_scan_does_not() {
    let bench = Bench::new();
    bench.warned("adapter");
    bench.write("lcr-audit.toml", "version = 1\nfail_on = \"warn\"\n");
    assert_eq!(bench.run(["gate", "adapter"]).code, 1);
    assert_eq!(bench.run(["scan", "adapter"]).code, 0);
    let written = bench.run(["gate", "adapter", "--write", "json=gate.json", "--quiet"]);
    assert_eq!(written.code, 1);
    assert_eq!(read_json(bench.path("gate.json"))["pins"]["policy"]["source"], "lcr-audit.toml");
}
