//! That nothing is left of those who are erased, and everything of the others.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::{
    Filter, Lookup, RecordReader, RecordStore, SqliteReader, SqliteRecords,
    conformance::{NOON, full},
};
use backstay_core::record::{CallRecord, OutcomeReport};

const ALICE: &str = "unit-of-alice-7c1f";
const BOB: &str = "unit-of-bob-93aa";

fn record(unit: &str, started_ms: u64, n: u64) -> CallRecord {
    let mark = |what: &str| format!("{what} of {unit} number {n}");
    let mut record = CallRecord {
        unit: Some(unit.to_owned()),
        upstream_id: Some(format!("answer-{started_ms}-{n}")),
        message: Some(mark("message")),
        request: Some(mark("request").repeat(9)),
        answer: Some(mark("answer").repeat(9)),
        ..full(started_ms, n)
    };
    record.attempts.iter_mut().for_each(|attempt| attempt.message = Some(mark("attempt")));
    record
}

fn call(record: &CallRecord) -> Entry {
    Entry::Call(Box::new(record.clone()))
}

fn said(record: &CallRecord) -> Entry {
    Entry::Outcome(report_on(record))
}

fn report_on(record: &CallRecord) -> OutcomeReport {
    let unit = record.unit.clone().unwrap_or_default();
    OutcomeReport {
        call_id: record.id,
        ok: false,
        score: None,
        reason: Some(format!("reason of {unit}")),
        expected: None,
        reported_ms: NOON,
    }
}

/// Every file below `dir` that has `text` in it.
fn files_with(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if fs::read(&path).unwrap().windows(text.len()).any(|w| w == text.as_bytes()) {
            found.push(path);
        }
    }
    found
}

/// A log of two days and `calls` calls of Alice and of Bob on each, in turn.
fn log(calls: u64) -> (TempDir, SqliteRecords) {
    let dir = tempfile::tempdir().unwrap();
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    let day = 24 * 3600 * 1000;
    for started in [NOON - day, NOON] {
        let mut batch = Vec::new();
        for n in 0..calls {
            for (unit, n) in [(BOB, 2 * n), (ALICE, 2 * n + 1)] {
                let record = record(unit, started, n);
                batch.extend([call(&record), said(&record)]);
            }
        }
        for part in batch.chunks(500) {
            records.append(part).unwrap();
        }
    }
    (dir, records)
}

fn units(units: &[&str]) -> Vec<String> {
    units.iter().map(|unit| (*unit).to_owned()).collect()
}

fn rows(dir: &Path, unit: &str) -> usize {
    let filter = Filter { units: units(&[unit]), limit: 100_000, ..Filter::default() };
    SqliteReader::open(dir).calls(&filter).unwrap().len()
}

fn done(erasure: Erasure) -> Traces {
    match erasure {
        Erasure::Done(traces) => traces,
        Erasure::Waiting(frames) => panic!("{frames} frames are waited for"),
    }
}

#[test]
fn no_byte_is_left_of_one_and_everything_of_the_other() {
    let (dir, mut records) = log(700);
    let mut eraser = SqliteEraser::open(dir.path());
    let found = eraser.traces(&units(&[ALICE])).unwrap();
    assert_eq!((found.calls(), found.days.len(), found.days[0].reports), (1400, 2, 700));
    assert!(files_with(dir.path(), ALICE).len() >= 4, "it is there");
    // The writer is open all the while, as that of a running server.
    assert_eq!(done(eraser.erase(&units(&[ALICE]), u64::MAX).unwrap()), found);
    assert_eq!(files_with(dir.path(), ALICE), Vec::<PathBuf>::new());
    assert!(eraser.traces(&units(&[ALICE])).unwrap().is_empty());
    assert_eq!((rows(dir.path(), ALICE), rows(dir.path(), BOB)), (0, 1400));
    let bob = record(BOB, NOON, 0);
    let Lookup::Found(whole) = SqliteReader::open(dir.path()).call(&bob.id.to_string()).unwrap()
    else {
        panic!("Bob's call is gone")
    };
    assert_eq!(whole.record, bob);
    assert_eq!(whole.reports[0].reason.as_deref(), Some("reason of unit-of-bob-93aa"));
    // And the writer goes on.
    let late = record(ALICE, NOON, 5000);
    records.append(&[call(&late), said(&late)]).unwrap();
    assert_eq!(rows(dir.path(), ALICE), 1);
    assert_eq!(done(eraser.erase(&units(&[ALICE]), NOON).unwrap()), Traces::default());
    assert_eq!(rows(dir.path(), ALICE), 1, "it began later");
    drop(records);
    super::super::assert_sound(dir.path());
}

#[test]
fn numbers_are_never_given_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    records.append(&[call(&record(BOB, NOON, 1)), call(&record(ALICE, NOON, 2))]).unwrap();
    drop(records);
    let mut eraser = SqliteEraser::open(dir.path());
    done(eraser.erase(&units(&[ALICE]), u64::MAX).unwrap());
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    records.append(&[call(&record(BOB, NOON, 3))]).unwrap();
    let rows = SqliteReader::open(dir.path()).calls(&Filter::default()).unwrap();
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [3, 1]);
    done(eraser.erase(&units(&[BOB]), u64::MAX).unwrap());
    drop(records);
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    records.append(&[call(&record(BOB, NOON, 4))]).unwrap();
    let rows = SqliteReader::open(dir.path()).calls(&Filter::default()).unwrap();
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [4]);
}

