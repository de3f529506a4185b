//! The head of the page: what the run's rollouts add up to.
//!
//! Accuracies stand with their intervals, and those of scaffolded rollouts apart by whether the answer stood in the
//! context: with it there, a correct box proves nothing.

use std::collections::BTreeMap;

use serde::Serialize;

use super::chart::Right;
use super::rollouts::{Group, Member, Outcome, Run};
use super::text;
use crate::record::Leak;
use crate::statistics::{Confidence, wilson};

/// Types that the table has room for.
const KINDS: usize = 30;

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

/// Everything that the head says.
#[derive(Debug, Serialize)]
pub(super) struct Overview {
    cards: Vec<Card>,
    /// Outcomes with their number of groups, those that occur.
    outcomes: Vec<(&'static str, usize)>,
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
    let forced = members(run).filter(|member| member.forced_close).count();
    let all = members(run).count();
    vec![
        accuracy("naked, right", Right::of(members(run).filter(|member| member.naked))),
        accuracy("scaffolded, right, no leak", scaffolded(false)),
        accuracy("scaffolded, right, answer leaked", scaffolded(true)),
        Card {
            label: "closed by force",
            value: text::percent(forced, all),
            note: format!("{forced} of {all} rollouts"),
        },
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
    Card { label, value: text::percent(count.right, count.all), note }
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
            text::percent(count.right, count.all)
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
