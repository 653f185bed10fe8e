//! What is exported of whole records, and that it is called what the published conventions call it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use backstay_core::{
    config::{Semconv, SourceFile, Sources, check},
    failure::{Cut, FailureClass, Violation},
    price::quote::ProviderPrices,
    record::{
        AttemptKind, AttemptRecord, CallId, CallRecord, Cost, Degraded, Outcome, OutcomeReport,
        Usage, Variant,
    },
    release::CallSpec,
    trace::Sampling,
};
use backstay_engine::{
    Observer as _,
    plan::{CallPlan, Plans, ProviderPlan, ReleasePlan},
    targets::{Limit, Targets},
};
use backstay_providers::{
    provider::{Provider, Upstream},
    transport::{Endpoint, Transport, TransportOptions},
    wire::Protocol,
};
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Metric as Exported, metric::Data},
    trace::v1::Span,
};
use opentelemetry_semantic_conventions::{attribute as a, metric as m};
use serde_json::json;

use super::{
    Environment, Export, Exporter,
    event::{self, About},
    known::Known,
    metric::Metrics,
    names::{ATTRIBUTES, METRICS},
    span::{Style, spans},
};

const VERSIONS: [Semconv; 2] = [Semconv::V1_41, Semconv::Experimental];

/// The attributes of the published set of 1.41.1 that a span, metric or event of inference may have.
#[expect(
    deprecated,
    reason = "the names of 1.41.1 have moved, and none replaced them in a release"
)]
const PUBLISHED_ATTRIBUTES: &[&str] = &[
    a::GEN_AI_CONVERSATION_ID,
    a::GEN_AI_EVALUATION_EXPLANATION,
    a::GEN_AI_EVALUATION_NAME,
    a::GEN_AI_EVALUATION_SCORE_LABEL,
    a::GEN_AI_EVALUATION_SCORE_VALUE,
    a::GEN_AI_INPUT_MESSAGES,
    a::GEN_AI_OPERATION_NAME,
    a::GEN_AI_OUTPUT_MESSAGES,
    a::GEN_AI_OUTPUT_TYPE,
    a::GEN_AI_PROVIDER_NAME,
    a::GEN_AI_REQUEST_CHOICE_COUNT,
    a::GEN_AI_REQUEST_FREQUENCY_PENALTY,
    a::GEN_AI_REQUEST_MAX_TOKENS,
    a::GEN_AI_REQUEST_MODEL,
    a::GEN_AI_REQUEST_PRESENCE_PENALTY,
    a::GEN_AI_REQUEST_SEED,
    a::GEN_AI_REQUEST_STOP_SEQUENCES,
    a::GEN_AI_REQUEST_STREAM,
    a::GEN_AI_REQUEST_TEMPERATURE,
    a::GEN_AI_REQUEST_TOP_K,
    a::GEN_AI_REQUEST_TOP_P,
    a::GEN_AI_RESPONSE_FINISH_REASONS,
    a::GEN_AI_RESPONSE_ID,
    a::GEN_AI_RESPONSE_MODEL,
    a::GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK,
    a::GEN_AI_SYSTEM_INSTRUCTIONS,
    a::GEN_AI_TOKEN_TYPE,
    a::GEN_AI_TOOL_DEFINITIONS,
    a::GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
    a::GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,
    a::GEN_AI_USAGE_INPUT_TOKENS,
    a::GEN_AI_USAGE_OUTPUT_TOKENS,
    a::GEN_AI_USAGE_REASONING_OUTPUT_TOKENS,
];

#[expect(
    deprecated,
    reason = "the names of 1.41.1 have moved, and none replaced them in a release"
)]
const PUBLISHED_METRICS: &[&str] = &[
    m::GEN_AI_CLIENT_OPERATION_DURATION,
    m::GEN_AI_CLIENT_OPERATION_TIME_PER_OUTPUT_CHUNK,
    m::GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK,
    m::GEN_AI_CLIENT_TOKEN_USAGE,
];

/// Names that do not belong to generative AI, the same for both versions.
const PUBLISHED_ELSEWHERE: &[&str] = &[
    a::ERROR_TYPE,
    a::FEATURE_FLAG_KEY,
    a::FEATURE_FLAG_RESULT_REASON,
    a::FEATURE_FLAG_RESULT_VARIANT,
    a::HTTP_RESPONSE_STATUS_CODE,
    a::SERVER_ADDRESS,
    a::SERVER_PORT,
];

