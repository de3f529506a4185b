use proptest::prelude::*;

use super::*;
use crate::audit::Depth;

fn profile(scores: &[&[(&str, f64)]]) -> Profile {
    let adapter = |(at, scores): (usize, &&[(&str, f64)])| KnownGood {
        name: format!("adapter-{at}"),
        sha256: format!("{at:064}"),
        method: "LoRA".to_owned(),
        ranks: vec![8],
        targets: vec!["q_proj".to_owned()],
        relative_norm: None,
        scores: scores.iter().map(|(name, score)| ((*name).to_owned(), *score)).collect(),
    };
    Profile {
        schema: SCHEMA.to_owned(),
        tool: Tool { name: "lcr-audit".to_owned(), version: "1".to_owned() },
        date: "2026-12-01".to_owned(),
        base: "b".to_owned(),
        probes: "p".to_owned(),
        asked: Asked {
            sets: Vec::new(),
            metrics: Vec::new(),
            max_prompts: None,
            max_tokens: 512,
            tokens: false,
            raw: false,
            keep_sinks: false,
            subspace_dimensions: 10,
            tracked: 0,
            seed: 0,
            depth: Depth::Standard,
            sweep_budget: 0,
            stack: Vec::new(),
            profile: None,
        },
        adapters: scores.iter().enumerate().map(adapter).collect(),
    }
}

fn scores(of: &[(&str, f64)]) -> IndexMap<String, f64> {
    of.iter().map(|(name, score)| ((*name).to_owned(), *score)).collect()
}

/// Of nine, none as far: 1/10; two as far: 3/10.
#[test]
fn p_is_a_rank_among_those_and_itself() {
    let all: Vec<[(&str, f64); 1]> = (1..=9).map(|score| [("constant", f64::from(score))]).collect();
    let known = profile(&all.iter().map(<[_; 1]>::as_slice).collect::<Vec<_>>());
    assert_eq!(known.p("constant", 9.5), Some(0.1));
    assert_eq!(known.p("constant", 7.5), Some(0.3));
    assert_eq!(known.p("constant", 8.0), Some(0.3), "as far counts");
    assert_eq!(known.p("erasure", 1.0), None);
    assert!((known.finest() - 0.1).abs() < 1e-12);
}

/// In `answers.math` 1 to 9, in `constant` 0.1 to 0.9: 20 is (20 − 5.5)/(1.4826 · 2.5) = 3.9 σ out in the former.
#[test]
fn the_farthest_question_stands_for_all() {
    let all: Vec<[(&str, f64); 2]> =
        (1..=9).map(|score| [("answers.math", f64::from(score)), ("constant", f64::from(score) / 10.0)]).collect();
    let known = profile(&all.iter().map(<[_; 2]>::as_slice).collect::<Vec<_>>());
    let found = known.standing(&scores(&[("answers.math", 20.0), ("constant", 0.5)])).unwrap();
    assert_eq!((found.p, found.farthest.as_str()), (0.1, "answers.math"));
    assert!((found.deviation - 14.5 / (1.4826 * 2.5)).abs() < 1e-9, "{}", found.deviation);
    let middle = known.standing(&scores(&[("answers.math", 5.0), ("constant", 0.5)])).unwrap();
    assert!(middle.p > 0.5, "{}", middle.p);
    assert_eq!(known.standing(&scores(&[("rotation", 1.0)])), None);
    assert!(known.without(&format!("{:064}", 8)).standing(&scores(&[("constant", 0.85)])).unwrap().p < 0.12);
}

/// Nine of which none erases: a whole direction is 1/0.05 = 20 σ out, beside 4.7 σ in `constant`.
#[test]
fn what_no_known_good_adapter_does_is_far_out() {
    let all: Vec<[(&str, f64); 2]> =
        (1..=9).map(|score| [("erasure", 0.0), ("constant", f64::from(score) / 10.0)]).collect();
    let known = profile(&all.iter().map(<[_; 2]>::as_slice).collect::<Vec<_>>());
    let found = known.standing(&scores(&[("erasure", 1.0), ("constant", 2.3)])).unwrap();
    assert_eq!(found.farthest, "erasure");
    assert!((found.deviation - 20.0).abs() < 1e-9, "{}", found.deviation);
}

#[test]
fn another_base_version_or_probes_are_refused() {
    let known = profile(&[&[("constant", 0.5)]]);
    let asked = known.asked.clone();
    assert!(known.fits("1", "b", "p", &asked).is_ok());
    for (version, base, probes, what) in
        [("2", "b", "p", "another version"), ("1", "c", "p", "another base"), ("1", "b", "q", "other probes")]
    {
        let refused = known.fits(version, base, probes, &asked).unwrap_err().to_string();
        assert!(refused.contains(what), "{refused}");
    }
    assert!(known.fits("1", "b", "p", &Asked { max_prompts: Some(4), ..asked.clone() }).is_err());
    assert!(known.fits("1", "b", "p", &Asked { sweep_budget: 4, ..asked }).is_ok(), "neither was swept");
}

#[test]
fn merging_counts_nobody_twice() {
    let mut one = profile(&[&[("constant", 0.5)], &[("constant", 0.6)]]);
    let two = profile(&[&[("constant", 0.5)], &[("constant", 0.6)], &[("constant", 0.7)]]);
    one.merge(two).unwrap();
    assert_eq!(one.adapters.len(), 3);
}

#[test]
fn a_file_that_is_no_profile_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("profile.json");
    let mut twice = profile(&[&[("constant", 0.5)]]);
    twice.adapters.push(twice.adapters[0].clone());
    let other = Profile { schema: "x".to_owned(), ..profile(&[]) };
    for (text, why) in [
        ("{}".to_owned(), "missing field"),
        (serde_json::to_string(&twice).unwrap(), "stands in it twice"),
        (serde_json::to_string(&other).unwrap(), "its schema is"),
    ] {
        std::fs::write(&place, text).unwrap();
        let refused = Profile::open(&place).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    std::fs::write(&place, serde_json::to_string(&profile(&[&[("constant", 0.5)]])).unwrap()).unwrap();
    let (found, digest) = Profile::open(&place).unwrap();
    assert_eq!((found.adapters.len(), digest.len()), (1, 64));
}

proptest! {
    /// Exchangeable: over which of n + 1 adapters is the one asked about, p ≤ k/(n + 1) holds for at most k of them.
    #[test]
    fn no_more_than_the_rate_is_called_far(all in prop::collection::vec((0_i32..20, 0_i32..20), 3..12)) {
        let rows: Vec<[(&str, f64); 2]> =
            all.iter().map(|(a, b)| [("one", f64::from(*a)), ("two", f64::from(*b))]).collect();
        let known = profile(&rows.iter().map(<[_; 2]>::as_slice).collect::<Vec<_>>());
        let p: Vec<f64> = known
            .adapters
            .iter()
            .map(|own| known.without(&own.sha256).standing(&own.scores).unwrap().p)
            .collect();
        for k in 1..=all.len() {
            let bound = k as f64 / all.len() as f64 + 1e-9;
            prop_assert!(p.iter().filter(|p| **p <= bound).count() <= k, "{p:?}");
        }
    }
}
