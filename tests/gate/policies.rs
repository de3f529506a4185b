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
        ("version = 1\nfail-on = \"warn\"", vec!["the policy has no key `fail-on` (did you mean `fail_on`?)"]),
        ("version = 1\n[rules]\npickle = \"forbid\"", vec!["rules.pickle is `forbid`", "`allow`, `warn` or `deny`"]),
        ("version = 1\n[rules]\npickle = \"wrn\"", vec!["did you mean `warn`?"]),
        ("version = 1\n[rules]\npickle = 3", vec!["rules.pickle is 3: a level"]),
        (
            "version = 1\n[rules]\nrank = { limit = 3, levle = \"deny\" }",
            vec!["`rules.rank` has no key `levle`", "`level`?"],
        ),
        ("version = 1\n[rules]\nrank = { limit = \"3\" }", vec!["rules.rank.limit is `3`: a number is needed"]),
        ("version = 1\nrules = \"deny\"", vec!["rules is `deny`: a section"]),
        ("version = 1\n[compare]\nrequire = true", vec!["`compare` has no key `require`", "`required`?"]),
        ("version = 1\n[compare]\nrequired = \"yes\"", vec!["compare.required is `yes`: true or false is needed"]),
        ("version = 1\n[compare]\nmax_prompts = -1", vec!["compare.max_prompts is -1"]),
        (
            "version = 1\n[questions]\nrequired = [\"trigger-token\"]",
            vec!["`trigger-token`, which is no question (did you mean `trigger.token`?)"],
        ),
        ("version = 1\n[questions]\nrequired = \"effect\"", vec!["questions.required is `effect`: a list of texts"]),
        ("version = 1\n[allowed]\ntargets = \"q_proj\"", vec!["allowed.targets is `q_proj`: a list of texts"]),
        ("version = 1\n[paths]\nmatch = \"a\"", vec!["paths is a table", "`[[paths]]`"]),
        ("version = 1\n[[paths]]\n[paths.rules]\npickle = \"warn\"", vec!["paths[0].match is missing"]),
        (
            "version = 1\n[[waivers]]\nrule = \"pickle\"",
            vec!["waivers[0].sha256 is missing", "waivers[0].expires is missing"],
        ),
        (
            "version = 1\n[[waivers]]\nexpires = \"2027-01-31\"",
            vec!["waivers[0].expires is `2027-01-31`: a day without quotes"],
        ),
        (
            "version = 1\nmore = 1\n[[waivers]]\nrule = \"link-outside\"\nsha256 = \"z\"",
            vec!["`more`", "`link-outside` cannot be waived", "waivers[0].sha256 is `z`: 64"],
        ),
        ("fail_on = \"warn\"", vec!["`version` is missing"]),
        ("version = 1\n[rules", vec!["rules"]),
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
        let mut report = scanned(spelled).json();
        // The paths are pinned as they were given.
        report["pins"]["paths"] = plain.json()["pins"]["paths"].clone();
        assert_eq!(report, plain.json(), "{spelled}");
    }
}

/// A policy is about places: the way that leads there, links and dots included, makes no difference.
#[test]
fn no_way_to_write_a_path_leads_around_a_policy() {
    let bench = Bench::new();
    for name in ["prod/x", "exp/y"] {
        bench.sound(name);
        bench.write(&format!("{name}/load.py"), "import os\n");
    }
    bench.write("sub/keep", "");
    for (target, link) in [("prod", "p2"), ("prod/x", "exp/z"), ("../prod", "sub/up")] {
        std::os::unix::fs::symlink(bench.path(target.trim_start_matches("../")), bench.path(link)).expect("linked");
    }
    let text = "version = 1\n[[paths]]\nmatch = \"prod/**\"\n[paths.rules]\nscript = \"deny\"\n\
                [[paths]]\nmatch = \"exp/**\"\n[paths.rules]\nscript = \"allow\"\n";
    bench.write("lcr-audit.toml", text);
    let absolute = bench.path("prod/x").display().to_string();
    let ways =
        ["prod/x", "./prod/x/", "prod//x", "exp/../prod/x", "prod/../prod/x", "p2/x", "exp/z", "sub/up/x", &absolute];
    for way in ways {
        let run = bench.run(["gate", way, "--json"]);
        assert_eq!(run.code, 1, "{way}: {}{}", run.stdout, run.stderr);
        assert_eq!(finding(&run.json(), "script")["level"], "deny", "{way}");
        let file = format!("{way}/adapter_config.json");
        assert_eq!(bench.run(["gate", file.as_str()]).code, 1, "{file}");
    }
    // From another folder, by the policy where it lies.
    let inside = crate::support::audit_in(&bench.path("prod"), ["gate", "x", "--policy", "../lcr-audit.toml"]);
    assert_eq!(inside.code, 1, "{}", inside.stdout);
    let run = bench.run(["gate", "exp/y", "--json"]);
    assert_eq!((run.code, &finding(&run.json(), "script")["level"]), (0, &json!("allow")));
}

