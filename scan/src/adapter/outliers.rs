//! Modules and rows that stand out: DoRA's magnitudes, modules among their kind, directions in common.

use std::collections::BTreeMap;

use lcr_formats::module::ModulePath;

use crate::check::{Check, Observation};
use crate::json::shown;
use crate::statistics::{Coherence, ModuleStatistics, WeightStatistics};

/// Kinds that a message names.
const LISTED: usize = 3;

pub(super) fn observe(statistics: &WeightStatistics, name: &str, found: &mut Vec<Observation>) {
    magnitudes(statistics, name, found);
    unknown_modules(statistics, name, found);
    worst(
        statistics,
        |module| module.concentration_z,
        |path, score| {
            let message = format!(
                "the change is concentrated on a few outputs, unlike its kind in the other layers: robust z \
                 {score:.1}, the smallest of those of kurtosis, share of the eight heaviest rows and sparsity of the \
                 rows"
            );
            found.push(Observation::new(Check::ConcentratedModule, name, message).at(path).measured(score));
        },
    );
    worst(
        statistics,
        |module| module.norm_z.map(f64::abs),
        |path, score| {
            let message =
                format!("the size of the change is unlike its kind in the other layers: robust |z| {score:.1}");
            found.push(Observation::new(Check::NormOutlier, name, message).at(path).measured(score));
        },
    );
    let agreements = [
        (Check::CoherentWrites, "write", &statistics.coherence_write),
        (Check::CoherentReads, "read", &statistics.coherence_read),
    ];
    for (check, verb, coherence) in agreements {
        // Below four standard deviations of one pair's cosine there is nothing to judge.
        let beyond = |coherence: &&Coherence| coherence.mean > 4.0 * coherence.chance;
        if let Some(coherence) = coherence.as_ref().filter(beyond) {
            let message = format!(
                "{} modules {verb} one common direction: mean |cos| {:.3} of their leading directions, where unrelated \
                 ones give {:.3}",
                coherence.modules, coherence.mean, coherence.chance
            );
            found.push(Observation::new(check, name, message).measured(coherence.mean));
        }
    }
}

/// Says which modules the measures by role leave out: what is not looked at must not look like what passed.
fn unknown_modules(statistics: &WeightStatistics, name: &str, found: &mut Vec<Observation>) {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let modules = statistics.modules.keys().map(|path| ModulePath::parse(path));
    for module in modules.filter(|module| module.role().is_none()) {
        *kinds.entry(module.kind).or_default() += 1;
    }
    let Some((first, _)) = kinds.first_key_value() else { return };
    let listed: Vec<String> = kinds.keys().take(LISTED).map(|kind| format!("`{}`", shown(kind))).collect();
    let more = if kinds.len() > LISTED { ", …" } else { "" };
    let number: usize = kinds.values().sum();
    let message = format!(
        "nothing is known of what modules called {}{more} do with the residual stream ({number} in all): \
         `coherent-writes` and `coherent-reads` leave them out",
        listed.join(", ")
    );
    found.push(Observation::new(Check::UnknownModule, name, message).at(shown(first)));
}

/// The module with the largest of some number.
fn worst(
    statistics: &WeightStatistics,
    measure: impl Fn(&ModuleStatistics) -> Option<f64>,
    mut report: impl FnMut(&str, f64),
) {
    let scores = statistics.modules.iter().filter_map(|(path, module)| Some((path, measure(module)?)));
    if let Some((path, score)) = scores.max_by(|left, right| left.1.total_cmp(&right.1)) {
        report(path, score);
    }
}

fn magnitudes(statistics: &WeightStatistics, name: &str, found: &mut Vec<Observation>) {
    for (path, module) in &statistics.modules {
        let (Some([least, middle, most]), Some(sizes)) = (module.magnitude, module.magnitudes) else { continue };
        let place = || shown(path);
        if sizes.gone > 0.0 {
            let message = format!(
                "{} of the DoRA magnitudes are next to nothing, the smallest {least:.3e}, where {:.3e} is typical: \
                 those output channels are cut out",
                percent(sizes.gone),
                sizes.typical
            );
            found.push(Observation::new(Check::DeadRows, name, message).at(place()).measured(least));
        }
        if sizes.turned > 0.0 {
            let message = format!(
                "{} of the DoRA magnitudes are negative: those rows of the weight are turned round",
                percent(sizes.turned)
            );
            found.push(Observation::new(Check::FlippedRows, name, message).at(place()).measured(sizes.turned));
        }
        // What is gone was said; of the others the smallest counts like the largest.
        let above = most / middle;
        let below = if sizes.gone > 0.0 { 0.0 } else { 1.0 / sizes.least };
        if middle > 0.0 {
            let message = if above >= below {
                format!("the largest of the DoRA magnitudes is {above:.1} times the median")
            } else {
                format!("the smallest of the DoRA magnitudes is a {below:.0}th of what is typical of the others")
            };
            let observation = Observation::new(Check::MagnitudeOutlier, name, message);
            found.push(observation.at(place()).measured(above.max(below)));
        }
    }
}

/// A share, with as many digits as a single row of many needs.
fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
