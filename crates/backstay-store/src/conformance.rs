//! What every store promises, as tests that know nothing of its insides. A store is handed over as a
//! function that opens it: a writer, a reader and a registry on the same, empty place.

mod alerts;

use std::{collections::BTreeMap, time::Duration};

use backstay_core::rollup::Level;
use backstay_core::{
    failure::{Cut, FailureClass, Phase, Violation},
    record::{
        AttemptKind, AttemptRecord, CallId, CallRecord, Cost, Degraded, Outcome, OutcomeReport,
        Usage, Variant,
    },
};
use proptest::prelude::*;

use crate::{
    Appended, Entry, ErrorKind, Filter, KeyRow, Lookup, ModelSeen, RecordReader, RecordStore,
    RegistryStore, Retained, Retention, RollupFilter, RollupReader, StoreError, StoredCall,
    Verdict,
};

/// 2026-11-23, noon.
pub(crate) const NOON: u64 = 1_795_435_200_000;
pub(crate) const DAY: u64 = 24 * 3600 * 1000;

/// A store and whatever must live as long as it does.
pub(crate) struct Opened {
    pub(crate) writer: Box<dyn RecordStore>,
    pub(crate) reader: Box<dyn RecordReader>,
    pub(crate) rollups: Box<dyn RollupReader>,
    pub(crate) registry: Box<dyn RegistryStore>,
    pub(crate) _keep: Option<tempfile::TempDir>,
}

pub(crate) fn id(started_ms: u64, n: u64) -> CallId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&n.to_be_bytes());
    CallId::new(Duration::from_millis(started_ms), random)
}

/// A record with every field set.
pub(crate) fn full(started_ms: u64, n: u64) -> CallRecord {
    let attempt = |kind, failure| AttemptRecord {
        target: "openai/gpt-5-mini".to_owned(),
        kind,
        failure,
        message: Some("the answer violates the schema".to_owned()),
        started_us: 12,
        took_us: 340_000,
        first_token_us: Some(120_000),
        status: Some(200),
        retry_after_ms: Some(1_500),
        usage: Some(Usage { input: 450, output: 40, estimated: true, ..Usage::default() }),
        cost: Some(Cost::Priced(77_000)),
    };
    CallRecord {
        id: id(started_ms, n),
        call: "extract-invoice".to_owned(),
        release: Some("extract-invoice@7".to_owned()),
        variant: Variant::Pinned,
        protocol: "openai".to_owned(),
        stream: true,
        unit: Some("user-17".to_owned()),
        outcome: Outcome::Failed(FailureClass::Timeout(Phase::Headers)),
        degraded: Degraded::Stale,
        message: Some("no status line within 10 s".to_owned()),
        violation: Some(Violation {
            path: "$.total".to_owned(),
            rule: "type".to_owned(),
            reason: "\"x\" is not a number".to_owned(),
        }),
        latency_us: 345_678,
        first_token_us: Some(123_456),
        overhead_us: 210,
        usage: Some(Usage {
            input: 900,
            output: 80,
            cache_read: 512,
            cache_write: 3,
            cache_write_1h: 2,
            input_media: 11,
            reasoning: 4,
            output_media: 5,
            estimated: true,
        }),
        cost: Some(Cost::Priced(1_234_567)),
        fingerprint: Some("fp_1".to_owned()),
        finish: Some("stop".to_owned()),
        trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().ok(),
        model: Some("gpt-5-mini-2026-08-07".to_owned()),
        upstream_id: Some(format!("chatcmpl-{n}")),
        attempts: vec![
            attempt(AttemptKind::First, Some(FailureClass::Schema)),
            attempt(AttemptKind::Repair, Some(FailureClass::Truncated(Cut::Length))),
            attempt(AttemptKind::Retry, Some(FailureClass::RateLimited)),
            AttemptRecord {
                target: "anthropic/claude-haiku-4-5".to_owned(),
                ..attempt(AttemptKind::Fallback, None)
            },
        ],
        request: Some("{\"messages\":[{\"role\":\"user\",\"content\":\"grüß\u{0}\"}]}".to_owned()),
        answer: Some("{\"total\":1}".to_owned()),
        rejected: Some("{\"total\":\"x\"}".to_owned()),
    }
}

