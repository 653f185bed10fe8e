//! Opening SQLite files: private to their owner, in WAL mode, at the schema that this program knows.

use std::{
    fs::{DirBuilder, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::{ErrorKind, StoreError};

/// The log of a file is carried over in pieces of this many bytes: on one core a larger piece would
/// hold up the calls that come in meanwhile.
const CHECKPOINT: u32 = 1 << 20;

/// How long a lock of another process is waited for. The writer's only rivals are tools that
/// checkpoint or migrate, which takes milliseconds.
const BUSY: Duration = Duration::from_secs(5);

/// What a file is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// What it holds is nowhere else: it is synced with every transaction.
    Durable,
    /// What a crash takes from its end is made again from other files. It gives freed space back.
    Derived,
}

/// The schema of one kind of file: `migrations[n]` leads from version n to version n + 1.
pub(super) struct Schema {
    pub(super) page_size: u32,
    pub(super) keep: Keep,
    pub(super) migrations: &'static [&'static str],
}

impl Schema {
    fn version(&self) -> i64 {
        i64::try_from(self.migrations.len()).unwrap_or(i64::MAX)
    }
}

/// Makes the directory, readable by its owner only, unless it is there.
pub(crate) fn make_dir(dir: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| StoreError::io(dir, error))
}

/// Opens a file for writing; makes it and brings its schema up to date.
pub(super) fn open_writer(path: &Path, schema: &Schema) -> Result<Connection, StoreError> {
    // SQLite would make it readable for everybody; its -wal and -shm take over the mode of the file.
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| StoreError::io(path, error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let wrong = |error| StoreError::sqlite(path, error);
    let mut connection = Connection::open_with_flags(path, flags).map_err(wrong)?;
    connection.busy_timeout(BUSY).map_err(wrong)?;
    connection.pragma_update(None, "page_size", schema.page_size).map_err(wrong)?;
    let synchronous = match schema.keep {
        Keep::Durable => "FULL",
        Keep::Derived => {
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(wrong)?;
            "NORMAL"
        }
    };
    connection.pragma_update(None, "journal_mode", "WAL").map_err(wrong)?;
    connection.pragma_update(None, "synchronous", synchronous).map_err(wrong)?;
    let pages = CHECKPOINT / schema.page_size;
    connection.pragma_update(None, "wal_autocheckpoint", pages).map_err(wrong)?;
    migrate(path, &mut connection, schema)?;
    Ok(connection)
}

fn migrate(path: &Path, connection: &mut Connection, schema: &Schema) -> Result<(), StoreError> {
    let wrong = |error| StoreError::sqlite(path, error);
    if checked_version(path, connection, schema)? == schema.version() {
        return Ok(());
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(wrong)?;
    // Read again under the lock: another process may have been faster.
    let found = checked_version(path, &transaction, schema)?;
    let done = usize::try_from(found).unwrap_or(0);
    for migration in schema.migrations.iter().skip(done) {
        transaction.execute_batch(migration).map_err(wrong)?;
    }
    transaction.pragma_update(None, "user_version", schema.version()).map_err(wrong)?;
    transaction.commit().map_err(wrong)
}

fn checked_version(
    path: &Path,
    connection: &Connection,
    schema: &Schema,
) -> Result<i64, StoreError> {
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| StoreError::sqlite(path, error))?;
    if found > schema.version() {
        let told = format!("schema version {found}, this program knows {}", schema.version());
        return Err(StoreError::at(path, ErrorKind::Newer, told));
    }
    Ok(found)
}

/// Opens a file for reading. `None`: it is not there (any more), or nothing was written to it yet.
pub(super) fn open_reader(path: &Path, schema: &Schema) -> Result<Option<Connection>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match Connection::open_with_flags(path, flags) {
        Ok(connection) => connection,
        // Unlinked by retention since the look.
        Err(_) if !path.exists() => return Ok(None),
        Err(error) => return Err(StoreError::sqlite(path, error)),
    };
    connection.busy_timeout(BUSY).map_err(|error| StoreError::sqlite(path, error))?;
    match checked_version(path, &connection, schema)? {
        0 => Ok(None),
        version if version == schema.version() => Ok(Some(connection)),
        version => Err(StoreError::at(path, ErrorKind::Older, format!("schema version {version}"))),
    }
}
