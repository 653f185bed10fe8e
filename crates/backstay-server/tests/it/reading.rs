//! Reads answers as the SDKs of the two protocols do, and strictly: whatever is not as the protocol
//! says is a panic with the bytes in it.

use serde_json::Value;

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Speaks {
    OpenAi,
    Anthropic,
}

/// What a client understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Heard {
    pub(crate) text: String,
    pub(crate) refusal: String,
    pub(crate) tool_calls: usize,
    /// Why the model stopped, in the protocol's word.
    pub(crate) finish: Option<String>,
    /// The error: in place of an answer, or at the end of a stream that broke off.
    pub(crate) error: Option<Value>,
    /// The mark of a degraded answer.
    pub(crate) mark: Option<Value>,
}

impl Heard {
    pub(crate) fn is_empty(&self) -> bool {
        self.text.trim().is_empty()
            && self.refusal.trim().is_empty()
            && self.tool_calls == 0
            && self.error.is_none()
    }

    /// The failure class with its phase, from the error.
    pub(crate) fn code(&self, speaks: Speaks) -> Option<&str> {
        let field = match speaks {
            Speaks::OpenAi => "code",
            Speaks::Anthropic => "failure",
        };
        self.error.as_ref().map(|error| error[field].as_str().unwrap())
    }
}

/// A whole document: an answer or an error.
pub(crate) fn whole(speaks: Speaks, body: &[u8]) -> Heard {
    let body: Value = serde_json::from_slice(body).unwrap();
    if let Some(error) = body.get("error") {
        return Heard { error: Some(error_of(speaks, &body, error)), ..Heard::default() };
    }
    let mark = body.get("backstay").cloned();
    let heard = match speaks {
        Speaks::OpenAi => whole_openai(&body),
        Speaks::Anthropic => whole_anthropic(&body),
    };
    Heard { mark, ..heard }
}

fn error_of(speaks: Speaks, body: &Value, error: &Value) -> Value {
    for field in ["message", "type", "call_id"] {
        assert!(error[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {error}");
    }
    assert!(error["retryable"].is_boolean() && error["attempts"].is_array(), "{error}");
    match speaks {
        Speaks::OpenAi => assert!(error["code"].is_string() && error.get("param").is_some()),
        Speaks::Anthropic => assert!(body["type"] == "error" && error["failure"].is_string()),
    }
    error.clone()
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn whole_openai(body: &Value) -> Heard {
    assert_eq!(body["object"], "chat.completion", "{body}");
    let choice = &body["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant", "{body}");
    Heard {
        text: text_of(&choice["message"]["content"]),
        refusal: text_of(&choice["message"]["refusal"]),
        tool_calls: choice["message"]["tool_calls"].as_array().map_or(0, Vec::len),
        finish: choice["finish_reason"].as_str().map(str::to_owned),
        ..Heard::default()
    }
}

fn whole_anthropic(body: &Value) -> Heard {
    assert_eq!((&body["type"], &body["role"]), (&"message".into(), &"assistant".into()), "{body}");
    let mut heard =
        Heard { finish: body["stop_reason"].as_str().map(str::to_owned), ..Heard::default() };
    for block in body["content"].as_array().unwrap() {
        match block["type"].as_str().unwrap() {
            "text" => heard.text.push_str(block["text"].as_str().unwrap()),
            "tool_use" => heard.tool_calls += 1,
            other => panic!("a block of type {other}: {body}"),
        }
    }
    heard
}

/// A whole event stream, which must end with its only terminal event.
pub(crate) fn stream(speaks: Speaks, body: &[u8]) -> Heard {
    let text = std::str::from_utf8(body).unwrap();
    assert!(text.ends_with("\n\n"), "the last event is not complete: {text:?}");
    let mut events: Vec<(Option<&str>, &str)> = text.trim_end().split("\n\n").map(event).collect();
    let last = events.pop().unwrap();
    let mut heard = Heard::default();
    let mut blocks = Vec::new();
    for (name, data) in events {
        let data: Value = serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert!(data.get("error").is_none(), "something follows an error event: {text}");
        match speaks {
            Speaks::OpenAi => openai_chunk(&data, &mut heard),
            Speaks::Anthropic => {
                assert_eq!(name, data["type"].as_str(), "{text}");
                assert_ne!(name, Some("message_stop"), "something follows the end: {text}");
                anthropic_event(&data, &mut heard, &mut blocks);
            }
        }
    }
    if (speaks, last.1) == (Speaks::OpenAi, "[DONE]") {
        return heard;
    }
    let data: Value = serde_json::from_str(last.1).unwrap();
    if let Some(error) = data.get("error") {
        heard.error = Some(error_of(speaks, &data, error));
    } else {
        assert_eq!((speaks, &data["type"]), (Speaks::Anthropic, &"message_stop".into()), "{text}");
        assert!(blocks.is_empty(), "blocks {blocks:?} are still open at the end: {text}");
    }
    heard
}

/// The name and the data of one event.
fn event(text: &str) -> (Option<&str>, &str) {
    let field = |name: &str| {
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
        let value = values.next();
        assert_eq!(values.next(), None, "two lines of {name} in one event: {text}");
        value.map(str::trim)
    };
    (field("event:"), field("data:").unwrap_or_else(|| panic!("no data: {text}")))
}

fn openai_chunk(chunk: &Value, heard: &mut Heard) {
    assert_eq!(chunk["object"], "chat.completion.chunk", "{chunk}");
    for choice in chunk["choices"].as_array().unwrap() {
        let delta = &choice["delta"];
        heard.text.push_str(&text_of(&delta["content"]));
        heard.refusal.push_str(&text_of(&delta["refusal"]));
        heard.tool_calls += delta["tool_calls"].as_array().map_or(0, Vec::len);
        if let Some(finish) = choice["finish_reason"].as_str() {
            assert_eq!(heard.finish.replace(finish.to_owned()), None, "finished twice: {chunk}");
        }
    }
}

fn anthropic_event(event: &Value, heard: &mut Heard, open: &mut Vec<u64>) {
    let index = || event["index"].as_u64().unwrap();
    match event["type"].as_str().unwrap() {
        "message_start" => assert_eq!(event["message"]["role"], "assistant"),
        "ping" => {}
        "content_block_start" => {
            open.push(index());
            heard.tool_calls += usize::from(event["content_block"]["type"] == "tool_use");
        }
        "content_block_delta" => {
            assert!(open.contains(&index()), "a piece of a block that is not open: {event}");
            heard.text.push_str(&text_of(&event["delta"]["text"]));
        }
        "content_block_stop" => {
            assert!(open.contains(&index()), "{event}");
            open.retain(|block| *block != index());
        }
        "message_delta" => {
            heard.finish = event["delta"]["stop_reason"].as_str().map(str::to_owned);
        }
        other => panic!("an event of type {other}"),
    }
}
