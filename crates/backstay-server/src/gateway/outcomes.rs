//! `POST /v1/outcomes`: the consumer's verdict on answers, one or many, early or late.

use std::sync::Arc;

use axum::{
    extract::{Request as HttpRequest, State},
    response::{IntoResponse, Response},
};
use backstay_core::{
    failure::Failure,
    record::{CallId, OutcomeReport},
    redact::redact,
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{body, respond};
use crate::state::Server;

/// Verdicts in one request.
const MOST: usize = 1000;
/// The longest reason or expected answer that is kept.
const LONGEST: usize = 16 << 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verdict {
    call_id: String,
    ok: bool,
    score: Option<f64>,
    reason: Option<String>,
    expected: Option<Value>,
}

pub(super) async fn report(State(server): State<Arc<Server>>, request: HttpRequest) -> Response {
    let (parts, body) = request.into_parts();
    let refuse = |failure: &Failure| {
        let client = super::client_of(&parts.headers);
        respond::told(&super::blank(&server, client, tokio::time::Instant::now()), failure)
    };
    if let Err(failure) = server.admit(&parts.headers) {
        return refuse(&failure);
    }
    let read = body::read(body, &parts.headers, server.limits().body).await;
    let now = u64::try_from(server.engine().clock().since_epoch().as_millis()).unwrap_or(u64::MAX);
    match read.and_then(|raw| parse(&raw, now)) {
        Ok(reports) => {
            let accepted = reports.len();
            reports.into_iter().for_each(|report| server.engine().report(report));
            (StatusCode::ACCEPTED, axum::Json(json!({"accepted": accepted}))).into_response()
        }
        Err(failure) => refuse(&failure),
    }
}

/// One verdict, an array of them, or `{"outcomes": […]}`. All or nothing: a batch with a mistake is
/// refused whole, so that it can be mended and sent again.
fn parse(raw: &[u8], now_ms: u64) -> Result<Vec<OutcomeReport>, Failure> {
    let complain = |why: String| Failure::bad_request("body", why);
    let value: Value = serde_json::from_slice(raw)
        .map_err(|error| complain(format!("the request's body is not valid JSON: {error}")))?;
    let verdicts = match value {
        Value::Array(verdicts) => verdicts,
        Value::Object(mut body) if body.contains_key("outcomes") => match body.remove("outcomes") {
            Some(Value::Array(verdicts)) => verdicts,
            Some(_) | None => return Err(complain("`outcomes` must be an array".to_owned())),
        },
        one @ (Value::Object(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)) => vec![one],
    };
    if verdicts.len() > MOST {
        return Err(complain(format!("a batch holds at most {MOST} outcomes")));
    }
    verdicts
        .into_iter()
        .enumerate()
        .map(|(position, verdict)| {
            report_of(verdict, now_ms).map_err(|why| complain(format!("outcome {position}: {why}")))
        })
        .collect()
}

fn report_of(verdict: Value, now_ms: u64) -> Result<OutcomeReport, String> {
    let verdict: Verdict = serde_json::from_value(verdict).map_err(|error| error.to_string())?;
    let call_id: CallId = verdict.call_id.parse().map_err(|_| {
        "`call_id` is not the id of a call; it is in the header x-backstay-call-id".to_owned()
    })?;
    if verdict.reason.as_ref().is_some_and(|reason| reason.len() > LONGEST) {
        return Err(format!("`reason` has more than {LONGEST} bytes"));
    }
    let expected = verdict.expected.as_ref().map(redacted).transpose()?;
    Ok(OutcomeReport {
        call_id,
        ok: verdict.ok,
        score: verdict.score,
        reason: verdict.reason.map(|reason| redact(&reason).into_owned()),
        expected,
        reported_ms: now_ms,
    })
}

fn redacted(value: &Value) -> Result<Value, String> {
    let text = value.to_string();
    if text.len() > LONGEST {
        return Err(format!("`expected` has more than {LONGEST} bytes"));
    }
    Ok(serde_json::from_str(&redact(&text)).unwrap_or_else(|_| "[redacted]".into()))
}
