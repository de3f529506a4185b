//! Whether a file that belongs to no adapter may be a model: by its name, or by its first bytes, whatever its name.

use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::files::{PREFIX_BYTES, read_up_to};
use crate::kind::{self, Kind};
use crate::limits::Limits;
use crate::pickle::{self, Glance};

/// Bytes at the end of an archive that are searched for the name of a pickle: a directory of some hundred members.
const DIRECTORY: u64 = 1 << 16;
/// Endings of model files beside those of pickles.
const MODEL_NAMES: [&str; 7] = ["safetensors", "gguf", "ggml", "onnx", "h5", "npz", "npy"];
/// How model files begin that are not looked into.
const MODEL_MAGIC: [&[u8]; 3] = [b"GGUF", b"lmgg", b"\x89HDF"];

/// Whether a file's name is one that loaders take for a model.
pub(crate) fn is_named_model(name: &str) -> bool {
    MODEL_NAMES.contains(&kind::extension(name).as_str()) || Kind::of_name(name) == Kind::Pickle
}

/// Whether a file may be a model, by name or content.
pub(crate) fn looks_like_model(path: &Path, metadata: &Metadata, limits: &Limits) -> bool {
    is_named_model(&path.to_string_lossy()) || is_weights(path, metadata, limits)
}

/// Whether a file is one by its content: tensors, a pickle, a torch file. One that cannot be read may be.
pub(crate) fn is_weights(path: &Path, metadata: &Metadata, limits: &Limits) -> bool {
    let Ok(prefix) = read_up_to(path, PREFIX_BYTES) else { return true };
    match Kind::of_content(&prefix) {
        Some(Kind::Safetensors | Kind::Pickle | Kind::Npy) => true,
        Some(Kind::Archive) => holds_pickle(path, &prefix),
        Some(Kind::Empty | Kind::LfsPointer) => false,
        _ if MODEL_MAGIC.iter().any(|magic| prefix.starts_with(magic)) => true,
        _ => {
            let glance = pickle::glance_at(path, &prefix, metadata.len(), limits);
            // What is too long to tell is no text of anybody's.
            !matches!(glance, Ok(Glance::Other)) || ends_with_pickles(path)
        }
    }
}

/// Whether an archive names a pickle, at its beginning or in the directory at its end.
fn holds_pickle(path: &Path, prefix: &[u8]) -> bool {
    names_pickle(prefix) || tail(path).is_ok_and(|tail| names_pickle(&tail))
}

/// Whether a file that begins like something else ends like an archive with a pickle in it.
fn ends_with_pickles(path: &Path) -> bool {
    let ends = |mut file: File| crate::archive::ends_like_one(&mut file);
    File::open(path).and_then(ends).unwrap_or(true) && tail(path).is_ok_and(|tail| names_pickle(&tail))
}

fn names_pickle(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|window| window == b".pkl")
}

fn tail(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(DIRECTORY)))?;
    let mut bytes = Vec::new();
    file.take(DIRECTORY).read_to_end(&mut bytes)?;
    Ok(bytes)
}
