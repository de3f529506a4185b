//! The page: one self-contained file that loads nothing and reads without scripts.
//!
//! Names, paths and probe text come from whoever made the adapter, so they are treated as hostile: the template escapes
//! everything (its formatter also makes control and reordering characters visible, so no template can forget to), and a
//! content policy in the page obeys the one style sheet and the one script whose digests it names and forbids
//! everything else, should an escape ever be missed. Only the charts made by `svg`, the style sheet and the script go
//! in as they are.

mod headline;
mod many;
mod questions;
mod svg;
mod tables;

pub use many::{RankingEntry, index_of_many, ranking};

use std::fmt::Write;

use lcr_documents::audit::Audit;
use lcr_documents::page::content_policy;
use lcr_documents::{number, text};
use lcr_gate::rules::{Stage, rules};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, ValueKind};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};
use serde::Serialize;

use crate::charts::{self, HeatMap, LineChart};
use crate::error::ReportError;
use crate::scale;

/// The templates by name.
const TEMPLATES: [(&str, &str); 11] = [
    ("page.html", include_str!("templates/page.html")),
    ("macros.html", include_str!("templates/macros.html")),
    ("first_screen.html", include_str!("templates/first_screen.html")),
    ("questions.html", include_str!("templates/questions.html")),
    ("activations.html", include_str!("templates/activations.html")),
    ("weights.html", include_str!("templates/weights.html")),
    ("tokens.html", include_str!("templates/tokens.html")),
    ("trajectories.html", include_str!("templates/trajectories.html")),
    ("facts.html", include_str!("templates/facts.html")),
    ("glossary.html", include_str!("templates/glossary.html")),
    ("many.html", include_str!("templates/many.html")),
];

/// A line chart as the template sets it.
#[derive(Serialize)]
struct Chart {
    title: String,
    svg: Value,
    /// Class of the line, and its name.
    legend: Vec<(String, String)>,
}

impl Chart {
    fn new(chart: &LineChart) -> Self {
        Self {
            title: chart.title.clone(),
            svg: Value::from_safe_string(svg::line_chart(chart)),
            legend: chart.lines.iter().map(|line| (svg::class(line.look), line.name.clone())).collect(),
        }
    }
}

/// The page of one audit.
pub fn page(audit: &Audit) -> Result<String, ReportError> {
    let draw = |map: &HeatMap, label: &str| svg::heat_map(map, label).map(Value::from_safe_string);
    let drawn = |list: &[LineChart]| Value::from(Serde(list.iter().map(Chart::new).collect::<Vec<_>>()));
    let paths = charts::token_paths(audit);
    let path_legend: Vec<String> = paths.tokens.iter().map(|token| token.name.clone()).collect();
    let compared: Vec<(&str, &str)> =
        rules().filter_map(|rule| Some((rule.code, rule.comparison()?.summary))).collect();
    let values = context! {
        audit => Value::from(Serde(audit)),
        headline => Value::from(Serde(headline::headline(audit))),
        questions => Value::from(Serde(questions::answered(audit))),
        not_asked => Value::from(Serde(questions::not_asked(audit))),
        activation_heat => draw(&charts::activation_heat(audit), "change by layer and metric"),
        activation_curves => drawn(&charts::activation_curves(audit)),
        spectra => drawn(&charts::spectra(audit)),
        weight_heat => draw(&charts::weight_heat(audit), "relative weight change by layer and module"),
        attention_heat => draw(&charts::attention_heat(audit), "attention divergence by layer and head"),
        lens => charts::lens_curve(audit).map(|chart| Value::from(Serde(Chart::new(&chart)))),
        paths => svg::path_chart(&paths).map(Value::from_safe_string),
        path_legend,
        sites => tables::sites(audit).map(|table| Value::from(Serde(table))),
        dimensions => tables::dimensions(audit).map(|table| Value::from(Serde(table))),
        weights => tables::weights(audit).map(|table| Value::from(Serde(table))),
        rules => Value::from(Serde(compared)),
        file_rules => rules().filter(|rule| matches!(rule.stage, Stage::Files | Stage::Adapter)).count(),
    };
    render("page.html", values)
}

/// The script; the pages read without it.
const SCRIPT: &str = include_str!("script.js");

/// Renders one of the templates, which finds style sheet, script and the policy that admits these two and nothing else.
fn render(page: &'static str, values: Value) -> Result<String, ReportError> {
    let fault = |source| ReportError::Template { page, source };
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(fault)?;
    environment.set_syntax(syntax);
    environment.set_formatter(|out, state, value| match value.as_str() {
        Some(foreign) if value.kind() == ValueKind::String && !value.is_safe() => {
            minijinja::escape_formatter(out, state, &Value::from(text::visible(foreign)))
        }
        _ => minijinja::escape_formatter(out, state, value),
    });
    environment.add_filter("plain", |value: Option<f64>| number::optional(value));
    environment
        .add_filter("percent", |value: Option<f64>| value.map_or_else(|| number::ABSENT.to_owned(), number::percent));
    // What a table sorts by: every digit, or nothing.
    environment.add_filter("sortable", |value: Option<f64>| {
        value.filter(|value| value.is_finite()).map_or_else(String::new, |value| value.to_string())
    });
    environment.add_filter("lines", |value: String| value.lines().map(str::to_owned).collect::<Vec<_>>());
    environment.add_filter("token", |value: String| text::edged(&value));
    environment.add_filter("count", |value: u64| number::count(value));
    environment.add_filter("bytes", |value: u64| number::bytes(value));
    for (name, source) in TEMPLATES {
        environment.add_template(name, source).map_err(fault)?;
    }
    let style = style();
    let own = context! {
        content_policy => Value::from_safe_string(content_policy(&style, SCRIPT)),
        style => Value::from_safe_string(style),
        script => Value::from_safe_string(SCRIPT.to_owned()),
        ..values
    };
    environment.get_template(page).and_then(|template| template.render(own)).map_err(fault)
}

/// The style sheet, with the colour scale of both themes filled in.
fn style() -> String {
    let mut cells = String::new();
    let (mut light, mut dark) = (String::new(), String::new());
    for (step, (on_light, on_dark)) in scale::LIGHT.iter().zip(scale::DARK).enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(light, "--h{step}:{on_light};");
        let _ = write!(dark, "--h{step}:{on_dark};");
        let _ = write!(cells, ".h{step}{{fill:var(--h{step})}}.oh{step}{{fill:var(--o{step})}}");
        let _ = write!(light, "--o{step}:{};", if step < scale::LIGHT_TEXT_FROM { "#1c1d22" } else { "#fff" });
        let _ = write!(dark, "--o{step}:{};", if step < scale::DARK_TEXT_FROM { "#e6e6ea" } else { "#131417" });
    }
    let sheet = include_str!("style.css").replace("/*light ramp*/", &light).replace("/*dark ramp*/", &dark);
    sheet + &cells
}
