//! Groups: the rollouts of one sample, judged, compared and weighed.
//!
//! The naked rollout comes first. Where it is right, nothing else happens to this sample (*early stop*); where it is wrong, the
//! same sample is written again from its beginning with the expert's help, each time cut elsewhere. Naked rollouts of all samples
//! of a step are decoded as one batch, then all scaffolded ones as another.

use std::collections::HashSet;
use std::ops::Range;

use lcr_model::decoder::{Decoder, Variant};
use lcr_model::sampling::{Sampler, SamplingOptions};
use lcr_model::session::{SequenceId, Session};

use crate::advantage::{AdvantageOptions, coefficients, group_advantages, is_dead};
use crate::anchors::Anchors;
use crate::config::{Method, TrainConfig};
use crate::credit::{CreditOptions, Role, Stretch, jaccard, token_weights};
use crate::dataset::Dataset;
use crate::evaluate::anchors_in;
use crate::format::Format;
use crate::record::{Leak, RolloutRecord, Segment, SegmentTag, Source, TokenCounts};
use crate::reward::{Invalid, Judgement};
use crate::rollout::{Member, Rollout, RolloutError, Rules, Sample, View, generate, read_prompts};
use crate::scaffold::{LeakMode, Plan, Target, plan};
use crate::seed::derive;

/// Streams of random numbers of one sample.
const SAMPLING_STREAM: u64 = 1;

/// What became of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupOutcome {
    /// The naked rollout was right.
    Skipped,
    /// No rollout is better than the others.
    Dead,
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
}

/// What all groups of a step are made with.
#[derive(Debug, Clone, Copy)]
pub struct GroupMaker<'a> {
    /// The model.
    pub decoder: &'a Decoder,
    /// The policy's adapter as it stands.
    pub variant: &'a Variant,
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

impl GroupMaker<'_> {
    /// A group for each (samples visited before it, index of the sample).
    pub fn make(&self, batch: &[(u64, usize)]) -> Result<Vec<Group>, RolloutError> {
        let problems: Vec<_> = batch.iter().map(|(_, sample)| &self.dataset.problems[*sample]).collect();
        let targets = problems.iter().map(|problem| self.format.target(problem)).collect::<Result<Vec<_>, _>>()?;
        let prompts = batch
            .iter()
            .zip(&problems)
            .map(|((iteration, _), problem)| {
                let drawn = self.anchors.draw(self.config.seed, *iteration as usize, self.config.anchors.count);
                self.format.prompt(anchors_in(problem, &drawn).as_deref(), &problem.prompt)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut session = Session::new(self.decoder, Some(self.variant));
        let roots = read_prompts(&mut session, &prompts)?;
        let group = &self.config.group;
        let naked = match self.config.method {
            Method::Grpo => group.size,
            _ => usize::from(group.naked_first),
        };
        let sample = |index: usize| Sample { problem: problems[index], target: &targets[index] };
        let first = (0..batch.len()).flat_map(|index| (0..naked).map(move |view| (index, View::Naked(view), None)));
        let mut rollouts: Vec<Vec<Rollout>> = vec![Vec::new(); batch.len()];
        self.write(&mut session, &roots, &prompts, batch, &sample, first.collect(), &mut rollouts)?;
        let mut second = Vec::new();
        for (index, written) in rollouts.iter().enumerate() {
            let solved = group.early_stop && written.iter().any(Rollout::correct);
            if self.config.method == Method::Grpo || solved {
                continue;
            }
            let mut plans: Vec<Plan> = Vec::new();
            for view in 0..group.size - naked {
                let options = &self.config.scaffold;
                let (iteration, seed) = (batch[index].0 as usize, self.config.seed);
                plans.push(plan(&targets[index], options, seed, iteration, view, self.share_scale, &plans));
            }
            second.extend(plans.into_iter().enumerate().map(|(view, plan)| (index, View::Scaffold(view), Some(plan))));
        }
        self.write(&mut session, &roots, &prompts, batch, &sample, second, &mut rollouts)?;
        Ok(batch
            .iter()
            .zip(rollouts)
            .zip(&targets)
            .map(|(((iteration, sample), rollouts), target)| self.score(*iteration, *sample, rollouts, target))
            .collect())
    }

    /// Writes members (sample of the batch, view, plan) together and appends each to its sample's rollouts.
    #[expect(clippy::too_many_arguments, reason = "the two batches of a step share everything that stands here")]
    fn write<'s>(
        &'s self,
        session: &mut Session,
        roots: &[SequenceId],
        prompts: &[Vec<u32>],
        batch: &[(u64, usize)],
        sample: &dyn Fn(usize) -> Sample<'s>,
        wanted: Vec<(usize, View, Option<Plan>)>,
        rollouts: &mut [Vec<Rollout>],
    ) -> Result<(), RolloutError> {
        let rules = Rules {
            format: self.format,
            budget: &self.config.budget,
            scaffold: &self.config.scaffold,
            max_positions: self.decoder.config().max_positions,
        };
        let owners: Vec<usize> = wanted.iter().map(|(index, _, _)| *index).collect();
        let members = wanted
            .into_iter()
            .map(|(index, view, plan)| {
                let (kind, place) = match view {
                    View::Naked(place) => (0, place),
                    View::Scaffold(place) => (1, place),
                };
                let path = [SAMPLING_STREAM, batch[index].0, kind, place as u64];
                let sampler = Sampler::new(SamplingOptions {
                    temperature: self.config.sampling.temperature,
                    top_k: Some(self.config.sampling.top_k).filter(|count| *count > 0),
                    top_p: self.config.sampling.top_p,
                    seed: derive(self.config.seed, &path),
                })?;
                let sequence = session.fork(roots[index]);
                Member::new(rules, sample(index), sequence, &prompts[index], view, plan, sampler)
            })
            .collect::<Result<Vec<_>, RolloutError>>()?;
        for (owner, rollout) in owners.into_iter().zip(generate(session, members)?) {
            rollouts[owner].push(rollout);
        }
        Ok(())
    }

    fn score(&self, iteration: u64, sample: usize, rollouts: Vec<Rollout>, target: &Target) -> Group {
        let group = &self.config.group;
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
        let relative = group.relative && self.config.method != Method::FilteredSft;
        let positive_only = group.positive_only && self.config.method != Method::Grpo;
        let advantages: Vec<f64> = if relative {
            coefficients(&group_advantages(&rewards), &AdvantageOptions { positive_only })
        } else {
            rewards.iter().map(|reward| reward.unwrap_or(0.0)).collect()
        };
        let solved_alone = rollouts.first().is_some_and(|first| first.view == View::Naked(0) && first.correct());
        let early = group.early_stop && solved_alone && self.config.method == Method::Lcr;
        let outcome = match () {
            () if early => GroupOutcome::Skipped,
            () if is_dead(&advantages) => GroupOutcome::Dead,
            () => GroupOutcome::Trained,
        };
        let credit = credit_of(self.config);
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
        Group { iteration, sample, members, outcome }
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

/// Credit as the method uses it: only LCR tells tokens apart.
fn credit_of(config: &TrainConfig) -> CreditOptions {
    match config.method {
        Method::Lcr => config.credit.clone(),
        _ => CreditOptions { proximity: false, jaccard: false, answer_weight: 1.0, ..config.credit.clone() },
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
                    Role::Model { expert: span.stands_for.as_ref().map_or(&[], compared) }
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
            let expert = &target.tokens[span.stands_for.clone()?];
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
