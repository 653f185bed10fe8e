//! Who may ask the control API, with keys and without; events; the dashboard's files.

use std::{net::SocketAddr, time::Duration};

use backstay_server::auth;
use backstay_store::{RegistryStore, SqliteRegistry};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::harness::{Ask, Files, Gateway, Told, Upstream, project};

const LONG: Duration = Duration::from_secs(20);

fn files(upstream: &Upstream) -> Files {
    vec![
        ("backstay.toml".into(), upstream.provider("up", "openai")),
        ("calls/chat/call.toml".into(), "route = [\"up/chat/ok\"]\n".into()),
    ]
}

fn registry(dir: &TempDir) -> SqliteRegistry {
    SqliteRegistry::open(dir.path().join(".backstay")).unwrap()
}

/// A gateway with a key named `ops`, and that key.
async fn with_key(upstream: &Upstream) -> (Gateway, String) {
    let dir = project(&files(upstream));
    let (key, row) = auth::make("ops", &[7; 24], 1);
    registry(&dir).key_create(&row).unwrap();
    (Gateway::start_in(dir).await, key)
}

/// Every operation of the description: method, path, and whether it needs no key.
async fn operations(gateway: &Gateway) -> Vec<(Method, String, bool)> {
    let told = gateway.send(Ask::get("/api/v1/openapi.json")).await;
    assert_eq!(told.status, 200);
    let document = told.json();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let is_open = operation["security"] == json!([{}]);
            let path = path.replace("{call}", "chat").replace("{id}", "0190aaaa");
            all.push((method.to_uppercase().parse().unwrap(), path, is_open));
        }
    }
    assert!(all.len() > 10, "{all:?}");
    all
}

fn sign_in(key: &str) -> Ask {
    Ask::json("/api/v1/session", &json!({ "key": key }))
}

/// The cookie of a sign-in, as a browser sends it back.
fn cookie(told: &Told) -> String {
    assert_eq!(told.status, 204, "{told:?}");
    let (cookie, attributes) = told.header("set-cookie").split_once("; ").unwrap();
    assert_eq!(attributes, "HttpOnly; SameSite=Strict; Path=/; Max-Age=43200");
    assert_eq!(cookie.len(), "backstay_session=".len() + 64);
    cookie.to_owned()
}

#[tokio::test]
async fn every_operation_refuses_without_a_key_but_those_for_signing_in() {
    let upstream = Upstream::start().await;
    let (gateway, key) = with_key(&upstream).await;
    let mut open = Vec::new();
    for (method, path, is_open) in operations(&gateway).await {
        let ask = Ask { method: method.clone(), ..Ask::get(&path) };
        if is_open {
            open.push(format!("{method} {path}"));
            continue;
        }
        for bad in [
            ask.clone(),
            ask.clone().with("authorization", "Bearer bsk_none_secret"),
            ask.clone().with("x-api-key", ""),
            ask.clone().with("cookie", &format!("backstay_session={}", "0".repeat(64))),
        ] {
            let told = gateway.send(bad.clone()).await;
            assert_eq!(told.status, 401, "{method} {path} {bad:?}");
            assert!(told.json()["error"]["message"].as_str().unwrap().len() > 10);
            assert_eq!(told.header("www-authenticate"), "Bearer");
        }
        if method == Method::GET && !path.ends_with("/events") {
            let told = gateway.send(ask.with("authorization", &format!("Bearer {key}"))).await;
            assert_ne!(told.status, 401, "{path}");
        }
    }
    let expected = ["GET openapi.json", "DELETE session", "GET session", "POST session"];
    let expected = expected.map(|name| name.replace(' ', " /api/v1/"));
    open.sort_unstable();
    let mut sorted = expected.to_vec();
    sorted.sort_unstable();
    assert_eq!(open, sorted, "nothing else is open");
    let told = gateway.send(Ask::get("/api/v1/session")).await.json();
    assert_eq!(told, json!({ "required": true, "signed_in": false, "version": null }));
    let ask = Ask { method: Method::DELETE, ..Ask::get("/api/v1/session") };
    assert_eq!(gateway.send(ask).await.status, 401);
    gateway.end().await;
}

