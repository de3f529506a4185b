//! Split-half stability of representational dissimilarity matrices ("Shesha", Raju 2026): does one half of the
//! dimensions tell the same tokens apart as the other?

use faer::{Mat, MatRef};
use lcr_documents::audit::{RdmStability, SiteChange};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::descriptor::Transformation::{Rotation, Scaling, TokenOrder, Translation};
use super::descriptor::{Entry, Metric, Number, Reads, Runs, SiteMetric, Unit};
use crate::activations::Activations;
use crate::linalg::{NoConvergence, product, sum_pairs};
use crate::statistics::mean;

/// Random halvings of the dimensions, as many as in the paper.
const SPLITS: usize = 30;
/// Rows taken at most, evenly spaced: the dissimilarities of all pairs are sorted twice for each halving.
const ROWS: usize = 256;

/// `rdm_stability`.
pub static METRIC: Metric = Metric {
    name: "rdm_stability",
    runs: Runs::WhenAsked,
    reads: Reads::Rows(|base, chosen| Ok(Box::new(Stability::of(base, chosen.seed)))),
    entries: &[Entry {
        heading: "`rdm_stability.{base,adapted,difference}`",
        definition: "
Only where asked for, `--metrics rdm_stability`. The dimensions are halved at random, 30 times from the seed, the same \
            for
both models. In each half the cosines of all pairs of rows are a representational dissimilarity matrix; the two \
            halves'
are held against each other by Spearman's rank correlation, and the mean over halvings is the stability (\"Shesha\", \
            Raju
2026). At most 256 rows, evenly spaced. `null` under three rows or two dimensions, and where all cosines of a half are
equal.
1 says that any half of the dimensions knows which tokens are alike; a low value that single dimensions carry it.",
        blind_to: "
Blind to common scaling of Y. Not blind to rotations, also common ones, by intent: it asks what the model's own \
            dimensions
hold. `base` sees nothing of Y.",
        chance: "",
        trap: "
Trap: a large common mean, or a few dimensions of large variance that fall into one half, decide it. It says nothing of
whether base and adapted model agree: two models of equal stability may have nothing in common.",
        numbers: &[
            Number::new(
                "rdm_stability.base",
                "Mean rank correlation of the base's dissimilarities between random halves of the dimensions.",
                Unit::Cosine,
                "−1 to 1",
            )
            .chance("0")
            .blind_to(&[Scaling, Translation, Rotation, TokenOrder]),
            Number::new("rdm_stability.adapted", "The same of the adapted model.", Unit::Cosine, "−1 to 1")
                .chance("0")
                .blind_to(&[Scaling, TokenOrder]),
            Number::new("rdm_stability.difference", "`adapted` − `base`.", Unit::Cosine, "−2 to 2")
                .unchanged(0.0)
                .chance("0")
                .blind_to(&[Scaling, TokenOrder]),
        ],
        glossary: &[],
    }],
    references: &["Raju 2026. Geometric stability: The missing axis of representations. arXiv:2601.09173."],
};

/// The base's stability, and the halvings that it was measured with.
struct Stability {
    /// Orders of the dimensions, of which the first half is one half.
    orders: Vec<Vec<usize>>,
    base: Option<f64>,
}

impl Stability {
    fn of(base: &Activations, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut order: Vec<usize> = (0..base.width()).collect();
        let mut shuffled = || {
            order.shuffle(&mut random);
            order.clone()
        };
        let orders: Vec<Vec<usize>> = (0..SPLITS).map(|_| shuffled()).collect();
        let base = stability(base, &orders);
        Self { orders, base }
    }

    fn write(&self, adapted: Option<f64>, change: &mut SiteChange) {
        let difference = self.base.zip(adapted).map(|(base, adapted)| adapted - base);
        change.rdm_stability = Some(RdmStability { base: self.base, adapted, difference });
    }
}

impl SiteMetric for Stability {
    fn changed(&self, _: &Activations, adapted: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        self.write(stability(adapted, &self.orders), change);
        Ok(())
    }

    fn unchanged(&self, _: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        self.write(self.base, change);
        Ok(())
    }
}

/// Mean over halvings; `None` where one of them has no correlation.
fn stability(activations: &Activations, orders: &[Vec<usize>]) -> Option<f64> {
    let rows: Vec<&[f32]> = activations.iter().collect();
    let count = rows.len().min(ROWS);
    let rows: Vec<&[f32]> = (0..count).map(|index| rows[index * rows.len() / count]).collect();
    let correlations: Option<Vec<f64>> = orders.iter().map(|order| split_half(&rows, order)).collect();
    correlations.map(|found| mean(&found))
}

/// Rank correlation of the cosines of all pairs of rows, in the dimensions of the first half of `order` and in the
/// others.
fn split_half(rows: &[&[f32]], order: &[usize]) -> Option<f64> {
    let (left, right) = order.split_at(order.len() / 2);
    rank_correlation(&cosines_of_pairs(rows, left), &cosines_of_pairs(rows, right))
}

/// The cosine of every pair of rows in some dimensions. Dissimilarities are one less these, which turns both orders and
/// leaves their correlation. A row that is zero there has cosine 0 with all.
fn cosines_of_pairs(rows: &[&[f32]], dimensions: &[usize]) -> Vec<f64> {
    let unit: Vec<f64> = rows
        .iter()
        .flat_map(|row| {
            let values: Vec<f64> = dimensions.iter().map(|dimension| f64::from(row[*dimension])).collect();
            let norm = sum_pairs(&values, &values, |a, b| a * b).sqrt();
            values.into_iter().map(move |value| if norm > 0.0 { value / norm } else { 0.0 })
        })
        .collect();
    let unit = MatRef::from_row_major_slice(&unit, rows.len(), dimensions.len());
    let cosines: Mat<f64> = product(unit, unit.transpose());
    (0..rows.len()).flat_map(|column| cosines.col_as_slice(column)[column + 1..].to_vec()).collect()
}

