//! k-means (Lloyd 1982, seeded by k-means++) on both models' activations, and how far the two labelings agree.

use faer::MatRef;
use lcr_documents::audit::{Clusters, SiteChange};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::descriptor::Transformation::{CommonRotation, Rotation, Scaling, Translation};
use super::descriptor::{Entry, Metric, Number, Reads, Runs, SiteMetric, Transformation, Unit};
use crate::activations::Activations;
use crate::linalg::NoConvergence;

/// Clusters asked for.
const CLUSTERS: usize = 8;
/// Rounds of Lloyd's algorithm at most.
const ROUNDS: usize = 20;
/// Fewer tokens than this per cluster are not clustered.
const TOKENS_PER_CLUSTER: usize = 4;

/// `clusters`.
pub static METRIC: Metric = Metric {
    name: "clusters",
    runs: Runs::ByDefault,
    reads: Reads::Rows(|base, chosen| Ok(Box::new(BaseClusters::new(base, chosen.seed)))),
    entries: &[Entry {
        heading: "`clusters.{k,ari,nmi,ceiling}`",
        definition: "
k-means (Lloyd 1982, started by k-means++, Arthur and Vassilvitskii 2007; k = 8, at most 20 rounds) on X and on Y from
the same seed. ari = adjusted Rand index of the two labelings (Hubert and Arabie 1985), 1 for equal partitions and 0
expected for unrelated ones, negative possible. nmi = mutual information over the arithmetic mean of both entropies.
`null` under 32 rows.
ceiling = the ARI of two clusterings of the *base*, each with centroids from a bootstrap of its rows: the agreement that
k-means itself allows on these data.",
        blind_to: "
Blind to the names of clusters, to shift, to rotation, and to common scaling of Y apart from the choice of starts, which
the order of tokens moves.",
        chance: "nmi of unrelated labelings is above 0.",
        trap: "
Trap: without the ceiling the number is unreadable. Where tokens form no clusters, the ceiling may be 0.5, and an `ari`
of 0.5 is then no change at all. An `ari` *above* the ceiling is normal: the same seed on nearly the same data starts in
the same place.",
        numbers: &[
            Number::new("clusters.k", "Clusters asked for.", Unit::Count, "8")
                .unchanged(8.0)
                .blind_to(&Transformation::OF_ACTIVATIONS),
            Number::new("clusters.ari", "Adjusted Rand index of the two labelings.", Unit::Share, "at most 1")
                .less_change(1.0)
                .chance("0")
                .blind_to(DISTANCES),
            Number::new(
                "clusters.nmi",
                "Normalised mutual information (arithmetic mean) of the two labelings.",
                Unit::Share,
                "0 to 1",
            )
            .less_change(1.0)
            .chance("above 0")
            .blind_to(DISTANCES),
            Number::new(
                "clusters.ceiling",
                "Adjusted Rand index of two bootstraps of the base: the agreement that chance in k-means allows.",
                Unit::Share,
                "at most 1",
            )
            .blind_to(DISTANCES),
        ],
        glossary: &[(
            "clusters ARI",
            "Agreement of k-means on both models. Hold it against the ceiling beside it: the agreement of k-means with \
             itself. NMI is normalised mutual information of the same two labelings.",
        )],
    }],
    references: &[
        "Arthur, Vassilvitskii 2007. k-means++: The advantages of careful seeding. SODA.",
        "Hubert, Arabie 1985. Comparing partitions. Journal of Classification 2.",
        "Lloyd 1982. Least squares quantization in PCM. IEEE Transactions on Information Theory 28.",
    ],
};

const DISTANCES: &[Transformation] = &[Scaling, Translation, CommonRotation, Rotation];

/// `None` where there are too few tokens.
impl SiteMetric for Option<BaseClusters> {
    fn changed(&self, _: &Activations, adapted: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        change.clusters = self.as_ref().map(|clusters| clusters.compare(adapted));
        Ok(())
    }

    fn unchanged(&self, _: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        change.clusters = self.as_ref().map(|clusters| clusters.against(&clusters.labels));
        Ok(())
    }
}

/// The base's labeling and its own reproducibility, shared by all variants.
#[derive(Debug)]
pub struct BaseClusters {
    labels: Vec<usize>,
    ceiling: f64,
    seed: u64,
}

