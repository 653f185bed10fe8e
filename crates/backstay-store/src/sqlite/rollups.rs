//! The writer of the rollups: folds what the call log has got since the last time into `rollup.db`.
//!
//! How far each day was folded stands in the same file and changes in the same transaction as the
//! sums. The file is not synced: after a crash it is behind at worst, and the log is folded again from
//! where it says. So sums are exact whatever happens to the process or the machine, as long as the log
//! is.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use backstay_core::{
    record::Variant,
    rollup::{Cell, Key, Level, OTHER, Sample},
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{
    code::{self, Tokens},
    count, count_opt,
    day::Day,
    file::{self, Schema},
    signed,
};
use crate::StoreError;

/// Calls and reports that one transaction folds: it bounds the memory and the time of a step.
const STEP: u32 = 8192;
/// Pairs of call and target that only clients have named, at once.
const MOST_DIRECT: u32 = 512;
/// A pair that no call has used for so long makes room for another.
const DIRECT_IDLE_MS: u64 = 7 * Level::Day.millis();
/// Models that are remembered; the one that was seen the longest ago makes room.
const MOST_MODELS: u32 = 1000;
/// Minutes are kept for so long: what is older is asked by the hour.
const MINUTES_KEPT_MS: u64 = 8 * Level::Day.millis();

/// `place` is `series << PLACE_BITS | start / length of the level`: the stretches of a series lie side
/// by side. An empty text stands for what is absent, so that the keys of series are unique.
pub(super) const ROLLUPS: Schema = Schema {
    page_size: 4096,
    keep: file::Keep::Derived,
    migrations: &["
CREATE TABLE folded (
  day INTEGER PRIMARY KEY,
  call_seq INTEGER NOT NULL,
  report_seq INTEGER NOT NULL
) STRICT;
CREATE TABLE series (
  id INTEGER PRIMARY KEY,
  call TEXT NOT NULL,
  release TEXT NOT NULL,
  variant TEXT NOT NULL,
  target TEXT NOT NULL,
  outcome TEXT NOT NULL,
  last_ms INTEGER NOT NULL,
  UNIQUE (call, release, variant, target, outcome)
) STRICT;
CREATE INDEX series_by_age ON series (last_ms);
CREATE TABLE minute (place INTEGER PRIMARY KEY, cell BLOB NOT NULL) STRICT;
CREATE TABLE hour (place INTEGER PRIMARY KEY, cell BLOB NOT NULL) STRICT;
CREATE TABLE day (place INTEGER PRIMARY KEY, cell BLOB NOT NULL) STRICT;
CREATE TABLE model (
  target TEXT NOT NULL,
  model TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  first_ms INTEGER NOT NULL,
  last_ms INTEGER NOT NULL,
  calls INTEGER NOT NULL,
  PRIMARY KEY (target, model, fingerprint)
) STRICT, WITHOUT ROWID;
"],
};

/// Room for the number of a stretch in a place: minutes until the year 10000.
pub(super) const PLACE_BITS: u32 = 33;

pub(super) const fn table(level: Level) -> &'static str {
    match level {
        Level::Minute => "minute",
        Level::Hour => "hour",
        Level::Day => "day",
    }
}

pub(super) fn place(series: u64, level: Level, start_ms: u64) -> i64 {
    signed(series << PLACE_BITS | (start_ms / level.millis()).min((1 << PLACE_BITS) - 1))
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("rollup.db")
}

/// The text of a cell's bytes: a version, then the cell in postcard's format.
const VERSION: u8 = 1;

fn encode(cell: &Cell) -> rusqlite::Result<Vec<u8>> {
    postcard::to_extend(cell, vec![VERSION])
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Reads column `index` as a cell.
pub(super) fn decode(row: &Row<'_>, index: usize) -> rusqlite::Result<Cell> {
    let wrong = |why: String| {
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Blob, why.into())
    };
    match row.get_ref(index)?.as_blob()?.split_first() {
        Some((&VERSION, bytes)) => postcard::from_bytes(bytes).map_err(|e| wrong(e.to_string())),
        Some((version, _)) => Err(wrong(format!("a cell of version {version}"))),
        None => Err(wrong("an empty cell".to_owned())),
    }
}

/// Why a step of the fold failed.
#[derive(Debug)]
pub(super) enum FoldError {
    /// The day's calls could not be read: the other days still can.
    Log(rusqlite::Error),
    /// The sums themselves.
    Sums(StoreError),
}

/// The same, before it is known in which file.
enum Trouble {
    Log(rusqlite::Error),
    Sums(rusqlite::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sums(error)
    }
}

/// How far a day was folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Folded {
    calls: u64,
    reports: u64,
}

/// A verdict that is to be counted.
struct Verdict {
    ok: bool,
    before: Option<bool>,
    started_ms: u64,
    key: Key,
}

