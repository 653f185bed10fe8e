//! Alerts: looks at the sums of all calls every ten seconds and says what changed.
//!
//! The rules are pure and stand in [`backstay_core::alert`]. What is here reads what they need, keeps
//! what must outlive a restart, and finds the evidence. It tells nobody: whoever runs it stores the
//! [`Outcome`] in one transaction and sends what has to be sent. A look reads a few minutes of sums,
//! whatever the log holds, and never the log itself unless an alert fires.

mod board;
mod evidence;
mod facts;
mod history;
mod incidents;
mod keeper;
mod policy;
mod rules;
mod usual;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use backstay_core::{
    alert::{
        Alert, Rule, Silence, Stage, Subject,
        machine::{Change, Look, Step, Tracked, Transition, end_as_usual, step},
        rates::Tally,
        reading::{Reading, Verdict},
        tokens::TokenBaseline,
        traffic::Quiet,
    },
    failure::FailureClass,
    record::CallId,
    rollup::Level,
};
use backstay_store::{
    Accounting, ModelSeen, RecordReader, Rollup, RollupFilter, RollupReader, StoreError,
    alerts::AlertsKept,
};

pub use board::{Board, RuleState, Standing};
pub use keeper::{Keeper, Notices};
pub use policy::{Policies, Policy};

use history::{History, REACH_MS};
use incidents::{About, about};
use rules::Seen;
use usual::Usual;

const MINUTE_MS: u64 = Level::Minute.millis();
const HOUR_MS: u64 = Level::Hour.millis();
const DAY_MS: u64 = Level::Day.millis();

/// After so long without a look nobody has watched.
const GAP_MS: u64 = 60_000;
/// Calls whose usual figures are read at one look, and those with an SLO whose last days are.
const LEARNED_AT_ONCE: usize = 4;
const BURNS_AT_ONCE: usize = 2;
/// How old the last days of a call with an SLO may be.
const BURN_AGE_MS: u64 = 300_000;
/// Sums of so many minutes before the last look may still have changed; older ones are read again one
/// by one.
const RECENT_MS: u64 = 2 * MINUTE_MS;

/// Keys of what is kept.
const CALL_KEY: &str = "call:";
const ALERT_KEY: &str = "alert:";

/// How many tokens are usually read and written, by call and release; plain targets have an empty one.
pub type TokensUsual = BTreeMap<String, BTreeMap<String, [Option<TokenBaseline>; 2]>>;

/// What the engine says of targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineView {
    /// Calls and targets whose breaker is not closed.
    pub breakers: Vec<(String, String)>,
    /// Targets that are left alone, and why.
    pub holds: Vec<(String, FailureClass)>,
}

/// What one look is taken at.
pub struct Inputs<'a> {
    /// Now, in milliseconds since the epoch.
    pub now_ms: u64,
    /// The sums of all calls.
    pub rollups: &'a dyn RollupReader,
    /// The log, for the ids of calls.
    pub records: &'a dyn RecordReader,
    /// The targets.
    pub engine: &'a EngineView,
    /// What became of records; absent where there is no log.
    pub accounting: Option<&'a Accounting>,
    /// What the project says.
    pub policies: &'a Policies,
    /// What is not to be told.
    pub silences: &'a [Silence],
    /// A fresh identity for an alert that begins.
    pub new_id: &'a dyn Fn() -> CallId,
}

impl std::fmt::Debug for Inputs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs").field("now_ms", &self.now_ms).finish_non_exhaustive()
    }
}

/// What one look changed.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Alerts that fired, are due again or ended.
    pub transitions: Vec<Transition>,
    /// What has to be kept for the next start, by key; `None`: nothing any more.
    pub states: Vec<(String, Option<String>)>,
    /// Why the sums could not be read, if they could not.
    pub problem: Option<StoreError>,
}

