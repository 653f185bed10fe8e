//! `backstay call`: one call to a running gateway.

use std::{fmt, io::Read, time::Duration};

use anyhow::{Context, bail};
use backstay_core::{
    failure::{Failure, FailureClass},
    release::is_call_name,
};
use backstay_providers::{
    sse::SseReader,
    transport::{Endpoint, Exchange, Limits, Transport, TransportOptions},
    wire::WireRequest,
};
use serde_json::{Map, Value, json};

use super::runtime;
use crate::{
    cli::CallArgs,
    exit::Exit,
    render::{self, Streamed},
};

/// No gateway takes longer: its own deadline is shorter.
const PATIENCE: Duration = Duration::from_secs(600);
const LARGEST_ANSWER: usize = 64 << 20;

/// The server cannot be reached: exit code 3.
#[derive(Debug)]
pub(crate) struct Unreachable(Failure);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the gateway cannot be reached: {}; start it with `backstay serve`, or name another \
             with --server",
            self.0.message
        )
    }
}

impl std::error::Error for Unreachable {}

pub(crate) fn run(args: &CallArgs) -> anyhow::Result<Exit> {
    if !is_call_name(&args.call) {
        bail!(
            "`{}` is not the name of a call: those have lower-case letters, digits and hyphens",
            args.call
        );
    }
    let url = format!("{}/v1/calls/{}", args.server.server.trim_end_matches('/'), args.call);
    let mut endpoint = Endpoint::parse(&url)
        .map_err(|why| anyhow::anyhow!("--server {}: {why}", args.server.server))?;
    if let Some(key) = &args.server.key {
        endpoint = endpoint.with_bearer(key).map_err(anyhow::Error::msg)?;
    }
    if let Some(release) = &args.release {
        endpoint =
            endpoint.with_header("x-backstay-release", release).map_err(anyhow::Error::msg)?;
    }
    let body = json!({"inputs": inputs(args)?, "unit": args.unit});
    let (status, answer) = runtime()?.block_on(post(endpoint, &body))?;
    render::answer(&answer, args.json)?;
    Ok(if (200..300).contains(&status) { Exit::Ok } else { Exit::Fault })
}

/// Sends `body` and reads the whole answer as JSON.
pub(crate) async fn post(endpoint: Endpoint, body: &Value) -> anyhow::Result<(u16, Value)> {
    let exchange = send(endpoint, body).await?;
    let status = exchange.status;
    let bytes = exchange.body.read_all().await.map_err(unreachable)?;
    let answer =
        serde_json::from_slice(&bytes).context("the answer is not JSON; is it Backstay?")?;
    Ok((status, answer))
}

/// Sends `body` and reads the answer as a stream in OpenAI's format.
pub(crate) async fn post_stream(endpoint: Endpoint, body: &Value) -> anyhow::Result<Streamed> {
    let mut exchange = send(endpoint, body).await?;
    let call_id = exchange.headers.get("x-backstay-call-id").and_then(|id| id.to_str().ok());
    let mut streamed =
        Streamed { call_id: call_id.unwrap_or_default().to_owned(), ..Streamed::default() };
    let mut events = SseReader::new(LARGEST_ANSWER);
    while let Some(chunk) = exchange.body.chunk().await.map_err(unreachable)? {
        events.push(chunk);
        while let Some(event) = events.next()? {
            streamed.done |= event.data.as_ref() == b"[DONE]";
            let Ok(chunk) = serde_json::from_slice::<Value>(&event.data) else { continue };
            let text = chunk.pointer("/choices/0/delta/content").and_then(Value::as_str);
            streamed.text.push_str(text.unwrap_or_default());
            streamed.error = chunk.get("error").cloned().or(streamed.error);
        }
    }
    Ok(streamed)
}

fn unreachable(failure: Failure) -> anyhow::Error {
    if matches!(failure.class, FailureClass::Connection | FailureClass::Timeout(_)) {
        return Unreachable(failure).into();
    }
    failure.into()
}

async fn send(endpoint: Endpoint, body: &Value) -> anyhow::Result<Exchange> {
    // The user names the server, so any address is as good as the other.
    let options = TransportOptions { allow_private_network: true, ..TransportOptions::default() };
    let transport = Transport::new(endpoint, options);
    let request = WireRequest { path: "", headers: Vec::new(), body: body.to_string().into() };
    let limits =
        Limits { connect: Duration::from_secs(5), headers: PATIENCE, body_max: LARGEST_ANSWER };
    transport.send(&request, &limits).await.map_err(unreachable)
}

fn inputs(args: &CallArgs) -> anyhow::Result<Map<String, Value>> {
    if let Some(path) = &args.file {
        let mut text = String::new();
        if path.as_os_str() == "-" {
            std::io::stdin().read_to_string(&mut text).context("standard input")?;
        } else {
            text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        }
        return serde_json::from_str(&text)
            .with_context(|| format!("{}: not a JSON object", path.display()));
    }
    let pairs = args.inputs.iter().map(|pair| match pair.split_once('=') {
        Some((name, text)) => Ok((name.to_owned(), Value::from(text))),
        None => bail!("--input {pair}: write NAME=TEXT"),
    });
    pairs.collect()
}