/// A record with nothing set that may be missing.
pub(crate) fn bare(started_ms: u64, n: u64) -> CallRecord {
    CallRecord {
        call: "default".to_owned(),
        release: None,
        variant: Variant::Direct,
        stream: false,
        unit: None,
        outcome: Outcome::Ok,
        degraded: Degraded::None,
        message: None,
        violation: None,
        first_token_us: None,
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
        ..full(started_ms, n)
    }
}

pub(crate) fn call(record: CallRecord) -> Entry {
    Entry::Call(Box::new(record))
}

pub(crate) fn report(call_id: CallId, ok: bool, reported_ms: u64) -> OutcomeReport {
    OutcomeReport {
        call_id,
        ok,
        score: Some(0.5),
        reason: Some("wrong total".to_owned()),
        expected: Some(serde_json::json!({"total": 42.5, "a": [null, true]})),
        reported_ms,
    }
}

pub(crate) fn found(reader: &dyn RecordReader, id: &str) -> Option<StoredCall> {
    match reader.call(id).unwrap() {
        Lookup::Found(call) => Some(*call),
        Lookup::Missing => None,
        Lookup::Ambiguous(ids) => panic!("{id} is ambiguous: {ids:?}"),
    }
}

fn ids(reader: &dyn RecordReader, filter: &Filter) -> Vec<CallId> {
    reader.calls(filter).unwrap().into_iter().map(|row| row.id).collect()
}

pub(crate) fn a_record_reads_back_whole(open: impl Fn() -> Opened) {
    let mut store = open();
    assert_eq!(ids(&*store.reader, &Filter::default()), []);
    let records = [full(NOON, 1), bare(NOON + 1, 2)];
    store.writer.append(&records.clone().map(call)).unwrap();
    for record in &records {
        let stored = found(&*store.reader, &record.id.to_string()).unwrap();
        assert_eq!(stored.record, *record);
        assert_eq!(stored.reports, []);
    }
    let rows = store.reader.calls(&Filter::default()).unwrap();
    let [second, first] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!(first.target.as_deref(), Some("anthropic/claude-haiku-4-5"));
    assert_eq!((first.attempts, second.attempts), (4, 0));
    assert_eq!(second.target, None);
    assert_eq!(first.usage, records[0].usage);
    assert_eq!(first.outcome, records[0].outcome);
    assert_eq!(first.degraded, Degraded::Stale);
    assert_eq!(first.consumer_ok, None);
}

pub(crate) fn appending_again_changes_nothing(open: impl Fn() -> Opened) {
    let mut store = open();
    let record = full(NOON, 1);
    let batch = [
        call(record.clone()),
        call(record.clone()),
        Entry::Outcome(report(record.id, false, NOON + 5)),
        Entry::Outcome(report(record.id, false, NOON + 6)),
        Entry::Outcome(report(record.id, true, NOON + 7)),
    ];
    store.writer.append(&batch).unwrap();
    let once = found(&*store.reader, &record.id.to_string());
    store.writer.append(&batch).unwrap();
    assert_eq!(found(&*store.reader, &record.id.to_string()), once);
    let expected = [report(record.id, false, NOON + 5), report(record.id, true, NOON + 7)];
    assert_eq!(once.unwrap().reports, expected);
    let rows = store.reader.calls(&Filter::default()).unwrap();
    assert_eq!(rows.iter().map(|row| row.consumer_ok).collect::<Vec<_>>(), [Some(true)]);
}

