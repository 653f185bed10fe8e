//! From an answer to an HTTP response: status, headers, and a body in the client's protocol.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{body::Body, response::Response};
use backstay_core::{
    failure::Failure,
    record::{Cost, Degraded},
};
use backstay_engine::{
    answer::{Answer, AnswerBody, Head, Piece},
    request::{Client, Request},
};
use backstay_providers::wire::Reply;
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::status::status_of;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

/// Headers of an answer: ours, and what HTTP adds.
const MOST_HEADERS: usize = 12;

/// The response to a call.
pub(super) fn answered(answer: Answer, request: &Request) -> Response {
    let Answer { head, body } = answer;
    let (status, kind, body) = match body {
        AnswerBody::Reply(reply) => match reply_body(&head, &reply, request.client) {
            Ok(body) => (StatusCode::OK, JSON, Body::from(body)),
            Err(failure) => failed(&head, &failure, request.client),
        },
        AnswerBody::Events(events) => (StatusCode::OK, EVENTS, Body::from(events)),
        AnswerBody::Live(pieces) => (StatusCode::OK, EVENTS, live_body(pieces)),
        AnswerBody::Failed(failure) => failed(&head, &failure, request.client),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(MOST_HEADERS);
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    write_headers(&head, headers);
    response
}

/// The response to a request that is no call: an error that leaves no record.
pub(super) fn told(request: &Request, failure: &Failure) -> Response {
    let head = Head {
        id: request.id,
        call: String::new(),
        release: None,
        variant: Default::default(),
        outcome: Some(backstay_core::record::Outcome::Failed(failure.class)),
        degraded: Degraded::None,
        failure: Some(failure.clone()),
        attempts: Vec::new(),
        latency: request.received.elapsed(),
        overhead: request.received.elapsed(),
        usage: None,
        cost: None,
    };
    answered(Answer { head, body: AnswerBody::Failed(Box::new(failure.clone())) }, request)
}

fn failed(head: &Head, failure: &Failure, client: Client) -> (StatusCode, HeaderValue, Body) {
    let body = client.protocol().error_body(&head.error_view(failure));
    (status_of(failure), JSON, Body::from(body.to_string()))
}

fn live_body(pieces: mpsc::Receiver<Piece>) -> Body {
    Body::new(StreamBody::new(Pieces { pieces, ended: false }))
}

/// The pieces of a live stream as body frames. A stream whose call went without its last piece (a
/// defect of Backstay) breaks the connection: to its client it must not look complete.
struct Pieces {
    pieces: mpsc::Receiver<Piece>,
    ended: bool,
}

impl futures_core::Stream for Pieces {
    type Item = Result<Frame<Bytes>, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = ready!(self.pieces.poll_recv(context));
        self.ended = !matches!(piece, Some(Piece::More(_)));
        Poll::Ready(Some(match piece {
            Some(Piece::More(bytes) | Piece::Last(bytes)) => Ok(Frame::data(bytes)),
            None => Err(io::Error::other("the call ended without the end of its stream")),
        }))
    }
}

fn reply_body(head: &Head, reply: &Reply, client: Client) -> Result<Bytes, Failure> {
    if client == Client::Native {
        return Ok(native_body(head, reply).to_string().into());
    }
    let created = head.id.unix_millis() / 1000;
    let rendered = client.protocol().render_reply(reply, created)?;
    if head.degraded == Degraded::None {
        return Ok(rendered);
    }
    // A degraded answer says so in its body too: headers get lost on the way to a person.
    let mut value: Value = serde_json::from_slice(&rendered).unwrap_or_default();
    if let Some(body) = value.as_object_mut() {
        body.insert("backstay".to_owned(), degraded_mark(head));
    }
    Ok(value.to_string().into())
}

fn degraded_mark(head: &Head) -> Value {
    json!({
        "call_id": head.id.to_string(),
        "degraded": head.degraded.name(),
        "failure": head.failure.as_ref().map(|failure| failure.class.code()),
    })
}

fn native_body(head: &Head, reply: &Reply) -> Value {
    let choice = reply.choices.first();
    let text = choice.map(|choice| choice.text.as_str()).unwrap_or_default();
    let tools = choice.map(|choice| choice.tool_calls.as_slice()).unwrap_or_default();
    let refusal = choice.and_then(|choice| choice.refusal.as_deref());
    let attempts = head.attempts.iter().map(|attempt| {
        json!({
            "target": attempt.target,
            "failure": attempt.failure.map(|class| class.code()),
            "ms": attempt.took_us / 1000,
        })
    });
    let mut body = json!({
        "id": head.id.to_string(),
        "call": head.call,
        "release": head.release,
        // What a program reads: the JSON of a structured answer, else the text.
        "output": serde_json::from_str::<Value>(text).unwrap_or_else(|_| text.into()),
        "text": text,
        "outcome": head.outcome.map(|outcome| outcome.name()),
        "degraded": head.degraded.name(),
        "failure": head.failure.as_ref().map(|failure| failure.class.code()),
        "refusal": refusal,
        "usage": head.usage,
        "cost_usd": head.cost.and_then(Cost::usd),
        "latency_ms": u64::try_from(head.latency.as_millis()).unwrap_or(u64::MAX),
        "attempts": attempts.collect::<Vec<_>>(),
    });
    if let Some(body) = body.as_object_mut().filter(|_| !tools.is_empty()) {
        let calls = tools
            .iter()
            .map(|tool| json!({"id": tool.id, "name": tool.name, "arguments": tool.arguments}));
        body.insert("tool_calls".to_owned(), calls.collect());
    }
    body
}

/// When it is of use to ask again: as the provider said, or in a moment where it did not say.
fn come_back(failure: &Failure) -> Option<Duration> {
    let soon = match status_of(failure) {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Some(Duration::from_secs(1))
        }
        _ => None,
    };
    failure.retry_after.or(soon)
}

/// The headers of every answer, errors included.
fn write_headers(head: &Head, headers: &mut http::HeaderMap) {
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("x-backstay-call-id", &head.id.to_string());
    put("x-backstay-release", head.release.as_deref().unwrap_or("none"));
    put("x-backstay-variant", head.variant.name());
    put("x-backstay-outcome", head.outcome.map_or("pending", |outcome| outcome.name()));
    put("x-backstay-degraded", head.degraded.name());
    let attempts = head.attempts.len() + usize::from(head.outcome.is_none());
    put("x-backstay-attempts", &attempts.to_string());
    put("x-backstay-overhead-us", &head.overhead.as_micros().to_string());
    // The vendors' SDKs retry every 5xx by themselves; where that is of no use, they are told.
    if head.failure.as_ref().is_some_and(|failure| !failure.class.row().retryable) {
        put("x-should-retry", "false");
    }
    let answered = head.degraded != Degraded::None;
    let failure = head.failure.as_ref().filter(|_| !answered);
    if let Some(pause) = failure.and_then(come_back) {
        let seconds = pause.as_millis().div_ceil(1000).max(1);
        // `div_ceil`: a client that comes back too early is refused again.
        headers.insert(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(1)));
    }
}
