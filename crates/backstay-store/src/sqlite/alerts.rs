//! Alerts, silences and the outbox in `control.db`.
//!
//! Its changes leave the registry's version alone: API keys are read again when that grows.

use std::path::{Path, PathBuf};

use backstay_core::{
    alert::{Alert, Rule, Silence, Stage},
    record::CallId,
};
use rusqlite::{
    Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params, params_from_iter,
    types::{Type, Value},
};

use super::{code, control::CONTROL, count, count_opt, file, signed};
use crate::{
    AlertStore, ErrorKind, StoreError,
    alerts::{
        AlertChange, AlertFilter, AlertsKept, Event, MOST_ALERTS, MOST_NOTICES, Notice, Queued,
        ReceiverState, STRANGER, Settled, TOO_MANY, silence_fault, state_fault,
    },
};

const SILENCE_COLUMNS: &str = "id, call, rule, reason, by, created_ms, expires_ms";

/// The alerts of a directory. Several may have it open; changes wait for one another.
#[derive(Debug)]
pub struct SqliteAlerts {
    path: PathBuf,
    connection: Connection,
}

impl SqliteAlerts {
    /// Opens `control.db` in `dir`; both are made if they are not there.
    ///
    /// # Errors
    /// When it cannot be opened, or was written by a newer version.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        file::make_dir(&dir)?;
        let path = dir.join("control.db");
        let connection = file::open_writer(&path, &CONTROL)?;
        Ok(Self { path, connection })
    }

    /// As [`Self::open`], for those who only ask: `None` if there is no `control.db`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_existing(dir: impl AsRef<Path>) -> Result<Option<Self>, StoreError> {
        let dir = dir.as_ref();
        if dir.join("control.db").exists() { Self::open(dir).map(Some) } else { Ok(None) }
    }

    fn wrong(&self, error: rusqlite::Error) -> StoreError {
        StoreError::sqlite(&self.path, error)
    }

    /// Runs `change` in a transaction; what it returns is kept only if that commits.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let run = |connection: &mut Connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = change(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        run(&mut self.connection).map_err(|error| StoreError::sqlite(&self.path, error))
    }
}

impl AlertStore for SqliteAlerts {
    fn load(&self) -> Result<AlertsKept, StoreError> {
        let read = || {
            let open = self
                .connection
                .prepare_cached(
                    "SELECT content FROM alert WHERE resolved_ms IS NULL ORDER BY started_ms, id",
                )?
                .query_map([], |row| json(row, 0))?
                .collect::<rusqlite::Result<_>>()?;
            let states = self
                .connection
                .prepare_cached("SELECT key, content FROM alert_state ORDER BY key")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(AlertsKept { open, states, silences: read_silences(&self.connection)? })
        };
        read().map_err(|error| self.wrong(error))
    }

    fn save(&mut self, change: &AlertChange) -> Result<(), StoreError> {
        state_fault(&change.states)?;
        let saved = self.change(|transaction| {
            for alert in &change.alerts {
                put_alert(transaction, alert)?;
            }
            for id in &change.forgotten {
                transaction
                    .prepare_cached("DELETE FROM alert WHERE id = ?1")?
                    .execute([blob(*id)])?;
            }
            for (key, content) in &change.states {
                put_state(transaction, key, content.as_deref())?;
            }
            for notice in &change.notices {
                put_notice(transaction, notice, change.at_ms)?;
            }
            make_room(transaction, change.at_ms)
        });
        match saved {
            Err(error) if error.kind == ErrorKind::Conflict => {
                Err(StoreError::new(ErrorKind::Conflict, STRANGER))
            }
            saved => saved,
        }
    }

