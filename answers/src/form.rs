//! The shape of an answer: a quantity, a named value, a tuple or interval, a set, a list, a union, a matrix, an
//! equation, or prose. Two answers are compared shape by shape, and their quantities as [`Expression`]s.
//!
//! Order counts in tuples, intervals and matrices. It does not in sets, in unions, and in lists without brackets: `1,
//! -2` answers "find all roots" in any order, but each as often as it stands there. A set and a list are the same
//! collection.

use super::expression::Expression;
use super::parser::{MAX_DEPTH, expression, is_function, is_letter};
use super::rational::Rational;
use super::token::{Token, spell};
use super::unit::{Company, split};

/// An answer of more parts, at all depths together, is compared as text: what is unordered costs the square of their
/// number.
const MAX_PARTS: usize = 256;

/// An answer.
#[derive(Debug)]
pub(super) enum Form {
    /// A number or formula with its unit.
    Quantity(Expression, Option<String>),
    /// `x = 5`, `x ∈ [1, 2]`.
    Named(String, Box<Self>),
    /// An equation, as the difference of its sides.
    Equation(Expression),
    /// Tuples and intervals, with their brackets.
    Ordered(char, char, Vec<Self>),
    /// A set.
    Set(Vec<Self>),
    /// A list without brackets.
    List(Vec<Self>),
    /// A union of sets.
    Union(Vec<Self>),
    /// A matrix or determinant: its environment's name where that matters, and its rows.
    Matrix(&'static str, Vec<Vec<Self>>),
    /// Anything else, in one spelling.
    Prose(String),
}

/// The shape of an answer.
pub(super) fn form(tokens: &[Token]) -> Form {
    let divides = |token: &&Token| separates(token) || matches!(token, Token::Symbol('&' | '∪') | Token::RowBreak);
    if tokens.iter().filter(divides).count() >= MAX_PARTS {
        return prose(tokens);
    }
    shape(tokens, MAX_DEPTH)
}

/// Words in one spelling: case and punctuation at the end do not count.
fn prose(tokens: &[Token]) -> Form {
    let text = spell(tokens).to_lowercase();
    let text = text.trim_matches(['"', '“', '”', '\'', '`', '«', '»']);
    Form::Prose(text.trim_end_matches(['.', '!', '?', ',', ';', ':']).trim().to_owned())
}

fn shape(tokens: &[Token], depth: usize) -> Form {
    if depth == 0 {
        return prose(tokens);
    }
    read(tokens, depth - 1).unwrap_or_else(|| prose(tokens))
}

/// Tries the shapes one after the other.
fn read(tokens: &[Token], depth: usize) -> Option<Form> {
    let parts = separate(tokens);
    if parts.len() > 1 {
        return items(&parts, depth).map(Form::List);
    }
    if let Some(inner) = enclosed(tokens) {
        return brackets(tokens, inner, depth);
    }
    if let Some(parts) = split_at(tokens, |token| *token == Token::Symbol('∪')) {
        return items(&parts, depth).map(Form::Union);
    }
    if let Some(parts) = split_at(tokens, |token| *token == Token::Symbol('∈')) {
        let [left, right] = parts.as_slice() else { return None };
        return Some(Form::Named(name(left)?, Box::new(shape(right, depth))));
    }
    if let Some(parts) = split_at(tokens, |token| *token == Token::Symbol('=')) {
        let [left, right] = parts.as_slice() else { return None };
        return equation(left, right, depth);
    }
    quantities(tokens, depth)
}

/// `name = value`, or an equation between two formulas.
fn equation(left: &[Token], right: &[Token], depth: usize) -> Option<Form> {
    if let Some(name) = name(left) {
        return Some(Form::Named(name, Box::new(shape(right, depth))));
    }
    if let Some(name) = name(right) {
        return Some(Form::Named(name, Box::new(shape(left, depth))));
    }
    let left = expression(left, true, depth)?;
    let right = expression(right, true, depth)?;
    let undone = left.undone || right.undone;
    let mut difference = left.add(right.negate())?;
    // Subtracting the sides may combine terms that are in order where they stand.
    difference.undone = undone;
    Some(Form::Equation(difference))
}

/// The name of a variable, perhaps with a subscript, or of a function of one: `x`, `x_1`, `f(x)`, `Total`.
fn name(tokens: &[Token]) -> Option<String> {
    let (first, rest) = tokens.split_first()?;
    let named = match first {
        Token::Word { text, .. } => !is_function(text) && text.chars().count() <= 20,
        Token::Command(name) => is_letter(name),
        _ => false,
    };
    let plain = match rest {
        [] => true,
        [Token::Symbol('_'), rest @ ..] => rest.len() <= 6 && rest.iter().all(is_name_part),
        [Token::Symbol('('), Token::Word { text, .. }, Token::Symbol(')')] => text.chars().count() == 1,
        _ => false,
    };
    (named && plain).then(|| spell(tokens))
}

fn is_name_part(token: &Token) -> bool {
    matches!(token, Token::Digit { .. } | Token::Word { .. } | Token::Open | Token::Close)
}

/// A quantity, or two where ± stands in it.
fn quantities(tokens: &[Token], depth: usize) -> Option<Form> {
    if tokens.iter().any(|token| matches!(token, Token::Symbol('±' | '∓'))) {
        return Some(Form::List(vec![quantity(tokens, true, depth)?, quantity(tokens, false, depth)?]));
    }
    quantity(tokens, true, depth)
}

fn quantity(tokens: &[Token], upper: bool, depth: usize) -> Option<Form> {
    // `no` is a word and not n·o.
    let words = tokens.iter().all(|token| matches!(token, Token::Word { .. }));
    if words && tokens.iter().any(|token| token.word().is_some_and(|word| word.chars().count() > 1)) {
        return None;
    }
    let (number, company) = split(tokens)?;
    let value = expression(&number, upper, depth)?;
    let Company { unit, scale } = company;
    let value = match scale {
        Some(factor) => value.scaled(factor)?,
        None => value,
    };
    Some(Form::Quantity(value, unit))
}

/// The tokens between brackets that enclose everything.
fn enclosed(tokens: &[Token]) -> Option<&[Token]> {
    if !tokens.first()?.opens() {
        return None;
    }
    let mut depth = 0_usize;
    for (position, token) in tokens.iter().enumerate() {
        depth += usize::from(token.opens());
        if token.closes() {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return (position + 1 == tokens.len()).then(|| tokens.get(1..position)).flatten();
            }
        }
    }
    None
}

