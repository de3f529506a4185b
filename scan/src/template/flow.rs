//! Follows what is said through a template without running it.
//!
//! The template is parsed by the engine's own parser and interpreted over [`Value`]s that know where a text comes from.
//! Both sides of every condition are taken, loops are walked until nothing new flows round them, macros are entered
//! where they are called. Three things are found: a test of what is said (or of the date) against words; words that are
//! written, or not, by a test for a mark or a length; and what cannot be followed although something said flows into
//! it. What is decided by the system turn is found as something milder. Every step is paid for, so no template takes
//! long.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use minijinja::machinery::{Span, ast};

use super::value::{Literal, Place, Shape, Sources, Value};
use crate::json::shown;

/// Statements and expressions within one another.
const DEEPEST: usize = 600;
/// Calls of macros within one another.
const MOST_CALLS: usize = 12;
/// Turns of a loop, until nothing new flows.
const MOST_TURNS: usize = 6;
/// Findings that are listed of one template.
const MOST_FINDINGS: usize = 20;

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gravity {
    /// What is said, or the date, decides; the engine is left; something cannot be followed.
    Suspicious,
    /// The system turn decides.
    Conditional,
}

/// One construct of a template that is worth a rule's attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) gravity: Gravity,
    pub(super) line: u16,
    /// The construct, one line of it.
    pub(super) snippet: String,
    pub(super) reason: String,
}

impl Finding {
    pub(super) fn message(&self) -> String {
        format!("line {}, `{}`: {}", self.line, self.snippet, self.reason)
    }
}

/// Why a template could not be followed to its end.
#[derive(Debug)]
pub(super) enum Stop {
    Steps,
    Depth(u16),
}

/// A value, unless the template is too much.
pub(super) type Followed<T> = Result<T, Stop>;

/// A message that is known to be the system's, by its path, as long as the variable is the same.
struct Known {
    path: String,
    version: u32,
}

/// What was written since it began: the whole text, a macro's, or a block's.
#[derive(Default)]
struct Written {
    value: Value,
    /// Whether all of it was written in any case.
    begun_under: usize,
}

/// The interpreter.
pub(super) struct Flow<'t, 'a> {
    source: &'a str,
    variables: HashMap<&'a str, Value>,
    /// What variables were before they were set, so that a branch can be undone.
    log: Vec<(&'a str, Option<Value>)>,
    /// How often each was set.
    versions: HashMap<&'a str, u32>,
    attributes: HashMap<(u32, Rc<str>), Value>,
    /// How often an attribute came to hold something new.
    news: usize,
    pub(super) macros: Vec<&'t ast::Macro<'a>>,
    calls: Vec<usize>,
    callers: Vec<&'t ast::Macro<'a>>,
    known: Vec<Known>,
    /// The test that decides whether the current statement is reached.
    pub(super) context: Option<Place>,
    /// A test that decided that a turn of the innermost loop ended early.
    broken: Option<Place>,
    outputs: Vec<Written>,
    branches: usize,
    depth: usize,
    steps: &'t mut u64,
    found: BTreeMap<(Gravity, u32, u32), Finding>,
}

impl<'t, 'a> Flow<'t, 'a> {
    pub(super) fn new(source: &'a str, steps: &'t mut u64) -> Self {
        Self {
            source,
            variables: HashMap::new(),
            log: Vec::new(),
            versions: HashMap::new(),
            attributes: HashMap::new(),
            news: 0,
            macros: Vec::new(),
            calls: Vec::new(),
            callers: Vec::new(),
            known: Vec::new(),
            context: None,
            broken: None,
            outputs: vec![Written::default()],
            branches: 0,
            depth: 0,
            steps,
            found: BTreeMap::new(),
        }
    }

    /// What was found, in the order of the template, the graver first.
    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.found.into_values().collect()
    }

    pub(super) fn pay(&mut self, steps: usize) -> Followed<()> {
        *self.steps = self.steps.checked_sub(steps as u64 + 1).ok_or(Stop::Steps)?;
        Ok(())
    }

