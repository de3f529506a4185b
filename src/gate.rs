//! `lcr-audit gate`: a policy's verdict on adapters: their files, and where the policy asks for that, what they do to the base.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use lcr_documents::audit::Audit;
use lcr_gate::policy::Policy;
use lcr_gate::{GateReport, Pins, ProbesPin, Subject};
use lcr_scan::Artifact;

use crate::composition::{composition, digest_of_prompts, pin_base};
use crate::exit::Status;
use crate::model::{Device, Model};
use crate::outputs::OutputArguments;
use crate::question::Question;
use crate::scan::{Renamed, ScanArguments};
use crate::side_by_side::{Fitted, SideBySide};
use crate::terminal::Terminal;

/// The policy that is taken where none is named.
pub(crate) const POLICY_FILE: &str = "lcr-audit.toml";
/// Adapters that go through the base together.
const TOGETHER: usize = 8;

/// Arguments of `gate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit gate adapters/                                        by ./lcr-audit.toml
  lcr-audit gate --policy lcr-audit.toml --base models/Qwen3-4B adapters/
  lcr-audit gate adapters/ --write sarif=lcr-audit.sarif --write summary=\"$GITHUB_STEP_SUMMARY\"

Exit codes: 0 pass · 1 findings at or above the policy · 2 something could not be analysed · 3 wrong usage.")]
pub(crate) struct Arguments {
    /// Folders of adapters, folders of such folders, or files.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Policy file [default: lcr-audit.toml in this folder, else the built-in policy].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    common: ScanArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    let policy = open_policy(arguments.policy.as_deref())?;
    if arguments.common.base.is_none() && (policy.compare.required || policy.base.sha256.is_some()) {
        bail!("the policy {} asks for the base: give its folder with --base", policy.source);
    }
    arguments.output.refuse_inside(&arguments.paths)?;
    let question = policy.compare.required.then(|| Question::of_policy(&policy.compare)).transpose()?;
    let renamed = Renamed::default();
    let common = &arguments.common;
    let report = judged(&arguments.paths, &renamed, &policy, common, "gate", question.as_ref(), terminal)?;
    arguments.output.emit(&report, terminal)
}

/// Scans, compares where that is asked, and judges: the report of a command, as the command makes it and as `verify` does again.
pub(crate) fn judged(
    paths: &[PathBuf],
    renamed: &Renamed,
    policy: &Policy,
    common: &ScanArguments,
    command: &str,
    question: Option<&Question>,
    terminal: &Terminal,
) -> Result<GateReport> {
    let asks_for_base = policy.compare.required || policy.base.sha256.is_some();
    // Of a base that is run the weights are digested once it is open: see `compare_all`.
    let is_run = common.base.is_some() && question.is_some();
    let mut pins = common.pins(!is_run && command != "scan" && (command != "gate" || asks_for_base))?;
    command.clone_into(&mut pins.command);
    pins.paths = paths.iter().map(|path| path.display().to_string()).collect();
    let mut subjects = common.scan_all(paths, terminal)?;
    for (artifact, subject) in &mut subjects {
        if let Some(name) = renamed.of(artifact.path()) {
            subject.path = name;
        }
    }
    if let (Some(base), Some(question)) = (&common.base, question) {
        compare_all(base, question, policy, &mut subjects, &mut pins, terminal)?;
    }
    common.judge(subjects, policy, pins)
}

/// The policy named, or the one in this folder, or the built-in one.
pub(crate) fn open_policy(named: Option<&Path>) -> Result<Policy> {
    let here = Path::new(POLICY_FILE);
    Ok(match named {
        Some(path) => Policy::open(path)?,
        // A link that leads nowhere stands there too, and is no reason to take another policy.
        None if here.symlink_metadata().is_ok() => Policy::open(here)?,
        None => Policy::default(),
    })
}

/// Runs base and adapters side by side, some at a time; an adapter that cannot be run says so in its subject.
fn compare_all(
    base: &Path,
    question: &Question,
    policy: &Policy,
    subjects: &mut [(Artifact, Subject)],
    pins: &mut Pins,
    terminal: &Terminal,
) -> Result<()> {
    let model = Model::open(base, Device::Cpu)?;
    // What is open is held against this after every pass, so that numbers and digest are of the same files.
    pins.base = Some(pin_base(base, true)?);
    let probes = question.probes(&model)?;
    pins.probes = Some(ProbesPin { source: probes.source.clone(), sha256: digest_of_prompts(&probes.prompts)? });
    pins.asked = Some(question.asked.clone());
    let options = question.options()?;
    let pinned = pins.base.clone().unwrap_or_default();
    let composition = composition(&pinned, &probes.prompts, Some(&policy.sha256))?;
    let pair = SideBySide {
        model: &model,
        probes: &probes,
        options,
        base: base.display().to_string(),
        asked: question.asked.clone(),
        composition,
    };
    for group in subjects.chunks_mut(TOGETHER) {
        let mut fitted: Vec<(&mut Subject, Fitted)> = Vec::new();
        for (artifact, subject) in group {
            match Fitted::scanned(&model, artifact, subject, terminal) {
                Ok(adapter) => fitted.push((subject, adapter)),
                // What no adapter is expected in needs no comparison.
                Err(reason) => subject.not_compared = artifact.is_adapter().then_some(reason),
            }
        }
        let (mut subjects, adapters): (Vec<&mut Subject>, Vec<Fitted>) = fitted.into_iter().unzip();
        if adapters.is_empty() {
            continue;
        }
        if let Ok((audits, _)) = pair.audits(&adapters, terminal) {
            subjects.iter_mut().zip(audits).for_each(|(subject, audit): (_, Audit)| subject.audit = Some(audit));
        } else {
            // One bad adapter (activations that become infinite, say) must not hide the others; of a base that changed nothing is said.
            pair.refuse_changed_base()?;
            one_by_one(&pair, subjects, adapters, terminal);
        }
    }
    Ok(())
}

fn one_by_one(pair: &SideBySide, subjects: Vec<&mut Subject>, adapters: Vec<Fitted>, terminal: &Terminal) {
    for (subject, adapter) in subjects.into_iter().zip(adapters) {
        match pair.audits(std::slice::from_ref(&adapter), terminal) {
            Ok((audits, _)) => subject.audit = audits.into_iter().next(),
            Err(error) => subject.error = Some(format!("{error:#}")),
        }
    }
}
