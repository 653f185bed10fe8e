//! A request as the engine takes it, and what is made of it before the first attempt.

use std::{sync::Arc, time::Duration};

use backstay_core::{failure::Failure, output::Schema, record::CallId, trace::TraceParent};
use backstay_providers::wire::{Prompt, Protocol, Role, Turn};
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::{
    Engine,
    cache::{self, CacheKey},
    plan::{Address, ReleasePlan},
    validate::Expectation,
};

/// The protocol in which a client speaks to Backstay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// `POST /v1/chat/completions`.
    OpenAi,
    /// `POST /v1/messages`.
    Anthropic,
    /// `POST /v1/calls/{call}`; its streams are in OpenAI's format.
    Native,
}

impl Client {
    /// The wire format of its streams and whole replies.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::OpenAi | Self::Native => Protocol::OpenAi,
            Self::Anthropic => Protocol::Anthropic,
        }
    }

    /// Its name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Native => "native",
        }
    }
}

/// One request of a client.
#[derive(Clone, Debug)]
pub struct Request {
    /// The call's identity, from [`Engine::new_id`].
    pub id: CallId,
    /// When it arrived: budgets count from here.
    pub received: Instant,
    /// The client's protocol.
    pub client: Client,
    /// What it wants to be answered by.
    pub address: Address,
    /// The body in the client's protocol, without `model`, `stream` and `backstay`.
    pub body: Arc<Map<String, Value>>,
    /// The body as it came, for the call log.
    pub raw: Bytes,
    /// Variables of the prompt template.
    pub inputs: Option<Value>,
    /// What a variant is assigned to.
    pub unit: Option<String>,
    /// Whether the client wants a stream.
    pub stream: bool,
    /// Whether it wants usage in the stream (OpenAI's `stream_options`).
    pub include_usage: bool,
    /// A deadline of its own; can only shorten the call's.
    pub deadline: Option<Duration>,
    /// Its place in a distributed trace.
    pub trace: Option<TraceParent>,
}

/// What is settled before the first attempt.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) prompt: Prompt,
    pub(crate) expectation: Expectation,
    pub(crate) cache_key: Option<CacheKey>,
}

/// Checks the inputs, renders the prompt, and settles what the answer has to be.
///
/// # Errors
/// `bad_request`, naming the field: nothing has been sent yet.
pub(crate) fn prepare(
    engine: &Engine,
    plan: &ReleasePlan,
    request: &Request,
) -> Result<Prepared, Failure> {
    let before = render(plan, request.inputs.as_ref())
        .map_err(|failure| in_words_of(request.client, failure))?;
    let has_messages = match request.body.get("messages") {
        None => false,
        Some(Value::Array(messages)) => !messages.is_empty(),
        Some(_) => return Err(Failure::bad_request("messages", "`messages` must be an array")),
    };
    if !has_messages && !before.iter().any(|turn| turn.role == Role::User) {
        return Err(Failure::bad_request(
            "messages",
            "there is nothing to answer: send `messages`, or address a call whose release has a \
             user template",
        ));
    }
    let own_format = own_format(request);
    let expectation = match (&plan.output, own_format) {
        (Some(schema), _) => Expectation::Schema(Arc::clone(schema)),
        (None, Some(format)) => engine.expectation_of(format).map_err(|why| {
            let param = match request.client {
                Client::OpenAi | Client::Native => "response_format",
                Client::Anthropic => "output_config.format",
            };
            Failure::bad_request(param, why)
        })?,
        (None, None) => Expectation::Text,
    };
    let body = match (&plan.output, own_format) {
        (Some(_), Some(_)) => Arc::new(without_format(request)),
        (Some(_), None) | (None, _) => Arc::clone(&request.body),
    };
    let cache_key = plan.keeps_answers().then(|| {
        let body = serde_json::to_vec(&*request.body).unwrap_or_default();
        let turns = before.iter().map(|turn| turn.text.as_bytes());
        cache::key(&plan.spec.call, std::iter::once(body.as_slice()).chain(turns))
    });
    let prompt = Prompt {
        protocol: request.client.protocol(),
        body,
        before,
        after: Vec::new(),
        params: Arc::clone(&plan.params),
        schema: plan.answer_schema.clone(),
        stream: request.stream,
    };
    Ok(Prepared { prompt, expectation, cache_key })
}

fn render(plan: &ReleasePlan, inputs: Option<&Value>) -> Result<Vec<Turn>, Failure> {
    let none = Value::Object(Map::new());
    let inputs = inputs.unwrap_or(&none);
    if !inputs.is_object() {
        return Err(Failure::bad_request("backstay.inputs", "`inputs` must be a JSON object"));
    }
    if let Some(schema) = &plan.input {
        schema.validate(inputs).map_err(|violation| {
            let message = format!(
                "the inputs violate the call's input schema at {} (rule `{}`): {}",
                violation.path, violation.rule, violation.reason
            );
            Failure::bad_request("backstay.inputs", message).with_violation(violation)
        })?;
    }
    if plan.prompts.is_empty() {
        return Ok(Vec::new());
    }
    let rendered = plan.prompts.render(inputs)?;
    let system = rendered.system.map(|text| Turn { role: Role::System, text });
    let user = rendered.user.map(|text| Turn { role: Role::User, text });
    Ok(system.into_iter().chain(user).collect())
}

/// The client's body without its own answer format: the release's schema is what is judged by.
fn without_format(request: &Request) -> Map<String, Value> {
    let mut body = Map::clone(&request.body);
    match request.client {
        Client::OpenAi | Client::Native => drop(body.remove("response_format")),
        Client::Anthropic => {
            if let Some(config) = body.get_mut("output_config").and_then(Value::as_object_mut) {
                config.remove("format");
            }
        }
    }
    body
}

/// A native request has its inputs at the top, where the others have them in `backstay`.
fn in_words_of(client: Client, mut failure: Failure) -> Failure {
    match client {
        Client::Native => {
            failure.message = failure.message.replace("`backstay.inputs`", "`inputs`");
            failure.param = failure.param.map(|param| param.replacen("backstay.", "", 1));
        }
        Client::OpenAi | Client::Anthropic => {}
    }
    failure
}

/// The answer format that the client itself asks for.
fn own_format(request: &Request) -> Option<&Value> {
    match request.client {
        Client::OpenAi | Client::Native => request.body.get("response_format"),
        Client::Anthropic => request.body.get("output_config")?.get("format"),
    }
}

impl Engine {
    /// What a client's `response_format` (or Anthropic's `output_config.format`) demands.
    fn expectation_of(&self, format: &Value) -> Result<Expectation, String> {
        match format.get("type").and_then(Value::as_str) {
            Some("json_object") => Ok(Expectation::JsonObject),
            Some("json_schema") => {
                let nested = format.get("json_schema").and_then(|nested| nested.get("schema"));
                let Some(schema) = nested.or_else(|| format.get("schema")) else {
                    return Ok(Expectation::JsonObject);
                };
                self.client_schema(schema).map(Expectation::Schema)
            }
            Some(_) | None => Ok(Expectation::Text),
        }
    }

    /// Compiles a schema that came with a request, or finds it compiled.
    fn client_schema(&self, schema: &Value) -> Result<Arc<Schema>, String> {
        let text = serde_json::to_vec(schema).unwrap_or_default();
        let key = cache::key("", std::iter::once(text.as_slice()));
        if let Some(known) = self.schemas().get(&key) {
            return Ok(known);
        }
        let compiled = Arc::new(Schema::compile(schema)?);
        self.schemas().insert(key, Arc::clone(&compiled));
        Ok(compiled)
    }
}
