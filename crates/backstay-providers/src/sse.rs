//! Server-sent events: an incremental reader that takes bytes as they come, and a writer.
//!
//! WHATWG HTML, section 9.2.6: lines end in CR, LF or CRLF; an empty line dispatches the event;
//! several `data` lines are joined by LF; a line that starts with a colon is a comment. What an event
//! means is not known here.

use std::collections::VecDeque;

use backstay_core::failure::{Failure, FailureClass};
use bytes::Bytes;

/// One dispatched event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event` field; `None` for the default type.
    pub name: Option<String>,
    /// The `data` field; always UTF-8.
    pub data: Bytes,
}

/// Reads events out of bytes that come in pieces of any size.
///
/// Every byte is looked at a fixed number of times, whatever the pieces are. A line that lies within
/// one piece is not copied. An event that is not yet dispatched when the input ends is dropped with
/// the reader, as the standard asks.
#[derive(Debug)]
pub struct SseReader {
    chunks: VecDeque<Bytes>,
    /// The start of a line whose end has not come yet.
    partial: Vec<u8>,
    name: Option<Bytes>,
    data: Data,
    /// Bytes of the event so far, all of its lines together.
    size: usize,
    max_event_bytes: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No line was complete yet, so that a byte order mark may come.
    Start,
    Lines,
    /// The last line ended in CR; an LF that follows belongs to it.
    AfterCr,
    Failed,
}

/// The `data` lines of an event: one is a slice of its chunk, several are joined in a copy.
#[derive(Debug)]
enum Data {
    None,
    One(Bytes),
    Joined(Vec<u8>),
}

impl SseReader {
    /// A reader that fails on an event of more than `max_event_bytes`.
    #[must_use]
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            chunks: VecDeque::new(),
            partial: Vec::new(),
            name: None,
            data: Data::None,
            size: 0,
            max_event_bytes,
            state: State::Start,
        }
    }

    /// Takes more of the input.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() && self.state != State::Failed {
            self.chunks.push_back(chunk);
        }
    }

    /// The next event that is complete, or `None` until more is pushed.
    ///
    /// # Errors
    /// `upstream_error` if an event exceeds the bound or is not UTF-8, and on every call after that.
    #[expect(
        clippy::should_implement_trait,
        reason = "`None` means not yet, which an iterator may not say"
    )]
    pub fn next(&mut self) -> Result<Option<SseEvent>, Failure> {
        if self.state == State::Failed {
            return Err(upstream("the event stream is broken"));
        }
        let result = self.read_lines();
        if result.is_err() {
            self.state = State::Failed;
            self.chunks.clear();
        }
        result
    }

    fn read_lines(&mut self) -> Result<Option<SseEvent>, Failure> {
        while let Some(line) = self.next_line()? {
            if line.is_empty() {
                if let Some(event) = self.dispatch()? {
                    return Ok(Some(event));
                }
            } else {
                self.field(&line)?;
            }
        }
        Ok(None)
    }

    /// The next whole line without its end.
    fn next_line(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(mut chunk) = self.chunks.pop_front() {
            if self.state == State::AfterCr {
                self.state = State::Lines;
                if chunk.first() == Some(&b'\n') {
                    drop(chunk.split_to(1));
                }
            }
            let Some(end) = chunk.iter().position(|&byte| byte == b'\n' || byte == b'\r') else {
                self.partial.extend_from_slice(&chunk);
                self.check_size(self.partial.len())?;
                continue;
            };
            let head = chunk.split_to(end);
            let ending = chunk.split_to(1);
            if !chunk.is_empty() {
                self.chunks.push_front(chunk);
            }
            let mut line = if self.partial.is_empty() {
                head
            } else {
                self.partial.extend_from_slice(&head);
                Bytes::from(std::mem::take(&mut self.partial))
            };
            if self.state == State::Start && line.starts_with(b"\xEF\xBB\xBF") {
                line = line.slice(3..);
                // Counted, so that the bound does not depend on how the bytes were cut.
                self.size = 3;
            }
            self.state = if ending.first() == Some(&b'\r') { State::AfterCr } else { State::Lines };
            return Ok(Some(line));
        }
        Ok(None)
    }

    fn check_size(&self, more: usize) -> Result<(), Failure> {
        if self.size.saturating_add(more) > self.max_event_bytes {
            let max = self.max_event_bytes;
            return Err(upstream(format!("an event of the stream is larger than {max} bytes")));
        }
        Ok(())
    }

    fn field(&mut self, line: &Bytes) -> Result<(), Failure> {
        self.check_size(line.len())?;
        let (field, value) = match line.iter().position(|&byte| byte == b':') {
            Some(0) => return Ok(()),
            Some(colon) => (line.slice(..colon), line.slice(colon.saturating_add(1)..)),
            None => (line.clone(), Bytes::new()),
        };
        self.size = self.size.saturating_add(line.len());
        let value = if value.first() == Some(&b' ') { value.slice(1..) } else { value };
        match field.as_ref() {
            b"data" => self.data.append(value),
            b"event" => self.name = Some(value).filter(|name| !name.is_empty()),
            // `id` and `retry` serve reconnection, which a completion does not know.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) -> Result<Option<SseEvent>, Failure> {
        self.size = 0;
        let name = self.name.take();
        let data = match std::mem::replace(&mut self.data, Data::None) {
            Data::None => return Ok(None),
            Data::One(data) => data,
            Data::Joined(data) => Bytes::from(data),
        };
        let not_utf8 = |_| upstream("an event of the stream is not UTF-8");
        std::str::from_utf8(&data).map_err(not_utf8)?;
        let name = match name {
            Some(name) => Some(std::str::from_utf8(&name).map_err(not_utf8)?.to_owned()),
            None => None,
        };
        Ok(Some(SseEvent { name, data }))
    }
}

impl Data {
    fn append(&mut self, value: Bytes) {
        *self = match std::mem::replace(self, Self::None) {
            Self::None => Self::One(value),
            Self::One(first) => Self::Joined([first, value].join(&b'\n')),
            Self::Joined(mut data) => {
                data.push(b'\n');
                data.extend_from_slice(&value);
                Self::Joined(data)
            }
        };
    }
}

fn upstream(message: impl Into<String>) -> Failure {
    Failure::new(FailureClass::UpstreamError, message)
}

/// Writes one event. A line break in `data` becomes a new `data` line; `name` must have none.
pub fn write_event(name: Option<&str>, data: &[u8], out: &mut Vec<u8>) {
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    let mut rest = data;
    loop {
        let end = rest.iter().position(|&byte| byte == b'\n' || byte == b'\r');
        let (line, after) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, &[]));
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
        if end.is_none() {
            break;
        }
        rest = after.strip_prefix(b"\r\n").or_else(|| after.get(1..)).unwrap_or_default();
    }
    out.push(b'\n');
}
