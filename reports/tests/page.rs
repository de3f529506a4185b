//! The page and the figures: self-contained, small, safe, and indifferent to what an audit lacks.

#[path = "../../documents/tests/support/mod.rs"]
mod support;

use lcr_documents::audit::{Audit, Coherence, Spectrum};
use lcr_gate::judge_numbers;
use lcr_gate::policy::Policy;
use lcr_reports::{html, index_of_many, write_figures};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

/// The page of a judged audit.
fn page(mut audit: Audit) -> String {
    judge_numbers(&mut audit, &Policy::default());
    html::page(&audit).unwrap()
}

/// Nothing that a browser would load, and no number that is none.
fn assert_sound(page: &str) {
    let without_namespace = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for forbidden in ["http://", "https://", "<link", "@import", "url(", "src=\"", "NaN", "<img", "<iframe"] {
        // The script names NaN where it sorts missing numbers to the end.
        let body = without_namespace.split("<script>").next().unwrap();
        let around = body.split(forbidden).next().filter(|before| before.len() < body.len());
        let around: Option<String> =
            around.map(|before| before.chars().rev().take(120).collect::<Vec<_>>().iter().rev().collect());
        assert_eq!(around, None, "the page contains {forbidden}");
    }
}

#[test]
fn hostile_text_is_text() {
    let mut audit = support::hostile();
    judge_numbers(&mut audit, &Policy::default());
    let page = html::page(&audit).unwrap();
    assert_eq!(page.matches("<script>").count(), 1, "only the page's own script");
    assert!(!page.contains("<img"));
    assert!(!page.contains('\u{202e}'), "marks that reorder text are spelled out");
    assert!(page.contains("&lt;script&gt;"));
    assert_eq!(page.matches("</style>").count(), 1);
    assert_sound(&page);
    let many = index_of_many(&[("a/../javascript:alert(1)\"", &audit)], "the built-in policy").unwrap();
    assert_eq!(many.matches("<script>").count(), 1);
    assert!(many.contains("href=\"./a/../javascript%3Aalert%281%29%22/index.html\""));
}

#[test]
fn a_page_of_36_layers_stays_under_two_mebibytes() {
    let mut audit = support::sample(support::Plan {
        layers: 36,
        width: 2560,
        heads: 32,
        from: 0,
        kinds: 7,
        size: 0.012,
        tracked: 8,
    });
    let worst = &mut support::tokens_of(&mut audit).worst;
    *worst = worst.iter().cycle().take(20).cloned().collect();
    assert_eq!(audit.weights.len(), 252);
    let page = page(audit);
    assert!(page.len() <= 2 << 20, "{} bytes", page.len());
    assert_sound(&page);
}

#[test]
fn near_one_is_never_printed_as_one() {
    let mut audit = support::toy();
    for site in audit.layers.values_mut() {
        site.cosine.mean = 0.999_999_999;
        site.cosine.one_minus_mean = 1e-9;
        site.cosine_flat = 0.999_999_999;
        site.cka = Some(0.999_999_999);
    }
    let page = page(audit);
    assert!(!page.contains("0.99999"));
    assert!(page.contains("1.0e-9"));
}

#[test]
fn what_was_not_checked_says_so() {
    let page = page(support::toy());
    assert!(page.contains("<b>files</b> not checked"), "the numbers alone were judged");
    assert!(page.contains("NO OBJECTION <small>to weights</small>"));
    assert!(!page.contains("not measured</i>"), "no row for what nobody measured");
}

