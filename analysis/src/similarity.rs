//! Token cosines, linear CKA and nearest neighbours.

use faer::{Mat, MatRef};
use lcr_documents::audit::Cosines;

use crate::activations::{Activations, Factors};
use crate::linalg::{product, sum_pairs};

/// Neighbours compared.
const NEIGHBOURS: usize = 10;
/// Rows of one block of the neighbour search.
const BLOCK: usize = 256;

fn dot(left: &[f32], right: &[f32]) -> f64 {
    sum_pairs(left, right, |a, b| f64::from(a) * f64::from(b))
}

/// 1 − cos of two vectors as ½‖u − v‖² of their unit vectors, which keeps its digits where cos rounds to one.
///
/// A zero vector has no direction: against another zero vector it counts as unchanged, against anything else as orthogonal.
fn one_minus_cosine<T: Copy + Into<f64>>(left: &[T], right: &[T]) -> f64 {
    let norm = |values: &[T]| sum_pairs(values, values, |a, b| a.into() * b.into()).sqrt();
    let (left_norm, right_norm) = (norm(left), norm(right));
    if left_norm == 0.0 || right_norm == 0.0 {
        return if left_norm == right_norm { 0.0 } else { 1.0 };
    }
    let (left_scale, right_scale) = (left_norm.recip(), right_norm.recip());
    0.5 * sum_pairs(left, right, |a, b| (a.into() * left_scale - b.into() * right_scale).powi(2))
}

/// Percentile `share` (0 … 1) of ascending values, interpolated linearly.
pub(crate) fn percentile(ascending: &[f64], share: f64) -> f64 {
    let Some(last) = ascending.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    ascending[below] + (place - below as f64) * (ascending[above] - ascending[below])
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Statistics over tokens of cos(x_t, y_t).
pub fn cosines(base: &Activations, adapted: &Activations) -> Cosines {
    let mut distances: Vec<f64> = base.iter().zip(adapted.iter()).map(|(x, y)| one_minus_cosine(x, y)).collect();
    let one_minus_mean = mean(&distances);
    // 1 − cos = ½‖u−v‖² and ‖u+v‖² = 4 − ‖u−v‖², so the angle is 2·atan2(‖u−v‖, ‖u+v‖).
    let angles: Vec<f64> = distances
        .iter()
        .map(|distance| 2.0 * (2.0 * distance).sqrt().atan2((4.0 - 2.0 * distance).max(0.0).sqrt()).to_degrees())
        .collect();
    distances.sort_by(f64::total_cmp);
    Cosines {
        mean: 1.0 - one_minus_mean,
        median: 1.0 - percentile(&distances, 0.5),
        p05: 1.0 - percentile(&distances, 0.95),
        min: 1.0 - distances.last().copied().unwrap_or(0.0),
        one_minus_mean,
        mean_angle_deg: mean(&angles),
    }
}

/// Cosine of the flattened matrices.
pub fn cosine_flat(base: &Activations, adapted: &Activations) -> f64 {
    1.0 - one_minus_cosine(base.values(), adapted.values())
}

/// Mean over tokens of cos(x_t − x̄, y_t − ȳ).
pub fn cosine_centered(base: &Activations, adapted: &Activations) -> f64 {
    let distances: Vec<f64> =
        base.centred_rows().zip(adapted.centred_rows()).map(|(x, y)| one_minus_cosine(x, y)).collect();
    1.0 - mean(&distances)
}

/// ‖Y − X‖_F/‖X‖_F.
pub fn relative_change(base: &Activations, adapted: &Activations) -> f64 {
    let change = sum_pairs(base.values(), adapted.values(), |x, y| (f64::from(y) - f64::from(x)).powi(2));
    let size = dot(base.values(), base.values());
    if size > 0.0 { (change / size).sqrt() } else { 0.0 }
}

/// Linear CKA (Kornblith et al. 2019), and the same with the unbiased HSIC estimator of Song et al. (2012).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cka {
    /// ‖Y_cᵀX_c‖_F²/(‖X_cᵀX_c‖_F ‖Y_cᵀY_c‖_F).
    pub plain: Option<f64>,
    /// Diagonal-free Grams; `None` where a denominator is not positive.
    pub debiased: Option<f64>,
}

/// Both CKAs from the Gram matrices of the smaller side.
pub fn cka(base: &Activations, adapted: &Activations, base_factors: &Factors, adapted_factors: &Factors) -> Cka {
    let inner = |left: &Mat<f64>, right: &Mat<f64>| {
        (0..left.ncols())
            .map(|column| sum_pairs(left.col_as_slice(column), right.col_as_slice(column), |a, b| a * b))
            .sum::<f64>()
    };
    let by_rows = base.rows() <= base.width() && adapted.rows() <= adapted.width();
    let (k, l) = (&base_factors.gram, &adapted_factors.gram);
    let between =
        if by_rows { inner(k, l) } else { product(base.centred().transpose(), adapted.centred()).squared_norm_l2() };
    let (own_base, own_adapted) = (inner(k, k), inner(l, l));
    let square_norms = |activations: &Activations| {
        activations.centred_rows().map(|row| sum_pairs(row, row, |a, b| a * b)).collect::<Vec<f64>>()
    };
    let (base_norms, adapted_norms) = (square_norms(base), square_norms(adapted));
    let ratio = |between: f64, left: f64, right: f64| {
        (left > 0.0 && right > 0.0).then(|| between / (left.sqrt() * right.sqrt()))
    };
    let rows = base.rows() as f64;
    let unbiased = |inner: f64, left: &[f64], right: &[f64]| unbiased_hsic(inner, left, right, rows);
    let debiased = (rows > 3.0)
        .then(|| {
            ratio(
                unbiased(between, &base_norms, &adapted_norms),
                unbiased(own_base, &base_norms, &base_norms),
                unbiased(own_adapted, &adapted_norms, &adapted_norms),
            )
        })
        .flatten();
    Cka { plain: ratio(between, own_base, own_adapted), debiased }
}

