//! Tests of the program as people and machines run it: its commands, its server, its crashes.
//!
//! Every test starts the real binary as a process of its own, in a scratch directory, on ports that
//! the system gives. Nothing here looks inside: only at exit codes, output, HTTP and files.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy allows these in tests, but not in what tests share; a panic is the report"
)]

mod alerts;
mod cli;
mod golden;
mod http;
mod kill9;
mod privacy;
mod redaction;
mod serve;
mod ssrf;
mod trouble;
mod world;
