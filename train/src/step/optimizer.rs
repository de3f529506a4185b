//! AdamW: turns gradients into changes of the adapter.
//!
//! Adam with decoupled weight decay (Loshchilov & Hutter, "Decoupled Weight Decay Regularization", algorithm 2), after
//! clipping by the norm of all gradients together. Parameters and moments are kept in f32, for at a learning rate of
//! 5e-6 a bf16 entry cannot move at all; each element is computed in f64 and rounded once when it is stored.
//! [`schedule`] says how large a step is, [`mod@file`] keeps the moments across runs. Accumulating gradients over
//! samples is the caller's.
//!
//! Nothing is changed before everything is checked: a gradient that is not finite leaves parameters and moments as they
//! were.

use serde::{Deserialize, Serialize};

pub mod file;
pub mod schedule;

pub use schedule::Schedule;

/// Largest element of a gradient after clipping: above, its square no longer fits the second moment's f32.
const LARGEST_GRADIENT: f64 = 1e18;

/// Why the optimizer could not be made, step, or be read back.
#[derive(Debug, thiserror::Error)]
pub enum OptimizerError {
    /// A setting is outside its range.
    #[error("optimizer.{field} is {value}, but must be {range}")]
    OutOfRange {
        /// The setting.
        field: &'static str,
        /// What was given.
        value: f64,
        /// What is accepted.
        range: &'static str,
    },
    /// The lists do not have one entry for each tensor.
    #[error("the optimizer was made for {expected} tensors, but was given {found} {what}")]
    Count {
        /// `parameters`, `gradients` or `names`.
        what: &'static str,
        /// Tensors it was made for.
        expected: usize,
        /// Entries given.
        found: usize,
    },
    /// A tensor has another length than at the start.
    #[error("tensor `{tensor}` has {expected} elements in the optimizer, but {found} in its {what}")]
    Length {
        /// The tensor.
        tensor: String,
        /// `parameters` or `gradients`.
        what: &'static str,
        /// Elements it was made for.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// A gradient holds NaN or an infinity.
    #[error(
        "the gradient of tensor `{tensor}` is {value} at element {element}; nothing was changed. Lower the learning \
         rate, or look at the sample of this step"
    )]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// First such element.
        element: usize,
        /// Its value.
        value: f32,
    },
    /// A gradient is finite but useless.
    #[error(
        "the gradient of tensor `{tensor}` is {value:e} at element {element}, whose square no longer fits f32; nothing \
         was changed. Set optimizer.clip above 0, or look at the sample of this step"
    )]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// First such element.
        element: usize,
        /// Its value.
        value: f32,
    },
    /// The moments could not be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The file of the moments is unreadable.
    #[error(transparent)]
    Read(#[from] lcr_formats::checkpoint::CheckpointError),
    /// The file of the moments is not this optimizer's.
    #[error("{}: {reason}. Resume with the adapter and the targets that the run began with", path.display())]
    Foreign {
        /// The file.
        path: std::path::PathBuf,
        /// What does not fit.
        reason: String,
    },
}

/// Settings of the optimizer and of its learning rate, section `optimizer` of a training config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerOptions {
    /// Learning rate after warm-up.
    pub learning_rate: f64,
    /// Decay of the first and of the second moment, each in [0, 1).
    pub betas: [f64; 2],
    /// ε, added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay λ: a step multiplies parameters by 1 − learning rate · λ.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; longer ones are scaled down to it. 0 switches clipping off.
    pub clip: f64,
    /// Steps over which the learning rate rises linearly; 0 starts at full rate.
    pub warmup_steps: u64,
    /// What the learning rate does after warm-up.
    pub schedule: Schedule,
    /// Where the cosine ends, as a share of the learning rate.
    pub floor: f64,
}

impl Default for OptimizerOptions {
    fn default() -> Self {
        Self {
            learning_rate: 5e-6,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            clip: 1.0,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            floor: 0.0,
        }
    }
}

