//! Releases and API keys in `control.db`, and the schema of that file.

use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::{
    count, count_opt,
    file::{self, Schema},
    signed,
};
use crate::{ErrorKind, KeyRow, RegistryStore, ReleaseRow, StoreError};

pub(super) const CONTROL: Schema = Schema {
    page_size: 4096,
    keep: file::Keep::Durable,
    migrations: &[
        "
CREATE TABLE version (number INTEGER NOT NULL) STRICT;
INSERT INTO version VALUES (0);
CREATE TABLE release (
  call TEXT NOT NULL,
  number INTEGER NOT NULL,
  digest TEXT NOT NULL,
  content TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  PRIMARY KEY (call, number),
  UNIQUE (call, digest)
) STRICT;
CREATE TABLE api_key (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  sha256 BLOB NOT NULL,
  created_ms INTEGER NOT NULL,
  revoked_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX api_key_name ON api_key (name) WHERE revoked_ms IS NULL;
",
        "
CREATE TABLE alert (
  id BLOB PRIMARY KEY,
  call TEXT NOT NULL,
  rule TEXT NOT NULL,
  stage TEXT NOT NULL,
  started_ms INTEGER NOT NULL,
  resolved_ms INTEGER,
  content TEXT NOT NULL
) STRICT;
CREATE INDEX alert_open ON alert (started_ms) WHERE resolved_ms IS NULL;
CREATE INDEX alert_by_start ON alert (started_ms);
CREATE INDEX alert_by_call ON alert (call, started_ms);
CREATE INDEX alert_resolved ON alert (resolved_ms) WHERE resolved_ms IS NOT NULL;
CREATE TABLE alert_state (
  key TEXT PRIMARY KEY,
  content TEXT NOT NULL
) STRICT;
CREATE TABLE silence (
  id BLOB PRIMARY KEY,
  call TEXT,
  rule TEXT,
  reason TEXT NOT NULL,
  by TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE notice (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  alert BLOB NOT NULL REFERENCES alert (id) ON DELETE CASCADE,
  receiver TEXT NOT NULL,
  event TEXT NOT NULL,
  state TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  due_ms INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  told INTEGER NOT NULL
) STRICT;
CREATE INDEX notice_waiting ON notice (receiver, id) WHERE state = 'waiting';
CREATE INDEX notice_by_alert ON notice (alert, receiver);
CREATE TABLE receiver (
  name TEXT PRIMARY KEY,
  given_up INTEGER NOT NULL,
  last_ok_ms INTEGER,
  last_failed_ms INTEGER,
  last_error TEXT
) STRICT;
",
    ],
};

const KEY_COLUMNS: &str = "id, name, sha256, created_ms, revoked_ms";
const RELEASE_COLUMNS: &str = "call, number, digest, content, created_ms";

/// The registry of a directory. Several processes may have it open; changes wait for one another.
#[derive(Debug)]
pub struct SqliteRegistry {
    path: PathBuf,
    connection: Connection,
}

impl SqliteRegistry {
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
            let before = transaction.total_changes();
            let result = change(&transaction)?;
            if transaction.total_changes() > before {
                transaction.execute("UPDATE version SET number = number + 1", [])?;
            }
            transaction.commit()?;
            Ok(result)
        };
        run(&mut self.connection).map_err(|error| StoreError::sqlite(&self.path, error))
    }
}

impl RegistryStore for SqliteRegistry {
    fn release_put(
        &mut self,
        call: &str,
        digest: &str,
        content_json: &str,
        now_ms: u64,
    ) -> Result<u32, StoreError> {
        self.change(|transaction| {
            let known: Option<u32> = transaction
                .prepare_cached("SELECT number FROM release WHERE call = ?1 AND digest = ?2")?
                .query_row([call, digest], |row| row.get(0))
                .optional()?;
            if let Some(number) = known {
                return Ok(number);
            }
            transaction
                .prepare_cached(
                    "INSERT INTO release (call, number, digest, content, created_ms)
                     SELECT ?1, 1 + ifnull(max(number), 0), ?2, ?3, ?4 FROM release WHERE call = ?1
                     RETURNING number",
                )?
                .query_row(params![call, digest, content_json, signed(now_ms)], |row| row.get(0))
        })
    }

    fn releases(&self, call: &str, limit: u32) -> Result<Vec<ReleaseRow>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached(&format!(
                    "SELECT {RELEASE_COLUMNS} FROM release WHERE call = ?1
                     ORDER BY number DESC LIMIT ?2"
                ))?
                .query_map(params![call, limit], release_row)?
                .collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.wrong(error))
    }

    fn release(&self, call: &str, number: u32) -> Result<Option<ReleaseRow>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached(&format!(
                    "SELECT {RELEASE_COLUMNS} FROM release WHERE call = ?1 AND number = ?2"
                ))?
                .query_row(params![call, number], release_row)
                .optional()
        };
        read().map_err(|error| self.wrong(error))
    }

    fn key_create(&mut self, key: &KeyRow) -> Result<(), StoreError> {
        let insert = |transaction: &Transaction<'_>| {
            transaction.execute(
                "INSERT INTO api_key (id, name, sha256, created_ms, revoked_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    key.id,
                    key.name,
                    key.sha256.as_slice(),
                    signed(key.created_ms),
                    key.revoked_ms.map(signed)
                ],
            )
        };
        match self.change(insert) {
            Ok(_) => Ok(()),
            Err(error) if error.kind == ErrorKind::Conflict => {
                Err(StoreError::new(ErrorKind::Conflict, key_conflict(&key.name)))
            }
            Err(error) => Err(error),
        }
    }

    fn key_list(&self) -> Result<Vec<KeyRow>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached(&format!(
                    "SELECT {KEY_COLUMNS} FROM api_key ORDER BY created_ms, id"
                ))?
                .query_map([], key_row)?
                .collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.wrong(error))
    }

    fn key_revoke(&mut self, id_or_name: &str, now_ms: u64) -> Result<Option<KeyRow>, StoreError> {
        self.change(|transaction| {
            transaction
                .prepare_cached(&format!(
                    "UPDATE api_key SET revoked_ms = ?2 WHERE id = (
                       SELECT id FROM api_key WHERE revoked_ms IS NULL AND (id = ?1 OR name = ?1)
                       ORDER BY id = ?1 DESC LIMIT 1)
                     RETURNING {KEY_COLUMNS}"
                ))?
                .query_row(params![id_or_name, signed(now_ms)], key_row)
                .optional()
        })
    }

    fn version(&self) -> Result<u64, StoreError> {
        let read = || {
            self.connection
                .prepare_cached("SELECT number FROM version")?
                .query_row([], |row| count(row, 0))
        };
        read().map_err(|error| self.wrong(error))
    }
}

pub(crate) fn key_conflict(name: &str) -> String {
    format!("there is a key named `{name}` already: revoke it first, or choose another name")
}

fn release_row(row: &Row<'_>) -> rusqlite::Result<ReleaseRow> {
    Ok(ReleaseRow {
        call: row.get(0)?,
        number: row.get(1)?,
        digest: row.get(2)?,
        content_json: row.get(3)?,
        created_ms: count(row, 4)?,
    })
}

fn key_row(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    Ok(KeyRow {
        id: row.get(0)?,
        name: row.get(1)?,
        sha256: row.get(2)?,
        created_ms: count(row, 3)?,
        revoked_ms: count_opt(row, 4)?,
    })
}
