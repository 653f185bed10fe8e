//! The export of telemetry, seen from a receiver: what arrives, under whose ids, and what a call pays
//! when the receiver is slow or gone.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest,
        metrics::v1::ExportMetricsServiceRequest,
        trace::v1::{
            ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        },
    },
    common::v1::{KeyValue, any_value::Value as Any},
    logs::v1::LogRecord,
    metrics::v1::{Metric, metric::Data, number_data_point},
    resource::v1::Resource,
    trace::v1::{Span, span::SpanKind, status::StatusCode as SpanStatus},
};
use prost::Message;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::harness::{Ask, Files, Gateway, Told, Upstream};

const STUCK: Duration = Duration::from_secs(30);
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// One request as it came.
#[derive(Clone, Debug)]
struct Sent {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// What a server answers.
#[derive(Clone, Copy, Debug)]
enum Answers {
    Empty(StatusCode),
    /// All is well, but one span was not taken.
    Partly,
    Never,
    /// A chat completion.
    Chat,
    /// An empty message of gRPC with this status.
    Grpc(u32),
}

/// An HTTP server that keeps what it is sent.
struct Server {
    address: SocketAddr,
    sent: watch::Receiver<Vec<Sent>>,
    _tasks: JoinSet<()>,
}

type Keeper = (watch::Sender<Vec<Sent>>, Answers);

async fn keep(State((keeper, answers)): State<Keeper>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap();
    let sent = Sent { path: head.uri.path().to_owned(), headers: head.headers, body };
    keeper.send_modify(|all| all.push(sent));
    match answers {
        Answers::Empty(status) => status.into_response(),
        Answers::Partly => {
            let partial_success = Some(ExportTracePartialSuccess {
                rejected_spans: 1,
                error_message: "do not repeat me".to_owned(),
            });
            ExportTraceServiceResponse { partial_success }.encode_to_vec().into_response()
        }
        Answers::Never => std::future::pending().await,
        Answers::Chat => {
            let message = json!({"role": "assistant", "content": "hello"});
            let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
            let reply = json!({"id": "chatcmpl-1", "model": "m-1", "choices": [choice]});
            reply.to_string().into_response()
        }
        Answers::Grpc(status) => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.into());
            let message = Full::new(Bytes::from_static(&[0; 5]));
            let body = message.with_trailers(std::future::ready(Some(Ok(trailers))));
            ([("content-type", "application/grpc")], Body::new(body)).into_response()
        }
    }
}

impl Server {
    async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (keeper, sent) = watch::channel(Vec::new());
        let app = Router::new().fallback(keep).with_state((keeper, answers));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, sent, _tasks: tasks }
    }

    /// What was sent, once it is as wanted.
    async fn until(&self, wanted: impl Fn(&[Sent]) -> bool) -> Vec<Sent> {
        let mut sent = self.sent.clone();
        let all = timeout(STUCK, sent.wait_for(|all| wanted(all))).await;
        all.expect("it is sent in time").unwrap().clone()
    }

    fn all(&self) -> Vec<Sent> {
        self.sent.borrow().clone()
    }
}

fn decoded<T: Message + Default>(sent: &[Sent], path: &str) -> Vec<T> {
    let of_path = sent.iter().filter(|sent| sent.path == path);
    of_path.map(|sent| T::decode(sent.body.clone()).unwrap()).collect()
}

/// Every span that was sent, with its resource, in the order of their starts, parents first.
fn spans(sent: &[Sent]) -> Vec<(Resource, Span)> {
    let batches = decoded::<ExportTraceServiceRequest>(sent, "/v1/traces");
    let of_resource = batches.into_iter().flat_map(|batch| batch.resource_spans);
    let mut spans: Vec<_> = of_resource
        .flat_map(|of| {
            let resource = of.resource.unwrap();
            of.scope_spans.into_iter().flat_map(|of| of.spans).map(move |s| (resource.clone(), s))
        })
        .collect();
    spans.sort_by_key(|(_, s)| (s.start_time_unix_nano, s.name.starts_with("attempt")));
    spans
}

fn events(sent: &[Sent]) -> Vec<LogRecord> {
    let batches = decoded::<ExportLogsServiceRequest>(sent, "/v1/logs");
    let of_scope = batches.into_iter().flat_map(|b| b.resource_logs).flat_map(|of| of.scope_logs);
    of_scope.flat_map(|of| of.log_records).collect()
}

