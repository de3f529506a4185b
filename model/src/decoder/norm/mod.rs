//! RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016) over the width of the stream.

mod backward;

use candle_core::{D, Device, Result, Tensor};
use lcr_formats::config::Norm;
use rayon::prelude::*;

use super::bound_adapter::{BoundAdapter, ModuleId};
use super::branches::Branches;
use super::cpu_slices::{matrix, with_values};

/// Rows that one task normalises at least.
const TASK_ROWS: usize = 16;
/// Values of one task at least: fewer are done before another core has woken.
const TASK_VALUES: usize = 1 << 13;

/// A normalisation with its path, so that an adapter can carry another one in its place.
#[derive(Debug)]
pub(crate) struct NormModule {
    /// By which adapters know it.
    pub(crate) id: ModuleId,
    pub(crate) path: String,
    parameters: NormParameters,
}

impl NormModule {
    pub(crate) fn new(id: ModuleId, path: String, kind: Norm, gain: Vec<f32>, bias: Option<Vec<f32>>) -> Self {
        Self { id, path, parameters: NormParameters::new(kind, gain, bias) }
    }

    pub(crate) fn width(&self) -> usize {
        self.parameters.gain.len()
    }

    /// The parameters a variant has in place of the base's.
    fn changed(&self, variant: Option<&BoundAdapter>) -> Option<NormParameters> {
        let module = variant?.module(self.id)?;
        let (gain, bias) = (module.replaced(), module.bias());
        if gain.is_none() && bias.is_none() {
            return None;
        }
        let mut parameters = match gain {
            Some(gain) => NormParameters::new(self.parameters.kind, gain.to_f32(), self.parameters.bias.clone()),
            None => self.parameters.clone(),
        };
        if let Some(bias) = bias {
            parameters.bias = Some(bias.to_vec());
        }
        Some(parameters)
    }

    /// Normalised rows of one model.
    pub(super) fn run(&self, x: &Tensor, variant: Option<&BoundAdapter>) -> Result<Tensor> {
        Ok(self.forward(&Branches::shared(x.clone(), 1), &[variant])?.model(0).clone())
    }

    /// Normalised rows of every model.
    pub(crate) fn forward(&self, x: &Branches, variants: &[Option<&BoundAdapter>]) -> Result<Branches> {
        let changes: Vec<Option<NormParameters>> = variants.iter().map(|variant| self.changed(*variant)).collect();
        if changes.iter().all(Option::is_none) {
            return x.map(|rows| self.parameters.apply(rows));
        }
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut branches: Vec<Option<usize>> = vec![None; x.tensors().len()];
        let mut of_model = Vec::with_capacity(variants.len());
        for (model, change) in changes.iter().enumerate() {
            let source = x.of_model()[model];
            let branch = match (change, branches[source]) {
                (None, Some(branch)) => branch,
                (change, _) => {
                    let parameters = change.as_ref().unwrap_or(&self.parameters);
                    tensors.push(parameters.apply(x.model(model))?);
                    tensors.len() - 1
                }
            };
            if change.is_none() {
                branches[source] = Some(branch);
            }
            of_model.push(branch);
        }
        Ok(Branches::new(tensors, of_model))
    }
}

/// The parameters of one normalisation.
#[derive(Debug, Clone)]
pub(crate) struct NormParameters {
    pub(crate) kind: Norm,
    /// `[width]`, with the family's offset already added.
    pub(crate) gain: Vec<f32>,
    /// `[width]`; LayerNorm only.
    pub(crate) bias: Option<Vec<f32>>,
}

impl NormParameters {
    /// From the stored gain and bias.
    pub(crate) fn new(kind: Norm, mut gain: Vec<f32>, bias: Option<Vec<f32>>) -> Self {
        if let Norm::Rms { offset, .. } = kind
            && offset != 0.0
        {
            gain.iter_mut().for_each(|value| *value += offset);
        }
        Self { kind, gain, bias }
    }

