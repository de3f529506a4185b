//! The size of the change against the size of the states.

use lcr_documents::audit::SiteChange;

use super::descriptor::Transformation::{CommonRotation, TokenOrder};
use super::descriptor::{Entry, Metric, Number, Reads, Runs, SiteMetric, Unit};
use crate::activations::Activations;
use crate::linalg::{NoConvergence, sum_pairs};
use crate::statistics::dot;

/// `relative_change`.
pub static METRIC: Metric = Metric {
    name: "relative_change",
    runs: Runs::Always,
    reads: Reads::Rows(|_, _| Ok(Box::new(RelativeChange))),
    entries: &[Entry {
        heading: "`relative_change`",
        definition: "‖Δ‖/‖X‖. Sees also a harmless common scaling of Y.",
        blind_to: "Blind to rotating or scaling X and Y together.",
        chance: "",
        trap: "Trap: it is a ratio of sums of squares, so long tokens dominate it even after the sinks are gone.",
        numbers: &[Number::new("relative_change", "‖Δ‖_F/‖X‖_F.", Unit::Ratio, "0 to ∞")
            .more_change(0.0)
            .chance("√2 for Y of the same size")
            .blind_to(&[CommonRotation, TokenOrder])],
        glossary: &[(
            "relative change",
            "‖Δ‖/‖X‖: size of the difference between the two models' states, against the base's states. 0 is \
             unchanged.",
        )],
    }],
    references: &[],
};

struct RelativeChange;

impl SiteMetric for RelativeChange {
    fn changed(&self, base: &Activations, adapted: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        change.relative_change = relative_change(base, adapted);
        Ok(())
    }

    fn unchanged(&self, _: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        change.relative_change = 0.0;
        Ok(())
    }
}

/// ‖Y − X‖_F/‖X‖_F.
pub fn relative_change(base: &Activations, adapted: &Activations) -> f64 {
    let change = sum_pairs(base.values(), adapted.values(), |x, y| (f64::from(y) - f64::from(x)).powi(2));
    let size = dot(base.values(), base.values());
    if size > 0.0 { (change / size).sqrt() } else { 0.0 }
}
