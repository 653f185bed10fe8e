//! The recorder's promises: exact accounting, nothing lost by `kill -9`, nothing waits for the store.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
};

use backstay_core::record::CallId;
use proptest::prelude::*;

use super::*;
use crate::{
    ErrorKind, Filter, MemoryStore, RecordReader, SqliteReader, SqliteRecords, StoreError,
    conformance::{DAY, NOON, bare, found, full, id},
    sqlite::assert_sound,
};

const LONG: Duration = Duration::from_secs(60);

fn quick() -> Limits {
    Limits {
        gather: Duration::from_millis(1),
        pause: Duration::from_millis(1),
        ..Limits::default()
    }
}

fn shed(accounting: &Accounting, reason: &str) -> u64 {
    accounting.shed.iter().find(|(name, _)| *name == reason).unwrap().1
}

fn assert_exact(accounting: &Accounting) {
    let shed: u64 = accounting.shed.iter().map(|(_, n)| n).sum();
    assert_eq!(
        accounting.received,
        accounting.stored + accounting.pending + shed,
        "{accounting:?}"
    );
}

fn all() -> Filter {
    Filter { limit: usize::MAX, ..Filter::default() }
}

/// Fails as its plan says, one item an append.
struct Flaky {
    store: MemoryStore,
    plan: std::vec::IntoIter<bool>,
}

impl RecordStore for Flaky {
    fn append(&mut self, batch: &[Entry]) -> Result<Appended, StoreError> {
        if self.plan.next().unwrap_or(false) {
            return Err(StoreError::new(ErrorKind::Io, "as planned"));
        }
        self.store.append(batch)
    }
    fn roll_up(&mut self) -> Result<bool, StoreError> {
        self.store.roll_up()
    }
    fn retain(&mut self, now_ms: u64, retention: &Retention) -> Result<Retained, StoreError> {
        self.store.retain(now_ms, retention)
    }
}

/// Tells of every append and waits for permission; after the permissions' end, it waits no more.
struct Gated {
    store: MemoryStore,
    entered: Sender<()>,
    permitted: Receiver<()>,
}

impl RecordStore for Gated {
    fn append(&mut self, batch: &[Entry]) -> Result<Appended, StoreError> {
        self.entered.send(()).ok();
        self.permitted.recv().ok();
        self.store.append(batch)
    }
    fn roll_up(&mut self) -> Result<bool, StoreError> {
        self.store.roll_up()
    }
    fn retain(&mut self, now_ms: u64, retention: &Retention) -> Result<Retained, StoreError> {
        self.store.retain(now_ms, retention)
    }
}

fn gated(store: &MemoryStore) -> (Gated, Receiver<()>, Sender<()>) {
    let (entered, hear) = mpsc::channel();
    let (permit, permitted) = mpsc::channel();
    (Gated { store: store.clone(), entered, permitted }, hear, permit)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_accounting_is_exact_at_every_instant(
        plan in prop::collection::vec(any::<bool>(), 0..8),
        counts in prop::collection::vec(0..120u64, 1..4),
        entries in 1..60usize,
        bytes in prop::sample::select(vec![0, 2_000, 20_000, 1 << 20]),
        spooled in any::<bool>(),
    ) {
        let store = MemoryStore::new();
        let dir = tempfile::tempdir().unwrap();
        let spool = spooled.then(|| Spool::open(dir.path()).unwrap());
        let limits = Limits { entries, bytes, batch: 16, wake_at: 8, ..quick() };
        let flaky = Flaky { store: store.clone(), plan: plan.into_iter() };
        let recorder =
            Recorder::start(Box::new(flaky), spool, limits).unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    assert_exact(&recorder.accounting());
                }
            });
            let writers: Vec<_> = (0..).zip(&counts).map(|(who, count)| {
                let recorder = recorder.clone();
                scope.spawn(move || for n in 0..*count {
                    recorder.record(full(NOON + who, n));
                })
            }).collect();
            for writer in writers {
                writer.join().unwrap();
            }
            prop_assert!(recorder.flush(LONG));
            over.store(true, Ordering::Relaxed);
            watcher.join().unwrap();
            Ok(())
        })?;
        let end = recorder.close(LONG);
        assert_exact(&end);
        prop_assert_eq!(end.received, counts.iter().sum::<u64>());
        prop_assert_eq!((end.pending, end.waiting_since_ms), (0, None));
        let kept = store.counts(&Filter::default()).unwrap().calls;
        if spooled {
            // What was shed came back from the spool, or does so now.
            drop(recorder);
            let again = Box::new(store.clone());
            let spool = Spool::open(dir.path()).unwrap();
            let recorder =
                Recorder::start(again, Some(spool), quick()).unwrap();
            prop_assert_eq!(recorder.close(LONG).received, 0);
            drop(recorder);
            let kept = store.counts(&Filter::default()).unwrap().calls;
            prop_assert_eq!(kept, end.received);
            prop_assert!(Spool::open(dir.path()).unwrap().1.is_empty());
        } else {
            prop_assert_eq!(kept, end.stored);
        }
    }
}

