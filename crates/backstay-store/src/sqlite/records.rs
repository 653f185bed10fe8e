//! The writer of the call log: one transaction a day file and batch, synced before it returns.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use backstay_core::record::{CallId, CallRecord, OutcomeReport};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, params};

use super::{
    code::{self, Tokens},
    day::{self, Day, Holds},
    file::{self, Schema},
    rollups::{FoldError, Rollups},
    signed,
};
use crate::{
    Appended, Entry, ErrorKind, RESPONSE_DAYS, RecordStore, Retained, Retention, StoreError,
};

/// `attempt.place` is `call.seq << PLACE_BITS | number`: an attempt is appended at the end of its
/// table, with no index to keep beside it.
pub(super) const PLACE_BITS: u32 = 16;

/// `call.seq` counts over all days: it is the cursor of those who follow the log. Only failures pay
/// for the index of failures. The provider's id is not indexed: its values are random, so that every
/// row would dirty a page of its own, for a look-up that is rare.
pub(super) const CALLS: Schema = Schema {
    page_size: 4096,
    keep: file::Keep::Durable,
    migrations: &[
        "
CREATE TABLE call (
  seq INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  started_ms INTEGER NOT NULL,
  call TEXT NOT NULL,
  release TEXT,
  variant TEXT NOT NULL,
  protocol TEXT NOT NULL,
  stream INTEGER NOT NULL,
  unit TEXT,
  outcome TEXT NOT NULL,
  failed INTEGER NOT NULL,
  degraded TEXT NOT NULL,
  message TEXT,
  violation_path TEXT,
  violation_rule TEXT,
  violation_reason TEXT,
  latency_us INTEGER NOT NULL,
  first_token_us INTEGER,
  overhead_us INTEGER NOT NULL,
  input_tokens INTEGER,
  output_tokens INTEGER,
  cache_read_tokens INTEGER,
  cache_write_tokens INTEGER,
  reasoning_tokens INTEGER,
  model TEXT,
  upstream_id TEXT,
  target TEXT,
  attempts INTEGER NOT NULL
) STRICT;
CREATE INDEX call_by_name ON call (call, id);
CREATE INDEX call_failed ON call (id) WHERE failed = 1;
CREATE TABLE attempt (
  place INTEGER PRIMARY KEY,
  target TEXT NOT NULL,
  kind TEXT NOT NULL,
  failure TEXT,
  message TEXT,
  started_us INTEGER NOT NULL,
  took_us INTEGER NOT NULL,
  first_token_us INTEGER,
  status INTEGER,
  retry_after_ms INTEGER
) STRICT;
CREATE TABLE outcome_report (
  seq INTEGER PRIMARY KEY,
  call_id BLOB NOT NULL,
  ok INTEGER NOT NULL,
  score REAL,
  reason TEXT,
  expected TEXT,
  reported_ms INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX outcome_report_once ON outcome_report
  (call_id, ok, ifnull(score, ''), ifnull(reason, 0), ifnull(expected, 0));
",
        "
ALTER TABLE call ADD COLUMN cache_write_1h_tokens INTEGER;
ALTER TABLE call ADD COLUMN input_media_tokens INTEGER;
ALTER TABLE call ADD COLUMN output_media_tokens INTEGER;
ALTER TABLE call ADD COLUMN tokens_estimated INTEGER;
ALTER TABLE call ADD COLUMN cost TEXT;
ALTER TABLE call ADD COLUMN nano_usd INTEGER;
ALTER TABLE call ADD COLUMN fingerprint TEXT;
ALTER TABLE call ADD COLUMN finish TEXT;
ALTER TABLE call ADD COLUMN traceparent TEXT;
ALTER TABLE attempt ADD COLUMN input_tokens INTEGER;
ALTER TABLE attempt ADD COLUMN output_tokens INTEGER;
ALTER TABLE attempt ADD COLUMN cache_read_tokens INTEGER;
ALTER TABLE attempt ADD COLUMN cache_write_tokens INTEGER;
ALTER TABLE attempt ADD COLUMN reasoning_tokens INTEGER;
ALTER TABLE attempt ADD COLUMN cache_write_1h_tokens INTEGER;
ALTER TABLE attempt ADD COLUMN input_media_tokens INTEGER;
ALTER TABLE attempt ADD COLUMN output_media_tokens INTEGER;
ALTER TABLE attempt ADD COLUMN tokens_estimated INTEGER;
ALTER TABLE attempt ADD COLUMN cost TEXT;
ALTER TABLE attempt ADD COLUMN nano_usd INTEGER;
",
    ],
};

pub(super) const BODIES: Schema = Schema {
    page_size: 16384,
    keep: file::Keep::Durable,
    migrations: &["
CREATE TABLE body (
  seq INTEGER PRIMARY KEY,
  id BLOB NOT NULL,
  request TEXT,
  answer TEXT,
  rejected TEXT
) STRICT;
"],
};

/// Whether there is anything for the bodies file.
fn has_bodies(record: &CallRecord) -> bool {
    [&record.request, &record.answer, &record.rejected].into_iter().any(Option::is_some)
}

/// In the order of [`code::Tokens`].
pub(super) const TOKEN_COLUMNS: &str = "input_tokens, output_tokens, cache_read_tokens,
  cache_write_tokens, cache_write_1h_tokens, input_media_tokens, reasoning_tokens,
  output_media_tokens, tokens_estimated, cost, nano_usd";

const INSERT_CALL: &str = "
INSERT INTO call (seq, id, started_ms, call, release, variant, protocol, stream, unit, outcome,
  failed, degraded, message, violation_path, violation_rule, violation_reason, latency_us,
  first_token_us, overhead_us, model, fingerprint, finish, traceparent, upstream_id, target, attempts,
  input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens,
  input_media_tokens, reasoning_tokens, output_media_tokens, tokens_estimated, cost, nano_usd)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
  ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37)
ON CONFLICT (id) DO NOTHING";

const INSERT_ATTEMPT: &str = "
INSERT INTO attempt (place, target, kind, failure, message, started_us, took_us, first_token_us,
  status, retry_after_ms, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
  cache_write_1h_tokens, input_media_tokens, reasoning_tokens, output_media_tokens,
  tokens_estimated, cost, nano_usd)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
  ?21)";

