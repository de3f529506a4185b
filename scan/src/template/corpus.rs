//! Conversations that templates are rendered for: every kind of turn, with and without a system turn, tools, results,
//! parts and reasoning, several dates, and the literals of the templates themselves in the mouth of each speaker.

use std::collections::BTreeSet;

use lcr_formats::chat_template::{ChatDate, Conversation};
use serde_json::{Value as Json, json};

use super::literal::{self, Kind};

/// Literals that are said alone and within a sentence.
const MOST_LITERALS: usize = 36;
/// Bytes of a text that says many literals one after another.
const LONGEST_TEXT: usize = 12 << 10;
/// Literals whose splices in pairs are said.
const MOST_SPLICED: usize = 24;
/// Turns of the longest conversation.
const MOST_TURNS: u64 = 64;

/// A conversation, and how it is named in a message.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) conversation: Conversation,
    /// Whether contents are lists of parts, not texts.
    pub(super) is_of_parts: bool,
}

impl Case {
    fn new(name: impl Into<String>, messages: Vec<Json>) -> Self {
        let is_of_parts = messages.iter().any(|message| message["content"].is_array());
        Self { name: name.into(), conversation: plain(messages), is_of_parts }
    }
}

pub(super) fn turn(role: &str, content: &str) -> Json {
    json!({ "role": role, "content": content })
}

/// A conversation without tools, documents or settings, up to where the assistant goes on.
pub(super) fn plain(messages: Vec<Json>) -> Conversation {
    Conversation {
        messages: Json::Array(messages),
        tools: Json::Null,
        documents: Json::Null,
        add_generation_prompt: true,
        settings: Vec::new(),
        date: ChatDate::default(),
    }
}

fn tools() -> Json {
    json!([{ "type": "function", "function": {
        "name": "get_weather", "description": "Tells the weather of a town.",
        "parameters": { "type": "object", "required": ["town"], "properties": {
            "town": { "type": "string", "description": "The town." }, "days": { "type": "integer" } } } } }])
}

/// Every kind of turn.
fn kinds_of_turns() -> Vec<Case> {
    let call = json!([{ "id": "abcdefghi", "type": "function", "function": { "name": "get_weather", "arguments": { "town": "Bonn" } } }]);
    let result =
        json!({ "role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": "{\"sun\": true}" });
    let called = json!({ "role": "assistant", "content": "", "tool_calls": call });
    let reasoned = json!({ "role": "assistant", "content": "It is four.", "reasoning_content": "Two and two." });
    let thought = turn("assistant", "<think>\nTwo and two.\n</think>\n\nIt is four.");
    let parts = json!({ "role": "user", "content": [{ "type": "text", "text": "What is this?" }] });
    let (system, user, answer) =
        (turn("system", "Be brief."), turn("user", "Where is the station?"), turn("assistant", "Over there."));
    let again = turn("user", "And the harbour?");
    let sets: Vec<(&str, Vec<Json>)> = vec![
        ("one turn of the user", vec![user.clone()]),
        ("three turns", vec![user.clone(), answer.clone(), again.clone()]),
        ("system and user", vec![system.clone(), user.clone()]),
        ("system and three turns", vec![system.clone(), user.clone(), answer.clone(), again.clone()]),
        ("five turns", vec![user.clone(), answer.clone(), again.clone(), answer.clone(), user.clone()]),
        ("an ended conversation", vec![user.clone(), answer.clone()]),
        ("a developer's turn", vec![turn("developer", "Be brief."), user.clone()]),
        ("a content of parts", vec![parts]),
        ("reasoning beside the answer", vec![user.clone(), reasoned, again.clone()]),
        ("reasoning within the answer", vec![user.clone(), thought, again.clone()]),
        ("a call and its result", vec![user.clone(), called.clone(), result.clone()]),
        ("a call, its result, an answer", vec![system, user.clone(), called, result, answer, again]),
        ("an empty turn", vec![turn("user", "")]),
        ("capitals and figures", vec![turn("user", "WHAT IS 12 + 30?!\n\n- A\n- B 2027-01-01")]),
        ("a long text", vec![turn("user", &"All work and no play. ".repeat(120))]),
        ("two turns of the user", vec![user.clone(), user]),
    ];
    sets.into_iter().map(|(name, messages)| Case::new(name, messages)).collect()
}

