//! The readers' side of the rollups. They may lag behind the log by a moment.

use std::collections::HashMap;

use backstay_core::rollup::{Key, Level};
use rusqlite::{Connection, params};

use super::{
    SqliteReader, code, count, file,
    rollups::{self, PLACE_BITS, ROLLUPS},
    signed,
};
use crate::{ModelSeen, Rollup, RollupFilter, RollupReader, StoreError};

impl SqliteReader {
    /// Runs `read` on the rollups; `None` if there are none yet.
    fn on_rollups<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let path = rollups::path(self.dir());
        let Some(connection) = file::open_reader(&path, &ROLLUPS)? else { return Ok(None) };
        read(&connection).map(Some).map_err(|error| StoreError::sqlite(&path, error))
    }
}

impl RollupReader for SqliteReader {
    fn rollups(&self, filter: &RollupFilter) -> Result<Vec<Rollup>, StoreError> {
        let found = self.on_rollups(|connection| {
            // One snapshot: the writer may drop a series between the two questions.
            let connection = connection.unchecked_transaction()?;
            let series = series(&connection, filter)?;
            cells(&connection, filter, &series)
        })?;
        Ok(found.unwrap_or_default())
    }

    fn models(&self) -> Result<Vec<ModelSeen>, StoreError> {
        let found = self.on_rollups(|connection| {
            connection
                .prepare(
                    "SELECT target, model, nullif(fingerprint, ''), first_ms, last_ms, calls
                     FROM model ORDER BY target, first_ms, model, fingerprint",
                )?
                .query_map([], |row| {
                    Ok(ModelSeen {
                        target: row.get(0)?,
                        model: row.get(1)?,
                        fingerprint: row.get(2)?,
                        first_ms: count(row, 3)?,
                        last_ms: count(row, 4)?,
                        calls: count(row, 5)?,
                    })
                })?
                .collect()
        })?;
        Ok(found.unwrap_or_default())
    }
}

/// The series that may have cells of `filter`, by number.
fn series(connection: &Connection, filter: &RollupFilter) -> rusqlite::Result<HashMap<u64, Key>> {
    // The first call of a stretch may have started at its very end.
    let active = signed(filter.since_ms);
    connection
        .prepare(
            "SELECT id, call, nullif(release, ''), variant, nullif(target, ''), outcome FROM series
             WHERE last_ms >= ?1 AND (?2 IS NULL OR call = ?2) AND (?3 IS NULL OR release = ?3)",
        )?
        .query_map(params![active, filter.call, filter.release], |row| {
            let key = Key {
                call: row.get(1)?,
                release: row.get(2)?,
                variant: code::read(row, 3)?,
                target: row.get(4)?,
                outcome: code::read(row, 5)?,
            };
            Ok((count(row, 0)?, key))
        })?
        .collect()
}

fn cells(
    connection: &Connection,
    filter: &RollupFilter,
    series: &HashMap<u64, Key>,
) -> rusqlite::Result<Vec<Rollup>> {
    let level = filter.level;
    // A stretch that starts at `until` or later is left out, one that starts before it is not.
    let up = |at_ms: u64| at_ms.div_ceil(level.millis()).saturating_mul(level.millis());
    let (first, end) = (up(filter.since_ms), up(filter.until_ms));
    let mut select = connection.prepare(&format!(
        "SELECT place, cell FROM {} WHERE place >= ?1 AND place < ?2 ORDER BY place",
        rollups::table(level)
    ))?;
    let mut found = Vec::new();
    for (id, key) in series {
        let range = [rollups::place(*id, level, first), rollups::place(*id, level, end)];
        let mut rows = select.query(range)?;
        while let Some(row) = rows.next()? {
            let place = count(row, 0)?;
            let start_ms = (place & ((1 << PLACE_BITS) - 1)) * Level::millis(level);
            let cell = rollups::decode(row, 1)?;
            found.push(Rollup { start_ms, key: key.clone(), cell });
        }
    }
    found.sort_unstable_by(|a, b| (a.start_ms, &a.key).cmp(&(b.start_ms, &b.key)));
    Ok(found)
}
