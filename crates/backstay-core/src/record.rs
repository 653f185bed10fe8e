//! What is kept of a call: one [`CallRecord`], with its attempts inside, and later the reports of
//! its consumer. Written once, never changed.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    failure::{FailureClass, Rung, Violation},
    trace::TraceParent,
};

/// The identity of a call: a `UUIDv7`, so that ids sort by time.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CallId(pub Uuid);

impl CallId {
    /// An id for a call that starts `since_epoch` after the Unix epoch; `random` fills the rest.
    #[must_use]
    pub fn new(since_epoch: Duration, random: [u8; 10]) -> Self {
        let millis = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// When the call started, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn unix_millis(self) -> u64 {
        u64::try_from(self.0.as_u128() >> 80).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::str::FromStr for CallId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Answered by a model, and valid as it came.
    Ok,
    /// Answered by a model, and valid after mending or repair.
    Repaired,
    /// Failed, whatever was answered in its place.
    Failed(FailureClass),
}

impl Outcome {
    /// The outcome in one word, as in headers, metrics and `backstay log`: `ok`, `repaired`, or the
    /// name of the failure class.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Repaired => "repaired",
            Self::Failed(class) => class.name(),
        }
    }

    /// The outcome with the phase of its failure: `timeout_headers`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Ok | Self::Repaired => self.name(),
            Self::Failed(class) => class.code(),
        }
    }

    /// How far up the ladder the model's answer got; `None` where the call says nothing of the model:
    /// the request was wrong, or its client went away.
    #[must_use]
    pub const fn rung(self) -> Option<Rung> {
        match self {
            Self::Ok | Self::Repaired => Some(Rung::ChecksPassed),
            Self::Failed(class) => class.row().reached,
        }
    }

    /// Whether it counts against the call's error rate.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.failure().is_some() && self.rung().is_some()
    }

    /// The failure class, if it failed.
    #[must_use]
    pub const fn failure(self) -> Option<FailureClass> {
        match self {
            Self::Ok | Self::Repaired => None,
            Self::Failed(class) => Some(class),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Outcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        match code.as_ref() {
            "ok" => Ok(Self::Ok),
            "repaired" => Ok(Self::Repaired),
            other => FailureClass::from_code(other)
                .map(Self::Failed)
                .ok_or_else(|| serde::de::Error::custom(format!("unknown outcome `{other}`"))),
        }
    }
}

/// What was answered when the budget was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Degraded {
    /// Nothing took the place of the model's answer.
    #[default]
    None,
    /// The last good answer to the same request.
    Stale,
    /// The deterministic answer of the release.
    Static,
    /// A text that names the failure.
    Message,
}

impl Degraded {
    /// The word of the header `x-backstay-degraded`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Stale => "stale",
            Self::Static => "static",
            Self::Message => "message",
        }
    }
}

/// Which of a call's releases answered.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// The release that the label `stable` points to.
    #[default]
    Stable,
    /// A release that the request named itself.
    Pinned,
    /// No release: a plain target.
    Direct,
}

impl Variant {
    /// The word of the header `x-backstay-variant`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Pinned => "pinned",
            Self::Direct => "direct",
        }
    }
}

/// Tokens of one answer, or of all answers of a call. `input` and `output` are totals; the rest are
/// parts of them. See [`Usage::buckets`] for what does not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input: u64,
    /// All output tokens, reasoning included.
    pub output: u64,
    /// Part of `input` that was read from the provider's cache.
    pub cache_read: u64,
    /// Part of `input` that was written to the provider's cache.
    pub cache_write: u64,
    /// Part of `cache_write` that is kept for an hour instead of minutes, and costs more.
    pub cache_write_1h: u64,
    /// Part of `input` that was sound or pictures.
    pub input_media: u64,
    /// Part of `output` that was reasoning.
    pub reasoning: u64,
    /// Part of `output` that was sound or pictures.
    pub output_media: u64,
    /// Whether Backstay counted them itself, because the provider did not say.
    pub estimated: bool,
}

/// Tokens in buckets that do not overlap: their sum is the sum of input and output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buckets {
    /// Text that was read anew.
    pub input: u64,
    /// Read from the provider's cache.
    pub cache_read: u64,
    /// Read and written to the provider's cache.
    pub cache_write: u64,
    /// Sound or pictures that were read.
    pub input_media: u64,
    /// Text that was written for the client.
    pub output: u64,
    /// Text that the model wrote for itself.
    pub reasoning: u64,
    /// Sound or pictures that were made.
    pub output_media: u64,
}

impl Usage {
    /// The same tokens without overlap. Parts that are larger than their whole, as some providers
    /// tell them, are cut down to it, in the order of the fields.
    #[must_use]
    pub fn buckets(&self) -> Buckets {
        let mut input = self.input;
        let mut output = self.output;
        let take = |part: u64, of: &mut u64| {
            let taken = part.min(*of);
            *of -= taken;
            taken
        };
        let cache_read = take(self.cache_read, &mut input);
        let cache_write = take(self.cache_write, &mut input);
        let input_media = take(self.input_media, &mut input);
        let reasoning = take(self.reasoning, &mut output);
        let output_media = take(self.output_media, &mut output);
        Buckets { input, cache_read, cache_write, input_media, output, reasoning, output_media }
    }

