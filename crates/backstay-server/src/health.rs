//! `/healthz`: the process answers. `/readyz`: it should be sent traffic, and how it fares.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use backstay_engine::Sink;
use http::StatusCode;
use serde_json::{Value, json};

use crate::{otlp::Status as OtlpStatus, state::Server};

pub(crate) fn routes() -> Router<Arc<Server>> {
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready))
}

async fn alive() -> Response {
    axum::Json(json!({"status": "ok"})).into_response()
}

/// 503 while draining. A broken edit of the project does not make the server unready: it serves the
/// last good plans, and says so here.
async fn ready(State(server): State<Arc<Server>>) -> Response {
    let draining = server.draining();
    let status = if draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let engine = server.engine();
    let body = json!({
        "status": if draining { "draining" } else { "ok" },
        "calls": engine.plans().call_names().count(),
        "under_way": engine.under_way(),
        "project": server.broken().as_deref().unwrap_or("ok"),
        "records": records(engine.sink()),
        "otlp": otlp(&server.otlp()),
        "alerts": server.alerts().firing().map(|alert| {
            json!({
                "rule": alert.subject.rule.name(),
                "call": alert.subject.call,
                "severity": alert.severity.name(),
                "arithmetic": alert.arithmetic,
            })
        }).collect::<Vec<_>>(),
        "breakers": engine.targets().open_breakers().into_iter().map(|(call, target, state)| {
            json!({"call": call, "target": target.to_string(), "state": format!("{state:?}")})
        }).collect::<Vec<_>>(),
    });
    (status, axum::Json(body)).into_response()
}

fn otlp(status: &OtlpStatus) -> Value {
    if !status.enabled {
        return Value::Null;
    }
    json!({
        "exported": status.exported,
        "dropped": status.dropped,
        "last_error": status.last_error,
    })
}

fn records(sink: &Sink) -> Value {
    let Sink::Log(recorder) = sink else { return Value::Null };
    let accounting = recorder.accounting();
    let shed = accounting.shed.iter().map(|(reason, n)| (reason.to_string(), json!(n)));
    json!({
        "received": accounting.received,
        "stored": accounting.stored,
        "pending": accounting.pending,
        // What an earlier process answered and did not get to store.
        "replayed": accounting.replayed,
        "shed": shed.collect::<serde_json::Map<_, _>>(),
    })
}