/// The published names of a version, of attributes and of metrics.
fn published(version: Semconv) -> BTreeSet<&'static str> {
    let of_version: Vec<_> = match version {
        Semconv::V1_41 => PUBLISHED_ATTRIBUTES.iter().chain(PUBLISHED_METRICS).copied().collect(),
        Semconv::Experimental => include_str!("testdata/gen-ai-main.txt")
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .collect(),
    };
    of_version.into_iter().chain(PUBLISHED_ELSEWHERE.iter().copied()).collect()
}

fn provider() -> Arc<ProviderPlan> {
    let endpoint = Endpoint::parse("https://team.openai.azure.com/openai/v1").unwrap();
    let provider = Arc::new(Provider {
        name: "azure".to_owned(),
        wire: Protocol::OpenAi.wire(),
        upstream: Upstream::Http(Transport::new(endpoint, TransportOptions::default())),
    });
    Arc::new(ProviderPlan {
        provider,
        limit: Limit::default(),
        windows: BTreeMap::new(),
        prices: ProviderPrices::new("azure", None, &[]),
    })
}

/// A project with one call, which has a schema, a check and parameters.
fn known() -> Known {
    let providers = HashMap::from([("azure".to_owned(), provider())]);
    let targets = Arc::new(Targets::default());
    let mut spec = CallSpec::direct().towards("extract", "azure/gpt-5".parse().unwrap());
    spec.output_schema = Some(json!({"type": "object"}));
    spec.checks.max_chars = Some(100);
    spec.params = json!({"temperature": 0, "max_tokens": 300}).as_object().unwrap().clone();
    let plan = ReleasePlan::compile(spec, Some(7), &providers, &targets).unwrap();
    let stable = Arc::new(plan);
    let releases = BTreeMap::from([(7, Arc::clone(&stable))]);
    let calls = BTreeMap::from([("extract".to_owned(), CallPlan { stable, releases })]);
    Known::of(Arc::new(Plans::new(calls, providers, CallSpec::direct(), targets)))
}

fn attempt(number: u64, failure: Option<FailureClass>) -> AttemptRecord {
    let usage = Usage { input: 20, output: 5, ..Usage::default() };
    AttemptRecord {
        target: "azure/gpt-5".to_owned(),
        kind: if number == 0 { AttemptKind::First } else { AttemptKind::Repair },
        failure,
        message: failure.map(|_| "the answer says \"secret-answer\"".to_owned()),
        started_us: number * 1000,
        took_us: 900,
        first_token_us: Some(300),
        status: Some(200),
        retry_after_ms: failure.map(|_| 1500),
        usage: Some(usage),
        cost: Some(Cost::Priced(40)),
    }
}

/// A record in which everything that can be there is there.
fn record(outcome: Outcome) -> CallRecord {
    let request = json!({
        "model": "extract", "stream": true, "n": 2, "seed": 11, "top_k": 40, "top_p": 0.5,
        "temperature": 1, "frequency_penalty": 0.1, "presence_penalty": 0.2, "stop": ["END"],
        "reasoning_effort": "low", "system": "secret-system", "tools": [{"type": "function"}],
        "messages": [{"role": "user", "content": "secret-question"}],
        "backstay": {"inputs": {"name": "secret-input"}},
    });
    CallRecord {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        call: "extract".to_owned(),
        release: Some("extract@7".to_owned()),
        variant: Variant::Stable,
        protocol: "openai".to_owned(),
        stream: true,
        unit: Some("secret-unit".to_owned()),
        outcome,
        degraded: Degraded::None,
        message: outcome.failure().map(|_| "the answer says \"secret-answer\"".to_owned()),
        violation: outcome.failure().map(|_| Violation {
            path: "$.total".to_owned(),
            rule: "type".to_owned(),
            reason: "\"secret-answer\" is not a number".to_owned(),
        }),
        latency_us: 2_000_000,
        first_token_us: Some(400_000),
        overhead_us: 250,
        usage: Some(Usage {
            input: 40,
            output: 10,
            cache_read: 8,
            cache_write: 4,
            reasoning: 2,
            estimated: true,
            ..Usage::default()
        }),
        cost: Some(Cost::Priced(2_500_000_000)),
        model: Some("gpt-5-2026-01-01".to_owned()),
        fingerprint: None,
        finish: Some("stop".to_owned()),
        upstream_id: Some("chatcmpl-1".to_owned()),
        trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap()),
        attempts: vec![attempt(0, Some(FailureClass::Schema)), attempt(1, outcome.failure())],
        request: Some(request.to_string()),
        answer: Some("secret-answer".to_owned()),
        rejected: None,
    }
}

