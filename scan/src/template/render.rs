//! A template without a base to hold it against: what it adds to a plain conversation, and whether it tells words
//! apart.
//!
//! Between and after the things that were said, a template writes the headers of turns. A sentence there is an
//! instruction in the conversation's name. So is one before the first of them that stands in no system turn although
//! the conversation has one. What a template writes in the system turn, or in place of one that is missing, is not
//! judged, nor what it writes for tools and documents.

use lcr_formats::chat_template::{ChatProgram, Conversation, Rendering};
use serde_json::Value as Json;

use super::corpus::{self, Case, MARKERS};
use super::{Analysis, Template, literal};
use crate::check::{Check, Observation};
use crate::json::shown;

/// Words that are said one by one; all are said together besides.
const MOST_WORDS: usize = 40;
/// What stands in place of a word.
const OTHER: &str = "qzvother";

/// Renders a template over conversations of markers, and over its own words.
pub(super) fn observe(
    template: &Template,
    program: &ChatProgram,
    analysis: &Analysis,
    steps: &mut u64,
) -> Option<Observation> {
    if analysis.unread.is_some() {
        return None;
    }
    let suspicious = |message: String| Some(template.observation(Check::TemplateSuspicious, message));
    match added(program, analysis, steps) {
        Ok(Some(sentence)) => return suspicious(sentence),
        Ok(None) => {}
        Err(reason) => {
            let message = format!("the chat template could not be rendered: {reason}");
            return Some(template.observation(Check::TemplateUnread, message));
        }
    }
    told_apart(program, analysis, steps).and_then(suspicious)
}

/// A sentence that the template adds to a conversation; the error says why none could be rendered.
fn added(program: &ChatProgram, analysis: &Analysis, steps: &mut u64) -> Result<Option<String>, String> {
    let cases = corpus::marked(&analysis.numbers);
    let conversations: Vec<Conversation> = cases.iter().map(|case| case.conversation.clone()).collect();
    let renderings = program.render_each(&conversations, steps)?;
    let mut failure = None;
    let mut is_rendered = false;
    let mut lacking = None;
    // Templates of models that see pictures may know contents of parts only.
    let mut knows_parts = false;
    for (case, rendering) in cases.iter().zip(&renderings) {
        match rendering {
            Rendering::Text(text) => {
                is_rendered = true;
                if lacks_the_user(case, text) {
                    lacking = lacking.or(Some(case));
                }
                knows_parts |= case.is_of_parts && MARKERS.iter().any(|marker| text.contains(marker));
                if let Some(sentence) = after_the_first(text).and_then(|rest| literal::sentence(&rest)) {
                    return Ok(Some(format!(
                        "adds `{}` to what is said, in the conversation “{}”",
                        shown(&sentence),
                        case.name
                    )));
                }
                if let Some(sentence) = before_the_first(case, text).and_then(|lead| literal::sentence_of_nobody(&lead))
                {
                    let sentence = shown(&sentence);
                    return Ok(Some(format!(
                        "writes `{sentence}` outside the system turn, though one is given, in the conversation “{}”",
                        case.name
                    )));
                }
            }
            Rendering::Failed(reason) => failure = failure.or(Some(reason)),
            Rendering::Refused(_) => {}
        }
    }
    if let (Some(case), false) = (lacking, knows_parts) {
        return Ok(Some(format!("does not write what the user said, in the conversation “{}”", case.name)));
    }
    match failure {
        // Some templates serve conversations with tools or documents only.
        Some(reason) if !is_rendered && !serves_tools(program, steps) => Err(reason.clone()),
        _ if renderings.len() < cases.len() => Err("it takes more time than a chat template needs".to_owned()),
        _ => Ok(None),
    }
}

/// Whether a text that the user said is not in the rendering as it was said. Long conversations may be cut, and
/// contents of parts are passed over by templates that know texts only.
fn lacks_the_user(case: &Case, text: &str) -> bool {
    const LONGEST: usize = 4;
    let messages = case.conversation.messages.as_array().map(Vec::as_slice).unwrap_or_default();
    let said =
        messages.iter().filter(|message| message["role"] == "user").filter_map(|message| message["content"].as_str());
    messages.len() <= LONGEST && said.into_iter().any(|said| !text.contains(said))
}

