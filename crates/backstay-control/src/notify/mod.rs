//! Telling people: who gets to know of an alert, in whose format, and how often it is tried.
//!
//! [`Receivers`] are the places that the project names. What is to be told stands in the store's
//! outbox; [`Delivery`] works it off, one receiver beside the other, and goes on after a restart where
//! it stopped. One file a kind of receiver writes its format and sends nothing. Nothing here decides
//! what is an alert. An address or key is in no log, no error and no store: receivers are known by
//! their names.

mod alertmanager;
mod delivery;
mod pagerduty;
mod pass;
mod receiver;
mod slack;
mod smtp;
mod webhook;
mod wording;

pub use delivery::{Delivery, Pace};
pub use receiver::{Fault, Receivers, TestError};
pub use wording::Message;
