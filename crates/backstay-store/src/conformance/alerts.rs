//! What every store promises about alerts, silences and the outbox.

use backstay_core::{
    alert::{Alert, Rule, Severity, Silence, Stage, Subject},
    record::{CallId, Variant},
};
use proptest::prelude::*;

use super::{DAY, NOON, id};
use crate::{
    AlertStore, ErrorKind, MemoryStore, RegistryStore, SqliteAlerts, SqliteRegistry,
    alerts::{
        AlertChange, AlertFilter, Event, LARGEST_STATE, LONGEST_REASON, LONGEST_SILENCE_MS,
        MOST_NOTICES, MOST_SILENCES, Notice, Queued, ReceiverState, Settled,
    },
};

type Open = fn() -> (Box<dyn AlertStore>, Option<tempfile::TempDir>);

fn memory() -> (Box<dyn AlertStore>, Option<tempfile::TempDir>) {
    (Box::new(MemoryStore::new()), None)
}

fn sqlite() -> (Box<dyn AlertStore>, Option<tempfile::TempDir>) {
    let dir = tempfile::tempdir().unwrap();
    (Box::new(SqliteAlerts::open(dir.path()).unwrap()), Some(dir))
}

pub(crate) fn alert(n: u64, started_ms: u64) -> Alert {
    Alert {
        id: id(started_ms, n),
        subject: Subject {
            rule: Rule::ErrorRate,
            call: "extract-invoice".to_owned(),
            release: Some("extract-invoice@7".to_owned()),
            target: None,
            detail: Some("rung \"parsed\"".to_owned()),
        },
        severity: Severity::Page,
        stage: Stage::Firing,
        started_ms,
        fired_ms: Some(started_ms + 10_000),
        resolved_ms: None,
        summary: "9 of 100 calls failed".to_owned(),
        arithmetic: "9/100 = 9.0 % > 2 %; P(≥9 | 2 %) = 0.0003".to_owned(),
        value: Some(0.09),
        threshold: Some(0.02),
        release: Some("extract-invoice@7".to_owned()),
        variant: Some(Variant::Stable),
        top_failure: Some("malformed".to_owned()),
        samples: vec![id(started_ms, 1), id(started_ms, 2), id(started_ms, 3)],
    }
}

fn resolved(alert: &Alert, resolved_ms: u64) -> Alert {
    Alert { stage: Stage::Resolved, resolved_ms: Some(resolved_ms), ..alert.clone() }
}

fn notice(alert: &Alert, receiver: &str, event: Event, due_ms: u64) -> Notice {
    Notice { alert: alert.id, receiver: receiver.to_owned(), event, due_ms }
}

fn fires(alert: &Alert, receivers: &[&str]) -> AlertChange {
    AlertChange {
        alerts: vec![alert.clone()],
        notices: receivers.iter().map(|r| notice(alert, r, Event::Firing, NOON)).collect(),
        at_ms: NOON,
        ..AlertChange::default()
    }
}

fn silence(n: u64, created_ms: u64, lasts_ms: u64) -> Silence {
    Silence {
        id: id(created_ms, n),
        call: Some("extract-invoice".to_owned()),
        rule: Some(Rule::TokensOut),
        reason: "the new prompt is meant to be longer".to_owned(),
        by: "local".to_owned(),
        created_ms,
        expires_ms: created_ms + lasts_ms,
    }
}

