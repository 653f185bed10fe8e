//! `/metrics`: what Prometheus scrapes.
//!
//! Counters are fed by the call path through [`Observer`], which neither waits nor fails; gauges are
//! read at the scrape. Labels come from the plans in force and from closed enums, never from a string
//! of a client, so that no client can make series. Nothing is decided here.

mod catalogue;
mod exemplar;
mod format;
#[cfg(test)]
mod manual;
mod page;
mod process;
mod series;
#[cfg(test)]
mod tests;

use std::sync::{Arc, atomic::Ordering};

use arc_swap::ArcSwap;
use backstay_core::{
    alert::Rule,
    record::{AttemptRecord, CallId, CallRecord, Cost, Degraded, Outcome, OutcomeReport},
};
use backstay_engine::{Observer, plan::Plans};
pub use catalogue::{METRICS, Metric};
pub(crate) use format::{Format, WriteError};
pub(crate) use page::Gauges;
use quick_cache::sync::Cache;

use exemplar::Seen;
use page::{Page, Shape};
use process::Process;
use series::{DIRECTIONS, MODES, OUTCOMES, Series, VARIANTS};

/// So many calls are remembered by their ids, so that what their consumers say of them counts for them.
const MOST_REMEMBERED: usize = 1 << 15;

/// Alerts that fire: call (empty for the gateway itself), rule, how many. Whoever evaluates the rules
/// stores the whole list.
pub type Firing = ArcSwap<Vec<(String, Rule, u64)>>;

/// The metrics of a gateway.
#[derive(Debug)]
pub struct Metrics {
    series: ArcSwap<Series>,
    firing: Arc<Firing>,
    /// The calls of ids that were seen lately.
    calls: Cache<CallId, Arc<str>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            series: ArcSwap::default(),
            firing: Arc::default(),
            calls: Cache::new(MOST_REMEMBERED),
        }
    }
}

impl Metrics {
    /// Makes the names of `plans` the labels. What is in them no longer is forgotten.
    pub(crate) fn learn(&self, plans: &Plans) {
        let series = Series::of_plans(plans, &self.series.load());
        self.series.store(Arc::new(series));
    }

    /// Where the alerts that fire are told.
    #[must_use]
    pub fn firing(&self) -> &Arc<Firing> {
        &self.firing
    }

    /// What a scrape gets. Reads files of the system, and may take milliseconds.
    pub(crate) fn write(&self, gauges: Gauges, format: Format) -> Result<Vec<u8>, WriteError> {
        format::write(self.page(gauges), format)
    }

    fn page(&self, gauges: Gauges) -> Page {
        Page {
            series: self.series.load_full(),
            firing: self.firing.load_full(),
            gauges,
            process: Process::read(),
            shape: Shape::Classic,
        }
    }
}

impl Observer for Metrics {
    fn call_ended(&self, record: &CallRecord) {
        let series = self.series.load();
        let (seen, at) = (Seen::of(record), Seen::at(record));
        if let Some(call) = series.call(&record.call) {
            let own = &call.own;
            if let Some(latency) = own.latency.get(&VARIANTS, &record.variant) {
                latency.observe(seconds(record.latency_us), seen, at);
            }
            if let Some(first) = record.first_token_us
                && let Some(distribution) = own.first_token.get(&VARIANTS, &record.variant)
            {
                distribution.observe(seconds(first), seen, at);
            }
            if record.degraded != Degraded::None {
                own.degraded.add(&MODES, &record.degraded, 1);
            }
            if let Some(release) = call.release(record.release.as_deref()) {
                release.count(record.variant, record.outcome);
                if let Some(Cost::Priced(nano)) = record.cost {
                    release.pay(nano);
                }
            }
            spend(call, record, seen);
            self.calls.insert(record.id, Arc::clone(&own.name));
        }
        if let Some(overhead) = series.overhead.get(&[()], &()) {
            overhead.observe(seconds(record.overhead_us), seen, at);
        }
        attempts(&series, record, seen);
    }

    fn reported(&self, report: &OutcomeReport) {
        let name = self.calls.get(&report.call_id);
        let series = self.series.load();
        if let Some(call) = series.call(name.as_deref().unwrap_or(series::OTHER)) {
            call.own.reports.add(&[true, false], &report.ok, 1);
        }
    }
}

/// Counts the tokens of a call.
fn spend(call: &series::Call, record: &CallRecord, seen: Seen) {
    let Some(usage) = record.usage else { return };
    let release = call.release(record.release.as_deref());
    for (direction, n) in DIRECTIONS.iter().zip([usage.input, usage.output]) {
        if let Some(release) = release {
            release.tokens.add(&DIRECTIONS, direction, n);
        }
        if let Some(distribution) = call.own.tokens.get(&DIRECTIONS, direction) {
            #[expect(clippy::cast_precision_loss, reason = "tokens of a call are far below 2^52")]
            distribution.observe(n as f64, seen, Seen::at(record));
        }
    }
}

/// Counts the attempts of a call, and for each target that it asked whether it has a price.
fn attempts(series: &Series, record: &CallRecord, seen: Seen) {
    let is_unpriced = |attempt: &AttemptRecord| attempt.cost == Some(Cost::Unknown);
    for (before, attempt) in record.attempts.iter().enumerate() {
        let Some(target) = series.target(&attempt.target) else { continue };
        let outcome = attempt.failure.map_or(Outcome::Ok, Outcome::Failed);
        target.attempts.add(&OUTCOMES, &outcome.name(), 1);
        if let Some(duration) = target.duration.get(&[()], &()) {
            duration.observe(seconds(attempt.took_us), seen, Seen::at(record));
        }
        let mut earlier = record.attempts.iter().take(before);
        if is_unpriced(attempt)
            && !earlier.any(|other| is_unpriced(other) && other.target == attempt.target)
        {
            target.unpriced.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a time is told to a few digits")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
