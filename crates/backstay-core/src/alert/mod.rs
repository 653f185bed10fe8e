//! Alerts as values: what can be wrong with a call, and how far that has come.
//!
//! Rules are pure functions of counts; nothing here reads a clock or a store, or tells anybody.

pub mod about;
pub mod machine;
#[cfg(test)]
mod manual;
pub mod policy;
pub mod rates;
pub mod reading;
pub mod tokens;
pub mod traffic;

use serde::{Deserialize, Serialize};

use crate::record::{CallId, Variant};

/// What a rule watches. Closed: its name is the label `rule` of metrics and the word in silences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// More calls fail than the budget allows.
    ErrorRate,
    /// The error budget of a month burns too fast.
    BurnRate,
    /// Too many calls are slower than the budget says.
    LatencyBudget,
    /// Too many calls are slower than this call usually is.
    LatencyBaseline,
    /// Too many streams begin later than they usually do.
    FirstToken,
    /// Prompts are longer or shorter than they were.
    TokensIn,
    /// Answers are longer or shorter than they were.
    TokensOut,
    /// More answers than usual stop at one rung of the ladder.
    Quality,
    /// Consumers that used to say what answers were worth have stopped.
    Coverage,
    /// There were calls, and now there are none.
    NoTraffic,
    /// A breaker keeps a target away from a call.
    BreakerOpen,
    /// A provider refuses the credentials.
    Credentials,
    /// Calls cost nobody knows what.
    Unpriced,
    /// Records of calls were given up.
    Shed,
    /// Another model answers than before, though nobody changed the route.
    ModelDrift,
}

impl Rule {
    /// Every rule, in the order of the manual.
    pub const ALL: [Self; 15] = [
        Self::ErrorRate,
        Self::BurnRate,
        Self::LatencyBudget,
        Self::LatencyBaseline,
        Self::FirstToken,
        Self::TokensIn,
        Self::TokensOut,
        Self::Quality,
        Self::Coverage,
        Self::NoTraffic,
        Self::BreakerOpen,
        Self::Credentials,
        Self::Unpriced,
        Self::Shed,
        Self::ModelDrift,
    ];

    /// The rule in one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ErrorRate => "error_rate",
            Self::BurnRate => "burn_rate",
            Self::LatencyBudget => "latency_budget",
            Self::LatencyBaseline => "latency_baseline",
            Self::FirstToken => "first_token",
            Self::TokensIn => "tokens_in",
            Self::TokensOut => "tokens_out",
            Self::Quality => "quality",
            Self::Coverage => "coverage",
            Self::NoTraffic => "no_traffic",
            Self::BreakerOpen => "breaker_open",
            Self::Credentials => "credentials",
            Self::Unpriced => "unpriced",
            Self::Shed => "shed",
            Self::ModelDrift => "model_drift",
        }
    }

    /// Whether it watches the gateway as a whole, and not a call: only the project's defaults can turn
    /// it off.
    #[must_use]
    pub const fn is_of_gateway(self) -> bool {
        match self {
            Self::Credentials | Self::Unpriced | Self::Shed | Self::ModelDrift => true,
            Self::ErrorRate
            | Self::BurnRate
            | Self::LatencyBudget
            | Self::LatencyBaseline
            | Self::FirstToken
            | Self::TokensIn
            | Self::TokensOut
            | Self::Quality
            | Self::Coverage
            | Self::NoTraffic
            | Self::BreakerOpen => false,
        }
    }

    /// The rule of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// How urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should look during the day.
    Warn,
    /// Somebody should be woken.
    Page,
}

impl Severity {
    /// The severity in one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Page => "page",
        }
    }
}

/// How far an alert has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The rule holds, but not for long enough yet.
    Pending,
    /// Somebody is told.
    Firing,
    /// It is over.
    Resolved,
}

/// What a rule watches where: an alert is known by it, so that the same trouble is told once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// The rule.
    pub rule: Rule,
    /// The call; empty for what concerns all of Backstay, such as shed records.
    pub call: String,
    /// The release, where the rule tells releases apart.
    pub release: Option<String>,
    /// The target, where the rule tells targets apart.
    pub target: Option<String>,
    /// What else tells two alerts of a rule apart: the rung of `quality`, for example.
    pub detail: Option<String>,
}

/// One alert, from its first sign to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its identity; another outbreak of the same trouble is another alert.
    pub id: CallId,
    /// What is wrong where.
    pub subject: Subject,
    /// How urgent it is, or was at its worst.
    pub severity: Severity,
    /// How far it has come.
    pub stage: Stage,
    /// When the rule first held, in milliseconds since the epoch.
    pub started_ms: u64,
    /// When somebody was first told.
    pub fired_ms: Option<u64>,
    /// When it was over.
    pub resolved_ms: Option<u64>,
    /// What is wrong, in one sentence.
    pub summary: String,
    /// The figures that made the rule hold.
    pub arithmetic: String,
    /// What was measured,
    pub value: Option<f64>,
    /// and what it was held against.
    pub threshold: Option<f64>,
    /// The release that most of the bad calls were answered by.
    pub release: Option<String>,
    /// The variant of most of them.
    pub variant: Option<Variant>,
    /// The failure class of most of them.
    pub top_failure: Option<String>,
    /// At most three of them.
    pub samples: Vec<CallId>,
}

/// Keeps alerts from being told for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Its identity.
    pub id: CallId,
    /// The call that it is about; all if absent.
    pub call: Option<String>,
    /// The rule that it is about; all if absent.
    pub rule: Option<Rule>,
    /// Why: whoever finds the silence has to understand it.
    pub reason: String,
    /// Who made it: the name of an API key, or `local`.
    pub by: String,
    /// When it was made, in milliseconds since the epoch,
    pub created_ms: u64,
    /// and when it ends.
    pub expires_ms: u64,
}

impl Silence {
    /// Whether it covers an alert at `now_ms`.
    #[must_use]
    pub fn covers(&self, subject: &Subject, now_ms: u64) -> bool {
        (self.created_ms..self.expires_ms).contains(&now_ms)
            && self.call.as_ref().is_none_or(|call| *call == subject.call)
            && self.rule.is_none_or(|rule| rule == subject.rule)
    }
}
