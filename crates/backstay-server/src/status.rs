//! Which HTTP status a failure is told with: the one place that knows.

use backstay_core::failure::{Failure, FailureClass, Refusal};
use http::StatusCode;

/// The status of a failed call. A provider's 401 never becomes the caller's: it is a 502.
#[must_use]
pub fn status_of(failure: &Failure) -> StatusCode {
    use FailureClass as F;
    match failure.class {
        F::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        F::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        F::Overloaded | F::CircuitOpen | F::Budget => StatusCode::SERVICE_UNAVAILABLE,
        F::BadRequest => bad_request(failure.refusal),
        F::ContextLength => StatusCode::BAD_REQUEST,
        F::ContentFilter | F::Refused => StatusCode::OK,
        F::Connection
        | F::UpstreamError
        | F::UpstreamAuth
        | F::Empty
        | F::Truncated(_)
        | F::Malformed
        | F::Schema
        | F::Check => StatusCode::BAD_GATEWAY,
        // nginx's 499: nobody is there to read it, but the code has to be something.
        F::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        F::Consumer => StatusCode::OK,
    }
}

fn bad_request(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::Invalid => StatusCode::BAD_REQUEST,
        Refusal::Unauthenticated => StatusCode::UNAUTHORIZED,
        Refusal::Forbidden => StatusCode::FORBIDDEN,
        Refusal::NotFound => StatusCode::NOT_FOUND,
        Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
    }
}
