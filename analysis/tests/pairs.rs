//! Every number of a site for two small pairs, one with more rows than columns and one with fewer than half as many,
//! against numpy and scipy in f64: `scipy.linalg.orthogonal_procrustes` and `subspace_angles`,
//! `scipy.spatial.distance.jensenshannon` squared, `numpy.linalg.svd`, and for the rest the formulas of docs/metrics.md
//! written out. The entries are multiples of 1/8, exact in f32.

use candle_core::{Device, Tensor};
use lcr_analysis::activations::Activations;
use lcr_analysis::metrics::{METRICS, Parameters, cka::cka, cosine::cosines, knn::neighbours, procrustes::procrustes};
use lcr_analysis::site::{SiteOptions, compare_site};
use lcr_model::decoder::{Branches, Sequence, Site};
use ndarray::ArrayView2;

/// X as it is made for the reference: ((37i + 4) mod 101 − 50)/8 row by row.
fn base(count: usize) -> Vec<f32> {
    (0..count as i32).map(|at| ((at * 37 + 4) % 101 - 50) as f32 / 8.0).collect()
}

/// Y = X + ((29i + 13) mod 47 − 23)/8.
fn adapted(count: usize) -> Vec<f32> {
    let change = (0..count as i32).map(|at| ((at * 29 + 13) % 47 - 23) as f32 / 8.0);
    base(count).iter().zip(change).map(|(value, change)| value + change).collect()
}

/// Everything of a site by the place that the report gives it; a first position is put in front, which must not count.
fn measured(rows: usize, width: usize) -> serde_json::Value {
    let tensor = |values: Vec<f32>| {
        let all = [vec![3.0; width], values].concat();
        Tensor::from_vec(all, (rows + 1, width), &Device::Cpu).unwrap()
    };
    let branches = Branches::of(vec![tensor(base(rows * width)), tensor(adapted(rows * width))], vec![0, 1]).unwrap();
    let parameters = Parameters { subspace_dimensions: 3, seed: 0 };
    let options = SiteOptions { metrics: METRICS.to_vec(), keep_sinks: false, parameters };
    let results = compare_site(Site::Resid(1), &branches, &Sequence::consecutive(&[rows + 1]), &options).unwrap();
    serde_json::to_value(&results[0].change).unwrap()
}

fn agree(rows: usize, width: usize, expected: &[(&str, f64)]) {
    let found = measured(rows, width);
    assert_eq!(found["rows"], rows);
    for (place, expected) in expected {
        let value = found.pointer(place).and_then(serde_json::Value::as_f64);
        let value = value.unwrap_or_else(|| panic!("{place}: {:?}", found.pointer(place)));
        // Both have a direction of no length, whose singular value is the root of an eigenvalue's rounding; only
        // `rankme` sees it.
        let tolerance = if place.ends_with("rankme") { 1e-6 } else { 1e-9 };
        assert!((value / expected - 1.0).abs() < tolerance, "{rows}×{width}{place}: got {value}, expected {expected}");
    }
}

#[test]
fn more_rows_than_columns() {
    let expected = [
        ("/relative_change", 0.464_812_452_555_453_84),
        ("/cosine/mean", 0.933_169_815_267_599_2),
        ("/cosine/median", 0.936_437_803_163_916_1),
        ("/cosine/p05", 0.896_928_564_791_456_8),
        ("/cosine/min", 0.893_400_490_403_058_6),
        ("/cosine/one_minus_mean", 1.0 - 0.933_169_815_267_599_2),
        ("/cosine/mean_angle_deg", 20.533_041_384_673_616),
        ("/cosine_flat", 0.910_953_725_329_968_4),
        ("/cosine_centered", 0.930_522_541_796_551_7),
        ("/cka", 0.878_228_775_419_245_8),
        ("/cka_debiased", 0.865_241_774_330_531_1),
        ("/procrustes/raw_squared", 0.179_602_856_793_181_53),
        ("/procrustes/residual_squared", 0.144_425_592_232_780_12),
        ("/procrustes/explained", 0.195_861_386_553_049_97),
        ("/knn_overlap", 0.885_714_285_714_285_9),
        ("/knn_chance", 10.0 / 13.0),
        ("/subspace/overlap", 0.955_207_014_318_513_6),
        ("/subspace/max_angle_deg", 17.676_921_969_794_92),
        ("/subspace/base_gap", 1.313_796_966_842_783_1),
        ("/subspace/adapted_gap", 1.359_778_688_444_13),
        ("/spectrum/base/rankme", 3.614_067_099_356_45),
        ("/spectrum/adapted/rankme", 4.062_266_140_944_049),
        ("/spectrum/base/effective_rank", 2.872_507_166_699_140_4),
        ("/spectrum/adapted/effective_rank", 2.965_495_770_905_003_6),
        ("/spectrum/base/participation_ratio", 2.404_879_533_292_004_5),
        ("/spectrum/adapted/participation_ratio", 2.399_510_596_321_536),
        ("/spectrum/base/stable_rank", 1.763_423_098_939_931),
        ("/spectrum/adapted/stable_rank", 1.714_849_444_868_441_4),
        ("/spectrum/base/singular_values/0", 22.839_615_055_366_853),
        ("/spectrum/adapted/singular_values/0", 26.141_128_815_440_53),
        ("/spectrum/js", 0.002_682_687_673_091_728),
        ("/drift/size", 0.465_344_156_706_033_9),
        ("/drift/coherence", 0.071_830_022_859_836_32),
        ("/drift/coherence_chance", 14.0_f64.sqrt().recip()),
        ("/drift/pc1_share", 0.424_262_477_049_611_5),
    ];
    agree(14, 5, &expected);
}

