//! `rollouts.jsonl`, read in two passes.
//!
//! The first pass reads every line and keeps of each what a summary needs and where it stands in the file; the second
//! reads the lines of the groups that are shown. So a file of any size needs the memory of one line and of an outline.
//! A run may be alive or killed: what it tore is counted, and what it wrote again after a resumption replaces what it
//! had written before.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use lcr_documents::rollout::Said;
use lcr_documents::rollout::{Leak, RolloutRecord, SegmentTag};
use serde::Serialize;

use super::ViewerError;

/// Bytes of a line above which it is not read.
const LONGEST_LINE: u64 = 64 << 20;
/// Unreadable lines that are quoted.
const QUOTED: usize = 5;

/// What became of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// Some rollout had a positive advantage.
    Trained,
    /// All rollouts got the same reward, so there was nothing to learn from their difference.
    Dead,
    /// The first rollout was right without help.
    Skipped,
    /// A wrong first rollout and none after it: the file ends, or the run was killed, within the group.
    Unfinished,
}

impl Outcome {
    /// All of them, in the order in which charts stack them.
    pub(super) const ALL: [Self; 4] = [Self::Trained, Self::Dead, Self::Skipped, Self::Unfinished];

    /// As it is called on the page, and its class.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Trained => "trained",
            Self::Dead => "dead",
            Self::Skipped => "skipped",
            Self::Unfinished => "unfinished",
        }
    }
}

/// How a rollout's thinking ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// By the model, or not at all.
    Own,
    /// By force.
    Forced,
    /// By force, behind the end of the expert's thinking.
    WithTail,
}

impl Close {
    fn of(record: &RolloutRecord) -> Self {
        match record.segments.iter().any(|segment| segment.tag == SegmentTag::Tail) {
            true => Self::WithTail,
            false if record.forced_close => Self::Forced,
            false => Self::Own,
        }
    }
}

/// Outline of a rollout.
#[derive(Debug)]
pub(super) struct Member {
    offset: u64,
    length: usize,
    pub(super) naked: bool,
    pub(super) correct: bool,
    pub(super) advantage: f64,
    pub(super) leak: Leak,
    pub(super) close: Close,
    pub(super) view: String,
    /// Shares of the target that the expert was to say, and said.
    pub(super) planned: f64,
    pub(super) injected: f64,
    /// What the expert said.
    pub(super) said: Said,
    pub(super) model_chunks: usize,
}

/// The rollouts of one sample.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) iteration: u64,
    pub(super) kind: String,
    pub(super) members: Vec<Member>,
}

impl Group {
    pub(super) fn outcome(&self) -> Outcome {
        match self.members.as_slice() {
            members if members.iter().any(|member| member.advantage > 0.0) => Outcome::Trained,
            [alone] if alone.correct => Outcome::Skipped,
            [_] => Outcome::Unfinished,
            _ => Outcome::Dead,
        }
    }

    /// The class of its worst leak: an answer in the scaffold was there from the beginning, one in the tail came late.
    pub(super) fn leak(&self) -> Leak {
        let has = |leak| self.members.iter().any(|member| member.leak == leak);
        if has(Leak::Scaffold) {
            Leak::Scaffold
        } else if has(Leak::Tail) {
            Leak::Tail
        } else {
            Leak::None
        }
    }
}

/// Lines that are no rollouts.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    pub(super) count: usize,
    /// Number and fault of the first few.
    pub(super) examples: Vec<(usize, String)>,
    /// Whether the last line of the file is one of them and has no end, as a run that is alive or was killed leaves it.
    pub(super) torn: bool,
}

impl Unreadable {
    fn add(&mut self, line: usize, fault: String) {
        self.count += 1;
        if self.examples.len() < QUOTED {
            self.examples.push((line, fault));
        }
    }
}

/// Outline of a whole file.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) path: PathBuf,
    /// By iteration.
    pub(super) groups: Vec<Group>,
    /// The largest token weight: what the darkest shade means.
    pub(super) heaviest: f32,
    pub(super) unreadable: Unreadable,
    pub(super) replaced: usize,
}

/// A line of the file, as far as it was read.
enum Line {
    /// All of it, and whether a line break ended it.
    Whole(bool),
    /// More than [`LONGEST_LINE`].
    TooLong,
}

