//! The page as a browser would take it apart: by tags, attributes and text.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::samples::{self, HOSTILE};
use super::*;

/// A folder with a `rollouts.jsonl` of that content.
fn folder(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollouts.jsonl");
    fs_err::write(&file, content).unwrap();
    (folder, file)
}

fn page_with(content: &[u8], options: ViewerOptions) -> (String, PageSummary) {
    let (folder, file) = folder(content);
    let out = folder.path().join("page.html");
    let summary = write_page(&file, &out, options).unwrap();
    (fs_err::read_to_string(out).unwrap(), summary)
}

fn page(content: &str) -> (String, PageSummary) {
    page_with(content.as_bytes(), ViewerOptions::default())
}

/// What stands between two marks, for each time that they occur.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    text.split(from).skip(1).map(|rest| rest.split(to).next().unwrap()).collect()
}

/// The page's text as a reader sees it: tags away, escapes resolved.
fn read(html: &str) -> String {
    let mut text = String::new();
    for part in html.split('<') {
        text.push_str(part.split_once('>').map_or(part, |(_, after)| after));
    }
    for (escaped, plain) in
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#x27;", "'"), ("&#39;", "'"), ("&#x2f;", "/")]
    {
        text = text.replace(escaped, plain);
    }
    text.replace("&amp;", "&")
}

#[test]
fn every_text_of_every_rollout_is_there() {
    let records = samples::run(12);
    let (html, summary) = page(&samples::lines(&records));
    assert_eq!((summary.groups, summary.shown, summary.rollouts, summary.unreadable), (12, 12, records.len(), 0));
    assert_eq!(summary.bytes, html.len());
    let text = read(&html);
    for record in &records {
        assert!(text.contains(&record.prompt));
        for segment in &record.segments {
            assert!(text.contains(&segment.text), "{:?}", segment.text);
        }
    }
    assert_eq!(html.matches("<article ").count(), 12);
    assert_eq!(html.matches("<section class=\"column").count(), records.len());
    // Prompts are shown once for each group, folded.
    assert_eq!(html.matches("<details class=\"prompt\"").count(), 12);
}

#[test]
fn strangers_text_stays_text() {
    let mut records = samples::run(3);
    records.extend(samples::hostile(3));
    let lines = samples::lines(&records);
    let (html, summary) = page(&lines);
    assert_eq!(summary.groups, 4);
    assert_eq!(html.matches("<script>").count(), 1);
    assert_eq!(html.matches("</script>").count(), 1);
    assert_eq!(html.matches("<style>").count(), 1);
    for tag in ["<img", "<!--", "onerror=\"", " style=", " onclick", "javascript:", "\u{202e}", "\u{0}", "\u{1b}"] {
        assert!(!html.contains(tag), "{tag:?}");
    }
    let text = read(&html);
    for hostile in HOSTILE {
        assert!(text.contains(&lcr_documents::text::visible_lines(hostile)), "{hostile:?}");
    }
    assert!(html.contains("{{ 7 * 7 }}"), "text is no template");
}

#[test]
fn nothing_is_loaded_and_only_its_own_script_may_run() {
    let (html, _) = page(&samples::lines(&samples::run(5)));
    for address in ["http:", "https:", "src=", "url(\"", "@import", "<link", "<base", "<iframe", "<object", "<form"] {
        assert!(!html.contains(address), "{address}");
    }
    let policy = between(&html, "http-equiv=\"Content-Security-Policy\" content=\"", "\"")[0];
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for (directive, tag) in [("style-src", "style"), ("script-src", "script")] {
        let content = between(&html, &format!("<{tag}>"), &format!("</{tag}>"));
        assert_eq!(content.len(), 1);
        let named = between(policy, &format!("{directive} 'sha256-"), "'")[0];
        // Base64 by its definition, not by the page's own: six bits at a time of one long binary number.
        let bits: String = Sha256::digest(content[0])
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |bit| if byte >> bit & 1 == 1 { '1' } else { '0' }))
            .collect();
        let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
        let digits = (bits + "00")
            .as_bytes()
            .chunks(6)
            .map(|six| alphabet[usize::from_str_radix(std::str::from_utf8(six).unwrap(), 2).unwrap()])
            .collect::<String>();
        assert_eq!(named, digits + "=", "{tag}");
    }
}