#[test]
fn a_report_that_finds_no_call_is_not_lost() {
    let accounting = Accounting {
        shed: [("queue_full", 1), ("expired", 10), ("unmatched", 100), ("closed", 1000)],
        ..Accounting::default()
    };
    assert_eq!(accounting.lost(), 1001);
}

#[test]
fn bodies_are_shed_before_records() {
    let store = MemoryStore::new();
    let (gate, entered, permit) = gated(&store);
    let bytes = |record: &CallRecord| {
        serde_json::to_vec(&Entry::Call(Box::new(record.clone()))).unwrap().len()
    };
    let mut big = full(NOON, 2);
    big.request = Some("x".repeat(10_000));
    let limits = Limits { bytes: bytes(&full(NOON, 1)) + bytes(&big) - 9_000, ..quick() };
    let recorder = Recorder::start(Box::new(gate), None, limits).unwrap();
    recorder.record(bare(NOON, 0));
    entered.recv().unwrap();
    // The writer is at the gate with the first one. The second one fits, the third one fits without
    // its bodies, the fourth one does not fit at all.
    recorder.record(full(NOON, 1));
    recorder.record(big.clone());
    recorder.record(full(NOON, 3));
    let now = recorder.accounting();
    assert_exact(&now);
    assert_eq!((now.received, now.pending, now.stored), (4, 3, 0));
    assert_eq!((now.bodies_shed, shed(&now, "queue_full")), (2, 1));
    assert!(!recorder.flush(Duration::from_millis(1)), "the store stands still");
    drop(permit);
    let end = recorder.close(LONG);
    assert_exact(&end);
    assert_eq!((end.stored, shed(&end, "queue_full")), (3, 1));
    let stored = found(&store, &big.id.to_string()).unwrap().record;
    assert_eq!((stored.request, stored.answer, stored.attempts), (None, None, big.attempts));
    assert_eq!(found(&store, &id(NOON, 3).to_string()), None);
}

#[test]
fn what_was_shed_comes_back_from_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let store = MemoryStore::new();
    let (gate, entered, permit) = gated(&store);
    let spool = Spool::open(dir.path()).unwrap();
    let limits = Limits { entries: 1, ..quick() };
    let recorder = Recorder::start(Box::new(gate), Some(spool), limits).unwrap();
    recorder.record(full(NOON, 0));
    entered.recv().unwrap();
    for n in 1..4 {
        recorder.record(full(NOON, n));
    }
    assert_eq!(shed(&recorder.accounting(), "queue_full"), 2);
    assert_eq!(recorder.accounting().lost(), 2);
    drop(permit);
    let end = recorder.close(LONG);
    assert_exact(&end);
    assert_eq!((end.stored, shed(&end, "queue_full")), (2, 2));
    assert!(end.replayed >= 2, "{end:?}");
    for n in 0..4 {
        assert_eq!(found(&store, &id(NOON, n).to_string()).unwrap().record, full(NOON, n));
    }
    drop(recorder);
    assert!(Spool::open(dir.path()).unwrap().1.is_empty());
}

