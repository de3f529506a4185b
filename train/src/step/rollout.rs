//! Co-authored generation: expert chunks, model chunks, a close tag, an answer, for many rollouts in one batch.
//!
//! A [`Member`] is a rollout in the making: a small state machine that takes one token of the model at a time and
//! appends what is injected after it. [`generate`] feeds all members to the model together, each forward pass reading
//! the weights once for all of them; what a group has in common, its prompt, is read once and shared.
//!
//! Every draw is a function of (seed, sample visited, view, weights) alone: neither the batch nor its order enters.

use std::ops::Range;

use lcr_answers::{Boxed, Invalid, Judgement, boxed, judge};
use lcr_documents::rollout::{Leak, Said, SegmentTag};
use lcr_model::decoder::ModelError;
use lcr_model::sampling::{Sampler, SamplingError};
use lcr_model::session::{SequenceId, Session};
use lcr_model::tokenizer::TokenizerError;

use crate::config::BudgetOptions;
use crate::step::format::Format;
use crate::step::scaffold::{
    LeakMode, Plan, ScaffoldOptions, Target, chunk_is_complete, cut_before_leak, find_leak, next_chunk, next_start,
    stand_in, tail,
};
use crate::tasks::dataset::Problem;

/// Why a rollout failed.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// The forward pass.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The choice of a token.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// Text to ids or back.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// Who begins a rollout, and its place in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum View {
    /// Without the expert.
    Naked(usize),
    /// With the plan of this index.
    Scaffold(usize),
}

impl std::fmt::Display for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Naked(0) => f.write_str("naked"),
            Self::Naked(index) => write!(f, "naked_{index}"),
            Self::Scaffold(index) => write!(f, "scaffold_{index}"),
        }
    }
}

/// A stretch of a rollout's tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What it is.
    pub tag: SegmentTag,
    /// Its tokens.
    pub tokens: Range<usize>,
    /// Of a model chunk between expert chunks: the expert's tokens that it stands in for.
    pub replaced_span: Option<Range<usize>>,
}

/// What does not change while a batch of rollouts is made.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Tags and spelling.
    pub format: &'a Format<'a>,
    /// Lengths.
    pub budget: &'a BudgetOptions,
    /// Where the expert goes on.
    pub scaffold: &'a ScaffoldOptions,
    /// Positions of the model.
    pub max_positions: usize,
}

/// What a member needs of its sample.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The problem.
    pub problem: &'a Problem,
    /// The expert's thinking.
    pub target: &'a Target,
}

/// A finished rollout.
#[derive(Debug, Clone)]
pub struct Rollout {
    /// Its place in the group.
    pub view: View,
    /// All tokens, prompt and injected ones included.
    pub tokens: Vec<u32>,
    /// Its stretches, one after another, covering all tokens.
    pub spans: Vec<Span>,
    /// What stands in the box.
    pub answer: Option<String>,
    /// Whether it is right; `Invalid` where there is no answer to judge.
    pub judgement: Judgement,
    /// Whether the thinking was closed by force.
    pub forced_close: bool,
    /// Whether injected text holds the answer.
    pub leak: Leak,
    /// The plan's share of expert text; 0 when naked.
    pub expert_share: f64,
    /// The share of the target that the expert said in fact.
    pub injected_share: f64,
    /// Target tokens of each expert chunk that was injected.
    pub chunks: Vec<Range<usize>>,
}

impl Rollout {
    /// Whether the boxed answer is right.
    pub fn correct(&self) -> bool {
        self.judgement == Judgement::Correct
    }

    /// What the expert said in fact.
    pub fn said(&self) -> Said {
        let tokens = self.chunks.iter().map(Range::len).sum();
        Said { tokens, boundaries: self.chunks.iter().map(|chunk| chunk.end).collect() }
    }

    /// Stretches of thinking that the model wrote: two or more are interleaved with the expert's.
    pub fn model_chunks(&self) -> usize {
        self.spans.iter().filter(|span| span.tag == SegmentTag::Model).count()
    }

    /// Whether the end of the expert's thinking was injected.
    pub fn has_tail(&self) -> bool {
        self.spans.iter().any(|span| span.tag == SegmentTag::Tail)
    }