const INSERT_REPORT: &str = "
INSERT INTO outcome_report (call_id, ok, score, reason, expected, reported_ms)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT DO NOTHING";

/// A number may be taken by the body of another call if a damaged calls file was moved away.
const INSERT_BODY: &str = "
INSERT OR REPLACE INTO body (seq, id, request, answer, rejected) VALUES (?1, ?2, ?3, ?4, ?5)";

/// The call log in day files; see the table in [`crate::sqlite`].
#[derive(Debug)]
pub struct SqliteRecords {
    dir: PathBuf,
    next_seq: u64,
    /// Open for writing: the newest day, and one more for what arrives late.
    pub(super) open: Vec<DayFiles>,
    rollups: Rollups,
    /// Days that may hold what is not in the rollups yet.
    unfolded: BTreeSet<Day>,
}

#[derive(Debug)]
pub(super) struct DayFiles {
    pub(super) day: Day,
    calls: Connection,
    bodies: Option<Connection>,
}

impl SqliteRecords {
    /// Opens the call log in `dir`, which is made if it is not there. There must be one writer only:
    /// the lock of a [`crate::Spool`] on the same directory sees to that.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        file::make_dir(&dir)?;
        let mut last = 0;
        let days = day::list(&dir, Holds::Calls).map_err(|error| StoreError::io(&dir, error))?;
        for day in &days {
            // Readers only read files of today's schema; one that is newer or damaged is left alone,
            // and whoever asks for it is told.
            drop(file::open_writer(&day.path(&dir, Holds::Calls), &CALLS));
            // An old day that cannot be read must not keep the gateway from starting; whoever asks
            // for it is told.
            last = last.max(last_seq(&day.path(&dir, Holds::Calls)).unwrap_or(0));
        }
        let rollups = Rollups::new(&dir);
        let unfolded = days.into_iter().collect();
        Ok(Self { dir, next_seq: last + 1, open: Vec::new(), rollups, unfolded })
    }

    /// Appends what says which call it belongs to; how many of it came too late.
    fn append_known<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Result<u64, StoreError> {
        let mut days: BTreeMap<Day, Vec<&Entry>> = BTreeMap::new();
        for entry in entries {
            let Some(id) = entry.call_id() else { continue };
            days.entry(Day::of_millis(id.unix_millis())).or_default().push(entry);
        }
        let mut expired = 0;
        for (day, entries) in days {
            expired += self.append_day(day, &entries)?;
        }
        Ok(expired)
    }

    /// Gives each report by a provider's id the call whose answer has it, from the newest day backwards;
    /// those that none of the last days has are left out. Each day is opened once.
    fn matched(&mut self, batch: &[Entry]) -> Result<Vec<Entry>, StoreError> {
        let mut open: Vec<(&str, &OutcomeReport)> = Vec::new();
        for entry in batch {
            if let Entry::Response(response_id, report) = entry {
                open.push((response_id, report));
            }
        }
        let mut matched = Vec::new();
        if open.is_empty() {
            return Ok(matched);
        }
        let dir = self.dir.clone();
        let days = day::list(&dir, Holds::Calls).map_err(|error| StoreError::io(&dir, error))?;
        for day in days.into_iter().take(RESPONSE_DAYS) {
            if open.is_empty() {
                break;
            }
            let files = match self.take_day(day) {
                Ok(files) => files,
                Err(error) if is_unreadable(&error) => continue,
                Err(error) => return Err(error),
            };
            let wrong = |error| StoreError::sqlite(&day.path(&dir, Holds::Calls), error);
            let mut left = Vec::new();
            for (response_id, report) in open {
                match find_response(&files.calls, response_id).map_err(wrong)? {
                    Some(call_id) => {
                        matched.push(Entry::Outcome(OutcomeReport { call_id, ..report.clone() }));
                    }
                    None => left.push((response_id, report)),
                }
            }
            open = left;
            self.open.push(files);
        }
        Ok(matched)
    }

    /// Appends to a day; how many reports came when it was not kept any more.
    fn append_day(&mut self, day: Day, entries: &[&Entry]) -> Result<u64, StoreError> {
        let calls = day.path(&self.dir, Holds::Calls);
        if !entries.iter().any(|entry| matches!(entry, Entry::Call(_))) && !calls.exists() {
            return Ok(u64::try_from(entries.len()).unwrap_or(u64::MAX));
        }
        if let Some(given_up) = self.gone_with_its_day(day, entries)? {
            return Ok(given_up);
        }
        // Put back only if all goes well: after an error the files are opened again, since they may
        // have been mended or moved away by then.
        let mut files = self.take_day(day)?;
        let wrong = |error| StoreError::sqlite(&calls, error);
        let transaction = files.calls.transaction().map_err(wrong)?;
        let (next_seq, bodies) = insert_all(&transaction, entries, self.next_seq).map_err(wrong)?;
        transaction.commit().map_err(wrong)?;
        self.unfolded.insert(day);
        // Calls first: should the bodies fail, the repeated batch finds each call and its number.
        self.next_seq = next_seq;
        files.append_bodies(&self.dir, &bodies)?;
        self.open.push(files);
        Ok(0)
    }

    /// How many verdicts are given up because the file of their day cannot be read and is not today's:
    /// it would hold up every record that comes after them.
    fn gone_with_its_day(
        &mut self,
        day: Day,
        entries: &[&Entry],
    ) -> Result<Option<u64>, StoreError> {
        let older = self.open.iter().any(|files| files.day > day);
        if !older || entries.iter().any(|entry| matches!(entry, Entry::Call(_))) {
            return Ok(None);
        }
        match self.take_day(day) {
            Ok(files) => {
                self.open.push(files);
                Ok(None)
            }
            Err(error) if is_unreadable(&error) => {
                Ok(Some(u64::try_from(entries.len()).unwrap_or(u64::MAX)))
            }
            Err(error) => Err(error),
        }
    }

    fn take_day(&mut self, day: Day) -> Result<DayFiles, StoreError> {
        if let Some(place) = self.open.iter().position(|files| files.day == day) {
            return Ok(self.open.swap_remove(place));
        }
        // To close today's files would cost a checkpoint and a new start for every late report.
        let newest = self.open.iter().map(|files| files.day).max();
        self.open.retain(|files| Some(files.day) == newest);
        let path = day.path(&self.dir, Holds::Calls);
        let calls = file::open_writer(&path, &CALLS)?;
        // It may have been put there, or mended, after this store was opened.
        self.next_seq = self.next_seq.max(last_seq(&path)? + 1);
        Ok(DayFiles { day, calls, bodies: None })
    }
}

