//! `/api/v1`: the control API. The dashboard uses nothing else.
//!
//! A handler reads its parameters, asks the stores on a bounded number of blocking threads, and lets a
//! pure function of `shape` put the answer together. Nothing here touches a call.

mod access;
mod alerts;
mod board;
mod body;
mod call_page;
#[cfg(test)]
mod described;
mod events;
mod health;
mod log;
mod openapi;
mod query;
mod session;
mod shape;
mod types;

use std::sync::Arc;

use axum::{Router, body::Body, middleware, response::Response, routing::any};
use bytes::Bytes;
use http::{HeaderValue, header::CONTENT_TYPE};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{desk::ApiError, state::Server};

pub(crate) use self::events::run as tell_events;

/// The routes of the control API.
pub(crate) fn routes(server: &Arc<Server>) -> Router<Arc<Server>> {
    let guard = middleware::from_fn_with_state(Arc::clone(server), access::guard);
    let guarded = Router::from(guarded()).route_layer(guard);
    Router::from(open())
        .merge(guarded)
        .method_not_allowed_fallback(async || ApiError::method())
        .route("/api", any(nothing_here))
        .route("/api/{*path}", any(nothing_here))
        .layer(middleware::from_fn(access::for_browsers))
}

async fn nothing_here() -> ApiError {
    ApiError::missing("path", "there is nothing at this path; see /api/v1/openapi.json")
}

/// An answer as JSON text.
fn encoded(answer: &impl Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(answer).map(Bytes::from).map_err(|error| {
        tracing::error!(%error, "an answer of the control API cannot be written as JSON");
        ApiError::defect()
    })
}

/// A response with an encoded answer.
fn json(answer: Bytes) -> Response {
    let mut response = Response::new(Body::from(answer));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn open() -> OpenApiRouter<Arc<Server>> {
    OpenApiRouter::new()
        .routes(routes!(session::session, session::sign_in, session::sign_out))
        .routes(routes!(openapi::openapi))
}

fn guarded() -> OpenApiRouter<Arc<Server>> {
    OpenApiRouter::new()
        .routes(routes!(board::board))
        .routes(routes!(call_page::call_page))
        .routes(routes!(log::log))
        .routes(routes!(log::entry))
        .routes(routes!(alerts::alerts))
        .routes(routes!(alerts::history))
        .routes(routes!(alerts::alert))
        .routes(routes!(alerts::silences, alerts::silence_add))
        .routes(routes!(alerts::silence_end))
        .routes(routes!(health::health))
        .routes(routes!(health::prices))
        .routes(routes!(events::events))
}
