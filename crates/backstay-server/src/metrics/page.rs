//! One scrape: what the counters and the gauges of the gateway say now, in the order of the table.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::Ordering},
};

use backstay_core::{alert::Rule, breaker::BreakerState, record::Variant};
use backstay_store::Accounting;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use super::{
    catalogue::{self as table, Metric},
    process::Process,
    series::{Call, DIRECTIONS, Distribution, Distributions, MODES, NONE, OTHER, Series, VARIANTS},
};
use crate::metrics::series::OUTCOMES;

/// Which of a distribution's two shapes is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Classic buckets with exemplars.
    Classic,
    /// Two metrics: the classic buckets with exemplars, and then all of it without. They are made one
    /// by [`super::format`].
    Both,
}

/// What only the gateway knows at the moment.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// Calls that run.
    pub(crate) under_way: usize,
    /// Whether requests are taken in.
    pub(crate) up: bool,
    /// Now, in milliseconds since the epoch.
    pub(crate) now_ms: u64,
    /// The books of the call log, if there is one.
    pub(crate) records: Option<Accounting>,
    /// When all calls were last looked at for alerts, in milliseconds since the epoch; 0 before that.
    pub(crate) last_look_ms: u64,
    /// Breakers that are not closed: target, state.
    pub(crate) breakers: Vec<(String, BreakerState)>,
}

/// All that one scrape shows.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) series: Arc<Series>,
    pub(super) firing: Arc<Vec<(String, Rule, u64)>>,
    pub(super) gauges: Gauges,
    pub(super) process: Option<Process>,
    pub(super) shape: Shape,
}

/// One metric while its samples are written.
struct Samples<'a> {
    metric: &'a Metric,
    encoder: MetricEncoder<'a>,
}

impl Samples<'_> {
    fn sample(&mut self, values: &[&str], value: &impl EncodeMetric) -> fmt::Result {
        if self.metric.labels.is_empty() {
            return value.encode(self.encoder.encode_family(&NO_LABELS)?);
        }
        let labels: Vec<_> =
            self.metric.labels.iter().copied().zip(values.iter().copied()).collect();
        value.encode(self.encoder.encode_family(&labels)?)
    }

    fn count(&mut self, values: &[&str], count: u64) -> fmt::Result {
        self.sample(values, &ConstCounter::new(count))
    }

    fn gauge(&mut self, values: &[&str], value: f64) -> fmt::Result {
        self.sample(values, &ConstGauge::new(value))
    }

    fn distribution(&mut self, values: &[&str], it: &Distribution, shape: Shape) -> fmt::Result {
        self.sample(values, &it.seen)?;
        match shape {
            Shape::Classic => Ok(()),
            Shape::Both => self.sample(values, &it.native),
        }
    }
}

const NO_LABELS: [(&str, &str); 0] = [];

/// Writes one metric: its description, and what `samples` says.
fn metric(
    encoder: &mut DescriptorEncoder<'_>,
    metric: &Metric,
    samples: impl FnOnce(&mut Samples<'_>) -> fmt::Result,
) -> fmt::Result {
    let unit = metric.open_metrics_unit();
    let help = format!("{}.", metric.help);
    let encoder =
        encoder.encode_descriptor(metric.stem(), &help, unit.as_ref(), metric.metric_type())?;
    samples(&mut Samples { metric, encoder })
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.calls(&mut encoder)?;
        self.spent(&mut encoder)?;
        self.targets(&mut encoder)?;
        self.gateway(&mut encoder)?;
        self.process(&mut encoder)
    }
}

impl Page {
    fn each_call(&self) -> impl Iterator<Item = (&str, &Call)> {
        self.series.calls.iter().map(|(name, call)| (name.as_str(), call))
    }

