//! Chat templates: Jinja text that turns a list of messages into one prompt.
//!
//! Rendering follows transformers: blocks are trimmed, Python's string methods work, `raise_exception`, `strftime_now`
//! and `tojson` are there. Two things differ on purpose. The date is an argument, so that two runs of an audit see the
//! same prompt. And a template may come from a stranger, so it runs within the limits of `budget`, on a thread
//! of its own whose stack is large enough for what those limits allow.

mod budget;
mod conversations;
mod json;
mod strftime;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use fancy_regex::Regex;
use minijinja::machinery::{CodeGenerator, Instructions, eval, make_string_output, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Serde, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, functions};
use minijinja_contrib::pycompat;
use serde::{Deserialize, Serialize};

use self::budget::Allowance;
pub use self::conversations::{ChatProgram, Conversation, Rendering};

/// Longer templates are refused; the longest published ones are about a tenth of this.
const MAXIMUM_TEMPLATE_BYTES: usize = 256 << 10;
/// The engine counts lines in 16 bits.
const MAXIMUM_TEMPLATE_LINES: usize = 60_000;
/// Enough for dropping the deepest value that the instruction limit lets a template nest.
const STACK_BYTES: usize = 256 << 20;
/// What `raise_exception` may say; the rest of its message is cut.
const MAXIMUM_MESSAGE_CHARACTERS: usize = 500;
/// How the message of `raise_exception` begins.
const REFUSAL: &str = "the template refuses the conversation: ";
/// The name under which the engine knows the template; the error names the file instead.
const NAME: &str = "chat_template";

/// `{% generation %}` marks the assistant's words for training masks. It renders nothing, and the engine does not know
/// the tag; a condition that always holds trims the white space around it in the same way.
static GENERATION: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*generation\s*([-+]?)%\}").ok());
static END_GENERATION: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*endgeneration\s*([-+]?)%\}").ok());

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who speaks: `system`, `user` or `assistant` in nearly every template.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".to_owned(), content: content.into() }
    }
}

/// The date that a template reads as today's.
///
/// The default is 26 July 2024, the date that Llama 3's published template falls back on, so that a prompt never
/// depends on the day of the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatDate {
    /// Year of the Gregorian calendar.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

impl Default for ChatDate {
    fn default() -> Self {
        Self { year: 2024, month: 7, day: 26 }
    }
}

/// Why a template could not be rendered, and where in it.
#[derive(Debug)]
pub struct TemplateFault {
    /// Line of the template, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong with it.
    pub reason: String,
}

/// A chat template as found in a folder; compiled for each rendering, which is cheap beside the model.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    /// The file it was read from.
    pub file: PathBuf,
    source: String,
}

impl ChatTemplate {
    /// The template `source`, as it stands in `file`.
    pub fn new(file: &Path, source: &str) -> Self {
        Self { file: file.to_owned(), source: prepared(source) }
    }

    /// Renders `messages`; `named` holds the special tokens under the names that templates use (`bos_token`, …).
    pub fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        named: &[(&'static str, String)],
        date: ChatDate,
    ) -> Result<String, TemplateFault> {
        check_size(&self.source)?;
        on_a_deep_stack(|| self.render_here(messages, add_generation_prompt, named, date))
    }

    fn render_here(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        named: &[(&'static str, String)],
        date: ChatDate,
    ) -> Result<String, TemplateFault> {
        let compiled = Compiled::new(&self.source)?;
        let input_bytes = messages.iter().map(|message| message.role.len() + message.content.len()).sum();
        let mut environment = environment(&Allowance::new(input_bytes), date);
        environment.set_fuel(Some(budget::fuel(compiled.parts(), messages.len())));

        // Templates written for transformers may test `tools` and `documents` against none without asking whether they
        // are defined.
        let mut context = vec![
            ("messages", Value::from(Serde(messages))),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        context.extend(named.iter().map(|(name, text)| (*name, Value::from(text.as_str()))));
        let root = Value::from_pairs(context);
        let mut text = String::new();
        let (instructions, blocks) = (&compiled.instructions, &compiled.blocks);
        eval(&environment, instructions, root, blocks, &mut make_string_output(&mut text), AutoEscape::None)?;
        Ok(text)
    }
}

/// A template that is ready to run, its dear instructions replaced by guarded ones.
struct Compiled<'source> {
    instructions: Instructions<'source>,
    blocks: BTreeMap<&'source str, Instructions<'source>>,
}

impl<'source> Compiled<'source> {
    fn new(source: &'source str) -> Result<Self, TemplateFault> {
        let syntax = syntax()?;
        budget::check_constants(source, &syntax)?;
        let parsed = parse(source, NAME, syntax)?;
        let mut generator = CodeGenerator::new(NAME, source);
        generator.compile_stmt(&parsed);
        let (mut instructions, mut blocks) = generator.finish();
        budget::rewrite(&mut instructions)?;
        blocks.values_mut().try_for_each(budget::rewrite)?;
        Ok(Self { instructions, blocks })
    }

    fn parts(&self) -> impl Iterator<Item = &Instructions<'source>> {
        std::iter::once(&self.instructions).chain(self.blocks.values())
    }
}

/// How transformers has templates read.
fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

/// A template's text as the engine reads it: the tags that it does not know and that write nothing are replaced, line
/// by line in place.
fn prepared(source: &str) -> String {
    let mut source = source.to_owned();
    for (tag, replacement) in [(&*GENERATION, "{%$1 if true $2%}"), (&*END_GENERATION, "{%$1 endif $2%}")] {
        if let Some(tag) = tag {
            source = tag.replace_all(&source, replacement).into_owned();
        }
    }
    source
}

/// Refuses what is too long for the engine.
fn check_size(source: &str) -> Result<(), TemplateFault> {
    let lines = source.lines().count();
    if source.len() > MAXIMUM_TEMPLATE_BYTES || lines > MAXIMUM_TEMPLATE_LINES {
        let reason = format!(
            "it has {} bytes in {lines} lines; at most {MAXIMUM_TEMPLATE_BYTES} bytes in {MAXIMUM_TEMPLATE_LINES} \
             lines are accepted",
            source.len()
        );
        return Err(TemplateFault { line: None, reason });
    }
    Ok(())
}

/// Runs `work` on a thread of its own, whose stack is large enough for what the limits allow.
fn on_a_deep_stack<T: Send>(work: impl FnOnce() -> Result<T, TemplateFault> + Send) -> Result<T, TemplateFault> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name(NAME.to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, work).map_err(|error| TemplateFault {
            line: None,
            reason: format!("no thread could be started to render it: {error}"),
        })?;
        thread.join().unwrap_or_else(|_| {
            Err(TemplateFault { line: None, reason: "the template engine cannot process it".to_owned() })
        })
    })
}

