//! What is wrong with a request to the control API, and with which status that is told.

use axum::response::{IntoResponse, Response};
use backstay_core::{failure::Failure, record::CallId};
use backstay_store::{ErrorKind, StoreError};
use http::{
    HeaderValue, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};

use serde::Serialize;
use utoipa::ToSchema;

use crate::status_of;

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// The error.
    pub(crate) error: ErrorText,
}

/// An error for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ErrorText {
    /// What is wrong, and how to mend it.
    pub(crate) message: String,
    /// The parameter, header or field that it is about.
    pub(crate) param: Option<String>,
    /// 409: the ids that the prefix fits, eight at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(crate) ids: Vec<String>,
}

/// An error of the control API.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    param: Option<String>,
    ids: Vec<String>,
    retry_after: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, param: Option<&str>, message: impl Into<String>) -> Self {
        let param = param.map(str::to_owned);
        Self { status, message: message.into(), param, ids: Vec::new(), retry_after: None }
    }

    /// A parameter or field is wrong.
    pub(crate) fn bad(param: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some(param), message)
    }

    /// There is no such thing.
    pub(crate) fn missing(param: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Some(param), message)
    }

    /// The request comes from where it may not.
    pub(crate) fn forbidden(param: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, Some(param), message)
    }

    /// No valid key was shown.
    pub(crate) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, Some("authorization"), message)
    }

    /// The beginning of an id fits several calls.
    pub(crate) fn ambiguous(ids: &[CallId]) -> Self {
        let message = "several calls have ids that begin like this; send more characters of one of \
                       `ids`";
        let ids = ids.iter().map(ToString::to_string).collect();
        Self { ids, ..Self::new(StatusCode::CONFLICT, Some("id"), message) }
    }

    /// Come back in `seconds`.
    pub(crate) fn busy(message: impl Into<String>, seconds: u64) -> Self {
        let busy = Self::new(StatusCode::SERVICE_UNAVAILABLE, None, message);
        Self { retry_after: Some(seconds), ..busy }
    }

    /// Too many attempts; come back in `seconds`.
    pub(crate) fn too_many(message: impl Into<String>, seconds: u64) -> Self {
        let many = Self::new(StatusCode::TOO_MANY_REQUESTS, None, message);
        Self { retry_after: Some(seconds), ..many }
    }

    /// This path does not answer to this method.
    pub(crate) fn method() -> Self {
        let message = "this path does not answer to this method; see /api/v1/openapi.json";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, Some("method"), message)
    }

    /// A defect of Backstay.
    pub(crate) fn defect() -> Self {
        let message = "a defect in Backstay ended this request; the server's log has the details";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, None, message)
    }
}

impl From<StoreError> for ApiError {
    /// The details (paths, SQL) are the business of the server's log alone.
    fn from(error: StoreError) -> Self {
        if error.kind == ErrorKind::Conflict {
            return Self::new(StatusCode::CONFLICT, None, error.message);
        }
        tracing::warn!(%error, "the control API could not read the store");
        Self::busy("the store cannot be read at the moment; the server's log says why", 5)
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        Self::new(status_of(&failure), failure.param.as_deref(), failure.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, message, param, ids, retry_after } = self;
        let body = ErrorBody { error: ErrorText { message, param, ids } };
        let mut response = (status, axum::Json(body)).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
