//! Groups: the rollouts of one sample, judged, compared and weighed.
//!
//! The naked rollout comes first. Where it is right, nothing else happens to this sample (*early stop*); where it is
//! wrong, the same sample is written again from its beginning with the expert's help, each time cut elsewhere. Naked
//! rollouts of all samples of a step are decoded as one batch, then all scaffolded ones as another, then those that
//! must be written again.

mod views;

pub use views::Growth;

use std::collections::HashSet;
use std::ops::Range;

use lcr_answers::{Invalid, Judgement};
use lcr_documents::rollout::{Leak, RolloutRecord, Said, Segment, SegmentTag, Source, TokenCounts};
use lcr_model::decoder::{BoundAdapter, Decoder};
use lcr_model::sampling::{Sampler, SamplingOptions};
use lcr_model::session::{SequenceId, Session};

use crate::config::TrainConfig;
use crate::evaluate::anchors_in;
use crate::seed::derive;
use crate::step::advantage::{AdvantageOptions, coefficients, group_advantages, is_zero_variance};
use crate::step::credit::{CreditOptions, Role, Stretch, jaccard, token_weights};
use crate::step::format::Format;
use crate::step::rollout::{Member, Rollout, RolloutError, Rules, Sample, View, generate, read_prompts};
use crate::step::scaffold::{LeakMode, Plan, PlanRequest, Target, plan, room};
use crate::tasks::anchors::Anchors;
use crate::tasks::dataset::{Dataset, Problem};

/// Streams of random numbers of one sample.
const SAMPLING_STREAM: u64 = 1;

/// What became of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupOutcome {
    /// The naked rollout was right.
    Skipped,
    /// No rollout is better than the others.
    ZeroVariance,
    /// At least one rollout carries a loss.
    Trained,
}

/// A rollout with what its group makes of it.
#[derive(Debug, Clone)]
pub struct Scored {
    /// The rollout.
    pub rollout: Rollout,
    /// 1 right, 0 wrong; none where it must not count.
    pub reward: Option<f64>,
    /// (R − mean R)/(std R + 1e-4), after the method's own rule.
    pub advantage: f64,
    /// Weight of each token, 0 where it carries no loss.
    pub weights: Vec<f32>,
    /// Mean Jaccard similarity of the model's chunks with what they stand in for.
    pub jaccard: Option<f64>,
}

/// The rollouts of one sample.
#[derive(Debug, Clone)]
pub struct Group {
    /// Samples visited before this one.
    pub iteration: u64,
    /// Index of the sample in the dataset.
    pub sample: usize,
    /// Its rollouts.
    pub members: Vec<Scored>,
    /// What became of it.
    pub outcome: GroupOutcome,
    /// Whether each later view holds more of the expert.
    pub growth: Growth,
    /// Whether two scaffolded views have the same boundaries.
    pub identical_views: bool,
    /// What was written again.
    pub redrawn: Redrawn,
}

impl Group {
    /// Tokens that the model wrote, those of views that were written again included.
    pub fn generated(&self) -> u64 {
        self.members.iter().map(|member| member.rollout.generated() as u64).sum::<u64>() + self.redrawn.tokens
    }
}

/// Views that were written again, and what the ones that they replace had cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redrawn {
    /// Views.
    pub views: u64,
    /// Tokens that the model wrote for nothing.
    pub tokens: u64,
}

/// What all groups of a step are made with.
#[derive(Debug, Clone, Copy)]
pub struct GroupMaker<'a> {
    /// The model.
    pub decoder: &'a Decoder,
    /// The policy's adapter as it stands.
    pub variant: &'a BoundAdapter,
    /// Spelling.
    pub format: &'a Format<'a>,
    /// The problems.
    pub dataset: &'a Dataset,
    /// Behaviour instructions.
    pub anchors: &'a Anchors,
    /// Words too common to count in Jaccard similarities.
    pub common: &'a HashSet<u32>,
    /// The configuration.
    pub config: &'a TrainConfig,
    /// What the curriculum leaves of the expert's share.
    pub share_scale: f64,
}

/// The samples of a step.
struct Batch<'s> {
    /// Samples visited before each.
    visited: Vec<u64>,
    problems: Vec<&'s Problem>,
    targets: Vec<Target>,
    /// Tokens of each target that the expert may say.
    rooms: Vec<usize>,
    prompts: Vec<Vec<u32>>,
    roots: Vec<SequenceId>,
}

/// A rollout to be written.
struct Wanted {
    /// Place of its sample in the batch.
    index: usize,
    view: View,
    plan: Option<Plan>,
    /// Times that this view was written before.
    redraw: usize,
}

/// The rollouts of a sample so far.
#[derive(Default)]
struct Written {
    rollouts: Vec<Rollout>,
    redrawn: Redrawn,
}

