//! Weights that say something without their base.

use serde_json::json;

use super::hostile_case::HostileCase;
use super::making::{Made, QUERY, RANK, WIDTH, layered, noise, path, sound};

/// A sound adapter with DoRA's magnitudes, all one but those of one row.
fn decomposed(row: f32) -> Made {
    let mut made = sound();
    made.config["use_dora"] = json!(true);
    for layer in 0..2 {
        for kind in ["self_attn.q_proj", "self_attn.v_proj"] {
            let name = format!("{}.lora_magnitude_vector", path(layer, kind));
            made.set(&name, &[WIDTH], vec![1.0; WIDTH]);
        }
    }
    let mut values = vec![1.0; WIDTH];
    values[7] = row;
    made.set(&format!("{QUERY}.lora_magnitude_vector"), &[WIDTH], values);
    made
}

/// A sound adapter with numbers of some tensors multiplied.
fn multiplied(part: &str, factor: f32) -> Made {
    let mut made = layered(2, &["self_attn.q_proj", "self_attn.v_proj"], RANK);
    for (layer, kind) in
        [(0, "self_attn.q_proj"), (0, "self_attn.v_proj"), (1, "self_attn.q_proj"), (1, "self_attn.v_proj")]
    {
        let name = format!("{}.{part}.weight", path(layer, kind));
        let shape = if part == "lora_A" { [RANK, WIDTH] } else { [WIDTH, RANK] };
        let values: Vec<f32> = noise(layer as u64 + 5, RANK * WIDTH).into_iter().map(|value| value * factor).collect();
        made.set(&name, &shape, values);
    }
    made
}

/// Twenty layers of one kind, rank one, with one factor the same in all.
fn in_one_direction(kind: &str, side: &str) -> Made {
    let mut made = layered(20, &[kind], 1);
    let shape = if side == "lora_A" { [1, WIDTH] } else { [WIDTH, 1] };
    for layer in 0..20 {
        made.set(&format!("{}.{side}.weight", path(layer, kind)), &shape, noise(99, WIDTH));
    }
    made
}

pub(crate) fn all() -> Vec<HostileCase> {
    vec![
        HostileCase::new("modules-of-no-known-role", &["unknown-module"], |at| {
            layered(2, &["mixer.mystery_proj"], RANK).write(at);
        }),
        HostileCase::new("magnitude-zero", &["dead-rows"], |at| decomposed(0.0).write(at)),
        HostileCase::new("magnitude-outlier", &["magnitude-outlier"], |at| decomposed(1e3).write(at)),
        HostileCase::new("magnitude-negative-outlier", &["magnitude-outlier"], |at| decomposed(-1e3).write(at)),
        HostileCase::new("magnitudes-all-zero", &["dead-rows"], |at| {
            let mut made = decomposed(0.0);
            made.set(&format!("{QUERY}.lora_magnitude_vector"), &[WIDTH], vec![0.0; WIDTH]);
            made.write(at);
        }),
        HostileCase::new("magnitudes-mostly-gone", &["dead-rows"], |at| {
            let mut made = decomposed(1.0);
            let values = (0..WIDTH).map(|row| if row % 5 < 3 { 1e-9 } else { 1.0 });
            made.set(&format!("{QUERY}.lora_magnitude_vector"), &[WIDTH], values);
            made.write(at);
        }),
        HostileCase::new("magnitude-nearly-gone", &["dead-rows"], |at| decomposed(0.0011).write(at)),
        HostileCase::new("magnitude-negative", &["flipped-rows"], |at| decomposed(-1.0).write(at)),
        HostileCase::new("ten-thousand-times-too-strong", &["change-size"], |at| multiplied("lora_B", 1e4).write(at)),
        HostileCase::new("factors-beyond-the-numbers", &["overflow"], |at| multiplied("lora_A", 1e38).write(at)),
        HostileCase::new("factors-below-the-numbers", &["zero-effect"], |at| multiplied("lora_B", 1e-40).write(at)),
        HostileCase::new("bias-of-b-of-ten-thousand", &["bias-outlier"], |at| {
            let mut made = layered(1, &["self_attn.q_proj"], RANK);
            made.config["lora_bias"] = json!(true);
            made.set(&format!("{QUERY}.lora_B.bias"), &[WIDTH], [1e4; WIDTH]);
            made.write(at);
        }),
        HostileCase::new("bias-of-the-base-of-ten-thousand", &["tensor-size"], |at| {
            let mut made = sound();
            made.config["bias"] = json!("lora_only");
            made.set(&format!("{QUERY}.bias"), &[WIDTH], [1e4; WIDTH]);
            made.write(at);
        }),
        HostileCase::new("norm-with-one-channel", &["whole-outlier"], |at| {
            let mut made = sound();
            made.config["modules_to_save"] = json!(["norm"]);
            let values = (0..WIDTH).map(|channel| if channel == 3 { 1e3 } else { 1.0 });
            made.set("base_model.model.model.norm.weight", &[WIDTH], values);
            made.write(at);
        }),
        HostileCase::new("head-of-noise", &["untrained-tensor", "whole-tensor"], |at| {
            let mut made = sound();
            made.config["modules_to_save"] = json!(["lm_head"]);
            let name = "base_model.model.lm_head.modules_to_save.weight";
            made.set(name, &[896, WIDTH], noise(11, 896 * WIDTH));
            made.write(at);
        }),
        HostileCase::new("concentrated", &["concentrated-module"], |at| {
            let mut made = layered(20, &["mlp.down_proj"], RANK);
            let mut up = noise(777, WIDTH * RANK);
            up.iter_mut().take(2 * RANK).for_each(|value| *value *= 60.0);
            made.set(&format!("{}.lora_B.weight", path(11, "mlp.down_proj")), &[WIDTH, RANK], up);
            made.write(at);
        }),
        HostileCase::new("one-of-another-size", &["norm-outlier"], |at| {
            let mut made = layered(20, &["mlp.down_proj"], RANK);
            let up: Vec<f32> = noise(777, WIDTH * RANK).into_iter().map(|value| value * 1e4).collect();
            made.set(&format!("{}.lora_B.weight", path(11, "mlp.down_proj")), &[WIDTH, RANK], up);
            made.write(at);
        }),
        HostileCase::new("coherent-writes", &["coherent-writes"], |at| {
            in_one_direction("mlp.down_proj", "lora_B").write(at);
        }),
        HostileCase::new("coherent-reads", &["coherent-reads"], |at| {
            in_one_direction("self_attn.q_proj", "lora_A").write(at);
        }),
    ]
}
