//! Weights that say something without their base.

use serde_json::json;

use super::exhibit::Exhibit;
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

/// Twenty layers of one kind, rank one, with one factor the same in all.
fn chorus(kind: &str, side: &str) -> Made {
    let mut made = layered(20, &[kind], 1);
    let shape = if side == "lora_A" { [1, WIDTH] } else { [WIDTH, 1] };
    for layer in 0..20 {
        made.set(&format!("{}.{side}.weight", path(layer, kind)), &shape, noise(99, WIDTH));
    }
    made
}

pub(crate) fn all() -> Vec<Exhibit> {
    vec![
        Exhibit::new("magnitude-zero", &["dead-rows"], |at| decomposed(0.0).write(at)),
        Exhibit::new("magnitude-outlier", &["magnitude-outlier"], |at| decomposed(1e3).write(at)),
        Exhibit::new("magnitude-negative-outlier", &["magnitude-outlier"], |at| decomposed(-1e3).write(at)),
        Exhibit::new("magnitudes-all-zero", &["dead-rows"], |at| {
            let mut made = decomposed(0.0);
            made.set(&format!("{QUERY}.lora_magnitude_vector"), &[WIDTH], vec![0.0; WIDTH]);
            made.write(at);
        }),
        Exhibit::new("concentrated", &["concentrated-module"], |at| {
            let mut made = layered(20, &["mlp.down_proj"], RANK);
            let mut up = noise(777, WIDTH * RANK);
            up.iter_mut().take(2 * RANK).for_each(|value| *value *= 60.0);
            made.set(&format!("{}.lora_B.weight", path(11, "mlp.down_proj")), &[WIDTH, RANK], up);
            made.write(at);
        }),
        Exhibit::new("one-of-another-size", &["norm-outlier"], |at| {
            let mut made = layered(20, &["mlp.down_proj"], RANK);
            let up: Vec<f32> = noise(777, WIDTH * RANK).into_iter().map(|value| value * 1e4).collect();
            made.set(&format!("{}.lora_B.weight", path(11, "mlp.down_proj")), &[WIDTH, RANK], up);
            made.write(at);
        }),
        Exhibit::new("coherent-writes", &["coherent-writes"], |at| chorus("mlp.down_proj", "lora_B").write(at)),
        Exhibit::new("coherent-reads", &["coherent-reads"], |at| chorus("self_attn.q_proj", "lora_A").write(at)),
    ]
}
