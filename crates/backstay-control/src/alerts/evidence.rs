//! What an alert shows besides its figures: the release, variant and failure of most of its calls, and
//! the ids of three of them.

use std::collections::BTreeMap;

use backstay_core::{
    alert::{Alert, Rule},
    failure::{FailureClass, Rung},
    record::{CallId, Outcome},
    rollup::Level,
};
use backstay_store::{CallRow, Filter, RecordReader, Verdict};

use super::history::{Entry, History, Limits};

/// Ids that an alert carries.
const SAMPLES: usize = 3;
/// Calls that are looked through for those that were slow or long.
const LOOKED_THROUGH: usize = 200;

/// How many of an entry's calls made the alert.
fn weight(alert: &Alert, entry: &Entry) -> u64 {
    let subject = &alert.subject;
    if subject.release.is_some() && subject.release != entry.key.release {
        return 0;
    }
    let outcome = entry.key.outcome;
    let all_if = |holds: bool| if holds { entry.calls } else { 0 };
    match subject.rule {
        Rule::ErrorRate | Rule::BurnRate => all_if(outcome.is_error()),
        Rule::LatencyBudget => entry.slow,
        Rule::LatencyBaseline => entry.unusual,
        Rule::FirstToken => entry.late,
        Rule::Quality if of_consumers(alert) => entry.useless,
        Rule::Quality => all_if(stops_before(subject.detail.as_deref(), outcome)),
        Rule::BreakerOpen | Rule::Credentials => {
            all_if(outcome.is_error() && entry.key.target == subject.target)
        }
        Rule::Unpriced => entry.unpriced,
        Rule::TokensIn | Rule::TokensOut | Rule::Coverage | Rule::NoTraffic => entry.calls,
        Rule::ModelDrift | Rule::Shed => 0,
    }
}

/// Whether it is what consumers said that made the alert.
fn of_consumers(alert: &Alert) -> bool {
    alert.subject.rule == Rule::Quality && alert.subject.detail.as_deref() == Some("consumer")
}

/// Whether an answer with this outcome stood on the rung right below the one of that name.
fn stops_before(rung: Option<&str>, outcome: Outcome) -> bool {
    let below =
        Rung::ALL.iter().zip(Rung::ALL.iter().skip(1)).find(|(_, next)| Some(next.name()) == rung);
    below.is_some_and(|(below, _)| outcome.rung() == Some(*below))
}

/// Says which release, variant and failure most of the bad calls of the last hour had.
pub(super) fn attribute(alert: &mut Alert, history: &History, now_ms: u64) {
    let (mut keys, mut failures) = (BTreeMap::new(), BTreeMap::new());
    for entry in history.entries(now_ms.saturating_sub(Level::Hour.millis()), now_ms) {
        let weight = weight(alert, entry);
        if weight == 0 {
            continue;
        }
        *keys.entry((entry.key.release.clone(), entry.key.variant)).or_insert(0_u64) += weight;
        if let Some(class) = entry.key.outcome.failure() {
            *failures.entry(class.code()).or_insert(0_u64) += weight;
        }
    }
    if let Some(((release, variant), _)) = keys.into_iter().max_by_key(|(_, weight)| *weight) {
        alert.release = alert.subject.release.clone().or(release);
        alert.variant = Some(variant);
    }
    let top = failures.into_iter().max_by_key(|(_, weight)| *weight);
    alert.top_failure = top.map(|(class, _)| class.to_owned());
}

/// The ids of three calls that show what is wrong; fewer if there are fewer, or if the log cannot be
/// read.
pub(super) fn samples(
    alert: &Alert,
    limits: Option<&Limits>,
    now_ms: u64,
    records: &dyn RecordReader,
) -> Vec<CallId> {
    let subject = &alert.subject;
    if subject.rule == Rule::Shed {
        return Vec::new();
    }
    let back = match subject.rule {
        Rule::NoTraffic => Level::Day.millis(),
        Rule::Coverage => 2 * Level::Hour.millis(),
        Rule::ErrorRate
        | Rule::BurnRate
        | Rule::LatencyBudget
        | Rule::LatencyBaseline
        | Rule::FirstToken
        | Rule::TokensIn
        | Rule::TokensOut
        | Rule::Quality
        | Rule::BreakerOpen
        | Rule::Credentials
        | Rule::Unpriced
        | Rule::Shed
        | Rule::ModelDrift => Level::Hour.millis(),
    };
    let verdict = verdict(alert);
    // What is younger than an hour may still be heard of, and was not counted.
    let aged = subject.rule == Rule::Coverage;
    let filter = Filter {
        call: (!subject.call.is_empty()).then(|| subject.call.clone()),
        release: subject.release.clone(),
        target: subject.target.clone(),
        outcomes: outcomes(alert),
        verdict,
        since_ms: Some(now_ms.saturating_sub(back)),
        until_ms: aged.then(|| now_ms.saturating_sub(Level::Hour.millis())),
        limit: if verdict.is_some() { SAMPLES } else { LOOKED_THROUGH },
        ..Filter::default()
    };
    let mut rows = match records.calls(&filter) {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!(%error, "an alert goes without the ids of calls");
            return Vec::new();
        }
    };
    pick(alert, limits, &mut rows);
    rows.into_iter().take(SAMPLES).map(|row| row.id).collect()
}

