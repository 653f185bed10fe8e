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

use super::{
    incidents::{About, Incidents},
    rules::rung_words,
};

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
    /// What is not learned from.
    #[serde(default)]
    pub(super) incidents: Incidents,
    /// What could not be taken anew when its turn was, since an alert of it was open.
    #[serde(default)]
    pub(super) owed: Vec<(Rule, Option<String>)>,
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

/// What the last days come to, each without the hours that do not count for it.
#[derive(Default)]
struct Found {
    latency: Histogram,
    first: Histogram,
    stopped: [Tally; 6],
    /// By name; plain targets have an empty one.
    tokens: BTreeMap<String, Tokens>,
}

impl Found {
    fn of(rows: &[Rollup], incidents: &Incidents) -> Self {
        let mut found = Self::default();
        for row in rows {
            found.add(row, incidents);
        }
        found
    }

    fn add(&mut self, Rollup { start_ms, key, cell }: &Rollup, incidents: &Incidents) {
        let counts = |about| incidents.leaves(about, *start_ms);
        let mut ladder = Ladder::default();
        ladder.add(key.outcome, cell);
        let rungs = self.stopped.iter_mut().zip(stopped(&ladder)).enumerate();
        for (_, (sum, now)) in rungs.filter(|(rung, _)| counts(of_rung(*rung))) {
            (sum.bad, sum.all) = (sum.bad + now.bad, sum.all + now.all);
        }
        if key.outcome.rung().is_none() {
            return;
        }
        if counts((Rule::LatencyBaseline, None)) {
            self.latency.merge(&cell.latency_us);
        }
        if counts((Rule::FirstToken, None)) {
            self.first.merge(&cell.first_token_us);
        }
        let release = key.release.as_deref();
        let tokens = self.tokens.entry(release.unwrap_or_default().to_owned()).or_default();
        if counts((Rule::TokensIn, release)) {
            tokens.input.merge(&cell.input_tokens);
        }
        if counts((Rule::TokensOut, release)) {
            tokens.output.merge(&cell.output_tokens);
        }
    }

    /// How many calls there are of what is usual `about`.
    fn count(&self, (rule, of): About<'_>) -> u64 {
        let tokens = || self.tokens.get(of.unwrap_or_default());
        match rule {
            Rule::LatencyBaseline => self.latency.count(),
            Rule::FirstToken => self.first.count(),
            Rule::TokensIn => tokens().map_or(0, |it| it.input.count()),
            Rule::TokensOut => tokens().map_or(0, |it| it.output.count()),
            Rule::Quality => {
                let mut rungs = self.stopped.iter().enumerate();
                let own = rungs.find(|(rung, _)| of_rung(*rung) == (rule, of));
                own.map_or(0, |(_, tally)| tally.all)
            }
            Rule::ErrorRate
            | Rule::BurnRate
            | Rule::LatencyBudget
            | Rule::Coverage
            | Rule::NoTraffic
            | Rule::BreakerOpen
            | Rule::Credentials
            | Rule::Unpriced
            | Rule::Shed
            | Rule::ModelDrift => 0,
        }
    }
}

/// What is usual of this rung.
fn of_rung(rung: usize) -> About<'static> {
    (Rule::Quality, Some(rung_words(rung).0))
}

