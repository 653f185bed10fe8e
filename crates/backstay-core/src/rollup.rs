//! Sums over calls: by the minute, the hour and the day, by call, release, variant, target and outcome.
//!
//! Board, alerts and exports ask these and not the call log, so that they answer in milliseconds
//! whatever the log holds. A [`Cell`] is exact in its counts and sums and mergeable in any order. What
//! is counted is settled here; who keeps it and how is the store's business.

use serde::{Deserialize, Serialize};

use crate::{
    failure::Rung,
    histogram::Histogram,
    record::{Buckets, CallRecord, Cost, Degraded, Outcome, Usage, Variant},
};

/// How long the stretch is that a cell covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours, UTC.
    Day,
}

impl Level {
    /// Every level, the finest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// Its length in milliseconds.
    #[must_use]
    pub const fn millis(self) -> u64 {
        match self {
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }

    /// The start of the stretch that holds `at_ms`, both in milliseconds since the epoch.
    #[must_use]
    pub const fn start(self, at_ms: u64) -> u64 {
        at_ms - at_ms % self.millis()
    }
}

/// What a cell is about. Names that only a client knows are bounded by the store: past a limit they
/// are [`OTHER`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The call site.
    pub call: String,
    /// `extract-invoice@7`; absent for plain targets and refused requests.
    pub release: Option<String>,
    /// Which release answered.
    pub variant: Variant,
    /// The target of the last attempt; absent where none was made.
    pub target: Option<String>,
    /// How the calls ended, as it was known when they ended.
    pub outcome: Outcome,
}

/// Stands for names beyond a limit.
pub const OTHER: &str = "other";

/// One call as it is counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When it started, in milliseconds since the epoch: it is counted there, however late it ends.
    pub started_ms: u64,
    /// What it is counted under.
    pub key: Key,
    /// What was answered instead.
    pub degraded: Degraded,
    /// How many attempts were made.
    pub attempts: u64,
    /// Microseconds from the request to the last byte of the answer.
    pub latency_us: u64,
    /// Microseconds to the first content; streams only.
    pub first_token_us: Option<u64>,
    /// Tokens of all attempts.
    pub usage: Option<Usage>,
    /// What they cost.
    pub cost: Option<Cost>,
}

impl Sample {
    /// A call's record as it is counted.
    #[must_use]
    pub fn of(record: &CallRecord) -> Self {
        Self {
            started_ms: record.id.unix_millis(),
            key: Key {
                call: record.call.clone(),
                release: record.release.clone(),
                variant: record.variant,
                target: record.attempts.last().map(|attempt| attempt.target.clone()),
                outcome: record.outcome,
            },
            degraded: record.degraded,
            attempts: u64::try_from(record.attempts.len()).unwrap_or(u64::MAX),
            latency_us: record.latency_us,
            first_token_us: record.first_token_us,
            usage: record.usage,
            cost: record.cost,
        }
    }
}

/// Exact sums over the calls of one key and stretch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// How many calls.
    pub calls: u64,
    /// Of them, answered with the last good answer.
    pub stale: u64,
    /// Of them, answered with the deterministic answer.
    pub fixed: u64,
    /// Of them, answered with a text that names the failure.
    pub message: u64,
    /// Attempts of all of them.
    pub attempts: u64,
    /// Calls whose consumer said last that the answer was of use,
    pub useful: u64,
    /// and that it was not. What neither holds never heard from its consumer.
    pub useless: u64,
    /// Calls with a price,
    pub priced: u64,
    /// that cost nothing,
    pub free: u64,
    /// and that cost nobody knows what.
    pub unpriced: u64,
    /// Calls whose tokens are Backstay's own estimate.
    pub estimated: u64,
    /// Tokens without overlap.
    pub tokens: Buckets,
    /// Microseconds to the last byte of the answer, of all calls.
    pub latency_us: Histogram,
    /// Microseconds to the first content, of streams that had any.
    pub first_token_us: Histogram,
    /// Input tokens of a call, where known.
    pub input_tokens: Histogram,
    /// Output tokens of a call, where known.
    pub output_tokens: Histogram,
    /// Billionths of a US dollar, of calls with a price; its sum is what they cost.
    pub nano_usd: Histogram,
}

impl Cell {
    /// Counts a call.
    pub fn add(&mut self, sample: &Sample) {
        self.calls += 1;
        self.attempts += sample.attempts;
        match sample.degraded {
            Degraded::None => {}
            Degraded::Stale => self.stale += 1,
            Degraded::Static => self.fixed += 1,
            Degraded::Message => self.message += 1,
        }
        self.latency_us.record(sample.latency_us, 1);
        if let Some(first) = sample.first_token_us {
            self.first_token_us.record(first, 1);
        }
        if let Some(usage) = &sample.usage {
            self.estimated += u64::from(usage.estimated);
            self.tokens.add(&usage.buckets());
            self.input_tokens.record(usage.input, 1);
            self.output_tokens.record(usage.output, 1);
        }
        match sample.cost {
            None => {}
            Some(Cost::Free) => self.free += 1,
            Some(Cost::Unknown) => self.unpriced += 1,
            Some(Cost::Priced(nano)) => {
                self.priced += 1;
                self.nano_usd.record(nano, 1);
            }
        }
    }

