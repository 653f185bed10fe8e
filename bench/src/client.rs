//! One keep-alive connection of HTTP/1.1 that does no more than a measurement needs: what the client
//! costs is taken from the core that the upstream runs on.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use bytes::{Buf, BytesMut};
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

/// Stands in the first chunk of a stream of [`crate::mock`] that has content, and in no earlier one.
pub(crate) const CONTENT: &[u8] = b"\"content\":\"word";

/// A request as it goes over the wire, about 1.1 KB.
pub(crate) fn request(to: SocketAddr, model: &str, stream: bool) -> Vec<u8> {
    let text = "The invoice of the third of March was paid twice, and the second payment has not \
                come back yet, although support promised it within ten days. "
        .repeat(5);
    let body = serde_json::json!({
        "model": model,
        "messages": [
            {"role": "system", "content": "You sort letters of customers by what they ask for."},
            {"role": "user", "content": text},
        ],
        "temperature": 0.2,
        "max_tokens": 256,
        "stream": stream,
    })
    .to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {to}\r\ncontent-type: application/json\r\n\
         accept: */*\r\nuser-agent: backstay-bench\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What was seen of an answer.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) retry_after: bool,
    /// From the sending of the request to the first content of the stream.
    pub(crate) first_content: Option<Duration>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    buffer: BytesMut,
}

enum Length {
    Known(usize),
    Chunked,
}

impl Client {
    pub(crate) async fn connect(to: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(to).await.with_context(|| format!("connecting to {to}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(16 << 10) })
    }

    /// Sends `request` and reads the whole answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Seen> {
        let began = Instant::now();
        self.stream.write_all(request).await?;
        let (mut seen, length) = loop {
            if let Some((head, length, size)) = parse_head(&self.buffer)? {
                self.buffer.advance(size);
                break (head, length);
            }
            self.fill().await?;
        };
        match length {
            Length::Known(length) => {
                while self.buffer.len() < length {
                    self.fill().await?;
                }
                self.buffer.advance(length);
            }
            Length::Chunked => {
                while let Some(piece) = self.chunk().await? {
                    if seen.first_content.is_none() && contains(&piece, CONTENT) {
                        seen.first_content = Some(began.elapsed());
                    }
                }
            }
        }
        Ok(seen)
    }

    /// The next chunk; `None` after the last one.
    async fn chunk(&mut self) -> anyhow::Result<Option<BytesMut>> {
        loop {
            let parsed = httparse::parse_chunk_size(&self.buffer);
            if let httparse::Status::Complete((line, size)) =
                parsed.map_err(|_| anyhow::anyhow!("no size where a chunk begins"))?
            {
                let size = usize::try_from(size)?;
                if self.buffer.len() >= line + size + 2 {
                    self.buffer.advance(line);
                    let piece = self.buffer.split_to(size);
                    self.buffer.advance(2);
                    return Ok(Some(piece).filter(|piece| !piece.is_empty()));
                }
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the connection was closed in the middle of an answer");
        }
        Ok(())
    }
}

fn parse_head(bytes: &[u8]) -> anyhow::Result<Option<(Seen, Length, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(size) = head.parse(bytes)? else { return Ok(None) };
    let status = head.code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR.as_u16());
    let mut length = Length::Known(0);
    let mut retry_after = false;
    for header in &*head.headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            length = Length::Known(std::str::from_utf8(header.value)?.parse()?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            length = Length::Chunked;
        } else if header.name.eq_ignore_ascii_case("retry-after") {
            retry_after = true;
        }
    }
    Ok(Some((Seen { status, retry_after, first_content: None }, length, size)))
}

/// Whether `needle` is somewhere in `bytes`.
pub(crate) fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_tell_status_length_and_hint() {
        let head = b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 12\r\n\r\nrest";
        let (seen, length, size) = parse_head(head).unwrap().unwrap();
        assert_eq!((seen.status, seen.retry_after, size), (503, true, head.len() - 4));
        assert!(matches!(length, Length::Known(12)));
        assert!(parse_head(&head[..20]).unwrap().is_none());
    }

    #[test]
    fn a_request_is_about_a_kilobyte() {
        let size = request(([127, 0, 0, 1], 80).into(), "mock/text-0", false).len();
        assert!((1000..1300).contains(&size), "{size}");
    }
}
