//! Calls: as lines of a list, and one as a waterfall of its attempts.

use std::io::Write;

use backstay_core::record::{AttemptKind, AttemptRecord, CallRecord, Cost, Degraded};
use backstay_store::{CallRow, StoredCall};
use serde_json::json;

use super::prices::{cost_json, money};
use super::{BAD, BOLD, DIM, GOOD, json_line, moment, out, outcome_style, styled, time, written};

/// Width of the waterfall, in characters.
const BAR: u64 = 40;

pub(crate) fn calls(rows: &[CallRow], json: bool) -> anyhow::Result<()> {
    if json {
        return more_calls(rows, json);
    }
    if rows.is_empty() {
        return written(writeln!(out(), "No calls. Send one, or widen the filter."));
    }
    let head = format!(
        "{:<36}  {:<12}  {:<24}  {:<22}  {:>8}  {:>3}  {:>11}  {:>10}  TARGET",
        "ID", "TIME (UTC)", "RELEASE", "OUTCOME", "LATENCY", "ATT", "TOKENS", "COST"
    );
    written(writeln!(out(), "{}", styled(DIM, &head)))?;
    more_calls(rows, json)
}

/// Lines without a head.
pub(crate) fn more_calls(rows: &[CallRow], json: bool) -> anyhow::Result<()> {
    for row in rows {
        if json {
            json_line(&row_json(row))?;
        } else {
            written(writeln!(out(), "{}", line(row)))?;
        }
    }
    Ok(())
}

/// A row with the names that people filter by, and the exact code of its outcome beside.
fn row_json(row: &CallRow) -> serde_json::Value {
    let mut value = json!(row);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("outcome".to_owned(), row.outcome.name().into());
        fields.insert("outcome_code".to_owned(), row.outcome.code().into());
        fields.insert("cost".to_owned(), cost_json(row.cost));
        fields.insert("at_ms".to_owned(), row.id.unix_millis().into());
    }
    value
}

fn line(row: &CallRow) -> String {
    let outcome = match row.degraded {
        Degraded::None => row.outcome.code().to_owned(),
        Degraded::Stale | Degraded::Static | Degraded::Message => {
            format!("{} → {}", row.outcome.code(), row.degraded.name())
        }
    };
    let tokens = row.usage.map_or_else(
        || "–".to_owned(),
        |u| format!("{}{}/{}", if u.estimated { "~" } else { "" }, u.input, u.output),
    );
    let at = moment(row.id.unix_millis());
    format!(
        "{}  {:<12}  {:<24}  {}  {:>8}  {:>3}  {:>11}  {:>10}  {}",
        row.id,
        at.get(11..).unwrap_or(&at),
        row.release.as_deref().unwrap_or(&row.call),
        styled(outcome_style(row.outcome, row.degraded), &format!("{outcome:<22}")),
        time(row.latency_us),
        row.attempts,
        tokens,
        money(row.cost, row.usage),
        row.target.as_deref().unwrap_or("–"),
    )
}

pub(crate) fn call(stored: &StoredCall, json: bool) -> anyhow::Result<()> {
    if json {
        return json_line(stored);
    }
    written(write_call(stored))
}

fn write_call(stored: &StoredCall) -> std::io::Result<()> {
    let record = &stored.record;
    let mut out = out();
    let style = outcome_style(record.outcome, record.degraded);
    let name = record.release.as_deref().unwrap_or(&record.call);
    writeln!(out, "{}  {}", styled(BOLD, name), styled(style, record.outcome.code()))?;
    writeln!(out, "{}", styled(DIM, &record.id.to_string()))?;
    for (label, value) in facts(record) {
        writeln!(out, "  {label:<12} {value}")?;
    }
    if !record.attempts.is_empty() {
        writeln!(out, "\n{}", styled(BOLD, "Attempts"))?;
    }
    for (number, attempt) in record.attempts.iter().enumerate() {
        write_attempt(&mut out, number + 1, attempt, record.latency_us)?;
    }
    let texts = [
        ("Request", &record.request),
        ("Rejected answer", &record.rejected),
        ("Answered", &record.answer),
    ];
    for (title, text) in texts {
        if let Some(text) = text {
            writeln!(out, "\n{}\n{text}", styled(BOLD, title))?;
        }
    }
    for report in &stored.reports {
        let verdict = if report.ok { styled(GOOD, "of use") } else { styled(BAD, "of no use") };
        let reason = report.reason.as_deref().unwrap_or_default();
        writeln!(out, "\nConsumer, {}: {verdict} {reason}", moment(report.reported_ms))?;
    }
    Ok(())
}

