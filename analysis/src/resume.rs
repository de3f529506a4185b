//! How far a comparison of many adapters has come, in a file: a run that is killed goes on from there.
//!
//! Saved between layers, when everything tapped so far has been measured, and between blocks of outputs: the streams
//! that enter the next layer, the tracked rows, and the numbers found. What was computed before the file was written is
//! never computed again, and since streams are saved as they are, a resumed run gives the very numbers of one that was
//! never stopped.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use indexmap::IndexMap;
use lcr_documents::audit::SiteChange;
use lcr_model::decoder::Branches;
use serde::{Deserialize, Serialize};

use crate::AuditError;
use crate::logits::{Lens, Outputs};
use crate::weights::Measured;

/// Key of the header's metadata that holds everything but tensors.
const NOTES: &str = "standing";

/// Where a comparison's state is kept, and how often.
#[derive(Debug, Clone)]
pub struct ResumeFile {
    /// The file.
    pub path: PathBuf,
    /// What the run is made of, but for the variants: a file that says something else belongs to another run and is
    /// left alone.
    pub fingerprint: String,
    /// What each variant is, in their order.
    pub variants: Vec<String>,
    /// Time between two savings.
    pub interval: Duration,
}

/// What is known of one variant so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) layers: IndexMap<String, SiteChange>,
    pub(crate) sinks: IndexMap<String, usize>,
}

/// Numbers and places; the tensors stand beside them.
#[derive(Debug, Serialize, Deserialize)]
struct Notes {
    fingerprint: String,
    variants: Vec<String>,
    /// Changed tensors measured.
    weights: usize,
    /// By variant.
    measured: Vec<Vec<(String, Measured)>>,
    /// Lengths of their leading directions, which stand one after another in a tensor a variant.
    directions: Vec<Vec<[usize; 2]>>,
    found: Vec<Found>,
    /// The next layer, and the branch of each model in the stream; absent before the walk.
    layer: Option<usize>,
    stream: Vec<usize>,
    /// The branch of each model, by tracked site.
    tracked: Vec<Vec<usize>>,
    outputs: Outputs,
    lens: Lens,
}

/// A comparison between two layers.
#[derive(Debug)]
pub(crate) struct ResumeState {
    /// Changed tensors measured, and what was measured, by variant.
    pub(crate) weights: usize,
    pub(crate) measured: Vec<Vec<(String, Measured)>>,
    pub(crate) found: Vec<Found>,
    /// The next layer and the stream that enters it.
    pub(crate) walk: Option<(usize, Branches)>,
    pub(crate) tracked: Vec<Branches>,
    pub(crate) outputs: Outputs,
    pub(crate) lens: Lens,
}

/// Saves the state of a comparison while it runs.
pub(crate) struct Saver<'a> {
    file: Option<&'a ResumeFile>,
    last: Instant,
}

impl<'a> Saver<'a> {
    pub(crate) fn new(file: Option<&'a ResumeFile>) -> Self {
        Self { file, last: Instant::now() }
    }

    /// The state of an earlier run of the same fingerprint; a file that cannot be read is none.
    pub(crate) fn resume(&self) -> Option<ResumeState> {
        read(self.file?).inspect_err(|error| tracing::info!(%error, "nothing to resume")).ok()
    }

    /// Saves when the interval has passed.
    pub(crate) fn offer(&mut self, state: impl FnOnce() -> ResumeState) -> Result<(), AuditError> {
        let interval = self.file.map_or(Duration::MAX, |file| file.interval);
        if self.last.elapsed() < interval { Ok(()) } else { self.settle(state) }
    }

