//! An adapter read a few modules at a time, so that memory is that of a part, whatever the size of the file.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::files::{self, Found, RawConfig, Selection};
use super::{Adapter, AdapterError, mlx, module_of, peft};
use crate::checkpoint::SafetensorsFile;

/// An adapter whose files were found, to be read part by part.
pub struct AdapterParts {
    found: Found,
    sha256: String,
    bytes: u64,
    parts: Vec<Part>,
}

/// Whole modules of an adapter that are read together.
#[derive(Debug)]
pub struct Part {
    names: HashSet<String>,
    /// Elements of its tensors.
    pub elements: usize,
    /// Modules in it.
    pub modules: usize,
    /// One of its modules, as the file names it.
    pub first: String,
}

impl AdapterParts {
    /// Finds the adapter's files and divides their tensors into parts of at most `elements` elements; a module that has more is a
    /// part of its own.
    ///
    /// `digest_of` gives the SHA-256 of the tensor file where the caller knows it already.
    pub fn find(
        path: &Path,
        elements: usize,
        digest_of: &dyn Fn(&Path) -> Option<String>,
    ) -> Result<Self, AdapterError> {
        let found = files::locate(path)?;
        let file = SafetensorsFile::open(&found.tensors)?;
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
            *size += tensor.len();
            names.push(tensor.name());
        }
        let mut parts: Vec<Part> = Vec::new();
        for (module, (size, names)) in modules {
            let names = names.into_iter().map(str::to_owned);
            match parts.last_mut() {
                Some(last) if last.elements + size <= elements => {
                    last.elements += size;
                    last.modules += 1;
                    last.names.extend(names);
                }
                _ => parts.push(Part { names: names.collect(), elements: size, modules: 1, first: module.to_owned() }),
            }
        }
        Ok(Self { found, sha256, bytes, parts })
    }

    /// The tensor file.
    pub fn tensors(&self) -> &Path {
        &self.found.tensors
    }

    /// The parts.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Reads one part as an adapter that has no other modules; what concerns the whole file (its size and digest, the number of its
    /// tensors and parameters) is that of the whole file.
    pub fn read(&self, part: &Part) -> Result<Adapter, AdapterError> {
        let selection = Selection { names: &part.names, sha256: &self.sha256, bytes: self.bytes };
        let (config, tensors) = (&self.found.config_path, &self.found.tensors);
        match &self.found.config {
            RawConfig::Peft(map) => peft::open(config, map, tensors, Some(&selection)),
            RawConfig::Mlx(map) => mlx::open(config, map, tensors, Some(&selection)),
        }
    }
}

/// What the tensors of one module have in common: the name up to the part that says which of them it is.
fn module_key(name: &str) -> &str {
    const MARKS: [&str; 4] = [".lora_", ".base_layer.", ".modules_to_save.", ".original_module."];
    let cut = MARKS.iter().filter_map(|mark| name.find(mark)).min();
    cut.and_then(|at| name.get(..at)).unwrap_or_else(|| module_of(name))
}
