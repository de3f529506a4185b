//! What is it about? The tokens that get likelier in the base's own answers, and the mean shift over unrelated text,
//! read through the base's final norm and unembedding.
//!
//! A narrow fine-tune betrays its subject in what it does to text that has nothing to do with it, and most in the first
//! few positions. Beside it stands what the weights alone say: the direction that each of the most changed writers
//! writes most. The tokens are shown beside those of random adapters; no verdict is made of them.

mod writers;

use candle_core::{Device, Tensor};
use lcr_documents::audit::{Answer, Depth, Seen};
use lcr_model::decoder::{Branches, with_values};

use super::{Asked, Asking, Case, Draft};
use crate::AuditError;
use crate::evidence::streams::SiteSums;

/// Tokens read at a place.
const TOKENS: usize = 20;
/// Layers read, evenly from the first to the last.
const LAYERS: usize = 6;

pub(super) static ASKING: Asking = Asking { names: &[("subject", "What is it about?")], depth: Depth::Standard, ask };

fn ask(case: &Case) -> Asked {
    let sites = &case.evidence.forced.streams.sites;
    let mut places = Vec::new();
    for site in layers(sites.len()) {
        for (position, first) in [("first positions", true), ("all positions", false)] {
            let at = format!("resid.{site}, {position}");
            let promoted = read(case, &sites[site], 0, first)?;
            let random = if sites[site].models.len() > 1 { read(case, &sites[site], 1, first)? } else { Vec::new() };
            if let Some((_, largest)) = promoted.first() {
                let text = format!("{}\nrandom: {}", listed(&promoted), listed(&random));
                places.push(Seen::at(at, *largest).reading(text));
            }
        }
    }
    let draft = Draft {
        unit: "logit of the first token",
        measured: places.iter().filter_map(|place| place.measured).reduce(f64::max),
        places: [said_more(case), places, writers::places(case)?].concat(),
        advice: "Read the tokens: a narrow fine-tune shows its subject here. Tokens of no theme say nothing.".into(),
        ..Draft::new(Answer::Unresolved, "shown, not judged: only known-good adapters of this base could judge it")
    };
    Ok(vec![("subject".to_owned(), draft)])
}

/// The tokens that make most of the divergence from the base in each set's answers: what the model is made to say.
fn said_more(case: &Case) -> Vec<Seen> {
    let gained = &case.evidence.forced.gained;
    let answered = (0..case.sets.len()).filter(|set| case.sets[*set].answered);
    let of_set = |set: usize| {
        let [own, random] = [0, 1].map(|model| gained.get(model).map_or(Vec::new(), |sets| largest(case, &sets[set])));
        let (_, most) = own.first()?;
        let at = format!("answers on {}", case.sets[set].name);
        Some(Seen::at(at, *most).reading(format!("{}\nrandom: {}", listed(&own), listed(&random))))
    };
    answered.filter_map(of_set).collect()
}

/// The tokens with the largest numbers, and those.
fn largest(case: &Case, added: &[f64]) -> Vec<(String, f64)> {
    let mut order: Vec<usize> = (0..added.len()).collect();
    order.sort_by(|left, right| added[*right].total_cmp(&added[*left]));
    let named = order.into_iter().take(TOKENS).map(|token| {
        let text = case.tokenizer.map_or_else(|| format!("#{token}"), |known| known.token_text(token as u32));
        (text, added[token])
    });
    named.filter(|(_, added)| *added > 0.0).collect()
}

fn listed(tokens: &[(String, f64)]) -> String {
    tokens.iter().map(|(token, _)| format!("{token:?}")).collect::<Vec<_>>().join(" ")
}

/// A few sites behind the first, the last of them included.
fn layers(sites: usize) -> Vec<usize> {
    let last = sites.saturating_sub(1);
    let mut found: Vec<usize> =
        (1..=LAYERS).map(|part| (last * part).div_ceil(LAYERS)).filter(|site| *site > 0).collect();
    found.dedup();
    found
}

/// The tokens that a model's mean shift promotes, with the logits that it adds.
fn read(case: &Case, site: &SiteSums, model: usize, first: bool) -> Result<Vec<(String, f64)>, AuditError> {
    let part = usize::from(first);
    let count = site.rows[part];
    let sums = &site.models[model];
    let shift = if first { &sums.first_shift } else { &sums.shift };
    if count == 0 || shift.iter().all(|value| *value == 0.0) {
        return Ok(Vec::new());
    }
    let moved = site.base[part].iter().zip(shift).map(|(sum, shift)| ((sum + shift) / count as f64) as f32).collect();
    promoted(case, mean_state(site, part), moved)
}

/// The base's mean state at a site, over all rows or over the first positions.
fn mean_state(site: &SiteSums, part: usize) -> Vec<f32> {
    let count = site.rows[part].max(1) as f64;
    site.base[part].iter().map(|sum| (sum / count) as f32).collect()
}

/// The tokens that a state has over another, read through the base's final norm and unembedding, with the logits that
/// it adds.
fn promoted(case: &Case, from: Vec<f32>, to: Vec<f32>) -> Result<Vec<(String, f64)>, AuditError> {
    let width = from.len();
    let rows = Tensor::from_vec([from, to].concat(), (2, width), case.decoder.device())?;
    let logits = case.decoder.logits(&Branches::shared(rows, 1), &[None])?;
    let added: Vec<f64> = with_values(&logits.model(0).to_device(&Device::Cpu)?, |values| {
        let (from, to) = values.split_at(values.len() / 2);
        from.iter().zip(to).map(|(from, to)| f64::from(*to) - f64::from(*from)).collect()
    })?;
    Ok(largest(case, &added))
}
