//! Figures of one histogram: quantiles, a coarse heat column, the band in which most values lie.

use backstay_core::{
    alert::tokens::{CUT, TokenBaseline},
    histogram::Histogram,
};

use crate::api::types::{Band, Quantiles};

/// Microseconds in a millisecond.
pub(in crate::api) const MILLI: f64 = 1000.0;
/// Buckets of a heat column in an octave.
const HEAT_STEPS: u64 = 8;

#[expect(clippy::cast_precision_loss, reason = "told to a few digits")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

/// Quantiles of values whose unit is `unit` of the histogram's.
pub(in crate::api) fn quantiles(histogram: &Histogram, unit: f64) -> Option<Quantiles> {
    let at = |q| histogram.quantile(q).map(|value| float(value) / unit);
    Some(Quantiles {
        count: histogram.count(),
        p50: at(0.5)?,
        p95: at(0.95)?,
        p99: at(0.99)?,
        max: float(histogram.max()) / unit,
        mean: histogram.mean()? / unit,
    })
}

/// Microseconds as buckets of milliseconds: lower bound, upper bound, count.
pub(super) fn heat(histogram: &Histogram) -> Vec<(f64, f64, u64)> {
    let mut column: Vec<(u64, u64, u64)> = Vec::new();
    for (low, _, count) in histogram.buckets() {
        let (from, to) = coarse(low);
        match column.last_mut() {
            Some((last, _, sum)) if *last == from => *sum = sum.saturating_add(count),
            Some(_) | None => column.push((from, to, count)),
        }
    }
    column.into_iter().map(|(low, high, n)| (float(low) / MILLI, float(high) / MILLI, n)).collect()
}

/// The coarse bucket that holds `value`: its lower bound, and the lower bound of the next one.
fn coarse(value: u64) -> (u64, u64) {
    if value < HEAT_STEPS {
        return (value, value + 1);
    }
    let octave = 1_u64 << value.ilog2();
    let width = octave / HEAT_STEPS;
    let low = value - value % width;
    (low, low.saturating_add(width))
}

/// Where a rule takes the tokens of a call for usual: four of its standard deviations of the logarithm
/// to each side.
pub(super) fn band(usual: TokenBaseline) -> Band {
    let spread = CUT * usual.sigma;
    Band {
        median: usual.center.exp(),
        low: (usual.center - spread).exp(),
        high: (usual.center + spread).exp(),
        calls: usual.calls,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[(u64, u64)]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|(value, times)| histogram.record(*value, *times));
        histogram
    }

    #[test]
    fn quantiles_are_told_in_the_unit_that_is_asked_for() {
        let told = quantiles(&of(&[(1_000, 90), (2_000, 8), (50_000, 2)]), MILLI).unwrap();
        assert_eq!((told.count, told.max, told.mean), (100, 50.0, 2.06));
        for (found, exact) in [(told.p50, 1.0), (told.p95, 2.0), (told.p99, 50.0)] {
            assert!((found / exact - 1.0_f64).abs() < 0.01, "{found} for {exact}");
        }
        assert_eq!(quantiles(&Histogram::default(), MILLI), None);
    }

    #[test]
    fn a_band_lies_around_what_the_rules_hold_for_usual() {
        let lengths = [(400, 200), (500, 200), (625, 200), (50_000, 6)];
        let told = band(TokenBaseline::of(&of(&lengths)).unwrap());
        assert_eq!(told.calls, 606);
        assert!((told.median / 500.0 - 1.0).abs() < 0.05, "{told:?}");
        assert!(told.low < 400.0 && told.high > 625.0 && told.high < 50_000.0, "{told:?}");
        let sides = (told.high / told.median) / (told.median / told.low);
        assert!((sides - 1.0).abs() < 1e-9, "{told:?}");
    }

    proptest! {
        #[test]
        fn heat_loses_no_value_and_has_few_buckets(
            values in prop::collection::vec(0u64..2_000_000_000, 1..300)
        ) {
            let histogram = of(&values.iter().map(|value| (*value, 1)).collect::<Vec<_>>());
            let column = heat(&histogram);
            prop_assert_eq!(column.iter().map(|(_, _, n)| n).sum::<u64>(), histogram.count());
            prop_assert!(column.len() <= 31 * 8);
            for pair in column.windows(2) {
                prop_assert!(pair[0].1 <= pair[1].0, "{:?}", pair);
            }
            for value in values {
                let at = float(value) / MILLI;
                prop_assert!(column.iter().any(|(low, high, _)| *low <= at && at < *high));
            }
        }
    }
}