impl BaseClusters {
    /// Clusters the base twice over, whole and in two bootstraps; `None` where there are too few tokens.
    pub fn new(base: &Activations, seed: u64) -> Option<Self> {
        if base.rows() < CLUSTERS * TOKENS_PER_CLUSTER {
            return None;
        }
        let everything: Vec<usize> = (0..base.rows()).collect();
        let labels = assign(base, &centroids(base, &everything, seed));
        let bootstrap = |draw: u64| {
            let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(draw));
            let rows: Vec<usize> = (0..base.rows()).map(|_| random.random_range(0..base.rows())).collect();
            assign(base, &centroids(base, &rows, seed))
        };
        let ceiling = adjusted_rand(&bootstrap(1), &bootstrap(2));
        Some(Self { labels, ceiling, seed })
    }

    /// Agreement of the base's labeling with the adapted model's, same seed.
    pub fn compare(&self, adapted: &Activations) -> Clusters {
        let everything: Vec<usize> = (0..adapted.rows()).collect();
        self.against(&assign(adapted, &centroids(adapted, &everything, self.seed)))
    }

    fn against(&self, labels: &[usize]) -> Clusters {
        Clusters {
            k: CLUSTERS,
            ari: adjusted_rand(&self.labels, labels),
            nmi: normalised_mutual_information(&self.labels, labels),
            ceiling: self.ceiling,
        }
    }
}

fn squared_distance(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(a, b)| (a - b) * (a - b)).sum()
}

fn row(activations: &Activations, index: usize) -> &[f32] {
    let width = activations.width();
    &activations.values()[index * width..(index + 1) * width]
}

