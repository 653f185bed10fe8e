//! Rules about what is there or not: breakers, credentials, prices, records, models.

use std::collections::BTreeMap;

use backstay_core::{
    alert::{
        Rule, Severity, Subject,
        reading::{Reading, Verdict},
    },
    failure::FailureClass,
    rollup::Level,
};
use backstay_store::{Accounting, ErrorKind, ModelSeen, StoreError};

use super::{EngineView, history::History, rules::fact};

const HOUR_MS: u64 = Level::Hour.millis();
const DAY_MS: u64 = Level::Day.millis();
/// Records that are given up count for so long.
const SHED_MS: u64 = Level::Minute.millis();

/// Breakers that are not closed.
pub(super) fn breakers(view: &EngineView) -> Vec<(Subject, Reading)> {
    let breakers = view.breakers.iter().map(|(call, target)| {
        let subject = Subject {
            rule: Rule::BreakerOpen,
            call: call.clone(),
            release: None,
            target: Some(target.clone()),
            detail: None,
        };
        let summary = format!("the breaker of {target} is open");
        let why = format!("{target} is not asked, or only by a probe, after too many failures");
        (subject, fact(Severity::Warn, summary, why))
    });
    breakers.collect()
}

/// Targets that are left alone because they refuse the credentials.
pub(super) fn refused(view: &EngineView) -> impl Iterator<Item = &str> {
    let refused = view.holds.iter().filter(|(_, class)| *class == FailureClass::UpstreamAuth);
    refused.map(|(target, _)| target.as_str())
}

/// A target refuses the credentials.
pub(super) fn credentials(target: &str) -> (Subject, Reading) {
    let summary = format!("{target} refuses the credentials");
    let why = format!("{target} is left alone after `{}`", FailureClass::UpstreamAuth.name());
    (of_target(Rule::Credentials, target), fact(Severity::Page, summary, why))
}

/// A target refused the credentials and has answered nothing since.
pub(super) fn unproven(target: &str) -> (Subject, Reading) {
    let why = format!("{target} refused the credentials and has not answered since");
    (of_target(Rule::Credentials, target), Reading::plain(Verdict::Lingers, why))
}

/// Why the sums lack what happened lately, if they do.
pub(super) fn stale(accounting: &Accounting, now_ms: u64) -> Option<StoreError> {
    let of = |what: &str, why: &String| {
        StoreError::new(ErrorKind::Io, format!("{what} are not up to date: {why}"))
    };
    let records = accounting.store_error.as_ref().map(|why| of("records of calls", why));
    let sums = || accounting.rollup_error.as_ref().map(|why| of("sums of calls", why));
    let late = || {
        let waits_ms = accounting.behind_ms(now_ms)?;
        let why = format!("they are {} s behind", waits_ms / 1000);
        Some(of("sums of calls", &why))
    };
    records.or_else(sums).or_else(late)
}

fn of_target(rule: Rule, target: &str) -> Subject {
    let target = Some(target.to_owned());
    Subject { rule, call: String::new(), release: None, target, detail: None }
}

/// How many records were given up, and when the number last grew.
#[derive(Clone, Debug, Default)]
pub(super) struct Shed {
    known: Option<u64>,
    grew: Option<(u64, u64)>,
}

impl Shed {
    /// What is to be said of `accounting` at `now_ms`. The first look after a start only counts what
    /// was given up since the start.
    pub(super) fn reading(&mut self, accounting: &Accounting, now_ms: u64) -> (Subject, Reading) {
        // Late and mistyped reports of consumers are no trouble of the store.
        let total = accounting.lost();
        let more = total.saturating_sub(self.known.unwrap_or_default());
        self.known = Some(total);
        if more > 0 {
            self.grew = Some((now_ms, more));
        }
        let subject = Subject { target: None, ..of_target(Rule::Shed, "") };
        let mut reading = match self.grew {
            Some((at, more)) if now_ms.saturating_sub(at) < SHED_MS => fact(
                Severity::Page,
                format!("{more} records of calls were given up"),
                format!(
                    "{total} of {} records were given up since the start, {more} of them just now",
                    accounting.received,
                ),
            ),
            Some(_) | None => Reading::plain(
                Verdict::Clear,
                format!("{total} of {} records were given up since the start", accounting.received),
            ),
        };
        (reading.value, reading.threshold) = (Some(to_f64(total)), Some(0.0));
        (subject, reading)
    }
}