/// Unbiased HSIC from ⟨K, L⟩ and the diagonals of centred Gram matrices K and L.
///
/// The estimator ignores the diagonals and does not change when a Gram matrix is centred; for centred data a row of K without
/// its diagonal sums to −K_ii, so the n×n matrices themselves are not needed.
fn unbiased_hsic(inner: f64, left: &[f64], right: &[f64], rows: f64) -> f64 {
    let diagonal: f64 = left.iter().zip(right).map(|(a, b)| a * b).sum();
    let (left_sum, right_sum) = (left.iter().sum::<f64>(), right.iter().sum::<f64>());
    let total =
        (inner - diagonal) + left_sum * right_sum / ((rows - 1.0) * (rows - 2.0)) - 2.0 / (rows - 2.0) * diagonal;
    total / (rows * (rows - 3.0))
}

/// The ten nearest neighbours of every row by cosine, itself left out, each list sorted. `gram` is X_cX_cᵀ where it is at hand.
pub fn neighbours(activations: &Activations, gram: Option<&Mat<f64>>) -> Vec<Vec<usize>> {
    match gram {
        Some(gram) => nearest_of_each(0, &cosines_of_gram(activations, gram)),
        None => nearest_of_rows(activations),
    }
}

/// Cosines of all pairs of rows, `[rows, rows]`, from the products of centred ones: with the mean m, xᵢ·xⱼ = cᵢ·cⱼ + m·cᵢ + m·cⱼ + m·m.
fn cosines_of_gram(activations: &Activations, gram: &Mat<f64>) -> Mat<f64> {
    let mean = activations.mean();
    let along: Vec<f64> = activations.centred_rows().map(|row| sum_pairs(row, mean, |a, b| a * b)).collect();
    let shared = sum_pairs(mean, mean, |a, b| a * b);
    let scales: Vec<f64> = activations.iter().map(|row| inverse(dot(row, row).sqrt())).collect();
    Mat::from_fn(along.len(), along.len(), |row, column| {
        // The order of the sum is the same for both of a pair, so that equal rows stay equal.
        (gram[(row, column)] + (along[row] + along[column]) + shared) * (scales[row] * scales[column])
    })
}

/// The nearest of every row, from the rows themselves, a block at a time.
fn nearest_of_rows(activations: &Activations) -> Vec<Vec<usize>> {
    let unit: Vec<f64> = activations
        .iter()
        .flat_map(|row| {
            let scale = inverse(dot(row, row).sqrt());
            row.iter().map(move |value| f64::from(*value) * scale)
        })
        .collect();
    let unit = MatRef::from_row_major_slice(&unit, activations.rows(), activations.width());
    let blocks = (0..activations.rows()).step_by(BLOCK).map(|first| (first, BLOCK.min(activations.rows() - first)));
    blocks
        .flat_map(|(first, count)| nearest_of_each(first, &product(unit, unit.subrows(first, count).transpose())))
        .collect()
}

/// The nearest of rows from `first` on, each with its cosines to all in a column.
fn nearest_of_each(first: usize, cosines: &Mat<f64>) -> Vec<Vec<usize>> {
    (0..cosines.ncols()).map(|column| nearest(first + column, cosines.col_as_slice(column))).collect()
}

fn inverse(norm: f64) -> f64 {
    if norm > 0.0 { norm.recip() } else { 0.0 }
}

/// The rows with the largest cosines but for `own`, sorted.
fn nearest(own: usize, cosines: &[f64]) -> Vec<usize> {
    let count = NEIGHBOURS.min(cosines.len().saturating_sub(1));
    let mut order: Vec<usize> = (0..cosines.len()).filter(|other| *other != own).collect();
    let nearer = |left: &usize, right: &usize| cosines[*right].total_cmp(&cosines[*left]).then(left.cmp(right));
    if count > 0 && count < order.len() {
        order.select_nth_unstable_by(count - 1, nearer);
    }
    order.truncate(count);
    order.sort_unstable();
    order
}

/// Mean share of neighbours that a token keeps; `None` under two tokens.
pub fn knn_overlap(base: &[Vec<usize>], adapted: &[Vec<usize>]) -> Option<f64> {
    let count = base.first()?.len();
    if count == 0 {
        return None;
    }
    let kept: usize = base
        .iter()
        .zip(adapted)
        .map(|(left, right)| left.iter().filter(|neighbour| right.binary_search(neighbour).is_ok()).count())
        .sum();
    Some(kept as f64 / (count * base.len()) as f64)
}

/// What [`knn_overlap`] is for unrelated states.
pub fn knn_chance(rows: usize) -> Option<f64> {
    (rows > 1).then(|| (NEIGHBOURS as f64 / (rows - 1) as f64).min(1.0))
}
