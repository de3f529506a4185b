//! One group as the template sets it: what its members have in common at the top, then a column for each.

use lcr_documents::number::short;
use lcr_documents::rollout::{Leak, RolloutRecord, Segment, SegmentTag, Source};
use lcr_documents::text::shortened;
use serde::Serialize;

use super::ViewerOptions;
use super::run::{Group, Outcome};

/// Columns that a group has room for.
pub(super) const COLUMNS: usize = 16;
/// Steps of shade. Classes instead of exact opacities: so the page needs no style attributes and may forbid them.
pub(super) const SHADES: usize = 12;
/// Characters of an answer, a type or a view's name.
const SHORT: usize = 240;
/// What an empty stretch costs of a rollout's characters, lest a million of them be free.
const LEAST_COST: usize = 16;

/// A run of text with one shade: a token that has a weight, or all neighbours that have none.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Run {
    text: String,
    /// 1 to [`SHADES`]; 0 without weight.
    shade: usize,
    weight: String,
    /// Whether it holds a line break, which would hide that it carries weight.
    breaks: bool,
}

/// A stretch of a rollout.
#[derive(Debug, Serialize)]
struct Stretch {
    /// Class: `expert`, `model`, `forced`, `answer` or `prompt`.
    class: &'static str,
    who: &'static str,
    token_count: usize,
    runs: Vec<Run>,
    /// Characters that are not shown.
    left_out: usize,
    /// The text, where the tokens' texts do not add up to it.
    differs: Option<String>,
}

/// Tokens of one author.
#[derive(Debug, Serialize)]
struct Share {
    class: &'static str,
    name: &'static str,
    tokens: usize,
    /// Start and width within a bar 100 wide.
    start: f64,
    width: f64,
}

/// A rollout.
#[derive(Debug, Serialize)]
struct Column {
    view: String,
    correct: bool,
    /// What stood in the box.
    answer: Option<String>,
    reward: String,
    advantage: String,
    /// Whether its tokens were trained on.
    trained: bool,
    leak: &'static str,
    forced_close: bool,
    jaccard: Option<String>,
    /// Shares of the target that the expert was to say and said.
    expert: Option<String>,
    /// Stretches of the expert and of the model.
    chunks: Option<String>,
    shares: Vec<Share>,
    stretches: Vec<Stretch>,
}

/// A group.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    iteration: u64,
    sample: usize,
    kind: String,
    outcome: &'static str,
    leak: &'static str,
    question: String,
    target: String,
    /// The rendered prompt, where it is the same for all members.
    prompt: Option<Stretch>,
    columns: Vec<Column>,
    /// Members without a column.
    left_out: usize,
}

/// A group's line in the list.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    iteration: u64,
    kind: String,
    /// Number of the type in the filter.
    kind_index: usize,
    outcome: &'static str,
    leak: &'static str,
    /// For each member, whether it was right.
    marks: Vec<bool>,
}

/// The list's line of a group whose type has that number.
pub(super) fn row(group: &Group, kind_index: usize) -> Row {
    Row {
        iteration: group.iteration,
        kind: shortened(&group.kind, SHORT),
        kind_index,
        outcome: group.outcome().name(),
        leak: leak(group.leak()),
        marks: group.members.iter().take(COLUMNS).map(|member| member.correct).collect(),
    }
}

/// The class of a leak.
fn leak(leak: Leak) -> &'static str {
    match leak {
        Leak::None => "none",
        Leak::Scaffold => "scaffold",
        Leak::Tail => "tail",
    }
}

/// A group with the texts of its members; `heaviest` is the weight of the darkest shade.
pub(super) fn page(group: &Group, records: &[RolloutRecord], heaviest: f32, options: ViewerOptions) -> Page {
    let common = common_prompt(records);
    let first = records.first();
    Page {
        iteration: group.iteration,
        sample: first.map_or(0, |record| record.sample),
        kind: shortened(&group.kind, SHORT),
        outcome: group.outcome().name(),
        leak: leak(group.leak()),
        question: first.map(|record| shortened(&record.prompt, options.characters)).unwrap_or_default(),
        target: first.map(|record| shortened(&record.target_answer, SHORT)).unwrap_or_default(),
        prompt: common.map(|segment| stretch(segment, heaviest, &mut options.characters.clone())),
        columns: records
            .iter()
            .map(|record| column(record, group.outcome(), common.is_some(), heaviest, options))
            .collect(),
        left_out: group.members.len().saturating_sub(records.len()),
    }
}

/// The prompt that all members begin with.
fn common_prompt(records: &[RolloutRecord]) -> Option<&Segment> {
    let prompt = |record: &RolloutRecord| {
        record.segments.first().filter(|segment| segment.tag == SegmentTag::Prompt).map(|segment| segment.text.clone())
    };
    let text = prompt(records.first()?)?;
    records
        .iter()
        .all(|record| prompt(record).as_ref() == Some(&text))
        .then(|| records.first().and_then(|record| record.segments.first()))
        .flatten()
}