impl DayFiles {
    fn append_bodies(
        &mut self,
        dir: &Path,
        bodies: &[(u64, &CallRecord)],
    ) -> Result<(), StoreError> {
        if bodies.is_empty() {
            return Ok(());
        }
        let path = self.day.path(dir, Holds::Bodies);
        let wrong = |error| StoreError::sqlite(&path, error);
        let connection = match &mut self.bodies {
            Some(connection) => connection,
            none => none.insert(file::open_writer(&path, &BODIES)?),
        };
        let transaction = connection.transaction().map_err(wrong)?;
        {
            let mut insert = transaction.prepare_cached(INSERT_BODY).map_err(wrong)?;
            for (seq, record) in bodies {
                insert
                    .execute(params![
                        signed(*seq),
                        record.id.0.as_bytes().as_slice(),
                        record.request,
                        record.answer,
                        record.rejected
                    ])
                    .map_err(wrong)?;
            }
        }
        transaction.commit().map_err(wrong)
    }
}

impl RecordStore for SqliteRecords {
    fn append(&mut self, batch: &[Entry]) -> Result<Appended, StoreError> {
        let mut expired = self.append_known(batch.iter())?;
        // Afterwards: the call may be in this very batch.
        let matched = self.matched(batch)?;
        expired += self.append_known(matched.iter())?;
        let asked = batch.iter().filter(|entry| entry.call_id().is_none()).count();
        let unmatched = u64::try_from(asked - matched.len()).unwrap_or(u64::MAX);
        Ok(Appended { expired, unmatched })
    }

