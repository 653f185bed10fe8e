//! One connection, in either version of HTTP, and the rules of sharing it.
//!
//! An HTTP/1.1 connection belongs to one request at a time, and that request drives it: no task, no
//! wake-up between tasks, and dropping the request closes the socket. An HTTP/2 connection is shared
//! and runs on a tracked task of its own.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    client::conn::{http1, http2},
    rt::Executor,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::task::TaskTracker;

use super::connect::Link;

/// Streams that one connection carries at most, whatever the peer allows.
const MOST_STREAMS: usize = 100;
/// A connection with open streams is asked for a sign of life this often: a peer that vanished
/// without a word is noticed in half a minute, not when the system gives up on the socket.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_ANSWER: Duration = Duration::from_secs(10);

type Io = TokioIo<Link>;
type RequestBody = Full<Bytes>;

/// An HTTP/1.1 connection with the machinery that moves its bytes.
pub(super) struct Http1Connection {
    pub(super) sender: http1::SendRequest<RequestBody>,
    /// `None` once it has ended. Boxed, since connections move between requests and the pool.
    machinery: Option<Box<http1::Connection<Io, RequestBody>>>,
}

impl Http1Connection {
    pub(super) async fn open(io: Io) -> hyper::Result<Self> {
        let (sender, machinery) = http1::handshake(io).await?;
        Ok(Self { sender, machinery: Some(Box::new(machinery)) })
    }

    /// Moves bytes as far as they go now.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(machinery) = &mut self.machinery
            && Pin::new(machinery).poll(cx).is_ready()
        {
            // How it ended is told to the request by its own channel.
            self.machinery = None;
        }
    }

    /// Moves bytes, then tells whether a request can be sent.
    pub(super) fn poll_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        self.machinery.is_some() && self.sender.is_ready()
    }

    /// Whether another request may use it, asked when a reply has ended. It also lets go of the
    /// waker of the request, which would keep the memory of a finished task.
    pub(super) fn settle(&mut self) -> bool {
        self.poll_usable(&mut Context::from_waker(Waker::noop()))
    }
}

impl fmt::Debug for Http1Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.machinery.is_some();
        f.debug_struct("Http1Connection").field("open", &open).finish_non_exhaustive()
    }
}

/// An HTTP/2 connection, shared by its requests.
#[derive(Clone)]
pub(super) struct Http2Connection {
    sender: http2::SendRequest<RequestBody>,
    shared: Arc<Shared>,
}

struct Shared {
    streams: AtomicUsize,
    most: AtomicUsize,
    retired: AtomicBool,
}

impl Http2Connection {
    pub(super) async fn open(io: Io, tracker: &TaskTracker) -> hyper::Result<Self> {
        let (sender, connection) = http2::Builder::new(Tasks(tracker.clone()))
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWER)
            .handshake(io)
            .await?;
        let shared = Arc::new(Shared {
            streams: AtomicUsize::new(0),
            most: AtomicUsize::new(MOST_STREAMS),
            retired: AtomicBool::new(false),
        });
        let watched = Watched { connection, shared: Arc::clone(&shared) };
        drop(tracker.spawn(watched));
        Ok(Self { sender, shared })
    }

    /// Whether it may carry new requests, now or when one of its own has ended.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.shared.retired.load(Ordering::Relaxed)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.shared.streams.load(Ordering::Relaxed) == 0
    }

    /// Takes one of its streams; `None` if the peer allows no more of them now.
    pub(super) fn lease(&self) -> Option<Lease> {
        let most = self.shared.most.load(Ordering::Relaxed);
        let more = |streams| (streams < most).then_some(streams + 1);
        self.shared.streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Lease(self.clone()))
    }
}

impl fmt::Debug for Http2Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams = self.shared.streams.load(Ordering::Relaxed);
        f.debug_struct("Http2Connection").field("streams", &streams).finish_non_exhaustive()
    }
}

/// A stream of an HTTP/2 connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Lease(Http2Connection);

impl Lease {
    pub(super) fn sender(&mut self) -> &mut http2::SendRequest<RequestBody> {
        &mut self.0.sender
    }

    /// Keeps new requests off the connection: it did not serve this one.
    pub(super) fn retire(&self) {
        self.0.shared.retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.shared.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs a connection and notes how many streams the peer allows.
struct Watched {
    connection: http2::Connection<Io, RequestBody, Tasks>,
    shared: Arc<Shared>,
}

impl Future for Watched {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // How it ended is told to the requests by their own channels.
        let ended = Pin::new(&mut self.connection).poll(cx).map(drop);
        let most = self.connection.current_max_send_streams().clamp(1, MOST_STREAMS);
        self.shared.most.store(most, Ordering::Relaxed);
        ended
    }
}

/// Lets hyper start what a connection needs on the tracker.
#[derive(Clone)]
struct Tasks(TaskTracker);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, work: F) {
        drop(self.0.spawn(work));
    }
}