    /// Adds the tokens of another answer.
    pub fn add(&mut self, more: &Self) {
        for (sum, more) in [
            (&mut self.input, more.input),
            (&mut self.output, more.output),
            (&mut self.cache_read, more.cache_read),
            (&mut self.cache_write, more.cache_write),
            (&mut self.cache_write_1h, more.cache_write_1h),
            (&mut self.input_media, more.input_media),
            (&mut self.reasoning, more.reasoning),
            (&mut self.output_media, more.output_media),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.estimated |= more.estimated;
    }
}

impl Buckets {
    /// Adds the tokens of another answer.
    pub fn add(&mut self, more: &Self) {
        for (sum, more) in [
            (&mut self.input, more.input),
            (&mut self.cache_read, more.cache_read),
            (&mut self.cache_write, more.cache_write),
            (&mut self.input_media, more.input_media),
            (&mut self.output, more.output),
            (&mut self.reasoning, more.reasoning),
            (&mut self.output_media, more.output_media),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// What tokens cost. That a price is not known is said; it is never taken for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cost {
    /// So many billionths of a US dollar.
    Priced(u64),
    /// The target costs nothing by the token: a simulated one, or one that the project says is free.
    Free,
    /// No price is known for the target.
    Unknown,
}

impl Cost {
    /// What both cost together: unknown as soon as one of them is.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Priced(a), Self::Priced(b)) => Self::Priced(a.saturating_add(b)),
            (Self::Priced(a), Self::Free) | (Self::Free, Self::Priced(a)) => Self::Priced(a),
            (Self::Free, Self::Free) => Self::Free,
        }
    }

    /// The state in one word: `priced`, `free` or `unknown`.
    #[must_use]
    pub const fn state(self) -> &'static str {
        match self {
            Self::Priced(_) => "priced",
            Self::Free => "free",
            Self::Unknown => "unknown",
        }
    }

    /// US dollars, where they are known.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an amount is told to a few digits")]
    pub fn usd(self) -> Option<f64> {
        match self {
            Self::Priced(nano) => Some(nano as f64 / 1e9),
            Self::Free => Some(0.0),
            Self::Unknown => None,
        }
    }
}

/// Why an attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptKind {
    /// The first one of the call.
    First,
    /// The same target again.
    Retry,
    /// Another target.
    Fallback,
    /// The model was shown what was wrong with its answer.
    Repair,
}

/// One request to one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// `provider/model`.
    pub target: String,
    /// Why it was made.
    pub kind: AttemptKind,
    /// `None`: it was answered and the answer held.
    pub failure: Option<FailureClass>,
    /// The failure in Backstay's words.
    pub message: Option<String>,
    /// Microseconds from the start of the call to the start of the attempt.
    pub started_us: u64,
    /// Microseconds that it took.
    pub took_us: u64,
    /// Microseconds from its start to its first content; streams only.
    pub first_token_us: Option<u64>,
    /// The provider's HTTP status.
    pub status: Option<u16>,
    /// The pause that the provider asked for, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// Its tokens, if it used any.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// What they cost; set wherever `usage` is.
    #[serde(default)]
    pub cost: Option<Cost>,
}

/// Everything that is kept of one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The call's identity and start.
    pub id: CallId,
    /// The call site; `default` for plain targets that name none.
    pub call: String,
    /// `extract-invoice@7`, absent for plain targets and refused requests.
    pub release: Option<String>,
    /// Which release answered.
    pub variant: Variant,
    /// The client's wire format: `openai`, `anthropic` or `native`.
    pub protocol: String,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// What the variant was assigned to, if the client said so.
    pub unit: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// What was answered instead, if anything.
    pub degraded: Degraded,
    /// The failure in Backstay's words.
    pub message: Option<String>,
    /// The rule that the last answer broke.
    pub violation: Option<Violation>,
    /// Microseconds from the request to the last byte of the answer.
    pub latency_us: u64,
    /// Microseconds to the first content; streams only.
    pub first_token_us: Option<u64>,
    /// Microseconds of Backstay's own: all but attempts and pauses.
    pub overhead_us: u64,
    /// Tokens, summed over the attempts that reported them.
    pub usage: Option<Usage>,
    /// What they cost: the sum over the attempts that used any.
    #[serde(default)]
    pub cost: Option<Cost>,
    /// The model that the provider says it used.
    pub model: Option<String>,
    /// The provider's word for the build that answered (OpenAI's `system_fingerprint`).
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// Why the model stopped, in OpenAI's words.
    #[serde(default)]
    pub finish: Option<String>,
    /// The provider's id of the answer.
    pub upstream_id: Option<String>,
    /// The client's place in a distributed trace.
    #[serde(default)]
    pub trace: Option<TraceParent>,
    /// The attempts in order.
    pub attempts: Vec<AttemptRecord>,
    /// The client's request after redaction, unless the call captures none.
    pub request: Option<String>,
    /// What the client was answered, after redaction, unless the call captures none. Absent where it
    /// got an error.
    pub answer: Option<String>,
    /// The last model answer that was rejected, after redaction, so that its mistake can be seen.
    #[serde(default)]
    pub rejected: Option<String>,
}

/// The consumer's verdict on an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeReport {
    /// The call that it is about.
    pub call_id: CallId,
    /// Whether the answer was of use.
    pub ok: bool,
    /// A grade, on the application's own scale.
    pub score: Option<f64>,
    /// Why.
    pub reason: Option<String>,
    /// What the answer should have been.
    pub expected: Option<serde_json::Value>,
    /// When it was reported, in milliseconds since the Unix epoch.
    pub reported_ms: u64,
}
