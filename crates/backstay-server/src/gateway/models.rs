//! `GET /v1/models`: what can be named as `model`, in the shape of the client's SDK.

use std::sync::Arc;

use axum::{
    extract::{Path, Request as HttpRequest, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use backstay_engine::{plan::Address, request::Client};
use serde_json::{Value, json};

use super::{client_of, unrecorded};
use crate::state::Server;

pub(super) async fn list(State(server): State<Arc<Server>>, request: HttpRequest) -> Response {
    if let Err(failure) = server.admit(request.headers()) {
        return unrecorded(&server, &request, &failure);
    }
    let plans = server.engine().plans();
    let mut names: Vec<String> = plans.call_names().map(str::to_owned).collect();
    names.extend(plans.target_names());
    let body = match client_of(request.headers()) {
        Client::Anthropic => anthropic_list(&names),
        Client::OpenAi | Client::Native => openai_list(&names),
    };
    axum::Json(body).into_response()
}

/// `GET /v1/models/{name}`: one of them.
pub(super) async fn one(
    State(server): State<Arc<Server>>,
    name: Result<Path<String>, PathRejection>,
    request: HttpRequest,
) -> Response {
    if let Err(failure) = server.admit(request.headers()) {
        return unrecorded(&server, &request, &failure);
    }
    let name = name.map(|Path(name)| name).unwrap_or_default();
    let address = Address { model: name, ..Address::default() };
    if let Err(failure) = server.engine().plans().resolve(&address) {
        return unrecorded(&server, &request, &failure);
    }
    let body = match client_of(request.headers()) {
        Client::Anthropic => anthropic_model(&address.model),
        Client::OpenAi | Client::Native => openai_model(&address.model),
    };
    axum::Json(body).into_response()
}

fn openai_model(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "backstay"})
}

fn openai_list(names: &[String]) -> Value {
    let models: Vec<_> = names.iter().map(|name| openai_model(name)).collect();
    json!({"object": "list", "data": models})
}

fn anthropic_model(name: &str) -> Value {
    json!({
        "type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z",
    })
}

fn anthropic_list(names: &[String]) -> Value {
    let models: Vec<_> = names.iter().map(|name| anthropic_model(name)).collect();
    json!({
        "data": models,
        "has_more": false,
        "first_id": names.first(),
        "last_id": names.last(),
    })
}
