//! From an audit to its charts.

use std::collections::{BTreeSet, HashMap};

use indexmap::IndexMap;
use lcr_documents::audit::{Audit, Question, SiteChange, Spectrum};
use lcr_documents::number::below_one;
use lcr_documents::text;
use lcr_formats::module::ModulePath;

use super::site::{Place, Site};
use super::{HeatBlock, HeatMap, HeatRow, Line, LineChart, Look, PathChart, TokenPath};

/// A metric of one site, as a size that is zero where nothing changed.
type Metric = (&'static str, fn(&SiteChange) -> Option<f64>);

/// Rows of the layer × metric heat map. All are zero for an unchanged site, so that one colour scale serves them all.
const METRICS: [Metric; 7] = [
    ("relative change", |site| Some(site.relative_change)),
    ("1 − cosine", |site| Some(site.cosine.one_minus_mean)),
    ("1 − CKA", |site| site.cka.map(below_one)),
    ("1 − CKA, debiased", |site| site.cka_debiased.map(below_one)),
    ("neighbours lost", |site| site.knn_overlap.map(below_one)),
    ("subspace lost", |site| site.subspace.as_ref().map(|subspace| below_one(subspace.overlap))),
    ("spectrum JS", |site| site.spectrum.as_ref().map(|spectrum| spectrum.js)),
];

/// The sites that stand in layers, in the audit's order.
fn sites(audit: &Audit) -> impl Iterator<Item = (Site, &SiteChange)> {
    audit.layers.iter().filter_map(|(name, change)| Some((Site::parse(name)?, change)))
}

/// Layer × metric, in a block each for the stream, attention and the MLP.
pub(crate) fn activation_heat(audit: &Audit) -> HeatMap {
    // The layers that are there, not every number up to the largest: a report read back may name any.
    let layers: BTreeSet<usize> = sites(audit).map(|(site, _)| site.layer).collect();
    let block = |place: Place| {
        let row = |(name, metric): Metric| {
            let cell = |layer: &usize| {
                let found = sites(audit).find(|(site, _)| site.place == place && site.layer == *layer);
                found.and_then(|(_, change)| metric(change)).filter(|value| value.is_finite())
            };
            HeatRow { name: name.to_owned(), cells: layers.iter().map(cell).collect() }
        };
        let rows: Vec<HeatRow> = METRICS.into_iter().map(row).collect();
        HeatBlock { name: place.name().to_owned(), rows }
    };
    let mut blocks: Vec<HeatBlock> = Place::ALL.into_iter().map(block).collect();
    // What was computed nowhere is no row of grey.
    let computed: Vec<bool> = (0..METRICS.len())
        .map(|index| blocks.iter().any(|block| block.rows[index].cells.iter().any(Option::is_some)))
        .collect();
    for block in &mut blocks {
        let mut kept = computed.iter().copied();
        block.rows.retain(|_| kept.next().unwrap_or(true));
    }
    let name = |layer: &usize| {
        if *layer == audit.base.layers { "end".to_owned() } else { layer.to_string() }
    };
    HeatMap::new("no number", layers.iter().map(name).collect(), blocks)
}

/// 1 − cosine, 1 − CKA and relative change by layer, a line each for the stream, attention and the MLP.
pub(crate) fn activation_curves(audit: &Audit) -> Vec<LineChart> {
    let curve = |title: &str, metric: fn(&SiteChange) -> Option<f64>| {
        let line = |(style, place): (usize, Place)| {
            let points = sites(audit).filter(|(site, _)| site.place == place).filter_map(|(site, change)| {
                Some((site.layer as f64, metric(change).filter(|value| value.is_finite())?))
            });
            Line { name: place.name().to_owned(), look: Look::Series(style), points: sorted(points) }
        };
        let lines = Place::ALL.into_iter().enumerate().map(line).collect();
        LineChart::new(title, "layer", true, lines)
    };
    let charts = [
        curve("1 − cosine, mean over tokens", |site| Some(site.cosine.one_minus_mean)),
        curve("1 − CKA", |site| site.cka.map(below_one)),
        curve("relative change ‖Δ‖/‖X‖", |site| Some(site.relative_change)),
    ];
    charts.into_iter().flatten().collect()
}

/// Where in the model the stream of this number is.
pub(crate) fn entering(audit: &Audit, layer: usize) -> String {
    if layer == audit.base.layers { "after the last layer".to_owned() } else { format!("entering layer {layer}") }
}

/// Points by ascending first number.
fn sorted(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = points.collect();
    points.sort_by(|left, right| left.0.total_cmp(&right.0));
    points
}

/// Eigenspectra of base and adapted model at up to six depths of the stream, evenly spaced.
pub(crate) fn spectra(audit: &Audit) -> Vec<LineChart> {
    const MOST: usize = 6;
    let stream: Vec<(Site, &SiteChange)> = sites(audit).filter(|(site, _)| site.place == Place::Stream).collect();
    let shown = stream.len().min(MOST);
    let chosen = (0..shown).map(|index| if shown < 2 { 0 } else { index * (stream.len() - 1) / (shown - 1) });
    let chart = |(site, change): &(Site, &SiteChange)| {
        let line = |name: &str, style: usize, spectrum: &Spectrum| {
            let eigenvalues = spectrum.singular_values.iter().map(|value| value * value).enumerate();
            let points =
                eigenvalues.filter(|(_, value)| value.is_finite()).map(|(index, value)| ((index + 1) as f64, value));
            Line { name: name.to_owned(), look: Look::Series(style), points: points.collect() }
        };
        let spectra = change.spectrum.iter();
        let lines = spectra.flat_map(|pair| [line("base", 0, &pair.base), line("adapted", 1, &pair.adapted)]).collect();
        LineChart::new(&format!("stream {}", entering(audit, site.layer)), "index i of λᵢ", true, lines)
    };
    chosen.filter_map(|index| stream.get(index)).filter_map(chart).collect()
}

/// ‖ΔW‖/‖W‖ by layer and kind of module. What stands outside the layers has a column of its own, at the end. Where two
/// tensors share a cell (experts, say) the larger change is shown.
pub(crate) fn weight_heat(audit: &Audit) -> HeatMap {
    let mut rows: IndexMap<&str, HashMap<Option<usize>, f64>> = IndexMap::new();
    let mut layers: BTreeSet<usize> = BTreeSet::new();
    let mut outside = false;
    for (tensor, change) in &audit.weights {
        let ModulePath { layer, kind, .. } = ModulePath::parse(tensor);
        match layer {
            Some(layer) => _ = layers.insert(layer),
            None => outside = true,
        }
        let row = rows.entry(kind).or_default();
        if let Some(norm) = change.relative_norm.filter(|norm| norm.is_finite()) {
            let cell = row.entry(layer).or_insert(norm);
            *cell = cell.max(norm);
        }
    }
    rows.sort_by(|left, _, right, _| kind_order(left).cmp(&kind_order(right)));
    let columns: Vec<Option<usize>> = layers.into_iter().map(Some).chain(outside.then_some(None)).collect();
    let rows = rows.into_iter().map(|(kind, row)| HeatRow {
        name: text::shortened(&text::visible(kind), 20),
        cells: columns.iter().map(|column| row.get(column).copied()).collect(),
    });
    let block = HeatBlock { name: String::new(), rows: rows.collect() };
    let name = |column: &Option<usize>| column.map_or_else(|| "outside".to_owned(), |layer| layer.to_string());
    HeatMap::new("not adapted", columns.iter().map(name).collect(), vec![block])
}

/// Sorts tensors as the model runs: by layer, then in the order in which a layer uses them; what stands outside comes
/// last.
pub(crate) fn running_order(tensor: &str) -> (usize, usize) {
    let ModulePath { layer, kind, .. } = ModulePath::parse(tensor);
    (layer.unwrap_or(usize::MAX), kind_order(kind))
}

/// A module's place in its layer.
fn kind_order(kind: &str) -> usize {
    KIND_ORDER.iter().position(|known| *known == kind).unwrap_or(KIND_ORDER.len())
}

/// The order in which a layer uses its modules; any other kind follows.
const KIND_ORDER: [&str; 12] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "qkv_proj",
    "c_attn",
    "o_proj",
    "gate_proj",
    "up_proj",
    "gate_up_proj",
    "c_fc",
    "down_proj",
    "c_proj",
];