    /// Saves now.
    pub(crate) fn settle(&mut self, state: impl FnOnce() -> ResumeState) -> Result<(), AuditError> {
        let Some(file) = self.file else { return Ok(()) };
        let fault = |reason: String| AuditError::Resume { path: file.path.clone(), reason };
        save(file, &state()).map_err(|error| fault(error.to_string()))?;
        self.last = Instant::now();
        Ok(())
    }
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

fn save(file: &ResumeFile, state: &ResumeState) -> Result<(), Fault> {
    let mut tensors: HashMap<String, Tensor> = HashMap::new();
    let mut directions = Vec::new();
    for (variant, measured) in state.measured.iter().enumerate() {
        let values: Vec<f64> =
            measured.iter().flat_map(|(_, own)| own.left.iter().chain(&own.right).copied()).collect();
        directions.push(measured.iter().map(|(_, own)| [own.left.len(), own.right.len()]).collect());
        let count = values.len();
        tensors.insert(format!("directions.{variant}"), Tensor::from_vec(values, count, &Device::Cpu)?);
    }
    let mut keep = |prefix: &str, branches: &Branches| {
        for (branch, tensor) in branches.tensors().iter().enumerate() {
            tensors.insert(format!("{prefix}.{branch}"), tensor.clone());
        }
        branches.of_model().to_vec()
    };
    let stream = state.walk.as_ref().map(|(_, branches)| keep("stream", branches)).unwrap_or_default();
    let tracked =
        state.tracked.iter().enumerate().map(|(site, branches)| keep(&format!("tracked.{site}"), branches)).collect();
    let notes = Notes {
        fingerprint: file.fingerprint.clone(),
        variants: file.variants.clone(),
        weights: state.weights,
        measured: state.measured.clone(),
        directions,
        found: state.found.clone(),
        layer: state.walk.as_ref().map(|(layer, _)| *layer),
        stream,
        tracked,
        outputs: state.outputs.clone(),
        lens: state.lens.clone(),
    };
    let metadata = HashMap::from([(NOTES.to_owned(), serde_json::to_string(&notes)?)]);
    let bytes = safetensors::serialize(&tensors, Some(metadata))?;
    Ok(lcr_documents::write::replace(&file.path, &bytes)?)
}

/// The variants of a run that was stopped, by the file that it kept; `None` where there is none of that fingerprint.
pub fn variants_of(path: &Path, fingerprint: &str) -> Option<Vec<String>> {
    let bytes = lcr_documents::read::plain(path).ok()?;
    notes(&bytes).ok().filter(|notes| notes.fingerprint == fingerprint).map(|notes| notes.variants)
}

fn notes(bytes: &[u8]) -> Result<Notes, Fault> {
    let (_, header) = safetensors::SafeTensors::read_metadata(bytes)?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(NOTES)).ok_or("no notes in it")?;
    Ok(serde_json::from_str(text)?)
}

fn read(file: &ResumeFile) -> Result<ResumeState, Fault> {
    let bytes = lcr_documents::read::plain(&file.path)?;
    let mut notes = notes(&bytes)?;
    if notes.fingerprint != file.fingerprint || notes.variants != file.variants {
        return Err("it belongs to another run".into());
    }
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    for (variant, (measured, lengths)) in notes.measured.iter_mut().zip(&notes.directions).enumerate() {
        let values = tensors.get(&format!("directions.{variant}")).ok_or("directions are missing")?.to_vec1::<f64>()?;
        let mut rest = values.as_slice();
        let mut take = |count: usize| -> Result<Vec<f64>, Fault> {
            let (taken, left) = rest.split_at_checked(count).ok_or("directions are too short")?;
            rest = left;
            Ok(taken.to_vec())
        };
        for ((_, own), [left, right]) in measured.iter_mut().zip(lengths) {
            (own.left, own.right) = (take(*left)?, take(*right)?);
        }
    }
    let branches = |prefix: &str, of_model: Vec<usize>| -> Result<Branches, Fault> {
        let count = of_model.iter().max().map_or(0, |branch| branch + 1);
        let found =
            (0..count).map(|branch| tensors.get(&format!("{prefix}.{branch}")).cloned().ok_or("a branch is missing"));
        Ok(Branches::of(found.collect::<Result<_, _>>()?, of_model).ok_or("branches and models do not fit")?)
    };
    let walk = match notes.layer {
        Some(layer) => Some((layer, branches("stream", notes.stream)?)),
        None => None,
    };
    let tracked =
        notes.tracked.into_iter().enumerate().map(|(site, of_model)| branches(&format!("tracked.{site}"), of_model));
    Ok(ResumeState {
        weights: notes.weights,
        measured: notes.measured,
        found: notes.found,
        walk,
        tracked: tracked.collect::<Result<_, _>>()?,
        outputs: notes.outputs,
        lens: notes.lens,
    })
}
