//! The places that a report names.

use std::path::PathBuf;

use anyhow::Result;

#[cfg(feature = "models")]
use crate::bundled::Bundle;

/// A folder that a report or the command line names: one of the bundle is unpacked.
pub(super) struct Named {
    pub(super) path: PathBuf,
    /// Kept as long as it is read from.
    #[cfg(feature = "models")]
    _bundle: Option<Bundle>,
}

impl Named {
    /// A folder of this machine.
    pub(super) fn here(path: PathBuf) -> Self {
        Self {
            path,
            #[cfg(feature = "models")]
            _bundle: None,
        }
    }

    /// What a report calls by this name.
    pub(super) fn open(name: &str) -> Result<Self> {
        match name.strip_prefix("bundled:") {
            None => Ok(Self::here(PathBuf::from(name))),
            Some(part) => Self::unpacked(name, part),
        }
    }

    #[cfg(feature = "models")]
    fn unpacked(name: &str, part: &str) -> Result<Self> {
        let bundle = Bundle::unpack()?;
        let path = bundle.path(part);
        let is_part = std::path::Path::new(part).components().count() == 1 && path.is_dir();
        anyhow::ensure!(
            is_part,
            "the report names `{}`, which does not come with this program",
            lcr_documents::characters::visible(name)
        );
        Ok(Self { path, _bundle: Some(bundle) })
    }

    #[cfg(not(feature = "models"))]
    fn unpacked(name: &str, _: &str) -> Result<Self> {
        let name = lcr_documents::characters::visible(name);
        anyhow::bail!(
            "the report names `{name}`, which comes with the full build only, but {}",
            crate::question::REFUSAL
        )
    }
}