fn a_change_is_kept_as_a_whole(open: Open) {
    let (mut store, _keep) = open();
    assert_eq!(store.load().unwrap().open, []);
    let (first, second) = (alert(1, NOON), alert(2, NOON - 5));
    let change = AlertChange {
        alerts: vec![first.clone(), second.clone()],
        states: vec![("b".to_owned(), Some("{\"n\":1}".to_owned())), ("a".to_owned(), None)],
        notices: vec![notice(&first, "pager", Event::Firing, NOON + 7)],
        at_ms: NOON,
        ..AlertChange::default()
    };
    store.save(&change).unwrap();
    let kept = store.load().unwrap();
    assert_eq!(kept.open, [second.clone(), first.clone()]);
    assert_eq!(kept.states, [("b".to_owned(), "{\"n\":1}".to_owned())]);
    assert_eq!(store.alert(first.id).unwrap(), Some(first.clone()));
    let queued = Queued {
        id: store.outbox("pager", 9).unwrap()[0].id,
        alert: first.clone(),
        event: Event::Firing,
        created_ms: NOON,
        due_ms: NOON + 7,
        attempts: 0,
        told: false,
    };
    assert_eq!(store.outbox("pager", 9).unwrap(), std::slice::from_ref(&queued));
    // The outbox shows an alert as it is, not as it was.
    let worse = Alert { summary: "12 of 100 calls failed".to_owned(), ..first };
    store.save(&AlertChange { alerts: vec![worse.clone()], ..AlertChange::default() }).unwrap();
    let queued = Queued { alert: worse.clone(), ..queued };
    assert_eq!(store.outbox("pager", 9).unwrap(), [queued]);
    let over = AlertChange {
        alerts: vec![resolved(&worse, NOON + 9)],
        forgotten: vec![second.id],
        states: vec![("b".to_owned(), None)],
        ..AlertChange::default()
    };
    store.save(&over).unwrap();
    assert_eq!(store.load().unwrap().open, []);
    assert_eq!(store.load().unwrap().states, []);
    assert_eq!(store.alert(second.id).unwrap(), None);
    assert_eq!(store.alert(worse.id).unwrap(), Some(resolved(&worse, NOON + 9)));
}

fn half_a_change_is_never_kept(open: Open) {
    let (mut store, _keep) = open();
    let (known, unknown) = (alert(1, NOON), alert(2, NOON));
    let stranger = AlertChange {
        alerts: vec![known.clone()],
        states: vec![("a".to_owned(), Some("1".to_owned()))],
        notices: vec![
            notice(&known, "pager", Event::Firing, NOON),
            notice(&unknown, "pager", Event::Firing, NOON),
        ],
        ..AlertChange::default()
    };
    assert_eq!(store.save(&stranger).unwrap_err().kind, ErrorKind::Conflict);
    let large = AlertChange {
        alerts: vec![known.clone()],
        states: vec![("a".to_owned(), Some("1".repeat(LARGEST_STATE + 1)))],
        ..AlertChange::default()
    };
    let error = store.save(&large).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(error.message.contains("`a`"), "{error}");
    assert_eq!(store.load().unwrap().open, []);
    assert_eq!(store.load().unwrap().states, []);
    assert_eq!(store.outbox("pager", 9).unwrap(), []);
}

fn history_is_paged_without_a_gap(open: Open) {
    let (mut store, _keep) = open();
    // Five evaluations with four alerts each, which began in the same millisecond.
    let alerts: Vec<_> = (0..20).map(|n| alert(n, NOON + n / 4 * 10_000)).collect();
    store.save(&AlertChange { alerts: alerts.clone(), ..AlertChange::default() }).unwrap();
    let mut seen = Vec::new();
    let mut filter = AlertFilter { limit: 3, ..AlertFilter::default() };
    loop {
        let page = store.history(&filter).unwrap();
        let Some(last) = page.last() else { break };
        filter.before_ms = Some(last.started_ms);
        seen.extend(page);
    }
    let mut expected = alerts;
    expected.sort_by_key(|alert| std::cmp::Reverse((alert.started_ms, alert.id)));
    assert_eq!(seen, expected);
    assert_eq!(store.history(&AlertFilter { limit: 0, ..AlertFilter::default() }).unwrap(), []);
}

fn history_is_filtered(open: Open) {
    let (mut store, _keep) = open();
    let mut alerts = Vec::new();
    for n in 0..24 {
        let mut one = alert(n, NOON + n);
        one.subject.call = if n % 2 == 0 { "a" } else { "b" }.to_owned();
        one.subject.rule = if n % 3 == 0 { Rule::Shed } else { Rule::ErrorRate };
        if n % 4 == 0 {
            one = resolved(&one, NOON + 100);
        }
        alerts.insert(0, one);
    }
    store.save(&AlertChange { alerts: alerts.clone(), ..AlertChange::default() }).unwrap();
    for call in [None, Some("a"), Some("c")] {
        for rule in [None, Some(Rule::Shed)] {
            for stages in [vec![], vec![Stage::Resolved], vec![Stage::Firing, Stage::Pending]] {
                let filter = AlertFilter {
                    call: call.map(str::to_owned),
                    rule,
                    stages,
                    before_ms: Some(NOON + 20),
                    limit: 100,
                };
                let expected: Vec<_> =
                    alerts.iter().filter(|alert| filter.admits(alert)).cloned().collect();
                assert_eq!(store.history(&filter).unwrap(), expected, "{filter:?}");
            }
        }
    }
}

