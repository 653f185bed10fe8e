//! What is true of the SQLite files beyond the promises that all stores make.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use rusqlite::Connection;

use super::{Day, SqliteReader, SqliteRecords, SqliteRegistry};
use crate::{
    Entry, ErrorKind, Filter, Lookup, RecordReader, RecordStore, RegistryStore, Verdict,
    conformance::{DAY, NOON, call, found, full},
};

/// Every database of the directory passes SQLite's own check.
pub(crate) fn assert_sound(dir: &Path) {
    let mut checked = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "db") {
            let verdict: String = Connection::open(&path)
                .unwrap()
                .query_row("PRAGMA integrity_check", [], |row| row.get(0))
                .unwrap();
            assert_eq!(verdict, "ok", "{}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 0);
}

/// The schema of `control.db` before alerts were kept in it.
pub(crate) const FIRST_CONTROL_SCHEMA: &str = super::control::CONTROL.migrations[0];

fn batch(range: std::ops::Range<u64>) -> Vec<Entry> {
    range.map(|n| call(full(NOON + n, n))).collect()
}

/// Calls of two days in turn.
fn midnight_batch(range: std::ops::Range<u64>) -> Vec<Entry> {
    range.map(|n| call(full(NOON + DAY / 2 - 1 + n % 2, n))).collect()
}

#[test]
fn files_are_private() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("a/b");
    let mut records = SqliteRecords::open(&dir).unwrap();
    let _registry = SqliteRegistry::open(&dir).unwrap();
    records.append(&batch(0..1)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 9, "three databases, each with -wal and -shm: {files:?}");
    for path in files {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn at_most_two_days_are_open_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    for age in [5, 0, 3, 7, 0, 9] {
        records.append(&[call(full(NOON - age * DAY, age))]).unwrap();
        let open: Vec<_> = records.open.iter().map(|files| files.day).collect();
        assert!(open.len() <= 2);
        assert!(age == 5 || open.contains(&Day::of_millis(NOON)), "today is never closed");
    }
    drop(records);
    // The largest number is not in the newest file.
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    records.append(&[call(full(NOON + 1, 77))]).unwrap();
    let rows = SqliteReader::open(dir.path()).calls(&Filter::default()).unwrap();
    let newest = rows.iter().max_by_key(|row| row.seq).unwrap();
    assert_eq!((newest.id, newest.seq), (full(NOON + 1, 77).id, 6));
}

#[test]
fn a_damaged_file_is_named_and_may_be_moved_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    records.append(&batch(0..3)).unwrap();
    drop(records);
    let path = dir.path().join("calls-20261123.db");
    fs::write(&path, b"this is not a database, but long enough to be looked at").unwrap();
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    let error = records.append(&batch(3..4)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert!(error.message.contains("calls-20261123.db") && error.message.contains("move it"));
    let reader = SqliteReader::open(dir.path());
    assert_eq!(reader.calls(&Filter::default()).unwrap_err().kind, ErrorKind::Corrupt);
    fs::remove_file(&path).unwrap();
    records.append(&batch(3..4)).unwrap();
    // The number 1 is taken by a body of the lost file.
    let fourth = full(NOON + 3, 3);
    assert_eq!(found(&reader, &fourth.id.to_string()).unwrap().record, fourth);
}

/// As after a crash between the two commits of a batch.
#[test]
fn a_repeated_batch_brings_missing_bodies() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    records.append(&batch(0..3)).unwrap();
    drop(records);
    fs::remove_file(dir.path().join("bodies-20261123.db")).unwrap();
    let reader = SqliteReader::open(dir.path());
    let record = full(NOON + 1, 1);
    let text = record.id.to_string();
    assert_eq!(found(&reader, &text).unwrap().record.request, None);
    SqliteRecords::open(dir.path()).unwrap().append(&batch(0..3)).unwrap();
    assert_eq!(found(&reader, &text).unwrap().record, record);
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(SqliteRegistry::open(dir.path()).unwrap());
    let path = dir.path().join("control.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteRegistry::open(dir.path()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Newer);
    assert!(error.message.contains("control.db") && error.message.contains("99"));
}

#[test]
fn two_registries_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = SqliteRegistry::open(dir.path()).unwrap();
    let mut two = SqliteRegistry::open(dir.path()).unwrap();
    let before = one.version().unwrap();
    assert_eq!(two.release_put("a", "sha256:1", "{}", 1).unwrap(), 1);
    assert!(one.version().unwrap() > before);
    assert_eq!(one.release_put("a", "sha256:2", "{}", 2).unwrap(), 2);
}

