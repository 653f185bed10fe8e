//! A gateway with its project and its providers, each on a port of its own, and a client for it.

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use backstay_engine::{Engine, Sink};
use backstay_providers::sim::{Sim, SimConfig, serve};
use backstay_server::serve::{Options, start};
use backstay_store::{Accounting, CallRow, Filter, Lookup, RecordReader, SqliteReader, StoredCall};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// Nothing in these tests may take longer; what does is stuck.
const STUCK: Duration = Duration::from_secs(30);
const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A simulated provider behind a socket; it ends when this is dropped.
pub(crate) struct Upstream {
    pub(crate) sim: Arc<Sim>,
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let address = listener.local_addr().unwrap();
        let sim = Arc::new(Sim::new(SimConfig::default()));
        let mut tasks = JoinSet::new();
        let served = serve(listener, Arc::clone(&sim), std::future::pending());
        tasks.spawn(async move { served.await.unwrap() });
        Self { sim, address, _tasks: tasks }
    }

    /// The `[providers.NAME]` table that leads here.
    pub(crate) fn provider(&self, name: &str, kind: &str) -> String {
        let Self { address, .. } = self;
        format!("[providers.{name}]\nkind = \"{kind}\"\nbase_url = \"http://{address}/v1\"\n")
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Arc<Engine>,
    pub(crate) dir: TempDir,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// Files of a project by their paths.
pub(crate) type Files = Vec<(String, String)>;

/// Writes a project into a directory of its own.
pub(crate) fn project(files: &Files) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

impl Gateway {
    pub(crate) async fn start(files: &Files) -> Self {
        Self::start_in(project(files)).await
    }

    pub(crate) async fn start_in(dir: TempDir) -> Self {
        let options = Options {
            dir: dir.path().to_owned(),
            listen: Some(ANY_PORT),
            log: true,
            seed: 1,
            fresh_key: [7; 32],
        };
        let started = start(&options).await.unwrap();
        assert!(started.warnings().is_empty(), "{:?}", started.warnings());
        let (address, engine) = (started.address().unwrap(), started.engine());
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(started.run(stop.clone().cancelled_owned()));
        Self { address, engine, dir, stop, tasks }
    }

    pub(crate) async fn send(&self, ask: Ask) -> Told {
        send(self.address, ask).await
    }

    /// What became of the records, once all of them are stored.
    pub(crate) async fn flushed(&self) -> Accounting {
        let engine = Arc::clone(&self.engine);
        let flushed = tokio::task::spawn_blocking(move || {
            let Sink::Log(recorder) = engine.sink() else { panic!("the log is on") };
            assert!(recorder.flush(STUCK), "the records are not stored");
            recorder.accounting()
        });
        flushed.await.unwrap()
    }

    /// Every recorded call, newest first.
    pub(crate) async fn rows(&self) -> Vec<CallRow> {
        self.flushed().await;
        let filter = Filter { limit: usize::MAX, ..Filter::default() };
        self.reader().calls(&filter).unwrap()
    }

    /// The record of one call; `None` if there is none.
    pub(crate) async fn record(&self, id: &str) -> Option<StoredCall> {
        self.flushed().await;
        match self.reader().call(id).unwrap() {
            Lookup::Found(stored) => Some(*stored),
            Lookup::Missing => None,
            Lookup::Ambiguous(ids) => panic!("{id} is {} calls", ids.len()),
        }
    }

    fn reader(&self) -> SqliteReader {
        SqliteReader::open(self.dir.path().join(".backstay"))
    }

    /// Ends it as a signal would, and waits until it has drained.
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        timeout(STUCK, self.tasks.join_next()).await.unwrap().unwrap().unwrap();
    }
}

/// A request of a client.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Ask {
    pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { method: Method::POST, path: path.to_owned(), headers, body: body.into() }
    }

    pub(crate) fn json(path: &str, body: &Value) -> Self {
        Self::post(path, body.to_string())
    }

    pub(crate) fn get(path: &str) -> Self {
        Self { method: Method::GET, headers: Vec::new(), ..Self::post(path, "") }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What a client gets.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// From the first byte sent to the last one received.
    pub(crate) took: Duration,
}

impl Told {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no header {name}: {self:?}"));
        value.to_str().unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// Sends one request on a connection of its own.
pub(crate) async fn send(address: SocketAddr, ask: Ask) -> Told {
    let began = Instant::now();
    let exchange = async {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        let mut request = Request::builder().method(ask.method).uri(ask.path);
        if !ask.headers.iter().any(|(name, _)| name == "host") {
            request = request.header("host", address.to_string());
        }
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        let response =
            sender.send_request(request.body(Full::new(ask.body)).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head, body)
    };
    let (head, body) = timeout(STUCK, exchange).await.expect("an answer in time");
    Told { status: head.status.as_u16(), headers: head.headers, body, took: began.elapsed() }
}

/// Sends bytes as they are, says that no more will come, and returns all that comes back.
pub(crate) async fn send_raw(address: SocketAddr, bytes: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may have seen enough before it has read everything.
        drop(stream.write_all(bytes).await);
        drop(stream.shutdown().await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    };
    timeout(STUCK, exchange).await.expect("an answer in time")
}
