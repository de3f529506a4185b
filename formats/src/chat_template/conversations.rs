//! One chat template rendered for many conversations, as a check of the template does it.
//!
//! A conversation here is whatever a program may hand to a template: messages with parts and tool calls, tools,
//! documents, further settings, any date. The bounds are those of [`super::budget`], tighter, and all renderings share
//! one number of steps.

use minijinja::machinery::{eval, make_string_output};
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, ErrorKind};
use serde_json::Value as Json;

use super::budget::{self, Allowance};
use super::{ChatDate, Compiled, REFUSAL, TemplateFault, check_size, environment, on_a_deep_stack, prepared, set_date};

/// Instructions that one rendering may run.
const FUEL: u64 = 40_000;
/// Units of the allowance that cost as much as one instruction.
const UNITS_PER_STEP: u64 = 32;
/// Instructions that a guarded operation or a call costs as much as.
const STEPS_PER_CALL: u64 = 20;
/// Bytes of output that cost as much as one instruction.
const BYTES_PER_STEP: u64 = 16;
/// What a rendering costs before it begins.
const STEPS_TO_BEGIN: u64 = 200;

/// What a template is rendered with.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// A list of messages, each an object.
    pub messages: Json,
    /// Tools, null where there are none.
    pub tools: Json,
    /// Documents, null where there are none.
    pub documents: Json,
    /// Whether the text ends where the assistant's next words begin.
    pub add_generation_prompt: bool,
    /// What else the program sets, `enable_thinking` for instance.
    pub settings: Vec<(String, Json)>,
    /// The date that the template reads as today's.
    pub date: ChatDate,
}

/// What became of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rendering {
    /// The text.
    Text(String),
    /// The template refused it by `raise_exception`.
    Refused(String),
    /// The template failed on it: an operation that its values do not have, more time or text than the bounds allow.
    Failed(String),
}

/// A template that is rendered many times.
#[derive(Clone, Debug)]
pub struct ChatProgram {
    source: String,
}

impl ChatProgram {
    /// From the text of a template.
    pub fn new(source: &str) -> Self {
        Self { source: prepared(source) }
    }

    /// The text as the engine reads it: lines are where they were, tags that only transformers knows are replaced.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders the conversations one after another until `steps` are used up; the list is then shorter. The error says
    /// why the template cannot be run at all.
    pub fn render_each(&self, conversations: &[Conversation], steps: &mut u64) -> Result<Vec<Rendering>, String> {
        check_size(&self.source).map_err(said)?;
        on_a_deep_stack(|| {
            let compiled = Compiled::new(&self.source)?;
            let fuel = budget::fuel(compiled.parts(), 0).min(FUEL);
            let allowance = Allowance::new(0);
            let mut environment = environment(&allowance, ChatDate::default());
            // None is not, in Python. Templates ask it of tools before they count them.
            environment.add_test("iterable", |value: Value| !value.is_none() && value.try_iter().is_ok());
            let mut renderings = Vec::new();
            for conversation in conversations {
                if *steps == 0 {
                    break;
                }
                allowance.renew(conversation.messages.to_string().len());
                let before = allowance.left();
                set_date(&mut environment, conversation.date);
                environment.set_fuel(Some(fuel));
                let (rendering, used) = render(&compiled, &environment, conversation);
                let written = if let Rendering::Text(text) = &rendering { text.len() as u64 } else { 0 };
                let units = before.saturating_sub(allowance.left()) / UNITS_PER_STEP;
                let calls = allowance.calls() * STEPS_PER_CALL;
                let cost = used + calls + units + written / BYTES_PER_STEP + STEPS_TO_BEGIN;
                *steps = steps.saturating_sub(cost);
                renderings.push(rendering);
            }
            Ok(renderings)
        })
        .map_err(said)
    }
}

fn said(fault: TemplateFault) -> String {
    match fault.line {
        Some(line) => format!("line {line}: {}", fault.reason),
        None => fault.reason,
    }
}

/// One rendering, and the instructions that it took. The engine does not say how many a failed one took.
fn render<'a>(
    compiled: &'a Compiled<'a>,
    environment: &'a Environment<'a>,
    conversation: &Conversation,
) -> (Rendering, u64) {
    let mut context = vec![
        ("messages", Value::from(Serde(&conversation.messages))),
        ("add_generation_prompt", Value::from(conversation.add_generation_prompt)),
        ("tools", Value::from(Serde(&conversation.tools))),
        ("documents", Value::from(Serde(&conversation.documents))),
        // The spelling of the tokens is of no matter where renderings are compared with each other.
        ("bos_token", Value::from("<s>")),
        ("eos_token", Value::from("</s>")),
        ("pad_token", Value::from("<pad>")),
        ("unk_token", Value::from("<unk>")),
    ];
    context.extend(conversation.settings.iter().map(|(name, value)| (name.as_str(), Value::from(Serde(value)))));
    let root = Value::from_pairs(context);
    let mut text = String::new();
    let outcome = eval(
        environment,
        &compiled.instructions,
        root,
        &compiled.blocks,
        &mut make_string_output(&mut text),
        AutoEscape::None,
    );
    match outcome {
        Ok((_, state)) => {
            let used = state.fuel_levels().map_or(FUEL, |(used, _)| used);
            drop(state);
            (Rendering::Text(text), used)
        }
        Err(error) => {
            let detail = error.detail().unwrap_or_default();
            match detail.strip_prefix(REFUSAL) {
                Some(reason) if error.kind() == ErrorKind::InvalidOperation => {
                    (Rendering::Refused(reason.to_owned()), FUEL / 8)
                }
                _ => (Rendering::Failed(said(TemplateFault::from(error))), FUEL / 8),
            }
        }
    }
}
