//! Backstay over HTTP: the gateway's data plane, authentication, health, and the wiring of all parts.
//!
//! Start with [`serve`], which builds everything and runs it. This crate is the only place that knows
//! HTTP status codes.

mod alerting;
mod api;
pub mod auth;
mod dashboard;
mod desk;
mod gateway;
mod health;
#[cfg(test)]
mod manual;
pub mod metrics;
mod otlp;
mod scrape;
pub mod serve;
mod state;
mod status;

pub use status::status_of;
