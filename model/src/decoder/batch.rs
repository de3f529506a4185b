//! What is the same for every layer of one forward pass.

use lcr_formats::config::{Config, Rope};

use super::attention::Sequence;
use super::bound_adapter::BoundAdapter;
use super::rope::Rotation;

/// The rows of one forward pass: which sequences they are of, and which adapters they are read with.
#[derive(Debug)]
pub struct ForwardBatch<'a> {
    /// The sequences in the rows.
    pub sequences: Vec<Sequence>,
    /// The adapter of each model, if it has one.
    pub variants: Vec<Option<&'a BoundAdapter>>,
    rotations: Vec<(Rope, Rotation)>,
}

impl<'a> ForwardBatch<'a> {
    /// `positions` are those of the rows in their sequences.
    pub fn new(
        config: &Config,
        sequences: Vec<Sequence>,
        positions: &[usize],
        variants: Vec<Option<&'a BoundAdapter>>,
    ) -> Self {
        let mut rotations: Vec<(Rope, Rotation)> = Vec::new();
        for rope in config.layers.iter().filter_map(|layer| layer.rope) {
            if !rotations.iter().any(|(known, _)| *known == rope) {
                rotations.push((rope, Rotation::new(&rope, positions)));
            }
        }
        Self { sequences, variants, rotations }
    }

    pub(super) fn rotation(&self, rope: &Rope) -> Option<&Rotation> {
        self.rotations.iter().find(|(known, _)| known == rope).map(|(_, rotation)| rotation)
    }
}
