//! Replies and stream events as values.

use std::fmt;

use backstay_core::failure::{Failure, FailureClass};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::Value;

use super::{error, usage::usage};
use crate::{
    payload,
    sse::SseEvent,
    wire::{Choice, Delta, Finish, Protocol, Reply, ToolCall},
};

/// A completion or a chunk of one; both have the same outer shape.
#[derive(Deserialize)]
struct Completion {
    error: Option<Value>,
    id: Option<String>,
    model: Option<String>,
    choices: Option<Vec<RawChoice>>,
    usage: Option<Value>,
    system_fingerprint: Option<Value>,
    /// Groq's place for the usage of a stream.
    x_groq: Option<Value>,
}

impl Completion {
    /// No answer is thrown away for the name of a build.
    fn fingerprint(&self) -> Option<String> {
        self.system_fingerprint.as_ref().and_then(Value::as_str).map(str::to_owned)
    }
}

#[derive(Deserialize)]
struct RawChoice {
    index: Option<usize>,
    message: Option<Message>,
    delta: Option<Message>,
    finish_reason: Option<String>,
    /// Moonshot's place for the usage of a stream.
    usage: Option<Value>,
}

/// A message or what is new of it.
#[derive(Default, Deserialize)]
struct Message {
    #[serde(default)]
    content: Content,
    refusal: Option<String>,
    /// `DeepSeek`, vLLM and llama.cpp.
    reasoning_content: Option<String>,
    /// `OpenRouter` and newer vLLM; only text is read.
    reasoning: Option<Value>,
    tool_calls: Option<Vec<Tool>>,
    /// The form before `tool_calls`.
    function_call: Option<Function>,
}

#[derive(Deserialize)]
struct Tool {
    index: Option<usize>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: Option<String>,
    /// JSON text; some servers send the JSON itself.
    arguments: Option<Value>,
}

/// `null`, a text, or an array of parts.
#[derive(Default)]
struct Content {
    text: String,
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
    refusal: Option<String>,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, an array of parts or null")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::default())
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content { text: text.to_owned(), refusal: None })
    }

    fn visit_string<E>(self, text: String) -> Result<Content, E> {
        Ok(Content { text, refusal: None })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
        let mut content = Content::default();
        while let Some(part) = parts.next_element::<Part>()? {
            content.text.push_str(part.text.as_deref().unwrap_or_default());
            if let Some(refusal) = part.refusal {
                content.refusal.get_or_insert_default().push_str(&refusal);
            }
        }
        Ok(content)
    }
}

pub(super) fn reply(body: &Bytes) -> Result<Reply, Failure> {
    let completion: Completion = payload::read(body, "reply")?;
    if completion.error.is_some() {
        return Err(error::classify(200, &http::HeaderMap::new(), body));
    }
    let fingerprint = completion.fingerprint();
    let mut raw = completion.choices.ok_or_else(|| missing("reply", "choices", "."))?;
    // Stable, so that answers without a number keep their order.
    raw.sort_by_key(|choice| choice.index);
    let choices = raw.into_iter().enumerate().map(|(i, raw)| {
        let finish = raw.finish_reason.and_then(finish);
        let message =
            raw.message.ok_or_else(|| missing("reply", "message", &format!("choices[{i}]")))?;
        Ok(choice(message, finish))
    });
    Ok(Reply {
        protocol: Protocol::OpenAi,
        raw: body.clone(),
        id: completion.id,
        model: completion.model,
        choices: choices.collect::<Result<_, Failure>>()?,
        usage: completion.usage.as_ref().and_then(usage),
        fingerprint,
        changed: false,
    })
}

