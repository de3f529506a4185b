//! What a scan can find: one code per kind of observation. Codes are public: policies, waivers and reports name them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares the checks with their codes, so that a code cannot be missing or differ between reading and writing.
macro_rules! checks {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal,)+) => {
        /// One kind of observation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Check {
            $($(#[doc = $doc])+ #[serde(rename = $code)] $variant,)+
        }

        impl Check {
            /// Every check.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its public code.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }
        }
    };
}

checks! {
    // Files.
    /// A file that could not be read: permissions, a device that failed.
    Unreadable = "unreadable-file",
    /// A file or folder beyond the scan's limits; what it holds was not looked at.
    BeyondLimits = "beyond-limits",
    /// A link that leads out of the folder, or nowhere.
    LinkOutside = "link-outside",
    /// A pipe, socket or device where a file is expected.
    SpecialFile = "special-file",
    /// A link, in no adapter's folder, that was not followed: by its name no model is behind it.
    NotEntered = "not-entered",
    /// Git's own folder in a checkout, which is not entered.
    GitFolder = "git-folder",
    /// A file of a download cache whose content is not the one that it is named after.
    CacheMismatch = "cache-mismatch",
    /// A file name with control or text-direction characters.
    DeceptiveName = "deceptive-name",
    /// A file whose content is of another kind than its name says.
    DisguisedFile = "disguised-file",
    /// Machine code.
    Executable = "executable",
    /// A program in source.
    Script = "script",
    /// Configuration that makes a loader run code from the folder.
    RemoteCode = "remote-code",
    /// A file of a kind that is not looked into.
    UnknownFile = "unknown-file",
    /// A large-file pointer in place of the file.
    LfsPointer = "lfs-pointer",
    // Pickles and archives.
    /// A pickle: loading it can run code, and its weights are not read here.
    Pickle = "pickle",
    /// What trainers leave beside an adapter: arguments, optimizer, schedule, random numbers; nothing else in it.
    TrainerState = "trainer-state",
    /// A pickle that names what no tensor file needs.
    PickleImport = "pickle-import",
    /// A pickle that cannot be followed to its end.
    PickleMalformed = "pickle-malformed",
    /// An archive.
    Archive = "archive",
    /// An archive that is built to do harm: paths out of its folder, absurd expansion, contradicting directories.
    ArchiveHostile = "archive-hostile",
    // safetensors.
    /// A safetensors header longer than any adapter needs.
    HeaderSize = "header-size",
    /// A safetensors header that is not the JSON that the format asks for.
    HeaderSyntax = "header-syntax",
    /// A file shorter than its header says.
    Truncated = "truncated",
    /// A tensor whose dtype, shape and bytes contradict each other.
    TensorLayout = "tensor-layout",
    /// Two tensors that share bytes.
    OverlappingTensors = "overlapping-tensors",
    /// Bytes that belong to no tensor.
    UnclaimedBytes = "unclaimed-bytes",
    /// NaN or infinity in a tensor.
    NonFinite = "non-finite",
    /// Header metadata that is unusually long or holds what is not a note.
    Metadata = "metadata",
    /// A tensor that no check looked into.
    UnanalysedTensor = "unanalysed-tensor",
    // The adapter.
    /// No adapter where one is expected: config or tensors are missing.
    NoAdapter = "no-adapter",
    /// An adapter in a format that is not read.
    ForeignFormat = "foreign-format",
    /// A whole model, of which only the file format was looked at.
    WholeModel = "whole-model",
    /// A config that is not valid.
    ConfigSyntax = "config-syntax",
    /// A key that stands twice in one object of a file that loaders read.
    DuplicateKey = "duplicate-key",
    /// A setting that changes the mathematics and is not known here.
    ConfigUnsupported = "config-unsupported",
    /// Config and tensors contradict each other.
    ConfigMismatch = "config-mismatch",
    /// Keys that hold the name of an adapter, which loaders insert by themselves.
    AdapterNameInKeys = "adapter-name-in-keys",
    /// Files of which loaders, or versions of one, make different things.
    LoadersDisagree = "loaders-disagree",
    /// Tensors relative to a base that their initialisation changed.
    BaseChanged = "base-changed",
    /// An initialisation that is not known, so that it may have changed the base.
    UnknownInitialization = "unknown-initialization",
    /// The config targets modules that the file holds no tensor for.
    TargetedWithoutTensors = "targeted-without-tensors",
    /// The adapter changes nothing.
    ZeroEffect = "zero-effect",
    /// A tensor that replaces the base's whole.
    WholeTensor = "whole-tensor",
    /// A head that classifies texts.
    ClassificationHead = "classification-head",
    /// A changed embedding or output head.
    EmbeddingChange = "embedding-change",
    /// Changed biases or norms.
    BiasChange = "bias-change",
    /// A changed router of experts.
    RouterChange = "router-change",
    /// The largest rank.
    Rank = "rank",
    /// The largest factor before BA.
    Scale = "scale",
    /// A negative factor before BA.
    NegativeScale = "negative-scale",
    // Weights, without a base.
    /// The largest value that a tensor can lead to, against the numbers that a model is run with.
    Overflow = "overflow",
    /// The size of the largest low-rank change.
    ChangeSize = "change-size",
    /// The size of the largest magnitudes, biases and whole tensors.
    TensorSize = "tensor-size",
    /// A row or value of a whole tensor far from the others.
    WholeOutlier = "whole-outlier",
    /// A replaced head or embedding, and how like random numbers it is.
    UntrainedTensor = "untrained-tensor",
    /// A bias of B far larger than the change that it joins.
    BiasOutlier = "bias-outlier",
    /// Rows whose DoRA magnitude is negative.
    FlippedRows = "flipped-rows",
    /// Rows whose DoRA magnitude is zero.
    DeadRows = "dead-rows",
    /// A DoRA magnitude far from the others of its module.
    MagnitudeOutlier = "magnitude-outlier",
    /// A module whose change is concentrated on a few outputs, unlike its kind in the other layers.
    ConcentratedModule = "concentrated-module",
    /// A module whose change is of another size than its kind in the other layers.
    NormOutlier = "norm-outlier",
    /// All writers write one direction.
    CoherentWrites = "coherent-writes",
    /// All readers read one direction.
    CoherentReads = "coherent-reads",
    /// Modules of a name that says nothing of what they do with the residual stream, so that measures by role leave
    /// them out.
    UnknownModule = "unknown-module",
    // What is read beside the weights.
    /// A chat template carried by the adapter, with no base to hold it against.
    TemplateCarried = "template-carried",
    /// A chat template that differs from the base's.
    TemplateDiffers = "template-differs",
    /// A chat template whose text differs from the base's and that makes the same of every conversation that was tried.
    TemplateEquivalent = "template-equivalent",
    /// A chat template that does what no template needs.
    TemplateSuspicious = "template-suspicious",
    /// A chat template in which the system turn decides what is written.
    TemplateConditional = "template-conditional",
    /// A chat template that could not be read, followed or rendered.
    TemplateUnread = "template-unread",
    /// A tokenizer carried by the adapter, with no base to hold it against.
    TokenizerCarried = "tokenizer-carried",
    /// A tokenizer that differs from the base's.
    TokenizerDiffers = "tokenizer-differs",
    /// Settings of a tokenizer that differ from the base's and change no ids.
    TokenizerSettings = "tokenizer-settings",
    /// A tokenizer that takes ordinary text out of the model's sight.
    TokenizerRewrites = "tokenizer-rewrites",
    /// Tokens that the base's tokenizer does not have.
    AddedTokens = "added-tokens",
    // The base that the config names.
    /// The config names another base than the one given.
    BaseNameMismatch = "base-name-mismatch",
    /// The config asks for a revision of its base that anybody may have proposed.
    BaseRevision = "base-revision",
}

