//! What is usual for a call: taken from its last days, frozen for a day, and kept across restarts.

use std::collections::BTreeMap;

use backstay_core::{
    alert::{
        Rule,
        rates::{BASELINE_CALLS, Tally},
        tokens::{Cusum, TokenBaseline},
    },
    histogram::Histogram,
    rollup::{Ladder, Level},
};
use backstay_store::{Rollup, RollupFilter, RollupReader, StoreError};
use serde::{Deserialize, Serialize};

const DAY_MS: u64 = Level::Day.millis();
const HOUR_MS: u64 = Level::Hour.millis();
/// Days that what is usual is taken from. One more says how old the call is.
const DAYS: u64 = 7;
/// Releases that are remembered; the ones that were not called for longest make room.
const MOST_RELEASES: usize = 16;
/// Odd silences that are remembered.
const MOST_SILENCES: usize = 20;

/// How many tokens a release reads and writes, and how far that has shifted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ReleaseUsual {
    /// Calls of it with tokens, when they were last counted.
    pub(super) seen: u64,
    pub(super) input: Option<TokenBaseline>,
    pub(super) output: Option<TokenBaseline>,
    pub(super) input_sum: Cusum,
    pub(super) output_sum: Cusum,
    /// The last minute that is in the sums.
    pub(super) through_ms: u64,
    /// The last minute with a call.
    pub(super) last_ms: u64,
}

/// What is usual for a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Usual {
    /// When all of it was last taken anew.
    pub(super) learned_ms: u64,
    /// How many calls there are to learn from.
    pub(super) calls: u64,
    pub(super) streams: u64,
    /// The 95th percentiles, in microseconds.
    pub(super) latency_us: Option<u64>,
    pub(super) first_us: Option<u64>,
    /// What stops at each rung of what came so far; the last one is the consumer.
    pub(super) stopped: [Tally; 6],
    /// By day: calls of which nobody had said anything an hour later, as they were seen then. Sums of
    /// days hold reports that came later too, and are not to be compared with an hour.
    #[serde(default)]
    pub(super) in_time: Vec<(u64, Tally)>,
    /// The hour that was taken into it last.
    #[serde(default)]
    pub(super) in_time_ms: u64,
    /// By name; plain targets have an empty one.
    pub(super) releases: BTreeMap<String, ReleaseUsual>,
    /// When the first call of the last eight days was, to the day.
    pub(super) oldest_ms: Option<u64>,
    /// The last minute with a call, and how many calls there were in the hour before it.
    pub(super) last_call_ms: u64,
    pub(super) before: u64,
    /// Silences that chance does not explain: when they ended, and how long they were.
    pub(super) silences: Vec<(u64, u64)>,
    /// When alerts of the call ended: what was before does not begin them again.
    pub(super) ended: Vec<(Rule, Option<String>, u64)>,
}

/// What stops at each rung, of what came so far.
pub(super) fn stopped(ladder: &Ladder) -> [Tally; 6] {
    let mut stopped = [Tally::default(); 6];
    let rungs = ladder.reached.iter().zip(ladder.reached.iter().skip(1));
    for (tally, (all, passed)) in stopped.iter_mut().zip(rungs) {
        *tally = Tally { bad: all.saturating_sub(*passed), all: *all };
    }
    if let Some(consumer) = stopped.last_mut() {
        *consumer = Tally { bad: ladder.useless, all: ladder.useful + ladder.useless };
    }
    stopped
}

#[derive(Default)]
struct Tokens {
    input: Histogram,
    output: Histogram,
}

impl Usual {
    /// Reads the last days of `call`. What is known already is only taken anew with `all`.
    pub(super) fn learn(
        &mut self,
        call: &str,
        now_ms: u64,
        all: bool,
        rollups: &dyn RollupReader,
    ) -> Result<(), StoreError> {
        let rows = days(call, now_ms, rollups)?;
        self.oldest_ms = rows.first().map(|row| row.start_ms);
        let since = Level::Day.start(now_ms).saturating_sub((DAYS - 1) * DAY_MS);
        let (mut latency, mut first, mut ladder) =
            (Histogram::default(), Histogram::default(), Ladder::default());
        let mut tokens: BTreeMap<&str, Tokens> = BTreeMap::new();
        for Rollup { key, cell, .. } in rows.iter().filter(|row| row.start_ms >= since) {
            ladder.add(key.outcome, cell);
            if key.outcome.rung().is_none() {
                continue;
            }
            latency.merge(&cell.latency_us);
            first.merge(&cell.first_token_us);
            let tokens = tokens.entry(key.release.as_deref().unwrap_or_default()).or_default();
            tokens.input.merge(&cell.input_tokens);
            tokens.output.merge(&cell.output_tokens);
        }
        self.take_calls(&latency, &first, &ladder, all);
        for (release, tokens) in tokens {
            self.take_tokens(release, &tokens, all);
        }
        if all {
            self.learned_ms = now_ms;
        }
        Ok(())
    }

    fn take_calls(&mut self, latency: &Histogram, first: &Histogram, ladder: &Ladder, all: bool) {
        (self.calls, self.streams) = (latency.count(), first.count());
        let p95 = |histogram: &Histogram| {
            (histogram.count() >= BASELINE_CALLS).then(|| histogram.quantile(0.95)).flatten()
        };
        if all || self.latency_us.is_none() {
            self.latency_us = p95(latency);
        }
        if all || self.first_us.is_none() {
            self.first_us = p95(first);
        }
        for (usual, now) in self.stopped.iter_mut().zip(stopped(ladder)) {
            if all || usual.all < BASELINE_CALLS {
                *usual = now;
            }
        }
    }

