//! Statistics against the product itself and its decomposition.

use lcr_formats::adapter::{EmbeddingLowRank, LowRank, ScalingRule};

use super::*;

/// Numbers that look random and are the same everywhere.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| (0..6).map(|_| next()).sum::<f32>()).collect()
}

fn module(seed: u64, outputs: usize, inputs: usize, rank: usize) -> LowRank {
    LowRank {
        rank,
        alpha: 2.0 * rank as f64,
        scale: 2.0,
        scaling_rule: ScalingRule::AlphaOverRank,
        lora_a: noise(seed, rank * inputs),
        lora_b: noise(seed + 1, outputs * rank),
        inputs,
        outputs,
        magnitude: None,
        lora_b_bias: None,
        tensor_names: Vec::new(),
    }
}

/// A change whose singular values are these times the scale.
fn diagonal(values: &[f32], outputs: usize, inputs: usize) -> LowRank {
    let rank = values.len();
    let mut own = module(1, outputs, inputs, rank);
    own.lora_b =
        (0..outputs * rank).map(|at| if at % (rank + 1) == 0 && at < rank * rank { 1.0 } else { 0.0 }).collect();
    own.lora_a = vec![0.0; rank * inputs];
    values.iter().enumerate().for_each(|(index, value)| own.lora_a[index * inputs + index] = *value);
    own
}

fn dense(module: &LowRank) -> Vec<Vec<f64>> {
    let entry = |row: usize, column: usize| {
        let pairs =
            (0..module.rank).map(|k| (module.lora_b[row * module.rank + k], module.lora_a[k * module.inputs + column]));
        pairs.map(|(up, down)| f64::from(up) * f64::from(down)).sum()
    };
    (0..module.outputs).map(|row| (0..module.inputs).map(|column| entry(row, column)).collect()).collect()
}

fn measured(path: &str, module: &LowRank) -> Measured {
    measure(&Change::of_module(path, module), None)
}

fn of(module: &LowRank) -> ModuleStatistics {
    measured("q_proj", module).statistics
}

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance * expected.abs().max(1e-3), "{found}, expected {expected}");
}

#[test]
fn the_spectrum_is_that_of_a_decomposition() {
    // Below, at and beyond the rank up to which the search for the leading direction is exact.
    for (seed, rank) in [(3, 6), (11, 1), (40, 48), (41, 60)] {
        let module = module(seed, 90, 70, rank);
        let (own, known) = (measured("o_proj", &module), module.factored().leading_directions(1));
        let values = module.factored().singular_values();
        let squares: Vec<f64> = values.iter().map(|value| value * value).collect();
        let total: f64 = squares.iter().sum();
        let statistics = &own.statistics;
        close(statistics.norm, total.sqrt(), 1e-9);
        close(statistics.spectral_norm, values[0], 1e-6);
        let fourth: f64 = squares.iter().map(|square| square * square).sum();
        close(statistics.participation_ratio.expect("not zero"), total * total / fourth, 1e-9);
        let entropy: f64 = squares.iter().map(|square| -(square / total) * (square / total).ln()).sum();
        close(statistics.effective_rank.expect("a small rank"), entropy.exp(), 1e-6);
        let cosine: f64 = own.left.iter().zip(&known.left[0]).map(|(a, b)| f64::from(*a) * b).sum();
        assert!(1.0 - cosine.abs() < 1e-5, "{cosine}");
        let own = measured("q_proj", &module);
        let cosine: f64 = own.right.iter().zip(&known.right[0]).map(|(a, b)| f64::from(*a) * b).sum();
        assert!(1.0 - cosine.abs() < 1e-5, "{cosine}");
    }
}

#[test]
fn equal_singular_values_fill_the_rank_and_one_alone_does_not() {
    let equal = of(&diagonal(&[3.0; 5], 20, 30));
    for ratio in [equal.stable_rank, equal.participation_ratio, equal.effective_rank] {
        close(ratio.expect("not zero"), 5.0, 1e-9);
    }
    let single = of(&diagonal(&[3.0, 0.0, 0.0], 20, 30));
    for ratio in [single.stable_rank, single.participation_ratio, single.effective_rank] {
        close(ratio.expect("not zero"), 1.0, 1e-9);
    }
    // Σσ² = 5, Σσ⁴ = 17, shares 4/5 and 1/5.
    let two = of(&diagonal(&[2.0, 1.0], 20, 30));
    close(two.participation_ratio.expect("not zero"), 25.0 / 17.0, 1e-9);
    close(two.effective_rank.expect("not zero"), (-0.8_f64 * 0.8_f64.ln() - 0.2 * 0.2_f64.ln()).exp(), 1e-9);
}

