//! Adapters against bases: what belongs is covered to the last tensor, what does not is refused by name.

mod adapter_support;

use adapter_support::{Tensor, counted, factors, peft_config, variant, with, write_adapter};
use lcr_formats::adapter::{Adapter, ModuleKind, TargetModule};
use serde_json::{Value, json};

/// A base with two blocks of two projections, a table, a norm and a head.
fn base() -> Vec<TargetModule> {
    let mut modules = vec![
        ("model.embed_tokens", 9, 6, ModuleKind::Embedding),
        ("model.norm", 6, 6, ModuleKind::Norm),
        ("lm_head", 6, 9, ModuleKind::Head),
    ];
    for path in [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.self_attn.v_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.self_attn.v_proj",
    ] {
        modules.push((path, 6, 4, ModuleKind::Linear));
    }
    modules
        .into_iter()
        .map(|(path, inputs, outputs, kind)| TargetModule { path: path.to_owned(), inputs, outputs, kind })
        .collect()
}

fn base_shape(name: &str) -> Option<Vec<usize>> {
    match name {
        "model.embed_tokens.weight" => Some(vec![9, 6]),
        "model.norm.weight" => Some(vec![6]),
        _ if name.ends_with("q_proj.bias") => Some(vec![4]),
        _ => None,
    }
}

#[test]
fn an_adapter_that_does_not_belong_to_the_base() {
    let named = |name: &str, shape: &[usize]| counted(&format!("base_model.model.{name}"), shape);
    let pair = |module: &str, outputs: usize, inputs: usize| {
        vec![
            named(&format!("{module}.lora_A.weight"), &[2, inputs]),
            named(&format!("{module}.lora_B.weight"), &[outputs, 2]),
        ]
    };
    let none = json!({});
    let rows: Vec<(Value, Vec<Tensor>, &str, &str)> = vec![
        (none.clone(), pair("model.layers.7.self_attn.q_proj", 4, 6), "Unmatched", "nearest: `model.layers."),
        (none.clone(), pair("model.layers.0.self_attn.q_proj", 5, 6), "Shape", "4 outputs"),
        (none.clone(), pair("model.layers.0.self_attn.q_proj", 4, 7), "Shape", "6 inputs"),
        (none.clone(), pair("model.layers.0.self_attn.v_proj", 4, 6), "NotTargeted", "not in target_modules"),
        (json!({"target_modules": ["norm"]}), pair("model.norm", 6, 6), "Tensor", "belong on linear layers"),
        (json!({"target_modules": "all-linear"}), pair("lm_head", 9, 6), "NotTargeted", "output head"),
        (json!({"target_modules": ".*v_proj"}), factors(), "NotTargeted", "does not match"),
        (json!({"exclude_modules": ["q_proj"]}), factors(), "NotTargeted", "exclude_modules"),
        (json!({"layers_to_transform": [1]}), factors(), "NotTargeted", "layer 0"),
        (json!({"modules_to_save": ["self_attn"]}), factors(), "NotTargeted", "modules_to_save `self_attn`"),
        (json!({"modules_to_save": ["lm_head"]}), factors(), "MissingWhole", "lm_head.weight"),
        (
            json!({"init_lora_weights": "pissa_niter_4"}),
            factors(),
            "BaseChanged",
            "path_initial_model_for_weight_conversion",
        ),
        (json!({"init_lora_weights": "olora"}), factors(), "BaseChanged", "olora"),
        (none.clone(), with(vec![named("model.norm.weight", &[7])]), "Shape", "[6]"),
        (none.clone(), with(vec![named("model.norm.gain", &[6])]), "Unmatched", "model.norm.gain"),
        (none.clone(), with(vec![named("lm_head.weight", &[10, 6])]), "Shape", "resized vocabulary"),
        (none.clone(), with(vec![named("model.layers.0.self_attn.v_proj.bias", &[4])]), "Unmatched", "v_proj.bias"),
        (none.clone(), with(vec![named("model.layers.1.self_attn.q_proj.bias", &[5])]), "Shape", "[4]"),
    ];
    for (changes, tensors, expected, named) in rows {
        let folder = write_adapter(&peft_config(&changes), &tensors);
        let error = Adapter::open(folder.path()).unwrap().bind(&base(), &base_shape).unwrap_err();
        assert_eq!(variant(&error), expected, "{changes}: {error}");
        assert!(error.to_string().contains(named), "`{named}` is missing in: {error}");
    }
}

