//! Finds the files of an adapter and says why where it cannot: a pickle, a pointer, a config alone, a run without an
//! end.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use lcr_documents::digest::hexadecimal;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::error::AdapterError;
use super::foreign::{Foreign, PICKLE_EXTENSIONS, has_extension};
use crate::checkpoint::{CheckpointError, Dtype, SafetensorsFile, Weight, pickles_in};

/// Name of the config in both layouts.
pub(crate) const CONFIG_NAME: &str = "adapter_config.json";
/// Name of PEFT's tensor file.
pub(crate) const PEFT_TENSORS: &str = "adapter_model.safetensors";
/// Name of MLX's tensor file; those of earlier steps end in `_` and this.
const MLX_TENSORS: &str = "adapters.safetensors";
/// Longest config accepted, bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Largest tensor file that is read into memory whole rather than mapped, bytes.
pub(crate) const MOST_HELD: u64 = 256 << 20;
/// First bytes of a large-file pointer.
const LFS_PREFIX: &[u8] = b"version https://git-lfs";

/// Config as JSON, by dialect.
pub(crate) enum RawConfig {
    Peft(Map<String, Value>),
    Mlx(Map<String, Value>),
}

/// The files of an adapter.
pub(crate) struct Found {
    pub(crate) config_path: PathBuf,
    /// SHA-256 of the bytes that the config was parsed from.
    pub(crate) config_sha256: String,
    pub(crate) config: RawConfig,
    pub(crate) tensors: PathBuf,
}

/// Finds config and tensors of the adapter at `path`, a folder or a tensor file.
pub(crate) fn locate(path: &Path) -> Result<Found, AdapterError> {
    if !path.exists() {
        return Err(AdapterError::NotFound { path: path.to_path_buf() });
    }
    if path.is_dir() {
        return locate_in_folder(path);
    }
    if let Some(format) = Foreign::of_file(path) {
        return Err(format.refusal(path));
    }
    if has_extension(path, &PICKLE_EXTENSIONS) {
        return Err(pickle(path));
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (config_path, config, config_sha256) = read_config(folder)?;
    Ok(Found { config_path, config_sha256, config, tensors: path.to_path_buf() })
}

fn locate_in_folder(folder: &Path) -> Result<Found, AdapterError> {
    if !folder.join(CONFIG_NAME).is_file() {
        return Err(no_config(folder));
    }
    let tensors = find_tensors(folder)?;
    let (config_path, config, config_sha256) = read_config(folder)?;
    // Both layouts in one folder: the config says which of the two it belongs to.
    let tensors = match &config {
        RawConfig::Mlx(_) if folder.join(MLX_TENSORS).is_file() => folder.join(MLX_TENSORS),
        _ => tensors,
    };
    Ok(Found { config_path, config_sha256, config, tensors })
}

fn find_tensors(folder: &Path) -> Result<PathBuf, AdapterError> {
    for name in [PEFT_TENSORS, MLX_TENSORS] {
        if folder.join(name).is_file() {
            return Ok(folder.join(name));
        }
    }
    let mut numbered = names_in(folder, |name| name.ends_with(&format!("_{MLX_TENSORS}")));
    match numbered.len() {
        0 => Err(no_tensors(folder)),
        1 => Ok(folder.join(numbered.remove(0))),
        _ => Err(AdapterError::SeveralCheckpoints { folder: folder.to_path_buf(), files: numbered }),
    }
}

/// The refusal of a file with the name of a pickle, which a pointer may stand in for.
fn pickle(path: &Path) -> AdapterError {
    let mut prefix = [0; LFS_PREFIX.len()];
    let is_pointer = File::open(path).and_then(|mut file| file.read_exact(&mut prefix)).is_ok() && prefix == LFS_PREFIX;
    let path = path.to_path_buf();
    if is_pointer { AdapterError::LfsPointer { path } } else { AdapterError::Pickle { path } }
}

/// Pickles that a trainer leaves behind; none of them holds an adapter.
fn is_of_trainer(name: &str) -> bool {
    ["training_args", "optimizer", "scheduler", "scaler", "rng_state"].iter().any(|start| name.starts_with(start))
}

/// Numbered checkpoints in the folder of a tensor file, itself left out.
pub(crate) fn checkpoints_beside(tensors: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(own)) = (tensors.parent(), tensors.file_name()) else { return Vec::new() };
    let step = |name: &str| name.strip_suffix(MLX_TENSORS)?.strip_suffix('_').map(str::to_owned);
    let is_numbered =
        |name: &str| step(name).is_some_and(|step| !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit()));
    let numbered = names_in(folder, |name| is_numbered(name) && own != name);
    numbered.into_iter().map(|name| folder.join(name)).collect()
}

