//! Two templates held against each other by what they make of the same conversations.

use lcr_formats::chat_template::{ChatProgram, Rendering};

use super::corpus::{self, Case};
use super::{Analysis, Template};
use crate::check::{Check, Observation};
use crate::json::shown;

/// Steps that the base's template may take of what is left: it is rendered first, and the adapter's must be rendered as
/// often.
const SHARE_OF_THE_BASE: u64 = 2;

/// Renders both templates over the same conversations: one observation, either of the first that differs or that none
/// does.
pub(super) fn observe(
    template: &Template,
    own: (&ChatProgram, &Analysis),
    base: (&ChatProgram, &Analysis),
    steps: &mut u64,
) -> Observation {
    let cases = corpus::of_two((&own.1.literals, &own.1.numbers), (&base.1.literals, &base.1.numbers));
    let conversations: Vec<_> = cases.iter().map(|case| case.conversation.clone()).collect();
    let mut share = *steps / SHARE_OF_THE_BASE;
    *steps -= share;
    let theirs = base.0.render_each(&conversations, &mut share);
    *steps += share;
    let ours = own.0.render_each(&conversations, steps);
    let differs = |message: String| {
        let message = format!("the chat template is not the base's: {message}");
        template.observation(Check::TemplateDiffers, message)
    };
    let (theirs, ours) = match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => (theirs, ours),
        (Err(reason), _) => return differs(format!("the base's cannot be rendered here: {reason}")),
        (_, Err(reason)) => return differs(format!("it cannot be rendered here: {reason}")),
    };
    if let Some((case, (base, own))) =
        cases.iter().zip(theirs.iter().zip(&ours)).find(|(_, (base, own))| !is_equal(base, own))
    {
        return differs(difference(case, base, own));
    }
    let compared = theirs.len().min(ours.len());
    let texts = ours.iter().filter(|rendering| matches!(rendering, Rendering::Text(_))).count();
    if compared < cases.len() {
        return differs(format!(
            "it is equal over {compared} conversations, and {} were not rendered: it takes more time than a chat \
             template needs",
            cases.len() - compared
        ));
    }
    if texts == 0 {
        return differs("neither renders any of the conversations that they were tried with".to_owned());
    }
    let message = format!(
        "the chat template is not the base's by its text, and makes the same of each of {compared} conversations \
         ({texts} rendered, {} refused by both)",
        compared - texts
    );
    template.observation(Check::TemplateEquivalent, message)
}

/// Refusals are equal whatever they say: nobody hears it but the program.
fn is_equal(left: &Rendering, right: &Rendering) -> bool {
    match (left, right) {
        (Rendering::Text(left), Rendering::Text(right)) => left == right,
        (Rendering::Text(_), _) | (_, Rendering::Text(_)) => false,
        _ => true,
    }
}

fn difference(case: &Case, base: &Rendering, own: &Rendering) -> String {
    let found = match (base, own) {
        (Rendering::Text(base), Rendering::Text(own)) => first_difference(base, own),
        (Rendering::Text(_), Rendering::Refused(reason)) => {
            format!("it is refused (`{}`), by the base it is not", shown(reason))
        }
        (Rendering::Text(_), Rendering::Failed(reason)) => format!("it fails ({}), the base's does not", shown(reason)),
        (Rendering::Refused(reason), _) => format!("it is rendered, by the base it is refused (`{}`)", shown(reason)),
        (Rendering::Failed(reason), _) => format!("it is rendered, the base's fails ({})", shown(reason)),
    };
    format!("of the conversation “{}”, {found}", case.name)
}

/// The first line that is not as expected, in both forms.
pub(super) fn first_difference(expected: &str, own: &str) -> String {
    let (mut left, mut right) = (expected.split('\n'), own.split('\n'));
    let mut number = 1;
    loop {
        match (left.next(), right.next()) {
            (Some(base), Some(own)) if base == own => number += 1,
            (Some(base), Some(own)) => {
                let (base, own) = around(base, own);
                return format!("line {number} becomes `{own}`, not `{base}`");
            }
            (None, Some(own)) => return format!("line {number} is added: `{}`", shown(own)),
            (Some(base), None) => return format!("line {number} is missing: `{}`", shown(base)),
            (None, None) => return "nothing differs".to_owned(),
        }
    }
}

/// Two lines from a little before where they part.
fn around(base: &str, own: &str) -> (String, String) {
    const BEFORE: usize = 30;
    let same = base.chars().zip(own.chars()).take_while(|(left, right)| left == right).count();
    let skipped = same.saturating_sub(BEFORE);
    let cut = |line: &str| {
        let rest: String = line.chars().skip(skipped).collect();
        shown(&if skipped > 0 { format!("…{rest}") } else { rest })
    };
    (cut(base), cut(own))
}
