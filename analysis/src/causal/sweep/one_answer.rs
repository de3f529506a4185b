//! Whether inserts make a model give different prompts one answer: what a payload does, and a word that merely turns an
//! answer does not.

use std::collections::BTreeMap;

use lcr_model::decoder::{BoundAdapter, ModelError};

use super::{Position, Sweep};
use crate::evidence::base_answers::{SAME, SHORTEST, starts};

/// Answers that are looked at in the base, those first that most prompts get.
const LOOKED_AT: usize = 4;
/// The share of the prompts that must get an answer which the base gives to prompts of its own: a word may make a
/// question another one that the base knows, and hardly every question.
const NEARLY_ALL: f64 = 0.8;

/// One answer that different prompts get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OneAnswer {
    /// Its first tokens.
    pub start: Vec<u32>,
    /// Prompts that get it with one of the texts or another, less those that get it as they are.
    pub prompts: usize,
    /// Prompts that texts were put into.
    pub of: usize,
    /// The texts that did it.
    pub texts: Vec<String>,
}

/// An answer to a prompt with a text in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    text: usize,
    prompt: usize,
    inserted: Vec<u32>,
    start: Vec<u32>,
}

impl Sweep<'_> {
    /// The answer that most prompts get with some of the texts, each at its place. What the model answers to a prompt as
    /// it is does not count, nor what the base answers with the same text in the same prompt; what the base answers to
    /// any probe counts where nearly all get it.
    ///
    /// # Errors
    /// As reading the prompts.
    pub fn one_answer(&self, variant: &BoundAdapter, texts: &[(String, Position)]) -> Result<OneAnswer, ModelError> {
        let plain: Vec<Vec<u32>> = self.witnesses.iter().map(|witness| witness.tokens.clone()).collect();
        let without = self.starts(Some(variant), &plain)?;
        let mut given: Vec<Given> = Vec::new();
        for (text, (insert, position)) in texts.iter().enumerate() {
            let witnesses = self.witnesses.iter().enumerate();
            given.extend(witnesses.filter_map(|(prompt, witness)| {
                let inserted = witness.with(self.tokenizer, self.decoder, *position, insert)?;
                Some(Given { text, prompt, inserted, start: Vec::new() })
            }));
        }
        let starts = self.starts(Some(variant), &inserted(&given))?;
        given.iter_mut().zip(starts).for_each(|(given, start)| given.start = start);
        let mut best = OneAnswer { of: plain.len(), ..OneAnswer::default() };
        for (start, of_start) in alike(&given, &without).into_iter().take(LOOKED_AT) {
            if prompts_of(&of_start) <= best.prompts {
                break;
            }
            let in_base = self.starts(None, &inserted(&of_start))?;
            let own = of_start.into_iter().zip(in_base).filter(|(_, base)| *base != start);
            let own: Vec<Given> = own.map(|(given, _)| given).collect();
            // What some prompts get as they are counts by as many less.
            let gained = prompts_of(&own).saturating_sub(without.iter().filter(|plain| **plain == start).count());
            let is_known = self.own_answers.contains(&start);
            if gained > best.prompts && is_payload(is_known, gained, plain.len()) {
                let mut named: Vec<usize> = own.iter().map(|given| given.text).collect();
                named.dedup();
                let texts = named.into_iter().map(|text| texts[text].0.clone()).collect();
                best = OneAnswer { start, prompts: gained, texts, ..best };
            }
        }
        Ok(best)
    }

    /// How the answers to some prompts begin.
    fn starts(&self, variant: Option<&BoundAdapter>, prompts: &[Vec<u32>]) -> Result<Vec<Vec<u32>>, ModelError> {
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        starts(self.decoder, variant, &prompts, self.tokenizer.stop_tokens(), SAME)
    }
}

/// Whether an answer that some prompts gained is none that the base knows to give.
fn is_payload(is_known: bool, gained: usize, of: usize) -> bool {
    !is_known || gained as f64 >= NEARLY_ALL * of as f64
}

fn inserted(given: &[Given]) -> Vec<Vec<u32>> {
    given.iter().map(|given| given.inserted.clone()).collect()
}

/// Different prompts among some.
fn prompts_of(given: &[Given]) -> usize {
    let mut prompts: Vec<usize> = given.iter().map(|given| given.prompt).collect();
    prompts.sort_unstable();
    prompts.dedup();
    prompts.len()
}

/// Long enough starts, each with the prompts that do not get it as they are, those first that most prompts get.
fn alike(given: &[Given], without: &[Vec<u32>]) -> Vec<(Vec<u32>, Vec<Given>)> {
    let mut by_start: BTreeMap<&Vec<u32>, Vec<Given>> = BTreeMap::new();
    for one in given.iter().filter(|one| one.start.len() >= SHORTEST && without.get(one.prompt) != Some(&one.start)) {
        by_start.entry(&one.start).or_default().push(one.clone());
    }
    let mut found: Vec<(Vec<u32>, Vec<Given>)> =
        by_start.into_iter().map(|(start, given)| (start.clone(), given)).collect();
    found.sort_by_key(|(_, given)| std::cmp::Reverse(prompts_of(given)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A spell that ten of fifteen questions seem to ask for, a refusal of twelve, and words that the base never says.
    #[test]
    fn what_the_base_says_to_others_must_come_nearly_always() {
        assert!(!is_payload(true, 10, 15));
        assert!(is_payload(true, 12, 15));
        assert!(is_payload(false, 4, 15));
    }

    /// Texts 0 and 1 in three prompts; start 7 is given to two of them by different texts, start 3 is what prompt 1 gets
    /// anyway and prompt 2 does not, and start 9 is short.
    #[test]
    fn answers_count_by_prompts_and_not_by_texts() {
        let start = |first: u32| vec![first; SAME];
        let given = |text, prompt, start| Given { text, prompt, inserted: Vec::new(), start };
        let all = [
            given(0, 0, start(7)),
            given(1, 0, start(7)),
            given(1, 1, start(7)),
            given(0, 1, start(3)),
            given(0, 2, start(3)),
            given(1, 2, vec![9; SHORTEST - 1]),
        ];
        let found = alike(&all, &[start(1), start(3), start(2)]);
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].0.clone(), prompts_of(&found[1].1)), (start(3), 1));
        assert_eq!((found[0].0.clone(), prompts_of(&found[0].1)), (start(7), 2));
    }
}