    fn roll_up(&mut self) -> Result<bool, StoreError> {
        let Some(day) = self.unfolded.first().copied() else { return Ok(false) };
        let path = day.path(&self.dir, Holds::Calls);
        let folded = match self.open.iter().find(|files| files.day == day) {
            Some(files) => self.rollups.fold(day, &files.calls),
            None => match file::open_reader(&path, &CALLS) {
                Ok(Some(log)) => self.rollups.fold(day, &log),
                Ok(None) => Ok(false),
                Err(error) if is_unreadable(&error) => {
                    // The other days must not wait for it. The next start tries it again.
                    self.unfolded.remove(&day);
                    return Err(error);
                }
                Err(error) => return Err(error),
            },
        };
        let more = match folded {
            Ok(more) => more,
            Err(FoldError::Sums(error)) => return Err(error),
            Err(FoldError::Log(error)) => {
                let error = StoreError::sqlite(&path, error);
                if is_unreadable(&error) {
                    self.unfolded.remove(&day);
                }
                return Err(error);
            }
        };
        if !more {
            self.unfolded.remove(&day);
        }
        Ok(!self.unfolded.is_empty())
    }

    fn retain(&mut self, now_ms: u64, retention: &Retention) -> Result<Retained, StoreError> {
        let old = |day: Day, keep: std::time::Duration| {
            u128::from(day.end_ms()) + keep.as_millis() <= u128::from(now_ms)
        };
        let dir = self.dir.clone();
        let listed = |holds| day::list(&dir, holds).map_err(|error| StoreError::io(&dir, error));
        let mut retained = Retained::default();
        for day in listed(Holds::Bodies)? {
            if old(day, retention.bodies) || old(day, retention.metadata) {
                self.open.retain(|files| files.day != day);
                unlink(&day.path(&dir, Holds::Bodies))?;
                retained.body_days += 1;
            }
        }
        for day in listed(Holds::Calls)? {
            if old(day, retention.metadata) {
                self.open.retain(|files| files.day != day);
                unlink(&day.path(&dir, Holds::Calls))?;
                retained.call_days += 1;
            }
        }
        let keep_ms = u64::try_from(retention.rollups.as_millis()).unwrap_or(u64::MAX);
        self.rollups.retain(now_ms, keep_ms, listed(Holds::Calls)?.last().copied())?;
        Ok(retained)
    }
}

