//! `lcr-audit calibrate`: what adapters that are known to be good look like on their base.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use lcr_analysis::comparison::CompareOptions;
use lcr_analysis::metrics::{Parameters, weights};
use lcr_analysis::site::SiteOptions;
use lcr_documents::audit::{Answer, Audit, Depth, Tool};
use lcr_documents::characters::visible;
use lcr_documents::number::{percent, plain, plural};
use lcr_documents::profile::{KnownGood, Profile, SCHEMA};
use lcr_documents::statistics::median;
use lcr_documents::write::replace;
use lcr_scan::{Limits, discover};

use crate::evidence::EvidenceArguments;
use crate::exit::Status;
use crate::model::{DeviceArguments, Model, ProbeArguments};
use crate::outputs::refuse_inside;
use crate::provenance::{date_or_today, pin_base, provenance};
use crate::side_by_side::{Fitted, SideBySide};
use crate::terminal::Terminal;

/// Rates that the result is told for.
const RATES: [f64; 2] = [0.05, 0.01];

/// Arguments of `calibrate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit calibrate models/Qwen3-0.6B trusted/ --out profile.json
  lcr-audit calibrate models/Qwen3-0.6B trusted/ --out profile.json --depth deep --base-cache ~/.cache/lcr-audit
  lcr-audit calibrate models/Qwen3-0.6B more/ --out profile.json --merge earlier.json
  lcr-audit compare models/Qwen3-0.6B new-adapter --profile profile.json

Measures each adapter as `compare` does and keeps what came of it, not the adapters. Take adapters that you trust, of the \
    recipes and subjects that honest ones will have. Started again with the same --out, it goes on with those that are not in it yet.

Exit codes: 0 done · 2 something could not be analysed · 3 wrong usage.")]
pub(crate) struct Arguments {
    /// Folder of the base model.
    base: PathBuf,
    /// Folders of known-good adapters, or folders of such folders.
    #[arg(required = true)]
    adapters: Vec<PathBuf>,
    /// File for the profile.
    #[arg(long, value_name = "FILE", default_value = "profile.json")]
    out: PathBuf,
    /// Take the adapters of another profile of this base into it.
    #[arg(long, value_name = "FILE")]
    merge: Vec<PathBuf>,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Day that stands in it, YYYY-MM-DD [default: today, UTC].
    #[arg(long, value_name = "DAY")]
    date: Option<String>,
    #[command(flatten)]
    evidence: EvidenceArguments,
    #[command(flatten)]
    probes: ProbeArguments,
    #[command(flatten)]
    device: DeviceArguments,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    refuse_inside(&arguments.adapters, [arguments.out.as_path()])?;
    let model = Model::open(&arguments.base, arguments.device.device)?;
    let probes = arguments.probes.load(&model, terminal)?;
    let options = arguments.options();
    let asked = arguments.evidence.asked(&arguments.base, &arguments.probes, &options, Depth::Standard)?;
    if asked.depth == Depth::Quick {
        bail!("at depth `quick` hardly a question has a score: calibrate at `standard` or `deep`");
    }
    let provenance = provenance(&pin_base(&arguments.base, true)?, &probes.prompts, None)?;
    let mut profile = Profile {
        schema: SCHEMA.to_owned(),
        tool: Tool { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
        date: date_or_today(arguments.date.as_deref())?,
        base: provenance.base.clone().unwrap_or_default(),
        probes: provenance.probes.clone(),
        asked: asked.clone(),
        adapters: Vec::new(),
    };
    profile.adapters = arguments.earlier(&profile)?;
    let base = arguments.base.display().to_string();
    let pair = SideBySide {
        base_cache: arguments.evidence.base_cache.clone(),
        ..SideBySide::new((&model, &probes), options, base, asked, provenance)
    };
    let failed = measure(&pair, arguments, &mut profile, terminal)?;
    for other in &arguments.merge {
        let (found, _) = Profile::open(other)?;
        profile.merge(found).with_context(|| format!("cannot take {} into it", other.display()))?;
    }
    if profile.adapters.is_empty() {
        bail!("no adapter could be measured, so there is no profile");
    }
    keep(&profile, &arguments.out)?;
    if terminal.json() {
        terminal.document(&profile)?;
    } else {
        terminal.result(&summary(&profile, &arguments.out)?)?;
    }
    Ok(if failed == 0 { Status::Done } else { Status::Broken })
}

/// Measures every adapter that was not measured before, and keeps the profile after each. How many could not be.
fn measure(pair: &SideBySide, arguments: &Arguments, profile: &mut Profile, terminal: &Terminal) -> Result<usize> {
    let found = discover(&arguments.adapters, &Limits::default())?;
    let found: Vec<_> = found.iter().filter(|artifact| artifact.is_adapter()).collect();
    let mut failed = 0;
    for (place, artifact) in found.iter().enumerate() {
        let path = artifact.path();
        let known = match one(pair, path, profile, terminal) {
            Ok(known) => known,
            Err(error) => {
                pair.refuse_changed_base()?;
                terminal.warn(&format!("{} is left out: {error:#}", path.display()));
                failed += 1;
                continue;
            }
        };
        if let Some(known) = known {
            profile.adapters.push(known);
            keep(profile, &arguments.out)?;
        }
        terminal.note(&format!("{} of {}: {}", place + 1, found.len(), path.display()));
    }
    Ok(failed)
}

/// What one adapter looks like; `None` where the same tensors are in the profile already.
fn one(pair: &SideBySide, path: &Path, profile: &Profile, terminal: &Terminal) -> Result<Option<KnownGood>> {
    let variant = pair.model.adapt(path, terminal)?;
    let sha256 = variant.adapter().sha256.clone();
    if profile.adapters.iter().any(|known| known.sha256 == sha256) {
        terminal.note(&format!("{}: these tensors are in the profile already", path.display()));
        return Ok(None);
    }
    let fitted = Fitted { path: path.display().to_string(), sha256: None, variant };
    let (audits, _) = pair.audits(std::slice::from_ref(&fitted), terminal)?;
    let audit = audits.into_iter().next().context("the comparison gave nothing")?;
    let is_odd = |name: &str| audit.questions.get(name).is_some_and(|question| question.answer == Answer::Yes);
    for name in ["erasure", "constant", "magnitude", "trigger.token", "surrogate"] {
        if is_odd(name) {
            terminal.warn(&format!("{} answers `{name}` with yes: is it known to be good?", path.display()));
        }
    }
    Ok(Some(known_good(audit)))
}

/// What a profile keeps of an audit.
fn known_good(audit: Audit) -> KnownGood {
    let scores = audit.questions.iter().filter_map(|(name, question)| Some((name.clone(), question.score?)));
    KnownGood {
        scores: scores.collect(),
        relative_norm: audit.weights.values().filter_map(|change| change.relative_norm).reduce(f64::max),
        name: audit.adapter.name,
        sha256: audit.adapter.sha256,
        method: audit.adapter.method,
        ranks: audit.adapter.ranks,
        targets: audit.adapter.targets,
    }
}

fn keep(profile: &Profile, out: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(profile)? + "\n";
    replace(out, text.as_bytes()).with_context(|| format!("cannot write {}", out.display()))
}

impl Arguments {
    fn options(&self) -> CompareOptions {
        CompareOptions {
            sites: SiteOptions {
                metrics: vec![&weights::METRIC],
                keep_sinks: false,
                parameters: Parameters { subspace_dimensions: 10, seed: self.seed },
            },
            tracked: 0,
        }
    }

