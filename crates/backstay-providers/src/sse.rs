//! Server-sent events: an incremental reader that takes bytes as they come, and a writer.
//!
//! WHATWG HTML, section 9.2.6: lines end in CR, LF or CRLF; an empty line dispatches the event;
//! several `data` lines are joined by LF; a line that starts with a colon is a comment.

use bytes::Bytes;

/// One dispatched event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event` field; `None` for the default type.
    pub name: Option<String>,
    /// The `data` field.
    pub data: Bytes,
}
