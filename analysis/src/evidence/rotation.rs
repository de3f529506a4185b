//! Is the change at a site a rotation? A Procrustes residual near zero only says that the change is small, so maps are
//! fitted on the texts of one half of the prompts and held against the other.
//!
//! In the leading directions of both models' states, a map M with Δ ≈ XM is fitted. Small rotations are antisymmetric,
//! stretches symmetric, so φ = ‖(M − Mᵀ)/2‖²/‖M‖² tells them apart, and a held-out R² says whether there is a map at
//! all. The best orthogonal map and the best factor say the same in another way.

use faer::{Mat, MatRef};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::chance::FEWEST_PROMPTS;
use super::streams::Row;
use crate::linalg::{NoConvergence, eigen, nearest_orthogonal, product, ridge_solution, small_gram};
use crate::statistics::percentile;

/// Rows that each direction must be fitted on.
const ROWS_PER_DIRECTION: usize = 10;
/// Directions at most, and at least: under eight an antisymmetric map has fewer than 28 numbers to be told by.
const DIRECTIONS: std::ops::RangeInclusive<usize> = 8..=48;
/// Rows longer than this many times the median are sinks, which would own every sum.
const SINK: f64 = 10.0;
/// λ of the ridge, as a share of the mean eigenvalue.
const RIDGE: f64 = 1e-6;
/// Resamples of prompts behind an interval.
const RESAMPLES: usize = 100;

/// What the change at a site is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// An antisymmetric map explains it: a rotation.
    Rotation,
    /// A symmetric map explains it: a stretch, or a scaling.
    Stretch,
    /// A linear map explains it that is neither.
    Linear,
    /// No linear map holds on other texts.
    None,
    /// Too few rows, or none that moved.
    NotResolvable,
}

/// The test at one site. Gains are 1 − ‖Y − f(X)‖²/‖Y − X‖² on the half that nothing was fitted on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RotationTest {
    /// What it comes to.
    pub law: Law,
    /// Directions that it was made in.
    pub directions: usize,
    /// Held-out gain of the map M, its R².
    pub explained: f64,
    /// Share of M that is antisymmetric.
    pub antisymmetric: f64,
    /// Held-out gain of the best orthogonal map.
    pub of_rotation: f64,
    /// Held-out gain of the best factor.
    pub of_scaling: f64,
    /// 95 % interval of `explained` over prompts.
    pub explained_interval: [f64; 2],
    /// 95 % interval of `antisymmetric` over prompts.
    pub antisymmetric_interval: [f64; 2],
}

impl RotationTest {
    const UNRESOLVED: Self = Self {
        law: Law::NotResolvable,
        directions: 0,
        explained: f64::NAN,
        antisymmetric: f64::NAN,
        of_rotation: f64::NAN,
        of_scaling: f64::NAN,
        explained_interval: [f64::NAN; 2],
        antisymmetric_interval: [f64::NAN; 2],
    };

    /// The verdict of the numbers: R² > ½ on held-out texts, and then by φ, each with its interval.
    fn judged(self) -> Self {
        let is_linear = self.explained > 0.5 && self.explained_interval[0] > 0.5;
        let is_turn = self.antisymmetric > 0.9 && self.antisymmetric_interval[0] > 0.9;
        let law = match self.explained {
            _ if is_linear && is_turn && self.of_rotation >= 0.9 * self.explained => Law::Rotation,
            _ if is_linear && self.antisymmetric_interval[1] < 0.1 => Law::Stretch,
            _ if is_linear => Law::Linear,
            _ => Law::None,
        };
        Self { law, ..self }
    }
}

/// Tests the change from `base` to `adapted`, `[rows, width]` each; `rows` says where each row stands.
pub fn test_rotation(base: &[f32], adapted: &[f32], width: usize, rows: &[Row]) -> RotationTest {
    tested(base, adapted, width, rows).ok().flatten().unwrap_or(RotationTest::UNRESOLVED)
}

