//! The transport against servers that behave, misbehave and fall silent.

mod failures;
mod http1;
mod http2;
mod server;
mod tls;

use std::time::Duration;

use backstay_core::failure::Failure;
use backstay_providers::{
    transport::{Endpoint, Exchange, Limits, Transport, TransportOptions},
    wire::WireRequest,
};
use bytes::Bytes;

/// Long enough for a busy machine, short enough for a test that hangs.
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(20),
    headers: Duration::from_secs(20),
    body_max: 1 << 20,
};

fn request() -> WireRequest {
    WireRequest { path: "/chat", headers: Vec::new(), body: Bytes::from_static(b"{\"a\":1}") }
}

fn transport(base_url: &str, options: TransportOptions) -> Transport {
    Transport::new(Endpoint::parse(base_url).unwrap(), options)
}

async fn send(transport: &Transport) -> Result<Exchange, Failure> {
    transport.send(&request(), &LIMITS).await
}

/// Sends a request and reads the whole reply.
async fn round_trip(transport: &Transport) -> Result<(u16, Bytes), Failure> {
    let exchange = send(transport).await?;
    let status = exchange.status;
    Ok((status, exchange.body.read_all().await?))
}