pub(super) fn event(event: &SseEvent) -> Result<Vec<Delta>, Failure> {
    let data = event.data.trim_ascii();
    if data == b"[DONE]" {
        return Ok(vec![Delta::End]);
    }
    if event.name.as_deref() == Some("error") {
        return Err(error::classify(200, &http::HeaderMap::new(), data));
    }
    if data.is_empty() {
        return Ok(Vec::new());
    }
    let chunk: Completion = payload::read(data, "stream event")?;
    if chunk.error.is_some() {
        return Err(error::classify(200, &http::HeaderMap::new(), data));
    }
    if chunk.choices.is_none() && chunk.usage.is_none() {
        return Err(missing("stream event", "choices", "."));
    }
    let mut deltas = Vec::with_capacity(3);
    let fingerprint = chunk.fingerprint();
    if chunk.id.is_some() || chunk.model.is_some() || fingerprint.is_some() {
        deltas.push(Delta::Start { id: chunk.id, model: chunk.model, fingerprint });
    }
    let groq = || chunk.x_groq.as_ref().and_then(|groq| groq.get("usage")).cloned();
    let mut told = chunk.usage.or_else(groq);
    for raw in chunk.choices.unwrap_or_default() {
        let index = raw.index.unwrap_or(0);
        told = told.or(raw.usage);
        // Some servers put the last piece into `message`.
        push_message(index, raw.delta.or(raw.message).unwrap_or_default(), &mut deltas);
        if let Some(finish) = raw.finish_reason.and_then(finish) {
            deltas.push(Delta::Finish { choice: index, finish });
        }
    }
    deltas.extend(told.as_ref().and_then(usage).map(Delta::Usage));
    Ok(deltas)
}

fn choice(message: Message, finish: Option<Finish>) -> Choice {
    let reasoning = message.reasoning();
    let tools = message.tool_calls.unwrap_or_default().into_iter().map(|tool| {
        let (name, arguments) = tool.function.map(Function::parts).unwrap_or_default();
        ToolCall { id: tool.id.unwrap_or_default(), name: name.unwrap_or_default(), arguments }
    });
    let legacy = message.function_call.map(|function| {
        let (name, arguments) = function.parts();
        ToolCall { id: String::new(), name: name.unwrap_or_default(), arguments }
    });
    Choice {
        text: message.content.text,
        reasoning,
        refusal: message.refusal.or(message.content.refusal).filter(|text| !text.is_empty()),
        tool_calls: tools.chain(legacy).collect(),
        finish,
    }
}

fn push_message(choice: usize, message: Message, deltas: &mut Vec<Delta>) {
    let reasoning = message.reasoning();
    if !reasoning.is_empty() {
        deltas.push(Delta::Reasoning { choice, text: reasoning });
    }
    if !message.content.text.is_empty() {
        deltas.push(Delta::Text { choice, text: message.content.text });
    }
    let refusal = message.refusal.or(message.content.refusal);
    if let Some(text) = refusal.filter(|text| !text.is_empty()) {
        deltas.push(Delta::Refusal { choice, text });
    }
    for (position, tool) in message.tool_calls.unwrap_or_default().into_iter().enumerate() {
        let (name, arguments) = tool.function.map(Function::parts).unwrap_or_default();
        let index = tool.index.unwrap_or(position);
        deltas.push(Delta::Tool { choice, index, id: tool.id, name, arguments });
    }
    if let Some(function) = message.function_call {
        let (name, arguments) = function.parts();
        deltas.push(Delta::Tool { choice, index: 0, id: None, name, arguments });
    }
}

impl Message {
    fn reasoning(&self) -> String {
        let newer = || self.reasoning.as_ref().and_then(Value::as_str);
        self.reasoning_content.as_deref().or_else(newer).unwrap_or_default().to_owned()
    }
}

impl Function {
    fn parts(self) -> (Option<String>, String) {
        let arguments = match self.arguments {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text,
            Some(
                json @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)),
            ) => json.to_string(),
        };
        (self.name, arguments)
    }
}

fn finish(reason: String) -> Option<Finish> {
    Some(match reason.as_str() {
        "" => return None,
        "stop" => Finish::Stop,
        "length" => Finish::Length,
        "tool_calls" | "function_call" => Finish::ToolCalls,
        "content_filter" => Finish::ContentFilter,
        _ => Finish::Other(reason),
    })
}

fn missing(what: &str, field: &str, place: &str) -> Failure {
    let message = format!("the provider's {what} has no field `{field}` at `{place}`");
    Failure::new(FailureClass::UpstreamError, message)
}
