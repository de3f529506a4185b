//! An adapter as strong as one likes: W + λ(W' − W) for any λ, without multiplying anything out.
//!
//! Of LoRA λ goes into the scale. DoRA's row i is W'ᵢ = rᵢ(W + sBA)ᵢ with rᵢ = mᵢ/‖(W + sBA)ᵢ‖, so
//! W + λ(W' − W) = ρᵢ(W + sB'A)ᵢ with ρᵢ = 1 + λ(rᵢ − 1) and B'ᵢ = (λrᵢ/ρᵢ)Bᵢ: a DoRA module again, whose magnitude is
//! ρᵢ‖(W + sB'A)ᵢ‖.

use std::collections::BTreeMap;
use std::sync::Arc;

use lcr_formats::adapter::{Adapter, LowRank, ReplacedWeight};
use lcr_formats::checkpoint::Weight;
use lcr_model::decoder::{BoundAdapter, Decoder, ModelError};

/// ρ is kept this far from zero, which it is divided by: the row is then off by as many parts of W's.
const SMALLEST_RATIO: f64 = 1e-6;

/// `of` with its change times `factor`: 0 is the base, 1 the adapter itself, −1 its opposite.
///
/// # Errors
/// As binding the adapter itself.
pub fn scaled(decoder: &Decoder, of: &BoundAdapter, factor: f64) -> Result<BoundAdapter, ModelError> {
    let own = of.adapter();
    let mut scaled = own.clone();
    let mut ratios = BTreeMap::new();
    for (path, module) in &mut scaled.modules {
        let ratio = if module.magnitude.is_some() { of.ratio_of(decoder, path) } else { None };
        *module = Arc::new(match ratio {
            None => LowRank { scale: factor * module.scale, ..(**module).clone() },
            Some(ratio) => {
                let wanted: Vec<f64> = ratio.iter().map(|ratio| new_ratio(*ratio, factor)).collect();
                let rows: Vec<f64> = ratio.iter().zip(&wanted).map(|(r, new)| factor * f64::from(*r) / new).collect();
                ratios.insert(path.clone(), wanted);
                with_rows_times(module, &rows)
            }
        });
    }
    scaled.embeddings.values_mut().for_each(|table| table.scale *= factor);
    for (path, bias) in &mut scaled.biases {
        let base = decoder.tensor(&format!("{path}.bias")).map_or_else(|| vec![0.0; bias.len()], Weight::to_f32);
        *bias = along(&base, bias, factor);
    }
    for (name, whole) in &mut scaled.modules_to_save {
        if let Some(weight) = whole_weight(decoder, of, name, whole, factor) {
            *whole = ReplacedWeight { weight, ..whole.clone() };
        }
    }
    let bound = decoder.bind(scaled)?;
    if ratios.is_empty() { Ok(bound) } else { decoder.bind(with_ratios(decoder, &bound, &ratios)) }
}

/// ρ = 1 + λ(r − 1), away from zero.
fn new_ratio(ratio: f32, factor: f64) -> f64 {
    let ratio = 1.0 + factor * (f64::from(ratio) - 1.0);
    if ratio.abs() < SMALLEST_RATIO { SMALLEST_RATIO.copysign(ratio) } else { ratio }
}

/// The module with every row of B, and of its bias, times a factor; a magnitude of ones stands where the ratio will be
/// put in.
fn with_rows_times(module: &LowRank, factors: &[f64]) -> LowRank {
    let times = |value: &f32, factor: &f64| (f64::from(*value) * factor) as f32;
    let rows = module.lora_b.chunks_exact(module.rank.max(1)).zip(factors);
    LowRank {
        lora_b: rows.flat_map(|(row, factor)| row.iter().map(move |value| times(value, factor))).collect(),
        lora_b_bias: module
            .lora_b_bias
            .as_ref()
            .map(|bias| bias.iter().zip(factors).map(|(b, f)| times(b, f)).collect()),
        magnitude: Some(vec![1.0; module.outputs]),
        ..module.clone()
    }
}

/// base + λ(changed − base).
fn along(base: &[f32], changed: &[f32], factor: f64) -> Vec<f32> {
    let pairs = base.iter().zip(changed).map(|(base, changed)| (f64::from(*base), f64::from(*changed)));
    pairs.map(|(base, changed)| (base + factor * (changed - base)) as f32).collect()
}

/// A whole tensor at the dose; of a weight R that a DoRA module stands on, what makes its rows W + λ(W' − W) again:
/// ((1 − λ)Wᵢ + λrᵢRᵢ)/ρᵢ.
fn whole_weight(
    decoder: &Decoder,
    of: &BoundAdapter,
    name: &str,
    whole: &ReplacedWeight,
    factor: f64,
) -> Option<Weight> {
    let (base, changed) = (decoder.tensor(name)?.to_f32(), whole.weight.to_f32());
    let path = name.strip_suffix(".weight").unwrap_or(name);
    let Some(ratio) = of.ratio_of(decoder, path) else {
        return whole.weight.with_values(&whole.shape, &along(&base, &changed, factor));
    };
    let (_, is_transposed) = decoder.linear_weight(path)?;
    let columns = *whole.shape.last()?;
    let values: Vec<f32> = base
        .iter()
        .zip(&changed)
        .enumerate()
        .map(|(at, (base, changed))| {
            let ratio = ratio[if is_transposed { at % columns } else { at / columns }];
            let sum = (1.0 - factor) * f64::from(*base) + factor * f64::from(ratio) * f64::from(*changed);
            (sum / new_ratio(ratio, factor)) as f32
        })
        .collect();
    whole.weight.with_values(&whole.shape, &values)
}

/// The adapter of `bound`, whose magnitudes are ones, with those that give these ratios of new to old row norms, by
/// path: mᵢ = ρᵢ‖(W + sBA)ᵢ‖.
pub(crate) fn with_ratios(decoder: &Decoder, bound: &BoundAdapter, ratios: &BTreeMap<String, Vec<f64>>) -> Adapter {
    let mut adapter = bound.adapter().clone();
    for (path, wanted) in ratios {
        let (Some(inverse), Some(module)) = (bound.ratio_of(decoder, path), adapter.modules.get_mut(path)) else {
            continue;
        };
        let magnitude = wanted.iter().zip(inverse).map(|(wanted, inverse)| (wanted / f64::from(*inverse)) as f32);
        *module = Arc::new(LowRank { magnitude: Some(magnitude.collect()), ..(**module).clone() });
    }
    adapter
}
