//! Patterns of a config: Python's regular expressions, by a stranger, matched within one budget for the whole adapter.
//!
//! A bound for each match bounds nothing where a file may ask for half a million matches. So all patterns of one config
//! share a
//! [`Budget`]: the size of their automata, estimated before any is built, and the work of all matches, charged before
//! or as they are made. It counts steps and not seconds, so that a file is refused everywhere or nowhere. Names that
//! are plain text, as nearly all are, need no automaton.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use fancy_regex::{Error, Expr, Regex, RegexBuilder, RuntimeError};

use super::error::AdapterError;
use super::fields::shortened;

/// Longest pattern accepted, bytes.
const MAX_PATTERN_BYTES: usize = 65_536;
/// States of all automata of a config: about 10 MB, and a quarter of a second to build.
const MOST_STATES: u64 = 100_000;
/// What an automaton takes beside its states.
const AUTOMATON: u64 = 100;
/// Work of all matches of a config, in units of some nanoseconds.
const MOST_WORK: u64 = 200_000_000;
/// Work of one step of backtracking.
const STEP: u64 = 4;
/// Steps of backtracking that nearly every match stays within, and those after which a match is given up.
const STEPS: [usize; 2] = [2_000, 50_000];
/// Largest automaton of one pattern, bytes.
const SIZE_LIMIT: usize = 4 << 20;
/// Transitions that one automaton may remember, bytes.
const CACHE_LIMIT: usize = 64 << 10;

/// What all patterns of one adapter may cost together, counted down.
#[derive(Debug)]
pub(crate) struct Budget {
    states: AtomicU64,
    work: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { states: AtomicU64::new(MOST_STATES), work: AtomicU64::new(MOST_WORK) }
    }
}

impl Budget {
    /// Takes `cost` from what is left; false where there is not so much.
    fn take(left: &AtomicU64, cost: u64) -> bool {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost)).is_ok()
    }

    /// Charges work that is done outside of a pattern, for `field`.
    pub(crate) fn charge(&self, path: &Path, field: &str, work: u64) -> Result<(), AdapterError> {
        if Self::take(&self.work, work) { Ok(()) } else { Err(exhausted(path, field, "to match")) }
    }
}

fn exhausted(path: &Path, field: &str, what: &str) -> AdapterError {
    AdapterError::PatternBudget {
        path: path.to_path_buf(),
        field: field.to_owned(),
        reason: format!("the patterns of this config together take too long {what}"),
    }
}

/// What PEFT puts around a name before it takes it for a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `re.fullmatch(source, text)`.
    Full,
    /// `re.match(rf"(.*\.)?({source})$", text)`: the rule of `rank_pattern` and `alpha_pattern`.
    Tail,
    /// `re.match(rf"(^|.*\.){source}($|\..*)", text)`: the modules inside one that is saved whole.
    Enclosing,
    /// `re.match(rf"(?:^|.*?\.){source}\.(?P<idx>\d+)\.", text)`: the layer's number.
    Layer,
    /// Any numbered segment but the first: the rule where no `layers_pattern` is given.
    AnyLayer,
}

impl Form {
    fn wrap(self, source: &str) -> String {
        match self {
            Self::Full => format!(r"\A(?:{source})\z"),
            Self::Tail => format!(r"\A(.*\.)?({source})\z"),
            Self::Enclosing => format!(r"\A(^|.*\.){source}($|\..*)"),
            Self::Layer => format!(r"\A(?:^|.*?\.){source}\.(?P<idx>\d+)\."),
            Self::AnyLayer => r"\A.*?\.[^.]*\.(?P<idx>\d+)\.".to_owned(),
        }
    }
}

/// How a pattern is matched.
#[derive(Debug, Clone)]
enum Engine {
    /// Letters, digits, `_` and `-`, and dots that stand for any character: no automaton is needed.
    Plain,
    /// An automaton, which reads the text once.
    Linear { regex: Regex, states: u64 },
    /// Look-around or back-references, which are tried one after the other: at first with few steps, again with more.
    Backtracking { quick: Regex, patient: Arc<OnceLock<Regex>>, states: u64 },
}

