//! The difference Δ = Y − X itself: how large, and whether all tokens move one way.

use lcr_documents::audit::Drift;

use crate::activations::Activations;
use crate::linalg::largest_squared_singular_value;

/// Size, coherence and leading share of Δ.
pub fn drift(base: &Activations, adapted: &Activations) -> Drift {
    let width = base.width();
    let norm = |row: &[f32]| row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    // Both rows are f32 and close together, so their difference is exact or nearly so in f32.
    let change: Vec<f32> = base.values().iter().zip(adapted.values()).map(|(x, y)| y - x).collect();
    let rows = base.rows().max(1) as f64;
    let mean_size = base.iter().map(norm).sum::<f64>() / rows;
    let mean_change = change.chunks_exact(width).map(norm).sum::<f64>() / rows;
    let mut mean = vec![0.0; width];
    for row in change.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value) / rows);
    }
    let length_of_mean = mean.iter().map(|value| value * value).sum::<f64>().sqrt();
    let energy: f64 = change.iter().map(|value| f64::from(*value).powi(2)).sum();
    let moved = mean_change > 0.0;
    Drift {
        size: if mean_size > 0.0 { mean_change / mean_size } else { 0.0 },
        coherence: moved.then(|| length_of_mean / mean_change),
        coherence_chance: 1.0 / rows.sqrt(),
        pc1_share: moved.then(|| largest_squared_singular_value(&change, width) / energy),
    }
}
