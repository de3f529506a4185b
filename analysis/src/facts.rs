//! What an audit says of its two subjects before anything is measured: what base this is, what adapter, and how the one
//! fits the other.

use std::path::Path;

use lcr_documents::audit::{AdapterFacts, Base, Coverage, ResizedTable};
use lcr_formats::adapter::Resized;
use lcr_model::decoder::{BoundAdapter, Decoder};

/// The base, called `path` in the report.
pub fn of_base(decoder: &Decoder, path: &str) -> Base {
    let (config, checkpoint) = (decoder.config(), decoder.checkpoint());
    Base {
        path: path.to_owned(),
        family: config.family.model_type.to_owned(),
        layers: config.layers.len(),
        width: config.width,
        heads: config.heads,
        kv_heads: config.kv_heads,
        vocab_size: config.vocab_size,
        parameters: checkpoint.parameters(),
        bytes: checkpoint.bytes(),
        storage_dtype: checkpoint.storage_dtype(),
    }
}

/// An adapter that was fitted to the base, called `path` in the report.
pub fn of_adapter(decoder: &Decoder, fitted: &BoundAdapter, path: &str) -> AdapterFacts {
    let (adapter, coverage) = (fitted.adapter(), fitted.coverage());
    AdapterFacts {
        path: path.to_owned(),
        name: name_of(path),
        base_model: adapter.base_model().map(str::to_owned),
        format: adapter.format.name().to_owned(),
        method: adapter.method(),
        ranks: adapter.ranks(),
        scales: adapter.scales(),
        targets: adapter.target_names(),
        parameters: adapter.parameters,
        bytes: adapter.bytes,
        sha256: adapter.sha256.clone(),
        zero_effect: fitted.is_zero_effect(decoder),
        coverage: Coverage {
            tensors: coverage.tensors,
            applied: coverage.applied,
            unmatched: Vec::new(),
            set_aside: coverage.set_aside.clone(),
            vocabulary: coverage.vocabulary.iter().map(resized_table).collect(),
            targeted_without_tensors: coverage.targeted_without_tensors.clone(),
        },
    }
}

fn resized_table(table: &Resized) -> ResizedTable {
    ResizedTable { tensor: table.tensor.clone(), base_rows: table.base_rows, adapter_rows: table.adapter_rows }
}

/// Last component of a path as reports write it.
fn name_of(path: &str) -> String {
    let path = path.trim_end_matches('/');
    Path::new(path).file_name().map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned())
}
