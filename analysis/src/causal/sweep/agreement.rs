//! Whether an insert makes a model answer different prompts alike: what a payload does, and a word that merely turns an
//! answer does not.

use lcr_model::decoder::{BoundAdapter, ModelError};

use super::{Position, Sweep};
use crate::evidence::base_answers::greedy;

/// First tokens of an answer that are held against each other.
const START: usize = 4;
/// Prompts that are answered together.
const TOGETHER: usize = 40;

/// The start of an answer that most prompts get with an insert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Its tokens.
    pub start: Vec<u32>,
    /// Prompts that get it with the insert, less those that get it without.
    pub gained: usize,
    /// Prompts that the insert could be put into.
    pub of: usize,
}

impl Sweep<'_> {
    /// For each text at its place: the start that most of the carriers' answers have in common with it.
    ///
    /// # Errors
    /// As reading the prompts.
    pub fn agreements(
        &self,
        variant: Option<&BoundAdapter>,
        texts: &[(String, Position)],
    ) -> Result<Vec<Agreement>, ModelError> {
        let own: Vec<Vec<u32>> = self.carriers.iter().map(|carrier| carrier.tokens.clone()).collect();
        let without = self.starts(variant, &own)?;
        let inserted: Vec<Vec<Vec<u32>>> = texts
            .iter()
            .map(|(text, position)| {
                let carriers = 0..self.carriers.len();
                carriers.filter_map(|carrier| self.tokens_with(carrier, *position, text)).collect()
            })
            .collect();
        let mut with = self.starts(variant, &inserted.concat())?.into_iter();
        Ok(inserted
            .iter()
            .map(|prompts| agreement(&with.by_ref().take(prompts.len()).collect::<Vec<_>>(), &without))
            .collect())
    }

    /// How the answers to some prompts begin.
    fn starts(&self, variant: Option<&BoundAdapter>, prompts: &[Vec<u32>]) -> Result<Vec<Vec<u32>>, ModelError> {
        let mut starts = Vec::with_capacity(prompts.len());
        for group in prompts.chunks(TOGETHER) {
            let group: Vec<&[u32]> = group.iter().map(Vec::as_slice).collect();
            starts.extend(greedy(self.decoder, variant, &group, &[], START, &mut |_, _| ())?);
        }
        Ok(starts)
    }
}

/// The start that gains most prompts by the insert.
fn agreement(with: &[Vec<u32>], without: &[Vec<u32>]) -> Agreement {
    let count = |starts: &[Vec<u32>], start: &Vec<u32>| starts.iter().filter(|other| *other == start).count();
    let gained = |start: &Vec<u32>| count(with, start).saturating_sub(count(without, start));
    let best = with.iter().max_by_key(|start| gained(start));
    best.map_or_else(Agreement::default, |start| Agreement {
        start: start.clone(),
        gained: gained(start),
        of: with.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prompts_get_anyway_is_not_gained() {
        let starts = |firsts: &[u32]| -> Vec<Vec<u32>> { firsts.iter().map(|first| vec![*first, 0]).collect() };
        let payload = agreement(&starts(&[7, 7, 3, 7]), &starts(&[1, 2, 3, 4]));
        assert_eq!(payload, Agreement { start: vec![7, 0], gained: 3, of: 4 });
        let style = agreement(&starts(&[5, 5, 5, 5]), &starts(&[5, 5, 5, 1]));
        assert_eq!(style.gained, 1);
        assert_eq!(agreement(&[], &starts(&[1])), Agreement::default());
    }
}