impl GroupMaker<'_> {
    /// A group for each (samples visited before it, index of the sample).
    pub fn make(&self, batch: &[(u64, usize)]) -> Result<Vec<Group>, RolloutError> {
        let mut session = Session::new(self.decoder, Some(self.variant));
        let samples = self.read(&mut session, batch)?;
        let mut groups: Vec<Written> = batch.iter().map(|_| Written::default()).collect();
        let naked = self.config.method.naked_views(&self.config.group);
        let first = (0..batch.len()).flat_map(|index| (0..naked).map(move |view| (index, View::Naked(view))));
        let first = first.map(|(index, view)| Wanted { index, view, plan: None, redraw: 0 }).collect();
        for (index, rollout) in self.write(&mut session, &samples, first)? {
            groups[index].rollouts.push(rollout);
        }
        let unsolved =
            |written: &Written| !(self.config.group.early_stop && written.rollouts.iter().any(Rollout::correct));
        let second = (0..batch.len()).filter(|_| self.config.method.has_scaffold());
        let second = second.filter(|index| unsolved(&groups[*index])).flat_map(|index| self.views(&samples, index));
        for (index, rollout) in self.write(&mut session, &samples, second.collect())? {
            groups[index].rollouts.push(rollout);
        }
        self.write_stalled_again(&mut session, &samples, &mut groups)?;
        let finished = batch.iter().zip(groups).enumerate();
        Ok(finished.map(|(index, ((_, sample), written))| self.score(&samples, index, *sample, written)).collect())
    }

    /// Prompts, targets and what the expert may say of them; the prompts are read by the model.
    fn read<'s>(&'s self, session: &mut Session, batch: &[(u64, usize)]) -> Result<Batch<'s>, RolloutError> {
        let problems: Vec<&Problem> = batch.iter().map(|(_, sample)| &self.dataset.problems[*sample]).collect();
        let targets = problems.iter().map(|problem| self.format.target(problem)).collect::<Result<Vec<_>, _>>()?;
        let text = |tokens: &[u32]| self.format.tokenizer().decode(tokens).unwrap_or_default();
        let options = &self.config.scaffold;
        let rooms =
            targets.iter().zip(&problems).map(|(target, problem)| room(target, options, &problem.ground_truth, text));
        let rooms = rooms.collect();
        let visited: Vec<u64> = batch.iter().map(|(iteration, _)| *iteration).collect();
        let prompt = |(iteration, problem): (&u64, &&Problem)| {
            let drawn = self.anchors.draw(self.config.seed, *iteration as usize, self.config.anchors.count);
            self.format.prompt(anchors_in(problem, &drawn).as_deref(), &problem.prompt)
        };
        let prompts = visited.iter().zip(&problems).map(prompt).collect::<Result<Vec<_>, _>>()?;
        let roots = read_prompts(session, &prompts)?;
        Ok(Batch { visited, problems, targets, rooms, prompts, roots })
    }

    /// The scaffolded views of a sample, each planned to hold more than the ones before.
    fn views(&self, samples: &Batch, index: usize) -> Vec<Wanted> {
        let mut earlier: Vec<Said> = Vec::new();
        let mut wanted = Vec::new();
        let group = &self.config.group;
        for view in 0..group.size - self.config.method.naked_views(group) {
            let plan =
                self.plan(samples, index, PlanRequest { view, earlier: &earlier, ..self.request(samples, index) });
            earlier.push(plan.said());
            wanted.push(Wanted { index, view: View::Scaffold(view), plan: Some(plan), redraw: 0 });
        }
        wanted
    }

    fn request<'r>(&self, samples: &Batch, index: usize) -> PlanRequest<'r> {
        PlanRequest {
            seed: self.config.seed,
            sample: samples.visited[index] as usize,
            view: 0,
            redraw: 0,
            share_scale: self.share_scale,
            earlier: &[],
            room: samples.rooms[index],
            opening: 0,
        }
    }

    fn plan(&self, samples: &Batch, index: usize, request: PlanRequest) -> Plan {
        plan(&samples.targets[index], &self.config.scaffold, request)
    }

    /// Writes views again that got no more of the expert than the one before, where the expert has more to say.
    fn write_stalled_again(
        &self,
        session: &mut Session,
        samples: &Batch,
        groups: &mut [Written],
    ) -> Result<(), RolloutError> {
        let options = &self.config.scaffold;
        // Views that are alike by the configuration cannot grow.
        let rounds = if options.varied_boundaries { options.redraws } else { 0 };
        for redraw in 1..=rounds {
            let again: Vec<Wanted> = groups
                .iter()
                .enumerate()
                .flat_map(|(index, written)| self.stalled_views(samples, index, &written.rollouts, redraw))
                .collect();
            for (index, rollout) in self.write(session, samples, again)? {
                let written = &mut groups[index];
                written.redrawn.views += 1;
                if let Some(place) = written.rollouts.iter_mut().find(|other| other.view == rollout.view) {
                    written.redrawn.tokens += place.generated() as u64;
                    *place = rollout;
                }
            }
        }
        Ok(())
    }

    fn stalled_views(&self, samples: &Batch, index: usize, rollouts: &[Rollout], redraw: usize) -> Vec<Wanted> {
        let said = views::said(rollouts);
        let again = |view: usize| {
            let opening = said[view - 1].tokens + 1;
            let request = PlanRequest { view, redraw, opening, earlier: &said[..view], ..self.request(samples, index) };
            let plan = self.plan(samples, index, request);
            let is_more = plan.expert_chunks.first().is_some_and(|first| *first >= opening);
            is_more.then_some(Wanted { index, view: View::Scaffold(view), plan: Some(plan), redraw })
        };
        views::stalled(&said).filter_map(again).collect()
    }

    /// Writes rollouts together, each with the place of its sample in the batch.
    fn write(
        &self,
        session: &mut Session,
        samples: &Batch,
        wanted: Vec<Wanted>,
    ) -> Result<Vec<(usize, Rollout)>, RolloutError> {
        let rules = Rules {
            format: self.format,
            budget: &self.config.budget,
            scaffold: &self.config.scaffold,
            max_positions: self.decoder.config().max_positions,
        };
        let owners: Vec<usize> = wanted.iter().map(|wanted| wanted.index).collect();
        let members = wanted
            .into_iter()
            .map(|Wanted { index, view, plan, redraw }| {
                let sampler = self.sampler(samples.visited[index], view, redraw)?;
                let sequence = session.fork(samples.roots[index]);
                let sample = Sample { problem: samples.problems[index], target: &samples.targets[index] };
                Member::new(rules, sample, sequence, &samples.prompts[index], view, plan, sampler)
            })
            .collect::<Result<Vec<_>, RolloutError>>()?;
        Ok(owners.into_iter().zip(generate(session, members)?).collect())
    }

    /// The stream of one rollout: a function of its sample, its view and how often that was written before.
    fn sampler(&self, visited: u64, view: View, redraw: usize) -> Result<Sampler, RolloutError> {
        let (kind, place) = match view {
            View::Naked(place) => (0, place),
            View::Scaffold(place) => (1, place),
        };
        let path = [SAMPLING_STREAM, visited, kind, place as u64, redraw as u64];
        let path = if redraw == 0 { &path[..4] } else { &path[..] };
        Ok(Sampler::new(SamplingOptions {
            temperature: self.config.sampling.temperature,
            top_k: Some(self.config.sampling.top_k).filter(|count| *count > 0),
            top_p: self.config.sampling.top_p,
            seed: derive(self.config.seed, path),
        })?)
    }

    fn score(&self, samples: &Batch, index: usize, sample: usize, written: Written) -> Group {
        let (method, group) = (&self.config.method, &self.config.group);
        let (rollouts, target) = (written.rollouts, &samples.targets[index]);
        let said = views::said(&rollouts);
        let dropped =
            |rollout: &Rollout| self.config.scaffold.leak_guard == LeakMode::Drop && rollout.leak != Leak::None;
        let rewards: Vec<Option<f64>> = rollouts
            .iter()
            .map(|rollout| match rollout.judgement {
                // The problem's own answer cannot be used; a rollout without a readable box is just wrong.
                Judgement::Invalid(Invalid::Truth) => None,
                _ if dropped(rollout) => None,
                judgement => Some(judgement.reward()),
            })
            .collect();
        let advantages: Vec<f64> = if method.is_relative(group) {
            let positive_only = method.learns_positive_only(group);
            coefficients(&group_advantages(&rewards), &AdvantageOptions { positive_only })
        } else {
            rewards.iter().map(|reward| reward.unwrap_or(0.0)).collect()
        };
        let solved_alone = rollouts.first().is_some_and(|first| first.view == View::Naked(0) && first.correct());
        let early = group.early_stop && solved_alone && method.skips_what_is_solved();
        let outcome = match () {
            () if early => GroupOutcome::Skipped,
            () if is_zero_variance(&advantages) => GroupOutcome::ZeroVariance,
            () => GroupOutcome::Trained,
        };
        let credit = method.credit(&self.config.credit);
        let members = rollouts
            .into_iter()
            .zip(rewards)
            .zip(advantages)
            .map(|((rollout, reward), advantage)| {
                let weights = token_weights(&stretches(&rollout, target, &credit), &credit, self.common);
                let jaccard = mean_jaccard(&rollout, target, self.common);
                let advantage = if outcome == GroupOutcome::Skipped { 0.0 } else { advantage };
                Scored { rollout, reward, advantage, weights, jaccard }
            })
            .collect();
        Group {
            iteration: samples.visited[index],
            sample,
            members,
            outcome,
            growth: views::growth(&said, samples.rooms[index]),
            identical_views: views::has_identical(&said),
            redrawn: written.redrawn,
        }
    }

    /// The line of `rollouts.jsonl` of each member.
    pub fn records(&self, group: &Group) -> Result<Vec<RolloutRecord>, RolloutError> {
        let problem = &self.dataset.problems[group.sample];
        group
            .members
            .iter()
            .map(|member| {
                let rollout = &member.rollout;
                Ok(RolloutRecord {
                    iteration: group.iteration,
                    sample: group.sample,
                    view: rollout.view.to_string(),
                    kind: problem.kind.clone(),
                    prompt: problem.prompt.clone(),
                    correct: rollout.correct(),
                    reward: member.reward.unwrap_or(0.0),
                    advantage: member.advantage,
                    target_answer: problem.ground_truth.clone(),
                    generated_answer: rollout.answer.clone(),
                    token_counts: counts(rollout),
                    leak: rollout.leak,
                    forced_close: rollout.forced_close,
                    jaccard: member.jaccard,
                    expert_share: rollout.expert_share,
                    injected_share: rollout.injected_share,
                    boundaries: rollout.said().boundaries,
                    model_chunks: rollout.model_chunks(),
                    segments: self.segments(member)?,
                })
            })
            .collect()
    }

    fn segments(&self, member: &Scored) -> Result<Vec<Segment>, RolloutError> {
        let tokenizer = self.format.tokenizer();
        let rollout = &member.rollout;
        rollout
            .spans
            .iter()
            .map(|span| {
                let tokens = &rollout.tokens[span.tokens.clone()];
                let weights = &member.weights[span.tokens.clone()];
                let own = matches!(span.tag, SegmentTag::Model | SegmentTag::Answer);
                let masked = !own && weights.iter().all(|weight| *weight == 0.0);
                Ok(Segment {
                    tag: span.tag,
                    source: if own { Source::Model } else { Source::Injected },
                    text: tokenizer.decode(tokens)?,
                    token_count: tokens.len(),
                    masked,
                    pieces: if masked {
                        Vec::new()
                    } else {
                        tokens.iter().map(|id| tokenizer.token_text(*id)).collect()
                    },
                    weights: if masked { Vec::new() } else { weights.to_vec() },
                })
            })
            .collect()
    }
}

