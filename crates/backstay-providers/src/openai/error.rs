//! Which class an error object stands for: by its codes, then by its status. Its sentence is read for
//! the few marks that servers without codes leave, and never passed on.

use backstay_core::failure::{Failure, FailureClass};
use http::HeaderMap;
use serde_json::Value;

use crate::rejection::{class_of_status, mentions, rejected};

/// What can be told from an error object of any of the servers that speak this format.
#[derive(Default)]
struct Info {
    /// `code`, then `type` (or Google's `status`), then Azure's inner code.
    codes: Vec<String>,
    message: String,
    param: Option<String>,
}

/// The failure that `body` describes. A `status` of 2xx means that it came in place of a reply.
pub(super) fn classify(status: u16, headers: &HeaderMap, body: &[u8]) -> Failure {
    let info = serde_json::from_slice(body).ok().map(|body| Info::read(&body)).unwrap_or_default();
    let class = info.class(status);
    let code = info.codes.iter().find(|code| !code.bytes().all(|byte| byte.is_ascii_digit()));
    let mut failure = rejected(class, status, code.map(String::as_str), headers);
    if class == FailureClass::BadRequest {
        failure.param = info.param;
    }
    failure
}

impl Info {
    fn read(body: &Value) -> Self {
        // Google wraps the object in an array; vLLM and others leave out the outer `error`.
        let body = body.get(0).unwrap_or(body);
        let error = body.get("error").filter(|error| error.is_object()).unwrap_or(body);
        let places = ["/code", "/type", "/status", "/innererror/code"];
        let codes = places.iter().filter_map(|place| match error.pointer(place)? {
            Value::String(code) => Some(code.clone()),
            Value::Number(code) => Some(code.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        });
        let message =
            ["message", "error", "detail"].iter().find_map(|key| error.get(key)?.as_str());
        let param = error.get("param").and_then(Value::as_str).filter(|param| is_field(param));
        Self {
            codes: codes.collect(),
            message: message.unwrap_or_default().to_owned(),
            param: param.map(str::to_owned),
        }
    }

    fn class(&self, status: u16) -> FailureClass {
        if let Some(class) = self.codes.iter().find_map(|code| class_of_code(code)) {
            return class;
        }
        if matches!(status, 200..=299 | 400 | 413 | 422) && mentions(&self.message, TOO_LONG) {
            return FailureClass::ContextLength;
        }
        if !(200..300).contains(&status) {
            return class_of_status(status);
        }
        let numeric = self.codes.iter().find_map(|code| code.parse().ok());
        let named = self.codes.iter().find_map(|code| status_of_type(code));
        numeric
            .filter(|s| (400..600).contains(s))
            .or(named)
            .map_or(FailureClass::UpstreamError, class_of_status)
    }
}

/// Sentences of servers that have no code for it: OpenAI and vLLM, newer vLLM, llama.cpp, Google.
const TOO_LONG: &[&str] = &[
    "maximum context length",
    "maximum model length",
    "available context size",
    "exceeds the maximum number of tokens",
];

fn class_of_code(code: &str) -> Option<FailureClass> {
    match code {
        "context_length_exceeded" | "exceed_context_size_error" | "string_above_max_length" => {
            Some(FailureClass::ContextLength)
        }
        "content_filter" | "content_policy_violation" | "ResponsibleAIPolicyViolation" => {
            Some(FailureClass::ContentFilter)
        }
        "insufficient_quota"
        | "billing_hard_limit_reached"
        | "billing_not_active"
        | "account_deactivated" => Some(FailureClass::UpstreamAuth),
        _ => None,
    }
}

/// The status that a type stands for, where the error came without one of its own.
fn status_of_type(kind: &str) -> Option<u16> {
    Some(match kind {
        "rate_limit_error" | "rate_limit_exceeded" | "RESOURCE_EXHAUSTED" => 429,
        "invalid_request_error" | "BadRequestError" | "INVALID_ARGUMENT" => 400,
        "authentication_error" | "invalid_api_key" | "UNAUTHENTICATED" => 401,
        "permission_error" | "PERMISSION_DENIED" => 403,
        "overloaded_error" | "service_unavailable" | "UNAVAILABLE" => 503,
        _ => return None,
    })
}

/// Whether `param` is the name of a field (`messages[0].content`) and not a value.
fn is_field(param: &str) -> bool {
    (1..=64).contains(&param.len())
        && param.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.[]".contains(&byte)
        })
}
