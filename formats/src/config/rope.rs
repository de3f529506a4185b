//! Rotary position embeddings, in both spellings: `rope_theta` with `rope_scaling`, and `rope_parameters` of
//! transformers 5.

use serde_json::{Map, Value};

use super::ConfigError;
use super::keys::Keys;

/// How rotary frequencies are stretched beyond the trained context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies divided by a factor.
    Linear {
        /// Divisor.
        factor: f64,
    },
    /// Llama 3: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths longer than context/this are divided.
        low_freq_factor: f64,
        /// Wavelengths shorter than context/this are kept.
        high_freq_factor: f64,
        /// Context of the original training.
        original_context: f64,
    },
}

/// Rotary position embedding of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Stretching.
    pub scaling: RopeScaling,
    /// Leading dimensions of each head that are rotated.
    pub dimensions: usize,
}

/// Bases of the frequencies where config.json says nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thetas {
    /// Of layers that see everything.
    pub(crate) global: f64,
    /// Of layers with a window, where the family gives them a rotary embedding of their own. Nothing stretches its
    /// frequencies, for those layers keep the original context.
    pub(crate) local: Option<f64>,
}

/// Rotary embeddings of the layers with full and with sliding attention.
pub(super) fn read(keys: &mut Keys<'_>, thetas: Thetas, head_dim: usize) -> Result<(Rope, Rope), ConfigError> {
    let theta = keys.number("rope_theta", thetas.global)?;
    let local_theta = keys.number("rope_local_base_freq", thetas.local.unwrap_or(1e4))?;
    let partial = keys.number("partial_rotary_factor", 1.0)?;
    let scaling = keys.take("rope_scaling");
    if let Some(Value::Object(parameters)) = keys.take("rope_parameters") {
        if let (Some(full), Some(sliding)) = (parameters.get("full_attention"), parameters.get("sliding_attention")) {
            let (full, sliding) = (full.clone(), sliding.clone());
            return Ok((
                rope(keys, "rope_parameters.full_attention", Some(full), theta, partial, head_dim)?,
                rope(keys, "rope_parameters.sliding_attention", Some(sliding), local_theta, partial, head_dim)?,
            ));
        }
        let one = rope(keys, "rope_parameters", Some(Value::Object(parameters)), theta, partial, head_dim)?;
        return Ok((one, one));
    }
    let global = rope(keys, "rope_scaling", scaling, theta, partial, head_dim)?;
    let local = match thetas.local {
        Some(_) => rope(keys, "rope_scaling", None, local_theta, partial, head_dim)?,
        None => global,
    };
    Ok((global, local))
}

/// One rotary embedding from its settings.
fn rope(
    keys: &Keys<'_>,
    key: &str,
    settings: Option<Value>,
    theta: f64,
    partial: f64,
    head_dim: usize,
) -> Result<Rope, ConfigError> {
    let settings = match settings {
        None => Map::new(),
        Some(Value::Object(settings)) => settings,
        Some(other) => return Err(keys.wrong(key, format!("expected an object, found {other}"))),
    };
    let mut own = Keys { path: keys.path, keys: settings };
    let kind = own.string("rope_type")?.or(own.string("type")?).unwrap_or_else(|| "default".to_owned());
    own.take("type");
    let theta = own.number("rope_theta", theta)?;
    let partial = own.number("partial_rotary_factor", partial)?;
    let scaling = match kind.as_str() {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: required(&mut own, key, "factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: required(&mut own, key, "factor")?,
            low_freq_factor: required(&mut own, key, "low_freq_factor")?,
            high_freq_factor: required(&mut own, key, "high_freq_factor")?,
            original_context: required(&mut own, key, "original_max_position_embeddings")?,
        },
        _ => return Err(keys.unsupported(&format!("{key}.rope_type"), &Value::String(kind))),
    };
    own.refuse_leftovers()?;
    let dimensions = (head_dim as f64 * partial) as usize;
    if partial > 1.0 || !dimensions.is_multiple_of(2) || dimensions == 0 {
        return Err(keys.wrong(key, format!("{dimensions} of {head_dim} dimensions cannot be rotated")));
    }
    Ok(Rope { theta, scaling, dimensions })
}

fn required(own: &mut Keys, parent: &str, key: &str) -> Result<f64, ConfigError> {
    own.optional_number(key)?.ok_or_else(|| own.wrong(&format!("{parent}.{key}"), "is missing"))
}
