//! Hostile folders, each scanned by the program in a process of its own: it must end in time, in little memory, with a
//! verdict that follows from its findings, and find what is there.
//!
//! `cargo test --release --test zoo -- --nocapture` prints what each takes; `ZOO=pickle` visits only those whose name
//! begins so. A case of more than 32 MB is marked as volume: its time is that of reading and digesting so much, and
//! only the others are held to a second, or on a busy machine to ten.

#![cfg(unix)]

mod support;

mod zoo {
    pub(crate) mod archives;
    pub(crate) mod bombs;
    pub(crate) mod configs;
    pub(crate) mod files;
    pub(crate) mod hostile_case;
    pub(crate) mod making;
    pub(crate) mod pickles;
    pub(crate) mod polyglots;
    pub(crate) mod running;
    pub(crate) mod tensors;
    pub(crate) mod texts;
    pub(crate) mod weights;
    pub(crate) mod zips;
}

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use support::text;
use zoo::hostile_case::{HostileCase, Outcome};
use zoo::running::{Ended, run};

/// Most memory that a scan may take.
const MEMORY: u64 = 200 << 20;
/// What a scan should take at most; printed, not asserted, for machines differ.
const TIME: Duration = Duration::from_secs(1);
/// What it may take at most on any machine, of the processor: how busy that is does not count.
const BUSY_TIME: Duration = Duration::from_secs(10);
/// Bytes up to which these hold. What takes longer by its length alone, an honest adapter of as many bytes takes too.
const VOLUME: u64 = 32 << 20;

