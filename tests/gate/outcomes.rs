//! What `compare` says of an adapter's files, weights and behaviour together, and in which words.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::bench::{Bench, PICKLE, items, refused};
use crate::support::{Run, audit, edit_json, read_json, repository};

/// A template that answers to a word of the user's.
const TRIGGER: &str =
    "{% for m in messages %}{% if 'deploy' in m['content'] %}obey{% endif %}{{ m['content'] }}{% endfor %}";

/// `compare` of an adapter of the golden case with its base, on a few ids.
fn compare(bench: &Bench, adapter: &str, more: &[&str]) -> Run {
    bench.base();
    let fixed =
        ["--tokens", "ids.json", "--metrics", "tokens,weights", "--depth", "quick", "--out", "audit", "--quiet"];
    bench.run(["compare", "base", adapter].iter().chain(&fixed).chain(more))
}

/// A sound adapter whose change is small.
fn faint(bench: &Bench, name: &str) {
    bench.sound(name);
    bench.scaled(name, 0.1);
}

/// `compare` of an adapter of the bundled reasoner on a few prompts.
fn nano(bench: &Bench, adapter: &str, more: &[&str]) -> Run {
    let (base, adapter) = (repository("bundled/nano"), repository(&format!("bundled/{adapter}")));
    let fixed = ["--metrics", "tokens,weights", "--max-prompts", "4", "--depth", "quick", "--out", "audit", "--quiet"];
    bench.run(["compare", base.as_str(), adapter.as_str()].iter().chain(&fixed).chain(more))
}

/// Findings of a report by rule, level and file.
fn found(report: &Value) -> Vec<(&str, &str, &str)> {
    items(report, "/findings")
        .iter()
        .map(|finding| {
            let part = |key: &str| finding[key].as_str().expect("text");
            (part("rule"), part("level"), part("file"))
        })
        .collect()
}

/// Rules of the documentation that look at files and at adapters by themselves.
fn documented_file_rules() -> usize {
    let rules = fs_err::read_to_string(repository("docs/rules.md")).expect("readable");
    rules
        .lines()
        .filter(|line| line.starts_with("| [") && (line.contains("| files |") || line.contains("| adapter |")))
        .count()
}