fn facts(record: &CallRecord) -> Vec<(&'static str, String)> {
    let mut facts = vec![("at", format!("{} UTC", moment(record.id.unix_millis())))];
    let kind = if record.stream { "stream" } else { "whole answer" };
    facts.push(("asked by", format!("{}, {kind}", record.protocol)));
    facts.extend(record.unit.clone().map(|unit| ("unit", unit)));
    let first = record.first_token_us.map(|us| format!(", first content {}", time(us)));
    facts.push((
        "took",
        format!(
            "{}{} (Backstay's own {})",
            time(record.latency_us),
            first.unwrap_or_default(),
            time(record.overhead_us)
        ),
    ));
    facts.extend(record.model.clone().map(|model| ("model", model)));
    facts.extend(record.usage.map(|u| {
        let cached =
            if u.cache_read > 0 { format!(" ({} cached)", u.cache_read) } else { String::new() };
        let guess = if u.estimated { ", estimated: the provider did not say" } else { "" };
        ("tokens", format!("{} in{cached}, {} out{guess}", u.input, u.output))
    }));
    facts.extend(record.cost.map(|cost| {
        let hint = if cost == Cost::Unknown { "; `backstay prices` says why" } else { "" };
        ("cost", format!("{}{hint}", money(Some(cost), record.usage)))
    }));
    facts.extend(record.message.clone().map(|message| ("failed", message)));
    facts.extend(record.violation.clone().map(|violation| {
        ("violation", format!("{} at {}: {}", violation.rule, violation.path, violation.reason))
    }));
    facts.push(("answered", answered(record)));
    facts
}

/// What the client got, and why.
fn answered(record: &CallRecord) -> String {
    let why = record.outcome.code();
    match (record.degraded, record.outcome.failure()) {
        (Degraded::Stale, _) => format!("the last good answer to the same request, after {why}"),
        (Degraded::Static, _) => format!("the release's static answer, after {why}"),
        (Degraded::Message, _) => format!("a message that names the failure, after {why}"),
        (Degraded::None, None) if record.outcome == backstay_core::record::Outcome::Repaired => {
            "the model's answer, after mending or repair".to_owned()
        }
        (Degraded::None, None) => "the model's answer".to_owned(),
        (Degraded::None, Some(_)) => format!("an error or refusal that names the failure: {why}"),
    }
}

fn write_attempt(
    out: &mut impl Write,
    number: usize,
    attempt: &AttemptRecord,
    total_us: u64,
) -> std::io::Result<()> {
    let total = total_us.max(1);
    let start = (attempt.started_us * BAR / total).min(BAR - 1);
    let width = (attempt.took_us * BAR).div_ceil(total).clamp(1, BAR - start);
    let (start, width) = (usize::try_from(start).unwrap_or(0), usize::try_from(width).unwrap_or(1));
    let style = if attempt.failure.is_some() { BAD } else { GOOD };
    let bar = format!("{}{}", " ".repeat(start), styled(style, &"━".repeat(width)));
    let pad = " ".repeat(usize::try_from(BAR).unwrap_or(0).saturating_sub(start + width));
    let ended = attempt.failure.map_or("ok", |class| class.code());
    let kind = match attempt.kind {
        AttemptKind::First => "first",
        AttemptKind::Retry => "retry",
        AttemptKind::Fallback => "fallback",
        AttemptKind::Repair => "repair",
    };
    let status = attempt.status.map(|status| format!(" [{status}]")).unwrap_or_default();
    let cost = attempt.cost.map(|cost| format!("  {}", money(Some(cost), attempt.usage)));
    writeln!(
        out,
        "  {number} {bar}{pad} {:>8}  {kind:<8} {}  {}{status}{}",
        time(attempt.took_us),
        attempt.target,
        styled(style, ended),
        cost.unwrap_or_default(),
    )?;
    match &attempt.message {
        Some(message) => writeln!(out, "    {}", styled(DIM, message)),
        None => Ok(()),
    }
}