pub(crate) fn the_last_verdict_of_a_call_is_the_one_that_is_asked_for(open: impl Fn() -> Opened) {
    let mut store = open();
    let midnight = NOON + DAY / 2;
    let calls = [midnight - 2, midnight - 1, midnight, midnight + 1].map(|at| full(at, at));
    store.writer.append(&calls.clone().map(call)).unwrap();
    let [early, changed, late, silent] = calls.map(|record| record.id);
    let of = |verdict| Filter { verdict: Some(verdict), ..Filter::default() };
    assert_eq!(ids(&*store.reader, &of(Verdict::Unheard)), [silent, late, changed, early]);
    let told = |call_id, ok, after| Entry::Outcome(report(call_id, ok, NOON + after));
    let said = [told(early, true, 1), told(changed, true, 2), told(late, false, 3)];
    store.writer.append(&said).unwrap();
    assert_eq!(ids(&*store.reader, &of(Verdict::Useful)), [changed, early]);
    // It is the last that was stored that counts, whenever its consumer says it was made.
    store.writer.append(&[told(changed, false, 0), told(late, false, 9)]).unwrap();
    let asked = |verdict| ids(&*store.reader, &of(verdict));
    assert_eq!(Verdict::ALL.map(asked), [vec![early], vec![late, changed], vec![silent]]);
    let counted = |verdict| store.reader.counts(&of(verdict)).unwrap().calls;
    assert_eq!(Verdict::ALL.map(counted), [1, 2, 1]);
    let followed = Filter { after: Some(0), ..of(Verdict::Useless) };
    assert_eq!(ids(&*store.reader, &followed), [changed, late], "in the order of storing");
    assert_eq!(ids(&*store.reader, &Filter { limit: 1, ..of(Verdict::Useless) }), [late]);
}

pub(crate) fn a_report_without_its_day_is_counted(open: impl Fn() -> Opened) {
    let mut store = open();
    let kept = full(NOON, 1);
    let batch = [
        Entry::Outcome(report(id(NOON - 40 * DAY, 9), true, NOON)),
        // The report before its call, in one batch.
        Entry::Outcome(report(kept.id, true, NOON)),
        call(kept.clone()),
    ];
    assert_eq!(store.writer.append(&batch).unwrap(), Appended { expired: 1, unmatched: 0 });
    assert_eq!(found(&*store.reader, &kept.id.to_string()).unwrap().reports.len(), 1);
}

pub(crate) fn a_report_finds_its_call_by_the_providers_id(open: impl Fn() -> Opened) {
    let mut store = open();
    let named = |n, at| CallRecord { upstream_id: Some(format!("chatcmpl-{n}")), ..full(at, n) };
    let (old, lately, today) = (named(1, NOON - 9 * DAY), named(2, NOON - DAY), named(3, NOON));
    let days = (2..8).map(|n| call(bare(NOON - n * DAY, 90 + n)));
    let days: Vec<_> = days.chain([call(old.clone()), call(lately.clone())]).collect();
    store.writer.append(&days).unwrap();
    let response =
        |n: u64, ok| Entry::Response(format!("chatcmpl-{n}"), report(CallId::default(), ok, NOON));
    let batch = [response(1, true), response(2, false), response(3, true), call(today.clone())];
    let unknown = [response(4, true)];
    assert_eq!(store.writer.append(&batch).unwrap(), Appended { expired: 0, unmatched: 1 });
    assert_eq!(store.writer.append(&unknown).unwrap(), Appended { expired: 0, unmatched: 1 });
    store.writer.append(&batch).unwrap();
    let reports =
        |record: &CallRecord| found(&*store.reader, &record.id.to_string()).unwrap().reports;
    assert_eq!(reports(&old), [], "too many days ago");
    assert_eq!(reports(&lately), [report(lately.id, false, NOON)]);
    assert_eq!(reports(&today), [report(today.id, true, NOON)]);
}

fn roll_up(store: &mut Opened) {
    while store.writer.roll_up().unwrap() {}
}

fn minutes(since_ms: u64, until_ms: u64) -> RollupFilter {
    RollupFilter { level: Level::Minute, since_ms, until_ms, call: None, release: None }
}

