//! `scan`: exit codes, outputs, and files that cannot be written.

use std::process::Command;

use serde_json::json;

use super::bench::{Bench, finding, nothing_is_left_over, refused, rules};
use crate::support::{audit, text, tree};

const FORMATS: [&str; 6] = ["table", "json", "sarif", "junit", "summary", "badge"];

#[test]
fn a_sound_adapter_passes() {
    let bench = Bench::new();
    bench.sound("adapter");
    let run = bench.run(["scan", "adapter"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", run.stdout);
    assert!(run.stdout.starts_with("PASS  adapter\n"), "{}", run.stdout);
    let report = bench.run(["scan", "adapter", "--json"]).json();
    assert_eq!((&report["verdict"], rules(&report).len()), (&json!("pass"), 0));
}

#[test]
fn a_pickle_fails() {
    let bench = Bench::new();
    bench.hostile("adapter");
    let run = bench.run(["scan", "adapter", "--json"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let report = run.json();
    let pickle = finding(&report, "pickle");
    assert_eq!((&pickle["file"], &pickle["level"]), (&json!("state.pkl"), &json!("deny")));
    let import = finding(&report, "pickle-import");
    assert!(import["message"].as_str().expect("a message").contains("os.system"), "{import}");
}

#[test]
fn one_bad_adapter_fails_all_and_hides_none() {
    let bench = Bench::new();
    bench.sound("adapters/a");
    bench.hostile("adapters/b");
    bench.warned("adapters/c");
    let run = bench.run(["scan", "adapters", "--json"]);
    assert_eq!(run.code, 1);
    let report = run.json();
    let verdicts: Vec<(&str, &str)> = super::bench::items(&report, "/artifacts")
        .iter()
        .map(|artifact| (artifact["path"].as_str().expect("text"), artifact["verdict"].as_str().expect("text")))
        .collect();
    assert_eq!(verdicts, [("adapters/a", "pass"), ("adapters/b", "fail"), ("adapters/c", "pass")]);
}

#[test]
fn what_is_not_there_is_an_error() {
    let bench = Bench::new();
    bench.sound("adapter");
    fs_err::create_dir(bench.path("empty")).expect("created");
    refused(&bench.run(["scan", "no/such/folder"]), &["no/such/folder", "does not exist"]);
    refused(&bench.run(["scan", "adapter", "no/such/folder"]), &["no/such/folder", "does not exist"]);
    refused(&bench.run(["scan", "empty"]), &["empty", "holds no adapter"]);
    refused(&bench.run(["scan", "adapter", "--policy", "none.toml"]), &["none.toml"]);
    refused(&bench.run(["scan", "adapter", "--baseline", "none.json"]), &["none.json"]);
    refused(&bench.run(["scan", "adapter", "--base", "none"]), &["none"]);
    refused(&bench.run(["scan", "adapter", "--date", "2026-02-30"]), &["2026-02-30", "is not a day"]);
}

#[test]
fn wrong_usage_is_told_from_findings() {
    for arguments in [
        vec!["scan"],
        vec!["gate"],
        vec!["scan", "adapter", "--format", "yaml"],
        vec!["scan", "adapter", "--write", "yaml=out.yaml"],
        vec!["scan", "adapter", "--write", "sarif="],
        vec!["scan", "adapter", "--write", "out.sarif"],
        vec!["scan", "adapter", "--depth", "3"],
        vec!["batch", "base", "adapters"],
        vec!["batch", "base", "adapters", "--out", "fleet", "--shard", "9/8"],
        vec!["batch", "base", "adapters", "--out", "fleet", "--adapters-per-pass", "0"],
        vec!["merge", "--out", "fleet"],
        vec!["policy"],
        vec!["policy", "judge"],
        vec!["verify"],
    ] {
        let run = audit(&arguments);
        assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{arguments:?}: {}", run.stderr);
        assert!(!run.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn every_format_says_what_the_exit_code_says() {
    let bench = Bench::new();
    bench.sound("pass");
    bench.hostile("fail");
    for (adapter, code, verdict) in [("pass", 0, "pass"), ("fail", 1, "fail")] {
        for format in FORMATS {
            let run = bench.run(["scan", adapter, "--format", format]);
            assert_eq!(run.code, code, "{format}: {}", run.stderr);
            let out = &run.stdout;
            match format {
                "table" => {
                    let last = out.lines().last().expect("a line");
                    assert!(last.starts_with(&format!("{}  1 adapter", verdict.to_uppercase())), "{out}");
                }
                "json" => assert_eq!(run.json()["verdict"], verdict),
                "sarif" => {
                    let log = run.json();
                    assert_eq!(log["runs"][0]["invocations"][0]["exitCode"], code);
                    assert_eq!(log["runs"][0]["properties"]["verdict"], verdict);
                }
                "junit" => assert_eq!(out.contains("<failure "), code == 1, "{out}"),
                "summary" => {
                    assert!(out.starts_with(&format!("## Adapter audit: {}\n", verdict.to_uppercase())), "{out}");
                }
                "badge" => assert!(run.json()["message"].as_str().expect("text").starts_with(verdict), "{out}"),
                other => panic!("{other} is not looked at"),
            }
        }
    }
}

#[test]
fn what_is_written_is_what_is_printed() {
    let bench = Bench::new();
    bench.hostile("adapter");
    let mut arguments: Vec<String> = ["scan", "adapter", "--json"].map(str::to_owned).to_vec();
    for format in FORMATS {
        arguments.extend(["--write".to_owned(), format!("{format}=out/{format}")]);
    }
    let run = bench.run(&arguments);
    assert_eq!(run.code, 1, "{}", run.stderr);
    for format in FORMATS {
        let printed = bench.run(["scan", "adapter", "--format", format]).stdout;
        let written = fs_err::read_to_string(bench.path(&format!("out/{format}"))).expect("written");
        assert!(printed == written, "{format} differs");
    }
    assert_eq!(run.json(), bench.json("out/json"));
    assert_eq!(bench.run(["scan", "adapter", "--json"]).stdout, run.stdout);
}

#[test]
fn a_summary_is_appended_and_all_else_replaced() {
    let bench = Bench::new();
    bench.sound("adapter");
    bench.write("summary.md", "what an earlier step said\n");
    bench.write("report.sarif", "what an earlier run said\n");
    let run = bench.run(["scan", "adapter", "--write", "summary=summary.md", "--write", "sarif=report.sarif"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let summary = fs_err::read_to_string(bench.path("summary.md")).expect("readable");
    assert!(summary.starts_with("what an earlier step said\n## Adapter audit: PASS\n"), "{summary}");
    assert_eq!(bench.json("report.sarif")["version"], "2.1.0");
}

#[test]
fn two_wishes_for_standard_output_are_refused() {
    let bench = Bench::new();
    bench.sound("adapter");
    let run = bench.run(["scan", "adapter", "--json", "--format", "sarif"]);
    assert!(run.code >= 2 && run.stdout.is_empty(), "{}: {}", run.code, run.stdout);
    assert!(run.stderr.contains("--json") && run.stderr.contains("--format"), "{}", run.stderr);
}

#[test]
fn a_report_that_cannot_be_written_is_an_error_and_leaves_what_was_there() {
    let bench = Bench::new();
    bench.sound("adapter");
    bench.write("folder/earlier.txt", "earlier");
    bench.write("file", "earlier");
    let before = tree(bench.root());
    refused(&bench.run(["scan", "adapter", "--write", "sarif=folder"]), &["cannot write folder"]);
    refused(&bench.run(["scan", "adapter", "--write", "sarif=file/report.sarif"]), &["cannot write file/report.sarif"]);
    refused(&bench.run(["scan", "no/such/folder", "--write", "sarif=file"]), &["no/such/folder"]);
    assert!(tree(bench.root()) == before, "something was touched: {:?}", tree(bench.root()).keys());
}

#[test]
fn a_full_disk_is_an_error_and_leaves_the_earlier_report() {
    let bench = Bench::new();
    bench.hostile("adapter");
    bench.write("report.sarif", "the earlier report");
    // No file may grow beyond a block; the report is longer.
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
    let ended = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_lcr-audit"), "scan", "adapter", "--write", "sarif=report.sarif"])
        .current_dir(bench.root())
        .output()
        .expect("bash starts");
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("cannot write report.sarif"), "{stderr}");
    let left = fs_err::read_to_string(bench.path("report.sarif")).expect("readable");
    assert_eq!(left, "the earlier report");
    nothing_is_left_over(bench.root());
}

#[test]
fn a_file_stands_for_its_folder() {
    let bench = Bench::new();
    let adapter = bench.hostile("adapter");
    let by_file = bench.run(["scan", "adapter/adapter_config.json", "--json"]);
    let artifacts = |run: &crate::support::Run| run.json()["artifacts"].clone();
    assert_eq!(artifacts(&by_file), artifacts(&bench.run(["scan", "adapter", "--json"])));
    let twice = bench.run(["scan", "adapter/adapter_config.json", "adapter/state.pkl", "--json"]);
    assert_eq!(artifacts(&twice), artifacts(&by_file));
    // In the folder itself it is called by the folder's name or by none, and the digest is the same.
    let inside = crate::support::audit_in(&adapter, ["scan", "adapter_config.json", "--json"]).json();
    assert_eq!(inside["artifacts"][0]["sha256"], by_file.json()["artifacts"][0]["sha256"]);
}

#[test]
fn nothing_is_written_beside_the_adapter() {
    let bench = Bench::new();
    bench.hostile("adapter");
    let before = tree(bench.root());
    assert_eq!(bench.run(["scan", text(&bench.path("adapter"))]).code, 1);
    assert!(tree(bench.root()) == before);
}

#[test]
fn statistics_come_where_they_are_asked_for_and_agree_with_the_spectra_of_the_modules() {
    let bench = Bench::new();
    bench.sound("adapter");
    let plain = bench.run(["scan", "adapter", "--json"]).json();
    assert_eq!(plain["artifacts"][0].get("statistics"), None);
    let report = bench.run(["scan", "adapter", "--json", "--statistics"]).json();
    let modules = report["artifacts"][0]["statistics"]["modules"].as_object().expect("modules");
    // `inspect` decomposes the factors, a scan takes traces of small products.
    let inspected = bench.run(["inspect", "adapter", "--json"]).json();
    let known = inspected["modules"].as_object().expect("modules");
    assert_eq!(modules.len(), known.len());
    for (path, module) in known {
        let own = &modules[path];
        let values: Vec<f64> = module["singular_values"]
            .as_array()
            .expect("values")
            .iter()
            .filter_map(serde_json::Value::as_f64)
            .collect();
        let sum = |power: i32| values.iter().map(|value| value.powi(power)).sum::<f64>();
        let entropy: f64 = values.iter().map(|value| value * value / sum(2)).map(|share| -share * share.ln()).sum();
        let expected = [
            ("norm", sum(2).sqrt()),
            ("spectral_norm", values[0]),
            ("stable_rank", sum(2) / values[0].powi(2)),
            ("participation_ratio", sum(2).powi(2) / sum(4)),
            ("effective_rank", entropy.exp()),
        ];
        for (key, expected) in expected {
            let found = own[key].as_f64().expect("a number");
            assert!((found / expected - 1.0).abs() < 1e-5, "{key} of {path}: {found}, not {expected}");
        }
    }
}

#[test]
fn no_report_is_written_into_the_files_that_it_is_about() {
    let bench = Bench::new();
    bench.sound("adapters/a");
    std::os::unix::fs::symlink("a", bench.path("adapters/link")).expect("linked");
    let before = tree(bench.root());
    for place in
        ["adapters/a/report.json", "adapters/a/deep/report.json", "adapters/link/r.json", "adapters/a/../a/r.json"]
    {
        for command in ["scan", "gate"] {
            for path in ["adapters", "adapters/a", "adapters/a/adapter_config.json"] {
                let write = format!("json={place}");
                let run = bench.run([command, path, "--write", write.as_str()]);
                assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{place}: {}", run.stderr);
                assert!(run.stderr.contains("Write it elsewhere"), "{}", run.stderr);
            }
        }
    }
    assert!(tree(bench.root()) == before);
    assert_eq!(bench.run(["scan", "adapters", "--write", "json=adapters/report.json"]).code, 0);
    assert_eq!(bench.run(["verify", "adapters/report.json"]).code, 0);
}