fn silences_begin_and_end(open: Open) {
    let (mut store, _keep) = open();
    let all = Silence { call: None, rule: None, ..silence(1, NOON, 1000) };
    let one = silence(2, NOON + 5, LONGEST_SILENCE_MS);
    store.silence_add(&one).unwrap();
    store.silence_add(&all).unwrap();
    assert_eq!(store.silences().unwrap(), [all.clone(), one.clone()]);
    assert_eq!(store.load().unwrap().silences, [all.clone(), one.clone()]);
    let ended = Silence { expires_ms: NOON + 50, ..one.clone() };
    assert_eq!(store.silence_end(one.id, NOON + 50).unwrap(), Some(ended.clone()));
    assert_eq!(store.silence_end(one.id, NOON + 60).unwrap(), None, "it has ended already");
    assert_eq!(store.silence_end(all.id, NOON + 1000).unwrap(), None, "it ended by itself");
    assert_eq!(store.silence_end(id(NOON, 9), NOON).unwrap(), None);
    assert_eq!(store.silences().unwrap(), [all, ended.clone()]);
    assert_eq!(store.alerts_retain(NOON + 1000, 10).unwrap(), 0);
    assert_eq!(store.silences().unwrap().len(), 1);
}

fn silences_are_bounded(open: Open) {
    let (mut store, _keep) = open();
    let good = silence(1, NOON, 1000);
    let bad = [
        Silence { reason: "  ".to_owned(), ..good.clone() },
        Silence { reason: "x".repeat(LONGEST_REASON + 1), ..good.clone() },
        Silence { expires_ms: NOON, ..good.clone() },
        silence(1, NOON, LONGEST_SILENCE_MS + 1),
    ];
    for silence in bad {
        assert_eq!(store.silence_add(&silence).unwrap_err().kind, ErrorKind::Conflict);
    }
    assert_eq!(store.silences().unwrap(), []);
    for n in 0..MOST_SILENCES as u64 {
        store.silence_add(&silence(n, NOON, 1000)).unwrap();
    }
    let error = store.silence_add(&silence(MOST_SILENCES as u64, NOON, 1000)).unwrap_err();
    assert!(error.message.contains("end some of them"), "{error}");
    store.silence_add(&silence(MOST_SILENCES as u64, NOON + 1000, 1000)).unwrap();
}

fn a_notice_waits_until_it_is_delivered(open: Open) {
    let (mut store, _keep) = open();
    let one = alert(1, NOON);
    store.save(&fires(&one, &["slack", "pager"])).unwrap();
    let first = store.outbox("pager", 9).unwrap()[0].id;
    store.outbox_begin(first).unwrap();
    let queued = &store.outbox("pager", 9).unwrap()[0];
    assert_eq!((queued.attempts, queued.told), (1, true), "it may have been told by now");
    let failed = |maybe_told| Settled::Failed {
        at_ms: NOON + 1,
        due_ms: NOON + 30,
        maybe_told,
        why: "it refused".to_owned(),
    };
    store.outbox_settle(&[(first, failed(false))]).unwrap();
    let queued = &store.outbox("pager", 9).unwrap()[0];
    assert_eq!((queued.attempts, queued.told, queued.due_ms), (1, false, NOON + 30));
    assert_eq!(
        store.receivers().unwrap(),
        [
            ReceiverState {
                name: "pager".to_owned(),
                pending: 1,
                last_failed_ms: Some(NOON + 1),
                last_error: Some("it refused".to_owned()),
                ..ReceiverState::default()
            },
            ReceiverState { name: "slack".to_owned(), pending: 1, ..ReceiverState::default() },
        ]
    );
    store.outbox_begin(first).unwrap();
    let delivered = Settled::Delivered { at_ms: NOON + 40, again_ms: None };
    store.outbox_settle(&[(first, delivered.clone())]).unwrap();
    assert_eq!(store.outbox("pager", 9).unwrap(), []);
    let pager = &store.receivers().unwrap()[0];
    assert_eq!((pager.pending, pager.last_ok_ms), (0, Some(NOON + 40)));
    assert_eq!((pager.last_failed_ms, &pager.last_error), (Some(NOON + 1), &None));
    // What is settled stays as it is.
    store.outbox_settle(&[(first, failed(true)), (first, Settled::Dropped)]).unwrap();
    store.outbox_begin(first).unwrap();
    assert_eq!(store.receivers().unwrap()[0].last_error, None);
    assert_eq!(store.outbox("slack", 9).unwrap().len(), 1);
    // Who was told is told of the end; who was not is not.
    let over = AlertChange {
        alerts: vec![resolved(&one, NOON + 50)],
        notices: ["slack", "pager"].map(|r| notice(&one, r, Event::Resolved, NOON)).to_vec(),
        at_ms: NOON + 50,
        ..AlertChange::default()
    };
    store.save(&over).unwrap();
    let told = |receiver| -> Vec<_> {
        let queued = store.outbox(receiver, 9).unwrap();
        queued.into_iter().map(|queued| (queued.event, queued.told)).collect()
    };
    assert_eq!(told("pager"), [(Event::Resolved, true)]);
    assert_eq!(told("slack"), [(Event::Firing, false), (Event::Resolved, false)]);
}