#[test]
fn a_leading_value_is_found_wherever_it_hides() {
    // The search begins along a fixed vector; these changes are orthogonal to it, or to all but a corner of it.
    for rank in [3, 60] {
        for at in [0, 1, rank - 1] {
            let mut values = vec![1.0; rank];
            values[at] = 5.0;
            close(of(&diagonal(&values, 80, 80)).spectral_norm, 10.0, 1e-9);
        }
    }
    let mut hidden = diagonal(&[0.0, 2.0], 20, 30);
    // The start is (1, 1.7548…): what it sees of (1.7548…, −1) is nothing.
    (hidden.lora_a[0], hidden.lora_a[30]) = (1.754_877_7, -1.0);
    (hidden.lora_a[1], hidden.lora_a[31]) = (0.0, 0.0);
    let values = hidden.factored().singular_values();
    close(of(&hidden).spectral_norm, values[0], 1e-6);
}

#[test]
fn a_rank_beyond_the_shape_is_that_of_the_product() {
    for (outputs, inputs) in [(3, 50), (50, 3), (1, 1)] {
        let module = module(9, outputs, inputs, 20);
        let values = module.factored().singular_values();
        let own = of(&module);
        close(own.spectral_norm, values[0], 1e-5);
        close(own.norm, values.iter().map(|value| value * value).sum::<f64>().sqrt(), 1e-5);
        assert_eq!(own.rank, 20);
    }
}

#[test]
fn what_chance_gives_is_what_random_factors_have() {
    // At this size the edge lies some per cent below that of infinite matrices.
    for (outputs, inputs, rank) in [(512, 512, 64), (256, 1024, 32), (600, 200, 100)] {
        let own = of(&module(77, outputs, inputs, rank));
        close(own.stable_rank.expect("not zero"), own.stable_rank_chance.expect("not zero"), 0.1);
    }
    // Where one side has no end, this is the law of one factor: r/(1 + √(r/n))².
    close(stable_rank_of_chance(400, usize::MAX, 100), 100.0 / 1.5_f64.powi(2), 1e-6);
}

#[test]
fn rows_columns_and_kurtosis_are_those_of_the_product() {
    let module = module(3, 96, 40, 5);
    let matrix = module.factored();
    let grams = matrix.grams();
    let full = dense(&module);
    for (row, square) in full.iter().zip(matrix.row_squares(&grams)) {
        close(square, row.iter().map(|value| value * value).sum(), 1e-9);
    }
    for (column, square) in matrix.column_squares(&grams).into_iter().enumerate() {
        close(square, full.iter().map(|row| row[column].powi(2)).sum(), 1e-9);
    }
    // With 96 rows every one is looked at.
    let entries: Vec<f64> = full.into_iter().flatten().collect();
    let second: f64 = entries.iter().map(|value| value.powi(2)).sum();
    let fourth: f64 = entries.iter().map(|value| value.powi(4)).sum();
    let expected = entries.len() as f64 * fourth / (second * second);
    close(of(&module).kurtosis.expect("not zero"), expected, 1e-5);
}

#[test]
fn an_embedding_is_measured_with_tokens_for_rows() {
    let linear = module(5, 40, 300, 4);
    let embedding = EmbeddingLowRank {
        rank: 4,
        alpha: 8.0,
        scale: 2.0,
        scaling_rule: ScalingRule::AlphaOverRank,
        lora_a: linear.lora_a.clone(),
        lora_b: linear.lora_b.clone(),
        rows: 300,
        width: 40,
        tensor_names: Vec::new(),
    };
    let change = Change {
        path: "embed_tokens",
        matrix: embedding.factored(),
        rank: 4,
        magnitude: None,
        lora_b_bias: None,
        has_token_rows: true,
    };
    let (own, known) = (measure(&change, None).statistics, of(&linear));
    assert_eq!(own.shape, [300, 40]);
    close(own.norm, known.norm, 1e-9);
    close(own.column_hoyer.expect("some"), known.row_hoyer.expect("some"), 1e-9);
    let energy = |token: usize| dense(&linear).iter().map(|row| row[token].powi(2)).sum::<f64>();
    let most = (0..300).max_by(|left, right| energy(*left).total_cmp(&energy(*right))).expect("some");
    assert_eq!((own.heaviest_rows.len(), own.heaviest_rows[0].row), (8, most));
    close(own.heaviest_rows[0].share, energy(most) * 4.0 / known.norm.powi(2), 1e-6);
    assert!(known.heaviest_rows.is_empty());
}

/// A → MA, B → BM⁻¹ with M = [[2, 1], [0, 4]], M⁻¹ = [[1/2, -1/8], [0, 1/4]]: exact in binary but for the rounding of
/// sums.
fn rewritten(original: &LowRank) -> LowRank {
    let mut other = original.clone();
    let (first, second) = original.lora_a.split_at(original.inputs);
    other.lora_a = first.iter().zip(second).map(|(a, b)| 2.0 * a + b).chain(second.iter().map(|b| 4.0 * b)).collect();
    other.lora_b = original.lora_b.chunks(2).flat_map(|row| [row[0] / 2.0, -row[0] / 8.0 + row[1] / 4.0]).collect();
    other
}

