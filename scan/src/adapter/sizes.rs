//! Sizes that need no base to be absurd: of changes, of biases, of magnitudes, of whole tensors.
//!
//! The measure of a change is what it adds to one output for an input of unit root mean square: a row's norm. Rows of
//! trained weights have norms from about 0.5 to 10, whatever the model's size, because activations have to stay of one
//! order from layer to layer. Each rule names the worst place of the whole adapter.

use lcr_formats::adapter::{Adapter, EmbeddingLowRank, LowRank};

use crate::check::{Check, Observation};
use crate::statistics::{ModuleStatistics, VectorStatistics, WeightStatistics, WholeStatistics};
use crate::tensor_kind::TensorKind;

/// How many typical rows, or elements, a single one may count for.
const SINGLE: f64 = 10.0;
/// Size of a bias of B that is never too large: what Adam at its usual rates does not reach in a whole training run is
/// near 1.
const SMALL_BIAS: f64 = 0.5;

/// The worst of some places.
struct Worst {
    found: Option<(String, f64, String)>,
}

impl Worst {
    fn none() -> Self {
        Self { found: None }
    }

    /// Takes a place in if its number is larger than all before; one that is no number is larger than any.
    fn offer(&mut self, place: &str, value: f64, message: impl FnOnce() -> String) {
        let order = |value: f64| if value.is_nan() { f64::INFINITY } else { value };
        if self.found.as_ref().is_none_or(|(_, most, _)| order(value) > order(*most)) {
            self.found = Some((place.to_owned(), value, message()));
        }
    }

    fn report(self, check: Check, name: &str, found: &mut Vec<Observation>) {
        if let Some((place, value, message)) = self.found {
            found.push(Observation::new(check, name, message).at(crate::json::shown(&place)).measured(value));
        }
    }
}

pub(super) fn observe(statistics: &WeightStatistics, name: &str, found: &mut Vec<Observation>) {
    changes(statistics, name, found);
    tensors(statistics, name, found);
    reach(statistics, name, found);
    biases(statistics, name, found);
    untrained(statistics, name, found);
}

fn low_rank(statistics: &WeightStatistics) -> impl Iterator<Item = (&String, &ModuleStatistics)> {
    statistics.modules.iter().chain(&statistics.embeddings)
}

/// Changes of a size that no weight has.
fn changes(statistics: &WeightStatistics, name: &str, found: &mut Vec<Observation>) {
    let mut worst = Worst::none();
    for (path, module) in low_rank(statistics) {
        let [rows, _] = module.shape;
        let row = module.norm / (rows.max(1) as f64).sqrt();
        worst.offer(path, row.max(module.largest_row / SINGLE), || {
            format!(
                "the change adds {row:.3e} (root mean square over the outputs; {:.3e} to one of them) for an input of \
                 unit size, where the rows of trained weights have norms of about 0.5 to 10",
                module.largest_row
            )
        });
    }
    worst.report(Check::ChangeSize, name, found);
}

/// Magnitudes, whole tensors and biases of a size that none has, and whole tensors of which one row does.
fn tensors(statistics: &WeightStatistics, name: &str, found: &mut Vec<Observation>) {
    let (mut size, mut outlier) = (Worst::none(), Worst::none());
    let of = |high: f64, largest: f64| high.max(largest / SINGLE);
    for (path, module) in &statistics.modules {
        if let Some(magnitudes) = module.magnitudes {
            size.offer(path, of(magnitudes.typical, magnitudes.largest), || {
                format!("DoRA's magnitudes, the norms of the adapted rows, are typically {:.3e}", magnitudes.typical)
            });
        }
    }
    for (tensor, WholeStatistics { row_norms: [middle, high, largest], .. }) in &statistics.whole {
        size.offer(tensor, of(*high, *largest), || {
            format!("the rows of this replaced weight have norms of {middle:.3e} (median) to {largest:.3e}")
        });
        far(&mut outlier, tensor, "row", *middle, *largest);
    }
    for (tensor, VectorStatistics { absolute: [middle, high, largest], .. }) in &statistics.vectors {
        size.offer(tensor, of(*high, *largest), || {
            format!("the values of this replaced tensor are {middle:.3e} (median) to {largest:.3e}")
        });
        // Biases of trained models are far from even: those of Qwen2's keys reach hundreds where most are near 1.
        if TensorKind::of(tensor) != TensorKind::Bias {
            far(&mut outlier, tensor, "value", *middle, *largest);
        }
    }
    size.report(Check::TensorSize, name, found);
    outlier.report(Check::WholeOutlier, name, found);
}

