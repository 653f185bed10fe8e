//! What is typed: the keys of `backstay.toml` and `call.toml`, with their documentation.
//!
//! This is the one source of the reader, of the JSON Schemas that editors use and of the reference
//! manual. The comments here are read by users. No rule that needs two keys is checked here, and
//! nothing runs on these types: see [`super::project`] and `call` for what they become.

pub mod alerts;
mod notify;

use std::{collections::BTreeMap, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::capture::{CaptureFile, PrivacyFile};
use super::otlp::OtlpFile;
use super::prices::PriceFile;
use super::units::{Points, SecretRef, Share, Size, Time};
use crate::release::{
    Backoff, BreakerPolicy, Budget, Checks, DegradePlan, DegradeStep, StreamMode, TargetName,
};
pub use notify::{NotifyFile, NotifyKind};

/// Everything of a project that is not about one call. Every key has a default: an empty file is a
/// valid project.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectFile {
    /// The HTTP server.
    pub server: ServerFile,
    /// Where the call log, the releases and the labels are kept.
    pub store: StoreFile,
    /// The model providers, by the name that routes use.
    pub providers: BTreeMap<String, ProviderFile>,
    /// Prices of targets that the table of prices does not know, or that are not what it says. A name
    /// is a target in quotes, in which `*` stands for any characters: `[prices."local/*"]`. Of several
    /// that fit, the one that says most holds. `backstay prices` shows what holds.
    pub prices: BTreeMap<String, PriceFile>,
    /// How long the call log is kept.
    pub log: LogFile,
    /// Who is told when something is wrong.
    pub alerts: AlertsFile,
    /// OpenTelemetry. Without this table nothing is sent.
    pub otlp: Option<OtlpFile>,
    /// How people are named in the call log.
    pub privacy: PrivacyFile,
    /// Any key of `call.toml`, for all calls. A call's own file wins, key by key.
    pub defaults: CallFile,
}

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerFile {
    /// IP address and port to listen on. An address that other machines can reach is refused at
    /// start until there are API keys.
    #[schemars(extend("title" = "address"))]
    pub listen: String,
    /// Where people reach the dashboard, such as `https://backstay.example.com`: links in notifications
    /// begin with it. The address of `listen` if absent.
    pub url: Option<String>,
    /// How many calls may be under way at once; further ones are answered `overloaded`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_in_flight: u32,
    /// The largest request body.
    pub max_body: Size,
    /// How long calls under way may go on after the server was asked to stop.
    pub drain: Time,
}

impl Default for ServerFile {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:4700".to_owned(),
            url: None,
            max_in_flight: 10_000,
            max_body: Size(16_000_000),
            drain: seconds(30),
        }
    }
}

/// Where the call log, the releases and the labels are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreFile {
    /// A directory for SQLite files, relative to the project.
    #[schemars(length(min = 1))]
    pub path: String,
}

impl Default for StoreFile {
    fn default() -> Self {
        Self { path: ".backstay".to_owned() }
    }
}

/// The wire format of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KindName {
    /// OpenAI's, which most others understand too.
    Openai,
    /// Anthropic's.
    Anthropic,
    /// None: answers are simulated.
    Sim,
}

/// A model provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderFile {
    /// The provider's wire format: `openai` (and everything compatible with it), `anthropic`, or
    /// `sim` for simulated answers. Left out, it is the provider's name.
    #[schemars(schema_with = "kind_names")]
    pub kind: Option<KindName>,
    /// Where requests are sent. Left out, it is the public address of `openai`
    /// (`https://api.openai.com/v1`) or `anthropic` (`https://api.anthropic.com/v1`).
    pub base_url: Option<String>,
    /// The credential, as a reference: `env:NAME` or `file:/path`. Left out together with
    /// `base_url`, it is `env:OPENAI_API_KEY` or `env:ANTHROPIC_API_KEY`.
    pub api_key: Option<SecretRef>,
    /// Further headers of every request. A value may be a secret reference.
    pub headers: BTreeMap<String, String>,
    /// Query parameters of every request. A value may be a secret reference.
    pub query: BTreeMap<String, String>,
    /// Send the credential in this header, as it is, instead of the kind's usual one; `api-key` for
    /// Azure.
    pub auth_header: Option<String>,
    /// Allow `base_url` to resolve to a private address. A loopback or private address that is
    /// written in `base_url` itself is allowed anyway.
    pub allow_private_network: bool,
    /// A PEM file of certificate authorities to trust besides the public ones, relative to the
    /// project.
    pub ca_file: Option<String>,
    /// Offer HTTP/2 in the TLS handshake.
    pub http2: bool,
    /// How many attempts may be under way at once, per target.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_concurrency: u32,
    /// How many attempts may wait for their turn, per target; further ones fail as `overloaded`.
    #[schemars(range(max = 100_000))]
    pub max_queue: u32,
    /// What is known of single models, by the provider's name of the model.
    pub models: BTreeMap<String, ModelFile>,
    /// `sim` only: where its random numbers start, so that runs can be repeated.
    pub seed: Option<u64>,
    /// `sim` only: how long an answer takes to begin. Left out, it begins at once.
    pub latency: Option<LatencyFile>,
    /// `sim` only: how fast an answer comes. Left out, it comes at once.
    #[schemars(range(min = 0.01, max = 1_000_000))]
    pub tokens_per_second: Option<f64>,
    /// `sim` only: failures that happen at random.
    pub faults: Vec<FaultFile>,
    /// `sim` only: failures that happen at a time after the start.
    pub schedule: Vec<ScheduledFile>,
}

