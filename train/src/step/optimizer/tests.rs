//! Against torch.optim.AdamW (2.15, float64) and closed forms.

#![expect(clippy::unreadable_literal, reason = "the numbers are as PyTorch printed them")]

use proptest::prelude::*;

use super::*;

/// Gradients of step t for a tensor of three and one of four elements, all of them exact in f32.
fn gradients(step: i32) -> ([f32; 3], [f32; 4]) {
    let third = if [1, 2, 4].contains(&step) { 0.125 / step as f32 } else { 0.0 };
    ([0.5 * step as f32, -0.25, third], [1.0, -(0.5_f32.powi(step)), 0.0, 0.75 * (-1.0_f32).powi(step)])
}

/// Five steps from the same start as in PyTorch: both tensors and the gradients' norms.
fn five_steps(options: OptimizerOptions) -> (Vec<f32>, Vec<f64>, AdamW) {
    let (mut a, mut b) = ([1.0, -2.0, 0.5], [0.25, 0.0, -0.125, 3.0]);
    let mut optimizer = AdamW::new(options, &[3, 4]).unwrap();
    let norms = (1..=5)
        .map(|step| {
            let (first, second) = gradients(step);
            optimizer.step(&mut [&mut a, &mut b], &[&first, &second], 1e-2).unwrap().gradient_norm
        })
        .collect();
    (a.into_iter().chain(b).collect(), norms, optimizer)
}

const NORMS: [f64; 5] =
    [1.4630874888399532, 1.640550593550836, 1.9724667297574374, 2.372737409091027, 2.806417032890871];

fn assert_matches(options: OptimizerOptions, expected: [f64; 7]) {
    let (values, norms, _) = five_steps(options);
    for (value, expected) in values.iter().zip(expected) {
        // Five roundings to f32 of the parameter, and of moments that are off by a few 2^-24.
        let tolerance = 5.0 * 2.0_f64.powi(-24) * (expected.abs() + 1e-2) * 2.0;
        assert!((f64::from(*value) - expected).abs() < tolerance, "{value} instead of {expected}");
    }
    for (norm, expected) in norms.iter().zip(NORMS) {
        assert!((norm - expected).abs() < 1e-14, "norm {norm} instead of {expected}");
    }
}

#[test]
fn adam_is_pytorchs() {
    assert_matches(
        OptimizerOptions { clip: 0.0, ..OptimizerOptions::default() },
        [
            0.9514916910170372,
            -1.9500000020000001,
            0.46050100295213436,
            0.2000000005000001,
            0.041862148895435485,
            -0.125,
            3.014349452135062,
        ],
    );
}

#[test]
fn weight_decay_other_betas_and_epsilon_are_pytorchs() {
    assert_matches(
        OptimizerOptions { clip: 0.0, betas: [0.8, 0.95], eps: 1e-6, weight_decay: 0.1, ..OptimizerOptions::default() },
        [
            0.9455412689280377,
            -1.9401200796595897,
            0.45979766518642723,
            0.19885244745128977,
            0.04022402529493801,
            -0.12437624875062488,
            2.9984021654242676,
        ],
    );
}

#[test]
fn clipping_scales_all_tensors_by_one_factor() {
    assert_matches(
        OptimizerOptions { clip: 1.0, weight_decay: 0.01, ..OptimizerOptions::default() },
        [
            0.9500411341192179,
            -1.950179999579394,
            0.46144966102124974,
            0.20105482216319162,
            0.04021100529952155,
            -0.12493751249875008,
            3.0136785607503818,
        ],
    );
}

/// With bias correction the first step is η·sign(g), whatever the size of g, as long as ε is small beside it.
#[test]
fn the_first_step_has_the_length_of_the_learning_rate() {
    let options = OptimizerOptions { clip: 0.0, ..OptimizerOptions::default() };
    let mut optimizer = AdamW::new(options, &[4]).unwrap();
    let mut values = [0.0_f32; 4];
    let report = optimizer.step(&mut [&mut values], &[&[3.0, -5.0, 1e-3, 0.0]], 0.25).unwrap();
    for (value, expected) in values.iter().zip([-0.25, 0.25, -0.25, 0.0]) {
        assert!((value - expected).abs() < 1e-5, "{value} instead of {expected}");
    }
    assert!((report.update_norm - 0.25 * 3.0_f64.sqrt()).abs() < 1e-5, "{report:?}");
    assert!(!report.clipped);
}

