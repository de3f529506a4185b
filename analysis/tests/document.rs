//! What is written from the metrics' own files: docs/metrics.md and the glossary of the page; and the report's schema,
//! whose descriptions say what the metrics say.
//!
//! `UPDATE_METRICS=1 cargo test -p lcr-analysis --test document` writes the two anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use lcr_analysis::metrics::{Entry, METRICS, Metric, Number, Reads, Runs, Transformation};
use serde_json::Value;

/// Works that the introduction cites.
const CITED_IN_THE_INTRODUCTION: [&str; 2] = [
    "Sun, Chen, Kolter, Liu 2024. Massive activations in large language models. COLM.",
    "Xiao, Tian, Chen, Han, Lewis 2023. Efficient streaming language models with attention sinks. arXiv:2309.17453.",
];

/// A part of the document, and of the report.
struct Section {
    introduction: &'static str,
    holds: fn(&Metric) -> bool,
    /// The types of the report that its numbers are in, as the schema names them; the whole report is the empty name.
    types: &'static [&'static str],
}

const SECTIONS: [Section; 4] = [
    Section {
        introduction: include_str!("document/activations.md"),
        holds: |metric| matches!(metric.reads, Reads::Rows(_) | Reads::QueriesAndKeys),
        types: &["SiteChange"],
    },
    Section {
        introduction: include_str!("document/next_tokens.md"),
        holds: |metric| matches!(metric.reads, Reads::Logits),
        types: &["TokenChange"],
    },
    Section {
        introduction: include_str!("document/trajectories.md"),
        holds: |metric| matches!(metric.reads, Reads::Lens),
        types: &["Trajectories"],
    },
    Section {
        introduction: include_str!("document/weights.md"),
        holds: |metric| matches!(metric.reads, Reads::Weights),
        types: &["WeightChange", ""],
    },
];

fn metrics_of(section: &Section) -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().copied().filter(|metric| (section.holds)(metric))
}

fn numbers_of(section: &Section) -> impl Iterator<Item = &'static Number> {
    metrics_of(section).flat_map(|metric| metric.entries).flat_map(|entry| entry.numbers)
}

/// A line of a table; bars inside a cell are no borders.
fn row<const N: usize>(cells: [&str; N]) -> String {
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    format!("| {} |\n", cells.join(" | "))
}

fn entry(entry: &Entry) -> String {
    let mut out = format!("\n### {}\n\n", entry.heading);
    let prose = [entry.definition, entry.blind_to, entry.chance, entry.trap].map(str::trim);
    for paragraph in prose.into_iter().filter(|text| !text.is_empty()) {
        writeln!(out, "{paragraph}").unwrap();
    }
    if !entry.numbers.is_empty() {
        out += "\n";
        out += &row(["key", "what it is", "unit", "range", "unchanged", "unrelated", "larger"]);
        out += "|---|---|---|---|---|---|---|\n";
    }
    for number in entry.numbers {
        out += &row([
            &format!("`{}`", number.key),
            number.definition.trim_end_matches('.'),
            &number.unit.to_string(),
            number.range,
            &number.unchanged.to_string(),
            if number.chance.is_empty() { "—" } else { number.chance },
            &number.direction.to_string(),
        ]);
    }
    out
}

/// The table of invariances of the numbers of activations.
fn invariances(section: &Section) -> String {
    let mut out = "\n### What moves them\n\n".to_owned();
    out += "✓: the number stays as it is. ·: it moves. Each cell is held against what is measured, on random states of \
        which Y is\n";
    out += "doubled, has one vector added to every row, is turned together with X, is turned alone, or has its rows, \
        with those of X, in another order\n";
    out += "(`analysis/tests/declared.rs`). A → MA, B → BM⁻¹ moves none.\n\n";
    let columns = Transformation::OF_ACTIVATIONS;
    let heads: Vec<String> = columns.iter().map(ToString::to_string).collect();
    writeln!(out, "| key | {} |\n|---|{}", heads.join(" | "), ":-:|".repeat(columns.len())).unwrap();
    let of_rows = metrics_of(section).filter(|metric| matches!(metric.reads, Reads::Rows(_)));
    for number in of_rows.flat_map(|metric| metric.entries).flat_map(|entry| entry.numbers) {
        let cells = columns.map(|column| if number.blind_to.contains(&column) { "✓" } else { "·" });
        writeln!(out, "| `{}` | {} |", number.key, cells.join(" | ")).unwrap();
    }
    out
}

fn references() -> String {
    let cited = METRICS.iter().flat_map(|metric| metric.references);
    let mut all: Vec<&str> = cited.chain(&CITED_IN_THE_INTRODUCTION).copied().collect();
    all.sort_by_key(|work| work.to_lowercase());
    all.dedup();
    all.iter().fold("\n## References\n\n".to_owned(), |out, work| out + "- " + work + "\n")
}

