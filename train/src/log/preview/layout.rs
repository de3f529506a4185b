//! Tokens and words in rows of a given width.
//!
//! A word is never broken where a row could end before it, so tokens that continue a word stay beside it. Under a token
//! stands its number; a token shorter than that is filled up, with dashes where a blank would pretend that a word ends.

use lcr_documents::rollout::Segment;

use super::printable;

/// How weights are shown, and the largest of them.
pub(super) struct Weights {
    pub(super) shown_as_numbers: bool,
    pub(super) heaviest: f32,
}

/// A token, or a word that carries no weights.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) weight: f32,
    number: String,
}

/// What stands in one row.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) cells: Vec<Cell>,
}

impl Cell {
    /// Columns that it needs at the end of a row, where blanks behind it may be cut.
    fn columns(&self) -> usize {
        let number = if self.number.is_empty() { 0 } else { lead(&self.text) + self.number.len() };
        columns(self.text.trim_end_matches(' ')).max(number)
    }
}

impl Row {
    /// The row of numbers under it; empty where there are none.
    pub(super) fn numbers(&self) -> String {
        let mut numbers = String::new();
        let mut column = 0;
        for cell in &self.cells {
            if !cell.number.is_empty() {
                let blanks = column + lead(&cell.text) - columns(&numbers).min(column + lead(&cell.text));
                numbers.extend(std::iter::repeat_n(' ', blanks));
                numbers.push_str(&cell.number);
            }
            column += columns(&cell.text);
        }
        numbers
    }
}

/// Cells that belong together, and whether the row ends behind them.
#[derive(Debug, Default)]
struct Word {
    cells: Vec<Cell>,
    ends_row: bool,
}

impl Word {
    fn columns(&self) -> usize {
        let Some((last, before)) = self.cells.split_last() else { return 0 };
        before.iter().map(|cell| columns(&cell.text)).sum::<usize>() + last.columns()
    }
}

/// A segment's text in rows of at most `width` columns.
pub(super) fn rows(segment: &Segment, width: usize, weights: &Weights) -> Vec<Row> {
    let weighed = !segment.pieces.is_empty() && segment.pieces.len() == segment.weights.len();
    let words = if weighed { tokens(&segment.pieces, &segment.weights, weights) } else { plain(&segment.text) };
    fill(words, width)
}

/// Text without weights in rows.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let rows = fill(plain(text), width);
    rows.into_iter().map(|row| row.cells.into_iter().map(|cell| cell.text).collect()).collect()
}

fn plain(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for paragraph in text.split_inclusive('\n') {
        let content = paragraph.strip_suffix('\n').unwrap_or(paragraph);
        let mut parts: Vec<Word> = content
            .split_inclusive(' ')
            .map(|word| Word {
                cells: vec![Cell { text: printable(word), weight: 0.0, number: String::new() }],
                ends_row: false,
            })
            .collect();
        if parts.is_empty() {
            parts.push(Word::default());
        }
        if let Some(last) = parts.last_mut() {
            last.ends_row = content.len() < paragraph.len();
        }
        words.extend(parts);
    }
    words
}

fn tokens(pieces: &[String], token_weights: &[f32], weights: &Weights) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    for (index, (piece, weight)) in pieces.iter().zip(token_weights).enumerate() {
        let weight = if *weight > 0.0 { weight.min(weights.heaviest) } else { 0.0 };
        let number = if weights.shown_as_numbers { spelled(weight) } else { String::new() };
        let mut text = printable(piece);
        if weight > 0.0 && text.trim_matches(' ').is_empty() {
            // What carries weight is to be seen.
            text = text.replace(' ', "␣");
        }
        let broken = piece.ends_with('\n');
        let continued = !broken && pieces.get(index + 1).is_some_and(|next| !next.starts_with(char::is_whitespace));
        if !number.is_empty() {
            let needed = lead(&text) + number.len() + usize::from(continued);
            let missing = needed.saturating_sub(columns(&text));
            text.extend(std::iter::repeat_n(if continued { '╌' } else { ' ' }, missing));
        }
        let cell = Cell { text, weight, number };
        match words.last_mut() {
            Some(word) if !word.ends_row && !piece.starts_with(char::is_whitespace) => {
                word.cells.push(cell);
                word.ends_row = broken;
            }
            _ => words.push(Word { cells: vec![cell], ends_row: broken }),
        }
    }
    words
}

/// A weight as it stands under its token.
fn spelled(weight: f32) -> String {
    if weight <= 0.0 {
        String::new()
    } else if weight < 0.05 {
        "~0".to_owned()
    } else {
        format!("{weight:.1}")
    }
}

fn fill(words: Vec<Word>, width: usize) -> Vec<Row> {
    let mut rows = vec![Row::default()];
    let mut used = 0;
    for word in words {
        if used > 0 && used + word.columns() > width {
            rows.push(Row::default());
            used = 0;
        }
        for cell in word.cells {
            for part in split(cell, width) {
                if used > 0 && used + part.columns() > width {
                    rows.push(Row::default());
                    used = 0;
                }
                used += columns(&part.text);
                if let Some(row) = rows.last_mut() {
                    row.cells.push(part);
                }
            }
        }
        if word.ends_row {
            rows.push(Row::default());
            used = 0;
        }
    }
    if rows.len() > 1 && rows.last().is_some_and(|row| row.cells.is_empty()) {
        rows.pop();
    }
    rows
}

/// A cell wider than a row in parts that are not; the number stands under the first.
fn split(cell: Cell, width: usize) -> Vec<Cell> {
    if columns(&cell.text) <= width {
        return vec![cell];
    }
    let mut parts = vec![Cell { text: String::new(), ..cell.clone() }];
    let mut used = 0;
    for character in cell.text.chars() {
        if used + character_columns(character) > width {
            parts.push(Cell { text: String::new(), weight: cell.weight, number: String::new() });
            used = 0;
        }
        used += character_columns(character);
        if let Some(part) = parts.last_mut() {
            part.text.push(character);
        }
    }
    parts
}

/// Blanks at the start, behind which the number stands; of many, a few.
fn lead(text: &str) -> usize {
    (text.len() - text.trim_start_matches(' ').len()).min(8)
}

/// Columns of a text in a terminal.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(character_columns).sum()
}

/// Columns of a character: none for marks that sit on the one before, two for East Asian scripts and pictures. The
/// blocks of Unicode, not its tables: enough to keep rows straight for what problems and models write.
fn character_columns(character: char) -> usize {
    match u32::from(character) {
        0x300..=0x36f
        | 0x483..=0x489
        | 0x591..=0x5bd
        | 0x610..=0x61a
        | 0x64b..=0x65f
        | 0x20d0..=0x20ff
        | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe4f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}