    fn alert(&self, id: CallId) -> Result<Option<Alert>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached("SELECT content FROM alert WHERE id = ?1")?
                .query_row([blob(id)], |row| json(row, 0))
                .optional()
        };
        read().map_err(|error| self.wrong(error))
    }

    fn history(&self, filter: &AlertFilter) -> Result<Vec<Alert>, StoreError> {
        let (condition, mut values) = conditions(filter);
        values.push(Value::Integer(i64::try_from(filter.rows()).unwrap_or(i64::MAX)));
        let limit = values.len();
        let sql = format!(
            "SELECT content FROM alert WHERE {condition} AND started_ms >= (
               SELECT min(started_ms) FROM (SELECT started_ms FROM alert WHERE {condition}
                                            ORDER BY started_ms DESC LIMIT ?{limit}))
             ORDER BY started_ms DESC, id DESC"
        );
        let read = || {
            self.connection
                .prepare_cached(&sql)?
                .query_map(params_from_iter(values), |row| json(row, 0))?
                .collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.wrong(error))
    }

    fn silences(&self) -> Result<Vec<Silence>, StoreError> {
        read_silences(&self.connection).map_err(|error| self.wrong(error))
    }

    fn silence_add(&mut self, silence: &Silence) -> Result<(), StoreError> {
        self.change(|transaction| {
            let in_force = transaction
                .prepare_cached("SELECT count(*) FROM silence WHERE expires_ms > ?1")?
                .query_row([signed(silence.created_ms)], |row| count(row, 0))?;
            let fault = silence_fault(silence, usize::try_from(in_force).unwrap_or(usize::MAX));
            if fault.is_ok() {
                put_silence(transaction, silence)?;
            }
            Ok(fault)
        })?
    }

    fn silence_end(&mut self, id: CallId, now_ms: u64) -> Result<Option<Silence>, StoreError> {
        self.change(|transaction| {
            transaction
                .prepare_cached(&format!(
                    "UPDATE silence SET expires_ms = max(?2, created_ms)
                     WHERE id = ?1 AND expires_ms > ?2 RETURNING {SILENCE_COLUMNS}"
                ))?
                .query_row(params![blob(id), signed(now_ms)], silence_row)
                .optional()
        })
    }

    fn outbox(&self, receiver: &str, limit: usize) -> Result<Vec<Queued>, StoreError> {
        let limit = i64::try_from(limit.min(MOST_ALERTS)).unwrap_or(i64::MAX);
        let read = || {
            self.connection
                .prepare_cached(
                    "SELECT n.id, a.content, n.event, n.created_ms, n.due_ms, n.attempts, EXISTS (
                       SELECT 1 FROM notice e WHERE e.alert = n.alert AND e.receiver = n.receiver
                                                AND e.id <= n.id AND e.told <> 0)
                     FROM notice n JOIN alert a ON a.id = n.alert
                     WHERE n.receiver = ?1 AND n.state = 'waiting' ORDER BY n.id LIMIT ?2",
                )?
                .query_map(params![receiver, limit], queued_row)?
                .collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.wrong(error))
    }

    fn outbox_begin(&mut self, notice: u64) -> Result<(), StoreError> {
        // 2: an attempt is under way, and nobody was told before it. Were it found like that by the
        // next one, nobody knows what became of it.
        self.change(|transaction| {
            transaction
                .prepare_cached(
                    "UPDATE notice SET attempts = attempts + 1,
                                       told = CASE told WHEN 0 THEN 2 ELSE 1 END
                     WHERE id = ?1 AND state = 'waiting'",
                )?
                .execute([signed(notice)])
        })
        .map(drop)
    }

    fn outbox_settle(&mut self, settled: &[(u64, Settled)]) -> Result<(), StoreError> {
        self.change(|transaction| {
            for (notice, settled) in settled {
                settle(transaction, *notice, settled)?;
            }
            Ok(())
        })
    }

    fn receivers(&self) -> Result<Vec<ReceiverState>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached(
                    "WITH waiting AS (
                       SELECT receiver AS name, sum(event <> 'refresh') AS pending FROM notice
                       WHERE state = 'waiting' GROUP BY receiver)
                     SELECT name, ifnull(pending, 0), ifnull(given_up, 0), last_ok_ms,
                            last_failed_ms, last_error
                     FROM receiver FULL JOIN waiting USING (name) ORDER BY name",
                )?
                .query_map([], |row| {
                    Ok(ReceiverState {
                        name: row.get(0)?,
                        pending: count(row, 1)?,
                        given_up: count(row, 2)?,
                        last_ok_ms: count_opt(row, 3)?,
                        last_failed_ms: count_opt(row, 4)?,
                        last_error: row.get(5)?,
                    })
                })?
                .collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.wrong(error))
    }

    fn alerts_retain(&mut self, before_ms: u64, limit: usize) -> Result<u64, StoreError> {
        let (before, limit) = (signed(before_ms), i64::try_from(limit).unwrap_or(i64::MAX));
        self.change(|transaction| {
            let dropped = transaction.execute(
                "DELETE FROM alert WHERE id IN (
                   SELECT id FROM alert WHERE resolved_ms < ?1 ORDER BY resolved_ms LIMIT ?2)",
                [before, limit],
            )?;
            transaction.execute(
                "DELETE FROM silence WHERE id IN (
                   SELECT id FROM silence WHERE expires_ms < ?1 ORDER BY expires_ms LIMIT ?2)",
                [before, limit],
            )?;
            transaction.execute(
                "DELETE FROM receiver
                 WHERE max(ifnull(last_ok_ms, 0), ifnull(last_failed_ms, 0)) < ?1
                   AND name NOT IN (SELECT receiver FROM notice WHERE state = 'waiting')",
                [before],
            )?;
            Ok(u64::try_from(dropped).unwrap_or(u64::MAX))
        })
    }
}

