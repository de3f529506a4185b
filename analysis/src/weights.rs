//! What an adapter does to the weights, without a forward pass. All of it is a function of ΔW = W' − W alone, so rewriting
//! A → MA, B → BM⁻¹ moves nothing.
//!
//! W is read once, in slabs along its longer side, and never stands in f64 as a whole. Beside sums over entries and rows, a
//! slab adds to three Gram matrices of the shorter side, of W, of ΔW, and between them; every spectral figure comes from
//! those. For a LoRA module the latter two follow from the factors, and ΔW's own spectrum from QR of them (`delta` in
//! `lcr-model`); DoRA's rescaling and whole tensors have no such factors and take the Gram way throughout.

use std::collections::BTreeMap;

use faer::{Accum, Mat, MatRef, Par};
use lcr_model::adapter::{LowRank, delta};
use lcr_model::checkpoint::Weight;
use lcr_model::decoder::{Decoder, Variant};

use crate::audit::{MergeSurvival, RowNormChange, RowRotation, WeightChange};
use crate::linalg::{NoConvergence, eigen, leading_eigenvectors, product};
use crate::spectrum::{RANK_TOLERANCE, exp_entropy};

/// Leading directions of W that a change is held against.
const LEADING: usize = 10;
/// A direction of W' below this |cos| to all of W's is an intruder (Shuttleworth et al. 2024).
const INTRUDER_COSINE: f64 = 0.5;
/// Heaviest rows of ΔW.
const HEAVY_ROWS: usize = 8;
/// Singular values kept for the figures.
const KEPT: usize = 64;
/// f64 values of one slab: 8 MiB.
const SLAB_VALUES: usize = 1 << 20;

/// One changed tensor and how it changed.
#[derive(Debug)]
pub struct ChangedTensor<'a> {
    /// `<module path>.weight` or `<module path>.bias`.
    pub name: String,
    /// W as stored; absent where the base has no such tensor.
    base: Source<'a>,
    change: Change<'a>,
    /// Outputs and inputs of W in the sense of y = xWᵀ.
    outputs: usize,
    inputs: usize,
}

#[derive(Debug)]
enum Source<'a> {
    Stored { weight: &'a Weight, transposed: bool },
    Values(Vec<f32>),
}

