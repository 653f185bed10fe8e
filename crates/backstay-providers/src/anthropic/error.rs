//! Which class an error object stands for: by its type, then by its status. Its sentence is read for
//! the marks of the few cases that have no type of their own, and never passed on.

use backstay_core::failure::{Failure, FailureClass, Phase};
use http::HeaderMap;
use serde_json::Value;

use crate::rejection::{class_of_status, mentions, rejected};

/// The failure that `body` describes. A `status` of 2xx means that it came in place of a reply.
pub(super) fn classify(status: u16, headers: &HeaderMap, body: &[u8]) -> Failure {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = body.get("error").unwrap_or(&body);
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let (kind, message) = (text("type"), text("message"));
    let class = class_of_type(kind, status, message).unwrap_or_else(|| class_of_status(status));
    rejected(class, status, Some(kind), headers)
}

fn class_of_type(kind: &str, status: u16, message: &str) -> Option<FailureClass> {
    Some(match kind {
        "overloaded_error" => FailureClass::Overloaded,
        "rate_limit_error" => FailureClass::RateLimited,
        "authentication_error" | "permission_error" | "billing_error" => FailureClass::UpstreamAuth,
        "request_too_large" => FailureClass::ContextLength,
        "timeout_error" => FailureClass::Timeout(Phase::Headers),
        // The model does not exist, or was retired: see `class_of_status`.
        "not_found_error" => FailureClass::UpstreamAuth,
        "invalid_request_error" => class_of_invalid(message),
        // An internal error; proxies before the service use it with a status that says more.
        "api_error" if matches!(status, 429 | 503 | 529) => class_of_status(status),
        "api_error" => FailureClass::UpstreamError,
        _ => return None,
    })
}

/// Anthropic has one type for all of these.
fn class_of_invalid(message: &str) -> FailureClass {
    if mentions(message, &["prompt is too long", "exceed context limit", "context window"]) {
        FailureClass::ContextLength
    } else if mentions(message, &["credit balance is too low"]) {
        FailureClass::UpstreamAuth
    } else if mentions(message, &["content filtering policy"]) {
        FailureClass::ContentFilter
    } else {
        FailureClass::BadRequest
    }
}
