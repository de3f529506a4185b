//! Which attention heads a change goes to: shares of ‖BA‖² by blocks of rows or columns, as the base's config divides
//! them.

use std::path::Path;

use lcr_formats::module::ModulePath;
use serde::Deserialize;

use super::profile::Profile;
use crate::files::read_up_to;
use crate::limits::Limits;

/// Heads that a model may have.
const MOST_HEADS: usize = 1024;

/// How a model's attention is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heads {
    queries: usize,
    /// Heads of keys and values.
    keys: usize,
    dimension: usize,
}

/// What `config.json` says of heads; newer models leave out `head_dim`, older ones the heads of keys.
#[derive(Deserialize)]
struct Config {
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_size: Option<usize>,
}

impl Heads {
    /// Reads the base's `config.json`; none where it says nothing of heads, or nonsense.
    pub(crate) fn of_base(base: &Path, limits: &Limits) -> Option<Self> {
        let bytes = read_up_to(&base.join("config.json"), limits.settings_bytes).ok()?;
        let config: Config = serde_json::from_slice(&bytes).ok()?;
        let queries = config.num_attention_heads;
        let dimension = config.head_dim.or_else(|| config.hidden_size?.checked_div(queries))?;
        let keys = config.num_key_value_heads.unwrap_or(queries);
        let sound = |heads: usize| (1..=MOST_HEADS).contains(&heads);
        (sound(queries) && sound(keys) && dimension > 0).then_some(Self { queries, keys, dimension })
    }

    /// Shares of ‖BA‖² by head: rows of a query, key or value projection, columns of an output projection; none where
    /// the module is something else or its shape is not that of the heads.
    pub(super) fn shares(self, path: &str, rows: &Profile, columns: &Profile) -> Option<Vec<f64>> {
        let (profile, heads) = match ModulePath::parse(path).kind {
            "q_proj" => (rows, self.queries),
            "k_proj" | "v_proj" => (rows, self.keys),
            "o_proj" => (columns, self.queries),
            _ => return None,
        };
        let fits = heads.checked_mul(self.dimension) == Some(profile.len());
        fits.then(|| profile.blocks(self.dimension)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(config: &str) -> Option<Heads> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("config.json"), config).expect("written");
        Heads::of_base(folder.path(), &Limits::default())
    }

    #[test]
    fn the_config_says_how_many() {
        let found = of(r#"{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}"#);
        assert_eq!(found, Some(Heads { queries: 4, keys: 2, dimension: 8 }));
        let older = of(r#"{"num_attention_heads": 4, "hidden_size": 64}"#);
        assert_eq!(older, Some(Heads { queries: 4, keys: 4, dimension: 16 }));
        for nonsense in ["{}", "[", r#"{"num_attention_heads": 0, "hidden_size": 64}"#] {
            assert_eq!(of(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn only_what_fits_has_heads() {
        let heads = Heads { queries: 2, keys: 1, dimension: 2 };
        let rows = Profile::of(vec![3.0, 0.0, 0.5, 0.5]);
        let columns = Profile::of(vec![1.0, 1.0, 1.0, 1.0]);
        assert_eq!(heads.shares("a.0.q_proj", &rows, &columns), Some(vec![0.75, 0.25]));
        assert_eq!(heads.shares("a.0.o_proj", &rows, &columns), Some(vec![0.5, 0.5]));
        assert_eq!(heads.shares("a.0.k_proj", &rows, &columns), None);
        assert_eq!(heads.shares("a.0.down_proj", &rows, &columns), None);
    }
}
