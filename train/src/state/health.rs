//! Whether an adapter is still worth keeping.
//!
//! A run that has diverged must not overwrite its last good checkpoint with what it diverged to, so this is asked
//! before anything is written.

use lcr_formats::adapter::Adapter;

/// Largest |x| that a tensor of an adapter may hold. Trained entries are below 100; what is beyond this limit has
/// exploded.
pub const LARGEST_ADAPTER_VALUE: f32 = 1e6;

/// A tensor of the adapter holds NaN, an infinity or an absurd number.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "tensor `{tensor}` of the adapter is {value:e} at element {element}: training has diverged. The last checkpoint is \
     good; lower the learning rate or set optimizer.clip"
)]
pub struct UnhealthyAdapter {
    /// Name of the tensor.
    pub tensor: String,
    /// First such element.
    pub element: usize,
    /// Its value.
    pub value: f32,
}

/// Refuses NaN, infinities and |x| > [`LARGEST_ADAPTER_VALUE`] among the values of a tensor.
pub fn check_values(tensor: &str, values: &[f32]) -> Result<(), UnhealthyAdapter> {
    // NaN compares with nothing, so being within the limit is what is asked.
    let within = |value: f32| value.abs() <= LARGEST_ADAPTER_VALUE;
    match values.iter().copied().enumerate().find(|(_, value)| !within(*value)) {
        Some((element, value)) => Err(UnhealthyAdapter { tensor: tensor.to_owned(), element, value }),
        None => Ok(()),
    }
}

/// [`check_values`] of every low-rank tensor, magnitude and bias of an adapter, by their names in PEFT's layout.
pub fn check_adapter(adapter: &Adapter) -> Result<(), UnhealthyAdapter> {
    for (path, module) in &adapter.modules {
        check_values(&format!("{path}.lora_A.weight"), &module.lora_a)?;
        check_values(&format!("{path}.lora_B.weight"), &module.lora_b)?;
        check_values(&format!("{path}.lora_magnitude_vector"), module.magnitude.as_deref().unwrap_or_default())?;
        check_values(&format!("{path}.lora_B.bias"), module.lora_b_bias.as_deref().unwrap_or_default())?;
    }
    for (path, embedding) in &adapter.embeddings {
        check_values(&format!("{path}.lora_embedding_A"), &embedding.lora_a)?;
        check_values(&format!("{path}.lora_embedding_B"), &embedding.lora_b)?;
    }
    for (path, bias) in &adapter.biases {
        check_values(&format!("{path}.bias"), bias)?;
    }
    Ok(())
}
