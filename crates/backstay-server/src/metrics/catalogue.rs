//! The table of metrics: their names, types, labels and meaning, and their buckets. The page of the
//! manual is made of it, and nothing is exposed that is not in it.

use prometheus_client::{metrics::MetricType, registry::Unit};

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, without the `_total` of counters.
    base: &'static str,
    /// The end of `base` that says what is counted, where `OpenMetrics` wants to know.
    unit: Option<&'static str>,
    kind: Kind,
    /// Its labels, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// What it says, in one sentence without a full stop.
    pub help: &'static str,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Metric {
    const fn new(kind: Kind, base: &'static str, help: &'static str) -> Self {
        Self { base, unit: None, kind, labels: &[], help }
    }

    const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = Some(unit);
        self
    }

    const fn by(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = labels;
        self
    }

    /// Its name as it is asked for.
    #[must_use]
    pub fn name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.base),
            Kind::Gauge | Kind::Histogram => self.base.to_owned(),
        }
    }

    /// Its type in one word.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }

    /// Its name up to its unit.
    pub(super) fn stem(&self) -> &'static str {
        let end = self.unit.and_then(|unit| self.base.strip_suffix(unit)?.strip_suffix('_'));
        end.unwrap_or(self.base)
    }

    pub(super) fn open_metrics_unit(&self) -> Option<Unit> {
        self.unit.map(|unit| Unit::Other(unit.to_owned()))
    }

    pub(super) const fn metric_type(&self) -> MetricType {
        match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        }
    }
}

const fn counter(base: &'static str, help: &'static str) -> Metric {
    Metric::new(Kind::Counter, base, help)
}

const fn gauge(base: &'static str, help: &'static str) -> Metric {
    Metric::new(Kind::Gauge, base, help)
}

const fn histogram(base: &'static str, help: &'static str) -> Metric {
    Metric::new(Kind::Histogram, base, help)
}

pub(super) const CALLS: Metric = counter(
    "backstay_calls",
    "Calls that ended, by what became of them; an outcome is ok, repaired, or a failure class",
)
.by(&["call", "release", "variant", "outcome"]);

pub(super) const CALL_DURATION: Metric =
    histogram("backstay_call_duration_seconds", "From the request to the last byte of its answer")
        .unit("seconds")
        .by(&["call", "variant"]);

pub(super) const FIRST_TOKEN: Metric = histogram(
    "backstay_time_to_first_token_seconds",
    "From the request to the first content of its answer; streams only",
)
.unit("seconds")
.by(&["call", "variant"]);

pub(super) const TOKENS: Metric =
    counter("backstay_tokens", "Tokens of all attempts; cached and reasoning tokens included")
        .by(&["call", "release", "direction"]);

pub(super) const CALL_TOKENS: Metric =
    histogram("backstay_call_tokens", "Tokens of one call, over all its attempts")
        .unit("tokens")
        .by(&["call", "direction"]);

pub(super) const COST: Metric =
    counter("backstay_cost_usd", "US dollars spent, as far as prices are known")
        .unit("usd")
        .by(&["call", "release"]);

pub(super) const UNPRICED: Metric =
    counter("backstay_unpriced_calls", "Calls that used tokens of a target without a known price")
        .by(&["target"]);

pub(super) const ATTEMPTS: Metric =
    counter("backstay_attempts", "Requests to targets that ended, by what became of them")
        .by(&["target", "outcome"]);

pub(super) const ATTEMPT_DURATION: Metric =
    histogram("backstay_attempt_duration_seconds", "How long one request to a target took")
        .unit("seconds")
        .by(&["target"]);

pub(super) const DEGRADED: Metric = counter(
    "backstay_degraded",
    "Calls that were answered by something in place of a model's answer",
)
.by(&["call", "mode"]);

pub(super) const BREAKER: Metric = gauge(
    "backstay_breaker_state",
    "The worst breaker of a target over all calls: 0 closed, 1 half-open, 2 open",
)
.by(&["target"]);