/// Everything that is known of one call.
#[derive(Debug, Default)]
struct Call {
    history: History,
    usual: Usual,
    /// The hour in which its usual figures were last looked at.
    learned_hour: Option<u64>,
    /// Calls and failures by the hour, of the last three days, and when they were read.
    burn: Option<(u64, Vec<(u64, Tally)>)>,
    /// Calls at this hour a week ago and a day ago.
    then: [u64; 2],
    /// The odd silence that it keeps.
    odd_ms: u64,
}

/// Looks at calls, look by look.
#[derive(Debug, Default)]
pub struct Evaluator {
    calls: BTreeMap<String, Call>,
    tracked: BTreeMap<Subject, Tracked>,
    /// What lasted for a day, and is taken for usual: its alerts end at this look.
    usual_now: Vec<Subject>,
    models: Vec<ModelSeen>,
    shed: facts::Shed,
    /// Targets that refused the credentials, and when they were last left alone for it.
    refused: BTreeMap<String, u64>,
    /// When the last look was, and since when there was no gap.
    last_ms: Option<u64>,
    watching_ms: u64,
    /// The next minute that is read once more.
    again_ms: u64,
    /// The hour that `then` is about.
    then_hour: Option<u64>,
    /// When states were last handed out, and what they were.
    kept_minute: u64,
    kept: HashMap<String, String>,
    board: Board,
}

impl Evaluator {
    /// Goes on from what was kept. What this version cannot read is learned anew.
    #[must_use]
    pub fn restore(kept: &AlertsKept, now_ms: u64) -> Self {
        let mut it = Self::default();
        for (key, text) in &kept.states {
            if let Some(name) = key.strip_prefix(CALL_KEY) {
                let usual = serde_json::from_str(text).unwrap_or_default();
                it.calls.insert(name.to_owned(), Call { usual, ..Call::default() });
            } else if let Ok(tracked) = serde_json::from_str::<Tracked>(text) {
                it.tracked.insert(tracked.alert.subject.clone(), tracked);
            }
            it.kept.insert(key.clone(), text.to_owned());
        }
        for alert in &kept.open {
            let subject = alert.subject.clone();
            it.tracked.entry(subject).or_insert_with(|| Tracked::kept(alert.clone(), now_ms));
        }
        it
    }

    /// Every rule as it stood at the last look.
    #[must_use]
    pub const fn board(&self) -> &Board {
        &self.board
    }

    /// How many tokens calls usually read and write, as far as that is known.
    #[must_use]
    pub fn tokens(&self) -> TokensUsual {
        self.calls.iter().map(|(name, call)| (name.clone(), call.usual.tokens())).collect()
    }

    /// Takes a look.
    pub fn tick(&mut self, inputs: &Inputs<'_>) -> Outcome {
        let now_ms = inputs.now_ms;
        let gap = self.last_ms.is_none_or(|last| now_ms.abs_diff(last) > GAP_MS);
        if gap {
            self.watching_ms = now_ms;
        }
        // Sums that stand still look like silence: nothing is judged by them.
        let stale = inputs.accounting.and_then(|it| facts::stale(it, now_ms));
        let problem = stale.or_else(|| self.read(inputs).err());
        let mut outcome = Outcome { problem, ..Outcome::default() };
        self.end_what_is_usual(now_ms, &mut outcome);
        let mut readings = facts::breakers(inputs.engine);
        readings.extend(self.credentials(inputs));
        readings.extend(inputs.accounting.map(|it| self.shed.reading(it, now_ms)));
        if outcome.problem.is_none() {
            self.last_ms = Some(now_ms);
            readings.extend(self.of_calls(inputs));
        }
        let off = |subject: &Subject| &inputs.policies.of(&subject.call).alerts.off;
        readings.retain(|(subject, _)| !off(subject).contains(&subject.rule));
        self.judge(readings, inputs, &mut outcome);
        self.mark_incidents(now_ms);
        let due = now_ms / MINUTE_MS != self.kept_minute || !outcome.transitions.is_empty();
        if due {
            self.kept_minute = now_ms / MINUTE_MS;
            outcome.states = self.changed_states();
        }
        outcome
    }

