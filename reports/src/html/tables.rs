//! The page's long tables. Their columns are listed here, next to what each takes from the audit, so that a metric that
//! was not asked for needs no condition in a template: a column without any number is left out, and named below the
//! table.

use lcr_documents::audit::{Audit, SiteChange, Spectrum, WeightChange};
use lcr_documents::number::below_one;
use lcr_formats::module::ModulePath;
use serde::Serialize;

use crate::charts::running_order;

/// A table of numbers by name.
#[derive(Serialize)]
pub(super) struct Table {
    /// What the first column names.
    name: &'static str,
    /// Heads of the columns of words.
    words: Vec<&'static str>,
    /// Heads of the columns of numbers, each with its explanation.
    heads: Vec<(&'static str, &'static str)>,
    rows: Vec<Row>,
    /// Columns that are left out because no row has a number.
    absent: Vec<&'static str>,
}

/// One row.
#[derive(Serialize)]
struct Row {
    name: String,
    /// The name in full, where it was shortened.
    full: String,
    words: Vec<String>,
    cells: Vec<Option<f64>>,
}

/// Head, explanation, and the number itself.
type Column<T> = (&'static str, &'static str, fn(&T) -> Option<f64>);

/// What has a row.
struct Entry<'a, T> {
    name: String,
    full: &'a str,
    words: Vec<String>,
    change: &'a T,
}

impl Table {
    fn new<T>(name: &'static str, words: Vec<&'static str>, columns: &[Column<T>], entries: &[Entry<'_, T>]) -> Self {
        let has_number = |column: &&Column<T>| entries.iter().any(|entry| (column.2)(entry.change).is_some());
        let (shown, absent): (Vec<&Column<T>>, Vec<&Column<T>>) = columns.iter().partition(has_number);
        let row = |entry: &Entry<'_, T>| Row {
            name: entry.name.clone(),
            full: entry.full.to_owned(),
            words: entry.words.clone(),
            cells: shown.iter().map(|column| (column.2)(entry.change)).collect(),
        };
        Self {
            name,
            words,
            heads: shown.iter().map(|column| (column.0, column.1)).collect(),
            rows: entries.iter().map(row).collect(),
            absent: absent.iter().map(|column| column.0).collect(),
        }
    }

    /// Whether there is not one number.
    fn is_empty(&self) -> bool {
        self.heads.is_empty() || self.rows.is_empty()
    }
}

/// Every number by site but those of the spectra.
pub(super) fn sites(audit: &Audit) -> Option<Table> {
    const COLUMNS: [Column<SiteChange>; 31] = [
        ("tokens", "", |site| Some(site.rows as f64)),
        ("relative change", "‖Δ‖/‖X‖", |site| Some(site.relative_change)),
        ("1 − cosine, mean", "over tokens", |site| Some(site.cosine.one_minus_mean)),
        ("median token", "1 − median cosine", |site| Some(below_one(site.cosine.median))),
        ("worst 5 %", "1 − fifth percentile of the cosine", |site| Some(below_one(site.cosine.p05))),
        ("worst token", "1 − smallest cosine", |site| Some(below_one(site.cosine.min))),
        ("angle, mean\u{a0}°", "between a token's two states", |site| Some(site.cosine.mean_angle_deg)),
        ("1 − cosine, centred", "each model's mean removed", |site| Some(below_one(site.cosine_centered))),
        ("1 − cosine, flat\u{a0}†", "all states as one vector", |site| Some(below_one(site.cosine_flat))),
        ("1 − CKA", "", |site| site.cka.map(below_one)),
        ("1 − CKA, debiased", "", |site| site.cka_debiased.map(below_one)),
        ("Procrustes, before\u{a0}†", "‖A − B‖², centred, unit norm", |site| {
            Some(site.procrustes.as_ref()?.raw_squared)
        }),
        ("Procrustes, left\u{a0}†", "the same after the best rotation", |site| {
            Some(site.procrustes.as_ref()?.residual_squared)
        }),
        ("Procrustes explained\u{a0}†", "1 − left/before", |site| site.procrustes.as_ref()?.explained),
        ("neighbours kept", "of ten nearest", |site| site.knn_overlap),
        ("neighbours, chance", "10/(n − 1)", |site| site.knn_chance),
        ("subspace lost", "1 − overlap of the leading subspaces", |site| {
            Some(below_one(site.subspace.as_ref()?.overlap))
        }),
        ("subspace angle, max\u{a0}°", "largest principal angle", |site| Some(site.subspace.as_ref()?.max_angle_deg)),
        ("subspace gap, base", "close to 1: the subspace is arbitrary", |site| site.subspace.as_ref()?.base_gap),
        ("subspace gap, adapted", "", |site| site.subspace.as_ref()?.adapted_gap),
        ("spectrum JS", "nats, at most 0.693", |site| Some(site.spectrum.as_ref()?.js)),
        ("drift size", "mean‖Δ‖/mean‖x‖", |site| Some(site.drift.as_ref()?.size)),
        ("drift coherence", "1: every token is pushed the same way", |site| site.drift.as_ref()?.coherence),
        ("drift, chance", "1/√n", |site| Some(site.drift.as_ref()?.coherence_chance)),
        ("drift, first direction's share", "σ₁²/Σσ² of Δ", |site| site.drift.as_ref()?.pc1_share),
        ("clusters ARI", "adjusted Rand index", |site| Some(site.clusters.as_ref()?.ari)),
        ("clusters, ceiling", "ARI of k-means with itself", |site| Some(site.clusters.as_ref()?.ceiling)),
        ("clusters NMI", "normalised mutual information", |site| Some(site.clusters.as_ref()?.nmi)),
        ("clusters, k", "", |site| Some(site.clusters.as_ref()?.k as f64)),
        ("attention JS, mean", "nats, over heads and tokens", |site| Some(site.attention.as_ref()?.js.mean)),
        ("attention JS, max", "of any head and token", |site| Some(site.attention.as_ref()?.js.max)),
    ];
    Some(Table::new("site", vec![], &COLUMNS, &site_entries(audit))).filter(|table| !table.is_empty())
}