#[test]
fn fewer_rows_than_half_the_columns() {
    let expected = [
        ("/relative_change", 0.465_015_460_106_733_8),
        ("/cosine/mean", 0.910_786_784_627_558_8),
        ("/cosine/median", 0.895_441_508_771_641_9),
        ("/cosine/p05", 0.885_613_615_333_261_6),
        ("/cosine/min", 0.885_212_871_246_973_8),
        ("/cosine/one_minus_mean", 1.0 - 0.910_786_784_627_558_8),
        ("/cosine/mean_angle_deg", 24.178_165_512_575_486),
        ("/cosine_flat", 0.905_418_008_969_438_6),
        ("/cosine_centered", 0.741_447_059_553_63),
        ("/cka", 0.801_027_060_033_816_6),
        ("/cka_debiased", 0.733_980_995_574_557_6),
        ("/procrustes/raw_squared", 0.456_300_452_511_606_1),
        ("/procrustes/residual_squared", 0.342_936_780_541_433_34),
        ("/procrustes/explained", 0.248_440_849_326_769_7),
        ("/knn_overlap", 0.961_538_461_538_461_6),
        ("/knn_chance", 10.0 / 12.0),
        ("/subspace/overlap", 0.608_769_083_875_447),
        ("/subspace/max_angle_deg", 87.973_068_565_925_32),
        ("/subspace/base_gap", 1.094_561_444_051_386_4),
        ("/subspace/adapted_gap", 1.197_312_795_964_732_5),
        ("/spectrum/base/rankme", 4.063_709_562_704_828),
        ("/spectrum/adapted/rankme", 7.571_011_168_857_043),
        ("/spectrum/base/effective_rank", 2.957_064_572_418_594),
        ("/spectrum/adapted/effective_rank", 4.450_854_905_753_42),
        ("/spectrum/base/participation_ratio", 2.311_777_155_818_844_2),
        ("/spectrum/adapted/participation_ratio", 3.303_925_458_585_581_5),
        ("/spectrum/base/stable_rank", 1.624_991_247_198_256_2),
        ("/spectrum/adapted/stable_rank", 2.188_575_625_846_067),
        ("/spectrum/base/singular_values/0", 28.318_479_340_596_106),
        ("/spectrum/adapted/singular_values/0", 33.049_833_217_178_95),
        ("/spectrum/js", 0.044_099_859_538_497_155),
        ("/drift/size", 0.465_010_757_357_242_2),
        ("/drift/coherence", 0.366_773_347_104_867_86),
        ("/drift/coherence_chance", 13.0_f64.sqrt().recip()),
        ("/drift/pc1_share", 0.618_551_761_547_534_9),
    ];
    agree(13, 30, &expected);
}

fn activations(values: &[f32], width: usize) -> Activations {
    let rows = values.len() / width;
    Activations::new(&ArrayView2::from_shape((rows, width), values).unwrap(), &vec![true; rows])
}

/// Two zero rows count as unchanged, a zero row against another as orthogonal; a constant matrix likewise.
#[test]
fn what_has_no_direction_is_unchanged_or_wholly_other() {
    let x = activations(&[0.0, 0.0, 0.0, 0.0, 3.0, 4.0], 2);
    let y = activations(&[0.0, 0.0, 1.0, 0.0, 3.0, 4.0], 2);
    for (left, right) in [(&x, &y), (&y, &x)] {
        let found = cosines(left, right);
        assert!((found.mean - 2.0 / 3.0).abs() < 1e-15 && found.min == 0.0, "{found:?}");
    }
    let constant = activations(&[1.0, 2.0, 1.0, 2.0, 1.0, 2.0], 2);
    let elsewhere = activations(&[5.0, 7.0, 5.0, 7.0, 5.0, 7.0], 2);
    let raw = |left, right| procrustes(left, right).unwrap().raw_squared;
    assert_eq!((raw(&constant, &elsewhere), raw(&constant, &y), raw(&y, &constant)), (0.0, 1.0, 1.0));
}

/// Rows of one direction: each has the ten first of the others, itself left out.
#[test]
fn equal_cosines_are_ordered_by_index() {
    let values: Vec<f32> = (0..13).flat_map(|_| [1.0, 2.0]).collect();
    let found = neighbours(&activations(&values, 2));
    assert_eq!(found[12], (0..10).collect::<Vec<_>>());
    assert_eq!(found[4], [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]);
}

/// The unbiased estimator divides by n(n − 3): four rows are enough, three are not.
#[test]
fn debiased_cka_needs_four_rows() {
    for rows in [3, 4] {
        let (x, y) = (activations(&base(rows * 5), 5), activations(&adapted(rows * 5), 5));
        let found = cka(&x, &y);
        assert_eq!((found.plain.is_some(), found.debiased.is_some()), (true, rows > 3));
    }
}
