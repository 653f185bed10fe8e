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
    time::timeout,
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
        self.stream.write_all(&self.output).await?;
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
