//! The reward: the first line is the truth, the rest what a model wrote. Neither may cost more than its length allows.
#![no_main]

use lcr_fuzz::first_line;
use lcr_answers::{Boxed, Judgement, boxed, equivalent, holds_box, judge, judge_text, unbox};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (truth, text) = first_line(bytes);
    let (Ok(truth), Ok(text)) = (std::str::from_utf8(truth), std::str::from_utf8(text)) else { return };
    let judged = judge_text(text, truth, &[]);
    assert_eq!(judged, judge_text(text, truth, &[]), "two judgements differ");
    match boxed(text) {
        Boxed::Answer(given) => {
            assert_eq!(judged, judge(&given, truth, &[]));
            let verdict = equivalent(&given, truth);
            assert_eq!(verdict.is_equal(), judged == Judgement::Correct);
            let itself = equivalent(&given, &given);
            assert!(itself.is_equal() || format!("{itself:?}") == "Unusable", "an answer is not itself: {given:?}");
        }
        _ => assert_ne!(judged, Judgement::Correct, "right without an answer"),
    }
    holds_box(text);
    unbox(text);
    equivalent(text, truth);
});
