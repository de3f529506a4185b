//! Linear centred kernel alignment, plain and debiased.

use faer::Mat;
use lcr_documents::audit::SiteChange;

use super::descriptor::{Entry, Metric, Number, Reads, Runs, SiteMetric, Transformation, Unit};
use crate::activations::Activations;
use crate::linalg::{NoConvergence, product, sum_pairs};

/// `cka` and `cka_debiased`.
pub static METRIC: Metric = Metric {
    name: "cka",
    runs: Runs::ByDefault,
    reads: Reads::Rows(|_, _| Ok(Box::new(LinearCka))),
    entries: &[PLAIN, DEBIASED],
    references: &[
        "Kornblith, Norouzi, Lee, Hinton 2019. Similarity of neural network representations revisited. ICML.",
        "Nguyen, Raghu, Kornblith 2021. Do wide and deep networks learn the same things? ICLR.",
        "Song, Smola, Gretton, Bedo, Borgwardt 2012. Feature selection via dependence maximization. JMLR 13.",
    ],
};

const ANY_AXES: &[Transformation] = &Transformation::OF_ACTIVATIONS;

const PLAIN: Entry = Entry {
    heading: "`cka`",
    definition: "
Linear centred kernel alignment, ‖Y_cᵀX_c‖²/(‖X_cᵀX_c‖ ‖Y_cᵀY_c‖) (Kornblith, Norouzi, Lee and Hinton 2019).",
    blind_to: "
Blind to rotating or reflecting Y, to scaling Y by one factor, and to shifting it. Not blind to stretching single
directions.",
    chance: "",
    trap: "
Trap: biased upwards when n is small against d. For *independent* normal data it is about d/(d + n): 0.80 at n = 64, d =
256, and still 0.20 at n = 1024. A plain CKA without n and d beside it says nothing.",
    numbers: &[Number::new("cka", "Linear CKA (Kornblith et al. 2019).", Unit::Cosine, "0 to 1")
        .less_change(1.0)
        .chance("d/(d + n)")
        .blind_to(ANY_AXES)],
    glossary: &[],
};

const DEBIASED: Entry = Entry {
    heading: "`cka_debiased`",
    definition: "
The same ratio with the unbiased estimator of the Hilbert–Schmidt independence criterion (Song, Smola, Gretton, Bedo and
Borgwardt 2012; used for CKA by Nguyen, Raghu and Kornblith 2021). With K = XXᵀ and L = YYᵀ whose diagonals are
set to zero:

    HSIC(K, L) = [⟨K, L⟩ + (1ᵀK1)(1ᵀL1)/((n−1)(n−2)) − 2/(n−2) · 1ᵀKL1] / (n(n−3))

and `cka_debiased` = HSIC(K, L)/√(HSIC(K, K)·HSIC(L, L)). Needs n > 3; `null` where a denominator is not positive.",
    blind_to: "Blind to what `cka` is blind to.",
    chance: "About 0 for independent data, and it can fall below 0 there.",
    trap: "
Trap: a few huge rows, for the ratio then rests on the products between them alone. With two such rows there is one \
        product in X and one in Y,
and the ratio tends to ±1 by their signs. For two of 256 independent tokens in 64 dimensions, made 10, 30 and 100 \
        times longer than the rest,
the sign is a coin's: |`cka_debiased`| has the median 0.04, 0.34 and 0.82 instead of 0.004, above zero as often as \
        below. Where
the two are parallel to each other in both models, as attention sinks are, both products are positive, and independent \
        data come out at 0.88, 0.99
and 0.999. That is why sinks are left out, and why a run with `--keep-sinks` should not be read by this number.",
    numbers: &[Number::new(
        "cka_debiased",
        "Linear CKA with the unbiased HSIC estimator (Song et al. 2012).",
        Unit::Cosine,
        "at most 1",
    )
    .less_change(1.0)
    .chance("0")
    .blind_to(ANY_AXES)],
    glossary: &[(
        "1 − CKA, debiased",
        "Whether the same tokens are alike in both models, whatever the axes. Plain CKA of unrelated data is about \
         d/(d+n), not 0; the debiased one has chance level 0.",
    )],
};

