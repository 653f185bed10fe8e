//! The page of one call.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Quantiles, Sums};

/// One call over a stretch of time.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct CallPage {
    /// Its name.
    pub(crate) call: String,
    /// Whether the project has it now.
    pub(crate) configured: bool,
    /// The release that answers now.
    pub(crate) release: Option<String>,
    /// Where the page begins: a multiple of `step_ms`.
    pub(crate) since_ms: u64,
    /// Where it ends.
    pub(crate) until_ms: u64,
    /// How long the stretch of a point is.
    pub(crate) step_ms: u64,
    /// What the points are made of.
    pub(crate) level: LevelName,
    /// What the project says of the call; its defaults if it does not have the call.
    pub(crate) settings: CallSettings,
    /// The releases that answered, by their first call here.
    pub(crate) releases: Vec<ReleaseMark>,
    /// Over the whole page.
    pub(crate) totals: Sums,
    /// The points that have calls, by time; 300 at most.
    pub(crate) series: Vec<Point>,
    /// By the target of the last attempt, the busiest first.
    pub(crate) by_target: Vec<TargetSums>,
    /// Where the tokens of most calls lie.
    pub(crate) bands: Bands,
}

/// The length of the sums that points are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LevelName {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours, UTC.
    Day,
}

/// What the project says of a call.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct CallSettings {
    /// The share of errors that the budget allows.
    pub(crate) max_error_rate: f64,
    /// The deadline over everything.
    pub(crate) deadline_ms: u64,
    /// The targets, in the order in which they are asked.
    pub(crate) route: Vec<String>,
    /// The latency that one call in twenty may exceed before somebody is told: what `[alerts]
    /// latency_p95` says, or four fifths of the deadline; `null` where that rule is off.
    pub(crate) latency_p95_ms: Option<f64>,
}

/// When a release answered.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct ReleaseMark {
    /// `extract-invoice@7`; `null` for plain targets and refused requests.
    pub(crate) release: Option<String>,
    /// Where its first point begins,
    pub(crate) first_ms: u64,
    /// and its last one.
    pub(crate) last_ms: u64,
    /// All its calls.
    pub(crate) calls: u64,
    /// Those that count against the error rate.
    pub(crate) errors: u64,
    /// Errors over the calls that are not neutral.
    pub(crate) error_rate: Option<f64>,
}

/// The calls of one stretch.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Point {
    /// Where it begins.
    pub(crate) start_ms: u64,
    /// Its sums.
    #[serde(flatten)]
    pub(crate) sums: Sums,
}

/// The calls that ended at one target.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct TargetSums {
    /// `provider/model`; `null` where no attempt was made.
    pub(crate) target: Option<String>,
    /// All calls.
    pub(crate) calls: u64,
    /// Those that count against the error rate.
    pub(crate) errors: u64,
    /// Those that say nothing of the model.
    pub(crate) neutral: u64,
    /// Milliseconds to the last byte.
    pub(crate) latency: Option<Quantiles>,
    /// What the calls with a known price cost together; `null` if there is none.
    pub(crate) cost_usd: Option<f64>,
    /// Calls that cost nobody knows what.
    pub(crate) unpriced: u64,
    /// Calls that cost nothing.
    pub(crate) free: u64,
}

/// Where the tokens of most calls of a release lie, as the rules about tokens know: of the one that is
/// asked for, or else of the one that answers now. `null` while they are still learning.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Bands {
    /// Input tokens of a call.
    pub(crate) tokens_in: Option<Band>,
    /// Output tokens of a call.
    pub(crate) tokens_out: Option<Band>,
}

/// Median and spread: four robust standard deviations of the logarithm to each side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Band {
    /// The median.
    pub(crate) median: f64,
    /// Below it a value is unusual.
    pub(crate) low: f64,
    /// Above it a value is unusual.
    pub(crate) high: f64,
    /// How many calls this was learnt from.
    pub(crate) calls: u64,
}