    /// Reads the sums that a look needs: the last minutes, one older one, and now and then what is
    /// usual.
    fn read(&mut self, inputs: &Inputs<'_>) -> Result<(), StoreError> {
        let now_ms = inputs.now_ms;
        let this = Level::Minute.start(now_ms);
        let oldest = Level::Minute.start(now_ms.saturating_sub(REACH_MS)) + MINUTE_MS;
        let from = self.last_ms.map_or(oldest, |last| Level::Minute.start(last).min(this));
        let recent = from.saturating_sub(RECENT_MS).max(oldest);
        self.read_minutes(inputs, recent, now_ms + 1)?;
        if !(oldest..recent).contains(&self.again_ms) {
            self.again_ms = oldest;
        }
        if self.again_ms < recent {
            self.read_minutes(inputs, self.again_ms, self.again_ms + 1)?;
            self.again_ms += MINUTE_MS;
        }
        self.read_then(inputs)?;
        if now_ms / MINUTE_MS != self.kept_minute {
            self.models = inputs.rollups.models()?;
        }
        self.learn(inputs)?;
        self.read_burns(inputs)
    }

    fn read_minutes(
        &mut self,
        inputs: &Inputs<'_>,
        since_ms: u64,
        until_ms: u64,
    ) -> Result<(), StoreError> {
        let filter =
            RollupFilter { level: Level::Minute, since_ms, until_ms, call: None, release: None };
        let rows = inputs.rollups.rollups(&filter)?;
        let settled = Level::Minute.start(inputs.now_ms).saturating_sub(RECENT_MS);
        for rows in rows.chunk_by(|a, b| a.start_ms == b.start_ms && a.key.call == b.key.call) {
            let Some(Rollup { start_ms, key, .. }) = rows.first() else { continue };
            let call = self.calls.entry(key.call.clone()).or_default();
            let limits = rules::limits(inputs.policies.of(&key.call), &call.usual);
            call.history.replace(*start_ms, rows, limits);
            if *start_ms <= settled {
                call.usual.advance(*start_ms, rows);
            }
        }
        Ok(())
    }

    /// Once an hour: how many calls there were at this time of day a week ago and a day ago.
    fn read_then(&mut self, inputs: &Inputs<'_>) -> Result<(), StoreError> {
        let hour = Level::Hour.start(inputs.now_ms);
        if self.then_hour == Some(hour) {
            return Ok(());
        }
        let mut then: HashMap<String, [u64; 2]> = HashMap::new();
        for (place, ago) in [(0, 7 * DAY_MS), (1, DAY_MS)] {
            let since_ms = hour.saturating_sub(ago);
            let filter = RollupFilter {
                level: Level::Hour,
                since_ms,
                until_ms: since_ms + 1,
                call: None,
                release: None,
            };
            for Rollup { key, cell, .. } in inputs.rollups.rollups(&filter)? {
                if let Some(count) = then.entry(key.call).or_default().get_mut(place) {
                    *count += cell.calls;
                }
            }
        }
        for (name, call) in &mut self.calls {
            call.then = then.get(name).copied().unwrap_or_default();
        }
        self.then_hour = Some(hour);
        Ok(())
    }

    /// Learns what is usual for a few calls: the ones that were not looked at in this hour.
    fn learn(&mut self, inputs: &Inputs<'_>) -> Result<(), StoreError> {
        let (now_ms, rollups) = (inputs.now_ms, inputs.rollups);
        let hour = Level::Hour.start(now_ms);
        let due = self.calls.iter_mut().filter(|(_, call)| call.learned_hour != Some(hour));
        for (name, call) in due.take(LEARNED_AT_ONCE) {
            call.learned_hour = Some(hour);
            let alerts = || self.tracked.values().filter(|it| it.alert.subject.call == *name);
            let policy = inputs.policies.of(name);
            for tracked in alerts().filter(|it| is_lasting(it, policy)) {
                if call.accept(&tracked.alert, now_ms, rollups)? {
                    self.usual_now.push(tracked.alert.subject.clone());
                }
            }
            let judged: Vec<About<'_>> = alerts().map(|it| about(&it.alert.subject)).collect();
            call.usual.learn(name, now_ms, &judged, rollups)?;
        }
        Ok(())
    }