/// What is written after the first thing that user or assistant said; what they said is taken out.
fn after_the_first(text: &str) -> Option<String> {
    let [_, first, ..] = MARKERS;
    let start = text.find(first)? + first.len();
    let rest = text.get(start..)?.to_owned();
    Some(MARKERS.iter().fold(rest, |rest, marker| rest.replace(marker, "\n")))
}

/// What is written before the first thing that the user said, in a conversation that has a system turn of its own; what
/// that says is taken out.
fn before_the_first(case: &Case, text: &str) -> Option<String> {
    let [system, first, ..] = MARKERS;
    let opening = case.conversation.messages.get(0).and_then(|message| message.get("content"));
    let has_system = opening.is_some_and(|content| content == system) && text.contains(system);
    let lead = text.get(..text.find(first)?)?;
    has_system.then(|| lead.replace(system, "\n"))
}

fn serves_tools(program: &ChatProgram, steps: &mut u64) -> bool {
    let mut cases = corpus::marked(&std::collections::BTreeSet::new());
    cases.truncate(4);
    for case in &mut cases {
        case.conversation.tools = serde_json::json!([{ "type": "function", "function": {
            "name": "f", "description": "d", "parameters": { "type": "object", "properties": {} } } }]);
        case.conversation.documents = serde_json::json!([{ "title": "t", "text": "d" }]);
    }
    let conversations: Vec<Conversation> = cases.into_iter().map(|case| case.conversation).collect();
    let renderings = program.render_each(&conversations, steps).unwrap_or_default();
    renderings.iter().any(|rendering| matches!(rendering, Rendering::Text(_)))
}

/// Whether a conversation with one of the template's own words becomes something else than with another word.
fn told_apart(program: &ChatProgram, analysis: &Analysis, steps: &mut u64) -> Option<String> {
    let words = corpus::words(&analysis.literals);
    let mut texts: Vec<String> = Vec::new();
    for word in words.iter().take(MOST_WORDS) {
        texts.push(word.clone());
        texts.push(format!("please {word} it"));
    }
    texts.push(format!("please {} it", corpus::all_at_once(&words).trim()));
    texts.push(format!("please {} it", corpus::splices(&words).trim()));
    let cases: Vec<Case> = texts
        .iter()
        .chain(std::iter::once(&OTHER.to_owned()))
        .flat_map(|text| corpus::said_by_each(text))
        // What the system turn decides is found by its flow, and is less.
        .filter(|case| {
            case.conversation.messages.get(0).and_then(|first| first.get("role")) != Some(&Json::from("system"))
        })
        .collect();
    let conversations: Vec<Conversation> = cases.iter().map(|case| case.conversation.clone()).collect();
    let mut renderings = program.render_each(&conversations, steps).ok()?;
    if renderings.len() < cases.len() {
        return None;
    }
    let speakers = cases.len() / (texts.len() + 1);
    let others = renderings.split_off(renderings.len().checked_sub(speakers)?);
    let spoken = texts.iter().flat_map(|text| std::iter::repeat_n(text, speakers));
    for (index, ((text, rendering), case)) in spoken.zip(&renderings).zip(&cases).enumerate() {
        let other = others.get(index % speakers.max(1))?;
        let expected = match other {
            Rendering::Text(other) => Rendering::Text(other.replace(OTHER, text)),
            other => other.clone(),
        };
        // What fails may be too long for the bounds of a rendering, which is no matter of words.
        let is_told = match (&expected, rendering) {
            (Rendering::Text(expected), Rendering::Text(own)) => expected != own,
            (Rendering::Text(_), Rendering::Refused(_)) | (Rendering::Refused(_), Rendering::Text(_)) => true,
            _ => false,
        };
        if is_told {
            let difference = match (&expected, rendering) {
                (Rendering::Text(expected), Rendering::Text(own)) => super::compare::first_difference(expected, own),
                _ => "it is refused, or only it is not".to_owned(),
            };
            return Some(format!(
                "of {}, the template makes something else than of another word: {difference}",
                case.name
            ));
        }
    }
    None
}
