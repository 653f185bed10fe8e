//! Anthropic messages: the provider's side, the application's side, and the translation of requests
//! from and to the OpenAI shape.

mod client;
mod decode;
mod encode;
mod error;
mod from_openai;
mod schema;
mod to_openai;
mod usage;
mod writer;

use backstay_core::failure::Failure;
use bytes::Bytes;
use http::HeaderMap;

pub(crate) use self::to_openai::to_openai;
pub use self::{
    client::{error_body, error_event, render_reply},
    writer::MessageWriter,
};
use crate::{
    sse::SseEvent,
    wire::{Delta, Prompt, Protocol, Reply, Wire, WireRequest},
};

/// Anthropic messages, upstream.
#[derive(Clone, Copy, Debug)]
pub struct Anthropic;

impl Wire for Anthropic {
    fn protocol(&self) -> Protocol {
        Protocol::Anthropic
    }

    fn encode(&self, prompt: &Prompt, model: &str) -> Result<WireRequest, Failure> {
        encode::request(prompt, model)
    }

    fn decode(&self, body: &Bytes) -> Result<Reply, Failure> {
        decode::reply(body)
    }

    fn decode_event(&self, event: &SseEvent) -> Result<Vec<Delta>, Failure> {
        decode::event(event)
    }

    fn decode_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Failure {
        error::classify(status, headers, body)
    }
}