    /// Ends the alerts of what is usual from now on.
    fn end_what_is_usual(&mut self, now_ms: u64, outcome: &mut Outcome) {
        for subject in std::mem::take(&mut self.usual_now) {
            let Some(tracked) = self.tracked.remove(&subject) else { continue };
            self.remember_end(&subject, now_ms);
            outcome.transitions.push(end_as_usual(tracked, now_ms));
        }
    }

    /// What fires now must not become usual.
    fn mark_incidents(&mut self, now_ms: u64) {
        for Tracked { alert, .. } in self.tracked.values() {
            let call = self.calls.get_mut(&alert.subject.call);
            if let Some(call) = call.filter(|_| alert.stage == Stage::Firing) {
                call.usual.incidents.mark(alert.started_ms, now_ms);
            }
        }
    }

    fn read_burns(&mut self, inputs: &Inputs<'_>) -> Result<(), StoreError> {
        let now_ms = inputs.now_ms;
        let due = self.calls.iter_mut().filter(|(name, call)| {
            inputs.policies.of(name).alerts.slo.is_some()
                && call.burn.as_ref().is_none_or(|(at, _)| now_ms.abs_diff(*at) >= BURN_AGE_MS)
        });
        for (name, call) in due.take(BURNS_AT_ONCE) {
            let filter = RollupFilter {
                level: Level::Hour,
                since_ms: Level::Hour.start(now_ms).saturating_sub(3 * DAY_MS - HOUR_MS),
                until_ms: now_ms + 1,
                call: Some(name.clone()),
                release: None,
            };
            let mut hours: Vec<(u64, Tally)> = Vec::new();
            for Rollup { start_ms, key, cell } in inputs.rollups.rollups(&filter)? {
                if key.outcome.rung().is_some() {
                    let bad = if key.outcome.is_error() { cell.calls } else { 0 };
                    hours.push((start_ms, Tally { bad, all: cell.calls }));
                }
            }
            call.burn = Some((now_ms, hours));
        }
        Ok(())
    }

    /// The readings of everything that comes from sums.
    fn of_calls(&mut self, inputs: &Inputs<'_>) -> Vec<(Subject, Reading)> {
        let now_ms = inputs.now_ms;
        let mut readings = Vec::new();
        let policies = inputs.policies;
        self.calls.retain(|name, call| {
            call.history.forget(now_ms);
            policies.calls.contains_key(name) || !call.history.is_empty()
        });
        for name in policies.calls.keys() {
            if !self.calls.contains_key(name) {
                self.calls.insert(name.clone(), Call::default());
            }
        }
        for (name, call) in &mut self.calls {
            let coverage = Subject {
                rule: Rule::Coverage,
                call: name.clone(),
                release: None,
                target: None,
                detail: None,
            };
            call.learn_coverage(now_ms, self.tracked.contains_key(&coverage));
            let quiet = call.quiet(now_ms, self.watching_ms);
            let seen = Seen {
                call: name,
                now_ms,
                policy: policies.of(name),
                history: &call.history,
                usual: &call.usual,
                long: call.long(now_ms),
                quiet: quiet.filter(|_| policies.calls.contains_key(name)),
            };
            readings.extend(seen.readings());
        }
        let histories = self.calls.iter().map(|(name, call)| (name.as_str(), &call.history));
        readings.extend(facts::unpriced(histories, now_ms));
        readings.extend(facts::drift(&self.models, now_ms));
        readings
    }

