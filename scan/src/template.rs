//! Chat templates that an adapter carries. A template is a program that rewrites every conversation: it can add
//! instructions when a word appears, and no weight shows it.
//!
//! A template that is the base's own is nothing. Any other is followed ([`flow`]) and, within bounds, rendered: with a
//! base over the same conversations as the base's ([`compare`]), without one to see what it adds to a plain
//! conversation ([`render`]). What could not be read, followed or rendered is said, so that nothing passes for want of
//! a reader.

mod collect;
mod compare;
mod corpus;
mod expression;
mod flow;
mod literal;
mod operation;
mod render;
mod surface;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;

use lcr_formats::chat_template::ChatProgram;

pub(crate) use self::collect::{FILES, FOLDER, collect};
use self::flow::{Finding, Flow, Gravity, Stop};
use crate::check::{Check, Observation};
use crate::limits::Limits;

/// Steps that following all templates of an adapter may take.
const FLOW_STEPS: u64 = 1_000_000;
/// Steps that rendering all of them may take.
const RENDER_STEPS: u64 = 6_000_000;
/// What looking at one template takes before it is followed.
const STEPS_TO_BEGIN: u64 = 2_000;
/// Observations beyond which equal templates are no longer given each its own.
const MOST_REPEATED: usize = 1_000;
/// Enough for dropping the deepest tree that a template of the accepted size can have.
const STACK_BYTES: usize = 256 << 20;

/// One template: where it stands, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) file: String,
    pub(crate) place: String,
    pub(crate) text: String,
}

impl Template {
    fn observation(&self, check: Check, message: impl Into<String>) -> Observation {
        Observation::new(check, &self.file, message).at(self.place.as_str())
    }
}

/// What all templates of one adapter share.
struct Budget {
    flow: u64,
    render: u64,
}

/// What is known of a template without a base.
#[derive(Debug, Default)]
struct Analysis {
    findings: Vec<Finding>,
    literals: Vec<String>,
    numbers: BTreeSet<u64>,
    /// Why it could not be followed.
    unread: Option<String>,
}

/// Templates of one adapter that are looked at; the most that a published folder has are some ten.
const MOST_TEMPLATES: usize = 200;

/// Holds templates against the base's, and each against what no template needs.
pub(crate) fn observe(
    templates: &[Template],
    base: Option<&[Template]>,
    limits: &Limits,
    found: &mut Vec<Observation>,
) {
    let mut budget = Budget { flow: FLOW_STEPS, render: RENDER_STEPS };
    // What was found of each text, as places in `found`: the same text under another name has the same findings.
    let mut judged: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    if let Some(first) = templates.get(MOST_TEMPLATES) {
        let message = format!("{} templates; the first {MOST_TEMPLATES} were looked at", templates.len());
        found.push(first.observation(Check::BeyondLimits, message));
    }
    for template in templates.iter().take(MOST_TEMPLATES) {
        let same = |known: &&Template| is_same(&known.text, &template.text);
        if base.is_some_and(|base| base.iter().any(|known| same(&known))) {
            continue;
        }
        match base {
            None => found.push(template.observation(
                Check::TemplateCarried,
                "a chat template, which rewrites every conversation; give --base to hold it against the base's",
            )),
            Some([]) => found.push(
                template.observation(Check::TemplateDiffers, "the chat template is not the base's: the base has none"),
            ),
            Some(_) => {}
        }
        let known = judged.get(template.text.as_str()).filter(|_| base.is_none_or(<[Template]>::is_empty));
        if let Some(known) = known.cloned() {
            if found.len() < MOST_REPEATED {
                let first = found.get(known).unwrap_or_default().iter();
                let again: Vec<Observation> =
                    first.map(|seen| template.observation(seen.check, seen.message.clone())).collect();
                found.extend(again);
            }
            continue;
        }
        let before = found.len();
        observe_one(template, base.unwrap_or_default(), limits, &mut budget, found);
        judged.insert(&template.text, before..found.len());
    }
}