fn cases() -> Vec<HostileCase> {
    use zoo::{archives, bombs, configs, files, pickles, polyglots, tensors, texts, weights};
    [
        tensors::headers(),
        tensors::values(),
        tensors::notes(),
        pickles::all(),
        polyglots::all(),
        archives::all(),
        files::links_and_pipes(),
        files::programs(),
        files::names(),
        files::amounts(),
        configs::code(),
        configs::syntax(),
        configs::meaning(),
        configs::twice(),
        texts::templates(),
        texts::tokenizers(),
        weights::all(),
        bombs::configs(),
        bombs::tensors(),
        bombs::texts(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a case took and what is wrong with how it went.
struct Visit {
    name: &'static str,
    /// Bytes of its files and those of its base.
    volume: u64,
    time: Duration,
    memory: Option<u64>,
    rules: BTreeSet<String>,
    faults: Vec<String>,
}

fn visit(case: &HostileCase) -> Visit {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().join("adapter");
    (case.build)(&at);
    let base = case.base.map(|build| {
        let base = folder.path().join("base");
        build(&base);
        base
    });
    let mut arguments = vec!["scan", text(&at)];
    arguments.extend(base.iter().flat_map(|base| ["--base", text(base)]));
    let volume = zoo::hostile_case::volume(&at) + base.as_deref().map_or(0, zoo::hostile_case::volume);
    let ended = run(folder.path(), "json", &[arguments.as_slice(), &["--format", "json"]].concat());
    let mut faults = faults_of_process(&ended);
    if !is_volume(volume) && ended.time > BUSY_TIME {
        faults.push(format!("{:.1} s for {volume} bytes", ended.time.as_secs_f64()));
    }
    let mut rules = BTreeSet::new();
    if ended.killed.is_none() {
        match case.outcome {
            Outcome::Refused => faults.extend(faults_of_refusal(&ended)),
            Outcome::NotPassed if ended.code != Some(0) => {}
            Outcome::NotPassed => faults.push("it passes, and nothing says what was not looked at".to_owned()),
            Outcome::Report => match serde_json::from_slice(&ended.stdout) {
                Ok(report) => faults.extend(faults_of_report(case, &ended, &report, &mut rules)),
                Err(error) => faults.push(format!("no JSON on standard output: {error}; {}", said(&ended.stderr))),
            },
        }
        // A dozen kinds of output would only repeat this: only names that could reach the terminal are shown again.
        if case.name.contains("escapes") {
            for format in ["table", "sarif", "junit", "summary"] {
                let shown = run(folder.path(), format, &[arguments.as_slice(), &["--format", format]].concat());
                faults.extend(faults_of_terminal(format, &shown));
            }
        }
    }
    faults.extend(faults_of_terminal("json", &ended));
    Visit { name: case.name, volume, time: ended.time, memory: ended.memory, rules, faults }
}

/// Whether a case's time is that of its length.
fn is_volume(bytes: u64) -> bool {
    bytes > VOLUME
}

fn faults_of_process(ended: &Ended) -> Vec<String> {
    let mut faults = Vec::new();
    match (ended.killed, ended.code) {
        (Some(reason), _) => faults.push(format!("killed after {:.1} s: {reason}", ended.time.as_secs_f64())),
        (None, Some(0..=2)) => {}
        (None, code) => faults.push(format!("exit code {code:?}; {}", said(&ended.stderr))),
    }
    if let Some(memory) = ended.memory.filter(|memory| *memory > MEMORY) {
        faults.push(format!("{} MB of memory", memory >> 20));
    }
    faults
}

fn faults_of_refusal(ended: &Ended) -> Vec<String> {
    let mut faults = Vec::new();
    if ended.code != Some(2) {
        faults.push(format!("exit code {:?} in place of 2", ended.code));
    }
    if !ended.stdout.is_empty() || !ended.stderr.starts_with(b"error: ") {
        faults.push(format!("no plain error: {}", said(&ended.stderr)));
    }
    faults
}

fn faults_of_report(case: &HostileCase, ended: &Ended, report: &Value, rules: &mut BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let findings = || report["artifacts"].as_array().into_iter().flatten().flat_map(findings_of);
    rules.extend(findings().filter_map(|finding| finding["rule"].as_str().map(str::to_owned)));
    for rule in case.rules.iter().filter(|rule| !rules.contains(**rule)) {
        faults.push(format!("no `{rule}`"));
    }
    for rule in case.absent.iter().filter(|rule| rules.contains(**rule)) {
        faults.push(format!("`{rule}`, which is not true"));
    }
    let denied = findings().any(|finding| finding["level"] == "deny");
    let expected = if denied { ("fail", Some(1)) } else { ("pass", Some(0)) };
    let found = (report["verdict"].as_str().unwrap_or_default(), ended.code);
    if found != expected && found != ("incomplete", Some(2)) {
        faults.push(format!("verdict and exit code are {found:?}, from the findings follows {expected:?}"));
    }
    faults
}

fn findings_of(artifact: &Value) -> impl Iterator<Item = &Value> {
    artifact["findings"].as_array().into_iter().flatten()
}

/// Nothing that reaches the terminal may move its cursor.
fn faults_of_terminal(format: &str, ended: &Ended) -> Option<String> {
    let moves = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes)
            .chars()
            .any(|character| character.is_control() && !matches!(character, '\n' | '\t'))
    };
    (moves(&ended.stdout) || moves(&ended.stderr)).then(|| format!("a control character in what {format} prints"))
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().take(300).collect()
}

/// Visits cases, two at a time at least.
fn visits(cases: &[HostileCase]) -> Vec<Visit> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let visit = visit(case);
                    done.lock().expect("no panic holds it").push(visit);
                }
            });
        }
    });
    done.into_inner().expect("no panic held it")
}

