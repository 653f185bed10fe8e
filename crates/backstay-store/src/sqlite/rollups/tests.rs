//! The rollups against a recount of everything that was stored, through crashes and late verdicts.

use std::{collections::BTreeMap, fs};

use backstay_core::{
    record::{CallId, CallRecord, Outcome, OutcomeReport},
    rollup::Sample,
};
use proptest::prelude::*;

use super::*;
use crate::{
    Entry, RecordReader, RecordStore, Retention, Rollup, RollupFilter, RollupReader, SqliteReader,
    SqliteRecords,
    conformance::{DAY, NOON, any_record, call, full, report},
    sqlite::assert_sound,
};

/// One thing that happens to a call log.
#[derive(Clone, Debug)]
enum Event {
    /// Records, each with the number that makes its id.
    Calls(Vec<(u64, CallRecord)>),
    /// Verdicts on calls by the number of their id, some of which come before their calls.
    Verdicts(Vec<(u64, bool)>),
    /// So many steps of the rollups.
    RollUp(u8),
    /// The process is killed and started again.
    Kill,
    /// The machine is: what was not synced of the rollups is lost.
    PowerCut,
}

const IDS: u64 = 24;

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => prop::collection::vec((0..IDS, any_record()), 1..9).prop_map(Event::Calls),
        3 => prop::collection::vec((0..IDS, any::<bool>()), 1..9).prop_map(Event::Verdicts),
        3 => (1..4u8).prop_map(Event::RollUp),
        1 => Just(Event::Kill),
        1 => Just(Event::PowerCut),
    ]
}

/// What the log holds, and what it adds up to.
#[derive(Default)]
struct Model {
    calls: BTreeMap<CallId, CallRecord>,
    verdicts: BTreeMap<CallId, Vec<bool>>,
}

impl Model {
    /// Each id has a start of its own, whatever record comes with it.
    fn id(number: u64) -> CallId {
        full(NOON - number * 7_000_000, number).id
    }

    fn apply(&mut self, entries: &[Entry]) {
        for entry in entries {
            match entry {
                Entry::Call(record) => {
                    self.calls.entry(record.id).or_insert_with(|| CallRecord::clone(record));
                }
                Entry::Outcome(OutcomeReport { call_id, ok, .. }) => {
                    let told = self.verdicts.entry(*call_id).or_default();
                    if !told.contains(ok) {
                        told.push(*ok);
                    }
                }
                Entry::Response(..) => unreachable!("not in these histories"),
            }
        }
    }

    fn recount(&self, level: Level) -> Vec<(u64, Key, Cell)> {
        let mut cells: BTreeMap<(u64, Key), Cell> = BTreeMap::new();
        for record in self.calls.values() {
            let sample = Sample::of(record);
            let start = level.start(record.id.unix_millis());
            let cell = cells.entry((start, sample.key.clone())).or_default();
            cell.add(&sample);
            if let Some(ok) = self.verdicts.get(&record.id).and_then(|told| told.last()) {
                cell.report(*ok, None);
            }
        }
        cells.into_iter().map(|((start, key), cell)| (start, key, cell)).collect()
    }
}

fn rollups(dir: &Path, level: Level) -> Vec<(u64, Key, Cell)> {
    let filter = RollupFilter { level, since_ms: 0, until_ms: u64::MAX, call: None, release: None };
    let found = SqliteReader::open(dir).rollups(&filter).unwrap();
    found.into_iter().map(|Rollup { start_ms, key, cell }| (start_ms, key, cell)).collect()
}

fn roll_up(records: &mut SqliteRecords) {
    while records.roll_up().unwrap() {}
}

/// The files of the rollups as they are now.
fn copy(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = ["rollup.db", "rollup.db-wal"].map(|name| dir.join(name));
    files.into_iter().filter_map(|path| fs::read(&path).ok().map(|bytes| (path, bytes))).collect()
}

fn put_back(dir: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for name in ["rollup.db", "rollup.db-wal", "rollup.db-shm"] {
        fs::remove_file(dir.join(name)).ok();
    }
    for (path, bytes) in files {
        fs::write(path, bytes).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn sums_equal_a_recount_whatever_happens(events in prop::collection::vec(any_event(), 1..20)) {
        let dir = tempfile::tempdir().unwrap();
        // Without a file for its day a verdict is given up.
        let days: Vec<_> = (0..4).map(|day| call(full(NOON - day * DAY, 1000 + day))).collect();
        let mut model = Model::default();
        let mut records = SqliteRecords::open(dir.path()).unwrap();
        let mut synced = Vec::new();
        let mut store = |records: &mut SqliteRecords, entries: &[Entry]| {
            records.append(entries).unwrap();
            model.apply(entries);
        };
        store(&mut records, &days);
        for event in events {
            match event {
                Event::Calls(calls) => {
                    let entries: Vec<_> = calls
                        .into_iter()
                        .map(|(n, record)| call(CallRecord { id: Model::id(n), ..record }))
                        .collect();
                    store(&mut records, &entries);
                }
                Event::Verdicts(verdicts) => {
                    let entries: Vec<_> = verdicts
                        .into_iter()
                        .map(|(n, ok)| Entry::Outcome(report(Model::id(n), ok, NOON)))
                        .collect();
                    store(&mut records, &entries);
                }
                Event::RollUp(steps) => {
                    for _ in 0..steps {
                        records.roll_up().unwrap();
                    }
                    if steps == 1 {
                        synced = copy(dir.path());
                    }
                }
                Event::Kill => records = SqliteRecords::open(dir.path()).unwrap(),
                Event::PowerCut => {
                    drop(records);
                    put_back(dir.path(), &synced);
                    records = SqliteRecords::open(dir.path()).unwrap();
                }
            }
        }
        roll_up(&mut records);
        for level in Level::ALL {
            prop_assert_eq!(rollups(dir.path(), level), model.recount(level));
        }
        drop(records);
        assert_sound(dir.path());
    }
}

#[test]
fn a_day_that_cannot_be_read_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let old = full(NOON - DAY, 1);
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    records.append(&[call(old.clone())]).unwrap();
    drop(records);
    fs::remove_file(dir.path().join("calls-20261122.db-wal")).ok();
    fs::write(dir.path().join("calls-20261122.db"), "not a database").unwrap();
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    let today = full(NOON, 2);
    records.append(&[call(today.clone())]).unwrap();
    let verdicts = [
        Entry::Outcome(report(old.id, true, NOON)),
        Entry::Response("chatcmpl-1".to_owned(), report(CallId::default(), true, NOON)),
        Entry::Response("chatcmpl-2".to_owned(), report(CallId::default(), false, NOON)),
    ];
    let appended = records.append(&verdicts).unwrap();
    assert_eq!((appended.expired, appended.unmatched), (1, 1), "the log goes on");
    assert!(records.roll_up().is_err(), "it is told once");
    roll_up(&mut records);
    let found = rollups(dir.path(), Level::Day);
    assert_eq!(
        found.iter().map(|(_, _, cell)| (cell.calls, cell.useless)).collect::<Vec<_>>(),
        [(1, 1)]
    );
}

