//! Everything that is printed goes through here: results to standard output, the rest to standard error, progress only
//! where a person is looking.
//!
//! What is printed holds strangers' names and texts, so nothing in it may steer the terminal or move what stands beside
//! it: such characters are spelled out here, whoever forgot to do it before. Colours are the only escape sequences that
//! pass.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::Result;
use console::AnsiCodeIterator;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lcr_documents::characters::{is_deceptive, visible_json, visible_lines};

/// Nobody reads standard output any more, and the work that was to be printed as it comes is left.
#[derive(Debug)]
pub(crate) struct NobodyReads;

impl std::fmt::Display for NobodyReads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("standard output was closed")
    }
}

impl std::error::Error for NobodyReads {}

/// Where output goes.
#[derive(Debug)]
pub(crate) struct Terminal {
    json: bool,
    quiet: bool,
}

#[expect(clippy::unused_self, reason = "all output goes through the one that holds the user's choices")]
impl Terminal {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether the result is to be one JSON document.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether the result may be coloured: a person is looking, and has not asked for the opposite (`NO_COLOR`).
    pub(crate) fn colour(&self) -> bool {
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }

    /// Columns to write in.
    pub(crate) fn width(&self) -> usize {
        const DEFAULT: u16 = 100;
        let (_, columns) = console::Term::stdout().size_checked().unwrap_or((0, DEFAULT));
        usize::from(columns.clamp(40, 140))
    }

    /// Prints the result. Whoever stops reading has what they wanted: what is left is dropped, and the exit code stays
    /// that of the verdict, which never depends on how it is printed.
    pub(crate) fn result(&self, text: &str) -> Result<()> {
        write_out(&self.harmless(text)).or_else(unless_closed)
    }

    /// Prints a part of the result as it comes; fails with [`NobodyReads`] where that is so, for the rest need not be
    /// made.
    #[cfg(feature = "models")]
    pub(crate) fn stream(&self, text: &str) -> Result<()> {
        write_out(&self.harmless(text)).map_err(|error| match error.kind() {
            std::io::ErrorKind::BrokenPipe => NobodyReads.into(),
            _ => error.into(),
        })
    }

    /// Prints the result as JSON.
    pub(crate) fn document(&self, value: &impl serde::Serialize) -> Result<()> {
        self.json_text(&(serde_json::to_string_pretty(value)? + "\n"))
    }

    /// Prints a result that is JSON already.
    pub(crate) fn json_text(&self, text: &str) -> Result<()> {
        write_out(&visible_json(text)).or_else(unless_closed)
    }

    /// The text with nothing that steers a terminal but our own colours, where it has any.
    fn harmless(&self, text: &str) -> String {
        if !self.colour() {
            return visible_lines(text);
        }
        let is_colour = |part: &str| part.starts_with("\u{1b}[") && part.ends_with('m');
        let parts = AnsiCodeIterator::new(text);
        parts
            .map(|(part, is_code)| if is_code && is_colour(part) { part.to_owned() } else { visible_lines(part) })
            .collect()
    }

    /// Says something beside the result.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            // A closed standard error must not end an audit.
            let _ = writeln!(std::io::stderr(), "{}", behind_a_bar(text));
        }
    }

    /// Says what the reader must know even where they asked for quiet.
    #[cfg(feature = "models")]
    pub(crate) fn warn(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "warning: {}", behind_a_bar(text));
    }

    /// Says why a run ended: one paragraph, the outermost context first.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        let mut text = String::new();
        for (index, cause) in causes.iter().enumerate() {
            // Transparent wrappers repeat their source's words.
            if index == 0 || !causes[index - 1].ends_with(cause.as_str()) {
                if index > 0 {
                    text.push_str(": ");
                }
                text.push_str(cause);
            }
        }
        let _ = writeln!(std::io::stderr(), "error: {}", behind_a_bar(&text));
    }

    /// A bar with the time left; it appears once the work has taken two seconds, and only on a terminal.
    pub(crate) fn progress(&self) -> Progress {
        let visible = !self.quiet && std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{msg:>12} [{bar:32}] {pos}/{len}  {elapsed} · {eta} left") {
            bar.set_style(style.progress_chars("=> "));
        }
        Progress { bar, visible, shown: false }
    }
}

fn write_out(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn unless_closed(error: std::io::Error) -> Result<()> {
    if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error.into()) }
}

/// A message of several lines, all but the first behind a bar: a line break in a stranger's name cannot begin a line
/// that looks like ours.
pub(crate) fn behind_a_bar(text: &str) -> String {
    visible_lines(text).replace('\n', "\n  | ")
}

/// Says what is wrong with the command line, which may hold a stranger's file name.
pub(crate) fn usage(text: &str) {
    let is_deceptive = |argument: std::ffi::OsString| argument.to_string_lossy().chars().any(is_deceptive);
    let shown =
        if std::env::args_os().any(is_deceptive) { behind_a_bar(text.trim_end()) + "\n" } else { visible_lines(text) };
    let _ = std::io::stderr().write_all(shown.as_bytes());
}

/// One bar that several phases take turns with.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    visible: bool,
    shown: bool,
}

impl Progress {
    /// Work after which a bar is worth showing.
    const PATIENCE: Duration = Duration::from_secs(2);

    /// `done` of `all` in the phase of that name.
    pub(crate) fn update(&mut self, phase: &str, done: usize, all: usize) {
        if self.visible && !self.shown && self.bar.elapsed() > Self::PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.shown = true;
        }
        if self.bar.message() != phase {
            self.bar.set_message(phase.to_owned());
            self.bar.reset_eta();
        }
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_cannot_begin_a_line_or_steer_the_terminal() {
        assert_eq!(behind_a_bar("a\u{1b}[2K\nPASS\u{202e}"), "a\\u{1b}[2K\n  | PASS\\u{202e}");
        let terminal = Terminal::new(false, false);
        // Standard output of a test is no terminal: no colour, so not even colours pass.
        assert_eq!(terminal.harmless("\u{1b}[31mred\u{1b}[0m\u{7}\n"), "\\u{1b}[31mred\\u{1b}[0m\\u{7}\n");
    }
}