pub(crate) fn calls_are_summed_where_they_began(open: impl Fn() -> Opened) {
    let mut store = open();
    let ok = |at, n| CallRecord { outcome: Outcome::Ok, ..full(at, n) };
    let calls = [ok(NOON, 1), ok(NOON + 59_999, 2), ok(NOON + 60_000, 3), full(NOON, 4)];
    let entries: Vec<_> = calls.iter().cloned().map(call).collect();
    store.writer.append(&entries).unwrap();
    roll_up(&mut store);
    store.writer.append(&[Entry::Outcome(report(calls[0].id, false, NOON + DAY))]).unwrap();
    roll_up(&mut store);
    let found = store.rollups.rollups(&minutes(NOON, NOON + 60_000)).unwrap();
    assert_eq!(found.iter().map(|r| r.cell.calls).collect::<Vec<_>>(), [2, 1]);
    assert!(found.iter().all(|r| r.start_ms == NOON));
    let good = &found.iter().find(|r| r.key.outcome == Outcome::Ok).unwrap().cell;
    assert_eq!((good.useful, good.useless), (0, 1), "a late verdict counts where its call does");
    assert_eq!(good.nano_usd.sum(), 2 * 1_234_567);
    assert_eq!(good.latency_us.count(), 2);
    assert_eq!((good.stale, good.attempts, good.estimated), (2, 8, 2));
    for (level, start_ms) in [(Level::Hour, NOON), (Level::Day, NOON - DAY / 2)] {
        let filter = RollupFilter { level, ..minutes(0, u64::MAX) };
        let found = store.rollups.rollups(&filter).unwrap();
        assert_eq!(found.iter().map(|r| r.cell.calls).sum::<u64>(), 4);
        assert!(found.iter().all(|r| r.start_ms == start_ms));
    }
    for (call, release, cells) in
        [(Some("other"), None, 0), (Some("extract-invoice"), Some("extract-invoice@7"), 3)]
    {
        let filter = RollupFilter {
            call: call.map(str::to_owned),
            release: release.map(str::to_owned),
            ..minutes(0, u64::MAX)
        };
        assert_eq!(store.rollups.rollups(&filter).unwrap().len(), cells);
    }
}

pub(crate) fn models_that_answered_are_remembered(open: impl Fn() -> Opened) {
    let mut store = open();
    let by = |model: &str, at, n| CallRecord { model: Some(model.to_owned()), ..full(at, n) };
    let calls = [by("m-2", NOON + 5, 1), by("m-1", NOON + 9, 2), by("m-1", NOON, 3), bare(NOON, 4)];
    store.writer.append(&calls.map(call)).unwrap();
    roll_up(&mut store);
    let seen = |model: &str, first_ms, last_ms, calls| ModelSeen {
        target: "anthropic/claude-haiku-4-5".to_owned(),
        model: model.to_owned(),
        fingerprint: Some("fp_1".to_owned()),
        first_ms,
        last_ms,
        calls,
    };
    let expected = [seen("m-1", NOON, NOON + 9, 2), seen("m-2", NOON + 5, NOON + 5, 1)];
    assert_eq!(store.rollups.models().unwrap(), expected);
}

pub(crate) fn ids_may_be_shortened(open: impl Fn() -> Opened) {
    let mut store = open();
    let (a, b, c) = (full(NOON, 1), full(NOON, 2), full(NOON - 2 * DAY, 3));
    store.writer.append(&[call(a.clone()), call(b.clone()), call(c.clone())]).unwrap();
    let text = c.id.to_string();
    for prefix in [&text[..8], &text[..12], &text.replace('-', ""), &text.to_uppercase()] {
        assert_eq!(found(&*store.reader, prefix).unwrap().record, c, "{prefix}");
    }
    assert_eq!(store.reader.call(&text[..7]).unwrap(), Lookup::Missing);
    assert_eq!(store.reader.call("").unwrap(), Lookup::Missing);
    assert_eq!(store.reader.call(&"f".repeat(500)).unwrap(), Lookup::Missing);
    let shared = &a.id.to_string()[..8];
    assert_eq!(store.reader.call(shared).unwrap(), Lookup::Ambiguous(vec![a.id, b.id]));
    for record in [&a, &b, &c] {
        let upstream = record.upstream_id.as_deref().unwrap();
        assert_eq!(found(&*store.reader, upstream).unwrap().record, *record);
    }
}

