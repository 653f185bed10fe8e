//! Alerts and silences, and what became of tests.

use std::{io::Write, time::Duration};

use backstay_core::{
    alert::{Alert, Rule, Severity, Silence, Stage},
    record::CallId,
};
use serde_json::{Value, json};

use super::{BAD, BOLD, DIM, GOOD, WARN, json_line, moment, out, styled, written};

/// Alerts, each with the silence that covers it.
pub(crate) fn alerts(
    alerts: &[(&Alert, Option<CallId>)],
    history: bool,
    json: bool,
) -> anyhow::Result<()> {
    if json {
        return alerts.iter().try_for_each(|(alert, silence)| json_line(&fields(alert, *silence)));
    }
    if alerts.is_empty() {
        let none = if history { "No alerts." } else { "No alerts: nothing is firing or pending." };
        return written(writeln!(out(), "{none}"));
    }
    alerts.iter().try_for_each(|(alert, silence)| written(write_alert(alert, *silence)))
}

fn fields(alert: &Alert, silence: Option<CallId>) -> Value {
    let subject = &alert.subject;
    json!({
        "id": alert.id,
        "rule": subject.rule,
        "call": subject.call,
        "release": alert.release.as_ref().or(subject.release.as_ref()),
        "variant": alert.variant,
        "target": subject.target,
        "detail": subject.detail,
        "severity": alert.severity,
        "state": alert.stage,
        "started_ms": alert.started_ms,
        "fired_ms": alert.fired_ms,
        "resolved_ms": alert.resolved_ms,
        "summary": alert.summary,
        "arithmetic": alert.arithmetic,
        "value": alert.value,
        "threshold": alert.threshold,
        "top_failure": alert.top_failure,
        "samples": alert.samples,
        "silenced_by": silence,
    })
}

fn write_alert(alert: &Alert, silence: Option<CallId>) -> std::io::Result<()> {
    let mut out = out();
    let (style, stage) = match (alert.stage, alert.severity) {
        (Stage::Pending, _) => (WARN, "pending"),
        (Stage::Firing, Severity::Warn) => (WARN, "firing"),
        (Stage::Firing, Severity::Page) => (BAD, "firing"),
        (Stage::Resolved, _) => (GOOD, "resolved"),
    };
    let subject = &alert.subject;
    let call = if subject.call.is_empty() { "all calls" } else { &subject.call };
    writeln!(
        out,
        "{}  {}  {}: {}",
        styled(style, &format!("{stage:<8}")),
        alert.severity.name(),
        styled(BOLD, call),
        subject.rule.name(),
    )?;
    writeln!(out, "  {}", alert.summary)?;
    let samples: Vec<_> = alert.samples.iter().map(ToString::to_string).collect();
    let release = alert.release.clone().or_else(|| subject.release.clone());
    let until = alert.resolved_ms.map(|at| format!("{} UTC", moment(at)));
    let facts = [
        ("id", Some(alert.id.to_string())),
        ("since", Some(format!("{} UTC", moment(alert.started_ms)))),
        ("until", until),
        ("release", release),
        ("variant", alert.variant.map(|variant| variant.name().to_owned())),
        ("target", subject.target.clone()),
        ("concerns", subject.detail.clone()),
        ("top failure", alert.top_failure.clone()),
        ("figures", Some(alert.arithmetic.clone())),
        ("samples", Some(samples.join(", ")).filter(|samples| !samples.is_empty())),
        ("silenced by", silence.map(|id| id.to_string())),
    ];
    for (name, value) in facts {
        if let Some(value) = value {
            writeln!(out, "  {} {value}", styled(DIM, &format!("{name:<12}")))?;
        }
    }
    Ok(())
}

/// What became of a test.
pub(crate) fn tested(receiver: &str, fault: Option<&str>, json: bool) -> anyhow::Result<()> {
    if json {
        return json_line(&json!({ "receiver": receiver, "ok": fault.is_none(), "error": fault }));
    }
    let mut out = out();
    written(match fault {
        None => writeln!(out, "{} {receiver} took it", styled(GOOD, "ok:")),
        Some(why) => writeln!(out, "{} {receiver}: {why}", styled(BAD, "failed:")),
    })
}

pub(crate) fn silenced(silence: &Silence, json: bool) -> anyhow::Result<()> {
    if json {
        return json_line(silence);
    }
    let until = moment(silence.expires_ms);
    written(writeln!(
        out(),
        "{}  silences {} until {until} UTC\nEnd it with `backstay alerts unsilence {}`.",
        silence.id,
        covered(silence),
        silence.id
    ))
}

pub(crate) fn unsilenced(silence: &Silence, json: bool) -> anyhow::Result<()> {
    if json {
        return json_line(silence);
    }
    written(writeln!(out(), "{}  ended; it silenced {}", silence.id, covered(silence)))
}

pub(crate) fn silences(silences: &[Silence], now_ms: u64, json: bool) -> anyhow::Result<()> {
    if json {
        return silences.iter().try_for_each(json_line);
    }
    if silences.is_empty() {
        return written(writeln!(out(), "No silences."));
    }
    let mut out = out();
    for silence in silences {
        // Whole minutes are enough of what is left.
        let left = Duration::from_secs((silence.expires_ms.saturating_sub(now_ms)) / 60_000 * 60);
        writeln!(
            out,
            "{}  {}  until {} UTC ({} left), by {}\n  {}",
            silence.id,
            styled(BOLD, &covered(silence)),
            moment(silence.expires_ms),
            humantime::format_duration(left),
            silence.by,
            silence.reason
        )?;
    }
    Ok(())
}

fn covered(silence: &Silence) -> String {
    match (&silence.call, silence.rule.map(Rule::name)) {
        (None, None) => "all alerts".to_owned(),
        (Some(call), None) => format!("all alerts of {call}"),
        (None, Some(rule)) => format!("{rule} of all calls"),
        (Some(call), Some(rule)) => format!("{rule} of {call}"),
    }
}
