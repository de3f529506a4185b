//! The way of single tokens through the residual stream, and what the logit lens (nostalgebraist 2020) reads there.

use faer::Mat;
use lcr_documents::audit::{PairOf, Path, Track, Trajectories};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::descriptor::{Entry, Metric, Number, Reads, Runs, Unit};
use super::tokens::{Distribution, Place, Vocabulary, argmax, divergence};
use crate::linalg::{NoConvergence, eigen, product, small_gram};

/// `trajectories`.
pub static METRIC: Metric = Metric {
    name: "trajectories",
    runs: Runs::ByDefault,
    reads: Reads::Lens,
    entries: &[Entry {
        heading: "`js`, `top1_agreement`, `commit_layer`, `straightness`, `tracked`",
        definition: "
Straightness is a definition of our own. Each model's lens uses its own final norm and unembedding: an adapter that
changes those shows at every site, `resid.0` included.",
        chance: "
Chance for straightness is about 1/√L, that of a random walk of equal steps in many dimensions.",
        trap: "
Traps: the lens was never trained to read early layers and in many models it reads nonsense there, alike in both models.
`commit_layer` is decided by ties and near-ties; one token's value is noise.
The plane is a projection: two paths that meet there need not meet.",
        numbers: &[
            Number::new(
                "js",
                "Mean over tracked tokens of the Jensen–Shannon divergence (nats) between both lenses, by site \
                 `resid.0` … `resid.L`.",
                Unit::Nats,
                "0 to ln 2",
            )
            .more_change(0.0),
            Number::new(
                "top1_agreement",
                "Share of tracked tokens whose lens says the same top token in both, by site.",
                Unit::Share,
                "0 to 1",
            )
            .less_change(1.0),
            Number::new(
                "commit_layer.*",
                "Mean commit layer: the first site from which the lens's top token never changes again.",
                Unit::Count,
                "0 to L",
            ),
            Number::new("straightness.*", "Mean of net/length.", Unit::Ratio, "0 to 1").chance("about 1/√L"),
            Number::new(
                "tracked.*.rank_of_final",
                "Rank (0 = first) of the model's final top token, by site.",
                Unit::Count,
                "0 to vocabulary − 1",
            ),
            Number::new("tracked.*.length", "Σ‖h_{l+1} − h_l‖.", Unit::Length, "0 to ∞"),
            Number::new("tracked.*.net", "‖h_L − h_0‖.", Unit::Length, "0 to ∞"),
            Number::new(
                "tracked.*.straightness",
                "net/length; `null` for a stream that stands still.",
                Unit::Ratio,
                "0 to 1",
            ),
            Number::new(
                "tracked.*.plane",
                "The stream on the two leading principal axes of all tracked tokens of both models, each state scaled \
                 to unit norm.",
                Unit::Length,
                "−2 to 2",
            ),
        ],
        glossary: &[
            ("commit layer", "First layer from which the lens's top token never changes again."),
            ("straightness", "Net way through the stream over the length of the way: 1 is a straight line."),
        ],
        ..Entry::EMPTY
    }],
    references: &["nostalgebraist 2020. Interpreting GPT: the logit lens. LessWrong."],
};

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