/// What consumers said of the calls that are looked for, where that made the alert.
fn verdict(alert: &Alert) -> Option<Verdict> {
    match alert.subject.rule {
        Rule::Quality => of_consumers(alert).then_some(Verdict::Useless),
        Rule::Coverage => Some(Verdict::Unheard),
        Rule::ErrorRate
        | Rule::BurnRate
        | Rule::LatencyBudget
        | Rule::LatencyBaseline
        | Rule::FirstToken
        | Rule::TokensIn
        | Rule::TokensOut
        | Rule::NoTraffic
        | Rule::BreakerOpen
        | Rule::Credentials
        | Rule::Unpriced
        | Rule::Shed
        | Rule::ModelDrift => None,
    }
}

/// The outcomes of the calls that are looked for; empty means all.
fn outcomes(alert: &Alert) -> Vec<Outcome> {
    let of = |holds: &dyn Fn(Outcome) -> bool| -> Vec<Outcome> {
        FailureClass::ALL.into_iter().map(Outcome::Failed).filter(|it| holds(*it)).collect()
    };
    match alert.subject.rule {
        Rule::ErrorRate | Rule::BurnRate => of(&Outcome::is_error),
        Rule::Quality => of(&|outcome| stops_before(alert.subject.detail.as_deref(), outcome)),
        // Of a call that says nothing of the model nothing is expected to be heard.
        Rule::Coverage => {
            let answered = [Outcome::Ok, Outcome::Repaired].into_iter();
            answered.chain(of(&|outcome| outcome.rung().is_some())).collect()
        }
        Rule::LatencyBudget
        | Rule::LatencyBaseline
        | Rule::FirstToken
        | Rule::TokensIn
        | Rule::TokensOut
        | Rule::NoTraffic
        | Rule::BreakerOpen
        | Rule::Credentials
        | Rule::Unpriced
        | Rule::Shed
        | Rule::ModelDrift => Vec::new(),
    }
}

/// Puts those first that show it best; the newest ones where all do.
fn pick(alert: &Alert, limits: Option<&Limits>, rows: &mut Vec<CallRow>) {
    let limits = limits.copied().unwrap_or_default();
    let shorter = alert.value.is_some_and(|sum| sum < 0.0);
    let by_length = |rows: &mut Vec<CallRow>, length: &dyn Fn(&CallRow) -> Option<u64>| {
        rows.retain(|row| length(row).is_some());
        rows.sort_by_key(length);
        if !shorter {
            rows.reverse();
        }
    };
    match alert.subject.rule {
        Rule::LatencyBudget => rows.retain(|row| row.latency_us > limits.budget_us),
        Rule::LatencyBaseline => {
            rows.retain(|row| limits.usual_us.is_some_and(|limit| row.latency_us > limit));
        }
        Rule::FirstToken => rows.retain(|row| row.first_token_us > limits.first_us),
        Rule::TokensIn => by_length(rows, &|row| row.usage.map(|usage| usage.input)),
        Rule::TokensOut => by_length(rows, &|row| row.usage.map(|usage| usage.output)),
        Rule::BreakerOpen | Rule::Credentials => rows.sort_by_key(|row| !row.outcome.is_error()),
        Rule::Quality
        | Rule::Coverage
        | Rule::ErrorRate
        | Rule::BurnRate
        | Rule::NoTraffic
        | Rule::Unpriced
        | Rule::Shed
        | Rule::ModelDrift => {}
    }
}

#[cfg(test)]
mod tests;
