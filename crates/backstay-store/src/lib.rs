//! What Backstay keeps: the call log, the releases, the API keys and the alerts.
//!
//! Traits by need: [`RecordStore`] is appended to by one writer, [`RecordReader`] answers questions
//! about what was written, [`RegistryStore`] and [`AlertStore`] are transactional. [`sqlite`] is the
//! store of a gateway, [`memory`] the one of tests under paused time. [`Recorder`] stands between the
//! call path and a [`RecordStore`], so that no call ever waits for a disk to sync; [`Spool`] keeps what
//! was answered but not stored yet. All SQL of the gateway is in this crate, and no decision about
//! calls.

use serde::{Deserialize, Serialize};

use backstay_core::record::{CallId, CallRecord, OutcomeReport};

pub mod alerts;
#[cfg(test)]
mod conformance;
mod error;
pub mod memory;
pub mod pseudonym_key;
mod query;
pub mod recorder;
mod rollup;
pub mod spool;
pub mod sqlite;

pub use alerts::AlertStore;
pub use error::{ErrorKind, StoreError};
pub use memory::MemoryStore;
pub use query::{CallRow, Counts, Filter, Lookup, StoredCall, Verdict};
pub use recorder::{Accounting, Limits, Recorder};
pub use rollup::{ModelSeen, Rollup, RollupFilter, RollupReader};
pub use spool::Spool;
pub use sqlite::{SqliteAlerts, SqliteEraser, SqliteReader, SqliteRecords, SqliteRegistry};

use std::time::Duration;

/// One thing that is appended to the call log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    /// A call that ended.
    Call(Box<CallRecord>),
    /// What its consumer said of the answer.
    Outcome(OutcomeReport),
    /// The same of the answer that the provider calls so; the store finds the call and puts its id
    /// into the report.
    Response(String, OutcomeReport),
}

impl Entry {
    /// The call that it belongs to, and with it the day, where that is known.
    #[must_use]
    pub fn call_id(&self) -> Option<CallId> {
        match self {
            Self::Call(record) => Some(record.id),
            Self::Outcome(report) => Some(report.call_id),
            Self::Response(..) => None,
        }
    }
}

/// What became of a batch. All the rest of it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Outcome reports on calls whose day is not kept any more.
    pub expired: u64,
    /// Outcome reports by a provider's id that no call of the last days has.
    pub unmatched: u64,
}

impl Appended {
    /// How many entries of the batch are not stored.
    #[must_use]
    pub const fn given_up(&self) -> u64 {
        self.expired + self.unmatched
    }
}

/// Days that are searched for a call by the provider's id of its answer, today included.
pub(crate) const RESPONSE_DAYS: usize = 8;

/// How long a call is kept, counted from the end of its day (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Its request and answer.
    pub bodies: Duration,
    /// Everything else that is kept of it alone.
    pub metadata: Duration,
    /// The sums that it is counted in.
    pub rollups: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |n: u64| Duration::from_secs(n * 24 * 3600);
        Self { bodies: days(14), metadata: days(90), rollups: days(400) }
    }
}

/// What [`RecordStore::retain`] let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Days whose requests and answers were dropped.
    pub body_days: u64,
    /// Days whose calls were dropped.
    pub call_days: u64,
}

/// The call log as its one writer sees it.
pub trait RecordStore: Send {
    /// Stores a batch durably. A call is known by its id and a report by its content, so a batch (or
    /// one that a failure left half stored) may be appended again and changes nothing twice.
    ///
    /// # Errors
    /// When nothing, or only a part that may be repeated, could be stored.
    fn append(&mut self, batch: &[Entry]) -> Result<Appended, StoreError>;

    /// Brings the rollups nearer to what was appended, by a bounded step; whether there is more to do.
    ///
    /// # Errors
    /// When they cannot be read or written. Nothing is lost: the next step begins where this one did.
    fn roll_up(&mut self) -> Result<bool, StoreError>;

    /// Drops the days that are entirely older than `retention` allows at `now_ms` (since the epoch).
    ///
    /// # Errors
    /// When a day could not be dropped; it is tried again the next time.
    fn retain(&mut self, now_ms: u64, retention: &Retention) -> Result<Retained, StoreError>;
}

/// The call log as its readers see it; works beside the writer, and without one.
pub trait RecordReader: Send {
    /// The calls that `filter` lets through: newest start first, or with [`Filter::after`] in the
    /// order in which they were stored.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn calls(&self, filter: &Filter) -> Result<Vec<CallRow>, StoreError>;

