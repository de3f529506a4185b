//! What a verdict rests on, pinned by digests that anyone can recompute, and the day.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
#[cfg(feature = "models")]
use lcr_documents::audit::Provenance;
#[cfg(feature = "models")]
use lcr_gate::digest_of_bytes;
use lcr_gate::{BasePin, digest_of_file, digest_of_folder};
use lcr_scan::is_tokenizer_file;

/// Files that hold a chat template.
const TEMPLATE: [&str; 3] = ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"];

/// Provenance a base; its weights, which take one second per gigabyte, only where they are needed.
pub(crate) fn pin_base(folder: &Path, weights: bool) -> Result<BasePin> {
    let context = || format!("cannot read the base {}", folder.display());
    Ok(BasePin {
        path: folder.display().to_string(),
        sha256: if weights { digest_of_folder(folder, is_weight).with_context(context)? } else { None },
        tokenizer: digest_of_folder(folder, is_tokenizer_file).with_context(context)?,
        template: digest_of_folder(folder, |name| TEMPLATE.contains(&name)).with_context(context)?,
    })
}

/// Whether a file of a base is part of what runs: weights, their index, and config.json.
fn is_weight(name: &str) -> bool {
    name == "config.json" || name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")
}

/// Whether any digest of a base's pin is over a file of this name.
#[cfg(feature = "models")]
pub(crate) fn is_pinned(name: &str) -> bool {
    is_weight(name) || is_tokenizer_file(name) || TEMPLATE.contains(&name)
}

/// What a comparison rests on, but for the adapter.
#[cfg(feature = "models")]
pub(crate) fn provenance(base: &BasePin, prompts: &[Vec<u32>], policy: Option<&str>) -> Result<Provenance> {
    Ok(Provenance {
        tool: tool_digest(),
        base: base.sha256.clone(),
        tokenizer: base.tokenizer.clone(),
        template: base.template.clone(),
        adapter: None,
        probes: digest_of_prompts(prompts)?,
        policy: policy.map(str::to_owned),
        date: None,
    })
}

/// Digest of this program's own file; none where the system does not say which it is. It is taken once.
pub(crate) fn tool_digest() -> Option<String> {
    static DIGEST: OnceLock<Option<String>> = OnceLock::new();
    let digest = || {
        let path = std::env::current_exe().ok()?;
        let name = path.file_name()?.to_str()?.to_owned();
        digest_of_file(&path.parent()?.join(name)).ok()
    };
    DIGEST.get_or_init(digest).clone()
}

/// Begins that digest beside whatever else there is to do: it takes as long as the scan of a small adapter.
pub(crate) fn begin_tool_digest() {
    // Where no thread can be had, it is taken when it is asked for.
    let _ = std::thread::Builder::new().spawn(tool_digest);
}

/// Digest of the token ids that models read.
#[cfg(feature = "models")]
pub(crate) fn digest_of_prompts(prompts: &[Vec<u32>]) -> Result<String> {
    Ok(digest_of_bytes(&serde_json::to_vec(prompts)?))
}

/// The day given, checked, or today in UTC.
pub(crate) fn date_or_today(given: Option<&str>) -> Result<String> {
    if let Some(day) = given {
        let parsed = day.parse::<toml::value::Datetime>().ok().filter(|parsed| parsed.time.is_none());
        return match parsed.and_then(|parsed| parsed.date) {
            Some(date) => Ok(date.to_string()),
            None => bail!("`{day}` is not a day: write it as 2027-01-31"),
        };
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?.as_secs();
    Ok(day_of(seconds / 86_400))
}

/// Days since 1970-01-01 as YYYY-MM-DD of the Gregorian calendar.
fn day_of(days: u64) -> String {
    // Counted from 1 March of year 0, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar() {
        for (days, day) in [(0, "1970-01-01"), (11_016, "2000-02-29"), (19_782, "2024-02-29"), (20_778, "2026-11-21")] {
            assert_eq!(day_of(days), day);
        }
    }

    #[test]
    fn only_days_are_days() {
        assert_eq!(date_or_today(Some("2027-01-31")).expect("a day"), "2027-01-31");
        for wrong in ["2027-02-30", "tomorrow", "2027-01-31T00:00:00", ""] {
            assert!(date_or_today(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