#[test]
fn a_verdict_after_an_erasure_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    let gone = |n| CallRecord { unit: Some("user-9".to_owned()), ..full(NOON, n) };
    let (kept, first, last) = (full(NOON, 1), gone(2), gone(3));
    let told = |record: &CallRecord| Entry::Outcome(report(record.id, true, NOON));
    let calls = [kept.clone(), first.clone(), last.clone()].map(call);
    records.append(&calls).unwrap();
    records.append(&[told(&first), told(&last)]).unwrap();
    roll_up(&mut records);
    crate::Erase::erase(
        &mut crate::sqlite::SqliteEraser::open(dir.path()),
        &["user-9".to_owned()],
        u64::MAX,
    )
    .unwrap();
    records.append(&[told(&kept)]).unwrap();
    roll_up(&mut records);
    let useful: u64 = rollups(dir.path(), Level::Day).iter().map(|(_, _, cell)| cell.useful).sum();
    assert_eq!(useful, 3);
}

fn direct(name: &str, at_ms: u64, n: u64) -> Entry {
    let mut record = full(at_ms, n);
    record.call = name.to_owned();
    record.release = None;
    record.variant = Variant::Direct;
    record.outcome = Outcome::Ok;
    call(record)
}

#[test]
fn names_that_only_clients_know_are_bounded_and_make_room_when_unused() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    let flood: Vec<_> = (0..3000).map(|n| direct(&format!("name-{n}"), NOON, n)).collect();
    records.append(&flood).unwrap();
    roll_up(&mut records);
    let cells = rollups(dir.path(), Level::Day);
    assert_eq!(cells.len(), MOST_DIRECT as usize + 1);
    assert_eq!(cells.iter().map(|(_, _, cell)| cell.calls).sum::<u64>(), 3000, "none is lost");
    let (_, _, others) = cells.iter().find(|(_, key, _)| key.call == OTHER).unwrap();
    assert_eq!(others.calls, 3000 - u64::from(MOST_DIRECT));
    // Another process, a week later.
    drop(records);
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    records.append(&[direct("late", NOON + 8 * DAY, 9000)]).unwrap();
    roll_up(&mut records);
    assert!(rollups(dir.path(), Level::Day).iter().any(|(_, key, _)| key.call == "late"));
}

#[test]
fn retention_drops_old_sums_and_gives_their_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    for day in (0..12).rev() {
        let calls: Vec<_> = (0..1440)
            .map(|minute| call(full(NOON - day * DAY + minute * 60_000, day * 1440 + minute)))
            .collect();
        records.append(&calls).unwrap();
    }
    roll_up(&mut records);
    let size = |dir: &Path| {
        let files = ["rollup.db", "rollup.db-wal"].map(|name| fs::metadata(dir.join(name)));
        files.into_iter().flatten().map(|file| file.len()).sum::<u64>()
    };
    let before = size(dir.path());
    let days = |n| std::time::Duration::from_millis(n * DAY);
    let retention = Retention { bodies: days(1), metadata: days(3), rollups: days(10) };
    let now = NOON + DAY;
    records.retain(now, &retention).unwrap();
    let oldest = |level| rollups(dir.path(), level).first().unwrap().0;
    assert!(oldest(Level::Minute) >= now - 8 * DAY - 60_000);
    assert!(oldest(Level::Hour) >= now - 10 * DAY - 3_600_000);
    assert!(size(dir.path()) < before * 3 / 4, "{} of {before}", size(dir.path()));
    let kept = rollups(dir.path(), Level::Hour);
    // What is dropped from the log is not missing from the sums, nor counted again.
    drop(records);
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    roll_up(&mut records);
    assert_eq!(rollups(dir.path(), Level::Hour), kept);
    let logged = SqliteReader::open(dir.path()).counts(&crate::Filter::default()).unwrap();
    assert_eq!(logged.calls, 3 * 1440 + 720, "three days, and today up to its last call");
    drop(records);
    assert_sound(dir.path());
}
