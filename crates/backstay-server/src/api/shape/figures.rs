//! Figures of one histogram: quantiles, a coarse heat column, the band in which most values lie.

use backstay_core::histogram::Histogram;

use crate::api::types::{Band, Quantiles};

/// Microseconds in a millisecond.
pub(in crate::api) const MILLI: f64 = 1000.0;
/// Buckets of a heat column in an octave.
const HEAT_STEPS: u64 = 8;
/// With fewer calls nothing is said of what is usual.
const LEAST_CALLS: u64 = 300;
/// From the median absolute deviation to the standard deviation of a normal distribution.
const MAD_TO_SIGMA: f64 = 1.4826;
/// How many of those a usual value may be off.
const SIGMAS: f64 = 4.0;
/// The buckets of a histogram tell no smaller spread of logarithms.
const LEAST_MAD: f64 = 0.004;

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

/// Where most values lie: median and four robust standard deviations of the logarithm to each side.
pub(super) fn band(histogram: &Histogram) -> Option<Band> {
    if histogram.count() < LEAST_CALLS {
        return None;
    }
    // A call without tokens is told apart from one with a single token by nothing here.
    let logs: Vec<(f64, u64)> =
        histogram.middles().map(|(middle, count)| (float(middle.max(1)).ln(), count)).collect();
    let median = weighted_median(&logs)?;
    let mut off: Vec<(f64, u64)> = logs.iter().map(|(x, n)| ((x - median).abs(), *n)).collect();
    off.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let spread = SIGMAS * MAD_TO_SIGMA * weighted_median(&off)?.max(LEAST_MAD);
    Some(Band {
        median: median.exp(),
        low: (median - spread).exp(),
        high: (median + spread).exp(),
        calls: histogram.count(),
    })
}

/// The median of values in order, each with how often it is there.
fn weighted_median(values: &[(f64, u64)]) -> Option<f64> {
    let all: u64 = values.iter().map(|(_, count)| count).sum();
    let mut seen = 0;
    values.iter().find_map(|(value, count)| {
        seen += count;
        (seen >= all.div_ceil(2)).then_some(*value)
    })
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
    fn a_band_needs_300_calls_and_holds_the_usual_ones() {
        assert_eq!(band(&of(&[(500, 299)])), None);
        let told = band(&of(&[(400, 100), (500, 100), (625, 100), (50_000, 3)])).unwrap();
        assert_eq!(told.calls, 303);
        assert!((told.median / 500.0 - 1.0).abs() < 0.01, "{told:?}");
        // ln(1.25) is the median deviation: the band reaches 1.25^(4 · 1.4826) = 3.75 times as far.
        assert!((told.high / told.median / 3.755 - 1.0).abs() < 0.05, "{told:?}");
        assert!((told.median / told.low / 3.755 - 1.0).abs() < 0.05, "{told:?}");
        let constant = band(&of(&[(500, 1000)])).unwrap();
        assert!(constant.low < 500.0 && constant.high > 500.0 && constant.high < 520.0);
        let nothing = band(&of(&[(0, 1000)])).unwrap();
        assert!(nothing.median == 1.0 && nothing.low > 0.9, "{nothing:?}");
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