/// Spearman's: Pearson's correlation of the ranks. `None` where a side is constant.
fn rank_correlation(left: &[f64], right: &[f64]) -> Option<f64> {
    let centre = (left.len() as f64 - 1.0) / 2.0;
    let centred = |values: &[f64]| ranks(values).into_iter().map(|rank| rank - centre).collect::<Vec<f64>>();
    let (left, right) = (centred(left), centred(right));
    let inner = |a: &[f64], b: &[f64]| sum_pairs(a, b, |a, b| a * b);
    let size = (inner(&left, &left) * inner(&right, &right)).sqrt();
    (size > 0.0).then(|| inner(&left, &right) / size)
}

/// Ranks from 0 on; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|left, right| values[*left].total_cmp(&values[*right]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for equal in order.chunk_by(|left, right| values[*left] == values[*right]) {
        let rank = first as f64 + (equal.len() as f64 - 1.0) / 2.0;
        equal.iter().for_each(|index| ranks[*index] = rank);
        first += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayView2;
    use rand::Rng;

    use super::*;

    fn activations(rows: usize, width: usize, value: impl Fn(usize, usize) -> f64) -> Activations {
        let values: Vec<f32> = (0..rows * width).map(|at| value(at / width, at % width) as f32).collect();
        Activations::new(&ArrayView2::from_shape((rows, width), &values).unwrap(), &vec![true; rows])
    }

    /// Multiples of 1/8 that repeat after 101.
    fn scattered(at: usize) -> f64 {
        ((at * 37 + 4) % 101) as f64 / 8.0 - 6.25
    }

    /// `scipy.stats.spearmanr`, which gives equal values the mean of their ranks.
    #[test]
    fn ties_share_their_ranks_as_scipy_has_it() {
        let left = [1.0, 2.0, 2.0, 3.0, 5.0, 5.0, 5.0, 0.0];
        let right = [2.0, 1.0, 4.0, 4.0, 0.0, 7.0, 7.0, 3.0];
        let found = rank_correlation(&left, &right).unwrap();
        assert!((found - 0.341_674_228_135_918_13).abs() < 1e-14, "{found}");
        assert_eq!(rank_correlation(&left, &[1.0; 8]), None);
    }

    /// `spearmanr` of `scipy.spatial.distance.pdist(…, "cosine")` of even and of odd columns; no two of the distances
    /// are equal.
    #[test]
    fn halves_agree_as_scipy_has_it() {
        let value = |at: usize| ((at * at * 37 + at * 11 + 4) % 1009) as f64 / 64.0 - 8.0;
        let states = activations(14, 10, |row, column| value(row * 10 + column));
        let rows: Vec<&[f32]> = states.iter().collect();
        let found = split_half(&rows, &[0, 2, 4, 6, 8, 1, 3, 5, 7, 9]).unwrap();
        assert!((found - 0.141_248_606_465_997_8).abs() < 1e-12, "{found}");
    }

    /// `shesha.feature_split` of shesha-geometry 0.3.0 with 4000 halvings gives 0.6829 and 0.5457, and standard
    /// deviations of 0.059 and 0.067 between halvings: of thirty, 0.012 of their mean.
    #[test]
    fn stability_is_that_of_shesha() {
        let base = |row: usize, column: usize| {
            let spread = ((row * row * 13) % 29) as f64 - 14.0;
            scattered(row * 16 + column) + spread * (((column * 3) % 5) as f64 - 2.0) / 4.0
        };
        let noise = |row: usize, column: usize| (((row * 16 + column) * 29 + 13) % 47) as f64 / 4.0 - 5.75;
        let left = activations(40, 16, base);
        let right = activations(40, 16, |row, column| base(row, column) + noise(row, column));
        let mut change = SiteChange::default();
        Stability::of(&left, 0).changed(&left, &right, &mut change).unwrap();
        let found = change.rdm_stability.unwrap();
        assert!((found.base.unwrap() - 0.6829).abs() < 0.036, "{found:?}");
        assert!((found.adapted.unwrap() - 0.5457).abs() < 0.036, "{found:?}");
        assert_eq!(found.difference, Some(found.adapted.unwrap() - found.base.unwrap()));
    }

    /// A second copy of all columns tells tokens apart as the first does; unrelated columns know nothing of each other.
    #[test]
    fn copies_are_stable_and_noise_is_not() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let noise: Vec<f64> = (0..300 * 64).map(|_| random.random::<f64>() - 0.5).collect();
        let unrelated = activations(300, 64, |row, column| noise[row * 64 + column]);
        let copied = activations(300, 64, |row, column| noise[row * 64 + column % 32]);
        let copies: Vec<usize> = (0..64).collect();
        let found = stability(&copied, &[copies]).unwrap();
        assert!((found - 1.0).abs() < 1e-12, "{found}");
        let orders = Stability::of(&unrelated, 0).orders;
        let found = stability(&unrelated, &orders).unwrap();
        assert!(found.abs() < 0.02, "{found}");
        let two = activations(2, 64, |row, column| noise[row * 64 + column]);
        assert_eq!(stability(&two, &orders), None);
    }
}
