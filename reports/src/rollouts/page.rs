//! From a run to the text of its page.
//!
//! The template escapes everything, and its formatter spells out what would hide, so no template can forget to. Should
//! an escape be missed nevertheless, the page's content policy stands behind it: nothing may be loaded or sent, and
//! only the one style sheet and the one script whose digests it names are obeyed, neither style attributes nor
//! handlers.

use std::collections::BTreeMap;
use std::fmt::Write;

use lcr_documents::page::content_policy;
use lcr_documents::text;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, ValueKind};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};
use serde::Serialize;

use super::group::{self, COLUMNS, SHADES};
use super::metrics::Curve;
use super::run::{Group, Outcome, Run};
use super::{ViewerError, ViewerOptions, chart, overview};

/// The templates by name.
const TEMPLATES: [(&str, &str); 4] = [
    ("page.html", include_str!("page.html")),
    ("overview.html", include_str!("overview.html")),
    ("group.html", include_str!("group.html")),
    ("stretch.html", include_str!("stretch.html")),
];

/// The script; the page reads without it.
const SCRIPT: &str = include_str!("script.js");

/// A curve of `metrics.jsonl` as the template sets it.
#[derive(Serialize)]
struct Spark {
    name: String,
    ends: String,
    svg: Value,
}

/// The page of a run that shows the groups `shown`.
pub(super) fn render(
    run: &Run,
    shown: &[&Group],
    curves: &[Curve],
    options: ViewerOptions,
) -> Result<String, ViewerError> {
    let environment = environment()?;
    let kinds = kinds(shown);
    let mut file = fs_err::File::open(&run.path).map_err(|source| ViewerError::io(&run.path, source))?;
    let (mut rows, mut articles) = (Vec::with_capacity(shown.len()), Vec::with_capacity(shown.len()));
    let template = environment.get_template("group.html")?;
    for group in shown {
        let kind = kinds.get(group.kind.as_str()).copied().unwrap_or_default();
        rows.push(group::row(group, kind));
        let records = run.load(&mut file, group, COLUMNS)?;
        let content = group::page(group, &records, run.heaviest, options);
        let article = template.render(context! { group => Value::from(Serde(content)), kind })?;
        articles.push(Value::from_safe_string(article));
    }
    let iterations: Vec<u64> = shown.iter().map(|group| group.iteration).collect();
    let sparks: Vec<Spark> = curves
        .iter()
        .map(|curve| Spark {
            name: text::shortened(&curve.name, 40),
            ends: chart::ends(curve),
            svg: Value::from_safe_string(chart::sparkline(curve)),
        })
        .collect();
    let style = style();
    let values = context! {
        run => run_name(run),
        overview => Value::from(Serde(overview::overview(run))),
        progress => Value::from_safe_string(chart::progress(&run.groups, &iterations)),
        sparks => Value::from(Serde(sparks)),
        shown => shown.len(),
        kinds => Value::from(Serde(kind_names(&kinds))),
        outcomes => Outcome::ALL.map(Outcome::name).to_vec(),
        heaviest => format!("{:.2}", run.heaviest),
        shades => SHADES,
        rows => Value::from(Serde(rows)),
        articles,
        content_policy => Value::from_safe_string(content_policy(&style, SCRIPT)),
        style => Value::from_safe_string(style),
        script => Value::from_safe_string(SCRIPT.to_owned()),
    };
    Ok(environment.get_template("page.html")?.render(values)?)
}

fn environment() -> Result<Environment<'static>, ViewerError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_formatter(|out, state, value| match value.as_str() {
        Some(foreign) if value.kind() == ValueKind::String && !value.is_safe() => {
            minijinja::escape_formatter(out, state, &Value::from(text::visible_lines(foreign)))
        }
        _ => minijinja::escape_formatter(out, state, value),
    });
    environment.add_filter("line", |value: String| text::line(&value));
    for (name, source) in TEMPLATES {
        environment.add_template(name, source)?;
    }
    Ok(environment)
}

/// The types of the groups that are shown, each with its number in the filter.
fn kinds<'a>(shown: &[&'a Group]) -> BTreeMap<&'a str, usize> {
    let mut kinds: BTreeMap<&str, usize> = shown.iter().map(|group| (group.kind.as_str(), 0)).collect();
    kinds.values_mut().enumerate().for_each(|(index, number)| *number = index);
    kinds
}

fn kind_names(kinds: &BTreeMap<&str, usize>) -> Vec<(usize, String)> {
    kinds.iter().map(|(name, index)| (*index, text::shortened(name, 60))).collect()
}

/// What the page calls the run: the folder of its file.
fn run_name(run: &Run) -> String {
    let folder = run.path.parent().and_then(|folder| folder.file_name()).or_else(|| run.path.file_name());
    folder.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The style sheet with the classes of the shades.
fn style() -> String {
    let mut sheet = include_str!("style.css").to_owned();
    for step in 1..=SHADES {
        // Writing to a string cannot fail.
        let _ = write!(sheet, ".w{step}{{background:rgb(var(--shade)/{:.3})}}", 0.62 * step as f64 / SHADES as f64);
    }
    sheet
}