/// Attention divergence by head (rows) and layer (columns).
pub(crate) fn attention_heat(audit: &Audit) -> HeatMap {
    let measured: Vec<(Site, &[f64])> =
        sites(audit).filter_map(|(site, change)| Some((site, change.attention.as_ref()?.js.head.as_slice()))).collect();
    let heads = measured.iter().map(|(_, heads)| heads.len()).max().unwrap_or(0);
    let row = |head: usize| {
        let cell = |(_, heads): &(Site, &[f64])| heads.get(head).copied().filter(|value| value.is_finite());
        HeatRow { name: format!("head {head}"), cells: measured.iter().map(cell).collect() }
    };
    let rows = (0..heads).map(row).collect();
    let columns = measured.iter().map(|(site, _)| site.layer.to_string()).collect();
    HeatMap::new("not measured", columns, vec![HeatBlock { name: String::new(), rows }])
}

/// Divergence on the base's own answers by probe set: the adapter, random adapters of its size, arithmetic alone.
pub(crate) fn answer_heat(audit: &Audit) -> HeatMap {
    let sets: Vec<(&str, &Question)> = audit
        .questions
        .iter()
        .filter_map(|(name, question)| Some((name.strip_prefix("answers.")?, question)))
        .filter(|(_, question)| question.measured.is_some())
        .collect();
    let row = |name: &str, cell: fn(&Question) -> Option<f64>| HeatRow {
        name: name.to_owned(),
        cells: sets.iter().map(|(_, question)| cell(question).filter(|value| value.is_finite())).collect(),
    };
    let largest = |question: &Question| question.random.iter().copied().reduce(f64::max);
    let rows = if sets.is_empty() {
        Vec::new()
    } else {
        vec![
            row("adapter", |question| question.measured),
            row("random adapters, largest", largest),
            row("numeric floor", |question| question.floor),
        ]
    };
    let columns = sets.iter().map(|(name, _)| (*name).to_owned()).collect();
    HeatMap::new("not measured", columns, vec![HeatBlock { name: String::new(), rows }])
}

