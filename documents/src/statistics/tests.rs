//! Against scipy 1.17 and statsmodels 0.15, a numeric maximisation of Tango's likelihood, closed forms and symmetries.

use proptest::prelude::*;

use super::*;

fn at(level: f64) -> Confidence {
    Confidence::new(level).expect("a level within (0, 1)")
}

fn near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance * expected.abs().max(1e-300), "{found:e} instead of {expected:e}");
}

fn discordant(first_only: u64, second_only: u64) -> PairedOutcomes {
    PairedOutcomes { both: 10, first_only, second_only, neither: 7 }
}

#[test]
fn the_middle_is_that_of_numpy() {
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[4.0, 1.0, 9.0, 2.0]), Some(3.0));
}

#[test]
fn quantiles_are_those_of_scipy() {
    for (level, expected) in [
        (0.5, 0.674_489_750_196_081_7),
        (0.8, 1.281_551_565_544_600_4),
        (0.9, 1.644_853_626_951_472_2),
        (0.95, 1.959_963_984_540_054),
        (0.99, 2.575_829_303_548_900_4),
        (0.999, 3.290_526_731_491_925_5),
    ] {
        near(at(level).quantile(), expected, 1e-13);
    }
    assert_eq!(Confidence::default(), at(0.95));
    for level in [0.0, 1.0, -0.5, 95.0, f64::NAN] {
        assert!(matches!(Confidence::new(level), Err(StatisticsError::Confidence { .. })), "{level}");
    }
}

#[test]
fn wilson_is_that_of_statsmodels() {
    // proportion_confint(k, n, alpha, method="wilson")
    for (successes, trials, level, low, high) in [
        (0, 10, 0.95, 0.0, 0.277_532_799_862_889_2),
        (10, 10, 0.95, 0.722_467_200_137_110_7, 1.0),
        (3, 10, 0.95, 0.107_791_267_406_300_99, 0.603_221_852_538_854_6),
        (1, 2, 0.95, 0.094_531_205_734_230_74, 0.905_468_794_265_769_3),
        (412, 1000, 0.95, 0.381_887_311_279_957_8, 0.442_786_198_213_499_85),
        (412, 1000, 0.99, 0.372_616_468_228_208_5, 0.452_543_576_794_791_07),
        (7, 1319, 0.9, 0.002_880_015_934_479_921, 0.009_759_367_729_174_677),
        (123_456, 654_321, 0.95, 0.187_731_859_408_540_37, 0.189_627_864_407_416_7),
    ] {
        let interval = wilson(successes, trials, at(level)).expect("trials");
        near(interval.low, low, 1e-12);
        near(interval.high, high, 1e-12);
    }
    assert_eq!(wilson(0, 0, Confidence::default()), None);
    assert_eq!(wilson(3, 2, Confidence::default()), None);
}

#[test]
fn the_sign_test_is_that_of_scipy() {
    // binomtest(min(b, c), b + c).pvalue
    for (first_only, second_only, expected) in [
        (1, 0, 1.0),
        (6, 1, 0.125),
        (5, 5, 1.0),
        (12, 3, 0.035_156_25),
        (10, 25, 0.016_673_847_800_120_715),
        (40, 90, 1.371_506_844_517_543_2e-5),
        (250, 330, 0.001_020_086_625_398_855_4),
        (5_000, 5_200, 0.048_787_963_126_822_34),
        (30_000, 31_000, 5.234_151_802_505_289e-5),
        (0, 60, 1.734_723_475_976_807e-18),
    ] {
        near(discordant(first_only, second_only).p_value(), expected, 1e-11);
    }
}

#[test]
fn models_that_never_disagree_do_not_differ() {
    let same = discordant(0, 0);
    assert_eq!(same.p_value(), 1.0);
    assert_eq!(same.difference(), Some(0.0));
    assert_eq!(PairedOutcomes::default().p_value(), 1.0);
    assert_eq!(PairedOutcomes::default().difference(), None);
    assert_eq!(PairedOutcomes::default().difference_interval(Confidence::default()), None);
}

#[test]
fn a_probability_too_small_for_a_number_keeps_its_logarithm() {
    // 2·P(X ≤ 0) = 2^(1 − n), far below the smallest f64.
    let outcomes = discordant(0, 2_000);
    assert_eq!(outcomes.p_value(), 0.0);
    near(outcomes.ln_p_value(), -1999.0 * std::f64::consts::LN_2, 1e-14);
    // 2·P(X ≤ 1) = 2^(1 − n)·(1 + n).
    near(discordant(2_000, 1).ln_p_value(), -2000.0 * std::f64::consts::LN_2 + 2002.0_f64.ln(), 1e-14);
}

