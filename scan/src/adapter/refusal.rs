//! What the strict reader's refusals are called among the checks.

use std::path::Path;

use lcr_formats::adapter::AdapterError;
use lcr_formats::checkpoint::CheckpointError;

use crate::check::{Check, Observation};

/// What a refusal of the file format is called.
pub(super) fn refused_file(name: &str, path: &Path, error: &CheckpointError) -> Observation {
    let (check, place) = match error {
        CheckpointError::Io { .. } | CheckpointError::NotAFolder { .. } => (Check::Unreadable, String::new()),
        CheckpointError::LfsPointer { .. } => (Check::LfsPointer, String::new()),
        CheckpointError::Truncated { .. } => (Check::Truncated, String::new()),
        CheckpointError::HeaderTooLarge { .. } => (Check::HeaderSize, "bytes 0..8".to_owned()),
        CheckpointError::Header { end, .. } => (Check::HeaderSyntax, format!("bytes 8..{end}")),
        CheckpointError::Overlap { second, .. } => (Check::OverlappingTensors, second.clone()),
        CheckpointError::Unclaimed { start, end, .. } => (Check::UnclaimedBytes, format!("data bytes {start}..{end}")),
        CheckpointError::NotFloat { tensor, .. } => (Check::UnanalysedTensor, tensor.clone()),
        CheckpointError::NonFinite { tensor, .. } => (Check::NonFinite, tensor.clone()),
        CheckpointError::Tensor { tensor, .. } | CheckpointError::Shape { tensor, .. } => {
            (Check::TensorLayout, tensor.clone())
        }
        CheckpointError::NoWeights { .. } | CheckpointError::Index { .. } | CheckpointError::Missing { .. } => {
            (Check::NoAdapter, String::new())
        }
    };
    Observation::new(check, name, without_folder(&error.to_string(), path)).at(crate::json::shown(&place))
}

/// What a refusal of the adapter is called; `None` where the reason was seen already.
pub(super) fn refused_adapter(root: &Path, error: &AdapterError, seen: &[Observation]) -> Option<Observation> {
    let (check, path) = match error {
        AdapterError::Tensors(inner) => {
            let message = refused_file("", root, inner);
            let known = seen.iter().any(|seen| seen.check == message.check && seen.place == message.place);
            return (!known).then_some(message);
        }
        AdapterError::Read { path, .. } | AdapterError::Write { path, .. } => (Check::Unreadable, path),
        AdapterError::NotFound { path } | AdapterError::NoConfig { folder: path, .. } => (Check::NoAdapter, path),
        AdapterError::NoTensors { folder: path, .. } | AdapterError::SeveralCheckpoints { folder: path, .. } => {
            (Check::NoAdapter, path)
        }
        AdapterError::Foreign { path, .. } => (Check::ForeignFormat, path),
        AdapterError::Pickle { path } => (Check::UnanalysedTensor, path),
        AdapterError::LfsPointer { path } => (Check::LfsPointer, path),
        AdapterError::ConfigSyntax { path, .. }
        | AdapterError::ConfigField { path, .. }
        | AdapterError::Pattern { path, .. } => (Check::ConfigSyntax, path),
        AdapterError::PatternBudget { path, .. } | AdapterError::TooLarge { path, .. } => (Check::BeyondLimits, path),
        AdapterError::UnsupportedField { path, .. }
        | AdapterError::UnknownField { path, .. }
        | AdapterError::Method { path, .. } => (Check::ConfigUnsupported, path),
        AdapterError::Empty { path }
        | AdapterError::Tensor { path, .. }
        | AdapterError::Unpaired { path, .. }
        | AdapterError::BothLists { path, .. }
        | AdapterError::Duplicate { path, .. }
        | AdapterError::Shape { path, .. }
        | AdapterError::Rank { path, .. }
        | AdapterError::Unmatched { path, .. }
        | AdapterError::NotTargeted { path, .. }
        | AdapterError::MissingWhole { path, .. } => (Check::ConfigMismatch, path),
        AdapterError::BaseChanged { path, .. } => (Check::BaseChanged, path),
    };
    let file = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
    let known = seen.iter().any(|seen| seen.check == check && seen.file == file);
    (!known).then(|| Observation::new(check, &file, without_folder(&error.to_string(), root)))
}

/// A message without the folder that was scanned, which differs between machines.
pub(crate) fn without_folder(message: &str, path: &Path) -> String {
    let folder = format!("{}/", path.display());
    let parent = path.parent().map(|parent| format!("{}/", parent.display())).filter(|parent| parent.len() > 1);
    let mut text = message.replace(&folder, "");
    if let Some(parent) = parent {
        text = text.replace(&parent, "");
    }
    crate::json::one_line(&text)
}