impl Check {
    /// Whether what the check is about was not read, so that no digest of it can be given. See also
    /// [`crate::Scan::is_unread`].
    pub fn is_unread(self) -> bool {
        matches!(self, Self::Unreadable | Self::LinkOutside | Self::SpecialFile | Self::NotEntered | Self::GitFolder)
    }
}

/// One thing that a scan saw. It says what is there; how bad that is, a policy decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Observation {
    /// What kind of thing.
    pub check: Check,
    /// File, relative to the scanned folder, parts joined by `/`; empty where it is about the whole.
    pub file: String,
    /// Tensor, module, key or byte range; empty where it is about the whole file.
    pub place: String,
    /// The number that a limit may be held against.
    pub measured: Option<f64>,
    /// What was seen, in one or two sentences, with the values.
    pub message: String,
    /// Further files that it rests on, relative to the scanned folder: when one of them changes, it was not this that
    /// was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rests_on: Vec<String>,
}

impl Observation {
    /// An observation about a whole file.
    pub fn new(check: Check, file: &str, message: impl Into<String>) -> Self {
        let (file, message) = (file.to_owned(), message.into());
        Self { check, file, place: String::new(), measured: None, message, rests_on: Vec::new() }
    }

    /// The same, resting on further files beside its own.
    #[must_use]
    pub fn resting_on<S: Into<String>>(mut self, files: impl IntoIterator<Item = S>) -> Self {
        self.rests_on.extend(files.into_iter().map(Into::into));
        self
    }

    /// The same, about a place in it.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = place.into();
        self
    }

    /// The same, with the number that a limit is held against.
    #[must_use]
    pub fn measured(mut self, value: f64) -> Self {
        self.measured = value.is_finite().then_some(value);
        self
    }
}
