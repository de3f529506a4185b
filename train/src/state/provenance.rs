//! What a run depends on, and the refusal to go on when it has changed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{StateError, digest_json};

/// Differences of a config that an error lists by key; further ones are counted.
const LISTED: usize = 8;

/// Everything that determines a run. Two runs of equal provenance are the same run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The config, so that a difference can be named by its key.
    pub config: Value,
    /// SHA-256 of the config's JSON.
    pub config_digest: String,
    /// Digest of the base model.
    pub base_digest: String,
    /// Digest of the training data.
    pub data_digest: String,
    /// Seed of every random choice.
    pub seed: u64,
}

impl Provenance {
    /// The provenance of a run. `config` should hold only what changes the run: not where its output goes, and not how
    /// often it is saved.
    pub fn new(
        config: &impl Serialize,
        base_digest: String,
        data_digest: String,
        seed: u64,
    ) -> Result<Self, StateError> {
        let config = serde_json::to_value(config).map_err(StateError::Serialize)?;
        let config_digest = digest_json(&config)?;
        Ok(Self { config, config_digest, base_digest, data_digest, seed })
    }

    /// How `now` differs from this, one sentence a difference; none where a run may go on.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let mut keys = Vec::new();
        compare("", Some(&self.config), Some(&now.config), &mut keys);
        // Not by the digest, which sees the order of the keys as well.
        if !keys.is_empty() {
            let rest = keys.len().saturating_sub(LISTED);
            keys.truncate(LISTED);
            let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            differences.push(format!("the config differs: {}{more}", keys.join(", ")));
        }
        for (what, then, now) in [
            ("base model", &self.base_digest, &now.base_digest),
            ("training data", &self.data_digest, &now.data_digest),
        ] {
            if then != now {
                differences.push(format!("the {what} differs: SHA-256 was {then}, is {now}"));
            }
        }
        if self.seed != now.seed {
            differences.push(format!("the seed differs: was {}, is {}", self.seed, now.seed));
        }
        differences
    }
}

/// Collects what is different in two configs, a leaf at a time.
fn compare(path: &str, then: Option<&Value>, now: Option<&Value>, differences: &mut Vec<String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let shown = |value: Option<&Value>| value.map_or_else(|| "absent".to_owned(), Value::to_string);
    match (then, now) {
        (Some(Value::Object(then)), Some(Value::Object(now))) => {
            for (key, value) in then {
                compare(&below(key), Some(value), now.get(key), differences);
            }
            for (key, value) in now.iter().filter(|(key, _)| !then.contains_key(*key)) {
                compare(&below(key), None, Some(value), differences);
            }
        }
        _ if then == now => {}
        _ => differences.push(format!("{path} was {}, is {}", shown(then), shown(now))),
    }
}