fn no_tensors(folder: &Path) -> AdapterError {
    if let Some((path, format)) = Foreign::in_folder(folder) {
        return format.refusal(&path);
    }
    if let Some(name) = pickles_in(folder).into_iter().find(|name| !is_of_trainer(name)) {
        return pickle(&folder.join(name));
    }
    let below = folders_with_config(folder);
    let hint = if below.is_empty() {
        ". The weights were not published, or not downloaded: get the tensor file that belongs to this config"
            .to_owned()
    } else {
        format!(". Adapters stand in its folders {}: give one of them", below.join(", "))
    };
    AdapterError::NoTensors { folder: folder.to_path_buf(), hint }
}

fn no_config(folder: &Path) -> AdapterError {
    let below = folders_with_config(folder);
    let hint = if !below.is_empty() {
        format!(". Adapters stand in its folders {}: give one of them", below.join(", "))
    } else if folder.join("config.json").is_file() {
        ". There is a config.json: this looks like a whole model, not an adapter".to_owned()
    } else if let Some((path, format)) = Foreign::in_folder(folder) {
        return format.refusal(&path);
    } else {
        ". Get the config that belongs to the tensors".to_owned()
    };
    AdapterError::NoConfig { folder: folder.to_path_buf(), hint }
}

fn names_in(folder: &Path, keep: impl Fn(&str) -> bool) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| keep(name))
        .collect();
    names.sort();
    names
}

fn folders_with_config(folder: &Path) -> Vec<String> {
    names_in(folder, |name| folder.join(name).join(CONFIG_NAME).is_file())
}

/// Reads `adapter_config.json` of `folder`, with its digest, and tells the dialects apart.
fn read_config(folder: &Path) -> Result<(PathBuf, RawConfig, String), AdapterError> {
    let path = folder.join(CONFIG_NAME);
    if !path.is_file() {
        return Err(no_config(folder));
    }
    let read = |source| AdapterError::Read { path: path.clone(), source };
    let syntax = |reason: String| AdapterError::ConfigSyntax { path: path.clone(), reason };
    let mut text = Vec::new();
    let file = File::open(&path).map_err(read)?;
    file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut text).map_err(read)?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(syntax(format!("longer than {MAX_CONFIG_BYTES} bytes")));
    }
    if text.starts_with(LFS_PREFIX) {
        return Err(AdapterError::LfsPointer { path });
    }
    let value: Value = serde_json::from_slice(&text).map_err(|error| syntax(error.to_string()))?;
    let Value::Object(map) = value else {
        return Err(syntax("a JSON object is needed".to_owned()));
    };
    let has = |field: &&str| map.contains_key(*field);
    let is_mlx = !map.contains_key("peft_type") && ["lora_parameters", "fine_tune_type", "lora_layers"].iter().any(has);
    // {"rank", "alpha", "dropout"}: PEFT calls the first two `r` and `lora_alpha`, and mlx-lm nests them.
    let is_mlx_vlm = !is_mlx && has(&"rank") && !["peft_type", "r", "lora_alpha", "target_modules"].iter().any(has);
    if is_mlx_vlm {
        return Err(AdapterError::Foreign {
            path,
            what:
                "the config of an adapter of mlx-vlm in its first layout ({\"rank\", \"alpha\", \"dropout\"}), which \
                is neither PEFT's nor mlx-lm's: it does not say which modules are adapted"
                    .to_owned(),
            way_out:
                "Train or save it again with mlx-vlm 0.7 or newer, which writes `lora_parameters` as mlx-lm does; \
                adapters of the vision part cannot be compared with a text model"
                    .to_owned(),
        });
    }
    let config = if is_mlx { RawConfig::Mlx(map) } else { RawConfig::Peft(map) };
    let sha256 = hexadecimal(&Sha256::digest(&text));
    Ok((path, config, sha256))
}

