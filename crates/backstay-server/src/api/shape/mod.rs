//! From sums and records to answers: pure functions, without clock, store or HTTP.

pub(super) mod alerts;
pub(super) mod board;
pub(super) mod call;
mod figures;
pub(super) mod health;
pub(super) mod log;
mod tally;

pub(super) use figures::quantiles;
