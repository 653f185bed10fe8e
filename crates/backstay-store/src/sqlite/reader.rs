//! The readers' side of the call log. It opens the day files that a question needs and closes them
//! again, so that it never holds on to a day that retention has dropped.

use std::path::{Path, PathBuf};

use backstay_core::{
    failure::Violation,
    record::{AttemptRecord, CallId, CallRecord, Degraded, Outcome, OutcomeReport},
};
use rusqlite::{
    Connection, OptionalExtension, Row, ToSql, params, params_from_iter,
    types::{FromSqlError, Type},
};

use super::{
    code::{self, Tokens},
    count, count_opt,
    day::{self, Day, Holds},
    file,
    records::{BODIES, CALLS, PLACE_BITS, TOKEN_COLUMNS},
    signed,
};
use crate::{
    CallRow, Counts, Filter, Lookup, RecordReader, StoreError, StoredCall,
    query::{IdRange, MAX_AMBIGUOUS},
};

/// What the consumer of the call `c` said last. One value for each call that is looked at, by the index
/// of reports: SQLite makes no join of it.
const CONSUMER_OK: &str =
    "(SELECT r.ok FROM outcome_report r WHERE r.call_id = c.id ORDER BY r.seq DESC LIMIT 1)";

fn row_columns() -> String {
    format!(
        "c.seq, c.id, c.call, c.release, c.variant, c.protocol, c.stream, c.unit, c.outcome, c.degraded,
         c.message, c.latency_us, c.first_token_us, c.overhead_us, c.model, c.target, c.attempts,
         {CONSUMER_OK},
         c.upstream_id, c.violation_path, c.violation_rule, c.violation_reason, c.fingerprint,
         c.finish, c.traceparent, c.input_tokens, c.output_tokens, c.cache_read_tokens,
         c.cache_write_tokens, c.cache_write_1h_tokens, c.input_media_tokens, c.reasoning_tokens,
         c.output_media_tokens, c.tokens_estimated, c.cost, c.nano_usd"
    )
}

/// Where the columns of [`Tokens`] begin among those.
const ROW_TOKENS: usize = 25;

/// Reads the call log of a directory, whether or not a server runs on it.
#[derive(Clone, Debug)]
pub struct SqliteReader {
    dir: PathBuf,
}

