//! `batch` and `merge`: shards, resuming, and what must not be mixed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bench::{Bench, PICKLE, finding, nothing_is_left_over, refused, sarif_results};
use crate::support::{Run, tree};

/// Six adapters that differ, one of which is refused and one of which cannot be read, and their base.
pub(crate) fn fleet() -> Bench {
    let bench = Bench::new();
    bench.base();
    for (index, factor) in [1.0, 0.5, 0.25, 0.75, 1.25, 1.0].into_iter().enumerate() {
        let name = format!("adapters/a{index}");
        bench.sound(&name);
        bench.scaled(&name, factor);
    }
    bench.write("adapters/a3/state.pkl", PICKLE);
    let weights = bench.path("adapters/a5/adapter_model.safetensors");
    let whole = fs_err::read(&weights).expect("readable");
    fs_err::write(&weights, &whole[..whole.len() / 2]).expect("written");
    bench
}

/// Arguments of a batch into a folder, on a day.
pub(crate) fn arguments<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["batch", "base", "adapters", "--tokens", "ids.json", "--date", "2030-01-01", "--quiet", "--out", out];
    fixed.iter().chain(more).copied().collect()
}

fn batch(bench: &Bench, out: &str, more: &[&str]) -> Run {
    bench.run(arguments(out, more))
}

/// Lines by the adapter's path, without where its report lies.
fn placeless(lines: Vec<Value>) -> BTreeMap<String, Value> {
    let by_path = lines.into_iter().map(|mut line| {
        line["ranking"]["folder"] = Value::Null;
        (line["artifact"]["path"].as_str().expect("a path").to_owned(), line)
    });
    by_path.collect()
}

