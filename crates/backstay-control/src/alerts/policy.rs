//! What the project says of each call, as far as alerts need it.

use std::{collections::BTreeMap, time::Duration};

use backstay_core::{alert::policy::CallAlerts, config::Project, release::CallSpec};

/// What one call may do, and by which rules it is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its deadline.
    pub deadline: Duration,
    /// The share of its calls that may fail.
    pub max_error_rate: f64,
    /// Its rules.
    pub alerts: CallAlerts,
}

impl Policy {
    fn of(spec: &CallSpec, alerts: &CallAlerts) -> Self {
        let budget = &spec.budget;
        let (deadline, max_error_rate) = (budget.deadline, budget.max_error_rate);
        Self { deadline, max_error_rate, alerts: alerts.clone() }
    }

    /// What one call in twenty may exceed.
    #[must_use]
    pub fn latency_p95(&self) -> Duration {
        self.alerts.latency_p95.unwrap_or(self.deadline * 4 / 5)
    }
}

/// What the project says of all calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Policies {
    /// Its calls by name.
    pub calls: BTreeMap<String, Policy>,
    /// Everything else: plain targets, under whatever name.
    pub direct: Policy,
}

impl Default for Policies {
    /// Those of an empty project.
    fn default() -> Self {
        let direct = Policy::of(&CallSpec::direct(), &CallAlerts::default());
        Self { calls: BTreeMap::new(), direct }
    }
}

impl Policies {
    /// What `project` says.
    #[must_use]
    pub fn new(project: &Project) -> Self {
        let calls = project.calls.iter().map(|(name, spec)| {
            let alerts = project.alerts.get(name).unwrap_or(&project.direct_alerts);
            (name.clone(), Policy::of(spec, alerts))
        });
        Self { calls: calls.collect(), direct: Policy::of(&project.direct, &project.direct_alerts) }
    }

    /// What it says of the call of this name.
    #[must_use]
    pub fn of(&self, call: &str) -> &Policy {
        self.calls.get(call).unwrap_or(&self.direct)
    }
}