/// Whether trying again cannot help, however often.
fn is_unreadable(error: &StoreError) -> bool {
    match error.kind {
        ErrorKind::Corrupt | ErrorKind::Newer | ErrorKind::Older => true,
        ErrorKind::Busy | ErrorKind::Full | ErrorKind::Conflict | ErrorKind::Io => false,
    }
}

/// The database goes last: as long as it is there, the next attempt finds the day again.
fn unlink(path: &Path) -> Result<(), StoreError> {
    for suffix in ["-wal", "-shm", ""] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(&name) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io(path, error)),
        }
    }
    Ok(())
}

fn last_seq(calls: &Path) -> Result<u64, StoreError> {
    let Some(connection) = file::open_reader(calls, &CALLS)? else { return Ok(0) };
    let wrong = |error| StoreError::sqlite(calls, error);
    let last = connection
        .query_row("SELECT ifnull(max(seq), 0) FROM call", [], |row| super::count(row, 0))
        .map_err(wrong)?;
    // A number that was given out is never given out again, even if its call was erased.
    Ok(last.max(super::erase::highest(&connection).map_err(wrong)?))
}

/// Inserts calls, attempts and reports; the next free number, and the calls that have bodies.
fn insert_all<'a>(
    transaction: &Transaction<'_>,
    entries: &[&'a Entry],
    mut seq: u64,
) -> rusqlite::Result<(u64, Vec<(u64, &'a CallRecord)>)> {
    let mut insert_call = transaction.prepare_cached(INSERT_CALL)?;
    let mut insert_attempt = transaction.prepare_cached(INSERT_ATTEMPT)?;
    let mut insert_report = transaction.prepare_cached(INSERT_REPORT)?;
    let mut bodies = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        if number % 16 == 15 {
            // On one core the calls that wait for it are more urgent than the log.
            std::thread::yield_now();
        }
        match entry {
            Entry::Outcome(report) => write_report(&mut insert_report, report)?,
            Entry::Response(..) => {}
            Entry::Call(record) => {
                let own = if write_call(&mut insert_call, record, seq)? {
                    write_attempts(&mut insert_attempt, record, seq)?;
                    seq += 1;
                    Some(seq - 1)
                } else {
                    seq_of(transaction, record)?
                };
                if let Some(own) = own
                    && has_bodies(record)
                {
                    bodies.push((own, record.as_ref()));
                }
            }
        }
    }
    Ok((seq, bodies))
}

