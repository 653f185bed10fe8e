//! OpenAI chat completions, the hub format: spoken by OpenAI, Azure, vLLM, llama.cpp and many others.
//!
//! `encode` and `decode` are the provider's side, `client` and `writer` the application's. Servers that
//! call themselves compatible differ in detail, so reading is tolerant where the meaning is clear and
//! strict where it is not.

mod client;
mod decode;
mod encode;
mod error;
mod usage;
mod writer;

use backstay_core::failure::Failure;
use bytes::Bytes;
use http::HeaderMap;

pub use self::{
    client::{error_body, error_event, finish_reason, render_reply},
    writer::ChunkWriter,
};
use crate::{
    sse::SseEvent,
    wire::{Delta, Prompt, Protocol, Reply, Wire, WireRequest},
};

/// OpenAI chat completions, upstream.
#[derive(Clone, Copy, Debug)]
pub struct OpenAi;

impl Wire for OpenAi {
    fn protocol(&self) -> Protocol {
        Protocol::OpenAi
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
