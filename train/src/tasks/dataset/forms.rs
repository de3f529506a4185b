//! The forms of a problem: what each key becomes.

use lcr_answers::{Boxed, Invalid, Judgement, boxed, holds_box, judge, unbox};
use serde_json::{Map, Number, Value};

use super::object::name;
use super::published::{gsm8k, math, svamp};
use super::{Problem, Reason};

/// Opens the thinking.
const OPEN: &str = "<think>";
/// Closes it.
const CLOSE: &str = "</think>";

/// A problem, and remarks on how it was read.
pub(super) type Read = Result<(Problem, Vec<String>), Reason>;

/// A problem before it is checked, without its place in the file.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) prompt: String,
    pub(super) system: Option<String>,
    pub(super) thinking: String,
    pub(super) final_text: String,
    pub(super) ground_truth: String,
    pub(super) accepted: Vec<String>,
    pub(super) kind: String,
}

/// The object's keys, taken one by one; what is left over is noted.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Whether a key is there and not null.
    fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|value| !value.is_null())
    }

    /// A text that may be missing.
    fn optional(&mut self, key: &'static str) -> Result<Option<String>, Reason> {
        match self.0.shift_remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(Reason::WrongType { key, found: name(&other), expected: "a text" }),
        }
    }

    /// A text that must be there and not be blank.
    pub(super) fn required(&mut self, key: &'static str) -> Result<String, Reason> {
        let text = self.optional(key)?.ok_or(Reason::Missing { key })?;
        if text.trim().is_empty() { Err(Reason::Blank { key }) } else { Ok(text) }
    }

    /// A text that, where it is there, is not blank.
    pub(super) fn not_blank(&mut self, key: &'static str) -> Result<Option<String>, Reason> {
        if self.has(key) { self.required(key).map(Some) } else { self.optional(key) }
    }

    /// A list of texts; none where it is missing.
    fn texts(&mut self, key: &'static str) -> Result<Vec<String>, Reason> {
        let values = match self.0.shift_remove(key) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(other) => return Err(Reason::WrongType { key, found: name(&other), expected: "a list of texts" }),
        };
        values
            .into_iter()
            .map(|value| match value {
                Value::String(text) if text.trim().is_empty() => Err(Reason::Blank { key }),
                Value::String(text) => Ok(text),
                _ => Err(Reason::WrongType { key, found: "a list with other values", expected: "a list of texts" }),
            })
            .collect()
    }

    /// A number.
    pub(super) fn number(&mut self, key: &'static str) -> Result<Number, Reason> {
        match self.0.shift_remove(key) {
            None | Some(Value::Null) => Err(Reason::Missing { key }),
            Some(Value::Number(number)) => Ok(number),
            Some(other) => Err(Reason::WrongType { key, found: name(&other), expected: "a number" }),
        }
    }

    /// Passes over keys that are known and say nothing about how to solve or judge the problem.
    pub(super) fn skip(&mut self, keys: &[&str]) {
        for key in keys {
            self.0.shift_remove(*key);
        }
    }

    /// Remarks on the keys that nothing reads.
    fn unread(self) -> impl Iterator<Item = String> {
        self.0.into_iter().map(|(key, _)| format!("the key `{key}` means nothing here and was not read"))
    }
}

/// The problem of one object.
pub(super) fn problem(object: Map<String, Value>) -> Read {
    let fields = Fields(object);
    if fields.has("prompt") {
        own(fields)
    } else if fields.has("question") && fields.has("answer") {
        gsm8k(fields)
    } else if fields.has("problem") && fields.has("solution") {
        math(fields)
    } else if fields.has("Body") && fields.has("Question") {
        svamp(fields)
    } else {
        let keys: Vec<String> = fields.0.keys().take(12).map(|key| format!("`{key}`")).collect();
        Err(Reason::UnknownForm { keys: keys.join(", ") })
    }
}