    /// Tokens drawn from the model.
    pub fn generated(&self) -> usize {
        let own = |span: &&Span| matches!(span.tag, SegmentTag::Model | SegmentTag::Answer);
        self.spans.iter().filter(own).map(|span| span.tokens.len()).sum()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Thinking,
    /// Inside the box, at this depth of braces.
    Boxed(usize),
    /// After the close tag, the box left to the model.
    Free,
    Done,
}

/// A rollout in the making.
#[derive(Debug)]
pub struct Member<'a> {
    rules: Rules<'a>,
    sample: Sample<'a>,
    sequence: SequenceId,
    view: View,
    plan: Option<Plan>,
    sampler: Sampler,
    tokens: Vec<u32>,
    spans: Vec<Span>,
    /// First token that the model has not read.
    unread: usize,
    phase: Phase,
    /// Expert chunks given so far.
    cycle: usize,
    /// Target tokens of the expert chunks so far.
    chunks: Vec<Range<usize>>,
    /// Tokens of thinking, the expert's included.
    thinking: usize,
    /// Tokens of the model since the last injected one.
    written: usize,
    forced_close: bool,
    escaped: bool,
    leaks: (bool, bool),
}

impl<'a> Member<'a> {
    /// A rollout whose `sequence` has read `prompt` but for its last token.
    pub fn new(
        rules: Rules<'a>,
        sample: Sample<'a>,
        sequence: SequenceId,
        prompt: &[u32],
        view: View,
        plan: Option<Plan>,
        sampler: Sampler,
    ) -> Result<Self, RolloutError> {
        let mut member = Self {
            rules,
            sample,
            sequence,
            view,
            plan,
            sampler,
            tokens: prompt.to_vec(),
            spans: vec![Span { tag: SegmentTag::Prompt, tokens: 0..prompt.len(), replaced_span: None }],
            unread: prompt.len().saturating_sub(1),
            phase: Phase::Thinking,
            cycle: 0,
            chunks: Vec::new(),
            thinking: 0,
            written: 0,
            forced_close: false,
            escaped: false,
            leaks: (false, false),
        };
        member.expert_speaks(0)?;
        Ok(member)
    }

    fn inject(&mut self, tag: SegmentTag, tokens: &[u32]) {
        if tokens.is_empty() {
            return;
        }
        let start = self.tokens.len();
        self.tokens.extend(tokens);
        self.spans.push(Span { tag, tokens: start..self.tokens.len(), replaced_span: None });
        self.written = 0;
    }

    fn write(&mut self, tag: SegmentTag, token: u32) {
        self.tokens.push(token);
        let end = self.tokens.len();
        match self.spans.last_mut() {
            Some(span) if span.tag == tag => span.tokens.end = end,
            _ => self.spans.push(Span { tag, tokens: end - 1..end, replaced_span: None }),
        }
        self.written += 1;
    }

    /// Tokens of the stretch that is being written.
    fn current(&self) -> &[u32] {
        self.spans.last().map_or(&[], |span| &self.tokens[span.tokens.clone()])
    }

    /// End of the last expert chunk in the target.
    fn given(&self) -> usize {
        self.chunks.last().map_or(0, |chunk| chunk.end)
    }

