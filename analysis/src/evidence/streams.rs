//! What the residual streams of all models show, summed layer by layer: mean shifts, their coherence, states at the end
//! of prompts.

use std::ops::Range;

use lcr_formats::config::Config;
use lcr_model::decoder::{Branches, with_all_values};
use rayon::prelude::*;

use super::probe_set::{ProbeSet, PromptId};
use super::rotation::{RotationTest, test_rotation};
use crate::AuditError;

/// Positions at the beginning of a text that the lens looks at by themselves; the very first is left out, for it holds
/// a sink in most models.
pub const FIRST_POSITIONS: Range<usize> = 1..6;

/// Where a row of a pass stands.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its prompt.
    pub id: PromptId,
    /// Index of the prompt among those of the pass.
    pub part_index: usize,
    /// Position in the text.
    pub position: usize,
    /// Whether it is the last of the prompt.
    pub ends_prompt: bool,
    /// Which token of the answer it predicts.
    pub answer: Option<usize>,
}

/// Sums over the shifts of one model at one site.
#[derive(Debug, Clone, PartialEq)]
pub struct ShiftSums {
    /// ΣΔ over all rows but first positions, `[width]`.
    pub shift: Vec<f64>,
    /// Σ‖Δ‖ of them.
    pub length: f64,
    /// ΣΔ over [`FIRST_POSITIONS`], `[width]`.
    pub first_shift: Vec<f64>,
}

impl ShiftSums {
    /// ‖mean Δ‖/mean‖Δ‖: 1 where every row is moved by one vector; `None` where nothing moved.
    pub fn coherence(&self) -> Option<f64> {
        let norm = self.shift.iter().map(|value| value * value).sum::<f64>().sqrt();
        (self.length > 0.0).then(|| norm / self.length)
    }
}

/// What is known of one site.
#[derive(Debug, Clone)]
pub struct SiteSums {
    /// By model, without the base.
    pub models: Vec<ShiftSums>,
    /// Σ of the base's states over all rows but first positions, and over [`FIRST_POSITIONS`], `[width]` each.
    pub base: [Vec<f64>; 2],
    /// Rows in the two.
    pub rows: [usize; 2],
    /// Σ‖x‖ of the base over the rows of the first.
    pub base_length: f64,
    /// States at the end of each prompt, `[models + 1][sets][prompts][width]`, the base first.
    pub ends: Vec<Vec<Vec<Vec<f32>>>>,
    /// Whether the first model's change is a rotation here.
    pub rotation: Option<RotationTest>,
}

/// Everything of every site `resid.0` to `resid.N`.
#[derive(Debug, Clone, Default)]
pub struct StreamSums {
    /// By site.
    pub sites: Vec<SiteSums>,
}

impl StreamSums {
    /// Nothing yet, of so many models beside the base.
    pub fn new(config: &Config, models: usize, sets: &[ProbeSet]) -> Self {
        let zeros = || vec![0.0; config.width];
        let none: Vec<Vec<Vec<f32>>> = sets.iter().map(|set| vec![Vec::new(); set.prompts.len()]).collect();
        let site = SiteSums {
            models: vec![ShiftSums { shift: zeros(), length: 0.0, first_shift: zeros() }; models],
            base: [zeros(), zeros()],
            rows: [0, 0],
            base_length: 0.0,
            ends: vec![none; models + 1],
            rotation: None,
        };
        Self { sites: vec![site; config.layers.len() + 1] }
    }

    /// Takes the rows of one site; `rotates` asks the rotation test of them as well.
    ///
    /// # Errors
    /// Where a tensor cannot be read, or a decomposition fails.
    pub fn take(&mut self, site: usize, branches: &Branches, rows: &[Row], rotates: bool) -> Result<(), AuditError> {
        let sums = &mut self.sites[site];
        let host = branches.map(|rows| rows.to_device(&candle_core::Device::Cpu))?;
        let tensors: Vec<_> = (0..host.of_model().len()).map(|model| host.model(model)).collect();
        with_all_values(&tensors, |all| {
            let width = sums.base[0].len();
            sums.take_base(all[0], rows, width);
            let models: Vec<(usize, &mut ShiftSums)> = sums.models.iter_mut().enumerate().collect();
            models.into_par_iter().for_each(|(model, sums)| {
                if !host.same(0, model + 1) {
                    sums.take(all[0], all[model + 1], rows, width);
                }
            });
            for (ends, values) in sums.ends.iter_mut().zip(all) {
                for (row, values) in rows.iter().zip(values.chunks_exact(width)).filter(|(row, _)| row.ends_prompt) {
                    ends[row.id.set][row.id.prompt] = values.to_vec();
                }
            }
            if rotates && all.len() > 1 && !host.same(0, 1) {
                sums.rotation = Some(test_rotation(all[0], all[1], width, rows));
            }
        })?;
        Ok(())
    }
}

impl SiteSums {
    fn take_base(&mut self, base: &[f32], rows: &[Row], width: usize) {
        for (row, state) in rows.iter().zip(base.chunks_exact(width)).filter(|(row, _)| row.position > 0) {
            add(&mut self.base[0], state);
            self.rows[0] += 1;
            self.base_length += length(state.iter().copied());
            if FIRST_POSITIONS.contains(&row.position) {
                add(&mut self.base[1], state);
                self.rows[1] += 1;
            }
        }
    }
}

impl ShiftSums {
    fn take(&mut self, base: &[f32], adapted: &[f32], rows: &[Row], width: usize) {
        let mut shift = vec![0.0; width];
        let pairs = base.chunks_exact(width).zip(adapted.chunks_exact(width));
        for (row, (base, adapted)) in rows.iter().zip(pairs).filter(|(row, _)| row.position > 0) {
            // Both are f32 and close together, so that their difference is exact or nearly so.
            shift.iter_mut().zip(base.iter().zip(adapted)).for_each(|(out, (x, y))| *out = y - x);
            add(&mut self.shift, &shift);
            self.length += length(shift.iter().copied());
            if FIRST_POSITIONS.contains(&row.position) {
                add(&mut self.first_shift, &shift);
            }
        }
    }
}

fn add(sums: &mut [f64], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
}

fn length(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}
