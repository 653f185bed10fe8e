//! A provider's event stream as decoded frames.

use backstay_core::failure::Failure;
use backstay_providers::{
    provider::Body,
    sse::SseReader,
    wire::{Delta, Frame, Protocol, Wire},
};
use bytes::Bytes;

/// No single event may be larger.
const LARGEST_EVENT: usize = 4 << 20;

/// Reads the body of a streamed reply event by event.
#[derive(Debug)]
pub(crate) struct Frames {
    body: Body,
    events: SseReader,
    wire: &'static dyn Wire,
}

impl Frames {
    pub(crate) fn new(body: Body, wire: &'static dyn Wire) -> Self {
        Self { body, events: SseReader::new(LARGEST_EVENT), wire }
    }

    /// Takes in bytes that were read before.
    pub(crate) fn take_in(&mut self, head: Bytes) {
        self.events.push(head);
    }

    /// The wire format of the events.
    pub(crate) fn protocol(&self) -> Protocol {
        self.wire.protocol()
    }

    /// The next frame of what has already arrived.
    pub(crate) fn next_arrived(&mut self) -> Result<Option<Frame>, Failure> {
        let Some(event) = self.events.next()? else { return Ok(None) };
        let deltas = self.wire.decode_event(&event)?;
        Ok(Some(Frame { event, deltas }))
    }

    /// Waits for more bytes; `false` when there are none to come.
    pub(crate) async fn fill(&mut self) -> Result<bool, Failure> {
        match self.body.chunk().await? {
            Some(chunk) => {
                self.events.push(chunk);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// Whether `frame` holds the protocol's terminal event.
pub(crate) fn is_terminal(frame: &Frame) -> bool {
    frame.deltas.contains(&Delta::End)
}

/// Whether `frame` holds something of the answer.
pub(crate) fn has_content(frame: &Frame) -> bool {
    frame.deltas.iter().any(Delta::is_content)
}