/// As after a crash between sending and settling: the attempt after it may fail for certain, but
/// nobody knows of the one before it.
fn an_attempt_that_was_never_settled_may_have_arrived(open: Open) {
    let (mut store, _keep) = open();
    store.save(&fires(&alert(1, NOON), &["pager"])).unwrap();
    let first = store.outbox("pager", 9).unwrap()[0].id;
    store.outbox_begin(first).unwrap();
    store.outbox_begin(first).unwrap();
    let failed =
        Settled::Failed { at_ms: NOON, due_ms: NOON, maybe_told: false, why: "no".to_owned() };
    store.outbox_settle(&[(first, failed)]).unwrap();
    let queued = &store.outbox("pager", 9).unwrap()[0];
    assert_eq!((queued.attempts, queued.told), (2, true));
}

fn a_receiver_that_forgets_is_reminded(open: Open) {
    let (mut store, _keep) = open();
    store.save(&fires(&alert(1, NOON), &["am"])).unwrap();
    let first = store.outbox("am", 9).unwrap()[0].clone();
    store.outbox_begin(first.id).unwrap();
    let again = Settled::Delivered { at_ms: NOON + 1, again_ms: Some(NOON + 60) };
    store.outbox_settle(&[(first.id, again)]).unwrap();
    let expected =
        Queued { event: Event::Refresh, due_ms: NOON + 60, attempts: 0, told: true, ..first };
    assert_eq!(store.outbox("am", 9).unwrap(), [expected]);
    assert_eq!(store.receivers().unwrap()[0].pending, 0, "reminders are not news");
}

fn the_outbox_is_bounded(open: Open) {
    let (mut store, _keep) = open();
    let one = alert(1, NOON);
    let many = |range: std::ops::Range<usize>| AlertChange {
        alerts: vec![one.clone()],
        notices: range.map(|_| notice(&one, "pager", Event::Renotify, NOON)).collect(),
        at_ms: NOON,
        ..AlertChange::default()
    };
    store.save(&many(0..1)).unwrap();
    let oldest = store.outbox("pager", 1).unwrap()[0].id;
    store.save(&many(0..MOST_NOTICES - 1)).unwrap();
    assert_eq!(store.outbox("pager", 1).unwrap()[0].id, oldest);
    store.save(&many(0..2)).unwrap();
    assert!(store.outbox("pager", 1).unwrap()[0].id > oldest);
    let pager = &store.receivers().unwrap()[0];
    assert_eq!((pager.pending, pager.given_up), (MOST_NOTICES as u64, 2));
    assert!(pager.last_error.as_ref().unwrap().contains("more notices wait"));
}

