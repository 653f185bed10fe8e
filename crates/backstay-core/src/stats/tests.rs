//! Tails against exact vectors and a published table.

use proptest::prelude::*;

use super::*;

/// `k`, `n`, `p` and the tail, computed with whole numbers of any length.
const VECTORS: [(u64, u64, f64, f64); 18] = [
    (1, 1, 0.02, 2.0e-2),
    (2, 2, 0.02, 4.0e-4),
    (2, 5, 0.02, 3.842_387_2e-3),
    (7, 61, 0.02, 2.168_830_524_291_045e-4),
    (3, 30, 0.02, 2.171_783_454_361_745e-2),
    (16, 500, 0.02, 4.699_709_800_964_604e-2),
    (86, 3000, 0.02, 8.227_693_450_296_48e-4),
    (60, 3000, 0.02, 5.176_896_569_249_436e-1),
    (40, 3000, 0.02, 9.976_481_475_186_155e-1),
    (720, 36_000, 0.02, 5.051_063_596_289_265e-1),
    (850, 36_000, 0.02, 1.028_808_042_773_13e-6),
    (100, 100, 0.5, 7.888_609_052_210_118e-31),
    (50, 100, 0.5, 5.397_946_186_935_894e-1),
    (15, 300, 0.05, 5.369_834_092_549_232e-1),
    (30, 300, 0.05, 2.817_940_323_091_686e-4),
    (5, 1000, 0.000_01, 8.182_173_163_992_59e-13),
    (999, 1000, 0.999, 7.357_589_130_301_874e-1),
    (20, 100, 0.01, 2.494_416_560_402_917e-20),
];

#[test]
fn tails_are_exact() {
    for (k, n, p, exact) in VECTORS {
        let found = binomial_tail(k, n, p);
        let error = (found - exact).abs() / exact;
        assert!(error < 1e-10, "P(X >= {k} | {n}, {p}) = {found:e}, not {exact:e}");
    }
}

/// The least number of errors whose exact one-sided lower bound exceeds 2 %, as published with
/// confidence 95, 99 and 99.9 %.
#[test]
fn the_least_number_of_errors_is_the_published_one() {
    let published = [
        (5, [2, 2, 3]),
        (10, [2, 3, 3]),
        (20, [3, 3, 4]),
        (30, [3, 4, 5]),
        (50, [4, 5, 6]),
        (100, [6, 7, 8]),
        (200, [8, 10, 12]),
        (300, [11, 13, 16]),
        (500, [16, 19, 22]),
        (1000, [29, 32, 36]),
        (3000, [74, 80, 86]),
    ];
    for (n, least) in published {
        for (alpha, expected) in [0.05, 0.01, 0.001].into_iter().zip(least) {
            let found = (0..=n).find(|k| binomial_tail(*k, n, 0.02) <= alpha);
            assert_eq!(found, Some(expected), "n = {n}, alpha = {alpha}");
        }
    }
}

#[test]
fn ends_of_the_range_are_what_they_must_be() {
    assert_eq!(binomial_tail(0, 0, 0.5).to_bits(), 1.0_f64.to_bits());
    assert_eq!(binomial_tail(1, 0, 0.5).to_bits(), 0.0_f64.to_bits());
    assert_eq!(binomial_tail(3, 3, 1.0).to_bits(), 1.0_f64.to_bits());
    assert_eq!(binomial_tail(1, 3, 0.0).to_bits(), 0.0_f64.to_bits());
    assert_eq!(binomial_lower_tail(3, 3, 0.1).to_bits(), 1.0_f64.to_bits());
    assert!((binomial_lower_tail(0, 10, 0.5) - 0.5_f64.powi(10)).abs() < 1e-15);
    assert!((poisson_none(6.907_755) - 0.001).abs() < 1e-8);
}

#[test]
fn wild_values_move_neither_center_nor_width() {
    let mut values = Histogram::default();
    (90..=110).for_each(|value| values.record(value, 10));
    let calm = robust_ln(&values, 0.05).unwrap();
    assert!((calm.center.exp() - 100.0).abs() < 1.0, "{calm:?}");
    assert!((0.055..0.07).contains(&calm.sigma), "{calm:?}");
    values.record(1_000_000, 4);
    let wild = robust_ln(&values, 0.05).unwrap();
    assert!((wild.center - calm.center).abs() < calm.sigma / 5.0, "{wild:?}");
    assert!(wild.sigma < 1.4 * calm.sigma, "{wild:?}");
    assert_eq!(robust_ln(&Histogram::default(), 0.05), None);
}

#[test]
fn two_kinds_of_calls_lie_around_their_mean() {
    let mut values = Histogram::default();
    values.record(100, 600);
    values.record(2000, 400);
    let robust = robust_ln(&values, 0.05).unwrap();
    let mean = 0.6 * 100.0_f64.ln() + 0.4 * 2000.0_f64.ln();
    assert!((robust.center - mean).abs() < 0.01, "{robust:?}, not {mean}");
    assert!((1.4..1.55).contains(&robust.sigma), "{robust:?}");
}

proptest! {
    #[test]
    fn both_tails_are_the_whole(n in 1u64..5000, k in 0u64..5000, p in 0.001f64..0.999) {
        let k = k % n + 1;
        let sum = binomial_tail(k, n, p) + binomial_lower_tail(k - 1, n, p);
        prop_assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn one_more_error_is_never_more_likely(n in 1u64..3000, k in 0u64..3000, p in 0.0f64..1.0) {
        let k = k % n;
        prop_assert!(binomial_tail(k + 1, n, p) <= binomial_tail(k, n, p) + 1e-12);
    }
}