pub(super) const OVERHEAD: Metric = histogram(
    "backstay_overhead_seconds",
    "What a call took of Backstay's own: all but attempts and pauses",
)
.unit("seconds");

pub(super) const RECORDS: Metric =
    counter("backstay_records", "Records and reports by what became of them: stored, shed (given up), or unplaced (a report whose call is not kept)").by(&["result"]);

pub(super) const RECORDS_PENDING: Metric =
    gauge("backstay_records_pending", "Records and reports that wait to be stored");

pub(super) const LOG_FAILING: Metric = gauge(
    "backstay_log_failing",
    "1 while a part of the call log cannot be written, or is more than a minute behind, else 0: records, or the sums over calls that board and alerts are made of",
)
.by(&["part"]);

pub(super) const REPORTS: Metric = counter(
    "backstay_outcome_reports",
    "Verdicts of consumers; call is `other` where the call ended too long ago, or before the start",
)
.by(&["call", "ok"]);

pub(super) const ROLLOUT: Metric =
    gauge("backstay_rollout_weight", "Share of a call's traffic that a release gets, 0 to 1")
        .by(&["call", "release"]);

pub(super) const FIRING: Metric = gauge(
    "backstay_alerts_firing",
    "Alerts of Backstay's own rules that fire; call is `none` for what concerns the gateway",
)
.by(&["call", "rule"]);

pub(super) const LAST_LOOK: Metric = gauge(
    "backstay_alerts_last_look_timestamp_seconds",
    "When Backstay's own rules last looked at the calls, since the Unix epoch; they do every ten seconds",
)
.unit("seconds");

pub(super) const UP: Metric =
    gauge("backstay_up", "1 while requests are taken in, 0 while the gateway drains");

pub(super) const UNDER_WAY: Metric = gauge("backstay_calls_under_way", "Calls that run now");

pub(super) const BUILD: Metric =
    gauge("backstay_build_info", "Always 1; its labels say what runs").by(&["version"]);

pub(super) const CPU: Metric =
    counter("process_cpu_seconds", "CPU time of the process, user and system").unit("seconds");

pub(super) const RESIDENT: Metric =
    gauge("process_resident_memory_bytes", "Memory of the process that is in RAM").unit("bytes");

pub(super) const VIRTUAL: Metric =
    gauge("process_virtual_memory_bytes", "Address space of the process").unit("bytes");

pub(super) const OPEN_FDS: Metric = gauge("process_open_fds", "Open file descriptors");

pub(super) const MAX_FDS: Metric = gauge("process_max_fds", "The limit of open file descriptors");

pub(super) const STARTED: Metric =
    gauge("process_start_time_seconds", "When the process started, since the Unix epoch")
        .unit("seconds");

/// Every metric, in the order of the page.
pub const METRICS: [&Metric; 28] = [
    &CALLS,
    &CALL_DURATION,
    &FIRST_TOKEN,
    &TOKENS,
    &CALL_TOKENS,
    &COST,
    &UNPRICED,
    &ATTEMPTS,
    &ATTEMPT_DURATION,
    &DEGRADED,
    &BREAKER,
    &OVERHEAD,
    &RECORDS,
    &RECORDS_PENDING,
    &LOG_FAILING,
    &REPORTS,
    &ROLLOUT,
    &FIRING,
    &LAST_LOOK,
    &UP,
    &UNDER_WAY,
    &BUILD,
    &CPU,
    &RESIDENT,
    &VIRTUAL,
    &OPEN_FDS,
    &MAX_FDS,
    &STARTED,
];

/// Seconds of calls and attempts. Models that reason before they speak need the long end.
pub(super) const LATENCY: [f64; 17] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
    327.68, 655.36,
];

/// Seconds of Backstay's own: from what it usually takes to what nobody should ever see.
pub(super) const OWN: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_6, 0.003_2, 0.006_4, 0.012_8, 0.025_6,
    0.051_2, 0.102_4, 0.409_6, 1.638_4,
];

/// Tokens of a call.
pub(super) const TOKEN_COUNTS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
