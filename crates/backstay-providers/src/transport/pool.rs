//! Connections that wait for their next request, of one transport and so of one origin.
//!
//! HTTP/1.1: a stack, so that the busiest stay warm and the others grow old; bounded in number and
//! age. HTTP/2: shared connections, filled up in order for the same reason. Connections that are too
//! old or closed are let go when the pool is next used; there is no task that sweeps. The pool must
//! not open connections.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::connection::{Http1Connection, Http2Connection, Lease};

/// A way to send one request.
#[derive(Debug)]
pub(super) enum Pooled {
    Http1(Http1Connection),
    Http2(Lease),
}

#[derive(Debug)]
pub(super) struct Pool {
    max_idle: usize,
    max_age: Duration,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The oldest first.
    idle: Vec<(Http1Connection, Instant)>,
    /// With the time of their last use.
    shared: Vec<(Http2Connection, Instant)>,
}

impl Pool {
    pub(super) fn new(max_idle: usize, max_age: Duration) -> Self {
        Self { max_idle, max_age, waiting: Mutex::default() }
    }

    /// A way to send a request, if there is one. It may have been closed by its peer.
    pub(super) fn take(&self) -> Option<Pooled> {
        let now = Instant::now();
        let mut waiting = self.waiting();
        let stale = waiting.remove_stale(now, self.max_age, self.max_idle);
        let taken = waiting
            .take_http2(now)
            .map(Pooled::Http2)
            .or_else(|| waiting.idle.pop().map(|(idle, _)| Pooled::Http1(idle)));
        drop(waiting);
        // Closing sockets is a system call each: not under the lock.
        drop(stale);
        taken
    }

    /// Takes a connection back whose reply has been read to its end.
    pub(super) fn put(&self, connection: Http1Connection) {
        let now = Instant::now();
        let mut waiting = self.waiting();
        waiting.idle.push((connection, now));
        let stale = waiting.remove_stale(now, self.max_age, self.max_idle);
        drop(waiting);
        drop(stale);
    }

    /// Shares a new connection and takes its first stream.
    pub(super) fn share(&self, connection: Http2Connection) -> Option<Lease> {
        let lease = connection.lease();
        self.waiting().shared.push((connection, Instant::now()));
        lease
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // No code that runs under the lock can leave it half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Stale = (Vec<(Http1Connection, Instant)>, Vec<(Http2Connection, Instant)>);

impl Waiting {
    /// A stream of the first connection that has one.
    fn take_http2(&mut self, now: Instant) -> Option<Lease> {
        self.shared.iter_mut().find_map(|(connection, used)| {
            let lease = connection.lease()?;
            *used = now;
            Some(lease)
        })
    }

    /// Removes what is closed, too old or too many.
    fn remove_stale(&mut self, now: Instant, max_age: Duration, max_idle: usize) -> Stale {
        let old = |used: Instant| now.saturating_duration_since(used) >= max_age;
        let aged = self.idle.iter().take_while(|(_, since)| old(*since)).count();
        let excess = self.idle.len().saturating_sub(max_idle);
        let idle = self.idle.drain(..aged.max(excess)).collect();
        let gone = |(connection, used): &mut (Http2Connection, Instant)| {
            !connection.is_open() || (connection.is_idle() && old(*used))
        };
        let shared = self.shared.extract_if(.., gone).collect();
        (idle, shared)
    }
}
