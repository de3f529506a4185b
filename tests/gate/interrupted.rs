//! A batch that is killed, at whichever of its writes, ends with what it would have had, and leaves nothing of the one
//! that was killed.

use std::process::{Command, Stdio};

use super::batches::{arguments, fleet};
use super::bench::Bench;
use crate::support::tree;

/// Of what is chosen among the windows; `LCR_AUDIT_TEST_SEED` chooses others.
const SEED: u64 = 20_261_129;

fn seed() -> u64 {
    std::env::var("LCR_AUDIT_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED)
}

/// Runs a batch that ends itself with SIGKILL right after one of its writes, when nothing can be tidied up; whether it
/// came to that.
fn killed_at(bench: &Bench, more: &[&str], write: u64) -> bool {
    let status = Command::new(env!("CARGO_BIN_EXE_lcr-audit"))
        .args(arguments("killed", more))
        .current_dir(bench.root())
        .env("LCR_AUDIT_END_AT", write.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the binary starts");
    assert!(matches!(status.code(), None | Some(1)), "{status}");
    status.code().is_none()
}

/// The killed batch is run to its end; its folder is that of one that was never killed, to the byte and to the last
/// hidden file.
#[track_caller]
fn ends_as_if_never_killed(bench: &Bench, more: &[&str], write: u64) {
    let run = bench.run(arguments("killed", more));
    assert_eq!(run.code, 1, "killed at write {write}: {}", run.stderr);
    let (expected, found) = (tree(&bench.path("whole")), tree(&bench.path("killed")));
    assert_eq!(
        expected.keys().collect::<Vec<_>>(),
        found.keys().collect::<Vec<_>>(),
        "killed at write {write} (seed {})",
        seed()
    );
    for (name, bytes) in &expected {
        assert!(found[name] == *bytes, "{name} differs, killed at write {write} (seed {})", seed());
    }
}

/// Kills a batch at every `stride`-th of its writes, from `first` on; in how many windows the last lines were written
/// and the standing of their pass was still there, and in how many some lines were.
fn killed_at_all(more: &[&str], first: u64, stride: u64) -> (usize, usize) {
    let bench = fleet();
    assert_eq!(bench.run(arguments("whole", more)).code, 1);
    let (mut after_lines, mut between_lines, mut kills) = (0, 0, 0);
    for write in (first..).step_by(usize::try_from(stride).expect("small")) {
        let _ = fs_err::remove_dir_all(bench.path("killed"));
        if !killed_at(&bench, more, write) {
            break;
        }
        kills += 1;
        let lines = fs_err::read_to_string(bench.path("killed/results.jsonl")).unwrap_or_default().lines().count();
        let stands = bench.path("killed/standing.safetensors").exists();
        after_lines += usize::from(stands && lines >= 5);
        between_lines += usize::from(stands && (2..6).contains(&lines));
        ends_as_if_never_killed(&bench, more, write);
    }
    assert!(kills > 4, "{kills} kills: hardly anything was tested");
    (after_lines, between_lines)
}

#[test]
fn one_adapter_at_a_time() {
    let (after_lines, _) =
        killed_at_all(&["--adapters-per-pass", "1", "--no-reports", "--metrics", "weights,tokens"], 1, 1);
    assert!(after_lines > 0, "never caught between the last line and the end of its pass");
}

#[test]
fn all_together() {
    let (after_lines, between_lines) = killed_at_all(&["--no-reports", "--metrics", "weights,tokens"], 1, 1);
    assert!(after_lines > 0 && between_lines > 0, "{after_lines} after the lines, {between_lines} between them");
}

#[test]
fn all_together_saved_at_every_step() {
    killed_at_all(&["--no-reports", "--save-every", "0"], 1 + seed() % 5, 5);
}

#[test]
fn with_pages_and_figures() {
    killed_at_all(&[], 1 + seed() % 9, 9);
}

/// A run that is killed, resumed, killed and resumed again before it comes to its end.
#[test]
fn again_and_again() {
    let more = ["--no-reports", "--save-every", "0", "--metrics", "weights,tokens"];
    let bench = fleet();
    assert_eq!(bench.run(arguments("whole", &more)).code, 1);
    let mut random = seed();
    for round in 0..3 {
        let _ = fs_err::remove_dir_all(bench.path("killed"));
        for _ in 0..4 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            killed_at(&bench, &more, 1 + (random >> 33) % 24);
        }
        ends_as_if_never_killed(&bench, &more, round);
    }
}

/// What a kill left that happened at no write of this version: an old standing, files of other runs, folders half made.
#[test]
fn whatever_lies_there_is_gone_at_the_end() {
    let more = ["--metrics", "weights,tokens"];
    let bench = fleet();
    assert_eq!(bench.run(arguments("whole", &more)).code, 1);
    assert_eq!(bench.run(arguments("killed", &more)).code, 1);
    let report =
        fs_err::read_dir(bench.path("killed/reports")).expect("a folder").next().expect("one").expect("an entry");
    for name in ["standing.safetensors", ".writing-a", "reports/.writing-b/c", "reports/.earlier-d/index.html"] {
        bench.write(&format!("killed/{name}"), "left");
    }
    fs_err::create_dir(report.path().join(".earlier-e")).expect("created");
    fs_err::write(report.path().join(".writing-f"), "left").expect("written");
    ends_as_if_never_killed(&bench, &more, 0);
}
