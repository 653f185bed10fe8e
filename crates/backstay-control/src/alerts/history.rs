//! The last two hours of a call by the minute, as far as rules need them: counts instead of
//! histograms, so that a look at 200 calls takes milliseconds and little memory.

use std::collections::BTreeMap;

use backstay_core::{
    alert::rates::Tally,
    failure::Rung,
    rollup::{Cell, Key, Ladder, Level},
};
use backstay_store::Rollup;

/// How far it goes back, in milliseconds: an hour for reports to come in, and an hour of them.
pub(super) const REACH_MS: u64 = 130 * 60_000;

const MINUTE_MS: u64 = Level::Minute.millis();

/// What counts as slow, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) budget_us: u64,
    /// Absent while nobody knows what is usual.
    pub(super) usual_us: Option<u64>,
    pub(super) first_us: Option<u64>,
}

/// The calls of one key in one minute.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) calls: u64,
    pub(super) useful: u64,
    pub(super) useless: u64,
    pub(super) unpriced: u64,
    pub(super) slow: u64,
    pub(super) unusual: u64,
    pub(super) streams: u64,
    pub(super) late: u64,
}

impl Entry {
    fn of(rollup: &Rollup, limits: &Limits) -> Self {
        let Cell { calls, useful, useless, unpriced, latency_us, first_token_us, .. } =
            &rollup.cell;
        // A client that went away says nothing of how fast the model is.
        let counts = rollup.key.outcome.rung().is_some();
        let above = |limit: u64| if counts { latency_us.above(limit) } else { 0 };
        Self {
            key: rollup.key.clone(),
            calls: *calls,
            useful: *useful,
            useless: *useless,
            unpriced: *unpriced,
            slow: above(limits.budget_us),
            unusual: limits.usual_us.map_or(0, above),
            streams: if counts { first_token_us.count() } else { 0 },
            late: limits.first_us.filter(|_| counts).map_or(0, |us| first_token_us.above(us)),
        }
    }
}

#[derive(Clone, Debug)]
struct Minute {
    /// What its slow calls were counted by; counts by other limits are not comparable.
    limits: Limits,
    entries: Vec<Entry>,
}

/// What the minutes of a window come to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) ladder: Ladder,
    pub(super) errors: Tally,
    pub(super) slow: Tally,
    pub(super) unusual: Tally,
    pub(super) late: Tally,
    /// Calls with an answer or a failure, that nobody said anything of, of all of them.
    pub(super) unheard: Tally,
}

/// The minutes of one call.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    minutes: BTreeMap<u64, Minute>,
}

impl History {
    /// Takes in everything that is known of a minute, in place of what was known before.
    pub(super) fn replace(&mut self, start_ms: u64, rollups: &[Rollup], limits: Limits) {
        let entries = rollups.iter().map(|rollup| Entry::of(rollup, &limits)).collect();
        self.minutes.insert(start_ms, Minute { limits, entries });
    }

    /// Forgets what is too old at `now_ms`.
    pub(super) fn forget(&mut self, now_ms: u64) {
        let oldest = now_ms.saturating_sub(REACH_MS);
        while self.minutes.first_key_value().is_some_and(|(start, _)| *start < oldest) {
            self.minutes.pop_first();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.minutes.is_empty()
    }

    /// The entries of the minutes that start in `since_ms..=until_ms`.
    pub(super) fn entries(&self, since_ms: u64, until_ms: u64) -> impl Iterator<Item = &Entry> {
        let range = since_ms.min(until_ms)..=until_ms;
        self.minutes.range(range).flat_map(|(_, minute)| &minute.entries)
    }

    /// The start of the last minute with a call, at `now_ms`.
    pub(super) fn last_call_ms(&self, now_ms: u64) -> Option<u64> {
        let mut minutes = self.minutes.range(..=now_ms).rev();
        minutes
            .find(|(_, minute)| minute.entries.iter().any(|entry| entry.calls > 0))
            .map(|(start, _)| *start)
    }

    /// Whether `target` has answered a call since the minute `since_ms`.
    pub(super) fn answered(&self, target: &str, since_ms: u64) -> bool {
        let mut entries = self.minutes.range(since_ms..).flat_map(|(_, minute)| &minute.entries);
        entries.any(|entry| {
            // A call without an answer names the target that was asked last.
            let answered = entry.key.outcome.rung().is_some_and(|rung| rung > Rung::Called);
            entry.calls > 0 && answered && entry.key.target.as_deref() == Some(target)
        })
    }

    /// Calls in the hour that ends with the minute `last_ms`.
    pub(super) fn calls_before(&self, last_ms: u64) -> u64 {
        self.entries(last_ms.saturating_sub(59 * MINUTE_MS), last_ms).map(|entry| entry.calls).sum()
    }

    /// The sums of the minutes that start in `since_ms..=until_ms`; slow calls only as far as they
    /// were counted by `limits`.
    pub(super) fn sums(&self, since_ms: u64, until_ms: u64, limits: &Limits) -> Sums {
        let mut sums = Sums::default();
        for (_, minute) in self.minutes.range(since_ms.min(until_ms)..=until_ms) {
            for entry in &minute.entries {
                sums.add(entry, &minute.limits, limits);
            }
        }
        sums
    }
}

impl Sums {
    fn add(&mut self, entry: &Entry, counted_by: &Limits, limits: &Limits) {
        let Entry { key, calls, useful, useless, .. } = entry;
        let (calls, useful, useless) = (*calls, *useful, *useless);
        self.ladder.add(key.outcome, &Cell { calls, useful, useless, ..Cell::default() });
        if key.outcome.rung().is_none() {
            return;
        }
        let count = |tally: &mut Tally, bad: u64, all: u64| {
            tally.bad += bad;
            tally.all += all;
        };
        count(&mut self.errors, if key.outcome.is_error() { calls } else { 0 }, calls);
        count(&mut self.unheard, calls.saturating_sub(useful + useless), calls);
        if counted_by.budget_us == limits.budget_us {
            count(&mut self.slow, entry.slow, calls);
        }
        if counted_by.usual_us == limits.usual_us {
            count(&mut self.unusual, entry.unusual, calls);
        }
        if counted_by.first_us == limits.first_us {
            count(&mut self.late, entry.late, entry.streams);
        }
    }
}
