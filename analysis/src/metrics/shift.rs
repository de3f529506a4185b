//! The shift Δ = Y − X itself: how large, and whether all tokens move one way. The report calls it `drift`.

use lcr_documents::audit::{Shift, SiteChange};

use super::descriptor::Transformation::{CommonRotation, TokenOrder};
use super::descriptor::{Entry, Metric, Number, Reads, Runs, SiteMetric, Transformation, Unit};
use crate::activations::Activations;
use crate::linalg::{NoConvergence, largest_squared_singular_value};

/// `drift`.
pub static METRIC: Metric = Metric {
    name: "drift",
    runs: Runs::ByDefault,
    reads: Reads::Rows(|_, _| Ok(Box::new(ShiftOfStates))),
    entries: &[Entry {
        heading: "`drift.{size,coherence,coherence_chance,pc1_share}`",
        definition: "
size = mean‖Δ_t‖/mean‖x_t‖. coherence = ‖mean Δ_t‖/mean‖Δ_t‖: 1 where every token is moved by the same vector. pc1_share
= σ₁²/Σσ² of Δ, uncentred: the share of the change that lies on one line. Definitions of our own.",
        blind_to: "
Coherence and pc1_share are blind to the size of Δ, so that shrinking an adapter's change leaves them; all are blind to
rotating X and Y together.",
        chance: "",
        trap: "
Trap: coherence and pc1_share stay defined for a change of 10⁻⁷, where Δ is rounding. Read `size` first. High pc1_share
with low coherence means one axis in both directions: some tokens pushed, others pulled.",
        numbers: &[
            Number::new("drift.size", "mean‖Δ_t‖/mean‖x_t‖.", Unit::Ratio, "0 to ∞").more_change(0.0).blind_to(TURNED),
            Number::new("drift.coherence", "‖mean Δ_t‖/mean‖Δ_t‖; `null` where nothing moved.", Unit::Ratio, "0 to 1")
                .undefined_unchanged()
                .chance("1/√n, in `coherence_chance`")
                .blind_to(TURNED),
            Number::new(
                "drift.coherence_chance",
                "1/√n: the coherence of unrelated directions.",
                Unit::Ratio,
                "0 to 1",
            )
            .blind_to(&Transformation::OF_ACTIVATIONS),
            Number::new(
                "drift.pc1_share",
                "σ₁²/Σσ² of uncentred Δ; `null` where nothing moved.",
                Unit::Share,
                "0 to 1",
            )
            .undefined_unchanged()
            .chance("about (1/√n + 1/√d)² for isotropic noise")
            .blind_to(TURNED),
        ],
        glossary: &[(
            "drift coherence",
            "Length of the mean change against the mean length of changes: 1 when every token is pushed the same way. \
             Chance 1/√n.",
        )],
    }],
    references: &[],
};

const TURNED: &[Transformation] = &[CommonRotation, TokenOrder];

struct ShiftOfStates;

impl SiteMetric for ShiftOfStates {
    fn changed(&self, base: &Activations, adapted: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        change.drift = Some(shift(base, adapted));
        Ok(())
    }

    fn unchanged(&self, base: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        let coherence_chance = 1.0 / (base.rows() as f64).sqrt();
        change.drift = Some(Shift { size: 0.0, coherence: None, coherence_chance, pc1_share: None });
        Ok(())
    }
}

/// Size, coherence and leading share of Δ.
pub fn shift(base: &Activations, adapted: &Activations) -> Shift {
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
    Shift {
        size: if mean_size > 0.0 { mean_change / mean_size } else { 0.0 },
        coherence: moved.then(|| length_of_mean / mean_change),
        coherence_chance: 1.0 / rows.sqrt(),
        pc1_share: moved.then(|| largest_squared_singular_value(&change, width) / energy),
    }
}
