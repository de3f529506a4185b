//! What the text of a template shows before anything is followed: hidden characters, addresses, tags that nobody can
//! read; and the literals in its tags, of which conversations are made.

use std::collections::BTreeSet;

use lcr_documents::characters;
use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::flow::{Finding, Gravity};
use crate::json::shown;

/// Addresses that a prompt has no use for.
const ADDRESSES: [&str; 5] = ["http://", "https://", "data:text", "file://", "javascript:"];
/// Names by which a template engine is left, in texts that may become one.
const ESCAPES: [&str; 8] =
    ["__class__", "__globals__", "__builtins__", "__subclasses__", "__import__", "__init__", "__mro__", "__base__"];
/// Parts of one tag; a long list of languages has some hundreds.
const MOST_TOKENS: usize = 4_000;
/// Literals that are kept, and bytes of each.
const MOST_LITERALS: usize = 4_000;
const LONGEST_LITERAL: usize = 400;

/// What the tokens of a template hold.
#[derive(Debug, Default)]
pub(super) struct Surface {
    pub(super) findings: Vec<Finding>,
    /// Texts in its tags, each once, in order.
    pub(super) literals: Vec<String>,
    /// Numbers in its tags.
    pub(super) numbers: BTreeSet<u64>,
}

impl Surface {
    fn report(&mut self, line: u16, snippet: &str, reason: String) {
        const MOST: usize = 10;
        if self.findings.len() < MOST {
            self.findings.push(Finding { gravity: Gravity::Suspicious, line, snippet: shown(snippet.trim()), reason });
        }
    }

    /// Looks at a text that may be written.
    fn text(&mut self, text: &str, line: u16) {
        if let Some(address) = ADDRESSES.iter().find(|address| text.contains(**address)) {
            let from = text.find(address).unwrap_or(0);
            let place = text.get(from..).unwrap_or(text);
            self.report(line, place, "holds an address, which ends up in prompts".to_owned());
        }
        if let Some(hidden) = characters::first_deceptive(text) {
            self.report(line, text, hides(hidden));
        }
    }
}

fn hides(character: char) -> String {
    format!("holds an invisible or text-direction character, {}", character.escape_unicode())
}

/// Reads the tokens; the error says why they cannot be read.
pub(super) fn read(source: &str, syntax: &SyntaxConfig) -> Result<Surface, String> {
    let mut surface = Surface::default();
    let mut known = BTreeSet::new();
    let mut in_tag = 0;
    // In comments too: they are what a reader believes.
    let body = source.strip_prefix('\u{feff}').unwrap_or(source);
    if let Some((index, line)) = body.lines().enumerate().find(|(_, line)| characters::first_deceptive(line).is_some())
    {
        let hidden = characters::first_deceptive(line).unwrap_or_default();
        surface.report(u16::try_from(index + 1).unwrap_or(u16::MAX), line, hides(hidden));
    }
    for token in tokenize(source, false, syntax.clone()) {
        let (token, span) = token.map_err(|error| format!("line {}: {error}", error.line().unwrap_or_default()))?;
        let line = span.start_line;
        in_tag += 1;
        match token {
            Token::VariableStart | Token::BlockStart => in_tag = 0,
            Token::TemplateData(text) => surface.text(text, line),
            Token::Ident(name) if name.contains("__") => {
                let reason = format!("`{}` reaches out of the template engine", shown(name));
                surface.report(line, name, reason);
            }
            Token::Str(text) => literal(&mut surface, &mut known, text, line),
            Token::String(ref text) => literal(&mut surface, &mut known, text, line),
            Token::Int(number) => {
                surface.numbers.insert(number);
            }
            _ => {}
        }
        if in_tag > MOST_TOKENS {
            return Err(format!("line {line}: a tag of more than {MOST_TOKENS} parts, which nobody reads"));
        }
    }
    Ok(surface)
}

fn literal(surface: &mut Surface, known: &mut BTreeSet<String>, text: &str, line: u16) {
    surface.text(text, line);
    if let Some(escape) = ESCAPES.iter().find(|escape| text.contains(**escape)) {
        surface.report(line, text, format!("holds `{escape}`, by which a template reaches out of its engine"));
    }
    if !text.is_empty() && text.len() <= LONGEST_LITERAL && known.len() < MOST_LITERALS && known.insert(text.to_owned())
    {
        surface.literals.push(text.to_owned());
    }
}
