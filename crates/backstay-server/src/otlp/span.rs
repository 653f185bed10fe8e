//! From a record to spans: one of the call, and below it one of each attempt.
//!
//! The call's span is the conventions' span of an inference: it spans all retries, has the tokens, and
//! has an error only if its client got one, or a degraded answer. What was tried and mended stands on
//! the spans of the attempts; they have no `gen_ai.operation.name` and no `gen_ai.usage`, so that
//! nothing is counted twice.

use backstay_core::{
    config::Semconv,
    failure::FailureClass,
    record::{AttemptKind, AttemptRecord, CallRecord, Cost, Degraded, Variant},
    trace::TraceParent,
};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span::SpanKind, status::StatusCode};
use serde_json::{Map, Value};

use super::{
    content,
    known::{Known, Place},
    names::Field,
    value::{Attributes, seconds},
};

/// The flags of a span that say where its parent is (OTLP, `SpanFlags`).
const PARENT_IS_KNOWN: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;

/// How records are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) version: Semconv,
    /// Whether texts are told.
    pub(super) content: bool,
}

/// When a call started, in nanoseconds since the Unix epoch.
pub(super) fn start_of(record: &CallRecord) -> u64 {
    record.id.unix_millis().saturating_mul(1_000_000)
}

/// The failure that a client got to feel. A refusal of the model is an answer.
pub(super) fn felt(record: &CallRecord) -> Option<FailureClass> {
    let failure = record.outcome.failure()?;
    let refusal = matches!(failure, FailureClass::Refused | FailureClass::ContentFilter);
    (!refusal || record.degraded != Degraded::None).then_some(failure)
}

/// The spans of a call whose own span is `call`.
pub(super) fn spans(
    record: &CallRecord,
    call: &TraceParent,
    known: &Known,
    style: Style,
) -> Vec<Span> {
    let attempts = record.attempts.iter().enumerate();
    let mut spans: Vec<_> = attempts
        .map(|(number, attempt)| {
            attempt_span(record, (number, attempt), call, &known.place(attempt), style)
        })
        .collect();
    spans.push(call_span(record, call, known, style));
    spans
}

fn call_span(record: &CallRecord, call: &TraceParent, known: &Known, style: Style) -> Span {
    let start = start_of(record);
    let place = known.place_of_call(record);
    let model = place.model.as_deref();
    let mut to = Attributes::of(style.version);
    to.add(Field::Operation, Some("chat"));
    place_attributes(&place, &mut to);
    identity(record, &mut to);
    request_attributes(record, known, &mut to);
    answer_attributes(record, &mut to);
    if style.content {
        content::add(record, &mut to);
    }
    let parent = record.trace.as_ref();
    let remote = if parent.is_some() { PARENT_IS_REMOTE } else { 0 };
    Span {
        trace_id: call.trace.to_vec(),
        span_id: call.span.to_vec(),
        parent_span_id: parent.map(|parent| parent.span.to_vec()).unwrap_or_default(),
        flags: u32::from(call.flags) | PARENT_IS_KNOWN | remote,
        name: model.map_or_else(|| "chat".to_owned(), |model| format!("chat {model}")),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(nanos(record.latency_us)),
        attributes: to.pairs,
        status: felt(record).map(|_| error(record.message.as_deref(), style)),
        ..Span::default()
    }
}

fn attempt_span(
    record: &CallRecord,
    (number, attempt): (usize, &AttemptRecord),
    call: &TraceParent,
    place: &Place,
    style: Style,
) -> Span {
    let start = start_of(record).saturating_add(nanos(attempt.started_us));
    let own = call.attempt(number);
    let mut to = Attributes::of(style.version);
    place_attributes(place, &mut to);
    to.add(Field::ErrorType, attempt.failure.map(FailureClass::code));
    to.add(Field::Status, attempt.status.map(u64::from));
    to.add(Field::Target, Some(attempt.target.as_str()));
    to.add(Field::AttemptNumber, u64::try_from(number + 1).ok());
    to.add(Field::AttemptKind, Some(kind(attempt.kind)));
    to.add(Field::Outcome, Some(attempt.failure.map_or("ok", FailureClass::code)));
    to.add(Field::AttemptFirstChunk, attempt.first_token_us.map(seconds));
    to.add(Field::AttemptInput, attempt.usage.map(|usage| usage.input));
    to.add(Field::AttemptOutput, attempt.usage.map(|usage| usage.output));
    to.add(Field::RetryAfter, attempt.retry_after_ms.map(|ms| seconds(ms.saturating_mul(1000))));
    cost(attempt.cost, &mut to);
    if style.content {
        to.add(Field::Message, attempt.message.as_deref());
    }
    Span {
        trace_id: own.trace.to_vec(),
        span_id: own.span.to_vec(),
        parent_span_id: call.span.to_vec(),
        flags: u32::from(own.flags) | PARENT_IS_KNOWN,
        name: format!("attempt {}", attempt.target),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(nanos(attempt.took_us)),
        attributes: to.pairs,
        status: attempt.failure.map(|_| error(attempt.message.as_deref(), style)),
        ..Span::default()
    }
}

/// A status; its sentence can quote an answer, and is a text like others.
fn error(message: Option<&str>, style: Style) -> Status {
    let message = message.filter(|_| style.content).unwrap_or_default().to_owned();
    Status { message, code: StatusCode::Error.into() }
}

fn nanos(micros: u64) -> u64 {
    micros.saturating_mul(1000)
}