/// A Python pattern with what an error needs to name it.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    path: PathBuf,
    field: String,
    source: String,
    form: Form,
    engine: Engine,
    budget: Arc<Budget>,
}

impl Pattern {
    pub(crate) fn full(path: &Path, field: &str, source: &str, budget: &Arc<Budget>) -> Result<Self, AdapterError> {
        Self::compile(path, field, source, Form::Full, budget)
    }

    pub(crate) fn tail(path: &Path, field: &str, source: &str, budget: &Arc<Budget>) -> Result<Self, AdapterError> {
        Self::compile(path, field, source, Form::Tail, budget)
    }

    pub(crate) fn enclosing(
        path: &Path,
        field: &str,
        source: &str,
        budget: &Arc<Budget>,
    ) -> Result<Self, AdapterError> {
        Self::compile(path, field, source, Form::Enclosing, budget)
    }

    /// The layer's number, behind `source` or, without one, behind anything.
    pub(crate) fn layer(path: &Path, source: Option<&str>, budget: &Arc<Budget>) -> Result<Self, AdapterError> {
        let form = if source.is_some() { Form::Layer } else { Form::AnyLayer };
        Self::compile(path, "layers_pattern", source.unwrap_or_default(), form, budget)
    }

    fn compile(path: &Path, field: &str, source: &str, form: Form, budget: &Arc<Budget>) -> Result<Self, AdapterError> {
        let engine = engine(source, form, budget).map_err(|refusal| match refusal {
            Refusal::Wrong(reason) => AdapterError::Pattern {
                path: path.to_path_buf(),
                field: field.to_owned(),
                pattern: shortened(source),
                reason,
            },
            Refusal::Exhausted => exhausted(path, field, "to compile"),
        })?;
        let (path, field, source, budget) =
            (path.to_path_buf(), field.to_owned(), source.to_owned(), Arc::clone(budget));
        Ok(Self { path, field, source, form, engine, budget })
    }

    /// Whether the pattern matches.
    pub(crate) fn matches(&self, text: &str) -> Result<bool, AdapterError> {
        self.charge(text)?;
        match &self.engine {
            Engine::Plain => Ok(plain(&self.source, self.form, text).is_some()),
            Engine::Linear { regex, .. } => regex.is_match(text).map_err(|error| self.too_slow(&error)),
            Engine::Backtracking { quick, patient, states } => {
                self.patiently(quick, patient, *states, |regex| regex.is_match(text))
            }
        }
    }

    /// The layer's number, or `None` where the pattern does not match.
    pub(crate) fn index(&self, text: &str) -> Result<Option<String>, AdapterError> {
        self.charge(text)?;
        let caught = |regex: &Regex| {
            let captures = regex.captures(text)?;
            Ok(captures.and_then(|groups| groups.name("idx").map(|group| group.as_str().to_owned())))
        };
        match &self.engine {
            Engine::Plain => Ok(plain(&self.source, self.form, text).map(str::to_owned)),
            Engine::Linear { regex, .. } => caught(regex).map_err(|error| self.too_slow(&error)),
            Engine::Backtracking { quick, patient, states } => self.patiently(quick, patient, *states, caught),
        }
    }

    /// The pattern as it stands in the config.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Charges one match against the budget of all.
    fn charge(&self, text: &str) -> Result<(), AdapterError> {
        let length = text.len() as u64 + 1;
        let work = match (&self.engine, self.form) {
            (Engine::Plain, Form::Full | Form::Tail) => self.source.len() as u64 + 1,
            (Engine::Plain, _) => length,
            (Engine::Linear { states, .. }, _) => length * (16 + states / 4),
            (Engine::Backtracking { states, .. }, _) => work_of_steps(STEPS[0], *states),
        };
        self.budget.charge(&self.path, &self.field, work)
    }

