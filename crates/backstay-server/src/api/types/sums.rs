//! Sums over calls.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

/// Where the values of a measure lie. Each is off by at most 0.8 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Quantiles {
    /// How many values there are.
    pub(crate) count: u64,
    /// Half of them are at or below it.
    pub(crate) p50: f64,
    /// 95 % of them are at or below it.
    pub(crate) p95: f64,
    /// 99 % of them are at or below it.
    pub(crate) p99: f64,
    /// The largest one.
    pub(crate) max: f64,
    /// Their mean.
    pub(crate) mean: f64,
}

/// Calls that were answered with something else than a model's answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct DegradedSums {
    /// With the last good answer.
    pub(crate) stale: u64,
    /// With the deterministic answer.
    #[serde(rename = "static")]
    pub(crate) fixed: u64,
    /// With a text that names the failure.
    pub(crate) message: u64,
}

/// How many calls got to each rung of the ladder, or higher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct LadderSums {
    /// Calls that say something of the model.
    pub(crate) called: u64,
    /// Something of the answer arrived.
    pub(crate) delivered: u64,
    /// All of it arrived.
    pub(crate) complete: u64,
    /// It is JSON, where JSON is promised.
    pub(crate) parsed: u64,
    /// It satisfies the schema, where there is one.
    pub(crate) schema_valid: u64,
    /// It passes the call's checks.
    pub(crate) checks_passed: u64,
    /// Its consumer said last that it was of use,
    pub(crate) useful: u64,
    /// or that it was not. What neither holds never heard from its consumer.
    pub(crate) useless: u64,
}

/// Tokens in buckets that do not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct TokenSums {
    /// Text that was read anew.
    pub(crate) input: u64,
    /// Read from the provider's cache.
    pub(crate) cache_read: u64,
    /// Read and written to the provider's cache.
    pub(crate) cache_write: u64,
    /// Sound or pictures that were read.
    pub(crate) input_media: u64,
    /// Text that was written for the client.
    pub(crate) output: u64,
    /// Text that the model wrote for itself.
    pub(crate) reasoning: u64,
    /// Sound or pictures that were made.
    pub(crate) output_media: u64,
}

/// Everything that is summed over the calls of a stretch of time.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Sums {
    /// All calls.
    pub(crate) calls: u64,
    /// Those that count against the error rate.
    pub(crate) errors: u64,
    /// Those that say nothing of the model: wrong requests, clients that went away.
    pub(crate) neutral: u64,
    /// Errors over the calls that are not neutral.
    pub(crate) error_rate: Option<f64>,
    /// What was answered instead.
    pub(crate) degraded: DegradedSums,
    /// Calls by outcome code: `ok`, `repaired`, `timeout_headers` …
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// How far up the calls got.
    pub(crate) ladder: LadderSums,
    /// Milliseconds to the last byte.
    pub(crate) latency: Option<Quantiles>,
    /// Where the latencies lie: lower bound, upper bound (milliseconds) and count of each bucket that
    /// is not empty; at most eight buckets to an octave.
    pub(crate) latency_heat: Vec<(f64, f64, u64)>,
    /// Milliseconds to the first content; streams only.
    pub(crate) first_token: Option<Quantiles>,
    /// Input tokens of a call.
    pub(crate) tokens_in: Option<Quantiles>,
    /// Output tokens of a call.
    pub(crate) tokens_out: Option<Quantiles>,
    /// Tokens of all calls.
    pub(crate) tokens: TokenSums,
    /// Calls whose tokens are Backstay's own estimate.
    pub(crate) estimated: u64,
    /// What the calls with a known price cost together; `null` if there is none.
    pub(crate) cost_usd: Option<f64>,
    /// Calls that cost nobody knows what.
    pub(crate) unpriced: u64,
    /// Calls that cost nothing.
    pub(crate) free: u64,
    /// Attempts of all calls.
    pub(crate) attempts: u64,
}
