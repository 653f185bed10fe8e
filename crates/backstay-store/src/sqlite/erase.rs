//! Takes the calls of a unit out of the call log, so that no byte of them is left in its files. Works
//! beside a running server: that one is not asked, and goes on.
//!
//! Deleted rows leave their bytes behind in pages, in the copies of pages that a split has left, and in
//! the write-ahead log. So each file that held something is rewritten (`VACUUM`) and its log emptied.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
};

use backstay_core::record::{CallId, CallRecord};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params_from_iter};

use super::{
    count,
    day::{self, Day, Holds},
    file,
    records::{BODIES, CALLS, PLACE_BITS},
    signed,
};
use crate::{DayTraces, Entry, Erase, Erasure, ErrorKind, Spool, StoreError, Traces};

/// Remembers the highest number that was given out, and whether the file is still to be rewritten.
/// Only files that something was erased from have it.
const REMEMBER: &str = "
CREATE TABLE IF NOT EXISTS erased (highest INTEGER NOT NULL, unfinished INTEGER NOT NULL) STRICT;
INSERT INTO erased SELECT ifnull(max(seq), 0), 1 FROM call;
";

/// So often files and spool are looked at in turn, until both say the same.
const MOST_LOOKS: usize = 10;

/// Erases from the call log of a directory.
#[derive(Clone, Debug)]
pub struct SqliteEraser {
    dir: PathBuf,
}

/// A call that is to go.
struct Found {
    seq: u64,
    id: CallId,
    /// The provider's id of its answer.
    response: Option<String>,
}

/// The calls of one day that are to go.
struct FoundDay {
    day: Day,
    calls: Vec<Found>,
    reports: u64,
}

impl SqliteEraser {
    /// An eraser for `dir`; a directory that does not exist is an empty log.
    #[must_use]
    pub fn open(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn spool(&self) -> PathBuf {
        self.dir.join("spool")
    }

    /// The days on which there is something to do.
    fn find(&self, units: &[String], before_ms: u64) -> Result<Vec<FoundDay>, StoreError> {
        let days = day::list(&self.dir, Holds::Calls);
        let days = days.map_err(|error| StoreError::io(&self.dir, error))?;
        let mut found = Vec::new();
        for day in days {
            let path = day.path(&self.dir, Holds::Calls);
            let Some(connection) = file::open_reader(&path, &CALLS)? else { continue };
            let (calls, reports) = calls_of(&connection, units, before_ms)
                .map_err(|error| StoreError::sqlite(&path, error))?;
            let unfinished =
                is_unfinished(&connection).map_err(|error| StoreError::sqlite(&path, error))?;
            // An earlier erasure may have been interrupted before the files were rewritten.
            if !calls.is_empty() || unfinished {
                found.push(FoundDay { day, calls, reports });
            }
        }
        Ok(found)
    }

    /// Whose frames are meant: those of the calls that were `found`, and of those that still wait in the
    /// spool.
    fn about<'a>(
        &self,
        (units, before_ms): (&'a [String], u64),
        found: &[FoundDay],
    ) -> Result<About<'a>, StoreError> {
        let mut about = About::new(units, before_ms, found);
        self.look_through_spool(|frame| about.learn(frame))?;
        Ok(about)
    }

    /// How many frames of the spool are about `units` or about the calls that were found.
    fn spooled(&self, about: &About<'_>) -> Result<u64, StoreError> {
        let mut frames = 0;
        self.look_through_spool(|frame| frames += u64::from(about.concerns(frame)))?;
        Ok(frames)
    }

    fn look_through_spool(&self, mut look: impl FnMut(&[u8])) -> Result<(), StoreError> {
        let wrong = |error| StoreError::io(&self.spool(), error);
        for segment in Spool::peek(&self.spool()).map_err(wrong)? {
            let mut segment = match segment {
                Ok(segment) => segment,
                // Stored and unlinked since the look.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(wrong(error)),
            };
            while let Some(frame) = segment.next_frame() {
                look(frame);
            }
        }
        Ok(())
    }

    /// Takes the frames out of the spool; `Err` with their number where a server works on it.
    fn clear_spool(&self, about: &About<'_>) -> Result<Result<u64, u64>, StoreError> {
        let frames = self.spooled(about)?;
        if !self.spool().exists() {
            return Ok(Ok(0));
        }
        let (lock, segments) = match Spool::open(self.spool()) {
            Ok(opened) => opened,
            Err(error) if error.kind == ErrorKind::Busy => {
                return Ok(if frames == 0 { Ok(0) } else { Err(frames) });
            }
            Err(error) => return Err(error),
        };
        let wrong = |error| StoreError::io(&self.spool(), error);
        for segment in segments {
            segment.map_err(wrong)?.rewrite(|frame| about.concerns(frame)).map_err(wrong)?;
        }
        drop(lock);
        Ok(Ok(frames))
    }

