//! Keeps a stranger's chat template within bounded time and memory.
//!
//! The template engine counts instructions (its fuel), but one instruction may double a string: forty of them make a
//! terabyte. So before a template runs, every instruction that can grow or walk a value is replaced by a filter of the
//! same stack effect that first pays for it out of one allowance: `+ * ~ [] [:] in` and the comparisons. Named filters,
//! tests, Python string methods and printing pay in the same way. A value that is shared many times (`[x, x]` nested)
//! is weighed as often as it would be printed, so nothing exponential can be built up unpaid.
//!
//! It does not judge what a template says, only what it costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::machinery::{Instruction, Instructions, Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, filters, tests};

use super::TemplateFault;

/// Units (about a byte each) that a template may spend whatever its input.
const BASE_ALLOWANCE: u64 = 1 << 20;
/// Further units for each byte of the conversation: a long one is legitimately split, stripped and joined many times.
const ALLOWANCE_PER_INPUT_BYTE: u64 = 1024;
/// What a list, a map or a tuple costs beside its items.
const CONTAINER_COST: u64 = 16;
/// Lists within lists beyond this are refused: printing and comparing them recurses.
const MAXIMUM_DEPTH: usize = 100;
/// How large the constants of one tag may make a value while the template is being compiled.
const MAXIMUM_CONSTANT: u64 = 1 << 20;
/// Instructions a template may run, whatever its input, and further ones for each message.
const BASE_FUEL: u64 = 200_000;
const FUEL_PER_MESSAGE: u64 = 20_000;
/// Bytes of literal template text that may be emitted; literal text is not weighed, so fuel is lowered to bound it.
const MAXIMUM_LITERAL_OUTPUT: u64 = 32 << 20;
/// A loop that emits literal text spends at least this much fuel per turn.
const FUEL_PER_LITERAL: u64 = 3;
/// Instructions for each message that no length of literal text takes away.
const LITERAL_FUEL_PER_MESSAGE: u64 = 1000;

/// The allowance of one rendering; clones share it.
#[derive(Clone)]
pub(super) struct Allowance {
    units: Arc<AtomicU64>,
    /// Guarded operations and calls so far: each takes far longer than an instruction of the engine.
    calls: Arc<AtomicU64>,
}

impl Allowance {
    pub(super) fn new(input_bytes: usize) -> Self {
        let allowance = Self { units: Arc::new(AtomicU64::new(0)), calls: Arc::new(AtomicU64::new(0)) };
        allowance.renew(input_bytes);
        allowance
    }

    /// Makes it the allowance of another rendering.
    pub(super) fn renew(&self, input_bytes: usize) {
        let units = BASE_ALLOWANCE.saturating_add(ALLOWANCE_PER_INPUT_BYTE.saturating_mul(input_bytes as u64));
        self.units.store(units, Ordering::Relaxed);
        self.calls.store(0, Ordering::Relaxed);
    }

    /// What is left of it.
    pub(super) fn left(&self) -> u64 {
        self.units.load(Ordering::Relaxed)
    }

