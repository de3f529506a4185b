//! A comparison that is stopped anywhere goes on from where it stood, and ends with the very numbers of one that was
//! not.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use candle_core::Device;
use lcr_analysis::comparison::{CompareOptions, Comparison, Progress, compare_resumable};
use lcr_analysis::metrics::tokens::{Place, Vocabulary};
use lcr_analysis::metrics::{METRICS, Parameters};
use lcr_analysis::resume::{ResumeFile, variants_of};
use lcr_analysis::site::SiteOptions;
use lcr_formats::adapter::Adapter;
use lcr_model::decoder::{BoundAdapter, Decoder};

struct Numbers;

impl Vocabulary for Numbers {
    fn token(&self, id: u32) -> String {
        id.to_string()
    }

    fn context(&self, place: Place) -> String {
        format!("{place:?}")
    }
}

fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(case)
}

fn file(folder: &Path, variants: &[&str]) -> ResumeFile {
    ResumeFile {
        path: folder.join("standing.safetensors"),
        fingerprint: "a run".to_owned(),
        variants: variants.iter().map(ToString::to_string).collect(),
        interval: Duration::ZERO,
    }
}

/// Runs a comparison of two variants that dies after some steps; what it found, if it lived, and the steps that it
/// took.
fn run(decoder: &Decoder, file: &ResumeFile, dies_after: usize) -> (Option<Vec<Comparison>>, Vec<Progress>) {
    // The same adapter at full and at half strength.
    let variants: [BoundAdapter; 2] = [1.0, 0.5].map(|factor| {
        let mut adapter = Adapter::open(&golden("qwen3_lora_qv").join("adapter")).unwrap();
        adapter.modules.values_mut().for_each(|module| Arc::make_mut(module).scale *= factor);
        decoder.bind(adapter).unwrap()
    });
    let parameters = Parameters { subspace_dimensions: 4, seed: 0 };
    let sites = SiteOptions { metrics: METRICS.to_vec(), keep_sinks: false, parameters };
    let options = CompareOptions { sites, tracked: 4 };
    let prompts: Vec<Vec<u32>> =
        (0..4).map(|prompt| (0..12).map(|index| (index * index * 7 + prompt * 13) % 64).collect()).collect();
    let mut steps = Vec::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut report = |step| {
            steps.push(step);
            assert!(steps.len() < dies_after, "killed here");
        };
        let variants: Vec<&BoundAdapter> = variants.iter().collect();
        compare_resumable(decoder, &variants, &prompts, &Numbers, &options, Some(file), &mut report).unwrap().0
    }));
    (outcome.ok(), steps)
}

#[test]
fn a_comparison_that_dies_anywhere_goes_on_from_there() {
    let decoder = Decoder::open(&golden("qwen3_lora_qv").join("base"), Device::Cpu).unwrap();
    let names = ["first", "second"];
    let folder = tempfile::tempdir().unwrap();
    let (whole, every_step) = run(&decoder, &file(folder.path(), &names), usize::MAX);
    let whole = format!("{:?}", whole.unwrap());
    // Everything was saved at the end: a second run has nothing left to do.
    let (again, steps) = run(&decoder, &file(folder.path(), &names), usize::MAX);
    assert_eq!(format!("{:?}", again.unwrap()), whole);
    let worked = |step: &Progress| !matches!(step, Progress::Layers(done, all) if done == all);
    assert!(!steps.iter().any(worked), "{steps:?}");
    for dies_after in 1..=every_step.len() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path(), &names);
        assert!(run(&decoder, &file, dies_after).0.is_none());
        let (found, steps) = run(&decoder, &file, usize::MAX);
        assert_eq!(format!("{:?}", found.unwrap()), whole, "killed at step {dies_after}");
        // A step is told before it is saved, so the one at which the run died is taken again; layers wait for each
        // other.
        let first = every_step.iter().position(|step| Some(step) == steps.first()).unwrap();
        assert!(first + 4 >= dies_after, "killed at step {dies_after}, and went on from {first}");
    }
}

#[test]
fn the_standing_of_another_run_is_left_alone() {
    let decoder = Decoder::open(&golden("qwen3_lora_qv").join("base"), Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let own = file(folder.path(), &["first", "second"]);
    let (_, every_step) = run(&decoder, &own, usize::MAX);
    assert_eq!(variants_of(&own.path, "a run").unwrap(), ["first", "second"]);
    assert_eq!(variants_of(&own.path, "another run"), None);
    for other in
        [file(folder.path(), &["second", "first"]), ResumeFile { fingerprint: "another run".to_owned(), ..own }]
    {
        assert_eq!(run(&decoder, &other, usize::MAX).1, every_step);
    }
    let torn = std::fs::read(standing_in(folder.path())).unwrap();
    for length in [0, 7, 100, torn.len() / 2, torn.len() - 1] {
        std::fs::write(standing_in(folder.path()), &torn[..length]).unwrap();
        assert_eq!(run(&decoder, &file(folder.path(), &["first", "second"]), usize::MAX).1, every_step);
    }
}

fn standing_in(folder: &Path) -> PathBuf {
    folder.join("standing.safetensors")
}
