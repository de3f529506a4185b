//! The rows of several models at one point of the forward pass.
//!
//! A *branch* is one tensor of token rows. Models whose values are equal up to here share a branch, so a variant costs
//! nothing before its first adapted module: branches part where an adapter, or a hook, first changes a value. They join
//! again only where a hook gives several models one tensor.

use candle_core::{Result, Tensor};

/// Token rows of every model: `[tokens, width]` per branch.
#[derive(Debug, Clone)]
pub struct Branches {
    tensors: Vec<Tensor>,
    /// Branch of each model.
    of_model: Vec<usize>,
}

impl Branches {
    /// One branch that all `models` share.
    pub fn shared(tensor: Tensor, models: usize) -> Self {
        Self { tensors: vec![tensor], of_model: vec![0; models] }
    }

    /// Branches put together again, as they were taken apart by [`Branches::tensors`] and [`Branches::of_model`];
    /// `None` where a model is in no branch.
    pub fn of(tensors: Vec<Tensor>, of_model: Vec<usize>) -> Option<Self> {
        of_model.iter().all(|branch| *branch < tensors.len()).then_some(Self { tensors, of_model })
    }

    pub(crate) fn new(tensors: Vec<Tensor>, of_model: Vec<usize>) -> Self {
        Self { tensors, of_model }
    }

    /// Other tensors in the same branches, such as some of their rows.
    ///
    /// # Panics
    /// If there are fewer of them.
    #[must_use]
    pub fn with_tensors(&self, tensors: Vec<Tensor>) -> Self {
        assert!(tensors.len() == self.tensors.len(), "a tensor for every branch");
        Self { tensors, of_model: self.of_model.clone() }
    }

    /// The distinct tensors.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The branch that each model is in.
    pub fn of_model(&self) -> &[usize] {
        &self.of_model
    }

    /// Rows of one model.
    pub fn model(&self, model: usize) -> &Tensor {
        &self.tensors[self.of_model[model]]
    }

    /// Whether two models have the same rows, without looking at them.
    pub fn same(&self, left: usize, right: usize) -> bool {
        self.of_model[left] == self.of_model[right]
    }

    /// The same with other rows for the models that have some: a branch parts where a model gets rows of its own,
    /// models with one tensor share it, and a branch that nobody is left in goes.
    pub(crate) fn replaced(&self, rows: Vec<Option<Tensor>>) -> Self {
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut of_model = Vec::with_capacity(rows.len());
        for (model, own) in rows.into_iter().enumerate() {
            let tensor = own.unwrap_or_else(|| self.model(model).clone());
            let branch = tensors.iter().position(|known| known.id() == tensor.id()).unwrap_or(tensors.len());
            if branch == tensors.len() {
                tensors.push(tensor);
            }
            of_model.push(branch);
        }
        Self { tensors, of_model }
    }

    /// Applies `f` to every distinct tensor.
    pub fn map(&self, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let tensors = self.tensors.iter().map(&mut f).collect::<Result<_>>()?;
        Ok(Self { tensors, of_model: self.of_model.clone() })
    }

    /// The rows of several values below one another; a branch of its own for every model that has one in any of them.
    pub fn stack(values: &[Self]) -> Result<Self> {
        let models = values.first().map_or(0, |value| value.of_model.len());
        let (combinations, of_model) =
            distinct(models, |model| values.iter().map(|value| value.of_model[model]).collect::<Vec<usize>>());
        let tensors = combinations
            .iter()
            .map(|branches| {
                let parts: Vec<&Tensor> =
                    values.iter().zip(branches).map(|(value, branch)| &value.tensors[*branch]).collect();
                Tensor::cat(&parts, 0)
            })
            .collect::<Result<_>>()?;
        Ok(Self { tensors, of_model })
    }

    /// Applies `f` to the corresponding tensors of several values, once per distinct combination.
    pub fn zip<const N: usize>(values: [&Self; N], mut f: impl FnMut([&Tensor; N]) -> Result<Tensor>) -> Result<Self> {
        let models = values.first().map_or(0, |value| value.of_model.len());
        let (combinations, of_model) = distinct(models, |model| values.map(|value| value.of_model[model]));
        let tensors = combinations
            .iter()
            .map(|branches| f(std::array::from_fn(|value| &values[value].tensors[branches[value]])))
            .collect::<Result<_>>()?;
        Ok(Self { tensors, of_model })
    }
}

/// The different combinations of branches that models are in, and which of them each model has.
fn distinct<T: PartialEq>(models: usize, combination: impl Fn(usize) -> T) -> (Vec<T>, Vec<usize>) {
    let mut found: Vec<T> = Vec::new();
    let mut of_model = Vec::with_capacity(models);
    for model in 0..models {
        let own = combination(model);
        let branch = found.iter().position(|known| *known == own).unwrap_or_else(|| {
            found.push(own);
            found.len() - 1
        });
        of_model.push(branch);
    }
    (found, of_model)
}