    /// Targets that refuse the credentials. A hold ends by itself after a minute; that is no sign of
    /// better credentials, so the alert goes on until the target answers or nobody has asked for a day.
    fn credentials(&mut self, inputs: &Inputs<'_>) -> Vec<(Subject, Reading)> {
        let now_ms = inputs.now_ms;
        let held: Vec<_> = facts::refused(inputs.engine).collect();
        let tracked = self.tracked.keys().filter(|it| it.rule == Rule::Credentials);
        let known: BTreeSet<String> = tracked.filter_map(|it| it.target.clone()).collect();
        self.refused.retain(|target, _| known.contains(target));
        for target in known {
            // What was known before a restart counts from the restart.
            self.refused.entry(target).or_insert(now_ms);
        }
        let mut readings = Vec::new();
        for target in held {
            self.refused.insert(target.to_owned(), now_ms);
            readings.push(facts::credentials(target));
        }
        for (target, last_ms) in self.refused.iter().filter(|(_, last_ms)| **last_ms != now_ms) {
            let since_ms = Level::Minute.start(*last_ms);
            let answered = self.calls.values().any(|it| it.history.answered(target, since_ms));
            if !answered && now_ms.saturating_sub(*last_ms) < DAY_MS {
                readings.push(facts::unproven(target));
            }
        }
        readings
    }

    /// Takes every reading one step on, and those alerts that nothing is read of any more.
    fn judge(
        &mut self,
        readings: Vec<(Subject, Reading)>,
        inputs: &Inputs<'_>,
        outcome: &mut Outcome,
    ) {
        let mut standings = Vec::with_capacity(readings.len());
        let mut before = std::mem::take(&mut self.tracked);
        for (subject, reading) in readings {
            let tracked = before.remove(&subject);
            self.take(tracked, (&subject, &reading), inputs, outcome);
            standings.push(Standing::of(&subject, &reading, self.tracked.get(&subject)));
        }
        for (subject, tracked) in before {
            let unknown = outcome.problem.is_some() && !is_of_engine(subject.rule);
            if unknown {
                self.tracked.insert(subject, tracked);
                continue;
            }
            let reading = Reading::plain(Verdict::Clear, "nothing of it is seen any more");
            self.take(Some(tracked), (&subject, &reading), inputs, outcome);
            if let Some(tracked) = self.tracked.get(&subject) {
                standings.push(Standing::of(&subject, &reading, Some(tracked)));
            }
        }
        self.post(standings, inputs, outcome);
    }

    fn take(
        &mut self,
        tracked: Option<Tracked>,
        (subject, reading): (&Subject, &Reading),
        inputs: &Inputs<'_>,
        outcome: &mut Outcome,
    ) {
        let now_ms = inputs.now_ms;
        let look = Look {
            now_ms,
            timing: inputs.policies.of(&subject.call).alerts.timing(subject.rule),
            silenced: inputs.silences.iter().any(|silence| silence.covers(subject, now_ms)),
        };
        let Step { mut tracked, mut transition } =
            step(tracked, subject, reading, &look, inputs.new_id);
        if let Some(Transition { alert, change, .. }) = &mut transition {
            match change {
                Change::Fired | Change::Reminded => self.show(alert, inputs),
                Change::Resolved => self.remember_end(subject, now_ms),
            }
            if let Some(tracked) = &mut tracked {
                tracked.alert = alert.clone();
            }
        }
        outcome.transitions.extend(transition);
        if let Some(tracked) = tracked {
            self.tracked.insert(subject.clone(), tracked);
        }
    }

    /// Finds what shows what is wrong.
    fn show(&self, alert: &mut Alert, inputs: &Inputs<'_>) {
        let call = self.calls.get(&alert.subject.call);
        if let Some(call) = call {
            evidence::attribute(alert, &call.history, inputs.now_ms);
        }
        let policy = inputs.policies.of(&alert.subject.call);
        let limits = call.map(|call| rules::limits(policy, &call.usual));
        alert.samples = evidence::samples(alert, limits.as_ref(), inputs.now_ms, inputs.records);
    }

