//! Notices that calls arrive, and what Backstay itself costs them.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use backstay_core::{
    histogram::Histogram,
    record::{CallRecord, OutcomeReport},
};
use backstay_engine::Observer;

/// Counts since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    seen: AtomicU64,
    overhead_us: Mutex<Histogram>,
}

impl Pulse {
    /// How many calls and verdicts there were.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Microseconds of Backstay's own, by call.
    pub(crate) fn overhead_us(&self) -> Histogram {
        self.lock().clone()
    }

    /// Held for one count or one copy of a few hundred numbers; a count is whole or not there.
    fn lock(&self) -> MutexGuard<'_, Histogram> {
        self.overhead_us.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Pulse {
    fn call_ended(&self, record: &CallRecord) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        self.lock().record(record.overhead_us, 1);
    }

    fn reported(&self, _report: &OutcomeReport) {
        self.seen.fetch_add(1, Ordering::Relaxed);
    }
}
