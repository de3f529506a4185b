//! Expressions: what a value is made of, and where a test, an index or an operator lets something said decide.

use std::collections::BTreeMap;
use std::rc::Rc;

use minijinja::machinery::ast::{self, BinOpKind, CompareOpKind, UnaryOpKind};
use minijinja::value::ValueKind;

use super::flow::{Flow, Followed, Gravity, place};
use super::literal::Kind;
use super::value::{Literal, Place, Shape, Sources, Value};
use crate::json::shown;

/// Parts of a message or of a call that the program sets and nobody says.
const STRUCTURE: [&str; 12] =
    ["role", "type", "id", "tool_call_id", "index", "tools", "weight", "train", "eot", "end_turn", "prefix", "channel"];
/// Names of variables that hold the date where the program gives it.
const DATES: [&str; 6] = ["date_string", "date", "today", "current_date", "now", "datetime"];
/// Special tokens, which the program gives.
const TOKENS: [&str; 8] =
    ["bos_token", "eos_token", "pad_token", "unk_token", "image_token", "audio_token", "video_token", "sep_token"];
/// Items of a list that are kept apart.
const MOST_ITEMS: usize = 64;

/// How two values are held against each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Against {
    /// Whether they are equal, or which is greater.
    Whole,
    /// Whether one holds, begins or ends with the other.
    Part,
}

impl<'t, 'a> Flow<'t, 'a> {
    pub(super) fn expression(&mut self, expression: &'t ast::Expr<'a>) -> Followed<Value> {
        self.pay(0)?;
        let at = place(expression.span());
        let value = self.deeper(at, |flow| flow.evaluate(expression, at))?;
        self.pay(value.weight())?;
        if value.shape == Shape::Message
            && self.knows_any()
            && path(expression).is_some_and(|path| self.is_system(&path))
        {
            return Ok(Value { sources: Sources::SYSTEM, ..value });
        }
        Ok(value)
    }

    fn evaluate(&mut self, expression: &'t ast::Expr<'a>, at: Place) -> Followed<Value> {
        match expression {
            ast::Expr::Var(node) => Ok(self.lookup(node.id)),
            ast::Expr::Const(node) => {
                self.pay(node.value.as_str().map_or(0, |text| text.len() / 32))?;
                Ok(constant(&node.value, 0))
            }
            ast::Expr::Slice(node) => {
                let value = self.expression(&node.expr)?;
                let mut bounds = Value::default();
                for bound in [&node.start, &node.stop, &node.step].into_iter().flatten() {
                    bounds = bounds.with(&self.expression(bound)?);
                }
                Ok(self.slice(value, &bounds, at))
            }
            ast::Expr::UnaryOp(node) => {
                let value = self.expression(&node.expr)?;
                match node.op {
                    UnaryOpKind::Not => Ok(Value::truth(self.deciding(&value, at))),
                    UnaryOpKind::Neg if value.number.is_some() => {
                        Ok(Value { number: value.number.and_then(i64::checked_neg), ..value })
                    }
                    UnaryOpKind::Neg => Ok(self.arithmetic(&value, &Value::default(), at)),
                }
            }
            ast::Expr::BinOp(node) => self.operator(node, at),
            ast::Expr::Compare(node) => {
                let mut left = self.expression(&node.expr)?;
                let mut decided = None;
                for next in &node.ops {
                    let right = self.expression(&next.expr)?;
                    let outcome = match next.op {
                        CompareOpKind::In | CompareOpKind::NotIn => self.contains(&left, &right, at),
                        _ => self.compare(&left, &right, at),
                    };
                    decided = decided.or(outcome.decided);
                    left = right;
                }
                Ok(Value::truth(decided))
            }
            ast::Expr::IfExpr(node) => self.ternary(node, at),
            ast::Expr::Filter(node) => {
                let value = match &node.expr {
                    Some(inner) => self.expression(inner)?,
                    None => Value::default(),
                };
                self.filter(node.name, value, &node.args, at)
            }
            ast::Expr::Test(node) => {
                let value = self.expression(&node.expr)?;
                let arguments = self.arguments(&node.args)?.0;
                Ok(self.test(node.name, &value, &arguments, at))
            }
            ast::Expr::GetAttr(node) => {
                let value = self.expression(&node.expr)?;
                Ok(self.attribute(&value, node.name, path(&node.expr), at))
            }
            ast::Expr::GetItem(node) => {
                let value = self.expression(&node.expr)?;
                let index = self.expression(&node.subscript_expr)?;
                Ok(self.item(&value, &index, path(&node.expr), at))
            }
            ast::Expr::Call(node) => self.call(node, at),
            ast::Expr::List(node) => self.list(&node.items),
            ast::Expr::Tuple(node) => self.list(&node.items),
            ast::Expr::Map(node) => {
                let mut fields = BTreeMap::new();
                let mut all = Value::default();
                for (key, value) in node.keys.iter().zip(&node.values) {
                    let (key, value) = (self.expression(key)?, self.expression(value)?);
                    all = all.with(&key).with(&value);
                    let name: Rc<str> = Rc::from(key.literal.only().unwrap_or("…"));
                    fields.entry(name).and_modify(|known: &mut Value| *known = known.join(&value)).or_insert(value);
                }
                Ok(Value { shape: Shape::Record(Rc::new(fields)), ..all })
            }
        }
    }