struct LinearCka;

impl SiteMetric for LinearCka {
    fn changed(&self, base: &Activations, adapted: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        let found = cka(base, adapted);
        (change.cka, change.cka_debiased) = (found.plain, found.debiased);
        Ok(())
    }

    /// One, where it is defined.
    fn unchanged(&self, base: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        let found = Kernel::of(base).with_itself();
        (change.cka, change.cka_debiased) = (found.plain.map(|_| 1.0), found.debiased.map(|_| 1.0));
        Ok(())
    }
}

/// Linear CKA (Kornblith et al. 2019), and the same with the unbiased HSIC estimator of Song et al. (2012).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cka {
    /// ‖Y_cᵀX_c‖_F²/(‖X_cᵀX_c‖_F ‖Y_cᵀY_c‖_F).
    pub plain: Option<f64>,
    /// Diagonal-free Grams; `None` where a denominator is not positive.
    pub debiased: Option<f64>,
}

/// Both CKAs from the Gram matrices of the smaller side.
pub fn cka(base: &Activations, adapted: &Activations) -> Cka {
    let between = if base.is_wide() && adapted.is_wide() {
        inner(base.gram(), adapted.gram())
    } else {
        product(base.centred().transpose(), adapted.centred()).squared_norm_l2()
    };
    Kernel::of(base).against(&Kernel::of(adapted), between)
}

/// ⟨K, L⟩ of two Gram matrices of one size.
fn inner(left: &Mat<f64>, right: &Mat<f64>) -> f64 {
    (0..left.ncols()).map(|column| sum_pairs(left.col_as_slice(column), right.col_as_slice(column), |a, b| a * b)).sum()
}

/// What CKA needs of K = X_cX_cᵀ, which never stands as a whole where there are more rows than columns.
struct Kernel {
    /// K_ii.
    diagonal: Vec<f64>,
    /// ⟨K, K⟩, which is that of the smaller Gram matrix.
    square: f64,
}

impl Kernel {
    fn of(activations: &Activations) -> Self {
        let diagonal = activations.centred_rows().map(|row| sum_pairs(row, row, |a, b| a * b)).collect();
        Self { diagonal, square: inner(activations.gram(), activations.gram()) }
    }

    fn with_itself(&self) -> Cka {
        self.against(self, self.square)
    }

    /// Both ratios, given ⟨K, L⟩.
    fn against(&self, other: &Self, between: f64) -> Cka {
        let rows = self.diagonal.len() as f64;
        let ratio = |between: f64, left: f64, right: f64| {
            (left > 0.0 && right > 0.0).then(|| between / (left.sqrt() * right.sqrt()))
        };
        let unbiased =
            |inner: f64, left: &Self, right: &Self| unbiased_hsic(inner, &left.diagonal, &right.diagonal, rows);
        let debiased = (rows > 3.0)
            .then(|| {
                ratio(
                    unbiased(between, self, other),
                    unbiased(self.square, self, self),
                    unbiased(other.square, other, other),
                )
            })
            .flatten();
        Cka { plain: ratio(between, self.square, other.square), debiased }
    }
}

/// Unbiased HSIC from ⟨K, L⟩ and the diagonals of centred Gram matrices K and L.
///
/// The estimator ignores the diagonals and does not change when a Gram matrix is centred; for centred data a row of K
/// without its diagonal sums to −K_ii, so the n×n matrices themselves are not needed.
fn unbiased_hsic(inner: f64, left: &[f64], right: &[f64], rows: f64) -> f64 {
    let diagonal: f64 = left.iter().zip(right).map(|(a, b)| a * b).sum();
    let (left_sum, right_sum) = (left.iter().sum::<f64>(), right.iter().sum::<f64>());
    let total =
        (inner - diagonal) + left_sum * right_sum / ((rows - 1.0) * (rows - 2.0)) - 2.0 / (rows - 2.0) * diagonal;
    total / (rows * (rows - 3.0))
}
