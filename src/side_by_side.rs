//! Base and adapters run side by side and put into reports: what `compare`, `gate` and `batch` share.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use indexmap::IndexMap;
use lcr_analysis::comparison::{CompareOptions, Comparison, Phases, Progress, compare_resumable};
use lcr_analysis::facts;
use lcr_analysis::metrics::tokens::{Place, Vocabulary};
use lcr_analysis::resume::ResumeFile;
use lcr_documents::audit::{Asked, Audit, Probes, Provenance, Question, SCHEMA, Tool, Verdict};
use lcr_formats::adapter::Adapter;
use lcr_gate::ScannedAdapter;
use lcr_model::decoder::BoundAdapter;
use lcr_model::tokenizer::Tokenizer;
use lcr_scan::{Artifact, FileRecord};

use crate::evidence::Asking;
use crate::known_good::KnownGood;
use crate::model::Model;
use crate::probes::LoadedProbes;
use crate::terminal::Terminal;

/// Characters of context shown before a position.
const CONTEXT_CHARACTERS: usize = 160;

/// A base, what both models read, and what is measured.
#[derive(Debug)]
pub(crate) struct SideBySide<'a> {
    pub(crate) model: &'a Model,
    pub(crate) probes: &'a LoadedProbes,
    pub(crate) options: CompareOptions,
    /// What adapters are asked with, made when the first one is.
    pub(crate) asking: OnceCell<Asking>,
    /// Other adapters that each is used together with.
    pub(crate) stack: Vec<BoundAdapter>,
    /// Known-good adapters that each is held against.
    pub(crate) known_good: Option<KnownGood>,
    /// Folder in which the base's answers are kept, if they are.
    pub(crate) base_cache: Option<PathBuf>,
    /// How reports name the base.
    pub(crate) base: String,
    /// What is asked, for the reports.
    pub(crate) asked: Asked,
    /// What the reports rest on, but for the adapter.
    pub(crate) provenance: Provenance,
}

/// An adapter fitted to the base, and how reports name its path.
#[derive(Debug)]
pub(crate) struct Fitted {
    pub(crate) path: String,
    /// SHA-256 over the files of its folder.
    pub(crate) sha256: Option<String>,
    pub(crate) variant: BoundAdapter,
}

impl Fitted {
    /// Opens a scanned adapter and fits it to the base, from the very bytes that were scanned; else why that cannot be.
    pub(crate) fn scanned(
        model: &Model,
        artifact: &Artifact,
        subject: &ScannedAdapter,
        terminal: &Terminal,
    ) -> Result<Self, String> {
        if subject.scan.adapter.is_none() {
            return Err("its files could not be read as an adapter".to_owned());
        }
        let variant = model.adapt(artifact.path(), terminal).map_err(|error| format!("{error:#}"))?;
        same_bytes(variant.adapter(), artifact.path(), &subject.scan.files)?;
        Ok(Self { path: subject.path.clone(), sha256: Some(subject.scan.sha256.clone()), variant })
    }
}

/// Whether an adapter was read from the bytes of these records; else what differs. `root` is what was scanned: its
/// folder, or its tensor file alone.
pub(crate) fn same_bytes(adapter: &Adapter, root: &Path, files: &[FileRecord]) -> Result<(), String> {
    let is_file = root == adapter.path;
    let root = if is_file { root.parent().unwrap_or(root) } else { root };
    let config = adapter.path.with_file_name("adapter_config.json");
    let read = [(&adapter.path, &adapter.sha256), (&config, &adapter.config_sha256)];
    for (path, read) in read.into_iter().take(if is_file { 1 } else { 2 }) {
        let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        let scanned = files.iter().find(|record| record.path == name).map(|record| record.sha256.as_str());
        if scanned != Some(read) {
            return Err(format!(
                "{name} was changed between scan and comparison (scanned {}, opened {read}): let nobody write there, \
                 and run it again",
                scanned.unwrap_or("nothing of that name")
            ));
        }
    }
    Ok(())
}

