//! The request: the client's own body with the release laid over it.

use std::borrow::Cow;

use backstay_core::failure::Failure;
use serde_json::{Map, Value, json};

use crate::{
    anthropic,
    payload::to_bytes,
    wire::{AnswerSchema, Prompt, Protocol, Turn, WireRequest},
};

pub(super) fn request(prompt: &Prompt, model: &str) -> Result<WireRequest, Failure> {
    let client = match prompt.protocol {
        Protocol::OpenAi => Cow::Borrowed(prompt.body.as_ref()),
        Protocol::Anthropic => Cow::Owned(anthropic::to_openai(&prompt.body)?),
    };
    let mut body = Map::new();
    body.insert("model".to_owned(), Value::Null);
    for (key, value) in client.iter().filter(|(key, _)| *key != "messages") {
        body.insert(key.clone(), value.clone());
    }
    lay_over(&mut body, &prompt.params);
    body.insert("model".to_owned(), model.into());
    body.insert("messages".to_owned(), messages(prompt, client.get("messages"))?);
    if let Some(schema) = &prompt.schema
        && !body.contains_key("response_format")
    {
        body.insert("response_format".to_owned(), response_format(schema));
    }
    stream_options(&mut body, prompt.stream);
    let path = "/chat/completions";
    Ok(WireRequest { path, headers: Vec::new(), body: to_bytes(&Value::Object(body))? })
}

/// The release's parameters win over the client's. The two names of the output limit are one
/// parameter: providers refuse a request that has both.
fn lay_over(body: &mut Map<String, Value>, params: &Map<String, Value>) {
    const LIMITS: [&str; 2] = ["max_tokens", "max_completion_tokens"];
    if LIMITS.iter().any(|name| params.contains_key(*name)) {
        for name in LIMITS {
            body.shift_remove(name);
        }
    }
    for (key, value) in params {
        body.insert(key.clone(), value.clone());
    }
}

fn messages(prompt: &Prompt, client: Option<&Value>) -> Result<Value, Failure> {
    let client = match client {
        Some(Value::Array(messages)) => messages.as_slice(),
        None | Some(Value::Null) => &[],
        Some(_) => return Err(Failure::bad_request("messages", "`messages` must be an array")),
    };
    let ours = |turn: &Turn| json!({"role": turn.role.name(), "content": turn.text});
    Ok(prompt
        .before
        .iter()
        .map(ours)
        .chain(client.iter().cloned())
        .chain(prompt.after.iter().map(ours))
        .collect())
}

/// Not strict: OpenAI's strict mode refuses schemas that are not written for it, and the answer is
/// validated here in any case.
fn response_format(schema: &AnswerSchema) -> Value {
    json!({
        "type": "json_schema",
        "json_schema": {"name": schema.name, "schema": schema.schema, "strict": false},
    })
}

/// Usage is asked for with every stream, and the options go when there is no stream: OpenAI refuses
/// them then.
fn stream_options(body: &mut Map<String, Value>, stream: bool) {
    if !stream {
        body.shift_remove("stream");
        body.shift_remove("stream_options");
        return;
    }
    body.insert("stream".to_owned(), true.into());
    let options = body.entry("stream_options").or_insert_with(|| json!({}));
    if !options.is_object() {
        *options = json!({});
    }
    if let Value::Object(options) = options {
        options.insert("include_usage".to_owned(), true.into());
    }
}
