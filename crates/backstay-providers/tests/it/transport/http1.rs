//! HTTP/1.1: what is sent, what is read, and when a connection is used again.

use std::{
    io::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use backstay_core::failure::{Cut, FailureClass};
use backstay_providers::{
    transport::{Endpoint, Transport, TransportOptions},
    wire::WireRequest,
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderName, HeaderValue};
use tokio::{io::AsyncWriteExt, sync::mpsc};

use super::{
    LIMITS, round_trip, send,
    server::{Server, read_request},
    transport,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const EVENTS: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

fn plain(server: &Server) -> Transport {
    transport(&server.url(), TransportOptions::default())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gzip_reply(packed: &[u8]) -> Vec<u8> {
    let length = packed.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {length}\r\n");
    [head.as_bytes(), b"\r\n", packed].concat()
}

#[tokio::test]
async fn the_server_sees_the_whole_request() {
    let seen = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&seen);
    let server = Server::start(move |mut socket, _| {
        let sink = Arc::clone(&sink);
        async move {
            let request = read_request(&mut socket).await.unwrap();
            *sink.lock().unwrap() = request;
            socket.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await;
    let endpoint = Endpoint::parse(&server.url())
        .unwrap()
        .with_query("api-version", "1")
        .with_key_header("api-key", "sk-1")
        .unwrap();
    let header = (HeaderName::from_static("x-wire"), HeaderValue::from_static("w"));
    let request = WireRequest { headers: vec![header], ..super::request() };
    let transport = Transport::new(endpoint, TransportOptions::default());
    let exchange = transport.send(&request, &LIMITS).await.unwrap();
    assert_eq!(exchange.body.read_all().await.unwrap(), "ok");
    let seen = seen.lock().unwrap();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().collect();
    lines[1..].sort_unstable();
    let host = format!("host: {}", server.address);
    let agent = format!("user-agent: backstay/{}", env!("CARGO_PKG_VERSION"));
    let expected = [
        "POST /v1/chat?api-version=1 HTTP/1.1",
        "accept-encoding: identity",
        "accept: application/json, text/event-stream",
        "api-key: sk-1",
        "content-length: 7",
        "content-type: application/json",
        &host,
        &agent,
        "x-wire: w",
    ];
    assert_eq!(lines, expected);
    assert_eq!(body, "{\"a\":1}");
}

#[tokio::test]
async fn one_connection_serves_requests_in_turn() {
    let chunked = format!("{EVENTS}2\r\nok\r\n0\r\n\r\n");
    let empty = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    for reply in [OK, &chunked, empty] {
        let server = Server::always(reply).await;
        let transport = plain(&server);
        for _ in 0..20 {
            let (status, body) = round_trip(&transport).await.unwrap();
            assert_eq!((status, body.len()), (200, if reply == empty { 0 } else { 2 }));
        }
        assert_eq!(server.connections(), 1, "{reply}");
    }
}

#[tokio::test]
async fn parallel_requests_keep_no_more_than_the_idle_limit() {
    let server = Server::always(OK).await;
    let options = TransportOptions { max_idle: 3, ..TransportOptions::default() };
    let transport = transport(&server.url(), options);
    for round in 0..2 {
        let mut open = Vec::new();
        for _ in 0..8 {
            open.push(send(&transport).await.unwrap());
        }
        for exchange in open {
            exchange.body.read_all().await.unwrap();
        }
        // The second round finds three connections of the first.
        assert_eq!(server.connections(), if round == 0 { 8 } else { 13 });
    }
}

#[tokio::test]
async fn connections_past_the_idle_age_are_not_used() {
    let server = Server::always(OK).await;
    let options = TransportOptions { max_idle_age: Duration::ZERO, ..TransportOptions::default() };
    let transport = transport(&server.url(), options);
    for _ in 0..3 {
        round_trip(&transport).await.unwrap();
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_idle_is_replaced_unseen() {
    let (closed, mut closings) = mpsc::unbounded_channel();
    let server = Server::start(move |mut socket, _| {
        let closed = closed.clone();
        async move {
            read_request(&mut socket).await.unwrap();
            socket.write_all(OK.as_bytes()).await.unwrap();
            drop(socket);
            closed.send(()).unwrap();
        }
    })
    .await;
    let transport = plain(&server);
    for _ in 0..20 {
        round_trip(&transport).await.unwrap();
        closings.recv().await.unwrap();
        // The end has arrived; the runtime learns of it when it next asks the system.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(server.connections(), 20);
}

#[tokio::test]
async fn a_body_dropped_after_its_last_byte_arrived_keeps_the_connection() {
    let server = Server::always(format!("{EVENTS}6\r\n[DONE]\r\n0\r\n\r\n")).await;
    let transport = plain(&server);
    for _ in 0..5 {
        let mut exchange = send(&transport).await.unwrap();
        assert_eq!(exchange.body.chunk().await.unwrap().unwrap(), "[DONE]");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn dropping_a_request_or_a_body_closes_the_connection() {
    let (closed, mut closings) = mpsc::unbounded_channel();
    let (asked, mut asking) = mpsc::unbounded_channel();
    let server = Server::start(move |mut socket, number| {
        let (asked, closed) = (asked.clone(), closed.clone());
        async move {
            read_request(&mut socket).await.unwrap();
            if number == 1 {
                let half = format!("{EVENTS}4\r\nhalf\r\n");
                socket.write_all(half.as_bytes()).await.unwrap();
            }
            asked.send(()).unwrap();
            assert!(read_request(&mut socket).await.is_none(), "the connection was used again");
            closed.send(number).unwrap();
        }
    })
    .await;
    let transport = plain(&server);
    tokio::select! {
        answer = send(&transport) => panic!("answered: {answer:?}"),
        _ = asking.recv() => {}
    }
    assert_eq!(closings.recv().await, Some(0));
    let mut exchange = send(&transport).await.unwrap();
    assert_eq!(exchange.body.chunk().await.unwrap().unwrap(), "half");
    drop(exchange);
    assert_eq!(closings.recv().await, Some(1));
}

#[tokio::test]
async fn informational_replies_are_skipped_and_redirects_are_handed_out() {
    let hints = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n";
    let server = Server::always(format!("{hints}{OK}")).await;
    assert_eq!(round_trip(&plain(&server)).await.unwrap().0, 200);
    let moved = "HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let server = Server::always(moved).await;
    assert_eq!(round_trip(&plain(&server)).await.unwrap().0, 307);
}

#[tokio::test]
async fn gzip_is_unpacked_although_it_was_not_asked_for() {
    let text = "data: {\"text\": \"hello\"}\n\n".repeat(5_000);
    let server = Server::always(gzip_reply(&gzip(text.as_bytes()))).await;
    let transport = plain(&server);
    for _ in 0..2 {
        let exchange = send(&transport).await.unwrap();
        assert!(!exchange.headers.contains_key("content-encoding"));
        assert!(!exchange.headers.contains_key("content-length"));
        assert!(exchange.body.read_all().await.unwrap() == text);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_packed_stream_is_unpacked_as_it_comes() {
    let (go, going) = tokio::sync::watch::channel(false);
    let server = Server::start(move |mut socket, _| {
        let mut going = going.clone();
        async move {
            read_request(&mut socket).await.unwrap();
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n";
            socket.write_all(head.as_bytes()).await.unwrap();
            encoder.write_all(b"first").unwrap();
            encoder.flush().unwrap();
            socket.write_all(&std::mem::take(encoder.get_mut())).await.unwrap();
            going.wait_for(|go| *go).await.unwrap();
            encoder.write_all(b"second").unwrap();
            socket.write_all(&encoder.finish().unwrap()).await.unwrap();
        }
    })
    .await;
    let mut exchange = send(&plain(&server)).await.unwrap();
    assert_eq!(exchange.body.chunk().await.unwrap().unwrap(), "first");
    go.send(true).unwrap();
    assert_eq!(exchange.body.read_all().await.unwrap(), "second");
}

#[tokio::test]
async fn a_gzip_bomb_stops_at_the_limit() {
    let packed = gzip(&vec![0; 100 << 20]);
    assert!(packed.len() < LIMITS.body_max, "the packed bytes alone are not what is refused");
    let server = Server::always(gzip_reply(&packed)).await;
    let mut exchange = send(&plain(&server)).await.unwrap();
    let mut unpacked = 0;
    let failure = loop {
        match exchange.body.chunk().await {
            Ok(chunk) => unpacked += chunk.map_or(0, |chunk| chunk.len()),
            Err(failure) => break failure,
        }
    };
    assert_eq!(failure.class, FailureClass::UpstreamError);
    assert!(failure.message.ends_with("is larger than 1 MB"), "{failure}");
    assert!(unpacked <= LIMITS.body_max);
    let again = exchange.body.chunk().await;
    assert_eq!(again.unwrap_err(), failure, "a broken body must not look like one that ended");
}

#[tokio::test]
async fn broken_and_unknown_encodings_are_failures() {
    let packed = gzip(b"some text that is long enough");
    let cases = [
        (gzip_reply(b"not gzip at all"), FailureClass::UpstreamError),
        (gzip_reply(&packed[..packed.len() - 4]), FailureClass::Truncated(Cut::Stream)),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 1\r\n\r\nx".to_vec(),
            FailureClass::UpstreamError,
        ),
    ];
    for (reply, class) in cases {
        let server = Server::always(reply).await;
        assert_eq!(round_trip(&plain(&server)).await.unwrap_err().class, class);
    }
}

#[tokio::test]
async fn a_body_is_read_in_pieces_and_joined() {
    let chunks = "5\r\nabcde\r\n".repeat(1_000);
    let server = Server::always(format!("{EVENTS}{chunks}0\r\n\r\n")).await;
    let (_, body) = round_trip(&plain(&server)).await.unwrap();
    assert_eq!(body, Bytes::from("abcde".repeat(1_000)));
}