    /// Tries with few steps, then with more.
    fn patiently<T>(
        &self,
        quick: &Regex,
        patient: &OnceLock<Regex>,
        states: u64,
        mut attempt: impl FnMut(&Regex) -> Result<T, Error>,
    ) -> Result<T, AdapterError> {
        match attempt(quick) {
            Err(Error::RuntimeError(RuntimeError::BacktrackLimitExceeded)) => {}
            known => return known.map_err(|error| self.too_slow(&error)),
        }
        self.budget.charge(&self.path, &self.field, work_of_steps(STEPS[1], states))?;
        let regex = if let Some(regex) = patient.get() {
            regex
        } else {
            let built = build(&self.form.wrap(&self.source), STEPS[1]).map_err(|error| self.too_slow(&error))?;
            patient.get_or_init(|| built)
        };
        attempt(regex).map_err(|error| self.too_slow(&error))
    }

    fn too_slow(&self, error: &Error) -> AdapterError {
        AdapterError::PatternBudget {
            path: self.path.clone(),
            field: self.field.clone(),
            reason: format!("`{}` cannot be matched in reasonable time ({error})", shortened(&self.source)),
        }
    }
}

/// Work of a match that may take so many steps; each may search with an automaton of its own.
fn work_of_steps(steps: usize, states: u64) -> u64 {
    steps as u64 * STEP * (1 + states / 32)
}

/// Why a pattern has no engine.
enum Refusal {
    Wrong(String),
    Exhausted,
}

fn engine(source: &str, form: Form, budget: &Budget) -> Result<Engine, Refusal> {
    if source.len() > MAX_PATTERN_BYTES {
        return Err(Refusal::Wrong(format!("is longer than {MAX_PATTERN_BYTES} bytes")));
    }
    let is_plain = source.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if is_plain && form != Form::AnyLayer {
        return Ok(Engine::Plain);
    }
    // Python reads {,3} as {0,3}; the engine here would take it for plain text.
    if source.contains("{,") {
        return Err(Refusal::Wrong("repeats with `{,`: write {0,…} instead".to_owned()));
    }
    let wrong =
        |error: Error| Refusal::Wrong(format!("does not compile: {}. Correct it", shortened(&error.to_string())));
    // Alone first: `a)|(b` parses inside the group that is put around it, and means something else there.
    Expr::parse_tree(source).map_err(wrong)?;
    let wrapped = form.wrap(source);
    let tree = Expr::parse_tree(&wrapped).map_err(wrong)?;
    let states = states(&tree.expr).saturating_add(AUTOMATON);
    if !Budget::take(&budget.states, states) {
        return Err(Refusal::Exhausted);
    }
    let regex = build(&wrapped, STEPS[0]).map_err(wrong)?;
    Ok(if is_linear(&tree.expr) {
        Engine::Linear { regex, states }
    } else {
        Engine::Backtracking { quick: regex, patient: Arc::default(), states }
    })
}

fn build(pattern: &str, steps: usize) -> Result<Regex, Error> {
    RegexBuilder::new(pattern)
        .backtrack_limit(steps)
        .delegate_size_limit(SIZE_LIMIT)
        .delegate_dfa_size_limit(CACHE_LIMIT)
        .build()
}