fn far(outlier: &mut Worst, tensor: &str, what: &str, middle: f64, largest: f64) {
    let factor = if largest > 0.0 { largest / middle } else { 0.0 };
    outlier.offer(tensor, factor, || {
        format!("one {what} of this replaced tensor is {factor:.3e} times the median: {largest:.3e}")
    });
}

/// Numbers that a model may not be able to hold.
fn reach(statistics: &WeightStatistics, name: &str, found: &mut Vec<Observation>) {
    let mut worst = Worst::none();
    for (path, module) in low_rank(statistics) {
        let [_, columns] = module.shape;
        let width = (columns as f64).sqrt();
        let magnitude = module.magnitudes.map_or(0.0, |magnitudes| magnitudes.largest * width);
        let bias = module.bias.map_or(0.0, |bias| bias.largest);
        worst.offer(path, module.reach.max(magnitude).max(bias), || {
            format!(
                "values of up to {:.3e} can come of an input of unit size, where float16 ends at 65504 and float32 and \
                 bfloat16 at 3.4e38",
                module.reach.max(magnitude).max(bias)
            )
        });
    }
    for (tensor, whole) in &statistics.whole {
        let [.., largest] = whole.row_norms;
        let rows = whole.shape.first().copied().unwrap_or(1).max(1);
        let columns = whole.shape.iter().product::<usize>() / rows;
        let value = largest * (columns as f64).sqrt();
        worst.offer(tensor, value, || {
            format!("values of up to {value:.3e} can come of an input of unit size, where float16 ends at 65504")
        });
    }
    for (tensor, vector) in &statistics.vectors {
        let [.., largest] = vector.absolute;
        worst.offer(tensor, largest, || format!("holds {largest:.3e}, where float16 ends at 65504"));
    }
    worst.report(Check::Overflow, name, found);
}

/// Biases of B out of proportion to the change that they join.
fn biases(statistics: &WeightStatistics, name: &str, found: &mut Vec<Observation>) {
    let mut worst = Worst::none();
    for (path, module) in &statistics.modules {
        let Some((bias, ratio)) = module.bias.and_then(|bias| Some((bias, bias.ratio(SMALL_BIAS)?))) else { continue };
        worst.offer(path, ratio, || {
            format!(
                "the bias of B adds up to {:.3e} to an output for every text, {ratio:.3e} times what the low-rank \
                 change adds for an input of unit size ({:.3e})",
                bias.largest, bias.row
            )
        });
    }
    worst.report(Check::BiasOutlier, name, found);
}

/// Replaced heads and embeddings that are no trained ones.
fn untrained(statistics: &WeightStatistics, name: &str, found: &mut Vec<Observation>) {
    for (tensor, whole) in &statistics.whole {
        let Some(noise) = whole.noise else { continue };
        let what = if whole.zero_rows > 0.5 {
            format!("{:.0} % of its rows are zero", 100.0 * whole.zero_rows)
        } else if noise >= 1.0 && whole.row_norms[0] > 0.0 {
            "its rows are either all in one direction or as independent of each other as random numbers".to_owned()
        } else {
            "its rows are as independent of each other as random numbers".to_owned()
        };
        let message = format!(
            "this replaced head or embedding does not look trained: {what} (likeness to noise {noise:.3}; trained \
             tables are below 0.2)"
        );
        found.push(
            Observation::new(Check::UntrainedTensor, name, message).at(crate::json::shown(tensor)).measured(noise),
        );
    }
}

/// Whether all of a part vanishes in float32 and bfloat16 although it is not zero: where subnormal numbers are flushed,
/// as most accelerators do, nothing is left of it.
pub(super) fn vanishes(adapter: &Adapter, reach: f64) -> bool {
    let is_tiny = |values: &[f32]| values.iter().all(|value| value.abs() < f32::MIN_POSITIVE);
    let is_below = reach < f64::from(f32::MIN_POSITIVE);
    let module = |module: &LowRank| {
        let has_more = module.magnitude.is_some() || module.lora_b_bias.is_some();
        !has_more && (is_below || is_tiny(&module.lora_a) || is_tiny(&module.lora_b))
    };
    let embedding = |table: &EmbeddingLowRank| is_below || is_tiny(&table.lora_a) || is_tiny(&table.lora_b);
    adapter.modules_to_save.is_empty()
        && adapter.biases.is_empty()
        && adapter.modules.values().all(|own| module(own))
        && adapter.embeddings.values().all(embedding)
}
