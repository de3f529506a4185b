//! The way of single tokens through the residual stream, and what the logit lens (nostalgebraist 2020) reads there.

use faer::Mat;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::audit::{PairOf, Path, Track, Trajectories};
use crate::linalg::{NoConvergence, eigen, product, small_gram};
use crate::tokens::{Distribution, Place, Vocabulary, argmax, divergence};

/// What the lens reads at one site for one token.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct LensReading {
    /// Jensen–Shannon divergence (nats) between both models.
    pub js: f64,
    /// Base: top token, and rank of its final top token.
    pub base: (usize, usize),
    /// Adapted: top token, and rank of its final top token.
    pub adapted: (usize, usize),
}

/// Tokens to follow: last positions of up to `count` prompts, or evenly spaced ones where there are fewer prompts.
pub fn tracked_places(lengths: &[usize], count: usize) -> Vec<Place> {
    if lengths.len() >= count {
        return (0..count)
            .map(|index| index * lengths.len() / count)
            .filter(|prompt| lengths[*prompt] > 1)
            .map(|prompt| Place { prompt, position: lengths[prompt] - 1 })
            .collect();
    }
    let each = count / lengths.len().max(1);
    let mut places = Vec::new();
    for (prompt, length) in lengths.iter().enumerate().filter(|(_, length)| **length > 1) {
        let steps = each.min(length - 1);
        places.extend((1..=steps).map(|step| Place { prompt, position: step * (length - 1) / steps }));
    }
    places
}

/// Readings of a block of rows: the base's lens distributions, the adapted model's lens logits, `[rows, vocab]`, and each row's
/// final top tokens.
pub fn read_lens(
    base: &[Distribution],
    adapted: &[f32],
    vocab_size: usize,
    finals: &[(usize, usize)],
) -> Vec<LensReading> {
    base.par_iter()
        .zip(adapted.par_chunks_exact(vocab_size))
        .zip(finals)
        .map(|((base, adapted), (base_final, adapted_final))| {
            let adapted = Distribution::new(adapted);
            LensReading {
                js: divergence(base, &adapted).js,
                base: (base.top, base.rank(*base_final)),
                adapted: (adapted.top, adapted.rank(*adapted_final)),
            }
        })
        .collect()
}

/// Top tokens of rows of logits.
pub fn top_tokens(logits: &[f32], vocab_size: usize) -> Vec<usize> {
    logits.par_chunks_exact(vocab_size).map(argmax).collect()
}

/// Everything known of the tracked tokens: `states[site][token]` of each model, `readings[site][token]`.
#[derive(Debug)]
pub struct TrackedTokens<'a> {
    /// Where they are.
    pub places: &'a [Place],
    /// Their ids.
    pub tokens: &'a [u32],
    /// The base's stream, `[sites][tokens][width]`.
    pub base: &'a [Vec<Vec<f32>>],
    /// The adapted model's stream.
    pub adapted: &'a [Vec<Vec<f32>>],
    /// What the lens read, `[sites][tokens]`.
    pub readings: &'a [Vec<LensReading>],
}

