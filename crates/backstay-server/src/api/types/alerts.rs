//! Alerts, rules and silences.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every rule with its state, and what is firing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Alerts {
    /// The rules, in the order of the manual.
    pub(crate) rules: Vec<RuleItem>,
    /// What is firing, the most urgent first.
    pub(crate) firing: Vec<AlertItem>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct RuleItem {
    /// Its name.
    pub(crate) rule: String,
    /// What it watches, in a few words.
    pub(crate) title: String,
    /// What it watches, in a sentence or two.
    pub(crate) explains: String,
    /// How urgent it can become.
    pub(crate) severity: RuleSeverity,
    /// Its state for each call.
    pub(crate) calls: Vec<RuleStand>,
}

/// How urgent an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RuleSeverity {
    /// Somebody should look during the day.
    Warn,
    /// Somebody should be woken.
    Page,
}

/// The state of a rule for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RuleState {
    /// It does not hold.
    Ok,
    /// It holds, but not for long enough yet.
    Pending,
    /// Somebody is told.
    Firing,
    /// Too few calls to say anything.
    Insufficient,
    /// It does not know yet what is usual.
    Learning,
    /// The project turned it off.
    Off,
}

/// A rule for one call.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct RuleStand {
    /// The call; `null` for what concerns all of Backstay.
    pub(crate) call: Option<String>,
    /// The release, where the rule tells releases apart.
    pub(crate) release: Option<String>,
    /// The target, where the rule tells targets apart.
    pub(crate) target: Option<String>,
    /// What else tells two of them apart.
    pub(crate) detail: Option<String>,
    /// Its state,
    pub(crate) state: RuleState,
    /// and since when.
    pub(crate) since_ms: Option<u64>,
    /// What was measured,
    pub(crate) value: Option<f64>,
    /// what it was held against,
    pub(crate) threshold: Option<f64>,
    /// and the unit of both.
    pub(crate) unit: String,
    /// The figures in a sentence.
    pub(crate) arithmetic: String,
}

/// How far an alert has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AlertState {
    /// The rule holds, but not for long enough yet.
    Pending,
    /// Somebody is told.
    Firing,
    /// It is over.
    Resolved,
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct AlertItem {
    /// Its id.
    pub(crate) id: String,
    /// The rule.
    pub(crate) rule: String,
    /// The call; `null` for what concerns all of Backstay.
    pub(crate) call: Option<String>,
    /// The release that most of the bad calls were answered by.
    pub(crate) release: Option<String>,
    /// The variant of most of them.
    pub(crate) variant: Option<String>,
    /// The target, where the rule tells targets apart.
    pub(crate) target: Option<String>,
    /// What else tells two alerts of a rule apart.
    pub(crate) detail: Option<String>,
    /// How urgent it is, or was at its worst.
    pub(crate) severity: RuleSeverity,
    /// How far it has come.
    pub(crate) state: AlertState,
    /// When the rule first held.
    pub(crate) started_ms: u64,
    /// When somebody was first told.
    pub(crate) fired_ms: Option<u64>,
    /// When it was over.
    pub(crate) resolved_ms: Option<u64>,
    /// What is wrong, in one sentence.
    pub(crate) summary: String,
    /// The figures that made the rule hold.
    pub(crate) arithmetic: String,
    /// What was measured,
    pub(crate) value: Option<f64>,
    /// and what it was held against.
    pub(crate) threshold: Option<f64>,
    /// The failure class of most of the bad calls.
    pub(crate) top_failure: Option<String>,
    /// The ids of at most three of them.
    pub(crate) samples: Vec<String>,
    /// Where the dashboard shows it.
    pub(crate) link: String,
    /// The silence that keeps it from being told.
    pub(crate) silenced_by: Option<String>,
}

/// Alerts of the past, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct History {
    /// The alerts.
    pub(crate) alerts: Vec<AlertItem>,
    /// The `before_ms` of the next page; `null` at the end.
    pub(crate) next_ms: Option<u64>,
}

/// The silences that are in force or were of late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Silences {
    /// The silences, newest first.
    pub(crate) silences: Vec<SilenceItem>,
}

/// Keeps alerts from being told for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct SilenceItem {
    /// Its id.
    pub(crate) id: String,
    /// The call that it is about; all if `null`.
    pub(crate) call: Option<String>,
    /// The rule that it is about; all if `null`.
    pub(crate) rule: Option<String>,
    /// Why.
    pub(crate) reason: String,
    /// When it was made,
    pub(crate) created_ms: u64,
    /// and when it ends.
    pub(crate) expires_ms: u64,
    /// The name of the key that made it, or `local`.
    pub(crate) by: String,
}

/// A silence to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSilence {
    /// The call; all if left out.
    pub(crate) call: Option<String>,
    /// The rule; all if left out.
    pub(crate) rule: Option<String>,
    /// Why: whoever finds the silence has to understand it.
    #[schema(min_length = 1, max_length = 500)]
    pub(crate) reason: String,
    /// How long, from now; at most 30 days.
    #[schema(minimum = 1, maximum = 43_200)]
    pub(crate) minutes: u64,
}