fn tested(base: &[f32], adapted: &[f32], width: usize, rows: &[Row]) -> Result<Option<RotationTest>, NoConvergence> {
    let kept = kept_rows(base, width, rows);
    let prompts = kept.iter().map(|row| row.0).max().map_or(0, |last| last + 1);
    let fitted: Vec<usize> = kept.iter().filter(|row| is_fitted(row.0)).map(|row| row.1).collect();
    let directions = (fitted.len() / ROWS_PER_DIRECTION).min(*DIRECTIONS.end()).min(width);
    if directions < *DIRECTIONS.start() || prompts < FEWEST_PROMPTS {
        return Ok(None);
    }
    let states = Pair::new(base, adapted, width, &fitted);
    let Some(basis) = states.joint_basis(&fitted, directions)? else { return Ok(None) };
    let mut halves = [vec![], vec![]];
    for prompt in 0..prompts {
        let own: Vec<usize> = kept.iter().filter(|row| row.0 == prompt).map(|row| row.1).collect();
        halves[usize::from(!is_fitted(prompt))].push(Moments::of(&states, &own, &basis));
    }
    let [fit, held] = &halves;
    let all = |part: &[Moments]| Moments::sum(part.iter(), directions);
    let (fit_sums, held_sums) = (all(fit), all(held));
    if held_sums.energy <= 0.0 {
        return Ok(None);
    }
    let map = fit_sums.map()?;
    let rotation = fit_sums.rotation()?;
    let scale = fit_sums.factor();
    let scaling = Mat::from_fn(directions, directions, |row, column| if row == column { scale } else { 0.0 });
    let mut draw = ChaCha8Rng::seed_from_u64(0x726f_7461);
    let (mut gains, mut shares) = (Vec::new(), Vec::new());
    for _ in 0..RESAMPLES {
        gains.push(resampled(held, directions, &mut draw).gain(map.as_ref()));
        shares.push(antisymmetric_share(resampled(fit, directions, &mut draw).map()?.as_ref()));
    }
    let test = RotationTest {
        law: Law::None,
        directions,
        explained: held_sums.gain(map.as_ref()),
        antisymmetric: antisymmetric_share(map.as_ref()),
        of_rotation: held_sums.gain(rotation.as_ref()),
        of_scaling: held_sums.gain(scaling.as_ref()),
        explained_interval: interval(gains),
        antisymmetric_interval: interval(shares),
    };
    Ok(Some(test.judged()))
}

/// Every other prompt is fitted on.
fn is_fitted(prompt: usize) -> bool {
    prompt.is_multiple_of(2)
}

/// Prompt and row of everything but first positions and sinks.
fn kept_rows(base: &[f32], width: usize, rows: &[Row]) -> Vec<(usize, usize)> {
    let norm = |row: usize| {
        let state = &base[row * width..(row + 1) * width];
        state.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
    };
    let later: Vec<(usize, usize, f64)> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.position > 0)
        .map(|(at, row)| (row.part_index, at, norm(at)))
        .collect();
    let mut norms: Vec<f64> = later.iter().map(|row| row.2).collect();
    norms.sort_by(f64::total_cmp);
    let most = SINK * percentile(&norms, 0.5);
    later.into_iter().filter(|row| row.2 <= most).map(|(prompt, at, _)| (prompt, at)).collect()
}

/// States X and shifts Δ, centred on the rows that are fitted.
struct Pair<'a> {
    base: &'a [f32],
    adapted: &'a [f32],
    width: usize,
    mean: Vec<f64>,
    mean_shift: Vec<f64>,
}

impl<'a> Pair<'a> {
    fn new(base: &'a [f32], adapted: &'a [f32], width: usize, fitted: &[usize]) -> Self {
        let mut pair = Self { base, adapted, width, mean: vec![0.0; width], mean_shift: vec![0.0; width] };
        let (mut mean, mut mean_shift) = (vec![0.0; width], vec![0.0; width]);
        for row in fitted {
            for (at, (x, shift)) in pair.row(*row).enumerate() {
                mean[at] += x / fitted.len() as f64;
                mean_shift[at] += shift / fitted.len() as f64;
            }
        }
        (pair.mean, pair.mean_shift) = (mean, mean_shift);
        pair
    }