pub(crate) fn a_follower_misses_nothing(open: impl Fn() -> Opened) {
    let mut store = open();
    let midnight = NOON + DAY / 2;
    // Stored in the order in which they end, across midnight.
    let order = [midnight - 5, midnight + 2, midnight - 9, midnight + 1, midnight - 1];
    let mut seen = Vec::new();
    let mut filter = Filter { after: Some(0), limit: 2, ..Filter::default() };
    for (n, started) in (0..).zip(order) {
        store.writer.append(&[call(bare(started, n))]).unwrap();
        if n % 2 == 1 {
            for row in store.reader.calls(&filter).unwrap() {
                filter.after = Some(row.seq);
                seen.push(row.id);
            }
        }
    }
    seen.extend(ids(&*store.reader, &filter));
    let expected: Vec<_> = (0..).zip(order).map(|(n, started)| id(started, n)).collect();
    assert_eq!(seen, expected);
}

pub(crate) fn retention_drops_whole_days(open: impl Fn() -> Opened) {
    let mut store = open();
    let days = [0, 1, 3, 9];
    for age in days {
        store.writer.append(&[call(full(NOON - age * DAY, age))]).unwrap();
    }
    let keep = |bodies, metadata| Retention {
        bodies: Duration::from_millis(bodies * DAY),
        metadata: Duration::from_millis(metadata * DAY),
        rollups: Duration::from_millis(400 * DAY),
    };
    // The day before yesterday ended 1.5 days before noon: older than one day, not than two.
    let retained = store.writer.retain(NOON, &keep(2, 7)).unwrap();
    assert_eq!(retained, Retained { body_days: 2, call_days: 1 });
    let state = |age: u64| {
        let stored = found(&*store.reader, &id(NOON - age * DAY, age).to_string());
        stored.map(|stored| stored.record.request.is_some())
    };
    assert_eq!(days.map(state), [Some(true), Some(true), Some(false), None]);
    let again = store.writer.retain(NOON, &keep(2, 7)).unwrap();
    assert_eq!(again, Retained::default());
    // Metadata that goes takes the bodies along, whatever their own time is.
    let retained = store.writer.retain(NOON + DAY, &keep(90, 1)).unwrap();
    assert_eq!(retained, Retained { body_days: 1, call_days: 2 });
    assert_eq!(ids(&*store.reader, &Filter::default()), [id(NOON, 0)]);
    let late = [Entry::Outcome(report(id(NOON - DAY, 1), true, NOON))];
    assert_eq!(store.writer.append(&late).unwrap(), Appended { expired: 1, unmatched: 0 });
}

pub(crate) fn releases_count_up(open: impl Fn() -> Opened) {
    let mut registry = open().registry;
    let start = registry.version().unwrap();
    assert_eq!(registry.release_put("a", "sha256:1", "{\"n\":1}", 10).unwrap(), 1);
    assert_eq!(registry.release_put("a", "sha256:2", "{\"n\":2}", 20).unwrap(), 2);
    assert_eq!(registry.release_put("b", "sha256:1", "{\"n\":1}", 30).unwrap(), 1);
    let version = registry.version().unwrap();
    assert!(version > start);
    assert_eq!(registry.release_put("a", "sha256:1", "ignored", 40).unwrap(), 1);
    assert_eq!(registry.version().unwrap(), version, "nothing changed");
    let numbers = |limit| {
        let rows = registry.releases("a", limit).unwrap();
        rows.into_iter().map(|row| row.number).collect::<Vec<_>>()
    };
    assert_eq!((numbers(10), numbers(1)), (vec![2, 1], vec![2]));
    let first = registry.release("a", 1).unwrap().unwrap();
    assert_eq!((first.content_json.as_str(), first.created_ms), ("{\"n\":1}", 10));
    assert_eq!(registry.release("a", 3).unwrap(), None);
    assert_eq!(registry.release("c", 1).unwrap(), None);
}

