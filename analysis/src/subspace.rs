//! Leading subspaces of both models' activations and the angles between them (Björck and Golub 1973).

use faer::Mat;
use lcr_documents::audit::Subspace;

use crate::activations::Factors;
use crate::linalg::{NoConvergence, eigenvalues, product, singular_values};

/// Overlap and largest angle of the leading right singular subspaces.
///
/// Both come from what is left of W outside V, (1 − VVᵀ)W: its square is 1 − overlap without cancellation, its largest
/// singular value the sine of the largest angle.
pub fn subspace(base: &Factors, adapted: &Factors) -> Result<Subspace, NoConvergence> {
    let (v, w) = (&base.leading, &adapted.leading);
    let k = v.ncols().min(w.ncols());
    let inner = product(v.transpose(), w.as_ref());
    let inside = product(v.as_ref(), inner.as_ref());
    let outside = Mat::from_fn(w.nrows(), w.ncols(), |row, column| w[(row, column)] - inside[(row, column)]);
    let squares = eigenvalues(product(outside.transpose(), outside.as_ref()).as_ref())?;
    let sine = squares.first().copied().unwrap_or(0.0).sqrt();
    let cosine = singular_values(inner.as_ref())?.last().copied().unwrap_or(1.0);
    let lost: f64 = squares.iter().sum();
    Ok(Subspace {
        k,
        overlap: if k == 0 { 1.0 } else { (1.0 - lost / k as f64).max(0.0) },
        max_angle_deg: sine.atan2(cosine).to_degrees(),
        base_gap: gap(&base.squares, k),
        adapted_gap: gap(&adapted.squares, k),
    })
}

/// s_k/s_{k+1}.
pub(crate) fn gap(squares: &[f64], k: usize) -> Option<f64> {
    let (last, next) = (squares.get(k.checked_sub(1)?)?, squares.get(k)?);
    (*next > 0.0).then(|| (last / next).sqrt())
}
