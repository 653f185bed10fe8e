//! Questions to the rollups and their answers, the same for every store.
//!
//! Rollups are a fold over the call log: the store folds what it has stored since it last did, in the
//! order of storing, and keeps in the same transaction how far it got. So they may lag by a moment,
//! and are exact after any crash.

use serde::{Deserialize, Serialize};

use backstay_core::rollup::{Cell, Key, Level};

use crate::StoreError;

/// Which rollups are meant: those that satisfy every field that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollupFilter {
    /// The length of their stretches.
    pub level: Level,
    /// Stretches that start at or after this, in milliseconds since the epoch.
    pub since_ms: u64,
    /// Stretches that start before this.
    pub until_ms: u64,
    /// The call site.
    pub call: Option<String>,
    /// The release: `extract-invoice@7`.
    pub release: Option<String>,
}

/// The calls of one key in one stretch.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollup {
    /// Where the stretch starts, in milliseconds since the epoch.
    pub start_ms: u64,
    /// What the calls have in common.
    pub key: Key,
    /// Their sums.
    pub cell: Cell,
}

/// A model that answered for a target, in the provider's own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSeen {
    /// `provider/model` as routes name it.
    pub target: String,
    /// The model that the provider says it used.
    pub model: String,
    /// The provider's word for the build, if it has one.
    pub fingerprint: Option<String>,
    /// When the first and
    pub first_ms: u64,
    /// the last call started that it answered, in milliseconds since the epoch.
    pub last_ms: u64,
    /// How many calls it answered.
    pub calls: u64,
}

/// The rollups as their readers see them; works beside the writer, and without one.
pub trait RollupReader: Send {
    /// The rollups that `filter` lets through, by start and key.
    ///
    /// # Errors
    /// When they cannot be read.
    fn rollups(&self, filter: &RollupFilter) -> Result<Vec<Rollup>, StoreError>;

    /// Every model that answered, by target and first call; at most the last 1,000.
    ///
    /// # Errors
    /// When they cannot be read.
    fn models(&self) -> Result<Vec<ModelSeen>, StoreError>;
}
