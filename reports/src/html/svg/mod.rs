//! Charts as inline vector graphics. Colours are classes that the style sheet fills in, so one drawing serves the light
//! and the dark theme; every mark carries its number as a `<title>`, so it can be read without scripts.

mod heat;
mod lines;
mod paths;

pub(super) use heat::heat_map;
pub(super) use lines::{class, line_chart};
pub(super) use paths::path_chart;

use std::fmt::Write;

use lcr_documents::text::escape;

/// Width to which a drawing may shrink; narrower ones keep theirs.
const BROAD: f64 = 900.0;

/// A drawing in the making. Text goes in through [`Drawing::text`] and [`Drawing::rect`] only, which escape it.
struct Drawing {
    content: String,
    width: f64,
    height: f64,
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy)]
enum Anchor {
    Start,
    Middle,
    End,
}

impl Drawing {
    fn new(width: f64, height: f64) -> Self {
        Self { content: String::new(), width, height }
    }

    /// Appends; writing to a string cannot fail.
    fn push(&mut self, part: std::fmt::Arguments<'_>) {
        let _ = self.content.write_fmt(part);
    }

    fn text(&mut self, at: (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y) = at;
        self.push(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{}</text>"#,
            escape(text)
        ));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.push(format_args!(
            r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" class="{class}"/>"#,
            from.0, from.1, to.0, to.1
        ));
    }

    fn rect(&mut self, at: (f64, f64), size: (f64, f64), class: &str, title: &str) {
        self.push(format_args!(
            r#"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}" class="{class}"><title>{}</title></rect>"#,
            at.0,
            at.1,
            size.0,
            size.1,
            escape(title)
        ));
    }

    fn polyline(&mut self, points: &[(f64, f64)], class: &str) {
        self.push(format_args!(r#"<polyline class="{class}" points=""#));
        for (x, y) in points {
            self.push(format_args!("{x:.1},{y:.1} "));
        }
        self.push(format_args!(r#""/>"#));
    }

    fn dot(&mut self, at: (f64, f64), radius: f64, class: &str, title: &str) {
        self.push(format_args!(
            r#"<circle cx="{:.1}" cy="{:.1}" r="{radius}" class="{class}"><title>{}</title></circle>"#,
            at.0,
            at.1,
            escape(title)
        ));
    }

    /// The whole element; `label` is what a screen reader says. Its own width stands in an attribute, for the page
    /// allows no styles but its sheet.
    fn finish(self, label: &str) -> String {
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" class="{}" viewBox="0 0 {:.0} {:.0}" width="{:.0}" role="img" aria-label="{}">{}</svg>"#,
            if self.width < BROAD { "narrow" } else { "broad" },
            self.width,
            self.height,
            self.width,
            escape(label),
            self.content
        )
    }
}