    /// One whole call, by its id, by the first 8 or more characters of its id, or by the provider's
    /// id of the answer (which is searched for from the newest day to the oldest).
    ///
    /// # Errors
    /// When the log cannot be read.
    fn call(&self, id: &str) -> Result<Lookup, StoreError>;

    /// How the calls that `filter` lets through ended; its `limit` and `after` are ignored.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn counts(&self, filter: &Filter) -> Result<Counts, StoreError>;
}

/// What of a unit is in the call log, or was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traces {
    /// By the day on which the calls began, newest first.
    pub days: Vec<DayTraces>,
    /// Records and reports that were not stored yet.
    pub spooled: u64,
}

impl Traces {
    /// All calls that are stored.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.days.iter().map(|day| day.calls).sum()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.days.is_empty() && self.spooled == 0
    }
}

/// What of a unit is in the files of one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DayTraces {
    /// `YYYYMMDD`, UTC.
    pub day: String,
    /// Calls, with their attempts and bodies.
    pub calls: u64,
    /// What their consumers said.
    pub reports: u64,
}

/// How far an erasure came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Erasure {
    /// Nothing is left of what is told.
    Done(Traces),
    /// A server runs that has not stored so many records yet; nothing was erased. Try again.
    Waiting(u64),
}

/// Takes single people out of the call log, whether or not a server runs on it.
pub trait Erase {
    /// What is there of `units`, as they are kept.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn traces(&self, units: &[String]) -> Result<Traces, StoreError>;

    /// Erases everything of `units` that began before `before_ms`: calls, attempts, bodies, reports.
    /// No byte of it is left in the files. Sums over calls stay: they name nobody.
    ///
    /// # Errors
    /// When something could not be erased; doing it again completes it.
    fn erase(&mut self, units: &[String], before_ms: u64) -> Result<Erasure, StoreError>;
}

/// One immutable release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRow {
    /// The call.
    pub call: String,
    /// Counts up from 1 per call.
    pub number: u32,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
    /// The release as JSON, byte for byte as it was put.
    pub content_json: String,
    /// When it was put, in milliseconds since the epoch.
    pub created_ms: u64,
}

/// An API key. The key itself is never stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    /// Its public part.
    pub id: String,
    /// What people call it; unique among the keys that are not revoked.
    pub name: String,
    /// SHA-256 of the whole key.
    pub sha256: [u8; 32],
    /// When it was made, in milliseconds since the epoch.
    pub created_ms: u64,
    /// Since when it is refused.
    pub revoked_ms: Option<u64>,
}

/// Releases and API keys; every change is one transaction.
pub trait RegistryStore: Send {
    /// The number of the release of `call` with this digest: the one it has, or the next one.
    ///
    /// # Errors
    /// When it cannot be stored.
    fn release_put(
        &mut self,
        call: &str,
        digest: &str,
        content_json: &str,
        now_ms: u64,
    ) -> Result<u32, StoreError>;

    /// The newest `limit` releases of a call, newest first.
    ///
    /// # Errors
    /// When the registry cannot be read.
    fn releases(&self, call: &str, limit: u32) -> Result<Vec<ReleaseRow>, StoreError>;

    /// One release.
    ///
    /// # Errors
    /// When the registry cannot be read.
    fn release(&self, call: &str, number: u32) -> Result<Option<ReleaseRow>, StoreError>;

    /// Stores a new key.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when its id is taken, or its name by a key that is not revoked.
    fn key_create(&mut self, key: &KeyRow) -> Result<(), StoreError>;

    /// All keys, revoked ones included, oldest first.
    ///
    /// # Errors
    /// When the registry cannot be read.
    fn key_list(&self) -> Result<Vec<KeyRow>, StoreError>;

    /// Revokes the key with this id, or else the one with this name; the key, if there was one that
    /// was not revoked already.
    ///
    /// # Errors
    /// When it cannot be stored.
    fn key_revoke(&mut self, id_or_name: &str, now_ms: u64) -> Result<Option<KeyRow>, StoreError>;

    /// A number that grows with every change, whoever made it. Cheap enough to ask every second.
    ///
    /// # Errors
    /// When the registry cannot be read.
    fn version(&self) -> Result<u64, StoreError>;
}