    fn calls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        metric(encoder, &table::CALLS, |samples| {
            for (name, call) in self.each_call() {
                for (id, release) in &call.releases {
                    for (variant, outcome, n) in release.calls() {
                        samples.count(&[name, id, variant.name(), outcome], n)?;
                    }
                }
            }
            Ok(())
        })?;
        metric(encoder, &table::CALL_DURATION, |samples| {
            self.by_call(samples, &VARIANTS, |call| &call.own.latency, Variant::name)
        })?;
        metric(encoder, &table::FIRST_TOKEN, |samples| {
            self.by_call(samples, &VARIANTS, |call| &call.own.first_token, Variant::name)
        })
    }

    /// Writes a distribution of each call and key.
    fn by_call<K: Copy>(
        &self,
        samples: &mut Samples<'_>,
        keys: &[K],
        of: impl Fn(&Call) -> &Distributions,
        name: impl Fn(K) -> &'static str,
    ) -> fmt::Result {
        for (call_name, call) in self.each_call() {
            for (key, distribution) in of(call).used(keys) {
                samples.distribution(&[call_name, name(*key)], distribution, self.shape)?;
            }
        }
        Ok(())
    }

    fn spent(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        metric(encoder, &table::TOKENS, |samples| {
            for (name, call) in self.each_call() {
                for (id, release) in &call.releases {
                    for (direction, n) in release.tokens() {
                        samples.count(&[name, id, direction], n)?;
                    }
                }
            }
            Ok(())
        })?;
        metric(encoder, &table::CALL_TOKENS, |samples| {
            self.by_call(samples, &DIRECTIONS, |call| &call.own.tokens, |direction| direction)
        })?;
        metric(encoder, &table::COST, |samples| {
            for (name, call) in self.each_call() {
                for (id, release) in &call.releases {
                    if let Some(usd) = release.usd() {
                        samples.sample(&[name, id], &ConstCounter::new(usd))?;
                    }
                }
            }
            Ok(())
        })?;
        metric(encoder, &table::UNPRICED, |samples| {
            for (name, target) in &self.series.targets {
                samples.count(&[name], target.unpriced.load(Ordering::Relaxed))?;
            }
            Ok(())
        })
    }

    fn targets(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        metric(encoder, &table::ATTEMPTS, |samples| {
            for (name, target) in &self.series.targets {
                let named = name != OTHER;
                let all = OUTCOMES.iter().zip(target.attempts.values());
                for (outcome, n) in all.filter(|(_, n)| named || *n > 0) {
                    samples.count(&[name, outcome], n)?;
                }
            }
            Ok(())
        })?;
        metric(encoder, &table::ATTEMPT_DURATION, |samples| {
            for (name, target) in &self.series.targets {
                for ((), distribution) in target.duration.used(&[()]) {
                    samples.distribution(&[name], distribution, self.shape)?;
                }
            }
            Ok(())
        })?;
        metric(encoder, &table::DEGRADED, |samples| {
            for (name, call) in self.each_call() {
                for (mode, n) in MODES.iter().zip(call.own.degraded.values()) {
                    samples.count(&[name, mode.name()], n)?;
                }
            }
            Ok(())
        })?;
        metric(encoder, &table::BREAKER, |samples| {
            for (name, state) in self.breakers() {
                samples.gauge(&[name], state)?;
            }
            Ok(())
        })
    }

    /// The worst state of each target's breakers.
    fn breakers(&self) -> BTreeMap<&str, f64> {
        let targets = &self.series.targets;
        let mut worst: BTreeMap<&str, f64> =
            targets.keys().map(|name| (name.as_str(), 0.0)).collect();
        for (target, state) in &self.gauges.breakers {
            let name = if targets.contains_key(target) { target.as_str() } else { OTHER };
            let state = match state {
                BreakerState::Closed => 0.0,
                BreakerState::HalfOpen => 1.0,
                BreakerState::Open => 2.0,
            };
            let worst = worst.entry(name).or_default();
            *worst = worst.max(state);
        }
        worst
    }

    fn gateway(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        metric(encoder, &table::OVERHEAD, |samples| {
            for ((), distribution) in self.series.overhead.used(&[()]) {
                samples.distribution(&[], distribution, self.shape)?;
            }
            Ok(())
        })?;
        self.records(encoder)?;
        metric(encoder, &table::REPORTS, |samples| {
            for (name, call) in self.each_call() {
                for (ok, n) in ["true", "false"].iter().zip(call.own.reports.values()) {
                    samples.count(&[name, ok], n)?;
                }
            }
            Ok(())
        })?;
        metric(encoder, &table::ROLLOUT, |samples| {
            for (name, call) in self.each_call() {
                if let Some(stable) = &call.stable {
                    samples.gauge(&[name, stable], 1.0)?;
                }
            }
            Ok(())
        })?;
        metric(encoder, &table::FIRING, |samples| {
            for ((call, rule), n) in self.alerts() {
                samples.sample(&[call, rule], &ConstGauge::new(n))?;
            }
            Ok(())
        })?;
        metric(encoder, &table::LAST_LOOK, |samples| match self.gauges.last_look_ms {
            0 => Ok(()), // before the first look
            #[expect(clippy::cast_precision_loss, reason = "milliseconds are far below 2^52")]
            at_ms => samples.gauge(&[], at_ms as f64 / 1000.0),
        })?;
        metric(encoder, &table::UP, |samples| {
            samples.gauge(&[], f64::from(u8::from(self.gauges.up)))
        })?;
        metric(encoder, &table::UNDER_WAY, |samples| {
            samples.sample(&[], &ConstGauge::new(self.gauges.under_way))
        })?;
        metric(encoder, &table::BUILD, |samples| samples.gauge(&[env!("CARGO_PKG_VERSION")], 1.0))
    }

    fn records(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(books) = &self.gauges.records else { return Ok(()) };
        metric(encoder, &table::RECORDS, |samples| {
            samples.count(&["stored"], books.stored)?;
            let shed: u64 = books.shed.iter().map(|(_, n)| n).sum();
            samples.count(&["shed"], books.lost())?;
            // A report that finds no call is its sender's mistake or comes too late: no alarm.
            samples.count(&["unplaced"], shed.saturating_sub(books.lost()))
        })?;
        metric(encoder, &table::RECORDS_PENDING, |samples| {
            samples.sample(&[], &ConstGauge::new(books.pending))
        })?;
        metric(encoder, &table::LOG_FAILING, |samples| {
            let behind = books.behind_ms(self.gauges.now_ms).is_some();
            let sums = books.rollup_error.is_some() || behind;
            for (part, fails) in [("records", books.store_error.is_some()), ("sums", sums)] {
                samples.gauge(&[part], f64::from(u8::from(fails)))?;
            }
            Ok(())
        })
    }

    /// Alerts by call and rule, in order; what is told of the same ones twice is added.
    fn alerts(&self) -> BTreeMap<(&str, &'static str), u64> {
        let mut alerts = BTreeMap::new();
        for (call, rule, n) in self.firing.iter() {
            let call = if call.is_empty() { NONE } else { self.series.label(call) };
            *alerts.entry((call, rule.name())).or_default() += n;
        }
        alerts
    }

    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(process) = &self.process else { return Ok(()) };
        metric(encoder, &table::CPU, |samples| {
            samples.sample(&[], &ConstCounter::new(process.cpu_seconds))
        })?;
        let gauges = [
            (&table::RESIDENT, process.resident_bytes),
            (&table::VIRTUAL, process.virtual_bytes),
            (&table::OPEN_FDS, process.open_fds),
            (&table::MAX_FDS, process.max_fds),
        ];
        for (described, value) in gauges {
            if let Some(value) = value {
                metric(encoder, described, |samples| samples.sample(&[], &ConstGauge::new(value)))?;
            }
        }
        metric(encoder, &table::STARTED, |samples| samples.gauge(&[], process.started_seconds))
    }
}