    pub(super) fn report(&mut self, gravity: Gravity, place: Place, reason: &str) {
        if self.found.len() < MOST_FINDINGS {
            let snippet = self.quoted(place);
            let finding = Finding { gravity, line: place.line, snippet, reason: reason.to_owned() };
            self.found.entry((gravity, place.start, place.end)).or_insert(finding);
        }
    }

    /// The text of a place. The parser lets an expression begin with the token before it.
    fn quoted(&self, place: Place) -> String {
        const BEFORE: [&str; 9] = ["if ", "elif ", "and ", "or ", "in ", "not ", "= ", "(", ", "];
        let text = self.source.get(place.start as usize..place.end as usize).unwrap_or_default().trim();
        let rest = BEFORE.iter().find_map(|before| text.strip_prefix(before));
        shown(rest.unwrap_or(text).trim_start())
    }

    /// Words that a test for something said decides about.
    pub(super) fn check_written(&mut self, value: &Value, decided: Option<Place>, place: Place) {
        let Some(test) = decided else { return };
        if value.literal.is_prose() {
            let reason = format!(
                "what is said decides, by `{}`, whether `{}` is written",
                self.quoted(test),
                shown(value.literal.example())
            );
            self.report(Gravity::Suspicious, place, &reason);
        } else if value.sources.has(Sources::SYSTEM) && !value.sources.has(Sources::SAID) {
            let reason =
                format!("what is said decides, by `{}`, whether the system's text is written", self.quoted(test));
            self.report(Gravity::Suspicious, place, &reason);
        }
    }

    /// One level deeper, for the time of `work`.
    pub(super) fn deeper<T>(&mut self, place: Place, work: impl FnOnce(&mut Self) -> Followed<T>) -> Followed<T> {
        if self.depth >= DEEPEST {
            return Err(Stop::Depth(place.line));
        }
        self.depth += 1;
        let outcome = work(self);
        self.depth -= 1;
        outcome
    }

    pub(super) fn variable(&self, name: &str) -> Option<&Value> {
        self.variables.get(name)
    }

    /// Sets a variable in the current scope.
    pub(super) fn assign(&mut self, name: &'a str, value: Value) {
        let before = self.variables.insert(name, value);
        self.log.push((name, before));
        *self.versions.entry(name).or_default() += 1;
    }

