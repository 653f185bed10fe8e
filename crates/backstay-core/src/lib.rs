//! The domain of Backstay as values and pure functions.
//!
//! Nothing here does I/O, reads a clock, draws a random number, awaits or logs: time and randomness
//! are arguments. A newcomer reads [`failure`], [`budget`], [`breaker`], then the engine's `call.rs`.

pub mod alert;
pub mod breaker;
pub mod budget;
pub mod config;
pub mod failure;
pub mod histogram;
pub mod mend;
pub mod output;
pub mod price;
pub mod privacy;
pub mod prompt;
pub mod record;
pub mod redact;
pub mod release;
pub mod rollup;
pub mod stats;
pub mod tokens;
pub mod trace;
