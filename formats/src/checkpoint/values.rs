//! A tensor made of values instead of read from a file: what a null of an adapter carries where the adapter carries a
//! whole tensor.

use std::sync::Arc;

use super::{Content, Dtype, MappedFile, Weight};

impl Weight {
    /// A tensor in memory with this one's name and path; `values` are its elements, row-major, in f32.
    ///
    /// Returns `None` where their number is not that of the shape.
    pub fn with_values(&self, shape: &[usize], values: &[f32]) -> Option<Self> {
        if shape.iter().product::<usize>() != values.len() {
            return None;
        }
        let map: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let bytes = 0..map.len();
        let file = Arc::new(MappedFile { path: self.file.path.clone(), map: Content::Held(map) });
        Some(Self { file, name: self.name.clone(), dtype: Dtype::F32, shape: shape.to_vec(), bytes })
    }
}
