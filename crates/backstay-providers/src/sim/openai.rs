//! Simulated replies in the shape of OpenAI's chat completions, errors included (the content filter's
//! is that of Azure OpenAI). Only writes; what is said and what goes wrong is decided elsewhere.

use backstay_core::record::Usage;
use serde_json::{Value, json};

use super::{
    answer::{Answer, Content, Stop, pieces},
    fault::ErrorReply,
    frames::{Frames, Mark, quoted, with},
};

/// A fixed time, so that the same seed gives the same bytes.
const CREATED: u64 = 1_767_225_600;

pub(super) fn whole(answer: &Answer, model: &str, id: u64) -> Value {
    let body = json!({
        "id": format!("chatcmpl-sim{id:016x}"),
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [],
        "system_fingerprint": "fp_backstay_sim",
    });
    let message = match &answer.content {
        Content::Text(text) => json!({ "role": "assistant", "content": text, "refusal": null }),
        Content::Refusal(text) => json!({ "role": "assistant", "content": null, "refusal": text }),
        Content::Tool { name, arguments } => json!({
            "role": "assistant",
            "content": null,
            "refusal": null,
            "tool_calls": [{
                "id": format!("call_sim{id:016x}"),
                "type": "function",
                "function": { "name": name, "arguments": arguments },
            }],
        }),
        Content::Null | Content::Nothing => {
            json!({ "role": "assistant", "content": null, "refusal": null })
        }
    };
    let choices = (answer.content != Content::Nothing).then(|| {
        json!([{
            "index": 0,
            "message": message,
            "logprobs": null,
            "finish_reason": finish_reason(answer.stop),
        }])
    });
    with(with(body, "choices", choices), "usage", answer.usage.map(usage_object))
}

