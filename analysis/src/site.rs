//! Everything measured at one site: the base's rows once, each variant's rows against them.

use candle_core::Device;
use faer::Mat;
use lcr_documents::audit::{Drift, Procrustes, SiteChange, SpectrumPair, Subspace};
use lcr_model::decoder::{Branches, Sequence, Site, with_values};
use ndarray::{Array2, ArrayView2};

use crate::AuditError;
use crate::activations::{Activations, Factors};
use crate::clusters::BaseClusters;
use crate::drift::drift;
use crate::metric::Metric;
use crate::procrustes::procrustes;
use crate::similarity::{
    cka, cosine_centered, cosine_flat, cosines, knn_chance, knn_overlap, neighbours, relative_change,
};
use crate::spectrum;
use crate::subspace::subspace;

/// A token is a sink where its norm exceeds this many times the median token's.
const SINK_RATIO: f64 = 10.0;

/// What to measure at every site.
#[derive(Debug, Clone)]
pub struct SiteOptions {
    /// Metrics asked for.
    pub metrics: Vec<Metric>,
    /// Whether rows that are sinks by their norm stay in.
    pub keep_sinks: bool,
    /// Dimensions of the subspaces compared.
    pub subspace_dimensions: usize,
    /// Seed of the clusterings.
    pub seed: u64,
}

impl SiteOptions {
    fn wants(&self, metric: Metric) -> bool {
        self.metrics.contains(&metric)
    }

    /// Leading singular vectors that the metrics asked for need.
    fn leading(&self, rows: usize, width: usize) -> usize {
        if self.wants(Metric::Subspace) { self.subspace_dimensions.min(rows).min(width) } else { 0 }
    }
}

/// Result of one variant at one site.
#[derive(Debug)]
pub struct SiteResult {
    /// The report's entry.
    pub change: SiteChange,
    /// Rows left out as sinks by their norm.
    pub sinks: usize,
}

/// Rows of one model on the host, `[tokens, width]`.
fn host_rows(branches: &Branches, model: usize) -> Result<Array2<f32>, AuditError> {
    let tensor = branches.model(model).to_device(&Device::Cpu)?;
    let mut rows = Array2::zeros(tensor.dims2()?);
    with_values(&tensor, |values| rows.iter_mut().zip(values).for_each(|(row, value)| *row = *value))?;
    Ok(rows)
}

/// Rows that count: not the first of a sequence, and, unless kept, no sink in either model.
fn kept_rows(
    base: &ArrayView2<f32>,
    adapted: &ArrayView2<f32>,
    sequences: &[Sequence],
    keep_sinks: bool,
) -> (Vec<bool>, usize) {
    let mut keep = vec![true; base.nrows()];
    sequences
        .iter()
        .filter(|sequence| !sequence.queries.is_empty())
        .for_each(|sequence| keep[sequence.queries.start] = false);
    if keep_sinks {
        return (keep, 0);
    }
    let mut sinks = vec![false; keep.len()];
    for values in [base, adapted] {
        let norms: Vec<f64> = values
            .rows()
            .into_iter()
            .map(|row| row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt())
            .collect();
        let mut sorted: Vec<f64> = norms.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(norm, _)| *norm).collect();
        sorted.sort_by(f64::total_cmp);
        let limit = SINK_RATIO * crate::similarity::percentile(&sorted, 0.5);
        sinks.iter_mut().zip(norms).for_each(|(sink, norm)| *sink |= norm > limit);
    }
    let found = sinks.iter().zip(&keep).filter(|(sink, keep)| **sink && **keep).count();
    keep.iter_mut().zip(sinks).for_each(|(keep, sink)| *keep &= !sink);
    (keep, found)
}

/// The base's side of a site under one choice of rows.
struct BaseSide {
    keep: Vec<bool>,
    activations: Activations,
    factors: Option<Factors>,
    neighbours: Option<Vec<Vec<usize>>>,
    clusters: Option<BaseClusters>,
}

