//! What is kept of a call: one [`CallRecord`], with its attempts inside, and later the reports of
//! its consumer. Written once, never changed.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::failure::{FailureClass, Violation};

/// The identity of a call: a `UUIDv7`, so that ids sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// Tokens as the provider counted them. `input` and `output` are totals; the rest are parts of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input: u64,
    /// All output tokens, reasoning included.
    pub output: u64,
    /// Part of `input` that was read from the provider's cache.
    #[serde(default)]
    pub cache_read: u64,
    /// Part of `input` that was written to the provider's cache.
    #[serde(default)]
    pub cache_write: u64,
    /// Part of `output` that was reasoning.
    #[serde(default)]
    pub reasoning: u64,
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
    /// The model that the provider says it used.
    pub model: Option<String>,
    /// The provider's id of the answer.
    pub upstream_id: Option<String>,
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