/// The events of a streamed answer. The usage comes only if the client asked for it.
pub(super) fn frames(
    answer: &Answer,
    model: &str,
    id: u64,
    wants_usage: bool,
) -> Vec<(Mark, bytes::Bytes)> {
    let mut writer = Writer::new(model, id);
    match &answer.content {
        Content::Text(text) => {
            writer.delta(Mark::Open, r#"{"role":"assistant","content":"","refusal":null}"#);
            writer.texts(r#"{"content":"#, text, "}");
        }
        Content::Refusal(text) => {
            writer.delta(Mark::Open, r#"{"role":"assistant","content":null,"refusal":""}"#);
            writer.texts(r#"{"refusal":"#, text, "}");
        }
        Content::Tool { name, arguments } => {
            let call = json!({ "role": "assistant", "content": null, "tool_calls": [{
                "index": 0,
                "id": format!("call_sim{id:016x}"),
                "type": "function",
                "function": { "name": name, "arguments": "" },
            }] });
            writer.delta(Mark::Open, &call.to_string());
            writer.texts(
                r#"{"tool_calls":[{"index":0,"function":{"arguments":"#,
                arguments,
                "}}]}",
            );
        }
        Content::Null => {
            writer.delta(Mark::Open, r#"{"role":"assistant","content":null,"refusal":null}"#);
        }
        Content::Nothing => writer.chunk(Mark::Open, b"", None),
    }
    let usage = answer.usage.filter(|_| wants_usage);
    let twice = usage.filter(|_| answer.usage_twice);
    if answer.content == Content::Nothing {
        writer.chunk(Mark::Close, b"", twice);
    } else {
        let reason = finish_reason(answer.stop);
        let choice =
            format!(r#"{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"{reason}"}}"#);
        writer.chunk(Mark::Close, choice.as_bytes(), twice);
    }
    if usage.is_some() {
        writer.chunk(Mark::Close, b"", usage);
    }
    writer.frames.out().extend_from_slice(b"data: [DONE]\n\n");
    writer.frames.end(Mark::Terminal);
    writer.frames.finish()
}

struct Writer {
    frames: Frames,
    /// What every chunk begins with, up to its choices.
    head: Vec<u8>,
}

impl Writer {
    fn new(model: &str, id: u64) -> Self {
        let mut head = format!(
            "data: {{\"id\":\"chatcmpl-sim{id:016x}\",\"object\":\"chat.completion.chunk\",\
             \"created\":{CREATED},\"system_fingerprint\":\"fp_backstay_sim\",\"model\":"
        )
        .into_bytes();
        quoted(model, &mut head);
        head.extend_from_slice(b",\"choices\":[");
        Self { frames: Frames::default(), head }
    }

    fn chunk(&mut self, mark: Mark, choice: &[u8], usage: Option<Usage>) {
        let out = self.frames.out();
        out.extend_from_slice(&self.head);
        out.extend_from_slice(choice);
        out.push(b']');
        if let Some(usage) = usage {
            out.extend_from_slice(b",\"usage\":");
            out.extend_from_slice(usage_object(usage).to_string().as_bytes());
        }
        out.extend_from_slice(b"}\n\n");
        self.frames.end(mark);
    }

    fn delta(&mut self, mark: Mark, delta: &str) {
        let choice =
            format!(r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":null}}"#);
        self.chunk(mark, choice.as_bytes(), None);
    }

    /// One chunk for each piece of `text`; its JSON string stands between `before` and `after`.
    fn texts(&mut self, before: &str, text: &str, after: &str) {
        for piece in pieces(text) {
            let out = self.frames.out();
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"{\"index\":0,\"delta\":");
            out.extend_from_slice(before.as_bytes());
            quoted(piece, out);
            out.extend_from_slice(after.as_bytes());
            out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":null}]}\n\n");
            self.frames.end(Mark::Content);
        }
        if text.is_empty() {
            self.delta(Mark::Content, &format!("{before}\"\"{after}"));
        }
    }
}

const fn finish_reason(stop: Stop) -> &'static str {
    match stop {
        // A refusal shows in its own field.
        Stop::End | Stop::Refusal => "stop",
        Stop::Tool => "tool_calls",
        Stop::Length => "length",
        Stop::Filter => "content_filter",
    }
}

fn usage_object(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": { "cached_tokens": usage.cache_read, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}

/// The body of an error reply.
pub(super) fn error(reply: ErrorReply) -> Value {
    let (kind, param, code, message) = match reply {
        ErrorReply::RateLimited(_) => (
            "requests",
            Value::Null,
            json!("rate_limit_exceeded"),
            "Rate limit reached for the simulated model in organization org-sim on requests per \
             min (RPM): Limit 3, Used 3, Requested 1. Please try again in 2s.",
        ),
        ErrorReply::Internal | ErrorReply::BadGateway => return error_inside(),
        ErrorReply::Unavailable | ErrorReply::Overloaded => (
            "server_error",
            Value::Null,
            Value::Null,
            "The engine is currently overloaded, please try again later",
        ),
        ErrorReply::ContextLength => (
            "invalid_request_error",
            json!("messages"),
            json!("context_length_exceeded"),
            "This model's maximum context length is 8192 tokens. However, your messages resulted \
             in 9001 tokens. Please reduce the length of the messages.",
        ),
        ErrorReply::Unauthorized => (
            "invalid_request_error",
            Value::Null,
            json!("invalid_api_key"),
            "Incorrect API key provided: sk-sim**********0000. You can find your API key at \
             https://platform.openai.com/account/api-keys.",
        ),
        ErrorReply::BadRequest => (
            "invalid_request_error",
            json!("temperature"),
            json!("decimal_above_max_value"),
            "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got \
             3 instead.",
        ),
        ErrorReply::ContentFilter => return azure_content_filter(),
    };
    json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
}

fn azure_content_filter() -> Value {
    let harmless = json!({ "filtered": false, "severity": "safe" });
    json!({ "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content \
                    management policy. Please modify your prompt and retry.",
        "type": null,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {
                "hate": harmless,
                "self_harm": harmless,
                "sexual": harmless,
                "violence": { "filtered": true, "severity": "high" },
            },
        },
    } })
}

/// The error of a request that the simulated provider cannot follow.
pub(super) fn complaint(message: &str) -> Value {
    json!({ "error": {
        "message": message, "type": "invalid_request_error", "param": null, "code": null,
    } })
}

/// The error object that comes with status 500, inside a stream, or instead of an answer.
pub(super) fn error_inside() -> Value {
    json!({ "error": {
        "message": "The server had an error while processing your request. Sorry about that!",
        "type": "server_error",
        "param": null,
        "code": null,
    } })
}