    fn remember_end(&mut self, subject: &Subject, now_ms: u64) {
        if let Some(call) = self.calls.get_mut(&subject.call) {
            call.usual.remember_end(subject.rule, subject.detail.clone(), now_ms);
        }
    }

    /// Puts the board up.
    fn post(&mut self, mut standings: Vec<Standing>, inputs: &Inputs<'_>, outcome: &Outcome) {
        if outcome.problem.is_some() {
            // Rules about calls stand as they did.
            let old = std::mem::take(&mut self.board.standings).into_iter();
            standings.extend(old.filter(|it| !is_of_engine(it.subject.rule)));
        }
        let of_gateway = inputs.policies.direct.alerts.off.iter().filter(|it| it.is_of_gateway());
        standings.extend(of_gateway.map(|rule| Standing::off("", *rule)));
        for name in self.calls.keys() {
            let off = inputs.policies.of(name).alerts.off.iter();
            let off = off.filter(|rule| !rule.is_of_gateway());
            standings.extend(off.map(|rule| Standing::off(name, *rule)));
        }
        standings.sort_by(|a, b| a.subject.cmp(&b.subject));
        standings.dedup_by(|a, b| a.subject == b.subject);
        let mut open: Vec<_> = self.tracked.values().map(|it| it.alert.clone()).collect();
        open.sort_by_key(|alert| (alert.started_ms, alert.id));
        let problem = outcome.problem.as_ref().map(ToString::to_string);
        self.board = Board { at_ms: inputs.now_ms, standings, open, problem };
    }

    /// The states that are not what they were when they were last handed out.
    fn changed_states(&mut self) -> Vec<(String, Option<String>)> {
        let calls = self.calls.iter().filter(|(_, call)| call.usual != Usual::default());
        let calls = calls.filter_map(|(name, call)| {
            Some((format!("{CALL_KEY}{name}"), serde_json::to_string(&call.usual).ok()?))
        });
        let alerts = self.tracked.values().filter_map(|tracked| {
            let key = format!("{ALERT_KEY}{}", tracked.alert.id);
            Some((key, serde_json::to_string(tracked).ok()?))
        });
        let now: HashMap<String, String> = calls.chain(alerts).collect();
        let gone = self.kept.keys().filter(|key| !now.contains_key(*key));
        let gone = gone.map(|key| (key.clone(), None));
        let changed = now.iter().filter(|(key, text)| self.kept.get(*key) != Some(*text));
        let changed = changed.map(|(key, text)| (key.clone(), Some(text.clone())));
        let mut states: Vec<_> = gone.chain(changed).collect();
        states.sort();
        self.kept = now;
        states
    }
}

impl Call {
    /// How long it has not been called, if it ever was.
    fn quiet(&mut self, now_ms: u64, watching_ms: u64) -> Option<Quiet> {
        if let Some(last_ms) = self.history.last_call_ms(now_ms) {
            self.usual.last_call_ms = last_ms;
            self.usual.before = self.history.calls_before(last_ms);
        }
        let usual = &self.usual;
        if usual.last_call_ms == 0 {
            return None;
        }
        // The last call may have been in the last second of its minute.
        let called_ms = now_ms.saturating_sub(usual.last_call_ms + MINUTE_MS);
        let since_ms = (usual.last_call_ms + MINUTE_MS).max(watching_ms);
        let [week, day] = self.then;
        let known_for = now_ms.saturating_sub(usual.oldest_ms.unwrap_or(now_ms));
        let then = match known_for {
            _ if known_for >= 7 * DAY_MS => Some(week),
            _ if known_for >= DAY_MS => Some(day),
            _ => None,
        };
        #[expect(clippy::cast_precision_loss, reason = "calls of an hour")]
        let quiet = Quiet {
            lasts: Duration::from_millis(now_ms.saturating_sub(since_ms)),
            called: Duration::from_millis(called_ms),
            before: usual.before as f64,
            then: then.map(|calls| calls as f64),
            usual: Duration::from_millis(usual.usual_silence_ms()),
        };
        let lasts_ms = now_ms.saturating_sub(since_ms);
        if called_ms < self.odd_ms {
            self.usual.remember_silence(now_ms, self.odd_ms);
            self.odd_ms = 0;
        } else if quiet.is_odd() {
            self.odd_ms = lasts_ms;
        }
        Some(quiet)
    }

