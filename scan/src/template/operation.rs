//! Filters, tests, methods and functions: what each does with something said.
//!
//! Those that keep a text, or change only its blanks and letters' case, keep it said. Those that look for something in
//! it are tests. What is not listed and is given something said cannot be followed, and that is a finding.

use std::collections::BTreeMap;
use std::rc::Rc;

use minijinja::machinery::ast::{self, CallArg};

use super::expression::{Against, listed};
use super::flow::{Flow, Followed, Gravity, place};
use super::literal::Kind;
use super::value::{Literal, Place, Shape, Sources, Value};
use crate::json::shown;

/// A filter or method that is applied to something.
struct Applied<'c, 'a> {
    name: &'c str,
    positional: &'c [Value],
    named: &'c [(&'a str, Value)],
    /// All arguments together.
    given: Value,
    /// The texts of the template in them.
    literal: Literal,
    at: Place,
}

/// Positional and named arguments.
type Arguments<'a> = (Vec<Value>, Vec<(&'a str, Value)>);

impl<'t, 'a> Flow<'t, 'a> {
    pub(super) fn arguments(&mut self, arguments: &'t [CallArg<'a>]) -> Followed<Arguments<'a>> {
        let (mut positional, mut named) = (Vec::new(), Vec::new());
        for argument in arguments {
            match argument {
                CallArg::Pos(expression) => positional.push(self.expression(expression)?),
                CallArg::Kwarg(name, expression) => named.push((*name, self.expression(expression)?)),
                CallArg::PosSplat(expression) => {
                    let value = self.expression(expression)?;
                    positional.push(value.item());
                }
                CallArg::KwargSplat(expression) => {
                    let value = self.expression(expression)?;
                    positional.push(value);
                }
            }
        }
        Ok((positional, named))
    }

    /// The filters behind a block, innermost first; the block is what the innermost is given.
    pub(super) fn filter_chain(&mut self, chain: &'t ast::Expr<'a>, value: Value) -> Followed<Value> {
        let ast::Expr::Filter(node) = chain else { return Ok(value) };
        let value = match &node.expr {
            Some(inner) => self.filter_chain(inner, value)?,
            None => value,
        };
        self.filter(node.name, value, &node.args, place(node.span()))
    }

    pub(super) fn filter(
        &mut self,
        name: &'a str,
        value: Value,
        arguments: &'t [CallArg<'a>],
        at: Place,
    ) -> Followed<Value> {
        let (positional, named) = self.arguments(arguments)?;
        self.apply(name, value, &positional, &named, at)
    }

    /// What a filter, or the method of the same name, makes of a value.
    fn apply(
        &mut self,
        name: &str,
        value: Value,
        positional: &[Value],
        named: &[(&'a str, Value)],
        at: Place,
    ) -> Followed<Value> {
        self.pay(0)?;
        let all = || positional.iter().chain(named.iter().map(|(_, value)| value));
        let given = all().fold(Value::default(), super::value::Value::with);
        if !value.is_tainted() && !given.is_tainted() {
            return Ok(self.untainted(name, value, positional, named, &given));
        }
        let literal = all().fold(Literal::None, |sum, argument| sum.join(&argument.literal));
        // A default, a joint or a format whose words are written or not by what is said.
        if !is_search(name) {
            self.check_written(&given, value.decided, at);
            let number = given.decided.filter(|_| given.shape != Shape::Text);
            self.check_written(&value, number, at);
        }
        let call = Applied { name, positional, named, given, literal, at };
        if let Some(result) = self.of_text(&value, &call) {
            return Ok(result);
        }
        if let Some(result) = self.of_list(&value, &call)? {
            return Ok(result);
        }
        Ok(self.unknown(name, &value, &call.given, at))
    }

    /// What is done with a text.
    fn of_text(&mut self, value: &Value, call: &Applied<'_, 'a>) -> Option<Value> {
        let at = call.at;
        let kept = |shape: Shape| Value { shape, literal: value.literal.parts(), number: None, ..value.clone() };
        let is_role = matches!(value.shape, Shape::Role(_));
        Some(match call.name {
            "trim" | "strip" | "lstrip" | "rstrip" => {
                self.trimmed(value, &call.literal, at);
                if is_role { value.clone() } else { kept(Shape::Text) }
            }
            "lower" | "upper" | "title" | "capitalize" | "casefold" | "swapcase" => {
                if is_role {
                    value.clone()
                } else {
                    kept(Shape::Text)
                }
            }
            "safe" if matches!(value.shape, Shape::Text | Shape::Content | Shape::Part) => value.clone(),
            "string" | "safe" | "tojson" | "escape" | "e" | "forceescape" | "indent" | "pprint" | "urlencode"
            | "center" | "expandtabs" | "encode" | "decode" => kept(Shape::Text).decided(call.given.decided),
            "length" | "count" if call.positional.is_empty() => length(value),
            "int" | "float" | "abs" | "round" | "wordcount" | "sum" | "bool" => {
                let decided = value.decided.or(value.sources.has(Sources::SAID).then_some(at));
                Value { literal: Literal::None, ..kept(Shape::Scalar) }.decided(decided)
            }
            "join" => self.join(value, call.positional, call.named, at),
            "format" => {
                let all = value.clone().with(&call.given);
                Value { shape: Shape::Text, literal: all.literal.parts(), ..all }
            }
            "replace" => self.replace(value, call.positional, at),
            "split" | "rsplit" | "splitlines" | "lines" | "partition" | "rpartition" => {
                let piece = Value { literal: Literal::None, ..kept(Shape::Text) };
                let decided = self.search(value, &call.literal, at).decided;
                each(piece, value).decided(decided.filter(|_| value.sources.has(Sources::SAID)))
            }
            "removeprefix" | "removesuffix" => {
                let decided = self.search(value, &call.literal, at).decided;
                kept(Shape::Text).decided(decided)
            }
            "startswith" | "endswith" | "find" | "rfind" | "index" | "rindex" | "count" => {
                let other = call.positional.first().cloned().unwrap_or_default();
                self.against(value, &other, Against::Part, at)
            }
            "isdigit" | "isnumeric" | "isalpha" | "isalnum" | "isupper" | "islower" | "isspace" | "isascii"
            | "istitle" | "isdecimal" | "isidentifier" => {
                self.judged(value.sources, &Literal::None, at).decided(value.decided)
            }
            _ => return None,
        })
    }

    /// What is done with a list, an object, or whatever it is.
    fn of_list(&mut self, value: &Value, call: &Applied<'_, 'a>) -> Followed<Option<Value>> {
        let at = call.at;
        Ok(Some(match call.name {
            "default" | "d" => {
                call.positional.iter().fold(value.clone(), |all, other| all.join(other)).decided(value.decided)
            }
            "first" | "last" | "pop" => value.item(),
            "random" => {
                self.report(Gravity::Suspicious, at, "decides by chance");
                value.item()
            }
            "reverse" if matches!(value.shape, Shape::Text | Shape::Content | Shape::Part) => return Ok(None),
            "list" | "reverse" | "batch" | "slice" | "chain" | "copy" | "values" => match &value.shape {
                Shape::Content | Shape::Messages | Shape::ToolCalls | Shape::Each(_) => value.clone(),
                _ if call.name == "values" => each(fields_of(value), value),
                _ => each(value.item(), value),
            },
            "keys" => each(Value::of(Shape::Text, Sources::NAME), value),
            "items" | "dictsort" => each(listed(vec![key_of(value), fields_of(value)]), value),
            "map" => self.map(value, call.positional, call.named, at)?,
            "select" | "reject" | "selectattr" | "rejectattr" => self.select(call.name, value, call.positional, at),
            "attr" => match call.positional.first() {
                Some(key) => self.item(value, key, None, at),
                None => Value::default(),
            },
            "sort" | "unique" | "min" | "max" | "groupby" => {
                let decided = value.decided.or(value.sources.spoken().then_some(at));
                let outcome = match call.name {
                    "min" | "max" => value.item(),
                    "groupby" => each(listed(vec![value.item(), value.clone()]), value),
                    _ => value.clone(),
                };
                outcome.decided(decided)
            }
            "zip" => {
                let others = call.positional.iter().map(Value::item);
                each(listed(std::iter::once(value.item()).chain(others).collect()), value)
            }
            _ => return Ok(None),
        }))
    }

    /// Without anything said there is nothing to find, but shapes and texts must go on.
    fn untainted(
        &mut self,
        name: &str,
        value: Value,
        positional: &[Value],
        named: &[(&'a str, Value)],
        given: &Value,
    ) -> Value {
        match name {
            "lower" | "upper" | "trim" | "strip" | "string" if matches!(value.shape, Shape::Role(_)) => value,
            "trim" | "strip" if positional.is_empty() => match value.literal.only() {
                Some(text) => Value::text(text.trim()),
                None => value,
            },
            "default" | "d" => positional.iter().fold(value, |all, other| all.join(other)),
            "first" | "last" | "random" => value.item(),
            "list" | "safe" | "sort" | "unique" | "reverse" if value.literal.is_none() || name != "reverse" => value,
            "length" | "count" | "int" | "float" | "abs" | "round" => {
                let number = value.number.filter(|_| name == "int");
                Value { number, ..Value::new(Shape::Scalar) }
            }
            "items" | "dictsort" => each(listed(vec![key_of(&value), fields_of(&value)]), &value),
            "values" | "split" | "map" | "select" | "selectattr" | "reject" | "rejectattr" => {
                let item = if matches!(value.shape, Shape::Record(_)) { fields_of(&value) } else { value.item() };
                each(Value { literal: item.literal.join(&given.literal).parts(), ..item }, &value)
            }
            "lower" | "upper" | "string" | "trim" | "strip" | "lstrip" | "rstrip" if value.literal.only().is_some() => {
                let text = value.literal.only().unwrap_or_default();
                match name {
                    "lower" => Value::text(&text.to_lowercase()),
                    "upper" => Value::text(&text.to_uppercase()),
                    _ => value,
                }
            }
            "get" => self.item(
                &value,
                &positional.first().cloned().unwrap_or_default(),
                None,
                Place { start: 0, end: 0, line: 0 },
            ),
            _ => {
                let named = named.iter().fold(Literal::None, |sum, (_, value)| sum.join(&value.literal));
                let literal = value.literal.join(&given.literal).join(&named).parts();
                let is_text =
                    matches!(value.shape, Shape::Text | Shape::List(_) | Shape::Each(_)) || !literal.is_none();
                Value { literal, ..Value::new(if is_text { Shape::Text } else { Shape::Unknown }) }
            }
        }
    }

    fn unknown(&mut self, name: &str, value: &Value, given: &Value, at: Place) -> Value {
        let all = value.clone().with(given);
        if all.sources.spoken() || all.sources.has(Sources::DATE) {
            let reason = format!("what is said goes through `{}`, which is not followed", shown(name));
            self.report(Gravity::Suspicious, at, &reason);
        }
        Value { shape: Shape::Unknown, literal: all.literal.parts(), number: None, ..all }
    }

    /// Looks for a literal in a value.
    fn search(&mut self, value: &Value, literal: &Literal, at: Place) -> Value {
        if value.sources == Sources::SYSTEM && literal.kind() != Some(Kind::Word) {
            return Value::truth(value.decided);
        }
        if value.sources == Sources::DATE {
            // A date that is cut is still only a date.
            return Value::truth(value.decided);
        }
        self.judged(value.sources, literal, at).decided(value.decided)
    }

    /// Cutting blanks and marks off the ends is nothing; cutting letters is a rewriting.
    fn trimmed(&mut self, value: &Value, literal: &Literal, at: Place) {
        if literal.kind() == Some(Kind::Word) {
            self.search(value, literal, at);
        }
    }

    fn replace(&mut self, value: &Value, positional: &[Value], at: Place) -> Value {
        let (from, to) =
            (positional.first().cloned().unwrap_or_default(), positional.get(1).cloned().unwrap_or_default());
        let spoken = value.sources.spoken();
        let decided = self.search(value, &from.literal, at).decided;
        if spoken && to.literal.is_prose() {
            let is_said = value.sources.has(Sources::SAID);
            let reason = format!(
                "rewrites `{}` to `{}` in {}",
                shown(from.literal.example()),
                shown(to.literal.example()),
                if is_said { "what is said" } else { "the system's text" }
            );
            self.report(if is_said { Gravity::Suspicious } else { Gravity::Conditional }, at, &reason);
        }
        let all = value.clone().with(&to);
        Value { shape: Shape::Text, literal: all.literal.parts(), ..all }.decided(decided)
    }

    /// Items with something between them; `'…'.join(items)` comes here the other way round.
    fn join(&mut self, value: &Value, positional: &[Value], named: &[(&'a str, Value)], at: Place) -> Value {
        let mut item = value.item();
        if let Some((_, key)) = named.iter().find(|(name, _)| *name == "attribute") {
            item = self.item(&item, key, None, at);
        }
        let between = positional.first().cloned().unwrap_or_default();
        self.check_written(&between, value.decided, at);
        let all = item.with(&between).decided(value.decided);
        Value { shape: Shape::Text, literal: all.literal.parts(), ..all }
    }

    fn map(&mut self, value: &Value, positional: &[Value], named: &[(&'a str, Value)], at: Place) -> Followed<Value> {
        let item = value.item();
        let mapped = match named.iter().find(|(name, _)| *name == "attribute") {
            Some((_, key)) => self.deep_attribute(&item, key, at),
            None => match positional.split_first() {
                Some((filter, rest)) => match filter.literal.only().map(str::to_owned) {
                    Some(filter) => self.apply(&filter, item, rest, &[], at)?,
                    None => self.unknown("map", &item, filter, at),
                },
                None => item,
            },
        };
        let default = named.iter().find(|(name, _)| *name == "default").map(|(_, value)| value);
        Ok(each(default.map_or(mapped.clone(), |default| mapped.join(default)), value))
    }

    /// `function.name` in a filter's `attribute`.
    fn deep_attribute(&mut self, value: &Value, key: &Value, at: Place) -> Value {
        match key.literal.only() {
            Some(path) => {
                let names: Vec<String> = path.split('.').map(str::to_owned).collect();
                names.iter().fold(value.clone(), |value, name| match name.parse::<i64>() {
                    Ok(_) => value.item(),
                    Err(_) => self.attribute(&value, name, None, at),
                })
            }
            None => self.item(value, key, None, at),
        }
    }

    /// `select`, `selectattr` and their opposites: a test of each item, or of an attribute of it.
    fn select(&mut self, name: &str, value: &Value, positional: &[Value], at: Place) -> Value {
        let item = value.item();
        let by_attribute = name.ends_with("attr");
        let (subject, rest) = match (by_attribute, positional.split_first()) {
            (true, Some((key, rest))) => (self.deep_attribute(&item, key, at), rest),
            _ => (item, positional),
        };
        let Some((test, arguments)) = rest.split_first() else {
            // Whether there is anything.
            return value.clone().decided(subject.decided);
        };
        let decided = match test.literal.only().map(str::to_owned) {
            Some(test) => self.test(&test, &subject, arguments, at).decided,
            None => self.unknown(name, &subject, test, at).decided,
        };
        let wanted = arguments.iter().all(|argument| {
            matches!(argument.literal.only(), Some("system" | "developer"))
                || matches!(&argument.shape, Shape::List(items) if items.iter().all(|item| matches!(item.literal.only(), Some("system" | "developer"))))
        });
        let is_role = matches!(subject.shape, Shape::Role(_)) && value.shape == Shape::Messages;
        if name == "selectattr" && is_role && wanted && !arguments.is_empty() {
            return Value { sources: Sources::SYSTEM, ..value.clone() }.decided(decided);
        }
        let narrowed = match &value.shape {
            Shape::List(_) => each(value.item(), value),
            _ => value.clone(),
        };
        narrowed.decided(decided)
    }

    /// `value is name(arguments)`.
    pub(super) fn test(&mut self, name: &str, value: &Value, arguments: &[Value], at: Place) -> Value {
        let other = arguments.first().cloned().unwrap_or_default();
        match name {
            "defined" | "undefined" | "none" | "string" | "number" | "integer" | "int" | "float" | "boolean"
            | "mapping" | "sequence" | "iterable" | "true" | "false" | "callable" | "filter" | "test" | "safe"
            | "escaped" => Value::truth(value.decided),
            "eq" | "equalto" | "==" | "ne" | "!=" | "lt" | "lessthan" | "<" | "le" | "<=" | "gt" | "greaterthan"
            | ">" | "ge" | ">=" | "sameas" => self.compare(value, &other, at),
            "in" => self.contains(value, &other, at),
            "startingwith" | "endingwith" | "containing" | "search" | "match" => {
                self.against(value, &other, Against::Part, at)
            }
            _ => {
                let all = value.clone().with(&other);
                self.judged(all.sources, &Literal::None, at).decided(all.decided)
            }
        }
    }

    pub(super) fn call(&mut self, node: &'t ast::Call<'a>, at: Place) -> Followed<Value> {
        let (positional, named) = self.arguments(&node.args)?;
        match &node.expr {
            ast::Expr::Var(function) => self.function(function.id, &positional, &named, at),
            ast::Expr::GetAttr(method) => {
                let receiver = self.expression(&method.expr)?;
                self.method(method.name, receiver, super::expression::path(&method.expr), &positional, &named, at)
            }
            other => {
                let called = self.expression(other)?;
                if let Shape::Macro(number) = called.shape {
                    return self.call_macro(number, &positional, &named);
                }
                let given = positional.iter().fold(Value::default(), super::value::Value::with);
                Ok(self.unknown("a call of what is not known by name", &called, &given, at))
            }
        }
    }

    fn function(&mut self, name: &str, positional: &[Value], named: &[(&'a str, Value)], at: Place) -> Followed<Value> {
        if let Some(Shape::Macro(number)) = self.variable(name).map(|value| value.shape.clone()) {
            return self.call_macro(number, positional, named);
        }
        let given = positional.iter().chain(named.iter().map(|(_, value)| value));
        let given = given.fold(Value::default(), super::value::Value::with);
        Ok(match name {
            "caller" => self.call_caller(positional)?,
            "raise_exception" => Value::default(),
            "strftime_now" | "now" | "datetime" | "time" => Value::of(Shape::Text, Sources::DATE),
            "range" => each(Value::new(Shape::Scalar), &given).decided(given.decided),
            "namespace" => {
                let id = at.start;
                for (name, value) in named {
                    self.add_to_namespace(id, name, value);
                }
                for value in positional {
                    match &value.shape {
                        Shape::Record(fields) => {
                            for (name, field) in fields.iter() {
                                self.add_to_namespace(id, name, field);
                            }
                        }
                        _ if value.is_tainted() => return Ok(self.unknown(name, value, &given, at)),
                        _ => {}
                    }
                }
                Value::new(Shape::Namespace(id))
            }
            "dict" => {
                let mut fields: BTreeMap<Rc<str>, Value> =
                    named.iter().map(|(name, value)| (Rc::from(*name), value.clone())).collect();
                for value in positional {
                    match &value.shape {
                        Shape::Record(more) => {
                            fields.extend(more.iter().map(|(key, field)| (Rc::clone(key), field.clone())));
                        }
                        _ => drop(fields.insert(Rc::from("…"), value.item())),
                    }
                }
                Value { shape: Shape::Record(Rc::new(fields)), ..given }
            }
            "cycler" | "joiner" => Value { shape: Shape::Unknown, ..given },
            _ if self.variable(name).is_none() && !given.is_tainted() => Value::new(Shape::Unknown),
            _ => {
                let called = self.variable(name).cloned().unwrap_or_default();
                self.unknown(name, &called, &given, at)
            }
        })
    }

    fn method(
        &mut self,
        name: &'a str,
        receiver: Value,
        path: Option<String>,
        positional: &[Value],
        named: &[(&'a str, Value)],
        at: Place,
    ) -> Followed<Value> {
        if name.contains("__") {
            return Ok(self.attribute(&receiver, name, path, at));
        }
        if let (Shape::Namespace(_) | Shape::Record(_), false) = (&receiver.shape, is_method(name)) {
            let called = self.attribute(&receiver, name, path, at);
            if let Shape::Macro(number) = called.shape {
                return self.call_macro(number, positional, named);
            }
            let given = positional.iter().fold(Value::default(), super::value::Value::with);
            return Ok(self.unknown(name, &called, &given, at));
        }
        let first = positional.first().cloned().unwrap_or_default();
        match (&receiver.shape, name) {
            (Shape::Loop(_), "cycle") => Ok(listed(positional.to_vec()).item()),
            (Shape::Loop(_), "changed") => {
                let given = positional.iter().fold(Value::default(), super::value::Value::with);
                Ok(self.judged(given.sources, &Literal::None, at).decided(given.decided))
            }
            (Shape::Loop(_), _) => Ok(Value::new(Shape::Scalar)),
            (_, "get") => {
                let found = self.item(&receiver, &first, path, at);
                let default = positional.get(1).cloned().unwrap_or_default();
                self.check_written(&default, first.decided.or(receiver.decided), at);
                if first.sources.has(Sources::SAID) && matches!(receiver.shape, Shape::Record(_)) {
                    self.check_written(&default, Some(at), at);
                }
                Ok(found.join(&default))
            }
            (_, "join") => {
                let all = first.clone().with(&receiver);
                if first.is_tainted() || receiver.is_tainted() {
                    return Ok(self.join(&first, &[receiver], &[], at));
                }
                Ok(Value { shape: Shape::Text, literal: all.literal.parts(), ..Value::default() })
            }
            _ => self.apply(name, receiver, positional, named, at),
        }
    }
}

/// Whether the arguments are looked for, not written.
fn is_search(name: &str) -> bool {
    [
        "startswith",
        "endswith",
        "find",
        "rfind",
        "index",
        "rindex",
        "count",
        "split",
        "rsplit",
        "partition",
        "rpartition",
        "strip",
        "lstrip",
        "rstrip",
        "trim",
        "removeprefix",
        "removesuffix",
        "replace",
        "get",
        "attr",
        "map",
        "select",
        "reject",
        "selectattr",
        "rejectattr",
        "join",
        "sort",
        "unique",
        "groupby",
        "tojson",
        "indent",
        "dictsort",
    ]
    .contains(&name)
}

/// Methods of objects, which are not the object's own fields.
fn is_method(name: &str) -> bool {
    ["get", "items", "keys", "values", "copy", "update", "setdefault", "pop"].contains(&name)
}

fn each(item: Value, whole: &Value) -> Value {
    let literal = item.literal.parts();
    Value {
        sources: item.sources.or(whole.sources),
        decided: whole.decided.or(item.decided),
        shape: Shape::Each(Rc::new(item)),
        literal,
        number: None,
    }
}

/// The key of an entry.
fn key_of(value: &Value) -> Value {
    match &value.shape {
        Shape::Record(_) => value.item(),
        _ if value.sources.any() => Value::of(Shape::Text, Sources::NAME),
        _ => Value::new(Shape::Text),
    }
}

/// What stands in its fields.
fn fields_of(value: &Value) -> Value {
    match &value.shape {
        Shape::Record(fields) => fields.values().fold(Value::default(), |all, field| all.join(field)),
        Shape::Unknown | Shape::Nothing => Value::of(value.shape.clone(), value.sources),
        _ => Value::of(Shape::Content, value.sources),
    }
}

/// The length of a text says something about it; that of a list of messages or calls does not.
fn length(value: &Value) -> Value {
    let is_text = matches!(value.shape, Shape::Text | Shape::Content | Shape::Part | Shape::Unknown);
    let shape = if is_text && value.sources.any() { Shape::Length } else { Shape::Scalar };
    let sources = if shape == Shape::Length { value.sources } else { Sources::NONE };
    Value { shape, sources, decided: value.decided, ..Value::default() }
}
