//! Orthogonal Procrustes (Schönemann 1966) of two centred, unit-norm matrices.

use lcr_documents::audit::{Procrustes, SiteChange};

use super::descriptor::Transformation::{CommonRotation, Scaling, TokenOrder, Translation};
use super::descriptor::{Entry, Metric, Number, Reads, Runs, SiteMetric, Transformation, Unit};
use crate::activations::Activations;
use crate::linalg::{NoConvergence, nuclear_norm, product};

/// `procrustes`.
pub static METRIC: Metric = Metric {
    name: "procrustes",
    runs: Runs::ByDefault,
    reads: Reads::Rows(|_, _| Ok(Box::new(OrthogonalProcrustes))),
    entries: &[Entry {
        heading: "`procrustes.{raw_squared,residual_squared,explained}`",
        definition: "
With A = X_c/‖X_c‖ and B = Y_c/‖Y_c‖: raw = ‖A − B‖²; residual = min over orthogonal R of ‖A − BR‖² = 2 − 2‖AᵀB‖_*
(Schönemann 1966; as a distance between representations: Williams, Kunz, Kornblith and Linderman 2021; Ding, Denain and
Steinhardt 2021);
explained = 1 − residual/raw, `null` where nothing changed.",
        blind_to: "
Both squares are blind to scaling and shifting Y; the residual is also blind to rotating and reflecting it.",
        chance: "",
        trap: "
Trap: R has d(d−1)/2 parameters and is judged on the very data it was fitted to. Pure noise added to X comes out as \
            0.88
\"explained by a rotation\" at n = 64, d = 256, and still 0.12 at n = 256, d = 64. No rule judges on it. A small \
            residual
says only that the change is small.",
        numbers: &[
            Number::new("procrustes.raw_squared", "‖A − B‖².", Unit::Ratio, "0 to 4")
                .more_change(0.0)
                .chance("2")
                .blind_to(AS_THEY_STAND),
            Number::new("procrustes.residual_squared", "min over orthogonal R of ‖A − BR‖².", Unit::Ratio, "0 to 2")
                .more_change(0.0)
                .blind_to(&Transformation::OF_ACTIVATIONS),
            Number::new("procrustes.explained", "1 − residual/raw; `null` where raw is zero.", Unit::Share, "0 to 1")
                .undefined_unchanged()
                .blind_to(AS_THEY_STAND),
        ],
        glossary: &[
            (
                "Procrustes explained",
                "How much of the change one rotation undoes, in-sample. With fewer tokens than dimensions it explains \
                 noise too (0.88 at n = 64, d = 256). Never judged.",
            ),
            (
                "Procrustes before, left",
                "Squared distance of both models' states, centred and scaled to unit norm, as they are and after the \
                 best rotation.",
            ),
        ],
    }],
    references: &[
        "Ding, Denain, Steinhardt 2021. Grounding representation similarity through statistical testing. NeurIPS.",
        "Schönemann 1966. A generalized solution of the orthogonal Procrustes problem. Psychometrika 31.",
        "Williams, Kunz, Kornblith, Linderman 2021. Generalized shape metrics on neural representations. NeurIPS.",
    ],
};

/// Before R, the axes count.
const AS_THEY_STAND: &[Transformation] = &[Scaling, Translation, CommonRotation, TokenOrder];

struct OrthogonalProcrustes;

impl SiteMetric for OrthogonalProcrustes {
    fn changed(&self, base: &Activations, adapted: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        change.procrustes = Some(procrustes(base, adapted)?);
        Ok(())
    }

    fn unchanged(&self, _: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        change.procrustes = Some(Procrustes { raw_squared: 0.0, residual_squared: 0.0, explained: None });
        Ok(())
    }
}

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