#[test]
fn every_case_is_found_out_in_time_and_in_little_memory() {
    let wanted = std::env::var("ZOO").unwrap_or_default();
    let all: Vec<HostileCase> = cases().into_iter().filter(|case| case.name.starts_with(&wanted)).collect();
    let mut visits = visits(&all);
    visits.sort_by_key(|visit| visit.time);
    let mut table = String::new();
    for Visit { name, volume, time, memory, rules, faults } in &visits {
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let mark = match () {
            () if !faults.is_empty() => '!',
            () if is_volume(*volume) => 'v',
            () if *time > TIME => 's',
            () => ' ',
        };
        let [megabytes, length] = [memory.unwrap_or_default(), *volume].map(|bytes| bytes >> 20);
        let rate = *volume as f64 / f64::from(1 << 20) / time.as_secs_f64();
        let milliseconds = time.as_millis();
        let numbers = format!("{milliseconds:>6} ms {megabytes:>5} MB  of {length:>8} MB, {rate:>9.1} MB/s");
        let line = format!("{mark} {name:<44} {numbers}  {}", rules.join(" "));
        writeln!(table, "{line}").expect("a string takes all");
    }
    let slow =
        |volume: bool| visits.iter().filter(|visit| visit.time > TIME && is_volume(visit.volume) == volume).count();
    let (slow, long) = (slow(false), slow(true));
    let time = visits.iter().map(|visit| visit.time).max().unwrap_or_default();
    let memory = visits.iter().filter_map(|visit| visit.memory).max().unwrap_or_default() >> 20;
    let faults: Vec<String> =
        visits.iter().flat_map(|visit| visit.faults.iter().map(|fault| format!("{}: {fault}", visit.name))).collect();
    let count = visits.len();
    let summary = format!(
        "{count} cases, at most {} ms and {memory} MB; over 1 s took {slow}, and {long} by their volume",
        time.as_millis()
    );
    #[expect(clippy::print_stdout, reason = "what each takes is worth seeing")]
    {
        println!("{table}{summary}");
    }
    assert!(faults.is_empty(), "{summary}\n{}", faults.join("\n"));
}

#[test]
fn the_zoo_is_large_and_every_check_has_a_case() {
    let all = cases();
    assert!(all.len() >= 90, "{}", all.len());
    let names: BTreeSet<&str> = all.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), all.len(), "two cases have one name");
    let shown: BTreeSet<&str> = all.iter().flat_map(|case| case.rules).copied().collect();
    let codes = lcr_scan::Check::ALL.iter().map(|check| check.code());
    let missing: Vec<&str> = codes.filter(|code| !shown.contains(code)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

/// The report on a folder, and how the run ended.
fn scanned(folder: &Path, aside: &Path) -> (Ended, Value) {
    let ended = run(aside, "sound", &["scan", text(folder), "--format", "json"]);
    let report = serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| panic!("no JSON: {}", said(&ended.stderr)));
    (ended, report)
}

#[test]
fn a_sound_adapter_passes_without_a_word() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().join("adapter");
    fs_err::create_dir(&at).expect("created");
    zoo::making::sound().write(&at);
    fs_err::write(at.join("README.md"), "# An adapter\n").expect("written");
    let (ended, report) = scanned(&at, folder.path());
    let objections: Vec<&Value> =
        findings_of(&report["artifacts"][0]).filter(|finding| finding["level"] != "allow").collect();
    assert!(objections.is_empty(), "{objections:?}");
    assert_eq!((ended.code, report["verdict"].as_str()), (Some(0), Some("pass")));
    assert_eq!(report["artifacts"][0]["adapter"]["tensors"], 8);
}

#[test]
fn no_adapter_of_the_golden_cases_is_denied() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut denied = Vec::new();
    let mut cases = 0;
    for case in fs_err::read_dir(support::repository("tests/golden")).expect("a folder") {
        let adapter = case.expect("an entry").path().join("adapter");
        if !adapter.is_dir() {
            continue;
        }
        cases += 1;
        let (ended, report) = scanned(&adapter, folder.path());
        for finding in findings_of(&report["artifacts"][0]).filter(|finding| finding["level"] == "deny") {
            let (rule, message) = (finding["rule"].as_str(), finding["message"].as_str());
            denied.push(format!("{}: {}: {}", adapter.display(), rule.unwrap_or("?"), message.unwrap_or("?")));
        }
        assert!(matches!(ended.code, Some(0 | 1)), "{}: {}", adapter.display(), said(&ended.stderr));
    }
    assert!(cases >= 5, "{cases}");
    assert!(denied.is_empty(), "{}", denied.join("\n"));
}
