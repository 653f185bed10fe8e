//! HTTP/2 by prior knowledge: shared connections, their limits and their ends.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use backstay_core::failure::{Cut, FailureClass, Phase};
use backstay_providers::transport::{Http2, Limits, Transport, TransportOptions};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::{Barrier, watch};
use tokio_util::task::TaskTracker;

use super::{LIMITS, request, round_trip, send, server::Server, transport};

/// Answers with the version of the request.
pub(crate) async fn answer(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let version = format!("{:?}", request.version());
    request.into_body().collect().await.unwrap();
    Ok(Response::new(Full::from(version)))
}

fn http2_transport(server: &Server) -> Transport {
    let options = TransportOptions { http2: Http2::PriorKnowledge, ..TransportOptions::default() };
    transport(&server.url(), options)
}

#[tokio::test]
async fn fifty_requests_at_once_respect_the_limit_of_five_streams() {
    const STREAMS: usize = 5;
    const REQUESTS: usize = 50;
    let all_here = Arc::new(Barrier::new(REQUESTS));
    let most = Arc::new(AtomicUsize::new(0));
    let (barrier, peak) = (Arc::clone(&all_here), Arc::clone(&most));
    let server = Server::start(move |socket, _| {
        let (barrier, peak) = (Arc::clone(&barrier), Arc::clone(&peak));
        let streams = Arc::new(AtomicUsize::new(0));
        let service = service_fn(move |request| {
            let (barrier, peak) = (Arc::clone(&barrier), Arc::clone(&peak));
            let streams = Arc::clone(&streams);
            async move {
                peak.fetch_max(streams.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                barrier.wait().await;
                streams.fetch_sub(1, Ordering::SeqCst);
                answer(request).await
            }
        });
        let mut serving = http2::Builder::new(TokioExecutor::new());
        serving.max_concurrent_streams(u32::try_from(STREAMS).unwrap());
        async move {
            drop(serving.serve_connection(TokioIo::new(socket), service).await);
        }
    })
    .await;
    let transport = Arc::new(http2_transport(&server));
    for _ in 0..3 {
        // No request is answered before all fifty have arrived.
        let tasks = TaskTracker::new();
        let running: Vec<_> = (0..REQUESTS)
            .map(|_| {
                let transport = Arc::clone(&transport);
                tasks.spawn(async move { round_trip(&transport).await })
            })
            .collect();
        for task in running {
            assert_eq!(task.await.unwrap().unwrap(), (200, "HTTP/2.0".into()));
        }
    }
    // The first round opens a connection for each request, the others share those.
    assert!(server.connections() <= REQUESTS, "{}", server.connections());
    assert_eq!(most.load(Ordering::SeqCst), STREAMS);
}

#[tokio::test]
async fn a_late_stream_is_told_and_the_next_request_gets_another_connection() {
    let server = Server::start(|socket, number| async move {
        let service = service_fn(move |request: Request<Incoming>| async move {
            if number == 0 {
                std::future::pending::<()>().await;
            }
            answer(request).await
        });
        let serving = http2::Builder::new(TokioExecutor::new());
        drop(serving.serve_connection(TokioIo::new(socket), service).await);
    })
    .await;
    let transport = http2_transport(&server);
    let limits = Limits { headers: Duration::from_millis(150), ..LIMITS };
    let failure = transport.send(&request(), &limits).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Timeout(Phase::Headers), "{failure}");
    assert_eq!(round_trip(&transport).await.unwrap().0, 200);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_ends_within_a_body_cuts_the_reply() {
    let (end, ending) = watch::channel(false);
    let server = Server::start(move |socket, _| {
        let mut ending = ending.clone();
        async move {
            let service = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Half::New)) });
            let serving = http2::Builder::new(TokioExecutor::new());
            tokio::select! {
                _ = serving.serve_connection(TokioIo::new(socket), service) => {}
                _ = ending.wait_for(|end| *end) => {}
            }
        }
    })
    .await;
    let mut exchange = send(&http2_transport(&server)).await.unwrap();
    assert_eq!(exchange.body.chunk().await.unwrap().unwrap(), "half");
    end.send(true).unwrap();
    let failure = exchange.body.chunk().await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Truncated(Cut::Stream), "{failure}");
}

/// A body that begins and does not go on.
enum Half {
    New,
    Sent,
}

impl http_body::Body for Half {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match std::mem::replace(self.get_mut(), Self::Sent) {
            Self::New => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"half"))))),
            Self::Sent => Poll::Pending,
        }
    }
}
