//! One rollout in the terminal, as a dry run shows it: who speaks, and which token weighs how much.
//!
//! It is written like a script of a play, a voice on the left and its words on the right. With colour the weight is the
//! shade behind a token, without it a number under the token; the voices differ by name and gutter in both. Text is
//! made visible first, for what a model says must not steer the reader's terminal.

mod layout;

use std::fmt::Write;

use layout::{Row, Weights, rows};

use lcr_documents::rollout::{Segment, SegmentTag, Source};
use lcr_documents::text::{line, visible_lines as visible};

/// How a preview is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviewOptions {
    /// Whether the terminal shows ANSI colours.
    pub color: bool,
    /// Columns of the terminal; at least [`PreviewOptions::LEAST_WIDTH`] are used.
    pub width: usize,
}

impl PreviewOptions {
    /// Narrower than this no text is readable beside the voices.
    pub const LEAST_WIDTH: usize = 32;
}

/// Columns of a voice's name and its gutter.
const MARGIN: usize = 9;
/// Backgrounds of the 256-colour palette, from the least weight to the largest: blues that carry white text.
const SHADES: [u8; 6] = [17, 18, 19, 20, 26, 33];
const RESET: &str = "\u{1b}[0m";

/// Who speaks.
struct Voice {
    name: &'static str,
    gutter: char,
    /// ANSI attributes of its words.
    color: &'static str,
}

fn voice(segment: &Segment) -> Voice {
    let (name, gutter, color) = match (segment.tag, segment.source) {
        (SegmentTag::Prompt, _) => ("prompt", ':', "\u{1b}[2m"),
        (SegmentTag::Expert, _) => ("expert", '║', "\u{1b}[33m"),
        (SegmentTag::Model, _) | (SegmentTag::Close, Source::Model) => ("model", '│', ""),
        (SegmentTag::Tail | SegmentTag::Close | SegmentTag::Opener, _) => ("forced", '┆', "\u{1b}[2;3m"),
        (SegmentTag::Answer, _) => ("answer", '┃', "\u{1b}[1;32m"),
    };
    Voice { name, gutter, color }
}

/// Renders a rollout's segments in their order, then a legend with the sums of its tokens and weights. Every line ends
/// with a line break; none is wider than the options say, as far as the width of its characters can be known.
pub fn preview(segments: &[Segment], options: PreviewOptions) -> String {
    let width = options.width.max(PreviewOptions::LEAST_WIDTH);
    let heaviest = segments.iter().flat_map(|segment| &segment.weights).copied().fold(0.0, f32::max);
    let weights = Weights { shown_as_numbers: !options.color, heaviest };
    let mut out = String::new();
    for segment in segments {
        let voice = voice(segment);
        for (index, row) in rows(segment, width - MARGIN, &weights).iter().enumerate() {
            let name = if index == 0 { voice.name } else { "" };
            let _ = write!(out, "{name:<7}{} ", voice.gutter);
            write_row(&mut out, row, &voice, options.color, heaviest);
        }
    }
    legend(&mut out, segments, heaviest, options.color, width);
    out
}

/// One row of text, and below it one of numbers where there are any. Writing to a string cannot fail.
fn write_row(out: &mut String, row: &Row, voice: &Voice, color: bool, heaviest: f32) {
    let mut words = String::new();
    for cell in &row.cells {
        match shade(cell.weight, heaviest) {
            _ if !color => words.push_str(&cell.text),
            Some(step) => {
                let _ = write!(words, "\u{1b}[48;5;{};38;5;231m{}{RESET}", SHADES.get(step).unwrap_or(&17), cell.text);
            }
            None if voice.color.is_empty() => words.push_str(&cell.text),
            None => {
                let _ = write!(words, "{}{}{RESET}", voice.color, cell.text);
            }
        }
    }
    out.push_str(words.trim_end_matches(' '));
    out.push('\n');
    let numbers = row.numbers();
    if !numbers.is_empty() {
        let _ = writeln!(out, "{:<7}{} {numbers}", "", voice.gutter);
    }
}

/// Which of the shades a weight has; none without weight.
fn shade(weight: f32, heaviest: f32) -> Option<usize> {
    (weight > 0.0 && heaviest > 0.0)
        .then(|| ((weight / heaviest * SHADES.len() as f32).ceil() as usize).clamp(1, SHADES.len()) - 1)
}

/// How to read it, and what it adds up to.
fn legend(out: &mut String, segments: &[Segment], heaviest: f32, color: bool, width: usize) {
    let weights = || segments.iter().flat_map(|segment| &segment.weights).map(|weight| f64::from(*weight));
    let (sum, squares) = weights().fold((0.0, 0.0), |(sum, squares), weight| (sum + weight, squares + weight * weight));
    let _ = writeln!(out, "{}", "─".repeat(width));
    if color && heaviest > 0.0 {
        out.push_str("weight in the loss: 0 ");
        for (step, shade) in SHADES.iter().enumerate() {
            let upper = heaviest * (step + 1) as f32 / SHADES.len() as f32;
            let _ = write!(out, "\u{1b}[48;5;{shade};38;5;231m {upper:.1} {RESET}");
        }
        out.push('\n');
    }
    let mut words = vec!["║ expert and ┆ forced: injected, without loss."];
    words.push(match (heaviest > 0.0, color) {
        (false, _) => "No token carries weight.",
        (true, true) => "A token without shade carries no weight.",
        (true, false) => {
            "The number under a token is its weight in the loss, without one it carries none; ╌ fills a token up to \
             its number."
        }
    });
    let tokens: Vec<String> = ["prompt", "expert", "model", "forced", "answer"]
        .iter()
        .map(|name| {
            let spoken = segments.iter().filter(|segment| voice(segment).name == *name);
            (name, spoken.map(|segment| segment.token_count).sum::<usize>())
        })
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    let tokens = format!("Tokens: {}.", if tokens.is_empty() { "none".to_owned() } else { tokens.join(", ") });
    words.push(&tokens);
    let effective = format!("Weights: sum {sum:.1}, as much as {:.1} equal tokens.", sum * sum / squares.max(1e-300));
    if sum > 0.0 {
        words.push(&effective);
    }
    for text in words {
        for row in layout::wrap(text, width) {
            out.push_str(row.trim_end());
            out.push('\n');
        }
    }
}

/// Text that may stand in a terminal's line.
fn printable(text: &str) -> String {
    line(&visible(text))
}

#[cfg(test)]
mod tests;
