//! What a wire format is: pure encoding of prompts and decoding of replies.
//!
//! Two directions meet here. Upstream, a [`Wire`] turns a [`Prompt`] into a request and a provider's
//! bytes into a [`Reply`], [`Delta`]s or a [`Failure`]. Towards the client, [`Protocol`] names the
//! format in which the application speaks, and a [`StreamWriter`] writes events in it. The OpenAI
//! chat shape is the hub: a wire that does not speak the client's protocol translates from and to it.
//! When both sides speak the same format, the bytes pass untouched.
//!
//! Nothing here retries, sleeps, reads config, or decides whether an answer is good enough.

use std::fmt;

use backstay_core::{
    failure::{Failure, FailureClass, Refusal},
    record::Usage,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use crate::sse::SseEvent;

/// A figure of more tokens than this is a mistake of its provider, and counts as unsaid: no model reads
/// or writes as many at once, and sums stay far from any overflow.
const MOST_TOKENS: u64 = 1_000_000_000;

/// The number of tokens at `pointer` of a provider's usage. A figure in another type counts as unsaid
/// too: an answer is not thrown away for its bill.
pub(crate) fn tokens_at(usage: &Value, pointer: &str) -> Option<u64> {
    usage.pointer(pointer).and_then(Value::as_u64).filter(|count| *count <= MOST_TOKENS)
}

/// What stands for the refusal of a provider that gives no words to it.
pub(crate) const REFUSAL: &str = "The model declined to answer.";

/// The wire format of a client or of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// OpenAI chat completions.
    OpenAi,
    /// Anthropic messages.
    Anthropic,
}

/// Every wire format, one row each.
pub const PROTOCOLS: [Protocol; 2] = [Protocol::OpenAi, Protocol::Anthropic];

impl Protocol {
    /// The name of the format in records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    /// The event that ends a stream whose provider left it out.
    #[must_use]
    pub const fn terminal_event(self) -> &'static [u8] {
        match self {
            Self::OpenAi => b"data: [DONE]\n\n",
            Self::Anthropic => b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        }
    }
}

/// What a [`StreamWriter`] must know before the first delta.
#[derive(Clone, Debug, Default)]
pub struct StreamOpening {
    /// The id of the answer, if the provider sends none.
    pub id: String,
    /// The model, if the provider names none.
    pub model: String,
    /// Seconds since the Unix epoch.
    pub created_unix: u64,
    /// Whether an OpenAI client asked for the usage chunk; Anthropic streams always have it.
    pub include_usage: bool,
}

impl StreamOpening {
    /// Takes over what the provider says of itself.
    pub(crate) fn learn(&mut self, id: Option<&str>, model: Option<&str>) {
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            id.clone_into(&mut self.id);
        }
        if let Some(model) = model.filter(|model| !model.is_empty()) {
            model.clone_into(&mut self.model);
        }
    }
}

/// Who says a [`Turn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions.
    System,
    /// The application or its user.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The role in both wire formats.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A message of plain text that Backstay adds to the client's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub text: String,
}

/// The JSON Schema that the answer has to satisfy, as it is told to the provider.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerSchema {
    /// A name of `[a-zA-Z0-9_-]{1,64}`.
    pub name: String,
    /// The schema itself.
    pub schema: Value,
}

/// What one attempt sends, before it is in a wire format.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The format of `body`.
    pub protocol: Protocol,
    /// The client's request body without `model`, `stream` and `backstay`; empty for native calls.
    /// Shared between the attempts of a call.
    pub body: std::sync::Arc<Map<String, Value>>,
    /// The release's own messages; they come before the client's.
    pub before: Vec<Turn>,
    /// A repair dialogue; it comes after the client's messages.
    pub after: Vec<Turn>,
    /// Parameters of the release under OpenAI's names; they win over the client's.
    pub params: std::sync::Arc<Map<String, Value>>,
    /// The schema of the release; absent if the client sends its own `response_format`.
    pub schema: Option<std::sync::Arc<AnswerSchema>>,
    /// Whether the provider shall stream.
    pub stream: bool,
}

impl Prompt {
    /// Every text that the provider will count: each string of the client's messages, and the turns
    /// around them.
    #[must_use]
    pub fn texts(&self) -> Vec<&str> {
        let turns = self.before.iter().chain(&self.after).map(|turn| turn.text.as_str());
        let mut texts: Vec<_> = turns.collect();
        for key in ["system", "messages"] {
            if let Some(value) = self.body.get(key) {
                strings(value, &mut texts);
            }
        }
        texts
    }
}

/// Collects the strings of a document whose depth its parser has bounded.
fn strings<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, texts)),
        Value::Object(fields) => fields.values().for_each(|field| strings(field, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A request in a wire format, relative to a provider's base URL.
#[derive(Clone, Debug)]
pub struct WireRequest {
    /// Path below the base URL, with its leading slash: `/chat/completions`.
    pub path: &'static str,
    /// Headers that the format needs (credentials and `content-type` are added elsewhere).
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The JSON body.
    pub body: Bytes,
}

/// Why the model stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The end of the answer or a stop sequence.
    Stop,
    /// The output limit.
    Length,
    /// The model wants tools to be called.
    ToolCalls,
    /// A filter of the provider.
    ContentFilter,
    /// The model declined.
    Refusal,
    /// A reason that Backstay does not know; passed through.
    Other(String),
}

/// A call of a tool that the model asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// The provider's id.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Arguments as JSON text, as the model wrote it.
    pub arguments: String,
}

