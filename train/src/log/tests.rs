//! What may and may not get into a log, and how it is cut.

use std::fs;
use std::path::PathBuf;

use super::*;

fn record(step: u64) -> StepRecord {
    StepRecord {
        step,
        iteration: 3 * step,
        loss: 0.1 + step as f64 / 3.0,
        kl_naked: Some(Divergence { k1: -1e-9, k3: 2e-9, exact: None }),
        accuracy_by_view: BTreeMap::from([("naked".to_owned(), 1.0 / 3.0)]),
        seconds: PhaseSeconds { rollout: 1.5, gradient: 0.25, optimizer: 0.01 },
        tokens_per_second: Some(12.5),
        ..StepRecord::default()
    }
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    (folder, path)
}

#[test]
fn every_line_reads_back_equal() {
    let (_folder, path) = file();
    let mut lines = JsonLines::create(&path).unwrap();
    let records: Vec<StepRecord> = (0..5).map(record).collect();
    records.iter().for_each(|record| lines.append(record).unwrap());
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(lines.sync().unwrap(), text.len() as u64);
    let read: Vec<StepRecord> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, records);
}

/// Each number in turn is made NaN; JSON would have turned it into `null`.
#[test]
fn a_number_that_is_not_finite_is_refused_by_name() {
    let (_folder, path) = file();
    let mut lines = JsonLines::create(&path).unwrap();
    let spoiled = |spoil: &dyn Fn(&mut StepRecord)| {
        let mut record = record(1);
        spoil(&mut record);
        record
    };
    for (bad, name) in [
        (spoiled(&|record| record.loss = f64::NAN), "loss"),
        (spoiled(&|record| record.gradient_norm = f64::INFINITY), "gradient_norm"),
        (spoiled(&|record| record.entropy = Some(f64::NAN)), "absent"),
        (spoiled(&|record| record.kl_naked = Some(Divergence { k3: f64::NAN, ..Divergence::default() })), "k3"),
        (
            spoiled(&|record| record.accuracy_by_view = BTreeMap::from([("scaffold_0".to_owned(), f64::NAN)])),
            "scaffold_0",
        ),
        (spoiled(&|record| record.seconds.gradient = f64::NEG_INFINITY), "gradient"),
    ] {
        let message = lines.append(&bad).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("metrics.jsonl"), "{message}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"", "nothing was written");
}

#[test]
fn a_log_returns_to_a_recorded_length_and_goes_on() {
    let (_folder, path) = file();
    let mut lines = JsonLines::create(&path).unwrap();
    lines.append(&record(1)).unwrap();
    let length = lines.length();
    lines.append(&record(2)).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [whole.as_slice(), b"{\"step\": 3, \"it"].concat()).unwrap();
    let mut lines = JsonLines::truncated(&path, length).unwrap();
    lines.append(&record(2)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn a_length_that_cannot_be_right_is_refused() {
    let (_folder, path) = file();
    fs::write(&path, "{}\n{}\n").unwrap();
    let short = JsonLines::truncated(&path, 7).unwrap_err();
    assert!(matches!(short, LogError::TooShort { found: 6, recorded: 7, .. }), "{short}");
    let within = JsonLines::truncated(&path, 4).unwrap_err();
    assert!(matches!(within, LogError::WithinLine { length: 4, .. }), "{within}");
    assert_eq!(fs::read(&path).unwrap(), b"{}\n{}\n", "a refusal cuts nothing");
}

#[test]
fn an_unfinished_last_line_is_cut() {
    let (_folder, path) = file();
    // Longer than the block in which the end is searched.
    let long = "x".repeat(200_000);
    for (before, after) in [
        (String::new(), ""),
        ("{\"a\"".to_owned(), ""),
        ("{}\n".to_owned(), "{}\n"),
        ("{}\n{\"a".to_owned(), "{}\n"),
        (format!("{{}}\n{long}"), "{}\n"),
        (long.clone(), ""),
    ] {
        fs::write(&path, before).unwrap();
        assert_eq!(JsonLines::repaired(&path).unwrap().length(), after.len() as u64);
        assert_eq!(fs::read_to_string(&path).unwrap(), after);
    }
}

/// `/dev/full` answers every write as a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let mut lines = JsonLines::create(std::path::Path::new("/dev/full")).unwrap();
    let error = lines.append(&record(1)).unwrap_err();
    let LogError::Io { path, source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(path, std::path::Path::new("/dev/full"));
    assert_eq!(lines.length(), 0);
}

#[test]
fn measurements_are_the_only_difference_between_equal_runs() {
    let first = record(4);
    let slower = StepRecord {
        seconds: PhaseSeconds { rollout: 99.0, ..PhaseSeconds::default() },
        tokens_per_second: Some(1.0),
        peak_anonymous_memory: Some(1 << 30),
        peak_resident_memory: Some(1 << 31),
        ..first.clone()
    };
    assert_ne!(first, slower);
    assert_eq!(first.without_measurements(), slower.without_measurements());
    let other = StepRecord { loss: first.loss + 1e-15, ..slower };
    assert_ne!(first.without_measurements().loss.to_bits(), other.without_measurements().loss.to_bits());
}

#[test]
fn charts_have_one_tag_a_number_and_none_for_what_is_absent() {
    let scalars = record(1).scalars();
    let tags: std::collections::BTreeSet<&str> = scalars.iter().map(|(tag, _)| tag.as_str()).collect();
    assert_eq!(tags.len(), scalars.len(), "{scalars:?}");
    assert!(tags.contains("kl_naked/k1") && tags.contains("accuracy/naked"));
    assert!(!tags.contains("kl_naked/exact") && !tags.contains("entropy"));
}