impl SqliteReader {
    /// A reader of `dir`; a directory that does not exist is an empty log.
    #[must_use]
    pub fn open(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn days(&self) -> Result<Vec<Day>, StoreError> {
        day::list(&self.dir, Holds::Calls).map_err(|error| StoreError::io(&self.dir, error))
    }

    /// The days that can hold calls of `filter`, newest first.
    fn days_of(&self, filter: &Filter) -> Result<Vec<Day>, StoreError> {
        let first = filter.since_ms.map(Day::of_millis);
        let before = filter.before.map(CallId::unix_millis);
        let last = filter.until_ms.into_iter().chain(before).min().map(Day::of_millis);
        let mut days = self.days()?;
        days.retain(|day| {
            first.is_none_or(|first| *day >= first) && last.is_none_or(|last| *day <= last)
        });
        Ok(days)
    }

    /// Runs `read` on the calls of `day`; `None` if they are gone.
    fn on_day<T>(
        &self,
        day: Day,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let path = day.path(&self.dir, Holds::Calls);
        let Some(connection) = file::open_reader(&path, &CALLS)? else { return Ok(None) };
        read(&connection).map(Some).map_err(|error| StoreError::sqlite(&path, error))
    }

    fn rows(
        &self,
        day: Day,
        condition: &str,
        values: &[Box<dyn ToSql>],
    ) -> Result<Vec<CallRow>, StoreError> {
        let sql = format!("SELECT {} FROM call c WHERE {condition}", row_columns());
        let found = self.on_day(day, |connection| {
            connection
                .prepare(&sql)?
                .query_map(params_from_iter(values), call_row)?
                .collect::<rusqlite::Result<_>>()
        })?;
        Ok(found.unwrap_or_default())
    }

    /// What was stored after `after`, from the two newest days: at midnight calls of both are stored
    /// in turn, and a call lasts far less than a day.
    ///
    /// Nothing may be passed over: whoever is told of a number has to be told of all lower ones. A
    /// number that is visible in one file says that all lower ones are visible by now, but the other
    /// file may have been read before that.
    fn follow(&self, filter: &Filter, after: u64) -> Result<Vec<CallRow>, StoreError> {
        let (condition, mut values) = conditions(filter);
        values.push(Box::new(signed(after)));
        let condition = format!("{condition} AND c.seq > ? ORDER BY c.seq LIMIT {}", filter.rows());
        loop {
            let days = self.days_of(filter)?;
            let [newest, rest @ ..] = days.as_slice() else { return Ok(Vec::new()) };
            let mut rows = self.rows(*newest, &condition, &values)?;
            let late = match rest {
                [older, ..] => self.rows(*older, &condition, &values)?,
                [] => Vec::new(),
            };
            if let Some(last) = late.last() {
                let again = self.rows(*newest, &condition, &values)?;
                rows.extend(again.into_iter().filter(|row| row.seq < last.seq));
                rows.extend(late);
            }
            if self.days_of(filter)?.first() == Some(newest) {
                rows.sort_unstable_by_key(|row| row.seq);
                rows.dedup_by_key(|row| row.seq);
                rows.truncate(filter.rows());
                return Ok(rows);
            }
            // A day began meanwhile.
        }
    }

    fn in_range(&self, range: IdRange) -> Result<Lookup, StoreError> {
        let (first, last) =
            (range.first.0.as_bytes().as_slice(), range.last.0.as_bytes().as_slice());
        let mut found = Vec::new();
        for day in self.days()? {
            if day < Day::of_millis(range.first.unix_millis())
                || day > Day::of_millis(range.last.unix_millis())
            {
                continue;
            }
            let ids: Option<Vec<(Day, CallId)>> = self.on_day(day, |connection| {
                connection
                    .prepare("SELECT id FROM call WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3")?
                    .query_map(params![first, last, MAX_AMBIGUOUS], |row| Ok((day, id(row, 0)?)))?
                    .collect()
            })?;
            found.extend(ids.unwrap_or_default());
        }
        match found.as_slice() {
            [] => Ok(Lookup::Missing),
            [(day, id)] => self.whole(*day, "c.id = ?1", &id.0.as_bytes().as_slice()),
            _ => Ok(Lookup::Ambiguous(
                found.into_iter().map(|(_, id)| id).take(usize::from(MAX_AMBIGUOUS)).collect(),
            )),
        }
    }

    /// The newest call of `day` that satisfies `condition` on `value`.
    fn whole(&self, day: Day, condition: &str, value: &dyn ToSql) -> Result<Lookup, StoreError> {
        let call = self.on_day(day, |connection| {
            let sql = format!(
                "SELECT {} FROM call c WHERE {condition} ORDER BY c.id DESC LIMIT 1",
                row_columns()
            );
            let found = connection.query_row(&sql, [value], stored_call).optional()?;
            found
                .map(|mut call| {
                    call.record.attempts = attempts(connection, call.seq)?;
                    call.reports = reports(connection, call.record.id)?;
                    Ok(call)
                })
                .transpose()
        })?;
        let Some(mut call) = call.flatten() else { return Ok(Lookup::Missing) };
        let path = day.path(&self.dir, Holds::Bodies);
        if let Some(connection) = file::open_reader(&path, &BODIES)? {
            let bodies = connection
                .query_row(
                    "SELECT request, answer, rejected FROM body WHERE seq = ?1 AND id = ?2",
                    params![signed(call.seq), call.record.id.0.as_bytes().as_slice()],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )
                .optional()
                .map_err(|error| StoreError::sqlite(&path, error))?;
            (call.record.request, call.record.answer, call.record.rejected) =
                bodies.unwrap_or_default();
        }
        Ok(Lookup::Found(Box::new(call)))
    }
}

impl RecordReader for SqliteReader {
    fn calls(&self, filter: &Filter) -> Result<Vec<CallRow>, StoreError> {
        if let Some(after) = filter.after {
            return self.follow(filter, after);
        }
        let mut rows = Vec::new();
        for day in self.days_of(filter)? {
            let left = filter.rows() - rows.len();
            if left == 0 {
                break;
            }
            let (condition, values) = conditions(filter);
            rows.extend(self.rows(
                day,
                &format!("{condition} ORDER BY c.id DESC LIMIT {left}"),
                &values,
            )?);
        }
        Ok(rows)
    }

