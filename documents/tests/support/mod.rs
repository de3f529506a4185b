//! Audits for tests and for looking at: made up, plausible in shape and size, and the same on every run.

#![allow(dead_code, reason = "each test file uses some of these")]

use indexmap::IndexMap;
use lcr_documents::audit::{
    AdapterFacts, AttentionChange, AttentionJs, Audit, Base, Clusters, Coherence, Cosines, Coverage, Entropies,
    KlSummary, MergeSurvival, PairOf, Path, Prediction, Probes, Procrustes, RowNormChange, RowRotation, SCHEMA, Shift,
    SiteChange, Spectrum, SpectrumPair, Subspace, TokenChange, Tool, Track, Trajectories, Verdict, WeightChange,
    WorstToken,
};

/// A small generator, so that the samples need no dependency and never change.
pub(crate) struct Dice(u64);

impl Dice {
    /// Starts from a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Evenly from 0 to 1.
    pub(crate) fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Around 1, from 1 − spread to 1 + spread.
    pub(crate) fn about_one(&mut self, spread: f64) -> f64 {
        1.0 + spread * (2.0 * self.share() - 1.0)
    }
}

const KINDS: [(&str, &str); 7] = [
    ("self_attn", "q_proj"),
    ("self_attn", "k_proj"),
    ("self_attn", "v_proj"),
    ("self_attn", "o_proj"),
    ("mlp", "gate_proj"),
    ("mlp", "up_proj"),
    ("mlp", "down_proj"),
];

/// What a sample looks like.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    /// First adapted layer.
    pub(crate) from: usize,
    /// How many of the seven kinds of module are adapted.
    pub(crate) kinds: usize,
    /// Typical ‖ΔW‖/‖W‖.
    pub(crate) size: f64,
    pub(crate) tracked: usize,
}

/// Two layers, as in the golden cases.
pub(crate) fn toy() -> Audit {
    sample(Plan { layers: 2, width: 64, heads: 4, from: 0, kinds: 2, size: 0.05, tracked: 3 })
}

/// 36 layers with all seven modules adapted, as for a 4 B model.
pub(crate) fn deep() -> Audit {
    let mut audit = sample(Plan { layers: 36, width: 2560, heads: 32, from: 4, kinds: 7, size: 0.012, tracked: 6 });
    audit.coherence.write = Some(0.81);
    audit
}

/// An audit after a plan.
pub(crate) fn sample(plan: Plan) -> Audit {
    let mut dice = Dice::new(plan.layers as u64 + 7);
    let weights = weights(plan, &mut dice);
    let tensors = weights.len() * 2;
    Audit {
        schema: SCHEMA.to_owned(),
        tool: Tool { name: "lcr-audit".to_owned(), version: "0.1.0".to_owned() },
        base: Base {
            path: "models/Qwen3-4B".to_owned(),
            family: "qwen3".to_owned(),
            layers: plan.layers,
            width: plan.width,
            heads: plan.heads,
            kv_heads: plan.heads / 4,
            vocab_size: 151_936,
            parameters: 4_022_468_096,
            bytes: 8_044_936_192,
            storage_dtype: "BF16".to_owned(),
        },
        adapter: AdapterFacts {
            path: "adapters/customer-support-v3".to_owned(),
            name: "customer-support-v3".to_owned(),
            base_model: Some("Qwen/Qwen3-4B".to_owned()),
            format: "PEFT".to_owned(),
            method: "LoRA".to_owned(),
            ranks: vec![16],
            scales: vec![2.0],
            targets: KINDS[..plan.kinds].iter().map(|(_, kind)| (*kind).to_owned()).collect(),
            parameters: 33_030_144,
            bytes: 66_060_288,
            sha256: "3f0a9c1de7b24f5c8a6d90b1e2c3f4a5968778695a4b3c2d1e0f9a8b7c6d5e4f".to_owned(),
            zero_effect: false,
            coverage: Coverage {
                tensors,
                applied: tensors,
                unmatched: vec![],
                set_aside: vec![],
                vocabulary: vec![],
                targeted_without_tensors: vec![],
            },
        },
        probes: Probes {
            source: "built-in: general-32".to_owned(),
            prompts: 32,
            tokens: 2048,
            chat_template: false,
            first_positions: 32,
            sinks: IndexMap::from([("resid.4".to_owned(), 3), ("resid.5".to_owned(), 3)]),
            keep_sinks: false,
            seed: 0,
        },
        provenance: None,
        asked: None,
        weights,
        layers: layers(plan, &mut dice),
        tokens: Some(tokens(&mut dice)),
        trajectories: Some(trajectories(plan, &mut dice)),
        coherence: Coherence {
            write: Some(0.06),
            read: Some(0.05),
            chance: (2.0 / (std::f64::consts::PI * plan.width as f64)).sqrt(),
        },
        questions: IndexMap::new(),
        unanswered: Vec::new(),
        null: IndexMap::new(),
        sizes: vec![],
        findings: vec![],
        checked: None,
        verdict: Verdict::Pass,
        judgement: None,
    }
}