#[derive(Debug)]
enum Change<'a> {
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
    fn block(&self, shape: [usize; 2], rows: std::ops::Range<usize>, columns: std::ops::Range<usize>, out: &mut [f64]) {
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
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
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
pub fn changed_tensors<'a>(decoder: &'a Decoder, variant: &'a Variant) -> Vec<ChangedTensor<'a>> {
    let adapter = variant.adapter();
    let mut found: BTreeMap<String, ChangedTensor<'a>> = BTreeMap::new();
    for (path, low_rank) in &adapter.modules {
        let name = format!("{path}.weight");
        let Some((weight, transposed)) = decoder.linear_weight(path) else { continue };
        let change = match (variant.ratio_of(decoder, path), adapter.whole.get(&name)) {
            (Some(ratio), _) => Change::Dora { low_rank, ratio },
            (None, _) => Change::LowRank(low_rank),
        };
        let base = Source::Stored { weight, transposed };
        let (outputs, inputs) = (low_rank.outputs, low_rank.inputs);
        found.insert(name.clone(), ChangedTensor { name, base, change, outputs, inputs });
        if let Some(up_bias) = low_rank.up_bias.as_ref().filter(|_| !adapter.biases.contains_key(path)) {
            let name = format!("{path}.bias");
            let base = decoder.tensor(&name).map_or_else(|| vec![0.0; outputs], Weight::to_f32);
            let scale = low_rank.scale as f32;
            let adapted = base.iter().zip(up_bias).map(|(base, bias)| base + scale * bias).collect();
            let (base, change) = (Source::Values(base), Change::OwnedValues(adapted));
            found.insert(name.clone(), ChangedTensor { name, base, change, outputs: 1, inputs: outputs });
        }
    }
    for (path, embedding) in &adapter.embeddings {
        let name = format!("{path}.weight");
        let Some(weight) = decoder.tensor(&name) else { continue };
        let base = Source::Stored { weight, transposed: false };
        let change = Change::Owned(Box::new(as_table(embedding)));
        found.insert(
            name.clone(),
            ChangedTensor { name, base, change, outputs: embedding.rows, inputs: embedding.width },
        );
    }
    for (name, whole) in adapter.whole.iter().filter(|(name, _)| !found.contains_key(*name)).collect::<Vec<_>>() {
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
        found.insert(name.clone(), ChangedTensor { name: name.clone(), base, change, outputs, inputs });
    }
    for (path, values) in &adapter.biases {
        let name = format!("{path}.bias");
        let base = decoder.tensor(&name).map_or_else(|| vec![0.0; values.len()], Weight::to_f32);
        let (outputs, inputs) = (1, values.len());
        let change = Change::Values(values);
        found.insert(name.clone(), ChangedTensor { name, base: Source::Values(base), change, outputs, inputs });
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
fn as_table(embedding: &lcr_model::adapter::EmbeddingLowRank) -> LowRank {
    let transpose = |values: &[f32], rows: usize, columns: usize| -> Vec<f32> {
        (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
    };
    let (rank, rows, width) = (embedding.rank, embedding.rows, embedding.width);
    LowRank {
        down: transpose(&embedding.up, width, rank),
        up: transpose(&embedding.down, rank, rows),
        inputs: width,
        outputs: rows,
        ..embedding.as_low_rank()
    }
}

/// The measurements of one tensor, and its leading directions for [`coherence`](crate::coherence::coherence).
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Measured {
    /// The report's entry.
    pub change: WeightChange,
    /// Leading left singular vector of ΔW, `[outputs]`; empty where ΔW is zero.
    pub left: Vec<f64>,
    /// Leading right singular vector of ΔW, `[inputs]`.
    pub right: Vec<f64>,
}

/// Sums over entries and rows that one pass over W collects.
#[derive(Debug, Default)]
struct Sums {
    base: Vec<f64>,
    change: Vec<f64>,
    cross: Vec<f64>,
    powers: [f64; 4],
    merged_cross: f64,
    merged: f64,
    merged_entries: usize,
}

/// Gram matrices of the shorter side: between W and ΔW, of ΔW.
struct Grams {
    between: Mat<f64>,
    change: Mat<f64>,
}

/// W's own part of every spectral figure: the Gram matrix of its shorter side and what it decomposes into. Changes of one weight by
/// several adapters share it.
#[derive(Debug)]
pub struct BaseSpectrum {
    shape: [usize; 2],
    gram: Mat<f64>,
    /// Squared singular values of W, descending.
    squares: Vec<f64>,
    /// Singular vectors of the shorter side, as columns.
    vectors: Mat<f64>,
}

/// ΔW's spectrum and the directions it writes and reads.
struct ChangeSpectrum {
    /// σ, descending.
    values: Vec<f64>,
    /// ‖U_10(W)ᵀ U(ΔW)‖_F².
    overlap: f64,
    left: Vec<f64>,
    right: Vec<f64>,
}

/// Singular values of ΔW and its singular vectors on the shorter side of W.
struct ShortSide {
    /// All of them, descending.
    values: Vec<f64>,
    /// Vectors of the values above the rank tolerance, as columns.
    vectors: Mat<f64>,
    /// The leading vector of the longer side, where it is known already.
    other: Option<Vec<f64>>,
}

impl BaseSpectrum {
    /// From the lower triangle of W's Gram matrix.
    fn of(shape: [usize; 2], mut gram: Mat<f64>) -> Result<Self, NoConvergence> {
        mirror(&mut gram);
        let (squares, vectors) = eigen(gram.as_ref())?;
        Ok(Self { shape, gram, squares, vectors })
    }
}

impl ShortSide {
    fn of_factors(low_rank: &LowRank, tall: bool) -> Self {
        let found = delta::leading_directions(low_rank, low_rank.rank);
        let (own, other) = if tall { (&found.right, &found.left) } else { (&found.left, &found.right) };
        let size = if tall { low_rank.inputs } else { low_rank.outputs };
        Self {
            values: delta::singular_values(low_rank),
            vectors: Mat::from_fn(size, own.len(), |row, column| own[column][row]),
            other: Some(other.first().cloned().unwrap_or_default()),
        }
    }

    fn of_gram(gram: &Mat<f64>) -> Result<Self, NoConvergence> {
        let (squares, vectors) = eigen(gram.as_ref())?;
        let first = squares.first().copied().unwrap_or(0.0);
        let rank = squares.iter().take_while(|square| **square > RANK_TOLERANCE.powi(2) * first).count();
        let rank = if first > 0.0 { rank } else { 0 };
        Ok(Self {
            values: squares.iter().map(|square| square.sqrt()).collect(),
            vectors: vectors.subcols(0, rank).to_owned(),
            other: None,
        })
    }
}

impl ChangedTensor<'_> {
    fn shape(&self) -> [usize; 2] {
        [self.outputs, self.inputs]
    }

    fn low_rank(&self) -> Option<&LowRank> {
        match &self.change {
            Change::LowRank(low_rank) => Some(low_rank),
            Change::Owned(low_rank) => Some(low_rank),
            _ => None,
        }
    }

    fn kind(&self) -> &'static str {
        match self.change {
            Change::LowRank(_) | Change::Owned(_) | Change::OwnedValues(_) => "lora",
            Change::Dora { .. } => "dora",
            Change::Whole { .. } | Change::Values(_) => "whole",
        }
    }

    /// ΔW of a block whose W is given, both row-major.
    fn change_block(
        &self,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
        base: &[f64],
        out: &mut [f64],
    ) {
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
    fn for_each_slab(&self, mut visit: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>, &[f64], &[f64])) {
        let mut change = Vec::new();
        self.for_each_base_slab(|rows, columns, base| {
            change.resize(base.len(), 0.0);
            self.change_block(rows.clone(), columns.clone(), base, &mut change);
            visit(rows, columns, base, &change);
        });
    }

    /// The same without ΔW.
    fn for_each_base_slab(&self, mut visit: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>, &[f64])) {
        let (outputs, inputs) = (self.outputs, self.inputs);
        let (long, short) = (outputs.max(inputs), outputs.min(inputs));
        let step = (SLAB_VALUES / short.max(1)).clamp(1, long.max(1));
        for start in (0..long).step_by(step) {
            let part = start..(start + step).min(long);
            let (rows, columns) = if outputs > inputs { (part, 0..inputs) } else { (0..outputs, part) };
            let mut base = vec![0.0; rows.len() * columns.len()];
            self.base.block(self.shape(), rows.clone(), columns.clone(), &mut base);
            visit(rows, columns, &base);
        }
    }

    /// Measures the change. `base` keeps what W alone gives, for the next change of the same weight.
    pub fn measure(&self, base: &mut Option<BaseSpectrum>) -> Result<Measured, NoConvergence> {
        let known = base.take().filter(|base| base.shape == self.shape());
        let (sums, grams, known) = self.collect(known)?;
        let base_energy: f64 = sums.base.iter().sum();
        let change_energy: f64 = sums.change.iter().sum();
        let base_squares = known.squares.as_slice();
        let spectrum = self.change_spectrum(&grams, base_squares, &known.vectors)?;
        let intruders = self.intruders(&grams, &known)?;
        let relevant = spectrum.values.iter().take_while(|value| **value > RANK_TOLERANCE * spectrum.values[0]);
        let rank = if change_energy > 0.0 { relevant.count() } else { 0 };
        let squares = spectrum.values.iter().map(|value| value * value);
        let total: f64 = squares.clone().sum();
        let first = spectrum.values.first().copied().unwrap_or(0.0);
        let base_first = base_squares.first().copied().unwrap_or(0.0).sqrt();
        let changed = change_energy > 0.0 && first > 0.0;
        let one_minus_cosine = one_minus_cosine(base_energy, change_energy, sums.cross.iter().sum());
        let change = WeightChange {
            shape: self.shape(),
            kind: self.kind().to_owned(),
            relative_norm: (base_energy > 0.0).then(|| (change_energy / base_energy).sqrt()),
            spectral_ratio: (base_first > 0.0).then(|| first / base_first),
            cosine: 1.0 - one_minus_cosine,
            one_minus_cosine,
            rank,
            stable_rank: changed.then(|| total / (first * first)),
            rankme: exp_entropy(spectrum.values.iter().copied()),
            effective_rank: exp_entropy(squares),
            top1_share: changed.then(|| first * first / total),
            kurtosis: kurtosis(&sums.powers, self.outputs * self.inputs),
            row_top8_share: changed.then(|| heaviest_share(&sums.change, change_energy)),
            row_rotation_deg: row_rotation(&sums),
            row_norm_change: row_norm_change(&sums),
            output_overlap: (rank > 0).then(|| spectrum.overlap / rank as f64),
            intruder_dimensions: (self.outputs > 1 && self.inputs > 1).then_some(intruders),
            intruder_chance_cosine: chance_cosine(self.outputs.min(self.inputs), self.outputs),
            merge_survival: MergeSurvival {
                cosine: (sums.merged > 0.0 && change_energy > 0.0)
                    .then(|| sums.merged_cross / (sums.merged.sqrt() * change_energy.sqrt())),
                changed_share: sums.merged_entries as f64 / (self.outputs * self.inputs).max(1) as f64,
            },
            singular_values: spectrum.values.iter().take(KEPT).copied().collect(),
        };
        *base = Some(known);
        Ok(Measured { change, left: spectrum.left, right: spectrum.right })
    }

    /// One pass over W: sums, and the Gram matrices of the shorter side; W's own only where it is not known yet.
    fn collect(&self, known: Option<BaseSpectrum>) -> Result<(Sums, Grams, BaseSpectrum), NoConvergence> {
        let (outputs, inputs) = (self.outputs, self.inputs);
        let short = outputs.min(inputs);
        let mut sums =
            Sums { base: vec![0.0; outputs], change: vec![0.0; outputs], cross: vec![0.0; outputs], ..Sums::default() };
        let square = || Mat::zeros(short, short);
        let mut grams = Grams { between: square(), change: square() };
        let mut own = if known.is_none() { Some(square()) } else { None };
        let low_rank = self.low_rank().is_some();
        self.for_each_slab(|rows, columns, base, change| {
            sums.add(rows.start, columns.len(), base, change);
            let view = |values| MatRef::from_row_major_slice(values, rows.len(), columns.len());
            let (w, d): (MatRef<f64>, MatRef<f64>) = (view(base), view(change));
            let (w, d) = if outputs > inputs { (w.transpose(), d.transpose()) } else { (w, d) };
            if let Some(gram) = &mut own {
                add_product(gram, w, w.transpose(), true);
            }
            if !low_rank {
                add_product(&mut grams.between, w, d.transpose(), false);
                add_product(&mut grams.change, d, d.transpose(), true);
            }
        });
        if let Some(low_rank) = self.low_rank() {
            self.low_rank_grams(low_rank, &mut grams);
        } else {
            mirror(&mut grams.change);
        }
        let known = match (known, own) {
            (Some(known), _) => known,
            (None, own) => BaseSpectrum::of(self.shape(), own.unwrap_or_else(square))?,
        };
        Ok((sums, grams, known))
    }

    /// Gram matrices of sBA and between W and sBA from the factors.
    fn low_rank_grams(&self, low_rank: &LowRank, grams: &mut Grams) {
        let up = widened(&low_rank.up, self.outputs, low_rank.rank);
        let down = widened(&low_rank.down, low_rank.rank, self.inputs);
        let scale = low_rank.scale;
        let tall = self.outputs > self.inputs;
        // Tall: WᵀΔ = s(WᵀB)A and ΔᵀΔ = s²Aᵀ(BᵀB)A. Wide: WΔᵀ = s(WAᵀ)Bᵀ and ΔΔᵀ = s²B(AAᵀ)Bᵀ.
        let (inner, outer) = if tall { (up.as_ref(), down.transpose()) } else { (down.transpose(), up.as_ref()) };
        let mut projected = Mat::zeros(grams.change.nrows(), low_rank.rank);
        self.for_each_base_slab(|rows, columns, base| {
            let w = MatRef::from_row_major_slice(base, rows.len(), columns.len());
            if tall {
                add_product(&mut projected, w.transpose(), inner.subrows(rows.start, rows.len()), false);
            } else {
                add_product(&mut projected, w, inner.subrows(columns.start, columns.len()), false);
            }
        });
        grams.between = product(projected.as_ref(), outer.transpose()) * scale;
        let core = product(inner.transpose(), inner);
        grams.change = product(product(outer, core.as_ref()).as_ref(), outer.transpose()) * (scale * scale);
    }

    /// ΔW's spectrum: from the factors of a LoRA module, from Gram matrices otherwise.
    fn change_spectrum(
        &self,
        grams: &Grams,
        squares: &[f64],
        vectors: &Mat<f64>,
    ) -> Result<ChangeSpectrum, NoConvergence> {
        let tall = self.outputs > self.inputs;
        let leading = LEADING.min(squares.len());
        let lengths: Vec<f64> = squares.iter().take(leading).map(|square| square.sqrt()).collect();
        let inverse = |length: f64| if length > 0.0 { 1.0 / length } else { 0.0 };
        let directions = match self.low_rank() {
            Some(low_rank) => ShortSide::of_factors(low_rank, tall),
            None => ShortSide::of_gram(&grams.change)?,
        };
        let kept = directions.vectors.as_ref();
        let rank = kept.ncols();
        let base = vectors.subcols(0, leading);
        let overlap = if tall {
            // U_10ᵀU_Δ = Σ⁻¹ V_10ᵀ (WᵀΔ) V_Δ Σ_Δ⁻¹.
            let inner = product(base.transpose(), product(grams.between.as_ref(), kept).as_ref());
            let entry = |row: usize, column: usize| {
                inner[(row, column)] * inverse(lengths[row]) * inverse(directions.values[column])
            };
            (0..leading).map(|row| (0..rank).map(|column| entry(row, column).powi(2)).sum::<f64>()).sum()
        } else {
            product(base.transpose(), kept).squared_norm_l2()
        };
        let own: Vec<f64> = if rank > 0 { (0..kept.nrows()).map(|row| kept[(row, 0)]).collect() } else { Vec::new() };
        let other = match directions.other {
            Some(other) => other,
            None if rank > 0 => self.other_side(&own, directions.values[0]),
            None => Vec::new(),
        };
        let (left, right) = if tall { (other, own) } else { (own, other) };
        Ok(ChangeSpectrum { values: directions.values, overlap, left, right })
    }

    /// The other singular vector that belongs to one of ΔW's shorter side.
    fn other_side(&self, own: &[f64], length: f64) -> Vec<f64> {
        let tall = self.outputs > self.inputs;
        let mut other = vec![0.0; self.outputs.max(self.inputs)];
        self.for_each_slab(|rows, columns, _, change| {
            for (row, line) in rows.zip(change.chunks_exact(columns.len())) {
                if tall {
                    other[row] = line.iter().zip(own).map(|(d, v)| d * v).sum::<f64>() / length;
                } else {
                    let part = &mut other[columns.clone()];
                    part.iter_mut().zip(line).for_each(|(sum, d)| *sum += d * own[row] / length);
                }
            }
        });
        other
    }

    /// How many of the leading left singular vectors of W' resemble none of W's.
    fn intruders(&self, grams: &Grams, base: &BaseSpectrum) -> Result<usize, NoConvergence> {
        let (squares, vectors) = (base.squares.as_slice(), &base.vectors);
        let size = squares.len();
        // W'W'ᵀ (or W'ᵀW') = G_W + C + Cᵀ + G_Δ.
        let adapted = Mat::from_fn(size, size, |row, column| {
            base.gram[(row, column)]
                + grams.between[(row, column)]
                + grams.between[(column, row)]
                + grams.change[(row, column)]
        });
        let count = LEADING.min(size);
        let leading = leading_eigenvectors(adapted.as_ref(), squares, count)?;
        let cosines = if self.outputs > self.inputs {
            // UᵀU' = Σ⁻¹ Vᵀ (WᵀW') V' Σ'⁻¹ with WᵀW' = G_W + C.
            let crossed =
                Mat::from_fn(size, size, |row, column| base.gram[(row, column)] + grams.between[(row, column)]);
            let inner = product(vectors.transpose(), product(crossed.as_ref(), leading.as_ref()).as_ref());
            let images = product(adapted.as_ref(), leading.as_ref());
            let length = |column: usize| {
                (0..size).map(|row| images[(row, column)] * leading[(row, column)]).sum::<f64>().max(0.0).sqrt()
            };
            let floor = 1e-14 * squares.first().copied().unwrap_or(0.0);
            Mat::from_fn(size, count, |row, column| {
                let scale = squares[row].sqrt() * length(column);
                if squares[row] > floor && scale > 0.0 { inner[(row, column)] / scale } else { 0.0 }
            })
        } else {
            product(vectors.transpose(), leading.as_ref())
        };
        let nearest = |column: usize| (0..size).map(|row| cosines[(row, column)].abs()).fold(0.0, f64::max);
        Ok((0..count).filter(|column| nearest(*column) < INTRUDER_COSINE).count())
    }
}

impl Sums {
    fn add(&mut self, first_row: usize, width: usize, base: &[f64], change: &[f64]) {
        for (at, (w_row, d_row)) in base.chunks_exact(width).zip(change.chunks_exact(width)).enumerate() {
            let row = first_row + at;
            for (w, d) in w_row.iter().zip(d_row) {
                self.base[row] += w * w;
                self.change[row] += d * d;
                self.cross[row] += w * d;
                let square = d * d;
                self.powers[0] += d;
                self.powers[1] += square;
                self.powers[2] += square * d;
                self.powers[3] += square * square;
                let merged = rounded(w + d) - rounded(*w);
                if merged != 0.0 {
                    self.merged_entries += 1;
                    self.merged += merged * merged;
                    self.merged_cross += merged * d;
                }
            }
        }
    }
}

/// out = values − base.
fn difference(values: &[f32], base: &[f64], out: &mut [f64]) {
    for (d, (value, w)) in out.iter_mut().zip(values.iter().zip(base)) {
        *d = f64::from(*value) - w;
    }
}

fn rounded(value: f64) -> f64 {
    half::bf16::from_f64(value).to_f64()
}

fn widened(values: &[f32], rows: usize, columns: usize) -> Mat<f64> {
    Mat::from_fn(rows, columns, |row, column| f64::from(values[row * columns + column]))
}

/// out += left · right; only the lower triangle where the result is known to be symmetric.
fn add_product(out: &mut Mat<f64>, left: MatRef<f64>, right: MatRef<f64>, symmetric: bool) {
    use faer::linalg::matmul::triangular::{self, BlockStructure};
    if symmetric {
        let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
        triangular::matmul(out.as_mut(), lower, Accum::Add, left, full, right, full, 1.0, Par::Seq);
    } else {
        faer::linalg::matmul::matmul(out.as_mut(), Accum::Add, left, right, 1.0, Par::Seq);
    }
}

/// Fills the upper triangle from the lower.
fn mirror(symmetric: &mut Mat<f64>) {
    for column in 0..symmetric.ncols() {
        for row in 0..column {
            symmetric[(row, column)] = symmetric[(column, row)];
        }
    }
}

/// s·(BA) of a block, row-major.
fn low_rank_block(low_rank: &LowRank, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>, out: &mut [f64]) {
    let rank = low_rank.rank;
    let up = Mat::from_fn(rows.len(), rank, |row, inner| f64::from(low_rank.up[(rows.start + row) * rank + inner]));
    let down = Mat::from_fn(rank, columns.len(), |inner, column| {
        f64::from(low_rank.down[inner * low_rank.inputs + columns.start + column])
    });
    let target = faer::MatMut::from_row_major_slice_mut(out, rows.len(), columns.len());
    faer::linalg::matmul::matmul(target, Accum::Replace, up.as_ref(), down.as_ref(), low_rank.scale, Par::Seq);
}

/// 1 − cos(W, W') from ‖W‖², ‖Δ‖² and ⟨W, Δ⟩, without the cancellation: with W' = W + Δ,
/// 1 − cos = (‖W‖²‖Δ‖² − ⟨W,Δ⟩²)/(‖W‖‖W'‖(‖W‖‖W'‖ + ⟨W,W'⟩)).
fn one_minus_cosine(base: f64, change: f64, cross: f64) -> f64 {
    let adapted = base + 2.0 * cross + change;
    if base <= 0.0 || adapted <= 0.0 {
        return if change > 0.0 { 1.0 } else { 0.0 };
    }
    let norms = (base * adapted).sqrt();
    let inner = base + cross;
    if inner <= 0.0 {
        return 1.0 - inner / norms;
    }
    (base * change - cross * cross).max(0.0) / (norms * (norms + inner))
}

fn row_rotation(sums: &Sums) -> RowRotation {
    // cos θ = 1 − x, so the angle is 2·asin(√(x/2)) = 2·atan2(√x, √(2 − x)).
    let angles: Vec<f64> = (0..sums.base.len())
        .map(|row| {
            let distance = one_minus_cosine(sums.base[row], sums.change[row], sums.cross[row]);
            2.0 * distance.sqrt().atan2((2.0 - distance).max(0.0).sqrt()).to_degrees()
        })
        .collect();
    RowRotation { mean: crate::similarity::mean(&angles), max: angles.iter().copied().fold(0.0, f64::max) }
}

fn row_norm_change(sums: &Sums) -> RowNormChange {
    let changes: Vec<f64> = (0..sums.base.len())
        .filter(|row| sums.base[*row] > 0.0)
        .map(|row| {
            // √(1 + x) − 1 = x/(√(1 + x) + 1) keeps the digits of a small x.
            let x = ((2.0 * sums.cross[row] + sums.change[row]) / sums.base[row]).max(-1.0);
            x / ((1.0 + x).sqrt() + 1.0)
        })
        .collect();
    let sizes: Vec<f64> = changes.iter().map(|change| change.abs()).collect();
    RowNormChange {
        mean_abs: crate::similarity::mean(&sizes),
        max_abs: sizes.iter().copied().fold(0.0, f64::max),
        min: changes.iter().copied().reduce(f64::min).unwrap_or(0.0),
    }
}

/// Pearson kurtosis from power sums.
fn kurtosis(powers: &[f64; 4], count: usize) -> Option<f64> {
    let [first, second, third, fourth] = powers.map(|power| power / count.max(1) as f64);
    let variance = second - first * first;
    (variance > 0.0).then(|| {
        let central = fourth - 4.0 * first * third + 6.0 * first * first * second - 3.0 * first.powi(4);
        central / (variance * variance)
    })
}

fn heaviest_share(rows: &[f64], total: f64) -> f64 {
    let mut rows = rows.to_vec();
    rows.sort_by(|left, right| right.total_cmp(left));
    rows.iter().take(HEAVY_ROWS).sum::<f64>() / total
}

/// √(2 ln n/d): the largest |cos| that n random directions of d dimensions reach.
fn chance_cosine(directions: usize, dimensions: usize) -> f64 {
    (2.0 * (directions.max(1) as f64).ln() / dimensions.max(1) as f64).sqrt().min(1.0)
}