    /// Guarded operations and calls since it was made or renewed.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes `units`, or fails when fewer are left.
    pub(super) fn spend(&self, units: u64) -> Result<(), Error> {
        self.units
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(units))
            .map(|_| ())
            .map_err(|_| Error::new(ErrorKind::OutOfFuel, "the template builds more text than a chat prompt can need"))
    }

    /// Weighs `value` as if it were printed in full, pays for it and returns its weight.
    pub(super) fn weigh(&self, value: &Value) -> Result<u64, Error> {
        self.weigh_nested(value, MAXIMUM_DEPTH)
    }

    fn weigh_nested(&self, value: &Value, depth: usize) -> Result<u64, Error> {
        if depth == 0 {
            return Err(Error::new(ErrorKind::OutOfFuel, "values are nested too deeply"));
        }
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
                self.spend(CONTAINER_COST)?;
                let mut weight = CONTAINER_COST;
                let is_map = value.kind() == ValueKind::Map;
                for item in value.try_iter()? {
                    weight += self.weigh_nested(&item, depth - 1)?;
                    if is_map {
                        weight += self.weigh_nested(&value.get_item(&item)?, depth - 1)?;
                    }
                }
                Ok(weight)
            }
            _ => {
                let weight = 1 + value.as_bytes().map_or(0, <[u8]>::len) as u64;
                self.spend(weight)?;
                Ok(weight)
            }
        }
    }

    /// Pays for a value that will be copied one level deep.
    fn weigh_shallow(&self, value: &Value) -> Result<u64, Error> {
        let weight = match value.as_str() {
            Some(text) => text.len() as u64,
            None => CONTAINER_COST.saturating_mul(value.len().unwrap_or(0) as u64),
        };
        self.spend(weight + 1)?;
        Ok(weight + 1)
    }

    /// Pays for a filter or a method: its arguments, or their product where the result can be as large as that.
    pub(super) fn weigh_call(&self, name: &str, arguments: &[Value]) -> Result<(), Error> {
        self.count();
        match name {
            "length" | "count" | "first" | "last" | "default" | "d" | "items" | "keys" | "values" | "get"
                if arguments.len() < 3 && arguments.first().is_some_and(|value| value.as_str().is_none()) =>
            {
                // These look at one level only, and templates call them on the whole conversation within its loop.
                return arguments
                    .iter()
                    .skip(1)
                    .try_fold(1, |sum, value| Ok(sum + self.weigh(value)?))
                    .and_then(|sum| self.spend(sum));
            }
            _ => {}
        }
        let mut sum = 0_u64;
        let mut product = 1_u64;
        for argument in arguments {
            let weight = self.weigh(argument)?;
            sum = sum.saturating_add(weight);
            product = product.saturating_mul(weight.saturating_mul(1 + largest_count(argument)));
        }
        match name {
            "replace" | "join" | "format" | "indent" | "batch" | "slice" | "tojson" | "center" => self.spend(product),
            _ => self.spend(sum),
        }
    }
}

/// The largest number a call was given, named arguments and the numbers within a format string included.
fn largest_count(argument: &Value) -> u64 {
    if let Some(text) = argument.as_str() {
        let digits = text.split(|character: char| !character.is_ascii_digit()).filter(|run| !run.is_empty());
        // Short runs of digits in ordinary text are no widths worth paying for.
        return digits.filter(|run| run.len() > 3).map(|run| run.parse().unwrap_or(u64::MAX)).max().unwrap_or(0);
    }
    if argument.is_kwargs() {
        let names = argument.try_iter().into_iter().flatten();
        let values = names.filter_map(|name| argument.get_item(&name).ok());
        return values.filter_map(|value| value.as_i64()).map(i64::unsigned_abs).max().unwrap_or(0);
    }
    argument.as_i64().map_or(0, i64::unsigned_abs)
}