/// Dimensions in use by site.
pub(super) fn dimensions(audit: &Audit) -> Option<Table> {
    fn base(site: &SiteChange) -> Option<&Spectrum> {
        site.spectrum.as_ref().map(|pair| &pair.base)
    }
    fn adapted(site: &SiteChange) -> Option<&Spectrum> {
        site.spectrum.as_ref().map(|pair| &pair.adapted)
    }
    const COLUMNS: [Column<SiteChange>; 10] = [
        ("RankMe, base", "exp H(s/Σs)", |site| base(site)?.rankme),
        ("adapted", "RankMe", |site| adapted(site)?.rankme),
        ("effective rank, base", "exp H(λ/Σλ)", |site| base(site)?.effective_rank),
        ("adapted", "effective rank", |site| adapted(site)?.effective_rank),
        ("participation ratio, base", "(Σλ)²/Σλ²", |site| base(site)?.participation_ratio),
        ("adapted", "participation ratio", |site| adapted(site)?.participation_ratio),
        ("stable rank, base", "Σλ/λ₁", |site| base(site)?.stable_rank),
        ("adapted", "stable rank", |site| adapted(site)?.stable_rank),
        ("α-ReQ, base", "decay of the eigenvalues", |site| base(site)?.alpha_req),
        ("adapted", "α-ReQ", |site| adapted(site)?.alpha_req),
    ];
    Some(Table::new("site", vec![], &COLUMNS, &site_entries(audit))).filter(|table| !table.is_empty())
}

fn site_entries(audit: &Audit) -> Vec<Entry<'_, SiteChange>> {
    let mut entries = Vec::with_capacity(audit.layers.len());
    for (site, change) in &audit.layers {
        entries.push(Entry { name: site.clone(), full: site, words: vec![], change });
    }
    entries
}

/// Every adapted weight, as the model runs.
pub(super) fn weights(audit: &Audit) -> Option<Table> {
    const COLUMNS: [Column<WeightChange>; 20] = [
        ("‖ΔW‖/‖W‖", "size of the change", |weight| weight.relative_norm),
        ("σ₁ ratio", "σ₁(ΔW)/σ₁(W)", |weight| weight.spectral_ratio),
        ("1 − cosine", "of W and W', flattened", |weight| Some(weight.one_minus_cosine)),
        ("rank", "singular values above 10⁻⁶ σ₁", |weight| Some(weight.rank as f64)),
        ("stable rank", "Σσ²/σ₁²", |weight| weight.stable_rank),
        ("RankMe", "exp H(σ/Σσ)", |weight| weight.rankme),
        ("effective rank", "exp H(σ²/Σσ²)", |weight| weight.effective_rank),
        ("first σ's share", "σ₁²/Σσ²", |weight| weight.top1_share),
        ("kurtosis", "3 for a normal distribution", |weight| weight.kurtosis),
        ("8 heaviest rows", "their share of ‖ΔW‖²", |weight| weight.row_top8_share),
        ("row turn, mean\u{a0}°", "angle between rows of W and W'", |weight| Some(weight.row_rotation_deg.mean)),
        ("row turn, max\u{a0}°", "", |weight| Some(weight.row_rotation_deg.max)),
        ("row norm change, mean", "mean of |‖w'‖/‖w‖ − 1|", |weight| Some(weight.row_norm_change.mean_abs)),
        ("row norm, most", "largest |‖w'‖/‖w‖ − 1|", |weight| Some(weight.row_norm_change.max_abs)),
        ("row norm, least", "smallest ‖w'‖/‖w‖ − 1: −1 is a row that is gone", |weight| {
            Some(weight.row_norm_change.min)
        }),
        ("output overlap", "does ΔW write where W already writes?", |weight| weight.output_overlap),
        ("intruders of 10", "leading directions unlike any of the base's", |weight| {
            weight.intruder_dimensions.map(|number| number as f64)
        }),
        ("intruders, chance |cos|", "what random directions reach; an intruder stays under 0.5", |weight| {
            Some(weight.intruder_chance_cosine)
        }),
        ("merged: cosine", "of the change that bf16 keeps", |weight| weight.merge_survival.cosine),
        ("merged: changed", "share of entries that change at all in bf16", |weight| {
            Some(weight.merge_survival.changed_share)
        }),
    ];
    let mut entries: Vec<Entry<'_, WeightChange>> = Vec::with_capacity(audit.weights.len());
    for (tensor, change) in &audit.weights {
        entries.push(Entry {
            name: short_name(tensor),
            full: tensor,
            words: vec![change.kind.clone(), format!("{}×{}", change.shape[0], change.shape[1])],
            change,
        });
    }
    entries.sort_by_key(|entry| running_order(entry.full));
    Some(Table::new("weight", vec!["kind", "shape"], &COLUMNS, &entries)).filter(|table| !table.is_empty())
}

/// `0.self_attn.q_proj` for a tensor in a layer, else the name without its ending.
fn short_name(tensor: &str) -> String {
    let path = tensor.strip_suffix(".weight").unwrap_or(tensor);
    let prefix = ["model.layers.", "transformer.h."]
        .into_iter()
        .find_map(|prefix| path.strip_prefix(prefix).filter(|_| ModulePath::parse(tensor).layer.is_some()));
    prefix.unwrap_or(path).to_owned()
}