/// Expected values: the constrained likelihood maximised numerically (scipy's `brentq` on its derivative), the score
/// equation solved by `brentq` again. 1 against 7 of 21 is the example of Bentur et al. in Fagerland, Lydersen and
/// Laake (2014), printed there as −0.517 to −0.026.
#[test]
fn the_difference_has_tangos_interval() {
    for (second_only, first_only, total, level, low, high) in [
        (40, 20, 160, 0.95, 0.030_864_533_133_087, 0.218_064_244_166_821),
        (1, 7, 21, 0.95, -0.517_232_276_421_377, -0.026_003_032_480_869),
        (10, 25, 100, 0.95, -0.263_266_634_432_511, -0.035_567_606_451_763),
        (250, 330, 1319, 0.95, -0.096_239_070_406_252, -0.024_937_502_316_150),
        (12, 3, 50, 0.99, -0.022_738_652_507_406, 0.378_788_315_552_333),
        (5, 5, 40, 0.9, -0.137_290_228_176_732, 0.137_290_228_176_732),
        (9, 2, 11, 0.95, 0.046_038_876_078_312, 0.897_264_620_507_823),
        (0, 6, 30, 0.95, -0.373_056_964_131_483, -0.063_783_928_191_238),
    ] {
        let outcomes = PairedOutcomes { both: total - second_only - first_only, first_only, second_only, neither: 0 };
        let interval = outcomes.difference_interval(at(level)).expect("problems");
        near(interval.low, low, 1e-9);
        near(interval.high, high, 1e-9);
    }
}

#[test]
fn without_disagreement_the_interval_has_a_closed_form() {
    // q̂ = 0 leaves (nδ)² = z²·nδ(1 − δ), so δ = z²/(n + z²).
    let confidence = Confidence::default();
    let square = confidence.quantile().powi(2);
    let interval = discordant(0, 0).difference_interval(confidence).expect("problems");
    near(interval.high, square / (17.0 + square), 1e-12);
    near(interval.low, -square / (17.0 + square), 1e-12);
}

#[test]
fn winning_everything_ends_at_one() {
    let outcomes = PairedOutcomes { second_only: 12, ..PairedOutcomes::default() };
    let interval = outcomes.difference_interval(Confidence::default()).expect("problems");
    assert_eq!(interval.high, 1.0);
    assert!(interval.low > 0.4 && interval.low < 1.0, "{interval:?}");
}

#[test]
fn outcomes_are_counted_pair_by_pair() {
    let (first, second) = ([true, true, false, false, false], [true, false, true, true, false]);
    let outcomes = PairedOutcomes::count(&first, &second).expect("equal lengths");
    assert_eq!(outcomes, PairedOutcomes { both: 1, first_only: 1, second_only: 2, neither: 1 });
    near(outcomes.difference().expect("problems"), 0.2, 1e-15);
    let error = PairedOutcomes::count(&first, &second[..4]).expect_err("different lengths");
    assert_eq!(error, StatisticsError::Unpaired { first: 5, second: 4 });
}

#[test]
fn seeds_spread_as_numpy_says() {
    // mean, std(ddof=1) and scipy.stats.sem
    let found = spread(&[0.31, 0.355, 0.29, 0.41, 0.333]).expect("values");
    near(found.mean, 0.3396, 1e-14);
    near(found.standard_deviation.expect("several"), 0.046_295_788_145_359_396, 1e-13);
    near(found.standard_error.expect("several"), 0.020_704_105_872_990_503, 1e-13);
    let one = spread(&[0.5]).expect("a value");
    assert_eq!((one.mean, one.standard_deviation, one.standard_error), (0.5, None, None));
    assert_eq!(spread(&[]), None);
    assert_eq!(spread(&[0.1, f64::NAN]), None);
}

proptest! {
    /// Successes and failures swapped: the interval is mirrored.
    #[test]
    fn wilson_mirrors(trials in 1_u64..5_000, share in 0.0_f64..=1.0) {
        let successes = (share * trials as f64) as u64;
        let interval = wilson(successes, trials, Confidence::default()).expect("trials");
        let mirrored = wilson(trials - successes, trials, Confidence::default()).expect("trials");
        prop_assert!((interval.low - (1.0 - mirrored.high)).abs() < 1e-12);
        let value = successes as f64 / trials as f64;
        prop_assert!(interval.low <= value && value <= interval.high);
        prop_assert!(wilson(successes, trials, at(0.99)).expect("trials").low <= interval.low);
    }

    /// Models swapped: the p-value stays, the interval is mirrored. And 0 is outside just where McNemar's statistic
    /// (b − c)²/(b + c) exceeds z², which Tango's interval promises.
    #[test]
    fn pairs_mirror(both in 0_u64..300, first_only in 0_u64..300, second_only in 0_u64..300, neither in 0_u64..300) {
        prop_assume!(both + first_only + second_only + neither > 0);
        let outcomes = PairedOutcomes { both, first_only, second_only, neither };
        let swapped = PairedOutcomes { first_only: second_only, second_only: first_only, ..outcomes };
        prop_assert_eq!(outcomes.p_value(), swapped.p_value());
        prop_assert!(outcomes.p_value() > 0.0 && outcomes.p_value() <= 1.0);
        let confidence = Confidence::default();
        let interval = outcomes.difference_interval(confidence).expect("problems");
        let mirrored = swapped.difference_interval(confidence).expect("problems");
        prop_assert!((interval.low + mirrored.high).abs() < 1e-9, "{:?} {:?}", interval, mirrored);
        let difference = outcomes.difference().expect("problems");
        prop_assert!(-1.0 <= interval.low && interval.low <= difference && difference <= interval.high && interval.high <= 1.0);
        if first_only + second_only > 0 {
            let (won, lost) = (second_only as f64, first_only as f64);
            let excess = (won - lost).powi(2) / (won + lost) - confidence.quantile().powi(2);
            if excess.abs() > 1e-6 {
                prop_assert_eq!(interval.low > 0.0 || interval.high < 0.0, excess > 0.0);
            }
        }
    }
}