    fn call(&self, id: &str) -> Result<Lookup, StoreError> {
        if let Some(range) = IdRange::of_prefix(id) {
            let found = self.in_range(range)?;
            if found != Lookup::Missing {
                return Ok(found);
            }
        }
        for day in self.days()? {
            let found = self.whole(day, "c.upstream_id = ?1", &id)?;
            if found != Lookup::Missing {
                return Ok(found);
            }
        }
        Ok(Lookup::Missing)
    }

    fn counts(&self, filter: &Filter) -> Result<Counts, StoreError> {
        let mut counts = Counts::default();
        for day in self.days_of(filter)? {
            let (condition, values) = conditions(filter);
            let sql = format!(
                "SELECT c.outcome, c.degraded, count(*) FROM call c WHERE {condition} GROUP BY 1, 2"
            );
            let found: Option<Vec<(Outcome, Degraded, u64)>> = self.on_day(day, |connection| {
                connection
                    .prepare(&sql)?
                    .query_map(params_from_iter(values), |row| {
                        Ok((code::read(row, 0)?, code::read(row, 1)?, count(row, 2)?))
                    })?
                    .collect()
            })?;
            for (outcome, degraded, calls) in found.unwrap_or_default() {
                counts.add(outcome, degraded, calls);
            }
        }
        Ok(counts.sorted())
    }
}

/// The filter as SQL, its `after` and `limit` aside, and the values of its parameters.
pub(super) fn conditions(filter: &Filter) -> (String, Vec<Box<dyn ToSql>>) {
    let mut sql = String::from("1");
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let mut and = |condition: &str, value: Box<dyn ToSql>| {
        sql.push_str(" AND ");
        sql.push_str(condition);
        values.push(value);
    };
    if let Some(call) = &filter.call {
        and("c.call = ?", Box::new(call.clone()));
    }
    if let Some(release) = &filter.release {
        and("c.release = ?", Box::new(release.clone()));
    }
    if let Some(target) = &filter.target {
        // The plus keeps SQLite from making an index on the target first and running through all of
        // its rows for each call: the attempts of a call lie side by side.
        and(
            &format!(
                "EXISTS (SELECT 1 FROM attempt a WHERE +a.target = ? AND a.place BETWEEN
                   c.seq << {PLACE_BITS} AND (c.seq << {PLACE_BITS}) + (1 << {PLACE_BITS}) - 1)"
            ),
            Box::new(target.clone()),
        );
    }
    if let Some(since) = filter.since_ms {
        and("c.id >= ?", Box::new(first_id(since)));
    }
    if let Some(until) = filter.until_ms {
        and("c.id < ?", Box::new(first_id(until)));
    }
    if let Some(before) = filter.before {
        and("c.id < ?", Box::new(before.0.as_bytes().to_vec()));
    }
    if let Some(verdict) = filter.verdict {
        and(&format!("{CONSUMER_OK} IS ?"), Box::new(verdict.consumer_ok()));
    }
    // The index of failures is used only where this very condition stands.
    if filter.failures_only
        || (!filter.outcomes.is_empty() && filter.outcomes.iter().all(|o| o.failure().is_some()))
    {
        sql.push_str(" AND c.failed = 1");
    }
    if filter.degraded_only {
        sql.push_str(" AND c.degraded <> 'none'");
    }
    if !filter.units.is_empty() {
        let marks = vec!["?"; filter.units.len()].join(", ");
        sql.push_str(&format!(" AND c.unit IN ({marks})"));
        values.extend(filter.units.iter().map(|unit| Box::new(unit.clone()) as Box<dyn ToSql>));
    }
    if !filter.outcomes.is_empty() {
        let marks = vec!["?"; filter.outcomes.len()].join(", ");
        sql.push_str(&format!(" AND c.outcome IN ({marks})"));
        for outcome in &filter.outcomes {
            values.push(Box::new(outcome.code()));
        }
    }
    (sql, values)
}

/// The smallest id of a call that starts at `millis`.
fn first_id(millis: u64) -> Vec<u8> {
    let millis = u128::from(millis).min((1 << 48) - 1);
    (millis << 80).to_be_bytes().to_vec()
}