impl Default for ProviderFile {
    fn default() -> Self {
        Self {
            kind: None,
            base_url: None,
            api_key: None,
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
            auth_header: None,
            allow_private_network: false,
            ca_file: None,
            http2: true,
            max_concurrency: 256,
            max_queue: 256,
            models: BTreeMap::new(),
            seed: None,
            latency: None,
            tokens_per_second: None,
            faults: Vec::new(),
            schedule: Vec::new(),
        }
    }
}

/// What is known of one model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelFile {
    /// Its context window, in tokens. A prompt that cannot fit is not sent.
    #[schemars(range(min = 1))]
    pub context: Option<u64>,
}

/// How long a simulated answer takes to begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LatencyFile {
    /// Half of the answers are faster.
    pub p50: Time,
    /// One in a hundred is slower. Left out, all take `p50`.
    pub p99: Option<Time>,
}

impl Default for LatencyFile {
    fn default() -> Self {
        Self { p50: seconds(0), p99: None }
    }
}

/// A failure that happens at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FaultFile {
    /// The failure, in the words of the simulated provider.
    #[schemars(regex(pattern = "^[a-z0-9_-]+$"))]
    pub fault: String,
    /// How many of the attempts it strikes.
    pub rate: Share,
}

/// A failure that happens at a time after the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduledFile {
    /// When it begins, after the start of the server.
    pub after: Time,
    /// How long it lasts. Left out, it lasts to the end.
    #[serde(default, rename = "for")]
    pub lasts: Option<Time>,
    /// The failure, in the words of the simulated provider.
    #[schemars(regex(pattern = "^[a-z0-9_-]+$"))]
    pub fault: String,
}

/// How long the call log is kept: `bodies` at most as long as `metadata`, and that at most as long as
/// `rollups`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogFile {
    /// Requests and answers, after redaction.
    pub bodies: Time,
    /// Everything else of a call: unit, outcome, times, tokens, attempts, reports.
    pub metadata: Time,
    /// Sums over calls by the minute, the hour and the day, which name nobody, and alerts that are over.
    pub rollups: Time,
}

impl Default for LogFile {
    fn default() -> Self {
        Self { bodies: days(14), metadata: days(90), rollups: days(400) }
    }
}

/// Who is told when something is wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertsFile {
    /// Where alerts are sent, each with its own kind. Nobody is told if there are none; alerts are kept
    /// and shown all the same.
    pub notify: Vec<NotifyFile>,
}

/// One call. Every key but `route` has a default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CallFile {
    /// Where the call can be answered, as `provider/model`; tried in this order, inside one budget.
    /// Required, here or in `defaults`.
    #[schemars(schema_with = "targets")]
    pub route: Vec<TargetName>,
    /// Take an answer that was refused or filtered to the next target.
    pub fallback_on_refusal: bool,
    /// Files that the templates may include, relative to the call's directory. They are part of the
    /// release, so a change of one is a change of the call.
    #[schemars(length(max = 100))]
    pub include: Vec<String>,
    /// Parameters under OpenAI's names, passed as typed.
    #[schemars(with = "Params")]
    pub params: Map<String, Value>,
    /// What the call may spend on failing.
    pub budget: BudgetFile,
    /// When a target is left alone, and for how long.
    pub breaker: BreakerFile,
    /// What is answered when the budget is spent.
    pub degrade: DegradeFile,
    /// Deterministic checks of the answer, beyond the schema.
    pub checks: ChecksFile,
    /// How streams are treated.
    pub stream: StreamFile,
    /// How a new release comes to all users. Checked, but not used by this version.
    pub rollout: RolloutFile,
    /// What is kept in the call log.
    pub capture: CaptureFile,
    /// What is watched, and by which limits. Not part of a release.
    pub alerts: alerts::CallAlertsFile,
}