impl Run {
    /// The first pass.
    pub(super) fn read(path: &Path) -> Result<Self, ViewerError> {
        let fault = |source| ViewerError::io(path, source);
        let mut file = BufReader::new(fs_err::File::open(path).map_err(fault)?);
        let mut groups: BTreeMap<u64, Group> = BTreeMap::new();
        let mut unreadable = Unreadable::default();
        let (mut offset, mut number, mut replaced, mut latest, mut heaviest) = (0_u64, 0, 0, 0, 0.0_f32);
        let mut bytes = Vec::new();
        loop {
            let start = offset;
            bytes.clear();
            let Some(line) = next_line(&mut file, &mut bytes, &mut offset).map_err(fault)? else { break };
            number += 1;
            let Line::Whole(ended) = line else {
                unreadable.add(number, format!("longer than {} MiB", LONGEST_LINE >> 20));
                continue;
            };
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            let record: RolloutRecord = match serde_json::from_slice(&bytes) {
                Ok(record) => record,
                Err(error) => {
                    unreadable.add(number, error.to_string());
                    unreadable.torn = !ended;
                    continue;
                }
            };
            // Iterations only ever grow, so one that is smaller begins what a resumed run did again.
            if record.iteration < latest {
                let again = groups.split_off(&record.iteration);
                replaced += again.values().map(|group| group.members.len()).sum::<usize>();
            }
            latest = record.iteration;
            let weights = record.segments.iter().flat_map(|segment| &segment.weights);
            heaviest = weights.copied().filter(|weight| weight.is_finite()).fold(heaviest, f32::max);
            let group = groups.entry(record.iteration).or_insert_with(|| Group {
                iteration: record.iteration,
                kind: record.kind.clone(),
                members: Vec::new(),
            });
            group.members.push(Member {
                offset: start,
                length: bytes.len(),
                naked: record.view.starts_with("naked"),
                correct: record.correct,
                advantage: record.advantage,
                leak: record.leak,
                close: Close::of(&record),
                planned: record.expert_share,
                injected: record.injected_share,
                said: Said { tokens: record.token_counts.expert, boundaries: record.boundaries },
                model_chunks: record.model_chunks,
                view: record.view,
            });
        }
        if groups.is_empty() {
            let reason = match unreadable.examples.first() {
                Some((line, fault)) => format!("line {line} cannot be read ({fault})"),
                None => "it is empty".to_owned(),
            };
            return Err(ViewerError::NoRollouts { path: path.to_owned(), reason });
        }
        Ok(Self { path: path.to_owned(), groups: groups.into_values().collect(), heaviest, unreadable, replaced })
    }

    /// At most `most` groups, evenly over the run; with more than one, the first and the last are among them.
    pub(super) fn choose(&self, most: usize) -> Vec<&Group> {
        let all = self.groups.len();
        if all <= most {
            return self.groups.iter().collect();
        }
        let steps = most.saturating_sub(1).max(1);
        (0..most).filter_map(|index| self.groups.get((index * (all - 1) + steps / 2) / steps)).collect()
    }

    /// The second pass: the rollouts of one group, at most `most` of them.
    pub(super) fn load(
        &self,
        file: &mut fs_err::File,
        group: &Group,
        most: usize,
    ) -> Result<Vec<RolloutRecord>, ViewerError> {
        let fault = |source| ViewerError::io(&self.path, source);
        let mut records = Vec::new();
        for member in group.members.iter().take(most) {
            let mut bytes = vec![0; member.length];
            file.seek(SeekFrom::Start(member.offset)).map_err(fault)?;
            file.read_exact(&mut bytes).map_err(fault)?;
            let record = serde_json::from_slice(&bytes)
                .map_err(|source| ViewerError::Changed { path: self.path.clone(), source })?;
            records.push(record);
        }
        Ok(records)
    }
}

/// Reads up to and with the next line break and moves `offset` past it. `None` at the end of the file.
fn next_line(file: &mut impl BufRead, bytes: &mut Vec<u8>, offset: &mut u64) -> std::io::Result<Option<Line>> {
    let read = file.by_ref().take(LONGEST_LINE).read_until(b'\n', bytes)? as u64;
    if read == 0 {
        return Ok(None);
    }
    *offset += read;
    let ended = bytes.last() == Some(&b'\n');
    if ended || read < LONGEST_LINE {
        return Ok(Some(Line::Whole(ended)));
    }
    *offset += file.skip_until(b'\n')? as u64;
    Ok(Some(Line::TooLong))
}
