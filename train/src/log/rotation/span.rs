//! The few directions in which two states of a module differ from its base and from each other.

use super::{Factors, Turn};

/// Below this share of a row's length, what is left of it outside the other rows is rounding.
const ROUNDING: f64 = 1e-14;

/// An orthonormal basis of the rows of ΔA and A₁ together, and what is added to each row of W in its coordinates.
pub(super) struct Span {
    /// Orthonormal rows of `inputs` elements each.
    basis: Vec<Vec<f64>>,
    /// s₁B₁A₁, (outputs × dimensions).
    before: Vec<f64>,
    /// d = s₂B₂A₂ − s₁B₁A₁, (outputs × dimensions).
    difference: Vec<f64>,
}

impl Span {
    pub(super) fn new(turn: Turn, inputs: usize) -> Self {
        // The base is an adapter of rank 0.
        let nothing = Factors { rank: 0, scale: 0.0, lora_a: &[], lora_b: &[] };
        let (before, after) = (turn.before.unwrap_or(nothing), turn.after.unwrap_or(nothing));
        let widened = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
        let scaled = |factors: &Factors| {
            factors.lora_b.iter().map(|value| factors.scale * f64::from(*value)).collect::<Vec<f64>>()
        };
        let (up_before, up_after) = (scaled(&before), scaled(&after));
        let (down_before, mut down_after) = (widened(before.lora_a), widened(after.lora_a));
        let mut up_difference: Vec<f64> = up_before.iter().map(|value| -value).collect();
        // With equal ranks small changes are taken as differences of factors, not of products.
        if before.rank == after.rank {
            down_after.iter_mut().zip(&down_before).for_each(|(later, earlier)| *later -= earlier);
            up_difference.iter_mut().zip(&up_after).for_each(|(change, later)| *change += later);
        }
        let mut basis = Vec::new();
        // A₁ comes first: its coordinates are then in its own directions alone.
        let coordinates_before = orthonormalise(&down_before, inputs, &mut basis);
        let coordinates_after = orthonormalise(&down_after, inputs, &mut basis);
        let dimensions = basis.len();
        let mut own = combine(&up_before, before.rank, &coordinates_before, dimensions);
        let mut difference = combine(&up_after, after.rank, &coordinates_after, dimensions);
        let other = combine(&up_difference, before.rank, &coordinates_before, dimensions);
        // Rank 0 has no rows; what is missing is zero.
        let length = own.len().max(difference.len());
        difference.resize(length, 0.0);
        difference.iter_mut().zip(&other).for_each(|(sum, term)| *sum += term);
        own.resize(length, 0.0);
        Self { basis, before: own, difference }
    }

    pub(super) fn dimensions(&self) -> usize {
        self.basis.len()
    }

    pub(super) fn basis(&self) -> impl Iterator<Item = &[f64]> {
        self.basis.iter().map(Vec::as_slice)
    }

    /// Angle in radians by which row `row` of W' turned, from ‖W_row‖² and the row's coordinates in the basis; nothing
    /// where it is zero before or after.
    pub(super) fn angle(&self, row: usize, square: f64, coordinates: &[f64]) -> Option<f64> {
        let dimensions = self.dimensions();
        let at = |values: &[f64], index: usize| values.get(row * dimensions + index).copied().unwrap_or(0.0);
        let (mut before_square, mut product, mut difference_square) = (square, 0.0, 0.0);
        for (index, coordinate) in coordinates.iter().enumerate() {
            let (own, difference) = (at(&self.before, index), at(&self.difference, index));
            before_square += own * (2.0 * coordinate + own);
            product += difference * (coordinate + own);
            difference_square += difference * difference;
        }
        let after_square = before_square + 2.0 * product + difference_square;
        if before_square <= 0.0 || after_square <= 0.0 {
            return None;
        }
        let across = (difference_square - product * product / before_square).max(0.0).sqrt();
        Some(across.atan2((before_square + product) / before_square.sqrt()))
    }
}

/// Extends `basis` by what is new in the rows of `matrix` (`[rows, width]`) and returns the coordinates of each row;
/// they may be shorter than the basis will become.
fn orthonormalise(matrix: &[f64], width: usize, basis: &mut Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let mut coordinates = Vec::new();
    for row in matrix.chunks_exact(width.max(1)) {
        let mut rest = row.to_vec();
        let mut own = vec![0.0; basis.len()];
        // Once is not enough for rows that nearly lie in the span already; twice is (Giraud, Langou & Rozložník 2005).
        for _ in 0..2 {
            for (direction, coordinate) in basis.iter().zip(&mut own) {
                let share = dot(direction, &rest);
                *coordinate += share;
                rest.iter_mut().zip(direction).for_each(|(value, along)| *value -= share * along);
            }
        }
        let length = dot(&rest, &rest).sqrt();
        if length > ROUNDING * dot(row, row).sqrt() {
            rest.iter_mut().for_each(|value| *value /= length);
            basis.push(rest);
            own.push(length);
        }
        coordinates.push(own);
    }
    coordinates
}

/// Coordinates of the rows of `up` (`[rows, rank]`) times a matrix whose rows have these coordinates: (rows ×
/// dimensions).
fn combine(lora_b: &[f64], rank: usize, coordinates: &[Vec<f64>], dimensions: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(lora_b.len() / rank.max(1) * dimensions);
    for weights in lora_b.chunks_exact(rank.max(1)) {
        let start = out.len();
        out.resize(start + dimensions, 0.0);
        let sums = out.get_mut(start..).unwrap_or_default();
        for (weight, row) in weights.iter().zip(coordinates) {
            sums.iter_mut().zip(row).for_each(|(sum, coordinate)| *sum += weight * coordinate);
        }
    }
    out
}

/// Σ aᵢbᵢ in eight partial sums, which the compiler keeps in vector registers.
pub(super) fn dot(left: &[f64], right: &[f64]) -> f64 {
    const PARTS: usize = 8;
    let mut sums = [0.0; PARTS];
    let (left_chunks, right_chunks) = (left.chunks_exact(PARTS), right.chunks_exact(PARTS));
    let tail: f64 = left_chunks.remainder().iter().zip(right_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in left_chunks.zip(right_chunks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + tail
}