    /// Counts what the consumer of a call says now, `before` being what it said last.
    pub fn report(&mut self, ok: bool, before: Option<bool>) {
        match before {
            Some(true) => self.useful = self.useful.saturating_sub(1),
            Some(false) => self.useless = self.useless.saturating_sub(1),
            None => {}
        }
        if ok {
            self.useful += 1;
        } else {
            self.useless += 1;
        }
    }

    /// Takes in the calls of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.calls, other.calls),
            (&mut self.stale, other.stale),
            (&mut self.fixed, other.fixed),
            (&mut self.message, other.message),
            (&mut self.attempts, other.attempts),
            (&mut self.useful, other.useful),
            (&mut self.useless, other.useless),
            (&mut self.priced, other.priced),
            (&mut self.free, other.free),
            (&mut self.unpriced, other.unpriced),
            (&mut self.estimated, other.estimated),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.tokens.add(&other.tokens);
        self.latency_us.merge(&other.latency_us);
        self.first_token_us.merge(&other.first_token_us);
        self.input_tokens.merge(&other.input_tokens);
        self.output_tokens.merge(&other.output_tokens);
        self.nano_usd.merge(&other.nano_usd);
    }
}

/// How many calls stood on each rung of the ladder, or higher. `reached[0]` are all calls that say
/// something of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ladder {
    /// Calls per rung, in the order of [`Rung::ALL`].
    pub reached: [u64; 6],
    /// Calls whose consumer said last that the answer was of use,
    pub useful: u64,
    /// and that it was not.
    pub useless: u64,
    /// Calls that say nothing of the model: wrong requests, clients that went away.
    pub neutral: u64,
}

impl Ladder {
    /// Counts the calls of a cell.
    pub fn add(&mut self, outcome: Outcome, cell: &Cell) {
        self.useful += cell.useful;
        self.useless += cell.useless;
        let Some(own) = outcome.rung() else {
            self.neutral += cell.calls;
            return;
        };
        for (count, rung) in self.reached.iter_mut().zip(Rung::ALL) {
            if rung <= own {
                *count += cell.calls;
            }
        }
    }

    /// Takes in the calls of another one.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.reached.iter_mut().zip(other.reached) {
            *count += more;
        }
        self.useful += other.useful;
        self.useless += other.useless;
        self.neutral += other.neutral;
    }

    /// Share of the calls with an answer whose consumer ever said anything, 0 to 1; `None` without
    /// calls.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share is told to a few digits")]
    pub fn coverage(&self) -> Option<f64> {
        let [calls, ..] = self.reached;
        let heard = self.useful + self.useless;
        (calls > 0).then(|| (heard as f64 / calls as f64).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureClass;

    #[test]
    fn a_stretch_starts_where_its_level_says() {
        let at = 1_795_435_261_234;
        assert_eq!(Level::Minute.start(at), 1_795_435_260_000);
        assert_eq!(Level::Hour.start(at), 1_795_435_200_000);
        assert_eq!(Level::Day.start(at), 1_795_392_000_000);
    }

    #[test]
    fn a_later_verdict_takes_the_place_of_an_earlier_one() {
        let mut cell = Cell { calls: 3, ..Cell::default() };
        cell.report(true, None);
        cell.report(false, None);
        cell.report(false, Some(true));
        cell.report(false, Some(false));
        assert_eq!((cell.useful, cell.useless), (0, 2));
    }

    #[test]
    fn the_ladder_counts_each_call_up_to_its_rung() {
        let mut ladder = Ladder::default();
        let cell = |calls| Cell { calls, useful: 1, ..Cell::default() };
        ladder.add(Outcome::Ok, &cell(90));
        ladder.add(Outcome::Failed(FailureClass::Schema), &cell(6));
        ladder.add(Outcome::Failed(FailureClass::Malformed), &cell(3));
        ladder.add(Outcome::Failed(FailureClass::Connection), &cell(1));
        ladder.add(Outcome::Failed(FailureClass::Cancelled), &cell(5));
        assert_eq!(ladder.reached, [100, 99, 99, 96, 90, 90]);
        assert_eq!((ladder.neutral, ladder.useful), (5, 5));
        assert_eq!(ladder.coverage(), Some(0.05));
    }
}
