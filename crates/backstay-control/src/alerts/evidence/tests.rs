//! Samples out of a log in which what is looked for is rare, or young, or of another kind.

use std::time::Duration;

use backstay_core::{
    alert::{Severity, Stage, Subject},
    record::{CallRecord, Degraded, OutcomeReport, Variant},
};
use backstay_store::{Entry, MemoryStore, RecordStore};

use super::*;

const NOW: u64 = 1_795_651_200_000;
const MINUTE: u64 = 60_000;

fn record(minutes_ago: u64, n: u64, outcome: Outcome) -> CallRecord {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&n.to_be_bytes());
    CallRecord {
        id: CallId::new(Duration::from_millis(NOW - minutes_ago * MINUTE), random),
        call: "a".to_owned(),
        release: None,
        variant: Variant::Stable,
        protocol: "native".to_owned(),
        stream: false,
        unit: None,
        outcome,
        degraded: Degraded::None,
        message: None,
        violation: None,
        latency_us: 1000,
        first_token_us: None,
        overhead_us: 0,
        usage: None,
        cost: None,
        fingerprint: None,
        finish: None,
        trace: None,
        model: None,
        upstream_id: None,
        attempts: Vec::new(),
        request: None,
        answer: None,
        rejected: None,
    }
}

/// A log of such calls, with what consumers said of some, in this order.
fn log(calls: Vec<CallRecord>, said: &[(CallId, bool)]) -> MemoryStore {
    let mut store = MemoryStore::new();
    let calls = calls.into_iter().map(|record| Entry::Call(Box::new(record)));
    store.append(&calls.collect::<Vec<_>>()).unwrap();
    let report = |&(call_id, ok): &(CallId, bool)| {
        let (score, reason, expected) = (None, None, None);
        Entry::Outcome(OutcomeReport { call_id, ok, score, reason, expected, reported_ms: NOW })
    };
    store.append(&said.iter().map(report).collect::<Vec<_>>()).unwrap();
    store
}

fn samples_of(rule: Rule, detail: Option<&str>, log: &MemoryStore) -> Vec<CallId> {
    let subject = Subject {
        rule,
        call: "a".to_owned(),
        release: None,
        target: None,
        detail: detail.map(str::to_owned),
    };
    let alert = Alert {
        id: CallId::default(),
        subject,
        severity: Severity::Warn,
        stage: Stage::Firing,
        started_ms: NOW,
        fired_ms: None,
        resolved_ms: None,
        summary: String::new(),
        arithmetic: String::new(),
        value: None,
        threshold: None,
        release: None,
        variant: None,
        top_failure: None,
        samples: Vec::new(),
    };
    samples(&alert, None, NOW, log)
}

#[test]
fn calls_of_no_use_are_found_behind_hundreds_of_others() {
    let early: Vec<_> = (0..5).map(|n| record(40, n, Outcome::Ok)).collect();
    let [first, second, third, fourth, turned] = [0, 1, 2, 3, 4].map(|n| early[n].id);
    let newer = (5..605).map(|n| record(10, n, Outcome::Ok));
    let other = CallRecord { call: "b".to_owned(), ..record(30, 605, Outcome::Ok) };
    let said = [
        (turned, false),
        (first, false),
        (second, false),
        (third, true),
        (other.id, false),
        (third, false),
        (fourth, true),
        (turned, true),
    ];
    let log = log(early.into_iter().chain(newer).chain([other]).collect(), &said);
    let found = samples_of(Rule::Quality, Some("consumer"), &log);
    assert_eq!(found, [third, second, first], "what was said last, newest first, of this call");
}

#[test]
fn what_nothing_was_heard_of_is_of_the_hour_that_is_judged() {
    let failed = |class| Outcome::Failed(class);
    let calls = vec![
        record(5, 0, Outcome::Ok),
        record(70, 1, Outcome::Ok),
        record(71, 2, Outcome::Ok),
        record(72, 3, failed(FailureClass::BadRequest)),
        record(73, 4, failed(FailureClass::Schema)),
        record(130, 5, Outcome::Ok),
    ];
    let ids: Vec<_> = calls.iter().map(|record| record.id).collect();
    let log = log(calls, &[(ids[2], true)]);
    assert_eq!(samples_of(Rule::Coverage, None, &log), [ids[1], ids[4]]);
}