    fn lookup(&self, name: &str) -> Value {
        if let Some(value) = self.variable(name) {
            return value.clone();
        }
        match name {
            "messages" | "conversation" | "conversations" => Value::of(Shape::Messages, Sources::SAID),
            "message" => Value::of(Shape::Message, Sources::SAID),
            "content" | "documents" | "prompt" | "query" => Value::of(Shape::Content, Sources::SAID),
            "system_message" | "system_prompt" | "system" => Value::of(Shape::Content, Sources::SYSTEM),
            "bos_token" | "eos_token" => Value::text("<s>"),
            _ if TOKENS.contains(&name) => Value::text("<token>"),
            _ if DATES.contains(&name) => Value::of(Shape::Text, Sources::DATE),
            _ => Value::new(Shape::Unknown),
        }
    }

    fn list(&mut self, items: &'t [ast::Expr<'a>]) -> Followed<Value> {
        let mut values = Vec::new();
        for item in items {
            values.push(self.expression(item)?);
        }
        Ok(listed(values))
    }

    fn ternary(&mut self, node: &'t ast::IfExpr<'a>, at: Place) -> Followed<Value> {
        let test = self.expression(&node.test_expr)?;
        let decided = self.deciding(&test, place(node.test_expr.span()));
        let (when_true, when_false) = (self.systems(&node.test_expr, true), self.systems(&node.test_expr, false));
        let yes = self.under(when_true, decided, |flow| flow.expression(&node.true_expr))?;
        let no = self.under(when_false, decided, |flow| match &node.false_expr {
            Some(other) => flow.expression(other),
            None => Ok(Value::default()),
        })?;
        self.check_written(&yes, decided, at);
        self.check_written(&no, decided, at);
        Ok(yes.join(&no).decided(decided))
    }

    fn operator(&mut self, node: &'t ast::BinOp<'a>, at: Place) -> Followed<Value> {
        let left = self.expression(&node.left)?;
        if matches!(node.op, BinOpKind::ScAnd | BinOpKind::ScOr) {
            return self.either(node, &left, at);
        }
        let right = self.expression(&node.right)?;
        Ok(match node.op {
            BinOpKind::In => self.contains(&left, &right, at),
            BinOpKind::Eq | BinOpKind::Ne | BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte => {
                self.compare(&left, &right, at)
            }
            BinOpKind::Concat => concat(&left, &right),
            BinOpKind::Add => self.add(&left, &right, at),
            // `'%s' % text` writes the text.
            BinOpKind::Rem if left.shape == Shape::Text => concat(&left, &right),
            _ => self.arithmetic(&left, &right, at),
        })
    }

    /// `a and b`, `a or b`: a truth value, or one of the two.
    fn either(&mut self, node: &'t ast::BinOp<'a>, left: &Value, at: Place) -> Followed<Value> {
        let is_and = matches!(node.op, BinOpKind::ScAnd);
        let decided = self.deciding(left, at);
        let systems = self.systems(&node.left, is_and);
        let right = self.under(systems, decided, |flow| flow.expression(&node.right))?;
        self.check_written(&right, decided, at);
        let joined = if is_and && right.shape == Shape::Scalar { right } else { left.join(&right) };
        Ok(joined.decided(decided))
    }

    fn add(&mut self, left: &Value, right: &Value, at: Place) -> Value {
        let is_list = |value: &Value| matches!(value.shape, Shape::List(_) | Shape::Each(_) | Shape::Messages);
        let is_number = |value: &Value| matches!(value.shape, Shape::Scalar | Shape::Length);
        if is_list(left) || is_list(right) {
            let shape = match (&left.shape, &right.shape) {
                (Shape::List(one), Shape::List(other)) if one.len() + other.len() <= MOST_ITEMS => {
                    Shape::List(Rc::new(one.iter().chain(other.iter()).cloned().collect()))
                }
                _ => left.join(right).shape,
            };
            return Value { shape, ..left.clone().with(right) };
        }
        if is_number(left) && is_number(right) { self.arithmetic(left, right, at) } else { concat(left, right) }
    }

    /// Numbers made of numbers, or a text repeated.
    pub(super) fn arithmetic(&mut self, left: &Value, right: &Value, at: Place) -> Value {
        let all = left.clone().with(right);
        if all.sources.has(Sources::DATE) {
            self.report(Gravity::Suspicious, at, "calculates with the date");
        }
        let decided = all.decided.or((all.sources.has(Sources::SAID)).then_some(at));
        for (number, text) in [(left, right), (right, left)] {
            if number.shape != Shape::Text {
                self.check_written(text, number.decided.or(number.sources.has(Sources::SAID).then_some(at)), at);
            }
        }
        Value { shape: if all.literal.is_none() { Shape::Scalar } else { Shape::Text }, decided, ..all }
    }

    pub(super) fn slice(&mut self, value: Value, bounds: &Value, at: Place) -> Value {
        if bounds.sources.has(Sources::DATE) {
            self.report(Gravity::Suspicious, at, "the date decides what is taken");
        }
        self.check_written(&value, bounds.decided, at);
        let is_text = matches!(value.shape, Shape::Text | Shape::Content | Shape::Part | Shape::Unknown);
        // Whether there is anything left tells the length.
        let decided = bounds.decided.or((is_text && value.sources.has(Sources::SAID)).then_some(at));
        let (shape, literal) = match &value.shape {
            Shape::List(_) => (Shape::Each(Rc::new(value.item())), value.literal.clone()),
            Shape::Part | Shape::Role(_) => (Shape::Text, value.literal.parts()),
            shape if is_text => (shape.clone(), value.literal.parts()),
            shape => (shape.clone(), value.literal.clone()),
        };
        Value { shape, literal, number: None, ..value.decided(decided) }
    }

    /// `value[index]`.
    pub(super) fn item(&mut self, value: &Value, index: &Value, path: Option<String>, at: Place) -> Value {
        if let (Some(name), false) = (index.literal.only(), index.is_tainted()) {
            return self.attribute(value, name, path, at);
        }
        if index.sources.has(Sources::DATE) {
            self.report(Gravity::Suspicious, at, "the date decides which item is taken");
        }
        let said = index.sources.has(Sources::SAID);
        let chosen = index.decided.or(said.then_some(at));
        let table =
            value.literal.kind().is_some_and(|kind| kind == Kind::Word) && matches!(value.shape, Shape::Record(_));
        if said && index.shape != Shape::Length && table {
            self.report(Gravity::Suspicious, at, "what is said is looked up in a table of words");
        }
        if index.sources.has(Sources::SYSTEM) && !said && (table || value.literal.is_prose()) {
            self.report(Gravity::Conditional, at, "the system's text decides which item is taken");
        }
        let item = match (&value.shape, index.number) {
            (Shape::List(items), Some(number)) => {
                let index = if number < 0 { number + items.len() as i64 } else { number };
                usize::try_from(index).ok().and_then(|index| items.get(index)).cloned().unwrap_or_default()
            }
            (Shape::Record(fields), _) => fields.values().fold(Value::default(), |all, field| all.join(field)),
            // A key that is not known: anything that it may hold.
            (Shape::Message | Shape::ToolCall | Shape::Part, None) => Value::of(Shape::Content, value.sources),
            (Shape::Namespace(_), _) => Value::of(Shape::Unknown, Sources::SAID),
            _ => value.item(),
        };
        self.check_written(&item, chosen, at);
        let sources = item.sources.or(if said && !table { Sources::NONE } else { index.sources });
        Value { sources, ..item.decided(value.decided).decided(chosen) }
    }

    /// `value.name`; `path` is that of the value.
    pub(super) fn attribute(&mut self, value: &Value, name: &str, path: Option<String>, at: Place) -> Value {
        if name.contains("__") {
            let reason = format!("`{}` reaches out of the template engine", shown(name));
            self.report(Gravity::Suspicious, at, &reason);
        }
        let like = |shape: Shape| Value { shape, sources: value.sources, decided: value.decided, ..Value::default() };
        let structure = |shape: Shape| Value { shape, decided: value.decided, ..Value::default() };
        match (&value.shape, name) {
            (Shape::Message, "role") => {
                let stamped = path.map(|path| self.stamped(&path)).unwrap_or_default();
                structure(Shape::Role(Rc::from(stamped)))
            }
            (Shape::Message, "tool_calls") => like(Shape::ToolCalls),
            (Shape::ToolCall, "function") => like(Shape::ToolCall),
            (Shape::Message | Shape::ToolCall | Shape::Part | Shape::Content, "name" | "recipient") => {
                Value { shape: Shape::Text, sources: Sources::NAME, decided: value.decided, ..Value::default() }
            }
            (Shape::Message | Shape::ToolCall | Shape::Part | Shape::Content, name) if STRUCTURE.contains(&name) => {
                structure(Shape::Unknown)
            }
            (Shape::Message | Shape::ToolCall | Shape::Part | Shape::Content, _) => like(Shape::Content),
            (Shape::Record(fields), name) => {
                fields.get(name).or_else(|| fields.get("…")).cloned().unwrap_or_default().decided(value.decided)
            }
            (Shape::Namespace(id), name) => self.attribute_of_namespace(*id, name),
            (Shape::Loop(item), "previtem" | "nextitem") => (**item).clone(),
            (Shape::Loop(_), _) => Value::new(Shape::Scalar),
            (Shape::Nothing | Shape::Scalar | Shape::Length, _) => structure(Shape::Nothing),
            // `list[0]` comes here as well, by a number that was written as a text.
            (Shape::List(_) | Shape::Each(_) | Shape::Messages | Shape::ToolCalls, _) => {
                value.item().decided(value.decided)
            }
            _ => Value { literal: value.literal.parts(), ..like(Shape::Unknown) },
        }
    }

    /// `left in right`.
    pub(super) fn contains(&mut self, left: &Value, right: &Value, at: Place) -> Value {
        let is_key = !left.sources.spoken() && left.literal.only().is_none_or(|key| key.chars().count() > 1);
        match &right.shape {
            // Whether there is such a key.
            Shape::Message | Shape::ToolCall | Shape::Part | Shape::Loop(_) | Shape::Namespace(_) if is_key => {
                Value::truth(left.decided.or(right.decided))
            }
            Shape::Record(_) if is_key && !left.sources.any() => Value::truth(left.decided.or(right.decided)),
            Shape::List(_) | Shape::Each(_) => {
                let item = right.item();
                self.against(left, &item, Against::Whole, at)
            }
            _ => self.against(left, right, Against::Part, at),
        }
    }

    pub(super) fn compare(&mut self, left: &Value, right: &Value, at: Place) -> Value {
        let decided = left.decided.or(right.decided);
        for (length, other) in [(left, right), (right, left)] {
            // Whether there is anything at all.
            if length.shape == Shape::Length && matches!(other.number, Some(0 | 1)) {
                return Value::truth(length.decided);
            }
            // Against none and truth values, and one message against another.
            let is_plain = other.shape == Shape::Nothing && !other.is_tainted();
            let both = length.shape == Shape::Message && other.shape == Shape::Message;
            if is_plain || both {
                return Value::truth(decided);
            }
        }
        self.against(left, right, Against::Whole, at)
    }

    /// Holds two values against each other; a finding where something said is held against words.
    pub(super) fn against(&mut self, left: &Value, right: &Value, how: Against, at: Place) -> Value {
        let sources = left.sources.or(right.sources);
        let decided = left.decided.or(right.decided);
        if !sources.any() {
            return Value::truth(decided);
        }
        // Of a text that is said, it does not matter what the template put around it; of the other side it does.
        let measure = match (left.sources.any(), right.sources.any()) {
            (true, false) => right.literal.clone(),
            (false, true) => left.literal.clone(),
            _ => left.literal.concat(&right.literal).parts(),
        };
        let is_nothing = |value: &Value| value.literal.only() == Some("");
        if how == Against::Whole && (is_nothing(left) || is_nothing(right)) {
            return Value::truth(decided);
        }
        self.judged(sources, &measure, at).decided(decided)
    }

    /// The outcome of looking for `measure` in something that comes from `sources`.
    pub(super) fn judged(&mut self, sources: Sources, measure: &Literal, at: Place) -> Value {
        let word = measure.kind() == Some(Kind::Word);
        if sources.has(Sources::DATE) {
            self.report(Gravity::Suspicious, at, "the date decides");
            return Value::truth(None);
        }
        if word && sources.has(Sources::SAID) {
            let reason = format!("decides by the words `{}` in what is said", shown(measure.example()));
            self.report(Gravity::Suspicious, at, &reason);
            return Value::truth(None);
        }
        // A name is held against the names that the program gives.
        if sources.has(Sources::SAID) || (sources.has(Sources::NAME) && !measure.is_none()) {
            return Value::truth(Some(at));
        }
        if sources.has(Sources::SYSTEM) && measure.kind() > Some(Kind::Blank) {
            let reason = format!("decides by `{}` in the system's text", shown(measure.example()));
            self.report(Gravity::Conditional, at, &reason);
        }
        Value::truth(None)
    }

    /// What of that which is said decides a condition on this value.
    pub(super) fn deciding(&mut self, value: &Value, at: Place) -> Option<Place> {
        if value.sources.has(Sources::DATE) && value.shape != Shape::Text {
            self.report(Gravity::Suspicious, at, "the date decides");
        }
        // Whether a text is there at all decides nothing that anybody said.
        value.decided
    }

    /// Paths of messages whose role is the system's where the condition is `truth`.
    pub(super) fn systems(&self, condition: &ast::Expr<'a>, truth: bool) -> Vec<String> {
        let mut paths = Vec::new();
        self.find_systems(condition, truth, &mut paths, 0);
        paths
    }

    fn find_systems(&self, condition: &ast::Expr<'a>, truth: bool, paths: &mut Vec<String>, depth: usize) {
        const DEEPEST: usize = 24;
        if depth > DEEPEST {
            return;
        }
        match condition {
            ast::Expr::UnaryOp(node) if matches!(node.op, UnaryOpKind::Not) => {
                self.find_systems(&node.expr, !truth, paths, depth + 1);
            }
            ast::Expr::BinOp(node) => match (node.op, truth) {
                (BinOpKind::ScAnd, true) | (BinOpKind::ScOr, false) => {
                    self.find_systems(&node.left, truth, paths, depth + 1);
                    self.find_systems(&node.right, truth, paths, depth + 1);
                }
                (BinOpKind::Eq, true) | (BinOpKind::Ne, false) => {
                    for (role, name) in [(&node.left, &node.right), (&node.right, &node.left)] {
                        if is_command(name) {
                            paths.extend(self.message_of(role));
                        }
                    }
                }
                (BinOpKind::In, true) => {
                    let ast::Expr::List(list) = &node.right else { return };
                    if !list.items.is_empty() && list.items.iter().all(is_command) {
                        paths.extend(self.message_of(&node.left));
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// The path of the message whose role an expression is.
    fn message_of(&self, role: &ast::Expr<'a>) -> Option<String> {
        match role {
            ast::Expr::GetAttr(node) if node.name == "role" => path(&node.expr),
            ast::Expr::GetItem(node) if text_of(&node.subscript_expr) == Some("role") => path(&node.expr),
            ast::Expr::Filter(node) if matches!(node.name, "lower" | "trim") => self.message_of(node.expr.as_ref()?),
            ast::Expr::Var(node) => match &self.variable(node.id)?.shape {
                Shape::Role(stamped) => self.unstamped(stamped),
                _ => None,
            },
            _ => None,
        }
    }
}

/// One text after another.
pub(super) fn concat(left: &Value, right: &Value) -> Value {
    let literal = left.literal.concat(&right.literal);
    let literal = match (left.literal.is_none(), right.literal.is_none()) {
        // Part of it is no text of the template.
        (true, _) | (_, true) => literal.parts(),
        _ => literal,
    };
    Value {
        shape: Shape::Text,
        sources: left.sources.or(right.sources),
        decided: left.decided.or(right.decided),
        literal,
        number: None,
    }
}

/// A list of values.
pub(super) fn listed(values: Vec<Value>) -> Value {
    let all = values.iter().fold(Value::default(), super::value::Value::with);
    let shape = if values.len() <= MOST_ITEMS {
        Shape::List(Rc::new(values))
    } else {
        Shape::Each(Rc::new(values.iter().fold(Value::default(), |all, value| all.join(value))))
    };
    Value { shape, ..all }
}

/// A value that stands in the template.
pub(super) fn constant(value: &minijinja::Value, depth: usize) -> Value {
    const DEEPEST: usize = 8;
    if let Some(text) = value.as_str() {
        return Value::text(text);
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None | ValueKind::Bool => Value::default(),
        ValueKind::Number => Value { number: value.as_i64(), ..Value::new(Shape::Scalar) },
        ValueKind::Seq | ValueKind::Iterable if depth < DEEPEST => {
            let items = value.try_iter().into_iter().flatten().map(|item| constant(&item, depth + 1)).collect();
            listed(items)
        }
        _ => Value::text(&value.to_string()),
    }
}

/// How a place among the variables is written: `messages[0]`.
pub(super) fn path(expression: &ast::Expr<'_>) -> Option<String> {
    const LONGEST: usize = 200;
    let path = match expression {
        ast::Expr::Var(node) => node.id.to_owned(),
        ast::Expr::GetAttr(node) => format!("{}.{}", path(&node.expr)?, node.name),
        ast::Expr::GetItem(node) => match &node.subscript_expr {
            ast::Expr::Const(index) => match index.value.as_str() {
                Some(name) => format!("{}.{name}", path(&node.expr)?),
                None => format!("{}[{}]", path(&node.expr)?, index.value.as_i64()?),
            },
            _ => return None,
        },
        _ => return None,
    };
    (path.len() <= LONGEST).then_some(path)
}

fn text_of<'e>(expression: &'e ast::Expr<'_>) -> Option<&'e str> {
    match expression {
        ast::Expr::Const(node) => node.value.as_str(),
        _ => None,
    }
}

fn is_command(expression: &ast::Expr<'_>) -> bool {
    matches!(text_of(expression), Some("system" | "developer"))
}
