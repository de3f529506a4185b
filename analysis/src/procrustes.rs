//! Orthogonal Procrustes (Schönemann 1966) of two centred, unit-norm matrices.

use lcr_documents::audit::Procrustes;

use crate::activations::Activations;
use crate::linalg::{NoConvergence, nuclear_norm, product};

/// raw = ‖A − B‖² and min_R ‖A − BR‖² = 2 − 2‖AᵀB‖_*, with A = X_c/‖X_c‖ and B = Y_c/‖Y_c‖.
pub fn procrustes(base: &Activations, adapted: &Activations) -> Result<Procrustes, NoConvergence> {
    let (base_norm, adapted_norm) = (base.centred_energy().sqrt(), adapted.centred_energy().sqrt());
    if base_norm == 0.0 || adapted_norm == 0.0 {
        // A constant matrix has nothing to rotate; against another it is unchanged, against anything else wholly other.
        let raw = if base_norm == adapted_norm { 0.0 } else { 1.0 };
        return Ok(Procrustes { raw_squared: raw, residual_squared: raw, explained: None });
    }
    let raw: f64 = base
        .centred_rows()
        .flatten()
        .zip(adapted.centred_rows().flatten())
        .map(|(x, y)| (x / base_norm - y / adapted_norm).powi(2))
        .sum();
    if raw == 0.0 {
        return Ok(Procrustes { raw_squared: 0.0, residual_squared: 0.0, explained: None });
    }
    let norms = base_norm * adapted_norm;
    let cross = if 2 * base.rows() < base.width() {
        product(base.row_factor(), adapted.row_factor().transpose())
    } else {
        product(base.centred().transpose(), adapted.centred())
    };
    let nuclear = nuclear_norm(&cross, raw * norms)? / norms;
    let residual = (2.0 - 2.0 * nuclear).max(0.0);
    Ok(Procrustes { raw_squared: raw, residual_squared: residual, explained: Some(1.0 - residual / raw) })
}