fn report(ok: bool) -> OutcomeReport {
    OutcomeReport {
        call_id: record(Outcome::Ok).id,
        ok,
        score: None,
        reason: Some("secret-reason".to_owned()),
        expected: None,
        reported_ms: 1,
    }
}

/// Everything that is exported of a record and a report on it.
struct All {
    spans: Vec<Span>,
    events: Vec<Vec<KeyValue>>,
    metrics: Vec<Exported>,
}

fn all(record: &CallRecord, style: Style) -> All {
    let known = known();
    let call = Sampling::of(1.0).call(record.id.0.into_bytes(), record.trace.as_ref());
    let about = About::of(record, call, true);
    let mut metrics = Metrics::new(style.version, 1);
    metrics.call(record, &known);
    metrics.report(&report(false), Some(&about), &known);
    let mut events = event::of_call(record, &about, &known, style);
    events.push(event::of_report(&report(false), Some(&about), style));
    All {
        spans: spans(record, &call, &known, style),
        events: events.into_iter().map(|event| event.attributes).collect(),
        metrics: metrics.export(2),
    }
}

fn points(metric: &Exported) -> Vec<&[KeyValue]> {
    match metric.data.as_ref().unwrap() {
        Data::Sum(sum) => sum.data_points.iter().map(|p| p.attributes.as_slice()).collect(),
        Data::Histogram(spread) => {
            spread.data_points.iter().map(|p| p.attributes.as_slice()).collect()
        }
        Data::Gauge(_) | Data::ExponentialHistogram(_) | Data::Summary(_) => panic!("{metric:?}"),
    }
}

fn keys(pairs: &[KeyValue]) -> BTreeSet<&str> {
    pairs.iter().map(|pair| pair.key.as_str()).collect()
}

fn value<'a>(pairs: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    pairs.iter().find(|pair| pair.key == key)?.value.as_ref()?.value.as_ref()
}

fn text<'a>(pairs: &'a [KeyValue], key: &str) -> &'a str {
    match value(pairs, key) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key}: {other:?}"),
    }
}

#[test]
fn every_name_in_the_table_is_published_or_our_own() {
    for version in VERSIONS {
        let published = published(version);
        let attributes = ATTRIBUTES.iter().map(|row| row.names);
        let metrics = METRICS.iter().map(|(_, row)| row.names);
        for name in attributes.chain(metrics).filter_map(|names| names.of(version)) {
            let ours = name.starts_with("backstay.");
            assert!(ours || published.contains(name), "{version:?}: {name} is not published");
        }
    }
}

#[test]
fn everything_that_is_exported_is_called_as_published() {
    let outcomes = [Outcome::Ok, Outcome::Failed(FailureClass::Schema)];
    for (version, outcome) in VERSIONS.iter().flat_map(|v| outcomes.map(|o| (*v, o))) {
        let published = published(version);
        let exported = all(&record(outcome), Style { version, content: true });
        let spans = exported.spans.iter().map(|span| span.attributes.as_slice());
        let events = exported.events.iter().map(Vec::as_slice);
        let metrics = exported.metrics.iter().flat_map(points);
        let mut names: BTreeSet<_> = spans.chain(events).chain(metrics).flat_map(keys).collect();
        names.extend(exported.metrics.iter().map(|metric| metric.name.as_str()));
        assert!(names.len() > 50, "{names:?}");
        for name in names {
            let ours = name.starts_with("backstay.");
            assert!(ours || published.contains(name), "{version:?}: {name} is not published");
        }
    }
}

