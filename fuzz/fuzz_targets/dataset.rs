//! Datasets: as lines and as one object; what is kept of them is what was promised.
#![no_main]

use lcr_fuzz::Folder;
use lcr_train::tasks::dataset::Dataset;
use lcr_answers::{Judgement, judge_text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(folder) = Folder::with(&[("d.jsonl", bytes), ("f/d.json", bytes)]) else { return };
    for name in ["d.jsonl", "f/d.json", "f"] {
        let Ok(dataset) = Dataset::open(&folder.path().join(name)) else { continue };
        assert!(!dataset.problems.is_empty(), "a dataset without a problem");
        for (index, problem) in dataset.problems.iter().enumerate() {
            assert_eq!(problem.index, index);
            assert!(!problem.prompt.trim().is_empty() && !problem.thinking.trim().is_empty());
            assert!(!problem.thinking.contains("<think>") && !problem.thinking.contains("</think>"));
            let judged = judge_text(&problem.final_text, &problem.ground_truth, &problem.accepted);
            assert_eq!(judged, Judgement::Correct, "a problem whose own answer is not right: {problem:?}");
        }
        let mut order = dataset.balanced_order(7, 1);
        order.sort_unstable();
        assert!(order.into_iter().eq(0..dataset.problems.len()), "not every problem once");
        for refused in &dataset.refused {
            assert!(!refused.reason.to_string().is_empty());
        }
    }
});
