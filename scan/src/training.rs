//! What this program's own trainer keeps beside a checkpoint: moments of the adapter's tensors, told by names, lengths
//! and shapes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lcr_formats::checkpoint::{Dtype, SafetensorsFile};

use crate::limits::Limits;

/// What the names of moments end in, behind the name of the tensor that they are of.
const MOMENTS: [&str; 2] = [".exp_avg", ".exp_avg_sq"];

/// Whether a tensor file holds moments of the adapter's tensors and nothing else: for each tensor two, in f32, of one
/// dimension and as many elements. No loader can take a vector for a factor, whatever its name.
pub(crate) fn is_state_of(path: &Path, adapter: impl Iterator<Item = PathBuf>, limits: &Limits) -> bool {
    let Ok(state) = SafetensorsFile::open_within(path, limits.header_bytes) else { return false };
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    for file in adapter {
        let Ok(file) = SafetensorsFile::open_within(&file, limits.header_bytes) else { return false };
        for tensor in file.tensors() {
            expected.extend(MOMENTS.iter().map(|moment| (format!("{}{moment}", tensor.name()), tensor.len())));
        }
    }
    let is_moment = |tensor: &lcr_formats::checkpoint::Weight| {
        tensor.dtype() == Dtype::F32 && tensor.shape().len() == 1 && expected.get(tensor.name()) == Some(&tensor.len())
    };
    !state.tensors().is_empty() && state.tensors().iter().all(is_moment)
}