#[tokio::test]
async fn without_keys_only_this_machine_may_ask() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    for (method, path, is_open) in operations(&gateway).await {
        if is_open {
            continue;
        }
        let ask = Ask { method, ..Ask::get(&path) };
        for (name, value) in
            [("origin", "https://example.com"), ("origin", "null"), ("host", "rebound.example:80")]
        {
            let told = gateway.send(ask.clone().with(name, value)).await;
            assert_eq!(told.status, 403, "{path} {name}: {value}");
            assert_eq!(told.json()["error"]["param"], name);
        }
    }
    let local = Ask::get("/api/v1/board").with("origin", "http://localhost:4700");
    assert_eq!(gateway.send(local).await.status, 200);
    gateway.end().await;
}

#[tokio::test]
async fn a_session_stands_for_its_key_until_it_is_ended_or_the_key_revoked() {
    let upstream = Upstream::start().await;
    let (gateway, key) = with_key(&upstream).await;
    let session = cookie(&gateway.send(sign_in(&key)).await);
    let other = cookie(&gateway.send(sign_in(&key)).await);
    assert_ne!(session, other);
    let board = |cookie: &str| Ask::get("/api/v1/board").with("cookie", cookie);
    assert_eq!(gateway.send(board(&session)).await.status, 200);
    let told = gateway.send(Ask::get("/api/v1/session").with("cookie", &session)).await.json();
    assert_eq!((&told["signed_in"], told["version"].is_string()), (&json!(true), true));
    let told = gateway.send(board(&session).with("x-api-key", "bsk_bad_key")).await;
    assert_eq!(told.status, 401, "a key that is shown counts");

    let silence = json!({ "reason": "a drill", "minutes": 1 });
    let add = Ask::json("/api/v1/silences", &silence).with("cookie", &session);
    let told = gateway.send(add.clone()).await;
    assert_eq!((told.status, &told.json()["error"]["param"]), (403, &json!("x-backstay-csrf")));
    let told = gateway.send(add.clone().with("origin", "https://example.com")).await;
    assert_eq!(told.status, 403);
    let told = gateway.send(add.clone().with("x-backstay-csrf", "1")).await;
    assert_eq!((told.status, &told.json()["by"]), (201, &json!("ops")));
    let own = format!("http://{}", gateway.address);
    assert_eq!(gateway.send(add.with("origin", &own)).await.status, 201);

    let end = Ask { method: Method::DELETE, ..Ask::get("/api/v1/session") };
    let end = end.with("cookie", &other).with("x-backstay-csrf", "1");
    assert_eq!(gateway.send(end).await.status, 204);
    assert_eq!(gateway.send(board(&other)).await.status, 401);
    assert_eq!(gateway.send(board(&session)).await.status, 200);
    registry(&gateway.dir).key_revoke("ops", 2).unwrap().unwrap();
    let refused = async {
        while gateway.send(board(&session)).await.status != 401 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, refused).await.expect("the session ends with its key");
    assert_eq!(gateway.send(sign_in(&key)).await.status, 401);
    gateway.end().await;
}

#[tokio::test]
async fn signing_in_is_for_this_very_page_and_not_for_guessing() {
    let upstream = Upstream::start().await;
    let (gateway, key) = with_key(&upstream).await;
    let from = sign_in(&key).with("origin", "https://example.com");
    assert_eq!(gateway.send(from).await.status, 403);
    let form = Ask::get("/api/v1/session").with("content-type", "text/plain");
    let form = Ask { method: Method::POST, body: Bytes::from_static(b"{}"), ..form };
    assert_eq!(gateway.send(form).await.status, 400);
    let behind_tls = gateway.send(sign_in(&key).with("x-forwarded-proto", "https")).await;
    assert!(behind_tls.header("set-cookie").ends_with("; Secure"));
    for _ in 0..10 {
        let told = gateway.send(sign_in("bsk_guess_17")).await;
        assert_eq!(told.status, 401);
        assert!(!String::from_utf8_lossy(&told.body).contains("guess"));
    }
    let told = gateway.send(sign_in("bsk_guess_18")).await;
    assert_eq!(told.status, 429);
    assert!((1..=6).contains(&told.header("retry-after").parse::<u64>().unwrap()));
    assert_eq!(gateway.send(sign_in(&key)).await.status, 204, "a good key is not locked out");
    let by_header = Ask::get("/api/v1/board").with("x-api-key", &key);
    assert_eq!(gateway.send(by_header).await.status, 200, "the key itself still opens");
    gateway.end().await;
}