/// Looks a call up by the provider's id of its answer. The index is made when a day is asked for the
/// first time: its values are random, so that every call dirties a page of it, and only those who
/// report by such ids shall pay for that.
fn find_response(calls: &Connection, response_id: &str) -> rusqlite::Result<Option<CallId>> {
    calls.execute_batch(
        "CREATE INDEX IF NOT EXISTS call_by_response ON call (upstream_id)
         WHERE upstream_id IS NOT NULL",
    )?;
    calls
        .prepare_cached("SELECT id FROM call WHERE upstream_id = ?1 ORDER BY id DESC LIMIT 1")?
        .query_row([response_id], |row| {
            let bytes: [u8; 16] = row.get(0)?;
            Ok(CallId(uuid::Uuid::from_bytes(bytes)))
        })
        .optional()
}

fn seq_of(transaction: &Transaction<'_>, record: &CallRecord) -> rusqlite::Result<Option<u64>> {
    transaction
        .prepare_cached("SELECT seq FROM call WHERE id = ?1")?
        .query_row([record.id.0.as_bytes().as_slice()], |row| super::count(row, 0))
        .optional()
}

/// Whether it was new.
fn write_call(
    insert: &mut CachedStatement<'_>,
    record: &CallRecord,
    seq: u64,
) -> rusqlite::Result<bool> {
    let tokens = Tokens::of(record.usage.as_ref(), record.cost);
    let violation = record.violation.as_ref();
    let inserted = insert.execute(params![
        signed(seq),
        record.id.0.as_bytes().as_slice(),
        signed(record.id.unix_millis()),
        record.call,
        record.release,
        record.variant.name(),
        record.protocol,
        record.stream,
        record.unit,
        record.outcome.code(),
        record.outcome.failure().is_some(),
        record.degraded.name(),
        record.message,
        violation.map(|v| &v.path),
        violation.map(|v| &v.rule),
        violation.map(|v| &v.reason),
        signed(record.latency_us),
        record.first_token_us.map(signed),
        signed(record.overhead_us),
        record.model,
        record.fingerprint,
        record.finish,
        record.trace.map(|trace| trace.to_string()),
        record.upstream_id,
        record.attempts.last().map(|attempt| &attempt.target),
        i64::try_from(record.attempts.len()).unwrap_or(i64::MAX),
        tokens.counts[0],
        tokens.counts[1],
        tokens.counts[2],
        tokens.counts[3],
        tokens.counts[4],
        tokens.counts[5],
        tokens.counts[6],
        tokens.counts[7],
        tokens.estimated,
        tokens.cost,
        tokens.nano_usd,
    ])?;
    Ok(inserted == 1)
}

fn write_attempts(
    insert: &mut CachedStatement<'_>,
    record: &CallRecord,
    seq: u64,
) -> rusqlite::Result<()> {
    for (number, attempt) in (0..1u64 << PLACE_BITS).zip(&record.attempts) {
        let tokens = Tokens::of(attempt.usage.as_ref(), attempt.cost);
        insert.execute(params![
            signed(seq << PLACE_BITS | number),
            attempt.target,
            code::attempt_kind(attempt.kind),
            attempt.failure.map(|class| class.code()),
            attempt.message,
            signed(attempt.started_us),
            signed(attempt.took_us),
            attempt.first_token_us.map(signed),
            attempt.status,
            attempt.retry_after_ms.map(signed),
            tokens.counts[0],
            tokens.counts[1],
            tokens.counts[2],
            tokens.counts[3],
            tokens.counts[4],
            tokens.counts[5],
            tokens.counts[6],
            tokens.counts[7],
            tokens.estimated,
            tokens.cost,
            tokens.nano_usd,
        ])?;
    }
    Ok(())
}

fn write_report(insert: &mut CachedStatement<'_>, report: &OutcomeReport) -> rusqlite::Result<()> {
    insert.execute(params![
        report.call_id.0.as_bytes().as_slice(),
        report.ok,
        report.score,
        report.reason,
        report.expected.as_ref().map(ToString::to_string),
        signed(report.reported_ms),
    ])?;
    Ok(())
}