    /// Learns what is usually heard of within an hour. What misses reports is not learned from, nor is
    /// any other incident.
    fn learn_coverage(&mut self, now_ms: u64, judged: bool) {
        let until = now_ms.saturating_sub(HOUR_MS);
        let since = until.saturating_sub(HOUR_MS);
        let own = (Rule::Coverage, None);
        let left_out = |at_ms| !self.usual.incidents.leaves(own, Level::Hour.start(at_ms));
        if judged || left_out(since) || left_out(until) {
            return;
        }
        let unheard = self.history.sums(since, until, &history::Limits::default()).unheard;
        self.usual.take_in_time(now_ms, unheard);
    }

    /// Takes what `alert` is about for usual, from when it began; whether there are enough calls.
    fn accept(
        &mut self,
        alert: &Alert,
        now_ms: u64,
        rollups: &dyn RollupReader,
    ) -> Result<bool, StoreError> {
        let Alert { subject, started_ms, .. } = alert;
        if subject.rule == Rule::Coverage {
            // Sums do not say when reports came: it is learned from here on.
            self.usual.in_time.clear();
            return Ok(true);
        }
        let since_ms = started_ms.div_ceil(HOUR_MS) * HOUR_MS;
        self.usual.accept((&subject.call, about(subject)), since_ms, now_ms, rollups)
    }

    /// Failures of the last 6 hours and 3 days.
    fn long(&self, now_ms: u64) -> Option<[Tally; 2]> {
        let (_, hours) = self.burn.as_ref()?;
        let since = |back: u64| {
            let since = Level::Hour.start(now_ms).saturating_sub((back - 1) * HOUR_MS);
            let mut sum = Tally::default();
            for (_, tally) in hours.iter().filter(|(start, _)| *start >= since) {
                sum.bad += tally.bad;
                sum.all += tally.all;
            }
            sum
        };
        Some([since(6), since(72)])
    }
}

/// Whether an alert on what is usual has lasted for a day in which somebody watched, and is not about to
/// end.
fn is_lasting(tracked: &Tracked, policy: &Policy) -> bool {
    let learned = match tracked.alert.subject.rule {
        Rule::LatencyBaseline
        | Rule::TokensIn
        | Rule::TokensOut
        | Rule::Quality
        | Rule::Coverage => true,
        Rule::FirstToken => policy.alerts.first_token_p95.is_none(),
        Rule::ErrorRate
        | Rule::BurnRate
        | Rule::LatencyBudget
        | Rule::NoTraffic
        | Rule::BreakerOpen
        | Rule::Credentials
        | Rule::Unpriced
        | Rule::Shed
        | Rule::ModelDrift => false,
    };
    let lasts = tracked.held_ms >= DAY_MS && tracked.clear_ms == 0;
    learned && tracked.alert.stage == Stage::Firing && lasts
}

/// Whether the rule is about what the engine and the recorder say, and not about sums.
const fn is_of_engine(rule: Rule) -> bool {
    match rule {
        Rule::BreakerOpen | Rule::Credentials | Rule::Shed => true,
        Rule::ErrorRate
        | Rule::BurnRate
        | Rule::LatencyBudget
        | Rule::LatencyBaseline
        | Rule::FirstToken
        | Rule::TokensIn
        | Rule::TokensOut
        | Rule::Quality
        | Rule::Coverage
        | Rule::NoTraffic
        | Rule::Unpriced
        | Rule::ModelDrift => false,
    }
}

#[cfg(test)]
mod tests;
