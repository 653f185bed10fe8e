//! `GET /metrics`: one scrape over HTTP.

use std::sync::Arc;

use axum::{Router, body::Body, extract::State, response::Response, routing::get};
use backstay_core::failure::{Failure, FailureClass};
use backstay_engine::Sink;
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
};
use tokio::sync::Mutex;

use crate::{
    gateway::told,
    metrics::{Format, Gauges},
    state::Server,
};

/// What the engine knows at the moment.
fn gauges(server: &Server) -> Gauges {
    let engine = server.engine();
    let breakers = engine.targets().open_breakers();
    Gauges {
        under_way: engine.under_way(),
        up: !server.draining(),
        now_ms: server.now_ms(),
        last_look_ms: server.alerts().at_ms,
        records: match engine.sink() {
            Sink::Log(recorder) => Some(recorder.accounting()),
            Sink::Memory(_) | Sink::Off => None,
        },
        breakers: breakers
            .into_iter()
            .map(|(_, target, state)| (target.to_string(), state))
            .collect(),
    }
}

pub(crate) fn routes() -> Router<Arc<Server>> {
    // One scrape at a time: each takes memory for all series.
    let turns = Arc::new(Mutex::new(()));
    let scraped = move |State(server): State<Arc<Server>>, headers: HeaderMap| {
        scrape(server, headers, Arc::clone(&turns))
    };
    Router::new().route("/metrics", get(scraped))
}

/// Needs a key like everything that tells of calls, but no place among them: an overloaded gateway is
/// scraped too.
async fn scrape(server: Arc<Server>, headers: HeaderMap, turns: Arc<Mutex<()>>) -> Response {
    if let Err(failure) = server.let_in(&headers) {
        return told(&server, &headers, &failure);
    }
    let format = Format::accepted(&accept(&headers));
    let metrics = Arc::clone(server.metrics());
    let _turn = turns.lock().await;
    let gauges = gauges(&server);
    let written = tokio::task::spawn_blocking(move || metrics.write(gauges, format)).await;
    match written {
        Ok(Ok(body)) => exposition(body, format),
        Ok(Err(error)) => {
            tracing::error!(%error, "the metrics cannot be written");
            told(&server, &headers, &defect())
        }
        Err(error) => {
            tracing::error!(%error, "writing the metrics ended in a panic");
            told(&server, &headers, &defect())
        }
    }
}

fn defect() -> Failure {
    Failure::new(
        FailureClass::UpstreamError,
        "a defect in Backstay kept the metrics from being written; the server's log has the details",
    )
}

fn exposition(body: Vec<u8>, format: Format) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// All that a request says it accepts.
fn accept(headers: &HeaderMap) -> String {
    let values = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}
