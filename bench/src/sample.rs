//! What was seen of the answers, and its summary as JSON.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::client::Seen;

/// Latencies and statuses of a run.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    /// Latencies of answers with status 200.
    good: Vec<Duration>,
    /// From the request to the first content of a stream.
    first: Vec<Duration>,
    statuses: BTreeMap<u16, u64>,
    /// 429 and 503 that say when to come back.
    retry_after: u64,
    /// Connections that broke.
    broken: u64,
    /// Requests that were due while too many were out.
    pub(crate) not_sent: u64,
}

impl Sample {
    pub(crate) fn add(&mut self, latency: Duration, seen: &Seen) {
        *self.statuses.entry(seen.status).or_default() += 1;
        self.retry_after += u64::from(seen.retry_after);
        if seen.status == 200 {
            self.good.push(latency);
            self.first.extend(seen.first_content);
        }
    }

    pub(crate) fn add_broken(&mut self) {
        self.broken += 1;
    }

    /// Rates over `span`; latencies in microseconds.
    pub(crate) fn summary(mut self, span: Duration) -> Value {
        let answered: u64 = self.statuses.values().sum();
        let statuses = self.statuses.iter().map(|(status, n)| (status.to_string(), json!(n)));
        json!({
            "requests": answered,
            "seconds": span.as_secs_f64(),
            "per_second": per_second(answered, span),
            "statuses": statuses.collect::<serde_json::Map<_, _>>(),
            "retry_after": self.retry_after,
            "broken": self.broken,
            "not_sent": self.not_sent,
            "p50_us": quantile(&mut self.good, 0.50),
            "p99_us": quantile(&mut self.good, 0.99),
            "first_p50_us": quantile(&mut self.first, 0.50),
            "first_p99_us": quantile(&mut self.first, 0.99),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn per_second(count: u64, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64()
}

/// Nearest rank; `None` of nothing.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank among fewer than 2^52 values"
)]
fn quantile(values: &mut [Duration], q: f64) -> Option<f64> {
    let rank = ((values.len() as f64 * q).ceil() as usize).checked_sub(1)?;
    let (_, value, _) = values.select_nth_unstable(rank);
    Some(value.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let mut values: Vec<_> = (1..=100).rev().map(Duration::from_micros).collect();
        assert_eq!(quantile(&mut values, 0.5), Some(50.0));
        assert_eq!(quantile(&mut values, 0.99), Some(99.0));
        assert!(quantile(&mut values[..1], 0.99).is_some());
        assert_eq!(quantile(&mut [], 0.5), None);
    }

    #[test]
    fn only_good_answers_have_a_latency() {
        let mut sample = Sample::default();
        let seen = |status| Seen { status, retry_after: status == 503, first_content: None };
        sample.add(Duration::from_micros(7), &seen(200));
        sample.add(Duration::from_micros(1), &seen(503));
        let summary = sample.summary(Duration::from_secs(2));
        assert_eq!(summary["p50_us"], 7.0);
        assert_eq!(summary["per_second"], 1.0);
        assert_eq!(summary["statuses"], json!({"200": 1, "503": 1}));
        assert_eq!(summary["retry_after"], 1);
    }
}
