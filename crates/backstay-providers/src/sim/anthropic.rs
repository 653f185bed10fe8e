//! Simulated replies in the shape of Anthropic's messages, errors included. Only writes; what is
//! said and what goes wrong is decided elsewhere.

use backstay_core::record::Usage;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    answer::{Answer, Content, Stop, pieces},
    fault::ErrorReply,
    frames::{Frames, Mark, quoted, with},
};

pub(super) fn whole(answer: &Answer, model: &str, id: u64) -> Value {
    let content = match &answer.content {
        Content::Text(text) | Content::Refusal(text) => json!([{ "type": "text", "text": text }]),
        Content::Tool { name, arguments } => json!([{
            "type": "tool_use",
            "id": format!("toolu_sim{id:016x}"),
            "name": name,
            // A tool's input is JSON, not text: what is not JSON arrives as a string.
            "input": serde_json::from_str::<Value>(arguments).unwrap_or_else(|_| json!(arguments)),
        }]),
        Content::Null => Value::Null,
        Content::Nothing => json!([]),
    };
    let body = with(message(model, id), "content", Some(content));
    let body = with(body, "stop_reason", Some(json!(stop_reason(answer.stop))));
    with(body, "usage", answer.usage.map(|usage| usage_object(usage, usage.output)))
}

/// A message before its first word.
fn message(model: &str, id: u64) -> Value {
    json!({
        "id": format!("msg_sim{id:016x}"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
    })
}

/// The events of a streamed answer.
pub(super) fn frames(answer: &Answer, model: &str, id: u64) -> Vec<(Mark, Bytes)> {
    let mut frames = Frames::default();
    let usage = answer.usage.map(|usage| usage_object(usage, 1));
    let start = with(message(model, id), "usage", usage);
    let start = json!({ "type": "message_start", "message": start });
    event(&mut frames, Mark::Open, "message_start", &start);
    match &answer.content {
        Content::Text(text) | Content::Refusal(text) => {
            let block = json!({ "type": "text", "text": "" });
            block_of(&mut frames, &block, ("text_delta", "text", text));
        }
        Content::Tool { name, arguments } => {
            let tool_id = format!("toolu_sim{id:016x}");
            let block = json!({ "type": "tool_use", "id": tool_id, "name": name, "input": {} });
            block_of(&mut frames, &block, ("input_json_delta", "partial_json", arguments));
        }
        Content::Null => open_and_close(&mut frames, &json!({ "type": "text", "text": null })),
        Content::Nothing => {}
    }
    let delta = json!({
        "type": "message_delta",
        "delta": { "stop_reason": stop_reason(answer.stop), "stop_sequence": null },
    });
    let usage = answer.usage.map(|usage| json!({ "output_tokens": usage.output }));
    let delta = with(delta, "usage", usage);
    event(&mut frames, Mark::Close, "message_delta", &delta);
    if answer.usage_twice {
        event(&mut frames, Mark::Close, "message_delta", &delta);
    }
    event(&mut frames, Mark::Terminal, "message_stop", &json!({ "type": "message_stop" }));
    frames.finish()
}

fn event(frames: &mut Frames, mark: Mark, name: &str, data: &Value) {
    frames.out().extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
    frames.end(mark);
}

/// One content block: `kind` and `field` name its deltas, `text` is what they carry.
fn block_of(frames: &mut Frames, block: &Value, (kind, field, text): (&str, &str, &str)) {
    let start = json!({ "type": "content_block_start", "index": 0, "content_block": block });
    event(frames, Mark::Open, "content_block_start", &start);
    event(frames, Mark::Open, "ping", &json!({ "type": "ping" }));
    let head = format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
         \"delta\":{{\"type\":\"{kind}\",\"{field}\":"
    );
    let empty = text.is_empty().then_some("");
    for piece in pieces(text).chain(empty) {
        let out = frames.out();
        out.extend_from_slice(head.as_bytes());
        quoted(piece, out);
        out.extend_from_slice(b"}}\n\n");
        frames.end(Mark::Content);
    }
    let stop = json!({ "type": "content_block_stop", "index": 0 });
    event(frames, Mark::Close, "content_block_stop", &stop);
}

fn open_and_close(frames: &mut Frames, block: &Value) {
    let start = json!({ "type": "content_block_start", "index": 0, "content_block": block });
    event(frames, Mark::Open, "content_block_start", &start);
    let stop = json!({ "type": "content_block_stop", "index": 0 });
    event(frames, Mark::Close, "content_block_stop", &stop);
}

const fn stop_reason(stop: Stop) -> &'static str {
    match stop {
        Stop::End => "end_turn",
        Stop::Tool => "tool_use",
        Stop::Length => "max_tokens",
        Stop::Filter | Stop::Refusal => "refusal",
    }
}

/// Anthropic counts cached input apart from the rest.
fn usage_object(usage: Usage, output: u64) -> Value {
    json!({
        "input_tokens": usage.input.saturating_sub(usage.cache_read + usage.cache_write),
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": output,
        "service_tier": "standard",
    })
}

/// The body of an error reply.
pub(super) fn error(reply: ErrorReply, id: u64) -> Value {
    let (kind, message) = match reply {
        ErrorReply::RateLimited(_) => (
            "rate_limit_error",
            "This request would exceed your organization's rate limit of 3 requests per minute.",
        ),
        ErrorReply::Internal | ErrorReply::BadGateway => ("api_error", "Internal server error"),
        ErrorReply::Unavailable | ErrorReply::Overloaded => ("overloaded_error", "Overloaded"),
        ErrorReply::ContextLength => {
            ("invalid_request_error", "prompt is too long: 214315 tokens > 200000 maximum")
        }
        ErrorReply::Unauthorized => ("authentication_error", "invalid x-api-key"),
        ErrorReply::BadRequest => ("invalid_request_error", "temperature: range: 0..1"),
        ErrorReply::ContentFilter => {
            ("invalid_request_error", "Output blocked by content filtering policy")
        }
    };
    error_object(kind, message, id)
}

/// The error of a request that the simulated provider cannot follow.
pub(super) fn complaint(message: &str, id: u64) -> Value {
    error_object("invalid_request_error", message, id)
}

/// The error object that comes inside a stream, or instead of an answer.
pub(super) fn error_inside(id: u64) -> Value {
    error_object("overloaded_error", "Overloaded", id)
}

fn error_object(kind: &str, message: &str, id: u64) -> Value {
    json!({
        "type": "error",
        "error": { "type": kind, "message": message },
        "request_id": format!("req_sim{id:016x}"),
    })
}