fn decay(first: f64, exponent: f64, count: usize, dice: &mut Dice) -> Vec<f64> {
    (1..=count).map(|index| first * (index as f64).powf(-exponent) * dice.about_one(0.03)).collect()
}

fn weights(plan: Plan, dice: &mut Dice) -> IndexMap<String, WeightChange> {
    let mut weights = IndexMap::new();
    for layer in plan.from..plan.layers {
        let depth = (layer + 1) as f64 / plan.layers as f64;
        for (index, (block, kind)) in KINDS[..plan.kinds].iter().enumerate() {
            let relative_norm =
                plan.size * (0.3 + depth.powi(2)) * dice.about_one(0.3) * (1.0 + 0.4 * (index % 3) as f64);
            let one_minus_cosine = relative_norm * relative_norm / 2.0;
            let change = WeightChange {
                shape: [plan.width, plan.width],
                kind: "lora".to_owned(),
                relative_norm: Some(relative_norm),
                spectral_ratio: Some(relative_norm * 2.4),
                cosine: 1.0 - one_minus_cosine,
                one_minus_cosine,
                rank: 16,
                stable_rank: Some(2.0 + dice.share()),
                rankme: Some(9.0 + dice.share()),
                effective_rank: Some(5.0 + dice.share()),
                top1_share: Some(0.3 + 0.2 * dice.share()),
                kurtosis: Some(3.0 + dice.share()),
                row_top8_share: Some(0.02 + 0.02 * dice.share()),
                row_rotation_deg: RowRotation {
                    mean: relative_norm.atan().to_degrees(),
                    max: relative_norm.atan().to_degrees() * 3.0,
                },
                row_norm_change: RowNormChange {
                    mean_abs: relative_norm / 10.0,
                    max_abs: relative_norm / 2.0,
                    min: -relative_norm / 3.0,
                },
                entry_change: None,
                output_overlap: Some(0.05 + 0.1 * dice.share()),
                intruder_dimensions: Some(usize::from(dice.share() > 0.9)),
                intruder_chance_cosine: (2.0 * (plan.width as f64).ln() / plan.width as f64).sqrt(),
                merge_survival: MergeSurvival {
                    cosine: Some(0.995 - 0.01 * dice.share()),
                    changed_share: (relative_norm * 20.0).min(0.97),
                },
                singular_values: decay(relative_norm * 10.0, 0.8, 16, dice),
            };
            weights.insert(format!("model.layers.{layer}.{block}.{kind}.weight"), change);
        }
    }
    weights
}

fn spectrum(width: usize, scale: f64, dice: &mut Dice) -> Spectrum {
    let mut values = decay(900.0 * scale, 0.9, 64.min(width), dice);
    values.sort_by(|left, right| right.total_cmp(left));
    Spectrum {
        rankme: Some(310.0 * scale),
        effective_rank: Some(41.0 * scale),
        participation_ratio: Some(12.0),
        stable_rank: Some(4.1),
        alpha_req: Some(1.1),
        singular_values: values,
    }
}

fn layers(plan: Plan, dice: &mut Dice) -> IndexMap<String, SiteChange> {
    let mut layers = IndexMap::new();
    for layer in 0..=plan.layers {
        for place in ["resid", "attn_out", "mlp_out"] {
            if layer == plan.layers && place != "resid" {
                continue;
            }
            let adapted =
                if place == "resid" { layer.saturating_sub(plan.from) } else { (layer + 1).saturating_sub(plan.from) };
            let depth = adapted as f64 / plan.layers as f64;
            let factor = match place {
                "resid" => 1.0,
                "attn_out" => 1.8,
                _ => 1.3,
            };
            let change = plan.size * factor * 4.0 * depth.powf(0.8) * dice.about_one(0.15);
            layers.insert(format!("{place}.{layer}"), site(plan, place, change, dice));
        }
    }
    layers
}

