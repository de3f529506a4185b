//! What a family of decoders is; the families themselves are in [`families`](crate::families).

use super::{Config, ConfigError, Keys, Layout};

/// A family of decoders.
#[derive(Debug)]
pub struct Family {
    /// `model_type` of config.json.
    pub model_type: &'static str,
    /// Models that people know.
    pub models: &'static str,
    /// How its modules are called.
    pub layout: Layout,
    /// Reads the keys of its config.json.
    pub(crate) read: fn(&mut Keys<'_>) -> Result<Config, ConfigError>,
}

/// Families are told apart by what config.json calls them.
impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}