/// The parameters whose types are known; all others pass too.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the fields exist for their schema only")]
struct Params {
    /// 0 takes the likeliest word, 2 is wild.
    #[schemars(range(min = 0, max = 2))]
    temperature: Option<f64>,
    /// The share of likely words to draw from.
    #[schemars(range(min = 0, max = 1))]
    top_p: Option<f64>,
    /// The longest answer, in tokens.
    #[schemars(range(min = 1))]
    max_tokens: Option<u32>,
    /// The longest answer with its reasoning, in tokens.
    #[schemars(range(min = 1))]
    max_completion_tokens: Option<u32>,
    /// Asks the provider to draw the same words again.
    seed: Option<i64>,
    /// Discourages words that have come up.
    #[schemars(range(min = -2, max = 2))]
    presence_penalty: Option<f64>,
    /// Discourages words that have come up often.
    #[schemars(range(min = -2, max = 2))]
    frequency_penalty: Option<f64>,
}

/// What the call may spend on failing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetFile {
    /// Over everything: all attempts, pauses and repairs.
    pub deadline: Time,
    /// For TCP and TLS, per attempt.
    pub connect: Time,
    /// From sending to the status line, per attempt. A provider that does not stream sends it when
    /// the whole answer is ready.
    pub headers: Time,
    /// From the status line to the first content of a stream, per attempt.
    pub first_token: Time,
    /// Between two events of a stream, or two pieces of a body.
    pub idle: Time,
    /// Attempts over all targets together.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// Pauses before the same target is asked again, drawn with full jitter.
    pub backoff: BackoffFile,
    /// How many times the validation error is shown to the model.
    #[schemars(range(max = 10))]
    pub repair: u32,
    /// Share of failed calls past which someone is told: see the rule `error_rate` of the manual.
    pub max_error_rate: Share,
    /// US dollars that one call may cost. Once its attempts have cost as much, no other is made. What
    /// has no known price does not count.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub max_cost_usd: Option<f64>,
}

impl Default for BudgetFile {
    fn default() -> Self {
        let it = Budget::default();
        Self {
            deadline: Time(it.deadline),
            connect: Time(it.connect),
            headers: Time(it.headers),
            first_token: Time(it.first_token),
            idle: Time(it.idle),
            attempts: it.attempts,
            backoff: BackoffFile::default(),
            repair: it.repair,
            max_error_rate: Share(it.max_error_rate),
            max_cost_usd: it.max_cost_usd,
        }
    }
}

/// Pauses before the same target is asked again, drawn with full jitter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackoffFile {
    /// The longest first pause; doubled each time.
    pub base: Time,
    /// The longest pause. A provider's `Retry-After` is honoured if it fits the deadline.
    pub max: Time,
}

impl Default for BackoffFile {
    fn default() -> Self {
        let Backoff { base, max } = Budget::default().backoff;
        Self { base: Time(base), max: Time(max) }
    }
}

/// When a target is left alone, and for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerFile {
    /// Share of failures within the window that opens the breaker.
    pub failure_rate: Share,
    /// What the rate is taken over.
    pub window: Time,
    /// How many attempts the window must hold before the rate counts.
    #[schemars(range(min = 1))]
    pub min_calls: u32,
    /// Failures in a row that open the breaker, whatever the rate.
    #[schemars(range(min = 1))]
    pub consecutive: u32,
    /// How long it stays open the first time; doubled each time a probe fails, up to 5 minutes.
    pub open_for: Time,
}

impl Default for BreakerFile {
    fn default() -> Self {
        let it = BreakerPolicy::default();
        Self {
            failure_rate: Share(it.failure_rate),
            window: Time(it.window),
            min_calls: it.min_calls,
            consecutive: it.consecutive,
            open_for: Time(it.open_for),
        }
    }
}

/// What is answered when the budget is spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DegradeFile {
    /// The ladder, tried in this order; after the last step the error is answered. `stale` is the
    /// last good answer to the same request, `static` is `static.json`, `message` is the text below,
    /// `error` is the error at once.
    #[schemars(schema_with = "degrade_steps")]
    pub order: Vec<DegradeStep>,
    /// How old a stale answer may be.
    pub stale_for: Time,
    /// The text of `message`: a template that knows `failure` and `call`.
    pub message: String,
}

impl Default for DegradeFile {
    fn default() -> Self {
        let it = DegradePlan::default();
        Self { order: it.order, stale_for: Time(it.stale_for), message: it.message }
    }
}

