//! Which modules a PEFT config selects: the library's own rules, quirks included, because a tensor that PEFT would drop
//! must not be applied here.
//!
//! Patterns are Python regular expressions from a stranger. They are compiled once, with a limit on size and on
//! backtracking, so that a hostile one is an error and not a hang.

use std::path::{Path, PathBuf};

use fancy_regex::{Regex, RegexBuilder};

use super::error::AdapterError;
use super::fields::shortened;
use super::{ModuleKind, TargetModule};

/// Names in a field that become patterns; real configs have a handful.
const MAX_NAMES: usize = 1024;

/// Longest pattern accepted, bytes.
const MAX_PATTERN_BYTES: usize = 65_536;
/// Steps of backtracking before a match is given up.
const BACKTRACK_LIMIT: usize = 200_000;
/// Largest automaton of one pattern, bytes.
const SIZE_LIMIT: usize = 4 << 20;

/// A Python pattern, compiled, with what an error needs to name it.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    path: PathBuf,
    field: String,
    source: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles `wrapped`, which is `source` with what PEFT puts around it.
    fn compile(path: &Path, field: &str, source: &str, wrapped: &str) -> Result<Self, AdapterError> {
        let wrong = |reason: String| AdapterError::Pattern {
            path: path.to_path_buf(),
            field: field.to_owned(),
            pattern: shortened(source),
            reason,
        };
        if source.len() > MAX_PATTERN_BYTES {
            return Err(wrong(format!("is longer than {MAX_PATTERN_BYTES} bytes")));
        }
        // Python reads {,3} as {0,3}; the engine here would take it for plain text.
        if source.contains("{,") {
            return Err(wrong("repeats with `{,`: write {0,…} instead".to_owned()));
        }
        let build = |pattern: &str| {
            RegexBuilder::new(pattern)
                .backtrack_limit(BACKTRACK_LIMIT)
                .delegate_size_limit(SIZE_LIMIT)
                .delegate_dfa_size_limit(SIZE_LIMIT)
                .build()
                .map_err(|error| wrong(format!("does not compile: {}. Correct it", shortened(&error.to_string()))))
        };
        // Alone first: `a)|(b` compiles inside the group that is put around it, and means something else there.
        build(source)?;
        let regex = build(wrapped)?;
        Ok(Self { path: path.to_path_buf(), field: field.to_owned(), source: source.to_owned(), regex })
    }

    /// `re.fullmatch(source, text)`.
    pub(crate) fn full(path: &Path, field: &str, source: &str) -> Result<Self, AdapterError> {
        Self::compile(path, field, source, &format!(r"\A(?:{source})\z"))
    }

    /// `re.match(rf"(.*\.)?({source})$", text)`: the rule of `rank_pattern` and `alpha_pattern`.
    pub(crate) fn tail(path: &Path, field: &str, source: &str) -> Result<Self, AdapterError> {
        Self::compile(path, field, source, &format!(r"\A(.*\.)?({source})\z"))
    }

    /// `re.match(rf"(^|.*\.){source}($|\..*)", text)`: the modules inside one that is saved whole.
    fn enclosing(path: &Path, field: &str, source: &str) -> Result<Self, AdapterError> {
        Self::compile(path, field, source, &format!(r"\A(^|.*\.){source}($|\..*)"))
    }

    /// `re.match(rf"(?:^|.*?\.){source}\.(?P<idx>\d+)\.", text)`: the layer's number.
    fn layer(path: &Path, field: &str, source: &str) -> Result<Self, AdapterError> {
        Self::compile(path, field, source, &format!(r"\A(?:^|.*?\.){source}\.(?P<idx>\d+)\."))
    }

    fn too_slow(&self, error: &fancy_regex::Error) -> AdapterError {
        AdapterError::Pattern {
            path: self.path.clone(),
            field: self.field.clone(),
            pattern: shortened(&self.source),
            reason: format!("cannot be matched in reasonable time ({error}). Simplify it"),
        }
    }

    /// Whether the pattern matches.
    pub(crate) fn matches(&self, text: &str) -> Result<bool, AdapterError> {
        self.regex.is_match(text).map_err(|error| self.too_slow(&error))
    }

    /// What the group `idx` caught, or `None` where the pattern does not match.
    fn index(&self, text: &str) -> Result<Option<String>, AdapterError> {
        let captures = self.regex.captures(text).map_err(|error| self.too_slow(&error))?;
        Ok(captures.and_then(|groups| groups.name("idx").map(|group| group.as_str().to_owned())))
    }

    /// The pattern as it stands in the config.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }
}

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
            .map(|name| Pattern::enclosing(path, "modules_to_save", name))
            .collect::<Result<_, _>>()?;
        // Without a pattern any numbered segment counts; PEFT asks for one more segment before it.
        let layer_patterns = if layers.is_none() {
            Vec::new()
        } else if layers_pattern.is_empty() {
            let any = r"\A.*?\.[^.]*\.(?P<idx>\d+)\.";
            vec![Pattern::compile(path, "layers_pattern", "", any)?]
        } else {
            layers_pattern.iter().map(|name| Pattern::layer(path, "layers_pattern", name)).collect::<Result<_, _>>()?
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
