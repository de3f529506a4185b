//! Adapters taken together, as a server that has loaded several of them applies them: W + Σ ΔWᵢ.
//!
//! Low-rank changes of one module stand beside each other in one of the sum of their ranks, BA = (B₁ B₂)(A₁; A₂), so
//! nothing is multiplied out. Two changes of one module that are no sums of low rank (DoRA's rescaled rows, tensors
//! that replace the base's) have no such sum, and libraries apply them in one order or another: they are refused.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Adapter, EmbeddingLowRank, LowRank, module_of};

/// Two adapters that change one module in ways that have no sum.
#[derive(Debug, thiserror::Error)]
#[error(
    "{first} and {second} both change `{module}`, and not both by a low-rank sum: what they are together depends on the \
     order in which a library applies them. Merge one of them into the base and audit the other on that"
)]
pub struct NotStackable {
    /// File.
    pub first: PathBuf,
    /// The other file.
    pub second: PathBuf,
    /// Module of the base.
    pub module: String,
}

impl Adapter {
    /// This adapter and another as one, on the same base.
    ///
    /// # Errors
    /// Where both change a module and one of them otherwise than by a low-rank sum.
    pub fn beside(&self, other: &Self) -> Result<Self, NotStackable> {
        let refused = |module: &str| NotStackable {
            first: self.path.clone(),
            second: other.path.clone(),
            module: module.to_owned(),
        };
        if let Some(module) = other.changed_whole().find(|module| self.changes(module)) {
            return Err(refused(module));
        }
        if let Some(module) = self.changed_whole().find(|module| other.changes(module)) {
            return Err(refused(module));
        }
        let mut both = self.clone();
        for (path, module) in &other.modules {
            let sum = match self.modules.get(path) {
                Some(own) => Arc::new(own.beside(module).ok_or_else(|| refused(path))?),
                None => Arc::clone(module),
            };
            both.modules.insert(path.clone(), sum);
        }
        for (path, table) in &other.embeddings {
            let sum = match self.embeddings.get(path) {
                Some(own) => own.beside(table).ok_or_else(|| refused(path))?,
                None => table.clone(),
            };
            both.embeddings.insert(path.clone(), sum);
        }
        both.modules_to_save.extend(other.modules_to_save.clone());
        both.biases.extend(other.biases.clone());
        both.bias_tensors.extend(other.bias_tensors.clone());
        both.tensors_in_file += other.tensors_in_file;
        both.parameters += other.parameters;
        Ok(both)
    }

    /// Modules that get other tensors than the base's.
    fn changed_whole(&self) -> impl Iterator<Item = &str> {
        self.modules_to_save.keys().map(|name| module_of(name)).chain(self.biases.keys().map(String::as_str))
    }

    /// Whether anything is changed about a module.
    fn changes(&self, module: &str) -> bool {
        self.modules.contains_key(module)
            || self.embeddings.contains_key(module)
            || self.changed_whole().any(|changed| changed == module)
    }
}

impl LowRank {
    /// The sum of both changes; `None` where one rescales rows, or they are of different weights.
    fn beside(&self, other: &Self) -> Option<Self> {
        let is_sum = self.magnitude.is_none() && other.magnitude.is_none();
        if !is_sum || (self.inputs, self.outputs) != (other.inputs, other.outputs) {
            return None;
        }
        let bias = |module: &Self| -> Vec<f32> {
            let own = module.lora_b_bias.as_ref();
            let scaled = own.map(|bias| bias.iter().map(|value| times(*value, module.scale)).collect());
            scaled.unwrap_or_else(|| vec![0.0; module.outputs])
        };
        let has_bias = self.lora_b_bias.is_some() || other.lora_b_bias.is_some();
        let sum = || bias(self).iter().zip(bias(other)).map(|(own, other)| own + other).collect();
        Some(Self {
            rank: self.rank + other.rank,
            alpha: (self.rank + other.rank) as f64,
            scale: 1.0,
            lora_a: [self.lora_a.as_slice(), &other.lora_a].concat(),
            lora_b: columns_beside((&self.lora_b, self.rank, self.scale), (&other.lora_b, other.rank, other.scale)),
            lora_b_bias: has_bias.then(sum),
            tensor_names: [self.tensor_names.as_slice(), &other.tensor_names].concat(),
            ..self.clone()
        })
    }
}

impl EmbeddingLowRank {
    /// The sum of both changes; `None` where they are of different tables.
    fn beside(&self, other: &Self) -> Option<Self> {
        ((self.rows, self.width) == (other.rows, other.width)).then(|| Self {
            rank: self.rank + other.rank,
            alpha: (self.rank + other.rank) as f64,
            scale: 1.0,
            lora_a: [self.lora_a.as_slice(), &other.lora_a].concat(),
            lora_b: columns_beside((&self.lora_b, self.rank, self.scale), (&other.lora_b, other.rank, other.scale)),
            tensor_names: [self.tensor_names.as_slice(), &other.tensor_names].concat(),
            ..self.clone()
        })
    }
}

/// (s₁B₁ s₂B₂), each B row-major and given with its rank and scale.
fn columns_beside(first: (&[f32], usize, f64), second: (&[f32], usize, f64)) -> Vec<f32> {
    let pairs = first.0.chunks_exact(first.1.max(1)).zip(second.0.chunks_exact(second.1.max(1)));
    let row = |(own, other): (&[f32], &[f32])| -> Vec<f32> {
        let own = own.iter().map(|value| times(*value, first.2));
        own.chain(other.iter().map(|value| times(*value, second.2))).collect()
    };
    pairs.flat_map(row).collect()
}

fn times(value: f32, scale: f64) -> f32 {
    (f64::from(value) * scale) as f32
}
