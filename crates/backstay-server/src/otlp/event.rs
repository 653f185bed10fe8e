//! `gen_ai.evaluation.result`: what was found of an answer, and what its consumer said of it.
//!
//! Of a call there is one event for each rung of the ladder that its release promises and that could be
//! judged: a call that got no whole answer has nothing to evaluate. A consumer's report is an event of
//! its own, whenever it comes.

use backstay_core::{
    failure::Rung,
    record::{CallId, CallRecord, OutcomeReport},
    trace::TraceParent,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};

use super::{
    known::Known,
    names::Field,
    span::{Style, start_of},
    value::Attributes,
};

/// The name of the event, the same in every version.
pub(super) const NAME: &str = "gen_ai.evaluation.result";

/// What a report needs to know of its call.
#[derive(Clone, Debug)]
pub(super) struct About {
    /// The span that its events belong to: the exported one, or the client's if none is exported.
    pub(super) span: Option<TraceParent>,
    /// Whether its events are exported.
    pub(super) sampled: bool,
    pub(super) call: String,
    pub(super) release: Option<String>,
    pub(super) response: Option<String>,
}

impl About {
    /// What to know of a call whose own span is `span`, which is exported if `traced`.
    pub(super) fn of(record: &CallRecord, span: TraceParent, traced: bool) -> Self {
        Self {
            span: if traced { Some(span) } else { record.trace },
            sampled: span.is_sampled(),
            call: record.call.clone(),
            release: record.release.clone(),
            response: record.upstream_id.clone(),
        }
    }
}

/// The events of a call that has ended.
pub(super) fn of_call(
    record: &CallRecord,
    about: &About,
    known: &Known,
    style: Style,
) -> Vec<LogRecord> {
    let promised = known.with_spec(record, |spec| {
        let json = spec.output_schema.is_some();
        let checks = spec.checks.max_chars.is_some() || !spec.checks.forbid.is_empty();
        [(Rung::Parsed, json), (Rung::SchemaValid, json), (Rung::ChecksPassed, checks)]
    });
    let Some(reached) = record.outcome.rung().filter(|rung| *rung >= Rung::Complete) else {
        return Vec::new();
    };
    let end = start_of(record).saturating_add(record.latency_us.saturating_mul(1000));
    let mut events = Vec::new();
    for (rung, is_promised) in promised.into_iter().flatten() {
        let passed = reached >= rung;
        if is_promised {
            let mut to = judged(rung.name(), passed, None, style);
            if !passed && style.content {
                let reason = record.violation.as_ref().map(|broken| broken.reason.as_str());
                to.add(Field::Explanation, reason.or(record.message.as_deref()));
            }
            to.add(Field::CallId, Some(record.id.to_string()));
            events.push(event(to, Some(about), end));
        }
        if !passed {
            break;
        }
    }
    events
}

/// The event of a consumer's report. What the call was may have been forgotten.
pub(super) fn of_report(report: &OutcomeReport, about: Option<&About>, style: Style) -> LogRecord {
    let mut to = judged("consumer", report.ok, report.score, style);
    if style.content {
        to.add(Field::Explanation, report.reason.as_deref());
    }
    let id = Some(report.call_id).filter(|id| *id != CallId::default());
    to.add(Field::CallId, id.map(|id| id.to_string()));
    event(to, about, report.reported_ms.saturating_mul(1_000_000))
}

fn judged(name: &str, passed: bool, score: Option<f64>, style: Style) -> Attributes {
    let mut to = Attributes::of(style.version);
    to.add(Field::EvaluationName, Some(name));
    to.add(Field::ScoreValue, Some(score.unwrap_or(if passed { 1.0 } else { 0.0 })));
    to.add(Field::ScoreLabel, Some(if passed { "pass" } else { "fail" }));
    to
}

fn event(mut to: Attributes, about: Option<&About>, at: u64) -> LogRecord {
    let mut record = LogRecord {
        time_unix_nano: at,
        observed_time_unix_nano: at,
        severity_number: SeverityNumber::Info.into(),
        event_name: NAME.to_owned(),
        ..LogRecord::default()
    };
    if let Some(about) = about {
        to.add(Field::ResponseId, about.response.as_deref());
        to.add(Field::Call, Some(about.call.as_str()));
        to.add(Field::Release, about.release.as_deref());
        if let Some(span) = &about.span {
            record.trace_id = span.trace.to_vec();
            record.span_id = span.span.to_vec();
            record.flags = u32::from(span.flags);
        }
    }
    record.attributes = to.pairs;
    record
}
