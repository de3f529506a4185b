//! Policies: read, then every check judged under what they say.
#![no_main]

use std::sync::LazyLock;

use lcr_fuzz::outputs;
use lcr_gate::policy::Policy;
use lcr_gate::{Provenance, ScannedAdapter, judge};
use lcr_scan::{Check, FileRecord, Observation, Scan};
use libfuzzer_sys::fuzz_target;

/// One observation of every check, with and without a number.
static SEEN: LazyLock<Vec<Observation>> = LazyLock::new(|| {
    let plain = Check::ALL.iter().map(|check| Observation::new(*check, "adapter_model.bin", "seen"));
    let measured = plain.clone().map(|seen| seen.at("lm_head.weight").measured(9.0));
    plain.chain(measured).collect()
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let parsed = Policy::parse("lcr-audit.toml", text);
    let Ok(policy) = parsed else {
        // A refusal can be shown.
        assert!(!parsed.map(|_| ()).expect_err("a refusal").to_string().is_empty());
        return;
    };
    policy.allows_base_model("Qwen/Qwen3-8B");
    let files = vec![FileRecord { path: "adapter_model.bin".to_owned(), bytes: 20, sha256: "0".repeat(64) }];
    let subject = |path: &str| ScannedAdapter {
        path: path.to_owned(),
        scan: Scan {
            files: files.clone(),
            sha256: "1".repeat(64),
            adapter: None,
            weights: Default::default(),
            observations: SEEN.clone(),
        },
        audit: None,
        not_compared: None,
        error: None,
    };
    let pins = Provenance { date: "2026-02-28".to_owned(), ..Provenance::default() };
    let report = judge(vec![subject("adapters/a"), subject("experiments/b")], &policy, pins);
    assert_eq!(report.verdict, report.concluded());
    outputs::check(&report);
});
