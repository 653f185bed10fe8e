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
/// The longest id of an answer: the record keeps no more of one.
const LONGEST_ID: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verdict {
    call_id: Option<String>,
    response_id: Option<String>,
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
    // Held while the body is read: bodies that come slowly count against the limit.
    let _arriving = match server.admit(&parts.headers) {
        Ok(arriving) => arriving,
        Err(failure) => return refuse(&failure),
    };
    let read = body::read(body, &parts.headers, server.limits().body).await;
    let now = u64::try_from(server.engine().clock().since_epoch().as_millis()).unwrap_or(u64::MAX);
    match read.and_then(|raw| parse(&raw, now)) {
        Ok(reports) => {
            let accepted = reports.len();
            for (subject, report) in reports {
                match subject {
                    Subject::Call => server.engine().report(report),
                    Subject::Response(id) => server.engine().report_response(id, report),
                }
            }
            (StatusCode::ACCEPTED, axum::Json(json!({"accepted": accepted}))).into_response()
        }
        Err(failure) => refuse(&failure),
    }
}

/// One verdict, an array of them, or `{"outcomes": […]}`. All or nothing: a batch with a mistake is
/// refused whole, so that it can be mended and sent again.
fn parse(raw: &[u8], now_ms: u64) -> Result<Vec<(Subject, OutcomeReport)>, Failure> {
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

fn report_of(verdict: Value, now_ms: u64) -> Result<(Subject, OutcomeReport), String> {
    let verdict: Verdict = serde_json::from_value(verdict).map_err(|error| error.to_string())?;
    let (subject, call_id) = subject_of(verdict.call_id, verdict.response_id)?;
    if verdict.reason.as_ref().is_some_and(|reason| reason.len() > LONGEST) {
        return Err(format!("`reason` has more than {LONGEST} bytes"));
    }
    let expected = verdict.expected.as_ref().map(redacted).transpose()?;
    let report = OutcomeReport {
        call_id,
        ok: verdict.ok,
        score: verdict.score,
        reason: verdict.reason.map(|reason| redact(&reason).into_owned()),
        expected,
        reported_ms: now_ms,
    };
    Ok((subject, report))
}

/// What a verdict is about.
#[derive(Debug)]
enum Subject {
    /// The call whose id is in the report.
    Call,
    /// The answer that its provider calls so.
    Response(String),
}

fn subject_of(
    call_id: Option<String>,
    response_id: Option<String>,
) -> Result<(Subject, CallId), String> {
    match (call_id, response_id) {
        (Some(id), None) => {
            let id = id.parse().map_err(
                |_| "`call_id` is not the id of a call; it is in the header x-backstay-call-id",
            )?;
            Ok((Subject::Call, id))
        }
        (None, Some(id)) if id.is_empty() || id.len() > LONGEST_ID => {
            Err(format!("`response_id` must have 1 to {LONGEST_ID} bytes"))
        }
        // An answer of Backstay's own is called by the id of its call.
        (None, Some(id)) => match own_answer(&id) {
            Some(id) => Ok((Subject::Call, id)),
            None => Ok((Subject::Response(id), CallId::default())),
        },
        (Some(_), Some(_)) => Err("name either `call_id` or `response_id`, not both".to_owned()),
        (None, None) => Err("name the call: `call_id` is in the header x-backstay-call-id, or \
             send the answer's own id as `response_id`"
            .to_owned()),
    }
}

/// The call of an answer that Backstay named itself: a stand-in, a refusal, a translated stream.
fn own_answer(response_id: &str) -> Option<CallId> {
    let prefix = ["chatcmpl-", "msg_"].into_iter().find(|prefix| response_id.starts_with(prefix));
    let id = response_id.strip_prefix(prefix.unwrap_or_default())?;
    id.parse().ok().filter(|id: &CallId| id.0.get_version_num() == 7)
}

fn redacted(value: &Value) -> Result<Value, String> {
    let text = value.to_string();
    if text.len() > LONGEST {
        return Err(format!("`expected` has more than {LONGEST} bytes"));
    }
    Ok(serde_json::from_str(&redact(&text)).unwrap_or_else(|_| "[redacted]".into()))
}