/// What brackets around everything mean.
fn brackets(tokens: &[Token], inner: &[Token], depth: usize) -> Option<Form> {
    let parts = separate(inner);
    match (tokens.first()?, tokens.last()?) {
        (Token::Begin(open), Token::End(close)) if open == close => matrix(open, inner, depth),
        (Token::SetOpen, Token::SetClose) if inner.is_empty() => Some(Form::Set(Vec::new())),
        (Token::SetOpen, Token::SetClose) => items(&parts, depth).map(|items| Form::Set(flatten(items))),
        (Token::Open, Token::Close) if parts.len() > 1 => items(&parts, depth).map(|items| Form::Set(flatten(items))),
        (Token::Open, Token::Close) | (Token::Symbol('('), Token::Symbol(')')) if parts.len() == 1 => {
            Some(shape(inner, depth))
        }
        (Token::Symbol(open @ ('(' | '[')), Token::Symbol(close @ (')' | ']'))) if parts.len() > 1 || open == &'[' => {
            items(&parts, depth).map(|items| Form::Ordered(*open, *close, items))
        }
        _ => None,
    }
}

/// In a set `1 ± √5` is two elements.
fn flatten(items: Vec<Form>) -> Vec<Form> {
    let mut flat = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Form::List(pair) => flat.extend(pair),
            other => flat.push(other),
        }
    }
    flat
}

/// Rows and cells.
fn matrix(environment: &str, inner: &[Token], depth: usize) -> Option<Form> {
    let kind = match environment {
        "matrix" | "pmatrix" | "bmatrix" | "smallmatrix" => "matrix",
        "vmatrix" => "determinant",
        _ => return None,
    };
    let mut rows = split_at(inner, |token| *token == Token::RowBreak).unwrap_or_else(|| vec![inner]);
    // A break after the last row opens no row.
    rows.pop_if(|row| row.is_empty());
    let read =
        |row: &[Token]| items(&split_at(row, |token| *token == Token::Symbol('&')).unwrap_or_else(|| vec![row]), depth);
    Some(Form::Matrix(kind, rows.into_iter().map(read).collect::<Option<_>>()?))
}

/// The shapes of the parts; none where a part is empty.
fn items(parts: &[&[Token]], depth: usize) -> Option<Vec<Form>> {
    if parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    Some(parts.iter().map(|part| shape(part, depth)).collect())
}

