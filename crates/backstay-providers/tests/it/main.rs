//! Tests of the crate from outside: the wire formats through their public interface, the transport
//! over real sockets on the loopback interface.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy allows these in tests, but not in what tests share; a panic is the report"
)]

mod golden;
mod hostile;
mod sse;
mod streams;
mod transport;
mod usage;
