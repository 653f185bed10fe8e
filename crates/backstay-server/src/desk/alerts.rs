//! The alerts, as the control API knows them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay_core::alert::{Alert, Silence, Stage};
use backstay_store::{AlertStore, StoreError, alerts::AlertFilter};

use super::{ApiError, Reads};

/// Alerts that fire at once and are told.
const MOST_FIRING: usize = 500;

/// The store of alerts and silences.
pub(crate) struct AlertsView {
    store: Arc<Mutex<dyn AlertStore>>,
    reads: Arc<Reads>,
}

impl std::fmt::Debug for AlertsView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlertsView").finish_non_exhaustive()
    }
}

impl AlertsView {
    /// A view of `store`, asked from one of the places of `reads`.
    pub(super) fn of(store: impl AlertStore + 'static, reads: Arc<Reads>) -> Self {
        Self { store: Arc::new(Mutex::new(store)), reads }
    }

    /// Asks or changes the store on a blocking thread.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut dyn AlertStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = Arc::clone(&self.store);
        self.reads.sums(move |_| Ok(question(&mut *lock(&store))?)).await
    }

    /// What is firing, and all silences; for those who are on a blocking thread already.
    pub(crate) fn firing(
        &self,
    ) -> impl FnOnce() -> Result<(Vec<Alert>, Vec<Silence>), StoreError> + Send + 'static {
        let store = Arc::clone(&self.store);
        move || {
            let store = lock(&store);
            let stages = vec![Stage::Firing];
            let filter = AlertFilter { stages, limit: MOST_FIRING, ..AlertFilter::default() };
            Ok((store.history(&filter)?, store.silences()?))
        }
    }

    /// The alerts that started last, newest first, and all silences.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn latest(&self, most: usize) -> Result<(Vec<Alert>, Vec<Silence>), ApiError> {
        let filter = AlertFilter { limit: most, ..AlertFilter::default() };
        self.with(move |store| Ok((store.history(&filter)?, store.silences()?))).await
    }
}

/// Each change of a store is one transaction.
fn lock<'a>(
    store: &'a Mutex<dyn AlertStore + 'static>,
) -> MutexGuard<'a, dyn AlertStore + 'static> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}