impl<'a> SideBySide<'a> {
    /// With no other adapter beside each, none known to be good, and nothing kept between runs.
    pub(crate) fn new(
        (model, probes): (&'a Model, &'a LoadedProbes),
        options: CompareOptions,
        base: String,
        asked: Asked,
        provenance: Provenance,
    ) -> Self {
        Self {
            model,
            probes,
            options,
            asking: OnceCell::new(),
            stack: Vec::new(),
            known_good: None,
            base_cache: None,
            base,
            asked,
            provenance,
        }
    }

    /// Compares every adapter with the base, in one pass over the base's layers. Nobody has judged the audits yet.
    pub(crate) fn audits(&self, adapters: &[Fitted], terminal: &Terminal) -> Result<(Vec<Audit>, Phases)> {
        self.audits_kept(adapters, None, terminal)
    }

    /// The same, with its standing kept in a file, so that a run that was killed goes on from there.
    pub(crate) fn audits_kept(
        &self,
        adapters: &[Fitted],
        file: Option<&ResumeFile>,
        terminal: &Terminal,
    ) -> Result<(Vec<Audit>, Phases)> {
        adapters.iter().try_for_each(|adapter| self.refuse_missing_tokens(adapter))?;
        self.refuse_other_profile()?;
        let vocabulary = Words { tokenizer: self.model.tokenizer.as_ref(), prompts: &self.probes.prompts };
        let variants: Vec<&BoundAdapter> = adapters.iter().map(|adapter| &adapter.variant).collect();
        let mut progress = terminal.progress();
        let mut report = |step: Progress| match step {
            Progress::Weights(done, all) => progress.update("weights", done, all),
            Progress::Layers(done, all) => progress.update("layers", done, all),
            Progress::Outputs(done, all) => progress.update("outputs", done, all),
        };
        let (comparisons, phases) = compare_resumable(
            &self.model.decoder,
            &variants,
            &self.probes.prompts,
            &vocabulary,
            &self.options,
            file,
            &mut report,
        )?;
        drop(progress);
        let questions = comparisons
            .iter()
            .zip(adapters)
            .map(|(found, adapter)| self.questions(adapter, found, terminal))
            .collect::<Result<Vec<_>>>()?;
        self.refuse_changed_base()?;
        if let Some(changed) = adapters.iter().find(|adapter| !adapter.variant.adapter().is_as_opened()) {
            bail!("{} was written to while it was compared: let nobody write there, and run it again", changed.path);
        }
        let found = comparisons.into_iter().zip(questions).zip(adapters);
        let audits = found.map(|((found, questions), adapter)| self.audit(adapter, found, questions)).collect();
        Ok((audits, phases))
    }

    /// An adapter with a shorter vocabulary than the base's cannot read every text of the base's tokenizer.
    fn refuse_missing_tokens(&self, adapter: &Fitted) -> Result<()> {
        let Some(common) = adapter.variant.coverage().common_tokens() else { return Ok(()) };
        let missing = |ids: &Vec<u32>| ids.iter().copied().find(|id| *id as usize >= common);
        let first = self.probes.prompts.iter().enumerate().find_map(|(at, ids)| Some((at, missing(ids)?)));
        if let Some((at, id)) = first {
            bail!(
                "prompt {} of {} holds token {id}, and the vocabulary of {} ends at {common}: it cannot read this \
                 text. Choose probes without such tokens",
                at + 1,
                self.probes.source,
                adapter.path
            );
        }
        Ok(())
    }

    /// Refuses a profile of something else: of all adapters, so that whoever takes many begins with it.
    pub(crate) fn refuse_other_profile(&self) -> Result<()> {
        self.known_good.as_ref().map_or(Ok(()), |known| known.fit(&self.provenance, &self.asked))
    }

    /// Refuses a base that is not what it was when it was opened.
    pub(crate) fn refuse_changed_base(&self) -> Result<()> {
        self.model.refuse_changed(self.provenance.base.as_deref())
    }

