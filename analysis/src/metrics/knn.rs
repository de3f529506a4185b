//! The nearest neighbours of every token, and how many it keeps.

use faer::{Mat, MatRef};
use lcr_documents::audit::SiteChange;

use super::descriptor::Transformation::{CommonRotation, Rotation, Scaling, TokenOrder};
use super::descriptor::{Entry, Metric, Number, Reads, Runs, SiteMetric, Unit};
use crate::activations::Activations;
use crate::linalg::{NoConvergence, product, sum_pairs};
use crate::statistics::dot;

/// Neighbours compared.
const NEIGHBOURS: usize = 10;
/// Rows of one block of the neighbour search.
const BLOCK: usize = 256;

/// `knn_overlap` and `knn_chance`.
pub static METRIC: Metric = Metric {
    name: "knn",
    runs: Runs::ByDefault,
    reads: Reads::Rows(|base, _| Ok(Box::new(Neighbours { base: neighbours(base) }))),
    entries: &[Entry {
        heading: "`knn_overlap`, `knn_chance`",
        definition: "
Mean over tokens of |N(x_t) ∩ N(y_t)|/10, where N is a token's ten nearest neighbours by cosine among the other rows of
the same model (as the mutual nearest-neighbour measure of Huh, Cheung, Wang and Isola 2024).",
        blind_to: "
Blind to rotating Y, and to the length of any single row. Sees local order, which CKA averages away.",
        chance: "",
        trap: "
Trap: chance is high for small probes (0.20 at n = 51). Neighbourhoods with ties or near-ties flip at the least
disturbance: many tokens of the same word at `resid.0` are equal, and their order is then decided by index. With fewer
than eleven other rows all of them are neighbours and the overlap is 1.",
        numbers: &[
            Number::new(
                "knn_overlap",
                "Mean share of a token's ten cosine neighbours that it keeps.",
                Unit::Share,
                "0 to 1",
            )
            .less_change(1.0)
            .chance("10/(n − 1), in `knn_chance`")
            .blind_to(&[Scaling, CommonRotation, Rotation, TokenOrder]),
            Number::new(
                "knn_chance",
                "What `knn_overlap` would be for unrelated states: 10/(n − 1).",
                Unit::Share,
                "0 to 1",
            )
            .blind_to(&super::Transformation::OF_ACTIVATIONS),
        ],
        glossary: &[(
            "neighbours kept",
            "Mean share of a token's ten nearest tokens that stay its nearest. Chance 10/(n − 1).",
        )],
    }],
    references: &["Huh, Cheung, Wang, Isola 2024. The Platonic representation hypothesis. ICML."],
};

/// The base's neighbours, held against any number of adapted models.
struct Neighbours {
    base: Vec<Vec<usize>>,
}

impl Neighbours {
    fn write(&self, adapted: &[Vec<usize>], change: &mut SiteChange) {
        change.knn_overlap = knn_overlap(&self.base, adapted);
        change.knn_chance = change.knn_overlap.and_then(|_| knn_chance(self.base.len()));
    }
}

impl SiteMetric for Neighbours {
    fn changed(&self, _: &Activations, adapted: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        self.write(&neighbours(adapted), change);
        Ok(())
    }

    fn unchanged(&self, _: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        self.write(&self.base, change);
        Ok(())
    }
}

/// The ten nearest neighbours of every row by cosine, itself left out, each list sorted.
pub fn neighbours(activations: &Activations) -> Vec<Vec<usize>> {
    match activations.row_gram() {
        Some(gram) => nearest_of_each(0, &cosines_of_gram(activations, gram)),
        None => nearest_of_rows(activations),
    }
}

/// Cosines of all pairs of rows, `[rows, rows]`, from the products of centred ones: with the mean m, xᵢ·xⱼ = cᵢ·cⱼ +
/// m·cᵢ + m·cⱼ + m·m.
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

#[cfg(test)]
mod tests {
    use ndarray::ArrayView2;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Either way to the cosines gives the same neighbours.
    #[test]
    fn the_gram_matrix_and_the_rows_have_the_same_neighbours() {
        for (rows, width) in [(30, 30), (300, 320)] {
            let mut random = ChaCha8Rng::seed_from_u64(rows as u64);
            let values: Vec<f32> = (0..rows * width).map(|_| random.random::<f32>() - 0.3).collect();
            let view = ArrayView2::from_shape((rows, width), &values).unwrap();
            let activations = Activations::new(&view, &vec![true; rows]);
            assert_eq!(neighbours(&activations), nearest_of_rows(&activations));
        }
    }
}
