//! Wire formats, the HTTP transport, and the simulated provider.
//!
//! One file a wire format, pure; one transport that does the I/O. Nothing here retries, reads config,
//! or decides whether an answer is good enough.

pub mod accumulate;
pub mod anthropic;
pub mod hook;
pub mod openai;
mod payload;
mod protocol;
pub mod provider;
mod rejection;
pub mod retry_after;
pub mod sim;
pub mod sse;
pub mod transport;
pub mod wire;