    /// State and shift of a row, less their means.
    fn row(&self, row: usize) -> impl Iterator<Item = (f64, f64)> + '_ {
        let of = row * self.width..(row + 1) * self.width;
        let states = self.base[of.clone()].iter().zip(&self.adapted[of]);
        let means = self.mean.iter().zip(&self.mean_shift);
        // The difference of two close f32 is exact or nearly so.
        states.zip(means).map(|((x, y), (mean, shift))| (f64::from(*x) - mean, f64::from(y - x) - shift))
    }

    /// Rows as a matrix `[rows, width]`, of states or of shifts.
    fn matrix(&self, rows: &[usize], shifts: bool) -> Mat<f64> {
        let mut out = Mat::zeros(rows.len(), self.width);
        for (at, row) in rows.iter().enumerate() {
            for (column, (x, shift)) in self.row(*row).enumerate() {
                out[(at, column)] = if shifts { shift } else { x };
            }
        }
        out
    }

    /// The leading directions of X and Y below one another, `[width, count]`; `None` where nothing moved.
    fn joint_basis(&self, fitted: &[usize], count: usize) -> Result<Option<Mat<f64>>, NoConvergence> {
        let (x, shift) = (self.matrix(fitted, false), self.matrix(fitted, true));
        if shift.squared_norm_l2() <= 0.0 {
            return Ok(None);
        }
        let both = Mat::from_fn(2 * fitted.len(), self.width, |row, column| match row.checked_sub(fitted.len()) {
            None => x[(row, column)],
            Some(row) => x[(row, column)] + shift[(row, column)],
        });
        let gram = small_gram(both.as_ref());
        let (values, vectors) = eigen(gram.as_ref())?;
        if both.nrows() > self.width {
            return Ok(Some(vectors.subcols(0, count).to_owned()));
        }
        let scaled = Mat::from_fn(vectors.nrows(), count, |row, column| {
            let length = values[column].sqrt();
            if length > 0.0 { vectors[(row, column)] / length } else { 0.0 }
        });
        Ok(Some(product(both.transpose(), scaled.as_ref())))
    }
}

/// Second moments of some rows in the basis.
#[derive(Clone)]
struct Moments {
    /// XᵀX.
    states: Mat<f64>,
    /// XᵀΔ.
    cross: Mat<f64>,
    /// ‖Δ‖².
    energy: f64,
}

impl Moments {
    fn of(pair: &Pair, rows: &[usize], basis: &Mat<f64>) -> Self {
        let x = product(pair.matrix(rows, false).as_ref(), basis.as_ref());
        let shift = product(pair.matrix(rows, true).as_ref(), basis.as_ref());
        Self {
            states: product(x.transpose(), x.as_ref()),
            cross: product(x.transpose(), shift.as_ref()),
            energy: shift.squared_norm_l2(),
        }
    }

    fn sum<'m>(parts: impl Iterator<Item = &'m Self>, size: usize) -> Self {
        let zero = Self { states: Mat::zeros(size, size), cross: Mat::zeros(size, size), energy: 0.0 };
        parts.fold(zero, |mut sum, part| {
            sum.states += &part.states;
            sum.cross += &part.cross;
            sum.energy += part.energy;
            sum
        })
    }

    /// M with Δ ≈ XM.
    fn map(&self) -> Result<Mat<f64>, NoConvergence> {
        ridge_solution(self.states.as_ref(), self.cross.as_ref(), RIDGE)
    }

    /// R − 1 of the orthogonal R that is best for Y ≈ XR.
    fn rotation(&self) -> Result<Mat<f64>, NoConvergence> {
        let mut turned = nearest_orthogonal((&self.states + &self.cross).as_ref())?;
        (0..turned.nrows()).for_each(|at| turned[(at, at)] -= 1.0);
        Ok(turned)
    }

    /// c − 1 of the best factor c.
    fn factor(&self) -> f64 {
        let trace = |matrix: &Mat<f64>| (0..matrix.nrows()).map(|at| matrix[(at, at)]).sum::<f64>();
        trace(&self.cross) / trace(&self.states).max(f64::MIN_POSITIVE)
    }

    /// 1 − ‖Δ − XF‖²/‖Δ‖².
    fn gain(&self, map: MatRef<f64>) -> f64 {
        let inner = |left: MatRef<f64>, right: MatRef<f64>| -> f64 {
            (0..left.ncols()).map(|column| left.col(column).transpose() * right.col(column)).sum()
        };
        let moved = product(self.states.as_ref(), map);
        (2.0 * inner(map, self.cross.as_ref()) - inner(map, moved.as_ref())) / self.energy
    }
}

