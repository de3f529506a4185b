//! Why a config.json was refused.

use std::path::PathBuf;

/// Why a config.json was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}. A model folder holds config.json beside the weights")]
    Io {
        /// File.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a JSON object.
    #[error("{path} is not a JSON object: {reason}")]
    Json {
        /// File.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// A family this program has no decoder for.
    #[error("{path}: model_type `{model_type}` is not supported. Supported: {supported}")]
    Family {
        /// File.
        path: PathBuf,
        /// What the file says.
        model_type: String,
        /// Those that are.
        supported: String,
    },
    /// A key is missing, of the wrong type, or out of range.
    #[error("{path}: `{key}`: {reason}")]
    Key {
        /// File.
        path: PathBuf,
        /// Key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting that changes the mathematics in a way that is not implemented.
    #[error("{path}: `{key}` = {value} is not supported: the numbers would be those of another model")]
    Unsupported {
        /// File.
        path: PathBuf,
        /// Key.
        key: String,
        /// Its value.
        value: String,
    },
    /// A key that nothing is known about.
    #[error(
        "{path}: unknown key `{key}` = {value}. It may change the mathematics, so it is not ignored; remove it from a \
         copy of config.json if you know that it does not"
    )]
    Unknown {
        /// File.
        path: PathBuf,
        /// Key.
        key: String,
        /// Its value.
        value: String,
    },
}
