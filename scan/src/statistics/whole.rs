//! Tensors that replace the base's: how large they are, and whether a head or a table of embeddings looks trained at
//! all.
//!
//! A trained table has directions that all tokens share, and pairs of its rows are far from perpendicular. Of
//! independent noise, whatever its distribution, the mean squared cosine of two rows is one over their length, and that
//! is what is measured. Matrices stay in their file: rows are widened block by block.

use lcr_documents::statistics::median;
use lcr_formats::checkpoint::Weight;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Elements that are widened at a time.
const BLOCK: usize = 1 << 14;
/// Rows that are held against each other: 8128 pairs, which give the mean squared cosine of noise to 1.6 %.
const SAMPLED_ROWS: usize = 128;
/// Rows and columns under which trained and random cannot be told apart.
const FEWEST: [usize; 2] = [256, 64];
/// Columns of the largest table that is looked at so.
const MOST_COLUMNS: usize = 1 << 16;
/// Rows under which a table is none of tokens.
const FEWEST_TOKENS: usize = 16;
/// Mean squared cosine from which all rows say the same.
const PARALLEL: f64 = 0.98;

/// A matrix that replaces the base's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WholeStatistics {
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// Norms of its rows: median, 90th percentile, largest.
    pub row_norms: [f64; 3],
    /// Share of rows that are zero.
    pub zero_rows: f64,
    /// Of a head or an embedding: how like independent noise its rows are, 1 where they are noise, near 0 where they
    /// are trained; 1 as well where most rows are zero, or where all are one; `None` of other matrices and of small
    /// ones.
    pub noise: Option<f64>,
}

/// A vector that replaces the base's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VectorStatistics {
    /// Its length.
    pub length: usize,
    /// Absolute values: median, 90th percentile, largest.
    pub absolute: [f64; 3],
}

/// Measures a matrix; `has_token_rows` says that its rows are tokens.
pub(crate) fn measure_whole(weight: &Weight, has_token_rows: bool) -> WholeStatistics {
    let rows = weight.shape().first().copied().unwrap_or(0);
    let columns = weight.len().checked_div(rows).unwrap_or(0);
    let mut squares = vec![0.0_f64; rows];
    let mut values = vec![0.0; BLOCK.min(weight.len())];
    for start in (0..weight.len()).step_by(BLOCK) {
        let end = (start + BLOCK).min(weight.len());
        let Some(block) = values.get_mut(..end - start) else { break };
        weight.widen(start..end, block);
        add_squares(start, columns, block, &mut squares);
    }
    let zero_rows = squares.iter().filter(|square| **square == 0.0).count() as f64 / rows.max(1) as f64;
    let noise = has_token_rows.then(|| noise(weight, [rows, columns], zero_rows)).flatten();
    let norms = squares.into_iter().map(f64::sqrt).collect();
    WholeStatistics { shape: weight.shape().to_vec(), row_norms: sizes(norms), zero_rows, noise }
}

/// Adds the squares of a stretch of elements to their rows.
fn add_squares(start: usize, columns: usize, block: &[f32], squares: &mut [f64]) {
    let columns = columns.max(1);
    let (mut row, mut rest) = (start / columns, block);
    let mut left = columns - start % columns;
    while !rest.is_empty() {
        let (own, others) = rest.split_at(left.min(rest.len()));
        if let Some(square) = squares.get_mut(row) {
            *square += own.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        }
        (row, rest, left) = (row + 1, others, columns);
    }
}

/// Measures a vector.
pub(crate) fn measure_vector(values: &[f32]) -> VectorStatistics {
    let absolute = values.iter().map(|value| f64::from(value.abs())).collect();
    VectorStatistics { length: values.len(), absolute: sizes(absolute) }
}

/// Median, 90th percentile and largest.
fn sizes(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
    let last = values.len().saturating_sub(1);
    let high = at(((values.len() as f64 * 0.9) as usize).min(last));
    let largest = at(last);
    [median(&values).unwrap_or(0.0), high, largest]
}

/// See [`WholeStatistics::noise`].
fn noise(weight: &Weight, [rows, columns]: [usize; 2], zero_rows: f64) -> Option<f64> {
    if rows < FEWEST_TOKENS || columns == 0 || columns > MOST_COLUMNS {
        return None;
    }
    if zero_rows > 0.5 {
        return Some(1.0);
    }
    let cosine = mean_squared_cosine(weight, [rows, columns])?;
    if cosine > PARALLEL && columns > 1 {
        return Some(1.0);
    }
    (rows >= FEWEST[0] && columns >= FEWEST[1]).then(|| (1.0 / (columns as f64 * cosine)).min(1.0))
}

/// Mean cos² over pairs of rows spread evenly, columns brought to one size first; rows of zeros are left out.
fn mean_squared_cosine(weight: &Weight, [rows, columns]: [usize; 2]) -> Option<f64> {
    let taken = SAMPLED_ROWS.min(rows);
    let mut sample: Vec<Vec<f64>> = Vec::with_capacity(taken);
    let mut line = vec![0.0; columns];
    for index in 0..taken {
        let row = (index * rows + rows / 2) / taken;
        weight.widen(row * columns..(row + 1) * columns, &mut line);
        sample.push(line.iter().map(|value| f64::from(*value)).collect());
    }
    let mut sizes = vec![0.0_f64; columns];
    for row in &sample {
        sizes.iter_mut().zip(row).for_each(|(size, value)| *size += value * value);
    }
    let factors: Vec<f64> = sizes.iter().map(|size| if *size > 0.0 { 1.0 / size.sqrt() } else { 0.0 }).collect();
    sample.retain_mut(|row| {
        row.iter_mut().zip(&factors).for_each(|(value, factor)| *value *= factor);
        let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt();
        row.iter_mut().for_each(|value| *value /= norm);
        norm > 0.0 && norm.is_finite()
    });
    let mut sum = 0.0;
    for (index, left) in sample.iter().enumerate() {
        for right in sample.iter().take(index) {
            sum += left.iter().zip(right).map(|(left, right)| left * right).sum::<f64>().powi(2);
        }
    }
    let pairs = sample.len() * sample.len().saturating_sub(1) / 2;
    (pairs > 0 && sum > 0.0).then(|| sum / pairs as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_go_to_their_rows_wherever_a_block_ends() {
        let values: Vec<f32> = (1..=20).map(|value| value as f32).collect();
        for cut in 0..20 {
            let mut squares = [0.0; 4];
            add_squares(0, 5, &values[..cut], &mut squares);
            add_squares(cut, 5, &values[cut..], &mut squares);
            assert_eq!(squares, [55.0, 330.0, 855.0, 1630.0], "cut at {cut}");
        }
    }

    #[test]
    fn sizes_are_percentiles() {
        assert_eq!(sizes((1..=10).map(f64::from).collect()), [5.5, 10.0, 10.0]);
        assert_eq!(sizes((1..=100).rev().map(f64::from).collect()), [50.5, 91.0, 100.0]);
        assert_eq!(sizes(Vec::new()), [0.0; 3]);
        assert_eq!(measure_vector(&[-3.0, 1.0, 2.0]).absolute, [2.0, 3.0, 3.0]);
    }
}
