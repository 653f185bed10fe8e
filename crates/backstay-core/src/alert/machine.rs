//! From readings to alerts: pending, firing, resolved, and who has to be told when.
//!
//! A value and a function. Time is counted in steps of at most [`LONGEST_STEP_MS`]: what nobody watched
//! does not count, so that neither a clock that jumps nor a process that was down fires or ends
//! anything. All of it is kept across restarts.

use serde::{Deserialize, Serialize};

use super::{
    Alert, Severity, Stage, Subject,
    reading::{Reading, Verdict},
};
use crate::record::CallId;

/// The time between two looks counts up to this.
pub const LONGEST_STEP_MS: u64 = 30_000;

/// How long a rule must hold, and how long all must be well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Before somebody is told.
    pub hold_ms: u64,
    /// Before it is over.
    pub clear_ms: u64,
    /// Before somebody is told again.
    pub renotify_ms: u64,
}

/// An alert and what has to be remembered of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tracked {
    /// The alert.
    pub alert: Alert,
    /// When it was last looked at.
    pub seen_ms: u64,
    /// For how long the rule has held,
    pub held_ms: u64,
    /// for how long all has been well,
    pub clear_ms: u64,
    /// and for how long nobody has been told. `None`: never yet.
    pub told_ms_ago: Option<u64>,
    /// What was told last.
    pub told: Option<Severity>,
}

impl Tracked {
    /// An alert that was kept, but of which nothing else is remembered.
    #[must_use]
    pub fn kept(alert: Alert, now_ms: u64) -> Self {
        let told = alert.fired_ms.map(|_| alert.severity);
        let told_ms_ago = told.map(|_| 0);
        Self { alert, seen_ms: now_ms, held_ms: 0, clear_ms: 0, told_ms_ago, told }
    }
}

/// What happened to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It fires now, or is worse than it was.
    Fired,
    /// It still fires, and somebody should be reminded.
    Reminded,
    /// It is over.
    Resolved,
}

/// A change that has to be kept, and perhaps told.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The alert as it is now.
    pub alert: Alert,
    /// What happened.
    pub change: Change,
    /// Whether somebody is to be told.
    pub notify: bool,
}

/// What one look made of a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is remembered; `None`: nothing any more.
    pub tracked: Option<Tracked>,
    /// What changed.
    pub transition: Option<Transition>,
}

/// When a look is taken, and by which rules.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Now, in milliseconds since the epoch.
    pub now_ms: u64,
    /// How long things have to last.
    pub timing: Timing,
    /// Whether a silence covers the subject.
    pub silenced: bool,
}

/// Takes a look at a subject. `new_id` names an alert that begins.
#[must_use]
pub fn step(
    before: Option<Tracked>,
    subject: &Subject,
    reading: &Reading,
    look: &Look,
    new_id: impl FnOnce() -> CallId,
) -> Step {
    let mut tracked = match (before, reading.verdict) {
        (Some(tracked), _) => tracked,
        (None, Verdict::Holds(severity)) => begin(subject, severity, reading, look, new_id()),
        (None, Verdict::Insufficient | Verdict::Learning | Verdict::Clear | Verdict::Lingers) => {
            return Step { tracked: None, transition: None };
        }
    };
    let passed = look.now_ms.saturating_sub(tracked.seen_ms).min(LONGEST_STEP_MS);
    tracked.seen_ms = look.now_ms;
    tracked.told_ms_ago = tracked.told_ms_ago.map(|ago| ago.saturating_add(passed));
    let mut worse = false;
    match reading.verdict {
        Verdict::Holds(severity) => {
            tracked.held_ms = tracked.held_ms.saturating_add(passed);
            tracked.clear_ms = 0;
            worse = worsen(&mut tracked.alert, severity, reading);
        }
        Verdict::Lingers => tracked.clear_ms = 0,
        Verdict::Insufficient | Verdict::Learning | Verdict::Clear => {
            tracked.clear_ms = tracked.clear_ms.saturating_add(passed);
        }
    }
    settle(tracked, reading.verdict, worse, look)
}