impl TrackedTokens<'_> {
    /// The report's section.
    pub fn summary(&self, vocabulary: &dyn Vocabulary) -> Result<Trajectories, NoConvergence> {
        let planes = self.planes()?;
        let count = self.places.len();
        let tracked: Vec<Track> = (0..count)
            .map(|token| {
                let read = |model: fn(&LensReading) -> (usize, usize)| {
                    self.readings.iter().map(|site| model(&site[token])).collect::<Vec<_>>()
                };
                Track {
                    prompt: self.places[token].prompt,
                    position: self.places[token].position,
                    text: vocabulary.token(self.tokens[token]),
                    js: self.readings.iter().map(|site| site[token].js).collect(),
                    base: path(self.base, token, &read(|reading| reading.base), &planes[token], vocabulary),
                    adapted: path(
                        self.adapted,
                        token,
                        &read(|reading| reading.adapted),
                        &planes[count + token],
                        vocabulary,
                    ),
                }
            })
            .collect();
        let over = |value: &dyn Fn(&LensReading) -> f64| {
            self.readings.iter().map(|site| site.iter().map(value).sum::<f64>() / count.max(1) as f64).collect()
        };
        let average = |value: &dyn Fn(&Track) -> f64| tracked.iter().map(value).sum::<f64>() / count.max(1) as f64;
        Ok(Trajectories {
            js: over(&|reading| reading.js),
            top1_agreement: over(&|reading| f64::from(reading.base.0 == reading.adapted.0)),
            commit_layer: PairOf {
                base: average(&|track| track.base.commit_layer as f64),
                adapted: average(&|track| track.adapted.commit_layer as f64),
            },
            straightness: PairOf {
                base: average(&|track| track.base.straightness.unwrap_or(0.0)),
                adapted: average(&|track| track.adapted.straightness.unwrap_or(0.0)),
            },
            tracked,
        })
    }

    /// Unit-norm states on the two leading principal axes of all of them: `[models · tokens][sites]`.
    fn planes(&self) -> Result<Vec<Vec<[f64; 2]>>, NoConvergence> {
        let (sites, count) = (self.base.len(), self.places.len());
        let width = self.base.first().and_then(|site| site.first()).map_or(0, Vec::len);
        if count == 0 || width == 0 {
            return Ok(Vec::new());
        }
        let state = |row: usize| {
            let (model, token, site) = (row / (count * sites), row / sites % count, row % sites);
            if model == 0 { &self.base[site][token] } else { &self.adapted[site][token] }
        };
        let rows = 2 * count * sites;
        let mut states = Mat::zeros(rows, width);
        for row in 0..rows {
            let values = state(row);
            let norm = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            for (column, value) in values.iter().enumerate() {
                states[(row, column)] = if norm > 0.0 { f64::from(*value) / norm } else { 0.0 };
            }
        }
        for column in 0..width {
            let mean = (0..rows).map(|row| states[(row, column)]).sum::<f64>() / rows as f64;
            (0..rows).for_each(|row| states[(row, column)] -= mean);
        }
        let gram = small_gram(states.as_ref());
        let (squares, vectors) = eigen(gram.as_ref())?;
        let axes = if rows <= width { vectors } else { product(states.as_ref(), vectors.as_ref()) };
        let coordinate = |row: usize, axis: usize| {
            let length = if rows <= width { squares[axis].sqrt() } else { 1.0 };
            if axis < axes.ncols() { axes[(row, axis)] * length } else { 0.0 }
        };
        Ok((0..2 * count)
            .map(|path| (0..sites).map(|site| [0, 1].map(|axis| coordinate(path * sites + site, axis))).collect())
            .collect())
    }
}

fn path(
    states: &[Vec<Vec<f32>>],
    token: usize,
    readings: &[(usize, usize)],
    plane: &[[f64; 2]],
    vocabulary: &dyn Vocabulary,
) -> Path {
    let distance = |left: &[f32], right: &[f32]| {
        left.iter().zip(right).map(|(a, b)| (f64::from(*b) - f64::from(*a)).powi(2)).sum::<f64>().sqrt()
    };
    let length: f64 = states.windows(2).map(|pair| distance(&pair[0][token], &pair[1][token])).sum();
    let net = match (states.first(), states.last()) {
        (Some(first), Some(last)) => distance(&first[token], &last[token]),
        _ => 0.0,
    };
    let last = readings.last().map(|reading| reading.0);
    let committed = readings.iter().rev().take_while(|reading| Some(reading.0) == last).count();
    Path {
        commit_layer: readings.len() - committed,
        top: readings.iter().map(|reading| vocabulary.token(reading.0 as u32)).collect(),
        rank_of_final: readings.iter().map(|reading| reading.1).collect(),
        length,
        net,
        straightness: (length > 0.0).then(|| net / length),
        plane: plane.to_vec(),
    }
}
