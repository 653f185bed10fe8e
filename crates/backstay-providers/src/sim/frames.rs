//! A stream as it is written: one buffer, and where each event in it ends and what it is for.
//! The faults of streams cut and pad by these marks, the same way in every wire format. Also the two
//! strokes of JSON that both formats write with.

use bytes::Bytes;
use serde_json::Value;

/// What an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// It opens the stream.
    Open,
    /// It carries a piece of the answer.
    Content,
    /// It closes the answer: finish reason, usage.
    Close,
    /// It is the terminal event.
    Terminal,
}

/// The events of a stream.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    ends: Vec<(Mark, usize)>,
}

impl Frames {
    /// Where the next event is written.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Ends the event that was written last.
    pub(super) fn end(&mut self, mark: Mark) {
        self.ends.push((mark, self.buffer.len()));
    }

    /// The events, as slices of one buffer.
    pub(super) fn finish(self) -> Vec<(Mark, Bytes)> {
        let buffer = Bytes::from(self.buffer);
        let mut begin = 0;
        self.ends
            .into_iter()
            .map(|(mark, end)| (mark, buffer.slice(std::mem::replace(&mut begin, end)..end)))
            .collect()
    }
}

/// Writes `text` as a JSON string.
pub(super) fn quoted(text: &str, out: &mut Vec<u8>) {
    // Neither a string nor a Vec can fail here.
    let _infallible = serde_json::to_writer(out, text);
}

/// `object` with one more member, or another value for one, if there is a value.
pub(super) fn with(mut object: Value, key: &str, value: Option<Value>) -> Value {
    if let (Value::Object(members), Some(value)) = (&mut object, value) {
        members.insert(key.to_owned(), value);
    }
    object
}