    fn take_tokens(&mut self, release: &str, tokens: &Tokens, all: bool) {
        let usual = self.release(release);
        usual.seen = tokens.input.count().max(tokens.output.count());
        if all || usual.input.is_none() {
            usual.input = TokenBaseline::of(&tokens.input);
        }
        if all || usual.output.is_none() {
            usual.output = TokenBaseline::of(&tokens.output);
        }
    }

    /// How many tokens each release usually reads and writes.
    pub(super) fn tokens(&self) -> BTreeMap<String, [Option<TokenBaseline>; 2]> {
        let known =
            self.releases.iter().filter(|(_, it)| it.input.is_some() || it.output.is_some());
        known.map(|(name, usual)| (name.clone(), [usual.input, usual.output])).collect()
    }

    fn release(&mut self, release: &str) -> &mut ReleaseUsual {
        if !self.releases.contains_key(release) && self.releases.len() >= MOST_RELEASES {
            let oldest = self.releases.iter().min_by_key(|(_, usual)| usual.last_ms);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.releases.remove(&oldest);
            }
        }
        self.releases.entry(release.to_owned()).or_default()
    }

    /// Takes the tokens of a settled minute into the sums, once.
    pub(super) fn advance(&mut self, start_ms: u64, rows: &[Rollup]) {
        let mut tokens: BTreeMap<&str, Tokens> = BTreeMap::new();
        for Rollup { key, cell, .. } in rows.iter().filter(|row| row.key.outcome.rung().is_some()) {
            let tokens = tokens.entry(key.release.as_deref().unwrap_or_default()).or_default();
            tokens.input.merge(&cell.input_tokens);
            tokens.output.merge(&cell.output_tokens);
        }
        for (release, tokens) in tokens {
            let usual = self.release(release);
            usual.last_ms = usual.last_ms.max(start_ms);
            if start_ms <= usual.through_ms {
                continue;
            }
            usual.through_ms = start_ms;
            let sides = [
                (&usual.input, &mut usual.input_sum, &tokens.input),
                (&usual.output, &mut usual.output_sum, &tokens.output),
            ];
            for (baseline, sum, tokens) in sides {
                let deviation = baseline.as_ref().and_then(|baseline| baseline.deviation(tokens));
                if let Some(deviation) = deviation {
                    sum.advance(tokens.count(), deviation);
                }
            }
        }
    }

    /// Once an hour: takes in what has been heard by now of the calls of an hour, an hour ago.
    pub(super) fn take_in_time(&mut self, now_ms: u64, unheard: Tally) {
        let (hour, day) = (Level::Hour.start(now_ms), Level::Day.start(now_ms));
        if self.in_time_ms == hour {
            return;
        }
        self.in_time_ms = hour;
        self.in_time.retain(|(start, _)| now_ms.saturating_sub(*start) < (DAYS + 1) * DAY_MS);
        match self.in_time.last_mut().filter(|(start, _)| *start == day) {
            Some((_, tally)) => {
                tally.bad += unheard.bad;
                tally.all += unheard.all;
            }
            None => self.in_time.push((day, unheard)),
        }
    }

    /// What was not heard of within an hour or two in the last days.
    pub(super) fn unheard(&self) -> Tally {
        let days = self.in_time.iter().map(|(_, tally)| tally);
        days.fold(Tally::default(), |sum, it| Tally {
            bad: sum.bad + it.bad,
            all: sum.all + it.all,
        })
    }

    /// The silence that the call kept three times in a week though calls were expected.
    pub(super) fn usual_silence_ms(&self) -> u64 {
        let mut lengths: Vec<u64> = self.silences.iter().map(|(_, length)| *length).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.get(2).copied().unwrap_or_default()
    }

    /// An odd silence is over.
    pub(super) fn remember_silence(&mut self, now_ms: u64, length_ms: u64) {
        self.silences.retain(|(ended, _)| now_ms.saturating_sub(*ended) < DAYS * DAY_MS);
        if self.silences.len() >= MOST_SILENCES {
            self.silences.remove(0);
        }
        self.silences.push((now_ms, length_ms));
    }

    /// When an alert of this rule last ended.
    pub(super) fn ended_ms(&self, rule: Rule, detail: Option<&str>) -> u64 {
        let ended =
            self.ended.iter().filter(|(own, its, _)| *own == rule && its.as_deref() == detail);
        ended.map(|(_, _, at)| *at).max().unwrap_or_default()
    }

    /// An alert of this rule has ended.
    pub(super) fn remember_end(&mut self, rule: Rule, detail: Option<String>, now_ms: u64) {
        self.ended.retain(|(own, its, at)| {
            now_ms.saturating_sub(*at) < HOUR_MS && (*own != rule || *its != detail)
        });
        self.ended.push((rule, detail, now_ms));
    }

    /// Whether something is still to be learned.
    pub(super) fn is_incomplete(&self) -> bool {
        let tokens = |usual: &ReleaseUsual| usual.input.is_none() || usual.output.is_none();
        self.calls < BASELINE_CALLS || self.releases.values().any(tokens)
    }
}

/// The sums of `call` of the last eight days, up to the last full hour, by day and by hour.
fn days(call: &str, now_ms: u64, rollups: &dyn RollupReader) -> Result<Vec<Rollup>, StoreError> {
    let today = Level::Day.start(now_ms);
    let filter = |level, since_ms, until_ms| RollupFilter {
        level,
        since_ms,
        until_ms,
        call: Some(call.to_owned()),
        release: None,
    };
    let mut rows =
        rollups.rollups(&filter(Level::Day, today.saturating_sub(DAYS * DAY_MS), today))?;
    rows.extend(rollups.rollups(&filter(Level::Hour, today, Level::Hour.start(now_ms)))?);
    Ok(rows)
}
