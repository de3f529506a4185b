//! The base with one vector added to its stream: how much of an adapter such a vector explains.
//!
//! The vector is the adapter's mean shift at a layer times a factor; explained is 1 − Σ KL(adapted‖base + vector)/Σ
//! KL(adapted‖base) over the base's answers. Layer and factor are chosen on every other prompt and judged on the rest.
//! The mean shift itself is that of all rows of the pass that gathered it: one mean of thousands of rows, which the
//! prompts judged share in.

use candle_core::{Device, Tensor};
use lcr_model::decoder::{BoundAdapter, Decoder, Hooks, Site};

use super::pass::{Pair, Prompts, divergences};
use crate::AuditError;
use crate::evidence::streams::{SiteSums, StreamSums};

/// Sites tried, evenly over the layers.
const EVENLY: usize = 8;
/// Sites tried beside them: those where the shift is most nearly one vector.
const COHERENT: usize = 3;
/// Factors tried at the best site and its neighbours, beside 1.
const FACTORS: [f64; 4] = [0.5, 0.75, 1.5, 2.0];
/// A shift below this share of the largest, relative to the states, is not looked at.
const LARGE_ENOUGH: f64 = 0.05;

/// A vector that stands in for an adapter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Surrogate {
    /// It is added to `resid` of this number.
    pub site: usize,
    /// Times the mean shift there.
    pub factor: f64,
    /// Share of the divergence that it explains, on prompts that it was not chosen on.
    pub explained: f64,
}

/// One vector to try.
#[derive(Debug, Clone, Copy)]
struct Try {
    site: usize,
    factor: f64,
}

/// The best vector for `adapter`, the `model`th of `streams`; `None` where nothing moves, or fewer than two prompts are
/// there.
///
/// # Errors
/// As reading the prompts.
pub fn surrogate(
    decoder: &Decoder,
    adapter: &BoundAdapter,
    streams: &StreamSums,
    model: usize,
    prompts: &Prompts,
    report: &mut dyn FnMut(usize, usize),
) -> Result<Option<Surrogate>, AuditError> {
    let half = |parity: usize| -> Prompts {
        let ids = prompts.ids.iter().enumerate().filter(|(at, _)| at % 2 == parity).map(|(_, id)| *id).collect();
        Prompts { ids, ..prompts.clone() }
    };
    let (chosen_on, judged_on) = (half(0), half(1));
    let mut explained = |prompts: &Prompts, tries: &[Try]| {
        let vectors = tries.iter().map(|one| (one.site, mean_shift(&streams.sites[one.site], model, one.factor)));
        shares(decoder, adapter, &vectors.collect::<Vec<_>>(), prompts, report)
    };
    let sites: Vec<Try> = sites(&streams.sites, model).into_iter().map(|site| Try { site, factor: 1.0 }).collect();
    let Some(shares) = explained(&chosen_on, &sites)? else { return Ok(None) };
    let Some((first, share)) = best(&sites, &shares) else { return Ok(None) };
    let closer = nearby(first, streams.sites.len());
    let shares = explained(&chosen_on, &closer)?.unwrap_or_default();
    let found = best(&closer, &shares).filter(|(_, closer)| *closer > share).map_or(first, |(found, _)| found);
    let judged = explained(&judged_on, &[found])?.and_then(|shares| shares.first().copied());
    Ok(judged.map(|explained| Surrogate { site: found.site, factor: found.factor, explained }))
}

/// The sites to begin with: evenly from the first with a shift to the last, and the most coherent ones.
fn sites(sites: &[SiteSums], model: usize) -> Vec<usize> {
    let size = |site: &SiteSums| site.models[model].length / site.base_length.max(f64::MIN_POSITIVE);
    let largest = sites.iter().map(size).fold(0.0, f64::max);
    let moved: Vec<usize> = (0..sites.len()).filter(|at| size(&sites[*at]) > LARGE_ENOUGH * largest).collect();
    let coherence = |at: usize| sites[at].models[model].coherence().unwrap_or(0.0);
    let mut found: Vec<usize> =
        (1..=EVENLY).filter_map(|part| moved.get((part * moved.len()).div_ceil(EVENLY).max(1) - 1).copied()).collect();
    let mut ordered = moved;
    ordered.sort_by(|left, right| coherence(*right).total_cmp(&coherence(*left)));
    found.extend(ordered.into_iter().take(COHERENT));
    found.sort_unstable();
    found.dedup();
    found
}

/// Other factors at the site, and the sites beside it.
fn nearby(found: Try, sites: usize) -> Vec<Try> {
    let beside = [found.site.checked_sub(1), Some(found.site + 1).filter(|site| *site < sites)];
    let beside = beside.into_iter().flatten().map(|site| Try { site, factor: 1.0 });
    FACTORS.iter().map(|factor| Try { factor: *factor, ..found }).chain(beside).collect()
}

fn best(tries: &[Try], shares: &[f64]) -> Option<(Try, f64)> {
    tries.iter().copied().zip(shares.iter().copied()).max_by(|left, right| left.1.total_cmp(&right.1))
}

/// A model's mean shift at a site times a factor, `[width]`.
fn mean_shift(site: &SiteSums, model: usize, factor: f64) -> Vec<f32> {
    let rows = site.rows[0].max(1) as f64;
    site.models[model].shift.iter().map(|sum| (factor * sum / rows) as f32).collect()
}

/// What each of some vectors, given with the site that it is added at, explains of the adapter; `None` where the
/// adapter moves none of the prompts.
fn shares(
    decoder: &Decoder,
    adapter: &BoundAdapter,
    vectors: &[(usize, Vec<f32>)],
    prompts: &Prompts,
    report: &mut dyn FnMut(usize, usize),
) -> Result<Option<Vec<f64>>, AuditError> {
    // The base, the adapted model, and the base once more for every vector.
    let models: Vec<Option<&BoundAdapter>> =
        [None, Some(adapter)].into_iter().chain(vectors.iter().map(|_| None)).collect();
    let pairs: Vec<Pair> = std::iter::once(0).chain(2..models.len()).map(|to| Pair { of: 1, to }).collect();
    let found = divergences(decoder, &models, &pairs, prompts, |_| adding(vectors, decoder.device()), report)?;
    let sums: Vec<f64> = found.iter().map(|prompts| prompts.iter().sum()).collect();
    let Some((whole, left)) = sums.split_first().filter(|(whole, _)| **whole > 0.0) else { return Ok(None) };
    Ok(Some(left.iter().map(|left| 1.0 - left / whole).collect()))
}

/// Adds the vectors to all rows of models 2, 3, … at their sites.
fn adding<'h>(vectors: &[(usize, Vec<f32>)], device: &Device) -> Hooks<'h> {
    let mut sites: Vec<Site> = vectors.iter().map(|(site, _)| Site::Resid(*site)).collect();
    sites.sort_unstable();
    sites.dedup();
    let (vectors, device) = (vectors.to_vec(), device.clone());
    Hooks::default().replace(&sites, move |site, model, rows| {
        let own = model.checked_sub(2).and_then(|index| vectors.get(index));
        let Some((_, vector)) = own.filter(|(own, _)| Site::Resid(*own) == site) else { return Ok(None) };
        let row = Tensor::from_slice(vector, (1, vector.len()), &device)?;
        rows.broadcast_add(&row).map(Some)
    })
}