/// An upper estimate of an automaton's states; of repetitions, every copy counts.
fn states(expression: &Expr) -> u64 {
    let sum = |parts: &[Expr]| parts.iter().fold(1, |sum: u64, part| sum.saturating_add(states(part)));
    match expression {
        Expr::Literal { val, casei } => val.len() as u64 * if *casei { 8 } else { 1 },
        Expr::Any { .. } => 12,
        Expr::Delegate { inner, casei, .. } => states_of_class(inner) * if *casei { 2 } else { 1 },
        Expr::Concat(parts) | Expr::Alt(parts) => sum(parts),
        Expr::Group(inner) => states(inner).saturating_add(2),
        Expr::LookAround(inner, _) | Expr::AtomicGroup(inner) => states(inner).saturating_add(AUTOMATON),
        Expr::Repeat { child, lo, hi, .. } => {
            let copies = if *hi == usize::MAX { lo.saturating_add(1) } else { (*hi).max(1) };
            states(child).saturating_add(1).saturating_mul(copies as u64)
        }
        Expr::Conditional { condition, true_branch, false_branch } => [condition, true_branch, false_branch]
            .into_iter()
            .fold(AUTOMATON, |sum, part| sum.saturating_add(states(part))),
        _ => AUTOMATON,
    }
}

/// States of a set of characters: one of letters in all scripts takes many.
fn states_of_class(class: &str) -> u64 {
    let is_wide = ["\\w", "\\W", "\\p", "\\P", "[:", "(?", "&&"].iter().any(|mark| class.contains(mark));
    let is_middle = ["\\d", "\\D", "\\s", "\\S", "^"].iter().any(|mark| class.contains(mark));
    let own = 8 + 4 * class.len() as u64;
    match (is_wide, is_middle) {
        (true, _) => 800 + own,
        (false, true) => 80 + own,
        (false, false) => own,
    }
}

/// Whether an automaton alone decides: no look-around, no back-reference, nothing else that is tried step by step.
fn is_linear(expression: &Expr) -> bool {
    match expression {
        Expr::Empty | Expr::Any { .. } | Expr::Literal { .. } | Expr::Delegate { .. } => true,
        Expr::Assertion(assertion) => {
            use fancy_regex::Assertion::{EndLine, EndText, StartLine, StartText};
            matches!(assertion, EndLine { .. } | EndText | StartLine { .. } | StartText)
        }
        Expr::Concat(parts) | Expr::Alt(parts) => parts.iter().all(is_linear),
        Expr::Group(inner) => is_linear(inner),
        Expr::Repeat { child, .. } => is_linear(child),
        _ => false,
    }
}

/// Matches plain text, whose dots stand for any character: what is caught, empty unless it is a layer's number.
fn plain<'a>(source: &str, form: Form, text: &'a str) -> Option<&'a str> {
    // A dot of Python's does not match the end of a line, and what stands before and behind is dots.
    if text.contains('\n') {
        return None;
    }
    match form {
        Form::Full => after(source, text).filter(|rest| rest.is_empty()),
        Form::Tail => {
            let beginning = text.chars().count().checked_sub(source.len())?;
            let at = text.char_indices().map(|(at, _)| at).nth(beginning).unwrap_or(text.len());
            let (before, own) = text.split_at(at);
            let is_apart = before.is_empty() || before.ends_with('.');
            after(source, own).filter(|rest| rest.is_empty() && is_apart)
        }
        Form::Enclosing => beginnings(text)
            .any(|beginning| after(source, beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
            .then_some(""),
        Form::Layer => beginnings(text).find_map(|beginning| number(after(source, beginning)?)),
        Form::AnyLayer => None,
    }
}

/// What stands behind `source` in a text that begins with it.
fn after<'a>(source: &str, text: &'a str) -> Option<&'a str> {
    let mut rest = text.chars();
    source.chars().all(|own| rest.next().is_some_and(|found| own == '.' || own == found)).then_some(rest.as_str())
}

/// The text itself, and what of it stands behind each dot.
fn beginnings(text: &str) -> impl Iterator<Item = &str> {
    std::iter::once(text).chain(text.match_indices('.').filter_map(|(at, _)| text.get(at + 1..)))
}

