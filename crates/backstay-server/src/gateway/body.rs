//! Reads a request's body within bounds of size and time.

use std::time::Duration;

use axum::body::Body;
use backstay_core::failure::{Failure, Refusal};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

/// A client that is silent for this long is let go,
const PATIENCE: Duration = Duration::from_secs(30);
/// and so is one that takes longer than this over the whole body.
const WHOLE_PATIENCE: Duration = Duration::from_secs(120);

/// How much of a body that is too large is read away, and for how long, before it is refused.
const DISCARDED: usize = 64 << 20;
const DISCARDING: Duration = Duration::from_secs(5);

/// Reads the whole body, at most `limit` bytes.
///
/// # Errors
/// `bad_request` on `content-length` if it is larger, or on `body` if it did not arrive.
pub(crate) async fn read(body: Body, headers: &HeaderMap, limit: usize) -> Result<Bytes, Failure> {
    let encoding = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
        return Err(Failure::bad_request(
            "content-encoding",
            "the request's body is compressed, which Backstay does not read; send it as it is",
        ));
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let by = Instant::now() + WHOLE_PATIENCE;
    let mut body = body;
    if announced.is_some_and(|announced: usize| announced > limit) {
        return Err(too_large(body, limit).await);
    }
    let mut first = None;
    let mut whole = BytesMut::new();
    loop {
        let piece_by = by.min(Instant::now() + PATIENCE);
        let frame = match timeout_at(piece_by, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                return Err(Failure::bad_request("body", "the request's body was cut off"));
            }
            Err(_) => {
                return Err(Failure::bad_request("body", "the request's body did not arrive"));
            }
        };
        let Ok(chunk) = frame.into_data() else { continue };
        let so_far = whole.len() + first.as_ref().map_or(0, Bytes::len);
        if so_far + chunk.len() > limit {
            return Err(too_large(body, limit).await);
        }
        // Most bodies come in one piece, which then need not be copied.
        match first.take() {
            None if whole.is_empty() => first = Some(chunk),
            None => whole.extend_from_slice(&chunk),
            Some(head) => {
                whole.extend_from_slice(&head);
                whole.extend_from_slice(&chunk);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

/// A client that is still sending when its connection is closed sees a broken pipe and not the
/// answer, so what it sends is read away first, within bounds.
async fn too_large(mut body: Body, limit: usize) -> Failure {
    let discard = async {
        let mut left = DISCARDED;
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(size);
            if left == 0 {
                break;
            }
        }
    };
    // Whoever is slower than that has to do without the answer.
    let _in_time = timeout(DISCARDING, discard).await;
    Failure::bad_request(
        "content-length",
        format!("the request is larger than {limit} bytes (server.max_body)"),
    )
    .because(Refusal::TooLarge)
}