    /// What an earlier run with the same question measured, all of which stays; a file of another question is not
    /// overwritten.
    fn earlier(&self, profile: &Profile) -> Result<Vec<KnownGood>> {
        if self.out.symlink_metadata().is_err() {
            return Ok(Vec::new());
        }
        let (found, _) = Profile::open(&self.out)?;
        let Profile { tool, base, probes, asked, .. } = profile;
        found
            .fits(&tool.version, base, probes, asked)
            .with_context(|| format!("{} is not overwritten: choose another --out", self.out.display()))?;
        if found.asked.depth != asked.depth {
            bail!("{} was made at depth {}: choose another --out", self.out.display(), found.asked.depth.as_str());
        }
        Ok(found.adapters)
    }
}

/// What a person reads at the end: the scores, and what so many adapters can tell.
fn summary(profile: &Profile, out: &Path) -> Result<String> {
    let mut text = String::new();
    let count = profile.adapters.len();
    writeln!(text, "{} on {}", plural(count, "known-good adapter"), &profile.base[..profile.base.len().min(12)])?;
    let mut names: Vec<&String> = profile.adapters.iter().flat_map(|known| known.scores.keys()).collect();
    names.sort();
    names.dedup();
    writeln!(text, "  {:<20} {:>9} {:>9} {:>9}", "score of", "lowest", "median", "highest")?;
    for name in names {
        let scores: Vec<f64> = profile.adapters.iter().filter_map(|known| known.scores.get(name).copied()).collect();
        let (low, high) =
            (scores.iter().copied().fold(f64::MAX, f64::min), scores.iter().copied().fold(f64::MIN, f64::max));
        let middle = median(&scores).unwrap_or(f64::NAN);
        writeln!(text, "  {name:<20} {:>9} {:>9} {:>9}", plain(low), plain(middle), plain(high))?;
    }
    for rate in RATES {
        let needed = (1.0 / rate).ceil() as usize - 1;
        let told = if profile.finest() <= rate {
            "can be told from them".to_owned()
        } else {
            format!("needs {needed}, so that nothing is called unlike them at that rate")
        };
        writeln!(text, "  {} {told}; {count} are in it, {} at the finest", percent(rate), percent(profile.finest()))?;
    }
    writeln!(text, "\n{}", visible(&out.display().to_string()))?;
    Ok(text)
}