fn begin(
    subject: &Subject,
    severity: Severity,
    reading: &Reading,
    look: &Look,
    id: CallId,
) -> Tracked {
    let alert = Alert {
        id,
        subject: subject.clone(),
        severity,
        stage: Stage::Pending,
        started_ms: look.now_ms,
        fired_ms: None,
        resolved_ms: None,
        summary: reading.summary.clone(),
        arithmetic: reading.arithmetic.clone(),
        value: reading.value,
        threshold: reading.threshold,
        release: subject.release.clone(),
        variant: None,
        top_failure: None,
        samples: Vec::new(),
    };
    let told = None;
    Tracked { alert, seen_ms: look.now_ms, held_ms: 0, clear_ms: 0, told_ms_ago: None, told }
}

/// An alert tells what it was at its worst; whether it became worse.
fn worsen(alert: &mut Alert, severity: Severity, reading: &Reading) -> bool {
    if severity < alert.severity {
        return false;
    }
    let worse = severity > alert.severity;
    alert.severity = severity;
    alert.summary.clone_from(&reading.summary);
    alert.arithmetic.clone_from(&reading.arithmetic);
    (alert.value, alert.threshold) = (reading.value, reading.threshold);
    worse
}

/// What follows from the times that have been counted.
fn settle(mut tracked: Tracked, verdict: Verdict, worse: bool, look: &Look) -> Step {
    let holds = matches!(verdict, Verdict::Holds(_));
    let well = !holds && verdict != Verdict::Lingers;
    let mut news = worse && tracked.alert.stage == Stage::Firing;
    match tracked.alert.stage {
        Stage::Pending if !holds => return Step { tracked: None, transition: None },
        Stage::Pending if tracked.held_ms >= look.timing.hold_ms => {
            tracked.alert.stage = Stage::Firing;
            tracked.alert.fired_ms = Some(look.now_ms.max(tracked.alert.started_ms));
            news = true;
        }
        Stage::Pending => return Step { tracked: Some(tracked), transition: None },
        Stage::Firing if well && tracked.clear_ms >= look.timing.clear_ms => {
            return resolve(tracked.alert, tracked.told.is_some(), look.now_ms);
        }
        Stage::Firing | Stage::Resolved => {}
    }
    let unknown = Some(tracked.alert.severity) > tracked.told;
    let forgotten = tracked.told_ms_ago.is_some_and(|ago| ago >= look.timing.renotify_ms);
    let notify = (unknown || forgotten) && !look.silenced;
    if notify {
        tracked.told = Some(tracked.alert.severity);
        tracked.told_ms_ago = Some(0);
    }
    let change = if unknown { Change::Fired } else { Change::Reminded };
    let transition =
        (news || notify).then(|| Transition { alert: tracked.alert.clone(), change, notify });
    Step { tracked: Some(tracked), transition }
}

/// Ends an alert whose subject has been so for long enough to be usual, and says so.
#[must_use]
pub fn end_as_usual(tracked: Tracked, now_ms: u64) -> Transition {
    let Tracked { mut alert, told, .. } = tracked;
    alert.arithmetic.push_str("; it has lasted for a day, and is what is usual from now on");
    over(alert, told.is_some(), now_ms)
}

fn resolve(alert: Alert, was_told: bool, now_ms: u64) -> Step {
    Step { tracked: None, transition: Some(over(alert, was_told, now_ms)) }
}

/// Whoever was told that it began is told that it is over, silence or not: else their incident would
/// stay open.
fn over(mut alert: Alert, was_told: bool, now_ms: u64) -> Transition {
    alert.stage = Stage::Resolved;
    alert.resolved_ms = Some(now_ms.max(alert.fired_ms.unwrap_or(alert.started_ms)));
    Transition { alert, change: Change::Resolved, notify: was_told }
}

#[cfg(test)]
mod tests;
