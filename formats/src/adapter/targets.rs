//! Which modules a PEFT config selects: the library's own rules, quirks included, because a tensor that PEFT would drop
//! must not be applied here.
//!
//! Names in a config may be patterns; what all of them together may cost, [`patterns`](super::patterns) bounds.

use std::path::Path;
use std::sync::Arc;

use super::error::AdapterError;
use super::fields::shortened;
use super::patterns::{Budget, Pattern};
use super::{ModuleKind, TargetModule};

/// Names in a field that become patterns; real configs have a handful.
const MAX_NAMES: usize = 1024;

/// `target_modules` or `exclude_modules`.
#[derive(Debug, Clone)]
pub(crate) enum Names {
    /// Exact names, or ends of names after a dot.
    List(Vec<String>),
    /// One pattern for the whole name.
    Pattern(Box<Pattern>),
    /// Every linear layer except the output head.
    AllLinear,
}

impl Names {
    fn listed(entries: &[String], module: &str) -> (bool, bool) {
        let exact = entries.iter().any(|entry| entry == module);
        let ending = entries.iter().any(|entry| ends_with_segment(module, entry));
        (exact, ending)
    }
}

/// Whether `module` ends with `.` and `entry`.
fn ends_with_segment(module: &str, entry: &str) -> bool {
    module.strip_suffix(entry).is_some_and(|before| before.ends_with('.'))
}

/// The rules by which a PEFT config selects modules.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub(crate) target: Names,
    pub(crate) exclude: Option<Names>,
    saved_whole: Vec<Pattern>,
    layers: Option<Vec<usize>>,
    layer_patterns: Vec<Pattern>,
}

/// What the rules say of one module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selected {
    Yes,
    /// Left out, with the rule that does it.
    No(String),
}

impl Selection {
    pub(crate) fn new(
        path: &Path,
        target: Names,
        exclude: Option<Names>,
        modules_to_save: &[String],
        layers: Option<Vec<usize>>,
        layers_pattern: &[String],
        budget: &Arc<Budget>,
    ) -> Result<Self, AdapterError> {
        for (field, names) in [("modules_to_save", modules_to_save), ("layers_pattern", layers_pattern)] {
            if names.len() > MAX_NAMES {
                return Err(AdapterError::ConfigField {
                    path: path.to_path_buf(),
                    field: field.to_owned(),
                    found: format!("{} names", names.len()),
                    reason: format!("at most {MAX_NAMES} are read: each is a regular expression of its own"),
                });
            }
        }
        let saved_whole = modules_to_save
            .iter()
            .map(|name| Pattern::enclosing(path, "modules_to_save", name, budget))
            .collect::<Result<_, _>>()?;
        // Without a pattern any numbered segment counts; PEFT asks for one more segment before it.
        let layer_patterns = if layers.is_none() {
            Vec::new()
        } else if layers_pattern.is_empty() {
            vec![Pattern::layer(path, None, budget)?]
        } else {
            layers_pattern.iter().map(|name| Pattern::layer(path, Some(name), budget)).collect::<Result<_, _>>()?
        };
        Ok(Self { target, exclude, saved_whole, layers, layer_patterns })
    }

    /// Whether PEFT would put an adapter on `module`.
    pub(crate) fn selects(&self, module: &TargetModule) -> Result<Selected, AdapterError> {
        let name = module.path.as_str();
        if self.excludes(name)? {
            return Ok(Selected::No("exclude_modules matches it".to_owned()));
        }
        for pattern in &self.saved_whole {
            if pattern.matches(name)? {
                let reason = format!("modules_to_save `{}` replaces it whole", pattern.source());
                return Ok(Selected::No(reason));
            }
        }
        match &self.target {
            Names::AllLinear => Ok(match module.kind {
                ModuleKind::Linear | ModuleKind::Conv1d => Selected::Yes,
                ModuleKind::Head => Selected::No("`all-linear` leaves the output head out".to_owned()),
                ModuleKind::Embedding | ModuleKind::Norm => Selected::No("it is not a linear layer".to_owned()),
            }),
            Names::Pattern(pattern) => Ok(if pattern.matches(name)? {
                Selected::Yes
            } else {
                Selected::No(format!("target_modules `{}` does not match the whole name", shortened(pattern.source())))
            }),
            Names::List(entries) => self.selects_listed(entries, name),
        }
    }

    fn excludes(&self, name: &str) -> Result<bool, AdapterError> {
        match &self.exclude {
            None | Some(Names::AllLinear) => Ok(false),
            Some(Names::Pattern(pattern)) => pattern.matches(name),
            Some(Names::List(entries)) => {
                let (exact, ending) = Names::listed(entries, name);
                Ok(exact || ending)
            }
        }
    }

    /// A list: an exact name is selected whatever its layer, an ending only in the layers to transform.
    fn selects_listed(&self, entries: &[String], name: &str) -> Result<Selected, AdapterError> {
        let (exact, ending) = Names::listed(entries, name);
        if exact {
            return Ok(Selected::Yes);
        }
        if !ending {
            let reason = format!("not in target_modules [{}]", shortened(&entries.join(", ")));
            return Ok(Selected::No(reason));
        }
        let Some(layers) = &self.layers else {
            return Ok(Selected::Yes);
        };
        Ok(match self.layer_of(name)? {
            Some(layer) if layers.contains(&layer) => Selected::Yes,
            Some(layer) => Selected::No(format!("layer {layer} is not in layers_to_transform")),
            None => Selected::No("layers_to_transform is set and its name holds no layer number".to_owned()),
        })
    }

    /// The layer that a name belongs to: the first pattern that matches decides.
    fn layer_of(&self, name: &str) -> Result<Option<usize>, AdapterError> {
        for pattern in &self.layer_patterns {
            if let Some(index) = pattern.index(name)? {
                return Ok(index.parse().ok());
            }
        }
        Ok(None)
    }
}
