//! One configured provider: its name, its wire format, and the way to it, over the network or not.
//!
//! It joins what others decide. It must not retry, wait or look into a reply.

use backstay_core::failure::{Failure, FailureClass, Phase};
use bytes::Bytes;
use http::HeaderMap;

pub use crate::transport::Limits;
use crate::{
    sim::{Sim, SimBody},
    transport::{self, Transport},
    wire::{Wire, WireRequest},
};

/// The way to a provider.
#[derive(Debug)]
pub enum Upstream {
    /// Over the network.
    Http(Transport),
    /// To the simulated provider in this process.
    Sim(Sim),
}

/// The status and headers of a reply, and the way to its body.
#[derive(Debug)]
pub struct Exchange {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, still to be read.
    pub body: Body,
}

/// The body of a reply.
#[derive(Debug)]
pub enum Body {
    /// From the network. Boxed, so that a body is cheap to move whichever it is.
    Http(Box<transport::Body>),
    /// From the simulated provider.
    Sim {
        /// The pieces.
        body: SimBody,
        /// How many bytes may still come.
        left: usize,
    },
}

impl Body {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// `truncated_stream` if it ends too early, `upstream_error` if it is too large or cannot be decoded.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Http(body) => body.chunk().await,
            Self::Sim { body, left } => {
                let Some(chunk) = body.chunk().await? else { return Ok(None) };
                *left = left.checked_sub(chunk.len()).ok_or_else(|| {
                    let message = "the reply of the simulated provider is larger than it may be";
                    Failure::new(FailureClass::UpstreamError, message)
                })?;
                Ok(Some(chunk))
            }
        }
    }
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
    /// `timeout_connect`, `timeout_headers` or `connection`.
    pub async fn open(&self, request: &WireRequest, limits: &Limits) -> Result<Exchange, Failure> {
        match &self.upstream {
            Upstream::Http(transport) => {
                let exchange = transport.send(request, limits).await?;
                let transport::Exchange { status, headers, body } = exchange;
                Ok(Exchange { status, headers, body: Body::Http(Box::new(body)) })
            }
            Upstream::Sim(sim) => simulated(sim, request, limits).await,
        }
    }
}

/// The simulated provider keeps the limits of a real one.
async fn simulated(sim: &Sim, request: &WireRequest, limits: &Limits) -> Result<Exchange, Failure> {
    let Ok(opened) = tokio::time::timeout(limits.headers, sim.open(request)).await else {
        let message = format!("the simulated provider sent no headers within {:?}", limits.headers);
        return Err(Failure::new(FailureClass::Timeout(Phase::Headers), message));
    };
    let exchange = opened?;
    let body = Body::Sim { body: exchange.body, left: limits.body_max };
    Ok(Exchange { status: exchange.status, headers: exchange.headers, body })
}
