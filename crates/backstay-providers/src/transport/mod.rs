//! The HTTP client of Backstay: one request, one reply, with a failure that names its phase.
//!
//! It is built on hyper's connections and not on a ready-made client, because the failure budget
//! needs to know in which phase time ran out (connect, headers, body), and because an HTTP/1.1
//! request that drives its own connection costs no task and no wake-up between tasks.
//!
//! It must not retry a request that a provider may have seen, follow redirects, read config, or put
//! anything into an error that the provider sent. The one thing it does twice: a pooled connection
//! that turns out to be closed before a byte of the request was written is replaced, which the
//! provider cannot notice. A new connection belongs to the request that opened it; others do not wait
//! for it, so a burst on a cold pool opens a connection each.

mod address;
mod body;
mod connect;
mod connection;
mod endpoint;
mod fault;
mod pool;
mod tls;

use std::{future::poll_fn, path::PathBuf, pin::pin, sync::Arc, task::Poll, time::Duration};

use backstay_core::failure::{Failure, FailureClass, Phase};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::TrySendError};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

pub use self::{address::is_private_network, body::Body, endpoint::Endpoint};
use self::{
    body::Carrier,
    connect::{Connector, Dialled},
    connection::{Http1Connection, Lease},
    pool::{Pool, Pooled},
};
use crate::wire::WireRequest;

/// When HTTP/2 is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http2 {
    /// Over `https` if the server offers it, over `http` never.
    #[default]
    Auto,
    /// Always: the user knows that the server speaks it.
    PriorKnowledge,
    /// Never.
    Never,
}

/// What a provider's config may change about its connections.
#[derive(Clone, Debug)]
pub struct TransportOptions {
    /// When HTTP/2 is spoken.
    pub http2: Http2,
    /// Lets a host name lead into a private network. An address, or `localhost`, in the base URL
    /// names what it means and needs no permission.
    pub allow_private_network: bool,
    /// PEM file of private certificate authorities, trusted besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// How many unused HTTP/1.1 connections are kept.
    pub max_idle: usize,
    /// How long a connection may be unused.
    pub max_idle_age: Duration,
    /// Tracks the tasks of HTTP/2 connections. They end with the last request once the transport is
    /// dropped.
    pub tracker: TaskTracker,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            http2: Http2::Auto,
            allow_private_network: false,
            ca_file: None,
            max_idle: 128,
            max_idle_age: Duration::from_secs(90),
            tracker: TaskTracker::new(),
        }
    }
}

/// What one request may take. Idle limits inside the body are the caller's.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the name lookup to the end of the handshakes; not needed when a connection is at hand.
    pub connect: Duration,
    /// From the first byte sent to the status line.
    pub headers: Duration,
    /// Bytes of the body, unpacked.
    pub body_max: usize,
}

/// A reply whose body has not been read yet.
#[derive(Debug)]
pub struct Exchange {
    /// The final status; redirects are not followed.
    pub status: u16,
    /// The headers, as far as they describe `body` as it is handed out.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

/// A request that got no status line.
#[derive(Debug)]
pub struct Unanswered {
    /// What went wrong.
    pub failure: Failure,
    /// Whether the other side may have seen the request: a connection was there to write it to.
    pub maybe_seen: bool,
}

/// The way to one provider, with its connections. Cheap to share, safe to use from many tasks.
#[derive(Debug)]
pub struct Transport {
    origin: Arc<Origin>,
    connector: Connector,
}

/// What a reply needs in order to give its connection back.
#[derive(Debug)]
struct Origin {
    endpoint: Endpoint,
    pool: Pool,
}

impl Transport {
    /// A transport without connections: they are opened when requests need them.
    #[must_use]
    pub fn new(endpoint: Endpoint, options: TransportOptions) -> Self {
        let pool = Pool::new(options.max_idle, options.max_idle_age);
        Self { origin: Arc::new(Origin { endpoint, pool }), connector: Connector::new(options) }
    }

    /// Where requests go.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.origin.endpoint
    }

    /// Sends `request` and waits for the status and headers of the reply, whatever the status is.
    /// Dropping the future gives everything back: it closes the connection or resets the stream.
    ///
    /// # Errors
    /// `timeout_connect` and `timeout_headers` when a limit passes, `connection` when there is no
    /// connection or it breaks, `upstream_error` when the reply is not HTTP.
    pub async fn send(&self, request: &WireRequest, limits: &Limits) -> Result<Exchange, Failure> {
        self.send_once(request, limits).await.map_err(|unanswered| unanswered.failure)
    }