    /// Puts facts and numbers of one adapter together.
    fn audit(&self, fitted: &Fitted, found: Comparison, questions: IndexMap<String, Question>) -> Audit {
        let decoder = &self.model.decoder;
        Audit {
            schema: SCHEMA.to_owned(),
            tool: Tool { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            base: facts::of_base(decoder, &self.base),
            adapter: facts::of_adapter(decoder, &fitted.variant, &fitted.path),
            probes: Probes {
                source: self.probes.source.clone(),
                prompts: self.probes.prompts.len(),
                tokens: self.probes.prompts.iter().map(Vec::len).sum(),
                chat_template: self.probes.chat_template,
                first_positions: self.probes.prompts.len(),
                sinks: found.sinks,
                keep_sinks: self.options.sites.keep_sinks,
                seed: self.options.sites.parameters.seed,
            },
            provenance: Some(Provenance { adapter: fitted.sha256.clone(), ..self.provenance.clone() }),
            asked: Some(self.asked.clone()),
            weights: found.weights,
            layers: found.layers,
            tokens: found.tokens,
            trajectories: found.trajectories,
            coherence: found.coherence,
            questions,
            unanswered: Vec::new(),
            null: indexmap::IndexMap::default(),
            sizes: Vec::new(),
            findings: Vec::new(),
            checked: None,
            verdict: Verdict::Pass,
            judgement: None,
        }
    }
}

/// Token texts for the report.
struct Words<'a> {
    tokenizer: Option<&'a Tokenizer>,
    prompts: &'a [Vec<u32>],
}

impl Vocabulary for Words<'_> {
    fn token(&self, id: u32) -> String {
        self.tokenizer.map_or_else(|| format!("#{id}"), |tokenizer| tokenizer.token_text(id))
    }

    fn context(&self, place: Place) -> String {
        let ids = &self.prompts[place.prompt][..=place.position];
        let decoded = self.tokenizer.and_then(|tokenizer| tokenizer.decode(ids).ok());
        let text = decoded.unwrap_or_else(|| ids.iter().map(|id| format!("#{id}")).collect::<Vec<_>>().join(" "));
        let skipped = text.chars().count().saturating_sub(CONTEXT_CHARACTERS);
        text.chars().skip(skipped).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use lcr_gate::ScannedAdapter;
    use lcr_scan::{Artifact, ScanOptions, scan};

    use super::*;
    use crate::model::Device;

    /// A copy of a golden adapter, its base, and its scan.
    fn scanned() -> (tempfile::TempDir, Model, Artifact, ScannedAdapter) {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/qwen3_lora_qv");
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            fs::copy(golden.join("adapter").join(name), folder.path().join(name)).expect("copied");
        }
        let artifact = Artifact::Adapter(folder.path().to_owned());
        let path = folder.path().display().to_string();
        let found = scan(&artifact, &ScanOptions::default());
        let subject = ScannedAdapter { path, scan: found, audit: None, not_compared: None, error: None };
        (folder, Model::open(&golden.join("base"), Device::Cpu).expect("a base"), artifact, subject)
    }

    #[test]
    fn an_adapter_is_fitted_from_the_bytes_that_were_scanned_or_not_at_all() {
        let (folder, model, artifact, subject) = scanned();
        let fit = || Fitted::scanned(&model, &artifact, &subject, &Terminal::new(false, true));
        assert!(fit().is_ok());
        let config = folder.path().join("adapter_config.json");
        let text = fs::read_to_string(&config).expect("readable");
        fs::write(&config, format!("{text} ")).expect("written");
        assert!(
            fit().expect_err("another config").contains("adapter_config.json was changed between scan and comparison")
        );
        fs::write(&config, text).expect("written");
        assert!(fit().is_ok());
        let weights = folder.path().join("adapter_model.safetensors");
        let mut bytes = fs::read(&weights).expect("readable");
        *bytes.last_mut().expect("a byte") ^= 1;
        fs::write(&weights, &bytes).expect("written");
        assert!(fit().expect_err("other weights").contains("adapter_model.safetensors was changed"));
    }

    #[test]
    fn what_was_opened_stays_what_it_was() {
        let (folder, model, artifact, subject) = scanned();
        let fitted = Fitted::scanned(&model, &artifact, &subject, &Terminal::new(false, true)).expect("fits");
        let before = fitted.variant.adapter().modules.clone();
        fs::write(folder.path().join("adapter_model.safetensors"), "").expect("emptied");
        assert_eq!(fitted.variant.adapter().modules, before);
        assert!(fitted.variant.adapter().is_as_opened());
    }
}