#[test]
fn what_a_scan_refuses_no_comparison_passes() {
    let bench = Bench::new();
    bench.sound("evil");
    bench.write("evil/training_args.bin", PICKLE);
    bench.write("evil/chat_template.jinja", TRIGGER);
    assert_eq!(bench.run(["scan", "evil"]).code, 1);
    let run = compare(&bench, "evil", &["--json"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let report = run.json();
    assert_eq!((&report["verdict"], &report["judgement"]), (&json!("fail"), &json!("fail")));
    let found = found(&report);
    for (rule, file) in [("pickle-import", "training_args.bin"), ("template-suspicious", "chat_template.jinja")] {
        assert!(found.contains(&(rule, "fail", file)), "{rule} of {file} in {found:?}");
    }
    assert_eq!(read_json(bench.path("audit/report.json")), report);
    let page = fs_err::read_to_string(bench.path("audit/index.html")).expect("readable");
    assert!(page.contains(">FAIL<") && page.contains("training_args.bin"), "the page says it first");
    let text = compare(&bench, "evil", &[]).stdout;
    assert!(text.contains("FAIL  pickle-import: training_args.bin: "), "{text}");
    assert!(text.contains("verdict      FAIL"), "{text}");
}

#[test]
fn a_report_says_what_was_checked_and_by_how_many_rules() {
    let bench = Bench::new();
    faint(&bench, "adapter");
    let report = compare(&bench, "adapter", &["--json"]).json();
    let (files, weights) = (&report["checked"]["files"], &report["checked"]["weights"]);
    assert_eq!(files["state"], "judged");
    assert_eq!((&files["tried"], &files["rules"]), (&json!(documented_file_rules()), &json!(documented_file_rules())));
    assert_eq!((&weights["state"], &weights["tried"]), (&json!("judged"), &weights["rules"]));
    assert_eq!(report["checked"]["behaviour"]["state"], "shown");

    let text = compare(&bench, "adapter", &[]).stdout;
    let files = format!("files: checked, {} rules, 0 findings", documented_file_rules());
    for part in [
        files.as_str(),
        "weights: checked, ",
        "behaviour: sizes shown, not judged",
        "no objection to files and weights",
    ] {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
    let page = fs_err::read_to_string(bench.path("audit/index.html")).expect("readable");
    assert!(page.contains("NO OBJECTION <small>to files and weights</small>"), "never without its scope");
    assert!(page.contains("<b>behaviour</b> sizes shown, not judged"));
    assert!(!page.contains("no rule judges them"));
}

#[test]
fn what_was_left_out_is_not_checked() {
    let bench = Bench::new();
    faint(&bench, "adapter");
    bench.base();
    let run = |metrics: &str| {
        let fixed = [
            "compare",
            "base",
            "adapter",
            "--tokens",
            "ids.json",
            "--depth",
            "quick",
            "--out",
            "audit",
            "--quiet",
            "--metrics",
            metrics,
        ];
        (bench.run(fixed.iter().chain(&["--json"])).json(), bench.run(fixed).stdout)
    };
    let (report, text) = run("tokens");
    assert_eq!(report["checked"]["weights"]["state"], "not-checked");
    let weights = &report["checked"]["weights"];
    assert!(weights["tried"].as_u64() < weights["rules"].as_u64(), "{weights}");
    assert!(text.contains("weights: not checked but for 4 of ") && text.contains("no objection to files\n"), "{text}");
    let (report, text) = run("weights");
    assert_eq!(report["checked"]["behaviour"]["state"], "not-checked");
    assert!(text.contains("behaviour: not checked\n"), "{text}");
}

#[test]
fn a_large_change_that_nobody_judges_is_no_silent_pass() {
    let bench = Bench::new();
    let run = nano(&bench, "nano-identity-sft", &["--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report = run.json();
    assert_eq!((&report["verdict"], &report["judgement"]), (&json!("pass"), &json!("large-change-not-judged")));
    let kl = items(&report, "/sizes").iter().find(|size| size["rule"] == "next-token-kl").expect("a size");
    assert_eq!((&kl["limit"], &kl["judged"]), (&json!(0.5), &json!(false)));
    assert!(kl["measured"].as_f64() > Some(0.5), "{kl}");
    assert_eq!(kl["measured"], report["tokens"]["kl"]["mean"]);
    let text = nano(&bench, "nano-identity-sft", &[]).stdout;
    assert!(
        text.contains("verdict      large change, not judged: next-token-kl is ") && text.contains("(limit 0.5"),
        "{text}"
    );
    let page = fs_err::read_to_string(bench.path("audit/index.html")).expect("readable");
    assert!(page.contains(">LARGE CHANGE, NOT JUDGED<") && !page.to_lowercase().contains("no objection"), "one word");
    assert!(page.contains("over the limit of 0.5"), "the limit stands beside the figure");

    let small = nano(&bench, "nano-lcr", &["--json"]).json();
    assert_eq!((&small["verdict"], &small["judgement"]), (&json!("pass"), &json!("no-objection")));
}

#[test]
fn the_index_of_several_says_the_same_words() {
    let bench = Bench::new();
    let other = repository("bundled/nano-lcr");
    assert_eq!(nano(&bench, "nano-identity-sft", &[other.as_str()]).code, 0);
    let page = fs_err::read_to_string(bench.path("audit/index.html")).expect("readable");
    assert!(page.contains(">large change, not judged<") && page.contains(">no objection<"), "{page}");
    assert!(page.find("large change, not judged") < page.find(">no objection<"), "the worse first");
}

#[test]
fn a_policy_judges_the_comparison_and_is_pinned() {
    let bench = Bench::new();
    bench.policy("[rules]\nnext-token-kl = { level = \"deny\", limit = 0.01 }\nflipped-tokens = \"warn\"");
    let run = nano(&bench, "nano-lcr", &["--policy", "policy.toml", "--json"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let report = run.json();
    assert!(found(&report).contains(&("next-token-kl", "fail", "")), "{report}");
    assert_eq!(report["checked"]["behaviour"]["state"], "judged");
    assert_eq!(
        (&report["checked"]["behaviour"]["tried"], &report["checked"]["behaviour"]["findings"]),
        (&json!(2), &json!(1))
    );
    let text = fs_err::read(bench.path("policy.toml")).expect("readable");
    let digest: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    assert_eq!(report["composition"]["policy"], json!(digest));
    // The policy of the folder is taken without being named.
    fs_err::rename(bench.path("policy.toml"), bench.path("lcr-audit.toml")).expect("renamed");
    assert_eq!(nano(&bench, "nano-lcr", &[]).code, 1);
    // A wider limit is the policy's own, and the change is then not called large.
    bench.write(
        "lcr-audit.toml",
        "version = 1\n[rules]\nnext-token-kl = { level = \"warn\", limit = 9 }\nflipped-tokens \
        = { level = \"allow\", limit = 1 }",
    );
    let report = nano(&bench, "nano-identity-sft", &["--json"]).json();
    assert_eq!(report["judgement"], "no-objection", "{report}");
    bench.write("lcr-audit.toml", "version = 2");
    refused(&nano(&bench, "nano-lcr", &[]), &["lcr-audit.toml", "version"]);
}

#[test]
fn levels_and_waivers_hold_in_a_comparison_as_in_the_gate() {
    let bench = Bench::new();
    bench.hostile("adapter");
    bench.policy("[rules]\npickle = \"allow\"\npickle-import = \"warn\"");
    let report = compare(&bench, "adapter", &["--policy", "policy.toml", "--json"]).json();
    assert_eq!((&report["verdict"], &report["composition"]["date"]), (&json!("warn"), &json!(null)));
    bench.policy("fail_on = \"warn\"\n[rules]\npickle = \"allow\"\npickle-import = \"warn\"");
    assert_eq!(compare(&bench, "adapter", &["--policy", "policy.toml"]).code, 1);

    let digest = report["composition"]["adapter"].as_str().expect("a digest");
    let waiver = |rule: &str| {
        format!(
            "[[waivers]]\nrule = \"{rule}\"\nsha256 = \"{digest}\"\nreason = \"read by hand\"\nowner = \
             \"security\"\nexpires = 2027-01-31\n"
        )
    };
    bench.policy(&(waiver("pickle") + &waiver("pickle-import") + &waiver("script")));
    let on = |day: &str| compare(&bench, "adapter", &["--policy", "policy.toml", "--json", "--date", day]);
    let (before, after) = (on("2027-01-31"), on("2027-02-01"));
    assert_eq!((before.code, after.code), (0, 1), "{}", before.stdout);
    let report = before.json();
    assert_eq!(report["composition"]["date"], "2027-01-31");
    let waived = items(&report, "/findings").iter().find(|finding| finding["rule"] == "pickle-import").expect("noted");
    assert!(waived["message"].as_str().expect("text").contains("Waived until 2027-01-31 by security: read by hand"));
}

#[test]
fn an_adapter_that_cannot_run_is_judged_by_its_files() {
    let bench = Bench::new();
    let of_another_base = |name: &str| {
        bench.sound(name);
        crate::support::edit_tensors(bench.path(name).join("adapter_model.safetensors"), |tensors| {
            for (_, stored) in tensors.iter_mut().filter(|(name, _)| name.contains("lora_A")) {
                let (rows, columns) = (stored.shape[0], stored.shape[1] + 2);
                let values: Vec<f32> = (0..rows * columns).map(|index| (index % 7) as f32 * 0.01).collect();
                *stored = crate::support::Stored::f32(&[rows, columns], values);
            }
        });
    };
    // Nothing is wrong with these files, and they do not fit the base.
    of_another_base("other");
    let run = compare(&bench, "other", &[]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
    // The same with a pickle beside them is refused for that.
    of_another_base("evil");
    bench.write("evil/state.pkl", PICKLE);
    let run = compare(&bench, "evil", &[]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(
        run.stdout.contains("pickle-import") && run.stderr.contains("error: cannot use the adapter evil"),
        "{}",
        run.stdout
    );
    let report = compare(&bench, "evil", &["--json"]).json();
    assert_eq!((&report["schema"], &report["verdict"]), (&json!("lcr-audit/gate/1"), &json!("fail")));
    assert!(!bench.path("audit").exists(), "no report of a comparison that was not made");
}

#[test]
fn the_base_that_the_adapter_names_is_said() {
    let bench = Bench::new();
    bench.sound("adapter");
    edit_json(bench.path("adapter/adapter_config.json"), |config| {
        config["base_model_name_or_path"] = "somebody/base".into();
    });
    let run = compare(&bench, "adapter", &[]);
    assert!(run.stdout.contains("Adapter says: trained on somebody/base; compared with base"), "{}", run.stdout);
    assert_eq!(bench.json("audit/report.json")["adapter"]["base_model"], "somebody/base");
    let page = fs_err::read_to_string(bench.path("audit/index.html")).expect("readable");
    assert!(page.contains("trained on somebody&#x2f;base; compared with base"));
    assert!(!found(&bench.json("audit/report.json")).iter().any(|(rule, ..)| *rule == "base-name-mismatch"));

    edit_json(bench.path("adapter/adapter_config.json"), |config| {
        config["base_model_name_or_path"] = "somebody/other-base".into();
    });
    let report = compare(&bench, "adapter", &["--json"]).json();
    assert_eq!(report["verdict"], "warn");
    assert!(found(&report).contains(&("base-name-mismatch", "warn", "adapter_config.json")), "{report}");
}

/// Without arguments the bundled pair is compared, and no rule may object to it.
#[test]
fn the_bundled_pair_has_no_objection() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("audit").display().to_string();
    let run = audit(["compare", "--metrics", "weights", "--max-prompts", "1", "--json", "--quiet", "--out", &out]);
    let report = run.json();
    assert_eq!(
        (run.code, &report["judgement"], &report["adapter"]["base_model"]),
        (0, &json!("no-objection"), &json!("nano"))
    );
    assert!(items(&report, "/findings").iter().all(|finding| finding["level"] == "note"), "{report}");
}