/// The rollups of a directory, for their one writer.
#[derive(Debug)]
pub(super) struct Rollups {
    path: PathBuf,
    connection: Option<Connection>,
    /// Names that only clients know, with the start of the last call that used each.
    direct: HashMap<(String, String), u64>,
}

impl Rollups {
    pub(super) fn new(dir: &Path) -> Self {
        Self { path: path(dir), connection: None, direct: HashMap::new() }
    }

    /// Folds what `log`, the calls of `day`, has got since the last time, up to a bound; whether there
    /// is more.
    pub(super) fn fold(&mut self, day: Day, log: &Connection) -> Result<bool, FoldError> {
        let path = self.path.clone();
        // Put back only if all goes well: a file that was damaged or moved away is opened anew.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open().map_err(FoldError::Sums)?,
        };
        match self.fold_step(&mut connection, day, log) {
            Ok(more) => {
                self.connection = Some(connection);
                Ok(more)
            }
            Err(Trouble::Sums(error)) => Err(FoldError::Sums(StoreError::sqlite(&path, error))),
            Err(Trouble::Log(error)) => Err(FoldError::Log(error)),
        }
    }

    fn open(&mut self) -> Result<Connection, StoreError> {
        let connection = file::open_writer(&self.path, &ROLLUPS)?;
        let read = |connection: &Connection| {
            connection
                .prepare(
                    "SELECT call, target, max(last_ms) FROM series WHERE variant = 'direct'
                     GROUP BY 1, 2 ORDER BY 3 DESC LIMIT ?1",
                )?
                .query_map([MOST_DIRECT], |row| Ok(((row.get(0)?, row.get(1)?), count(row, 2)?)))?
                .collect::<rusqlite::Result<_>>()
        };
        self.direct = read(&connection).map_err(|error| StoreError::sqlite(&self.path, error))?;
        Ok(connection)
    }

    fn fold_step(
        &mut self,
        connection: &mut Connection,
        day: Day,
        log: &Connection,
    ) -> Result<bool, Trouble> {
        let transaction = connection.transaction()?;
        let from = folded(&transaction, day)?;
        let mut cells = Cells::new(&transaction);
        let mut to = from;
        let calls = calls_after(log, from).map_err(Trouble::Log)?;
        for call in &calls {
            let key = self.admit(call.sample.key.clone(), call.sample.started_ms);
            let sample = Sample { key, ..call.sample.clone() };
            cells.at(&sample.key, sample.started_ms, |cell| {
                cell.add(&sample);
                if let Some(ok) = call.told {
                    cell.report(ok, None);
                }
            })?;
            if let (Some(target), Some(model)) = (&call.sample.key.target, &call.model)
                && sample.key.target.as_ref() == Some(target)
            {
                saw_model(&transaction, target, model, call)?;
            }
            to.calls = call.seq;
        }
        let verdicts = verdicts_after(log, from, to).map_err(Trouble::Log)?;
        for verdict in &verdicts.counted {
            let key = self.known(verdict.key.clone());
            cells.at(&key, verdict.started_ms, |cell| cell.report(verdict.ok, verdict.before))?;
        }
        to.reports = verdicts.last.max(from.reports);
        if to == from {
            return Ok(false);
        }
        cells.write()?;
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO folded (day, call_seq, report_seq) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![signed(day.end_ms()), signed(to.calls), signed(to.reports)])?;
        transaction.execute(
            "DELETE FROM model WHERE (target, model, fingerprint) IN
               (SELECT target, model, fingerprint FROM model ORDER BY last_ms DESC LIMIT -1 OFFSET ?1)",
            [MOST_MODELS],
        )?;
        transaction.commit()?;
        Ok(calls.len() >= STEP as usize || verdicts.read >= STEP)
    }

    /// The key that a call is counted under; a name that only its client knows takes a place.
    fn admit(&mut self, key: Key, at_ms: u64) -> Key {
        if key.variant != Variant::Direct {
            return key;
        }
        let name = (key.call.clone(), key.target.clone().unwrap_or_default());
        if let Some(last) = self.direct.get_mut(&name) {
            *last = at_ms.max(*last);
            return key;
        }
        if self.direct.len() >= MOST_DIRECT as usize {
            self.direct.retain(|_, last| *last + DIRECT_IDLE_MS > at_ms);
        }
        if self.direct.len() < MOST_DIRECT as usize {
            self.direct.insert(name, at_ms);
        }
        self.known(key)
    }

    /// The key that a call was counted under.
    fn known(&self, key: Key) -> Key {
        let name = (key.call.clone(), key.target.clone().unwrap_or_default());
        if key.variant != Variant::Direct || self.direct.contains_key(&name) {
            return key;
        }
        let target = key.target.map(|_| OTHER.to_owned());
        Key { call: OTHER.to_owned(), target, ..key }
    }

    /// Drops sums of stretches that ended `keep_ms` before `now_ms`, minutes sooner, and gives their
    /// space back to the disk at once. How far days were folded is kept for all that still are
    /// in the log, of which `log` is the first.
    pub(super) fn retain(
        &mut self,
        now_ms: u64,
        keep_ms: u64,
        log: Option<Day>,
    ) -> Result<(), StoreError> {
        if !self.path.exists() {
            return Ok(());
        }
        let path = self.path.clone();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open()?,
        };
        retain(&mut connection, now_ms, keep_ms, log).map_err(|e| StoreError::sqlite(&path, e))?;
        self.connection = Some(connection);
        Ok(())
    }
}