/// Nothing is obeyed but the one style sheet and the one script, known by their digests.
#[test]
fn only_its_own_style_and_script_are_obeyed() {
    let mut audit = support::hostile();
    judge_numbers(&mut audit, &Policy::default());
    let many = index_of_many(&[("one", &audit)], "the built-in policy").unwrap();
    for page in [html::page(&audit).unwrap(), many] {
        let policy = between(&page, "http-equiv=\"Content-Security-Policy\" content=\"", "\"");
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
        for (directive, tag) in [("style-src", "style"), ("script-src", "script")] {
            let content = between(&page, &format!("<{tag}>"), &format!("</{tag}>"));
            assert!(policy.contains(&format!("{directive} 'sha256-{}';", digest_in_base64(content))), "{policy}");
        }
        let body = page.split("<body>").nth(1).unwrap().split("<script>").next().unwrap();
        // What stands in a tag outside of quotes is names of attributes.
        let tags = body.split('<').skip(1).filter_map(|tag| tag.split('>').next());
        let names: String = tags.flat_map(|tag| tag.split('"').step_by(2)).collect();
        assert!(!names.contains(" style=") && !names.contains(" on"), "an inline style or handler");
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split(start).nth(1).and_then(|rest| rest.split(end).next()).unwrap()
}

/// Base64 by its definition, not by the page's own: six bits at a time of one long binary number.
fn digest_in_base64(content: &str) -> String {
    let bits: String = Sha256::digest(content).iter().map(|byte| format!("{byte:08b}")).collect::<Vec<_>>().concat();
    let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let digit = |six: &[u8]| alphabet[usize::from_str_radix(std::str::from_utf8(six).unwrap(), 2).unwrap()];
    (bits + "00").as_bytes().chunks(6).map(digit).chain(['=']).collect()
}

#[test]
fn several_adapters_are_ranked_and_linked() {
    let mut bad = support::hostile();
    bad.adapter.name = String::from("bad");
    judge_numbers(&mut bad, &Policy::default());
    let mut good = support::toy();
    good.adapter.name = String::from("good");
    judge_numbers(&mut good, &Policy::default());
    let page = index_of_many(&[("one", &good), ("sub folder/two", &bad)], "the built-in policy").unwrap();
    assert!(page.contains("href=\"./one/index.html\""));
    assert!(page.contains("href=\"./sub%20folder/two/index.html\""));
    assert!(page.find(">bad<").unwrap() < page.find(">good<").unwrap(), "the worst verdict first");
    assert!(index_of_many(&[], "the built-in policy").is_ok());
}

/// No layers, one layer, nothing tracked, nothing adapted, nothing but `None`.
#[test]
fn degenerate_audits_are_drawn() {
    let bare = |mut audit: Audit| {
        audit.weights.clear();
        audit.layers.clear();
        let tokens = support::tokens_of(&mut audit);
        tokens.positions = 0;
        tokens.worst.clear();
        let trajectories = support::trajectories_of(&mut audit);
        trajectories.js.clear();
        trajectories.top1_agreement.clear();
        trajectories.tracked.clear();
        audit.coherence = Coherence::default();
        audit.adapter.ranks.clear();
        audit
    };
    let single =
        support::sample(support::Plan { layers: 1, width: 8, heads: 1, from: 0, kinds: 1, size: 0.0, tracked: 1 });
    for audit in [bare(support::toy()), single, emptied(support::toy()), nothing_asked_for(support::toy())] {
        let folder = tempfile::tempdir().unwrap();
        write_figures(&audit, folder.path()).unwrap();
        assert_sound(&page(audit));
    }
}

#[test]
fn figures_without_numbers_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut audit = support::toy();
    assert_eq!(write_figures(&audit, folder.path()).unwrap().len(), 7);
    let trajectories = support::trajectories_of(&mut audit);
    trajectories.tracked.clear();
    trajectories.js.clear();
    let left: Vec<String> =
        write_figures(&audit, folder.path()).unwrap().iter().map(|figure| figure.file.display().to_string()).collect();
    assert_eq!(left.len(), 5, "{left:?}");
}

/// Every `Option` of the audit is `None`: what a run with `--metrics` for one cheap metric leaves.
fn nothing_asked_for(mut audit: Audit) -> Audit {
    audit = emptied(audit);
    for weight in audit.weights.values_mut() {
        weight.relative_norm = None;
        weight.spectral_ratio = None;
    }
    for site in audit.layers.values_mut() {
        site.procrustes = None;
        site.subspace = None;
        site.spectrum = None;
        site.drift = None;
        site.clusters = None;
        site.attention = None;
    }
    audit.tokens = None;
    audit.trajectories = None;
    audit.coherence = Coherence::default();
    audit
}

