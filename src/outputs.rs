//! A gate's report in every form that is asked for; what `scan`, `gate` and `merge` share.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use lcr_documents::write::{append, replace};
use lcr_gate::{self as gate, GateReport};
use lcr_scan::{Artifact, Limits, discover};

use crate::attestation;
use crate::exit::{Misuse, Status};
use crate::terminal::Terminal;

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a person at a terminal.
    Table,
    /// `lcr-audit/gate/1`, which `--baseline`, `verify` and `merge` read.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit XML, for test reports.
    Junit,
    /// Markdown for a job's summary page.
    Summary,
    /// JSON for an endpoint badge.
    Badge,
    /// CycloneDX 1.6: adapters, their files and their base as a bill of materials, with the verdict.
    Cyclonedx,
    /// JSON for GitLab's Code Quality.
    Codequality,
}

impl Format {
    fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Sarif | Self::Badge | Self::Cyclonedx | Self::Codequality)
    }

    fn render(self, report: &GateReport, terminal: &Terminal) -> Result<String> {
        Ok(match self {
            Self::Table => gate::table(report, terminal.colour(), terminal.width()),
            Self::Json => gate::to_string(report)?,
            Self::Sarif => gate::sarif(report)?,
            Self::Junit => gate::junit(report)?,
            Self::Summary => gate::step_summary(report),
            Self::Badge => gate::badge(report),
            Self::Cyclonedx => gate::cyclonedx(report)?,
            Self::Codequality => gate::codequality(report)?,
        })
    }
}

/// One `--write FORMAT=FILE`.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    format: Format,
    path: PathBuf,
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (format, path) = text.split_once('=').ok_or("FORMAT=FILE is needed, such as sarif=lcr-audit.sarif")?;
        let format = Format::from_str(format, true).map_err(|_| {
            format!("`{format}` is no format; known: table, json, sarif, junit, summary, badge, cyclonedx, codequality")
        })?;
        if path.is_empty() {
            return Err("the file's name is missing after `=`".to_owned());
        }
        Ok(Self { format, path: PathBuf::from(path) })
    }
}

/// Arguments that say where a report goes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArguments {
    /// What is printed on standard output [default: table, or json with --json].
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Also write the report to a file; may be given several times, e.g. `--write sarif=lcr-audit.sarif`. A summary is
    /// appended, everything else replaced.
    #[arg(long, value_name = "FORMAT=FILE")]
    pub(crate) write: Vec<Destination>,
    /// Write an in-toto Statement about every file of adapters and base, unsigned, for `cosign attest-blob
    /// --statement`.
    #[arg(long, value_name = "FILE")]
    pub(crate) attest: Option<PathBuf>,
}

/// Refuses to write into the folder of an adapter that is read: the report would be of other files than stand there
/// afterwards.
///
/// `paths` are those that adapters are looked for under.
pub(crate) fn refuse_inside<'a>(paths: &[PathBuf], outputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let outputs: Vec<&Path> = outputs.into_iter().collect();
    if outputs.is_empty() {
        return Ok(());
    }
    // What cannot be looked through is said where it is read.
    let artifacts = discover(paths, &Limits::default()).unwrap_or_default();
    // Around adapters only what is not entered belongs to a report.
    let artifacts: Vec<&Artifact> =
        artifacts.iter().filter(|artifact| !matches!(artifact, Artifact::Around(_))).collect();
    let artifacts =
        artifacts.iter().filter_map(|artifact| Some((artifact.path(), artifact.path().canonicalize().ok()?)));
    let artifacts: Vec<(&Path, PathBuf)> = artifacts.collect();
    for output in outputs {
        let places = [landing(output), output.canonicalize().ok()];
        let inside =
            |(_, artifact): &&(&Path, PathBuf)| places.iter().flatten().any(|place| place.starts_with(artifact));
        if let Some((artifact, _)) = artifacts.iter().find(inside) {
            return Err(Misuse(format!(
                "{} lies in {}, whose files the report is about: it would no longer speak of what stands there. Write \
                 it elsewhere",
                output.display(),
                artifact.display()
            ))
            .into());
        }
    }
    Ok(())
}

/// Where a file that is written to a path would stand, with the links above it followed.
fn landing(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let mut rest = vec![absolute.file_name()?];
    for folder in absolute.ancestors().skip(1) {
        if let Ok(folder) = folder.canonicalize() {
            return Some(rest.iter().rev().fold(folder, |path, name| path.join(name)));
        }
        rest.push(folder.file_name()?);
    }
    None
}

impl OutputArguments {
    /// Refuses to write into what is looked at. See [`refuse_inside`].
    pub(crate) fn refuse_inside(&self, paths: &[PathBuf]) -> Result<()> {
        let written = self.write.iter().map(|destination| destination.path.as_path());
        refuse_inside(paths, written.chain(self.attest.as_deref()))
    }

    /// Writes the report everywhere, and says how the run ended: the exit code is that of the report's verdict.
    pub(crate) fn emit(&self, report: &GateReport, terminal: &Terminal) -> Result<Status> {
        let format = self.printed(terminal)?;
        for destination in &self.write {
            let text = destination.format.render(report, terminal)?;
            match write(destination, &text) {
                // A pipe whose reader has seen enough.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
                written => written.with_context(|| format!("cannot write {}", destination.path.display()))?,
            }
        }
        if let Some(path) = &self.attest {
            attestation::write(report, path)?;
        }
        let text = format.render(report, terminal)?;
        if format.is_json() {
            terminal.json_text(&text)?;
        } else {
            terminal.result(&text)?;
        }
        Ok(Status::Verdict(report.verdict))
    }

    /// What goes to standard output.
    fn printed(&self, terminal: &Terminal) -> Result<Format> {
        match (self.format, terminal.json()) {
            (Some(format), false) => Ok(format),
            (None | Some(Format::Json), true) => Ok(Format::Json),
            (Some(_), true) => bail!("--json and --format ask for different things on standard output: leave one out"),
            (None, false) => Ok(Format::Table),
        }
    }
}

fn write(destination: &Destination, text: &str) -> std::io::Result<()> {
    let path = &destination.path;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    if destination.format == Format::Summary {
        // A job's summary file may hold what earlier steps said.
        return append(path, text.as_bytes());
    }
    replace(path, text.as_bytes())
}
