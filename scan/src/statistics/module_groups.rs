//! A module among its kind: robust scores of its numbers, with the trend over the layers taken out.

use std::collections::BTreeMap;

use lcr_documents::statistics::median;
use lcr_formats::module::ModulePath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Measured, ModuleStatistics};

/// Modules of a kind under which a robust z means nothing: the median deviation of a handful of points is noise.
pub(super) const SMALLEST_GROUP: usize = 16;
/// From the median absolute deviation to the standard deviation of a normal distribution.
const DEVIATION_OF_MEDIAN: f64 = 1.4826;
/// From the mean absolute deviation to it, where the median deviation is zero.
const DEVIATION_OF_MEAN: f64 = 1.2533;
/// Points that the slope of a trend is taken from.
const LARGEST_TREND: usize = 256;

/// The modules of one kind, the last part of their paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModuleGroup {
    /// Modules.
    pub modules: usize,
    /// The largest |robust z| that any number of any of them has; `None` under 16 modules.
    pub farthest: Option<Farthest>,
}

/// The number that is least like its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Farthest {
    /// Path of the module.
    pub module: String,
    /// Name of the number in [`ModuleStatistics`].
    pub feature: String,
    /// Its robust z, depth trend removed.
    pub z: f64,
}

/// A number of a module, as it is compared: a logarithm where the number is a ratio or a size.
type Feature = (&'static str, fn(&ModuleStatistics) -> Option<f64>);

/// Everything that is compared.
const FEATURES: [Feature; 10] = [
    ("norm", |module| logarithm(module.norm)),
    ("kurtosis", |module| logarithm(module.kurtosis?)),
    ("row_top8_share", |module| logarithm(module.row_top8_share?)),
    ("row_hoyer", |module| module.row_hoyer),
    ("row_gini", |module| module.row_gini),
    ("column_hoyer", |module| module.column_hoyer),
    ("spectral_norm", |module| logarithm(module.spectral_norm)),
    ("stable_rank", |module| logarithm(module.stable_rank?)),
    ("participation_ratio", |module| logarithm(module.participation_ratio?)),
    ("effective_rank", |module| logarithm(module.effective_rank?)),
];
/// Those that rise together where a change is concentrated on a few outputs.
const CONCENTRATION: [&str; 3] = ["kurtosis", "row_top8_share", "row_hoyer"];

fn logarithm(value: f64) -> Option<f64> {
    (value > 0.0).then(|| value.ln())
}

/// Gives every module its z among its kind, and every kind the farthest of them.
pub(super) fn compare(measured: &mut [Measured]) -> BTreeMap<String, ModuleGroup> {
    let mut groups: BTreeMap<String, Vec<(usize, f64)>> = BTreeMap::new();
    for (index, module) in measured.iter().enumerate() {
        if let ModulePath { kind, layer: Some(layer), .. } = ModulePath::parse(&module.path) {
            groups.entry(kind.to_owned()).or_default().push((index, layer as f64));
        }
    }
    let compared = groups.into_iter().map(|(kind, members)| {
        let farthest = (members.len() >= SMALLEST_GROUP).then(|| compare_group(measured, &members)).flatten();
        (kind, ModuleGroup { modules: members.len(), farthest })
    });
    compared.collect()
}

#[expect(clippy::indexing_slicing, reason = "indices are those of `measured`, by which its members were grouped")]
fn compare_group(measured: &mut [Measured], members: &[(usize, f64)]) -> Option<Farthest> {
    let mut farthest: Option<(usize, &str, f64)> = None;
    let mut concentration: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for (name, feature) in FEATURES {
        let points = members.iter().filter_map(|(index, layer)| {
            let value = feature(&measured[*index].statistics).filter(|value| value.is_finite())?;
            Some((*index, *layer, value))
        });
        for (index, z) in robust_z(&points.collect::<Vec<_>>()) {
            if name == "norm" {
                measured[index].statistics.norm_z = Some(z);
            }
            if CONCENTRATION.contains(&name) {
                concentration.entry(index).or_default().push(z);
            }
            if farthest.is_none_or(|(.., most)| z.abs() > most.abs()) {
                farthest = Some((index, name, z));
            }
        }
    }
    for (index, all) in concentration {
        let least = all.iter().copied().fold(f64::INFINITY, f64::min);
        measured[index].statistics.concentration_z = (all.len() == CONCENTRATION.len()).then_some(least);
    }
    let (index, feature, z) = farthest?;
    Some(Farthest { module: measured[index].path.clone(), feature: feature.to_owned(), z })
}

/// Robust z by index: residuals of a Theil–Sen line over the layers, in units of their median absolute deviation.
fn robust_z(points: &[(usize, f64, f64)]) -> BTreeMap<usize, f64> {
    if points.len() < SMALLEST_GROUP {
        return BTreeMap::new();
    }
    let mut slopes = Vec::new();
    let sample: Vec<&(usize, f64, f64)> = points.iter().step_by(points.len().div_ceil(LARGEST_TREND)).collect();
    for (at, (_, layer, value)) in sample.iter().enumerate() {
        for (_, other_layer, other) in sample.iter().skip(at + 1) {
            if other_layer != layer {
                slopes.push((other - value) / (other_layer - layer));
            }
        }
    }
    let slope = median(&slopes).unwrap_or(0.0);
    let flat: Vec<f64> = points.iter().map(|(_, layer, value)| value - slope * layer).collect();
    let Some(middle) = median(&flat) else { return BTreeMap::new() };
    let deviations: Vec<f64> = flat.iter().map(|value| (value - middle).abs()).collect();
    let mean = deviations.iter().sum::<f64>() / deviations.len() as f64;
    let spread = match median(&deviations) {
        Some(deviation) if deviation > 0.0 => DEVIATION_OF_MEDIAN * deviation,
        _ => DEVIATION_OF_MEAN * mean,
    };
    if spread <= 0.0 {
        return BTreeMap::new();
    }
    points.iter().zip(flat).map(|((index, _, _), value)| (*index, (value - middle) / spread)).collect()
}
