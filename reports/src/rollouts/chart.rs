//! The run at a glance, as inline vector graphics: how often each kind of attempt was right, and what became of the
//! groups.
//!
//! Colours are classes that the style sheet fills in, so one drawing serves the light and the dark theme. Every mark
//! carries its numbers as a `<title>`, lines differ in their dashes, bars in their hatching.

use std::fmt::Write;

use lcr_documents::number::{percent_of, short};
use lcr_documents::text::{escape, visible_lines};

use super::metrics::Curve;
use super::run::{Group, Member, Outcome};

/// Stretches that a run is cut into, at most and at least (where it has so many groups).
const BINS: (usize, usize) = (40, 8);
/// Groups of a stretch, where that makes neither too many nor too few.
const GROUPS: usize = 5;
/// Points of a small curve.
const POINTS: usize = 100;

/// Left and right end of what is drawn.
const SIDES: (f64, f64) = (38.0, 752.0);
/// Top and bottom of the accuracies.
const ACCURACY: (f64, f64) = (10.0, 120.0);
/// Top and bottom of the bars.
const BARS: (f64, f64) = (138.0, 178.0);

/// Rollouts that were right, of all that there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Right {
    pub(super) right: usize,
    pub(super) all: usize,
}

impl Right {
    pub(super) fn of<'a>(members: impl Iterator<Item = &'a Member>) -> Self {
        members.fold(Self::default(), |count, member| Self {
            right: count.right + usize::from(member.correct),
            all: count.all + 1,
        })
    }
}

/// A drawing in the making; writing to a string cannot fail.
struct Drawing(String);

