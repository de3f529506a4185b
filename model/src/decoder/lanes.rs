//! The rows of several models at one point of the forward pass.
//!
//! A *lane* is one tensor of token rows. Models whose values are equal up to here share a lane, so a variant costs nothing
//! before its first adapted module: lanes part where an adapter, or a hook, first changes a value. They join again only where a
//! hook gives several models one tensor.

use candle_core::{Result, Tensor};

/// Token rows of every model: `[tokens, width]` per lane.
#[derive(Debug, Clone)]
pub struct Lanes {
    tensors: Vec<Tensor>,
    /// Lane of each model.
    of_model: Vec<usize>,
}

impl Lanes {
    /// One lane that all `models` share.
    pub fn shared(tensor: Tensor, models: usize) -> Self {
        Self { tensors: vec![tensor], of_model: vec![0; models] }
    }

    /// Lanes put together again, as they were taken apart by [`Lanes::tensors`] and [`Lanes::of_model`]; `None` where a model is in
    /// no lane.
    pub fn of(tensors: Vec<Tensor>, of_model: Vec<usize>) -> Option<Self> {
        of_model.iter().all(|lane| *lane < tensors.len()).then_some(Self { tensors, of_model })
    }

    pub(crate) fn new(tensors: Vec<Tensor>, of_model: Vec<usize>) -> Self {
        Self { tensors, of_model }
    }

    /// Other tensors in the same lanes, such as some of their rows.
    ///
    /// # Panics
    /// If there are fewer of them.
    #[must_use]
    pub fn with_tensors(&self, tensors: Vec<Tensor>) -> Self {
        assert!(tensors.len() == self.tensors.len(), "a tensor for every lane");
        Self { tensors, of_model: self.of_model.clone() }
    }

    /// The distinct tensors.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The lane that each model is in.
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

    /// The same with other rows for the models that have some: a lane parts where a model gets rows of its own, models with
    /// one tensor share it, and a lane that nobody is left in goes.
    pub(crate) fn replaced(&self, rows: Vec<Option<Tensor>>) -> Self {
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut of_model = Vec::with_capacity(rows.len());
        for (model, own) in rows.into_iter().enumerate() {
            let tensor = own.unwrap_or_else(|| self.model(model).clone());
            let lane = tensors.iter().position(|known| known.id() == tensor.id()).unwrap_or(tensors.len());
            if lane == tensors.len() {
                tensors.push(tensor);
            }
            of_model.push(lane);
        }
        Self { tensors, of_model }
    }

    /// Applies `f` to every distinct tensor.
    pub fn map(&self, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let tensors = self.tensors.iter().map(&mut f).collect::<Result<_>>()?;
        Ok(Self { tensors, of_model: self.of_model.clone() })
    }

    /// The rows of several values below one another; a lane of its own for every model that has one in any of them.
    pub fn stack(values: &[Self]) -> Result<Self> {
        let models = values.first().map_or(0, |value| value.of_model.len());
        let (combinations, of_model) =
            distinct(models, |model| values.iter().map(|value| value.of_model[model]).collect::<Vec<usize>>());
        let tensors = combinations
            .iter()
            .map(|lanes| {
                let parts: Vec<&Tensor> = values.iter().zip(lanes).map(|(value, lane)| &value.tensors[*lane]).collect();
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
            .map(|lanes| f(std::array::from_fn(|value| &values[value].tensors[lanes[value]])))
            .collect::<Result<_>>()?;
        Ok(Self { tensors, of_model })
    }
}

/// The different combinations of lanes that models are in, and which of them each model has.
fn distinct<T: PartialEq>(models: usize, combination: impl Fn(usize) -> T) -> (Vec<T>, Vec<usize>) {
    let mut found: Vec<T> = Vec::new();
    let mut of_model = Vec::with_capacity(models);
    for model in 0..models {
        let own = combination(model);
        let lane = found.iter().position(|known| *known == own).unwrap_or_else(|| {
            found.push(own);
            found.len() - 1
        });
        of_model.push(lane);
    }
    (found, of_model)
}
