//! A batch that is killed, again and again, ends with what it would have had.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::batches::{arguments, fleet};
use super::bench::Bench;
use crate::support::tree;

/// Runs a batch and kills it after a while; whether it was still running.
fn killed_after(bench: &Bench, more: &[&str], wait: Duration) -> bool {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lcr-audit"))
        .args(arguments("killed", more))
        .current_dir(bench.root())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    std::thread::sleep(wait);
    let running = child.try_wait().expect("waited for").is_none();
    // SIGKILL: nothing can be tidied up.
    child.kill().expect("killed or gone");
    child.wait().expect("waited for");
    running
}

/// Files that were finished: a kill may leave one that was being written aside, under a hidden name.
fn finished(bench: &Bench, folder: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = tree(&bench.path(folder));
    files.retain(|name, _| !name.split('/').any(|part| part.starts_with('.')));
    files
}

fn ends_as_if_never_killed(more: &[&str]) {
    let bench = fleet();
    let began = Instant::now();
    assert_eq!(bench.run(arguments("whole", more)).code, 1);
    let whole = began.elapsed();
    let mut random = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let seed = random;
    let mut kills = 0;
    for _ in 0..4 {
        let _ = fs_err::remove_dir_all(bench.path("killed"));
        for _ in 0..5 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let share = (random >> 33) as f64 / f64::from(u32::MAX >> 1);
            kills += usize::from(killed_after(&bench, more, whole.mul_f64(share)));
        }
        let run = bench.run(arguments("killed", more));
        assert_eq!(run.code, 1, "seed {seed}: {}", run.stderr);
        let (expected, found) = (finished(&bench, "whole"), finished(&bench, "killed"));
        assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "seed {seed}");
        for (name, bytes) in &expected {
            assert!(found[name] == *bytes, "{name} differs, seed {seed}");
        }
    }
    assert!(kills > 0, "no run was killed: the test tests nothing");
}

#[test]
fn one_adapter_at_a_time() {
    ends_as_if_never_killed(&["--together", "1"]);
}

#[test]
fn all_together() {
    ends_as_if_never_killed(&[]);
}

#[test]
fn all_together_saved_at_every_step() {
    ends_as_if_never_killed(&["--save-every", "0"]);
}

/// The folder of a batch that was killed between two lines of one pass, when some of its adapters had their result already.
#[test]
fn a_pass_of_which_some_lines_are_written_goes_on_with_its_standing() {
    let bench = fleet();
    let saved = ["--save-every", "0"];
    assert_eq!(bench.run(arguments("whole", &saved)).code, 1);
    let mut caught = 0;
    for wait in (0..400).map(|step| Duration::from_millis(5 * step)) {
        let _ = fs_err::remove_dir_all(bench.path("killed"));
        let running = killed_after(&bench, &saved, wait);
        let lines = fs_err::read_to_string(bench.path("killed/results.jsonl")).unwrap_or_default().lines().count();
        // The first line is of the adapter that cannot be read; then come those of the pass.
        if running && (2..6).contains(&lines) && bench.path("killed/standing.safetensors").exists() {
            caught += 1;
            assert_eq!(bench.run(arguments("killed", &saved)).code, 1);
            assert!(finished(&bench, "whole") == finished(&bench, "killed"), "killed after {wait:?}");
        }
        if caught == 3 || !running {
            break;
        }
    }
    assert!(caught > 0, "no run was caught between two lines: the test tests nothing");
}
