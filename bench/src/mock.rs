//! The upstream. The name of the model says what it answers: `text-N` prose and `json-N` a JSON
//! object, both after N milliseconds; as a stream if the request asks for one.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    time::{Sleep, sleep},
};

use crate::client::contains;

/// Chunks of a stream with content.
const CHUNKS: u32 = 32;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(1);

const TEXT: &str = "The letter asks for the return of a payment that was made twice. It names the \
                    invoice and the date, is polite, and expects an answer within the week.";
const JSON: &str = r#"{\"topic\":\"refund\",\"urgent\":true,\"summary\":\"A payment was made twice; the second one is to be returned.\",\"confidence\":0.93}"#;

/// Answers until it is ended.
pub(crate) async fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let served = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
            // Clients that end in the middle of an answer are none of the upstream's business.
            drop(served);
        });
    }
}

type Answer = Either<Full<Bytes>, Chunks>;

async fn answer(request: Request<Incoming>) -> Result<Response<Answer>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    if contains(&body, b"\"stream\":true") {
        let mut response = Response::new(Either::Right(Chunks { sent: 0, pause: None }));
        put_type(&mut response, "text/event-stream");
        return Ok(response);
    }
    let (json, pause) = wanted(&body);
    if !pause.is_zero() {
        sleep(pause).await;
    }
    let answer = completion(if json { JSON } else { TEXT });
    let mut response = Response::new(Either::Left(Full::new(answer.into())));
    put_type(&mut response, "application/json");
    Ok(response)
}

fn put_type(response: &mut Response<Answer>, kind: &'static str) {
    let kind = http::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
}

/// Whether JSON is wanted, and after which pause. Looks for the model instead of parsing the body.
fn wanted(body: &[u8]) -> (bool, Duration) {
    const MODEL: &[u8] = b"\"model\":\"";
    let at = body.windows(MODEL.len()).position(|window| window == MODEL);
    let name = at.and_then(|at| body.get(at + MODEL.len()..)).unwrap_or_default();
    let name = name.split(|&byte| byte == b'"').next().unwrap_or_default();
    let name = std::str::from_utf8(name).unwrap_or_default();
    let (kind, pause) = name.rsplit_once('-').unwrap_or((name, "0"));
    (kind.ends_with("json"), Duration::from_millis(pause.parse().unwrap_or(0)))
}

fn completion(content: &str) -> String {
    format!(
        r#"{{"id":"chatcmpl-BqT5vXkYc3hM2n8LwZr1dQeA7s4uF","object":"chat.completion","created":1760000000,"model":"mock-1-2026-01-01","choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":181,"completion_tokens":33,"total_tokens":214}},"service_tier":"default","system_fingerprint":"fp_5b26d85e12"}}"#
    )
}

fn event(delta: &str, finish: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-BqT5vXkYc3hM2n8LwZr1dQeA7s4uF\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"mock-1-2026-01-01\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
    )
}

/// A stream: role and first content at once, then a pause before each chunk.
struct Chunks {
    sent: u32,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
        }
        let text = match self.sent {
            0 => {
                event("{\"role\":\"assistant\",\"content\":\"\"}", "null")
                    + &event("{\"content\":\"word 0 \"}", "null")
            }
            n if n < CHUNKS => event(&format!("{{\"content\":\"word {n} \"}}"), "null"),
            CHUNKS => event("{}", "\"stop\"") + "data: [DONE]\n\n",
            _ => return Poll::Ready(None),
        };
        self.sent += 1;
        self.pause = (self.sent < CHUNKS).then(|| Box::pin(sleep(PAUSE)));
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{CONTENT, Client, request};

    #[test]
    fn the_model_says_what_is_answered() {
        let of = |model: &str| wanted(format!("{{\"model\":\"{model}\",\"x\":1}}").as_bytes());
        assert_eq!(of("text-0"), (false, Duration::ZERO));
        assert_eq!(of("json-50"), (true, Duration::from_millis(50)));
    }

    #[test]
    fn answers_are_json() {
        let text = completion(JSON);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let content = value["choices"][0]["message"]["content"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(content).unwrap()["urgent"], true);
        assert!((500..700).contains(&text.len()), "{}", text.len());
    }

    #[tokio::test]
    async fn a_stream_is_read_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        drop(listener);
        let server = tokio::spawn(serve(to));
        let mut client = loop {
            match Client::connect(to).await {
                Ok(client) => break client,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        for stream in [true, false, true] {
            let seen = client.ask(&request(to, "text-0", stream)).await.unwrap();
            assert_eq!((seen.status, seen.first_content.is_some()), (200, stream));
        }
        assert!(!contains(event("{\"content\":\"\"}", "null").as_bytes(), CONTENT));
        server.abort();
    }
}