#[test]
fn a_batch_writes_a_line_and_a_report_an_adapter_and_a_ranking() {
    let bench = fleet();
    let run = batch(&bench, "fleet", &["--json"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let report = run.json();
    assert_eq!(finding(&report, "pickle")["artifact"], "adapters/a3");
    assert_eq!(finding(&report, "not-compared")["artifact"], "adapters/a5");
    let lines = bench.lines("fleet/results.jsonl");
    assert_eq!(lines.len(), 6);
    let compared: Vec<&Value> = lines.iter().map(|line| &line["artifact"]["compared"]).collect();
    assert_eq!(compared, [true, true, true, true, true, false].map(Value::from).iter().collect::<Vec<_>>());
    let index = fs_err::read_to_string(bench.path("fleet/index.html")).expect("written");
    for line in &lines {
        let name = line["ranking"]["name"].as_str().expect("a name");
        assert!(index.contains(name), "{name} is not in the ranking");
        if let Some(folder) = line["ranking"]["folder"].as_str() {
            assert!(bench.path("fleet").join(folder).join("report.json").exists(), "{folder}");
            assert!(index.contains(folder), "{folder} is not linked");
        }
    }
    nothing_is_left_over(&bench.path("fleet"));
    assert!(!bench.path("fleet/standing.safetensors").exists());
}

#[test]
fn a_second_run_does_nothing_new() {
    let bench = fleet();
    let first = batch(&bench, "fleet", &["--json"]);
    let before = tree(&bench.path("fleet"));
    // A report that is written again would be another file.
    let marker = bench.path("fleet/reports");
    let one = fs_err::read_dir(&marker).expect("a folder").next().expect("a report").expect("an entry").path();
    let page = one.join("index.html");
    let time = fs_err::metadata(&page).expect("there").modified().expect("a time");
    let second = batch(&bench, "fleet", &["--json"]);
    assert_eq!((second.code, &second.stdout), (first.code, &first.stdout));
    assert!(tree(&bench.path("fleet")) == before);
    assert_eq!(fs_err::metadata(&page).expect("there").modified().expect("a time"), time);
}

#[test]
fn what_was_added_or_changed_is_done_and_what_is_gone_is_forgotten() {
    let bench = fleet();
    assert_eq!(batch(&bench, "fleet", &[]).code, 1);
    bench.scaled("adapters/a0", 0.5);
    bench.sound("adapters/a6");
    fs_err::remove_dir_all(bench.path("adapters/a3")).expect("removed");
    fs_err::remove_dir_all(bench.path("adapters/a5")).expect("removed");
    let run = batch(&bench, "fleet", &[]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(batch(&bench, "anew", &[]).code, 0);
    assert_eq!(bench.lines("fleet/results.jsonl"), bench.lines("anew/results.jsonl"));
}

#[test]
fn the_company_that_an_adapter_goes_in_changes_nothing() {
    let bench = fleet();
    for (out, together) in [("one", "1"), ("three", "3"), ("all", "8")] {
        assert_eq!(batch(&bench, out, &["--adapters-per-pass", together]).code, 1);
    }
    assert_eq!(bench.lines("one/results.jsonl"), bench.lines("three/results.jsonl"));
    assert_eq!(bench.lines("one/results.jsonl"), bench.lines("all/results.jsonl"));
}

#[test]
fn two_shards_merged_are_one_run() {
    let bench = fleet();
    let whole = batch(&bench, "whole", &["--json"]).json();
    for (index, out) in [("1/2", "shards/1"), ("2/2", "shards/2")] {
        assert!(batch(&bench, out, &["--shard", index]).code <= 1);
        assert_eq!(bench.lines(&format!("{out}/results.jsonl")).len(), 3);
    }
    let merge = ["merge", "shards/1", "shards/2", "--out", "merged"];
    let run = bench.run(merge.iter().chain(&["--json", "--write", "sarif=merged.sarif"]));
    assert_eq!(run.code, 1, "{}", run.stderr);
    let merged = run.json();
    assert_eq!(merged["artifacts"], whole["artifacts"]);
    assert_eq!(merged["verdict"], whole["verdict"]);
    assert_eq!(merged["pins"], whole["pins"]);
    assert_eq!(placeless(bench.lines("merged/results.jsonl")), placeless(bench.lines("whole/results.jsonl")));
    let log = bench.json("merged.sarif");
    assert_eq!(sarif_results(&log).len(), super::bench::findings(&whole).len());
    for line in bench.lines("merged/results.jsonl") {
        if let Some(folder) = line["ranking"]["folder"].as_str() {
            assert!(bench.path("merged").join(folder).join("index.html").exists(), "{folder}");
        }
    }
}

#[test]
fn what_does_not_belong_together_is_not_merged() {
    let bench = fleet();
    for (shard, out) in [("1/2", "one"), ("2/2", "two")] {
        assert!(batch(&bench, out, &["--shard", shard]).code <= 1);
    }
    let merge =
        |folders: &[&str], more: &[&str]| bench.run(["merge", "--out", "merged"].iter().chain(folders).chain(more));
    refused(&merge(&["one"], &[]), &["3 of 6", "adapters/a1 has none", "a shard is missing"]);
    refused(&merge(&["one", "one"], &[]), &["is in two of the shards"]);
    refused(&merge(&["one", "nothing"], &[]), &["nothing/batch.json"]);
    bench.policy("fail_on = \"warn\"");
    refused(&merge(&["one", "two"], &["--policy", "policy.toml"]), &["another policy", "--policy"]);
    assert!(!bench.path("merged").exists(), "something was written");
    for (out, more) in [("seeded", ["--seed", "1"]), ("fewer", ["--metrics", "weights"])] {
        assert!(batch(&bench, out, &[&["--shard", "2/2"], more.as_slice()].concat()).code <= 1);
        refused(&merge(&["one", out], &[]), &["one and", "different batches"]);
    }
    assert_eq!(merge(&["one", "two"], &[]).code, 1);
}

#[test]
fn a_folder_of_another_batch_is_not_continued() {
    let bench = fleet();
    assert_eq!(batch(&bench, "fleet", &[]).code, 1);
    let before = tree(&bench.path("fleet"));
    bench.policy("fail_on = \"warn\"");
    let words = ["fleet holds results of another batch", "--out"];
    refused(&batch(&bench, "fleet", &["--policy", "policy.toml"]), &words);
    refused(&batch(&bench, "fleet", &["--seed", "1"]), &words);
    refused(&batch(&bench, "fleet", &["--metrics", "weights"]), &words);
    bench.write("ids.json", "[[3, 2, 1]]");
    refused(&batch(&bench, "fleet", &[]), &words);
    assert!(tree(&bench.path("fleet")) == before, "the earlier results were touched");
}

#[test]
fn a_torn_last_line_is_repaired_and_any_other_is_named() {
    let bench = fleet();
    assert_eq!(batch(&bench, "fleet", &[]).code, 1);
    let whole = fs_err::read_to_string(bench.path("fleet/results.jsonl")).expect("readable");
    let second_end = whole.match_indices('\n').nth(1).expect("two lines").0 + 1;
    for length in [0, 1, second_end - 1, second_end, second_end + 1, second_end + 700, whole.len() - 1] {
        bench.write("fleet/results.jsonl", &whole[..length]);
        assert_eq!(batch(&bench, "fleet", &[]).code, 1);
        let repaired = fs_err::read_to_string(bench.path("fleet/results.jsonl")).expect("readable");
        assert!(repaired == whole, "cut at {length}");
    }
    bench.write("fleet/results.jsonl", whole.replacen("\"artifact\"", "\"artefact\"", 1));
    refused(&batch(&bench, "fleet", &[]), &["fleet/results.jsonl, line 1"]);
}

#[test]
fn a_batch_is_a_report_like_any_other() {
    let bench = fleet();
    assert_eq!(batch(&bench, "fleet", &["--write", "json=gate.json", "--no-reports"]).code, 1);
    // The numbers are kept, for a run that goes on is held against them; pages and figures are not.
    let reports: Vec<String> = tree(&bench.path("fleet/reports")).into_keys().collect();
    assert_eq!(reports.len(), 5, "{reports:?}");
    assert!(reports.iter().all(|name| name.ends_with("/report.json")), "{reports:?}");
    let run = bench.run(["verify", "gate.json", "--json"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(bench.json("gate.json")["pins"]["probes"]["source"], json!("ids.json"));
    bench.flip("adapters/a1/adapter_model.safetensors");
    assert_eq!(bench.run(["verify", "gate.json"]).code, 1);
}
