//! Honest files of other formats and odd ones of ours: what `inspect`, `scan` and `compare` say of them.

use serde_json::{Value, json};

use super::bench::{Bench, finding, findings, refused, rules};
use crate::support::{Run, Stored, edit_tensors, read_json, write_tensors};

/// Runs a comparison of weights with the golden base.
fn compare(bench: &Bench, adapter: &str) -> Run {
    bench.run(["compare", "base", adapter, "--tokens", "ids.json", "--metrics", "weights,tokens", "--out", "out"])
}

fn edit_config(bench: &Bench, name: &str, change: impl FnOnce(&mut Value)) {
    let mut config = read_json(bench.path(&format!("{name}/adapter_config.json")));
    change(&mut config);
    bench.write(&format!("{name}/adapter_config.json"), config.to_string());
}

#[test]
fn a_lora_of_an_image_model_is_called_one() {
    let bench = Bench::new();
    let module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
    let tensors = [("alpha", vec![1]), ("lora_down.weight", vec![4, 8]), ("lora_up.weight", vec![8, 4])];
    let tensors = tensors.into_iter().map(|(part, shape)| {
        let values = vec![0.5; shape.iter().product()];
        (format!("{module}.{part}"), Stored::f32(&shape, values))
    });
    bench.write("in/README.md", "A style.");
    write_tensors(bench.path("in/style.safetensors"), &tensors.collect());
    for path in ["in", "in/style.safetensors"] {
        let run = bench.run(["inspect", path]);
        refused(&run, &["style.safetensors", "image model", "kohya", "text models"]);
        assert!(!run.stderr.contains("Get the config"), "{}", run.stderr);
    }
    let report = bench.run(["scan", "in", "--json"]).json();
    let found = finding(&report, "foreign-format");
    assert!(found["message"].as_str().expect("a text").contains("kohya"), "{found}");
    assert!(!rules(&report).contains(&"no-adapter"));
}

#[test]
fn a_name_of_an_adapter_in_keys_is_refused_by_the_gate() {
    let bench = Bench::new();
    bench.base();
    bench.sound("adapter");
    edit_tensors(bench.path("adapter/adapter_model.safetensors"), |tensors| {
        let old = std::mem::take(tensors);
        tensors.extend(old.into_iter().map(|(key, stored)| (key.replace(".weight", ".default.weight"), stored)));
    });
    let run = bench.run(["scan", "adapter", "--json"]);
    assert_eq!(run.code, 1);
    let found = finding(&run.json(), "adapter-name-in-keys").clone();
    assert_eq!(found["level"], "deny");
    assert!(found["message"].as_str().expect("a text").contains("lora_A.default.default"), "{found}");
    let run = bench.run(["inspect", "adapter"]);
    assert!(run.stdout.contains("note        the keys hold the name of an adapter (`default`"), "{}", run.stdout);
    let run = compare(&bench, "adapter");
    assert!(run.stderr.contains("the keys hold the name of an adapter"), "{}", run.stderr);
}

#[test]
fn a_classifiers_head_is_set_aside_and_the_rest_compared() {
    let bench = Bench::new();
    bench.base();
    bench.sound("plain");
    bench.sound("adapter");
    edit_config(&bench, "adapter", |config| {
        config["task_type"] = json!("SEQ_CLS");
        config["modules_to_save"] = json!(["classifier", "score"]);
    });
    edit_tensors(bench.path("adapter/adapter_model.safetensors"), |tensors| {
        tensors.insert("base_model.model.score.weight".to_owned(), Stored::f32(&[2, 32], vec![0.25; 64]));
    });
    let report = bench.run(["scan", "adapter", "--json"]).json();
    assert_eq!(finding(&report, "classification-head")["where"], "score");
    assert!(!rules(&report).iter().any(|rule| ["embedding-change", "whole-tensor"].contains(rule)), "{report}");
    let run = compare(&bench, "adapter");
    assert!(run.code <= 1 && run.stderr.contains("classification head"), "{}", run.stderr);
    let report = bench.json("out/report.json");
    let coverage = &report["adapter"]["coverage"];
    assert_eq!(coverage["set_aside"], json!(["base_model.model.score.weight"]));
    assert_eq!(coverage["applied"].as_u64().expect("a count") + 1, coverage["tensors"].as_u64().expect("a count"));
    let weights = report["weights"].clone();
    compare(&bench, "plain");
    assert_eq!(bench.json("out/report.json")["weights"], weights, "the rest is the same adapter");
}