#[test]
fn what_belongs_is_covered() {
    let extra = vec![
        counted("base_model.model.lm_head.weight", &[9, 6]),
        counted("base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias", &[4]),
        counted("base_model.model.model.norm.weight", &[6]),
    ];
    let folder = write_adapter(&peft_config(&json!({"modules_to_save": ["lm_head"]})), &with(extra));
    let adapter = Adapter::open(folder.path()).unwrap();
    let coverage = adapter.bind(&base(), &base_shape).unwrap();
    assert_eq!((coverage.tensors, coverage.applied), (5, 5));
    assert_eq!(coverage.targeted_without_tensors, ["model.layers.1.self_attn.q_proj"]);
    assert!(!adapter.modules_to_save["model.norm.weight"].declared);
    assert!(adapter.notes.iter().any(|note| note.text.contains("model.norm.weight")), "{:?}", adapter.notes);
}

#[test]
fn the_old_spelling_of_a_bias_is_applied_and_said() {
    let bias = counted("base_model.model.model.layers.0.self_attn.q_proj.bias", &[4]);
    let folder = write_adapter(&peft_config(&json!({"bias": "lora_only"})), &with(vec![bias]));
    let adapter = Adapter::open(folder.path()).unwrap();
    assert_eq!(adapter.bind(&base(), &base_shape).unwrap().applied, 3);
    assert!(adapter.notes.iter().any(|note| note.text.contains("q_proj.bias")), "{:?}", adapter.notes);
}

#[test]
fn a_classification_head_is_set_aside() {
    let head = |part: &str, shape: &[usize]| counted(&format!("base_model.model.{part}"), shape);
    let rows: Vec<(Value, Vec<Tensor>, Vec<&str>)> = vec![
        (json!({"task_type": "SEQ_CLS"}), vec![head("score.weight", &[2, 6])], vec!["score.weight"]),
        (
            json!({"task_type": "TOKEN_CLS"}),
            vec![head("classifier.weight", &[5, 6]), head("classifier.bias", &[5])],
            vec!["classifier.bias", "classifier.weight"],
        ),
        (json!({"task_type": "QUESTION_ANS"}), vec![head("qa_outputs.weight", &[2, 6])], vec!["qa_outputs.weight"]),
        (json!({}), vec![head("v_head.summary.weight", &[1, 6])], vec!["v_head.summary.weight"]),
        (
            json!({"target_modules": ["q_proj", "score"]}),
            vec![head("score.lora_A.weight", &[2, 6]), head("score.lora_B.weight", &[3, 2])],
            vec!["score.lora_A.weight", "score.lora_B.weight"],
        ),
        (json!({}), vec![], vec![]),
    ];
    for (changes, tensors, aside) in rows {
        let folder = write_adapter(&peft_config(&changes), &with(tensors));
        let coverage = Adapter::open(folder.path()).unwrap().bind(&base(), &base_shape).unwrap();
        let aside: Vec<String> = aside.into_iter().map(|name| format!("base_model.model.{name}")).collect();
        assert_eq!((coverage.applied, coverage.tensors), (2, 2 + aside.len()), "{changes}");
        assert_eq!(coverage.set_aside, aside);
    }
    // Inside a block, or where the base has such a module, it is a module like any other.
    let folder = write_adapter(&peft_config(&json!({})), &with(vec![head("model.layers.0.score.weight", &[2, 6])]));
    let error = Adapter::open(folder.path()).unwrap().bind(&base(), &base_shape).unwrap_err();
    assert_eq!(variant(&error), "Unmatched", "{error}");
    let mut with_score = base();
    with_score.push(TargetModule { path: "score".to_owned(), inputs: 6, outputs: 2, kind: ModuleKind::Linear });
    let shape = |name: &str| if name == "score.weight" { Some(vec![2, 6]) } else { base_shape(name) };
    let folder = write_adapter(&peft_config(&json!({})), &with(vec![head("score.weight", &[2, 6])]));
    let coverage = Adapter::open(folder.path()).unwrap().bind(&with_score, &shape).unwrap();
    assert_eq!((coverage.applied, coverage.set_aside.len()), (3, 0));
}

#[test]
fn modules_of_other_kinds_of_models_are_called_so() {
    let pair = |module: &str| {
        let named = |part: &str, shape: &[usize]| counted(&format!("base_model.model.{module}.{part}"), shape);
        vec![named("lora_A.weight", &[2, 6]), named("lora_B.weight", &[4, 2])]
    };
    let rows = [
        ("model.vision_tower.encoder.layers.0.self_attn.q_proj", "sees or hears"),
        ("visual.blocks.0.attn.q_proj", "sees or hears"),
        ("down_blocks.0.attentions.0.q_proj", "image model"),
        ("model.language_model.layers.0.self_attn.q_proj", "name their text part"),
        ("encoder.layers.0.q_proj", "Is this the base"),
    ];
    for (module, named) in rows {
        let folder = write_adapter(&peft_config(&json!({})), &pair(module));
        let error = Adapter::open(folder.path()).unwrap().bind(&base(), &base_shape).unwrap_err();
        assert_eq!(variant(&error), "Unmatched", "{error}");
        assert!(error.to_string().contains(named), "`{named}` is missing in: {error}");
    }
}
