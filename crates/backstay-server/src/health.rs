//! `/healthz`: the process answers. `/readyz`: it should be sent traffic, and how it fares.

use std::{
    path::{MAIN_SEPARATOR, Path},
    sync::Arc,
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use backstay_engine::Sink;
use backstay_store::Accounting;
use http::StatusCode;
use serde_json::{Value, json};

use crate::{otlp::Status as OtlpStatus, state::Server};

/// The longest text of what is wrong with the store.
const LONGEST_ERROR: usize = 500;

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
    let (engine, alerts) = (server.engine(), server.alerts());
    let body = json!({
        "status": if draining { "draining" } else { "ok" },
        "calls": engine.plans().call_names().count(),
        "under_way": engine.under_way(),
        "project": server.broken().as_deref().unwrap_or("ok"),
        "records": records(engine.sink(), server.desk().reads().dir(), server.now_ms()),
        "alerting": {"last_look_ms": Some(alerts.at_ms).filter(|at_ms| *at_ms > 0)},
        "otlp": otlp(&server.otlp()),
        "alerts": alerts.firing().map(|alert| {
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

fn records(sink: &Sink, dir: &Path, now_ms: u64) -> Value {
    let Sink::Log(recorder) = sink else { return Value::Null };
    books(&recorder.accounting(), dir, now_ms)
}

/// What became of the records of the store in `dir`. This page needs no key: of paths it tells the
/// files' names alone.
fn books(accounting: &Accounting, dir: &Path, now_ms: u64) -> Value {
    let dir = format!("{}{MAIN_SEPARATOR}", dir.display());
    let told = |error: &Option<String>| {
        error
            .as_ref()
            .map(|error| error.replace(&dir, "").chars().take(LONGEST_ERROR).collect::<String>())
    };
    let shed = accounting.shed.iter().map(|(reason, n)| (reason.to_string(), json!(n)));
    json!({
        "received": accounting.received,
        "stored": accounting.stored,
        "pending": accounting.pending,
        // What an earlier process answered and did not get to store.
        "replayed": accounting.replayed,
        "shed": shed.collect::<serde_json::Map<_, _>>(),
        // What is wrong with the call log now, with the sums over it, and with shortening it.
        "store_error": told(&accounting.store_error),
        "rollup_error": told(&accounting.rollup_error),
        "retention_error": told(&accounting.retention_error),
        // For how long the sums have lacked a call, if that is longer than a minute.
        "rollups_behind_ms": accounting.behind_ms(now_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_store_is_told_without_where_it_is() {
        let accounting = Accounting {
            store_error: Some("/srv/shop/data/calls-2026-11-26.db: disk is full".to_owned()),
            rollup_error: Some(format!("/srv/shop/data/rollup.db: {}", "long ".repeat(1000))),
            ..Accounting::default()
        };
        let told = books(&accounting, Path::new("/srv/shop/data"), 0);
        assert_eq!(told["store_error"], "calls-2026-11-26.db: disk is full");
        let rollups = told["rollup_error"].as_str().unwrap();
        assert!(rollups.starts_with("rollup.db: long") && rollups.len() == LONGEST_ERROR);
        assert_eq!(told["rollups_behind_ms"], Value::Null);
        let late = Accounting { waiting_since_ms: Some(1), ..Accounting::default() };
        let late = books(&late, Path::new("/srv/shop/data"), 60_002);
        assert_eq!(late["rollups_behind_ms"], 60_001);
        let well = books(&Accounting::default(), Path::new("/srv/shop/data"), 60_002);
        assert_eq!((&well["store_error"], &well["rollup_error"]), (&Value::Null, &Value::Null));
    }
}
