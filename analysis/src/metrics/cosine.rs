//! Cosines of the states: token by token, of all of them as one vector, and less their means.

use lcr_documents::audit::{Cosines, SiteChange};

use super::descriptor::Transformation::{CommonRotation, Scaling, TokenOrder, Translation};
use super::descriptor::{Entry, Metric, Number, Reads, Runs, SiteMetric, Transformation, Unit};
use crate::activations::Activations;
use crate::linalg::NoConvergence;
use crate::statistics::{mean, one_minus_cosine, percentile};

/// `cosine`, `cosine_flat` and `cosine_centered`.
pub static METRIC: Metric = Metric {
    name: "cosine",
    runs: Runs::Always,
    reads: Reads::Rows(|_, _| Ok(Box::new(Cosine))),
    entries: &[BY_TOKEN, FLAT, CENTRED],
    references: &[],
};

const DIRECTIONS: &[Transformation] = &[Scaling, CommonRotation, TokenOrder];

const BY_TOKEN: Entry = Entry {
    heading: "`cosine.{mean,median,p05,min,one_minus_mean,mean_angle_deg}`",
    definition: "
Over tokens, cos(x_t, y_t) = x_t·y_t/(‖x_t‖‖y_t‖): mean, median, 5th percentile (linear interpolation), minimum; 1 −
mean without cancellation; the mean angle in degrees.
Two zero rows count as unchanged, a zero row against any other as orthogonal.",
    blind_to: "Blind to the length of any y_t, and to rotating X and Y together.",
    chance: "
Chance: *not* 0. States of one model share a large mean, so even different tokens have a high cosine; see
`cosine_centered`.",
    trap: "
Trap: a mean of 0.99 is what a small turn of every token gives, and also one token in a hundred turned by a right angle.
Read `p05` and `min`.",
    numbers: &[
        Number::new("cosine.mean", "Mean over tokens of cos(x_t, y_t).", Unit::Cosine, "−1 to 1")
            .less_change(1.0)
            .blind_to(DIRECTIONS),
        Number::new("cosine.median", "Median over tokens.", Unit::Cosine, "−1 to 1")
            .less_change(1.0)
            .blind_to(DIRECTIONS),
        Number::new("cosine.p05", "Fifth percentile over tokens.", Unit::Cosine, "−1 to 1")
            .less_change(1.0)
            .blind_to(DIRECTIONS),
        Number::new("cosine.min", "Smallest of any token.", Unit::Cosine, "−1 to 1")
            .less_change(1.0)
            .blind_to(DIRECTIONS),
        Number::new("cosine.one_minus_mean", "1 − `mean`, computed without the cancellation.", Unit::Cosine, "0 to 2")
            .more_change(0.0)
            .blind_to(DIRECTIONS),
        Number::new("cosine.mean_angle_deg", "Mean angle, degrees.", Unit::Degrees, "0 to 180")
            .more_change(0.0)
            .blind_to(DIRECTIONS),
    ],
    glossary: &[(
        "1 − cosine",
        "Mean over tokens of one minus the cosine between a token's two states. Printed as 1 − x because the cosine \
         itself is 0.9999… for every adapter. Half the squared angle, where it is small.",
    )],
};

const FLAT: Entry = Entry {
    heading: "`cosine_flat`",
    definition: "
⟨X, Y⟩/(‖X‖‖Y‖), the cosine of the two matrices laid out as vectors.
It is here because it is the figure usually quoted (\"99.9 % similar\"), so that it can be compared. No rule judges on \
        it.",
    blind_to: "Blind to one common scaling of Y.",
    chance: "",
    trap: "
Trap: long tokens and the common mean decide it. 500 unrelated random tokens in 64 dimensions, given the same mean of 10
standard deviations per coordinate, score 0.99.",
    numbers: &[Number::new(
        "cosine_flat",
        "Cosine of the flattened matrices: usually quoted, never judged on.",
        Unit::Cosine,
        "−1 to 1",
    )
    .less_change(1.0)
    .blind_to(DIRECTIONS)],
    glossary: &[(
        "cosine, flat",
        "All states taken as one long vector. The figure usually quoted; a few large rows own it. Shown to be compared \
         with, never judged.",
    )],
};

const CENTRED: Entry = Entry {
    heading: "`cosine_centered`",
    definition: "Mean over tokens of cos(x_t − x̄, y_t − ȳ).",
    blind_to: "Blind to a shift of all tokens by one vector, and to the lengths of the centred rows.",
    chance: "",
    trap: "
Trap: the blindness to a shift is also its weakness. A steering vector added to every token is invisible here;
`drift.coherence` shows it.",
    numbers: &[Number::new(
        "cosine_centered",
        "Mean over tokens of the cosine after removing each model's mean.",
        Unit::Cosine,
        "−1 to 1",
    )
    .less_change(1.0)
    .chance("0")
    .blind_to(&[Scaling, Translation, CommonRotation, TokenOrder])],
    glossary: &[],
};

struct Cosine;

impl SiteMetric for Cosine {
    fn changed(&self, base: &Activations, adapted: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        change.cosine = cosines(base, adapted);
        change.cosine_flat = cosine_flat(base, adapted);
        change.cosine_centered = cosine_centered(base, adapted);
        Ok(())
    }

    fn unchanged(&self, base: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        change.cosine = cosines(base, base);
        (change.cosine_flat, change.cosine_centered) = (1.0, 1.0);
        Ok(())
    }
}

/// Statistics over tokens of cos(x_t, y_t).
pub fn cosines(base: &Activations, adapted: &Activations) -> Cosines {
    let mut distances: Vec<f64> = base.iter().zip(adapted.iter()).map(|(x, y)| one_minus_cosine(x, y)).collect();
    let one_minus_mean = mean(&distances);
    // 1 − cos = ½‖u−v‖² and ‖u+v‖² = 4 − ‖u−v‖², so the angle is 2·atan2(‖u−v‖, ‖u+v‖).
    let angles: Vec<f64> = distances
        .iter()
        .map(|distance| 2.0 * (2.0 * distance).sqrt().atan2((4.0 - 2.0 * distance).max(0.0).sqrt()).to_degrees())
        .collect();
    distances.sort_by(f64::total_cmp);
    Cosines {
        mean: 1.0 - one_minus_mean,
        median: 1.0 - percentile(&distances, 0.5),
        p05: 1.0 - percentile(&distances, 0.95),
        min: 1.0 - distances.last().copied().unwrap_or(0.0),
        one_minus_mean,
        mean_angle_deg: mean(&angles),
    }
}

/// Cosine of the flattened matrices.
pub fn cosine_flat(base: &Activations, adapted: &Activations) -> f64 {
    1.0 - one_minus_cosine(base.values(), adapted.values())
}

/// Mean over tokens of cos(x_t − x̄, y_t − ȳ).
pub fn cosine_centered(base: &Activations, adapted: &Activations) -> f64 {
    let distances: Vec<f64> =
        base.centred_rows().zip(adapted.centred_rows()).map(|(x, y)| one_minus_cosine(x, y)).collect();
    1.0 - mean(&distances)
}
