//! By what angle training turned the rows of the effective weights.
//!
//! A row of W' = W + sBA is what one output listens to. Its angle before and after a step says how much the model has
//! changed in a unit that compares across layers and models; DoRA's magnitude rescales rows and turns none, so it plays
//! no part. Two angles are kept apart: that of one step, and the cumulative one against the base.
//!
//! θ = 2·atan2(‖û−v̂‖, ‖û+v̂‖) for rows u before and v after. With d = v − u that is atan2(‖d⊥‖, ‖u‖ + d·û), d⊥ being
//! what of d stands at right angles to u: an arccos would see nothing below 1e-8, and forming v − u from the rows would
//! lose in W what A and B resolve. d comes from differences of the factors, s₂B₂(A₂−A₁) + (s₂B₂−s₁B₁)A₁; in an
//! orthonormal basis of those 2r rows it has 2r components, and of W nothing more is needed than its own components
//! there and its row norms. So W is read once, W + sBA is never formed, and all of it is in f64.

use std::collections::BTreeMap;
use std::sync::Arc;

use lcr_formats::adapter::LowRank;
use lcr_formats::checkpoint::Weight;
use lcr_model::decoder::{Decoder, for_each_tile};
use rayon::prelude::*;

mod span;

use span::{Span, dot};

/// Why an angle could not be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// The base has no such module.
    #[error("the base has no linear module `{path}`. Compare adapters of this base")]
    NoModule {
        /// The module's path.
        path: String,
    },
    /// Factors of other shapes than the module's.
    #[error(
        "module `{path}` is {outputs}×{inputs}, but a factor of its adapter has {found} elements where rank {rank} \
         asks for {expected}"
    )]
    Shape {
        /// The module's path.
        path: String,
        /// Rows of W.
        outputs: usize,
        /// Columns of W.
        inputs: usize,
        /// Rank of the adapter.
        rank: usize,
        /// Elements that the factor should have.
        expected: usize,
        /// Elements it has.
        found: usize,
    },
}

/// The factors of a change s·BA.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors<'a> {
    /// Inner dimension of BA.
    pub rank: usize,
    /// The factor s before BA.
    pub scale: f64,
    /// A, (rank × inputs), row-major.
    pub lora_a: &'a [f32],
    /// B, (outputs × rank), row-major.
    pub lora_b: &'a [f32],
}

impl<'a> From<&'a LowRank> for Factors<'a> {
    fn from(module: &'a LowRank) -> Self {
        Self { rank: module.rank, scale: module.scale, lora_a: &module.lora_a, lora_b: &module.lora_b }
    }
}

/// Two states of a module between which rows may turn; `None` is the base itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turn<'a> {
    /// The earlier state.
    pub before: Option<Factors<'a>>,
    /// The later state.
    pub after: Option<Factors<'a>>,
}

/// Angles of many rows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RowAngles {
    /// Mean over the rows, in degrees; 0 where there are none.
    pub mean: f64,
    /// The largest, in degrees.
    pub max: f64,
    /// Rows counted: those that are not zero before or after, for a zero row has no direction.
    pub rows: usize,
}

impl RowAngles {
    fn of(radians: impl Iterator<Item = f64>) -> Self {
        let (mut sum, mut max, mut rows) = (0.0, 0.0_f64, 0);
        for angle in radians {
            sum += angle;
            max = max.max(angle);
            rows += 1;
        }
        let mean = if rows > 0 { sum / rows as f64 } else { 0.0 };
        Self { mean: mean.to_degrees(), max: max.to_degrees(), rows }
    }

    /// The same over the rows of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let rows = self.rows + other.rows;
        let sum = self.mean * self.rows as f64 + other.mean * other.rows as f64;
        Self { mean: if rows > 0 { sum / rows as f64 } else { 0.0 }, max: self.max.max(other.max), rows }
    }
}