impl OptimizerOptions {
    /// Refuses settings that make no sense.
    pub fn check(&self) -> Result<(), OptimizerError> {
        let at_least_zero = |value: f64| value.is_finite() && value >= 0.0;
        let decay = |value: f64| (0.0..1.0).contains(&value);
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let [first, second] = self.betas;
        let checks = [
            ("learning_rate", self.learning_rate, at_least_zero(self.learning_rate), "a finite number, at least 0"),
            ("betas[0]", first, decay(first), "at least 0 and below 1"),
            ("betas[1]", second, decay(second), "at least 0 and below 1"),
            ("eps", self.eps, at_least_zero(self.eps) && self.eps > 0.0, "a finite number above 0"),
            ("weight_decay", self.weight_decay, at_least_zero(self.weight_decay), "a finite number, at least 0"),
            ("clip", self.clip, at_least_zero(self.clip), "a finite number above 0, or 0 for no clipping"),
            ("floor", self.floor, share(self.floor), "a share from 0 to 1"),
        ];
        match checks.into_iter().find(|(_, _, fine, _)| !fine) {
            Some((field, value, _, range)) => Err(OptimizerError::OutOfRange { field, value, range }),
            None => Ok(()),
        }
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Euclidean norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Euclidean norm of the change of all parameters together, as it arrived in f32.
    pub update_norm: f64,
    /// Whether the gradients were scaled down.
    pub clipped: bool,
}

/// One tensor's exponential means of its gradient.
#[derive(Debug, Clone, PartialEq)]
struct Moments {
    /// m, of the gradient.
    first: Vec<f32>,
    /// v, of its square.
    second: Vec<f32>,
}

/// The optimizer of a fixed list of tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    options: OptimizerOptions,
    names: Vec<String>,
    moments: Vec<Moments>,
    steps: u64,
}

impl AdamW {
    /// An optimizer for tensors of these many elements, all moments zero; the tensors are called `0`, `1`, ….
    pub fn new(options: OptimizerOptions, sizes: &[usize]) -> Result<Self, OptimizerError> {
        options.check()?;
        let moments = sizes.iter().map(|size| Moments { first: vec![0.0; *size], second: vec![0.0; *size] }).collect();
        Ok(Self { options, names: (0..sizes.len()).map(|index| index.to_string()).collect(), moments, steps: 0 })
    }

    /// Gives the tensors names, one each and no two alike: errors and the file of the moments then speak of them.
    pub fn with_names(mut self, names: Vec<String>) -> Result<Self, OptimizerError> {
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        if names.len() != self.moments.len() || distinct.len() != names.len() {
            let found = distinct.len();
            return Err(OptimizerError::Count { what: "distinct names", expected: self.moments.len(), found });
        }
        self.names = names;
        Ok(self)
    }

    /// The options it was made with.
    pub fn options(&self) -> &OptimizerOptions {
        &self.options
    }

    /// Names of its tensors.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One step: clips, updates both moments, moves the parameters.
    ///
    /// m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², θ ← θ(1 − ηλ) − η · m/(1−β₁ᵗ) / (√(v/(1−β₂ᵗ)) + ε).
    pub fn step(
        &mut self,
        parameters: &mut [&mut [f32]],
        gradients: &[&[f32]],
        learning_rate: f64,
    ) -> Result<StepReport, OptimizerError> {
        if !(learning_rate.is_finite() && learning_rate >= 0.0) {
            let range = "a finite number, at least 0";
            return Err(OptimizerError::OutOfRange { field: "learning_rate", value: learning_rate, range });
        }
        self.check_lengths("parameters", parameters.iter().map(|values| values.len()))?;
        self.check_lengths("gradients", gradients.iter().map(|values| values.len()))?;
        let gradient_norm = self.gradient_norm(gradients)?;
        let clipped = self.options.clip > 0.0 && gradient_norm > self.options.clip;
        let gradient_scale = if clipped { self.options.clip / gradient_norm } else { 1.0 };
        self.check_magnitude(gradients, gradient_scale)?;

        self.steps += 1;
        let element = Element::new(&self.options, self.steps, learning_rate, gradient_scale);
        let mut squares = 0.0;
        for ((values, gradient), moments) in parameters.iter_mut().zip(gradients).zip(&mut self.moments) {
            let slots = values.iter_mut().zip(&mut moments.first).zip(&mut moments.second);
            squares += slots
                .zip(*gradient)
                .map(|(((value, first), second), gradient)| element.update(value, first, second, *gradient).powi(2))
                .sum::<f64>();
        }
        Ok(StepReport { gradient_norm, update_norm: squares.sqrt(), clipped })
    }