#[test]
fn tokens_carry_their_weights() {
    let mut records = samples::run(1);
    let record = &mut records[0];
    record.segments = vec![samples::written(lcr_documents::rollout::SegmentTag::Model, "one two three", 3.5)];
    record.segments[0].weights = vec![3.5, 1.75, 0.0];
    let (html, _) = page(&samples::lines(&records[..1]));
    assert!(html.contains(
        r#"<i class="w12" title="weight 3.50">one</i><i class="w6" title="weight 1.75"> two</i> three</div>"#
    ));
    assert!(html.contains(".w12{background:rgb(var(--shade)/0.620)}"));
}

#[test]
fn tokens_that_do_not_add_up_show_both_texts() {
    let mut records = samples::run(1);
    records[0].segments = vec![samples::written(lcr_documents::rollout::SegmentTag::Model, "A é", 3.5)];
    records[0].segments[0].pieces = vec!["A".to_owned(), " \\xC3\\xA9".to_owned()];
    let (html, _) = page(&samples::lines(&records[..1]));
    assert!(html.contains(r"> \xC3\xA9</i>"));
    assert!(html.contains(r#"<div class="prose">A é</div></details>"#));
}

#[test]
fn a_torn_line_and_a_foreign_one_are_counted_and_said() {
    let records = samples::run(4);
    let mut content = samples::lines(&records).into_bytes();
    content.extend_from_slice(b"{\"iteration\": 4}\n\n\xff\xfe\n");
    content.extend_from_slice(&samples::lines(&records).as_bytes()[..200]);
    let (html, summary) = page_with(&content, ViewerOptions::default());
    assert_eq!((summary.groups, summary.rollouts, summary.unreadable), (4, records.len(), 3));
    assert!(html.contains("3 lines could not be read; the last line has no end"));
    assert!(html.contains(&format!("line {}: <code>missing field `sample`", records.len() + 1)));
}

#[test]
fn a_line_that_only_lacks_its_break_is_read() {
    let content = samples::lines(&samples::run(2));
    let (_, summary) = page(content.trim_end());
    assert_eq!((summary.groups, summary.unreadable), (2, 0));
}

#[test]
fn a_long_run_is_shown_evenly_with_both_ends() {
    let records = samples::run(101);
    let options = ViewerOptions { groups: 5, ..ViewerOptions::default() };
    let (html, summary) = page_with(samples::lines(&records).as_bytes(), options);
    assert_eq!((summary.groups, summary.shown), (101, 5));
    assert_eq!(between(&html, "<article class=\"group\" id=\"g", "\""), ["0", "25", "50", "75", "100"]);
    assert!(html.contains("5 groups are shown") && html.contains("96 are left out"));
    for link in between(&html, "href=\"#", "\"") {
        assert!(html.contains(&format!("id=\"{link}\"")), "{link}");
    }
    let whole = page(&samples::lines(&records)).1;
    assert!(summary.bytes * 3 < whole.bytes, "{} of {}", summary.bytes, whole.bytes);
}

#[test]
fn a_long_rollout_is_cut_and_says_so() {
    let mut records = samples::run(1);
    records[0].segments = vec![samples::injected(lcr_documents::rollout::SegmentTag::Expert, &"ä".repeat(1_000))];
    let options = ViewerOptions { characters: 300, ..ViewerOptions::default() };
    let (html, _) = page_with(samples::lines(&records[..1]).as_bytes(), options);
    assert!(html.contains("ä<span class=\"cut\"> … 700 characters are not shown"));
    assert_eq!(html.matches('ä').count(), 300);
}

#[test]
fn what_a_resumed_run_wrote_again_counts_once() {
    let records = samples::run(6);
    let again: Vec<_> = records.iter().filter(|record| record.iteration >= 4).cloned().collect();
    let content = samples::lines(&records) + &samples::lines(&again);
    let (html, summary) = page(&content);
    assert_eq!((summary.groups, summary.rollouts, summary.replaced), (6, records.len(), again.len()));
    assert!(html.contains("The run was resumed"));
    // What stands once reads the same, but for that notice.
    let once = page(&samples::lines(&records)).0;
    assert_eq!(between(&once, "<article", "</article>"), between(&html, "<article", "</article>"));
}

#[test]
fn outcomes_follow_from_the_group() {
    let mut records = samples::run(40);
    let last = 40;
    records.push(lcr_documents::rollout::RolloutRecord { iteration: last, correct: false, ..records[0].clone() });
    let (html, _) = page(&samples::lines(&records));
    for iteration in 0..=last {
        let members: Vec<_> = records.iter().filter(|record| record.iteration == iteration).collect();
        let expected = if members[0].correct {
            "skipped"
        } else if members.len() == 1 {
            "unfinished"
        } else if members.iter().any(|member| member.correct) {
            "trained"
        } else {
            "dead"
        };
        let article = between(&html, &format!("id=\"g{iteration}\""), ">")[0];
        assert!(article.contains(&format!("data-outcome=\"{expected}\"")), "{iteration}: {article}");
    }
    let naked = records.iter().filter(|record| record.view == "naked").count();
    let right = records.iter().filter(|record| record.view == "naked" && record.correct).count();
    assert!(html.contains(&format!("{right} of {naked}, 95 % interval")));
}

#[test]
fn metrics_beside_the_rollouts_become_curves() {
    let (folder, file) = folder(samples::lines(&samples::run(2)).as_bytes());
    let out = folder.path().join("page.html");
    write_page(&file, &out, ViewerOptions::default()).unwrap();
    assert!(!fs_err::read_to_string(&out).unwrap().contains("Curves of the log"));
    fs_err::write(folder.path().join("metrics.jsonl"), "{\"<loss>\":2}\n{\"<loss>\":0.5}\n").unwrap();
    write_page(&file, &out, ViewerOptions::default()).unwrap();
    let html = fs_err::read_to_string(&out).unwrap();
    assert!(html.contains("<code>&lt;loss&gt;</code> <span class=\"meta\">2 → 0.500</span>"));
}

#[test]
fn what_cannot_be_shown_names_the_file_and_leaves_the_old_page() {
    let (folder, file) = folder(b"");
    let out = folder.path().join("page.html");
    fs_err::write(&out, "old").unwrap();
    let error = write_page(&file, &out, ViewerOptions::default()).unwrap_err().to_string();
    assert!(error.contains("rollouts.jsonl") && error.contains("it is empty"), "{error}");
    fs_err::write(&file, "{\"view\":1}\n").unwrap();
    let error = write_page(&file, &out, ViewerOptions::default()).unwrap_err().to_string();
    assert!(error.contains("line 1 cannot be read"), "{error}");
    let error = write_page(&folder.path().join("none.jsonl"), &out, ViewerOptions::default()).unwrap_err();
    assert!(matches!(error, ViewerError::Io { .. }), "{error}");
    let options = ViewerOptions { groups: 0, ..ViewerOptions::default() };
    assert!(matches!(write_page(&file, &out, options), Err(ViewerError::Option { name: "groups" })));
    assert_eq!(fs_err::read_to_string(&out).unwrap(), "old");
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left behind");
}

/// Not a check: writes a page to look at. `LCR_SAMPLE_PAGE=page.html cargo test … -- --ignored sample_page`
#[test]
#[ignore = "writes a page for eyes, where LCR_SAMPLE_PAGE says"]
fn sample_page() {
    let Some(out) = std::env::var_os("LCR_SAMPLE_PAGE") else { return };
    let mut records = samples::run(120);
    records.extend(samples::hostile(120));
    let folder = tempfile::Builder::new().prefix("lcr-seed-1-").tempdir().unwrap();
    let file = folder.path().join("rollouts.jsonl");
    fs_err::write(&file, samples::lines(&records) + "{\"torn").unwrap();
    let metrics = (0..300_u32).map(f64::from).map(|step| {
        let loss = 2.0 / (1.0 + step / 90.0) + (step * 1.7).sin() * 0.1;
        let kl = serde_json::json!({ "naked": step * 2e-5, "scaffolded": step * 3e-5 });
        serde_json::json!({ "step": step, "loss": loss, "kl": kl, "entropy": 0.8 - step * 1e-3 }).to_string()
    });
    let metrics: Vec<String> = metrics.collect();
    fs_err::write(folder.path().join("metrics.jsonl"), metrics.join("\n")).unwrap();
    write_page(&file, &PathBuf::from(out), ViewerOptions::default()).unwrap();
}