/// A rollout as the credit assignment sees it.
fn stretches<'a>(rollout: &'a Rollout, target: &'a Target, credit: &CreditOptions) -> Vec<Stretch<'a>> {
    rollout
        .spans
        .iter()
        .map(|span| {
            let role = match span.tag {
                SegmentTag::Prompt => Role::Prompt,
                SegmentTag::Expert | SegmentTag::Tail | SegmentTag::Close | SegmentTag::Opener => Role::Injected,
                SegmentTag::Answer => Role::Answer,
                SegmentTag::Model => {
                    let compared = |range: &Range<usize>| credit.counterpart(&target.tokens, range.clone());
                    Role::Model { expert: span.replaced_span.as_ref().map_or(&[], compared) }
                }
            };
            Stretch { role, tokens: &rollout.tokens[span.tokens.clone()] }
        })
        .collect()
}

fn mean_jaccard(rollout: &Rollout, target: &Target, common: &HashSet<u32>) -> Option<f64> {
    let similarities: Vec<f64> = rollout
        .spans
        .iter()
        .filter(|span| span.tag == SegmentTag::Model)
        .filter_map(|span| {
            let expert = &target.tokens[span.replaced_span.clone()?];
            Some(jaccard(&rollout.tokens[span.tokens.clone()], expert, common))
        })
        .collect();
    (!similarities.is_empty()).then(|| similarities.iter().sum::<f64>() / similarities.len() as f64)
}

fn counts(rollout: &Rollout) -> TokenCounts {
    let mut counts = TokenCounts::default();
    for span in &rollout.spans {
        let count = match span.tag {
            SegmentTag::Prompt => &mut counts.prompt,
            SegmentTag::Expert => &mut counts.expert,
            SegmentTag::Model => &mut counts.model,
            SegmentTag::Tail | SegmentTag::Close | SegmentTag::Opener => &mut counts.forced,
            SegmentTag::Answer => &mut counts.answer,
        };
        *count += span.tokens.len();
    }
    counts
}

#[cfg(test)]
mod tests;