impl Drawing {
    fn push(&mut self, part: std::fmt::Arguments<'_>) {
        let _ = self.0.write_fmt(part);
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = escape(&visible_lines(text));
        self.push(format_args!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#));
    }
}

/// Accuracy over the run and, below, the share of groups by outcome. `shown` are the iterations that the page can jump
/// to.
pub(super) fn progress(groups: &[Group], shown: &[u64]) -> String {
    let bins = (groups.len() / GROUPS).clamp(BINS.1, BINS.0).min(groups.len()).max(1);
    let bin =
        |index: usize| groups.get(index * groups.len() / bins..(index + 1) * groups.len() / bins).unwrap_or_default();
    let width = (SIDES.1 - SIDES.0) / bins as f64;
    let mut drawing = Drawing(String::new());
    drawing.push(format_args!(
        r#"<svg viewBox="0 0 760 202" role="img" aria-label="accuracy and outcomes over the run"><defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="5" height="5" class="hatch-ground"/><line x1="0" y1="0" x2="0" y2="5" class="hatch-line"/></pattern></defs>"#
    ));
    for (share, label) in [(0.0, "0"), (0.5, "50\u{a0}%"), (1.0, "100\u{a0}%")] {
        let y = height(share);
        drawing.push(format_args!(
            r#"<line class="grid" x1="{:.1}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}"/>"#,
            SIDES.0, SIDES.1
        ));
        drawing.text(SIDES.0 - 5.0, y + 4.0, "end", label);
    }
    for index in 0..bins {
        bars(&mut drawing, bin(index), SIDES.0 + width * index as f64, width, shown);
    }
    for (class, name, naked) in [("naked", "naked", true), ("scaffolded", "scaffolded", false)] {
        let points = (0..bins).map(|index| {
            let groups = bin(index);
            let members = groups.iter().flat_map(|group| &group.members).filter(|member| member.naked == naked);
            (SIDES.0 + width * (index as f64 + 0.5), Right::of(members), span(groups))
        });
        line(&mut drawing, class, name, &points.collect::<Vec<_>>());
    }
    if let (Some(first), Some(last)) = (groups.first(), groups.last()) {
        drawing.text(SIDES.0, 195.0, "start", &format!("iteration {}", first.iteration));
        if last.iteration != first.iteration {
            drawing.text(SIDES.1, 195.0, "end", &last.iteration.to_string());
        }
    }
    drawing.0 + "</svg>"
}

/// Where a share stands among the accuracies.
fn height(share: f64) -> f64 {
    ACCURACY.1 - share * (ACCURACY.1 - ACCURACY.0)
}

/// The iterations of a stretch, in words.
fn span(groups: &[Group]) -> String {
    match groups {
        [] => String::new(),
        [one] => format!("iteration {}", one.iteration),
        [first, .., last] => format!("iterations {} to {}", first.iteration, last.iteration),
    }
}

/// One line of accuracies with a dot at each stretch that has any; where there are none, the line has a gap.
fn line(drawing: &mut Drawing, class: &str, name: &str, points: &[(f64, Right, String)]) {
    drawing.push(format_args!(r#"<path class="line {class}" d=""#));
    let mut within = false;
    for (x, count, _) in points {
        if count.all > 0 {
            let y = height(count.right as f64 / count.all as f64);
            drawing.push(format_args!("{}{x:.1} {y:.1}", if within { "L" } else { "M" }));
        }
        within = count.all > 0;
    }
    drawing.push(format_args!(r#""/>"#));
    for (x, count, span) in points.iter().filter(|(_, count, _)| count.all > 0) {
        let y = height(count.right as f64 / count.all as f64);
        let share = percent_of(count.right, count.all);
        drawing.push(format_args!(
            r#"<circle class="dot {class}" cx="{x:.1}" cy="{y:.1}" r="2.6"><title>{name}: {share} right ({} of {}), {span}</title></circle>"#,
            count.right, count.all
        ));
    }
}

/// The outcomes of one stretch as a stacked bar, which leads to a group within.
fn bars(drawing: &mut Drawing, groups: &[Group], x: f64, width: f64, shown: &[u64]) {
    let target = groups.iter().map(|group| group.iteration).find(|iteration| shown.binary_search(iteration).is_ok());
    if let Some(iteration) = target {
        drawing.push(format_args!(r##"<a href="#g{iteration}" tabindex="-1">"##));
    }
    let mut top = BARS.1;
    for outcome in Outcome::ALL {
        let count = groups.iter().filter(|group| group.outcome() == outcome).count();
        if count > 0 {
            let tall = (BARS.1 - BARS.0) * count as f64 / groups.len() as f64;
            top -= tall;
            drawing.push(format_args!(
                r#"<rect class="{}" x="{:.1}" y="{top:.1}" width="{:.1}" height="{tall:.1}"><title>{}: {count} of {}, {}</title></rect>"#,
                outcome.name(),
                x + 0.6,
                (width - 1.2).max(0.6),
                outcome.name(),
                groups.len(),
                span(groups)
            ));
        }
    }
    if target.is_some() {
        drawing.push(format_args!("</a>"));
    }
}

/// A small curve without axes: its first and last value are said beside it.
pub(super) fn sparkline(curve: &Curve) -> String {
    let bins = curve.values.len().clamp(1, POINTS);
    let means: Vec<f64> = (0..bins)
        .filter_map(|index| {
            let (from, to) = (index * curve.values.len() / bins, (index + 1) * curve.values.len() / bins);
            curve.values.get(from..to).filter(|values| !values.is_empty())
        })
        .map(|values| values.iter().sum::<f64>() / values.len() as f64)
        .collect();
    let (low, high) =
        means.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)));
    let range = if high > low { high - low } else { 1.0 };
    let mut drawing = Drawing(String::new());
    drawing.push(format_args!(r#"<svg viewBox="0 0 160 34" aria-hidden="true"><polyline class="line spark" points=""#));
    for (index, value) in means.iter().enumerate() {
        let x = 2.0 + 156.0 * index as f64 / (means.len().saturating_sub(1).max(1)) as f64;
        drawing.push(format_args!("{x:.1},{:.1} ", 31.0 - 28.0 * (value - low) / range));
    }
    drawing.push(format_args!(r#""/></svg>"#));
    drawing.0
}

/// First and last value of a curve in words.
pub(super) fn ends(curve: &Curve) -> String {
    let spelled = |value: Option<&f64>| value.map_or_else(|| "–".to_owned(), |value| short(*value));
    format!("{} → {}", spelled(curve.values.first()), spelled(curve.values.last()))
}
