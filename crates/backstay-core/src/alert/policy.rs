//! What a call's project says of its alerts. Not part of a release: who is told of what changes no
//! answer.

use std::{collections::BTreeSet, time::Duration};

use super::{Rule, machine::Timing};

/// The settings of a call's rules.
#[derive(Clone, Debug, PartialEq)]
pub struct CallAlerts {
    /// Rules that do not watch this call.
    pub off: BTreeSet<Rule>,
    /// What one call in twenty may exceed; absent: 80 % of the deadline.
    pub latency_p95: Option<Duration>,
    /// What one stream in twenty may take to begin; absent: 1.5 times the usual.
    pub first_token_p95: Option<Duration>,
    /// Share of the calls of 30 days that are to succeed; absent: no burn-rate rule.
    pub slo: Option<f64>,
    /// How long until somebody is told again.
    pub renotify: Duration,
}

impl Default for CallAlerts {
    fn default() -> Self {
        Self {
            off: BTreeSet::new(),
            latency_p95: None,
            first_token_p95: None,
            slo: None,
            renotify: Duration::from_secs(4 * 3600),
        }
    }
}

impl CallAlerts {
    /// How long things have to last for `rule`.
    #[must_use]
    pub fn timing(&self, rule: Rule) -> Timing {
        let (hold, clear) = rule.about().lasts;
        let millis = |seconds: u64| seconds * 1000;
        let renotify_ms = u64::try_from(self.renotify.as_millis()).unwrap_or(u64::MAX);
        Timing { hold_ms: millis(hold), clear_ms: millis(clear), renotify_ms }
    }
}
