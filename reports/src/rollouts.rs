//! A run's rollouts as one page: what the expert said, what the model said, and which of its words were rewarded.
//!
//! A group is read side by side, one column for each attempt at the same problem, for what training does follows from
//! the difference between them. The page is one file that loads nothing, reads without its script, and treats every
//! text as hostile: datasets and models write what they like. A run of any length makes a page of bounded size: groups
//! are chosen evenly, and what is left out is said.

mod chart;
mod group;
mod metrics;
mod overview;
mod page;
mod run;

use std::path::{Path, PathBuf};

use run::Run;

/// Why there is no page. Every variant that concerns a file names it.
#[derive(Debug, thiserror::Error)]
pub enum ViewerError {
    /// A file could not be read, written or renamed.
    #[error("cannot read or write `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds nothing to show.
    #[error("`{}` holds no rollout: {reason}. It must be the `rollouts.jsonl` of a training run", path.display())]
    NoRollouts {
        /// The file.
        path: PathBuf,
        /// Whether it is empty, or what is wrong with its first line.
        reason: String,
    },
    /// A line that was read a moment ago is another one now.
    #[error("`{}` was changed while it was read: run the command again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Why the line is no rollout any more.
        source: serde_json::Error,
    },
    /// An option outside its range.
    #[error("`{name}` must be at least 1")]
    Option {
        /// Which option.
        name: &'static str,
    },
    /// The page's template failed.
    #[error("the page could not be made from its template")]
    Template(#[from] minijinja::Error),
}

impl ViewerError {
    /// A failure of the file system at `path`.
    fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// How much of a run a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewerOptions {
    /// Groups shown in full, chosen evenly over the run, the first and the last among them.
    pub groups: usize,
    /// Characters of one rollout that are shown, counted from its start.
    pub characters: usize,
}

impl Default for ViewerOptions {
    fn default() -> Self {
        Self { groups: 200, characters: 40_000 }
    }
}

impl ViewerOptions {
    fn validate(self) -> Result<Self, ViewerError> {
        for (name, value) in [("groups", self.groups), ("characters", self.characters)] {
            if value == 0 {
                return Err(ViewerError::Option { name });
            }
        }
        Ok(self)
    }
}

/// What a page was made of.
#[derive(serde::Serialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSummary {
    /// Groups in the file.
    pub groups: usize,
    /// Groups that the page shows.
    pub shown: usize,
    /// Rollouts in the file.
    pub rollouts: usize,
    /// Lines that could not be read, a torn last one included.
    pub unreadable: usize,
    /// Rollouts that a resumed run wrote again, the earlier ones not counted elsewhere.
    pub replaced: usize,
    /// Size of the page.
    pub bytes: usize,
}

/// Reads a `rollouts.jsonl` (and, for its curves, a `metrics.jsonl` beside it if there is one) and writes the page to
/// `out`: aside in the same folder, then renamed, so that the file is either the old or the new one.
pub fn write_page(rollouts: &Path, out: &Path, options: ViewerOptions) -> Result<PageSummary, ViewerError> {
    let options = options.validate()?;
    let run = Run::read(rollouts)?;
    let curves = metrics::read(&rollouts.with_file_name("metrics.jsonl"));
    let shown = run.choose(options.groups);
    let page = page::render(&run, &shown, &curves, options)?;
    lcr_documents::write::replace(out, page.as_bytes()).map_err(|source| ViewerError::io(out, source))?;
    Ok(PageSummary {
        groups: run.groups.len(),
        shown: shown.len(),
        rollouts: run.groups.iter().map(|group| group.members.len()).sum(),
        unreadable: run.unreadable.count,
        replaced: run.replaced,
        bytes: page.len(),
    })
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