impl BaseSide {
    fn new(values: &ArrayView2<f32>, keep: Vec<bool>, options: &SiteOptions) -> Result<Self, AuditError> {
        let activations = Activations::new(values, &keep);
        let factors = factors(&activations, options)?;
        let neighbours =
            options.wants(Metric::Knn).then(|| neighbours(&activations, row_gram(&activations, factors.as_ref())));
        let clusters =
            if options.wants(Metric::Clusters) { BaseClusters::new(&activations, options.seed) } else { None };
        Ok(Self { keep, activations, factors, neighbours, clusters })
    }
}

fn row_gram<'a>(activations: &Activations, factors: Option<&'a Factors>) -> Option<&'a Mat<f64>> {
    factors.and_then(|factors| factors.row_gram(activations))
}

fn factors(activations: &Activations, options: &SiteOptions) -> Result<Option<Factors>, AuditError> {
    let needed = [Metric::Cka, Metric::Spectrum, Metric::Subspace].iter().any(|metric| options.wants(*metric));
    if !needed || activations.rows() == 0 {
        return Ok(None);
    }
    let leading = options.leading(activations.rows(), activations.width());
    Ok(Some(Factors::new(activations, options.wants(Metric::Spectrum), leading)?))
}

/// Measures every variant (models 1, 2, …) against the base (model 0) at one site.
pub fn compare_site(
    site: Site,
    branches: &Branches,
    sequences: &[Sequence],
    options: &SiteOptions,
) -> Result<Vec<SiteResult>, AuditError> {
    let base_values = host_rows(branches, 0)?;
    let mut side: Option<BaseSide> = None;
    let mut results = Vec::new();
    for model in 1..branches.of_model().len() {
        let same = branches.same(0, model);
        let adapted_values = if same { None } else { Some(host_rows(branches, model)?) };
        let other = adapted_values.as_ref().unwrap_or(&base_values).view();
        let (keep, sinks) = kept_rows(&base_values.view(), &other, sequences, options.keep_sinks);
        if !keep.iter().any(|keep| *keep) {
            return Err(AuditError::NoRows { site: site.to_string() });
        }
        let base = match side.take() {
            Some(known) if known.keep == keep => known,
            _ => BaseSide::new(&base_values.view(), keep, options)?,
        };
        let change = match &adapted_values {
            None => unchanged(&base, options),
            Some(values) => changed(&base, &Activations::new(&values.view(), &base.keep), options)?,
        };
        side = Some(base);
        results.push(SiteResult { change, sinks });
    }
    Ok(results)
}

fn changed(base: &BaseSide, adapted: &Activations, options: &SiteOptions) -> Result<SiteChange, AuditError> {
    let x = &base.activations;
    let adapted_factors = factors(adapted, options)?;
    let both = base.factors.as_ref().zip(adapted_factors.as_ref());
    let similarity = both.filter(|_| options.wants(Metric::Cka)).map(|(left, right)| cka(x, adapted, left, right));
    let spectra = both.filter(|_| options.wants(Metric::Spectrum)).map(|(left, right)| SpectrumPair {
        base: spectrum::summary(&left.squares),
        adapted: spectrum::summary(&right.squares),
        js: spectrum::divergence(&left.squares, &right.squares),
    });
    let subspaces = match both.filter(|_| options.wants(Metric::Subspace)) {
        Some((left, right)) => Some(subspace(left, right)?),
        None => None,
    };
    let overlap = base
        .neighbours
        .as_ref()
        .and_then(|known| knn_overlap(known, &neighbours(adapted, row_gram(adapted, adapted_factors.as_ref()))));
    Ok(SiteChange {
        rows: x.rows(),
        relative_change: relative_change(x, adapted),
        cosine: cosines(x, adapted),
        cosine_flat: cosine_flat(x, adapted),
        cosine_centered: cosine_centered(x, adapted),
        cka: similarity.and_then(|found| found.plain),
        cka_debiased: similarity.and_then(|found| found.debiased),
        procrustes: if options.wants(Metric::Procrustes) { Some(procrustes(x, adapted)?) } else { None },
        knn_overlap: overlap,
        knn_chance: overlap.and_then(|_| knn_chance(x.rows())),
        subspace: subspaces,
        spectrum: spectra,
        drift: options.wants(Metric::Drift).then(|| drift(x, adapted)),
        clusters: base.clusters.as_ref().map(|clusters| clusters.compare(adapted)),
        attention: None,
    })
}