fn retention_drops_what_was_resolved(open: Open) {
    let (mut store, _keep) = open();
    let open_one = alert(1, NOON - 100 * DAY);
    let old: Vec<_> = (2..7).map(|n| resolved(&alert(n, NOON - n * DAY), NOON - n * DAY)).collect();
    let mut alerts = old.clone();
    alerts.push(open_one.clone());
    let notices = alerts.iter().map(|a| notice(a, "pager", Event::Firing, NOON)).collect();
    store.save(&AlertChange { alerts, notices, ..AlertChange::default() }).unwrap();
    assert_eq!(store.alerts_retain(NOON - 3 * DAY, 2).unwrap(), 2);
    assert_eq!(store.alerts_retain(NOON - 3 * DAY, 2).unwrap(), 1);
    assert_eq!(store.alerts_retain(NOON - 3 * DAY, 2).unwrap(), 0);
    let left: Vec<_> = store.history(&AlertFilter::default()).unwrap();
    assert_eq!(left, [old[0].clone(), old[1].clone(), open_one]);
    assert_eq!(store.outbox("pager", 99).unwrap().len(), 3);
}

macro_rules! alerts_conformance {
    ($($store:ident: $open:ident;)* @ $names:tt) => {
        $(alerts_conformance!(@module $store $open $names);)*
    };
    (@module $store:ident $open:ident ($($name:ident),*)) => {
        mod $store {
            $(#[test] fn $name() { super::$name(super::$open); })*
        }
    };
}
alerts_conformance!(
    in_memory: memory;
    in_sqlite: sqlite;
    @ (
        a_change_is_kept_as_a_whole,
        half_a_change_is_never_kept,
        history_is_paged_without_a_gap,
        history_is_filtered,
        silences_begin_and_end,
        silences_are_bounded,
        a_notice_waits_until_it_is_delivered,
        an_attempt_that_was_never_settled_may_have_arrived,
        a_receiver_that_forgets_is_reminded,
        the_outbox_is_bounded,
        retention_drops_what_was_resolved
    )
);

#[derive(Clone, Debug)]
enum Step {
    Save { alert: u64, event: Event, receiver: &'static str, resolve: bool },
    Forget(u64),
    Begin { receiver: &'static str, nth: usize },
    Settle { receiver: &'static str, nth: usize, how: Settled },
    Retain(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let receiver = || prop::sample::select(vec!["slack", "pager"]);
    let how = prop_oneof![
        prop::option::of(0..9u64).prop_map(|again_ms| Settled::Delivered { at_ms: 5, again_ms }),
        any::<bool>().prop_map(|maybe_told| Settled::Failed {
            at_ms: 6,
            due_ms: 7,
            maybe_told,
            why: "no".to_owned()
        }),
        Just(Settled::GivenUp { at_ms: 8, why: "late".to_owned() }),
        Just(Settled::Dropped),
    ];
    prop_oneof![
        4 => (0..4u64, prop::sample::select(Event::ALL.to_vec()), receiver(), any::<bool>()).prop_map(
            |(alert, event, receiver, resolve)| Step::Save { alert, event, receiver, resolve }),
        1 => (0..4u64).prop_map(Step::Forget),
        3 => (receiver(), 0..3usize).prop_map(|(receiver, nth)| Step::Begin { receiver, nth }),
        4 => (receiver(), 0..3usize, how).prop_map(
            |(receiver, nth, how)| Step::Settle { receiver, nth, how }),
        1 => (0..4u64).prop_map(Step::Retain),
    ]
}

fn take(store: &mut dyn AlertStore, step: &Step) {
    let nth = |store: &dyn AlertStore, receiver: &str, nth: usize| {
        store.outbox(receiver, 99).unwrap().get(nth).map(|queued| queued.id)
    };
    match step {
        Step::Save { alert: n, event, receiver, resolve } => {
            let mut one = alert(*n, NOON + n);
            if *resolve {
                one = resolved(&one, NOON + n);
            }
            let notices = vec![notice(&one, receiver, *event, NOON)];
            let change = AlertChange { alerts: vec![one], notices, ..AlertChange::default() };
            store.save(&change).unwrap();
        }
        Step::Forget(n) => {
            let forgotten = vec![alert(*n, NOON + n).id];
            store.save(&AlertChange { forgotten, ..AlertChange::default() }).unwrap();
        }
        Step::Begin { receiver, nth: at } => {
            if let Some(notice) = nth(store, receiver, *at) {
                store.outbox_begin(notice).unwrap();
            }
        }
        Step::Settle { receiver, nth: at, how } => {
            if let Some(notice) = nth(store, receiver, *at) {
                store.outbox_settle(&[(notice, how.clone())]).unwrap();
            }
        }
        Step::Retain(n) => {
            store.alerts_retain(NOON + n, 2).unwrap();
        }
    }
}

/// What can be seen of a store; the numbers of notices may differ between stores.
fn seen(store: &dyn AlertStore) -> (Vec<Alert>, Vec<ReceiverState>, Vec<Vec<Queued>>) {
    let outbox = |receiver| {
        let queued = store.outbox(receiver, 99).unwrap();
        queued.into_iter().map(|queued| Queued { id: 0, ..queued }).collect()
    };
    let history = store.history(&AlertFilter::default()).unwrap();
    (history, store.receivers().unwrap(), vec![outbox("slack"), outbox("pager")])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn both_stores_do_the_same(steps in prop::collection::vec(any_step(), 1..30)) {
        let (mut one, (mut two, _keep)) = (memory().0, sqlite());
        for step in &steps {
            take(&mut *one, step);
            take(&mut *two, step);
            prop_assert_eq!(seen(&*one), seen(&*two), "after {:?}", step);
        }
    }
}

#[test]
fn alerts_do_not_make_servers_read_their_keys_again() {
    let dir = tempfile::tempdir().unwrap();
    let registry = SqliteRegistry::open(dir.path()).unwrap();
    let mut alerts = SqliteAlerts::open(dir.path()).unwrap();
    let before = registry.version().unwrap();
    alerts.save(&fires(&alert(1, NOON), &["pager"])).unwrap();
    alerts.silence_add(&silence(1, NOON, 1000)).unwrap();
    let notice = alerts.outbox("pager", 1).unwrap()[0].id;
    alerts.outbox_begin(notice).unwrap();
    alerts.outbox_settle(&[(notice, Settled::Dropped)]).unwrap();
    assert_eq!(registry.version().unwrap(), before);
}

/// A directory of the version before alerts were kept.
#[test]
fn an_older_registry_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(crate::sqlite::FIRST_CONTROL_SCHEMA).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    connection.execute("INSERT INTO release VALUES ('a', 1, 'sha256:1', '{}', 7)", []).unwrap();
    drop(connection);
    let mut alerts = SqliteAlerts::open(dir.path()).unwrap();
    alerts.save(&fires(&alert(1, NOON), &["pager"])).unwrap();
    drop(alerts);
    let alerts = SqliteAlerts::open_existing(dir.path()).unwrap().unwrap();
    assert_eq!(alerts.load().unwrap().open, [alert(1, NOON)]);
    let registry = SqliteRegistry::open(dir.path()).unwrap();
    assert_eq!(registry.releases("a", 9).unwrap().len(), 1);
    let nowhere = tempfile::tempdir().unwrap();
    assert!(SqliteAlerts::open_existing(nowhere.path()).unwrap().is_none());
    assert!(!nowhere.path().join("control.db").exists());
}

/// Each question is answered by an index.
#[test]
fn questions_use_their_index() {
    let dir = tempfile::tempdir().unwrap();
    drop(SqliteAlerts::open(dir.path()).unwrap());
    let connection = rusqlite::Connection::open(dir.path().join("control.db")).unwrap();
    let plan = |sql: &str| {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(3)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    let outbox =
        plan("SELECT id FROM notice WHERE receiver = 'a' AND state = 'waiting' ORDER BY id");
    assert!(outbox.contains("notice_waiting (receiver=?)"), "{outbox}");
    assert!(!outbox.contains("TEMP B-TREE"), "{outbox}");
    let open = plan("SELECT content FROM alert WHERE resolved_ms IS NULL ORDER BY started_ms");
    assert!(open.contains("alert_open"), "{open}");
}

#[test]
fn events_have_names() {
    for event in Event::ALL {
        assert_eq!(Event::from_name(event.name()), Some(event));
    }
    assert_eq!(Event::from_name("fired"), None);
    let ids: Vec<CallId> = vec![alert(1, NOON).id, alert(2, NOON).id];
    assert!(ids[0] < ids[1], "ids of one millisecond differ");
}
