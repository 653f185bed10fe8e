//! The engine against simulated providers, in process and under paused time: no sockets, no disk, and
//! a minute of simulated waiting costs nothing.
//!
//! `promises` draws histories by lot and checks what always holds; `transcripts` tells the cases that a
//! reader wants to see, attempt by attempt; `streams` and `hostile` look at bytes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy allows these in tests, but not in what tests share; a panic is the report"
)]

mod costs;
mod harness;
mod hostile;
mod promises;
mod streams;
mod transcripts;
