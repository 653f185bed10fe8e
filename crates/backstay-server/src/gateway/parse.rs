//! From an HTTP request to an engine request. Pure; every complaint names the field.

use std::{sync::Arc, time::Duration};

use backstay_core::{failure::Failure, trace::TraceParent};
use backstay_engine::request::{Client, Request};
use http::HeaderMap;
use serde_json::{Map, Value};

/// The longest name of a model: names are kept as keys.
const LONGEST_MODEL: usize = 256;
/// The longest name of a unit.
const LONGEST_UNIT: usize = 256;

/// The request headers that steer a call.
pub(super) struct Headers<'a>(pub(super) &'a HeaderMap);

impl Headers<'_> {
    fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let text = value.to_str().map_err(|_| {
            Failure::bad_request(name, format!("the header `{name}` is not plain ASCII"))
        })?;
        Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    /// What is no `traceparent` counts as absent: W3C Trace Context, section 4.3.
    fn trace(&self) -> Option<TraceParent> {
        self.0.get("traceparent")?.to_str().ok()?.trim().parse().ok()
    }

    fn deadline(&self) -> Result<Option<Duration>, Failure> {
        const NAME: &str = "x-backstay-deadline-ms";
        let Some(text) = self.text(NAME)? else { return Ok(None) };
        match text.parse() {
            Ok(millis) if millis > 0 => Ok(Some(Duration::from_millis(millis))),
            Ok(_) | Err(_) => Err(Failure::bad_request(
                NAME,
                format!("the header `{NAME}` must be a positive number of milliseconds"),
            )),
        }
    }
}

/// Fills `request` from its raw body, its path and its headers.
///
/// # Errors
/// `bad_request`, naming the field or header.
pub(super) fn fill(
    request: &mut Request,
    call: Option<String>,
    headers: &Headers<'_>,
) -> Result<(), Failure> {
    let mut body = parse_object(&request.raw)?;
    request.address.call = headers.text("x-backstay-call")?;
    request.address.release = headers.text("x-backstay-release")?;
    request.deadline = headers.deadline()?;
    request.trace = headers.trace();
    request.stream = take_stream(&mut body)?;
    let options = match request.client {
        Client::Native => {
            request.address.model = call.filter(|c| c.len() <= LONGEST_MODEL).unwrap_or_default();
            std::mem::take(&mut body)
        }
        Client::OpenAi | Client::Anthropic => {
            request.address.model = take_model(&mut body)?;
            request.include_usage = wants_usage(&body);
            take_options(&mut body)?
        }
    };
    let options = parse_options(options, request.client)?;
    request.inputs = options.inputs;
    if let Some(messages) = options.messages {
        body.insert("messages".to_owned(), messages);
    }
    request.unit = match options.unit {
        Some(unit) => Some(unit),
        None => headers.text("x-backstay-unit")?.or_else(|| unit_of(&body)),
    };
    if request.unit.as_ref().is_some_and(|unit| unit.len() > LONGEST_UNIT) {
        return Err(Failure::bad_request("unit", "a unit has at most 256 bytes"));
    }
    request.body = Arc::new(body);
    Ok(())
}

fn parse_object(raw: &[u8]) -> Result<Map<String, Value>, Failure> {
    let complain = |why: String| Failure::bad_request("body", why);
    if raw.is_empty() {
        return Err(complain("the request has no body; send a JSON object".to_owned()));
    }
    match serde_json::from_slice(raw) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(complain("the request's body must be a JSON object".to_owned())),
        Err(error) => Err(complain(format!("the request's body is not valid JSON: {error}"))),
    }
}

fn take_model(body: &mut Map<String, Value>) -> Result<String, Failure> {
    match body.remove("model") {
        Some(Value::String(model)) if !model.is_empty() && model.len() <= LONGEST_MODEL => {
            Ok(model)
        }
        Some(_) => Err(wrong_type("model", "a string of 1 to 256 bytes")),
        None => Err(Failure::bad_request(
            "model",
            "`model` is missing: name a call, call@release, or provider/model",
        )),
    }
}

fn take_stream(body: &mut Map<String, Value>) -> Result<bool, Failure> {
    match body.remove("stream") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(stream)) => Ok(stream),
        Some(_) => Err(wrong_type("stream", "true or false")),
    }
}

fn wants_usage(body: &Map<String, Value>) -> bool {
    let asked = body.get("stream_options").and_then(|options| options.get("include_usage"));
    asked.and_then(Value::as_bool).unwrap_or(false)
}

fn take_options(body: &mut Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    match body.remove("backstay") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(options)) => Ok(options),
        Some(_) => Err(wrong_type("backstay", "an object with `inputs` and `unit`")),
    }
}

struct Options {
    inputs: Option<Value>,
    unit: Option<String>,
    messages: Option<Value>,
}

fn parse_options(options: Map<String, Value>, client: Client) -> Result<Options, Failure> {
    let prefix = if client == Client::Native { "" } else { "backstay." };
    let mut parsed = Options { inputs: None, unit: None, messages: None };
    for (key, value) in options {
        match key.as_str() {
            "inputs" => parsed.inputs = Some(value).filter(|inputs| !inputs.is_null()),
            "unit" => match value {
                Value::Null => {}
                Value::String(unit) => parsed.unit = Some(unit),
                Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    return Err(wrong_type(&format!("{prefix}unit"), "a string"));
                }
            },
            "messages" if client == Client::Native => parsed.messages = Some(value),
            _ => {
                let key: String = key.chars().take(64).collect();
                return Err(Failure::bad_request(
                    format!("{prefix}{key}"),
                    format!("`{prefix}{key}` is unknown; there are `inputs` and `unit`"),
                ));
            }
        }
    }
    Ok(parsed)
}

/// What the SDKs' own fields say of who asks.
fn unit_of(body: &Map<String, Value>) -> Option<String> {
    let metadata = || body.get("metadata").and_then(|metadata| metadata.get("user_id"));
    let named = body.get("safety_identifier").or_else(|| body.get("user")).or_else(metadata);
    let unit = named.and_then(Value::as_str).filter(|unit| unit.len() <= LONGEST_UNIT);
    unit.map(str::to_owned)
}

fn wrong_type(param: &str, expected: &str) -> Failure {
    Failure::bad_request(param, format!("`{param}` must be {expected}"))
}