/// What f32 swallows is not reported as a change.
#[test]
fn the_update_norm_is_what_arrived() {
    let mut optimizer = AdamW::new(OptimizerOptions::default(), &[1]).unwrap();
    let mut value = [1000.0_f32];
    let report = optimizer.step(&mut [&mut value], &[&[1.0]], 5e-6).unwrap();
    assert_eq!((value[0], report.update_norm), (1000.0, 0.0));
}

#[test]
fn a_gradient_that_is_not_finite_is_named_and_changes_nothing() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (_, _, before) = five_steps(OptimizerOptions::default());
        let mut optimizer =
            before.clone().with_names(vec!["a".to_owned(), "layers.3.q_proj.lora_B".to_owned()]).unwrap();
        let named = optimizer.clone();
        let (mut a, mut b) = ([1.0; 3], [2.0; 4]);
        let error = optimizer.step(&mut [&mut a, &mut b], &[&[0.0; 3], &[0.0, 0.0, bad, 0.0]], 0.1).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("layers.3.q_proj.lora_B") && message.contains("element 2"), "{message}");
        assert_eq!((optimizer, a, b), (named, [1.0; 3], [2.0; 4]));
    }
}

#[test]
fn a_gradient_too_large_for_f32_is_refused_unless_clipped() {
    let huge: &[f32] = &[1e30, 0.0];
    let mut values = [1.0_f32, 1.0];
    let unclipped = OptimizerOptions { clip: 0.0, ..OptimizerOptions::default() };
    let mut optimizer = AdamW::new(unclipped, &[2]).unwrap();
    let error = optimizer.step(&mut [&mut values], &[huge], 0.1).unwrap_err();
    assert!(matches!(error, OptimizerError::TooLarge { element: 0, .. }), "{error}");
    let mut optimizer = AdamW::new(OptimizerOptions::default(), &[2]).unwrap();
    let report = optimizer.step(&mut [&mut values], &[huge], 0.1).unwrap();
    assert!(report.clipped && (report.gradient_norm / 1e30 - 1.0).abs() < 1e-6, "{report:?}");
    assert!((values[0] - 0.9).abs() < 1e-6, "{values:?}");
}

#[test]
fn lists_and_lengths_must_fit() {
    let mut optimizer = AdamW::new(OptimizerOptions::default(), &[2, 3]).unwrap();
    let (mut a, mut b) = ([0.0; 2], [0.0; 3]);
    let count = optimizer.step(&mut [&mut a, &mut b], &[&[0.0; 2]], 0.1).unwrap_err();
    assert!(matches!(count, OptimizerError::Count { what: "gradients", expected: 2, found: 1 }), "{count}");
    let length = optimizer.step(&mut [&mut a, &mut b], &[&[0.0; 2], &[0.0; 4]], 0.1).unwrap_err();
    assert!(matches!(length, OptimizerError::Length { what: "gradients", expected: 3, found: 4, .. }), "{length}");
    let rate = optimizer.step(&mut [&mut a, &mut b], &[&[0.0; 2], &[0.0; 3]], f64::NAN).unwrap_err();
    assert!(matches!(rate, OptimizerError::OutOfRange { field: "learning_rate", .. }), "{rate}");
    assert!(optimizer.with_names(vec!["x".to_owned(), "x".to_owned()]).is_err(), "names must be distinct");
}

#[test]
fn options_are_checked_and_unknown_keys_refused() {
    let read = |text: &str| toml::from_str::<OptimizerOptions>(text);
    let read_back = read("betas = [0.8, 0.9]\nschedule = \"cosine\"").unwrap();
    assert_eq!(read_back.betas, [0.8, 0.9]);
    assert_eq!((read_back.learning_rate, read_back.clip, read_back.eps), (5e-6, 1.0, 1e-8));
    assert!(read("beta1 = 0.8").is_err());
    for wrong in [
        OptimizerOptions { learning_rate: -1.0, ..OptimizerOptions::default() },
        OptimizerOptions { betas: [0.9, 1.0], ..OptimizerOptions::default() },
        OptimizerOptions { eps: 0.0, ..OptimizerOptions::default() },
        OptimizerOptions { weight_decay: f64::NAN, ..OptimizerOptions::default() },
        OptimizerOptions { clip: -1.0, ..OptimizerOptions::default() },
        OptimizerOptions { floor: 1.5, ..OptimizerOptions::default() },
    ] {
        assert!(AdamW::new(wrong.clone(), &[1]).is_err(), "{wrong:?}");
    }
}

