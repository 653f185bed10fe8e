//! The call log: rows, and one whole call.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A page of the log, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct LogPage {
    /// The calls.
    pub(crate) rows: Vec<LogRow>,
    /// The `before` of the next page; `null` at the end of what was asked for.
    pub(crate) next: Option<String>,
}

/// A call in one line.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct LogRow {
    /// The call's id.
    pub(crate) id: String,
    /// When it started.
    pub(crate) at_ms: u64,
    /// The call site.
    pub(crate) call: String,
    /// `extract-invoice@7`; `null` for plain targets and refused requests.
    pub(crate) release: Option<String>,
    /// Which release answered: `stable`, `pinned` or `direct`.
    pub(crate) variant: String,
    /// How it ended, in one word: `ok`, `timeout` …
    pub(crate) outcome: String,
    /// The same with its phase: `timeout_headers`.
    pub(crate) outcome_code: String,
    /// What was answered instead: `none`, `stale`, `static` or `message`.
    pub(crate) degraded: String,
    /// The failure in Backstay's words.
    pub(crate) message: Option<String>,
    /// Whether the client asked for a stream.
    pub(crate) stream: bool,
    /// Milliseconds to the last byte.
    pub(crate) latency_ms: f64,
    /// Milliseconds to the first content; streams only.
    pub(crate) first_token_ms: Option<f64>,
    /// Tokens of all attempts.
    pub(crate) usage: Option<TokenUsage>,
    /// What they cost.
    pub(crate) cost: CostItem,
    /// The model that the provider says it used.
    pub(crate) model: Option<String>,
    /// The target of the last attempt.
    pub(crate) target: Option<String>,
    /// How many attempts were made.
    pub(crate) attempts: u64,
    /// What the consumer said last.
    pub(crate) consumer_ok: Option<bool>,
    /// What the variant was assigned to.
    pub(crate) unit: Option<String>,
    /// The place in the order of storing.
    pub(crate) seq: u64,
}

/// Tokens; `input` and `output` are totals, the rest are parts of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct TokenUsage {
    /// All input tokens, cached ones included.
    pub(crate) input: u64,
    /// All output tokens, reasoning included.
    pub(crate) output: u64,
    /// Input that was read from the provider's cache.
    pub(crate) cache_read: u64,
    /// Input that was written to the provider's cache.
    pub(crate) cache_write: u64,
    /// Input that was sound or pictures.
    pub(crate) input_media: u64,
    /// Output that the model wrote for itself.
    pub(crate) reasoning: u64,
    /// Output that was sound or pictures.
    pub(crate) output_media: u64,
    /// Whether they are Backstay's own estimate.
    pub(crate) estimated: bool,
}

/// What is known of a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CostState {
    /// The target has a price.
    Priced,
    /// It costs nothing.
    Free,
    /// Nobody knows.
    Unknown,
}

/// What a call cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct CostItem {
    /// What is known; `null` where no tokens were used.
    pub(crate) state: Option<CostState>,
    /// US dollars, where they are known.
    pub(crate) usd: Option<f64>,
}

/// One whole call.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct LogEntry {
    /// The call in one line.
    pub(crate) row: LogRow,
    /// All that is kept of it.
    pub(crate) record: RecordItem,
    /// What its consumer said, in order.
    pub(crate) reports: Vec<ReportItem>,
}

/// All that is kept of a call beyond its row.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct RecordItem {
    /// The attempts in order.
    pub(crate) attempts: Vec<AttemptItem>,
    /// The rule that the last answer broke.
    pub(crate) violation: Option<ViolationItem>,
    /// The client's request, as far as it is kept.
    pub(crate) request: Option<String>,
    /// What the client was answered.
    pub(crate) answer: Option<String>,
    /// The last model answer that was rejected.
    pub(crate) rejected: Option<String>,
    /// The provider's id of the answer.
    pub(crate) upstream_id: Option<String>,
    /// The provider's word for the build that answered.
    pub(crate) fingerprint: Option<String>,
    /// Why the model stopped, in OpenAI's words.
    pub(crate) finish: Option<String>,
    /// The client's trace.
    pub(crate) trace_id: Option<String>,
    /// What the variant was assigned to.
    pub(crate) unit: Option<String>,
    /// The client's wire format.
    pub(crate) protocol: String,
    /// Milliseconds of Backstay's own.
    pub(crate) overhead_ms: f64,
}

/// One request to one target.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct AttemptItem {
    /// `provider/model`.
    pub(crate) target: String,
    /// Why it was made: `first`, `retry`, `fallback` or `repair`.
    pub(crate) kind: String,
    /// The failure's code; `null`: it was answered and the answer held.
    pub(crate) failure: Option<String>,
    /// The failure in Backstay's words.
    pub(crate) message: Option<String>,
    /// Milliseconds from the start of the call to its own.
    pub(crate) started_ms: f64,
    /// Milliseconds that it took.
    pub(crate) took_ms: f64,
    /// Milliseconds from its start to its first content; streams only.
    pub(crate) first_token_ms: Option<f64>,
    /// The provider's HTTP status.
    pub(crate) status: Option<u16>,
    /// The pause that the provider asked for.
    pub(crate) retry_after_ms: Option<u64>,
    /// Its tokens.
    pub(crate) usage: Option<TokenUsage>,
    /// What they cost.
    pub(crate) cost: CostItem,
}

/// A rule that an answer broke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ViolationItem {
    /// Where in the answer, as a JSON pointer.
    pub(crate) path: String,
    /// The keyword of the schema, or the check.
    pub(crate) rule: String,
    /// What is wrong there.
    pub(crate) reason: String,
}

/// What a consumer said of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct ReportItem {
    /// Whether it was of use.
    pub(crate) ok: bool,
    /// A grade, on the application's own scale.
    pub(crate) score: Option<f64>,
    /// Why.
    pub(crate) reason: Option<String>,
    /// What the answer should have been.
    pub(crate) expected: Option<Value>,
    /// When it was said.
    pub(crate) reported_ms: u64,
}
