//! Why a model could not be opened or run.

use candle_core::DType;
use lcr_formats::adapter::{AdapterError, NotStackable};
use lcr_formats::checkpoint::CheckpointError;
use lcr_formats::config::ConfigError;

use crate::decoder::hooks::{Site, UnknownSite};

/// Why a model could not be opened or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// config.json.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// Two adapters that cannot be taken together.
    #[error(transparent)]
    Stack(#[from] NotStackable),
    /// A tensor operation failed: memory, or a device.
    #[error("a tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A token that the model does not know.
    #[error(
        "token {token} (prompt {prompt}, position {position}) is outside the vocabulary of {vocab_size}. Is this \
         another model's tokenizer?"
    )]
    Token {
        /// Token id.
        token: u32,
        /// Index of the prompt.
        prompt: usize,
        /// Index in the prompt.
        position: usize,
        /// Entries of the vocabulary.
        vocab_size: usize,
    },
    /// A prompt longer than the model has positions.
    #[error("prompt {prompt} has {length} tokens or more, the model has {limit} positions. Shorten it")]
    TooLong {
        /// Index of the prompt.
        prompt: usize,
        /// Its tokens.
        length: usize,
        /// Positions of the model.
        limit: usize,
    },
    /// A position whose prediction is asked for does not exist.
    #[error(
        "example {example}: target {target} of {length} tokens: targets ascend, the first token has nothing before it \
         to be predicted from, and none lies past the end"
    )]
    Target {
        /// Index of the example.
        example: usize,
        /// The position asked for.
        target: usize,
        /// Tokens of the example.
        length: usize,
    },
    /// Coefficients that do not belong to the targets.
    #[error("example {example} has {targets} targets, but {found} coefficients are given: one for each is needed")]
    Coefficients {
        /// Index of the example.
        example: usize,
        /// Its targets.
        targets: usize,
        /// Coefficients given.
        found: usize,
    },
    /// A sequence that its session does not hold.
    #[error("request {request} names a sequence that was closed or belongs to another session. Open or fork one")]
    ClosedSequence {
        /// Index of the request.
        request: usize,
    },
    /// A sequence that should read two things at once.
    #[error("requests {first} and {second} name the same sequence. Join their tokens, or fork it")]
    RepeatedSequence {
        /// Index of the earlier request.
        first: usize,
        /// Index of the later one.
        second: usize,
    },
    /// A request without tokens, after which there are no logits.
    #[error("request {request} has no tokens to read. Leave it out, or give it some")]
    NothingToRead {
        /// Index of the request.
        request: usize,
    },
    /// A hook at a site that the model does not have.
    #[error(transparent)]
    Site(#[from] UnknownSite),
    /// Rows that cannot stand in for those of a site.
    #[error(
        "the rows that replace {site} of model {model} are {dtype:?} of shape {found:?}: f32 of shape {expected:?} on \
         the same device is needed"
    )]
    Replacement {
        /// Where.
        site: Site,
        /// Index of the model in the pass.
        model: usize,
        /// Shape of the rows there.
        expected: Vec<usize>,
        /// Shape of those given.
        found: Vec<usize>,
        /// Their type.
        dtype: DType,
    },
    /// Vectors that are no rows of the stream.
    #[error("request {request} gives {values} values as vectors: whole rows of {width} are needed")]
    VectorWidth {
        /// Index of the request.
        request: usize,
        /// Values given.
        values: usize,
        /// Width of the stream.
        width: usize,
    },
    /// A vector with NaN or infinity in it.
    #[error("request {request}: vector {vector} holds NaN or infinity")]
    VectorNotFinite {
        /// Index of the request.
        request: usize,
        /// Index of the vector in it.
        vector: usize,
    },
    /// The stream became NaN or infinite although every weight of the layer is finite.
    #[error(
        "{model} leaves layer {layer} with NaN or infinite activations although the layer's weights are finite: the \
         numbers overflow f32"
    )]
    Overflow {
        /// Base or adapter.
        model: String,
        /// Its place among the models that were run together; the base is 0.
        place: usize,
        /// Layer.
        layer: usize,
    },
}