/// Targets whose calls of the last hour have no price.
pub(super) fn unpriced<'a>(
    histories: impl Iterator<Item = (&'a str, &'a History)>,
    now_ms: u64,
) -> Vec<(Subject, Reading)> {
    let mut by_target: BTreeMap<&str, (u64, Vec<&str>)> = BTreeMap::new();
    for (call, history) in histories {
        let entries = history.entries(now_ms.saturating_sub(HOUR_MS), now_ms);
        for entry in entries.filter(|entry| entry.unpriced > 0) {
            let target = entry.key.target.as_deref().unwrap_or_default();
            let (count, calls) = by_target.entry(target).or_default();
            *count += entry.unpriced;
            if calls.last() != Some(&call) {
                calls.push(call);
            }
        }
    }
    let readings = by_target.into_iter().map(|(target, (count, calls))| {
        let summary = format!("nobody knows what {count} calls of {target} cost");
        let named: Vec<&str> = calls.iter().take(3).copied().collect();
        let why = format!(
            "{count} calls in 1 h have no price; they are of {}{}",
            named.join(", "),
            if calls.len() > 3 { " and others" } else { "" }
        );
        let reading = Reading { value: Some(to_f64(count)), ..fact(Severity::Warn, summary, why) };
        (of_target(Rule::Unpriced, target), reading)
    });
    readings.collect()
}

/// Targets that another model, or another build, has answered for since an hour.
pub(super) fn drift(models: &[ModelSeen], now_ms: u64) -> Vec<(Subject, Reading)> {
    let mut by_target: BTreeMap<&str, Vec<&ModelSeen>> = BTreeMap::new();
    for seen in models {
        by_target.entry(&seen.target).or_default().push(seen);
    }
    let readings = by_target.into_iter().filter_map(|(target, mut seen)| {
        seen.sort_by_key(|seen| seen.first_ms);
        let (new, old) = seen.split_last()?;
        let before = old.iter().max_by_key(|seen| (seen.last_ms, seen.first_ms))?;
        let age = now_ms.saturating_sub(new.first_ms);
        if age >= HOUR_MS || new.first_ms > now_ms {
            return None;
        }
        let another = old.iter().all(|seen| seen.model != new.model);
        // Several builds of a model take turns in its first day: that is how providers roll out.
        let first = old.first().map_or(0, |seen| seen.first_ms);
        let last = old.last().map_or(0, |seen| seen.first_ms);
        let settled = new.first_ms.saturating_sub(last) >= DAY_MS;
        let news = another || (settled && first < new.first_ms);
        if !news {
            return None;
        }
        let name = |seen: &ModelSeen| {
            let build = seen.fingerprint.as_ref();
            build.map_or_else(|| seen.model.clone(), |build| format!("{} ({build})", seen.model))
        };
        let summary = format!("{target} answers as {}, before as {}", name(new), name(before));
        let why = format!(
            "{} answered {} calls of {target}, the first one {} min ago; before it {} answered {}",
            name(new),
            new.calls,
            age / 60_000,
            name(before),
            before.calls
        );
        Some((of_target(Rule::ModelDrift, target), fact(Severity::Warn, summary, why)))
    });
    readings.collect()
}

#[expect(clippy::cast_precision_loss, reason = "a count is told to a few digits")]
fn to_f64(count: u64) -> f64 {
    count as f64
}
