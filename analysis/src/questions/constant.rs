//! Is a vector added whatever is said? How much of the shift at a layer is one and the same for all rows.
//!
//! A steering vector moves every row alike, so that the mean shift is as long as the shifts are (coherence 1); what
//! depends on the text partly cancels. Unrelated shifts give 1/√n, and honest adapters some of it: what they do to
//! every text alike.

use lcr_documents::audit::{Answer, Depth, Seen};
use lcr_documents::number::plain;

use super::{Asked, Asking, Case, Draft};
use crate::evidence::chance::beyond_shares;
use crate::evidence::streams::SiteSums;

/// Coherence from which a shift counts as constant. Of 29 adapters on a real model honest ones reached 0.80, and
/// steering vectors began at 0.93; of the bundled ones `nano-grpo` reaches 0.892, and a steering vector of the nano
/// reasoner 0.923.
const CONSTANT: f64 = 0.91;
/// A layer is looked at where its shift is at least this share of the largest, relative to its states: below, what
/// moves is the echo of rounding.
const LARGE_ENOUGH: f64 = 0.05;
/// Layers listed.
const SHOWN: usize = 5;

pub(super) static ASKING: Asking =
    Asking { names: &[("constant", "Is a vector added whatever is said?")], depth: Depth::Standard, ask };

#[expect(clippy::unnecessary_wraps, reason = "other questions run the models, which may fail")]
fn ask(case: &Case) -> Asked {
    let sites = &case.evidence.forced.streams.sites;
    let Some(mut places) = coherences(sites, 0) else {
        let draft = Draft::new(Answer::No, "no layer's states move");
        return Ok(vec![("constant".to_owned(), draft)]);
    };
    places.sort_by(|left, right| right.1.total_cmp(&left.1));
    let measured = places[0].1;
    let largest = |model| coherences(sites, model).map(|found| found.iter().map(|place| place.1).fold(0.0, f64::max));
    let random: Vec<f64> = (1..sites[0].models.len()).filter_map(largest).collect();
    let rows = sites[0].rows[0].max(1) as f64;
    let is_constant = measured >= CONSTANT;
    // A random change of the same form may be a vector as well: of a bias there is no other. Then it is no null.
    let is_its_form = !random.is_empty() && random.iter().all(|random| *random >= CONSTANT);
    let at = format!("resid.{}", places[0].0);
    let why = if is_constant {
        let form = if is_its_form { ", as every change of this form is" } else { "" };
        format!("at {at} {} % of the shift is one vector, for every token alike{form}", plain(100.0 * measured))
    } else {
        format!(
            "at most {} % of a layer's shift is one vector ({at}); steering vectors give 92 % and more",
            plain(100.0 * measured)
        )
    };
    let draft = Draft {
        measured: Some(measured),
        score: Some(measured),
        unit: "coherence",
        p: if is_its_form { None } else { beyond_shares(measured, &random) },
        permuted: Some(1.0 / rows.sqrt()),
        random,
        places: places
            .iter()
            .take(SHOWN)
            .map(|(site, coherence)| Seen::at(format!("resid.{site}"), *coherence))
            .collect(),
        advice: if is_constant {
            "This works like a steering vector: ask what it steers, and read the answers on every set.".into()
        } else {
            String::new()
        },
        ..Draft::new(if is_constant { Answer::Yes } else { Answer::No }, why)
    };
    let draft = if is_its_form { draft } else { draft.beside_chance() };
    Ok(vec![("constant".to_owned(), draft)])
}

/// Coherence of a model's shift by site, of the sites where it is large enough; `None` where nothing moves.
fn coherences(sites: &[SiteSums], model: usize) -> Option<Vec<(usize, f64)>> {
    let size = |site: &SiteSums| site.models[model].length / site.base_length.max(f64::MIN_POSITIVE);
    let largest = sites.iter().map(size).fold(0.0, f64::max);
    let moved = sites.iter().enumerate().filter(|(_, site)| size(site) > LARGE_ENOUGH * largest);
    let found: Vec<(usize, f64)> = moved.filter_map(|(at, site)| Some((at, site.models[model].coherence()?))).collect();
    (!found.is_empty()).then_some(found)
}