/// Stores at once, and is asked for sums until it is told that they are complete.
struct Lagging {
    store: MemoryStore,
    complete: Receiver<bool>,
    asked: Sender<()>,
}

impl RecordStore for Lagging {
    fn append(&mut self, batch: &[Entry]) -> Result<Appended, StoreError> {
        self.store.append(batch)
    }
    fn roll_up(&mut self) -> Result<bool, StoreError> {
        self.asked.send(()).ok();
        Ok(!self.complete.recv().unwrap_or(true))
    }
    fn retain(&mut self, now_ms: u64, retention: &Retention) -> Result<Retained, StoreError> {
        self.store.retain(now_ms, retention)
    }
}

#[test]
fn sums_are_as_old_as_the_first_call_that_they_lack() {
    let (tell, complete) = mpsc::channel();
    let (asked, hear) = mpsc::channel();
    let store = Lagging { store: MemoryStore::new(), complete, asked };
    let recorder = Recorder::start(Box::new(store), None, quick()).unwrap();
    let since = || recorder.accounting().waiting_since_ms;
    let record = |at_ms, n| {
        let record = full(at_ms, n);
        let ended_ms = at_ms + record.latency_us / 1000;
        recorder.record(record);
        ended_ms
    };
    // What an earlier process left behind: nobody knows of it.
    hear.recv().unwrap();
    assert_eq!(since(), None);
    let first = record(NOON, 1);
    assert_eq!(since(), Some(first));
    let late = recorder.accounting();
    assert_eq!(late.behind_ms(first + 60_000), None, "a moment");
    assert_eq!(late.behind_ms(first + 60_001), Some(60_001));
    // Steps that do not complete it, one of them with another call that waits.
    for n in 2..5 {
        tell.send(false).unwrap();
        hear.recv().unwrap();
        record(NOON + 1000 * n, n);
        assert_eq!(since(), Some(first));
    }
    // The writer is at a step that began before the last call came: it is the next one.
    tell.send(true).unwrap();
    hear.recv().unwrap();
    assert!(since() > Some(first), "{:?}", since());
    drop(tell);
    assert!(recorder.flush(LONG));
    assert_eq!(since(), None);
    assert_eq!(recorder.accounting().behind_ms(u64::MAX), None);
}

#[test]
fn a_store_that_stands_still_without_an_error_is_noticed() {
    let (gate, entered, permit) = gated(&MemoryStore::new());
    let recorder = Recorder::start(Box::new(gate), None, quick()).unwrap();
    recorder.record(bare(NOON, 1));
    entered.recv().unwrap();
    recorder.record(bare(NOON + 70_000, 2));
    let accounting = recorder.accounting();
    assert_eq!(accounting.store_error, None);
    assert!(accounting.behind_ms(NOON + 80_000).is_some());
    drop(permit);
    assert!(recorder.flush(LONG));
    assert_eq!(recorder.accounting().waiting_since_ms, None);
}

#[test]
fn what_comes_too_late_is_counted() {
    let store = MemoryStore::new();
    let recorder = Recorder::start(Box::new(store), None, quick()).unwrap();
    recorder.record(bare(NOON, 1));
    let report = |call_id| OutcomeReport {
        call_id,
        ok: true,
        score: None,
        reason: None,
        expected: None,
        reported_ms: NOON,
    };
    recorder.report(report(id(NOON, 1)));
    recorder.report(report(id(NOON - 100 * DAY, 1)));
    let before = recorder.close(LONG);
    recorder.record(bare(NOON, 2));
    let end = recorder.accounting();
    assert_exact(&end);
    assert_eq!((before.received, before.stored, shed(&before, "expired")), (3, 2, 1));
    assert_eq!((end.received, shed(&end, "closed")), (4, 1));
    assert!(recorder.flush(LONG), "there is nothing to wait for");
}