impl Usual {
    /// Reads the last days of `call`, if there is something to learn. What is known already is taken anew
    /// once a day; but what is `judged`, as soon as it is not any more: it must not judge itself.
    pub(super) fn learn(
        &mut self,
        call: &str,
        now_ms: u64,
        judged: &[About<'_>],
        rollups: &dyn RollupReader,
    ) -> Result<(), StoreError> {
        let all = now_ms.saturating_sub(self.learned_ms) >= DAY_MS;
        let is_judged = |own: &(Rule, Option<String>)| judged.contains(&(own.0, own.1.as_deref()));
        let pays = self.owed.iter().any(|own| !is_judged(own));
        if !all && !pays && !self.is_incomplete() && self.oldest_ms.is_some() {
            return Ok(());
        }
        self.incidents.forget(now_ms);
        let (rows, oldest_ms) = days(call, now_ms, &self.incidents, rollups)?;
        self.oldest_ms = oldest_ms;
        let found = Found::of(&rows, &self.incidents);
        (self.calls, self.streams) = (found.latency.count(), found.first.count());
        let mut owed = std::mem::take(&mut self.owed);
        let is_due =
            |about: About<'_>| all || owed.iter().any(|(rule, of)| (*rule, of.as_deref()) == about);
        self.take(&found, &|about| is_due(about) && !judged.contains(&about));
        if all {
            owed = judged.iter().map(|(rule, of)| (*rule, of.map(str::to_owned))).collect();
            self.learned_ms = now_ms;
        }
        owed.retain(is_judged);
        self.owed = owed;
        Ok(())
    }

    /// Takes what has been so since `since_ms` for usual; whether there are enough calls for that.
    pub(super) fn accept(
        &mut self,
        (call, about): (&str, About<'_>),
        since_ms: u64,
        now_ms: u64,
        rollups: &dyn RollupReader,
    ) -> Result<bool, StoreError> {
        let mut incidents = self.incidents.clone();
        incidents.accept(about, since_ms, now_ms);
        let (rows, _) = days(call, now_ms, &incidents, rollups)?;
        let found = Found::of(&rows, &incidents);
        if found.count(about) < BASELINE_CALLS {
            return Ok(false);
        }
        self.incidents = incidents;
        self.take(&found, &|it| it == about);
        // What was summed up was held against what is not usual any more.
        let (rule, of) = about;
        let release = self.releases.get_mut(of.unwrap_or_default());
        match release {
            Some(usual) if rule == Rule::TokensIn => usual.input_sum = Cusum::default(),
            Some(usual) if rule == Rule::TokensOut => usual.output_sum = Cusum::default(),
            Some(_) | None => {}
        }
        Ok(true)
    }

    fn take(&mut self, found: &Found, anew: &dyn Fn(About<'_>) -> bool) {
        // Where hours are left out, too few calls are no reason to forget.
        let keep = !self.incidents.is_empty();
        let p95 = |histogram: &Histogram| {
            (histogram.count() >= BASELINE_CALLS).then(|| histogram.quantile(0.95)).flatten()
        };
        let about = (Rule::LatencyBaseline, None);
        renew(&mut self.latency_us, (anew(about), keep), || p95(&found.latency));
        let about = (Rule::FirstToken, None);
        renew(&mut self.first_us, (anew(about), keep), || p95(&found.first));
        for (rung, (usual, now)) in self.stopped.iter_mut().zip(found.stopped).enumerate() {
            let known = usual.all >= BASELINE_CALLS;
            let forgets = known && keep && now.all < BASELINE_CALLS;
            if (anew(of_rung(rung)) || !known) && !forgets {
                *usual = now;
            }
        }
        for (name, tokens) in &found.tokens {
            let release = (!name.is_empty()).then_some(name.as_str());
            let usual = self.release(name);
            usual.seen = tokens.input.count().max(tokens.output.count());
            let about = (Rule::TokensIn, release);
            renew(&mut usual.input, (anew(about), keep), || TokenBaseline::of(&tokens.input));
            let about = (Rule::TokensOut, release);
            renew(&mut usual.output, (anew(about), keep), || TokenBaseline::of(&tokens.output));
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

/// Takes `now` for usual if nothing is known or all is to be learned `anew`; `keep`: not if it is nothing.
fn renew<T>(usual: &mut Option<T>, (anew, keep): (bool, bool), now: impl FnOnce() -> Option<T>) {
    if !anew && usual.is_some() {
        return;
    }
    let now = now();
    if now.is_some() || !keep {
        *usual = now;
    }
}

/// The sums of `call` of the last seven days, up to the last full hour: by the day, and by the hour where
/// not all of a day counts; and when the first call of the last eight days was, to the day.
fn days(
    call: &str,
    now_ms: u64,
    incidents: &Incidents,
    rollups: &dyn RollupReader,
) -> Result<(Vec<Rollup>, Option<u64>), StoreError> {
    let today = Level::Day.start(now_ms);
    let read = |level, since_ms, until_ms| {
        let call = Some(call.to_owned());
        rollups.rollups(&RollupFilter { level, since_ms, until_ms, call, release: None })
    };
    let mut rows = read(Level::Day, today.saturating_sub(DAYS * DAY_MS), today)?;
    let mut oldest = rows.first().map(|row| row.start_ms);
    let since = today.saturating_sub((DAYS - 1) * DAY_MS);
    rows.retain(|row| row.start_ms >= since && !incidents.touches(row.start_ms));
    for day in (1..DAYS).map(|ago| today.saturating_sub(ago * DAY_MS)) {
        if incidents.touches(day) {
            rows.extend(read(Level::Hour, day, day + DAY_MS)?);
        }
    }
    let hours = read(Level::Hour, today, Level::Hour.start(now_ms))?;
    oldest = oldest.or_else(|| hours.first().map(|row| row.start_ms));
    rows.extend(hours);
    Ok((rows, oldest))
}
