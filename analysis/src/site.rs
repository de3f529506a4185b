//! Everything measured at one site: the base's rows once, each variant's rows against them.

use candle_core::Device;
use lcr_documents::audit::SiteChange;
use lcr_model::decoder::{Branches, Sequence, Site, with_values};
use ndarray::{Array2, ArrayView2};

use crate::AuditError;
use crate::activations::Activations;
use crate::metrics::{METRICS, Metric, Parameters, Reads, Runs, SiteMetric};
use crate::statistics::percentile;

/// A token is a sink where its norm exceeds this many times the median token's.
const SINK_RATIO: f64 = 10.0;

/// What to measure at every site.
#[derive(Debug, Clone)]
pub struct SiteOptions {
    /// Metrics asked for; those that always run need not be among them.
    pub metrics: Vec<&'static Metric>,
    /// Whether rows that are sinks by their norm stay in.
    pub keep_sinks: bool,
    /// What the metrics let be chosen.
    pub parameters: Parameters,
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
        let limit = SINK_RATIO * percentile(&sorted, 0.5);
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
    metrics: Vec<Box<dyn SiteMetric>>,
}

impl BaseSide {
    fn new(values: &ArrayView2<f32>, keep: Vec<bool>, options: &SiteOptions) -> Result<Self, AuditError> {
        let activations = Activations::new(values, &keep);
        let asked = METRICS.iter().filter(|metric| metric.runs == Runs::Always || options.metrics.contains(metric));
        let metrics = asked.filter_map(|metric| match metric.reads {
            Reads::Rows(take_up) => Some(take_up(&activations, &options.parameters)),
            _ => None,
        });
        let metrics = metrics.collect::<Result<_, _>>()?;
        Ok(Self { keep, activations, metrics })
    }

    /// Every metric of an adapted model's rows, or of the base's own where it has none.
    fn compare(&self, adapted: Option<&Activations>) -> Result<SiteChange, AuditError> {
        let base = &self.activations;
        let mut change = SiteChange { rows: base.rows(), ..SiteChange::default() };
        for metric in &self.metrics {
            match adapted {
                Some(adapted) => metric.changed(base, adapted, &mut change)?,
                None => metric.unchanged(base, &mut change)?,
            }
        }
        Ok(change)
    }
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
        let adapted = adapted_values.map(|values| Activations::new(&values.view(), &base.keep));
        let change = base.compare(adapted.as_ref())?;
        side = Some(base);
        results.push(SiteResult { change, sinks });
    }
    Ok(results)
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

    /// Ten times the median stays, anything above goes, whichever model it is in; the first row of each sequence goes
    /// in any case and is no sink that is counted.
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
        let parameters = Parameters { subspace_dimensions: 3, seed: 0 };
        SiteOptions { metrics: METRICS.to_vec(), keep_sinks, parameters }
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
