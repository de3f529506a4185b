//! The head of the page: what the run's rollouts add up to.
//!
//! Accuracies stand with their intervals, and those of scaffolded rollouts apart by whether the answer stood in the
//! context: with it there, a correct box proves nothing.

use std::collections::BTreeMap;

use lcr_documents::number::percent_of;
use lcr_documents::rollout::Leak;
use lcr_documents::rollout::Said;
use lcr_documents::statistics::{Confidence, wilson};
use lcr_documents::text;
use serde::Serialize;

use super::chart::Right;
use super::run::{Close, Group, Member, Outcome, Run};

/// Types that the table has room for.
const KINDS: usize = 30;
/// Views that their table has room for.
const VIEWS: usize = 30;

/// A number with its name and what it was made of.
#[derive(Debug, Serialize)]
pub(super) struct Card {
    label: &'static str,
    value: String,
    note: String,
}

/// A row of the table of types.
#[derive(Debug, Serialize)]
pub(super) struct KindRow {
    name: String,
    groups: usize,
    naked: String,
    scaffolded: String,
    skipped: usize,
    dead: usize,
    trained: usize,
}

/// A row of the table of scaffolded views.
#[derive(Debug, Serialize)]
pub(super) struct ViewRow {
    name: String,
    rollouts: usize,
    planned: String,
    said: String,
    chunks: String,
    interleaved: String,
    forced: String,
    tails: String,
    leaked: String,
}

/// Everything that the head says.
#[derive(Debug, Serialize)]
pub(super) struct Overview {
    cards: Vec<Card>,
    /// Outcomes with their number of groups, those that occur.
    outcomes: Vec<(&'static str, usize)>,
    views: Vec<ViewRow>,
    /// Groups in which each later view holds more of the expert, of those that have two or more.
    grown: (usize, usize),
    kinds: Vec<KindRow>,
    /// Types without a row.
    kinds_left_out: usize,
    groups: usize,
    rollouts: usize,
    replaced: usize,
    unreadable: usize,
    torn: bool,
    faults: Vec<(usize, String)>,
}

/// Adds up a run.
pub(super) fn overview(run: &Run) -> Overview {
    let count = |outcome| run.groups.iter().filter(|group| group.outcome() == outcome).count();
    let outcomes: Vec<_> =
        Outcome::ALL.iter().map(|outcome| (outcome.name(), count(*outcome))).filter(|(_, count)| *count > 0).collect();
    let (kinds, kinds_left_out) = kinds(&run.groups);
    Overview {
        cards: cards(run),
        outcomes,
        views: views(run),
        grown: grown(&run.groups),
        kinds,
        kinds_left_out,
        groups: run.groups.len(),
        rollouts: members(run).count(),
        replaced: run.replaced,
        unreadable: run.unreadable.count,
        torn: run.unreadable.torn,
        faults: run.unreadable.examples.iter().map(|(line, fault)| (*line, text::shortened(fault, 200))).collect(),
    }
}

fn members(run: &Run) -> impl Iterator<Item = &Member> {
    run.groups.iter().flat_map(|group| &group.members)
}

fn cards(run: &Run) -> Vec<Card> {
    let scaffolded =
        |leaked: bool| Right::of(members(run).filter(|member| !member.naked && (member.leak != Leak::None) == leaked));
    let forced = members(run).filter(|member| member.close != Close::Own).count();
    let all = members(run).count();
    vec![
        accuracy("naked, right", Right::of(members(run).filter(|member| member.naked))),
        accuracy("scaffolded, right, no leak", scaffolded(false)),
        accuracy("scaffolded, right, answer leaked", scaffolded(true)),
        Card { label: "closed by force", value: percent_of(forced, all), note: format!("{forced} of {all} rollouts") },
    ]
}

fn accuracy(label: &'static str, count: Right) -> Card {
    let interval = wilson(count.right as u64, count.all as u64, Confidence::default());
    let note = match interval {
        Some(interval) => format!(
            "{} of {}, 95 % interval {:.0} to {:.0}\u{a0}%",
            count.right,
            count.all,
            100.0 * interval.low,
            100.0 * interval.high
        ),
        None => "no such rollout".to_owned(),
    };
    Card { label, value: percent_of(count.right, count.all), note }
}

/// One row for each scaffolded view.
fn views(run: &Run) -> Vec<ViewRow> {
    let mut by_view: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
    for member in members(run).filter(|member| !member.naked) {
        by_view.entry(&member.view).or_default().push(member);
    }
    let rows = by_view.into_iter().take(VIEWS).map(|(name, members)| {
        let all = members.len();
        let mean =
            |value: &dyn Fn(&Member) -> f64| members.iter().map(|member| value(member)).sum::<f64>() / all as f64;
        let percent =
            |is: &dyn Fn(&Member) -> bool| percent_of(members.iter().filter(|member| is(member)).count(), all);
        ViewRow {
            name: text::shortened(name, 60),
            rollouts: all,
            planned: format!("{:.0}\u{a0}%", 100.0 * mean(&|member| member.planned)),
            said: format!("{:.0}\u{a0}%", 100.0 * mean(&|member| member.injected)),
            chunks: format!("{:.1}", mean(&|member| member.model_chunks as f64)),
            interleaved: percent(&|member| member.model_chunks >= 2),
            forced: percent(&|member| member.close != Close::Own),
            tails: percent(&|member| member.close == Close::WithTail),
            leaked: percent(&|member| member.leak != Leak::None),
        }
    });
    rows.collect()
}

/// Groups in which each later scaffolded view holds more of the expert than the one before, of those that have two or
/// more.
fn grown(groups: &[Group]) -> (usize, usize) {
    let said = |group: &Group| -> Vec<Said> {
        group.members.iter().filter(|member| !member.naked).map(|member| member.said.clone()).collect()
    };
    let several: Vec<_> = groups.iter().map(said).filter(|said| said.len() > 1).collect();
    let grows = |said: &&Vec<Said>| said.windows(2).all(|pair| pair[1].goes_beyond(&pair[0]));
    (several.iter().filter(grows).count(), several.len())
}

/// One row for each type, the most frequent first, and the number of types left out.
fn kinds(groups: &[Group]) -> (Vec<KindRow>, usize) {
    let mut by_kind: BTreeMap<&str, Vec<&Group>> = BTreeMap::new();
    for group in groups {
        by_kind.entry(&group.kind).or_default().push(group);
    }
    let mut by_kind: Vec<_> = by_kind.into_iter().collect();
    // Stable, so that equally frequent types stay in their order.
    by_kind.sort_by_key(|(_, groups)| std::cmp::Reverse(groups.len()));
    let left_out = by_kind.len().saturating_sub(KINDS);
    let rows = by_kind.into_iter().take(KINDS).map(|(name, groups)| {
        let right = |naked| {
            let members = groups.iter().flat_map(|group| &group.members).filter(|member| member.naked == naked);
            let count = Right::of(members);
            percent_of(count.right, count.all)
        };
        let outcome = |outcome| groups.iter().filter(|group| group.outcome() == outcome).count();
        KindRow {
            name: text::shortened(name, 60),
            groups: groups.len(),
            naked: right(true),
            scaffolded: right(false),
            skipped: outcome(Outcome::Skipped),
            dead: outcome(Outcome::Dead),
            trained: outcome(Outcome::Trained),
        }
    });
    (rows.collect(), left_out)
}
