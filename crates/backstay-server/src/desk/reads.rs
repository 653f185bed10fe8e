//! Asks the stores on a bounded number of blocking threads, so that no question of a dashboard can
//! take the threads or the cores that calls need.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use backstay_store::{RecordReader, RollupReader, SqliteReader};
use tokio::{sync::Semaphore, time::timeout};

use super::error::ApiError;

/// Questions to the sums at once: each is answered in milliseconds.
const SUMS_AT_ONCE: usize = 4;
/// Questions to the log at once: one may read through days.
const LOG_AT_ONCE: usize = 2;
/// Whoever waits longer for its turn is told to come back.
const PATIENCE: Duration = Duration::from_secs(5);

/// The call log and the sums over it.
pub(crate) trait LogStore: RecordReader + RollupReader {}

impl<T: RecordReader + RollupReader> LogStore for T {}

/// The stores, and the places of those who ask them.
#[derive(Debug)]
pub(crate) struct Reads {
    dir: PathBuf,
    log: SqliteReader,
    sums_places: Arc<Semaphore>,
    log_places: Arc<Semaphore>,
}

impl Reads {
    /// Reads the store in `dir`.
    pub(crate) fn of(dir: PathBuf) -> Self {
        Self {
            log: SqliteReader::open(&dir),
            dir,
            sums_places: Arc::new(Semaphore::new(SUMS_AT_ONCE)),
            log_places: Arc::new(Semaphore::new(LOG_AT_ONCE)),
        }
    }

    /// Where the stores are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Asks what is answered in milliseconds: sums, alerts, silences.
    pub(crate) async fn sums<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn LogStore) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.ask(&self.sums_places, question).await
    }

    /// Asks the log, which may take longer.
    pub(crate) async fn log<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn LogStore) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.ask(&self.log_places, question).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        question: impl FnOnce(&dyn LogStore) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let Ok(Ok(place)) = timeout(PATIENCE, Arc::clone(places).acquire_owned()).await else {
            return Err(ApiError::busy("other questions to the store are being answered", 2));
        };
        let log = self.log.clone();
        let answered = tokio::task::spawn_blocking(move || {
            let answer = question(&log);
            // Held until here, even if the client has gone: the thread is busy until here.
            drop(place);
            answer
        });
        answered.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a question to the store ended in a panic");
            Err(ApiError::defect())
        })
    }
}
