//! An adapter against a base: every tensor finds its module, with the right shape, and the config selects that module.

use std::collections::BTreeMap;
use std::path::Path;

use super::config::PeftConfig;
use super::error::AdapterError;
use super::mlx::MlxConfig;
use super::targets::Selected;
use super::{Adapter, AdapterConfig, ModuleKind, TargetModule, is_classification_head, module_of};

/// Every tensor of an adapter accounted for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Coverage {
    /// Tensors in the file.
    pub tensors: usize,
    /// Tensors that change the model.
    pub applied: usize,
    /// Tensors of a classification head, which the base, a language model, does not have: they take no part.
    pub set_aside: Vec<String>,
    /// Tables over the vocabulary that have another number of rows than the base's.
    pub vocabulary: Vec<Resized>,
    /// Modules that the config selects and the file has no tensor for: they stay as in the base.
    pub targeted_without_tensors: Vec<String>,
}

/// A table over the vocabulary, embedding or output head, of another size than the base's.
///
/// Rows are compared by number, up to the smaller of the two.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Resized {
    /// Tensor of the adapter.
    pub tensor: String,
    /// Rows in the base.
    pub base_rows: usize,
    /// Rows in the adapter.
    pub adapter_rows: usize,
}

impl Resized {
    /// What becomes of the rows that only one of the two has.
    pub fn describe(&self) -> String {
        let Self { tensor, base_rows, adapter_rows } = self;
        let common = base_rows.min(adapter_rows);
        let rest = if adapter_rows < base_rows {
            format!("tokens {common} to {} are missing in the adapter and stay as in the base", base_rows - 1)
        } else {
            format!(
                "{} tokens, from {common} on, are new in the adapter and were not looked at",
                adapter_rows - base_rows
            )
        };
        format!(
            "`{tensor}` has {adapter_rows} rows, the base's table {base_rows}: compared over the {common} that both \
             have; {rest}"
        )
    }
}

impl Coverage {
    /// That of two adapters together.
    #[must_use]
    pub fn beside(&self, other: &Self) -> Self {
        Self {
            tensors: self.tensors + other.tensors,
            applied: self.applied + other.applied,
            set_aside: [self.set_aside.as_slice(), &other.set_aside].concat(),
            vocabulary: [self.vocabulary.as_slice(), &other.vocabulary].concat(),
            targeted_without_tensors: Vec::new(),
        }
    }

    /// Tokens that base and adapter both have, where a table of the adapter is shorter than the base's.
    pub fn common_tokens(&self) -> Option<usize> {
        let shorter = self.vocabulary.iter().filter(|table| table.adapter_rows < table.base_rows);
        shorter.map(|table| table.adapter_rows).min()
    }
}

/// Shape of the base's tensor of that name, if it has one.
type ShapeOf<'a> = dyn Fn(&str) -> Option<Vec<usize>> + 'a;

impl Adapter {
    /// Checks the adapter against a base: its `modules`, and the shapes of its `tensors`.
    ///
    /// An adapter whose initialisation changed the base (PiSSA, OLoRA, CorDA, LoRA-GA, LoftQ) is refused: PEFT would
    /// repeat that initialisation on loading, so what the file holds is not the difference to the base given here.
    pub fn bind(&self, modules: &[TargetModule], tensors: &ShapeOf<'_>) -> Result<Coverage, AdapterError> {
        if let AdapterConfig::Peft(config) = &self.config
            && config.changes_base()
        {
            return Err(AdapterError::BaseChanged {
                path: config.path.clone(),
                initialization: config.initialization.clone(),
            });
        }
        let set_aside = self.set_aside(modules);
        let base = Base {
            adapter: &self.path,
            modules: modules.iter().map(|module| (module.path.as_str(), module)).collect(),
            tensors,
        };
        self.bind_low_rank(&base)?;
        self.bind_embeddings(&base)?;
        self.bind_whole(&base)?;
        self.bind_biases(&base)?;
        Ok(Coverage {
            tensors: self.tensors_in_file,
            applied: self.tensors_placed() - set_aside.len(),
            set_aside,
            vocabulary: Vec::new(),
            targeted_without_tensors: self.targeted_without_tensors(modules, &base)?,
        })
    }

    /// Tensors of classification heads, where the base has no module of the name.
    fn set_aside(&self, modules: &[TargetModule]) -> Vec<String> {
        let is_aside = |path: &str| is_aside(path, modules);
        let low_rank =
            self.modules.iter().filter(|(path, _)| is_aside(path)).flat_map(|(_, module)| &module.tensor_names);
        let whole = self
            .modules_to_save
            .iter()
            .filter(|(name, _)| is_aside(module_of(name)))
            .map(|(_, whole)| &whole.tensor_name);
        let biases = self.bias_tensors.iter().filter(|(path, _)| is_aside(path)).map(|(_, tensor)| tensor);
        let mut names: Vec<String> = low_rank.chain(whole).chain(biases).cloned().collect();
        names.sort();
        names
    }