/// The same conversations with other tools, settings and dates.
fn variants(cases: &[Case]) -> Vec<Case> {
    let vary = |case: &Case, name: &str, change: &dyn Fn(&mut Conversation)| {
        let mut case = case.clone();
        case.name = format!("{}, {name}", case.name);
        change(&mut case.conversation);
        case
    };
    let mut all = Vec::new();
    for case in cases {
        all.push(vary(case, "with tools", &|conversation| conversation.tools = tools()));
        all.push(vary(case, "without a prompt for the answer", &|conversation| {
            conversation.add_generation_prompt = false;
        }));
        for thinking in [true, false] {
            let name = format!("`enable_thinking` {thinking}");
            all.push(vary(case, &name, &|conversation| {
                conversation.settings =
                    ["enable_thinking", "thinking"].map(|key| (key.to_owned(), json!(thinking))).to_vec();
            }));
        }
    }
    let dates = [(2031, 12, 31), (2027, 6, 15), (2026, 1, 1), (2025, 3, 1), (1999, 9, 9)];
    for case in cases.iter().take(2) {
        for (year, month, day) in dates {
            let name = format!("on {year}-{month:02}-{day:02}");
            all.push(vary(case, &name, &|conversation| conversation.date = ChatDate { year, month, day }));
        }
        all.push(vary(case, "with documents", &|conversation| {
            conversation.documents = json!([{ "title": "Timetable", "text": "The ferry leaves at nine." }]);
        }));
    }
    all
}

/// Conversations of as many turns as the template has numbers, and a few more.
fn lengths(numbers: &BTreeSet<u64>) -> Vec<Case> {
    let near = numbers.iter().flat_map(|number| [number.saturating_sub(1), *number, number.saturating_add(1)]);
    let wanted: BTreeSet<u64> = (1..=9).chain(near.filter(|number| (1..=MOST_TURNS).contains(number))).collect();
    let turn = |index: u64| turn(if index.is_multiple_of(2) { "user" } else { "assistant" }, "And then?");
    let case = |turns: u64| Case::new(format!("{turns} turns"), (0..turns).map(turn).collect());
    wanted.into_iter().map(case).collect()
}

/// A text in the mouth of each speaker.
pub(super) fn said_by_each(text: &str) -> Vec<Case> {
    let call =
        json!([{ "id": "abcdefghi", "type": "function", "function": { "name": "f", "arguments": { "text": text } } }]);
    let called = json!({ "role": "assistant", "content": "", "tool_calls": call });
    let result = json!({ "role": "tool", "name": "f", "tool_call_id": "abcdefghi", "content": text });
    let hello = turn("user", "Hello.");
    let sets = [
        ("the user", vec![turn("user", text)]),
        ("the assistant", vec![hello.clone(), turn("assistant", text), hello.clone()]),
        ("the system", vec![turn("system", text), hello.clone()]),
        ("a tool", vec![hello, called, result]),
    ];
    let case = |(who, messages)| Case::new(format!("`{}` said by {who}", crate::json::shown(text)), messages);
    sets.into_iter().map(case).collect()
}

/// Literals said alone and within a sentence, those that the base's template lacks first.
fn literals(own: &[String], base: &[String]) -> Vec<Case> {
    let known: BTreeSet<&str> = base.iter().map(String::as_str).collect();
    let (fresh, shared): (Vec<&String>, Vec<&String>) = own.iter().partition(|text| !known.contains(text.as_str()));
    let all: Vec<&String> = fresh.iter().copied().chain(shared).chain(base).collect();
    let mut cases = Vec::new();
    for text in all.iter().take(MOST_LITERALS) {
        cases.extend(said_by_each(text));
        cases.extend(said_by_each(&format!("Could you please {text} it now?")));
    }
    for text in [all_at_once(own), all_at_once(base), splices(&fresh), splices(&own.iter().collect::<Vec<_>>())] {
        cases.extend(said_by_each(&text));
    }
    cases
}