fn column(
    record: &RolloutRecord,
    outcome: Outcome,
    prompt_is_common: bool,
    heaviest: f32,
    options: ViewerOptions,
) -> Column {
    let mut budget = options.characters;
    let naked = record.view.starts_with("naked");
    Column {
        view: shortened(&record.view, SHORT),
        correct: record.correct,
        answer: record.generated_answer.as_ref().map(|answer| shortened(answer, SHORT)),
        reward: short(record.reward),
        advantage: format!("{:+.2}", record.advantage + 0.0).replace('-', "−"),
        trained: outcome == Outcome::Trained && record.advantage > 0.0,
        leak: leak(record.leak),
        forced_close: record.forced_close,
        jaccard: record.jaccard.map(|value| format!("{value:.2}")),
        expert: (!naked).then(|| {
            format!("{:.0}\u{a0}% of {:.0}\u{a0}%", 100.0 * record.injected_share, 100.0 * record.expert_share)
        }),
        chunks: (!naked).then(|| format!("{} and {}", record.boundaries.len(), record.model_chunks)),
        shares: shares(record),
        stretches: record
            .segments
            .iter()
            .skip(usize::from(prompt_is_common))
            .map(|segment| stretch(segment, heaviest, &mut budget))
            .collect(),
    }
}

/// Who wrote how much; the prompt, which is as long for all, is left out of the bar.
fn shares(record: &RolloutRecord) -> Vec<Share> {
    let counts = record.token_counts;
    let parts = [
        ("expert", "expert", counts.expert),
        ("model", "model", counts.model),
        ("forced", "forced", counts.forced),
        ("answer", "answer", counts.answer),
    ];
    let all = parts.iter().map(|(_, _, tokens)| *tokens as f64).sum::<f64>().max(1.0);
    let mut start = 0.0;
    let mut shares = vec![Share { class: "prompt", name: "prompt", tokens: counts.prompt, start: 0.0, width: 0.0 }];
    for (class, name, tokens) in parts {
        let width = 100.0 * tokens as f64 / all;
        shares.push(Share { class, name, tokens, start, width });
        start += width;
    }
    shares
}

/// A segment, as far as the rollout's `budget` of characters reaches.
fn stretch(segment: &Segment, heaviest: f32, budget: &mut usize) -> Stretch {
    let (class, who) = match (segment.tag, segment.source) {
        (SegmentTag::Prompt, _) => ("prompt", "prompt"),
        (SegmentTag::Expert, _) => ("expert", "expert"),
        (SegmentTag::Model, _) => ("model", "model"),
        (SegmentTag::Tail, _) => ("forced", "forced tail"),
        (SegmentTag::Close, Source::Injected) => ("forced", "forced close"),
        (SegmentTag::Close, Source::Model) => ("model", "model closes"),
        (SegmentTag::Opener, _) => ("forced", "box opened"),
        (SegmentTag::Answer, _) => ("answer", "answer"),
    };
    let weighed = !segment.pieces.is_empty() && segment.pieces.len() == segment.weights.len();
    let adds_up = !weighed || segment.pieces.concat() == segment.text;
    let all = if weighed {
        segment.pieces.iter().map(|piece| piece.chars().count()).sum()
    } else {
        segment.text.chars().count()
    };
    let shown = all.min(*budget);
    *budget = budget.saturating_sub(all.max(LEAST_COST));
    let runs = if weighed {
        shaded(&segment.pieces, &segment.weights, heaviest, shown)
    } else {
        vec![Run { text: segment.text.chars().take(shown).collect(), shade: 0, weight: String::new(), breaks: false }]
    };
    Stretch {
        class,
        who,
        token_count: segment.token_count,
        runs,
        left_out: all - shown,
        differs: (!adds_up).then(|| shortened(&segment.text, shown.max(1))),
    }
}

/// Tokens with their shades, to the first `characters` of them. Neighbours without weight become one.
pub(super) fn shaded(pieces: &[String], weights: &[f32], heaviest: f32, characters: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut left = characters;
    for (piece, weight) in pieces.iter().zip(weights) {
        if left == 0 {
            break;
        }
        let text: String = piece.chars().take(left).collect();
        left -= text.chars().count();
        let shade = shade(*weight, heaviest);
        match runs.last_mut() {
            Some(last) if shade == 0 && last.shade == 0 => last.text.push_str(&text),
            _ => {
                let breaks = shade > 0 && text.contains('\n');
                runs.push(Run { text, shade, weight: format!("{weight:.2}"), breaks });
            }
        }
    }
    runs
}

/// The step of shade of a weight: 0 for none, else 1 to [`SHADES`], in proportion to the heaviest.
fn shade(weight: f32, heaviest: f32) -> usize {
    if !(weight > 0.0 && heaviest > 0.0) {
        return 0;
    }
    ((f64::from(weight) / f64::from(heaviest) * SHADES as f64).ceil() as usize).clamp(1, SHADES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shade_is_proportional_to_weight() {
        assert_eq!(shade(3.5, 3.5), SHADES);
        assert_eq!(shade(1.75, 3.5), SHADES / 2);
        assert_eq!(shade(0.001, 3.5), 1);
        for nothing in [0.0, -1.0, f32::NAN] {
            assert_eq!(shade(nothing, 3.5), 0);
        }
        assert_eq!(shade(1.0, 0.0), 0);
        assert_eq!(shade(f32::INFINITY, 3.5), SHADES);
    }

    #[test]
    fn tokens_without_weight_become_one_run() {
        let pieces = ["a", "b", "c", "d", "e"].map(str::to_owned);
        let runs = shaded(&pieces, &[1.0, 0.0, 0.0, 2.0, 0.0], 2.0, 100);
        let found: Vec<_> = runs.iter().map(|run| (run.text.as_str(), run.shade)).collect();
        assert_eq!(found, [("a", 6), ("bc", 0), ("d", 12), ("e", 0)]);
        let cut = shaded(&pieces, &[1.0, 0.0, 0.0, 2.0, 0.0], 2.0, 2);
        assert_eq!(cut.iter().map(|run| run.text.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
