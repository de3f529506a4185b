//! Everything measured at one site: the base's rows once, each variant's rows against them.

use candle_core::Device;
use faer::Mat;
use lcr_model::decoder::{Lanes, Sequence, Site, with_values};
use ndarray::{Array2, ArrayView2};

use crate::AuditError;
use crate::activations::{Activations, Factors};
use crate::audit::{Drift, Procrustes, SiteChange, SpectrumPair, Subspace};
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
fn host_rows(lanes: &Lanes, model: usize) -> Result<Array2<f32>, AuditError> {
    let tensor = lanes.model(model).to_device(&Device::Cpu)?;
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
    lanes: &Lanes,
    sequences: &[Sequence],
    options: &SiteOptions,
) -> Result<Vec<SiteResult>, AuditError> {
    let base_values = host_rows(lanes, 0)?;
    let mut side: Option<BaseSide> = None;
    let mut results = Vec::new();
    for model in 1..lanes.of_model().len() {
        let same = lanes.same(0, model);
        let adapted_values = if same { None } else { Some(host_rows(lanes, model)?) };
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
