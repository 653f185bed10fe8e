//! The board: one row a call.

use serde::Serialize;
use utoipa::ToSchema;

use super::Quantiles;

/// How every call fares.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Board {
    /// When this was true.
    pub(crate) at_ms: u64,
    /// Where the window begins.
    pub(crate) since_ms: u64,
    /// How long it is.
    pub(crate) window_ms: u64,
    /// The calls, those in trouble first, then by name.
    pub(crate) calls: Vec<BoardCall>,
    /// Over all calls.
    pub(crate) totals: BoardTotals,
    /// How Backstay itself fares.
    pub(crate) health: BoardHealth,
}

/// The light of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Light {
    /// Somebody should be woken.
    Page,
    /// Somebody should look during the day.
    Warn,
    /// No alert is firing.
    Ok,
    /// Too few calls to say anything.
    Insufficient,
    /// No calls in the window.
    NoTraffic,
}

/// How one call fares.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct BoardCall {
    /// Its name.
    pub(crate) call: String,
    /// Whether the project has it now.
    pub(crate) configured: bool,
    /// Its light.
    pub(crate) state: Light,
    /// The rules that are firing.
    pub(crate) alerts: Vec<String>,
    /// The release that answers now.
    pub(crate) release: Option<String>,
    /// The releases that answered in the window.
    pub(crate) releases: Vec<String>,
    /// All calls in the window.
    pub(crate) calls: u64,
    /// Those that count against the error rate.
    pub(crate) errors: u64,
    /// Those that say nothing of the model.
    pub(crate) neutral: u64,
    /// Errors over the calls that are not neutral.
    pub(crate) error_rate: Option<f64>,
    /// What the budget allows.
    pub(crate) max_error_rate: f64,
    /// The share of the window's error budget that is left; below 0 when it is overspent.
    pub(crate) budget_left: Option<f64>,
    /// The last five minutes.
    pub(crate) five_minutes: FiveMinutes,
    /// Milliseconds to the last byte.
    pub(crate) latency: Option<Quantiles>,
    /// Milliseconds to the first content; streams only.
    pub(crate) first_token: Option<Quantiles>,
    /// Input tokens of a call.
    pub(crate) tokens_in: Option<Quantiles>,
    /// Output tokens of a call.
    pub(crate) tokens_out: Option<Quantiles>,
    /// What the calls with a known price cost together; `null` if there is none.
    pub(crate) cost_usd: Option<f64>,
    /// Calls that cost nobody knows what.
    pub(crate) unpriced: u64,
    /// Calls that cost nothing.
    pub(crate) free: u64,
    /// Cost by calls that succeeded; `null` unless all prices are known.
    pub(crate) cost_per_ok_usd: Option<f64>,
    /// Calls that were answered with something else than a model's answer.
    pub(crate) degraded: u64,
    /// Share of the calls whose consumer ever said anything.
    pub(crate) coverage: Option<f64>,
    /// Calls whose consumer said last that the answer was of use,
    pub(crate) useful: u64,
    /// and that it was not.
    pub(crate) useless: u64,
    /// The failure code of most errors.
    pub(crate) top_failure: Option<String>,
    /// Equal stretches over the window, 60 at most.
    pub(crate) spark: Vec<SparkPoint>,
}

/// The literal "too many errors in five minutes".
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct FiveMinutes {
    /// All calls.
    pub(crate) calls: u64,
    /// Those that count against the error rate.
    pub(crate) errors: u64,
    /// Errors over the calls that are not neutral.
    pub(crate) error_rate: Option<f64>,
    /// Held against the budget.
    pub(crate) state: FiveState,
}

/// Whether the error rate of five minutes is over the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FiveState {
    /// It is not.
    Ok,
    /// It is.
    Over,
    /// Fewer than five calls.
    Insufficient,
}

/// One stretch of a sparkline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct SparkPoint {
    /// Where it begins.
    pub(crate) start_ms: u64,
    /// All calls.
    pub(crate) calls: u64,
    /// Those that count against the error rate.
    pub(crate) errors: u64,
}

/// Sums over all calls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct BoardTotals {
    /// All calls.
    pub(crate) calls: u64,
    /// Those that count against the error rate.
    pub(crate) errors: u64,
    /// Those that say nothing of the model.
    pub(crate) neutral: u64,
    /// What the calls with a known price cost together; `null` if there is none.
    pub(crate) cost_usd: Option<f64>,
    /// Calls that cost nobody knows what.
    pub(crate) unpriced: u64,
    /// Calls that cost nothing.
    pub(crate) free: u64,
}

/// How Backstay fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HealthState {
    /// Nothing is wrong.
    Ok,
    /// Somebody should look during the day.
    Warn,
    /// Somebody should be woken.
    Page,
}

/// How Backstay itself fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct BoardHealth {
    /// The worst of the problems.
    pub(crate) state: HealthState,
    /// A sentence each.
    pub(crate) problems: Vec<String>,
}
