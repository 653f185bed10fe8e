//! What an application that speaks this format gets: complete replies and errors.

use backstay_core::{
    failure::{Failure, FailureClass},
    record::Usage,
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::decode;
use crate::{
    payload::{self, to_bytes},
    sse,
    wire::{Choice, ErrorView, Finish, Protocol, REFUSAL, Reply, ToolCall},
};

/// A complete reply as a `chat.completion`: the provider's own bytes where they are in this format,
/// with only the mended texts replaced, else a new object. `created_unix` is in seconds and used for
/// the latter.
///
/// # Errors
/// `upstream_error` if a mended reply's `raw` is not in the format that it claims.
pub fn render_reply(reply: &Reply, created_unix: u64) -> Result<Bytes, Failure> {
    if reply.protocol == Protocol::OpenAi && !reply.raw.is_empty() {
        return if reply.changed { patch(reply) } else { Ok(reply.raw.clone()) };
    }
    let choices: Value = reply
        .choices
        .iter()
        .enumerate()
        .map(|(index, choice)| {
            json!({
                "index": index,
                "message": message(choice),
                "logprobs": null,
                "finish_reason": choice.finish.as_ref().map_or("stop", finish_reason),
            })
        })
        .collect();
    let id = reply.id.clone().unwrap_or_else(|| format!("chatcmpl-{created_unix}"));
    let mut object = json!({
        "id": id,
        "object": "chat.completion",
        "created": created_unix,
        "model": reply.model.as_deref().unwrap_or_default(),
        "choices": choices,
    });
    if let (Value::Object(object), Some(usage)) = (&mut object, &reply.usage) {
        object.insert("usage".to_owned(), usage_json(usage));
    }
    to_bytes(&object)
}

/// Replaces the texts that differ from those in `raw` and touches nothing else.
fn patch(reply: &Reply) -> Result<Bytes, Failure> {
    let original = decode::reply(&reply.raw)?;
    let mut body: Value = payload::read(&reply.raw, "reply")?;
    let choices = body.get_mut("choices").and_then(Value::as_array_mut);
    let mut in_order: Vec<&mut Value> = choices.into_iter().flatten().collect();
    in_order.sort_by_key(|choice| choice.get("index").and_then(Value::as_u64));
    if original.choices.len() != reply.choices.len() {
        let message = "the mended reply has another number of answers than the provider's";
        return Err(Failure::new(FailureClass::UpstreamError, message));
    }
    let texts = original.choices.iter().zip(&reply.choices);
    for (raw, (before, after)) in in_order.into_iter().zip(texts) {
        if before.text != after.text
            && let Some(content) = raw.pointer_mut("/message").and_then(Value::as_object_mut)
        {
            content.insert("content".to_owned(), after.text.as_str().into());
        }
    }
    to_bytes(&body)
}

fn message(choice: &Choice) -> Value {
    let refusal = refusal(choice);
    let shown = !choice.text.is_empty() && refusal.is_none();
    let mut message = json!({
        "role": "assistant",
        "content": shown.then_some(&choice.text),
        "refusal": refusal,
    });
    if let Value::Object(message) = &mut message {
        if !choice.reasoning.is_empty() {
            message.insert("reasoning_content".to_owned(), choice.reasoning.as_str().into());
        }
        if !choice.tool_calls.is_empty() {
            let tools = choice.tool_calls.iter().map(tool_json).collect();
            message.insert("tool_calls".to_owned(), tools);
        }
    }
    message
}

/// The words of a refusal. Where the provider only says that it refused, they are its text.
fn refusal(choice: &Choice) -> Option<&str> {
    match (&choice.refusal, &choice.finish) {
        (Some(refusal), _) => Some(refusal),
        (None, Some(Finish::Refusal)) if choice.text.is_empty() => Some(REFUSAL),
        (None, Some(Finish::Refusal)) => Some(&choice.text),
        (None, _) => None,
    }
}

fn tool_json(tool: &ToolCall) -> Value {
    json!({
        "id": tool.id,
        "type": "function",
        "function": {"name": tool.name, "arguments": tool.arguments},
    })
}

/// The name of a reason in this format. A refusal ends with `stop`; its field tells it apart.
#[must_use]
pub fn finish_reason(finish: &Finish) -> &str {
    match finish {
        Finish::Stop | Finish::Refusal => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::ContentFilter => "content_filter",
        Finish::Other(reason) => reason,
    }
}

/// Usage under this format's names.
pub(super) fn usage_json(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input.saturating_add(usage.output),
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    })
}

/// The body of an error answer. `type` is the class in one word, `code` the class with its phase.
#[must_use]
pub fn error_body(view: &ErrorView) -> Value {
    json!({
        "error": {
            "message": view.message,
            "type": view.class.name(),
            "code": view.class.code(),
            "param": view.param,
            "call_id": view.call_id,
            "attempts": view.attempts_json(),
            "retryable": view.class.row().retryable,
        }
    })
}

/// The event that ends a failed stream. No `[DONE]` may follow: SDKs would take the stream for whole.
#[must_use]
pub fn error_event(view: &ErrorView) -> Vec<u8> {
    let mut out = Vec::new();
    sse::write_event(None, error_body(view).to_string().as_bytes(), &mut out);
    out
}
