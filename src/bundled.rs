//! The bundled pair, which `compare` audits when it is given nothing: real weights inside the binary, unpacked to a temporary
//! folder for the length of a run.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Name and files of the bundled base.
const BASE: (&str, [(&str, &[u8]); 4]) = (
    "stories260K",
    [
        ("config.json", include_bytes!("../bundled/stories260K/config.json")),
        ("model.safetensors", include_bytes!("../bundled/stories260K/model.safetensors")),
        ("tokenizer.json", include_bytes!("../bundled/stories260K/tokenizer.json")),
        ("tokenizer_config.json", include_bytes!("../bundled/stories260K/tokenizer_config.json")),
    ],
);

/// Name and files of the bundled adapter.
const ADAPTER: (&str, [(&str, &[u8]); 2]) = (
    "dragons",
    [
        ("adapter_config.json", include_bytes!("../bundled/dragons/adapter_config.json")),
        ("adapter_model.safetensors", include_bytes!("../bundled/dragons/adapter_model.safetensors")),
    ],
);

/// The unpacked pair; its folder goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Bundle {
    folder: tempfile::TempDir,
}

impl Bundle {
    /// Unpacks the pair.
    pub(crate) fn unpack() -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot unpack the bundled model: no temporary folder can be made")?;
        let write = |name: &str, files: &[(&str, &[u8])]| -> Result<()> {
            let target = folder.path().join(name);
            fs_err::create_dir(&target)?;
            files.iter().try_for_each(|(file, bytes)| fs_err::write(target.join(file), bytes))?;
            Ok(())
        };
        write(BASE.0, &BASE.1)?;
        write(ADAPTER.0, &ADAPTER.1)?;
        Ok(Self { folder })
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.folder.path().join(BASE.0)
    }

    pub(crate) fn adapter(&self) -> PathBuf {
        self.folder.path().join(ADAPTER.0)
    }

    /// How a report names a path of the bundle: where it was unpacked says nothing to a reader.
    pub(crate) fn shown(name: &std::path::Path) -> String {
        format!("bundled:{}", name.file_name().unwrap_or_default().to_string_lossy())
    }
}