/// The digits of `.17.`, at the beginning.
fn number(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('.')?.split_once('.')?.0;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMS: [Form; 4] = [Form::Full, Form::Tail, Form::Enclosing, Form::Layer];

    fn pattern(source: &str, form: Form) -> Result<Pattern, AdapterError> {
        Pattern::compile(Path::new("adapter_config.json"), "rank_pattern", source, form, &Arc::default())
    }

    #[test]
    fn plain_text_is_matched_as_the_regular_expression_is() {
        let sources = ["q_proj", "layers", "model.norm", "a", "norm", "h", "self_attn.q_proj", "q-proj", "..", ".", ""];
        let texts = [
            "model.layers.0.self_attn.q_proj",
            "model.layers.12.mlp.down_proj",
            "q_proj",
            "xq_proj",
            "q_projx",
            "model.norm",
            "modelXnorm",
            "é.layers.3.a",
            "layers.7.a.b",
            "a.layers.7",
            "a.layers.x.layers.5.b",
            "transformer.h.4.attn.c_attn",
            "norm.weight",
            "input_layernorm",
            "ab",
            "é",
            "",
            "a..b",
        ];
        for form in FORMS {
            for source in sources {
                let regex = build(&form.wrap(source), 50_000).expect("plain");
                for text in texts {
                    let expected = regex.captures(text).expect("fast");
                    let caught = expected.map(|groups| groups.name("idx").map_or("", |group| group.as_str()));
                    let own = plain(source, form, text).map(|own| if form == Form::Layer { own } else { "" });
                    assert_eq!(own, caught, "{form:?} `{source}` in `{text}`");
                }
            }
        }
    }

    #[test]
    fn patterns_of_real_configs_are_cheap() {
        let budget = Arc::<Budget>::default();
        let path = Path::new("adapter_config.json");
        let sources = [
            r"model\.layers\.(\d|1\d|2[0-7])\.self_attn\.(q|k|v|o)_proj",
            r".*\.(q_proj|v_proj)",
            r"^(?!.*vision).*\.(q_proj|k_proj)$",
            r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:k_proj|v_proj|q_proj).*?)",
            r"\w+\.layers\.[0-9]+\..*_proj",
        ];
        for source in sources {
            let own = Pattern::full(path, "target_modules", source, &budget).expect("an honest pattern");
            for layer in 0..80 {
                for kind in ["self_attn.q_proj", "self_attn.k_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"] {
                    own.matches(&format!("base_model.model.model.layers.{layer}.{kind}")).expect("within the budget");
                }
            }
        }
        assert!(budget.work.load(Ordering::Relaxed) > MOST_WORK / 2, "{budget:?}");
        assert!(budget.states.load(Ordering::Relaxed) > MOST_STATES / 2, "{budget:?}");
    }

    #[test]
    fn automata_beyond_the_budget_are_refused_before_they_are_built() {
        let budget = Arc::<Budget>::default();
        let path = Path::new("adapter_config.json");
        let built = (0..1024)
            .map(|index| Pattern::enclosing(path, "modules_to_save", &format!(r"(\w{{30}}|\d)x{index}"), &budget))
            .take_while(Result::is_ok)
            .count();
        assert!(built < 8, "{built}");
        let error = pattern("((a{1,1000}){1,1000}){1,1000}", Form::Full).expect_err("a thousand million states");
        assert!(matches!(&error, AdapterError::PatternBudget { field, .. } if field == "rank_pattern"), "{error}");
    }

    #[test]
    fn matches_below_their_own_limit_are_too_many_together() {
        let own = pattern(r"m.\d+.(a|a){9}(?=x)z", Form::Tail).expect("a pattern");
        let text = format!("m.1.{}", "a".repeat(9));
        let refused = (0..100_000).find_map(|_| own.matches(&text).err()).expect("an end");
        assert!(matches!(refused, AdapterError::PatternBudget { .. }), "{refused}");
        let single = pattern(r"m.\d+.(a|a){30}(?=x)z", Form::Tail).expect("a pattern");
        let refused = single.matches(&format!("m.1.{}", "a".repeat(30))).expect_err("too many steps");
        assert!(refused.to_string().contains("reasonable time"), "{refused}");
    }
}
