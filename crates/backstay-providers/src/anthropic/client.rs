//! What an application that speaks this format gets: complete replies and errors.

use backstay_core::{
    failure::{Failure, FailureClass, Refusal},
    record::Usage,
};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{
    payload::{self, to_bytes},
    sse,
    wire::{Choice, ErrorView, Finish, Protocol, REFUSAL, Reply, ToolCall},
};

/// A complete reply as a `message`: the provider's own bytes where they are in this format, with only
/// a mended text replaced, else a new object of the first answer.
///
/// # Errors
/// `upstream_error` if a mended reply's `raw` is not in the format that it claims; `malformed` if the
/// arguments of a tool call are not a JSON object, which this format cannot say.
pub fn render_reply(reply: &Reply) -> Result<Bytes, Failure> {
    if reply.protocol == Protocol::Anthropic && !reply.raw.is_empty() {
        return if reply.changed { patch(reply) } else { Ok(reply.raw.clone()) };
    }
    let answer = reply.choices.first();
    to_bytes(&json!({
        "id": reply.id.as_deref().unwrap_or("msg_backstay"),
        "type": "message",
        "role": "assistant",
        "model": reply.model.as_deref().unwrap_or_default(),
        "content": answer.map(content).transpose()?.unwrap_or_default(),
        "stop_reason": answer.map_or("end_turn", stop_reason_of),
        "stop_sequence": null,
        "usage": usage_json(&reply.usage.unwrap_or_default()),
    }))
}

/// Puts the mended text into the first text block and takes the others away; thinking and tool blocks
/// stay as they are.
fn patch(reply: &Reply) -> Result<Bytes, Failure> {
    let mut body: Map<String, Value> = payload::read(&reply.raw, "reply")?;
    let text = reply.choices.first().map(|choice| choice.text.as_str()).unwrap_or_default();
    let Some(Value::Array(blocks)) = body.get_mut("content") else {
        let message = "the provider's reply has no field `content` at `.`";
        return Err(Failure::new(FailureClass::UpstreamError, message));
    };
    let is_text = |block: &Value| block.get("type").is_some_and(|kind| kind == "text");
    let first = blocks.iter().position(is_text);
    let mut position = 0_usize..;
    blocks.retain(|block| position.next() == first || !is_text(block));
    match first.and_then(|first| blocks.get_mut(first)) {
        Some(Value::Object(block)) => {
            block.insert("text".to_owned(), text.into());
        }
        Some(_) | None => blocks.push(json!({"type": "text", "text": text})),
    }
    to_bytes(&Value::Object(body))
}

fn content(choice: &Choice) -> Result<Vec<Value>, Failure> {
    let mut blocks = Vec::new();
    if !choice.reasoning.is_empty() {
        // Only Anthropic can sign; an empty signature says that it did not.
        let thinking = json!({"type": "thinking", "thinking": choice.reasoning, "signature": ""});
        blocks.push(thinking);
    }
    let wordless = choice.text.is_empty() && choice.finish == Some(Finish::Refusal);
    let refusal = choice.refusal.as_deref().or(wordless.then_some(REFUSAL));
    for text in [Some(choice.text.as_str()), refusal].into_iter().flatten() {
        if !text.is_empty() {
            blocks.push(json!({"type": "text", "text": text}));
        }
    }
    for (index, tool) in choice.tool_calls.iter().enumerate() {
        blocks.push(tool_use(index, tool)?);
    }
    Ok(blocks)
}

fn tool_use(index: usize, tool: &ToolCall) -> Result<Value, Failure> {
    let arguments = if tool.arguments.trim().is_empty() { "{}" } else { &tool.arguments };
    let input: Map<String, Value> = serde_json::from_str(arguments).map_err(|_| {
        let message = "the arguments of a tool call are not a JSON object";
        Failure::new(FailureClass::Malformed, message)
    })?;
    // OpenAI's older function calls have no id; a result must be able to name its call.
    let id = if tool.id.is_empty() { format!("toolu_{index}") } else { tool.id.clone() };
    Ok(json!({"type": "tool_use", "id": id, "name": tool.name, "input": input}))
}

fn stop_reason_of(choice: &Choice) -> &str {
    if choice.refusal.is_some() {
        return "refusal";
    }
    choice.finish.as_ref().map_or("end_turn", stop_reason)
}

/// The name of a reason in this format, which tells a filter and a refusal not apart.
pub(super) fn stop_reason(finish: &Finish) -> &str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        Finish::ContentFilter | Finish::Refusal => "refusal",
        Finish::Other(reason) => reason,
    }
}

/// Usage under this format's names; cached input stands apart from `input_tokens` here.
pub(super) fn usage_json(usage: &Usage) -> Value {
    let fresh = usage.input.saturating_sub(usage.cache_read).saturating_sub(usage.cache_write);
    json!({
        "input_tokens": fresh,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output,
    })
}

/// The body of an error answer: Anthropic's own `type`, so that its SDKs understand it, with Backstay's
/// class under `failure`.
#[must_use]
pub fn error_body(view: &ErrorView) -> Value {
    json!({
        "type": "error",
        "error": {
            "type": error_type(view),
            "message": view.message,
            "failure": view.class.code(),
            "param": view.param,
            "call_id": view.call_id,
            "attempts": view.attempts_json(),
            "retryable": view.class.row().retryable,
        },
        "request_id": view.call_id,
    })
}

/// A provider's refusal of Backstay's own credentials is not the client's `authentication_error`.
const fn error_type(view: &ErrorView) -> &'static str {
    match view.class {
        FailureClass::RateLimited => "rate_limit_error",
        FailureClass::Overloaded | FailureClass::CircuitOpen | FailureClass::Budget => {
            "overloaded_error"
        }
        FailureClass::Timeout(_) => "timeout_error",
        FailureClass::BadRequest => match view.refusal {
            Refusal::Invalid | Refusal::Method => "invalid_request_error",
            Refusal::Unauthenticated => "authentication_error",
            Refusal::Forbidden => "permission_error",
            Refusal::NotFound => "not_found_error",
            Refusal::TooLarge => "request_too_large",
        },
        FailureClass::ContextLength | FailureClass::ContentFilter | FailureClass::Refused => {
            "invalid_request_error"
        }
        FailureClass::Connection
        | FailureClass::UpstreamError
        | FailureClass::UpstreamAuth
        | FailureClass::Empty
        | FailureClass::Truncated(_)
        | FailureClass::Malformed
        | FailureClass::Schema
        | FailureClass::Check
        | FailureClass::Cancelled
        | FailureClass::Consumer => "api_error",
    }
}

/// The event that ends a failed stream; no `message_stop` may follow.
#[must_use]
pub fn error_event(view: &ErrorView) -> Vec<u8> {
    let mut out = Vec::new();
    sse::write_event(Some("error"), error_body(view).to_string().as_bytes(), &mut out);
    out
}