#[test]
fn what_was_not_asked_for_is_named_and_not_drawn() {
    let full = page(support::toy());
    assert!(full.contains("Eigenspectra") && !full.contains("not computed in this run"));
    let audit = nothing_asked_for(support::toy());
    let folder = tempfile::tempdir().unwrap();
    let figures = write_figures(&audit, folder.path()).unwrap();
    let drawn: Vec<_> = figures.iter().filter_map(|figure| figure.file.file_name()?.to_str()).collect();
    assert_eq!(drawn, ["activations.png", "depth.png"]);
    let page = page(audit);
    assert_sound(&page);
    assert!(!page.contains("Eigenspectra") && !page.contains("Dimensions in use"));
    for missing in [
        "Next-token distributions: not computed in this run",
        "Paths of single tokens: not computed in this run",
        "Attention patterns: not computed in this run",
        "Not computed, or undefined in every row: 1 − CKA, 1 − CKA, debiased, Procrustes, before",
    ] {
        assert!(page.contains(missing), "{missing}");
    }
    let mut without_weights = support::toy();
    without_weights.weights.clear();
    let page = self::page(without_weights);
    assert!(page.contains("No weight matrix was compared"), "and not that none changes");
    assert!(!page.contains("changes no weight"));
}

/// One metric asked for: its column stands, the others do not.
#[test]
fn a_single_metric_has_its_column() {
    let mut audit = nothing_asked_for(support::toy());
    for site in audit.layers.values_mut() {
        site.knn_overlap = Some(0.625);
    }
    let page = page(audit);
    assert!(page.contains(">neighbours kept</th>") && page.contains(">0.625</td>"));
    assert!(!page.contains(">subspace lost</th>"));
}

#[test]
fn an_adapter_without_effect_says_so_first() {
    let mut audit = support::toy();
    audit.adapter.zero_effect = true;
    for weight in audit.weights.values_mut() {
        weight.relative_norm = Some(0.0);
    }
    let page = page(audit);
    let said = page.find("The adapter changes nothing").unwrap();
    assert!(said < page.find("next token").unwrap());
}

#[test]
fn weights_stand_in_running_order() {
    let page = page(support::deep());
    let at = |name: &str| page.find(&format!(">{name}</td>")).unwrap_or_else(|| panic!("{name}"));
    assert!(at("9.mlp.down_proj") < at("10.self_attn.q_proj"));
    assert!(at("10.self_attn.v_proj") < at("10.self_attn.o_proj"));
}

/// Every list empty, no rows, no number within a metric.
fn emptied(mut audit: Audit) -> Audit {
    for weight in audit.weights.values_mut() {
        weight.stable_rank = None;
        weight.rankme = None;
        weight.effective_rank = None;
        weight.top1_share = None;
        weight.kurtosis = None;
        weight.row_top8_share = None;
        weight.output_overlap = None;
        weight.intruder_dimensions = None;
        weight.merge_survival.cosine = None;
        weight.singular_values.clear();
    }
    for site in audit.layers.values_mut() {
        site.rows = 0;
        site.cka = None;
        site.cka_debiased = None;
        if let Some(procrustes) = &mut site.procrustes {
            procrustes.explained = None;
        }
        site.knn_overlap = None;
        site.knn_chance = None;
        if let Some(subspace) = &mut site.subspace {
            subspace.base_gap = None;
            subspace.adapted_gap = None;
        }
        for spectrum in site.spectrum.iter_mut().flat_map(|pair| [&mut pair.base, &mut pair.adapted]) {
            *spectrum = Spectrum {
                rankme: None,
                effective_rank: None,
                participation_ratio: None,
                stable_rank: None,
                alpha_req: None,
                singular_values: vec![],
            };
        }
        if let Some(drift) = &mut site.drift {
            drift.coherence = None;
            drift.pc1_share = None;
        }
        site.clusters = None;
        site.attention = None;
    }
    for track in &mut support::trajectories_of(&mut audit).tracked {
        track.js.clear();
        track.adapted.top.clear();
        track.base.rank_of_final.clear();
        track.base.plane.clear();
        track.adapted.straightness = None;
    }
    support::trajectories_of(&mut audit).js.clear();
    audit.coherence.write = None;
    audit
}