/// An open event stream.
struct Stream {
    status: StatusCode,
    body: Incoming,
    heard: String,
    _tasks: JoinSet<()>,
}

impl Stream {
    async fn open(address: SocketAddr, key: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        let request = Request::get("/api/v1/events").header("host", address.to_string());
        let request = request.header("x-api-key", key).body(Empty::<Bytes>::new()).unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        assert_eq!(head.headers["content-type"], "text/event-stream");
        Self { status: head.status, body, heard: String::new(), _tasks: tasks }
    }

    /// Reads until `wanted` was heard; `false` when the stream ends before.
    async fn hears(&mut self, wanted: &str) -> bool {
        let heard = async {
            while !self.heard.contains(wanted) {
                let Some(frame) = self.body.frame().await else { return false };
                let Some(data) = frame.ok().and_then(|frame| frame.into_data().ok()) else {
                    return false;
                };
                self.heard.push_str(std::str::from_utf8(&data).unwrap());
            }
            true
        };
        timeout(LONG, heard).await.unwrap_or_else(|_| panic!("not heard: {wanted}"))
    }
}

#[tokio::test]
async fn a_stream_ticks_while_calls_arrive_and_ends_with_its_key() {
    let upstream = Upstream::start().await;
    let (gateway, key) = with_key(&upstream).await;
    let mut stream = Stream::open(gateway.address, &key).await;
    assert!(stream.status == StatusCode::OK && stream.hears("retry: ").await);
    let body = json!({ "model": "chat", "messages": [{ "role": "user", "content": "Wind?" }] });
    let ask = Ask::json("/v1/chat/completions", &body).with("x-api-key", &key);
    assert_eq!(gateway.send(ask).await.status, 200);
    assert!(stream.hears("event: tick\ndata: {").await);
    assert!(stream.hears("\n\n").await);
    let data = stream.heard.split("data: ").nth(1).unwrap().split('\n').next().unwrap();
    let tick: Value = serde_json::from_str(data).unwrap();
    assert!(tick["seq"] == 1 && tick["at_ms"].as_u64().unwrap() > 0, "{tick}");
    registry(&gateway.dir).key_revoke("ops", 2).unwrap().unwrap();
    assert!(!stream.hears("never").await, "the stream ends");
    gateway.end().await;
}

#[tokio::test]
async fn streams_end_at_once_when_the_server_does() {
    let upstream = Upstream::start().await;
    let (gateway, key) = with_key(&upstream).await;
    let mut stream = Stream::open(gateway.address, &key).await;
    assert!(stream.hears("retry: ").await);
    let began = tokio::time::Instant::now();
    let (ended, ()) = tokio::join!(stream.hears("never"), gateway.end());
    assert!(!ended && began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_dashboard_needs_no_key_and_fetches_nothing_from_elsewhere() {
    let upstream = Upstream::start().await;
    let (gateway, _) = with_key(&upstream).await;
    let page = gateway.send(Ask::get("/")).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    for path in ["/calls/chat", "/log", "/log/0190aaaa", "/alerts", "/health", "/?window=7d"] {
        let told = gateway.send(Ask::get(path)).await;
        assert_eq!((told.status, &told.body), (200, &page.body), "{path}");
    }
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(page.header(name), value);
    }
    assert!(page.header("permissions-policy").contains("camera=()"));
    let again = Ask::get("/").with("if-none-match", page.header("etag"));
    let again = gateway.send(again).await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    let head = gateway.send(Ask { method: Method::HEAD, ..Ask::get("/") }).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    let files = text.split('"').filter(|part| part.starts_with('/') && part.contains('.'));
    for file in files {
        let told = gateway.send(Ask::get(file).with("accept-encoding", "gzip")).await;
        assert_eq!(told.status, 200, "{file}");
        let is_hashed = file.starts_with("/assets/");
        assert_eq!(told.header("cache-control").contains("immutable"), is_hashed, "{file}");
    }
    let told = gateway.send(Ask::post("/", "{}")).await;
    assert_eq!(told.status, 405);
    for unknown in ["/nothing", "/v1/nothing", "/assets/nothing.js"] {
        let told = gateway.send(Ask::get(unknown)).await;
        assert_eq!(
            (told.status, told.json()["error"]["type"].as_str()),
            (404, Some("bad_request"))
        );
    }
    gateway.end().await;
}
