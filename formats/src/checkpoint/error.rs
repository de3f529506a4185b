//! Why a checkpoint or a safetensors file was refused.

use std::path::PathBuf;

/// Why a checkpoint or a safetensors file was refused.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}. Check the path and its permissions")]
    Io {
        /// File.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder does not exist or is a file.
    #[error("{path} is not a folder. Give the folder that holds config.json and the weights")]
    NotAFolder {
        /// What was given.
        path: PathBuf,
    },
    /// No weights that can be read.
    #[error("{folder} holds neither model.safetensors nor model.safetensors.index.json{}", hint_for_missing(.pickles))]
    NoWeights {
        /// Folder searched.
        folder: PathBuf,
        /// Pickle files seen there instead.
        pickles: Vec<String>,
    },
    /// A large-file pointer stands in the place of the file.
    #[error("{path} is a Git LFS pointer, not the weights: run `git lfs pull` (or download the file itself)")]
    LfsPointer {
        /// File.
        path: PathBuf,
    },
    /// Shorter than its own header says.
    #[error("{path} is truncated: {what} needs bytes up to {needed}, the file has {length}. Download it again")]
    Truncated {
        /// File.
        path: PathBuf,
        /// Part that does not fit.
        what: String,
        /// End of that part.
        needed: u64,
        /// Length of the file.
        length: u64,
    },
    /// Header longer than the format allows.
    #[error(
        "{path}: header of {length} bytes (bytes 0..8) exceeds the limit of {limit}. This is not an ordinary \
         safetensors file"
    )]
    HeaderTooLarge {
        /// File.
        path: PathBuf,
        /// Length claimed.
        length: u64,
        /// Longest that is read.
        limit: u64,
    },
    /// Header is not the JSON that the format asks for.
    #[error("{path}: the header (bytes 8..{end}) is not valid: {reason}")]
    Header {
        /// File.
        path: PathBuf,
        /// End of the header.
        end: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor's description contradicts itself or the file.
    #[error("{path}: tensor `{tensor}`: {reason}")]
    Tensor {
        /// File.
        path: PathBuf,
        /// Tensor.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two tensors share bytes.
    #[error("{path}: tensors `{first}` and `{second}` overlap at data byte {at}")]
    Overlap {
        /// File.
        path: PathBuf,
        /// Tensor that begins first.
        first: String,
        /// Tensor that begins inside it.
        second: String,
        /// Offset in the data section.
        at: u64,
    },
    /// Bytes that belong to no tensor.
    #[error("{path}: data bytes {start}..{end} belong to no tensor")]
    Unclaimed {
        /// File.
        path: PathBuf,
        /// First byte of the data section that nothing claims.
        start: u64,
        /// End.
        end: u64,
    },
    /// The shard index is malformed.
    #[error("{path}: {reason}")]
    Index {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor that the model needs is absent.
    #[error("{folder}: no tensor `{tensor}`{}. Is config.json the one that \
        belongs to these weights?", did_you_mean(.nearest.as_deref()))]
    Missing {
        /// Checkpoint.
        folder: PathBuf,
        /// Tensor asked for.
        tensor: String,
        /// A name that resembles it.
        nearest: Option<String>,
    },
    /// A tensor has another shape than the config says.
    #[error("{path}: tensor `{tensor}` has shape {found:?}, expected {expected:?} from config.json")]
    Shape {
        /// File.
        path: PathBuf,
        /// Tensor.
        tensor: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape that follows from the config.
        expected: Vec<usize>,
    },
    /// A tensor is not stored as floating point that can be widened to f32.
    #[error("{path}: tensor `{tensor}` is stored as {dtype}; F32, F16 and BF16 can be read. Convert the checkpoint")]
    NotFloat {
        /// File.
        path: PathBuf,
        /// Tensor.
        tensor: String,
        /// Its dtype.
        dtype: String,
    },
    /// A tensor holds NaN or infinity.
    #[error("{path}: tensor `{tensor}` holds a non-finite value ({value}) at element {index}")]
    NonFinite {
        /// File.
        path: PathBuf,
        /// Tensor.
        tensor: String,
        /// First such element.
        index: usize,
        /// What it is.
        value: f32,
    },
}

fn hint_for_missing(pickles: &[String]) -> String {
    if pickles.is_empty() {
        ". Give the folder of a Hugging Face model".to_owned()
    } else {
        format!(
            ", only {}: a pickle can run code when it is opened and is never read here. Convert it to safetensors in a \
             sandbox",
            pickles.join(", ")
        )
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (nearest: `{name}`)"))
}