fn retain(
    connection: &mut Connection,
    now_ms: u64,
    keep_ms: u64,
    log: Option<Day>,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let series: Vec<u64> = transaction
        .prepare("SELECT id FROM series")?
        .query_map([], |row| count(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    for level in Level::ALL {
        let kept = if level == Level::Minute { keep_ms.min(MINUTES_KEPT_MS) } else { keep_ms };
        let first = now_ms.saturating_sub(kept.saturating_add(level.millis()));
        let mut delete = transaction
            .prepare(&format!("DELETE FROM {} WHERE place >= ?1 AND place < ?2", table(level)))?;
        for id in &series {
            delete.execute([place(*id, level, 0), place(*id, level, first)])?;
        }
    }
    // A day more than its last cell: a number that is given to another series must have no cells.
    let oldest = signed(now_ms.saturating_sub(keep_ms.saturating_add(2 * Level::Day.millis())));
    transaction.execute("DELETE FROM series WHERE last_ms < ?1", [oldest])?;
    transaction.execute("DELETE FROM model WHERE last_ms < ?1", [oldest])?;
    let in_log = log.map_or(i64::MAX, |day| signed(day.end_ms()));
    transaction.execute("DELETE FROM folded WHERE day < ?1", [oldest.min(in_log)])?;
    transaction.commit()?;
    // It yields a row for each page that it gives back.
    let mut freed = connection.prepare("PRAGMA incremental_vacuum")?;
    let mut rows = freed.query([])?;
    while rows.next()?.is_some() {}
    drop(rows);
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

fn folded(transaction: &Transaction<'_>, day: Day) -> rusqlite::Result<Folded> {
    let found = transaction
        .prepare_cached("SELECT call_seq, report_seq FROM folded WHERE day = ?1")?
        .query_row([signed(day.end_ms())], |row| {
            Ok(Folded { calls: count(row, 0)?, reports: count(row, 1)? })
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// A call of the log that is to be counted.
struct Call {
    seq: u64,
    sample: Sample,
    model: Option<String>,
    fingerprint: String,
    /// A verdict that was stored before its call.
    told: Option<bool>,
}

fn calls_after(log: &Connection, from: Folded) -> rusqlite::Result<Vec<Call>> {
    let mut told = log.prepare_cached(
        "SELECT ok FROM outcome_report WHERE call_id = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT 1",
    )?;
    let mut select = log.prepare_cached(
        "SELECT seq, started_ms, call, release, variant, target, outcome, degraded, attempts,
           latency_us, first_token_us, model, fingerprint, id, input_tokens, output_tokens,
           cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, input_media_tokens,
           reasoning_tokens, output_media_tokens, tokens_estimated, cost, nano_usd
         FROM call WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = select.query(params![signed(from.calls), STEP])?;
    let mut calls = Vec::new();
    while let Some(row) = rows.next()? {
        let (usage, cost) = Tokens::read(row, 14)?;
        let sample = Sample {
            started_ms: count(row, 1)?,
            key: key(row, 2)?,
            degraded: code::read(row, 7)?,
            attempts: count(row, 8)?,
            latency_us: count(row, 9)?,
            first_token_us: count_opt(row, 10)?,
            usage,
            cost,
        };
        let id: [u8; 16] = row.get(13)?;
        let told = match from.reports {
            0 => None,
            last => {
                told.query_row(params![id.as_slice(), signed(last)], |row| row.get(0)).optional()?
            }
        };
        calls.push(Call {
            seq: count(row, 0)?,
            sample,
            model: row.get(11)?,
            fingerprint: row.get::<_, Option<String>>(12)?.unwrap_or_default(),
            told,
        });
    }
    Ok(calls)
}

/// Reads `call, release, variant, target, outcome` from column `first` on.
fn key(row: &Row<'_>, first: usize) -> rusqlite::Result<Key> {
    Ok(Key {
        call: row.get(first)?,
        release: row.get(first + 1)?,
        variant: code::read(row, first + 2)?,
        target: row.get(first + 3)?,
        outcome: code::read(row, first + 4)?,
    })
}

struct Verdicts {
    counted: Vec<Verdict>,
    /// How many were read, and the number of the last.
    read: u32,
    last: u64,
}

/// The verdicts that were stored since `from` on calls that were folded up to `to`. A verdict whose
/// call is not stored yet is counted with the call.
fn verdicts_after(log: &Connection, from: Folded, to: Folded) -> rusqlite::Result<Verdicts> {
    let mut select = log.prepare_cached(
        "SELECT r.seq, r.ok,
           (SELECT p.ok FROM outcome_report p WHERE p.call_id = r.call_id AND p.seq < r.seq
            ORDER BY p.seq DESC LIMIT 1),
           c.started_ms, c.call, c.release, c.variant, c.target, c.outcome
         FROM outcome_report r LEFT JOIN call c ON c.id = r.call_id AND c.seq <= ?2
         WHERE r.seq > ?1 ORDER BY r.seq LIMIT ?3",
    )?;
    let mut rows = select.query(params![signed(from.reports), signed(to.calls), STEP])?;
    let mut verdicts = Verdicts { counted: Vec::new(), read: 0, last: 0 };
    while let Some(row) = rows.next()? {
        verdicts.read += 1;
        verdicts.last = count(row, 0)?;
        let Some(started_ms) = count_opt(row, 3)? else { continue };
        verdicts.counted.push(Verdict {
            ok: row.get(1)?,
            before: row.get(2)?,
            started_ms,
            key: key(row, 4)?,
        });
    }
    Ok(verdicts)
}

fn saw_model(
    transaction: &Transaction<'_>,
    target: &str,
    model: &str,
    call: &Call,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO model (target, model, fingerprint, first_ms, last_ms, calls)
             VALUES (?1, ?2, ?3, ?4, ?4, 1)
             ON CONFLICT DO UPDATE SET calls = calls + 1, first_ms = min(first_ms, ?4),
               last_ms = max(last_ms, ?4)",
        )?
        .execute(params![target, model, call.fingerprint, signed(call.sample.started_ms)])?;
    Ok(())
}

/// The cells that a step touches, each read and written once.
struct Cells<'a> {
    transaction: &'a Transaction<'a>,
    series: HashMap<Key, (u64, u64)>,
    touched: BTreeMap<(Level, i64), Cell>,
}

impl<'a> Cells<'a> {
    fn new(transaction: &'a Transaction<'a>) -> Self {
        Self { transaction, series: HashMap::new(), touched: BTreeMap::new() }
    }

    /// Changes the cells that count a call of `key` that started at `started_ms`, one on each level.
    fn at(
        &mut self,
        key: &Key,
        started_ms: u64,
        mut change: impl FnMut(&mut Cell),
    ) -> rusqlite::Result<()> {
        let series = self.series_of(key, started_ms)?;
        for level in Level::ALL {
            let place = place(series, level, started_ms);
            let cell = match self.touched.entry((level, place)) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => {
                    let stored = self
                        .transaction
                        .prepare_cached(&format!(
                            "SELECT cell FROM {} WHERE place = ?1",
                            table(level)
                        ))?
                        .query_row([place], |row| decode(row, 0))
                        .optional()?;
                    new.insert(stored.unwrap_or_default())
                }
            };
            change(cell);
        }
        Ok(())
    }

    fn series_of(&mut self, key: &Key, started_ms: u64) -> rusqlite::Result<u64> {
        if let Some((id, last)) = self.series.get_mut(key) {
            *last = started_ms.max(*last);
            return Ok(*id);
        }
        let id = self
            .transaction
            .prepare_cached(
                "INSERT INTO series (call, release, variant, target, outcome, last_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO UPDATE SET last_ms = max(last_ms, excluded.last_ms) RETURNING id",
            )?
            .query_row(
                params![
                    key.call,
                    key.release.as_deref().unwrap_or_default(),
                    key.variant.name(),
                    key.target.as_deref().unwrap_or_default(),
                    key.outcome.code(),
                    signed(started_ms),
                ],
                |row| count(row, 0),
            )?;
        self.series.insert(key.clone(), (id, started_ms));
        Ok(id)
    }

    fn write(&self) -> rusqlite::Result<()> {
        for (id, last) in self.series.values() {
            self.transaction
                .prepare_cached("UPDATE series SET last_ms = max(last_ms, ?2) WHERE id = ?1")?
                .execute([signed(*id), signed(*last)])?;
        }
        for ((level, place), cell) in &self.touched {
            self.transaction
                .prepare_cached(&format!(
                    "INSERT OR REPLACE INTO {} (place, cell) VALUES (?1, ?2)",
                    table(*level)
                ))?
                .execute(params![place, encode(cell)?])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
