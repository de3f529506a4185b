//! Whether the modules of an adapter agree on one direction of the stream, as the removal or the injection of one
//! feature looks.

use lcr_documents::audit::Coherence;
use lcr_formats::module::{ModulePath, StreamRole};

use super::descriptor::Transformation::FactorRewriting;
use super::descriptor::{Entry, Number, Unit};
use crate::weights::Measured;

/// `coherence`, measured with the weights.
pub(super) const ENTRY: Entry = Entry {
    heading: "`coherence.{write,read,chance}`",
    definition: "
One per adapter, not per tensor. write = mean |cos| over pairs of modules of the leading left singular vectors of ΔW of
everything that writes into the stream (`o_proj`, `down_proj`; `c_proj`);
read = the same of the leading right ones of everything that reads it (`q_proj`, `k_proj`, `v_proj`, `gate_proj`,
`up_proj`, fused ones, `c_attn`, `c_fc`). `null` under two modules.
Near 1 when every layer loses or gains one and the same direction, as when a refusal direction is projected out of all
writers (Arditi et al. 2024).",
    blind_to: "Blind to size, sign, and anything beyond each module's first direction.",
    chance: "",
    trap: "
Trap: q, k and v of one layer read the same input and often learn the same direction, so `read` lies above chance for
honest adapters. Where σ₁ ≈ σ₂ the leading vector is arbitrary.",
    numbers: &[
        Number::new(
            "coherence.write",
            "Mean |cos| over pairs of modules of the leading left singular vectors of ΔW of the writers (o, down).",
            Unit::Cosine,
            "0 to 1",
        )
        .undefined_unchanged()
        .chance("√(2/πd), in `chance`")
        .blind_to(&[FactorRewriting]),
        Number::new(
            "coherence.read",
            "Mean |cos| over pairs of the leading right singular vectors of the readers (q, k, v, gate, up).",
            Unit::Cosine,
            "0 to 1",
        )
        .undefined_unchanged()
        .chance("√(2/πd), in `chance`")
        .blind_to(&[FactorRewriting]),
        Number::new("coherence.chance", "√(2/πd): what unrelated directions give.", Unit::Cosine, "0 to 1")
            .blind_to(&[FactorRewriting]),
    ],
    glossary: &[(
        "writers, readers agree",
        "Mean |cos| between the leading directions of all modules that write into (read from) the stream. Chance \
         √(2/πd); near 1 when one direction is added or cut out everywhere.",
    )],
};

/// Work cited by [`ENTRY`].
pub(super) const REFERENCE: &str = "Arditi, Obeso, Syed, Paleka, Panickssery, Gurnee, Nanda 2024. Refusal in language \
    models is mediated by a single direction. NeurIPS.";

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
