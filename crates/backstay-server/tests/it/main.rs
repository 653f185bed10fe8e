//! Tests of the whole gateway over real sockets: a client, the server with its store, and a
//! misbehaving provider. Nothing in here may know how the product decides.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy allows these in tests, but not in what tests share; a panic is the report"
)]

mod api;
mod api_access;
mod around;
mod bad_input;
mod fault_matrix;
mod harness;
mod metrics;
mod otlp;
mod reading;
