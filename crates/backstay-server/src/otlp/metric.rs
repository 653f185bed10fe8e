//! Sums and distributions over calls, kept from the start of the process (cumulative temporality).
//!
//! Every call counts, sampled or not. Labels are names of the project or of closed lists, never a
//! client's; should they still become too many, the rest is summed under `otel.metric.overflow`, as
//! OpenTelemetry has it.

use std::collections::BTreeMap;

use backstay_core::{
    config::Semconv,
    failure::FailureClass,
    record::{CallRecord, Cost, OutcomeReport, Usage},
};
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, Histogram, HistogramDataPoint, Metric as Exported, NumberDataPoint,
        Sum, metric::Data, number_data_point,
    },
};

use super::{
    event::About,
    known::{Known, Place},
    names::{Field, Kind, Metric},
    span::felt,
    value::{pair, seconds},
};

/// The buckets that the conventions advise for seconds.
const SECONDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// The buckets that the conventions advise for tokens.
const TOKENS: [f64; 14] = [
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
/// Series of all metrics together.
const MOST_SERIES: usize = 4000;

/// Labels in the order of their fields.
type Labels = Vec<(Field, String)>;

#[derive(Clone, Debug)]
enum Series {
    Sum(f64),
    Spread { buckets: [u64; 15], count: u64, sum: f64 },
}

/// Everything that is measured.
#[derive(Debug)]
pub(super) struct Metrics {
    version: Semconv,
    start_ns: u64,
    /// `None`: the overflow.
    series: BTreeMap<(Metric, Option<Labels>), Series>,
}

impl Metrics {
    pub(super) fn new(version: Semconv, start_ns: u64) -> Self {
        Self { version, start_ns, series: BTreeMap::new() }
    }

    /// Counts a call that has ended.
    pub(super) fn call(&mut self, record: &CallRecord, known: &Known) {
        let outcome = record.outcome.code();
        let call = (Field::Call, known.call_label(&record.call).to_owned());
        // No client can make up a release: it is there only where one was found.
        let release = record.release.clone().unwrap_or_default();
        let own = vec![
            call.clone(),
            (Field::Release, release),
            (Field::Variant, record.variant.name().to_owned()),
        ];
        let mut counted = own.clone();
        counted.push((Field::Outcome, outcome.to_owned()));
        counted.push((Field::Degraded, record.degraded.name().to_owned()));
        self.add(Metric::Calls, counted, 1.0);
        if let Some(usd) = record.cost.and_then(Cost::usd) {
            self.add(Metric::Cost, own, usd);
        }
        for attempt in &record.attempts {
            let target = known.target_label(&attempt.target).to_owned();
            let outcome = attempt.failure.map_or("ok", FailureClass::code).to_owned();
            let labels = vec![(Field::Target, target), (Field::Outcome, outcome)];
            self.add(Metric::Attempts, labels.clone(), 1.0);
            self.add(Metric::AttemptDuration, labels, seconds(attempt.took_us));
        }
        let labels = common(record, call, known);
        let mut ended = labels.clone();
        ended.extend(felt(record).map(|class| (Field::ErrorType, class.code().to_owned())));
        self.add(Metric::Duration, ended.clone(), seconds(record.latency_us));
        if let Some(first) = record.first_token_us.filter(|_| record.stream) {
            self.add(Metric::FirstChunk, labels.clone(), seconds(first));
        }
        self.tokens(record.usage.as_ref(), &labels, &ended);
    }

    fn tokens(&mut self, usage: Option<&Usage>, labels: &Labels, ended: &Labels) {
        match self.version {
            Semconv::V1_41 => {
                let Some(usage) = usage else { return };
                for (kind, tokens) in [("input", usage.input), ("output", usage.output)] {
                    let mut labels = labels.clone();
                    labels.push((Field::TokenType, kind.to_owned()));
                    self.add(Metric::TokenUsage, labels, float(tokens));
                }
            }
            Semconv::Experimental => {
                // What no provider reported counts as 0, so that failed calls are in the counts.
                let usage = usage.copied().unwrap_or_default();
                let mut by_modality = labels.clone();
                by_modality.push((Field::TokenModality, "unknown".to_owned()));
                for (metric, tokens) in [
                    (Metric::InputUsed, usage.input),
                    (Metric::OutputUsed, usage.output),
                    (Metric::CacheReadUsed, usage.cache_read),
                    (Metric::CacheWriteUsed, usage.cache_write),
                    (Metric::ReasoningUsed, usage.reasoning),
                ] {
                    self.add(metric, by_modality.clone(), float(tokens));
                }
                self.add(Metric::InputOfCall, ended.clone(), float(usage.input));
                self.add(Metric::OutputOfCall, ended.clone(), float(usage.output));
            }
        }
    }

    /// Counts a consumer's report.
    pub(super) fn report(&mut self, report: &OutcomeReport, about: Option<&About>, known: &Known) {
        let call = about.map_or("other", |about| known.call_label(&about.call)).to_owned();
        let labels = vec![(Field::Call, call), (Field::ReportOk, report.ok.to_string())];
        self.add(Metric::Reports, labels, 1.0);
    }

    fn add(&mut self, metric: Metric, labels: Labels, value: f64) {
        let Some(row) = metric.row().filter(|row| row.names.of(self.version).is_some()) else {
            return;
        };
        let mut key = (metric, Some(labels));
        if self.series.len() >= MOST_SERIES && !self.series.contains_key(&key) {
            key.1 = None;
        }
        let empty = || match row.kind {
            Kind::Sum => Series::Sum(0.0),
            Kind::Seconds | Kind::Tokens => Series::Spread { buckets: [0; 15], count: 0, sum: 0.0 },
        };
        match self.series.entry(key).or_insert_with(empty) {
            Series::Sum(sum) => *sum += value,
            Series::Spread { buckets, count, sum } => {
                let at = bounds(row.kind).iter().position(|bound| value <= *bound);
                if let Some(bucket) = buckets.get_mut(at.unwrap_or(SECONDS.len())) {
                    *bucket += 1;
                }
                *count += 1;
                *sum += value;
            }
        }
    }

    /// Everything as it stands at `now_ns`.
    pub(super) fn export(&self, now_ns: u64) -> Vec<Exported> {
        let mut exported: Vec<Exported> = Vec::new();
        for ((metric, labels), series) in &self.series {
            let Some(row) = metric.row() else { continue };
            let Some(name) = row.names.of(self.version) else { continue };
            if exported.last().is_none_or(|last| last.name != name) {
                exported.push(Exported {
                    name: name.to_owned(),
                    description: row.holds.to_owned(),
                    unit: row.unit.to_owned(),
                    data: Some(empty_data(series)),
                    ..Exported::default()
                });
            }
            let attributes = self.attributes(labels.as_ref());
            let data = exported.last_mut().and_then(|last| last.data.as_mut());
            match (data, series) {
                (Some(Data::Sum(to)), Series::Sum(sum)) => {
                    to.data_points.push(self.number(attributes, now_ns, *sum));
                }
                (Some(Data::Histogram(to)), Series::Spread { buckets, count, sum }) => {
                    to.data_points.push(HistogramDataPoint {
                        attributes,
                        start_time_unix_nano: self.start_ns,
                        time_unix_nano: now_ns,
                        count: *count,
                        sum: Some(*sum),
                        bucket_counts: buckets.to_vec(),
                        explicit_bounds: bounds(row.kind).to_vec(),
                        ..HistogramDataPoint::default()
                    });
                }
                // A metric's series are all of its kind.
                (_, Series::Sum(_) | Series::Spread { .. }) => {}
            }
        }
        exported
    }

    fn number(&self, attributes: Vec<KeyValue>, now_ns: u64, sum: f64) -> NumberDataPoint {
        NumberDataPoint {
            attributes,
            start_time_unix_nano: self.start_ns,
            time_unix_nano: now_ns,
            value: Some(number_data_point::Value::AsDouble(sum)),
            ..NumberDataPoint::default()
        }
    }

    fn attributes(&self, labels: Option<&Labels>) -> Vec<KeyValue> {
        let Some(labels) = labels else { return vec![pair("otel.metric.overflow", true)] };
        let named = labels.iter().filter(|(_, value)| !value.is_empty());
        named
            .filter_map(|(field, value)| Some(pair(field.name(self.version)?, value.as_str())))
            .collect()
    }
}

/// The labels of everything that the conventions define, and the call.
fn common(record: &CallRecord, call: (Field, String), known: &Known) -> Labels {
    let Place { provider, model, .. } = known.place_of_call(record);
    let ours = record.attempts.last().is_some_and(|last| known.has_target(&last.target));
    let named = |name: Option<String>| match name {
        // A plain target is named by the client, and the provider may only repeat it.
        Some(name) => {
            if ours {
                name
            } else {
                "other".to_owned()
            }
        }
        None => String::new(),
    };
    vec![
        (Field::Operation, "chat".to_owned()),
        (Field::Provider, provider.to_owned()),
        (Field::RequestModel, named(model)),
        (Field::ResponseModel, named(record.model.clone())),
        call,
    ]
}

const fn bounds(kind: Kind) -> &'static [f64; 14] {
    match kind {
        Kind::Sum | Kind::Seconds => &SECONDS,
        Kind::Tokens => &TOKENS,
    }
}

fn empty_data(series: &Series) -> Data {
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    match series {
        Series::Sum(_) => {
            Data::Sum(Sum { aggregation_temporality, is_monotonic: true, ..Sum::default() })
        }
        Series::Spread { .. } => {
            Data::Histogram(Histogram { aggregation_temporality, ..Histogram::default() })
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "tokens of a call fit a double")]
fn float(tokens: u64) -> f64 {
    tokens as f64
}