#[test]
fn rewriting_the_factors_moves_nothing() {
    let original = module(7, 200, 64, 2);
    let (left, right) = (of(&original), of(&rewritten(&original)));
    let numbers = |own: &ModuleStatistics| {
        [
            Some(own.norm),
            Some(own.spectral_norm),
            own.stable_rank,
            own.stable_rank_chance,
            own.top1_share,
            own.participation_ratio,
            own.effective_rank,
            own.kurtosis,
            own.row_top8_share,
            own.row_hoyer,
            own.row_gini,
            own.column_hoyer,
        ]
    };
    for (left, right) in numbers(&left).into_iter().zip(numbers(&right)) {
        close(right.expect("some"), left.expect("some"), 1e-5);
    }
    let heads = |module: &LowRank| {
        let matrix = module.factored();
        let grams = matrix.grams();
        Profile::of(matrix.row_squares(&grams)).blocks(50).expect("not zero")
    };
    heads(&original).into_iter().zip(heads(&rewritten(&original))).for_each(|(left, right)| close(right, left, 1e-5));
}

#[test]
fn nothing_is_measured_of_nothing() {
    let mut zero = module(1, 30, 20, 4);
    zero.lora_b.fill(0.0);
    let own = of(&zero);
    assert_eq!((own.norm, own.spectral_norm), (0.0, 0.0));
    let ratios = [own.stable_rank, own.participation_ratio, own.effective_rank, own.row_gini, own.column_hoyer];
    assert_eq!(ratios, [None; 5]);
}

#[test]
fn one_concentrated_module_among_many_is_found_and_a_trend_is_not() {
    let mut all: Vec<Measured> = (0..24)
        .map(|layer| {
            let mut own = module(100 + 2 * layer, 128, 64, 4);
            // Deeper layers change more: that is a trend, no outlier.
            own.scale = 1.0 + layer as f64;
            if layer == 11 {
                own.lora_b.iter_mut().take(3 * 4).for_each(|value| *value *= 40.0);
            }
            measured(&format!("model.layers.{layer}.mlp.down_proj"), &own)
        })
        .collect();
    let groups = module_groups::compare(&mut all);
    let scores: Vec<f64> = all.iter().filter_map(|module| module.statistics.concentration_z).collect();
    assert_eq!(scores.len(), 24);
    assert!(scores[11] > 14.0, "{scores:?}");
    assert!(scores.iter().enumerate().all(|(layer, score)| layer == 11 || *score < 6.0), "{scores:?}");
    let farthest = groups["down_proj"].farthest.clone().expect("24 modules");
    assert_eq!((groups["down_proj"].modules, farthest.module.as_str()), (24, "model.layers.11.mlp.down_proj"));
    assert!(farthest.z.abs() >= scores[11], "{farthest:?}");
}

#[test]
fn sizes_are_compared_over_the_whole_adapter() {
    let of = |path: &str, scale: f64| {
        let mut own = module(3, 32, 32, 2);
        own.scale = scale;
        measured(path, &own)
    };
    let all = [of("a.0.self_attn.q_proj", 4.0), of("a.0.self_attn.o_proj", 4.0), of("a.0.mlp.up_proj", 1.0)];
    close(attention_to_mlp(&all).expect("both kinds"), 4.0_f64.ln(), 1e-9);
    assert_eq!(attention_to_mlp(&all[..2]), None);
    // Of norms 1, 4, 4: 2(1 + 8 + 12)/(3·9) − 4/3.
    let gathering = Gathering { measured: all.into_iter().collect(), ..Gathering::default() };
    close(gathering.finish().norm_gini.expect("not zero"), 42.0 / 27.0 - 4.0 / 3.0, 1e-9);
}

#[test]
fn common_directions_are_told_from_unrelated_ones() {
    let path = |layer: u64| format!("model.layers.{layer}.self_attn.o_proj");
    let agreement =
        |all: &[Measured]| coherence::coherence(all, StreamRole::Writes, |module| &module.left).expect("writers");
    let unrelated: Vec<Measured> =
        (0..12).map(|layer| measured(&path(layer), &module(50 + 2 * layer, 256, 32, 1))).collect();
    let of = agreement(&unrelated);
    assert!((of.mean - of.chance).abs() < 0.5 * of.chance, "{of:?}");
    let common: Vec<Measured> = (0..12)
        .map(|layer| {
            let mut own = module(50 + 2 * layer, 256, 32, 1);
            own.lora_b = noise(9, 256);
            measured(&path(layer), &own)
        })
        .collect();
    let of = agreement(&common);
    assert!(of.mean > 0.999, "{of:?}");
}