pub(crate) fn keys_are_named_once(open: impl Fn() -> Opened) {
    let mut registry = open().registry;
    let key = |id: &str, name: &str, created_ms| KeyRow {
        id: id.to_owned(),
        name: name.to_owned(),
        sha256: [7; 32],
        created_ms,
        revoked_ms: None,
    };
    let conflict = |result: Result<(), StoreError>| result.unwrap_err().kind == ErrorKind::Conflict;
    registry.key_create(&key("k1", "app", 10)).unwrap();
    let version = registry.version().unwrap();
    assert!(conflict(registry.key_create(&key("k2", "app", 20))));
    assert!(conflict(registry.key_create(&key("k1", "other", 20))));
    assert_eq!(registry.version().unwrap(), version);
    assert_eq!(registry.key_revoke("nobody", 30).unwrap(), None);
    assert_eq!(registry.version().unwrap(), version);
    // A key whose name is another key's id: the id wins.
    registry.key_create(&key("k3", "k1", 5)).unwrap();
    let revoked = KeyRow { revoked_ms: Some(40), ..key("k1", "app", 10) };
    assert_eq!(registry.key_revoke("k1", 40).unwrap(), Some(revoked.clone()));
    assert!(registry.version().unwrap() > version);
    assert_eq!(registry.key_revoke("app", 50).unwrap(), None, "revoked already");
    registry.key_create(&key("k4", "app", 60)).unwrap();
    let list = registry.key_list().unwrap();
    assert_eq!(list, [key("k3", "k1", 5), revoked, key("k4", "app", 60)]);
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Ok),
        1 => Just(Outcome::Repaired),
        2 => prop::sample::select(FailureClass::ALL.to_vec()).prop_map(Outcome::Failed),
    ]
}

prop_compose! {
    pub(crate) fn any_record()(
        age in 0..4 * DAY,
        outcome in any_outcome(),
        degraded in prop::sample::select(vec![Degraded::None, Degraded::Static]),
        name in prop::sample::select(vec!["a", "b"]),
        release in prop::option::of(1..3u32),
        targets in prop::collection::vec(prop::sample::select(vec!["x/1", "y/2"]), 0..3),
        unit in prop::option::of(prop::sample::select(vec!["alice", "bob", "carol"])),
    ) -> CallRecord {
        let mut record = full(NOON - age, 0);
        record.attempts.truncate(targets.len());
        for (attempt, target) in record.attempts.iter_mut().zip(&targets) {
            attempt.target = (*target).to_owned();
        }
        CallRecord {
            outcome,
            degraded,
            call: name.to_owned(),
            unit: unit.map(str::to_owned),
            release: release.map(|n| format!("{name}@{n}")),
            ..record
        }
    }
}

prop_compose! {
    fn any_filter()(
        call in prop::option::of(prop::sample::select(vec!["a", "b", "c"])),
        release in prop::option::weighted(0.2, prop::sample::select(vec!["a@1", "b@2"])),
        target in prop::option::weighted(0.3, prop::sample::select(vec!["x/1", "y/2", "z/3"])),
        outcomes in prop_oneof![
            Just("none of these"), Just("ok"), Just("timeout"), Just("timeout_idle"),
        ],
        units in prop::sample::subsequence(vec!["alice", "bob"], 0..2),
        flags in any::<(bool, bool)>(),
        verdict in prop::option::weighted(0.3, prop::sample::select(Verdict::ALL.to_vec())),
        since in prop::option::of(0..4 * DAY),
        until in prop::option::of(0..4 * DAY),
        limit in 0..40usize,
    ) -> Filter {
        Filter {
            call: call.map(str::to_owned),
            release: release.map(str::to_owned),
            target: target.map(str::to_owned),
            outcomes: Filter::outcomes_named(outcomes),
            units: units.into_iter().map(str::to_owned).collect(),
            failures_only: flags.0,
            degraded_only: flags.1,
            verdict,
            since_ms: since.map(|age| NOON - age),
            until_ms: until.map(|age| NOON - age),
            limit,
            ..Filter::default()
        }
    }
}

