//! The report of a comparison, made again: the adapter bound, base and adapted model run on the probes, and judged.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use lcr_documents::audit::Audit;
use lcr_documents::characters::visible;
use lcr_gate::{BasePin, Provenance, judge_audit};
use serde_json::Value;

use super::named::Named;
use super::{Again, Arguments, Parts};
use crate::compare::{BUILT_IN, scan_adapter};
use crate::gate::open_policy;
use crate::model::{Device, Model};
use crate::provenance::{date_or_today, pin_base, provenance};
use crate::question::Question;
use crate::side_by_side::{Fitted, SideBySide};
use crate::stack::reopen;
use crate::terminal::Terminal;

/// Makes the report again.
pub(super) fn again(arguments: &Arguments, reported: &Value, terminal: &Terminal) -> Result<Again> {
    let name = arguments.report.display();
    let audit: Audit =
        serde_json::from_value(reported.clone()).with_context(|| format!("{name} is no report of this program"))?;
    let (Some(asked), Some(pinned)) = (&audit.asked, &audit.provenance) else {
        bail!(
            "{name} does not say what was asked of the models, so it cannot be made again: it is of an earlier version"
        );
    };
    let mut by_name = Vec::new();
    let mut place = |what: &str, given: Option<&PathBuf>, named: &str| {
        let Some(given) = given else {
            by_name.push(format!("{what} `{}`, as the report names it", visible(named)));
            return Named::open(named);
        };
        if given.display().to_string() != named {
            by_name.push(format!("{what} {}, which the report calls `{}`", given.display(), visible(named)));
        }
        Ok(Named::here(given.clone()))
    };
    let base = place("base", arguments.base.as_ref(), &audit.base.path)?;
    let given = arguments.adapter.as_ref().or(arguments.paths.first());
    let adapter = place("adapter", given, &audit.adapter.path)?;
    if !adapter.path.exists() {
        bail!("{} does not exist: say with --adapter where the adapter is", adapter.path.display());
    }
    if arguments.files_only {
        bail!("a comparison has no part that could be verified without running it again: leave out --files-only");
    }
    let policy = open_policy(arguments.policy.as_deref())?;
    let hints = vec![
        (
            "digest of the policy",
            format!("this was judged by {}: give the policy that you trust with --policy FILE", policy.source),
        ),
        ("day", "waivers were held against today: give the day of the report with --date".to_owned()),
        ("program", "the report was made by another build of the program: verify it with that one".to_owned()),
    ];
    let question = Question::of_report(asked, &audit.probes.source, &policy)?;
    by_name.push(format!("probes `{}`, as the report names them", visible(&audit.probes.source)));
    terminal.note("running the comparison again, which takes as long as it took");
    let model = Model::open(&base.path, Device::Cpu)?;
    let probes = question.probes(&model)?;
    let pins = Provenance {
        base: Some(BasePin { path: audit.base.path.clone(), ..pin_base(&base.path, true)? }),
        date: date_or_today(arguments.date.as_deref())?,
        ..Provenance::default()
    };
    // A batch pins the built-in policy as well.
    let is_pinned = policy.source != BUILT_IN || pinned.policy.is_some();
    let judged_by = is_pinned.then_some(policy.sha256.as_str());
    let provenance = provenance(&pins.base.clone().unwrap_or_default(), &probes.prompts, judged_by)?;
    let shown = audit.base.path.clone();
    let pair = SideBySide {
        stack: reopen(&asked.stack, &model, terminal)?,
        known_good: question.known_good.clone(),
        ..SideBySide::new((&model, &probes), question.options()?, shown, asked.clone(), provenance)
    };
    let scan = scan_adapter(&adapter.path, &base.path);
    let sha256 = Some(scan.sha256.clone());
    let fitted = Fitted { path: audit.adapter.path.clone(), sha256, variant: model.adapt(&adapter.path, terminal)? };
    let (mut audits, _) = pair.audits(&[fitted], terminal)?;
    if let Some(audit) = audits.first_mut() {
        judge_audit(audit, scan, &policy, pins);
    }
    let Some(found) = audits.first() else { bail!("the comparison gave nothing") };
    let found = serde_json::from_str(&lcr_documents::audit::json::to_string(found)?)?;
    Ok(Again { found, by_name, left_out: Vec::new(), hints })
}

/// The report in parts: its keys, and what is pinned one by one.
pub(super) fn parts(document: Value) -> Parts {
    let mut parts = Parts::new();
    let Value::Object(fields) = document else { return parts };
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("composition", Value::Object(pins)) => {
                for (pin, value) in pins {
                    let what = match pin.as_str() {
                        "tool" => "program".to_owned(),
                        "date" => "day".to_owned(),
                        pin => format!("digest of the {pin}"),
                    };
                    parts.insert(what, (format!("{key}.{pin}"), value));
                }
            }
            ("tool", value) => {
                parts.insert("version of the program".to_owned(), (key, value));
            }
            (_, value) => {
                parts.insert(key.clone(), (key, value));
            }
        }
    }
    parts
}
