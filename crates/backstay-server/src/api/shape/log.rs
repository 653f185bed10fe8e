//! Rows and records of the call log as they are told.

use backstay_core::record::{AttemptKind, AttemptRecord, CallRecord, Cost, OutcomeReport, Usage};
use backstay_store::{CallRow, StoredCall};

use super::figures::{MILLI, float};
use crate::api::types::{
    AttemptItem, CostItem, CostState, LogEntry, LogRow, RecordItem, ReportItem, TokenUsage,
    ViolationItem,
};

fn milli(micros: u64) -> f64 {
    float(micros) / MILLI
}

/// A row of the log.
pub(in crate::api) fn row(row: CallRow) -> LogRow {
    LogRow {
        id: row.id.to_string(),
        at_ms: row.id.unix_millis(),
        call: row.call,
        release: row.release,
        variant: row.variant.name().to_owned(),
        outcome: row.outcome.name().to_owned(),
        outcome_code: row.outcome.code().to_owned(),
        degraded: row.degraded.name().to_owned(),
        message: row.message,
        stream: row.stream,
        latency_ms: milli(row.latency_us),
        first_token_ms: row.first_token_us.map(milli),
        usage: row.usage.map(usage),
        cost: cost(row.cost),
        model: row.model,
        target: row.target,
        attempts: row.attempts.into(),
        consumer_ok: row.consumer_ok,
        unit: row.unit,
        seq: row.seq,
    }
}

/// One whole call.
pub(in crate::api) fn entry(stored: StoredCall) -> LogEntry {
    let StoredCall { seq, record, reports } = stored;
    let consumer_ok = reports.last().map(|report| report.ok);
    let attempts = u64::try_from(record.attempts.len()).unwrap_or(u64::MAX);
    let row = LogRow {
        id: record.id.to_string(),
        at_ms: record.id.unix_millis(),
        call: record.call.clone(),
        release: record.release.clone(),
        variant: record.variant.name().to_owned(),
        outcome: record.outcome.name().to_owned(),
        outcome_code: record.outcome.code().to_owned(),
        degraded: record.degraded.name().to_owned(),
        message: record.message.clone(),
        stream: record.stream,
        latency_ms: milli(record.latency_us),
        first_token_ms: record.first_token_us.map(milli),
        usage: record.usage.map(usage),
        cost: cost(record.cost),
        model: record.model.clone(),
        target: record.attempts.last().map(|attempt| attempt.target.clone()),
        attempts,
        consumer_ok,
        unit: record.unit.clone(),
        seq,
    };
    LogEntry { row, record: details(record), reports: reports.into_iter().map(report).collect() }
}

fn details(record: CallRecord) -> RecordItem {
    RecordItem {
        attempts: record.attempts.into_iter().map(attempt).collect(),
        violation: record.violation.map(|violation| ViolationItem {
            path: violation.path,
            rule: violation.rule,
            reason: violation.reason,
        }),
        request: record.request,
        answer: record.answer,
        rejected: record.rejected,
        upstream_id: record.upstream_id,
        fingerprint: record.fingerprint,
        finish: record.finish,
        trace_id: record.trace.map(|trace| trace.trace_id()),
        unit: record.unit,
        protocol: record.protocol,
        overhead_ms: milli(record.overhead_us),
    }
}

fn attempt(attempt: AttemptRecord) -> AttemptItem {
    let kind = match attempt.kind {
        AttemptKind::First => "first",
        AttemptKind::Retry => "retry",
        AttemptKind::Fallback => "fallback",
        AttemptKind::Repair => "repair",
    };
    AttemptItem {
        target: attempt.target,
        kind: kind.to_owned(),
        failure: attempt.failure.map(|class| class.code().to_owned()),
        message: attempt.message,
        started_ms: milli(attempt.started_us),
        took_ms: milli(attempt.took_us),
        first_token_ms: attempt.first_token_us.map(milli),
        status: attempt.status,
        retry_after_ms: attempt.retry_after_ms,
        usage: attempt.usage.map(usage),
        cost: cost(attempt.cost),
    }
}

fn report(report: OutcomeReport) -> ReportItem {
    let OutcomeReport { call_id: _, ok, score, reason, expected, reported_ms } = report;
    ReportItem { ok, score, reason, expected, reported_ms }
}

fn usage(usage: Usage) -> TokenUsage {
    TokenUsage {
        input: usage.input,
        output: usage.output,
        cache_read: usage.cache_read,
        cache_write: usage.cache_write,
        input_media: usage.input_media,
        reasoning: usage.reasoning,
        output_media: usage.output_media,
        estimated: usage.estimated,
    }
}

fn cost(cost: Option<Cost>) -> CostItem {
    let state = cost.map(|cost| match cost {
        Cost::Priced(_) => CostState::Priced,
        Cost::Free => CostState::Free,
        Cost::Unknown => CostState::Unknown,
    });
    CostItem { state, usd: cost.and_then(Cost::usd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_cost_is_not_free() {
        let told = |of| (cost(of).state, cost(of).usd);
        assert_eq!(told(None), (None, None));
        assert_eq!(told(Some(Cost::Unknown)), (Some(CostState::Unknown), None));
        assert_eq!(told(Some(Cost::Free)), (Some(CostState::Free), Some(0.0)));
        assert_eq!(told(Some(Cost::Priced(250_000_000))), (Some(CostState::Priced), Some(0.25)));
    }
}
