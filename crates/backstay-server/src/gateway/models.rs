//! `GET /v1/models`: what can be named as `model`, in the shape of the client's SDK.

use std::sync::Arc;

use axum::{
    extract::{Request as HttpRequest, State},
    response::{IntoResponse, Response},
};
use backstay_engine::request::Client;
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

fn openai_list(names: &[String]) -> Value {
    let models = names
        .iter()
        .map(|name| json!({"id": name, "object": "model", "created": 0, "owned_by": "backstay"}));
    json!({"object": "list", "data": models.collect::<Vec<_>>()})
}

fn anthropic_list(names: &[String]) -> Value {
    let models = names.iter().map(|name| {
        json!({
            "type": "model", "id": name, "display_name": name,
            "created_at": "1970-01-01T00:00:00Z",
        })
    });
    json!({
        "data": models.collect::<Vec<_>>(),
        "has_more": false,
        "first_id": names.first(),
        "last_id": names.last(),
    })
}
