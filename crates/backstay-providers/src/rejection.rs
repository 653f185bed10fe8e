//! How a provider's refusal of a request becomes a [`Failure`]: the table of statuses, and sentences
//! that carry a machine code at most. A provider's own text never passes through here.

use backstay_core::failure::{Failure, FailureClass, Phase};
use http::HeaderMap;

use crate::retry_after::retry_after;

/// What a status means where the body says nothing more precise.
///
/// 408 is the provider's own limit on how long it waits, as seen from here a timeout; 504 comes from
/// a proxy of the provider whose backend failed, which may be asked again. 413 is a prompt that is
/// too large for the provider, so that a larger window may help. 404 and 410 are a model that does not
/// exist or was retired: like a bad key, a matter of the target and not of the request.
pub(crate) const fn class_of_status(status: u16) -> FailureClass {
    match status {
        401..=404 | 410 => FailureClass::UpstreamAuth,
        408 => FailureClass::Timeout(Phase::Headers),
        413 => FailureClass::ContextLength,
        429 => FailureClass::RateLimited,
        503 | 529 => FailureClass::Overloaded,
        400..=499 => FailureClass::BadRequest,
        _ => FailureClass::UpstreamError,
    }
}

/// The failure for a rejection of `class`: `code` is shown if it is a plain identifier.
pub(crate) fn rejected(
    class: FailureClass,
    status: u16,
    code: Option<&str>,
    headers: &HeaderMap,
) -> Failure {
    let hinted = match class {
        FailureClass::RateLimited | FailureClass::Overloaded => retry_after(headers),
        FailureClass::Timeout(_)
        | FailureClass::Connection
        | FailureClass::UpstreamError
        | FailureClass::UpstreamAuth
        | FailureClass::BadRequest
        | FailureClass::ContextLength
        | FailureClass::ContentFilter
        | FailureClass::Refused
        | FailureClass::Empty
        | FailureClass::Truncated(_)
        | FailureClass::Malformed
        | FailureClass::Schema
        | FailureClass::Check
        | FailureClass::CircuitOpen
        | FailureClass::Budget
        | FailureClass::Cancelled
        | FailureClass::Consumer => None,
    };
    let code = code.filter(|code| is_plain(code)).map(|c| format!(" ({c})")).unwrap_or_default();
    let message = match status {
        200..=299 => format!("the provider answered with an error in place of a reply{code}"),
        400..=499 => format!("the provider rejected the request with status {status}{code}"),
        _ => format!("the provider answered with status {status}{code}"),
    };
    Failure::new(class, message).with_status(status).with_retry_after(hinted)
}

/// Whether `code` is a machine code, `[a-z0-9_.-]{1,64}`, and not a sentence or a secret.
fn is_plain(code: &str) -> bool {
    (1..=64).contains(&code.len())
        && code.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.' | b'-')
        })
        // Keys of providers look like identifiers too.
        && !code.starts_with("sk-")
}

/// Whether a provider's sentence has one of `marks` in its first part, whatever the case.
/// `marks` are lower case.
pub(crate) fn mentions(text: &str, marks: &[&str]) -> bool {
    let start: String = text.chars().take(1_000).collect::<String>().to_ascii_lowercase();
    marks.iter().any(|mark| start.contains(mark))
}
