//! The moments in a safetensors file, so that a resumed run takes the very next step of the interrupted one.
//!
//! Each tensor `name` is stored as `name.exp_avg` and `name.exp_avg_sq` (f32, one dimension, the names that PyTorch has
//! for m and v), the number of steps in the header's metadata. Reading back refuses a file that lacks a tensor, holds
//! one too many, or has one of another length: a moment given to the wrong tensor would go unnoticed for hundreds of
//! steps.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use lcr_formats::checkpoint::{SafetensorsFile, Weight};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::{AdamW, OptimizerError};

/// Key of the header's metadata under which the number of steps stands.
const STEPS: &str = "steps";

impl AdamW {
    /// Writes the moments and the number of steps to `path`.
    pub fn save(&self, path: &Path) -> Result<(), OptimizerError> {
        let failed = |reason: &dyn std::fmt::Display| OptimizerError::Write {
            path: path.to_path_buf(),
            reason: reason.to_string(),
        };
        let bytes = self.stored();
        let mut views = Vec::with_capacity(bytes.len());
        for (name, bytes) in &bytes {
            let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes).map_err(|error| failed(&error))?;
            views.push((name.as_str(), view));
        }
        let metadata = HashMap::from([(STEPS.to_owned(), self.steps.to_string())]);
        let file = safetensors::serialize(views, Some(metadata)).map_err(|error| failed(&error))?;
        lcr_documents::write::replace(path, &file).map_err(|error| failed(&error))
    }

    fn stored(&self) -> BTreeMap<String, Vec<u8>> {
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let mut stored = BTreeMap::new();
        for (name, moments) in self.names.iter().zip(&self.moments) {
            stored.insert(format!("{name}.exp_avg"), bytes(&moments.first));
            stored.insert(format!("{name}.exp_avg_sq"), bytes(&moments.second));
        }
        stored
    }

    /// Takes moments and number of steps from a file that [`AdamW::save`] wrote for the same tensors. On an error the
    /// optimizer is as it was.
    pub fn restore(&mut self, path: &Path) -> Result<(), OptimizerError> {
        let foreign = |reason: String| OptimizerError::Foreign { path: path.to_path_buf(), reason };
        let file = SafetensorsFile::open(path)?;
        let steps = file
            .metadata()
            .get(STEPS)
            .and_then(|steps| steps.parse().ok())
            .ok_or_else(|| foreign(format!("the metadata have no number `{STEPS}`")))?;
        let mut tensors: BTreeMap<&str, &Weight> =
            file.tensors().iter().map(|tensor| (tensor.name(), tensor)).collect();
        let mut restored = self.moments.clone();
        for (name, moments) in self.names.iter().zip(&mut restored) {
            for (suffix, values) in [("exp_avg", &mut moments.first), ("exp_avg_sq", &mut moments.second)] {
                let stored = format!("{name}.{suffix}");
                let tensor =
                    tensors.remove(stored.as_str()).ok_or_else(|| foreign(format!("tensor `{stored}` is missing")))?;
                if tensor.shape() != [values.len()] {
                    let (found, expected) = (tensor.shape(), values.len());
                    return Err(foreign(format!("tensor `{stored}` has shape {found:?}, expected [{expected}]")));
                }
                *values = tensor.to_finite_f32()?;
            }
        }
        if let Some(name) = tensors.keys().next() {
            return Err(foreign(format!("tensor `{name}` belongs to no parameter of this run")));
        }
        self.moments = restored;
        self.steps = steps;
        Ok(())
    }
}
