//! Leading subspaces of both models' activations and the angles between them (Björck and Golub 1973).

use faer::Mat;
use lcr_documents::audit::{SiteChange, Subspace};

use super::descriptor::Transformation::{CommonRotation, Scaling, TokenOrder, Translation};
use super::descriptor::{Entry, Metric, Number, Reads, Runs, SiteMetric, Transformation, Unit};
use crate::activations::Activations;
use crate::linalg::{NoConvergence, eigenvalues, product, singular_values};

/// `subspace`.
pub static METRIC: Metric = Metric {
    name: "subspace",
    runs: Runs::ByDefault,
    reads: Reads::Rows(|base, chosen| Ok(Box::new(Leading::of(base, chosen.subspace_dimensions)?))),
    entries: &[Entry {
        heading: "`subspace.{k,overlap,max_angle_deg,base_gap,adapted_gap}`",
        definition: "
V and W: the k leading right singular vectors of X_c and of Y_c (k = 10 unless set, at most n and d). overlap =
‖VᵀW‖²/k, the mean squared cosine of the principal angles; `max_angle_deg` = the largest of them (Björck and Golub
1973). The gaps are s_k/s_{k+1} of each model.",
        blind_to: "Blind to shifting Y, to scaling it, and to anything that happens inside the subspace.",
        chance: "",
        trap: "
Trap: without a gap the subspace is undefined. If s_k ≈ s_{k+1}, noise swaps the k-th direction for its neighbour:
isotropic data (n = 2000, d = 128) with 5 % of noise show a largest angle of 16°, though nothing was turned. Read the
angle only where both gaps are clearly above 1, and the overlap before the angle.",
        numbers: &[
            Number::new("subspace.k", "Dimensions compared.", Unit::Count, "1 to min(n, d)")
                .blind_to(&Transformation::OF_ACTIVATIONS),
            Number::new("subspace.overlap", "‖VᵀW‖_F²/k.", Unit::Share, "0 to 1")
                .less_change(1.0)
                .chance("k/d")
                .blind_to(DIRECTIONS),
            Number::new("subspace.max_angle_deg", "Largest principal angle, degrees.", Unit::Degrees, "0 to 90")
                .more_change(0.0)
                .blind_to(DIRECTIONS),
            Number::new(
                "subspace.base_gap",
                "s_k/s_{k+1} of the base: without a gap the overlap means nothing.",
                Unit::Ratio,
                "at least 1",
            )
            .blind_to(&Transformation::OF_ACTIVATIONS),
            Number::new("subspace.adapted_gap", "s_k/s_{k+1} of the adapted model.", Unit::Ratio, "at least 1")
                .blind_to(&Transformation::OF_ACTIVATIONS),
        ],
        glossary: &[(
            "subspace lost, angle",
            "How far the leading principal subspace turns. Says nothing where the gap beside it is close to 1.",
        )],
    }],
    references: &[
        "Björck, Golub 1973. Numerical methods for computing angles between linear subspaces. Mathematics of \
         Computation 27.",
    ],
};

const DIRECTIONS: &[Transformation] = &[Scaling, Translation, CommonRotation, TokenOrder];

/// A leading subspace.
struct Leading {
    /// Right singular vectors as columns, `[width, k]`.
    vectors: Mat<f64>,
    /// s_k/s_{k+1}.
    gap: Option<f64>,
}

impl Leading {
    fn of(activations: &Activations, dimensions: usize) -> Result<Self, NoConvergence> {
        let k = dimensions.min(activations.rows()).min(activations.width());
        let vectors = activations.leading_right_vectors(k)?;
        Ok(Self { vectors, gap: gap(activations.squares()?, k) })
    }
}

impl SiteMetric for Leading {
    fn changed(&self, _: &Activations, adapted: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        change.subspace = Some(between(self, &Self::of(adapted, self.vectors.ncols())?)?);
        Ok(())
    }

    fn unchanged(&self, _: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        let (k, gap) = (self.vectors.ncols(), self.gap);
        change.subspace = Some(Subspace { k, overlap: 1.0, max_angle_deg: 0.0, base_gap: gap, adapted_gap: gap });
        Ok(())
    }
}

/// Both models' leading subspaces of so many dimensions, at most rows and columns.
pub fn subspace(base: &Activations, adapted: &Activations, dimensions: usize) -> Result<Subspace, NoConvergence> {
    between(&Leading::of(base, dimensions)?, &Leading::of(adapted, dimensions)?)
}

/// Overlap and largest angle of the leading right singular subspaces.
///
/// Both come from what is left of W outside V, (1 − VVᵀ)W: its square is 1 − overlap without cancellation, its largest
/// singular value the sine of the largest angle.
fn between(base: &Leading, adapted: &Leading) -> Result<Subspace, NoConvergence> {
    let (v, w) = (&base.vectors, &adapted.vectors);
    let k = v.ncols();
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
        base_gap: base.gap,
        adapted_gap: adapted.gap,
    })
}

/// s_k/s_{k+1}.
fn gap(squares: &[f64], k: usize) -> Option<f64> {
    let (last, next) = (squares.get(k.checked_sub(1)?)?, squares.get(k)?);
    (*next > 0.0).then(|| (last / next).sqrt())
}