#[test]
fn what_is_not_stored_yet_is_waited_for_or_taken_out_of_the_spool() {
    let (dir, _records) = log(1);
    let path = dir.path().join("spool");
    let (spool, _) = Spool::open(&path).unwrap();
    let (stored, waiting) = (record(ALICE, NOON, 1), record(ALICE, NOON, 100));
    for entry in [
        call(&waiting),
        call(&record(BOB, NOON, 101)),
        said(&stored),
        Entry::Response(stored.upstream_id.clone().unwrap(), report_on(&stored)),
        Entry::Response("answer-of-another".to_owned(), report_on(&record(BOB, NOON, 101))),
        call(&record(ALICE, NOON + 5000, 102)),
        // What is said of a call that is in the spool itself.
        said(&waiting),
        Entry::Response(waiting.upstream_id.clone().unwrap(), report_on(&waiting)),
    ] {
        spool.append(&serde_json::to_vec(&entry).unwrap()).unwrap();
    }
    let mut eraser = SqliteEraser::open(dir.path());
    let alice = units(&[ALICE]);
    // A server has it: nothing is erased until that one has stored them. New calls are not waited for.
    assert_eq!(eraser.erase(&alice, NOON + 5000).unwrap(), Erasure::Waiting(5));
    assert_eq!(rows(dir.path(), ALICE), 2);
    drop(spool);
    // Nobody will store them before the next start.
    let segment = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.into_iter().find(|path| !path.ends_with("backstay.lock")).unwrap();
    let mut torn = fs::read(&segment).unwrap();
    torn.extend_from_slice(format!("half a frame of {ALICE}").as_bytes());
    fs::write(&segment, torn).unwrap();
    assert_eq!(eraser.traces(&alice).unwrap().spooled, 6);
    assert_eq!(done(eraser.erase(&alice, u64::MAX).unwrap()).spooled, 6);
    assert_eq!(files_with(dir.path(), ALICE), Vec::<PathBuf>::new());
    let (_spool, recovered) = Spool::open(&path).unwrap();
    let mut left = 0;
    for segment in recovered {
        let mut segment = segment.unwrap();
        while let Some(frame) = segment.next_frame() {
            assert!(String::from_utf8_lossy(frame).contains(BOB));
            left += 1;
        }
        assert_eq!(segment.unread(), 0);
    }
    assert_eq!(left, 2, "what is of Bob waits for the next start");
}

#[test]
fn what_moves_from_the_spool_into_a_file_meanwhile_is_erased_too() {
    let (dir, mut records) = log(1);
    let (_spool, _) = Spool::open(dir.path().join("spool")).unwrap();
    let eraser = SqliteEraser::open(dir.path());
    // The server stores it right after the first look into the files, and it is not in the spool then.
    let moved = record(ALICE, NOON, 100);
    let mut looks = 0;
    let erased = eraser.erase_looking((&units(&[ALICE]), u64::MAX), || {
        if looks == 0 {
            records.append(&[call(&moved), said(&moved)]).unwrap();
        }
        looks += 1;
    });
    assert_eq!(done(erased.unwrap()).calls(), 3);
    assert_eq!(files_with(dir.path(), ALICE), Vec::<PathBuf>::new());
    assert_eq!((rows(dir.path(), BOB), looks), (2, 3));
}

#[test]
fn an_interrupted_erasure_is_completed_by_the_next_one() {
    let (dir, _records) = log(300);
    let eraser = SqliteEraser::open(dir.path());
    let day = Day::of_millis(NOON);
    let path = day.path(dir.path(), Holds::Calls);
    let found = eraser.find(&units(&[ALICE]), u64::MAX).unwrap();
    let found = found.into_iter().find(|found| found.day == day).unwrap();
    // The process ended right after the rows were deleted.
    let mut connection = file::open_writer(&path, &CALLS).unwrap();
    delete(&mut connection, |transaction| delete_calls(transaction, &found.calls)).unwrap();
    drop(connection);
    let of_calls = |dir: &Path| {
        let name = format!("calls-{day}");
        let found = files_with(dir, ALICE).into_iter();
        found.filter(|path| path.to_string_lossy().contains(&name)).count()
    };
    assert!(of_calls(dir.path()) > 0, "bytes are left");
    let mut eraser = eraser;
    done(eraser.erase(&units(&[ALICE]), u64::MAX).unwrap());
    assert_eq!(of_calls(dir.path()), 0);
    assert!(eraser.find(&units(&[ALICE]), u64::MAX).unwrap().is_empty());
}

#[test]
fn an_empty_log_has_no_traces() {
    let dir = tempfile::tempdir().unwrap();
    let mut eraser = SqliteEraser::open(dir.path().join("nowhere"));
    assert!(eraser.traces(&units(&[ALICE])).unwrap().is_empty());
    assert_eq!(eraser.erase(&units(&[ALICE]), u64::MAX).unwrap(), Erasure::Done(Traces::default()));
    assert!(!dir.path().join("nowhere").exists());
}
