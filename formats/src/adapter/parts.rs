//! An adapter read a few modules at a time, so that memory is that of a part, whatever the size of the file.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::files::{self, Found, RawConfig, Selection};
use super::{Adapter, AdapterError, PeftConfig, mlx, module_of, peft};
use crate::checkpoint::{SafetensorsFile, Weight};

/// An adapter whose files were found, to be read part by part.
pub struct AdapterParts {
    found: Found,
    /// The config of PEFT, checked once: what its patterns may cost is for all parts together.
    peft: Option<PeftConfig>,
    sha256: String,
    bytes: u64,
    parts: Vec<Part>,
}

/// Bounds that hold whatever the files claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the tensor file.
    pub file_bytes: u64,
    /// Bytes of its header.
    pub header_bytes: u64,
    /// Elements of one module's tensors, and of those that are in memory at once.
    pub elements: usize,
}

/// Whole modules of an adapter that are read together.
#[derive(Debug)]
pub struct Part {
    names: HashSet<String>,
    /// Elements of its tensors; those that replace the base's whole stay in the file and are not counted.
    pub elements: usize,
    /// Modules in it.
    pub modules: usize,
    /// One of its modules, as the file names it.
    pub first: String,
}

impl AdapterParts {
    /// Finds the adapter's files and divides their tensors into parts of bounded size; a module that is larger is a
    /// part of its own, and whether it is read the caller decides.
    ///
    /// `digest_of` gives the SHA-256 of the tensor file where the caller knows it already.
    pub fn find(
        path: &Path,
        bounds: Bounds,
        digest_of: &dyn Fn(&Path) -> Option<String>,
    ) -> Result<Self, AdapterError> {
        let found = files::locate(path)?;
        let peft = match &found.config {
            RawConfig::Peft(map) => Some(PeftConfig::from_json(&found.config_path, map)?),
            RawConfig::Mlx(_) => None,
        };
        let length = std::fs::metadata(&found.tensors).map_or(0, |metadata| metadata.len());
        if length > bounds.file_bytes {
            let reason = format!("{length} bytes, more than the {} that are read", bounds.file_bytes);
            return Err(AdapterError::TooLarge { path: found.tensors, place: String::new(), reason });
        }
        let file = SafetensorsFile::open_within(&found.tensors, bounds.header_bytes)?;
        if file.tensors().is_empty() {
            return Err(AdapterError::Empty { path: found.tensors });
        }
        let (sha256, bytes) = match (digest_of(&found.tensors), std::fs::metadata(&found.tensors)) {
            (Some(sha256), Ok(metadata)) => (sha256, metadata.len()),
            _ => files::digest(&found.tensors)?,
        };
        let mut modules: BTreeMap<&str, (usize, Vec<&str>)> = BTreeMap::new();
        for tensor in file.tensors() {
            let (size, names) = modules.entry(module_key(tensor.name())).or_default();
            *size += if is_whole(tensor) { 0 } else { tensor.len() };
            names.push(tensor.name());
        }
        let mut parts: Vec<Part> = Vec::new();
        for (module, (size, names)) in modules {
            let names = names.into_iter().map(str::to_owned);
            match parts.last_mut() {
                Some(last) if last.elements + size <= bounds.elements => {
                    last.elements += size;
                    last.modules += 1;
                    last.names.extend(names);
                }
                _ => parts.push(Part { names: names.collect(), elements: size, modules: 1, first: module.to_owned() }),
            }
        }
        Ok(Self { found, peft, sha256, bytes, parts })
    }

    /// The tensor file.
    pub fn tensors(&self) -> &Path {
        &self.found.tensors
    }

    /// Tensor files of earlier steps of the same run, which mlx-lm leaves beside the last under the same config.
    pub fn checkpoints(&self) -> Vec<PathBuf> {
        match self.found.config {
            RawConfig::Mlx(_) => files::checkpoints_beside(&self.found.tensors),
            RawConfig::Peft(_) => Vec::new(),
        }
    }

    /// The parts.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Reads one part as an adapter that has no other modules; what concerns the whole file (its size and digest, the
    /// number of its tensors and parameters) is that of the whole file.
    pub fn read(&self, part: &Part) -> Result<Adapter, AdapterError> {
        let selection = Selection { names: &part.names, sha256: &self.sha256, bytes: self.bytes };
        let tensors = &self.found.tensors;
        match (&self.peft, &self.found.config) {
            (Some(config), _) => peft::open(config, tensors, Some(&selection)),
            (None, RawConfig::Peft(map) | RawConfig::Mlx(map)) => {
                mlx::open(&self.found.config_path, map, tensors, Some(&selection))
            }
        }
    }
}

/// Whether a tensor is a matrix that replaces the base's: no factor and no vector of either layout, however it is
/// stored.
fn is_whole(tensor: &Weight) -> bool {
    let is_vector = [".bias", ".m"].iter().any(|end| tensor.name().ends_with(end));
    !is_vector && !tensor.name().contains(".lora_") && tensor.shape().len() > 1
}

/// What the tensors of one module have in common: the name up to the part that says which of them it is.
fn module_key(name: &str) -> &str {
    const MARKS: [&str; 4] = [".lora_", ".base_layer.", ".modules_to_save.", ".original_module."];
    let cut = MARKS.iter().filter_map(|mark| name.find(mark)).min();
    cut.and_then(|at| name.get(..at)).unwrap_or_else(|| module_of(name))
}
