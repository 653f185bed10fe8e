//! A histogram that is kept for a long time: sparse, mergeable, exact in its counts.
//!
//! Values fall into logarithmic buckets by integer arithmetic alone, so that any two programs agree to
//! the bit: an octave has `STEPS` buckets of equal width, values below `2 · STEPS` have one each. A
//! bucket is at most 1/64 of its lower bound wide and is told by its middle: a quantile is off by at
//! most 0.8 %. The scheme is that of `HdrHistogram` (G. Tene) with six significant bits.

use serde::{Deserialize, Serialize};

/// Buckets in an octave.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// Counts of values in buckets; a value's unit is its owner's business.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    count: u64,
    sum: u64,
    max: u64,
    /// Index and count of each bucket that is not empty, by index.
    buckets: Vec<(u16, u64)>,
}

impl Histogram {
    /// Takes `times` values `value` in.
    pub fn record(&mut self, value: u64, times: u64) {
        if times == 0 {
            return;
        }
        self.count = self.count.saturating_add(times);
        self.sum = self.sum.saturating_add(value.saturating_mul(times));
        self.max = self.max.max(value);
        let index = index(value);
        match self.buckets.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(place) => {
                if let Some((_, count)) = self.buckets.get_mut(place) {
                    *count = count.saturating_add(times);
                }
            }
            Err(place) => self.buckets.insert(place, (index, times)),
        }
    }

    /// Takes in all values of `other`: the same as if each had been recorded here.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
            return;
        }
        let mut missing = Vec::new();
        let mut own = self.buckets.as_mut_slice();
        for &(index, count) in &other.buckets {
            let place = first_at(own, index);
            own = own.split_at_mut(place).1;
            match own.first_mut() {
                Some((known, sum)) if *known == index => *sum = sum.saturating_add(count),
                Some(_) | None => missing.push((index, count)),
            }
        }
        if !missing.is_empty() {
            self.buckets.extend(missing);
            // Two runs that are in order: a stable sort merges them in one pass.
            self.buckets.sort_by_key(|(index, _)| *index);
        }
    }

    /// How many values there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their exact sum; stops at `u64::MAX`.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest one, exactly; 0 if there is none.
    #[must_use]
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// Their mean; `None` if there is none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean is told to a few digits")]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// The value below or at which a share `q` (0 to 1) of all values lies, by nearest rank, as the
    /// middle of its bucket; `None` if there is no value.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank between 1 and count, and counts are far below 2^53"
        )]
        let rank = ((q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).clamp(1, self.count);
        let mut seen = 0;
        for (index, count) in &self.buckets {
            seen += count;
            if seen >= rank {
                let (low, high) = bounds(*index);
                return Some((low + (high - low) / 2).min(self.max));
            }
        }
        Some(self.max)
    }

    /// How many values are greater than `limit`; those of the bucket in which it lies count by the
    /// bucket's middle.
    #[must_use]
    pub fn above(&self, limit: u64) -> u64 {
        self.middles().filter(|(middle, _)| *middle > limit).map(|(_, count)| count).sum()
    }

    /// The middle of each bucket that is not empty, with its count, in order.
    pub fn middles(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets.iter().map(|(index, count)| {
            let (low, high) = bounds(*index);
            (low + (high - low) / 2, *count)
        })
    }

    /// Bounds (both inclusive) and count of each bucket that is not empty, in order.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        self.buckets.iter().map(|(index, count)| {
            let (low, high) = bounds(*index);
            (low, high, *count)
        })
    }
}

/// The place of the first bucket at or above `index`: by steps that double, since it is mostly near.
fn first_at(buckets: &[(u16, u64)], index: u16) -> usize {
    let mut end = 1;
    while buckets.get(end - 1).is_some_and(|(known, _)| *known < index) {
        end *= 2;
    }
    let start = end / 2;
    let near = buckets.get(start..(end - 1).min(buckets.len())).unwrap_or_default();
    start + near.partition_point(|(known, _)| *known < index)
}

fn index(value: u64) -> u16 {
    let octave = (value | STEPS).ilog2() - STEP_BITS;
    let step = (value >> octave) & (STEPS - 1);
    // Values below STEPS are in octave 0 with their own number, the next ones follow on.
    let above = u64::from(value >= STEPS) * (u64::from(octave) + 1);
    u16::try_from(above * STEPS + step).unwrap_or(u16::MAX)
}

/// The smallest and the largest value of a bucket.
fn bounds(index: u16) -> (u64, u64) {
    let (above, step) = (u64::from(index) / STEPS, u64::from(index) % STEPS);
    if above == 0 {
        return (step, step);
    }
    let octave = u32::try_from(above - 1).unwrap_or(0).min(63 - STEP_BITS);
    let low = (STEPS + step) << octave;
    (low, low + ((1 << octave) - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.record(*value, 1));
        histogram
    }

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_leave_no_gap() {
        let mut expected = 0;
        for index in 0..=index(u64::MAX) {
            let (low, high) = bounds(index);
            assert_eq!(low, expected, "bucket {index}");
            assert_eq!((super::index(low), super::index(high)), (index, index));
            expected = high.wrapping_add(1);
        }
        assert_eq!(expected, 0, "the last bucket ends at the largest value");
    }

    #[test]
    fn nothing_has_no_quantile() {
        let empty = Histogram::default();
        assert_eq!((empty.quantile(0.5), empty.mean(), empty.max()), (None, None, 0));
    }

    proptest! {
        #[test]
        fn quantiles_are_off_by_at_most_one_in_a_hundred(
            mut values in prop::collection::vec(0u64..5_000_000_000, 1..400), q in 0.0f64..=1.0
        ) {
            let found = of(&values).quantile(q).unwrap();
            values.sort_unstable();
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation,
                clippy::cast_sign_loss, reason = "small numbers")]
            let rank = ((q * values.len() as f64).ceil() as usize).max(1);
            let exact = values[rank - 1];
            prop_assert!(found.abs_diff(exact) * 100 <= exact, "{found} for {exact}");
        }

        #[test]
        fn merging_is_recording_both(
            a in prop::collection::vec(any::<u64>(), 0..60), b in prop::collection::vec(0u64..500, 0..60)
        ) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let whole = of(&[a.clone(), b.clone()].concat());
            prop_assert_eq!(&merged, &whole);
            prop_assert_eq!(merged.count(), u64::try_from(a.len() + b.len()).unwrap());
            prop_assert_eq!(merged.buckets().map(|(_, _, n)| n).sum::<u64>(), merged.count());
        }
    }
}