#[test]
fn a_star_stops_at_a_slash() {
    let bench = Bench::new();
    bench.sound("prod/x");
    bench.sound("prod/deep/x");
    for name in ["prod/x", "prod/deep/x"] {
        bench.write(&format!("{name}/load.py"), "import os\n");
    }
    let level = |pattern: &str, path: &str| {
        bench.policy(&format!("[[paths]]\nmatch = \"{pattern}\"\n[paths.rules]\nscript = \"allow\""));
        let run = bench.run(["scan", path, "--policy", "policy.toml", "--json"]);
        finding(&run.json(), "script")["level"].as_str().expect("a level").to_owned()
    };
    assert_eq!((level("prod/*", "prod/x").as_str(), level("prod/*", "prod/deep/x").as_str()), ("allow", "warn"));
    assert_eq!((level("./prod/*", "prod/x").as_str(), level("prod/**", "prod/deep/x").as_str()), ("allow", "allow"));
    assert_eq!((level("**/x", "prod/x").as_str(), level("prod/?/x", "prod/x").as_str()), ("allow", "warn"));
}

#[test]
fn a_policy_that_is_no_file_is_an_error_and_never_the_built_in_one() {
    let bench = Bench::new();
    bench.warned("adapter");
    let policy = bench.path("lcr-audit.toml");
    std::os::unix::fs::symlink("nowhere.toml", &policy).expect("linked");
    refused(&bench.run(["gate", "adapter"]), &["lcr-audit.toml"]);
    refused(&bench.run(["policy", "check"]), &["lcr-audit.toml"]);
    fs_err::remove_file(&policy).expect("removed");
    fs_err::create_dir(&policy).expect("created");
    refused(&bench.run(["gate", "adapter"]), &["lcr-audit.toml", "is a folder"]);
    fs_err::remove_dir(&policy).expect("removed");
    assert!(std::process::Command::new("mkfifo").arg(&policy).status().expect("mkfifo starts").success());
    refused(&bench.run(["gate", "adapter"]), &["lcr-audit.toml", "a pipe"]);
    refused(&bench.run(["scan", "adapter", "--policy", "lcr-audit.toml"]), &["a pipe"]);
    fs_err::remove_file(&policy).expect("removed");
    bench.write("lcr-audit.toml", [0xff, 0xfe]);
    refused(&bench.run(["gate", "adapter"]), &["lcr-audit.toml"]);
}

#[test]
fn the_base_that_is_named_is_held_against_the_one_given() {
    let bench = Bench::new();
    let base = crate::support::repository("bundled/nano");
    crate::support::copied(&crate::support::repository("bundled/nano-lcr"), bench.root(), "adapter");
    let judged = |name: serde_json::Value, policy: &str| {
        edit_json(bench.path("adapter/adapter_config.json"), |config| config["base_model_name_or_path"] = name.clone());
        bench.policy(policy);
        let run = bench.run(["gate", "adapter", "--policy", "policy.toml", "--base", base.as_str(), "--json"]);
        let report = run.json();
        let found = rules(&report).into_iter().filter(|rule| *rule == "base-name-mismatch").count();
        (run.code, found)
    };
    for same in ["nano", "someone/nano", "someone/Nano-4bit", "./nano/"] {
        assert_eq!(judged(json!(same), ""), (0, 0), "{same}");
    }
    assert_eq!(judged(json!(null), ""), (0, 0));
    for other in ["evil/another-base", "someone/nano-instruct", "nano/../evil"] {
        assert_eq!(judged(json!(other), ""), (0, 1), "{other}");
        assert_eq!(judged(json!(other), "[rules]\nbase-name-mismatch = \"deny\""), (1, 1), "{other}");
    }
    assert_eq!(judged(json!("evil/another-base"), "[base]\nnames = [\"evil/*\"]"), (0, 0));
    assert_eq!(judged(json!("evil/deep/base"), "[base]\nnames = [\"evil/*\"]"), (0, 1));
}

#[test]
fn a_revision_that_anybody_may_have_proposed_is_said() {
    let bench = Bench::new();
    bench.sound("adapter");
    let judged = |revision: serde_json::Value, policy: &str| {
        edit_json(bench.path("adapter/adapter_config.json"), |config| config["revision"] = revision.clone());
        bench.policy(policy);
        let run = bench.run(["scan", "adapter", "--policy", "policy.toml", "--json"]);
        (run.code, rules(&run.json()).into_iter().map(str::to_owned).collect::<Vec<String>>())
    };
    let found = |code: i32, rules: &[&str]| (code, rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>());
    for plain in [json!(null), json!("main"), json!("v1.0"), json!("0123456789abcdef0123456789abcdef01234567")] {
        assert_eq!(judged(plain.clone(), ""), found(0, &[]), "{plain}");
    }
    for odd in ["refs/pr/666", "refs/convert/parquet", "refs%2Fpr%2F1"] {
        assert_eq!(judged(json!(odd), ""), found(0, &["base-revision"]), "{odd}");
    }
    let only = "[allowed]\nrevisions = [\"main\", \"0123*\"]";
    assert_eq!(judged(json!(null), only), found(0, &[]));
    assert_eq!(judged(json!("0123abc"), only), found(0, &[]));
    assert_eq!(judged(json!("dev"), only), found(1, &["revision-not-allowed"]));
    assert_eq!(judged(json!("refs/pr/1"), only), found(1, &["revision-not-allowed", "base-revision"]));
    assert_eq!(judged(json!(null), "[allowed]\nrevisions = [\"0123*\"]"), found(1, &["revision-not-allowed"]));
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
