//! From an endpoint to a connection that speaks HTTP: name lookup, TCP, TLS, HTTP handshake.
//!
//! All steps share one deadline, and a failure names the step. It must not keep connections: that
//! is the pool's work.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use backstay_core::failure::{Failure, FailureClass, Phase};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, lookup_host},
    sync::OnceCell,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Http2, TransportOptions,
    address::is_private_network,
    connection::{Http1Connection, Http2Connection},
    endpoint::{Endpoint, Host},
    fault, tls,
};

/// A byte stream to the provider.
#[derive(Debug)]
pub(super) enum Link {
    Plain(TcpStream),
    /// Boxed: its state is larger than a socket by far.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A new connection in the protocol that was agreed on.
#[derive(Debug)]
pub(super) enum Dialled {
    Http1(Http1Connection),
    Http2(Http2Connection),
}

/// Opens connections to one endpoint.
#[derive(Debug)]
pub(super) struct Connector {
    options: TransportOptions,
    tls: OnceCell<Arc<ClientConfig>>,
}

impl Connector {
    pub(super) fn new(options: TransportOptions) -> Self {
        Self { options, tls: OnceCell::new() }
    }

    /// Opens a connection, within `limit` for everything together.
    pub(super) async fn dial(
        &self,
        endpoint: &Endpoint,
        limit: Duration,
    ) -> Result<Dialled, Failure> {
        let peer = endpoint.peer();
        let clock = Clock { deadline: Instant::now() + limit, limit, peer };
        let addresses = self.resolve(endpoint, &clock).await?;
        let socket = open(&addresses, &clock).await?;
        let (link, http2) = if endpoint.is_https() {
            self.secure(endpoint, socket, &clock).await?
        } else {
            (Link::Plain(socket), self.options.http2 == Http2::PriorKnowledge)
        };
        let io = TokioIo::new(link);
        let shaken = if http2 {
            let opening = Http2Connection::open(io, &self.options.tracker);
            clock.within("the HTTP/2 handshake", opening).await?.map(Dialled::Http2)
        } else {
            clock.within("the HTTP handshake", Http1Connection::open(io)).await?.map(Dialled::Http1)
        };
        shaken.map_err(|error| fault::before_headers(&error, peer))
    }

    async fn resolve(
        &self,
        endpoint: &Endpoint,
        clock: &Clock<'_>,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let (port, peer) = (endpoint.port(), clock.peer);
        let name = match endpoint.host() {
            Host::Address(address) => return Ok(vec![SocketAddr::new(*address, port)]),
            Host::Name(name) => name,
        };
        let found = clock.within("the name lookup", lookup_host((name.as_str(), port))).await?;
        let found: Vec<SocketAddr> = found
            .map_err(|error| {
                fault::connection(format!("the name of {peer} was not found: {error}"))
            })?
            .collect();
        if found.is_empty() {
            return Err(fault::connection(format!("the name of {peer} has no address")));
        }
        if self.options.allow_private_network || name == "localhost" {
            return Ok(found);
        }
        let public: Vec<_> =
            found.into_iter().filter(|address| !is_private_network(address.ip())).collect();
        if public.is_empty() {
            return Err(fault::connection(format!(
                "{peer} leads into a private network, which was not asked for: set \
                 `allow_private_network = true` for the provider if that is meant"
            )));
        }
        Ok(public)
    }

    async fn secure(
        &self,
        endpoint: &Endpoint,
        socket: TcpStream,
        clock: &Clock<'_>,
    ) -> Result<(Link, bool), Failure> {
        let peer = clock.peer;
        let broken =
            |why: String| fault::connection(format!("TLS handshake with {peer} failed: {why}"));
        // Once per process, and no fault of the server: it does not count as connecting. The caller's
        // own deadline holds all the same.
        let connector = TlsConnector::from(Arc::clone(self.tls().await.map_err(broken)?));
        let name = match endpoint.host() {
            Host::Address(address) => ServerName::from(*address),
            Host::Name(name) => ServerName::try_from(name.clone())
                .map_err(|_| broken("the host in base_url is not a DNS name".into()))?,
        };
        let stream = clock.within("the TLS handshake", connector.connect(name, socket)).await?;
        let stream = stream.map_err(|error| broken(fault::tls_words(&error)))?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if self.options.http2 == Http2::PriorKnowledge && !http2 {
            return Err(broken("the server does not offer HTTP/2: remove `http2`".into()));
        }
        Ok((Link::Tls(Box::new(stream)), http2))
    }

    /// The configuration, made on first use. A broken `ca_file` is read again next time, mended perhaps.
    async fn tls(&self) -> Result<&Arc<ClientConfig>, String> {
        let load = || async {
            let ca_file = self.options.ca_file.clone();
            let alpn: &[&[u8]] = match self.options.http2 {
                Http2::Auto => &[b"h2", b"http/1.1"],
                Http2::PriorKnowledge => &[b"h2"],
                Http2::Never => &[b"http/1.1"],
            };
            let loading = self
                .options
                .tracker
                .spawn_blocking(move || tls::client_config(ca_file.as_deref(), alpn));
            loading.await.unwrap_or_else(|_| Err("loading certificates was aborted".into()))
        };
        self.tls.get_or_try_init(load).await
    }
}

/// Tries the addresses in turn. Each gets an even share of the time that is left, so that a dead one
/// does not use up the share of a live one.
async fn open(addresses: &[SocketAddr], clock: &Clock<'_>) -> Result<TcpStream, Failure> {
    let mut refused = None;
    for (tried, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let now = Instant::now();
        let share = clock.deadline.saturating_duration_since(now) / left;
        match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                // Only a latency hint: a socket that cannot take it still works.
                drop(socket.set_nodelay(true));
                return Ok(socket);
            }
            Ok(Err(error)) => refused = Some(fault::io_words(&error)),
            Err(_) => {}
        }
    }
    Err(refused.map_or_else(
        || clock.passed("the TCP handshake"),
        |why| fault::connection(format!("connecting to {} failed: {why}", clock.peer)),
    ))
}

/// The connect limit of one request.
struct Clock<'a> {
    deadline: Instant,
    limit: Duration,
    peer: &'a str,
}

impl Clock<'_> {
    async fn within<T>(&self, step: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
        timeout_at(self.deadline, work).await.map_err(|_| self.passed(step))
    }

    fn passed(&self, step: &str) -> Failure {
        let Self { limit, peer, .. } = self;
        let message = format!("no connection to {peer} within {limit:?}: {step} did not finish");
        Failure::new(FailureClass::Timeout(Phase::Connect), message)
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
