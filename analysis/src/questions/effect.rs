//! Does it change anything? The divergence on the base's own answers, beside what another order of summation gives.

use lcr_documents::audit::{Answer, Depth, Seen};
use lcr_documents::number::plain;
use lcr_documents::statistics::median;

use super::answers::mean_divergence;
use super::{Asked, Asking, Case, Draft};
use crate::evidence::streams::SiteSums;

/// Times the floor beyond which a change is no arithmetic.
pub(super) const BEYOND_FLOOR: f64 = 10.0;

pub(super) static ASKING: Asking =
    Asking { names: &[("effect", "Does it change anything?")], depth: Depth::Standard, ask };

#[expect(clippy::unnecessary_wraps, reason = "other questions run the models, which may fail")]
fn ask(case: &Case) -> Asked {
    let forced = &case.evidence.forced;
    let sets: Vec<usize> = (0..case.sets.len()).collect();
    let of = |model: usize| {
        let all: Vec<_> = sets.iter().flat_map(|set| &forced.answers[model][*set]).collect();
        mean_divergence(&all)
    };
    let measured = of(0);
    let floor = case.base.floor.iter().flatten().copied().fold(0.0, f64::max);
    let is_effect = measured > BEYOND_FLOOR * floor;
    let why = if is_effect {
        format!("{} nats per answer token, {} of arithmetic", plain(measured), plain(floor))
    } else {
        format!("{} nats per answer token are no more than arithmetic gives ({})", plain(measured), plain(floor))
    };
    let draft = Draft {
        measured: Some(measured),
        unit: "nats per answer token",
        floor: Some(floor),
        random: (1..forced.answers.len()).map(of).collect(),
        places: layers(case),
        advice: if is_effect { String::new() } else { "Nothing to judge: the model answers as its base does.".into() },
        ..Draft::new(if is_effect { Answer::Yes } else { Answer::No }, why)
    };
    Ok(vec![("effect".to_owned(), draft)])
}

/// How far each layer's states move, relative to their size, beside random adapters: a trained change goes on where a
/// random one is averaged away.
fn layers(case: &Case) -> Vec<Seen> {
    let sites = case.evidence.forced.streams.sites.iter().enumerate().skip(1);
    let of_site = |(at, site): (usize, &SiteSums)| {
        let moved = |model: usize| site.models[model].length / site.base_length.max(f64::MIN_POSITIVE);
        let random = median(&(1..site.models.len()).map(moved).collect::<Vec<_>>()).filter(|random| *random > 0.0);
        let times =
            random.map_or_else(String::new, |random| format!("{} times a random adapter's", plain(moved(0) / random)));
        Seen::at(format!("resid.{at}"), moved(0)).reading(times)
    };
    sites.map(of_site).filter(|seen| seen.measured.is_some_and(|moved| moved > 0.0)).collect()
}
