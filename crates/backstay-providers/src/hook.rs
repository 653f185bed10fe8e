//! One POST to a receiver of notifications: what its answer means, and nothing of its text.
//!
//! It must not retry, and what it says names neither the address, which may be a secret, nor anything
//! that the receiver sent.

use backstay_core::failure::{Failure, FailureClass};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::{
    rejection::class_of_status,
    retry_after::retry_after,
    transport::{Limits, Transport, Unanswered},
    wire::WireRequest,
};

/// Posts `body`; headers are of the sender.
///
/// # Errors
/// Everything but a status of success, redirects included: they would lead to where nobody said that
/// alerts may go. [`Unanswered::maybe_seen`] says whether the receiver may have taken it all the same.
pub async fn post(
    transport: &Transport,
    path: &'static str,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    limits: &Limits,
) -> Result<(), Unanswered> {
    let request = WireRequest { path, headers, body };
    let exchange = match transport.send_once(&request, limits).await {
        Ok(exchange) => exchange,
        Err(Unanswered { failure, maybe_seen }) => {
            let message = failure.message.replace(transport.endpoint().peer(), "the receiver");
            let failure = Failure { message, ..failure };
            return Err(Unanswered { failure, maybe_seen });
        }
    };
    let status = exchange.status;
    let (message, maybe_seen) = match status {
        200..=299 => return Ok(()),
        300..=399 => (format!("the receiver redirects ({status}), which is not followed"), false),
        429 => ("the receiver takes no more for now (429)".to_owned(), false),
        401 | 403 => (format!("the receiver refuses the address or key ({status})"), false),
        404 | 410 => (format!("there is no such receiver any more ({status})"), false),
        400..=499 => (format!("the receiver rejects the notification ({status})"), false),
        // It failed at something: perhaps after it had told somebody.
        _ => (format!("the receiver failed ({status})"), true),
    };
    let class = match status {
        300..=399 => FailureClass::BadRequest,
        _ => class_of_status(status),
    };
    let failure = Failure::new(class, message)
        .with_status(status)
        .with_retry_after(retry_after(&exchange.headers));
    Err(Unanswered { failure, maybe_seen })
}
