//! Numbers and words of the config, as far as they can be judged beside the tensors.

use std::collections::BTreeSet;

use lcr_formats::adapter::PeftConfig;

use crate::check::{Check, Observation};

/// Values of `init_lora_weights` that leave the base as it is; those that change it, the reader knows.
const HARMLESS: [&str; 5] = ["true", "false", "gaussian", "eva", "orthogonal"];

pub(super) fn observe(config: &PeftConfig, changed: &BTreeSet<String>, name: &str, found: &mut Vec<Observation>) {
    initialization(config, name, found);
    let listed = config.raw.get("target_modules").and_then(|targets| targets.as_array());
    let targets = listed.into_iter().flatten().filter_map(|target| target.as_str());
    let missing: Vec<&str> = targets.filter(|target| !changed.contains(*target)).collect();
    if let Some(first) = missing.first() {
        let named: Vec<String> =
            missing.iter().take(8).map(|target| format!("`{}`", crate::json::shown(target))).collect();
        let message = format!(
            "the config targets {} names to which no tensor belongs ({}): what was published is not all that was \
             trained",
            missing.len(),
            named.join(", ")
        );
        found.push(Observation::new(Check::TargetedWithoutTensors, name, message).at(crate::json::shown(first)));
    }
}

fn initialization(config: &PeftConfig, name: &str, found: &mut Vec<Observation>) {
    let shown = crate::json::shown(&config.initialization);
    if config.changes_base() {
        let message = format!(
            "`init_lora_weights` is `{shown}`, which also changes the base: these tensors are relative to a model that \
             nobody published"
        );
        found.push(Observation::new(Check::BaseChanged, name, message));
    } else if !HARMLESS.contains(&config.initialization.to_lowercase().as_str()) {
        let message = format!(
            "`init_lora_weights` is `{shown}`, an initialisation that is not known here: whether it changed the base, \
             to which these tensors are relative, cannot be told"
        );
        found.push(Observation::new(Check::UnknownInitialization, name, message).at("init_lora_weights"));
    }
}
