//! Replies and stream events as values.

use backstay_core::failure::{Failure, FailureClass};
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{error, usage::usage};
use crate::{
    payload,
    sse::SseEvent,
    wire::{Choice, Delta, Finish, Protocol, Reply, ToolCall},
};

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: Option<String>,
    id: Option<String>,
    model: Option<String>,
    /// `null` is an empty answer; no such field is no message.
    #[serde(default, deserialize_with = "present")]
    content: Option<Option<Vec<Block>>>,
    stop_reason: Option<String>,
    usage: Option<Value>,
}

#[derive(Default, Deserialize)]
struct Block {
    #[serde(default, rename = "type")]
    kind: String,
    text: Option<String>,
    thinking: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Value>,
}

/// One event; which fields are there depends on `kind`.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    index: Option<usize>,
    message: Option<Message>,
    content_block: Option<Block>,
    delta: Option<Piece>,
    usage: Option<Value>,
}

/// The `delta` of a block or of the message.
#[derive(Default, Deserialize)]
struct Piece {
    text: Option<String>,
    thinking: Option<String>,
    partial_json: Option<String>,
    stop_reason: Option<String>,
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

pub(super) fn reply(body: &Bytes) -> Result<Reply, Failure> {
    let message: Message = payload::read(body, "reply")?;
    if message.kind.as_deref() == Some("error") {
        return Err(error::classify(200, &http::HeaderMap::new(), body));
    }
    let blocks = message.content.ok_or_else(|| missing("reply", "content"))?.unwrap_or_default();
    let mut choice = Choice { finish: message.stop_reason.and_then(finish), ..Choice::default() };
    for block in blocks {
        match block.kind.as_str() {
            "text" => choice.text.push_str(block.text.as_deref().unwrap_or_default()),
            "thinking" => choice.reasoning.push_str(block.thinking.as_deref().unwrap_or_default()),
            "tool_use" => choice.tool_calls.push(ToolCall {
                id: block.id.unwrap_or_default(),
                name: block.name.unwrap_or_default(),
                arguments: block.input.map_or_else(|| "{}".to_owned(), |input| input.to_string()),
            }),
            // Tools that run at the provider, and blocks of the future: passed through in `raw`.
            _ => {}
        }
    }
    Ok(Reply {
        protocol: Protocol::Anthropic,
        raw: body.clone(),
        id: message.id,
        model: message.model,
        choices: vec![choice],
        usage: message.usage.as_ref().and_then(usage),
        fingerprint: None,
        changed: false,
    })
}

pub(super) fn event(event: &SseEvent) -> Result<Vec<Delta>, Failure> {
    let data = event.data.trim_ascii();
    if event.name.as_deref() == Some("error") {
        return Err(error::classify(200, &http::HeaderMap::new(), data));
    }
    if data.is_empty() {
        return Ok(Vec::new());
    }
    let event: Event = payload::read(data, "stream event")?;
    match event.kind.as_str() {
        "error" => Err(error::classify(200, &http::HeaderMap::new(), data)),
        "message_start" => {
            let message = event.message.ok_or_else(|| missing("stream event", "message"))?;
            let mut deltas =
                vec![Delta::Start { id: message.id, model: message.model, fingerprint: None }];
            deltas.extend(message.usage.as_ref().and_then(usage).map(Delta::Usage));
            Ok(deltas)
        }
        "content_block_start" => {
            let block =
                event.content_block.ok_or_else(|| missing("stream event", "content_block"))?;
            Ok(block_start(event.index.unwrap_or(0), block).into_iter().collect())
        }
        "content_block_delta" => {
            let piece = event.delta.ok_or_else(|| missing("stream event", "delta"))?;
            Ok(block_delta(event.index.unwrap_or(0), piece).into_iter().collect())
        }
        "message_delta" => {
            let finish = event.delta.unwrap_or_default().stop_reason.and_then(finish);
            let finish = finish.map(|finish| Delta::Finish { choice: 0, finish });
            let usage = event.usage.as_ref().and_then(usage).map(Delta::Usage);
            Ok(finish.into_iter().chain(usage).collect())
        }
        "message_stop" => Ok(vec![Delta::End]),
        // `ping`, `content_block_stop`, and events of the future, as the format asks.
        _ => Ok(Vec::new()),
    }
}

/// A block's own number serves as the number of the tool call: it is unique and in order.
fn block_start(index: usize, block: Block) -> Option<Delta> {
    match block.kind.as_str() {
        "text" => block.text.and_then(text),
        "thinking" => block.thinking.and_then(reasoning),
        "tool_use" => {
            // Empty when it opens; servers that do not stream arguments send them whole here.
            let whole =
                block.input.filter(|input| input.as_object().is_some_and(|i| !i.is_empty()));
            let arguments = whole.map(|input| input.to_string()).unwrap_or_default();
            Some(Delta::Tool { choice: 0, index, id: block.id, name: block.name, arguments })
        }
        _ => None,
    }
}

/// What is new of a block. `signature_delta` and `citations_delta` have no meaning outside the format.
fn block_delta(index: usize, piece: Piece) -> Option<Delta> {
    if let Some(arguments) = piece.partial_json.filter(|json| !json.is_empty()) {
        return Some(Delta::Tool { choice: 0, index, id: None, name: None, arguments });
    }
    piece.text.and_then(text).or_else(|| piece.thinking.and_then(reasoning))
}

fn text(text: String) -> Option<Delta> {
    (!text.is_empty()).then_some(Delta::Text { choice: 0, text })
}

fn reasoning(text: String) -> Option<Delta> {
    (!text.is_empty()).then_some(Delta::Reasoning { choice: 0, text })
}

fn finish(reason: String) -> Option<Finish> {
    Some(match reason.as_str() {
        "" => return None,
        "end_turn" | "stop_sequence" => Finish::Stop,
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "tool_use" => Finish::ToolCalls,
        "refusal" => Finish::Refusal,
        // `pause_turn` among them: only the client can go on from there.
        _ => Finish::Other(reason),
    })
}

fn missing(what: &str, field: &str) -> Failure {
    let message = format!("the provider's {what} has no field `{field}` at `.`");
    Failure::new(FailureClass::UpstreamError, message)
}
