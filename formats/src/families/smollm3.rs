//! SmolLM3: a Llama in which every fourth layer has no rotary embedding.

use serde_json::Value;

use crate::config::{Config, ConfigError, Family, Keys, Layout, Rotary, Thetas, Windowing};

/// SmolLM3.
pub(super) static SMOLLM3: Family = Family { model_type: "smollm3", models: "SmolLM3", layout: Layout::LLAMA, read };

const ROTARY: Rotary = Rotary {
    tied_head: true,
    thetas: Thetas { global: 2e6, local: None },
    windowing: Windowing { opt_in: true, ..Windowing::NONE },
    ..Rotary::LLAMA
};

fn read(keys: &mut Keys<'_>) -> Result<Config, ConfigError> {
    let mut config = ROTARY.read(&SMOLLM3, keys)?;
    let rotated = rotated(keys, config.layers.len())?;
    for (layer, _) in config.layers.iter_mut().zip(rotated).filter(|(_, rotated)| !rotated) {
        layer.rope = None;
    }
    Ok(config)
}

/// Which layers have a rotary embedding.
fn rotated(keys: &mut Keys<'_>, count: usize) -> Result<Vec<bool>, ConfigError> {
    let interval = keys.optional_size("no_rope_layer_interval")?.unwrap_or(4);
    match keys.take("no_rope_layers") {
        None => Ok((0..count).map(|layer| !(layer + 1).is_multiple_of(interval)).collect()),
        Some(Value::Array(list)) if list.len() == count => {
            Ok(list.iter().map(|flag| flag.as_u64() != Some(0)).collect())
        }
        Some(_) => Err(keys.wrong("no_rope_layers", format!("expected a list of {count} zeros and ones"))),
    }
}