    /// Forgets what a binding to `modules` set aside.
    #[must_use]
    pub fn without_heads(mut self, modules: &[TargetModule]) -> Self {
        self.modules.retain(|path, _| !is_aside(path, modules));
        self.modules_to_save.retain(|name, _| !is_aside(module_of(name), modules));
        self.biases.retain(|path, _| !is_aside(path, modules));
        self.bias_tensors.retain(|path, _| !is_aside(path, modules));
        self
    }

    fn tensors_placed(&self) -> usize {
        let low_rank: usize = self.modules.values().map(|module| module.tensor_names.len()).sum();
        let embeddings: usize = self.embeddings.values().map(|module| module.tensor_names.len()).sum();
        low_rank + embeddings + self.modules_to_save.len() + self.biases.len()
    }

    fn bind_low_rank(&self, base: &Base) -> Result<(), AdapterError> {
        for (path, module) in self.modules.iter().filter(|(path, _)| !base.sets_aside(path)) {
            let [lora_a, lora_b] = [0, 1].map(|index| module.tensor_names.get(index).map_or("", String::as_str));
            let target = base.find(path, lora_a)?;
            if !matches!(target.kind, ModuleKind::Linear | ModuleKind::Conv1d | ModuleKind::Head) {
                return Err(self.refuse(lora_a, "lora_A and lora_B belong on linear layers, this module is none"));
            }
            if module.inputs != target.inputs {
                let expected = format!("{} inputs, those of `{path}` in the base", target.inputs);
                return Err(self.shape(lora_a, vec![module.rank, module.inputs], expected));
            }
            if module.outputs != target.outputs {
                let expected = format!("{} outputs, those of `{path}` in the base", target.outputs);
                return Err(self.shape(lora_b, vec![module.outputs, module.rank], expected));
            }
            self.check_selected(target, lora_a, base)?;
        }
        Ok(())
    }

    fn bind_embeddings(&self, base: &Base) -> Result<(), AdapterError> {
        for (path, module) in &self.embeddings {
            let [lora_a, lora_b] = [0, 1].map(|index| module.tensor_names.get(index).map_or("", String::as_str));
            let target = base.find(path, lora_a)?;
            if target.kind != ModuleKind::Embedding {
                return Err(self.refuse(lora_a, "lora_embedding_A and _B belong on embeddings, this module is none"));
            }
            if module.rows != target.inputs {
                let expected = format!("{} columns, the tokens of `{path}` in the base", target.inputs);
                return Err(self.shape(lora_a, vec![module.rank, module.rows], expected));
            }
            if module.width != target.outputs {
                let expected = format!("{} rows, the width of `{path}` in the base", target.outputs);
                return Err(self.shape(lora_b, vec![module.width, module.rank], expected));
            }
            self.check_selected(target, lora_a, base)?;
        }
        Ok(())
    }

    fn bind_whole(&self, base: &Base) -> Result<(), AdapterError> {
        for (name, whole) in self.modules_to_save.iter().filter(|(name, _)| !base.sets_aside(module_of(name))) {
            let target = base.find(module_of(name), &whole.tensor_name)?;
            let expected = (base.tensors)(name).or_else(|| tied_shape(target, name));
            match expected {
                Some(shape) if shape == whole.shape => {}
                Some(shape) => {
                    let expected = format!(
                        "{shape:?}, that of `{name}` in the base. Was the adapter made for a base of another size, or \
                         with a resized vocabulary?"
                    );
                    return Err(self.shape(&whole.tensor_name, whole.shape.clone(), expected));
                }
                None => return Err(base.unmatched(name, &whole.tensor_name)),
            }
        }
        if let AdapterConfig::Peft(config) = &self.config {
            self.check_saved_whole(config, base)?;
        }
        Ok(())
    }

    /// Modules that `modules_to_save` selects must be in the file: PEFT fails to load an adapter without them.
    fn check_saved_whole(&self, config: &PeftConfig, base: &Base) -> Result<(), AdapterError> {
        for path in base.modules.keys() {
            let tensor = format!("{path}.weight");
            if config.saves_whole(path)? && !self.modules_to_save.contains_key(&tensor) {
                return Err(AdapterError::MissingWhole { path: self.path.clone(), module: (*path).to_owned(), tensor });
            }
        }
        Ok(())
    }

    fn bind_biases(&self, base: &Base) -> Result<(), AdapterError> {
        for (path, bias) in self.biases.iter().filter(|(path, _)| !base.sets_aside(path)) {
            let tensor = self.bias_tensors.get(path).map_or("", String::as_str);
            match (base.tensors)(&format!("{path}.bias")) {
                Some(shape) if shape == [bias.len()] => {}
                Some(shape) => {
                    let expected = format!("{shape:?}, that of `{path}.bias` in the base");
                    return Err(self.shape(tensor, vec![bias.len()], expected));
                }
                None => return Err(base.unmatched(&format!("{path}.bias"), tensor)),
            }
        }
        Ok(())
    }

    fn refuse(&self, tensor: &str, reason: &str) -> AdapterError {
        AdapterError::Tensor { path: self.path.clone(), tensor: tensor.to_owned(), reason: reason.to_owned() }
    }