fn place_attributes(place: &Place, to: &mut Attributes) {
    to.add(Field::Provider, Some(place.provider));
    to.add(Field::RequestModel, place.model.as_deref());
    if let Some((host, port)) = &place.address {
        to.add(Field::ServerAddress, Some(host.as_str()));
        to.add(Field::ServerPort, Some(u64::from(*port)));
    }
}

/// Which call it was, and how it ended.
fn identity(record: &CallRecord, to: &mut Attributes) {
    let release = record.release.as_deref();
    to.add(Field::CallId, Some(record.id.to_string()));
    to.add(Field::Call, Some(record.call.as_str()));
    to.add(Field::Release, release);
    to.add(Field::Protocol, Some(record.protocol.as_str()));
    to.add(Field::Outcome, Some(record.outcome.code()));
    to.add(Field::Degraded, Some(record.degraded.name()));
    to.add(Field::Attempts, u64::try_from(record.attempts.len()).ok());
    to.add(Field::Overhead, Some(seconds(record.overhead_us)));
    to.add(Field::Rule, record.violation.as_ref().map(|violation| violation.rule.as_str()));
    to.add(Field::ErrorType, felt(record).map(FailureClass::code));
    if let Some(release) = release {
        to.add(Field::PromptName, Some(record.call.as_str()));
        to.add(Field::PromptVersion, release.rsplit_once('@').map(|(_, number)| number));
        to.add(Field::FlagKey, Some(record.call.as_str()));
        to.add(Field::FlagVariant, Some(record.variant.name()));
        to.add(Field::FlagReason, Some(reason(record.variant)));
    }
}

/// Why this variant, in the words of feature flags.
const fn reason(variant: Variant) -> &'static str {
    match variant {
        Variant::Stable | Variant::Direct => "default",
        Variant::Pinned => "targeting_match",
    }
}

const fn kind(kind: AttemptKind) -> &'static str {
    match kind {
        AttemptKind::First => "first",
        AttemptKind::Retry => "retry",
        AttemptKind::Fallback => "fallback",
        AttemptKind::Repair => "repair",
    }
}

/// What was asked for, apart from texts: the release's parameters, and the client's where it has none.
fn request_attributes(record: &CallRecord, known: &Known, to: &mut Attributes) {
    let sent: Map<String, Value> = record
        .request
        .as_deref()
        .and_then(|request| serde_json::from_str(request).ok())
        .unwrap_or_default();
    let of_release =
        known.with_spec(record, |spec| (spec.params.clone(), spec.output_schema.is_some()));
    let (params, json) = of_release.unwrap_or_default();
    let asked = |key: &str| params.get(key).or_else(|| sent.get(key));
    let number = |key: &str| asked(key).and_then(Value::as_f64);
    let whole = |key: &str| asked(key).and_then(Value::as_u64);
    let format = sent.get("response_format").and_then(|format| format.get("type"));
    let json = json || format.and_then(Value::as_str).is_some_and(|f| f.starts_with("json"));
    to.add(Field::Stream, record.stream.then_some(true));
    to.add(Field::OutputType, json.then_some("json"));
    to.add(Field::Choices, whole("n").filter(|n| *n != 1));
    to.add(Field::Seed, asked("seed").and_then(Value::as_i64));
    match to.version {
        Semconv::V1_41 => to.add(Field::TopK, number("top_k")),
        Semconv::Experimental => to.add(Field::TopK, whole("top_k")),
    }
    to.add(Field::TopP, number("top_p"));
    to.add(Field::Temperature, number("temperature"));
    to.add(Field::MaxTokens, whole("max_completion_tokens").or_else(|| whole("max_tokens")));
    to.add(Field::FrequencyPenalty, number("frequency_penalty"));
    to.add(Field::PresencePenalty, number("presence_penalty"));
    to.add(Field::Stop, asked("stop").or_else(|| asked("stop_sequences")).and_then(strings));
    to.add(Field::ReasoningLevel, asked("reasoning_effort").and_then(Value::as_str));
}

/// A text or a list of texts; a list of something else is none.
fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

fn answer_attributes(record: &CallRecord, to: &mut Attributes) {
    to.add(Field::ResponseId, record.upstream_id.as_deref());
    to.add(Field::ResponseModel, record.model.as_deref());
    to.add(Field::FinishReasons, finish(record, to.version).map(|finish| vec![finish]));
    to.add(Field::FirstChunk, record.first_token_us.filter(|_| record.stream).map(seconds));
    if let Some(usage) = &record.usage {
        let part = |tokens: u64| Some(tokens).filter(|tokens| *tokens > 0);
        to.add(Field::InputTokens, Some(usage.input));
        to.add(Field::OutputTokens, Some(usage.output));
        to.add(Field::CacheRead, part(usage.cache_read));
        to.add(Field::CacheWrite, part(usage.cache_write));
        to.add(Field::Reasoning, part(usage.reasoning));
        to.add(Field::Estimated, usage.estimated.then_some(true));
    }
    cost(record.cost, to);
}

/// Why the model stopped. The experimental names have a word for an answer that was expected and did
/// not come.
fn finish(record: &CallRecord, version: Semconv) -> Option<String> {
    match version {
        Semconv::V1_41 => record.finish.clone(),
        Semconv::Experimental => {
            let missing = !record.attempts.is_empty() && record.outcome.failure().is_some();
            record.finish.clone().or_else(|| missing.then(|| "error".to_owned()))
        }
    }
}

fn cost(cost: Option<Cost>, to: &mut Attributes) {
    let state = cost.map(|cost| match cost {
        Cost::Priced(_) => "priced",
        Cost::Free => "free",
        Cost::Unknown => "unknown",
    });
    to.add(Field::CostState, state);
    to.add(Field::CostUsd, cost.and_then(Cost::usd));
}
