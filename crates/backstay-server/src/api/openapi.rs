//! The OpenAPI description of the control API: generated from the handlers and types, committed, and
//! served as it is committed.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

/// What is committed; a test compares it with what the handlers say.
const DOCUMENT: &str = include_str!("../../../../schemas/openapi.json");

/// This description.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", operation_id = "openapi", tag = "session", security(()),
    responses((status = 200, description = "The OpenAPI description", body = Object))
)]
pub(super) async fn openapi() -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];
    (headers, DOCUMENT).into_response()
}
