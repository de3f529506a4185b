//! What the weights alone promote: the leading output direction of the most changed writers of the stream.

use lcr_documents::audit::Seen;
use lcr_formats::adapter::LowRank;
use lcr_formats::module::{ModulePath, StreamRole};
use lcr_model::decoder::BoundAdapter;

use super::{Case, listed, mean_state, promoted};
use crate::AuditError;
use crate::evidence::streams::SiteSums;

/// Writers shown, those with the largest σ₁ of ΔW.
const WRITERS: usize = 4;

/// A writer's leading direction.
struct Writer<'a> {
    path: &'a str,
    /// The layer that it is in; what it writes enters the stream behind it.
    layer: usize,
    /// σ₁ of ΔW.
    value: f64,
    /// The left singular vector that belongs to it, `[width]`.
    direction: Vec<f64>,
}

impl<'a> Writer<'a> {
    /// Of a module that writes into the stream by a change of low rank; of DoRA what its factors alone write.
    fn of(path: &'a str, module: &LowRank) -> Option<Self> {
        let parsed = ModulePath::parse(path);
        let layer = parsed.layer.filter(|_| parsed.role() == Some(StreamRole::Writes))?;
        let directions = module.factored().leading_directions(1);
        let (value, direction) = directions.values.into_iter().zip(directions.left).next()?;
        Some(Self { path, layer, value, direction })
    }
}

/// The tokens that they promote, beside those of the same modules of a random adapter.
pub(super) fn places(case: &Case) -> Result<Vec<Seen>, AuditError> {
    let sites = &case.evidence.forced.streams.sites;
    let mut writers = of_adapter(case.adapter);
    writers.sort_by(|left, right| right.value.total_cmp(&left.value));
    let others = case.evidence.random.first().map(of_adapter).unwrap_or_default();
    let mut places = Vec::new();
    for writer in writers.iter().take(WRITERS) {
        let Some(site) = sites.get(writer.layer + 1) else { continue };
        let own = tokens(case, site, 0, &writer.direction)?;
        let other = others.iter().find(|other| other.path == writer.path);
        let other = other.map_or(Ok(Vec::new()), |other| tokens(case, site, 1, &other.direction))?;
        if let Some((_, largest)) = own.first() {
            let text = format!("{}\nrandom: {}", listed(&own), listed(&other));
            places.push(Seen::at(format!("writes of {}", writer.path), *largest).reading(text));
        }
    }
    Ok(places)
}

fn of_adapter(adapter: &BoundAdapter) -> Vec<Writer<'_>> {
    adapter.adapter().modules.iter().filter_map(|(path, module)| Writer::of(path, module)).collect()
}

/// What a direction promotes when a state is moved along it by as much as the model moves states there, to the side that
/// its mean shift is on.
fn tokens(case: &Case, site: &SiteSums, model: usize, direction: &[f64]) -> Result<Vec<(String, f64)>, AuditError> {
    let from = mean_state(site, 0);
    let Some(sums) = site.models.get(model).filter(|_| from.len() == direction.len()) else { return Ok(Vec::new()) };
    let along: f64 = sums.shift.iter().zip(direction).map(|(shift, direction)| shift * direction).sum();
    let step = (sums.length / site.rows[0].max(1) as f64).copysign(along);
    let to = from.iter().zip(direction).map(|(from, direction)| from + (step * direction) as f32).collect();
    promoted(case, from, to)
}