/// What both layouts need to know of a tensor file.
pub(crate) struct TensorFile {
    pub(crate) file: SafetensorsFile,
    /// The tensors to read: all, or those of a part.
    pub(crate) chosen: Vec<Weight>,
    pub(crate) bytes: u64,
    pub(crate) parameters: u64,
    pub(crate) sha256: String,
}

/// Some tensors of a file whose digest is known.
pub(crate) struct Selection<'a> {
    pub(crate) names: &'a HashSet<String>,
    pub(crate) sha256: &'a str,
    pub(crate) bytes: u64,
}

/// Opens a tensor file; every tensor in it is a float of this program's three kinds.
pub(crate) fn open_tensors(path: &Path, selection: Option<&Selection>) -> Result<TensorFile, AdapterError> {
    let file = match selection {
        Some(_) => SafetensorsFile::open(path)?,
        None => SafetensorsFile::open_held(path, MOST_HELD)?,
    };
    if file.tensors().is_empty() {
        return Err(AdapterError::Empty { path: path.to_path_buf() });
    }
    if let Some(format) = Foreign::of_names(&file.tensors().iter().map(Weight::name).collect::<Vec<&str>>()) {
        return Err(format.refusal(path));
    }
    for tensor in file.tensors() {
        if let Dtype::Other(..) = tensor.dtype() {
            return Err(AdapterError::Tensors(CheckpointError::NotFloat {
                path: path.to_path_buf(),
                tensor: tensor.name().to_owned(),
                dtype: tensor.dtype().to_string(),
            }));
        }
        if tensor.is_empty() {
            return Err(AdapterError::Tensor {
                path: path.to_path_buf(),
                tensor: tensor.name().to_owned(),
                reason: format!("shape {:?} has no element. Save the adapter again", tensor.shape()),
            });
        }
    }
    let (sha256, bytes) = match selection {
        Some(selection) => (selection.sha256.to_owned(), selection.bytes),
        None => (file.sha256(), file.bytes()),
    };
    let is_chosen = |tensor: &&Weight| selection.is_none_or(|selection| selection.names.contains(tensor.name()));
    let chosen = file.tensors().iter().filter(is_chosen).cloned().collect();
    let parameters = file.tensors().iter().map(|tensor| tensor.len() as u64).sum();
    Ok(TensorFile { file, chosen, bytes, parameters, sha256 })
}

/// SHA-256 of a file, hexadecimal, and its length.
pub(crate) fn digest(path: &Path) -> Result<(String, u64), AdapterError> {
    let read = |source| AdapterError::Read { path: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(read)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let count = file.read(&mut block).map_err(read)?;
        let Some(filled) = block.get(..count).filter(|filled| !filled.is_empty()) else {
            break;
        };
        hasher.update(filled);
        length += count as u64;
    }
    Ok((hexadecimal(&hasher.finalize()), length))
}

/// The two dimensions of a matrix, or an error that says what it should be.
pub(crate) fn matrix(tensor: &Weight, meaning: &str) -> Result<[usize; 2], AdapterError> {
    match *tensor.shape() {
        [rows, columns] => Ok([rows, columns]),
        _ => Err(AdapterError::Shape {
            path: tensor.path().to_path_buf(),
            tensor: tensor.name().to_owned(),
            found: tensor.shape().to_vec(),
            expected: format!("two dimensions, {meaning} (convolutions are not supported)"),
        }),
    }
}

/// A vector of `length`, also where it is stored with a second dimension of one.
pub(crate) fn vector(tensor: &Weight, length: usize, meaning: &str) -> Result<Vec<f32>, AdapterError> {
    let fits = match *tensor.shape() {
        [found] | [found, 1] | [1, found] => found == length,
        _ => false,
    };
    if !fits {
        return Err(AdapterError::Shape {
            path: tensor.path().to_path_buf(),
            tensor: tensor.name().to_owned(),
            found: tensor.shape().to_vec(),
            expected: format!("[{length}], {meaning}"),
        });
    }
    Ok(tensor.to_finite_f32()?)
}
