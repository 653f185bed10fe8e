//! The request: the client's own body, translated if need be, with the release laid over it.

use backstay_core::failure::Failure;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::{from_openai, schema};
use crate::{
    payload::to_bytes,
    wire::{Prompt, Protocol, Role, Turn, WireRequest},
};

/// Sent where nobody says how long an answer may be: the format requires a limit.
const DEFAULT_MAX_TOKENS: u32 = 4096;

pub(super) fn request(prompt: &Prompt, model: &str) -> Result<WireRequest, Failure> {
    let client = match prompt.protocol {
        Protocol::OpenAi => from_openai::body(&prompt.body)?,
        Protocol::Anthropic => prompt.body.as_ref().clone(),
    };
    let mut body = Map::new();
    body.insert("model".to_owned(), model.into());
    body.extend(client);
    lay_over(&mut body, from_openai::params(&prompt.params)?);
    body.insert("model".to_owned(), model.into());
    let messages = messages(prompt, body.get("messages"))?;
    body.insert("messages".to_owned(), messages);
    lay_system(&mut body, prompt)?;
    if let Some(answer) = &prompt.schema
        && !prompt.params.contains_key("response_format")
        && !prompt.body.contains_key("response_format")
        && body.get("output_config").is_none_or(|config| config.get("format").is_none())
        && let Some(format) = schema::output_format(&answer.schema)
    {
        lay_over(&mut body, Map::from_iter([("output_config".to_owned(), format)]));
    }
    body.entry("max_tokens").or_insert_with(|| DEFAULT_MAX_TOKENS.into());
    body.shift_remove("stream");
    if prompt.stream {
        body.insert("stream".to_owned(), true.into());
    }
    let version =
        (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
    let body = to_bytes(&Value::Object(body))?;
    Ok(WireRequest { path: "/messages", headers: vec![version], body })
}

/// `over` wins; `output_config` holds several independent settings and is merged.
fn lay_over(body: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (key.as_str(), body.get_mut(&key), value) {
            ("output_config", Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
            (_, _, value) => {
                body.insert(key, value);
            }
        }
    }
}

/// Turns in order. Those of the same role that follow each other become one, as the format asks; the
/// client's own are left alone among themselves.
#[derive(Debug, Default)]
pub(super) struct Turns(Vec<Value>);

impl Turns {
    /// Adds to the last turn if that is of the same role, else opens a new one.
    pub(super) fn join(&mut self, role: &str, content: Value) {
        if let Some(Value::Object(last)) = self.0.last_mut()
            && last.get("role").and_then(Value::as_str) == Some(role)
        {
            let mut blocks = blocks(last.remove("content").unwrap_or_default());
            blocks.extend(self::blocks(content));
            last.insert("content".to_owned(), blocks.into());
        } else {
            self.0.push(json!({"role": role, "content": content}));
        }
    }

    pub(super) fn into_value(self) -> Value {
        Value::Array(self.0)
    }
}

fn blocks(content: Value) -> Vec<Value> {
    match content {
        Value::Array(blocks) => blocks,
        Value::String(text) => vec![json!({"type": "text", "text": text})],
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

fn messages(prompt: &Prompt, client: Option<&Value>) -> Result<Value, Failure> {
    let client = match client {
        Some(Value::Array(messages)) => messages.as_slice(),
        None | Some(Value::Null) => &[],
        Some(_) => return Err(Failure::bad_request("messages", "`messages` must be an array")),
    };
    let mut turns = Turns::default();
    let said = |turns: &mut Turns, all: &[Turn]| {
        for turn in all.iter().filter(|turn| turn.role != Role::System) {
            turns.join(turn.role.name(), turn.text.as_str().into());
        }
    };
    said(&mut turns, &prompt.before);
    for (position, message) in client.iter().enumerate() {
        match message.get("role").and_then(Value::as_str) {
            Some(role) if position == 0 && !turns.0.is_empty() => {
                turns.join(role, message.get("content").cloned().unwrap_or_default());
            }
            Some(_) | None => turns.0.push(message.clone()),
        }
    }
    said(&mut turns, &prompt.after);
    Ok(turns.into_value())
}

/// Lays the release's instructions around the client's. A string stays a string.
fn lay_system(body: &mut Map<String, Value>, prompt: &Prompt) -> Result<(), Failure> {
    let texts = |turns: &[Turn]| -> Vec<String> {
        let system = turns.iter().filter(|turn| turn.role == Role::System);
        system.map(|turn| turn.text.clone()).filter(|text| !text.is_empty()).collect()
    };
    let (mut before, mut after) = (texts(&prompt.before), texts(&prompt.after));
    if !before.is_empty() || !after.is_empty() {
        let system = match body.remove("system") {
            Some(Value::Array(client)) => {
                let block = |text: String| json!({"type": "text", "text": text});
                let before = before.into_iter().map(block);
                before.chain(client).chain(after.into_iter().map(block)).collect()
            }
            None | Some(Value::Null) => {
                before.append(&mut after);
                before.join("\n\n").into()
            }
            Some(Value::String(client)) => {
                before.push(client);
                before.append(&mut after);
                before.join("\n\n").into()
            }
            Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
                let message = "`system` must be a string or an array of text blocks";
                return Err(Failure::bad_request("system", message));
            }
        };
        body.insert("system".to_owned(), system);
    }
    // The format needs a message. A prompt of instructions alone is said by the user, as it would be
    // answered in the OpenAI format.
    if body.get("messages").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        let Some(system) = body.remove("system") else {
            return Err(Failure::bad_request("messages", "`messages` must have a message"));
        };
        let only = json!([{"role": "user", "content": system}]);
        body.insert("messages".to_owned(), only);
    }
    Ok(())
}
