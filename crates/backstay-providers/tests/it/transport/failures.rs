//! Every way in which a provider fails a request, and the class it gets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use backstay_core::failure::{Cut, FailureClass, Phase};
use backstay_providers::transport::{Limits, TransportOptions};
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::mpsc, time::Instant};

use super::{
    LIMITS, request, round_trip, send,
    server::{Server, read_request, reset},
    transport,
};

const CUT: FailureClass = FailureClass::Truncated(Cut::Stream);

#[tokio::test]
async fn replies_that_end_too_early_or_are_no_http_get_their_class() {
    let head = "HTTP/1.1 200 OK\r\n";
    let cases = [
        ("", FailureClass::Connection),
        ("HTTP/1.1 200 OK\r\ncontent-", FailureClass::Connection),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", FailureClass::UpstreamError),
        (&format!("{head}content-length: 10\r\n\r\nshort"), CUT),
        (&format!("{head}transfer-encoding: chunked\r\n\r\n5\r\nshort\r\n"), CUT),
        (&format!("{head}transfer-encoding: chunked\r\n\r\n5\r\nsh"), CUT),
        (
            &format!("{head}transfer-encoding: chunked\r\n\r\nsecret\r\n"),
            FailureClass::UpstreamError,
        ),
    ];
    for (reply, class) in cases {
        let server = Server::once(reply).await;
        let transport = transport(&server.url(), TransportOptions::default());
        let failure = round_trip(&transport).await.unwrap_err();
        assert_eq!(failure.class, class, "{reply:?}: {failure}");
        assert!(failure.message.contains(&server.address.to_string()), "{failure}");
        assert!(!failure.message.contains("secret"), "{failure}");
    }
}

#[tokio::test]
async fn a_reset_is_told_by_where_it_happens() {
    let server = Server::start(|mut socket, number| async move {
        read_request(&mut socket).await.unwrap();
        if number == 1 {
            let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
            socket.write_all(half).await.unwrap();
        }
        reset(socket);
    })
    .await;
    let transport = transport(&server.url(), TransportOptions::default());
    let failure = round_trip(&transport).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Connection, "{failure}");
    let failure = round_trip(&transport).await.unwrap_err();
    // The system may drop what it received before the reset, headers included.
    assert!([CUT, FailureClass::Connection].contains(&failure.class), "{failure}");
}

#[tokio::test]
async fn a_refused_connection_and_an_unknown_name_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let refusing = transport(&format!("http://{address}"), TransportOptions::default());
    let failure = send(&refusing).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Connection);
    assert!(failure.message.contains(&address.to_string()), "{failure}");
    assert!(failure.message.contains("refused"), "{failure}");
    let unknown = transport("http://backstay.invalid", TransportOptions::default());
    let failure = send(&unknown).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Connection);
    assert!(failure.message.contains("the name of backstay.invalid:80"), "{failure}");
}

#[tokio::test]
async fn a_name_may_lead_into_a_private_network_only_with_permission() {
    let server = Server::always("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let port = server.address.port();
    // Not an address to a URL parser, yet the resolver makes 127.0.0.1 of it.
    let disguised = format!("http://127.1:{port}");
    let guarded = transport(&disguised, TransportOptions::default());
    let failure = send(&guarded).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Connection);
    assert!(failure.message.contains("`allow_private_network = true`"), "{failure}");
    assert_eq!(server.connections(), 0);
    let allowing = TransportOptions { allow_private_network: true, ..TransportOptions::default() };
    send(&transport(&disguised, allowing)).await.unwrap();
    let named = format!("http://localhost:{port}");
    send(&transport(&named, TransportOptions::default())).await.unwrap();
}

#[tokio::test]
async fn silence_after_the_request_is_a_headers_timeout_at_its_limit() {
    let (closed, mut closings) = mpsc::unbounded_channel();
    let server = Server::start(move |mut socket, _| {
        let closed = closed.clone();
        async move {
            while read_request(&mut socket).await.is_some() {}
            closed.send(()).unwrap();
        }
    })
    .await;
    let transport = transport(&server.url(), TransportOptions::default());
    let limits = Limits { headers: Duration::from_millis(150), ..LIMITS };
    let start = Instant::now();
    let failure = transport.send(&request(), &limits).await.unwrap_err();
    let took = start.elapsed();
    assert_eq!(failure.class, FailureClass::Timeout(Phase::Headers), "{failure}");
    assert!(took >= limits.headers && took < Duration::from_secs(5), "{took:?}");
    closings.recv().await.unwrap();
}

#[tokio::test]
async fn silence_in_the_tls_handshake_is_a_connect_timeout_at_its_limit() {
    let (closed, mut closings) = mpsc::unbounded_channel();
    let server = Server::start(move |mut socket, _| {
        let closed = closed.clone();
        async move {
            while read_request(&mut socket).await.is_some() {}
            closed.send(()).unwrap();
        }
    })
    .await;
    let url = format!("https://{}", server.address);
    let transport = transport(&url, TransportOptions::default());
    // Loading the authorities is part of the first connection only.
    let limits = Limits { connect: Duration::from_secs(3), ..LIMITS };
    let start = Instant::now();
    let failure = transport.send(&request(), &limits).await.unwrap_err();
    let took = start.elapsed();
    assert_eq!(failure.class, FailureClass::Timeout(Phase::Connect), "{failure}");
    assert!(failure.message.contains("the TLS handshake"), "{failure}");
    assert!(took >= limits.connect && took < Duration::from_secs(10), "{took:?}");
    closings.recv().await.unwrap();
}

#[tokio::test]
async fn reading_stops_at_the_limit_however_much_is_sent() {
    const WHOLE: usize = 50 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let (closed, mut closings) = mpsc::unbounded_channel();
    let counter = Arc::clone(&sent);
    let server = Server::start(move |mut socket, _| {
        let (counter, closed) = (Arc::clone(&counter), closed.clone());
        async move {
            read_request(&mut socket).await.unwrap();
            let piece = [b"10000\r\n", vec![b'x'; 1 << 16].as_slice(), b"\r\n"].concat();
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            socket.write_all(head).await.unwrap();
            while counter.load(Ordering::SeqCst) < WHOLE && socket.write_all(&piece).await.is_ok() {
                counter.fetch_add(1 << 16, Ordering::SeqCst);
            }
            closed.send(()).unwrap();
        }
    })
    .await;
    let transport = transport(&server.url(), TransportOptions::default());
    let exchange = send(&transport).await.unwrap();
    let failure = exchange.body.read_all().await.unwrap_err();
    assert_eq!(failure.class, FailureClass::UpstreamError);
    assert!(failure.message.ends_with("is larger than 1 MB"), "{failure}");
    closings.recv().await.unwrap();
    // The rest is what the system's socket buffers took.
    assert!(sent.load(Ordering::SeqCst) < WHOLE / 2, "{sent:?}");
}

#[tokio::test]
async fn a_body_announced_as_too_large_is_not_read() {
    let server = Server::once("HTTP/1.1 200 OK\r\ncontent-length: 52428800\r\n\r\nx").await;
    let transport = transport(&server.url(), TransportOptions::default());
    let mut exchange = send(&transport).await.unwrap();
    let failure = exchange.body.chunk().await.unwrap_err();
    assert_eq!(failure.class, FailureClass::UpstreamError);
}
