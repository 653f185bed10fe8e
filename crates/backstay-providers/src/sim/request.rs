//! What the simulated provider reads of a request: only what it answers differently for.
//!
//! Nothing is checked beyond that. A request that a real provider would refuse is answered here,
//! unless a fault asks for the refusal.

use serde_json::Value;

use crate::wire::Protocol;

/// A request as the simulated provider sees it.
#[derive(Clone, Debug)]
pub struct SimRequest<'a> {
    /// The format, known by the path.
    pub protocol: Protocol,
    /// The model; its name may ask for a fault.
    pub model: String,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// The whole body.
    pub body: Value,
    /// The value of `x-sim-fault`.
    pub fault_header: Option<&'a str>,
}

/// What shape the answer has to have.
pub(super) enum Wanted<'a> {
    /// Plain text.
    Text,
    /// Any JSON object.
    Object,
    /// JSON that satisfies the schema.
    Json(&'a Value),
    /// A call of the named tool, with arguments that satisfy the schema.
    Tool(&'a str, &'a Value),
}

impl<'a> SimRequest<'a> {
    /// Reads a request. `None` if it is not a JSON object.
    #[must_use]
    pub fn parse(protocol: Protocol, body: &[u8], fault_header: Option<&'a str>) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok().filter(Value::is_object)?;
        let model = body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
        let stream = body.get("stream").and_then(Value::as_bool).unwrap_or_default();
        Some(Self { protocol, model, stream, body, fault_header })
    }

    /// Whether the usage belongs into a stream. OpenAI leaves it out unless asked.
    pub(super) fn wants_usage(&self) -> bool {
        match self.protocol {
            Protocol::OpenAi if self.stream => self
                .body
                .pointer("/stream_options/include_usage")
                .and_then(Value::as_bool)
                .unwrap_or_default(),
            Protocol::OpenAi | Protocol::Anthropic => true,
        }
    }

    /// The words of the last message of the user.
    pub(super) fn last_user_text(&self) -> String {
        let mut text = String::new();
        let last =
            self.messages().iter().rev().find(|message| string(message, "role") == Some("user"));
        if let Some(message) = last {
            each_text(message.get("content"), &mut |part| {
                text.push_str(part);
                text.push('\n');
            });
        }
        text
    }

    /// Whether the model is being told that its last answer was not good enough.
    pub(super) fn is_repair(&self) -> bool {
        let text = self.last_user_text();
        text.contains("did not satisfy") || text.contains("is not valid JSON")
    }

    /// How many words the prompt has.
    pub(super) fn words(&self) -> u64 {
        let mut words = 0;
        let mut count = |text: &str| words += text.split_ascii_whitespace().count() as u64;
        each_text(self.body.get("system"), &mut count);
        for message in self.messages() {
            each_text(message.get("content"), &mut count);
        }
        words
    }

    /// Whether the request asks for reasoning.
    pub(super) fn reasons(&self) -> bool {
        self.body.get("reasoning_effort").or_else(|| self.body.get("thinking")).is_some()
    }

    /// What shape the answer has to have. A required tool comes before a schema.
    pub(super) fn wanted(&self) -> Wanted<'_> {
        if let Some((name, schema)) = self.wanted_tool() {
            return Wanted::Tool(name, schema);
        }
        let format = match self.protocol {
            Protocol::OpenAi => self.body.get("response_format"),
            Protocol::Anthropic => self.body.pointer("/output_config/format"),
        };
        let Some(format) = format else { return Wanted::Text };
        match string(format, "type") {
            Some("json_object") => Wanted::Object,
            Some("json_schema") => format
                .pointer("/json_schema/schema")
                .or_else(|| format.get("schema"))
                .map_or(Wanted::Object, Wanted::Json),
            Some(_) | None => Wanted::Text,
        }
    }

    fn wanted_tool(&self) -> Option<(&str, &Value)> {
        let tools = self.body.get("tools")?.as_array()?;
        let choice = self.body.get("tool_choice");
        let word = choice.and_then(|c| c.as_str().or_else(|| string(c, "type")));
        let forced = match word {
            Some("required" | "any" | "function" | "tool") => true,
            Some("none") => false,
            // Left to the model, which calls a tool if it is named so, but not twice in a row.
            Some(_) | None => self.model == "tools" && !self.answers_a_tool(),
        };
        let name = choice.and_then(|c| {
            string(c, "name").or_else(|| c.pointer("/function/name").and_then(Value::as_str))
        });
        let functions = tools.iter().filter(|_| forced).filter_map(|tool| {
            let function = tool.get("function").unwrap_or(tool);
            let schema = function.get("parameters").or_else(|| function.get("input_schema"));
            Some((string(function, "name")?, schema.unwrap_or(&Value::Null)))
        });
        let mut functions = functions.filter(|(tool, _)| name.is_none_or(|name| name == *tool));
        functions.next()
    }

    /// Whether the last message is the result of a tool.
    fn answers_a_tool(&self) -> bool {
        self.messages().last().is_some_and(|message| {
            let block = message.pointer("/content/0/type").and_then(Value::as_str);
            string(message, "role") == Some("tool") || block == Some("tool_result")
        })
    }

    fn messages(&self) -> &[Value] {
        self.body.get("messages").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

fn string<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

/// Visits the texts of a content: a string, or blocks with a `text`.
fn each_text(content: Option<&Value>, visit: &mut impl FnMut(&str)) {
    let Some(content) = content else { return };
    if let Some(text) = content.as_str() {
        visit(text);
    }
    for block in content.as_array().into_iter().flatten() {
        if let Some(text) = string(block, "text") {
            visit(text);
        }
    }
}