/// Our own form.
fn own(mut fields: Fields) -> Read {
    let prompt = fields.required("prompt")?;
    let (thinking, final_text, key) = if fields.has("answer") {
        for second in ["thinking", "final"] {
            if fields.has(second) {
                return Err(Reason::Both { first: "answer", second });
            }
        }
        let (thinking, final_text) = split(&fields.required("answer")?)?;
        (thinking, final_text, "answer")
    } else if fields.has("thinking") || fields.has("final") {
        (fields.required("thinking")?, fields.required("final")?, "final")
    } else {
        return Err(Reason::Missing { key: "answer" });
    };
    let draft = Draft {
        prompt,
        system: fields.optional("system")?,
        thinking,
        final_text,
        ground_truth: fields.required("ground_truth")?,
        accepted: fields.texts("possible_answers")?,
        kind: fields.not_blank("type")?.unwrap_or_else(|| "untyped".to_owned()),
    };
    finish(draft, key, "ground_truth", fields)
}

/// Thinking and the rest of `<think>…</think>…`.
fn split(answer: &str) -> Result<(String, String), Reason> {
    let refuse = |problem| Err(Reason::Tags { key: "answer", problem });
    let Some(rest) = answer.trim_start().strip_prefix(OPEN) else {
        return refuse("does not begin with `<think>`: write `<think>…</think>` and then the box");
    };
    match rest.split_once(CLOSE) {
        Some((thinking, final_text)) => Ok((thinking.to_owned(), final_text.to_owned())),
        None => refuse("never closes its thinking: write `</think>` before the box"),
    }
}

/// Checks what is promised of every problem, whatever its form; `answer_key` holds the worked answer and `truth_key`
/// the truth.
pub(super) fn finish(draft: Draft, answer_key: &'static str, truth_key: &'static str, fields: Fields) -> Read {
    let mut notes: Vec<String> = fields.unread().collect();
    let Draft { prompt, system, thinking, final_text, ground_truth, accepted, kind } = draft;
    for text in [&thinking, &final_text] {
        if text.contains(OPEN) || text.contains(CLOSE) {
            return Err(Reason::Tags {
                key: answer_key,
                problem: "holds a further `<think>` or `</think>`: keep one pair",
            });
        }
    }
    let thinking = without_boxes(&thinking, answer_key, &mut notes)?;
    if thinking.is_empty() {
        return Err(Reason::Blank { key: "thinking" });
    }
    let final_text = final_text.trim().to_owned();
    let given = match boxed(&final_text) {
        Boxed::Answer(given) => given,
        Boxed::Missing => return Err(Reason::NoBox { key: answer_key }),
        Boxed::Unclosed => return Err(Reason::Unclosed { key: answer_key }),
        Boxed::Conflicting { first, second } => return Err(Reason::TwoBoxes { key: answer_key, first, second }),
    };
    match judge(&given, &ground_truth, &accepted) {
        Judgement::Correct => {}
        Judgement::Invalid(Invalid::Truth) => return Err(Reason::Truth { key: truth_key }),
        Judgement::Wrong | Judgement::Invalid(_) => {
            return Err(Reason::Disagrees { boxed: given, key: truth_key, truth: ground_truth });
        }
    }
    Ok((Problem { index: 0, line: 0, prompt, system, thinking, final_text, ground_truth, accepted, kind }, notes))
}

/// The thinking with its boxes replaced by their content, and a remark where there were some.
fn without_boxes(thinking: &str, key: &'static str, notes: &mut Vec<String>) -> Result<String, Reason> {
    if !holds_box(thinking) {
        return Ok(thinking.trim().to_owned());
    }
    let plain = unbox(thinking);
    // Taking one away may put another together.
    if holds_box(&plain) {
        return Err(Reason::Tags { key, problem: "holds boxes in its thinking that cannot be taken away" });
    }
    notes.push("a box in the thinking was replaced by its content".to_owned());
    Ok(plain.trim().to_owned())
}