/// Deterministic checks of the answer, beyond the schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChecksFile {
    /// The longest answer, in characters.
    #[schemars(range(min = 1))]
    pub max_chars: Option<u64>,
    /// Regular expressions that must not match.
    #[schemars(length(max = 1000))]
    pub forbid: Vec<String>,
}

impl Default for ChecksFile {
    fn default() -> Self {
        let Checks { max_chars, forbid } = Checks::default();
        Self { max_chars, forbid }
    }
}

/// How streams are treated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StreamFile {
    /// `auto` holds a stream back until it is valid when there is a schema or a check, and passes it
    /// through otherwise; `buffered` always holds it back; `through` never does and only records a
    /// violation.
    #[schemars(schema_with = "stream_modes")]
    pub mode: StreamMode,
}

/// What a variant is assigned to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitName {
    /// Each request on its own.
    #[default]
    Request,
    /// A conversation stays with its variant.
    Conversation,
    /// A user stays with their variant.
    User,
}

/// How a new release comes to all users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutFile {
    /// What a variant is assigned to: `request`, `conversation` or `user`.
    #[schemars(schema_with = "units")]
    pub unit: UnitName,
    /// Share of the traffic that is answered twice before the canary.
    pub shadow: Share,
    /// Shares of the traffic that the canary gets, one after the other.
    #[schemars(length(min = 1, max = 20))]
    pub steps: Vec<Share>,
    /// The shortest time on a step.
    pub bake_min: Time,
    /// The longest time on a step; then someone is told that it is inconclusive.
    pub bake_max: Time,
    /// The least number of the canary's calls on a step.
    #[schemars(range(min = 1))]
    pub min_calls: u32,
    /// How often a harmless release may be rolled back.
    #[schemars(range(min = 0.000_001, max = 0.5))]
    pub alpha: f64,
    /// How often a harmful release may be let through.
    #[schemars(range(min = 0.000_001, max = 0.5))]
    pub beta: f64,
    /// How much worse than stable the canary may be.
    pub margin: Points,
    /// The least difference that is worth a rollback.
    pub min_effect: Points,
    /// What each signal weighs in the verdict; together 1.
    pub weights: WeightsFile,
}

impl Default for RolloutFile {
    fn default() -> Self {
        Self {
            unit: UnitName::default(),
            shadow: Share(0.0),
            steps: vec![Share(0.05), Share(0.1), Share(0.5)],
            bake_min: seconds(600),
            bake_max: seconds(86_400),
            min_calls: 100,
            alpha: 0.05,
            beta: 0.05,
            margin: Points(0.05),
            min_effect: Points(0.01),
            weights: WeightsFile::default(),
        }
    }
}

/// What each signal weighs in the verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WeightsFile {
    /// Failed calls.
    #[schemars(range(min = 0, max = 1))]
    pub failed: f64,
    /// Answers that violate the schema.
    #[schemars(range(min = 0, max = 1))]
    pub schema: f64,
    /// Latency.
    #[schemars(range(min = 0, max = 1))]
    pub latency: f64,
    /// Tokens.
    #[schemars(range(min = 0, max = 1))]
    pub tokens: f64,
}

impl Default for WeightsFile {
    fn default() -> Self {
        Self { failed: 0.5, schema: 0.2, latency: 0.15, tokens: 0.15 }
    }
}

const fn seconds(seconds: u64) -> Time {
    Time(Duration::from_secs(seconds))
}

const fn days(days: u64) -> Time {
    seconds(days * 86_400)
}

// Enums of the run types carry no schema of their own: words are the business of the files.

pub(super) fn words(words: &[&str]) -> Schema {
    json_schema!({ "type": "string", "enum": words })
}

fn kind_names(_: &mut SchemaGenerator) -> Schema {
    words(&["openai", "anthropic", "sim"])
}

fn degrade_steps(_: &mut SchemaGenerator) -> Schema {
    let steps = words(&["stale", "static", "message", "error"]);
    json_schema!({ "type": "array", "items": steps, "minItems": 1, "uniqueItems": true })
}

fn stream_modes(_: &mut SchemaGenerator) -> Schema {
    words(&["auto", "buffered", "through"])
}

fn units(_: &mut SchemaGenerator) -> Schema {
    words(&["request", "conversation", "user"])
}

fn targets(_: &mut SchemaGenerator) -> Schema {
    let target = json_schema!({ "title": "target", "type": "string", "pattern": "^[^/]+/.+$" });
    json_schema!({
        "type": "array", "items": target, "minItems": 1, "maxItems": 20, "uniqueItems": true
    })
}