/// One answer of a reply; more than one only if the client asked for `n > 1`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// All text, joined; empty when there is none.
    pub text: String,
    /// The model's reasoning, where the provider shows it.
    pub reasoning: String,
    /// The model's refusal, in the provider's refusal field.
    pub refusal: Option<String>,
    /// Tool calls in order.
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped; `None` if the provider did not say.
    pub finish: Option<Finish>,
}

/// A complete reply of a provider.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The format of `raw`.
    pub protocol: Protocol,
    /// The provider's body, untouched; empty if the reply was assembled from a stream.
    pub raw: Bytes,
    /// The provider's id of the answer.
    pub id: Option<String>,
    /// The model that the provider says it used.
    pub model: Option<String>,
    /// The answers, in order; may be empty, which is a failure further up.
    pub choices: Vec<Choice>,
    /// Tokens, if the provider said so.
    pub usage: Option<Usage>,
    /// The provider's word for the build that answered.
    pub fingerprint: Option<String>,
    /// Whether a text differs from the one in `raw` (mended), so that `raw` may not be sent as it is.
    pub changed: bool,
}

/// One step of a stream, in no particular wire format.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// The stream's identity; may come more than once.
    Start {
        /// The provider's id of the answer.
        id: Option<String>,
        /// The model that the provider says it used.
        model: Option<String>,
        /// The provider's word for the build that answers.
        fingerprint: Option<String>,
    },
    /// More text of the answer numbered `choice`.
    Text {
        /// Which answer.
        choice: usize,
        /// The text.
        text: String,
    },
    /// More of the model's reasoning.
    Reasoning {
        /// Which answer.
        choice: usize,
        /// The text.
        text: String,
    },
    /// More of a refusal.
    Refusal {
        /// Which answer.
        choice: usize,
        /// The text.
        text: String,
    },
    /// A tool call opens or goes on.
    Tool {
        /// Which answer.
        choice: usize,
        /// Which tool call of the answer.
        index: usize,
        /// The id, when it opens.
        id: Option<String>,
        /// The tool, when it opens.
        name: Option<String>,
        /// More of the arguments.
        arguments: String,
    },
    /// The answer stopped.
    Finish {
        /// Which answer.
        choice: usize,
        /// Why.
        finish: Finish,
    },
    /// Tokens so far or in all; a later one replaces an earlier one field by field if larger.
    Usage(Usage),
    /// The protocol's terminal event (`[DONE]`, `message_stop`).
    End,
}

impl Delta {
    /// Whether a client would see something of the answer in it: the commit point of a stream.
    #[must_use]
    pub fn is_content(&self) -> bool {
        match self {
            Self::Text { text, .. } | Self::Reasoning { text, .. } | Self::Refusal { text, .. } => {
                !text.is_empty()
            }
            Self::Tool { .. } => true,
            Self::Start { .. } | Self::Finish { .. } | Self::Usage(_) | Self::End => false,
        }
    }
}

/// One server-sent event of a provider with what it means.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The event as it came.
    pub event: SseEvent,
    /// What it means; empty for pings and events that Backstay does not know.
    pub deltas: Vec<Delta>,
}

/// The upstream side of a wire format. Pure: bytes in, values out.
pub trait Wire: fmt::Debug + Send + Sync {
    /// The format.
    fn protocol(&self) -> Protocol;

    /// Writes the request for `model`.
    ///
    /// # Errors
    /// `bad_request` if the prompt has something that this format cannot say.
    fn encode(&self, prompt: &Prompt, model: &str) -> Result<WireRequest, Failure>;

    /// Reads a complete reply that came with a 2xx status.
    ///
    /// # Errors
    /// `upstream_error` if the bytes are not in the format (HTML, truncated JSON, wrong types), or the
    /// class of the error object that some providers send with status 200.
    fn decode(&self, body: &Bytes) -> Result<Reply, Failure>;

    /// Reads one event of a stream.
    ///
    /// # Errors
    /// `upstream_error` for a malformed event, or the class of an error event.
    fn decode_event(&self, event: &SseEvent) -> Result<Vec<Delta>, Failure>;

    /// Classifies a reply whose status is not 2xx. The provider's text is read for its codes only.
    fn decode_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Failure;
}

/// Writes a stream in the client's protocol, from the deltas of any wire format.
pub trait StreamWriter: fmt::Debug + Send {
    /// Writes what `delta` means in this protocol, terminal event included.
    fn write(&mut self, delta: &Delta, out: &mut Vec<u8>);
}

/// What a client is told of a failed call.
#[derive(Clone, Debug)]
pub struct ErrorView {
    /// The class of the failure.
    pub class: FailureClass,
    /// Why the request was turned away, for `bad_request`.
    pub refusal: Refusal,
    /// Backstay's sentence.
    pub message: String,
    /// The field of the request that is wrong.
    pub param: Option<String>,
    /// The id of the call.
    pub call_id: String,
    /// `target`, failure code or `ok`, milliseconds.
    pub attempts: Vec<(String, &'static str, u64)>,
}

impl ErrorView {
    /// The attempts as both formats show them: `[{target, failure, ms}]`.
    pub(crate) fn attempts_json(&self) -> Value {
        let show = |(target, failure, ms): &(String, &str, u64)| json!({"target": target, "failure": failure, "ms": ms});
        self.attempts.iter().map(show).collect()
    }
}
