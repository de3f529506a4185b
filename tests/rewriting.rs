//! The figures of the weights are functions of the product BA: writing an adapter as MA and BM⁻¹ must not move one.

mod support;

use std::path::Path;

use serde_json::Value;
use support::{Stored, audit, copied, edit_tensors, golden_adapter, golden_base, leaves, text};

/// Row-major `[rows, inner]` times `[inner, columns]`.
fn product(left: &[f64], right: &[f64], inner: usize) -> Vec<f64> {
    let columns = right.len() / inner;
    left.chunks_exact(inner)
        .flat_map(|row| {
            (0..columns).map(move |column| row.iter().zip(0..).map(|(a, k)| a * right[k * columns + column]).sum())
        })
        .collect()
}

fn wide(stored: &Stored) -> Vec<f64> {
    stored.values().into_iter().map(f64::from).collect()
}

/// The adapter with every A replaced by MA and every B by BM⁻¹.
fn rewrite(folder: &Path, matrix: &[f64], inverse: &[f64], rank: usize) {
    edit_tensors(folder.join("adapter_model.safetensors"), |tensors| {
        let mut changed = 0;
        for (name, stored) in tensors.iter_mut() {
            let values = if name.contains("lora_A") {
                product(matrix, &wide(stored), rank)
            } else if name.contains("lora_B") {
                product(&wide(stored), inverse, rank)
            } else {
                continue;
            };
            changed += 1;
            *stored = Stored::f32(&stored.shape.clone(), values.into_iter().map(|value| value as f32));
        }
        assert!(changed > 0, "no factor found");
    });
}

fn weights(case: &str, adapter: &Path, out: &Path) -> Vec<(String, Value)> {
    let tokens = out.with_extension("json");
    fs_err::write(&tokens, "[[1, 2, 3]]").expect("written");
    let report = audit([
        "compare",
        &golden_base(case),
        text(adapter),
        "--metrics",
        "weights",
        "--tokens",
        text(&tokens),
        "--out",
        text(out),
        "--json",
        "--quiet",
    ])
    .json();
    let mut found = leaves(&report["weights"]);
    assert!(found.len() > 50, "{} figures", found.len());
    found.extend(leaves(&report["coherence"]));
    found
}

/// Says how a figure moved, if it did by more than the tolerance, relative to itself.
fn moved(key: &str, before: &Value, after: &Value, tolerance: f64) -> Option<String> {
    let near = match (before.as_f64(), after.as_f64()) {
        (Some(before), Some(after)) => (before - after).abs() <= tolerance * before.abs() + 1e-12,
        _ => before == after,
    };
    (!near).then(|| format!("{key}: {before} became {after}"))
}

fn check(case: &str, matrix: &[f64], inverse: &[f64], tolerance: f64) {
    let rank = matrix.len().isqrt();
    let folder = tempfile::tempdir().expect("a folder");
    let rewritten = copied(&golden_adapter(case), folder.path(), "rewritten");
    rewrite(&rewritten, matrix, inverse, rank);
    let before = weights(case, Path::new(&golden_adapter(case)), &folder.path().join("before"));
    let after = weights(case, &rewritten, &folder.path().join("after"));
    assert_eq!(before.len(), after.len());
    let wrong: Vec<String> = before
        .iter()
        .zip(&after)
        .filter_map(|((key, before), (other, after))| {
            assert_eq!(key, other);
            moved(key, before, after, tolerance)
        })
        .collect();
    assert!(wrong.is_empty(), "{case}:\n{}", wrong.join("\n"));
}

/// Directions exchanged and scaled by powers of two: the factors stay exact, so the figures do too.
const EXCHANGE: [f64; 16] = [0.0, 4.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 8.0, 0.0];
const EXCHANGED_BACK: [f64; 16] = [0.0, 2.0, 0.0, 0.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.125, 0.0, 0.0, -1.0, 0.0];

/// A shear: rows of A are mixed, which rounds.
const SHEAR: [f64; 16] = [1.0, 0.5, -2.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.5, 0.0, 0.0, 0.0, 1.0];
const SHEARED_BACK: [f64; 16] = [1.0, -0.5, 2.5, -2.25, 0.0, 1.0, -1.0, 0.5, 0.0, 0.0, 1.0, -0.5, 0.0, 0.0, 0.0, 1.0];

#[test]
fn the_rewritings_are_inverse_to_each_other() {
    for (matrix, inverse) in [(EXCHANGE, EXCHANGED_BACK), (SHEAR, SHEARED_BACK)] {
        let identity: Vec<f64> = (0..16).map(|at| f64::from(u8::from(at % 5 == 0))).collect();
        assert_eq!(product(&matrix, &inverse, 4), identity);
    }
}

#[test]
fn exact_rewriting_moves_no_figure_of_lora() {
    check("qwen3_lora_qv", &EXCHANGE, &EXCHANGED_BACK, 1e-6);
}

#[test]
fn exact_rewriting_moves_no_figure_of_dora() {
    check("qwen3_dora_qv", &EXCHANGE, &EXCHANGED_BACK, 1e-6);
}

#[test]
fn mixing_moves_no_figure_of_lora_beyond_rounding() {
    check("qwen3_lora_qv", &SHEAR, &SHEARED_BACK, 1e-4);
}

#[test]
fn mixing_moves_no_figure_of_dora_beyond_rounding() {
    check("qwen3_dora_qv", &SHEAR, &SHEARED_BACK, 1e-4);
}
