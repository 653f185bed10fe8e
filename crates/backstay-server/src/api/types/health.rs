//! How Backstay itself fares, and what it knows of prices.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{BoardHealth, CostState, Quantiles};

/// How Backstay itself fares.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Health {
    /// Backstay's version.
    pub(crate) version: String,
    /// When this server started.
    pub(crate) started_ms: u64,
    /// How long ago that was.
    pub(crate) uptime_ms: u64,
    /// Whether it is ending.
    pub(crate) draining: bool,
    /// All of it in one word, and what is wrong.
    pub(crate) summary: BoardHealth,
    /// The project on disk.
    pub(crate) project: ProjectHealth,
    /// What became of the records; `null` without a log.
    pub(crate) records: Option<Records>,
    /// The sums over calls.
    pub(crate) rollups: RollupsHealth,
    /// The looks for alerts.
    pub(crate) alerting: AlertingHealth,
    /// Who is told of alerts.
    pub(crate) notifications: Notifications,
    /// Calls that are under way.
    pub(crate) under_way: u64,
    /// Bounds of what comes in.
    pub(crate) limits: LimitsInForce,
    /// Every target that a route names.
    pub(crate) targets: Vec<TargetHealth>,
    /// Milliseconds of Backstay's own per call, since the start.
    pub(crate) overhead: Option<Quantiles>,
    /// Export of traces and metrics; `null` where nothing is exported.
    pub(crate) otlp: Option<Otlp>,
}

/// Whether the project on disk is the one in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProjectState {
    /// It is.
    Ok,
    /// It has mistakes; the last good one stays in force.
    Broken,
}

/// The project on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ProjectHealth {
    /// Whether it is in force.
    pub(crate) state: ProjectState,
    /// Its mistakes.
    pub(crate) problem: Option<String>,
    /// How many calls it has.
    pub(crate) calls: u64,
}

/// What became of all records and reports since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Records {
    /// Handed in: always stored, pending and shed together.
    pub(crate) received: u64,
    /// In the store.
    pub(crate) stored: u64,
    /// On their way to the store.
    pub(crate) pending: u64,
    /// Given up, by reason.
    pub(crate) shed: BTreeMap<String, u64>,
    /// Stored without their request and answer.
    pub(crate) bodies_shed: u64,
    /// Stored from the spool, after a crash or after they were shed.
    pub(crate) replayed: u64,
    /// Frames of the spool that cannot be read.
    pub(crate) unreadable: u64,
    /// Times that the spool failed.
    pub(crate) spool_errors: u64,
    /// Times that the store failed.
    pub(crate) store_errors: u64,
    /// What is wrong with the store now.
    pub(crate) store_error: Option<String>,
}

/// The sums over calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RollupsHealth {
    /// Rows of the log that are not summed yet; `null` where that is not known.
    pub(crate) behind: Option<u64>,
    /// Why they cannot be brought up to date; `null` while they can.
    pub(crate) error: Option<String>,
}

/// Whether anybody looks for alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct AlertingHealth {
    /// When all calls were last looked at; `null` before the first look.
    pub(crate) last_look_ms: Option<u64>,
    /// Why that look could not read the sums; `null` if it could.
    pub(crate) problem: Option<String>,
}

/// Who is told of alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Notifications {
    /// Messages that wait to be sent.
    pub(crate) pending: u64,
    /// Messages that were given up.
    pub(crate) failed: u64,
    /// Where they go.
    pub(crate) receivers: Vec<Receiver>,
}

/// A place that alerts are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Receiver {
    /// Its name.
    pub(crate) name: String,
    /// `webhook`, `alertmanager`, `slack`, `pagerduty` or `smtp`; `null` where the project does not
    /// name it any more.
    pub(crate) kind: Option<String>,
    /// Messages that wait for it.
    pub(crate) pending: u64,
    /// Messages that it never got.
    pub(crate) failed: u64,
    /// When it last took a message.
    pub(crate) last_ok_ms: Option<u64>,
    /// When it last failed to.
    pub(crate) last_failed_ms: Option<u64>,
    /// Why it failed, unless it took one since.
    pub(crate) last_error: Option<String>,
}

/// Bounds of what comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct LimitsInForce {
    /// Calls at once.
    pub(crate) max_in_flight: u64,
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BreakerName {
    /// Attempts pass.
    Closed,
    /// None pass.
    Open,
    /// Single probes pass.
    HalfOpen,
}

/// The breaker of a call at a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct BreakerItem {
    /// The call.
    pub(crate) call: String,
    /// The breaker's state.
    pub(crate) state: BreakerName,
}

/// Why a target is left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct HoldItem {
    /// The failure class that led to it.
    pub(crate) class: String,
    /// Until when.
    pub(crate) until_ms: u64,
}

/// One target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct TargetHealth {
    /// `provider/model`.
    pub(crate) target: String,
    /// Its breakers, by call.
    pub(crate) breakers: Vec<BreakerItem>,
    /// Why it is left alone, if it is.
    pub(crate) hold: Option<HoldItem>,
    /// Attempts that wait for a place.
    pub(crate) waiting: u64,
}

/// Export of traces and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Otlp {
    /// Whether anything is exported.
    pub(crate) enabled: bool,
    /// Spans and events that the receiver took.
    pub(crate) exported: u64,
    /// Spans and events that it did not get, or did not take.
    pub(crate) dropped: u64,
    /// What last went wrong.
    pub(crate) last_error: Option<String>,
}

/// The price table, and what it says of the project's targets.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Prices {
    /// The day of the table.
    pub(crate) as_of: String,
    /// How many days old it is; `null` where this machine's clock stands before that day.
    pub(crate) age_days: Option<u64>,
    /// Where it comes from,
    pub(crate) source: String,
    /// in which version,
    pub(crate) version: String,
    /// and under which licence.
    pub(crate) licence: String,
    /// Every target that a route names.
    pub(crate) targets: Vec<PriceItem>,
}

/// The price of a target, in US dollars for a million tokens, at this moment and for short inputs.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct PriceItem {
    /// `provider/model`.
    pub(crate) target: String,
    /// What is known.
    pub(crate) state: CostState,
    /// Text that is read anew.
    pub(crate) input_usd: Option<f64>,
    /// Read from the provider's cache.
    pub(crate) cache_read_usd: Option<f64>,
    /// Read and written to the provider's cache.
    pub(crate) cache_write_usd: Option<f64>,
    /// Text that is written.
    pub(crate) output_usd: Option<f64>,
    /// Text that the model writes for itself.
    pub(crate) reasoning_usd: Option<f64>,
    /// For each request, whatever its tokens.
    pub(crate) request_usd: Option<f64>,
    /// Whether longer inputs cost more.
    pub(crate) more_for_long_inputs: bool,
    /// Whether it depends on the time of day.
    pub(crate) by_time_of_day: bool,
    /// Who says so, or why nobody does.
    pub(crate) origin: String,
}
