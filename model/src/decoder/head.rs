//! The output head's forward and backward pass, on as many rows as the caller has memory for.

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::{CpuStorage, Error, InplaceOp1, Layout, Result, Tensor};
use rayon::prelude::*;

use super::backward::ModuleGradient;
use super::bound_adapter::BoundAdapter;
use super::cpu_slices::with_values;
use super::saved::SavedProduct;
use super::{Decoder, ModelError};

/// The head's products for some rows of the last stream, to be overwritten with their gradient.
#[derive(Debug)]
pub struct HeadPass {
    normal: Tensor,
    pre_magnitude: Option<Tensor>,
    products: Tensor,
}

impl HeadPass {
    /// What `visit` makes of every row of products, `[vocab]`, which it may change; it gets the row's index, on all
    /// cores.
    pub fn map_rows<R: Send>(&self, visit: impl Fn(usize, &mut [f32]) -> R + Sync) -> Result<Vec<R>> {
        let columns = self.products.dim(1)?.max(1);
        with_values_mut(&self.products, |values| {
            values.par_chunks_exact_mut(columns).enumerate().map(|(row, values)| visit(row, values)).collect()
        })
    }

    /// The pass of some of its rows, ascending; the others are lost.
    pub fn keep(self, rows: &[usize]) -> Result<Self> {
        let (count, columns) = self.products.dims2()?;
        if rows.len() == count {
            return Ok(self);
        }
        with_values_mut(&self.products, |values| {
            for (place, row) in rows.iter().enumerate() {
                values.copy_within(row * columns..(row + 1) * columns, place * columns);
            }
        })?;
        let indices: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        let indices = Tensor::new(indices.as_slice(), self.products.device())?;
        Ok(Self {
            normal: self.normal.index_select(&indices, 0)?,
            pre_magnitude: self.pre_magnitude.map(|rows| rows.index_select(&indices, 0)).transpose()?,
            products: self.products.narrow(0, 0, rows.len())?,
        })
    }
}

impl Decoder {
    /// Final norm and head on rows of the last stream, `[rows, width]`: `[rows, vocab]`, before any soft-cap.
    pub fn head_forward(
        &self,
        stream: &Tensor,
        variant: Option<&BoundAdapter>,
    ) -> std::result::Result<HeadPass, ModelError> {
        let normal = self.final_norm.run(stream, variant)?;
        let SavedProduct { output, pre_magnitude } = self.head.run(&normal, variant)?;
        Ok(HeadPass { normal, pre_magnitude, products: output })
    }

    /// Gradient of those rows of the stream, once the products have been overwritten with theirs; the head's own
    /// adapter's is added to `modules`.
    pub fn head_backward(
        &self,
        stream: &Tensor,
        pass: &HeadPass,
        variant: Option<&BoundAdapter>,
        modules: &mut BTreeMap<String, ModuleGradient>,
    ) -> std::result::Result<Vec<f32>, ModelError> {
        let mut into = vec![0.0; stream.elem_count()];
        with_values_mut(&pass.products, |gradient| {
            self.head.backward(&pass.normal, pass.pre_magnitude.as_ref(), gradient, variant, Some(&mut into), modules)
        })??;
        with_values(stream, |stream| self.final_norm.backward(stream, &mut into, variant))?;
        Ok(into)
    }
}

/// Runs `f` on the values of a contiguous CPU tensor of f32, which it may change.
fn with_values_mut<R>(tensor: &Tensor, f: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
    let change = Change { f: RefCell::new(Some(f)), result: RefCell::new(None) };
    tensor.inplace_op1(&change)?;
    change.result.into_inner().ok_or_else(|| Error::Msg("expected a tensor on the CPU".into()))
}

/// A closure as an operation of the tensor library, which alone hands out storage to be changed.
struct Change<F, R> {
    f: RefCell<Option<F>>,
    result: RefCell<Option<R>>,
}

impl<R, F: FnOnce(&mut [f32]) -> R> InplaceOp1 for Change<F, R> {
    fn name(&self) -> &'static str {
        "change of values"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(values), Some((start, end)), Some(f)) =
            (storage, layout.contiguous_offsets(), self.f.take())
        else {
            return Err(Error::Msg("expected contiguous values of f32".into()));
        };
        self.result.replace(Some(f(&mut values[start..end])));
        Ok(())
    }
}
