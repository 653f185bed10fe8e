//! One configured provider: its name, its wire format, and the way to it.
//!
//! It joins what others decide. It must not retry, wait or look into a reply.

use backstay_core::failure::Failure;

use crate::{
    transport::{Exchange, Limits, Transport},
    wire::{Wire, WireRequest},
};

/// The way to a provider.
#[derive(Debug)]
pub enum Upstream {
    /// Over the network.
    Http(Transport),
}

/// One configured provider.
#[derive(Debug)]
pub struct Provider {
    /// Its name in the config and in targets, `openai` in `openai/gpt-5-mini`.
    pub name: String,
    /// Its wire format.
    pub wire: &'static dyn Wire,
    /// The way to it.
    pub upstream: Upstream,
}

impl Provider {
    /// Sends `request` and waits for the status and headers of the reply, whatever the status is.
    ///
    /// # Errors
    /// As [`Transport::send`].
    pub async fn open(&self, request: &WireRequest, limits: &Limits) -> Result<Exchange, Failure> {
        match &self.upstream {
            Upstream::Http(transport) => transport.send(request, limits).await,
        }
    }
}
