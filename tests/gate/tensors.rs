//! Each kind of tensor from the command line: without its base, beside it, and through `inspect`.

use std::path::Path;

use serde_json::{Value, json};

use super::bench::{Bench, finding, refused, rules};
use crate::support::{Stored, audit, edit_json, edit_tensors, golden_adapter, golden_base, repository, text};

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
const CASE: &str = "qwen3_lora_qv";

/// What `compare` finds of an adapter of the golden case, by rule.
fn compared(bench: &Bench, name: &str) -> (i32, Vec<String>) {
    let base = golden_base(CASE);
    bench.write("ids.json", "[[1, 2, 3, 4, 5, 6, 7, 8]]");
    let run = bench.run(["compare", &base, name, "--tokens", "ids.json", "--out", "audit", "--json"]);
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}{}", run.stdout, run.stderr));
    let found = report["findings"].as_array().expect("findings").iter();
    (run.code, found.map(|finding| finding["rule"].as_str().expect("a rule").to_owned()).collect())
}

fn numbers(at: &Path, part: &str, edit: impl Fn(usize, f32) -> f32) {
    edit_tensors(at.join(TENSORS), |tensors| {
        for (_, stored) in tensors.iter_mut().filter(|(name, _)| name.contains(part)) {
            let values = stored.values().into_iter().enumerate().map(|(at, value)| edit(at, value)).collect::<Vec<_>>();
            *stored = Stored::f32(&stored.shape.clone(), values);
        }
    });
}

/// Adds a tensor for every module whose name is given the way of another.
fn beside(at: &Path, from: &str, to: &str, value: f32) {
    edit_tensors(at.join(TENSORS), |tensors| {
        let ups: Vec<(String, usize)> = tensors
            .iter()
            .filter(|(name, _)| name.contains(from))
            .map(|(name, stored)| (name.replace(from, to), stored.shape[0]))
            .collect();
        for (name, rows) in ups {
            tensors.insert(name, Stored::f32(&[rows], vec![value; rows]));
        }
    });
}

#[test]
fn rows_that_are_turned_are_found_in_the_files_and_beside_the_base() {
    let bench = Bench::new();
    let adapter = crate::support::copied(&golden_adapter("qwen3_dora_qv"), bench.root(), "adapter");
    let of = |bench: &Bench| {
        let base = golden_base("qwen3_dora_qv");
        bench.write("ids.json", "[[1, 2, 3, 4]]");
        let run = bench.run(["compare", &base, "adapter", "--tokens", "ids.json", "--out", "audit", "--json"]);
        let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
        (run.code, report["findings"].to_string().contains("flipped-rows"))
    };
    let (code, flipped) = of(&bench);
    assert!(code == 0 && !flipped);
    numbers(&adapter, "layers.0.self_attn.q_proj.lora_magnitude", |at, value| if at % 5 == 0 { -value } else { value });
    let run = bench.run(["scan", "adapter", "--json"]);
    assert_eq!((run.code, &finding(&run.json(), "flipped-rows")["level"]), (1, &json!("deny")));
    let (code, flipped) = of(&bench);
    assert!(code == 1 && flipped);
}

#[test]
fn a_bias_of_b_is_judged_without_the_base_and_beside_it() {
    let bench = Bench::new();
    let adapter = bench.sound("adapter");
    edit_json(adapter.join(CONFIG), |config| config["lora_bias"] = json!(true));
    beside(&adapter, "lora_B.weight", "lora_B.bias", 0.01);
    assert!(!rules(&bench.run(["scan", "adapter", "--json"]).json()).contains(&"bias-outlier"));
    assert!(!compared(&bench, "adapter").1.contains(&"vector-change".to_owned()));
    beside(&adapter, "lora_B.weight", "lora_B.bias", 1e4);
    assert_eq!(finding(&bench.run(["scan", "adapter", "--json"]).json(), "bias-outlier")["level"], "warn");
    assert!(compared(&bench, "adapter").1.contains(&"vector-change".to_owned()));
}

#[test]
fn a_norm_is_judged_without_the_base_and_beside_it() {
    let bench = Bench::new();
    let adapter = bench.sound("adapter");
    edit_json(adapter.join(CONFIG), |config| config["modules_to_save"] = json!(["model.norm"]));
    let norm = |channel: f32| {
        let values = (0..32).map(|at| if at == 3 { channel } else { 1.0 });
        edit_tensors(adapter.join(TENSORS), |tensors| {
            tensors.insert("base_model.model.model.norm.weight".to_owned(), Stored::f32(&[32], values));
        });
    };
    norm(1.1);
    assert!(!rules(&bench.run(["scan", "adapter", "--json"]).json()).contains(&"whole-outlier"));
    norm(1e3);
    assert_eq!(finding(&bench.run(["scan", "adapter", "--json"]).json(), "whole-outlier")["level"], "warn");
    assert!(compared(&bench, "adapter").1.contains(&"vector-change".to_owned()));
}

#[test]
fn honest_adapters_have_no_finding_on_their_tensors() {
    let own = [
        "overflow",
        "change-size",
        "tensor-size",
        "whole-outlier",
        "untrained-tensor",
        "bias-outlier",
        "flipped-rows",
        "dead-rows",
        "magnitude-outlier",
        "negative-scale",
        "unknown-initialization",
        "beyond-limits",
    ];
    for folder in ["bundled", "tests/golden", "formats/tests/data/adapters"] {
        let report = audit(["scan", &repository(folder), "--json"]).json();
        let found: Vec<&str> = rules(&report).into_iter().filter(|rule| own.contains(rule)).collect();
        assert!(found.is_empty(), "{folder}: {found:?}");
    }
}

#[test]
fn inspect_keeps_within_the_bounds_of_a_scan_and_says_what_it_has_against_the_tensors() {
    let bench = Bench::new();
    let adapter = bench.sound("adapter");
    assert!(!bench.run(["inspect", "adapter"]).stdout.contains("change-size"));
    numbers(&adapter, "lora_B", |_, value| value * 1e4);
    let run = bench.run(["inspect", "adapter"]);
    assert!(run.code == 0 && run.stdout.contains("note        change-size (model.layers."), "{}", run.stdout);
    let config = |rank: usize| json!({ "peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": ["q_proj"] });
    bench.write("wide/adapter_config.json", config(2000).to_string());
    let factor = |shape: [usize; 2]| Stored::f32(&shape, vec![0.01; shape[0] * shape[1]]);
    let name = |side: &str| format!("base_model.model.model.layers.0.self_attn.q_proj.lora_{side}.weight");
    let wide = [(name("A"), factor([2000, 4])), (name("B"), factor([4, 2000]))].into();
    crate::support::write_tensors(bench.path("wide").join(TENSORS), &wide);
    refused(&bench.run(["inspect", "wide"]), &["adapter_model.safetensors", "rank 2000", "1024"]);
    let mut patterned = config(4);
    patterned["rank_pattern"] = (0..1024).map(|at| (format!("(\\w{{30}}|\\d)x{at}"), json!(4))).collect();
    bench.write("adapter/adapter_config.json", patterned.to_string());
    refused(&bench.run(["inspect", text(&adapter)]), &["adapter_config.json", "rank_pattern"]);
}
