//! What was measured, and its medians.

use std::collections::BTreeMap;

use serde_json::Value;

/// A shape of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// One connection, an upstream that answers at once.
    One,
    /// 64 connections, an upstream that answers at once: as much as a core can do.
    Many,
    /// A fixed rate, an upstream that takes 50 ms.
    Rate(u32),
    /// Streams, one after the other.
    Streams,
}

impl Shape {
    /// Every shape.
    pub(super) const ALL: &[Self] =
        &[Self::One, Self::Many, Self::Rate(500), Self::Rate(2000), Self::Streams];
    /// Those in which the upstream answers at once.
    pub(super) const SHORT: &[Self] = &[Self::One, Self::Many];

    pub(super) const fn upstream_ms(self) -> u32 {
        match self {
            Self::Rate(_) => 50,
            Self::One | Self::Many | Self::Streams => 0,
        }
    }

    pub(super) fn args(self) -> Vec<String> {
        let words: &[&str] = match self {
            Self::One => &["closed", "--connections", "1"],
            Self::Many => &["closed", "--connections", "64"],
            Self::Rate(rate) => return vec!["open".into(), "--rate".into(), rate.to_string()],
            Self::Streams => &["streams"],
        };
        words.iter().map(|&word| word.to_owned()).collect()
    }
}

/// All results.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    seen: BTreeMap<(&'static str, Shape), Vec<Value>>,
    idle_kb: BTreeMap<&'static str, u64>,
    peak_kb: BTreeMap<&'static str, u64>,
}

impl Runs {
    pub(super) fn add(&mut self, subject: &'static str, shape: Shape, seen: Value) {
        self.seen.entry((subject, shape)).or_default().push(seen);
    }

    pub(super) fn idle(&mut self, gateway: &'static str, kb: u64) {
        self.idle_kb.insert(gateway, kb);
    }

    pub(super) fn peak(&mut self, gateway: &'static str, kb: u64) {
        self.peak_kb.insert(gateway, kb);
    }

    /// Resident memory of a gateway in MB: after its first answers, and at most.
    pub(super) fn memory_mb(&self, gateway: &str) -> (Option<f64>, Option<f64>) {
        let mb = |of: &BTreeMap<&str, u64>| {
            of.get(gateway).map(|&kb| f64::from(u32::try_from(kb).unwrap_or(u32::MAX)) / 1024.0)
        };
        (mb(&self.idle_kb), mb(&self.peak_kb))
    }

    /// The median of a field over the repetitions.
    pub(super) fn median(&self, subject: &'static str, shape: Shape, field: &str) -> Option<f64> {
        let seen = self.seen.get(&(subject, shape))?;
        median(seen.iter().filter_map(|run| run.get(field)?.as_f64()).collect())
    }

    /// By how much `subject` exceeds the subject without a gateway, in milliseconds.
    pub(super) fn added_ms(&self, subject: &'static str, shape: Shape, field: &str) -> Option<f64> {
        let own = self.median(subject, shape, field)?;
        Some((own - self.median("direct", shape, field)?) / 1000.0)
    }
}

/// The middle value; of an even number, the mean of both.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let high = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(high);
    }
    values.get(middle - 1).map(|low| f64::midpoint(*low, high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn medians_do_not_mind_outliers() {
        assert_eq!(median(vec![3.0, 900.0, 1.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 2.0]), Some(3.0));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn what_a_gateway_adds_is_counted_from_direct() {
        let mut runs = Runs::default();
        for (subject, p50) in [("direct", 50.0), ("log", 250.0)] {
            runs.add(subject, Shape::One, json!({"p50_us": p50}));
        }
        assert_eq!(runs.added_ms("log", Shape::One, "p50_us"), Some(0.2));
        assert_eq!(runs.added_ms("nginx", Shape::One, "p50_us"), None);
    }
}