/// Divergence of both logit lenses by layer: the mean, and each tracked token.
pub(crate) fn lens_curve(audit: &Audit) -> Option<LineChart> {
    const MOST: usize = 5;
    let by_site = |values: &[f64]| -> Vec<(f64, f64)> {
        let finite = values.iter().enumerate().filter(|(_, value)| value.is_finite());
        finite.map(|(index, value)| (index as f64, *value)).collect()
    };
    let trajectories = audit.trajectories.as_ref()?;
    let mean = Line { name: "mean of tracked tokens".to_owned(), look: Look::Mean, points: by_site(&trajectories.js) };
    let tracked = trajectories.tracked.iter().take(MOST).enumerate().map(|(index, track)| Line {
        name: format!("{} {}", index + 1, token_name(&track.text, 14)),
        look: Look::Token(index),
        points: by_site(&track.js),
    });
    let lines = std::iter::once(mean).chain(tracked).collect();
    LineChart::new("Jensen–Shannon divergence of both lenses, nats", "stream entering layer", true, lines)
}

/// A token's text for a legend.
fn token_name(token: &str, most: usize) -> String {
    match text::visible(token).trim() {
        "" => "(space)".to_owned(),
        shown => text::shortened(shown, most),
    }
}

/// The ways of the tracked tokens across the plane, at most eight tokens.
pub(crate) fn token_paths(audit: &Audit) -> PathChart {
    const MOST: usize = 8;
    // States have unit norm, so a point beyond this is no measurement, and would overflow the drawing.
    const FARTHEST: f64 = 1e6;
    let finite = |plane: &[[f64; 2]]| -> Vec<[f64; 2]> {
        plane.iter().copied().filter(|point| point.iter().all(|number| number.abs() <= FARTHEST)).collect()
    };
    let tracked = audit.trajectories.iter().flat_map(|trajectories| &trajectories.tracked);
    let tokens = tracked.take(MOST).map(|track| TokenPath {
        name: token_name(&track.text, 18),
        base: finite(&track.base.plane),
        adapted: finite(&track.adapted.plane),
    });
    PathChart { tokens: tokens.filter(|token| !token.base.is_empty() || !token.adapted.is_empty()).collect() }
}
