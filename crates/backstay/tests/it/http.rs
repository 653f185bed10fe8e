//! An HTTP client of one request a connection, small enough to be trusted: it must not retry, keep
//! connections or follow anything, so that what a test sees is what the gateway did.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use crate::world::PATIENCE;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head, in lower case.
    head: String,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect(&self.body)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(str::trim)
}

/// A request that was sent, and what has come back so far.
#[derive(Debug)]
pub(crate) struct Pending {
    socket: TcpStream,
    seen: Vec<u8>,
}

impl Pending {
    /// Reads until what came contains `text`.
    pub(crate) fn read_to(&mut self, text: &str) -> io::Result<()> {
        while !self.seen.windows(text.len()).any(|window| window == text.as_bytes()) {
            if !self.more()? {
                let seen = String::from_utf8_lossy(&self.seen);
                return Err(io::Error::other(format!("ended without {text}: {seen}")));
            }
        }
        Ok(())
    }

    /// The id of the call, once its head is there.
    pub(crate) fn call_id(&mut self) -> io::Result<String> {
        self.read_to("\r\n\r\n")?;
        let seen = String::from_utf8_lossy(&self.seen).to_lowercase();
        let id = header(&seen, "x-backstay-call-id").map(str::to_owned);
        id.ok_or_else(|| io::Error::other("no call id"))
    }

    fn more(&mut self) -> io::Result<bool> {
        let mut piece = [0; 16 << 10];
        let read = self.socket.read(&mut piece)?;
        self.seen.extend_from_slice(&piece[..read]);
        Ok(read > 0)
    }

    /// The whole answer. One that was cut off is an error.
    pub(crate) fn finish(mut self) -> io::Result<Answer> {
        while self.more()? {}
        let seen = String::from_utf8_lossy(&self.seen).into_owned();
        let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "cut off");
        let (head, body) = seen.split_once("\r\n\r\n").ok_or_else(cut)?;
        let head = head.to_lowercase();
        let status = head.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
        let body = if header(&head, "transfer-encoding") == Some("chunked") {
            unchunked(body).ok_or_else(cut)?
        } else {
            let length = header(&head, "content-length").and_then(|length| length.parse().ok());
            length
                .is_none_or(|length: usize| length == body.len())
                .then_some(())
                .ok_or_else(cut)?;
            body.to_owned()
        };
        Ok(Answer { status, head, body })
    }
}

fn unchunked(body: &str) -> Option<String> {
    let (mut rest, mut whole) = (body, String::new());
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}

/// Sends a request and reads nothing yet.
pub(crate) fn send(
    to: SocketAddr,
    request: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Pending> {
    let mut socket = TcpStream::connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{request} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let length = body.len();
    head.push_str(&format!("content-length: {length}\r\n\r\n{body}"));
    socket.write_all(head.as_bytes())?;
    Ok(Pending { socket, seen: Vec::new() })
}

#[track_caller]
pub(crate) fn get(from: SocketAddr, path: &str) -> Answer {
    send(from, &format!("GET {path}"), &[], "").and_then(Pending::finish).unwrap()
}

#[track_caller]
pub(crate) fn post(to: SocketAddr, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    try_post(to, path, headers, body).unwrap()
}

pub(crate) fn try_post(
    to: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> io::Result<Answer> {
    send(to, &format!("POST {path}"), headers, &body.to_string())?.finish()
}