/// The entry of a site that the variant shares with the base: what every metric is for equal rows, without computing it.
fn unchanged(base: &BaseSide, options: &SiteOptions) -> SiteChange {
    let x = &base.activations;
    let own = base.factors.as_ref();
    let similar = own.filter(|_| options.wants(Metric::Cka)).map(|factors| cka(x, x, factors, factors));
    let one = |value: Option<f64>| value.map(|_| 1.0);
    let spectra = own.filter(|_| options.wants(Metric::Spectrum)).map(|factors| {
        let summary = spectrum::summary(&factors.squares);
        SpectrumPair { base: summary.clone(), adapted: summary, js: 0.0 }
    });
    let subspaces = own.filter(|_| options.wants(Metric::Subspace)).map(|factors| {
        let k = factors.leading.ncols();
        let gap = crate::subspace::gap(&factors.squares, k);
        Subspace { k, overlap: 1.0, max_angle_deg: 0.0, base_gap: gap, adapted_gap: gap }
    });
    let overlap = base.neighbours.as_ref().and_then(|known| knn_overlap(known, known));
    SiteChange {
        rows: x.rows(),
        relative_change: 0.0,
        cosine: cosines(x, x),
        cosine_flat: 1.0,
        cosine_centered: 1.0,
        cka: one(similar.and_then(|found| found.plain)),
        cka_debiased: one(similar.and_then(|found| found.debiased)),
        procrustes: options.wants(Metric::Procrustes).then_some(Procrustes {
            raw_squared: 0.0,
            residual_squared: 0.0,
            explained: None,
        }),
        knn_overlap: overlap,
        knn_chance: overlap.and_then(|_| knn_chance(x.rows())),
        subspace: subspaces,
        spectrum: spectra,
        drift: options.wants(Metric::Drift).then(|| Drift {
            size: 0.0,
            coherence: None,
            coherence_chance: 1.0 / (x.rows() as f64).sqrt(),
            pc1_share: None,
        }),
        clusters: base.clusters.as_ref().map(|clusters| clusters.compare(x)),
        attention: None,
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;

    /// Rows (3, 4)·size/5, of norm size.
    fn rows(sizes: &[f32]) -> Array2<f32> {
        Array2::from_shape_fn((sizes.len(), 2), |(row, column)| sizes[row] / 5.0 * [3.0, 4.0][column])
    }

    fn kept(base: &[f32], adapted: &[f32], lengths: &[usize], keep_sinks: bool) -> (Vec<usize>, usize) {
        let sequences = Sequence::consecutive(lengths);
        let (keep, sinks) = kept_rows(&rows(base).view(), &rows(adapted).view(), &sequences, keep_sinks);
        ((0..keep.len()).filter(|row| keep[*row]).collect(), sinks)
    }

    /// Ten times the median stays, anything above goes, whichever model it is in; the first row of each sequence goes in any case
    /// and is no sink that is counted.
    #[test]
    fn sinks_are_rows_above_ten_times_the_median_of_either_model() {
        let base = [500.0, 5.0, 5.0, 50.0, 5.0, 500.0, 52.0, 5.0, 5.0];
        let adapted = [500.0, 5.0, 5.0, 50.0, 5.0, 500.0, 5.0, 55.0, 5.0];
        let same = [5.0; 9];
        let lengths = [5, 4];
        assert_eq!(kept(&base, &base, &lengths, false), (vec![1, 2, 3, 4, 7, 8], 1));
        assert_eq!(kept(&base, &adapted, &lengths, false), (vec![1, 2, 3, 4, 8], 2));
        assert_eq!(kept(&same, &adapted, &lengths, false), (vec![1, 2, 3, 4, 6, 8], 1));
        assert_eq!(kept(&adapted, &same, &lengths, false), (vec![1, 2, 3, 4, 6, 8], 1));
        assert_eq!(kept(&base, &adapted, &lengths, true), (vec![1, 2, 3, 4, 6, 7, 8], 0));
    }

    /// Long first rows do not raise the median: of 5, 5, 5 and 55 it is 5, of all eight rows it would be 277.5.
    #[test]
    fn the_median_is_of_the_rows_that_count() {
        let sizes = [500.0, 5.0, 500.0, 5.0, 500.0, 5.0, 500.0, 55.0];
        assert_eq!(kept(&sizes, &sizes, &[2, 2, 2, 2], false), (vec![1, 3, 5], 1));
        // Between 5 and 10 the median is 7.5: 75 stays, 76 goes.
        let sizes = [500.0, 5.0, 5.0, 10.0, 75.0];
        assert_eq!(kept(&sizes, &sizes, &[5], false).1, 0);
        let sizes = [500.0, 5.0, 5.0, 10.0, 76.0];
        assert_eq!(kept(&sizes, &sizes, &[5], false), (vec![1, 2, 3], 1));
    }

    fn options(keep_sinks: bool) -> SiteOptions {
        let metrics = Metric::ALL.iter().map(|(metric, _)| *metric).collect();
        SiteOptions { metrics, keep_sinks, subspace_dimensions: 3, seed: 0 }
    }

    fn values(rows: usize, width: usize, factor: usize) -> Vec<f32> {
        (0..rows * width).map(|at| ((at * at + factor * at) % 41) as f32 / 8.0 - 2.5).collect()
    }

    fn branches(models: &[&[f32]], width: usize) -> Branches {
        let tensor = |values: &[f32]| Tensor::from_slice(values, (values.len() / width, width), &Device::Cpu).unwrap();
        Branches::of(models.iter().map(|values| tensor(values)).collect(), (0..models.len()).collect()).unwrap()
    }

    fn json(change: &SiteChange) -> serde_json::Value {
        serde_json::to_value(change).unwrap()
    }

    /// What is said of a shared branch without looking at a number is what is measured of equal rows.
    #[test]
    fn a_shared_lane_is_measured_as_equal_rows_are() {
        for (count, width) in [(44, 6), (36, 50)] {
            let rows = values(count, width, 3);
            let sequences = Sequence::consecutive(&[count / 2, count / 2]);
            let tensor = Tensor::from_slice(&rows, (count, width), &Device::Cpu).unwrap();
            let shared =
                compare_site(Site::Resid(0), &Branches::shared(tensor, 2), &sequences, &options(false)).unwrap();
            let equal =
                compare_site(Site::Resid(0), &branches(&[&rows, &rows], width), &sequences, &options(false)).unwrap();
            let mut pairs = vec![(String::new(), json(&shared[0].change), json(&equal[0].change))];
            let mut numbers = 0;
            while let Some((place, left, right)) = pairs.pop() {
                if let (Some(left), Some(right)) = (left.as_object(), right.as_object()) {
                    assert_eq!(left.len(), right.len(), "{place}");
                    pairs.extend(
                        left.iter().map(|(key, value)| (format!("{place}/{key}"), value.clone(), right[key].clone())),
                    );
                } else if let (Some(left), Some(right)) = (left.as_f64(), right.as_f64()) {
                    numbers += 1;
                    // An angle's rounding is in degrees.
                    let tolerance = if place.ends_with("_deg") { 1e-5 } else { 1e-12 };
                    assert!((left - right).abs() <= tolerance, "{place}: {left} {right}");
                } else {
                    assert_eq!(left, right, "{place}");
                }
            }
            assert!(numbers > 30, "{numbers}");
        }
    }

    /// Each variant stands alone: a sink of one leaves the rows of another where they were, whatever the order.
    #[test]
    fn variants_do_not_share_their_sinks() {
        let (base, other) = (values(40, 6, 3), values(40, 6, 4));
        let mut long = other.clone();
        long[60..66].iter_mut().for_each(|value| *value = 1000.0);
        let sequences = Sequence::consecutive(&[20, 20]);
        let measured = |models: &[&[f32]]| {
            let results = compare_site(Site::MlpOut(1), &branches(models, 6), &sequences, &options(false)).unwrap();
            results.iter().map(|result| (json(&result.change), result.sinks)).collect::<Vec<_>>()
        };
        let together = measured(&[&base, &other, &long, &other]);
        assert_eq!(together[0], measured(&[&base, &other])[0]);
        assert_eq!(together[1], measured(&[&base, &long])[0]);
        assert_eq!((&together[2], together[0].1, together[1].1), (&together[0], 0, 1));
        assert_eq!((&together[0].0["rows"], &together[1].0["rows"]), (&38.into(), &37.into()));
    }
}