#[test]
fn the_schedule_has_its_closed_form_at_the_corners() {
    let options = OptimizerOptions {
        learning_rate: 2.0,
        warmup_steps: 4,
        schedule: Schedule::Cosine,
        floor: 0.1,
        ..OptimizerOptions::default()
    };
    let at = |taken| options.learning_rate_at(taken, 104);
    for (taken, expected) in [(0, 0.5), (1, 1.0), (3, 2.0), (4, 2.0), (54, 1.1), (104, 0.2), (1000, 0.2)] {
        assert!((at(taken) - expected).abs() < 1e-12, "after {taken} steps {}, expected {expected}", at(taken));
    }
    let constant = OptimizerOptions { schedule: Schedule::Constant, warmup_steps: 0, ..options };
    assert_eq!(constant.learning_rate_at(0, 0), 2.0);
    assert_eq!(constant.learning_rate_at(u64::MAX, 1), 2.0);
}

#[test]
fn a_restored_optimizer_takes_the_same_step_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimizer.safetensors");
    let (_, _, mut optimizer) = five_steps(OptimizerOptions::default());
    optimizer.save(&path).unwrap();
    let mut restored = AdamW::new(OptimizerOptions::default(), &[3, 4]).unwrap();
    restored.restore(&path).unwrap();
    assert_eq!(restored, optimizer);
    let step = |optimizer: &mut AdamW| {
        let (mut a, mut b) = ([1.0_f32; 3], [1.0_f32; 4]);
        optimizer.step(&mut [&mut a, &mut b], &[&[0.3; 3], &[-0.7; 4]], 1e-3).unwrap();
        a.iter().chain(&b).map(|value| value.to_bits()).collect::<Vec<u32>>()
    };
    assert_eq!(step(&mut restored), step(&mut optimizer));
}

#[test]
fn moments_of_another_run_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimizer.safetensors");
    let (_, _, optimizer) = five_steps(OptimizerOptions::default());
    optimizer.save(&path).unwrap();
    for (sizes, expected) in
        [(vec![3], "`1.exp_avg`"), (vec![3, 5], "shape [4]"), (vec![3, 4, 1], "`2.exp_avg` is missing")]
    {
        let mut other = AdamW::new(OptimizerOptions::default(), &sizes).unwrap();
        let before = other.clone();
        let message = other.restore(&path).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("optimizer.safetensors"), "{message}");
        assert_eq!(other, before, "a refused restore changes nothing");
    }
    let cut = std::fs::read(&path).unwrap();
    std::fs::write(&path, &cut[..cut.len() - 3]).unwrap();
    let mut same = AdamW::new(OptimizerOptions::default(), &[3, 4]).unwrap();
    assert!(matches!(same.restore(&path), Err(OptimizerError::Read(_))));
}

proptest! {
    /// Powers of two scale f32 exactly, so Adam without ε to speak of must not notice them.
    #[test]
    fn adam_does_not_see_the_scale_of_the_gradient(
        gradients in prop::collection::vec(prop::array::uniform4(0.01_f32..10.0), 1..8), exponent in -8_i32..8
    ) {
        let options = OptimizerOptions { clip: 0.0, eps: 1e-30, ..OptimizerOptions::default() };
        let run = |scale: f32| {
            let mut optimizer = AdamW::new(options.clone(), &[4]).unwrap();
            let mut values = [1.0_f32; 4];
            for gradient in &gradients {
                optimizer.step(&mut [&mut values], &[&gradient.map(|value| value * scale)], 1e-2).unwrap();
            }
            values
        };
        prop_assert_eq!(run(1.0), run(2.0_f32.powi(exponent)));
    }

    /// Clipping leaves a gradient of exactly the allowed length.
    #[test]
    fn clipping_is_scaling(gradient in prop::array::uniform4(-100.0_f32..100.0), clip in 0.1_f64..10.0) {
        let norm = gradient.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        prop_assume!(norm > clip);
        let options = OptimizerOptions { clip, ..OptimizerOptions::default() };
        let mut optimizer = AdamW::new(options, &[4]).unwrap();
        let report = optimizer.step(&mut [&mut [0.0; 4]], &[&gradient], 1e-3).unwrap();
        prop_assert!(report.clipped && (report.gradient_norm - norm).abs() < 1e-9);
        // After one step m = (1 − β₁)·g.
        let kept = optimizer.moments[0].first.iter().map(|value| (f64::from(*value) * 10.0).powi(2)).sum::<f64>().sqrt();
        prop_assert!((kept / clip - 1.0).abs() < 1e-6, "{} instead of {}", kept, clip);
    }
}