#[test]
fn what_the_conventions_require_is_there() {
    for version in VERSIONS {
        let failed = record(Outcome::Failed(FailureClass::Schema));
        let exported = all(&failed, Style { version, content: false });
        let call = keys(&exported.spans.last().unwrap().attributes).clone();
        for name in [
            "gen_ai.operation.name",
            "gen_ai.provider.name",
            "error.type",
            "gen_ai.output.type",
            "gen_ai.request.choice.count",
            "gen_ai.request.model",
            "gen_ai.request.seed",
            "gen_ai.request.stream",
            "gen_ai.request.top_k",
            "server.address",
            "server.port",
        ] {
            assert!(call.contains(name), "{version:?}: {name}");
        }
        let prompts = ["gen_ai.prompt.name", "gen_ai.prompt.version"];
        let experimental = version == Semconv::Experimental;
        assert!(prompts.iter().all(|name| call.contains(name) == experimental));
        for event in &exported.events {
            assert!(keys(event).contains("gen_ai.evaluation.name"));
        }
        for metric in exported.metrics.iter().filter(|metric| metric.name.starts_with("gen_ai.")) {
            let required: &[_] = match metric.name.as_str() {
                "gen_ai.client.token.usage" => &["gen_ai.token.type"],
                name if name.contains(".usage.") => &["gen_ai.token.modality"],
                _ => &[],
            };
            for name in required.iter().chain(&["gen_ai.operation.name", "gen_ai.provider.name"]) {
                assert!(points(metric).iter().all(|p| keys(p).contains(name)), "{}", metric.name);
            }
        }
    }
}

#[test]
fn no_text_leaves_unless_it_is_asked_for() {
    for version in VERSIONS {
        let failed = record(Outcome::Failed(FailureClass::Schema));
        let told = |content| {
            let all = all(&failed, Style { version, content });
            format!("{:?} {:?} {:?}", all.spans, all.events, all.metrics)
        };
        assert!(!told(false).contains("secret-"), "{}", told(false));
        for word in ["system", "question", "answer", "input", "reason"] {
            assert!(told(true).contains(&format!("secret-{word}")), "{word}");
        }
        assert!(!told(true).contains("secret-unit"));
    }
}