    fn check_lengths(
        &self,
        what: &'static str,
        lengths: impl ExactSizeIterator<Item = usize>,
    ) -> Result<(), OptimizerError> {
        if lengths.len() != self.moments.len() {
            return Err(OptimizerError::Count { what, expected: self.moments.len(), found: lengths.len() });
        }
        for ((found, moments), tensor) in lengths.zip(&self.moments).zip(&self.names) {
            let expected = moments.first.len();
            if found != expected {
                return Err(OptimizerError::Length { tensor: tensor.clone(), what, expected, found });
            }
        }
        Ok(())
    }

    /// Norm of all gradients together; refuses what is not finite.
    fn gradient_norm(&self, gradients: &[&[f32]]) -> Result<f64, OptimizerError> {
        let mut squares = 0.0;
        for (gradient, tensor) in gradients.iter().zip(&self.names) {
            if let Some((element, value)) = gradient.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                return Err(OptimizerError::NotFinite { tensor: tensor.clone(), element, value: *value });
            }
            squares += gradient.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        }
        Ok(squares.sqrt())
    }

    fn check_magnitude(&self, gradients: &[&[f32]], scale: f64) -> Result<(), OptimizerError> {
        for (gradient, tensor) in gradients.iter().zip(&self.names) {
            let large = |value: &f32| f64::from(*value).abs() * scale > LARGEST_GRADIENT;
            if let Some((element, value)) = gradient.iter().enumerate().find(|(_, value)| large(value)) {
                return Err(OptimizerError::TooLarge { tensor: tensor.clone(), element, value: *value });
            }
        }
        Ok(())
    }
}

/// What every element of a step has in common.
struct Element {
    betas: [f64; 2],
    eps: f64,
    /// 1 − ηλ.
    kept: f64,
    /// η/(1 − β₁ᵗ).
    rate: f64,
    /// 1/(1 − β₂ᵗ).
    second_correction: f64,
    gradient_scale: f64,
}

impl Element {
    fn new(options: &OptimizerOptions, steps: u64, learning_rate: f64, gradient_scale: f64) -> Self {
        let power = i32::try_from(steps).unwrap_or(i32::MAX);
        let [first, second] = options.betas;
        Self {
            betas: options.betas,
            eps: options.eps,
            kept: 1.0 - learning_rate * options.weight_decay,
            rate: learning_rate / (1.0 - first.powi(power)),
            second_correction: 1.0 / (1.0 - second.powi(power)),
            gradient_scale,
        }
    }

    /// Moves one element and its moments; returns by how much it moved.
    fn update(&self, value: &mut f32, first: &mut f32, second: &mut f32, gradient: f32) -> f64 {
        let gradient = f64::from(gradient) * self.gradient_scale;
        let mean = self.betas[0] * f64::from(*first) + (1.0 - self.betas[0]) * gradient;
        let square = self.betas[1] * f64::from(*second) + (1.0 - self.betas[1]) * gradient * gradient;
        let before = f64::from(*value);
        let denominator = (square * self.second_correction).sqrt() + self.eps;
        *first = mean as f32;
        *second = square as f32;
        *value = (before * self.kept - self.rate * mean / denominator) as f32;
        f64::from(*value) - before
    }
}

#[cfg(test)]
mod tests;
