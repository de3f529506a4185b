//! A whole report into a folder, or nothing.
//!
//! Everything is made in a hidden folder inside the target (so that a rename never crosses a file system) and moved
//! into place only when complete; what it replaces is moved aside first and moved back should any step fail. Other
//! files in the target are left alone, for people do write reports into folders that hold more; `figures/` belongs to
//! the report and is replaced whole. What a killed run left in hidden folders goes when the next report is written.

use std::fs::File;
use std::path::{Path, PathBuf};

use lcr_documents::audit::{Audit, json};
use lcr_documents::steps::step;
use lcr_documents::write::{UNFINISHED, sweep_folders, sync_folder};

use crate::error::ReportError;
use crate::figures::{Figure, write_figures};
use crate::html;

/// What a report consists of, in its folder.
const PARTS: [&str; 3] = ["figures", "index.html", "report.json"];
/// How the name of the folder begins to which an earlier report is moved.
pub const EARLIER: &str = ".earlier-";

/// What was written where.
#[derive(Debug, Clone)]
pub struct Written {
    /// `report.json`.
    pub report: PathBuf,
    /// `index.html`.
    pub page: PathBuf,
    /// The figures, each with its title and caption.
    pub figures: Vec<Figure>,
}

/// Writes `report.json`, `index.html` and `figures/*.png` into `folder`, which is made where it is missing. When
/// anything fails, an earlier report in the folder is as it was.
pub fn write_report(audit: &Audit, folder: &Path) -> Result<Written, ReportError> {
    let fresh = !folder.exists();
    fs_err::create_dir_all(folder).map_err(|source| ReportError::io(folder, source))?;
    let written = alone_in(folder).and_then(|_held| stage_and_publish(audit, folder));
    if written.is_err() && fresh {
        // Only ever an empty folder that this call made; that it stays behind is no failure of its own.
        let _ = fs_err::remove_dir(folder);
    }
    written
}

/// Waits until no other process writes a report into this folder, and removes what a killed one left there; whoever
/// holds the result is alone. A file system without locks gives none, and there nothing is removed.
fn alone_in(folder: &Path) -> Result<Option<File>, ReportError> {
    let fault = |source| ReportError::io(folder, source);
    let opened = File::open(folder).map_err(fault)?;
    if opened.lock().is_err() {
        return Ok(None);
    }
    sweep_folders(folder, &[UNFINISHED, EARLIER]).map_err(fault)?;
    Ok(Some(opened))
}

fn stage_and_publish(audit: &Audit, folder: &Path) -> Result<Written, ReportError> {
    let stage = hidden(folder, UNFINISHED)?;
    json::write(audit, &stage.path().join("report.json"))?;
    put(&stage.path().join("index.html"), &html::page(audit)?)?;
    let drawn = stage.path().join("figures");
    let mut figures = write_figures(audit, &drawn)?;
    for figure in &figures {
        let sync = || File::options().write(true).open(&figure.file)?.sync_all();
        sync().map_err(|source| ReportError::io(&figure.file, source))?;
    }
    sync_folder(&drawn);
    sync_folder(stage.path());
    publish(stage.path(), folder)?;
    sync_folder(folder);
    for figure in &mut figures {
        if let Ok(name) = figure.file.strip_prefix(&drawn) {
            figure.file = folder.join("figures").join(name);
        }
    }
    Ok(Written { report: folder.join("report.json"), page: folder.join("index.html"), figures })
}

/// Writes `index.html` for several reports into `folder`, the parent of theirs; each is given by its own folder's path
/// from there and its audit; `judge` says whose verdicts they are. An earlier `index.html` is either replaced or as it
/// was.
pub fn write_index(reports: &[(&str, &Audit)], judge: &str, folder: &Path) -> Result<PathBuf, ReportError> {
    fs_err::create_dir_all(folder).map_err(|source| ReportError::io(folder, source))?;
    let file = folder.join("index.html");
    put(&file, &html::index_of_many(reports, judge)?)?;
    Ok(file)
}

/// A folder that goes away by itself.
fn hidden(folder: &Path, prefix: &str) -> Result<tempfile::TempDir, ReportError> {
    tempfile::Builder::new().prefix(prefix).tempdir_in(folder).map_err(|source| ReportError::io(folder, source))
}

/// One move, and how to undo it.
struct Move {
    from: PathBuf,
    to: PathBuf,
}

/// Moves the parts from the stage into the folder, the earlier ones aside; undoes it all when one move fails.
fn publish(stage: &Path, folder: &Path) -> Result<(), ReportError> {
    let earlier = hidden(folder, EARLIER)?;
    let mut done: Vec<Move> = Vec::new();
    let moves = PARTS.iter().flat_map(|part| {
        [
            Move { from: folder.join(part), to: earlier.path().join(part) },
            Move { from: stage.join(part), to: folder.join(part) },
        ]
    });
    for moved in moves {
        if moved.from.parent() == Some(folder) && moved.from.symlink_metadata().is_err() {
            // There is no earlier one of this part.
            continue;
        }
        if let Err(source) = fs_err::rename(&moved.from, &moved.to) {
            undo(&done);
            return Err(ReportError::io(&moved.to, source));
        }
        done.push(moved);
        step();
    }
    Ok(())
}

/// Moves back, last first. A second failure on top of the first leaves that part behind, and the first is what is
/// reported.
fn undo(done: &[Move]) {
    for moved in done.iter().rev() {
        let _ = fs_err::rename(&moved.to, &moved.from);
    }
}

/// Puts a page in its place whole.
fn put(file: &Path, page: &str) -> Result<(), ReportError> {
    lcr_documents::write::replace(file, page.as_bytes()).map_err(|source| ReportError::io(file, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stage without `report.json` fails at the last move, when the other parts have already been replaced.
    #[test]
    fn a_move_that_fails_brings_back_what_was_there() {
        let parent = tempfile::tempdir().unwrap();
        let (stage, folder) = (parent.path().join("stage"), parent.path().join("folder"));
        for (place, content) in [(&stage, "new"), (&folder, "old")] {
            fs_err::create_dir_all(place.join("figures")).unwrap();
            fs_err::write(place.join("figures/a.png"), content).unwrap();
            fs_err::write(place.join("index.html"), content).unwrap();
        }
        fs_err::write(folder.join("report.json"), "old").unwrap();
        assert!(publish(&stage, &folder).is_err());
        for part in ["figures/a.png", "index.html", "report.json"] {
            assert_eq!(fs_err::read_to_string(folder.join(part)).unwrap(), "old", "{part}");
        }
        assert_eq!(fs_err::read_dir(&folder).unwrap().count(), 3, "nothing else is left behind");
    }
}
