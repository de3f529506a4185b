//! A policy's question put to base and adapters: they run side by side, and each subject of the gate gets its audit.

use std::path::Path;

use anyhow::Result;
use lcr_documents::audit::{Asked, Audit};
use lcr_gate::policy::Policy;
use lcr_gate::{ProbesPin, Provenance, ScannedAdapter};
use lcr_scan::Artifact;

use super::Question;
use crate::model::{Device, Model};
use crate::probe_sets::beside_those_of;
use crate::provenance::{digest_of_prompts, pin_base, provenance};
use crate::side_by_side::{Fitted, SideBySide};
use crate::terminal::Terminal;

/// Adapters that go through the base together.
const TOGETHER: usize = 8;

impl Question {
    /// Runs base and adapters side by side, some at a time; an adapter that cannot be run says so in its subject.
    pub(crate) fn compare(
        &self,
        base: &Path,
        policy: &Policy,
        subjects: &mut [(Artifact, ScannedAdapter)],
        pins: &mut Provenance,
        terminal: &Terminal,
    ) -> Result<()> {
        let model = Model::open(base, Device::Cpu)?;
        // What is open is held against this after every pass, so that numbers and digest are of the same files.
        pins.base = Some(pin_base(base, true)?);
        let probes = self.probes(&model)?;
        pins.probes = Some(ProbesPin { source: probes.source.clone(), sha256: digest_of_prompts(&probes.prompts)? });
        let sets = beside_those_of(base, self.asked.sets.clone())?;
        let asked = Asked { sets, ..self.asked.clone() };
        pins.asked = Some(asked.clone());
        let options = self.options()?;
        let pinned = pins.base.clone().unwrap_or_default();
        let provenance = provenance(&pinned, &probes.prompts, Some(&policy.sha256))?;
        let shown = base.display().to_string();
        let pair = SideBySide {
            known_good: self.known_good.clone(),
            base_cache: self.base_cache.clone(),
            ..SideBySide::new((&model, &probes), options, shown, asked, provenance)
        };
        pair.refuse_other_profile()?;
        for group in subjects.chunks_mut(TOGETHER) {
            let mut fitted: Vec<(&mut ScannedAdapter, Fitted)> = Vec::new();
            for (artifact, subject) in group {
                match Fitted::scanned(&model, artifact, subject, terminal) {
                    Ok(adapter) => fitted.push((subject, adapter)),
                    // What no adapter is expected in needs no comparison.
                    Err(reason) => subject.not_compared = artifact.is_adapter().then_some(reason),
                }
            }
            let (mut subjects, adapters): (Vec<&mut ScannedAdapter>, Vec<Fitted>) = fitted.into_iter().unzip();
            if adapters.is_empty() {
                continue;
            }
            if let Ok((audits, _)) = pair.audits(&adapters, terminal) {
                subjects.iter_mut().zip(audits).for_each(|(subject, audit): (_, Audit)| subject.audit = Some(audit));
            } else {
                // One bad adapter (activations that become infinite, say) must not hide the others; of a base that
                // changed nothing is said.
                pair.refuse_changed_base()?;
                one_by_one(&pair, subjects, adapters, terminal);
            }
        }
        Ok(())
    }
}

fn one_by_one(pair: &SideBySide, subjects: Vec<&mut ScannedAdapter>, adapters: Vec<Fitted>, terminal: &Terminal) {
    for (subject, adapter) in subjects.into_iter().zip(adapters) {
        match pair.audits(std::slice::from_ref(&adapter), terminal) {
            Ok((audits, _)) => subject.audit = audits.into_iter().next(),
            Err(error) => subject.error = Some(format!("{error:#}")),
        }
    }
}