fn observe_one(
    template: &Template,
    base: &[Template],
    limits: &Limits,
    budget: &mut Budget,
    found: &mut Vec<Observation>,
) {
    if template.text.len() as u64 > limits.template_bytes {
        let message = format!("more than {} bytes; what the template does was not looked at", limits.template_bytes);
        return found.push(template.observation(Check::BeyondLimits, message));
    }
    let program = ChatProgram::new(&template.text);
    let mut own = analyse(&program, &mut budget.flow);
    if let Some(reason) = &own.unread {
        found.push(
            template.observation(Check::TemplateUnread, format!("the chat template could not be followed: {reason}")),
        );
    }
    match counterpart(template, base) {
        Some(known) => {
            let base_program = ChatProgram::new(&known.text);
            let theirs = analyse(&base_program, &mut budget.flow);
            own.findings.retain(|finding| !theirs.findings.iter().any(|known| is_alike(known, finding)));
            found.push(compare::observe(template, (&program, &own), (&base_program, &theirs), &mut budget.render));
        }
        None => found.extend(render::observe(template, &program, &own, &mut budget.render)),
    }
    found.extend(own.findings.iter().map(|finding| {
        let check = match finding.gravity {
            Gravity::Suspicious => Check::TemplateSuspicious,
            Gravity::Conditional => Check::TemplateConditional,
        };
        template.observation(check, finding.message())
    }));
}

/// The template of the base that stands where this one does, or the first.
fn counterpart<'b>(template: &Template, base: &'b [Template]) -> Option<&'b Template> {
    let place = |known: &&Template| known.place == template.place;
    let file = |known: &&Template| known.file == template.file;
    let both = base.iter().find(|known| place(known) && file(known));
    both.or_else(|| base.iter().find(place)).or(base.first())
}

/// Whether two templates have the same construct, wherever it stands.
fn is_alike(left: &Finding, right: &Finding) -> bool {
    (left.gravity, &left.snippet, &left.reason) == (right.gravity, &right.snippet, &right.reason)
}

/// Equal but for blanks at the ends of lines.
fn is_same(left: &str, right: &str) -> bool {
    left.trim().lines().map(str::trim_end).eq(right.trim().lines().map(str::trim_end))
}

/// Reads a template and follows what is said through it.
fn analyse(program: &ChatProgram, steps: &mut u64) -> Analysis {
    let work = || analyse_here(program.source(), steps);
    let analysed = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("template".to_owned()).stack_size(STACK_BYTES);
        builder.spawn_scoped(scope, work).ok()?.join().ok()
    });
    analysed
        .unwrap_or_else(|| Analysis { unread: Some("the parser cannot process it".to_owned()), ..Analysis::default() })
}

fn analyse_here(source: &str, steps: &mut u64) -> Analysis {
    let mut analysis = Analysis::default();
    if let Err(reason) = follow(source, steps, &mut analysis) {
        analysis.unread = Some(reason);
    }
    analysis
}

fn follow(source: &str, steps: &mut u64, analysis: &mut Analysis) -> Result<(), String> {
    let spent = || "the adapter's templates are longer or more winding than any chat template is".to_owned();
    *steps = steps.checked_sub(STEPS_TO_BEGIN + source.len() as u64 / 8).ok_or_else(spent)?;
    // As transformers has templates read.
    let syntax =
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|error| error.to_string())?;
    let surface = surface::read(source, &syntax)?;
    (analysis.literals, analysis.numbers, analysis.findings) = (surface.literals, surface.numbers, surface.findings);
    let parsed = parse(source, "chat_template", syntax)
        .map_err(|error| format!("line {}: {error}", error.line().unwrap_or_default()))?;
    let mut flow = Flow::new(source, steps);
    let outcome = flow.statements(std::slice::from_ref(&parsed));
    analysis.findings.extend(flow.into_findings());
    outcome.map_err(|stop| match stop {
        Stop::Steps => spent(),
        Stop::Depth(line) => {
            format!("line {line}: constructs stand deeper within one another than any chat template needs")
        }
    })
}

#[cfg(test)]
mod tests;
