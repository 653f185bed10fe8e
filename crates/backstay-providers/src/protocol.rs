//! Which code speaks which wire format: the one place that names them all. It decides nothing.

use backstay_core::failure::Failure;
use bytes::Bytes;
use serde_json::Value;

use crate::{
    anthropic, openai,
    wire::{ErrorView, Protocol, Reply, StreamOpening, StreamWriter, Wire},
};

impl Protocol {
    /// The upstream side of the format.
    #[must_use]
    pub fn wire(self) -> &'static dyn Wire {
        match self {
            Self::OpenAi => &openai::OpenAi,
            Self::Anthropic => &anthropic::Anthropic,
        }
    }

    /// Writes a complete reply of any provider for a client that speaks this format. `created_unix`
    /// is in seconds.
    ///
    /// # Errors
    /// `upstream_error` if the text of a reply was mended and its `raw` is not in its own format.
    pub fn render_reply(self, reply: &Reply, created_unix: u64) -> Result<Bytes, Failure> {
        match self {
            Self::OpenAi => openai::render_reply(reply, created_unix),
            Self::Anthropic => anthropic::render_reply(reply),
        }
    }

    /// The body of an error answer.
    #[must_use]
    pub fn error_body(self, view: &ErrorView) -> Value {
        match self {
            Self::OpenAi => openai::error_body(view),
            Self::Anthropic => anthropic::error_body(view),
        }
    }

    /// The event that ends a stream which failed; nothing may follow it.
    #[must_use]
    pub fn error_event(self, view: &ErrorView) -> Vec<u8> {
        match self {
            Self::OpenAi => openai::error_event(view),
            Self::Anthropic => anthropic::error_event(view),
        }
    }

    /// A writer for a client's stream.
    #[must_use]
    pub fn stream_writer(self, opening: StreamOpening) -> Box<dyn StreamWriter> {
        match self {
            Self::OpenAi => Box::new(openai::ChunkWriter::new(opening)),
            Self::Anthropic => Box::new(anthropic::MessageWriter::new(opening)),
        }
    }
}