#[test]
fn a_vocabulary_of_another_size_is_compared_over_the_common_rows() {
    let bench = Bench::new();
    bench.base();
    let rows = read_json(bench.path("base/config.json"))["vocab_size"].as_u64().expect("a size") as usize;
    bench.warned("whole");
    compare(&bench, "whole");
    let whole = bench.json("out/report.json");
    let head = "lm_head.weight";
    for (name, own) in [("fewer", rows - 2), ("more", rows + 3)] {
        bench.warned(name);
        edit_tensors(bench.path(&format!("{name}/adapter_model.safetensors")), |tensors| {
            let stored = tensors.get_mut(&format!("base_model.model.{head}")).expect("a head");
            let mut values = stored.values();
            values.resize(own * stored.shape[1], 0.125);
            *stored = Stored::f32(&[own, stored.shape[1]], values);
        });
        let run = compare(&bench, name);
        assert!(run.code <= 1, "{}", run.stderr);
        assert!(run.stderr.contains(&format!("has {own} rows, the base's table {rows}")), "{}", run.stderr);
        let report = bench.json("out/report.json");
        let table = &report["adapter"]["coverage"]["vocabulary"][0];
        assert_eq!((&table["base_rows"], &table["adapter_rows"]), (&json!(rows), &json!(own)));
        let found: Vec<&Value> = report["findings"].as_array().expect("findings").iter().collect();
        assert!(
            found.iter().any(|found| found["rule"] == "vocabulary-resized" && found["level"] == "warn"),
            "{found:?}"
        );
        let change = |report: &Value| report["weights"][head]["relative_norm"].as_f64().expect("a number");
        if own > rows {
            assert_eq!(change(&report), change(&whole));
        } else {
            assert!(change(&report) < change(&whole) && change(&report) > 0.9 * change(&whole));
        }
    }
    // A prompt that holds a token the adapter does not have.
    bench.write("ids.json", format!("[[1, 2, 3, {}]]", rows - 1));
    refused(&compare(&bench, "fewer"), &[&format!("token {}", rows - 1), "fewer", "Choose probes"]);
    assert!(compare(&bench, "more").code <= 1);
}

#[test]
fn what_mlx_lm_ignores_is_said_by_all_three() {
    let bench = Bench::new();
    let tensors = [("lora_a", [48, 4]), ("lora_b", [4, 64])].map(|(part, shape)| {
        let values = (0..shape[0] * shape[1]).map(|index| (index % 7) as f32 * 0.01).collect::<Vec<f32>>();
        (format!("model.layers.0.self_attn.q_proj.{part}"), Stored::f32(&shape, values))
    });
    let config = json!({"num_layers": 4, "fine_tune_type": "lora",
        "lora_parameters": {"rank": 4, "scale": 10.0, "alpha": 16, "dropout": 0.0}});
    bench.write("adapter/adapter_config.json", config.to_string());
    write_tensors(bench.path("adapter/adapters.safetensors"), &tensors.into_iter().collect());
    let report = bench.run(["scan", "adapter", "--json"]).json();
    let found = finding(&report, "loaders-disagree");
    assert_eq!(found["level"], "warn");
    assert!(found["message"].as_str().expect("a text").contains("alpha is 16"), "{found}");
    let run = bench.run(["inspect", "adapter"]);
    assert!(run.stdout.contains("lora_parameters.alpha is 16"), "{}", run.stdout);
}

#[test]
fn methods_that_are_no_lora_are_named_by_all_three() {
    let bench = Bench::new();
    bench.base();
    bench.sound("adapter");
    edit_config(&bench, "adapter", |config| config["peft_type"] = json!("LOHA"));
    let words = ["LOHA", "peft.convert_to_lora"];
    refused(&bench.run(["inspect", "adapter"]), &words);
    let run = compare(&bench, "adapter");
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(words.iter().all(|word| run.stderr.contains(word)), "{}", run.stderr);
    let report = bench.run(["scan", "adapter", "--json"]).json();
    let found = finding(&report, "config-unsupported");
    assert!(words.iter().all(|word| found["message"].as_str().expect("a text").contains(word)), "{found}");
    assert_eq!(findings(&report).len(), 1);
}
