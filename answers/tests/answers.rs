//! Comparison of answers against a table written from mathematical knowledge, against answers of published problems,
//! and against arbitrary text.

use lcr_answers::{Boxed, Invalid, Judgement, MAX_ANSWER_BYTES, Verdict, boxed, equivalent, judge, judge_text, unbox};
use proptest::prelude::*;
use serde::Deserialize;

/// A line of the table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    given: String,
    truth: String,
    #[serde(default)]
    accepted: Vec<String>,
    equal: bool,
    why: String,
    /// The exchanged pair has another verdict: one side is arithmetic left undone.
    #[serde(default)]
    one_way: bool,
}

fn pairs() -> Vec<Pair> {
    let lines = include_str!("data/answer_pairs.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

#[test]
fn the_table_holds() {
    let pairs = pairs();
    assert!(pairs.len() >= 220);
    let wrong: Vec<String> = pairs
        .iter()
        .filter(|pair| (judge(&pair.given, &pair.truth, &pair.accepted) == Judgement::Correct) != pair.equal)
        .map(|pair| format!("{} | {} | expected {} ({})", pair.given, pair.truth, pair.equal, pair.why))
        .collect();
    assert!(wrong.is_empty(), "{} pairs:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn equality_is_symmetric_but_for_undone_arithmetic() {
    for pair in pairs().iter().filter(|pair| pair.accepted.is_empty() && !pair.given.is_empty()) {
        let there = equivalent(&pair.given, &pair.truth).is_equal();
        let back = equivalent(&pair.truth, &pair.given).is_equal();
        assert_eq!(there == back, !pair.one_way, "{} | {}", pair.given, pair.truth);
    }
}

#[test]
fn every_answer_is_itself() {
    for pair in pairs() {
        for text in [&pair.given, &pair.truth] {
            if text.len() <= MAX_ANSWER_BYTES && equivalent("1", text) != Verdict::Unusable {
                assert!(equivalent(text, text).is_equal(), "{text}");
            }
        }
    }
}

#[test]
fn a_box_decides_and_its_absence_is_no_wrong_answer() {
    let judge = |text: &str| judge_text(text, "72", &[]);
    assert_eq!(judge(r"So the answer is \boxed{72}."), Judgement::Correct);
    assert_eq!(judge(r"\boxed{71}"), Judgement::Wrong);
    assert_eq!(judge(r"\boxed{72} or \boxed{71}"), Judgement::Wrong);
    assert_eq!(judge(r"\boxed{71} or \boxed{72}"), Judgement::Wrong);
    assert_eq!(judge(r"\boxed{72}, that is \boxed{72.0}"), Judgement::Correct);
    assert_eq!(judge(r"\boxed{7\boxed{2}}"), Judgement::Correct);
    assert_eq!(judge(r"\boxed{\boxed{7}\boxed{2}}"), Judgement::Wrong);
    assert_eq!(judge(r"72"), Judgement::Invalid(Invalid::NoBox));
    assert_eq!(judge(r"\boxed{72"), Judgement::Invalid(Invalid::Unclosed));
    assert_eq!(judge("I was told to write \"\\boxed{72}\"."), Judgement::Invalid(Invalid::NoBox));
    assert_eq!(judge(r"\boxed{}"), Judgement::Wrong);
    let many: Vec<String> = (0..100).map(|number| format!(r"\boxed{{{number}}}")).collect();
    assert_eq!(judge(&many.concat()), Judgement::Wrong);
    let spellings: Vec<String> = (0..100).map(|zeros| format!(r"\boxed{{72.{}}}", "0".repeat(zeros))).collect();
    assert_eq!(judge(&spellings.concat()), Judgement::Wrong);
}

#[test]
fn a_truth_that_cannot_be_used_is_said_so() {
    for truth in ["", "  ", "$$", r"\left\right", "."] {
        assert_eq!(judge("5", truth, &[]), Judgement::Invalid(Invalid::Truth), "{truth}");
    }
    assert_eq!(judge("5", &"5".repeat(MAX_ANSWER_BYTES + 1), &[]), Judgement::Invalid(Invalid::Truth));
    assert_eq!(judge("5", "6", &[String::new()]), Judgement::Invalid(Invalid::Truth));
    assert_eq!(judge("5", "5", &[String::new()]), Judgement::Correct);
    assert_eq!(Judgement::Invalid(Invalid::Truth).reward(), 0.0);
}

/// Text made to be expensive: nesting, sets of sets, powers, fractions, long lists, at the full length.
#[test]
fn hostile_answers_take_bounded_time() {
    let filled = |piece: &str| piece.repeat(MAX_ANSWER_BYTES / piece.len());
    let nested = |open: &str, close: &str| {
        let depth = (MAX_ANSWER_BYTES - 1) / (open.len() + close.len());
        format!("{}1{}", open.repeat(depth), close.repeat(depth))
    };
    let shallow = |open: &str, close: &str| format!("{}1{}", open.repeat(40), close.repeat(40));
    let mut texts: Vec<String> = [
        "(", "{", "\\{", "\\frac", "\\frac1", "2^", "x^2", "1,", "\\{1,", "-", "±", "a*", "(a+b)", "1+", "\\sqrt",
        "sin",
    ]
    .into_iter()
    .map(filled)
    .collect();
    for (open, close) in [
        ("(", ")"),
        ("{", "}"),
        ("\\{", "\\}"),
        ("\\{1,", "\\}"),
        ("2\\frac{1}{", "}"),
        ("(2^", ")"),
        ("\\sqrt{", "}"),
        ("(1,", ")"),
        ("x=(", ")"),
        ("\\sin(", ")"),
    ] {
        texts.push(nested(open, close));
        texts.push(shallow(open, close));
    }
    // Exponential work would take years: that this ends is what is tested.
    for left in &texts {
        for right in &texts {
            let verdict = equivalent(left, right);
            assert!(left != right || verdict.is_equal(), "{left}");
        }
    }
    for piece in
        ["\\boxed{", "\\boxed", "\\boxed{1}", "\"\\boxed{1}\"", "`", "\\boxed 1", "\\boxed      ", "{", "}", "```\n"]
    {
        let text = piece.repeat(200_000 / piece.len());
        let _ = boxed(&text);
        assert!(unbox(&text).len() <= text.len());
    }
}

/// Pieces that answers are made of, so that random text reaches beyond the first character of the grammar.
fn answer_like() -> impl Strategy<Value = String> {
    let pieces = [
        "1",
        "2",
        "0",
        "7",
        "12",
        "1,000",
        "0.5",
        ".",
        ",",
        "+",
        "-",
        "*",
        "/",
        "^",
        "_",
        "=",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "\\{",
        "\\}",
        "\\frac",
        "\\frac12",
        "\\frac{1}{2}",
        "\\sqrt",
        "\\sqrt[3]",
        "\\pi",
        "\\pm",
        "\\infty",
        "x",
        "y",
        "i",
        "cm",
        " apples",
        "\\text{",
        "\\text{ cm}",
        " and ",
        " or ",
        "\\cup",
        "\\in",
        "%",
        "\\%",
        "$",
        "\\$",
        "^\\circ",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "&",
        "\\\\",
        " ",
        "\\left",
        "\\right",
        "\\!",
        "\\,",
        "e5",
        "e-3",
        "sin",
        "\\log",
        "million",
        "(B)",
        "½",
        "²",
        "∞",
        "\\",
        "\\boxed{",
        "\\mathrm{",
        "~",
        ";",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..24).prop_map(|pieces| pieces.concat())
}

/// Numbers in ordinary notation, with nothing left to do.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        (-2000_i32..2000).prop_map(|value| value.to_string()),
        (-2000_i32..2000, 1_i32..60).prop_map(|(top, bottom)| format!("\\frac{{{top}}}{{{bottom}}}")),
        (-2000_i32..2000, 1_i32..60).prop_map(|(top, bottom)| format!("{top}/{bottom}")),
        (-2000_i32..2000).prop_map(|value| format!("{}", f64::from(value) / 8.0)),
    ]
}

fn value(text: &str) -> f64 {
    let plain = text.replace("\\frac{", "").replace("}{", "/").replace('}', "");
    let mut parts = plain.split('/').map(|part| part.parse::<f64>().expect("a number"));
    let first = parts.next().expect("one part");
    parts.next().map_or(first, |second| first / second)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing panics, and an answer that can be a truth is equal to itself.
    #[test]
    fn arbitrary_text_is_judged(left in any::<String>(), right in any::<String>()) {
        let _ = equivalent(&left, &right);
        let _ = boxed(&left);
        let usable = equivalent("1", &left) != Verdict::Unusable;
        prop_assert_eq!(equivalent(&left, &left).is_equal(), usable);
    }

    #[test]
    fn text_of_familiar_pieces_is_judged(left in answer_like(), right in answer_like()) {
        let _ = equivalent(&left, &right);
        let _ = boxed(&left);
        let usable = equivalent("1", &left) != Verdict::Unusable;
        prop_assert_eq!(equivalent(&left, &left).is_equal(), usable, "{}", left);
    }

    /// What is put into a box comes out of it, whatever balanced text it is.
    #[test]
    fn a_box_gives_back_what_was_put_in(before in "[a-z .]{0,20}", content in "[a-z0-9+=., ]{0,30}") {
        prop_assert_eq!(boxed(&format!("{before}\\boxed{{{content}}}")), Boxed::Answer(content.trim().to_owned()));
    }

    /// Against arithmetic in doubles: equal values are equal answers and others are not, in both directions.
    #[test]
    fn numbers_compare_by_value(left in number(), right in number()) {
        let (there, back) = (equivalent(&left, &right).is_equal(), equivalent(&right, &left).is_equal());
        prop_assert_eq!(there, back);
        let (first, second) = (value(&left), value(&right));
        // Different fractions with these denominators are at least 1/(60·60) apart, far beyond any tolerance.
        prop_assert_eq!(there, (first - second).abs() < 1e-9 * first.abs().max(1.0), "{} {}", left, right);
    }

    /// Adding what carries no meaning changes nothing.
    #[test]
    fn decoration_carries_no_meaning(plain in number()) {
        for decorated in [
            format!("${plain}$"), format!("\\left({plain}\\right)"), format!("x = \
                {plain}"), format!("{plain}\\text{{ cm}}"),
            format!(" {plain} ."), format!("{{{plain}}}"), format!("{plain}\\;"), format!("+{plain}").replace("+-", "-"),
        ] {
            prop_assert!(equivalent(&decorated, &plain).is_equal(), "{}", decorated);
            prop_assert!(equivalent(&plain, &decorated).is_equal(), "{}", decorated);
        }
    }
}