/// Centroids of the chosen rows, `[CLUSTERS, width]` row-major.
fn centroids(activations: &Activations, chosen: &[usize], seed: u64) -> Vec<f32> {
    let width = activations.width();
    let mut centres = plus_plus(activations, chosen, seed);
    let mut labels = Vec::new();
    for _ in 0..ROUNDS {
        let all = assign(activations, &centres);
        let now: Vec<usize> = chosen.iter().map(|index| all[*index]).collect();
        if now == labels {
            break;
        }
        labels = now;
        let mut sums = vec![0.0f64; CLUSTERS * width];
        let mut counts = [0usize; CLUSTERS];
        for (&index, &label) in chosen.iter().zip(&labels) {
            counts[label] += 1;
            let sum = &mut sums[label * width..(label + 1) * width];
            sum.iter_mut().zip(row(activations, index)).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        for (label, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            let centre = &mut centres[label * width..(label + 1) * width];
            centre
                .iter_mut()
                .zip(&sums[label * width..])
                .for_each(|(centre, sum)| *centre = (sum / count as f64) as f32);
        }
    }
    centres
}

/// k-means++ (Arthur and Vassilvitskii 2007).
fn plus_plus(activations: &Activations, chosen: &[usize], seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut centres = row(activations, chosen[random.random_range(0..chosen.len())]).to_vec();
    let mut nearest = vec![f32::INFINITY; chosen.len()];
    for _ in 1..CLUSTERS {
        let last = &centres[centres.len() - activations.width()..];
        for (distance, index) in nearest.iter_mut().zip(chosen) {
            *distance = distance.min(squared_distance(row(activations, *index), last));
        }
        let total: f64 = nearest.iter().map(|distance| f64::from(*distance)).sum();
        let mut left = random.random::<f64>() * total;
        let next = nearest.iter().position(|distance| {
            left -= f64::from(*distance);
            left <= 0.0
        });
        centres.extend_from_slice(row(activations, chosen[next.unwrap_or(0)]));
    }
    centres
}

/// The nearest centroid of every row: argmax of x·c − ½‖c‖².
fn assign(activations: &Activations, centres: &[f32]) -> Vec<usize> {
    let width = activations.width();
    let points = MatRef::from_row_major_slice(activations.values(), activations.rows(), width);
    let centre_rows = MatRef::from_row_major_slice(centres, CLUSTERS, width);
    let mut scores = faer::Mat::<f32>::zeros(activations.rows(), CLUSTERS);
    faer::linalg::matmul::matmul(
        scores.as_mut(),
        faer::Accum::Replace,
        points,
        centre_rows.transpose(),
        1.0,
        faer::Par::Seq,
    );
    let halves: Vec<f32> =
        centres.chunks_exact(width).map(|centre| 0.5 * centre.iter().map(|value| value * value).sum::<f32>()).collect();
    (0..activations.rows())
        .map(|index| {
            let score = |label: usize| scores[(index, label)] - halves[label];
            (1..CLUSTERS).fold(0, |best, label| if score(label) > score(best) { label } else { best })
        })
        .collect()
}

/// Counts of label pairs, and of each side's labels.
fn contingency(left: &[usize], right: &[usize]) -> ([[f64; CLUSTERS]; CLUSTERS], [f64; CLUSTERS], [f64; CLUSTERS]) {
    let mut table = [[0.0; CLUSTERS]; CLUSTERS];
    for (left, right) in left.iter().zip(right) {
        table[*left][*right] += 1.0;
    }
    let left_sums = table.map(|row| row.iter().sum());
    let right_sums = std::array::from_fn(|column| table.iter().map(|row| row[column]).sum());
    (table, left_sums, right_sums)
}

/// Adjusted Rand index (Hubert and Arabie 1985): 1 for equal partitions, 0 expected for unrelated ones.
fn adjusted_rand(left: &[usize], right: &[usize]) -> f64 {
    let pairs = |count: f64| count * (count - 1.0) / 2.0;
    let (table, left_sums, right_sums) = contingency(left, right);
    let together: f64 = table.iter().flatten().map(|count| pairs(*count)).sum();
    let (left_pairs, right_pairs): (f64, f64) =
        (left_sums.iter().map(|count| pairs(*count)).sum(), right_sums.iter().map(|count| pairs(*count)).sum());
    let expected = left_pairs * right_pairs / pairs(left.len() as f64);
    let largest = f64::midpoint(left_pairs, right_pairs);
    if largest == expected { 1.0 } else { (together - expected) / (largest - expected) }
}

/// Mutual information over the mean of both entropies.
fn normalised_mutual_information(left: &[usize], right: &[usize]) -> f64 {
    let total = left.len() as f64;
    let (table, left_sums, right_sums) = contingency(left, right);
    let entropy = |sums: &[f64]| {
        sums.iter().filter(|count| **count > 0.0).map(|count| -count / total * (count / total).ln()).sum::<f64>()
    };
    let mut information = 0.0;
    for (row, left_sum) in table.iter().zip(left_sums) {
        for (count, right_sum) in row.iter().zip(right_sums).filter(|(count, _)| **count > 0.0) {
            information += count / total * (count * total / (left_sum * right_sum)).ln();
        }
    }
    let scale = f64::midpoint(entropy(&left_sums), entropy(&right_sums));
    if scale > 0.0 { information / scale } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_ignores_names_of_clusters() {
        let left = [0, 0, 1, 1, 2, 2];
        let renamed = [2, 2, 0, 0, 1, 1];
        assert_eq!(adjusted_rand(&left, &renamed), 1.0);
        assert!((normalised_mutual_information(&left, &renamed) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn known_value_of_the_adjusted_rand_index() {
        // The worked example of Hubert and Arabie's definition: sklearn's adjusted_rand_score gives 0.24242424.
        let value = adjusted_rand(&[0, 0, 0, 1, 1, 1], &[0, 0, 1, 1, 2, 2]);
        assert!((value - 0.242_424_242_424).abs() < 1e-9, "{value}");
    }

    #[test]
    fn separate_blobs_are_found_and_reproducible() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let values: Vec<f32> = (0..800)
            .map(|at| (at / 100) as f32 * if at % 2 == 0 { 50.0 } else { -20.0 } + random.random::<f32>())
            .collect();
        let base = Activations::new(&ndarray::ArrayView2::from_shape((400, 2), &values).unwrap(), &[true; 400]);
        let clusters = BaseClusters::new(&base, 7).unwrap();
        assert!(clusters.ceiling > 0.7, "{}", clusters.ceiling);
        assert_eq!(clusters.compare(&base).ari, 1.0);
    }

    /// scikit-learn 1.9: `adjusted_rand_score` and `normalized_mutual_info_score`, whose scale is the arithmetic mean
    /// of both entropies.
    #[test]
    fn partitions_that_agree_in_part_agree_as_scikit_learn_has_it() {
        let left = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3];
        let right = [4, 4, 4, 4, 0, 0, 0, 0, 1, 1, 2, 2];
        assert!((adjusted_rand(&left, &right) - 0.318_347_509_113).abs() < 1e-11);
        let information = normalised_mutual_information(&left, &right);
        assert!((information - 0.582_755_061_056).abs() < 1e-11, "{information}");
        // Independent halves: less than chance, and no information.
        let (left, right) = ([0, 1, 0, 1, 0, 1, 0, 1], [0, 0, 1, 1, 0, 0, 1, 1]);
        assert!((adjusted_rand(&left, &right) + 1.0 / 6.0).abs() < 1e-12);
        assert!(normalised_mutual_information(&left, &right).abs() < 1e-12);
        let one = [3; 8];
        assert_eq!((adjusted_rand(&one, &one), normalised_mutual_information(&one, &one)), (1.0, 1.0));
    }

    /// Five points near each corner of a cube of side 100, at distances from the origin that differ.
    fn corners(corner: impl Fn(usize) -> usize) -> Activations {
        let values: Vec<f32> = (0..40)
            .flat_map(|point| {
                let corner = corner(point);
                [0, 1, 2].map(|axis| ((corner >> axis) % 2 * 100 + (point * 7 + axis * 3) % 5) as f32)
            })
            .collect();
        Activations::new(&ndarray::ArrayView2::from_shape((40, 3), &values).unwrap(), &[true; 40])
    }

    /// Every sixth point of the adapted model is at another corner: the agreement of the two labelings is
    /// scikit-learn's of the corners themselves.
    #[test]
    fn points_that_move_to_another_blob_change_their_cluster() {
        let home = |point: usize| point / 5;
        let moved = |point: usize| if point.is_multiple_of(6) { (home(point) + 1) % 8 } else { home(point) };
        for seed in 0..8 {
            let base = BaseClusters::new(&corners(home), seed).unwrap();
            let found = base.compare(&corners(moved));
            assert_eq!((found.k, found.ceiling), (8, 1.0), "{seed}");
            assert!((found.ari - 0.605_221_097_496).abs() < 1e-11, "{seed}: {}", found.ari);
            assert!((found.nmi - 0.787_970_608_436).abs() < 1e-11, "{seed}: {}", found.nmi);
        }
    }

    /// Rows that form no clusters.
    fn scattered(rows: usize) -> Activations {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let values: Vec<f32> = (0..rows * 4).map(|_| random.random::<f32>()).collect();
        Activations::new(&ndarray::ArrayView2::from_shape((rows, 4), &values).unwrap(), &vec![true; rows])
    }

    /// Two bootstraps part such rows differently: a ceiling of one would say otherwise. The same seed on the same rows
    /// does not.
    #[test]
    fn the_ceiling_is_low_where_there_are_no_clusters() {
        let rows = scattered(200);
        let base = BaseClusters::new(&rows, 0).unwrap();
        assert!((0.1..0.9).contains(&base.ceiling), "{}", base.ceiling);
        assert_eq!(base.compare(&rows).ari, 1.0);
        assert!(BaseClusters::new(&scattered(31), 0).is_none() && BaseClusters::new(&scattered(32), 0).is_some());
    }

    /// Where Lloyd's algorithm has come to rest every centre is the mean of the rows that it is nearest to.
    #[test]
    fn centres_are_means_of_their_rows() {
        let rows = scattered(60);
        let everything: Vec<usize> = (0..60).collect();
        let centres = centroids(&rows, &everything, 0);
        let labels = assign(&rows, &centres);
        for (label, centre) in centres.chunks_exact(4).enumerate() {
            let own: Vec<usize> = (0..60).filter(|index| labels[*index] == label).collect();
            for (axis, value) in centre.iter().enumerate() {
                let mean = own.iter().map(|index| row(&rows, *index)[axis]).sum::<f32>() / own.len() as f32;
                assert!((mean - value).abs() < 1e-6, "{label}: {mean} {value}");
            }
        }
    }
}
