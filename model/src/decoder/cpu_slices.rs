//! Slices behind CPU tensors: what the fast paths of the decoder compute on.

use candle_core::{Error, Result, Storage, Tensor};
use rayon::prelude::*;

/// Runs `f` on the values of a CPU tensor of f32, row-major.
pub fn with_values<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    with_all_values(&[tensor], |values| f(values[0]))
}

/// Runs `f` on the values of several CPU tensors of f32, row-major.
pub fn with_all_values<R>(tensors: &[&Tensor], f: impl FnOnce(&[&[f32]]) -> R) -> Result<R> {
    let contiguous = tensors.iter().map(|tensor| tensor.contiguous()).collect::<Result<Vec<_>>>()?;
    let guards: Vec<_> = contiguous.iter().map(Tensor::storage_and_layout).collect();
    let mut values = Vec::with_capacity(guards.len());
    for (storage, layout) in &guards {
        let Storage::Cpu(storage) = &**storage else { return Err(Error::Msg("expected a tensor on the CPU".into())) };
        let (start, end) =
            layout.contiguous_offsets().ok_or_else(|| Error::Msg("expected a contiguous tensor".into()))?;
        values.push(&storage.as_slice::<f32>()?[start..end]);
    }
    Ok(f(&values))
}

/// left + right, on all cores where they are on the CPU.
pub(crate) fn add(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    const TASK_VALUES: usize = 1 << 15;
    if !left.device().is_cpu() {
        return left + right;
    }
    let columns = left.dim(1)?;
    let values = with_all_values(&[left, right], |both| {
        let mut out = vec![0.0; both[0].len()];
        let sources = both[0].par_chunks(TASK_VALUES).zip(both[1].par_chunks(TASK_VALUES));
        out.par_chunks_mut(TASK_VALUES).zip(sources).for_each(|(out, (left, right))| {
            out.iter_mut().zip(left.iter().zip(right)).for_each(|(sum, (left, right))| *sum = left + right);
        });
        out
    })?;
    matrix(values, columns)
}

/// A CPU tensor `[rows, columns]` from its values.
pub(crate) fn matrix(values: Vec<f32>, columns: usize) -> Result<Tensor> {
    let rows = values.len() / columns.max(1);
    Tensor::from_vec(values, (rows, columns), &candle_core::Device::Cpu)
}