/// Numbers as they may come out of a broken or hostile run.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -2.0..2.0f64,
        2 => any::<f64>(),
        1 => Just(0.0),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::MIN_POSITIVE),
        1 => Just(f64::MAX),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the numbers are, the page and the figures are made, and say nothing that is no number.
    #[test]
    fn any_numbers_are_drawn(
        numbers in proptest::collection::vec(number(), 24),
        names in proptest::collection::vec(".{0,40}", 4),
        layers in 0usize..4,
        empty in any::<bool>(),
    ) {
        let mut audit = support::sample(support::Plan {
            layers, width: 8, heads: 4, from: 0, kinds: 7, size: 0.1, tracked: 2,
        });
        if empty {
            audit = emptied(audit);
        }
        let mut next = numbers.iter().copied().cycle();
        let mut fill = |target: &mut f64| *target = next.next().unwrap_or(0.0);
        for weight in audit.weights.values_mut() {
            weight.relative_norm.as_mut().map(&mut fill);
            fill(&mut weight.row_norm_change.min);
            fill(&mut weight.cosine);
            fill(&mut weight.row_norm_change.max_abs);
            fill(&mut weight.row_norm_change.mean_abs);
            fill(&mut weight.merge_survival.changed_share);
        }
        for site in audit.layers.values_mut() {
            fill(&mut site.relative_change);
            fill(&mut site.cosine.one_minus_mean);
            site.cka.as_mut().map(&mut fill);
            if let Some(spectrum) = &mut site.spectrum {
                fill(&mut spectrum.js);
                spectrum.base.singular_values.iter_mut().for_each(&mut fill);
            }
            if let Some(attention) = &mut site.attention {
                attention.js.head.iter_mut().for_each(&mut fill);
            }
        }
        for track in &mut support::trajectories_of(&mut audit).tracked {
            track.base.plane.iter_mut().flatten().for_each(&mut fill);
            track.js.iter_mut().for_each(&mut fill);
            track.text.clone_from(&names[0]);
        }
        let tokens = support::tokens_of(&mut audit);
        fill(&mut tokens.kl.mean);
        fill(&mut tokens.top1_flip_rate);
        fill(&mut tokens.entropy.base);
        fill(&mut audit.coherence.chance);
        audit.adapter.name.clone_from(&names[1]);
        if let Some((_, change)) = audit.weights.shift_remove_index(0) {
            audit.weights.insert(names[2].clone(), change);
        }
        if let Some((_, change)) = audit.layers.shift_remove_index(0) {
            audit.layers.insert(format!("resid.{}", usize::MAX), change);
        }
        judge_numbers(&mut audit, &Policy::default());
        assert_sound_numbers(&html::page(&audit).unwrap());
        let folder = tempfile::tempdir().unwrap();
        write_figures(&audit, folder.path()).unwrap();
    }
}

/// Coordinates and cells hold no NaN and no infinity.
fn assert_sound_numbers(page: &str) {
    let body = page.split("<script>").next().unwrap();
    for forbidden in ["=\"NaN", "=\"inf", "=\"-inf", "-inf", "NaN,", ",NaN", ">NaN<", ">inf<"] {
        let around = body.split(forbidden).next().filter(|before| before.len() < body.len());
        let around: Option<String> =
            around.map(|before| before.chars().rev().take(120).collect::<Vec<_>>().iter().rev().collect());
        assert_eq!(around, None, "the page contains {forbidden}");
    }
}