/// Many literals one after another.
pub(super) fn all_at_once<T: AsRef<str>>(literals: &[T]) -> String {
    let mut text = String::new();
    for literal in literals {
        if text.len() + literal.as_ref().len() < LONGEST_TEXT {
            text.push_str(literal.as_ref());
            text.push(' ');
        }
    }
    text
}

/// Each two literals put together.
pub(super) fn splices<T: AsRef<str>>(literals: &[T]) -> String {
    let short: Vec<&str> = literals.iter().map(T::as_ref).filter(|text| text.len() < 40).take(MOST_SPLICED).collect();
    let pairs: Vec<String> =
        short.iter().flat_map(|left| short.iter().map(move |right| format!("{left}{right}"))).collect();
    all_at_once(&pairs)
}

/// Everything that two templates are rendered for.
pub(super) fn of_two(own: (&[String], &BTreeSet<u64>), base: (&[String], &BTreeSet<u64>)) -> Vec<Case> {
    let mut cases = kinds_of_turns();
    cases.extend(lengths(&own.1.union(base.1).copied().collect()));
    let some: Vec<Case> = cases.iter().take(12).cloned().collect();
    cases.extend(literals(own.0, base.0));
    cases.extend(variants(&some));
    cases
}

/// What nobody but the conversation says.
pub(super) const MARKERS: [&str; 4] = ["qzvsystem", "qzvfirst", "qzvanswer", "qzvlast"];

/// Conversations of nothing but markers, without tools.
pub(super) fn marked(numbers: &BTreeSet<u64>) -> Vec<Case> {
    let [system, first, answer, last] = MARKERS;
    let parts = |text: &str| json!([{ "type": "text", "text": text }]);
    let of_parts = |role: &str, text: &str| json!({ "role": role, "content": parts(text) });
    let sets: Vec<(&str, Vec<Json>)> = vec![
        ("one turn of the user", vec![turn("user", first)]),
        ("system and user", vec![turn("system", system), turn("user", first)]),
        ("three turns", vec![turn("user", first), turn("assistant", answer), turn("user", last)]),
        (
            "system and three turns",
            vec![turn("system", system), turn("user", first), turn("assistant", answer), turn("user", last)],
        ),
        ("an ended conversation", vec![turn("user", first), turn("assistant", answer)]),
        ("a content of parts", vec![of_parts("user", first), of_parts("assistant", answer), of_parts("user", last)]),
    ];
    let mut cases: Vec<Case> = sets.into_iter().map(|(name, messages)| Case::new(name, messages)).collect();
    let mut more = variants(&cases);
    more.retain(|case| case.conversation.tools.is_null() && case.conversation.documents.is_null());
    cases.extend(lengths(numbers).into_iter().map(|mut case| {
        if let Json::Array(messages) = &mut case.conversation.messages {
            for (index, message) in messages.iter_mut().enumerate() {
                let marker = if index == 0 {
                    first
                } else if index % 2 == 1 {
                    answer
                } else {
                    last
                };
                message["content"] = Json::from(marker);
            }
        }
        case
    }));
    cases.extend(more);
    cases
}

/// Words among literals: what a template has no reason to tell from other words. Those that JSON would escape are left
/// out.
pub(super) fn words(literals: &[String]) -> Vec<String> {
    let is_plain =
        |letter: char| letter.is_alphanumeric() || matches!(letter, ' ' | '.' | ',' | '!' | '?' | ':' | '-' | '_');
    let is_word = |text: &&String| literal::kind(text) == Kind::Word && text.chars().all(is_plain);
    literals.iter().filter(is_word).map(|text| text.trim().to_owned()).collect()
}