/// Moments of as many prompts, drawn again.
fn resampled(parts: &[Moments], size: usize, draw: &mut ChaCha8Rng) -> Moments {
    let picks: Vec<&Moments> = (0..parts.len()).map(|_| &parts[draw.random_range(0..parts.len())]).collect();
    Moments::sum(picks.into_iter(), size)
}

/// ‖(M − Mᵀ)/2‖²/‖M‖².
fn antisymmetric_share(map: MatRef<f64>) -> f64 {
    let size = map.nrows();
    let (mut turned, mut all) = (0.0, 0.0);
    for row in 0..size {
        for column in 0..size {
            turned += ((map[(row, column)] - map[(column, row)]) / 2.0).powi(2);
            all += map[(row, column)].powi(2);
        }
    }
    turned / all
}

fn interval(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [percentile(&values, 0.025), percentile(&values, 0.975)]
}

#[cfg(test)]
mod tests {
    use super::super::probe_set::PromptId;
    use super::*;

    const WIDTH: usize = 12;
    const PROMPTS: usize = 20;
    const TOKENS: usize = 40;

    fn gaussian(draw: &mut ChaCha8Rng) -> f64 {
        // The sum of twelve uniform numbers: near enough to normal here.
        (0..12).map(|_| draw.random::<f64>()).sum::<f64>() - 6.0
    }

    /// Test of Y = X + Δ(X) on isotropic states of twenty prompts; `change` gets the state and a generator.
    fn outcome(change: impl Fn(&[f64], &mut ChaCha8Rng) -> Vec<f64>) -> RotationTest {
        let mut draw = ChaCha8Rng::seed_from_u64(7);
        let (mut base, mut adapted, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for prompt in 0..PROMPTS {
            for position in 0..TOKENS {
                let state: Vec<f64> = (0..WIDTH).map(|_| gaussian(&mut draw)).collect();
                let shift = change(&state, &mut draw);
                base.extend(state.iter().map(|value| *value as f32));
                adapted.extend(state.iter().zip(&shift).map(|(value, shift)| (value + shift) as f32));
                rows.push(Row {
                    id: PromptId { set: 0, prompt },
                    part_index: prompt,
                    position,
                    ends_prompt: false,
                    answer: None,
                });
            }
        }
        test_rotation(&base, &adapted, WIDTH, &rows)
    }

    /// Each change has the same size, so that the cosine between states is the same to a few per cent.
    const SIZE: f64 = 0.02;

    #[test]
    fn a_rotation_is_one() {
        let found = outcome(|x, _| {
            // Pairs of axes turn by an angle each: Δ = x(R − 1).
            let (sine, cosine) = (SIZE.sin(), SIZE.cos());
            x.chunks(2)
                .flat_map(|p| [p[0] * (cosine - 1.0) - p[1] * sine, p[0] * sine + p[1] * (cosine - 1.0)])
                .collect()
        });
        assert_eq!(found.law, Law::Rotation, "{found:?}");
        assert!(found.antisymmetric > 0.99 && found.of_rotation > 0.99 && found.of_scaling < 0.1, "{found:?}");
    }

    #[test]
    fn a_scaling_is_none() {
        let found = outcome(|x, _| x.iter().map(|value| SIZE * value).collect());
        assert_eq!(found.law, Law::Stretch, "{found:?}");
        assert!(found.of_scaling > 0.99 && found.antisymmetric < 0.01, "{found:?}");
    }

    #[test]
    fn a_symmetric_map_is_none() {
        let found = outcome(|x, _| x.chunks(2).flat_map(|p| [SIZE * p[1], SIZE * p[0]]).collect());
        assert_eq!(found.law, Law::Stretch, "{found:?}");
    }

    #[test]
    fn noise_has_no_law() {
        let found = outcome(|x, draw| x.iter().map(|_| SIZE * gaussian(draw)).collect());
        assert_eq!(found.law, Law::None, "{found:?}");
    }

    #[test]
    fn few_rows_resolve_nothing() {
        let rows: Vec<Row> = (0..20)
            .map(|at| Row {
                id: PromptId { set: 0, prompt: at / 2 },
                part_index: at / 2,
                position: at % 2,
                ends_prompt: false,
                answer: None,
            })
            .collect();
        let values = vec![1.0; 20 * WIDTH];
        assert_eq!(test_rotation(&values, &values, WIDTH, &rows).law, Law::NotResolvable);
    }
}
