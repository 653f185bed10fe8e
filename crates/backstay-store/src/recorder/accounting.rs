//! The recorder's books at one instant: what became of all that was received, and how far the sums over
//! it have come.

use crate::Retained;

/// Sums that have lacked a call for longer than this say too little to be judged by.
const LONGEST_WAIT_MS: u64 = 60_000;

/// What became of all that was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounting {
    /// Records and reports that were handed in: always `stored + pending` and all of `shed` together.
    pub received: u64,
    /// In the store.
    pub stored: u64,
    /// In the queue or on their way to the store.
    pub pending: u64,
    /// Given up, by reason: `queue_full`, `expired` (a report on a day that is not kept any more),
    /// `unmatched` (a report by a provider's id that no call of the last days has), `closed` (handed in
    /// after the shutdown began).
    pub shed: [(&'static str, u64); 4],
    /// Stored without their request and answer (reason `body_queue_full`); part of the others.
    pub bodies_shed: u64,
    /// Entries that were stored from the spool, after a crash or after they were shed. Apart from
    /// `received`; some of them may have been stored before.
    pub replayed: u64,
    /// Frames of the spool that this version cannot read, and torn tails.
    pub unreadable: u64,
    /// Times that the spool failed: meanwhile a crash would lose the last milliseconds.
    pub spool_errors: u64,
    /// Times that the store failed.
    pub store_errors: u64,
    /// What is wrong with the store now.
    pub store_error: Option<String>,
    /// What is wrong with the rollups now: meanwhile board and alerts stand still.
    pub rollup_error: Option<String>,
    /// Why what is too old could not be dropped when that was last tried: the disk fills up.
    pub retention_error: Option<String>,
    /// Entries that left the queue for good and are not known to be in the rollups yet.
    pub unsummed: u64,
    /// When the call ended that has waited longest for the rollups, in milliseconds since the epoch;
    /// absent while they lack none.
    pub waiting_since_ms: Option<u64>,
    /// Days that retention has dropped since the start.
    pub retained: Retained,
}

impl Accounting {
    /// Records and reports that were lost although they could have been kept: `queue_full` and
    /// `closed`. `expired` and `unmatched` are late or mistyped reports of consumers, which anybody can
    /// send and no store could keep.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let lost =
            self.shed.iter().filter(|(reason, _)| matches!(*reason, "queue_full" | "closed"));
        lost.map(|(_, count)| count).sum()
    }

    /// For how long the rollups have lacked a call at `now_ms`, in milliseconds, if that is too long to
    /// judge anything by them: what is not in them yet looks as if it had not happened.
    #[must_use]
    pub fn behind_ms(&self, now_ms: u64) -> Option<u64> {
        let waits_ms = now_ms.saturating_sub(self.waiting_since_ms?);
        (waits_ms > LONGEST_WAIT_MS).then_some(waits_ms)
    }
}
