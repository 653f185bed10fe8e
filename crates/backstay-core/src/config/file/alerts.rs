//! What is typed about the alerts of a call. Read by users, as the rest of [`super`].

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    super::units::{Share, Time},
    words,
};
use crate::alert::{Rule, policy::CallAlerts};

/// What is watched, and by which limits. Not part of a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CallAlertsFile {
    /// Rules that do not watch this call, such as `tokens_in`. Those that watch the gateway as a whole
    /// (`credentials`, `unpriced`, `shed`, `model_drift`) are turned off in `[defaults.alerts]` only.
    #[schemars(schema_with = "rules")]
    pub off: Vec<Rule>,
    /// How long all but one call in twenty may take. Left out, it is 80 % of `budget.deadline`.
    pub latency_p95: Option<Time>,
    /// How long all but one stream in twenty may take to begin. Left out, it is 1.5 times what is
    /// usual for the call.
    pub first_token_p95: Option<Time>,
    /// Share of the calls of 30 days that are to succeed, such as `"99%"`. Left out, there is no
    /// burn-rate rule.
    pub slo: Option<Share>,
    /// How long until someone is told again of what is still wrong.
    pub renotify: Time,
}

impl Default for CallAlertsFile {
    fn default() -> Self {
        let it = CallAlerts::default();
        Self {
            off: it.off.into_iter().collect(),
            latency_p95: it.latency_p95.map(Time),
            first_token_p95: it.first_token_p95.map(Time),
            slo: it.slo.map(Share),
            renotify: Time(it.renotify),
        }
    }
}

fn rules(_: &mut SchemaGenerator) -> Schema {
    let rules = words(&Rule::ALL.map(Rule::name));
    json_schema!({ "type": "array", "items": rules, "uniqueItems": true })
}