/// Refuses a template whose constants alone would be multiplied into something large while it is compiled: the compiler
/// folds constants before any fuel is counted.
pub(super) fn check_constants(source: &str, syntax: &SyntaxConfig) -> Result<(), TemplateFault> {
    let (mut bound, mut multiplies, mut tag_start) = (1_u64, false, 0_u64);
    let mut total = 0_u64;
    for token in tokenize(source, false, syntax.clone()) {
        let (token, span) = token?;
        match token {
            Token::VariableStart | Token::BlockStart => {
                (bound, multiplies, tag_start) = (1, false, u64::from(span.start_offset));
            }
            // Each number is counted as a factor of at least two, which bounds sums and products alike.
            Token::Int(number) => bound = bound.saturating_mul(number.saturating_add(2)),
            Token::Int128(_) | Token::Pow => bound = u64::MAX,
            Token::Mul => multiplies = true,
            Token::VariableEnd | Token::BlockEnd if multiplies => {
                let length = u64::from(span.end_offset).saturating_sub(tag_start);
                total = total.saturating_add(bound.saturating_mul(length));
                if total > MAXIMUM_CONSTANT {
                    let reason = "the tag multiplies constants into a huge value".to_owned();
                    return Err(TemplateFault { line: Some(span.start_line.into()), reason });
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Replaces, in place, the instructions that can grow or walk a value by filters of [`install`].
pub(super) fn rewrite(instructions: &mut Instructions<'_>) -> Result<(), TemplateFault> {
    let mut index = 0;
    while let Some(instruction) = instructions.get_mut(index) {
        let (name, arguments) = match instruction {
            Instruction::Add => ("+", 2),
            Instruction::Mul => ("*", 2),
            Instruction::StringConcat => ("~", 2),
            Instruction::In => ("in", 2),
            Instruction::GetItem => ("[]", 2),
            Instruction::Slice => ("[:]", 4),
            Instruction::Eq => ("==", 2),
            Instruction::Ne => ("!=", 2),
            Instruction::Lt => ("<", 2),
            Instruction::Lte => ("<=", 2),
            Instruction::Gt => (">", 2),
            Instruction::Gte => (">=", 2),
            Instruction::CompareAndPreserve(_) => return Err(unsupported("chained comparisons", instructions, index)),
            Instruction::UnpackLists(_) => return Err(unsupported("unpacking with `*`", instructions, index)),
            Instruction::CallMethod("changed", _) => return Err(unsupported("`loop.changed`", instructions, index)),
            _ => {
                index += 1;
                continue;
            }
        };
        // The last field is the engine's cache slot; !0 is its «do not cache».
        *instruction = Instruction::ApplyFilter(name, Some(arguments), !0);
        index += 1;
    }
    Ok(())
}

fn unsupported(what: &str, instructions: &Instructions<'_>, index: u32) -> TemplateFault {
    let reason = format!("{what}: not supported, because the cost cannot be bounded");
    TemplateFault { line: instructions.get_line(index), reason }
}

/// Instructions that a rendering may run, given the compiled template and the number of messages.
pub(super) fn fuel<'a, 'b: 'a>(compiled: impl Iterator<Item = &'a Instructions<'b>>, messages: usize) -> u64 {
    let mut longest = 1;
    for instructions in compiled {
        let mut index = 0;
        while let Some(instruction) = instructions.get(index) {
            if let Instruction::EmitRaw(text) = instruction {
                longest = longest.max(text.len() as u64);
            }
            index += 1;
        }
    }
    let wanted = BASE_FUEL.saturating_add(FUEL_PER_MESSAGE.saturating_mul(messages as u64));
    let literal = FUEL_PER_LITERAL * MAXIMUM_LITERAL_OUTPUT / longest;
    wanted.min(literal.saturating_add(LITERAL_FUEL_PER_MESSAGE.saturating_mul(messages as u64)))
}

/// Adds the guarded operators, filters and tests to `environment`, in place of the engine's own.
pub(super) fn install(environment: &mut Environment<'_>, allowance: &Allowance) {
    for (name, expression) in [("+", "a + b"), ("*", "a * b"), ("~", "a ~ b"), ("in", "a in b"), ("[]", "a[b]")] {
        let allowance = allowance.clone();
        environment.add_filter(name, move |state: &mut State, a: Value, b: Value| {
            weigh_operator(&allowance, name, &a, &b)?;
            evaluate(state, expression, [("a", a), ("b", b)])
        });
    }
    let payer = allowance.clone();
    environment.add_filter("[:]", move |state: &mut State, value: Value, start: Value, stop: Value, step: Value| {
        payer.count();
        payer.weigh_shallow(&value)?;
        evaluate(state, "v[a:b:c]", [("v", value), ("a", start), ("b", stop), ("c", step)])
    });
    for (names, compare) in COMPARISONS {
        for name in *names {
            let payer = allowance.clone();
            let guarded = move |a: Value, b: Value| -> Result<bool, Error> {
                payer.weigh(&a)?;
                payer.weigh(&b)?;
                Ok(compare(&a, &b))
            };
            environment.add_filter(*name, guarded.clone());
            environment.add_test(*name, guarded);
        }
    }
    let payer = allowance.clone();
    environment.add_test("in", move |state: &mut State, a: Value, b: Value| -> Result<bool, Error> {
        weigh_operator(&payer, "in", &a, &b)?;
        Ok(evaluate(state, "a in b", [("a", a), ("b", b)])?.is_true())
    });
    for (name, test) in walking_tests() {
        let payer = allowance.clone();
        environment.add_test(name, move |state: &mut State, arguments: Rest<Value>| {
            payer.weigh_call(name, &arguments)?;
            test.call(state, &arguments)
        });
    }
    for (name, filter) in builtin_filters() {
        let payer = allowance.clone();
        environment.add_filter(name, move |state: &mut State, positional: Rest<Value>, named: Kwargs| {
            let arguments = joined(&positional, named);
            payer.weigh_call(name, &arguments)?;
            filter.call(state, &arguments)
        });
    }
    for name in ["escape", "e", "pprint", "urlencode"] {
        environment.remove_filter(name);
    }
}

type Comparison = fn(&Value, &Value) -> bool;

const COMPARISONS: &[(&[&str], Comparison)] = &[
    (&["==", "eq", "equalto"], |a, b| a == b),
    (&["!=", "ne"], |a, b| a != b),
    (&["<", "lt", "lessthan"], |a, b| a < b),
    (&["<=", "le"], |a, b| a <= b),
    (&[">", "gt", "greaterthan"], |a, b| a > b),
    (&[">=", "ge"], |a, b| a >= b),
];

fn weigh_operator(allowance: &Allowance, name: &str, a: &Value, b: &Value) -> Result<(), Error> {
    allowance.count();
    match name {
        "[]" => {
            allowance.weigh(b)?;
            // Finding the n-th character of a string walks it.
            if a.as_str().is_some() { allowance.weigh(a).map(|_| ()) } else { Ok(()) }
        }
        "+" if a.is_number() && b.is_number() => allowance.spend(1),
        "+" => {
            allowance.weigh_shallow(a)?;
            allowance.weigh_shallow(b).map(|_| ())
        }
        "*" => {
            let copies = |value: &Value| value.as_i64().map_or(1, i64::unsigned_abs);
            let weight = |value: &Value| {
                if value.is_number() { Ok(0) } else { allowance.weigh_shallow(value) }
            };
            allowance.spend(weight(a)?.saturating_mul(copies(b)).max(weight(b)?.saturating_mul(copies(a))))
        }
        _ => {
            allowance.weigh(a)?;
            allowance.weigh(b).map(|_| ())
        }
    }
}

/// The arguments of a call as the engine passes them: the named ones last, as one value, if there are any.
pub(super) fn joined(positional: &[Value], named: Kwargs) -> Vec<Value> {
    let mut arguments = positional.to_vec();
    if named.args().next().is_some() {
        arguments.push(Value::from(named));
    }
    arguments
}

/// Evaluates a tiny expression with the engine's own operators, which it does not export.
fn evaluate<const N: usize>(
    state: &mut State,
    expression: &'static str,
    variables: [(&'static str, Value); N],
) -> Result<Value, Error> {
    let outcome =
        state.env().compile_expression(expression).and_then(|compiled| compiled.eval(Value::from_pairs(variables)));
    // The place of the failure is the template's, not this expression's, so the engine is left to fill it in.
    outcome.map_err(|error| Error::new(error.kind(), error.detail().unwrap_or_default().to_owned()))
}

/// Tests, beside the comparisons, whose cost grows with the value.
fn walking_tests() -> [(&'static str, Value); 4] {
    [
        ("lower", Value::from_function(tests::is_lower)),
        ("upper", Value::from_function(tests::is_upper)),
        ("startingwith", Value::from_function(tests::is_startingwith)),
        ("endingwith", Value::from_function(tests::is_endingwith)),
    ]
}

fn builtin_filters() -> Vec<(&'static str, Value)> {
    macro_rules! named {
        ($($name:literal => $filter:ident),* $(,)?) => { vec![$(($name, Value::from_function(filters::$filter))),*] };
    }
    named! {
        "safe" => safe, "lower" => lower, "upper" => upper, "title" => title, "capitalize" => capitalize,
        "replace" => replace, "length" => length, "count" => length, "dictsort" => dictsort, "items" => items,
        "reverse" => reverse, "trim" => trim, "join" => join, "split" => split, "lines" => lines,
        "default" => default, "d" => default, "round" => round, "abs" => abs, "int" => int, "float" => float,
        "attr" => attr, "first" => first, "last" => last, "min" => min, "max" => max, "sort" => sort,
        "list" => list, "string" => string, "bool" => bool, "batch" => batch, "slice" => slice, "sum" => sum,
        "indent" => indent, "select" => select, "reject" => reject, "selectattr" => selectattr,
        "rejectattr" => rejectattr, "map" => map, "groupby" => groupby, "unique" => unique, "chain" => chain,
        "zip" => zip, "format" => format,
    }
}
