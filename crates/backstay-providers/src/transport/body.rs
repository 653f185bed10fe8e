//! The body of a reply, read piece by piece, bounded, and unpacked where the provider packed it.
//!
//! A body that is read to its end gives its connection back to the pool. One that is dropped before
//! closes its HTTP/1.1 connection or resets its HTTP/2 stream. Idle limits are the caller's, around
//! [`Body::chunk`].

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use backstay_core::failure::{Cut, Failure, FailureClass};
use bytes::{Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use http::{HeaderMap, header::CONTENT_ENCODING};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;

use super::{
    Origin,
    connection::{Http1Connection, Lease},
    fault,
};

/// The connection that a body is read from.
#[derive(Debug)]
pub(super) enum Carrier {
    Http1(Http1Connection),
    /// Only held: its own task drives the connection.
    Http2(#[expect(dead_code, reason = "held until the stream ends")] Lease),
}

/// The body of a reply.
pub struct Body {
    origin: Arc<Origin>,
    incoming: Incoming,
    /// `None` once the body has been read to its end.
    carrier: Option<Carrier>,
    /// How many bytes may still come.
    left: usize,
    limit: usize,
    unpacking: Option<MultiGzDecoder<Bounded>>,
    /// What came after the body.
    trailers: Option<HeaderMap>,
    /// Why reading stopped: a broken body never looks like one that has ended.
    failed: Option<Failure>,
}

impl Body {
    /// Takes over the reading of a reply; no more than `limit` bytes of it.
    pub(super) fn new(
        origin: Arc<Origin>,
        incoming: Incoming,
        carrier: Carrier,
        limit: usize,
    ) -> Self {
        Self {
            origin,
            incoming,
            carrier: Some(carrier),
            left: limit,
            limit,
            unpacking: None,
            trailers: None,
            failed: None,
        }
    }

    /// Unpacks the body if `headers` say that it is packed, and makes them say so no longer.
    pub(super) fn unpacked(mut self, headers: &mut HeaderMap) -> Result<Self, Failure> {
        let Some(encoding) = headers.get(CONTENT_ENCODING) else { return Ok(self) };
        let is = |name: &str| encoding.as_bytes().eq_ignore_ascii_case(name.as_bytes());
        if is("gzip") || is("x-gzip") {
            let out = Bounded { bytes: Vec::new(), left: self.limit, passed: false };
            self.unpacking = Some(MultiGzDecoder::new(out));
            headers.remove(http::header::CONTENT_LENGTH);
        } else if !is("identity") {
            return Err(self.broken("is in an encoding that was not asked for"));
        }
        headers.remove(CONTENT_ENCODING);
        Ok(self)
    }

    /// The next piece, never empty; `None` at the end.
    ///
    /// # Errors
    /// `truncated` if the body ends before its end, `upstream_error` if it is larger than
    /// [`super::Limits::body_max`] or cannot be unpacked. It stays the answer from then on.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        while self.carrier.is_some() {
            if self.unpacking.is_none()
                && self.incoming.size_hint().lower() > u64::try_from(self.left).unwrap_or(u64::MAX)
            {
                return Err(self.too_large());
            }
            let Some(frame) = std::future::poll_fn(|cx| self.poll_frame(cx)).await else {
                self.finish();
                return self.end_of_packed();
            };
            let frame = frame.map_err(|error| self.fail(fault::in_body(&error, self.peer())))?;
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(other) => {
                    self.trailers = other.into_trailers().ok().or(self.trailers.take());
                    continue;
                }
            };
            let data = self.unpack(data)?;
            if data.len() > self.left {
                return Err(self.too_large());
            }
            self.left -= data.len();
            if self.incoming.is_end_stream() && self.unpacking.is_none() {
                self.finish();
            }
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
        self.failed.clone().map_or(Ok(None), Err)
    }

    /// The headers that came after the body; none before its end.
    #[must_use]
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// The rest of the body in one piece.
    ///
    /// # Errors
    /// As [`Self::chunk`].
    pub async fn read_all(mut self) -> Result<Bytes, Failure> {
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second);
        while let Some(more) = self.chunk().await? {
            all.extend_from_slice(&more);
        }
        Ok(all.freeze())
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if let Some(Carrier::Http1(connection)) = &mut self.carrier {
            connection.drive(cx);
            return Poll::Ready(ready!(Pin::new(&mut self.incoming).poll_frame(cx)));
        }
        Poll::Pending
    }

    /// Gives the connection back.
    fn finish(&mut self) {
        if let Some(Carrier::Http1(mut connection)) = self.carrier.take()
            && connection.settle()
        {
            self.origin.pool.put(connection);
        }
    }

    fn unpack(&mut self, packed: Bytes) -> Result<Bytes, Failure> {
        let Some(decoder) = &mut self.unpacking else { return Ok(packed) };
        let done = io::Write::write_all(decoder, &packed).and_then(|()| io::Write::flush(decoder));
        let out = decoder.get_mut();
        let passed = out.passed;
        let bytes = std::mem::take(&mut out.bytes);
        match done {
            Ok(()) => Ok(bytes.into()),
            Err(_) if passed => Err(self.too_large()),
            Err(_) => Err(self.broken("is not valid gzip")),
        }
    }

    /// At the end of the bytes, the packed body must have ended too.
    fn end_of_packed(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(mut decoder) = self.unpacking.take() else { return Ok(None) };
        if decoder.try_finish().is_err() {
            let message = format!("the gzip reply of {} ends too early", self.peer());
            return Err(self.fail(Failure::new(FailureClass::Truncated(Cut::Stream), message)));
        }
        let rest = std::mem::take(&mut decoder.get_mut().bytes);
        Ok((!rest.is_empty()).then(|| rest.into()))
    }

    fn too_large(&mut self) -> Failure {
        let megabytes = self.limit.div_ceil(1 << 20);
        self.broken(&format!("is larger than {megabytes} MB"))
    }

    fn broken(&mut self, what: &str) -> Failure {
        let message = format!("the reply of {} {what}", self.peer());
        self.fail(Failure::new(FailureClass::UpstreamError, message))
    }

    /// Closes the connection: what is left of the reply will not be read.
    fn fail(&mut self, failure: Failure) -> Failure {
        self.carrier = None;
        self.failed = Some(failure.clone());
        failure
    }

    fn peer(&self) -> &str {
        self.origin.endpoint.peer()
    }
}

/// A reader of events stops at the last one; if the end of the body has come with it, the connection
/// need not be closed.
impl Drop for Body {
    fn drop(&mut self) {
        if matches!(self.carrier, Some(Carrier::Http1(_)))
            && let Poll::Ready(None) = self.poll_frame(&mut Context::from_waker(Waker::noop()))
        {
            self.finish();
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("peer", &self.peer())
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// Where unpacked bytes go: no more of them than are allowed, however small the packed ones are.
#[derive(Debug)]
struct Bounded {
    bytes: Vec<u8>,
    left: usize,
    passed: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            self.passed = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        self.left = left;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
