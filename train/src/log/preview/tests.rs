//! Whole plain outputs, and what must hold for any.

use proptest::prelude::*;

use super::*;

fn injected(tag: SegmentTag, text: &str) -> Segment {
    let token_count = text.split_whitespace().count();
    Segment {
        tag,
        source: Source::Injected,
        text: text.to_owned(),
        token_count,
        masked: true,
        pieces: vec![],
        weights: vec![],
    }
}

fn weighed(tag: SegmentTag, tokens: &[(&str, f32)]) -> Segment {
    Segment {
        tag,
        source: Source::Model,
        text: tokens.iter().map(|(piece, _)| *piece).collect(),
        token_count: tokens.len(),
        masked: false,
        pieces: tokens.iter().map(|(piece, _)| (*piece).to_owned()).collect(),
        weights: tokens.iter().map(|(_, weight)| *weight).collect(),
    }
}

fn sample() -> Vec<Segment> {
    vec![
        injected(SegmentTag::Prompt, "How much is 7 times 4?\n<think>\n"),
        injected(SegmentTag::Expert, "Seven times four is four times seven."),
        weighed(
            SegmentTag::Model,
            &[
                (" So", 3.5),
                (" I", 2.975),
                (" com", 2.5),
                ("pute", 2.1),
                (" 4", 1.8),
                ("·", 1.0),
                ("7", 0.5),
                (".\n", 0.02),
                ("Then", 0.0),
                (" done", 0.0),
            ],
        ),
        injected(SegmentTag::Opener, "\\boxed{"),
        weighed(SegmentTag::Answer, &[("28", 1.0), ("}", 1.0)]),
    ]
}

#[test]
fn plain_output_has_numbers_under_the_tokens() {
    let text = preview(&sample(), PreviewOptions { color: false, width: 40 });
    // Every number stands under the first letter of its token. The sums: Σw = 16.395, (Σw)²/Σw² = 268.80/38.25.
    let expected = [
        "prompt : How much is 7 times 4?",
        "       : <think>",
        "expert ║ Seven times four is four times",
        "       ║ seven.",
        "model  │  So  I   com╌pute",
        "       │  3.5 3.0 2.5 2.1",
        "       │  4╌╌╌·╌╌╌7╌╌╌.↵",
        "       │  1.8 1.0 0.5 ~0",
        "       │ Then done",
        "forced ┆ \\boxed{",
        "answer ┃ 28╌╌}",
        "       ┃ 1.0 1.0",
        "────────────────────────────────────────",
        "║ expert and ┆ forced: injected, without",
        "loss.",
        "The number under a token is its weight",
        "in the loss, without one it carries",
        "none; ╌ fills a token up to its number.",
        "Tokens: 7 prompt, 7 expert, 10 model, 1",
        "forced, 2 answer.",
        "Weights: sum 16.4, as much as 7.0 equal",
        "tokens.",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn color_output_has_shades_and_no_numbers() {
    let text = preview(&sample(), PreviewOptions { color: true, width: 60 });
    assert!(text.contains("\u{1b}[48;5;33;38;5;231m So\u{1b}[0m"), "the heaviest token has the last shade");
    assert!(text.contains("\u{1b}[48;5;17;38;5;231m.↵\u{1b}[0m"), "the lightest has the first");
    assert!(text.contains("│ Then done\n"), "tokens without weight have none");
    assert!(text.contains("expert ║ \u{1b}[33mSeven "));
    assert_eq!(text.matches('\u{1b}').count() % 2, 0, "every attribute is reset");
    let words: String = text.split('\u{1b}').map(|part| part.split_once('m').map_or(part, |(_, rest)| rest)).collect();
    assert!(words.contains("model  │  So I compute 4·7.↵\n"), "{words}");
}

#[test]
fn text_does_not_steer_the_terminal() {
    let hostile = "a\u{1b}[2Jb\u{7}c\rd\u{202e}e\u{9b}1mf";
    for color in [false, true] {
        let segments = [injected(SegmentTag::Expert, hostile), weighed(SegmentTag::Model, &[(hostile, 2.0)])];
        let text = preview(&segments, PreviewOptions { color, width: 100 });
        let attributes = text.matches("\u{1b}[").count();
        assert_eq!(text.matches('\u{1b}').count(), attributes);
        assert!(!text.contains("\u{1b}[2J"));
        for control in ['\u{7}', '\r', '\u{202e}', '\u{9b}'] {
            assert!(!text.contains(control), "{control:?}");
        }
    }
}

#[test]
fn a_rollout_without_weights_says_so() {
    let text = preview(&[injected(SegmentTag::Expert, "x")], PreviewOptions { color: true, width: 80 });
    assert!(text.contains("No token carries weight."));
    assert!(!text.contains("Weights:"));
    assert!(!preview(&[], PreviewOptions { color: false, width: 0 }).is_empty());
}

proptest! {
    /// No row is too wide, and nothing of the text is lost.
    #[test]
    fn rows_fit_and_keep_their_text(
        pieces in prop::collection::vec(("[ a-z漢]{1,12}\n?", 0.0_f32..4.0), 0..40),
        spoken in "[a-z漢 \n]{0,200}",
        width in 0_usize..120,
    ) {
        let tokens: Vec<(&str, f32)> = pieces.iter().map(|(piece, weight)| (piece.as_str(), *weight)).collect();
        let segments = [injected(SegmentTag::Expert, &spoken), weighed(SegmentTag::Model, &tokens)];
        let text = preview(&segments, PreviewOptions { color: false, width });
        for row in text.lines() {
            prop_assert!(layout::columns(row) <= width.max(PreviewOptions::LEAST_WIDTH), "{:?}", row);
        }
        let kept = |text: &str| text.chars().filter(|c| c.is_ascii_lowercase() || *c == '漢').collect::<String>();
        let body: String = text.lines().take_while(|row| !row.starts_with('─')).map(|row| row.chars().skip(9).collect::<String>()).collect();
        let whole: String = segments.iter().map(|segment| segment.text.as_str()).collect();
        prop_assert_eq!(kept(&body), kept(&whole));
    }
}