fn document() -> String {
    let mut out = include_str!("document/introduction.md").to_owned();
    for section in &SECTIONS {
        out += "\n";
        out += section.introduction;
        metrics_of(section).flat_map(|metric| metric.entries).for_each(|known| out += &entry(known));
        if section.types == ["SiteChange"] {
            out += &invariances(section);
        }
    }
    out + "\n" + include_str!("document/not_measured.md") + &references()
}

/// The page's glossary, with what its numbers look like at the end.
fn glossary() -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let terms = METRICS.iter().flat_map(|metric| metric.entries).flat_map(|entry| entry.glossary);
    let form = ("3.1e-7", "3.1 × 10⁻⁷. A dash means that the number is undefined or was not measured.");
    let mut out =
        "<section id=\"glossary\">\n  <h2>How to read the numbers</h2>\n  <dl class=\"glossary\">\n".to_owned();
    for (term, text) in terms.chain([&form]) {
        writeln!(out, "    <dt>{}</dt><dd>{}</dd>", escaped(term), escaped(text)).unwrap();
    }
    out + "  </dl>\n</section>\n"
}

/// Holds a file of the repository against what it is made of.
fn written(file: &str, current: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if std::env::var_os("UPDATE_METRICS").is_some() {
        std::fs::write(&path, current).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(
        found == current,
        "{file} is not what the metrics say: run the tests of lcr-analysis with UPDATE_METRICS=1"
    );
}

#[test]
fn the_document_is_what_the_metrics_say() {
    written("docs/metrics.md", &document());
}

#[test]
fn the_glossary_of_the_page_is_what_the_metrics_say() {
    written("reports/src/html/templates/glossary.html", &glossary());
}

/// The page on commands names every metric that can be asked for.
#[test]
fn the_page_on_commands_names_every_metric() {
    let commands = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/commands.md")).unwrap();
    let row = commands.lines().find(|line| line.starts_with("| `--metrics LIST`")).unwrap();
    for metric in METRICS.iter().filter(|metric| metric.runs != Runs::Always) {
        assert!(row.contains(&format!("`{metric}`")), "{metric} is not in `{row}`");
        assert_eq!(metric.name.parse::<&Metric>(), Ok(*metric));
    }
}

/// What a schema stands for where it refers to another, allows null, or is that of a list.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(name) = schema["$ref"].as_str() {
        return resolved(root, root.pointer(name.trim_start_matches('#')).unwrap());
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return resolved(root, choices.iter().find(|choice| choice["type"] != "null").unwrap());
    }
    if schema["items"].is_object() { resolved(root, &schema["items"]) } else { schema }
}

/// Every property under a type with its place; a property of lists and objects comes before what it holds.
fn properties<'a>(root: &'a Value, schema: &'a Value, place: &str, found: &mut Vec<(String, &'a Value)>) {
    for (name, property) in resolved(root, schema)["properties"].as_object().into_iter().flatten() {
        let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
        found.push((place.clone(), property));
        properties(root, property, &place, found);
    }
}

/// Whether a key stands for a place; `*` stands for any one part of it.
fn stands_for(key: &str, place: &str) -> bool {
    let (key, place): (Vec<&str>, Vec<&str>) = (key.split('.').collect(), place.split('.').collect());
    key.len() == place.len() && key.iter().zip(&place).all(|(key, place)| *key == "*" || key == place)
}

/// A number's definition is the description of its place in the schema, and every number of the report has one. The
/// description of a pair, `key.*`, is that of what holds both.
#[test]
fn the_schema_says_what_the_metrics_say() {
    let root = lcr_documents::audit::json::schema();
    let mut faults = BTreeSet::new();
    for section in &SECTIONS {
        let mut all = Vec::new();
        for name in section.types {
            let schema = if name.is_empty() { &root } else { &root["$defs"][name] };
            properties(&root, schema, "", &mut all);
        }
        for number in numbers_of(section) {
            let key = number.key.strip_suffix(".*").unwrap_or(number.key);
            let places: Vec<_> = all.iter().filter(|(place, _)| stands_for(key, place)).collect();
            if places.is_empty() {
                faults.insert(format!("{}: no such key in the report", number.key));
            }
            for (place, schema) in places {
                let described = schema["description"].as_str().unwrap_or("").replace('\n', " ");
                if described != number.definition {
                    faults
                        .insert(format!("{place}: the schema says `{described}`, the metric `{}`", number.definition));
                }
            }
        }
        if section.types[0] == "Trajectories" {
            continue;
        }
        let of_type = {
            let mut found = Vec::new();
            properties(&root, &root["$defs"][section.types[0]], "", &mut found);
            found
        };
        for (place, schema) in of_type {
            let kinds = schema["type"].as_array().map_or_else(|| vec![&schema["type"]], |kinds| kinds.iter().collect());
            let is_number = kinds.iter().any(|kind| matches!(kind.as_str(), Some("number" | "integer")));
            let known = numbers_of(section).any(|number| stands_for(number.key, &place));
            let aside = ["rows", "positions"].contains(&place.as_str()) || place.starts_with("worst.");
            if is_number && !known && !aside {
                faults.insert(format!("{place}: no metric says what it is"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.into_iter().collect::<Vec<_>>().join("\n"));
}
