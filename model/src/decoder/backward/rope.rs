//! The gradient of a rotation is the rotation back.

use rayon::prelude::*;

use super::super::rope::Rotation;

impl Rotation {
    /// Rotates `rows` `[tokens, columns]` by the negative angle of their positions, in place.
    pub(super) fn turn_back(&self, rows: &mut [f32], columns: usize, head_dim: usize) {
        rows.par_chunks_mut(columns).zip(self.turns.par_chunks(self.pairs)).for_each(|(row, turns)| {
            for head in row.chunks_exact_mut(head_dim) {
                let (first, rest) = head.split_at_mut(self.pairs);
                for ((left, right), (cos, sin)) in first.iter_mut().zip(rest).zip(turns) {
                    let (x, y) = (f64::from(*left), f64::from(*right));
                    let (cos, sin) = (f64::from(*cos), f64::from(*sin));
                    (*left, *right) = ((x * cos + y * sin) as f32, (y * cos - x * sin) as f32);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::super::super::host::with_values;
    use super::*;
    use lcr_formats::config::{Rope, RopeScaling};

    #[test]
    fn there_and_back_changes_nothing() {
        let rope = Rope { theta: 1e4, scaling: RopeScaling::None, dimensions: 6 };
        let rotation = Rotation::new(&rope, &[0, 3, 1000]);
        let x = Tensor::randn(0.0f32, 1.0, (3, 16), &Device::Cpu).unwrap();
        let mut turned = with_values(&rotation.apply(&x, 8).unwrap(), <[f32]>::to_vec).unwrap();
        rotation.turn_back(&mut turned, 16, 8);
        let before = with_values(&x, <[f32]>::to_vec).unwrap();
        assert!(turned.iter().zip(&before).all(|(left, right)| (left - right).abs() < 1e-6));
    }
}