    /// Normalises every group of `gain.len()` values: rows of the stream, or the heads inside a row.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() { self.on_host(x) } else { self.composed(x) }
    }

    fn on_host(&self, x: &Tensor) -> Result<Tensor> {
        let columns = x.dim(1)?;
        let width = self.gain.len();
        let values = with_values(x, |values| {
            let mut out = vec![0.0; values.len()];
            let task = TASK_ROWS.max(TASK_VALUES / width.max(1)) * width;
            out.par_chunks_mut(task).zip(values.par_chunks(task)).for_each(|(out, values)| {
                for (y, row) in out.chunks_exact_mut(width).zip(values.chunks_exact(width)) {
                    self.normalise(row, y);
                }
            });
            out
        })?;
        matrix(values, columns)
    }

    fn normalise(&self, row: &[f32], out: &mut [f32]) {
        // In f64: an error of the scale would shift a whole row, and every score that it enters.
        let width = row.len() as f64;
        match self.kind {
            Norm::Rms { eps, .. } => {
                let square = sum_of_squares(row, 0.0) / width;
                let scale = (square + f64::from(eps)).sqrt().recip();
                for ((y, value), gain) in out.iter_mut().zip(row).zip(&self.gain) {
                    *y = (f64::from(*value) * scale * f64::from(*gain)) as f32;
                }
            }
            Norm::Layer { eps } => {
                let mean = row.iter().map(|value| f64::from(*value)).sum::<f64>() / width;
                let scale = (sum_of_squares(row, mean) / width + f64::from(eps)).sqrt().recip();
                for (column, (y, value)) in out.iter_mut().zip(row).enumerate() {
                    let bias = self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]));
                    *y = ((f64::from(*value) - mean) * scale * f64::from(self.gain[column]) + bias) as f32;
                }
            }
        }
    }

    /// The same out of tensor operations, for devices other than the CPU.
    pub(crate) fn composed(&self, x: &Tensor) -> Result<Tensor> {
        let shape = x.shape().clone();
        let width = self.gain.len();
        let vector = |values: &[f32]| Tensor::from_slice(values, width, x.device());
        let rows = x.reshape(((), width))?;
        let normal = match self.kind {
            Norm::Rms { eps, .. } => {
                let mean_square = rows.sqr()?.mean_keepdim(D::Minus1)?;
                rows.broadcast_div(&(mean_square + f64::from(eps))?.sqrt()?)?
            }
            Norm::Layer { eps } => {
                let centred = rows.broadcast_sub(&rows.mean_keepdim(D::Minus1)?)?;
                let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
                centred.broadcast_div(&(variance + f64::from(eps))?.sqrt()?)?
            }
        };
        let scaled = normal.broadcast_mul(&vector(&self.gain)?)?;
        let out = match &self.bias {
            Some(bias) => scaled.broadcast_add(&vector(bias)?)?,
            None => scaled,
        };
        out.reshape(shape)
    }
}

/// Σ(x − mean)² in eight partial sums, which the compiler keeps in vector registers.
fn sum_of_squares(row: &[f32], mean: f64) -> f64 {
    let mut sums = [0.0; 8];
    let chunks = row.chunks_exact(8);
    let tail: f64 = chunks.remainder().iter().map(|value| (f64::from(*value) - mean).powi(2)).sum();
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            let centred = f64::from(*value) - mean;
            *sum += centred * centred;
        }
    }
    sums.iter().sum::<f64>() + tail
}

/// A `[1, width]` tensor on `device`, for broadcasting over rows.
pub(crate) fn row(values: &[f32], device: &Device) -> Result<Tensor> {
    Tensor::from_slice(values, (1, values.len()), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(left: &Tensor, right: &Tensor) -> f32 {
        (left - right).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn host_path_equals_composed_path() {
        let x = Tensor::randn(0.5f32, 2.0, (37, 24), &Device::Cpu).unwrap();
        let gain: Vec<f32> = (0..24).map(|column| 1.0 + column as f32 * 0.01).collect();
        for kind in [Norm::Rms { eps: 1e-6, offset: 1.0 }, Norm::Layer { eps: 1e-5 }] {
            let bias = matches!(kind, Norm::Layer { .. }).then(|| gain.clone());
            let norm = NormParameters::new(kind, gain.clone(), bias);
            assert!(difference(&norm.on_host(&x).unwrap(), &norm.composed(&x).unwrap()) < 1e-5);
        }
    }

    #[test]
    fn heads_are_normalised_one_by_one() {
        let norm = NormParameters::new(Norm::Rms { eps: 0.0, offset: 0.0 }, vec![1.0; 2], None);
        let x = Tensor::new(&[[3.0f32, 4.0, 0.0, 2.0]], &Device::Cpu).unwrap();
        let y = norm.apply(&x).unwrap().to_vec2::<f32>().unwrap();
        let root = 12.5f32.sqrt();
        let expected = [3.0 / root, 4.0 / root, 0.0, 2.0f32.sqrt()];
        assert!(y[0].iter().zip(expected).all(|(value, expected)| (value - expected).abs() < 1e-6), "{y:?}");
    }
}