impl From<Error> for TemplateFault {
    fn from(error: Error) -> Self {
        let reason = match (error.kind(), error.detail()) {
            // Their kinds say nothing that the detail does not say better.
            (ErrorKind::InvalidOperation | ErrorKind::OutOfFuel, Some(detail)) => detail.to_owned(),
            (ErrorKind::OutOfFuel, None) => "it runs for longer than a chat template can need".to_owned(),
            (kind, Some(detail)) => format!("{kind}: {detail}"),
            (kind, None) => kind.to_string(),
        };
        Self { line: error.line(), reason }
    }
}

fn environment<'source>(allowance: &Allowance, date: ChatDate) -> Environment<'source> {
    let mut environment = Environment::new();
    // Without this, a build with debug assertions would print local values into errors, whatever their size.
    environment.set_debug(false);
    budget::install(&mut environment, allowance);

    let payer = allowance.clone();
    environment.set_formatter(move |output, state, value| {
        payer.weigh(value)?;
        minijinja::escape_formatter(output, state, value)
    });
    let payer = allowance.clone();
    environment.set_unknown_method_callback(move |state, value, method, arguments| {
        let mut all = vec![value.clone()];
        all.extend_from_slice(arguments);
        payer.weigh_call(method, &all)?;
        pycompat::unknown_method_callback(state, value, method, arguments)
    });
    let payer = allowance.clone();
    environment.add_filter("tojson", move |value: Value, indent: Option<u32>, options: Kwargs| {
        let indent = indent.or(options.get("indent")?);
        // `ensure_ascii`, `separators` and `sort_keys` are accepted by transformers; its defaults are what is written.
        for name in ["ensure_ascii", "separators", "sort_keys"] {
            let _: Option<Value> = options.get(name)?;
        }
        options.assert_all_used()?;
        payer.weigh_call("tojson", &[value.clone(), Value::from(indent.unwrap_or(0))])?;
        json::to_json(&value, indent)
    });
    set_date(&mut environment, date);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        let shown: String = message.chars().take(MAXIMUM_MESSAGE_CHARACTERS).collect();
        Err(Error::new(ErrorKind::InvalidOperation, format!("{REFUSAL}{shown}")))
    });
    for (name, function) in
        [("dict", Value::from_function(functions::dict)), ("namespace", Value::from_function(functions::namespace))]
    {
        let payer = allowance.clone();
        environment.add_function(name, move |state: &mut State, positional: Rest<Value>, named: Kwargs| {
            let arguments = budget::joined(&positional, named);
            payer.weigh_call(name, &arguments)?;
            function.call(state, &arguments)
        });
    }
    environment.remove_global("debug");
    environment
}

/// Sets the date that the template reads as today's.
fn set_date(environment: &mut Environment<'_>, date: ChatDate) {
    environment.add_function("strftime_now", move |format: String| {
        strftime::format_date(date, &format).map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))
    });
}