/// Readings of a block of rows: the base's lens distributions, the adapted model's lens logits, `[rows, vocab]`, and
/// each row's final top tokens.
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Ids;

    impl Vocabulary for Ids {
        fn token(&self, id: u32) -> String {
            id.to_string()
        }

        fn context(&self, place: Place) -> String {
            format!("{place:?}")
        }
    }

    /// Quarters around zero, each exact in f32.
    fn quarters(count: usize, factor: i32, offset: i32) -> Vec<f32> {
        (0..count as i32).map(|at| ((at * factor + offset) % 23 - 11) as f32 / 4.0).collect()
    }

    /// Six rows of five logits; divergences by `scipy.special.softmax` and `scipy.spatial.distance.jensenshannon`
    /// squared, ranks counted by numpy.
    #[test]
    fn the_lens_reads_what_scipy_reads() {
        let (base, adapted) = (quarters(30, 37, 4), quarters(30, 29, 13));
        let found = read_lens(&Distribution::of_rows(&base, 5), &adapted, 5, &[(1, 4), (4, 3)].repeat(3));
        let expected = [
            (0.047_525_968_24, (1, 0), (1, 1)),
            (0.365_857_433_4, (1, 1), (4, 2)),
            (0.494_274_852_2, (1, 0), (3, 3)),
            (0.047_525_968_24, (1, 1), (1, 3)),
            (0.365_857_433_4, (1, 0), (4, 0)),
            (0.464_251_080_3, (4, 0), (3, 0)),
        ];
        assert_eq!(found.len(), expected.len());
        for (found, (js, base, adapted)) in found.iter().zip(expected) {
            assert!((found.js / js - 1.0).abs() < 1e-6, "{} {js}", found.js);
            assert_eq!((found.base, found.adapted), (base, adapted));
        }
        assert_eq!([top_tokens(&base[20..], 5), top_tokens(&adapted[20..], 5)], [[1, 4], [4, 3]]);
    }

    /// Readings whose top tokens are given, by site and token; the rest follows from the place.
    fn readings(base: &[[usize; 2]], adapted: &[[usize; 2]]) -> Vec<Vec<LensReading>> {
        let reading = |site: usize, token: usize| LensReading {
            js: (site + 4 * token) as f64 / 8.0,
            base: (base[site][token], 10 * site + token),
            adapted: (adapted[site][token], 100 * site + token),
        };
        (0..base.len()).map(|site| vec![reading(site, 0), reading(site, 1)]).collect()
    }

    fn places() -> [Place; 2] {
        [Place { prompt: 0, position: 6 }, Place { prompt: 3, position: 2 }]
    }

    /// Paths of right angles, whose lengths are whole numbers: 3 and then 4 across is 7 long for 5 of way; out and back
    /// is no way.
    #[test]
    fn paths_commit_and_bend_as_counted_by_hand() {
        let states = |paths: [[[f32; 2]; 4]; 2]| -> Vec<Vec<Vec<f32>>> {
            (0..4).map(|site| paths.iter().map(|path| path[site].to_vec()).collect()).collect()
        };
        let base = states([
            [[1.0, 1.0], [4.0, 1.0], [4.0, 5.0], [4.0, 5.0]],
            [[0.0, 1.0], [0.0, 2.0], [0.0, 4.0], [0.0, 8.0]],
        ]);
        let adapted = states([
            [[1.0, 1.0], [4.0, 5.0], [4.0, 5.0], [1.0, 1.0]],
            [[0.0, 1.0], [5.0, 1.0], [5.0, 13.0], [5.0, 13.0]],
        ]);
        // The first returns to a token that it had before: only the last stretch counts.
        let readings = readings(&[[7, 9], [8, 9], [7, 9], [7, 9]], &[[5, 1], [6, 9], [7, 2], [8, 2]]);
        let tracked =
            TrackedTokens { places: &places(), tokens: &[40, 41], base: &base, adapted: &adapted, readings: &readings };
        let found = tracked.summary(&Ids).unwrap();
        assert_eq!(found.js, [0.25, 0.375, 0.5, 0.625]);
        assert_eq!(found.top1_agreement, [0.0, 0.5, 0.5, 0.0]);
        assert_eq!((found.commit_layer.base, found.commit_layer.adapted), (1.0, 2.5));
        let share = |left: f64, right: f64| f64::midpoint(left, right);
        assert!((found.straightness.base - share(5.0 / 7.0, 1.0)).abs() < 1e-12, "{:?}", found.straightness);
        assert!((found.straightness.adapted - share(0.0, 13.0 / 17.0)).abs() < 1e-12, "{:?}", found.straightness);
        let [first, second] = found.tracked.as_slice() else { panic!("{:?}", found.tracked) };
        assert_eq!((first.prompt, first.position, first.text.as_str()), (0, 6, "40"));
        assert_eq!((second.prompt, second.position, second.text.as_str()), (3, 2, "41"));
        assert_eq!((first.base.commit_layer, second.base.commit_layer), (2, 0));
        assert_eq!((first.adapted.commit_layer, second.adapted.commit_layer), (3, 2));
        assert_eq!((first.base.length, first.base.net), (7.0, 5.0));
        assert_eq!((first.adapted.length, first.adapted.net, first.adapted.straightness), (10.0, 0.0, Some(0.0)));
        assert_eq!((second.adapted.length, second.adapted.net), (17.0, 13.0));
        assert_eq!(second.js, [0.5, 0.625, 0.75, 0.875]);
        assert_eq!(first.base.top, ["7", "8", "7", "7"]);
        assert_eq!(second.adapted.rank_of_final, [1, 101, 201, 301]);
        assert_eq!(second.base.rank_of_final, [1, 11, 21, 31]);
    }

    #[test]
    fn a_stream_that_stands_still_is_neither_straight_nor_bent() {
        let still = vec![vec![vec![1.0, 2.0]; 2]; 4];
        let readings = readings(&[[7, 9]; 4], &[[7, 9]; 4]);
        let tracked =
            TrackedTokens { places: &places(), tokens: &[0, 1], base: &still, adapted: &still, readings: &readings };
        let found = tracked.summary(&Ids).unwrap();
        let paths = found.tracked.iter().flat_map(|track| [&track.base, &track.adapted]);
        assert!(paths.map(|path| path.straightness).all(|straightness| straightness.is_none()));
        assert_eq!((found.commit_layer.base, found.top1_agreement.as_slice()), (0.0, [1.0; 4].as_slice()));
    }

    /// Scores of a principal component analysis by `numpy.linalg.svd` of the centred unit rows: three sites of one
    /// token in both models, in more dimensions than there are rows and in fewer. An axis has no sign of its own.
    #[test]
    fn the_plane_is_that_of_numpy() {
        let wide = [
            [0.635_345_636_8, 0.636_072_770_7],
            [0.752_299_449_3, 0.144_630_367_1],
            [-0.565_514_045_5, -0.284_610_771_1],
            [-0.625_864_720_9, 0.187_320_003_9],
            [-0.679_339_154_6, 0.194_860_223_7],
            [0.483_072_834_9, -0.878_272_594_3],
        ];
        let narrow = [
            [0.147_076_579_2, 0.464_573_248_9],
            [0.075_865_743_5, 0.568_284_338_0],
            [-1.054_238_941_5, -0.478_821_035_4],
            [-0.800_615_002_5, 0.106_309_929_2],
            [0.800_624_911_9, -0.581_102_193_6],
            [0.831_286_709_5, -0.079_244_287_2],
        ];
        for (width, expected) in [(8, wide), (3, narrow)] {
            let states = |factor, offset| -> Vec<Vec<Vec<f32>>> {
                quarters(3 * width, factor, offset).chunks(width).map(|row| vec![row.to_vec()]).collect()
            };
            let (base, adapted) = (states(37, 4), states(29, 13));
            let tracked =
                TrackedTokens { places: &places()[..1], tokens: &[0], base: &base, adapted: &adapted, readings: &[] };
            let found = tracked.planes().unwrap().concat();
            for axis in [0, 1] {
                let sign = found[0][axis].signum();
                for (found, expected) in found.iter().zip(expected) {
                    assert!((sign * found[axis] - expected[axis]).abs() < 1e-8, "{width}: {found:?} {expected:?}");
                }
            }
        }
    }

    #[test]
    fn tracked_tokens_are_last_ones_or_evenly_spaced() {
        let place = |(prompt, position)| Place { prompt, position };
        // Enough prompts: every second one's last token, less those of one token, which nothing precedes.
        assert_eq!(tracked_places(&[4, 9, 1, 9, 6, 9], 3), [(0, 3), (4, 5)].map(place));
        // Two prompts for six tokens: three in each, as many as a shorter one has.
        assert_eq!(tracked_places(&[13, 3], 6), [(0, 4), (0, 8), (0, 12), (1, 1), (1, 2)].map(place));
        assert!(tracked_places(&[], 6).is_empty());
    }
}
