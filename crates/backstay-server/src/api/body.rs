//! Reads the JSON body of a request; every complaint names the field and what it may be.

use axum::extract::Request;
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

use super::query::named_field;
use crate::{desk::ApiError, gateway::body};

/// No body of the control API is larger, in bytes.
const LARGEST: usize = 16 << 10;

/// The body of `request`. It has to call itself JSON, which a form of another site cannot.
///
/// # Errors
/// The first mistake.
pub(super) async fn read<T: DeserializeOwned>(request: Request) -> Result<T, ApiError> {
    let (parts, raw) = request.into_parts();
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_json = kind.and_then(|kind| kind.split(';').next());
    if is_json.is_none_or(|kind| !kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(ApiError::bad(
            "content-type",
            "the body has to be JSON; send `content-type: application/json`",
        ));
    }
    let raw = body::read(raw, &parts.headers, LARGEST).await?;
    let mut json = serde_json::Deserializer::from_slice(&raw);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let why = error.into_inner().to_string();
        let param = if path == "." { named_field(&why).unwrap_or("body".to_owned()) } else { path };
        ApiError::bad(&param, format!("the body is not accepted: {why}"))
    })?;
    json.end().map_err(|error| {
        ApiError::bad("body", format!("the body is not one JSON document: {error}"))
    })?;
    Ok(read)
}