    /// As [`Self::send`], for those who have to know whether the request may have arrived.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_once(
        &self,
        request: &WireRequest,
        limits: &Limits,
    ) -> Result<Exchange, Unanswered> {
        let seen = |failure| Unanswered { failure, maybe_seen: true };
        let unseen = |failure| Unanswered { failure, maybe_seen: false };
        while let Some(pooled) = self.origin.pool.take() {
            if let Some(exchange) = self.send_over(pooled, request, limits).await.map_err(seen)? {
                return Ok(exchange);
            }
        }
        let endpoint = &self.origin.endpoint;
        let closed = || {
            let peer = endpoint.peer();
            fault::connection(format!("{peer} closed the new connection before it was used"))
        };
        let dialled = self.connector.dial(endpoint, limits.connect).await.map_err(unseen)?;
        let fresh = match dialled {
            Dialled::Http1(connection) => Pooled::Http1(connection),
            Dialled::Http2(connection) => {
                let lease = self.origin.pool.share(connection);
                Pooled::Http2(lease.ok_or_else(|| unseen(closed()))?)
            }
        };
        let exchange = self.send_over(fresh, request, limits).await.map_err(seen)?;
        exchange.ok_or_else(|| unseen(closed()))
    }

    /// `None`: the connection is closed and nothing was sent.
    async fn send_over(
        &self,
        pooled: Pooled,
        request: &WireRequest,
        limits: &Limits,
    ) -> Result<Option<Exchange>, Failure> {
        match pooled {
            Pooled::Http1(connection) => self.send_http1(connection, request, limits).await,
            Pooled::Http2(lease) => self.send_http2(lease, request, limits).await,
        }
    }

    async fn send_http1(
        &self,
        mut connection: Http1Connection,
        request: &WireRequest,
        limits: &Limits,
    ) -> Result<Option<Exchange>, Failure> {
        if !poll_fn(|cx| Poll::Ready(connection.poll_usable(cx))).await {
            return Ok(None);
        }
        let message = self.origin.endpoint.request(request, Version::HTTP_11)?;
        let answer = {
            let mut answer = pin!(connection.sender.try_send_request(message));
            let driven = poll_fn(|cx| {
                connection.drive(cx);
                answer.as_mut().poll(cx)
            });
            timeout(limits.headers, driven).await.map_err(|_| self.no_headers(limits))?
        };
        let Some(reply) = self.answered(answer)? else { return Ok(None) };
        self.exchange(reply, Carrier::Http1(connection), limits).map(Some)
    }

    async fn send_http2(
        &self,
        mut lease: Lease,
        request: &WireRequest,
        limits: &Limits,
    ) -> Result<Option<Exchange>, Failure> {
        let message = self.origin.endpoint.request(request, Version::HTTP_2)?;
        let answer = lease.sender().try_send_request(message);
        let Ok(answer) = timeout(limits.headers, answer).await else {
            // Perhaps the connection is dead and not only this answer late; a new one costs little.
            lease.retire();
            return Err(self.no_headers(limits));
        };
        if answer.is_err() {
            lease.retire();
        }
        let Some(reply) = self.answered(answer)? else { return Ok(None) };
        self.exchange(reply, Carrier::Http2(lease), limits).map(Some)
    }

    fn answered(
        &self,
        answer: Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>>,
    ) -> Result<Option<Response<Incoming>>, Failure> {
        match answer {
            Ok(reply) => Ok(Some(reply)),
            Err(unsent) if unsent.message().is_some() => Ok(None),
            Err(sent) => Err(fault::before_headers(sent.error(), self.origin.endpoint.peer())),
        }
    }

    fn exchange(
        &self,
        reply: Response<Incoming>,
        carrier: Carrier,
        limits: &Limits,
    ) -> Result<Exchange, Failure> {
        let (mut head, incoming) = reply.into_parts();
        let body = Body::new(Arc::clone(&self.origin), incoming, carrier, limits.body_max);
        let status = head.status.as_u16();
        let body =
            body.unpacked(&mut head.headers).map_err(|failure| failure.with_status(status))?;
        Ok(Exchange { status, headers: head.headers, body })
    }

    fn no_headers(&self, limits: &Limits) -> Failure {
        let (peer, limit) = (self.origin.endpoint.peer(), limits.headers);
        let message = format!("{peer} sent no status line within {limit:?}");
        Failure::new(FailureClass::Timeout(Phase::Headers), message)
    }
}