    /// Erases; `looked` is told of each look into the files.
    ///
    /// Beside a running server a record moves from the spool into a file at any time. What was in the
    /// spool before it was looked through is in the files afterwards: they are looked at again, and all
    /// of it is done anew if they hold a call that was not known then.
    fn erase_looking(
        &self,
        (units, before_ms): (&[String], u64),
        mut looked: impl FnMut(),
    ) -> Result<Erasure, StoreError> {
        let mut found = self.find(units, before_ms)?;
        looked();
        let mut spooled = 0;
        for _ in 0..MOST_LOOKS {
            let about = self.about((units, before_ms), &found)?;
            match self.clear_spool(&about)? {
                Ok(frames) => spooled += frames,
                Err(waiting) => return Ok(Erasure::Waiting(waiting)),
            }
            found = self.find(units, before_ms)?;
            looked();
            let calls = || found.iter().flat_map(|day| &day.calls);
            if calls().all(|found| about.calls.contains(&found.id)) {
                found.iter().try_for_each(|day| self.erase_day(day))?;
                return Ok(Erasure::Done(Traces { days: told(&found), spooled }));
            }
        }
        // Calls of these units end faster than they can be looked for.
        Ok(Erasure::Waiting(1))
    }

    fn erase_day(&self, found: &FoundDay) -> Result<(), StoreError> {
        let calls = found.day.path(&self.dir, Holds::Calls);
        let bodies = found.day.path(&self.dir, Holds::Bodies);
        // Bodies first: as long as a call is there, its body can be found again.
        if bodies.exists() {
            let mut connection = file::open_writer(&bodies, &BODIES)?;
            let deleted = delete(&mut connection, |transaction| {
                let mut body =
                    transaction.prepare("DELETE FROM body WHERE id = ?1 AND seq = ?2")?;
                found.calls.iter().try_for_each(|Found { seq, id, .. }| {
                    body.execute((id.0.as_bytes().as_slice(), signed(*seq))).map(drop)
                })
            });
            deleted.map_err(|error| StoreError::sqlite(&bodies, error))?;
            rewrite(&bodies, &connection)?;
        }
        let mut connection = file::open_writer(&calls, &CALLS)?;
        let wrong = |error| StoreError::sqlite(&calls, error);
        delete(&mut connection, |transaction| delete_calls(transaction, &found.calls))
            .map_err(wrong)?;
        rewrite(&calls, &connection)?;
        connection.execute("UPDATE erased SET unfinished = 0", []).map_err(wrong)?;
        Ok(())
    }
}

impl Erase for SqliteEraser {
    fn traces(&self, units: &[String]) -> Result<Traces, StoreError> {
        let about = self.about((units, u64::MAX), &self.find(units, u64::MAX)?)?;
        let spooled = self.spooled(&about)?;
        // Once more: what left the spool meanwhile is there now.
        Ok(Traces { days: told(&self.find(units, u64::MAX)?), spooled })
    }

    fn erase(&mut self, units: &[String], before_ms: u64) -> Result<Erasure, StoreError> {
        self.erase_looking((units, before_ms), || {})
    }
}

fn told(found: &[FoundDay]) -> Vec<DayTraces> {
    let days = found.iter().filter(|day| !day.calls.is_empty());
    let told = days.map(|found| DayTraces {
        day: found.day.to_string(),
        calls: u64::try_from(found.calls.len()).unwrap_or(u64::MAX),
        reports: found.reports,
    });
    told.collect()
}

/// Whose frames are meant.
struct About<'a> {
    units: &'a [String],
    before_ms: u64,
    calls: HashSet<CallId>,
    /// The provider's ids of their answers.
    responses: HashSet<String>,
}

impl<'a> About<'a> {
    fn new(units: &'a [String], before_ms: u64, found: &[FoundDay]) -> Self {
        let all = || found.iter().flat_map(|day| &day.calls);
        let responses = all().filter_map(|found| found.response.clone()).collect();
        Self { units, before_ms, calls: all().map(|found| found.id).collect(), responses }
    }

