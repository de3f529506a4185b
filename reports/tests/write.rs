//! A report is written whole or not at all.

#[path = "../../documents/tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::Path;

use lcr_documents::DocumentError;
use lcr_documents::audit::json;
use lcr_gate::judge_numbers;
use lcr_gate::policy::Policy;
use lcr_reports::{ReportError, write_index, write_report};

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs_err::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn expected() -> BTreeSet<String> {
    ["figures", "index.html", "report.json"].map(str::to_owned).into()
}

#[test]
fn a_report_is_three_parts_and_nothing_else() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("new/report");
    let mut audit = support::toy();
    judge_numbers(&mut audit, &Policy::default());
    let written = write_report(&audit, &folder).unwrap();
    assert_eq!(names(&folder), expected());
    assert_eq!(written.figures.len(), 7);
    for figure in &written.figures {
        let content = fs_err::read(&figure.file).unwrap();
        assert!(content.starts_with(b"\x89PNG"), "{}", figure.file.display());
        assert!(!figure.title.is_empty() && !figure.caption.is_empty());
    }
    assert_eq!(json::read(&written.report).unwrap().verdict, audit.verdict);
}

#[test]
fn a_second_report_replaces_the_first_and_leaves_other_files_alone() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path();
    write_report(&support::deep(), folder).unwrap();
    fs_err::write(folder.join("notes.txt"), "mine").unwrap();
    fs_err::write(folder.join("figures/stale.png"), "old").unwrap();
    write_report(&support::toy(), folder).unwrap();
    assert_eq!(json::read(&folder.join("report.json")).unwrap().base.layers, 2);
    assert_eq!(fs_err::read_to_string(folder.join("notes.txt")).unwrap(), "mine");
    assert!(!folder.join("figures/stale.png").exists());
    assert_eq!(names(folder).len(), 4, "{:?}", names(folder));
}

/// What fails before anything is moved: an audit that JSON cannot carry.
#[test]
fn an_earlier_report_survives_a_report_that_cannot_be_made() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path();
    write_report(&support::toy(), folder).unwrap();
    let before = fs_err::read(folder.join("report.json")).unwrap();
    let mut broken = support::deep();
    support::tokens_of(&mut broken).js_mean = f64::INFINITY;
    assert!(matches!(write_report(&broken, folder), Err(ReportError::Document(DocumentError::NotFinite { .. }))));
    assert_eq!(fs_err::read(folder.join("report.json")).unwrap(), before);
    assert_eq!(names(folder), expected());
}

#[test]
fn a_folder_that_cannot_be_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs_err::write(&file, "in the way").unwrap();
    let folder = file.join("report");
    match write_report(&support::toy(), &folder) {
        Err(ReportError::Document(DocumentError::Io { path, .. })) => assert_eq!(path, folder),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs_err::read_to_string(&file).unwrap(), "in the way");
}

#[test]
fn reports_of_several_adapters_share_an_index() {
    let parent = tempfile::tempdir().unwrap();
    let audit = support::toy();
    write_report(&audit, &parent.path().join("one")).unwrap();
    let index = write_index(&[("one", &audit)], "the built-in policy", parent.path()).unwrap();
    assert!(fs_err::read_to_string(index).unwrap().contains("./one/index.html"));
    assert_eq!(names(parent.path()), ["index.html", "one"].map(str::to_owned).into());
}

#[test]
fn a_failed_first_report_leaves_no_folder() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("report");
    let mut broken = support::toy();
    support::tokens_of(&mut broken).js_mean = f64::NAN;
    assert!(write_report(&broken, &folder).is_err());
    assert!(!folder.exists());
}

#[cfg(unix)]
#[test]
fn files_are_as_readable_as_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    write_report(&support::toy(), parent.path()).unwrap();
    let plain = parent.path().join("plain");
    fs_err::write(&plain, "").unwrap();
    let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&parent.path().join("report.json")), mode(&plain));
}