    fn shape(&self, tensor: &str, found: Vec<usize>, expected: String) -> AdapterError {
        AdapterError::Shape { path: self.path.clone(), tensor: tensor.to_owned(), found, expected }
    }

    fn check_selected(&self, target: &TargetModule, tensor: &str, base: &Base) -> Result<(), AdapterError> {
        match self.selected(target, base)? {
            Selected::Yes => Ok(()),
            Selected::No(reason) => Err(AdapterError::NotTargeted {
                path: self.path.clone(),
                tensor: tensor.to_owned(),
                module: target.path.clone(),
                reason,
            }),
        }
    }

    fn selected(&self, target: &TargetModule, base: &Base) -> Result<Selected, AdapterError> {
        match &self.config {
            AdapterConfig::Peft(config) => config.selection.selects(target),
            AdapterConfig::Mlx(config) => Ok(selected_by_mlx(config, target, base)),
        }
    }

    fn targeted_without_tensors(&self, modules: &[TargetModule], base: &Base) -> Result<Vec<String>, AdapterError> {
        // mlx-lm names the modules of a block only where the config has `keys`; without them nothing can be missed.
        if matches!(&self.config, AdapterConfig::Mlx(config) if config.keys.is_empty()) {
            return Ok(Vec::new());
        }
        let mut missing = Vec::new();
        for module in modules {
            let present = self.modules.contains_key(&module.path) || self.embeddings.contains_key(&module.path);
            if !present && module.kind != ModuleKind::Norm && self.selected(module, base)? == Selected::Yes {
                missing.push(module.path.clone());
            }
        }
        Ok(missing)
    }
}

/// The base as far as binding needs it.
struct Base<'a> {
    adapter: &'a Path,
    modules: BTreeMap<&'a str, &'a TargetModule>,
    tensors: &'a ShapeOf<'a>,
}

/// Whether `path` is that of a classification head that a base with `modules` does not have.
fn is_aside(path: &str, modules: &[TargetModule]) -> bool {
    is_classification_head(path) && !modules.iter().any(|module| module.path == path)
}

impl<'a> Base<'a> {
    fn sets_aside(&self, path: &str) -> bool {
        is_classification_head(path) && !self.modules.contains_key(path)
    }

    fn find(&self, module: &str, tensor: &str) -> Result<&'a TargetModule, AdapterError> {
        self.modules.get(module).copied().ok_or_else(|| self.unmatched(module, tensor))
    }

    fn unmatched(&self, module: &str, tensor: &str) -> AdapterError {
        AdapterError::Unmatched {
            path: self.adapter.to_path_buf(),
            tensor: tensor.to_owned(),
            module: module.to_owned(),
            nearest: self.nearest(module),
        }
    }

    /// The module with the most segments in common from the end, then from the beginning; at least one.
    fn nearest(&self, module: &str) -> Option<String> {
        let common = |left: &mut dyn Iterator<Item = &str>, right: &mut dyn Iterator<Item = &str>| {
            left.zip(right).take_while(|(one, other)| one == other).count()
        };
        self.modules
            .keys()
            .map(|candidate| {
                let ending = common(&mut candidate.rsplit('.'), &mut module.rsplit('.'));
                let beginning = common(&mut candidate.split('.'), &mut module.split('.'));
                ((ending, beginning), *candidate)
            })
            .max_by_key(|(score, _)| *score)
            .filter(|((ending, beginning), _)| ending + beginning > 0)
            .map(|(_, candidate)| candidate.to_owned())
    }

    /// Number of blocks: one more than the largest number in any module's path.
    fn layers(&self) -> usize {
        self.modules.keys().filter_map(|path| layer_of(path)).max().map_or(0, |last| last + 1)
    }
}

/// The first number among the segments of a path.
fn layer_of(path: &str) -> Option<usize> {
    path.split('.').find_map(|segment| segment.parse().ok())
}

/// A head tied to the embedding has no tensor of its own in the base, and may be saved whole all the same.
fn tied_shape(target: &TargetModule, name: &str) -> Option<Vec<usize>> {
    (target.kind == ModuleKind::Head && name.ends_with(".weight")).then(|| vec![target.outputs, target.inputs])
}

fn selected_by_mlx(config: &MlxConfig, target: &TargetModule, base: &Base) -> Selected {
    let (Some(layer), layers) = (layer_of(&target.path), base.layers()) else {
        return Selected::No("it is in none of the blocks that mlx-lm adapts".to_owned());
    };
    if let Some(adapted) = config.layers
        && layer + adapted < layers
    {
        return Selected::No(format!("`num_layers` {adapted} of {layers} leaves block {layer} out"));
    }
    let within = target.path.split_once(&format!(".{layer}.")).map_or(target.path.as_str(), |(_, rest)| rest);
    if config.keys.is_empty() || config.keys.iter().any(|key| key == within) {
        Selected::Yes
    } else {
        Selected::No(format!("`{within}` is not among lora_parameters.keys"))
    }
}
