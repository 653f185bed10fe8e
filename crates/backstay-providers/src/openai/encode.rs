//! The request: the client's own body with the release laid over it.

use std::borrow::Cow;

use backstay_core::failure::Failure;
use serde::{Serialize, Serializer};
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
    let mut body = Body(vec![("model", Field::One(Cow::Owned(model.into())))]);
    // Their names differ from one another: nothing has to be searched for.
    let fields = client.iter().filter(|(key, _)| !own(key));
    body.0.extend(fields.map(|(key, value)| (key.as_str(), Field::One(Cow::Borrowed(value)))));
    lay_over(&mut body, &prompt.params);
    body.0.push(("messages", Field::Many(messages(prompt, client.get("messages"))?)));
    if let Some(schema) = &prompt.schema
        && body.get("response_format").is_none()
    {
        body.put("response_format", Cow::Owned(response_format(schema)));
    }
    stream_options(&mut body, prompt.stream);
    Ok(WireRequest { path: "/chat/completions", headers: Vec::new(), body: to_bytes(&body)? })
}

/// Fields that the client's and the release's own values do not reach.
fn own(key: &str) -> bool {
    matches!(key, "model" | "messages")
}

/// A request's body, of which most is the client's: it is borrowed and not copied.
struct Body<'a>(Vec<(&'a str, Field<'a>)>);

enum Field<'a> {
    One(Cow<'a, Value>),
    Many(Vec<Cow<'a, Value>>),
}

impl<'a> Body<'a> {
    fn get(&self, key: &str) -> Option<&Field<'a>> {
        self.0.iter().find(|(name, _)| *name == key).map(|(_, field)| field)
    }

    /// Replaces a field in its place, or adds it at the end.
    fn put(&mut self, key: &'a str, value: Cow<'a, Value>) {
        match self.0.iter_mut().find(|(name, _)| *name == key) {
            Some((_, field)) => *field = Field::One(value),
            None => self.0.push((key, Field::One(value))),
        }
    }

    fn remove(&mut self, key: &str) {
        self.0.retain(|(name, _)| *name != key);
    }
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, field)| (name, field)))
    }
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(value) => value.serialize(serializer),
            Self::Many(values) => values.serialize(serializer),
        }
    }
}

/// The release's parameters win over the client's. The two names of the output limit are one
/// parameter: providers refuse a request that has both.
fn lay_over<'a>(body: &mut Body<'a>, params: &'a Map<String, Value>) {
    const LIMITS: [&str; 2] = ["max_tokens", "max_completion_tokens"];
    if LIMITS.iter().any(|name| params.contains_key(*name)) {
        LIMITS.iter().for_each(|name| body.remove(name));
    }
    // What is sent in any case is settled by the route and by the prompt.
    for (key, value) in params.iter().filter(|(key, _)| !own(key)) {
        body.put(key, Cow::Borrowed(value));
    }
}

fn messages<'a>(
    prompt: &Prompt,
    client: Option<&'a Value>,
) -> Result<Vec<Cow<'a, Value>>, Failure> {
    let client = match client {
        Some(Value::Array(messages)) => messages.as_slice(),
        None | Some(Value::Null) => &[],
        Some(_) => return Err(Failure::bad_request("messages", "`messages` must be an array")),
    };
    let ours = |turn: &Turn| json!({"role": turn.role.name(), "content": turn.text});
    let before = prompt.before.iter().map(ours).map(Cow::Owned);
    let after = prompt.after.iter().map(ours).map(Cow::Owned);
    Ok(before.chain(client.iter().map(Cow::Borrowed)).chain(after).collect())
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
fn stream_options(body: &mut Body<'_>, stream: bool) {
    if !stream {
        body.remove("stream");
        body.remove("stream_options");
        return;
    }
    body.put("stream", Cow::Owned(true.into()));
    let mut options = match body.get("stream_options") {
        Some(Field::One(options)) => options.as_object().cloned().unwrap_or_default(),
        Some(Field::Many(_)) | None => Map::new(),
    };
    options.insert("include_usage".to_owned(), true.into());
    body.put("stream_options", Cow::Owned(Value::Object(options)));
}