    /// The next expert chunk, from `start` in the target.
    fn expert_speaks(&mut self, start: usize) -> Result<(), RolloutError> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let mut chunk = next_chunk(self.sample.target, self.rules.scaffold, plan, self.cycle, start);
        self.cycle += 1;
        let tokenizer = self.rules.format.tokenizer();
        let truth = &self.sample.problem.ground_truth;
        if self.rules.scaffold.leak_guard == LeakMode::Cut {
            let text = |tokens: &[u32]| tokenizer.decode(tokens).unwrap_or_default();
            chunk = cut_before_leak(self.sample.target, self.rules.scaffold.hand_over, chunk, truth, text);
        }
        if chunk.is_empty() {
            return Ok(());
        }
        let tokens = self.sample.target.tokens[chunk.clone()].to_vec();
        if self.rules.scaffold.leak_guard != LeakMode::Off && find_leak(&tokenizer.decode(&tokens)?, truth) {
            self.leaks.0 = true;
        }
        self.chunks.push(chunk);
        self.thinking += tokens.len();
        self.inject(SegmentTag::Expert, &tokens);
        Ok(())
    }

    /// Takes the model's next token and appends what is injected after it.
    fn accept(&mut self, token: u32) -> Result<(), RolloutError> {
        match self.phase {
            Phase::Thinking => {
                self.write(SegmentTag::Model, token);
                self.thinking += 1;
                self.think(token)?;
            }
            Phase::Boxed(depth) => {
                self.write(SegmentTag::Answer, token);
                let depth = self.depth_after(token, depth);
                let ended = depth == 0 || self.rules.format.stops(token) || self.written >= self.rules.budget.answer;
                self.phase = if ended { Phase::Done } else { Phase::Boxed(depth) };
            }
            Phase::Free => {
                self.write(SegmentTag::Answer, token);
                if self.rules.format.stops(token) || self.written >= self.rules.budget.answer {
                    self.phase = Phase::Done;
                }
            }
            Phase::Done => {}
        }
        // Room for a forced ending is kept by whoever chooses the budget; without positions nothing can be read.
        if self.tokens.len() >= self.rules.max_positions {
            self.phase = Phase::Done;
        }
        Ok(())
    }

    fn think(&mut self, token: u32) -> Result<(), RolloutError> {
        let budget = self.rules.budget;
        if self.rules.format.closes(self.current())? {
            self.open_answer();
        } else if self.rules.format.stops(token) {
            self.phase = Phase::Done;
        } else if self.thinking >= budget.of(self.sample.target.len()) {
            if budget.forced_close {
                self.close_by_force()?;
            } else {
                self.phase = Phase::Done;
            }
        } else if self.chunk_is_over(token) {
            let written = self.current().to_vec();
            let start = next_start(self.sample.target, self.rules.scaffold, self.given(), &written);
            self.stand_for(Some(start));
            self.expert_speaks(start)?;
        }
        Ok(())
    }

    /// Whether the expert has the word again after `token`.
    fn chunk_is_over(&self, token: u32) -> bool {
        let Some(plan) = &self.plan else { return false };
        if self.cycle >= plan.expert_chunks.len() {
            return false;
        }
        let budget = plan.model_budgets.get(self.cycle - 1).copied().unwrap_or(usize::MAX);
        let target = self.sample.target;
        let within_line = target.tokens.iter().any(|token| target.ends_line(*token)) && !target.ends_line(token);
        let slack = if within_line { self.rules.scaffold.line_slack } else { 0 };
        chunk_is_complete(target, self.rules.scaffold, budget.saturating_add(slack), self.current())
    }

    /// Notes which expert tokens the model's latest chunk stands in for; `next` is where the expert goes on, if it
    /// does.
    fn stand_for(&mut self, next: Option<usize>) {
        let given = self.given();
        if let Some(span) = self.spans.last_mut().filter(|span| span.tag == SegmentTag::Model) {
            span.replaced_span = Some(stand_in(self.sample.target, given, next, span.tokens.len()));
        }
    }

    fn open_answer(&mut self) {
        if self.plan.is_some() {
            self.stand_for(None);
        }
        if self.rules.budget.answer_turn {
            let format = self.rules.format;
            self.inject(SegmentTag::Opener, format.opener());
            self.phase = Phase::Boxed(1);
        } else {
            self.written = 0;
            self.phase = Phase::Free;
        }
    }

    fn close_by_force(&mut self) -> Result<(), RolloutError> {
        self.forced_close = true;
        if self.plan.is_some() {
            self.stand_for(None);
            self.inject_tail()?;
        }
        let format = self.rules.format;
        self.inject(SegmentTag::Close, format.close());
        self.open_answer();
        Ok(())
    }

    /// The end of the expert's thinking.
    fn inject_tail(&mut self) -> Result<(), RolloutError> {
        let (target, truth) = (self.sample.target, &self.sample.problem.ground_truth);
        let tokenizer = self.rules.format.tokenizer();
        let mode = self.rules.scaffold.leak_guard;
        let text = |tokens: &[u32]| tokenizer.decode(tokens).unwrap_or_default();
        let tail = tail(target, self.rules.budget.tail, mode, truth, text);
        let tokens = target.tokens[tail].to_vec();
        self.leaks.1 = mode != LeakMode::Off && find_leak(&tokenizer.decode(&tokens)?, truth);
        self.inject(SegmentTag::Tail, &tokens);
        Ok(())
    }

    /// Depth of braces after a token of the answer.
    fn depth_after(&mut self, token: u32, mut depth: usize) -> usize {
        for character in self.rules.format.tokenizer().token_text(token).chars() {
            match character {
                _ if self.escaped => self.escaped = false,
                '\\' => self.escaped = true,
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        depth
    }

    fn finish(self) -> Result<Rollout, RolloutError> {
        let tokenizer = self.rules.format.tokenizer();
        let answered = |span: &&Span| span.tag == SegmentTag::Answer;
        let text = match self.spans.iter().find(answered) {
            Some(span) => Some(tokenizer.decode(&self.tokens[span.tokens.clone()])?),
            None => None,
        };
        let found = match text {
            // The opener was injected, so the text is a box without its beginning.
            Some(text) if self.rules.budget.answer_turn => boxed(&format!("\\boxed{{{text}")),
            Some(text) => boxed(&text),
            None => Boxed::Missing,
        };
        let problem = self.sample.problem;
        let judgement = match &found {
            Boxed::Answer(answer) => judge(answer, &problem.ground_truth, &problem.accepted),
            Boxed::Conflicting { .. } => Judgement::Wrong,
            Boxed::Missing => Judgement::Invalid(Invalid::NoBox),
            Boxed::Unclosed => Judgement::Invalid(Invalid::Unclosed),
        };
        let answer = if let Boxed::Answer(answer) = found { Some(answer) } else { None };
        let leak = match self.leaks {
            (true, _) => Leak::Scaffold,
            (false, true) => Leak::Tail,
            _ => Leak::None,
        };
        Ok(Rollout {
            view: self.view,
            tokens: self.tokens,
            spans: self.spans,
            answer,
            judgement,
            forced_close: self.forced_close,
            leak,
            expert_share: self.plan.map_or(0.0, |plan| plan.expert_share),
            injected_share: self.chunks.iter().map(Range::len).sum::<usize>() as f64
                / self.sample.target.len().max(1) as f64,
            chunks: self.chunks,
        })
    }
}

/// Reads each prompt but for its last token, all in one pass; the sequences are then forked for the members.
pub fn read_prompts(session: &mut Session, prompts: &[Vec<u32>]) -> Result<Vec<SequenceId>, RolloutError> {
    let sequences: Vec<SequenceId> = prompts.iter().map(|_| session.open()).collect();
    let requests: Vec<(SequenceId, &[u32])> = sequences
        .iter()
        .zip(prompts)
        .filter(|(_, prompt)| prompt.len() > 1)
        .map(|(sequence, prompt)| (*sequence, &prompt[..prompt.len() - 1]))
        .collect();
    if !requests.is_empty() {
        session.read(&requests)?;
    }
    Ok(sequences)
}

/// Writes all members to their end, together.
pub fn generate(session: &mut Session, mut members: Vec<Member>) -> Result<Vec<Rollout>, RolloutError> {
    loop {
        let active: Vec<usize> = (0..members.len()).filter(|&member| members[member].phase != Phase::Done).collect();
        if active.is_empty() {
            break;
        }
        let requests: Vec<(SequenceId, &[u32])> = active
            .iter()
            .map(|&member| (members[member].sequence, &members[member].tokens[members[member].unread..]))
            .collect();
        let logits = session.read(&requests)?;
        for (&index, logits) in active.iter().zip(logits) {
            let member = &mut members[index];
            member.unread = member.tokens.len();
            let token = member.sampler.sample(&logits)?.token;
            member.accept(token)?;
            if member.phase == Phase::Done {
                session.close(member.sequence);
            }
        }
    }
    members.into_iter().map(Member::finish).collect()
}

#[cfg(test)]
mod tests;