/// Against a filter written as a plain condition on the records.
pub(crate) fn filters_select_what_they_say(open: impl Fn() -> Opened) {
    let cases = ProptestConfig { cases: 40, ..ProptestConfig::default() };
    let records = prop::collection::vec(any_record(), 0..40);
    let filters = prop::collection::vec(any_filter(), 1..10);
    // Verdicts on calls by their place, in the order in which they come; some calls have several.
    let verdicts = prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..40);
    let mut runner = proptest::test_runner::TestRunner::new(cases);
    let result = runner.run(&(records, verdicts, filters), |(mut records, verdicts, filters)| {
        let mut store = open();
        for (n, record) in (0..).zip(&mut records) {
            record.id = id(record.id.unix_millis(), n);
        }
        store.writer.append(&records.iter().cloned().map(call).collect::<Vec<_>>()).unwrap();
        let mut last = BTreeMap::new();
        for (at_ms, (place, ok)) in (NOON..).zip(verdicts).filter(|_| !records.is_empty()) {
            let call_id = place.get(&records).id;
            // Each says something else: the same once more would change nothing.
            let reason = Some(at_ms.to_string());
            let report = OutcomeReport { reason, ..report(call_id, ok, at_ms) };
            store.writer.append(&[Entry::Outcome(report)]).unwrap();
            last.insert(call_id, ok);
        }
        records.sort_unstable_by_key(|record| std::cmp::Reverse(record.id));
        for filter in filters {
            let admits =
                |record: &&CallRecord| filter.admits(record, last.get(&record.id).copied());
            let admitted: Vec<_> = records.iter().filter(admits).collect();
            let page: Vec<_> = admitted.iter().take(filter.limit).map(|record| record.id).collect();
            prop_assert_eq!(ids(&*store.reader, &filter), page.clone());
            let counts = store.reader.counts(&filter).unwrap();
            prop_assert_eq!(counts.calls, admitted.len() as u64);
            prop_assert_eq!(counts.calls, counts.outcomes.iter().map(|(_, n)| n).sum::<u64>());
            if let Some(last) = page.last() {
                let next = Filter { before: Some(*last), limit: 1000, ..filter.clone() };
                let rest: Vec<_> =
                    admitted.iter().skip(page.len()).map(|record| record.id).collect();
                prop_assert_eq!(ids(&*store.reader, &next), rest);
            }
        }
        Ok(())
    });
    result.unwrap();
}

/// One module of tests a store; `$open` opens an empty one.
macro_rules! conformance {
    ($store:ident, $open:expr) => {
        mod $store {
            use super::*;
            $crate::conformance::conformance!(
                @tests $open;
                a_record_reads_back_whole,
                appending_again_changes_nothing,
                the_last_verdict_of_a_call_is_the_one_that_is_asked_for,
                a_report_without_its_day_is_counted,
                a_report_finds_its_call_by_the_providers_id,
                calls_are_summed_where_they_began,
                models_that_answered_are_remembered,
                ids_may_be_shortened,
                a_follower_misses_nothing,
                retention_drops_whole_days,
                releases_count_up,
                keys_are_named_once,
                filters_select_what_they_say
            );
        }
    };
    (@tests $open:expr; $($name:ident),*) => {
        $(#[test] fn $name() { $crate::conformance::$name($open); })*
    };
}
pub(crate) use conformance;

mod stores {
    use super::Opened;
    use crate::{MemoryStore, SqliteReader, SqliteRecords, SqliteRegistry};

    fn memory() -> Opened {
        let store = MemoryStore::new();
        Opened {
            writer: Box::new(store.clone()),
            reader: Box::new(store.clone()),
            rollups: Box::new(store.clone()),
            registry: Box::new(store),
            _keep: None,
        }
    }

    fn sqlite() -> Opened {
        let dir = tempfile::tempdir().unwrap();
        Opened {
            writer: Box::new(SqliteRecords::open(dir.path()).unwrap()),
            reader: Box::new(SqliteReader::open(dir.path())),
            rollups: Box::new(SqliteReader::open(dir.path())),
            registry: Box::new(SqliteRegistry::open(dir.path()).unwrap()),
            _keep: Some(dir),
        }
    }

    super::conformance!(in_memory, memory);
    super::conformance!(in_sqlite, sqlite);
}
