//! Whether the modules of an adapter agree on one direction of the stream, as the removal or the injection of one feature looks.

use lcr_documents::audit::Coherence;
use lcr_formats::module::{ModulePath, StreamRole};

use crate::weights::Measured;

/// Mean |cos| over pairs of modules of what each writes into and reads from a stream of `width`.
pub fn coherence(measured: &[(String, Measured)], width: usize) -> Coherence {
    let of = |role: StreamRole, vector: fn(&Measured) -> &Vec<f64>| {
        let vectors: Vec<&Vec<f64>> = measured
            .iter()
            .filter(|(name, measured)| {
                let plays = ModulePath::parse(name).role() == Some(role);
                name.ends_with(".weight") && plays && vector(measured).len() == width
            })
            .map(|(_, measured)| vector(measured))
            .collect();
        mean_absolute_cosine(&vectors)
    };
    Coherence {
        write: of(StreamRole::Writes, |measured| &measured.left),
        read: of(StreamRole::Reads, |measured| &measured.right),
        chance: (2.0 / (std::f64::consts::PI * width as f64)).sqrt(),
    }
}

/// Over all pairs of unit vectors; `None` under two.
fn mean_absolute_cosine(vectors: &[&Vec<f64>]) -> Option<f64> {
    let mut sum = 0.0;
    let mut pairs = 0;
    for (index, left) in vectors.iter().enumerate() {
        for right in &vectors[index + 1..] {
            sum += left.iter().zip(*right).map(|(a, b)| a * b).sum::<f64>().abs();
            pairs += 1;
        }
    }
    (pairs > 0).then(|| sum / f64::from(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_directions_do_not_matter() {
        let vectors = [vec![1.0, 0.0], vec![-1.0, 0.0], vec![-0.6, 0.8]];
        // |cos| of the three pairs: 1, 0.6 and 0.6.
        let found = mean_absolute_cosine(&vectors.each_ref()).unwrap();
        assert!((found - 2.2 / 3.0).abs() < 1e-15, "{found}");
        assert_eq!(mean_absolute_cosine(&[&vectors[0]]), None);
    }

    /// √(2/(π·200)) = 1/√(100π).
    #[test]
    fn chance_falls_with_the_root_of_the_width() {
        let chance = coherence(&[], 200).chance;
        assert!((chance - 0.056_418_958_354_775_63).abs() < 1e-15, "{chance}");
    }
}
