//! Everything that is printed goes through here: results to standard output, the rest to standard error, progress only
//! where a person is looking.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

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

    /// Prints part of the result as it comes.
    pub(crate) fn result(&self, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// Prints the result as JSON.
    pub(crate) fn document(&self, value: &impl serde::Serialize) -> Result<()> {
        self.result(&(serde_json::to_string_pretty(value)? + "\n"))
    }

    /// Says something beside the result.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            // A closed standard error must not end an audit.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// Says what the reader must know even where they asked for quiet.
    pub(crate) fn warn(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "warning: {text}");
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
        let _ = writeln!(std::io::stderr(), "error: {text}");
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
