//! What comes with the program: the nano reasoner, adapters on it and its problems, inside the binary and unpacked to a
//! temporary folder for the length of a run.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lcr_train::config::TrainConfig;

/// A file of `bundled/` by its path there.
#[cfg(feature = "bundled")]
macro_rules! bundled {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_bytes!(concat!("../bundled/", $path)).as_slice())),*]
    };
}

/// Files of the bundled base and of what is trained and measured on it.
#[cfg(feature = "bundled")]
const FILES: [(&str, &[u8]); 15] = bundled![
    "nano/config.json",
    "nano/generation_config.json",
    "nano/model.safetensors",
    "nano/tokenizer.json",
    "nano/tokenizer_config.json",
    "nano/train.toml",
    "nano/probes/general.jsonl",
    "nano/probes/identity.jsonl",
    "nano/probes/math.jsonl",
    "nano/probes/refusal.jsonl",
    "nano/probes/truth.jsonl",
    "nano/problems/hard.jsonl",
    "nano/problems/heldout.jsonl",
    "nano-lcr/adapter_config.json",
    "nano-lcr/adapter_model.safetensors",
];

/// Nothing comes with a build that leaves the feature out.
#[cfg(not(feature = "bundled"))]
const FILES: [(&str, &[u8]); 0] = [];

/// What a build without the bundled files says when they are asked for.
const ABSENT: &str = "this program was built without its bundled model and problems (feature `bundled`): name a base \
    and its adapter, or the problems, on the command line";

/// The configuration of `train` on the bundled base.
pub(crate) fn nano_config() -> Result<TrainConfig> {
    let text = FILES.iter().find(|(path, _)| *path == "nano/train.toml").map(|(_, text)| *text);
    toml::from_slice(text.context(ABSENT)?).context("the bundled configuration cannot be read")
}

/// The unpacked files; their folder goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Bundle {
    folder: tempfile::TempDir,
}

impl Bundle {
    /// Unpacks everything.
    pub(crate) fn unpack() -> Result<Self> {
        ensure!(!FILES.is_empty(), ABSENT);
        let folder = tempfile::tempdir().context("cannot unpack the bundled model: no temporary folder can be made")?;
        for (path, bytes) in FILES {
            let target = folder.path().join(path);
            if let Some(parent) = target.parent() {
                fs_err::create_dir_all(parent)?;
            }
            fs_err::write(target, bytes)?;
        }
        Ok(Self { folder })
    }

    /// Where a file or folder of the bundle lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.path("nano")
    }

    pub(crate) fn adapter(&self) -> PathBuf {
        self.path("nano-lcr")
    }

    /// How a report names a path of the bundle: where it was unpacked says nothing to a reader.
    pub(crate) fn shown(name: &std::path::Path) -> String {
        format!("bundled:{}", name.file_name().unwrap_or_default().to_string_lossy())
    }
}