/// Angles of the rows of the module at `path`, one [`RowAngles`] for each of `turns`; its weight is read once for all
/// of them.
pub fn rotation(decoder: &Decoder, path: &str, turns: &[Turn]) -> Result<Vec<RowAngles>, RotationError> {
    let module = decoder.linear_weight(path).and_then(|(weight, transposed)| match *weight.shape() {
        [rows, columns] if transposed => Some((weight, transposed, columns, rows)),
        [rows, columns] => Some((weight, transposed, rows, columns)),
        _ => None,
    });
    let (weight, transposed, outputs, inputs) =
        module.ok_or_else(|| RotationError::NoModule { path: path.to_owned() })?;
    for factors in turns.iter().flat_map(|turn| [turn.before, turn.after]).flatten() {
        check(path, outputs, inputs, &factors)?;
    }
    let spans: Vec<Span> = turns.iter().map(|turn| Span::new(*turn, inputs)).collect();
    let projected = project(weight, transposed, outputs, inputs, &spans);
    let stride = 1 + spans.iter().map(Span::dimensions).sum::<usize>();
    let mut first = 1;
    let angles = spans.iter().map(|span| {
        let own = first..first + span.dimensions();
        first = own.end;
        RowAngles::of(
            projected
                .chunks_exact(stride)
                .enumerate()
                .filter_map(|(row, values)| span.angle(row, *values.first()?, values.get(own.clone())?)),
        )
    });
    Ok(angles.collect())
}

/// Angles of all rows of all adapted modules.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rotation {
    /// Of one step.
    pub step: RowAngles,
    /// Since the start.
    pub total: RowAngles,
}

/// [`rotation`] over all modules of an adapter: of the step from `before` to `after`, and from the base to `after`.
pub fn rotation_of_adapter(
    decoder: &Decoder,
    before: &BTreeMap<String, Arc<LowRank>>,
    after: &BTreeMap<String, Arc<LowRank>>,
) -> Result<Rotation, RotationError> {
    let mut rotation = Rotation::default();
    for path in after.keys().chain(before.keys().filter(|path| !after.contains_key(*path))) {
        let [earlier, later] = [before, after].map(|modules| modules.get(path).map(|module| Factors::from(&**module)));
        let turns = [Turn { before: earlier, after: later }, Turn { before: None, after: later }];
        if let [step, total] = *self::rotation(decoder, path, &turns)?.as_slice() {
            rotation = Rotation { step: rotation.step.and(step), total: rotation.total.and(total) };
        }
    }
    Ok(rotation)
}

fn check(path: &str, outputs: usize, inputs: usize, factors: &Factors) -> Result<(), RotationError> {
    let rank = factors.rank;
    for (found, expected) in [(factors.lora_a.len(), rank * inputs), (factors.lora_b.len(), rank * outputs)] {
        if found != expected {
            return Err(RotationError::Shape { path: path.to_owned(), outputs, inputs, rank, expected, found });
        }
    }
    Ok(())
}

/// ‖W_i‖² and the products of W_i with the basis of every span, one after another, for each row i: (outputs × 1 +
/// dimensions).
fn project(weight: &Weight, transposed: bool, outputs: usize, inputs: usize, spans: &[Span]) -> Vec<f64> {
    let basis: Vec<&[f64]> = spans.iter().flat_map(Span::basis).collect();
    let stride = basis.len() + 1;
    let mut projected = vec![0.0; outputs * stride];
    if transposed {
        // The stored rows are columns of W: every one of them adds a term to every output.
        for_each_tile(weight, outputs, inputs, |first, _, tile| {
            for (column, values) in (first..).zip(tile.chunks_exact(outputs)) {
                let directions: Vec<f64> = basis.iter().filter_map(|row| row.get(column)).copied().collect();
                for (value, sums) in values.iter().zip(projected.chunks_exact_mut(stride)) {
                    let value = f64::from(*value);
                    let terms = std::iter::once(value).chain(directions.iter().copied());
                    sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += value * term);
                }
            }
        });
    } else {
        for_each_tile(weight, inputs, outputs, |first, _, tile| {
            let rows = projected.par_chunks_exact_mut(stride).skip(first).zip(tile.par_chunks_exact(inputs));
            rows.for_each_init(Vec::new, |widened: &mut Vec<f64>, (sums, row)| {
                widened.clear();
                widened.extend(row.iter().map(|value| f64::from(*value)));
                let terms = std::iter::once(widened.as_slice()).chain(basis.iter().copied());
                sums.iter_mut().zip(terms).for_each(|(sum, direction)| *sum = dot(widened, direction));
            });
        });
    }
    projected
}

#[cfg(test)]
mod tests;