    /// A call that waits in the spool: what its consumer says of it may wait there too.
    fn learn(&mut self, frame: &[u8]) {
        if let Ok(Entry::Call(record)) = serde_json::from_slice(frame)
            && self.is_of_units(&record)
        {
            self.calls.insert(record.id);
            self.responses.extend(record.upstream_id);
        }
    }

    fn is_of_units(&self, record: &CallRecord) -> bool {
        record.id.unix_millis() < self.before_ms
            && record.unit.as_ref().is_some_and(|unit| self.units.contains(unit))
    }

    fn concerns(&self, frame: &[u8]) -> bool {
        match serde_json::from_slice(frame) {
            Ok(Entry::Call(record)) => self.is_of_units(&record),
            Ok(Entry::Outcome(report)) => self.calls.contains(&report.call_id),
            Ok(Entry::Response(response, _)) => self.responses.contains(&response),
            Err(_) => false,
        }
    }
}

fn calls_of(
    connection: &Connection,
    units: &[String],
    before_ms: u64,
) -> rusqlite::Result<(Vec<Found>, u64)> {
    let marks = vec!["?"; units.len()].join(", ");
    let which = format!("c.unit IN ({marks}) AND c.started_ms < {}", signed(before_ms));
    let calls = connection
        .prepare(&format!("SELECT c.seq, c.id, c.upstream_id FROM call c WHERE {which}"))?
        .query_map(params_from_iter(units), |row| {
            let id: [u8; 16] = row.get(1)?;
            let id = CallId(uuid::Uuid::from_bytes(id));
            Ok(Found { seq: count(row, 0)?, id, response: row.get(2)? })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    if calls.is_empty() {
        return Ok((calls, 0));
    }
    let sql = format!(
        "SELECT count(*) FROM outcome_report WHERE call_id IN (SELECT c.id FROM call c WHERE {which})"
    );
    let reports = connection.query_row(&sql, params_from_iter(units), |row| count(row, 0))?;
    Ok((calls, reports))
}

/// Deletes in one transaction, overwriting what is deleted.
fn delete(
    connection: &mut Connection,
    rows: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    connection.pragma_update(None, "secure_delete", true)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    rows(&transaction)?;
    transaction.commit()
}

fn delete_calls(transaction: &Transaction<'_>, calls: &[Found]) -> rusqlite::Result<()> {
    transaction.execute_batch(REMEMBER)?;
    // The last report leaves an empty row behind: were its number given out again, the rollups would
    // take the next report for one that they have counted.
    let mut last = transaction.prepare(
        "UPDATE OR REPLACE outcome_report
         SET call_id = zeroblob(16), score = NULL, reason = NULL, expected = NULL, reported_ms = 0
         WHERE call_id = ?1 AND seq = (SELECT max(seq) FROM outcome_report)",
    )?;
    let mut report = transaction.prepare("DELETE FROM outcome_report WHERE call_id = ?1")?;
    let mut attempts = transaction.prepare("DELETE FROM attempt WHERE place BETWEEN ?1 AND ?2")?;
    let mut call = transaction.prepare("DELETE FROM call WHERE seq = ?1 AND id = ?2")?;
    for Found { seq, id, .. } in calls {
        let id = id.0.as_bytes().as_slice();
        last.execute([id])?;
        report.execute([id])?;
        let first = signed(seq << PLACE_BITS);
        attempts.execute([first, first + (1 << PLACE_BITS) - 1])?;
        call.execute((signed(*seq), id))?;
    }
    Ok(())
}

/// Writes the file anew and empties its write-ahead log.
fn rewrite(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let wrong = |error| StoreError::sqlite(path, error);
    connection.execute_batch("VACUUM").map_err(wrong)?;
    let busy: bool = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(wrong)?;
    if busy {
        return Err(StoreError::at(path, ErrorKind::Busy, "its write-ahead log is being read"));
    }
    Ok(())
}

/// The highest number of a call that was erased from a file, or one above it.
pub(super) fn highest(connection: &Connection) -> rusqlite::Result<u64> {
    if !remembers(connection)? {
        return Ok(0);
    }
    connection.query_row("SELECT ifnull(max(highest), 0) FROM erased", [], |row| count(row, 0))
}

fn is_unfinished(connection: &Connection) -> rusqlite::Result<bool> {
    if !remembers(connection)? {
        return Ok(false);
    }
    connection.query_row("SELECT ifnull(max(unfinished), 0) FROM erased", [], |row| row.get(0))
}

fn remembers(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'erased'";
    Ok(connection.query_row(sql, [], |_| Ok(())).optional()?.is_some())
}

#[cfg(test)]
mod tests;
