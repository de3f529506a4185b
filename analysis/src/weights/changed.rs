//! Tensors that an adapter changes: W as it is stored, and ΔW in blocks, whatever kind of change it is.

use std::collections::BTreeMap;
use std::ops::Range;

use faer::{Accum, Mat, Par};
use lcr_formats::adapter::LowRank;
use lcr_formats::checkpoint::Weight;
use lcr_model::decoder::{BoundAdapter, Decoder};

/// f64 values of one slab: 8 MiB.
const SLAB_VALUES: usize = 1 << 20;

/// One changed tensor and how it changed.
#[derive(Debug)]
pub struct ChangedTensor<'a> {
    /// `<module path>.weight` or `<module path>.bias`.
    pub name: String,
    /// W as stored; absent where the base has no such tensor.
    pub(super) base: Source<'a>,
    pub(super) change: Change<'a>,
    /// Outputs and inputs of W in the sense of y = xWᵀ.
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    /// Of a vector: the weight of the base whose outputs it is added to or, of a norm's weights, which they multiply.
    pub(super) joins: Option<&'a Weight>,
}

#[derive(Debug)]
pub(super) enum Source<'a> {
    Stored { weight: &'a Weight, transposed: bool },
    Values(Vec<f32>),
}

#[derive(Debug)]
pub(super) enum Change<'a> {
    /// ΔW = sBA.
    LowRank(&'a LowRank),
    /// The same of an embedding, whose table is the transpose of what BA gives.
    Owned(Box<LowRank>),
    /// W' = diag(ratio)(W + sBA).
    Dora { low_rank: &'a LowRank, ratio: &'a [f32] },
    /// W' = another tensor.
    Whole { weight: &'a Weight, transposed: bool },
    /// W' = other values.
    Values(&'a [f32]),
    /// The same, computed here.
    OwnedValues(Vec<f32>),
}

impl Source<'_> {
    /// Rows × columns `[row, row + rows) × [column, column + columns)` of W, row-major, into `out`.
    fn block(&self, shape: [usize; 2], rows: Range<usize>, columns: Range<usize>, out: &mut [f64]) {
        match self {
            Self::Stored { weight, transposed } => stored_block(weight, *transposed, shape, rows, columns, out),
            Self::Values(values) => {
                let width = columns.len();
                for (at, row) in rows.enumerate() {
                    let source = &values[row * shape[1]..][columns.clone()];
                    out[at * width..(at + 1) * width].iter_mut().zip(source).for_each(|(out, v)| *out = f64::from(*v));
                }
            }
        }
    }
}

/// A block of a stored matrix in the orientation `[outputs, inputs]`.
fn stored_block(
    weight: &Weight,
    transposed: bool,
    shape: [usize; 2],
    rows: Range<usize>,
    columns: Range<usize>,
    out: &mut [f64],
) {
    let width = columns.len();
    if transposed {
        let mut line = vec![0.0; rows.len()];
        for (at, column) in columns.enumerate() {
            weight.widen(column * shape[0] + rows.start..column * shape[0] + rows.end, &mut line);
            line.iter().enumerate().for_each(|(row, value)| out[row * width + at] = f64::from(*value));
        }
    } else {
        let mut line = vec![0.0; width];
        for (at, row) in rows.enumerate() {
            weight.widen(row * shape[1] + columns.start..row * shape[1] + columns.end, &mut line);
            out[at * width..(at + 1) * width].iter_mut().zip(&line).for_each(|(out, value)| *out = f64::from(*value));
        }
    }
}

/// Every tensor that a variant changes, in the order of their names' layers.
pub fn changed_tensors<'a>(decoder: &'a Decoder, variant: &'a BoundAdapter) -> Vec<ChangedTensor<'a>> {
    let adapter = variant.adapter();
    let mut found: BTreeMap<String, ChangedTensor<'a>> = BTreeMap::new();
    for (path, low_rank) in &adapter.modules {
        let name = format!("{path}.weight");
        let Some((weight, transposed)) = decoder.linear_weight(path) else { continue };
        let change = match (variant.ratio_of(decoder, path), adapter.modules_to_save.get(&name)) {
            (Some(ratio), _) => Change::Dora { low_rank, ratio },
            (None, _) => Change::LowRank(low_rank),
        };
        let base = Source::Stored { weight, transposed };
        let (outputs, inputs) = (low_rank.outputs, low_rank.inputs);
        found.insert(name.clone(), ChangedTensor { name, base, change, outputs, inputs, joins: None });
        if let Some(lora_b_bias) = low_rank.lora_b_bias.as_ref().filter(|_| !adapter.biases.contains_key(path)) {
            let name = format!("{path}.bias");
            let base = decoder.tensor(&name).map_or_else(|| vec![0.0; outputs], Weight::to_f32);
            let scale = low_rank.scale as f32;
            let adapted = base.iter().zip(lora_b_bias).map(|(base, bias)| base + scale * bias).collect();
            let (base, change) = (Source::Values(base), Change::OwnedValues(adapted));
            let joins = Some(weight);
            found.insert(name.clone(), ChangedTensor { name, base, change, outputs: 1, inputs: outputs, joins });
        }
    }
    for (path, embedding) in &adapter.embeddings {
        let name = format!("{path}.weight");
        let Some(weight) = decoder.tensor(&name) else { continue };
        let base = Source::Stored { weight, transposed: false };
        let change = Change::Owned(Box::new(as_table(embedding)));
        found.insert(
            name.clone(),
            ChangedTensor { name, base, change, outputs: embedding.rows, inputs: embedding.width, joins: None },
        );
    }
    for (name, whole) in
        adapter.modules_to_save.iter().filter(|(name, _)| !found.contains_key(*name)).collect::<Vec<_>>()
    {
        let Some(weight) = decoder.tensor(name) else { continue };
        let path = name.trim_end_matches(".weight");
        let transposed = decoder.linear_weight(path).is_some_and(|(_, transposed)| transposed);
        let (outputs, inputs) = match (whole.shape.as_slice(), transposed) {
            ([rows, columns], false) => (*rows, *columns),
            ([rows, columns], true) => (*columns, *rows),
            _ => (1, whole.weight.len()),
        };
        let base = Source::Stored { weight, transposed };
        let change = Change::Whole { weight: &whole.weight, transposed };
        let joins = (outputs == 1).then_some(weight);
        found.insert(name.clone(), ChangedTensor { name: name.clone(), base, change, outputs, inputs, joins });
    }
    for (path, values) in &adapter.biases {
        let name = format!("{path}.bias");
        let base = decoder.tensor(&name).map_or_else(|| vec![0.0; values.len()], Weight::to_f32);
        let (outputs, inputs) = (1, values.len());
        let change = Change::Values(values);
        let own = || decoder.tensor(&format!("{path}.weight"));
        let joins = decoder.linear_weight(path).map(|(weight, _)| weight).or_else(own);
        found.insert(name.clone(), ChangedTensor { name, base: Source::Values(base), change, outputs, inputs, joins });
    }
    let mut tensors: Vec<ChangedTensor> = found.into_values().collect();
    tensors.sort_by_key(|left| natural_key(&left.name));
    tensors
}

/// Names compared with their numbers as numbers: layer 2 comes before layer 10.
pub(crate) fn natural_key(name: &str) -> Vec<(usize, String)> {
    name.split('.').map(|part| (part.parse().unwrap_or(usize::MAX), part.to_owned())).collect()
}

/// An embedding's change as one of its table `[tokens, width]`: (BA)ᵀ = AᵀBᵀ.
fn as_table(embedding: &lcr_formats::adapter::EmbeddingLowRank) -> LowRank {
    let transpose = |values: &[f32], rows: usize, columns: usize| -> Vec<f32> {
        (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
    };
    let (rank, rows, width) = (embedding.rank, embedding.rows, embedding.width);
    LowRank {
        lora_a: transpose(&embedding.lora_b, width, rank),
        lora_b: transpose(&embedding.lora_a, rank, rows),
        inputs: width,
        outputs: rows,
        ..embedding.as_low_rank()
    }
}

impl ChangedTensor<'_> {
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.outputs, self.inputs]
    }

    pub(super) fn low_rank(&self) -> Option<&LowRank> {
        match &self.change {
            Change::LowRank(low_rank) => Some(low_rank),
            Change::Owned(low_rank) => Some(low_rank),
            _ => None,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self.change {
            Change::LowRank(_) | Change::Owned(_) | Change::OwnedValues(_) => "lora",
            Change::Dora { .. } => "dora",
            Change::Whole { .. } | Change::Values(_) => "whole",
        }
    }

    /// Whether the columns are the shorter side.
    pub(super) fn is_tall(&self) -> bool {
        self.outputs > self.inputs
    }

    /// ΔW of a block whose W is given, both row-major.
    fn change_block(&self, rows: Range<usize>, columns: Range<usize>, base: &[f64], out: &mut [f64]) {
        match &self.change {
            Change::LowRank(low_rank) => low_rank_block(low_rank, rows, columns, out),
            Change::Owned(low_rank) => low_rank_block(low_rank, rows, columns, out),
            Change::Dora { low_rank, ratio } => {
                let width = columns.len();
                low_rank_block(low_rank, rows.clone(), columns, out);
                for (at, row) in rows.enumerate() {
                    let ratio = f64::from(ratio[row]);
                    let line = &mut out[at * width..(at + 1) * width];
                    line.iter_mut().zip(&base[at * width..]).for_each(|(d, w)| *d = ratio * *d + (ratio - 1.0) * w);
                }
            }
            Change::Whole { weight, transposed } => {
                stored_block(weight, *transposed, self.shape(), rows, columns, out);
                out.iter_mut().zip(base).for_each(|(d, w)| *d -= w);
            }
            Change::Values(values) => difference(&values[columns], base, out),
            Change::OwnedValues(values) => difference(&values[columns], base, out),
        }
    }

    /// Walks W in slabs along its longer side: `visit(rows, columns, W, ΔW)`, both row-major.
    pub(super) fn for_each_slab(&self, mut visit: impl FnMut(Range<usize>, Range<usize>, &[f64], &[f64])) {
        let (outputs, inputs) = (self.outputs, self.inputs);
        let (long, short) = (outputs.max(inputs), outputs.min(inputs));
        let step = (SLAB_VALUES / short.max(1)).clamp(1, long.max(1));
        let (mut base, mut change) = (Vec::new(), Vec::new());
        for start in (0..long).step_by(step) {
            let part = start..(start + step).min(long);
            let (rows, columns) = if self.is_tall() { (part, 0..inputs) } else { (0..outputs, part) };
            base.resize(rows.len() * columns.len(), 0.0);
            change.resize(base.len(), 0.0);
            self.base.block(self.shape(), rows.clone(), columns.clone(), &mut base);
            self.change_block(rows.clone(), columns.clone(), &base, &mut change);
            visit(rows, columns, &base, &change);
        }
    }
}

/// out = values − base.
fn difference(values: &[f32], base: &[f64], out: &mut [f64]) {
    for (d, (value, w)) in out.iter_mut().zip(values.iter().zip(base)) {
        *d = f64::from(*value) - w;
    }
}

/// s·(BA) of a block, row-major.
fn low_rank_block(low_rank: &LowRank, rows: Range<usize>, columns: Range<usize>, out: &mut [f64]) {
    let rank = low_rank.rank;
    let lora_b =
        Mat::from_fn(rows.len(), rank, |row, inner| f64::from(low_rank.lora_b[(rows.start + row) * rank + inner]));
    let lora_a = Mat::from_fn(rank, columns.len(), |inner, column| {
        f64::from(low_rank.lora_a[inner * low_rank.inputs + columns.start + column])
    });
    let target = faer::MatMut::from_row_major_slice_mut(out, rows.len(), columns.len());
    faer::linalg::matmul::matmul(target, Accum::Replace, lora_b.as_ref(), lora_a.as_ref(), low_rank.scale, Par::Seq);
}