fn site(plan: Plan, place: &str, change: f64, dice: &mut Dice) -> SiteChange {
    let rows = 2013;
    let moved = change > 0.0;
    let one_minus_mean = change * change / 2.0;
    SiteChange {
        rows,
        relative_change: change,
        cosine: Cosines {
            mean: 1.0 - one_minus_mean,
            median: 1.0 - one_minus_mean * 0.7,
            p05: 1.0 - one_minus_mean * 3.0,
            min: 1.0 - one_minus_mean * 9.0,
            one_minus_mean,
            mean_angle_deg: change.atan().to_degrees(),
        },
        cosine_flat: 1.0 - one_minus_mean * 0.4,
        cosine_centered: 1.0 - one_minus_mean * 1.4,
        cka: Some(1.0 - one_minus_mean * 0.3),
        cka_debiased: Some(1.0 - one_minus_mean * 0.32),
        procrustes: Some(Procrustes {
            raw_squared: change * change,
            residual_squared: change * change * 0.4,
            explained: moved.then_some(0.6),
        }),
        knn_overlap: Some(1.0 - (change * 1.5).min(0.8)),
        knn_chance: Some(10.0 / (rows as f64 - 1.0)),
        subspace: Some(Subspace {
            k: 10,
            overlap: 1.0 - (change * 0.4).min(1.0),
            max_angle_deg: change.atan().to_degrees() * 3.0,
            base_gap: Some(1.04),
            adapted_gap: Some(1.05),
        }),
        spectrum: Some(SpectrumPair {
            base: spectrum(plan.width, 1.0, dice),
            adapted: spectrum(plan.width, 1.0 - change.min(0.5), dice),
            js: change * change * 0.02,
        }),
        drift: Some(Shift {
            size: change,
            coherence: moved.then_some(0.2 + 0.1 * dice.share()),
            coherence_chance: 1.0 / (rows as f64).sqrt(),
            pc1_share: moved.then_some(0.3),
        }),
        clusters: Some(Clusters { k: 8, ari: 1.0 - change.min(0.9), nmi: 1.0 - change.min(0.9) * 0.8, ceiling: 0.83 }),
        rdm_stability: None,
        attention: (place == "attn_out").then(|| AttentionChange {
            js: AttentionJs {
                mean: change * change * 0.3,
                max: (change * change * 40.0).min(0.69),
                head: (0..plan.heads).map(|_| change * change * 0.3 * dice.share().powi(2) * 3.0).collect(),
            },
        }),
    }
}

fn prediction(token: u32, text: &str, probability: f64) -> Prediction {
    Prediction { token, text: text.to_owned(), probability }
}

fn tokens(dice: &mut Dice) -> TokenChange {
    let contexts = [
        ("Question: What is the capital of Australia?\nAnswer: The capital is", " Canberra", " Sydney"),
        ("def read(path):\n    with open(path) as", " file", " f"),
        ("The patient should take two tablets every", " four", " day"),
        ("I cannot help with that request, because", " it", " the"),
        ("In 1969 the first humans landed on the", " moon", " Moon"),
        ("Please send the invoice to", " the", " our"),
    ];
    let worst = contexts.iter().enumerate().map(|(index, (context, base, adapted))| WorstToken {
        prompt: index * 3,
        position: 14 + index,
        kl: 2.7 / (index + 1) as f64 * dice.about_one(0.1),
        context: (*context).to_owned(),
        base_top: vec![
            prediction(6_301, base, 0.62),
            prediction(279, adapted, 0.11),
            prediction(264, " a", 0.04),
            prediction(311, " to", 0.02),
            prediction(13, ".", 0.01),
        ],
        adapted_top: vec![
            prediction(279, adapted, 0.55),
            prediction(6_301, base, 0.21),
            prediction(264, " a", 0.05),
            prediction(825, " one", 0.02),
            prediction(198, "\n", 0.01),
        ],
    });
    TokenChange {
        positions: 2016,
        kl: KlSummary { mean: 0.0132, p95: 0.071, max: 2.71 },
        js_mean: 0.0031,
        top1_flip_rate: 0.0427,
        entropy: Entropies { base: 2.412, adapted: 2.377 },
        worst: worst.collect(),
    }
}