#[test]
fn a_retried_failure_stands_on_its_attempt_and_not_on_the_call() {
    let style = Style { version: Semconv::V1_41, content: false };
    let spans = all(&record(Outcome::Repaired), style).spans;
    let [first, second, call] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(call.name, "chat gpt-5");
    assert_eq!(first.name, "attempt azure/gpt-5");
    assert_eq!(text(&first.attributes, "error.type"), "schema");
    assert_eq!((second.status.as_ref(), call.status.as_ref()), (None, None));
    assert_eq!(value(&call.attributes, "error.type"), None);
    assert_eq!(text(&call.attributes, "gen_ai.provider.name"), "azure.ai.openai");
    assert_eq!(text(&call.attributes, "server.address"), "team.openai.azure.com");
    assert_eq!(second.start_time_unix_nano - call.start_time_unix_nano, 1_000_000);
    assert_eq!(call.end_time_unix_nano - call.start_time_unix_nano, 2_000_000_000);
    assert_eq!(call.parent_span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    // The release's own parameter wins over the client's.
    let is = |name: &str| value(&call.attributes, name);
    assert_eq!(is("gen_ai.request.temperature"), Some(&Value::DoubleValue(0.0)));
    assert_eq!(is("backstay.cost.usd"), Some(&Value::DoubleValue(2.5)));
}

#[test]
fn attempts_are_no_further_inferences() {
    let style = Style { version: Semconv::V1_41, content: false };
    let spans = all(&record(Outcome::Repaired), style).spans;
    let (call, attempts) = spans.split_last().unwrap();
    for child in attempts {
        assert_eq!(child.parent_span_id, call.span_id);
        assert_eq!(child.trace_id, call.trace_id);
        let names = keys(&child.attributes);
        let counted =
            |name: &&str| name.starts_with("gen_ai.usage") || *name == "gen_ai.operation.name";
        assert!(!names.iter().any(counted), "an attempt is not another inference: {names:?}");
        let (start, end) = (child.start_time_unix_nano, child.end_time_unix_nano);
        assert!(call.start_time_unix_nano <= start && end <= call.end_time_unix_nano);
    }
}

#[test]
fn an_error_is_what_the_client_felt() {
    let error = |outcome, degraded| {
        let record = CallRecord { degraded, ..record(outcome) };
        let style = Style { version: Semconv::V1_41, content: false };
        let exported = all(&record, style);
        let call = exported.spans.last().unwrap();
        let on_metric =
            exported.metrics.iter().find(|m| m.name == "gen_ai.client.operation.duration");
        let on_metric = value(points(on_metric.unwrap())[0], "error.type").cloned();
        assert_eq!(value(&call.attributes, "error.type").cloned(), on_metric);
        assert_eq!(call.status.is_some(), on_metric.is_some());
        on_metric.map(|_| text(&call.attributes, "error.type").to_owned())
    };
    let failed = Outcome::Failed;
    for (outcome, degraded, wanted) in [
        (Outcome::Ok, Degraded::None, None),
        (failed(FailureClass::Refused), Degraded::None, None),
        (failed(FailureClass::Refused), Degraded::Static, Some("refused")),
        (failed(FailureClass::Schema), Degraded::Static, Some("schema")),
        (failed(FailureClass::Truncated(Cut::Stream)), Degraded::None, Some("truncated_stream")),
    ] {
        assert_eq!(error(outcome, degraded).as_deref(), wanted, "{outcome:?} {degraded:?}");
    }
}

#[test]
fn each_promised_rung_is_judged_up_to_the_first_that_failed() {
    let style = Style { version: Semconv::V1_41, content: false };
    let judged = |outcome| -> Vec<(String, String)> {
        let mut events = all(&record(outcome), style).events;
        events.pop(); // the consumer's
        let told = |e: &Vec<_>| {
            (
                text(e, "gen_ai.evaluation.name").to_owned(),
                text(e, "gen_ai.evaluation.score.label").to_owned(),
            )
        };
        events.iter().map(told).collect()
    };
    let wanted = |pairs: &[(&str, &str)]| -> Vec<_> {
        pairs.iter().map(|(n, l)| ((*n).to_owned(), (*l).to_owned())).collect()
    };
    assert_eq!(
        judged(Outcome::Ok),
        wanted(&[("parsed", "pass"), ("schema_valid", "pass"), ("checks_passed", "pass")])
    );
    assert_eq!(
        judged(Outcome::Failed(FailureClass::Schema)),
        wanted(&[("parsed", "pass"), ("schema_valid", "fail")])
    );
    assert_eq!(judged(Outcome::Failed(FailureClass::Malformed)), wanted(&[("parsed", "fail")]));
    assert_eq!(judged(Outcome::Failed(FailureClass::Overloaded)), wanted(&[]));
}

#[test]
fn labels_are_never_a_clients() {
    let known = known();
    let mut metrics = Metrics::new(Semconv::V1_41, 1);
    for number in 0..1000 {
        let target = format!("azure/made-up-{number}");
        let attempt = AttemptRecord { target, ..attempt(0, None) };
        let made_up = CallRecord {
            id: CallId::new(std::time::Duration::from_secs(number), [0; 10]),
            call: format!("made-up-{number}"),
            release: None,
            variant: Variant::Direct,
            model: Some(format!("made-up-{number}")),
            attempts: vec![attempt],
            ..record(Outcome::Ok)
        };
        metrics.call(&made_up, &known);
    }
    let exported = metrics.export(2);
    assert!(!format!("{exported:?}").contains("made-up"));
    let calls = exported.iter().find(|metric| metric.name == "backstay.calls").unwrap();
    let Some(Data::Sum(sum)) = &calls.data else { panic!("{calls:?}") };
    assert_eq!(sum.data_points.len(), 1);
    assert_eq!(text(&sum.data_points[0].attributes, "backstay.call"), "other");
}

#[test]
fn too_many_series_end_up_in_one() {
    let known = known();
    let mut metrics = Metrics::new(Semconv::V1_41, 1);
    for number in 0..5000 {
        let release = Some(format!("extract@{number}"));
        metrics.call(&CallRecord { release, ..record(Outcome::Ok) }, &known);
    }
    let exported = metrics.export(2);
    let series: usize = exported.iter().map(|metric| points(metric).len()).sum();
    assert!(series <= 4000 + METRICS.len(), "{series}");
    let calls = exported.iter().find(|metric| metric.name == "backstay.calls").unwrap();
    let Some(Data::Sum(sum)) = &calls.data else { panic!("{calls:?}") };
    let overflow = sum.data_points.iter().find(|point| {
        value(&point.attributes, "otel.metric.overflow") == Some(&Value::BoolValue(true))
    });
    assert!(overflow.is_some(), "the rest is counted");
    let counted = sum.data_points.iter().map(|point| match point.value {
        Some(opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsDouble(n)) => n,
        ref other => panic!("{other:?}"),
    });
    assert_eq!(counted.sum::<f64>(), 5000.0, "none is lost");
}

#[test]
fn without_spans_of_our_own_events_belong_to_the_clients() {
    let style = Style { version: Semconv::V1_41, content: false };
    let told = |record: &CallRecord| {
        let span = Sampling::of(1.0).call(record.id.0.into_bytes(), record.trace.as_ref());
        event::of_report(&report(true), Some(&About::of(record, span, false)), style)
    };
    let record = record(Outcome::Ok);
    let parent = record.trace.unwrap();
    assert_eq!(told(&record).span_id, parent.span);
    assert_eq!(told(&record).trace_id, parent.trace);
    let root = told(&CallRecord { trace: None, ..record });
    assert!(root.trace_id.is_empty() && root.span_id.is_empty(), "a span that is nowhere");
}

/// An exporter behind which nobody works.
fn stuck(content: bool) -> (Arc<Exporter>, Export) {
    let table = format!("[otlp]\nendpoint = \"http://127.0.0.1:1\"\ncontent = {content}\n");
    let root = SourceFile { path: "backstay.toml".to_owned(), text: table };
    let sources = Sources { backstay_toml: Some(root), ..Sources::default() };
    let config = check(&sources).unwrap().otlp.unwrap();
    let environment = Environment::default();
    let (exporter, export, missing) =
        Exporter::prepare(&config, &environment, Path::new("."), 1).unwrap();
    assert!(missing.is_empty());
    (exporter, export)
}

#[test]
fn what_does_not_fit_the_queue_is_dropped_and_counted() {
    let (exporter, _export) = stuck(false);
    let call = record(Outcome::Ok);
    (0..5000).for_each(|_| exporter.call_ended(&call));
    let spans = 1 + u64::try_from(call.attempts.len()).unwrap();
    let status = exporter.status();
    assert_eq!((status.enabled, status.exported), (true, 0));
    assert_eq!(status.dropped, (5000 - 4096) * spans);
    assert!(status.last_error.unwrap().contains("slower than calls come in"));
    exporter.reported(&report(true));
    assert_eq!(exporter.status().dropped, (5000 - 4096) * spans + 1);
}

#[test]
fn texts_in_the_queue_are_bounded_too() {
    let (exporter, _export) = stuck(true);
    let answer = Some("x".repeat(1 << 20));
    let call = CallRecord { answer, request: None, ..record(Outcome::Ok) };
    (0..40).for_each(|_| exporter.call_ended(&call));
    assert_eq!(exporter.status().dropped, 8 * 3, "32 MiB fit");
}

#[test]
fn long_texts_are_cut_and_stay_valid_json() {
    let long = "ü".repeat(60_000);
    let messages: Vec<_> =
        (0..2000).map(|_| json!({"role": "user", "content": "x".repeat(20)})).collect();
    for messages in [json!([{"role": "user", "content": long}]), json!(messages)] {
        let request = Some(json!({"messages": messages}).to_string());
        let record = CallRecord { request, answer: Some(long.clone()), ..record(Outcome::Ok) };
        let exported = all(&record, Style { version: Semconv::V1_41, content: true });
        let call = &exported.spans.last().unwrap().attributes;
        for name in ["gen_ai.input.messages", "gen_ai.output.messages"] {
            let json = text(call, name);
            assert!(json.len() < 80_000, "{name}: {}", json.len());
            let parsed: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(parsed[0]["parts"][0]["type"], "text");
        }
        assert!(text(call, "gen_ai.output.messages").contains("[cut: 120000 bytes in all]"));
    }
}
