//! The simulated provider over real sockets: HTTP/1.1, written by hand.
//!
//! An HTTP library exists to prevent what this file is for: resetting a connection in the middle of
//! an answer, closing one before the announced length, sending headers and nothing after them. So
//! heads are read with `httparse` and replies are written byte by byte. It is a test tool: it speaks
//! no TLS and no HTTP/2, and keeps only the limits that protect the machine it runs on.
//!
//! Which fault is asked for stands in the request, so `connection-refused` and `tls-failure` can only
//! be played after it was read: both are a reset. The true ones are reached by a base URL at a closed
//! port, and by an `https://` base URL at this server's port.

use std::{convert::Infallible, future::Future, io, pin::pin, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    FAULT_HEADER, Sim,
    fault::Fault,
    protocol_of,
    script::{End, Piece, Script, Wait},
};

/// How long a hang lasts, and how long a client may take for a request.
const PATIENCE: Duration = Duration::from_secs(120);
const MAX_HEAD: usize = 64 * 1024;
const MAX_BODY: usize = 64 * 1024 * 1024;
const MAX_HEADERS: usize = 100;
const MAX_CONNECTIONS: usize = 4_096;
/// Replies are written at once up to this size.
const WRITE_AT: usize = 64 * 1024;

/// Answers on `listener` until `shutdown` is done; connections that are open then are dropped.
///
/// # Errors
/// If the listener itself fails; a broken connection is not an error.
pub async fn serve(
    listener: TcpListener,
    sim: Arc<Sim>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                match accepted {
                    Ok((stream, _)) => {
                        let sim = Arc::clone(&sim);
                        connections.spawn(async move {
                            // The client is the one who sees how its connection ended.
                            let _broken = Connection::new(stream, sim).run().await;
                        });
                    }
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) if is_out_of_files(&error) => sleep(Duration::from_millis(50)).await,
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// `EMFILE` and `ENFILE`: files come back when connections end.
fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// A connection ends by an error, or because one side said so.
enum Next {
    KeepAlive,
    Close,
}

struct Connection {
    stream: TcpStream,
    sim: Arc<Sim>,
    input: BytesMut,
    output: Vec<u8>,
}

/// What matters of a request's head.
#[derive(Debug, Default, PartialEq, Eq)]
struct Head {
    method: String,
    path: String,
    /// Bytes of the head and of the body behind it.
    size: usize,
    body: usize,
    fault: Option<String>,
    close: bool,
    expects_continue: bool,
}

impl Connection {
    fn new(stream: TcpStream, sim: Arc<Sim>) -> Self {
        Self { stream, sim, input: BytesMut::with_capacity(8 * 1024), output: Vec::new() }
    }

    async fn run(mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        loop {
            let read = timeout(PATIENCE, self.read_request()).await?;
            let head = match read {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(()),
                Err(Refused::Broken(error)) => return Err(error),
                Err(Refused::Answer(status, message)) => {
                    self.write_json(status, &json!({ "error": { "message": message } }), true);
                    return self.flush().await;
                }
            };
            let next = self.answer(&head).await?;
            self.input.advance(head.body);
            match next {
                Next::KeepAlive if !head.close => {}
                Next::KeepAlive | Next::Close => return self.stream.shutdown().await,
            }
        }
    }

    /// Reads a request; its body is then at the beginning of the input. `None` at the end.
    async fn read_request(&mut self) -> Result<Option<Head>, Refused> {
        let head = loop {
            if let Some(head) = read_head(&self.input)? {
                break head;
            }
            if self.input.len() > MAX_HEAD {
                return Err(Refused::Answer(431, "the head is larger than 64 KiB"));
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(None);
            }
        };
        self.input.advance(head.size);
        if head.expects_continue && self.input.len() < head.body {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        while self.input.len() < head.body {
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(None);
            }
        }
        Ok(Some(head))
    }

    async fn answer(&mut self, head: &Head) -> io::Result<Next> {
        let body = self.input.get(..head.body).unwrap_or_default();
        if head.method == "POST"
            && let Some(protocol) = protocol_of(&head.path)
        {
            let script = self.sim.script(protocol, body, head.fault.as_deref());
            return self.play(script, head.close).await;
        }
        let reply = match (head.method.as_str(), head.path.as_str()) {
            ("GET", "/v1/models" | "/models") => Some(models()),
            ("GET", "/requests") => Some(json!({
                "requests": self.sim.requests(),
                "models": self.sim.requests_by_model(),
            })),
            (_, _) => None,
        };
        match reply {
            Some(reply) => self.write_json(200, &reply, head.close),
            None => {
                let message = "the simulated provider serves POST /v1/chat/completions, \
                               POST /v1/messages, GET /v1/models and GET /requests";
                self.write_json(404, &json!({ "error": { "message": message } }), head.close);
            }
        }
        self.flush().await?;
        Ok(Next::KeepAlive)
    }

    async fn play(&mut self, script: Script, close: bool) -> io::Result<Next> {
        if script.drop.is_some() {
            return self.reset();
        }
        match script.wait {
            Wait::For(wait) => super::pause(wait).await,
            Wait::Forever => return self.hang().await,
        }
        self.write_head(&script, close);
        for piece in &script.pieces {
            if !piece.wait.is_zero() {
                self.flush().await?;
                super::pause(piece.wait).await;
            }
            self.write_piece(piece, script.length.is_none()).await?;
        }
        match script.end {
            End::Complete => {
                if script.length.is_none() {
                    self.output.extend_from_slice(b"0\r\n\r\n");
                }
                self.flush().await?;
                Ok(Next::KeepAlive)
            }
            End::Hang => {
                self.flush().await?;
                self.hang().await
            }
            End::Reset => {
                self.flush().await?;
                self.reset()
            }
            End::CloseEarly => {
                self.flush().await?;
                Ok(Next::Close)
            }
        }
    }

    fn write_head(&mut self, script: &Script, close: bool) {
        let out = &mut self.output;
        let reason = http::StatusCode::from_u16(script.status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Simulated");
        put(out, format_args!("HTTP/1.1 {} {reason}\r\n", script.status));
        for (name, value) in &script.headers {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        match script.length {
            Some(length) => put(out, format_args!("content-length: {length}\r\n")),
            None => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        if close {
            out.extend_from_slice(b"connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Writes into the output, which is sent whenever it is large: a huge body stays small here.
    async fn write_piece(&mut self, piece: &Piece, chunked: bool) -> io::Result<()> {
        for _ in 0..piece.times {
            // An empty chunk would end the body.
            if piece.bytes.is_empty() {
                continue;
            }
            if chunked {
                put(&mut self.output, format_args!("{:x}\r\n", piece.bytes.len()));
            }
            self.output.extend_from_slice(&piece.bytes);
            if chunked {
                self.output.extend_from_slice(b"\r\n");
            }
            if self.output.len() >= WRITE_AT {
                self.flush().await?;
            }
        }
        Ok(())
    }

    fn write_json(&mut self, status: u16, body: &Value, close: bool) {
        let body = body.to_string();
        let connection = if close { "connection: close\r\n" } else { "" };
        put(
            &mut self.output,
            format_args!(
                "HTTP/1.1 {status} Simulated\r\ncontent-type: application/json\r\n{connection}\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
    }

    async fn flush(&mut self) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(&self.output)).await??;
        self.output.clear();
        Ok(())
    }

    /// Waits until the client gives up, but not for ever.
    async fn hang(&mut self) -> io::Result<Next> {
        let stream = &mut self.stream;
        let gone = async {
            let mut ignored = [0; 1024];
            loop {
                if stream.read(&mut ignored).await? == 0 {
                    return Ok::<Infallible, io::Error>(Err(io::ErrorKind::UnexpectedEof)?);
                }
            }
        };
        match timeout(PATIENCE, gone).await {
            Ok(Ok(never)) => match never {},
            Ok(Err(error)) => Err(error),
            Err(_) => self.reset(),
        }
    }

    /// Ends the connection by RST instead of FIN.
    fn reset(&self) -> io::Result<Next> {
        self.stream.set_zero_linger()?;
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

/// Writing to a Vec cannot fail.
fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _infallible = io::Write::write_fmt(out, text);
}

fn models() -> Value {
    let models: Vec<Value> = Fault::ALL
        .iter()
        .map(|fault| json!({ "id": fault.name(), "object": "model", "owned_by": "backstay-sim" }))
        .collect();
    json!({ "object": "list", "data": models })
}

/// Why a request is not answered by the script.
#[derive(Debug)]
enum Refused {
    Broken(io::Error),
    Answer(u16, &'static str),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// Reads the head at the beginning of `input`; `None` while it is not complete.
fn read_head(input: &[u8]) -> Result<Option<Head>, Refused> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let size = match request.parse(input) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Refused::Answer(400, "this is not an HTTP/1.1 request")),
    };
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: request.path.unwrap_or_default().to_owned(),
        size,
        close: request.version == Some(0),
        ..Head::default()
    };
    for header in request.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            head.body = value
                .parse()
                .map_err(|_| Refused::Answer(400, "content-length is not a number"))?;
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Refused::Answer(411, "send the request with a content-length"));
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.close |= value.eq_ignore_ascii_case("close");
        } else if header.name.eq_ignore_ascii_case("expect") {
            head.expects_continue = value.eq_ignore_ascii_case("100-continue");
        } else if header.name.eq_ignore_ascii_case(FAULT_HEADER) {
            head.fault = Some(value.to_owned());
        }
    }
    if head.body > MAX_BODY {
        return Err(Refused::Answer(413, "the body is larger than 64 MiB"));
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        sim::{SimConfig, tests::ask},
        wire::Protocol,
    };

    /// A server on a port of its own; it stops when this is dropped.
    struct Server {
        address: SocketAddr,
        sim: Arc<Sim>,
        tasks: JoinSet<io::Result<()>>,
        _stop: oneshot::Sender<()>,
    }

    impl Server {
        async fn start(sim: Sim) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let sim = Arc::new(sim);
            let (stop, stopped) = oneshot::channel();
            let mut tasks = JoinSet::new();
            tasks.spawn(serve(listener, Arc::clone(&sim), async move {
                let _dropped = stopped.await;
            }));
            Self { address, sim, tasks, _stop: stop }
        }
    }

    fn post(protocol: Protocol, model: &str, stream: bool) -> Vec<u8> {
        let request = ask(protocol, model, stream);
        let mut bytes = format!(
            "POST /v1{} HTTP/1.1\r\nhost: sim\r\ncontent-length: {}\r\n\r\n",
            request.path,
            request.body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(&request.body);
        bytes
    }

    /// What came over the socket: the head, the body without its framing, and how it ended.
    #[derive(Debug)]
    struct Reply {
        head: String,
        body: Vec<u8>,
        /// `complete`, `eof` before the end, `reset`, or `silence` after 150 ms without a byte.
        end: &'static str,
    }

    impl Reply {
        fn text(&self) -> String {
            String::from_utf8_lossy(&self.body).into_owned()
        }
    }

    async fn read_some(stream: &mut TcpStream, raw: &mut BytesMut) -> Option<&'static str> {
        match timeout(Duration::from_millis(150), stream.read_buf(raw)).await {
            Err(_) => Some("silence"),
            Ok(Ok(0)) => Some("eof"),
            Ok(Ok(_)) => None,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => Some("reset"),
            Ok(Err(error)) => panic!("{error}"),
        }
    }

    /// Reads one reply. Silence ends it once `quiet_after` bytes of its body are there.
    async fn read_reply(stream: &mut TcpStream, quiet_after: Option<usize>) -> Reply {
        let mut raw = BytesMut::with_capacity(256 * 1024);
        let mut reply = Reply { head: String::new(), body: Vec::new(), end: "complete" };
        loop {
            if reply.head.is_empty()
                && let Some(at) = raw.windows(4).position(|w| w == b"\r\n\r\n")
            {
                reply.head = String::from_utf8(raw.split_to(at + 4).to_vec()).unwrap();
            }
            if !reply.head.is_empty() && take_body(&reply.head, &mut raw, &mut reply.body) {
                assert!(raw.is_empty(), "nothing behind the reply");
                return reply;
            }
            match read_some(stream, &mut raw).await {
                Some("silence") if quiet_after.is_none_or(|size| reply.body.len() < size) => {}
                Some(end) => return Reply { end, ..reply },
                None => {}
            }
        }
    }

    /// Moves what is there of the body; true at its end.
    fn take_body(head: &str, raw: &mut BytesMut, body: &mut Vec<u8>) -> bool {
        if let Some((_, rest)) = head.split_once("content-length: ") {
            let length: usize = rest.lines().next().unwrap().parse().unwrap();
            body.extend_from_slice(raw);
            raw.clear();
            return body.len() == length;
        }
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        while let Some(at) = raw.windows(2).position(|w| w == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&raw[..at]).unwrap(), 16).unwrap();
            if raw.len() < at + 2 + size + 2 {
                return false;
            }
            raw.advance(at + 2);
            body.extend_from_slice(&raw.split_to(size));
            assert_eq!(&raw.split_to(2)[..], b"\r\n");
            if size == 0 {
                return true;
            }
        }
        false
    }

    async fn request(server: &Server, bytes: &[u8], quiet_after: Option<usize>) -> Reply {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        read_reply(&mut stream, quiet_after).await
    }

    const KINDS: [(Protocol, bool); 4] = [
        (Protocol::OpenAi, false),
        (Protocol::OpenAi, true),
        (Protocol::Anthropic, false),
        (Protocol::Anthropic, true),
    ];

    /// How the connection ends, and whether headers and a body come before that.
    fn expected_end(fault: Fault, stream: bool) -> (&'static str, bool, bool) {
        let is = |faults: &[Fault]| faults.contains(&fault);
        if is(&[Fault::ConnectionRefused, Fault::ResetBeforeHeaders, Fault::TlsFailure]) {
            ("reset", false, false)
        } else if is(&[Fault::HangHeaders]) {
            ("silence", false, false)
        } else if is(&[Fault::HangFirstToken]) {
            ("silence", true, false)
        } else if is(&[Fault::Stall]) {
            ("silence", true, true)
        } else if is(&[Fault::ResetAfterHeaders]) {
            ("reset", true, false)
        } else if is(&[Fault::CutStream]) && !stream {
            ("eof", true, true)
        } else {
            ("complete", true, true)
        }
    }

    #[tokio::test]
    async fn every_fault_is_the_same_over_a_socket_as_in_process() {
        let mut kinds = JoinSet::new();
        for (protocol, stream) in KINDS {
            kinds.spawn(async move {
                for fault in Fault::ALL.iter().copied() {
                    compare(fault, protocol, stream).await;
                }
            });
        }
        while let Some(compared) = kinds.join_next().await {
            compared.unwrap();
        }
    }

    async fn compare(fault: Fault, protocol: Protocol, stream: bool) {
        let (end, head, body) = expected_end(fault, stream);
        let twin = Sim::scripted(vec![fault]);
        let script = twin.script(protocol, &ask(protocol, "m", stream).body, None);
        let bodies = script.pieces.iter().map(|p| p.bytes.repeat(p.times as usize));
        let expected = bodies.collect::<Vec<_>>().concat();
        let server = Server::start(Sim::scripted(vec![fault])).await;
        let quiet_after = (end == "silence").then_some(if body { expected.len() } else { 0 });
        let reply = request(&server, &post(protocol, "m", stream), quiet_after).await;
        let seen = (reply.end, !reply.head.is_empty(), !reply.body.is_empty());
        assert_eq!(seen, (end, head, body), "{fault:?} {protocol:?} {stream}: {reply:?}");
        if !head {
            return;
        }
        assert!(reply.head.starts_with(&format!("HTTP/1.1 {} ", script.status)));
        for (name, value) in &script.headers {
            let line = format!("{name}: {}\r\n", value.to_str().unwrap());
            // The date moves on between the two.
            let dated = fault == Fault::RateLimitedDate && name == http::header::RETRY_AFTER;
            assert!(dated || reply.head.contains(&line), "{line} in {}", reply.head);
        }
        assert!(expected == reply.body, "{fault:?} {protocol:?} {stream}");
    }

    #[tokio::test]
    async fn a_connection_is_kept_and_requests_may_follow_each_other_at_once() {
        let server = Server::start(Sim::new(SimConfig::default())).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        for (protocol, kind) in KINDS {
            stream.write_all(&post(protocol, "m", kind)).await.unwrap();
            assert_eq!(read_reply(&mut stream, None).await.end, "complete");
        }
        stream.write_all(b"GET /requests HTTP/1.1\r\n\r\n").await.unwrap();
        let counts: Value =
            serde_json::from_str(&read_reply(&mut stream, None).await.text()).unwrap();
        assert_eq!(counts, json!({ "requests": 4, "models": { "m": 4 } }));
        stream.write_all(b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
        let models = read_reply(&mut stream, None).await;
        assert!(models.text().contains("\"hang-headers\""));
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "closed as asked");
        assert_eq!(server.sim.requests(), 4);
    }

    #[tokio::test]
    async fn the_header_asks_for_a_fault_and_a_body_may_come_in_parts() {
        let server = Server::start(Sim::new(SimConfig::default())).await;
        let body = ask(Protocol::OpenAi, "m", false).body;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nX-Sim-Fault: 529\r\nExpect: 100-continue\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        for part in head.as_bytes().chunks(7) {
            stream.write_all(part).await.unwrap();
        }
        let mut asked = [0; 25];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(&body).await.unwrap();
        assert!(read_reply(&mut stream, None).await.head.starts_with("HTTP/1.1 529 "));
    }

    #[tokio::test]
    async fn requests_are_bounded() {
        let server = Server::start(Sim::new(SimConfig::default())).await;
        let status = async |bytes: Vec<u8>| {
            let reply = request(&server, &bytes, None).await;
            reply.head.split(' ').nth(1).unwrap().to_owned()
        };
        let head =
            |line: &str| format!("POST /v1/messages HTTP/1.1\r\n{line}\r\n\r\n").into_bytes();
        assert_eq!(status(head("content-length: 99999999999")).await, "413");
        assert_eq!(status(head("content-length: many")).await, "400");
        assert_eq!(status(head("transfer-encoding: chunked")).await, "411");
        assert_eq!(status(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()).await, "400");
        assert_eq!(status(b"GET /nothing HTTP/1.1\r\n\r\n".to_vec()).await, "404");
        let long = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(MAX_HEAD)).into_bytes();
        assert_eq!(status(long).await, "431");
    }

    #[tokio::test]
    async fn it_stops_when_it_is_told_and_frees_a_client_that_hangs() {
        let mut server = Server::start(Sim::scripted(vec![Fault::HangHeaders])).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&post(Protocol::OpenAi, "m", true)).await.unwrap();
        while server.sim.requests() == 0 {
            tokio::task::yield_now().await;
        }
        let Server { tasks, _stop, .. } = &mut server;
        let (unused, _) = oneshot::channel();
        drop(std::mem::replace(_stop, unused));
        tasks.join_next().await.unwrap().unwrap().unwrap();
        let ended = stream.read(&mut [0; 1]).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
}