fn trajectories(plan: Plan, dice: &mut Dice) -> Trajectories {
    let words = [" Canberra", " file", " four", "\n", " moon", " invoice"];
    let js_at = |layer: usize| {
        let depth = layer.saturating_sub(plan.from) as f64 / plan.layers as f64;
        0.2 * depth.powi(3)
    };
    let sites = plan.layers + 1;
    let tracked: Vec<Track> = (0..plan.tracked)
        .map(|index| {
            let way = |turn: f64| -> Vec<[f64; 2]> {
                (0..sites)
                    .map(|layer| {
                        let time = layer as f64 / plan.layers as f64;
                        let angle = index as f64 * 1.05 + time * (1.6 + turn * time);
                        let radius = 0.12 + 0.7 * time;
                        [radius * angle.cos() + 0.1, radius * angle.sin() * 0.8]
                    })
                    .collect()
            };
            let path = |plane: Vec<[f64; 2]>, commit: usize, other: bool| Path {
                commit_layer: commit,
                top: (0..sites)
                    .map(|layer| match (layer >= commit, other) {
                        (true, false) => words[index % words.len()].to_owned(),
                        (true, true) => words[(index + 1) % words.len()].to_owned(),
                        _ => [" the", "ing", " of", "abwe"][layer % 4].to_owned(),
                    })
                    .collect(),
                rank_of_final: (0..sites).map(|layer| commit.saturating_sub(layer).pow(3)).collect(),
                length: 412.0,
                net: 180.0,
                straightness: Some(0.44),
                plane,
            };
            Track {
                prompt: index * 3,
                position: 14 + index,
                text: words[index % words.len()].to_owned(),
                js: (0..sites).map(|layer| js_at(layer) * dice.about_one(0.5)).collect(),
                base: path(way(0.0), plan.layers * 3 / 4, false),
                adapted: path(way(0.25), plan.layers * 2 / 3, index % 2 == 0),
            }
        })
        .collect();
    Trajectories {
        js: (0..sites).map(js_at).collect(),
        top1_agreement: (0..sites).map(|layer| 1.0 - js_at(layer)).collect(),
        commit_layer: PairOf { base: plan.layers as f64 * 0.77, adapted: plan.layers as f64 * 0.69 },
        straightness: PairOf { base: 0.437, adapted: 0.441 },
        tracked,
    }
}

/// The next-token distributions of a sample.
pub(crate) fn tokens_of(audit: &mut Audit) -> &mut TokenChange {
    audit.tokens.as_mut().expect("samples compare next tokens")
}

/// The paths of a sample's tokens.
pub(crate) fn trajectories_of(audit: &mut Audit) -> &mut Trajectories {
    audit.trajectories.as_mut().expect("samples track tokens")
}

/// A name that would run as script, close an attribute, reorder what follows and break a line.
pub(crate) const HOSTILE: &str =
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u{202e}txt.\n</style></title>";

/// The toy audit with everything wrong that the rules know, and hostile text wherever text can come from outside.
pub(crate) fn hostile() -> Audit {
    let mut audit = toy();
    audit.adapter.name = String::from(HOSTILE);
    audit.adapter.path = String::from(HOSTILE);
    audit.base.path = String::from(HOSTILE);
    audit.base.family = String::from(HOSTILE);
    audit.adapter.targets = vec![String::from(HOSTILE)];
    audit.adapter.coverage.unmatched = vec![String::from(HOSTILE)];
    audit.adapter.coverage.targeted_without_tensors = vec![String::from(HOSTILE)];
    audit.probes.source = String::from(HOSTILE);
    audit.null.insert(String::from(HOSTILE), 0.01);
    for token in audit.tokens.iter_mut().flat_map(|tokens| &mut tokens.worst) {
        token.context = String::from(HOSTILE);
        for item in token.base_top.iter_mut().chain(&mut token.adapted_top) {
            item.text = String::from(HOSTILE);
        }
    }
    for track in audit.trajectories.iter_mut().flat_map(|trajectories| &mut trajectories.tracked) {
        track.text = String::from(HOSTILE);
        for top in track.base.top.iter_mut().chain(&mut track.adapted.top) {
            *top = String::from(HOSTILE);
        }
    }
    if let Some((_, mut change)) = audit.weights.shift_remove_index(0) {
        change.kind = String::from("whole");
        change.row_norm_change.max_abs = 3.0;
        change.intruder_dimensions = Some(7);
        change.relative_norm = Some(1.5);
        audit.weights.insert(format!("{HOSTILE}.weight"), change);
    }
    if let Some(change) = audit.weights.values_mut().next() {
        change.merge_survival.changed_share = 0.01;
        change.row_norm_change.max_abs = 1.0;
        change.row_norm_change.min = -1.0;
    }
    audit.coherence.write = Some(0.9);
    audit.coherence.read = Some(0.9);
    audit
}
