//! The control plane against real stores, sockets and processes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy allows these in tests, but not in what tests share; a panic is the report"
)]

mod alertmanager;
mod alerts;
mod delivery;
mod mail;
mod receivers;