fn conditions(filter: &AlertFilter) -> (String, Vec<Value>) {
    let mut condition = "1".to_owned();
    let mut values = Vec::new();
    let mut and = |column: &str, value: Value| {
        values.push(value);
        condition.push_str(&format!(" AND {column} ?{}", values.len()));
    };
    if let Some(call) = &filter.call {
        and("call =", Value::Text(call.clone()));
    }
    if let Some(rule) = filter.rule {
        and("rule =", Value::Text(rule.name().to_owned()));
    }
    if let Some(before) = filter.before_ms {
        and("started_ms <", Value::Integer(signed(before)));
    }
    if !filter.stages.is_empty() {
        let stages: Vec<_> = filter.stages.iter().map(|stage| stage_name(*stage)).collect();
        let quoted = stages.join("', '");
        condition.push_str(&format!(" AND stage IN ('{quoted}')"));
    }
    (condition, values)
}

const fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Pending => "pending",
        Stage::Firing => "firing",
        Stage::Resolved => "resolved",
    }
}

fn put_alert(transaction: &Transaction<'_>, alert: &Alert) -> rusqlite::Result<()> {
    let content = serde_json::to_string(alert)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    transaction
        .prepare_cached(
            "INSERT INTO alert (id, call, rule, stage, started_ms, resolved_ms, content)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (id) DO UPDATE SET stage = excluded.stage,
               resolved_ms = excluded.resolved_ms, content = excluded.content",
        )?
        .execute(params![
            blob(alert.id),
            alert.subject.call,
            alert.subject.rule.name(),
            stage_name(alert.stage),
            signed(alert.started_ms),
            alert.resolved_ms.map(signed),
            content
        ])?;
    Ok(())
}

fn put_silence(transaction: &Transaction<'_>, silence: &Silence) -> rusqlite::Result<()> {
    transaction.execute(
        &format!("INSERT INTO silence ({SILENCE_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"),
        params![
            blob(silence.id),
            silence.call,
            silence.rule.map(Rule::name),
            silence.reason,
            silence.by,
            signed(silence.created_ms),
            signed(silence.expires_ms)
        ],
    )?;
    Ok(())
}

fn put_state(
    transaction: &Transaction<'_>,
    key: &str,
    content: Option<&str>,
) -> rusqlite::Result<()> {
    match content {
        Some(content) => transaction
            .prepare_cached(
                "INSERT INTO alert_state (key, content) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET content = excluded.content",
            )?
            .execute([key, content]),
        None => {
            transaction.prepare_cached("DELETE FROM alert_state WHERE key = ?1")?.execute([key])
        }
    }?;
    Ok(())
}

fn put_notice(transaction: &Transaction<'_>, notice: &Notice, at_ms: u64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO notice (alert, receiver, event, state, created_ms, due_ms, attempts, told)
             VALUES (?1, ?2, ?3, 'waiting', ?4, ?5, 0, 0)",
        )?
        .execute(params![
            blob(notice.alert),
            notice.receiver,
            notice.event.name(),
            signed(at_ms),
            signed(notice.due_ms)
        ])?;
    Ok(())
}

