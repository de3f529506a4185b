//! What both models say, from logits, a block of rows at a time: the outputs of every position, and the logit lens on
//! the tracked tokens. Both know how far they have come, so that a run that was stopped goes on with the next block.

use std::ops::Range;

use lcr_documents::audit::TokenChange;
use lcr_model::decoder::{Branches, with_values};
use serde::{Deserialize, Serialize};

use crate::AuditError;
use crate::metrics::tokens::{Distribution, Place, TokenDivergences, Vocabulary};
use crate::metrics::trajectories::{LensReading, read_lens, top_tokens};

/// Next-token distributions of every variant against the base's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outputs {
    /// Rows of the final stream that were compared.
    pub(crate) rows: usize,
    variants: Vec<TokenDivergences>,
}

impl Outputs {
    pub(crate) fn new(variants: usize) -> Self {
        Self { rows: 0, variants: vec![TokenDivergences::default(); variants] }
    }

    /// Whether these can be those of so many variants.
    pub(crate) fn fits(&self, variants: usize) -> bool {
        self.variants.len() == variants
    }

    /// Adds the next rows: logits `[rows, vocab]` of every model, and where each row stands.
    pub(crate) fn add(
        &mut self,
        logits: &Branches,
        vocab_size: usize,
        places: &[Option<Place>],
    ) -> Result<(), AuditError> {
        with_values(logits.model(0), |base| {
            let base = Distribution::of_rows(base, vocab_size);
            for (index, found) in self.variants.iter_mut().enumerate() {
                if logits.same(0, index + 1) {
                    found.add_unchanged(&base, places);
                } else {
                    with_values(logits.model(index + 1), |adapted| found.add(&base, adapted, vocab_size, places))?;
                }
            }
            Ok::<(), AuditError>(())
        })??;
        self.rows += places.len();
        Ok(())
    }

    pub(crate) fn summary(&self, variant: usize, vocabulary: &dyn Vocabulary) -> TokenChange {
        self.variants[variant].summary(vocabulary)
    }
}

/// The logit lens at every site, read from the last site backwards.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Lens {
    /// Final top token of each tracked token, by model.
    finals: Vec<Vec<usize>>,
    /// `[variants][sites read][tokens]`, the last site first.
    readings: Vec<Vec<Vec<LensReading>>>,
}

impl Lens {
    /// Whether this can be that of so many variants, over as many sites as were tracked.
    pub(crate) fn fits(&self, variants: usize, sites: usize) -> bool {
        let unread = self.finals.is_empty() && self.readings.is_empty();
        let sized = self.finals.len() == variants + 1 && self.readings.len() == variants;
        unread || (sized && self.readings.iter().all(|read| read.len() <= sites))
    }

    /// The sites to read next, of `sites` in all.
    pub(crate) fn next_block(&self, at_once: usize, sites: usize) -> Option<Range<usize>> {
        let end = sites - self.readings.first().map_or(0, Vec::len);
        (end > 0).then(|| end.saturating_sub(at_once)..end)
    }

    /// Adds a block of sites: lens logits of every model, `[sites · tokens, vocab]`.
    pub(crate) fn add(
        &mut self,
        logits: &Branches,
        vocab_size: usize,
        block: Range<usize>,
        tokens: usize,
    ) -> Result<(), AuditError> {
        if self.finals.is_empty() {
            let last = (block.len() - 1) * tokens * vocab_size;
            let models = 0..logits.of_model().len();
            self.finals = models
                .map(|model| with_values(logits.model(model), |all| top_tokens(&all[last..], vocab_size)))
                .collect::<Result<_, _>>()?;
            self.readings = vec![Vec::new(); self.finals.len() - 1];
        }
        let finals = &self.finals;
        with_values(logits.model(0), |base| {
            let base = Distribution::of_rows(base, vocab_size);
            for (index, readings) in self.readings.iter_mut().enumerate() {
                let tops: Vec<(usize, usize)> =
                    finals[0].iter().copied().zip(finals[index + 1].iter().copied()).collect();
                let repeated = tops.repeat(block.len());
                let read =
                    with_values(logits.model(index + 1), |adapted| read_lens(&base, adapted, vocab_size, &repeated))?;
                readings.extend(read.chunks(tokens).rev().map(<[LensReading]>::to_vec));
            }
            Ok(())
        })?
    }

    /// `[sites][tokens]` of a variant, the first site first; `None` where nothing was read.
    pub(crate) fn readings(&self, variant: usize) -> Option<Vec<Vec<LensReading>>> {
        self.readings.get(variant).map(|readings| readings.iter().rev().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    /// Sites are read from the last backwards, in blocks, and come out first to last: three sites of two tokens over
    /// five words, where the order of neither sites nor tokens can be mistaken.
    #[test]
    fn blocks_of_sites_come_out_in_their_order() {
        const VOCABULARY: usize = 5;
        // The word of a site and token has the largest logit; behind it the words follow in their order.
        let words = [[[0, 1], [2, 3], [4, 0]], [[4, 3], [2, 1], [1, 2]]];
        let row = |word: usize| (0..VOCABULARY).map(move |other| if other == word { 9.0 } else { -(other as f32) });
        let logits = |model: usize, sites: Range<usize>| {
            let rows: Vec<f32> = words[model][sites.clone()].iter().flatten().flat_map(|word| row(*word)).collect();
            Tensor::from_vec(rows, (sites.len() * 2, VOCABULARY), &Device::Cpu).unwrap()
        };
        for at_once in 1..=3 {
            let mut lens = Lens::default();
            let mut blocks = Vec::new();
            while let Some(block) = lens.next_block(at_once, 3) {
                let tensors = vec![logits(0, block.clone()), logits(1, block.clone())];
                lens.add(&Branches::of(tensors, vec![0, 1]).unwrap(), VOCABULARY, block.clone(), 2).unwrap();
                blocks.push(block);
            }
            assert_eq!((blocks[0].end, blocks.len()), (3, 3_usize.div_ceil(at_once)));
            let found = lens.readings(0).unwrap();
            // Ranks of the final words, 4 and 0 of the base, 1 and 2 of the adapted model, counted by hand.
            let expected = [[(4, 2), (1, 3)], [(4, 2), (1, 2)], [(0, 0), (0, 0)]];
            assert_eq!(found.len(), 3);
            for (site, found) in found.iter().enumerate() {
                for (token, found) in found.iter().enumerate() {
                    let (base, adapted) = (words[0][site][token], words[1][site][token]);
                    assert_eq!((found.base.0, found.adapted.0), (base, adapted), "site {site}, token {token}");
                    let ranks = expected[site][token];
                    assert_eq!((found.base.1, found.adapted.1), ranks, "site {site}, token {token}");
                    assert_eq!(found.js == 0.0, base == adapted);
                }
            }
        }
    }
}