/// Splits where no brackets are open; none where nothing separates.
fn split_at(tokens: &[Token], separates: impl Fn(&Token) -> bool) -> Option<Vec<&[Token]>> {
    let mut parts = Vec::new();
    let mut depth = 0_usize;
    let mut start = 0;
    for (position, token) in tokens.iter().enumerate() {
        if token.opens() {
            depth += 1;
        } else if token.closes() {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && separates(token) {
            parts.push(tokens.get(start..position)?);
            start = position + 1;
        }
    }
    if parts.is_empty() {
        return None;
    }
    parts.push(tokens.get(start..)?);
    Some(parts)
}

/// Splits a list at commas, semicolons, `and` and `or`; `, and` is one separator.
fn separate(tokens: &[Token]) -> Vec<&[Token]> {
    let mut parts = Vec::new();
    let mut depth = 0_usize;
    let mut start = 0;
    let mut after_comma = false;
    for (position, token) in tokens.iter().enumerate() {
        if token.opens() {
            depth += 1;
        } else if token.closes() {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && separates(token) {
            let comma = matches!(token, Token::Symbol(_));
            if comma || !after_comma || position > start {
                parts.push(tokens.get(start..position).unwrap_or_default());
            }
            start = position + 1;
            after_comma = comma;
        }
    }
    parts.push(tokens.get(start..).unwrap_or_default());
    parts
}

/// Whether a token separates the items of a list.
fn separates(token: &Token) -> bool {
    match token {
        Token::Symbol(',' | ';') => true,
        Token::Word { text, .. } => text.eq_ignore_ascii_case("and") || text.eq_ignore_ascii_case("or"),
        _ => false,
    }
}

impl Form {
    /// Whether this answer is the true one.
    pub(super) fn answers(&self, truth: &Self) -> bool {
        match (self, truth) {
            (Self::Named(left, given), Self::Named(right, truth)) => left == right && given.answers(truth),
            (Self::Named(_, given), truth) => given.answers(truth),
            (given, Self::Named(_, truth)) => given.answers(truth),
            (Self::Quantity(given, unit), Self::Quantity(truth, of)) => {
                quantity_answers(given, unit.as_deref(), truth, of.as_deref())
            }
            (Self::Equation(given), Self::Equation(truth)) => {
                given.answers(truth) || given.clone().negate().answers(truth)
            }
            (Self::Ordered(open, close, given), Self::Ordered(opens, closes, truth)) => {
                open == opens && close == closes && pairwise(given, truth)
            }
            (Self::List(given), Self::List(truth)) => {
                if names(given) == names(truth) {
                    as_multiset(given, truth)
                } else {
                    pairwise(given, truth)
                }
            }
            (Self::Set(given) | Self::List(given), Self::Set(truth) | Self::List(truth))
            | (Self::Union(given), Self::Union(truth)) => as_set(given, truth),
            (Self::Matrix(kind, given), Self::Matrix(of, truth)) => {
                kind == of
                    && given.len() == truth.len()
                    && given.iter().zip(truth).all(|(given, truth)| pairwise(given, truth))
            }
            (Self::Prose(given), Self::Prose(truth)) => given == truth,
            _ => false,
        }
    }
}

/// Whether the items of a list have different names: `x = 1, y = 2` has an order that `1, 2` must keep.
fn names(items: &[Form]) -> bool {
    let mut names = items.iter().map(|item| if let Form::Named(name, _) = item { Some(name) } else { None });
    let first = names.next().flatten();
    first.is_some() && names.any(|name| name.is_some() && name != first)
}

fn pairwise(given: &[Form], truth: &[Form]) -> bool {
    given.len() == truth.len() && given.iter().zip(truth).all(|(given, truth)| given.answers(truth))
}

fn as_set(given: &[Form], truth: &[Form]) -> bool {
    // Each pair is compared once, however deep the sets are nested: asking in both directions would double at every
    // depth.
    let mut found = vec![false; truth.len()];
    for given in given {
        let mut any = false;
        for (truth, found) in truth.iter().zip(&mut found) {
            let equal = given.answers(truth);
            any |= equal;
            *found |= equal;
        }
        if !any {
            return false;
        }
    }
    found.into_iter().all(|found| found)
}

fn as_multiset(given: &[Form], truth: &[Form]) -> bool {
    let mut left: Vec<&Form> = truth.iter().collect();
    given.len() == truth.len()
        && given.iter().all(|given| match left.iter().position(|truth| given.answers(truth)) {
            Some(place) => {
                left.swap_remove(place);
                true
            }
            None => false,
        })
}

/// Compares two quantities. A unit may be missing on one side. A percentage without its sign is accepted in both
/// readings that are in use: 50% is 0.5, and 50 where percent were asked for; the latter from 1% on, as 0.5% for 0.5 is
/// a mistake.
fn quantity_answers(given: &Expression, unit: Option<&str>, truth: &Expression, of: Option<&str>) -> bool {
    const PERCENT: Option<&str> = Some("percent");
    let hundredth = |value: &Expression| Rational::new(1, 100).and_then(|factor| value.clone().scaled(factor));
    if unit == of {
        return given.answers(truth);
    }
    if unit.is_some() && of.is_some() {
        return false;
    }
    if unit == PERCENT {
        return (given.at_least_one() && given.answers(truth))
            || hundredth(given).is_some_and(|given| given.answers(truth));
    }
    if of == PERCENT {
        return (truth.at_least_one() && given.answers(truth))
            || hundredth(truth).is_some_and(|truth| given.answers(&truth));
    }
    given.answers(truth)
}