/// Gives the oldest notices up while more wait than are kept.
fn make_room(transaction: &Transaction<'_>, at_ms: u64) -> rusqlite::Result<()> {
    let waiting = transaction
        .prepare_cached("SELECT count(*) FROM notice WHERE state = 'waiting'")?
        .query_row([], |row| count(row, 0))?;
    let excess = waiting.saturating_sub(u64::try_from(MOST_NOTICES).unwrap_or(u64::MAX));
    if excess == 0 {
        return Ok(());
    }
    let oldest: Vec<u64> = transaction
        .prepare_cached("SELECT id FROM notice WHERE state = 'waiting' ORDER BY id LIMIT ?1")?
        .query_map([signed(excess)], |row| count(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    for notice in oldest {
        settle(transaction, notice, &Settled::GivenUp { at_ms, why: TOO_MANY.to_owned() })?;
    }
    Ok(())
}

fn settle(transaction: &Transaction<'_>, notice: u64, settled: &Settled) -> rusqlite::Result<()> {
    let id = signed(notice);
    let receiver: Option<String> = transaction
        .prepare_cached("SELECT receiver FROM notice WHERE id = ?1 AND state = 'waiting'")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some(receiver) = receiver else { return Ok(()) };
    let (sql, due) = match settled {
        Settled::Delivered { again_ms: None, .. } => {
            ("UPDATE notice SET state = 'delivered', told = 1, due_ms = ifnull(?2, due_ms)", None)
        }
        Settled::Delivered { again_ms: Some(again), .. } => (
            "UPDATE notice SET event = 'refresh', attempts = 0, told = 1, due_ms = ?2",
            Some(signed(*again)),
        ),
        Settled::Failed { due_ms, maybe_told: true, .. } => {
            ("UPDATE notice SET told = 1, due_ms = ?2", Some(signed(*due_ms)))
        }
        Settled::Failed { due_ms, maybe_told: false, .. } => (
            "UPDATE notice SET told = CASE told WHEN 2 THEN 0 ELSE told END, due_ms = ?2",
            Some(signed(*due_ms)),
        ),
        Settled::GivenUp { .. } => {
            ("UPDATE notice SET state = 'given_up', due_ms = ifnull(?2, due_ms)", None)
        }
        Settled::Dropped => {
            ("UPDATE notice SET state = 'dropped', due_ms = ifnull(?2, due_ms)", None)
        }
    };
    transaction.prepare_cached(&format!("{sql} WHERE id = ?1"))?.execute(params![id, due])?;
    account(transaction, &receiver, settled)
}

/// Keeps how the receiver does.
fn account(
    transaction: &Transaction<'_>,
    receiver: &str,
    settled: &Settled,
) -> rusqlite::Result<()> {
    let (sql, at_ms, why) = match settled {
        Settled::Dropped => return Ok(()),
        Settled::Delivered { at_ms, .. } => (
            "INSERT INTO receiver VALUES (?1, 0, ?2, NULL, ?3)
             ON CONFLICT (name) DO UPDATE SET last_ok_ms = ?2, last_error = ?3",
            at_ms,
            None,
        ),
        Settled::Failed { at_ms, why, .. } => (
            "INSERT INTO receiver VALUES (?1, 0, NULL, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET last_failed_ms = ?2, last_error = ?3",
            at_ms,
            Some(why),
        ),
        Settled::GivenUp { at_ms, why } => (
            "INSERT INTO receiver VALUES (?1, 1, NULL, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET given_up = given_up + 1, last_failed_ms = ?2,
               last_error = ?3",
            at_ms,
            Some(why),
        ),
    };
    transaction.prepare_cached(sql)?.execute(params![receiver, signed(*at_ms), why])?;
    Ok(())
}

fn read_silences(connection: &Connection) -> rusqlite::Result<Vec<Silence>> {
    connection
        .prepare_cached(&format!("SELECT {SILENCE_COLUMNS} FROM silence ORDER BY created_ms, id"))?
        .query_map([], silence_row)?
        .collect()
}

fn silence_row(row: &Row<'_>) -> rusqlite::Result<Silence> {
    Ok(Silence {
        id: CallId(uuid::Uuid::from_bytes(row.get(0)?)),
        call: row.get(1)?,
        rule: code::read_opt(row, 2)?,
        reason: row.get(3)?,
        by: row.get(4)?,
        created_ms: count(row, 5)?,
        expires_ms: count(row, 6)?,
    })
}

fn queued_row(row: &Row<'_>) -> rusqlite::Result<Queued> {
    Ok(Queued {
        id: count(row, 0)?,
        alert: json(row, 1)?,
        event: event(row, 2)?,
        created_ms: count(row, 3)?,
        due_ms: count(row, 4)?,
        attempts: row.get(5)?,
        told: row.get(6)?,
    })
}

fn event(row: &Row<'_>, index: usize) -> rusqlite::Result<Event> {
    let name: String = row.get(index)?;
    Event::from_name(&name).ok_or_else(|| {
        let error = format!("`{name}` is not an event of a notice");
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, error.into())
    })
}

fn json(row: &Row<'_>, index: usize) -> rusqlite::Result<Alert> {
    let text = row.get_ref(index)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
    })
}

/// The bytes of an id, which sort by time.
fn blob(id: CallId) -> [u8; 16] {
    *id.0.as_bytes()
}