fn id(row: &Row<'_>, index: usize) -> rusqlite::Result<CallId> {
    let bytes: [u8; 16] = row.get(index)?;
    Ok(CallId(uuid::Uuid::from_bytes(bytes)))
}

fn call_row(row: &Row<'_>) -> rusqlite::Result<CallRow> {
    let (usage, cost) = Tokens::read(row, ROW_TOKENS)?;
    Ok(CallRow {
        seq: count(row, 0)?,
        id: id(row, 1)?,
        call: row.get(2)?,
        release: row.get(3)?,
        variant: code::read(row, 4)?,
        protocol: row.get(5)?,
        stream: row.get(6)?,
        unit: row.get(7)?,
        outcome: code::read(row, 8)?,
        degraded: code::read(row, 9)?,
        message: row.get(10)?,
        latency_us: count(row, 11)?,
        first_token_us: count_opt(row, 12)?,
        overhead_us: count(row, 13)?,
        usage,
        cost,
        model: row.get(14)?,
        target: row.get(15)?,
        attempts: row.get(16)?,
        consumer_ok: row.get(17)?,
    })
}

/// The call without its attempts, bodies and reports.
fn stored_call(row: &Row<'_>) -> rusqlite::Result<StoredCall> {
    let summary = call_row(row)?;
    let violation = match row.get(19)? {
        Some(path) => Some(Violation { path, rule: row.get(20)?, reason: row.get(21)? }),
        None => None,
    };
    Ok(StoredCall {
        seq: summary.seq,
        record: CallRecord {
            id: summary.id,
            call: summary.call,
            release: summary.release,
            variant: summary.variant,
            protocol: summary.protocol,
            stream: summary.stream,
            unit: summary.unit,
            outcome: summary.outcome,
            degraded: summary.degraded,
            message: summary.message,
            violation,
            latency_us: summary.latency_us,
            first_token_us: summary.first_token_us,
            overhead_us: summary.overhead_us,
            usage: summary.usage,
            cost: summary.cost,
            model: summary.model,
            fingerprint: row.get(22)?,
            finish: row.get(23)?,
            trace: code::read_opt(row, 24)?,
            upstream_id: row.get(18)?,
            attempts: Vec::new(),
            request: None,
            answer: None,
            rejected: None,
        },
        reports: Vec::new(),
    })
}

fn attempts(connection: &Connection, seq: u64) -> rusqlite::Result<Vec<AttemptRecord>> {
    let first = signed(seq << PLACE_BITS);
    connection
        .prepare(&format!(
            "SELECT target, kind, failure, message, started_us, took_us, first_token_us, status,
               retry_after_ms, {TOKEN_COLUMNS}
             FROM attempt WHERE place BETWEEN ?1 AND ?2 ORDER BY place",
        ))?
        .query_map([first, first + (1 << PLACE_BITS) - 1], |row| {
            let (usage, cost) = Tokens::read(row, 9)?;
            Ok(AttemptRecord {
                usage,
                cost,
                target: row.get(0)?,
                kind: code::read(row, 1)?,
                failure: code::read_opt(row, 2)?,
                message: row.get(3)?,
                started_us: count(row, 4)?,
                took_us: count(row, 5)?,
                first_token_us: count_opt(row, 6)?,
                status: row.get(7)?,
                retry_after_ms: count_opt(row, 8)?,
            })
        })?
        .collect()
}

fn reports(connection: &Connection, call_id: CallId) -> rusqlite::Result<Vec<OutcomeReport>> {
    connection
        .prepare(
            "SELECT ok, score, reason, expected, reported_ms FROM outcome_report
             WHERE call_id = ?1 ORDER BY seq",
        )?
        .query_map([call_id.0.as_bytes().as_slice()], |row| {
            let expected: Option<String> = row.get(3)?;
            let expected = expected.map(|text| serde_json::from_str(&text)).transpose();
            let wrong = |e| {
                let source = Box::new(FromSqlError::other(e));
                rusqlite::Error::FromSqlConversionFailure(3, Type::Text, source)
            };
            Ok(OutcomeReport {
                call_id,
                ok: row.get(0)?,
                score: row.get(1)?,
                reason: row.get(2)?,
                expected: expected.map_err(wrong)?,
                reported_ms: count(row, 4)?,
            })
        })?
        .collect()
}