/// Retention fails; everything else works.
struct NoRetention(MemoryStore);

impl RecordStore for NoRetention {
    fn append(&mut self, batch: &[Entry]) -> Result<Appended, StoreError> {
        self.0.append(batch)
    }

    fn roll_up(&mut self) -> Result<bool, StoreError> {
        self.0.roll_up()
    }

    fn retain(&mut self, _: u64, _: &Retention) -> Result<Retained, StoreError> {
        Err(StoreError::new(ErrorKind::Busy, "once"))
    }
}

/// On a gateway that nobody calls, nothing would be judged until the next call.
#[test]
fn a_failed_retention_does_not_say_that_records_cannot_be_written() {
    let store = Box::new(NoRetention(MemoryStore::new()));
    let recorder = Recorder::start(store, None, quick()).unwrap();
    recorder.record(full(NOON, 1));
    recorder.retain(NOON, Retention { bodies: LONG, metadata: LONG, rollups: LONG });
    let end = recorder.close(LONG);
    assert!(end.retention_error.is_some_and(|why| why.contains("once")));
    assert_eq!((end.store_error, end.store_errors, end.stored), (None, 1, 1));
}

#[test]
fn retention_runs_between_batches() {
    let store = MemoryStore::new();
    let recorder = Recorder::start(Box::new(store.clone()), None, quick()).unwrap();
    recorder.record(full(NOON - 100 * DAY, 1));
    recorder.record(full(NOON, 2));
    assert!(recorder.flush(LONG));
    recorder.retain(NOON, Retention::default());
    // Retention comes before what arrives after it was asked for.
    recorder.record(full(NOON, 3));
    let end = recorder.close(LONG);
    assert_eq!(end.retained, Retained { body_days: 1, call_days: 1 });
    assert_eq!(store.calls(&all()).unwrap().len(), 2);
}

#[test]
fn a_failing_store_leaves_the_spool_for_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = MemoryStore::new();
    let flaky = Flaky { store: store.clone(), plan: vec![true; 100_000].into_iter() };
    let spool = Spool::open(dir.path()).unwrap();
    let recorder = Recorder::start(Box::new(flaky), Some(spool), quick()).unwrap();
    for n in 0..10 {
        recorder.record(full(NOON, n));
    }
    let end = recorder.close(Duration::from_millis(20));
    assert_exact(&end);
    assert_eq!((end.pending, end.stored), (10, 0));
    assert_eq!(end.store_error.as_deref(), Some("as planned"));
    drop(recorder);

    let spool = Spool::open(dir.path()).unwrap();
    let recorder = Recorder::start(Box::new(store.clone()), Some(spool), quick()).unwrap();
    let end = recorder.close(LONG);
    assert_eq!((end.replayed, end.received, end.unreadable), (10, 0, 0));
    assert_eq!(found(&store, &id(NOON, 7).to_string()).unwrap().record, full(NOON, 7));
}

/// Dies of its first batch.
struct Panicking;

impl RecordStore for Panicking {
    fn append(&mut self, _batch: &[Entry]) -> Result<Appended, StoreError> {
        panic!("on purpose")
    }
    fn roll_up(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }
    fn retain(&mut self, _now_ms: u64, _keep: &Retention) -> Result<Retained, StoreError> {
        panic!("on purpose")
    }
}

#[test]
fn nobody_waits_for_a_writer_that_panicked() {
    let recorder = Recorder::start(Box::new(Panicking), None, quick()).unwrap();
    recorder.record(bare(NOON, 1));
    assert!(!recorder.flush(LONG));
    recorder.record(bare(NOON, 2));
    let end = recorder.close(LONG);
    assert_exact(&end);
    assert_eq!((end.pending, shed(&end, "closed")), (1, 1));
    assert!(end.store_error.unwrap().contains("panicked"));
}