/// The metrics of the last delivery, by name.
fn metrics(sent: &[Sent]) -> BTreeMap<String, Metric> {
    let batches = decoded::<ExportMetricsServiceRequest>(sent, "/v1/metrics");
    let last = batches.into_iter().last().expect("metrics were sent");
    let of_scope = last.resource_metrics.into_iter().flat_map(|of| of.scope_metrics);
    of_scope.flat_map(|of| of.metrics).map(|metric| (metric.name.clone(), metric)).collect()
}

fn told(value: &Any) -> String {
    match value {
        Any::StringValue(text) => text.clone(),
        Any::BoolValue(flag) => flag.to_string(),
        Any::IntValue(number) => number.to_string(),
        Any::DoubleValue(number) => format!("{number:?}"),
        Any::ArrayValue(list) => {
            let items = list.values.iter().filter_map(|item| item.value.as_ref());
            format!("[{}]", items.map(told).collect::<Vec<_>>().join(","))
        }
        Any::KvlistValue(_) | Any::BytesValue(_) | Any::StringValueStrindex(_) => {
            panic!("{value:?}")
        }
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<&str, String> {
    let value = |pair: &KeyValue| told(pair.value.as_ref().unwrap().value.as_ref().unwrap());
    pairs.iter().map(|pair| (pair.key.as_str(), value(pair))).collect()
}

/// Attributes as lines, without those whose values differ from run to run.
fn lines(pairs: &[KeyValue], volatile: &[&str]) -> Vec<String> {
    let mut all = attributes(pairs);
    for name in volatile {
        assert!(all.remove(name).is_some(), "no {name} in {all:?}");
    }
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn project(upstream: &str, otlp: &str) -> Files {
    let schema = json!({"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}});
    vec![
        ("backstay.toml".into(), format!("{upstream}\n{otlp}\n")),
        (
            "calls/extract/call.toml".into(),
            "route = [\"up/extract/500\", \"up/extract/ok\"]\nparams = { temperature = 0 }\n\
             [budget]\nattempts = 2\nbackoff = { base = \"1ms\", max = \"1ms\" }\n"
                .into(),
        ),
        ("calls/extract/output.schema.json".into(), schema.to_string()),
        (
            "calls/fails/call.toml".into(),
            "route = [\"up/fails/500\"]\n[budget]\nattempts = 1\n[degrade]\norder = [\"error\"]\n"
                .into(),
        ),
        ("calls/chat/call.toml".into(), "route = [\"up/chat/ok\"]\n".into()),
    ]
}

fn otlp(address: SocketAddr, more: &str) -> String {
    format!("[otlp]\nendpoint = \"http://{address}\"\n{more}")
}

fn ask(call: &str) -> Ask {
    let messages = json!([{ "role": "user", "content": "What is the total of the-secret?" }]);
    Ask::json("/v1/chat/completions", &json!({ "model": call, "messages": messages, "top_p": 0.5 }))
}

fn id_of(answer: &Told) -> String {
    answer.header("x-backstay-call-id").to_owned()
}

async fn status(gateway: &Gateway) -> Value {
    gateway.send(Ask::get("/readyz")).await.json()["otlp"].clone()
}

const VOLATILE: [&str; 5] = [
    "backstay.call.id",
    "backstay.overhead",
    "gen_ai.response.id",
    "server.port",
    "gen_ai.usage.input_tokens",
];

#[tokio::test]
async fn a_call_arrives_with_its_attempts_below_the_clients_span() {
    let (upstream, receiver) =
        (Upstream::start().await, Server::start(Answers::Empty(StatusCode::OK)).await);
    let table = otlp(receiver.address, "headers = { x-tenant = \"billing\" }");
    let gateway = Gateway::start(&project(&upstream.provider("up", "openai"), &table)).await;
    let answer = gateway.send(ask("extract").with("traceparent", PARENT)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let sent = receiver.until(|sent| spans(sent).len() == 3).await;
    gateway.end().await;

    let headers = &sent[0].headers;
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(headers["x-tenant"], "billing");
    let all = spans(&sent);
    let resource = attributes(&all[0].0.attributes);
    assert_eq!(
        (&*resource["service.name"], resource.contains_key("service.instance.id")),
        ("backstay", true)
    );
    let [call, failed, good] = [0, 1, 2].map(|at: usize| &all[at].1);
    for span in [call, failed, good] {
        assert_eq!(hex(&span.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((span.kind(), span.flags & 1), (SpanKind::Client, 1));
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        assert!(span.end_time_unix_nano <= call.end_time_unix_nano);
    }
    assert_eq!(hex(&call.parent_span_id), "00f067aa0ba902b7");
    assert_eq!((&failed.parent_span_id, &good.parent_span_id), (&call.span_id, &call.span_id));
    let names = [call, failed, good].map(|span| span.name.as_str());
    assert_eq!(names, ["chat extract/ok", "attempt up/extract/500", "attempt up/extract/ok"]);
    let of_call = attributes(&call.attributes);
    assert_eq!(of_call["backstay.call.id"], id_of(&answer));
    assert_eq!(of_call["server.port"], upstream.address.port().to_string());
    assert_eq!(
        lines(&call.attributes, &VOLATILE),
        [
            "backstay.attempts=2",
            "backstay.call=extract",
            "backstay.cost.state=unknown",
            "backstay.degraded=none",
            "backstay.outcome=ok",
            "backstay.protocol=openai",
            "backstay.release=extract@1",
            "feature_flag.key=extract",
            "feature_flag.result.reason=default",
            "feature_flag.result.variant=stable",
            "gen_ai.operation.name=chat",
            "gen_ai.output.type=json",
            "gen_ai.provider.name=openai",
            "gen_ai.request.model=extract/ok",
            "gen_ai.request.temperature=0.0",
            "gen_ai.request.top_p=0.5",
            "gen_ai.response.finish_reasons=[stop]",
            "gen_ai.response.model=extract/ok",
            "gen_ai.usage.cache_read.input_tokens=3",
            "gen_ai.usage.output_tokens=2",
            "server.address=127.0.0.1",
        ]
    );
    assert_eq!(call.status, None);
    says_what_failed(failed);
    assert_eq!(good.status, None);
    assert!(!format!("{sent:?}").contains("the-secret"), "no text is sent");
}

fn says_what_failed(attempt: &Span) {
    assert_eq!(
        lines(&attempt.attributes, &["server.port"]),
        [
            "backstay.attempt.kind=first",
            "backstay.attempt.number=1",
            "backstay.outcome=upstream_error",
            "backstay.target=up/extract/500",
            "error.type=upstream_error",
            "gen_ai.provider.name=openai",
            "gen_ai.request.model=extract/500",
            "http.response.status_code=500",
            "server.address=127.0.0.1",
        ]
    );
    assert_eq!(attempt.status.as_ref().unwrap().code(), SpanStatus::Error);
}

#[tokio::test]
async fn metrics_and_verdicts_arrive_too() {
    let (upstream, receiver) =
        (Upstream::start().await, Server::start(Answers::Empty(StatusCode::OK)).await);
    let table = otlp(receiver.address, "sample = 1");
    let gateway = Gateway::start(&project(&upstream.provider("up", "openai"), &table)).await;
    let good = gateway.send(ask("extract")).await;
    let failed = gateway.send(ask("fails")).await;
    assert_eq!((good.status, failed.status), (200, 502));
    let unsampled = gateway.send(ask("extract").with("traceparent", UNSAMPLED)).await;
    assert_eq!(unsampled.status, 200);
    let verdict =
        json!({"call_id": id_of(&good), "ok": false, "score": 0.25, "reason": "the-secret"});
    assert_eq!(gateway.send(Ask::json("/v1/outcomes", &verdict)).await.status, 202);
    receiver.until(|sent| events(sent).len() == 3).await;
    assert_eq!(status(&gateway).await, json!({"exported": 8, "dropped": 0, "last_error": null}));
    gateway.end().await;

    let sent = receiver.all();
    let all = spans(&sent);
    assert_eq!(all.len(), 5, "the client of the third call does not record its trace: {all:?}");
    let root = &all[0].1;
    assert_eq!(hex(&root.trace_id), id_of(&good).replace('-', ""), "the trace has the call's id");
    assert!(root.parent_span_id.is_empty());
    let failed_call = all.iter().find(|(_, span)| span.name == "chat fails/500").unwrap();
    assert_eq!(attributes(&failed_call.1.attributes)["error.type"], "upstream_error");
    assert_eq!(failed_call.1.status.as_ref().unwrap().code(), SpanStatus::Error);

    let all: Vec<_> = events(&sent);
    for event in &all {
        assert_eq!(event.event_name, "gen_ai.evaluation.result");
        assert_eq!((&event.trace_id, &event.span_id), (&root.trace_id, &root.span_id));
    }
    let judged: Vec<_> = all
        .iter()
        .map(|event| {
            let of = attributes(&event.attributes);
            let [name, label, score] = ["name", "score.label", "score.value"]
                .map(|end| of[&*format!("gen_ai.evaluation.{end}")].clone());
            format!("{name} {label} {score}")
        })
        .collect();
    assert_eq!(judged, ["parsed pass 1.0", "schema_valid pass 1.0", "consumer fail 0.25"]);

    let measured = metrics(&sent);
    let Some(Data::Sum(calls)) = &measured["backstay.calls"].data else { panic!() };
    let counted: BTreeMap<_, _> = calls
        .data_points
        .iter()
        .map(|point| {
            let of = attributes(&point.attributes);
            let Some(number_data_point::Value::AsDouble(count)) = point.value else { panic!() };
            (format!("{} {}", of["backstay.release"], of["backstay.outcome"]), count)
        })
        .collect();
    let wanted = [("extract@1 ok", 2.0), ("fails@1 upstream_error", 1.0)];
    assert_eq!(counted, wanted.map(|(name, count)| (name.to_owned(), count)).into());
    let Some(Data::Histogram(took)) = &measured["gen_ai.client.operation.duration"].data else {
        panic!()
    };
    assert_eq!(took.data_points.iter().map(|point| point.count).sum::<u64>(), 3);
    let error = took
        .data_points
        .iter()
        .filter_map(|point| attributes(&point.attributes).get("error.type").cloned());
    assert_eq!(error.collect::<Vec<_>>(), ["upstream_error"]);
    let bounds = &took.data_points[0].explicit_bounds;
    assert_eq!((bounds.len(), bounds[0], bounds[13]), (14, 0.01, 81.92));
    assert!(measured.contains_key("gen_ai.client.token.usage"));
    assert!(!format!("{sent:?}").contains("the-secret"), "no text is sent");
}

#[tokio::test]
async fn a_stream_under_experimental_names_and_with_texts() {
    let (upstream, receiver) =
        (Upstream::start().await, Server::start(Answers::Empty(StatusCode::OK)).await);
    let more = "content = true\nsemconv = \"gen_ai_latest_experimental\"";
    let table = otlp(receiver.address, more);
    let gateway = Gateway::start(&project(&upstream.provider("up", "openai"), &table)).await;
    let messages = json!([{ "role": "user", "content": "Write to ada@example.com" }]);
    let body = json!({"model": "chat", "stream": true, "messages": messages});
    let answer = gateway.send(Ask::json("/v1/chat/completions", &body)).await;
    assert_eq!(answer.status, 200);
    let sent = receiver.until(|sent| spans(sent).len() == 2).await;
    gateway.end().await;
    let all = spans(&sent);
    let of_call = attributes(&all[0].1.attributes);
    assert_eq!(of_call["gen_ai.prompt.name"], "chat");
    assert_eq!(of_call["gen_ai.prompt.version"], "1");
    assert_eq!(of_call["gen_ai.request.stream"], "true");
    let first: f64 = of_call["gen_ai.response.time_to_first_chunk"].parse().unwrap();
    assert!(first > 0.0 && first < 30.0, "{first}");
    let asked: Value = serde_json::from_str(&of_call["gen_ai.input.messages"]).unwrap();
    assert_eq!(asked[0]["role"], "user");
    let text = asked[0]["parts"][0]["content"].as_str().unwrap();
    assert!(text.starts_with("Write to ") && !text.contains("ada@"), "redacted: {text}");
    let said: Value = serde_json::from_str(&of_call["gen_ai.output.messages"]).unwrap();
    assert!(!said[0]["parts"][0]["content"].as_str().unwrap().is_empty());
    let measured = metrics(&receiver.all());
    for name in ["duration", "time_to_first_chunk", "usage.input_tokens", "operation.output_tokens"]
    {
        let name = format!("gen_ai.client.inference.{name}");
        assert!(measured.contains_key(&name), "{name} is not in {:?}", measured.keys());
    }
    assert!(!measured.contains_key("gen_ai.client.token.usage"));
}

/// The `traceparent` that a provider gets for a call with this one.
async fn at_provider(table: &str, traceparent: Option<&str>) -> (Option<String>, String) {
    let provider = Server::start(Answers::Chat).await;
    let up =
        format!("[providers.up]\nkind = \"openai\"\nbase_url = \"http://{}\"", provider.address);
    let gateway = Gateway::start(&project(&up, table)).await;
    let asked = match traceparent {
        Some(text) => ask("chat").with("traceparent", text),
        None => ask("chat"),
    };
    let answer = gateway.send(asked).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    gateway.end().await;
    let sent = provider.all();
    let header = sent[0].headers.get("traceparent").map(|value| value.to_str().unwrap().to_owned());
    (header, id_of(&answer))
}

#[tokio::test]
async fn providers_are_told_of_the_span_that_is_exported() {
    let receiver = Server::start(Answers::Empty(StatusCode::OK)).await;
    let (header, _) = at_provider(&otlp(receiver.address, ""), Some(PARENT)).await;
    let all = spans(&receiver.all());
    let attempt = &all.iter().find(|(_, span)| span.name.starts_with("attempt")).unwrap().1;
    let wanted = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", hex(&attempt.span_id));
    assert_eq!(header, Some(wanted));
}

#[tokio::test]
async fn who_is_not_traced_is_passed_on_as_it_is() {
    assert_eq!(at_provider("", Some(PARENT)).await.0.as_deref(), Some(PARENT));
    assert_eq!(at_provider("", None).await.0, None);
    let receiver = Server::start(Answers::Empty(StatusCode::OK)).await;
    let (header, id) = at_provider(&otlp(receiver.address, "sample = 0"), None).await;
    let header = header.unwrap();
    assert!(header.starts_with(&format!("00-{}-", id.replace('-', ""))), "{header}");
    assert!(header.ends_with("-00"), "not recorded: {header}");
    assert!(spans(&receiver.all()).is_empty());
}

/// Makes calls, and says how long the slowest took.
async fn with_receiver(address: SocketAddr) -> (Duration, Gateway) {
    let upstream = Upstream::start().await;
    let table = otlp(address, "");
    let gateway = Gateway::start(&project(&upstream.provider("up", "openai"), &table)).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let answer = gateway.send(ask("chat")).await;
        assert_eq!(answer.status, 200);
        slowest = slowest.max(answer.took);
    }
    (slowest, gateway)
}

/// What is said of the export, once it is as wanted.
async fn status_until(gateway: &Gateway, wanted: impl Fn(&Value) -> bool) -> Value {
    let told = timeout(STUCK, async {
        loop {
            let told = status(gateway).await;
            if wanted(&told) {
                return told;
            }
        }
    });
    told.await.expect("the export fares as wanted")
}

#[tokio::test]
async fn a_dead_receiver_costs_no_call_anything_and_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let (slowest, gateway) = with_receiver(nobody).await;
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // 20 calls with one attempt each, given up after some tries.
    let told = status_until(&gateway, |told| told["dropped"] == 40).await;
    assert_eq!(told["exported"], 0);
    let error = told["last_error"].as_str().unwrap();
    assert!(error.contains(&nobody.to_string()), "{error}");
    gateway.end().await;
}

#[tokio::test]
async fn a_receiver_that_never_answers_does_not_hold_up_the_end() {
    let receiver = Server::start(Answers::Never).await;
    let upstream = Upstream::start().await;
    let table = otlp(receiver.address, "");
    let gateway = Gateway::start(&project(&upstream.provider("up", "openai"), &table)).await;
    for _ in 0..20 {
        let answer = gateway.send(ask("chat")).await;
        assert_eq!(answer.status, 200);
        assert!(answer.took < Duration::from_secs(1), "{:?}", answer.took);
    }
    receiver.until(|sent| !sent.is_empty()).await;
    let began = Instant::now();
    gateway.end().await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_refused_for_good_is_counted_and_not_sent_again() {
    let receiver = Server::start(Answers::Empty(StatusCode::BAD_REQUEST)).await;
    let (_, gateway) = with_receiver(receiver.address).await;
    let told = status_until(&gateway, |told| told["dropped"] == 40).await;
    let error = format!("{} answered with status 400", receiver.address);
    assert_eq!(told, json!({"exported": 0, "dropped": 40, "last_error": error}));
    gateway.end().await;
    let ids: Vec<_> = spans(&receiver.all()).into_iter().map(|(_, span)| span.span_id).collect();
    let mut once = ids.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!((ids.len(), once.len()), (40, 40));
}

/// Makes one call of a gateway that exports by gRPC.
async fn by_grpc(status: u32) -> (Server, Gateway) {
    let receiver = Server::start(Answers::Grpc(status)).await;
    let upstream = Upstream::start().await;
    let table = otlp(receiver.address, "protocol = \"grpc\"\nevents = false");
    let gateway = Gateway::start(&project(&upstream.provider("up", "openai"), &table)).await;
    assert_eq!(gateway.send(ask("chat")).await.status, 200);
    (receiver, gateway)
}

#[tokio::test]
async fn grpc_sends_the_same_messages_with_their_length_before_them() {
    let (receiver, gateway) = by_grpc(0).await;
    let told = status_until(&gateway, |told| told["exported"] == 2).await;
    assert_eq!(told, json!({"exported": 2, "dropped": 0, "last_error": null}));
    gateway.end().await;
    let sent = receiver.all();
    let first = &sent[0];
    assert_eq!(first.path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    assert_eq!(
        (&first.headers["content-type"], &first.headers["te"]),
        (&"application/grpc".parse().unwrap(), &"trailers".parse().unwrap())
    );
    let (prefix, message) = first.body.split_at(5);
    assert_eq!(
        (prefix[0], u32::from_be_bytes(prefix[1..].try_into().unwrap())),
        (0, u32::try_from(message.len()).unwrap())
    );
    let batch = ExportTraceServiceRequest::decode(message).unwrap();
    assert_eq!(batch.resource_spans[0].scope_spans[0].spans.len(), 2);
}

#[tokio::test]
async fn a_status_of_grpc_is_read_from_the_trailers() {
    let (receiver, gateway) = by_grpc(3).await;
    let told = status_until(&gateway, |told| told["dropped"] == 2).await;
    let error = format!("{} answered with gRPC status 3", receiver.address);
    assert_eq!(told, json!({"exported": 0, "dropped": 2, "last_error": error}));
    gateway.end().await;
    let (receiver, gateway) = by_grpc(14).await;
    receiver.until(|sent| sent.iter().filter(|one| one.body == sent[0].body).count() > 1).await;
    gateway.end().await;
}

#[tokio::test]
async fn what_may_be_taken_later_is_sent_again() {
    let receiver = Server::start(Answers::Empty(StatusCode::SERVICE_UNAVAILABLE)).await;
    let (_, gateway) = with_receiver(receiver.address).await;
    let told = status_until(&gateway, |told| !told["last_error"].is_null()).await;
    assert!(told["last_error"].as_str().unwrap().ends_with("status 503"), "{told}");
    let same = |sent: &[Sent]| {
        let traces: Vec<_> = sent.iter().filter(|sent| sent.path == "/v1/traces").collect();
        traces.iter().any(|one| traces.iter().filter(|two| two.body == one.body).count() > 1)
    };
    receiver.until(same).await;
    gateway.end().await;
}

#[tokio::test]
async fn what_a_receiver_takes_in_part_is_counted_apart_and_its_words_are_kept_nowhere() {
    let receiver = Server::start(Answers::Partly).await;
    let (_, gateway) = with_receiver(receiver.address).await;
    let told = status_until(&gateway, |told| !told["last_error"].is_null()).await;
    assert_eq!(told["last_error"], "the receiver rejected 1 items");
    gateway.end().await;
}

#[tokio::test]
async fn nothing_is_sent_unless_the_project_asks() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&project(&upstream.provider("up", "openai"), "")).await;
    assert_eq!(gateway.send(ask("chat")).await.status, 200);
    assert_eq!(status(&gateway).await, Value::Null);
    gateway.end().await;
}

#[tokio::test]
async fn a_table_that_leads_nowhere_is_said_at_start() {
    let files: Files = vec![("backstay.toml".into(), "[otlp]\n".into())];
    let dir = crate::harness::project(&files);
    let options = backstay_server::serve::Options {
        dir: dir.path().to_owned(),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        log: false,
        fresh_key: [7; 32],
        seed: 1,
    };
    let error = backstay_server::serve::start(&options).await.unwrap_err().to_string();
    assert!(error.contains("names no `endpoint`"), "{error}");
}
