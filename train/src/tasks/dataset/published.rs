//! Published collections as they are distributed: GSM8K, MATH and SVAMP.
//!
//! Their worked solution becomes the expert's thinking, and the final text is the box alone, so that what is taught is
//! the same form for all sources.

use lcr_answers::{Boxed, Judgement, boxed, equivalent, judge, unbox};

use super::Reason;
use super::forms::{Draft, Fields, Read, finish};
use super::object::number_text;

/// The box that ends every answer.
fn final_text(truth: &str) -> String {
    format!("\\boxed{{{truth}}}")
}

/// GSM8K: `question`, and an `answer` of solution lines with calculator marks, such as `48/2 = <<48/2=24>>24`, that
/// ends in `#### 24`. The marks are removed: they are calls of a tool that the trained model does not have.
pub(super) fn gsm8k(mut fields: Fields) -> Read {
    let prompt = fields.required("question")?;
    let answer = fields.required("answer")?;
    let refuse = |problem| Err(Reason::Gsm8k { problem });
    let Some((solution, truth)) = answer.split_once("####") else {
        return refuse("does not end in `#### ` and the number");
    };
    if truth.contains("####") {
        return refuse("holds `####` twice: keep the last");
    }
    let Some(thinking) = without_marks(solution) else {
        return refuse("holds a calculator mark `<<` that does not end in `>>` on its line");
    };
    let truth = truth.trim().to_owned();
    let kind = fields.not_blank("type")?.unwrap_or_else(|| "gsm8k".to_owned());
    let draft =
        Draft { prompt, thinking, final_text: final_text(&truth), ground_truth: truth, kind, ..Draft::default() };
    finish(draft, "answer", "answer", fields)
}

/// The text without `<<…>>`; none where a mark does not end on its line.
fn without_marks(text: &str) -> Option<String> {
    let mut parts = text.split("<<");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (mark, rest) = part.split_once(">>")?;
        if mark.contains('\n') {
            return None;
        }
        result.push_str(rest);
    }
    Some(result)
}

/// MATH: `problem` and a `solution` with its answer in a box; in MATH-500 also the `answer`. The box gives the truth
/// and is replaced in the solution by its content.
pub(super) fn math(mut fields: Fields) -> Read {
    let prompt = fields.required("problem")?;
    let solution = fields.required("solution")?;
    let key = "solution";
    let content = match boxed(&solution) {
        Boxed::Answer(content) => content,
        Boxed::Missing => return Err(Reason::NoBox { key }),
        Boxed::Unclosed => return Err(Reason::Unclosed { key }),
        Boxed::Conflicting { first, second } => return Err(Reason::TwoBoxes { key, first, second }),
    };
    let truth = match fields.not_blank("answer")? {
        Some(truth) if judge(&content, &truth, &[]) == Judgement::Correct => truth,
        Some(truth) => return Err(Reason::Disagrees { boxed: content, key: "answer", truth }),
        None => content,
    };
    let subject = fields.not_blank("subject")?;
    let kind = match fields.not_blank("type")? {
        Some(kind) => kind,
        None => subject.unwrap_or_else(|| "math".to_owned()),
    };
    fields.skip(&["level", "unique_id"]);
    let thinking = unbox(&solution);
    let draft =
        Draft { prompt, thinking, final_text: final_text(&truth), ground_truth: truth, kind, ..Draft::default() };
    finish(draft, key, key, fields)
}

/// SVAMP: `Body`, `Question`, an `Equation` and its value as `Answer`. The equation, worked out, is all that there is
/// of a solution; one that does not give the answer is refused.
pub(super) fn svamp(mut fields: Fields) -> Read {
    let body = fields.required("Body")?;
    let question = fields.required("Question")?;
    let equation = fields.required("Equation")?;
    let truth = number_text(&fields.number("Answer")?);
    if !equivalent(&truth, &equation).is_equal() {
        return Err(Reason::Equation { problem: format!("`{}` does not give the answer {truth}", equation.trim()) });
    }
    let body = body.trim();
    // Where the body does not end in a full stop, the question goes on with its sentence.
    let joint = if body.ends_with(['.', '?', '!', ',']) { " " } else { ", " };
    let draft = Draft {
        prompt: format!("{body}{joint}{}", question.trim()),
        thinking: format!("{} = {truth}", plain_equation(&equation)),
        final_text: final_text(&truth),
        ground_truth: truth,
        kind: fields.not_blank("Type")?.unwrap_or_else(|| "svamp".to_owned()),
        ..Draft::default()
    };
    fields.skip(&["ID", "idx"]);
    finish(draft, "Equation", "Answer", fields)
}

/// `( ( 4.0 - 2.0 ) + 3.0 )` as `(4 - 2) + 3`.
fn plain_equation(equation: &str) -> String {
    let words: Vec<&str> = equation.split_whitespace().map(|word| word.strip_suffix(".0").unwrap_or(word)).collect();
    let inner = match words.as_slice() {
        ["(", inner @ .., ")"] if closes_last(inner) => inner,
        all => all,
    };
    inner.join(" ").replace("( ", "(").replace(" )", ")")
}

/// Whether no bracket closes that was not opened, so that the brackets around belong together.
fn closes_last(inner: &[&str]) -> bool {
    let mut depth = 0_i64;
    inner.iter().all(|word| {
        depth += i64::from(*word == "(") - i64::from(*word == ")");
        depth >= 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_go_and_what_they_stand_beside_stays() {
        assert_eq!(without_marks("48/2 = <<48/2=24>>24, $<<1+1=2>>2"), Some("48/2 = 24, $2".to_owned()));
        assert_eq!(without_marks("5 > 3"), Some("5 > 3".to_owned()));
        assert_eq!(without_marks("a <<1+1=2"), None);
        assert_eq!(without_marks("a <<1+1\n=2>>2"), None);
    }

    #[test]
    fn equations_lose_their_outer_brackets_and_points() {
        assert_eq!(plain_equation("( 290.0 / 2.0 )"), "290 / 2");
        assert_eq!(plain_equation("( ( 4.0 - 2.5 ) + 30.0 )"), "(4 - 2.5) + 30");
        assert_eq!(plain_equation("( 1.0 + 2.0 ) * ( 3.0 )"), "(1 + 2) * (3)");
        assert_eq!(plain_equation("7.0"), "7");
    }
}