#[test]
fn a_frame_that_cannot_be_read_does_not_stop_the_replay() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path()).unwrap();
    let json = serde_json::to_vec(&Entry::Call(Box::new(full(NOON, 1)))).unwrap();
    spool.append(b"{\"from\": \"the future\"}").unwrap();
    spool.append(&json).unwrap();
    drop(spool);
    let store = MemoryStore::new();
    let spool = Spool::open(dir.path()).unwrap();
    let recorder = Recorder::start(Box::new(store.clone()), Some(spool), quick()).unwrap();
    let end = recorder.close(LONG);
    assert_eq!((end.replayed, end.unreadable), (1, 1));
    assert_eq!(store.calls(&all()).unwrap().len(), 1);
}

fn start_on(dir: &Path) -> Recorder {
    let spool = Spool::open(dir.join("spool")).unwrap();
    let store = SqliteRecords::open(dir).unwrap();
    Recorder::start(Box::new(store), Some(spool), Limits::default()).unwrap()
}

const KILL_DIR: &str = "BACKSTAY_TEST_KILL_DIR";
const KILL_ROUND: &str = "BACKSTAY_TEST_KILL_ROUND";

#[test]
#[ignore = "body of a child process of nothing_answered_is_lost_by_kill_9"]
fn child_records_until_it_is_killed() {
    let dir = std::env::var_os(KILL_DIR).unwrap();
    let round: u64 = std::env::var(KILL_ROUND).unwrap().parse().unwrap();
    let recorder = start_on(Path::new(&dir));
    for n in 0.. {
        // Over midnight and back, so that two days are open.
        let record = full(NOON + DAY / 2 - 50 + n % 100, round << 32 | n);
        let id = record.id;
        recorder.record(record);
        println!("recorded {id}");
    }
}

#[test]
fn nothing_answered_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    // Readers need no server, not even one that ended well.
    let reader = SqliteReader::open(dir.path());
    let mut answered = HashSet::new();
    for (round, lines) in [1, 300, 12_000, 47, 9_000].into_iter().enumerate() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["recorder::tests::child_records_until_it_is_killed", "--exact"])
            .args(["--ignored", "--nocapture", "--test-threads=1"])
            .env(KILL_DIR, dir.path())
            .env(KILL_ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        loop {
            for _ in 0..lines {
                assert!(output.read_line(&mut text).unwrap() > 0, "the child ended: {text}");
            }
            // The long rounds see to it that there is something in the store as well.
            if lines < 9_000 || reader.counts(&all()).unwrap().calls > 0 {
                break;
            }
        }
        child.kill().unwrap();
        output.read_to_string(&mut text).unwrap();
        child.wait().unwrap();
        // The last line may be cut off by the end of the child.
        let whole = text.rsplit_once('\n').unwrap().0;
        answered.extend(whole.lines().filter_map(|line| {
            line.rsplit_once("recorded ").map(|(_, id)| id.parse::<CallId>().unwrap())
        }));
    }
    assert!(answered.len() > 20_000);
    assert!(reader.counts(&all()).unwrap().calls > 0);
    let recorder = start_on(dir.path());
    let end = recorder.close(LONG);
    assert!(end.replayed > 0);
    assert_eq!((end.store_error, end.spool_errors), (None, 0));
    assert_sound(dir.path());
    let mut filter = all();
    let mut stored = HashSet::new();
    loop {
        let rows = reader.calls(&filter).unwrap();
        let Some(last) = rows.last() else { break };
        filter.before = Some(last.id);
        stored.extend(rows.iter().map(|row| row.id));
    }
    let lost: Vec<_> = answered.difference(&stored).collect();
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), answered.len());
    let some = answered.iter().next().unwrap();
    let whole = found(&reader, &some.to_string()).unwrap().record;
    assert_eq!(
        whole,
        CallRecord { id: *some, upstream_id: whole.upstream_id.clone(), ..full(0, 0) }
    );
}