/// Each question is answered by an index, whatever SQLite's statistics say.
#[test]
fn questions_use_their_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    records.append(&batch(0..50)).unwrap();
    let connection = Connection::open(dir.path().join("calls-20261123.db")).unwrap();
    let plan = |filter: &Filter| {
        let (condition, values) = super::reader::conditions(filter);
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT * FROM call c WHERE {condition} ORDER BY c.id DESC LIMIT 9"
        );
        let mut statement = connection.prepare(&sql).unwrap();
        let rows = statement
            .query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3))
            .unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    let filter = Filter::default;
    let by_call = plan(&Filter { call: Some("a".to_owned()), ..filter() });
    assert!(by_call.contains("call_by_name (call=?)"), "{by_call}");
    let failures = plan(&Filter { failures_only: true, ..filter() });
    assert!(failures.contains("call_failed"), "{failures}");
    let page = plan(&Filter { before: Some(full(NOON, 9).id), ..filter() });
    assert!(page.contains("(id<?)"), "{page}");
    let target = || Some("openai/gpt-5-mini".to_owned());
    let by_target = plan(&Filter { target: target(), ..filter() });
    assert!(by_target.contains("SEARCH a EXISTS USING INTEGER PRIMARY KEY"), "{by_target}");
    let of_call = plan(&Filter { call: Some("a".to_owned()), target: target(), ..filter() });
    let failed = plan(&Filter { target: target(), failures_only: true, ..filter() });
    for plan in [by_call, failures, page, by_target, of_call, failed] {
        assert!(!plan.contains("TEMP B-TREE") && !plan.contains("AUTOMATIC"), "{plan}");
    }
    for verdict in Verdict::ALL.map(Some) {
        let by_verdict = plan(&Filter { verdict, ..filter() });
        let of_call = plan(&Filter { call: Some("a".to_owned()), verdict, ..filter() });
        assert!(of_call.contains("call_by_name (call=?)"), "{of_call}");
        let failed = plan(&Filter { target: target(), failures_only: true, verdict, ..filter() });
        assert!(failed.contains("call_failed"), "{failed}");
        for plan in [by_verdict, of_call, failed] {
            assert!(plan.contains("SEARCH r USING") && plan.contains("(call_id=?)"), "{plan}");
            assert!(!plan.contains("AUTOMATIC"), "{plan}");
            // The few reports of one call are sorted, never the calls.
            let (calls, reports) = plan.split_once("CORRELATED SCALAR SUBQUERY").unwrap();
            assert_eq!(calls.matches("TEMP B-TREE").count(), 0, "{plan}");
            assert_eq!(reports.matches("TEMP B-TREE").count(), 1, "{plan}");
        }
    }
}

const READ_DIR: &str = "BACKSTAY_TEST_READ_DIR";
const ROWS: u64 = 3_000;

#[test]
#[ignore = "body of a child process of two_processes_read_what_a_third_one_writes"]
fn child_follows_until_the_end() {
    let dir = std::env::var_os(READ_DIR).unwrap();
    let reader = SqliteReader::open(&dir);
    let mut filter = Filter { after: Some(0), ..Filter::default() };
    let mut seen = 0;
    while seen < ROWS {
        for row in reader.calls(&filter).unwrap() {
            assert_eq!(filter.after, Some(row.seq - 1), "none is missing");
            filter.after = Some(row.seq);
            seen += 1;
            if seen % 100 == 0 {
                let Lookup::Found(_) = reader.call(&row.id.to_string()).unwrap() else {
                    panic!("{} is gone", row.id)
                };
            }
        }
    }
}

#[test]
fn two_processes_read_what_a_third_one_writes() {
    let dir = tempfile::tempdir().unwrap();
    let children: Vec<_> = (0..2)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["sqlite::tests::child_follows_until_the_end", "--exact", "--ignored"])
                .env(READ_DIR, dir.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut records = SqliteRecords::open(dir.path()).unwrap();
    for start in (0..ROWS).step_by(10) {
        records.append(&midnight_batch(start..start + 10)).unwrap();
    }
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    drop(records);
    assert_sound(dir.path());
}
