//! The data plane over HTTP: what an application's SDK talks to.
//!
//! A handler reads a bounded body, turns it into an engine request, and writes the answer in the
//! client's protocol. It decides nothing about failures.

pub(crate) mod body;
mod models;
mod outcomes;
mod parse;
mod respond;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Request as HttpRequest, State, rejection::PathRejection},
    response::Response,
    routing::{get, post},
};
use backstay_core::failure::{Failure, Refusal};
use backstay_engine::request::{Client, Request};
use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use crate::state::Server;
use parse::Headers;

/// The routes of the data plane.
pub(crate) fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/messages", post(messages))
        .route("/v1/calls/{call}", post(native))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*name}", get(models::one))
        .route("/v1/outcomes", post(outcomes::report))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
}

async fn chat_completions(State(server): State<Arc<Server>>, request: HttpRequest) -> Response {
    answer(&server, Client::OpenAi, None, request).await
}

async fn messages(State(server): State<Arc<Server>>, request: HttpRequest) -> Response {
    answer(&server, Client::Anthropic, None, request).await
}

async fn native(
    State(server): State<Arc<Server>>,
    call: Result<Path<String>, PathRejection>,
    request: HttpRequest,
) -> Response {
    // A name that is not UTF-8 is no call's name, like the empty one.
    let call = call.map(|Path(call)| call).unwrap_or_default();
    answer(&server, Client::Native, Some(call), request).await
}

/// One call over HTTP, from its first byte to its answer.
async fn answer(
    server: &Arc<Server>,
    client: Client,
    call: Option<String>,
    request: HttpRequest,
) -> Response {
    let received = Instant::now();
    let (parts, body) = request.into_parts();
    let mut call_request = blank(server, client, received);
    let arriving = match server.admit(&parts.headers) {
        Ok(arriving) => arriving,
        Err(failure) => return refuse(server, &call_request, &failure),
    };
    let raw = match body::read(body, &parts.headers, server.limits().body).await {
        Ok(raw) => raw,
        Err(failure) => return refuse(server, &call_request, &failure),
    };
    drop(arriving);
    call_request.raw = raw;
    match parse::fill(&mut call_request, call, &Headers(&parts.headers)) {
        Ok(()) => {
            let request = Arc::new(call_request);
            respond::answered(server.engine().call(Arc::clone(&request)).await, &request)
        }
        Err(failure) => refuse(server, &call_request, &failure),
    }
}

fn blank(server: &Server, client: Client, received: Instant) -> Request {
    Request {
        id: server.engine().new_id(),
        received,
        client,
        address: Default::default(),
        body: Arc::default(),
        raw: Bytes::new(),
        inputs: None,
        unit: None,
        stream: false,
        include_usage: false,
        deadline: None,
        trace: None,
    }
}

/// Refuses a request in its protocol's shape; it is recorded like any other call.
fn refuse(server: &Server, request: &Request, failure: &Failure) -> Response {
    respond::answered(server.engine().refuse(request, None, failure), request)
}

/// The protocol that a client of an endpoint without one most likely speaks.
fn client_of(headers: &HeaderMap) -> Client {
    if headers.contains_key("anthropic-version") { Client::Anthropic } else { Client::OpenAi }
}

async fn unknown_path(State(server): State<Arc<Server>>, request: HttpRequest) -> Response {
    let failure = Failure::bad_request(
        "path",
        "there is nothing at this path; calls go to /v1/chat/completions, /v1/messages or \
         /v1/calls/{call}",
    )
    .because(Refusal::NotFound);
    unrecorded(&server, &request, &failure)
}

/// The answer to a method that a path does not have.
pub(crate) async fn wrong_method(
    State(server): State<Arc<Server>>,
    request: HttpRequest,
) -> Response {
    let failure = Failure::bad_request("method", "this path does not answer to this method")
        .because(Refusal::Method);
    unrecorded(&server, &request, &failure)
}

/// An error about a request that is no call.
fn unrecorded(server: &Server, request: &HttpRequest, failure: &Failure) -> Response {
    told(server, request.headers(), failure)
}

/// The same, where only the headers of the request are left.
pub(crate) fn told(server: &Server, headers: &HeaderMap, failure: &Failure) -> Response {
    let blank = blank(server, client_of(headers), Instant::now());
    respond::told(&blank, failure)
}