    /// Undoes what was set since `mark`, and tells it.
    fn undo(&mut self, mark: usize) -> HashMap<&'a str, Value> {
        let mut changed = HashMap::new();
        while self.log.len() > mark {
            let Some((name, before)) = self.log.pop() else { break };
            let after = match before {
                Some(before) => self.variables.insert(name, before),
                None => self.variables.remove(name),
            };
            if let Some(after) = after {
                changed.entry(name).or_insert(after);
            }
            *self.versions.entry(name).or_default() += 1;
        }
        changed
    }

    pub(super) fn attribute_of_namespace(&self, id: u32, name: &str) -> Value {
        self.attributes.get(&(id, Rc::from(name))).cloned().unwrap_or_default()
    }

    /// An attribute may be read in an earlier place than it was set in, so it is all that was ever set.
    pub(super) fn add_to_namespace(&mut self, id: u32, name: &str, value: &Value) {
        let known = self.attributes.entry((id, Rc::from(name))).or_insert_with(|| {
            self.news += 1;
            value.clone()
        });
        let joined = known.join(value);
        if joined != *known {
            *known = joined;
            self.news += 1;
        }
    }

    /// A path with the state of its variable, so that it can be told later whether it still leads to the same message.
    pub(super) fn stamped(&self, path: &str) -> String {
        format!("{}@{path}", self.version_of(path))
    }

    /// The path, where its variable is still what it was.
    pub(super) fn unstamped(&self, stamped: &str) -> Option<String> {
        let (version, path) = stamped.split_once('@')?;
        (version.parse() == Ok(self.version_of(path))).then(|| path.to_owned())
    }

    fn version_of(&self, path: &str) -> u32 {
        let root = path.split(['.', '[']).next().unwrap_or_default();
        self.versions.get(root).copied().unwrap_or_default()
    }

    /// Whether the message at a path is known to be the system's.
    pub(super) fn is_system(&self, path: &str) -> bool {
        self.known.iter().any(|known| known.path == path && self.version_of(path) == known.version)
    }

    pub(super) fn knows_any(&self) -> bool {
        !self.known.is_empty()
    }

    /// Runs `work` with what a condition tells of roles, and decided by what decides it.
    pub(super) fn under<T>(
        &mut self,
        systems: Vec<String>,
        decided: Option<Place>,
        work: impl FnOnce(&mut Self) -> Followed<T>,
    ) -> Followed<T> {
        let (known, context) = (self.known.len(), self.context);
        for path in systems {
            let version = self.version_of(&path);
            self.known.push(Known { path, version });
        }
        self.context = decided.or(context);
        let outcome = work(self);
        self.known.truncate(known);
        self.context = context;
        outcome
    }

    /// What `work` writes, as a value.
    pub(super) fn captured(&mut self, work: impl FnOnce(&mut Self) -> Followed<()>) -> Followed<Value> {
        self.outputs.push(Written { value: Value::text(""), begun_under: self.branches });
        let outcome = work(self);
        let written = self.outputs.pop().unwrap_or_default();
        outcome.map(|()| written.value)
    }

    fn write(&mut self, value: &Value, place: Place) {
        self.check_written(value, self.context, place);
        let (context, branches) = (self.context, self.branches);
        if let Some(output) = self.outputs.last_mut() {
            let always = branches == output.begun_under;
            let literal = match (&value.literal, value.is_tainted()) {
                (Literal::None, _) | (_, true) => output.value.literal.parts().join(&value.literal.parts()),
                (literal, false) if always => output.value.literal.concat(literal),
                // Written or not.
                (literal, false) => output.value.literal.join(&output.value.literal.concat(literal)),
            };
            output.value.literal = literal;
            output.value.sources = output.value.sources.or(value.sources);
            output.value.decided = output.value.decided.or(value.decided).or(context);
        }
    }

    pub(super) fn statements(&mut self, statements: &'t [ast::Stmt<'a>]) -> Followed<()> {
        statements.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &'t ast::Stmt<'a>) -> Followed<()> {
        self.pay(0)?;
        if let Some(span) = file_taken_in(statement) {
            self.report(Gravity::Suspicious, place(span), "takes in another file, which no chat template needs");
        }
        match statement {
            ast::Stmt::Template(node) => {
                self.declare(&node.children);
                self.statements(&node.children)
            }
            ast::Stmt::EmitRaw(node) => {
                self.pay(node.raw.len() / 32)?;
                self.write(&Value::text(node.raw), place(node.span()));
                Ok(())
            }
            ast::Stmt::EmitExpr(node) => {
                let value = self.expression(&node.expr)?;
                self.write(&value, place(node.expr.span()));
                Ok(())
            }
            ast::Stmt::IfCond(node) => self.deeper(place(node.span()), |flow| flow.condition(node)),
            ast::Stmt::ForLoop(node) => self.deeper(place(node.span()), |flow| flow.for_loop(node)),
            ast::Stmt::Set(node) => {
                let value = self.expression(&node.expr)?;
                self.set(&node.target, value, place(node.expr.span()))
            }
            ast::Stmt::SetBlock(node) => {
                let mut value = self.captured(|flow| flow.statements(&node.body))?;
                if let Some(filter) = &node.filter {
                    value = self.filter_chain(filter, value)?;
                }
                self.set(&node.target, value, place(node.span()))
            }
            ast::Stmt::FilterBlock(node) => {
                let value = self.captured(|flow| flow.statements(&node.body))?;
                let value = self.filter_chain(&node.filter, value)?;
                self.write(&value, place(node.span()));
                Ok(())
            }
            ast::Stmt::WithBlock(node) => {
                let mark = self.log.len();
                for (target, expression) in &node.assignments {
                    let value = self.expression(expression)?;
                    self.set(target, value, place(expression.span()))?;
                }
                self.statements(&node.body)?;
                self.undo(mark);
                Ok(())
            }
            ast::Stmt::AutoEscape(node) => self.statements(&node.body),
            ast::Stmt::Block(node) => self.statements(&node.body),
            ast::Stmt::Macro(node) => {
                self.declare_one(node);
                Ok(())
            }
            ast::Stmt::CallBlock(node) => {
                self.callers.push(&node.macro_decl);
                let value = self.call(&node.call, place(node.span()));
                self.callers.pop();
                let value = value?;
                self.write(&value, place(node.span()));
                Ok(())
            }
            ast::Stmt::Continue(_) | ast::Stmt::Break(_) => {
                self.broken = self.broken.or(self.context);
                Ok(())
            }
            ast::Stmt::Do(node) => self.call(&node.call, place(node.span())).map(|_| ()),
            ast::Stmt::Import(_) | ast::Stmt::FromImport(_) | ast::Stmt::Extends(_) | ast::Stmt::Include(_) => Ok(()),
        }
    }

    /// Macros may be called before the place where they stand, within another macro.
    fn declare(&mut self, statements: &'t [ast::Stmt<'a>]) {
        for statement in statements {
            if let ast::Stmt::Macro(node) = statement {
                self.declare_one(node);
            }
        }
    }

    fn declare_one(&mut self, declared: &'t ast::Macro<'a>) {
        let number = self.macros.iter().position(|known| std::ptr::eq(*known, declared)).unwrap_or_else(|| {
            self.macros.push(declared);
            self.macros.len() - 1
        });
        self.assign(declared.name, Value::new(Shape::Macro(number)));
    }

    fn condition(&mut self, node: &'t ast::IfCond<'a>) -> Followed<()> {
        let value = self.expression(&node.expr)?;
        let decided = self.deciding(&value, place(node.expr.span()));
        let (when_true, when_false) = (self.systems(&node.expr, true), self.systems(&node.expr, false));
        let mark = self.log.len();
        self.branches += 1;
        self.under(when_true, decided, |flow| flow.statements(&node.true_body))?;
        let taken = self.undo(mark);
        self.under(when_false, decided, |flow| flow.statements(&node.false_body))?;
        let other = self.undo(mark);
        self.branches -= 1;
        let names: Vec<&str> =
            taken.keys().chain(other.keys().filter(|name| !taken.contains_key(*name))).copied().collect();
        for name in names {
            let before = self.variables.get(name).cloned().unwrap_or_default();
            let joined = taken.get(name).unwrap_or(&before).join(other.get(name).unwrap_or(&before));
            self.assign(name, joined);
        }
        Ok(())
    }

    fn for_loop(&mut self, node: &'t ast::ForLoop<'a>) -> Followed<()> {
        let whole = self.expression(&node.iter)?;
        if node.recursive {
            self.report(Gravity::Suspicious, place(node.iter.span()), "a loop that calls itself cannot be followed");
        }
        // How many turns there are may say something already.
        let decided = self.deciding(&whole, place(node.iter.span()));
        let item = whole.item();
        let mut broken = None;
        let outer = self.broken.take();
        self.branches += 1;
        for _ in 0..MOST_TURNS {
            let (mark, news) = (self.log.len(), self.news);
            self.assign("loop", Value::new(Shape::Loop(Rc::new(item.clone()))));
            self.set(&node.target, item.clone(), place(node.target.span()))?;
            let mut systems = Vec::new();
            let mut filtered = None;
            if let Some(filter) = &node.filter_expr {
                let value = self.expression(filter)?;
                filtered = self.deciding(&value, place(filter.span()));
                systems = self.systems(filter, true);
            }
            self.under(systems, decided.or(filtered).or(broken), |flow| flow.statements(&node.body))?;
            self.undo(mark);
            let ended = self.broken.take();
            let is_new = self.news != news || (ended.is_some() && broken.is_none());
            broken = broken.or(ended);
            if !is_new {
                break;
            }
        }
        self.broken = outer;
        let mark = self.log.len();
        self.under(Vec::new(), decided, |flow| flow.statements(&node.else_body))?;
        self.undo(mark);
        self.branches -= 1;
        Ok(())
    }

    /// Gives a value to a name, several names, or an attribute of a namespace.
    fn set(&mut self, target: &'t ast::Expr<'a>, value: Value, at: Place) -> Followed<()> {
        self.pay(0)?;
        self.check_written(&value, self.context, at);
        let value = value.decided(self.context);
        match target {
            ast::Expr::Var(name) => self.assign(name.id, value),
            ast::Expr::GetAttr(node) => {
                let object = self.expression(&node.expr)?;
                match object.shape {
                    Shape::Namespace(id) => self.add_to_namespace(id, node.name, &value),
                    _ if value.is_tainted() => {
                        let reason = "what is said is kept in an object that is not known here";
                        self.report(Gravity::Suspicious, place(node.span()), reason);
                    }
                    _ => {}
                }
            }
            ast::Expr::List(node) => self.unpack(&node.items, &value, at)?,
            ast::Expr::Tuple(node) => self.unpack(&node.items, &value, at)?,
            _ => self.report(Gravity::Suspicious, at, "an assignment that is not known here"),
        }
        Ok(())
    }

    fn unpack(&mut self, targets: &'t [ast::Expr<'a>], value: &Value, at: Place) -> Followed<()> {
        let all = value.item();
        for (index, target) in targets.iter().enumerate() {
            let item = match &value.shape {
                Shape::List(items) if items.len() == targets.len() => items.get(index).cloned().unwrap_or_default(),
                _ => all.clone(),
            };
            self.set(target, item.decided(value.decided), at)?;
        }
        Ok(())
    }

    /// What a macro writes for these arguments.
    pub(super) fn call_macro(
        &mut self,
        number: usize,
        positional: &[Value],
        named: &[(&'a str, Value)],
    ) -> Followed<Value> {
        let Some(called) = self.macros.get(number).copied() else { return Ok(Value::default()) };
        let all = positional.iter().chain(named.iter().map(|(_, value)| value));
        if self.calls.iter().filter(|open| **open == number).count() >= 2 || self.calls.len() >= MOST_CALLS {
            // Its words were met in the calls that are still open; what it is given, it may write.
            let given = all.fold(Value::new(Shape::Text), |sum, value| Value {
                sources: sum.sources.or(value.sources),
                decided: sum.decided.or(value.decided),
                ..sum
            });
            return Ok(given);
        }
        self.calls.push(number);
        let value = self.body_of(called, positional, named);
        self.calls.pop();
        value
    }

    fn body_of(
        &mut self,
        called: &'t ast::Macro<'a>,
        positional: &[Value],
        named: &[(&'a str, Value)],
    ) -> Followed<Value> {
        let mark = self.log.len();
        let optional = called.args.len().saturating_sub(called.defaults.len());
        for (index, argument) in called.args.iter().enumerate() {
            let ast::Expr::Var(name) = argument else { continue };
            let given =
                named.iter().find(|(known, _)| *known == name.id).map(|(_, value)| value).or(positional.get(index));
            let value = match (given, index.checked_sub(optional).and_then(|index| called.defaults.get(index))) {
                (Some(value), _) => value.clone(),
                (None, Some(default)) => self.expression(default)?,
                (None, None) => Value::default(),
            };
            self.assign(name.id, value);
        }
        let broken = self.broken.take();
        let value = self.captured(|flow| {
            flow.declare(&called.body);
            flow.statements(&called.body)
        });
        self.broken = broken;
        self.undo(mark);
        value.map(|value| Value { shape: Shape::Text, ..value })
    }

    /// What the block around `{% call %}` writes.
    pub(super) fn call_caller(&mut self, positional: &[Value]) -> Followed<Value> {
        let Some(body) = self.callers.pop() else { return Ok(Value::default()) };
        let value = self.body_of(body, positional, &[]);
        self.callers.push(body);
        value
    }
}

/// Where a statement stands that reads another file.
fn file_taken_in(statement: &ast::Stmt<'_>) -> Option<Span> {
    match statement {
        ast::Stmt::Import(node) => Some(node.span()),
        ast::Stmt::FromImport(node) => Some(node.span()),
        ast::Stmt::Extends(node) => Some(node.span()),
        ast::Stmt::Include(node) => Some(node.span()),
        _ => None,
    }
}

/// Where an expression stands.
pub(super) fn place(span: Span) -> Place {
    Place { start: span.start_offset, end: span.end_offset, line: span.start_line }
}
