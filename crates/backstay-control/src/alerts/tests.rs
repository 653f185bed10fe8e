//! Every rule against calls that a test makes, at a time that it moves.

use std::{cell::RefCell, collections::BTreeMap};

use backstay_core::{
    alert::{Severity, Stage},
    failure::Cut,
    record::{Cost, Degraded, Outcome as CallOutcome, Usage, Variant},
    rollup::{Cell, Key, Sample},
};
use backstay_store::{CallRow, Counts, ErrorKind, Filter, Lookup};

use super::*;

mod stale;
mod usual;

/// A Thursday, 00:00 UTC.
const START: u64 = 1_795_651_200_000;
const SECOND: u64 = 1000;

/// A store that holds sums of calls, and rows that say which question was asked.
#[derive(Default)]
struct Sums {
    cells: RefCell<BTreeMap<(Level, u64, Key), Cell>>,
    models: RefCell<Vec<ModelSeen>>,
    rows_read: RefCell<usize>,
    broken: RefCell<bool>,
}

impl RollupReader for Sums {
    fn rollups(&self, filter: &RollupFilter) -> Result<Vec<Rollup>, StoreError> {
        if *self.broken.borrow() {
            return Err(StoreError::new(ErrorKind::Busy, "it is locked"));
        }
        let cells = self.cells.borrow();
        let key = Key {
            call: String::new(),
            release: None,
            variant: Variant::Stable,
            target: None,
            outcome: CallOutcome::Ok,
        };
        let from = (filter.level, filter.since_ms, key);
        let rows = cells.range(from..).take_while(|((level, start, _), _)| {
            *level == filter.level && *start < filter.until_ms
        });
        let rows = rows
            .filter(|((_, _, key), _)| filter.call.as_ref().is_none_or(|call| *call == key.call));
        let rows: Vec<_> = rows
            .map(|((_, start_ms, key), cell)| Rollup {
                start_ms: *start_ms,
                key: key.clone(),
                cell: cell.clone(),
            })
            .collect();
        *self.rows_read.borrow_mut() += rows.len();
        Ok(rows)
    }

    fn models(&self) -> Result<Vec<ModelSeen>, StoreError> {
        Ok(self.models.borrow().clone())
    }
}

/// A log whose calls all match; the ids say which question they answer.
struct Log;

impl RecordReader for Log {
    fn calls(&self, filter: &Filter) -> Result<Vec<CallRow>, StoreError> {
        let failed = filter.outcomes.first().copied();
        let row = |n: u8| CallRow {
            seq: u64::from(n),
            id: CallId::new(Duration::from_millis(START), [n; 10]),
            call: filter.call.clone().unwrap_or_default(),
            release: None,
            variant: Variant::Stable,
            protocol: "native".to_owned(),
            stream: false,
            unit: None,
            outcome: failed.unwrap_or(CallOutcome::Ok),
            degraded: Degraded::None,
            message: None,
            latency_us: 60_000_000,
            first_token_us: Some(60_000_000),
            overhead_us: 0,
            usage: Some(Usage { input: u64::from(n), output: u64::from(n), ..Usage::default() }),
            cost: None,
            model: None,
            target: filter.target.clone(),
            attempts: 1,
            consumer_ok: None,
        };
        Ok((1..=5).map(row).collect())
    }

    fn call(&self, _: &str) -> Result<Lookup, StoreError> {
        Ok(Lookup::Missing)
    }

    fn counts(&self, _: &Filter) -> Result<Counts, StoreError> {
        Ok(Counts::default())
    }
}

/// Backstay as the evaluator sees it, at a time that the test moves.
struct World {
    now_ms: u64,
    sums: Sums,
    engine: EngineView,
    accounting: Accounting,
    policies: Policies,
    silences: Vec<Silence>,
    evaluator: Evaluator,
    stored: BTreeMap<String, String>,
    seen: Vec<Transition>,
    ids: std::cell::Cell<u8>,
}

fn policy() -> Policy {
    let alerts = backstay_core::alert::policy::CallAlerts::default();
    Policy { deadline: Duration::from_secs(20), max_error_rate: 0.02, alerts }
}

fn ok(call: &str) -> Sample {
    Sample {
        started_ms: 0,
        key: Key {
            call: call.to_owned(),
            release: Some(format!("{call}@1")),
            variant: Variant::Stable,
            target: Some("sim/m".to_owned()),
            outcome: CallOutcome::Ok,
        },
        degraded: Degraded::None,
        attempts: 1,
        latency_us: 2_000_000,
        first_token_us: Some(500_000),
        usage: Some(Usage { input: 800, output: 200, ..Usage::default() }),
        cost: Some(Cost::Free),
    }
}

fn failed(call: &str, class: FailureClass) -> Sample {
    let ok = ok(call);
    Sample { key: Key { outcome: CallOutcome::Failed(class), ..ok.key.clone() }, ..ok }
}

impl World {
    fn new() -> Self {
        Self {
            now_ms: START,
            sums: Sums::default(),
            engine: EngineView::default(),
            accounting: Accounting::default(),
            policies: Policies { calls: [("a".to_owned(), policy())].into(), direct: policy() },
            silences: Vec::new(),
            evaluator: Evaluator::default(),
            stored: BTreeMap::new(),
            seen: Vec::new(),
            ids: std::cell::Cell::new(0),
        }
    }

    /// `count` calls like this one, now.
    fn calls(&self, count: u64, sample: &Sample) {
        self.calls_at(self.now_ms, count, sample);
    }

    fn calls_at(&self, at_ms: u64, count: u64, sample: &Sample) {
        let mut cells = self.sums.cells.borrow_mut();
        for level in Level::ALL {
            let key = (level, level.start(at_ms), sample.key.clone());
            let cell = cells.entry(key).or_default();
            (0..count).for_each(|_| cell.add(sample));
        }
    }

    fn report(&self, at_ms: u64, sample: &Sample, useful: u64, useless: u64) {
        let mut cells = self.sums.cells.borrow_mut();
        for level in Level::ALL {
            let key = (level, level.start(at_ms), sample.key.clone());
            let cell = cells.entry(key).or_default();
            cell.useful += useful;
            cell.useless += useless;
        }
    }

    /// A day of healthy calls before the test begins, some a little longer and some a little shorter.
    fn with_yesterday(self) -> Self {
        for hour in 1..=24 {
            for (input, output) in [(700, 175), (800, 200), (914, 229)] {
                let usage = Some(Usage { input, output, ..Usage::default() });
                self.calls_at(START - hour * HOUR_MS, 40, &Sample { usage, ..ok("a") });
            }
        }
        self
    }

    fn look(&mut self) -> Vec<Transition> {
        let next_id = || {
            self.ids.set(self.ids.get() + 1);
            CallId::new(Duration::from_millis(self.now_ms), [self.ids.get(); 10])
        };
        let outcome = self.evaluator.tick(&Inputs {
            now_ms: self.now_ms,
            rollups: &self.sums,
            records: &Log,
            engine: &self.engine,
            accounting: Some(&self.accounting),
            policies: &self.policies,
            silences: &self.silences,
            new_id: &next_id,
        });
        for (key, text) in outcome.states {
            match text {
                Some(text) => self.stored.insert(key, text),
                None => self.stored.remove(&key),
            };
        }
        self.seen.extend(outcome.transitions.clone());
        outcome.transitions
    }

    /// A look every 10 seconds for so many minutes, with what `each` does before each.
    fn minutes(&mut self, minutes: u64, each: impl Fn(&Self)) -> Vec<Transition> {
        let mut seen = Vec::new();
        for _ in 0..minutes * 6 {
            each(self);
            self.now_ms += 10 * SECOND;
            seen.extend(self.look());
        }
        seen
    }

    fn restart(&mut self) {
        let states = self.stored.clone().into_iter().collect();
        let kept = AlertsKept { states, ..AlertsKept::default() };
        self.evaluator = Evaluator::restore(&kept, self.now_ms);
    }

    fn state(&self, rule: Rule) -> RuleState {
        let standings = self.evaluator.board().standings.iter();
        standings.filter(|it| it.subject.rule == rule).map(|it| it.state).max().unwrap()
    }
}

fn rules(changes: &[Transition]) -> Vec<(Rule, Change, Severity)> {
    changes.iter().map(|it| (it.alert.subject.rule, it.change, it.alert.severity)).collect()
}

const WARN: Severity = Severity::Warn;
const PAGE: Severity = Severity::Page;

#[test]
fn failing_calls_are_told_with_all_that_one_needs_and_their_end_too() {
    let mut world = World::new();
    assert_eq!(rules(&world.minutes(30, |world| world.calls(5, &ok("a")))), []);
    let changes = world.minutes(3, |world| {
        world.calls(4, &ok("a"));
        world.calls(1, &failed("a", FailureClass::Schema));
    });
    let expected = [(Rule::ErrorRate, Change::Fired, WARN), (Rule::ErrorRate, Change::Fired, PAGE)];
    assert_eq!(rules(&changes), expected);
    let alert = &changes[1].alert;
    assert_eq!(alert.stage, Stage::Firing);
    assert_eq!(alert.release.as_deref(), Some("a@1"));
    assert_eq!(alert.variant, Some(Variant::Stable));
    assert_eq!(alert.top_failure.as_deref(), Some("schema"));
    assert_eq!(alert.samples.len(), 3);
    assert!(alert.arithmetic.contains(" calls failed in 5 min ("), "{}", alert.arithmetic);
    assert!(alert.arithmetic.contains(", allowed 2 %: P(>="), "{}", alert.arithmetic);
    assert_eq!(world.evaluator.board().firing().count(), 1);
    let after = world.minutes(60, |world| world.calls(5, &ok("a")));
    assert_eq!(rules(&after), [(Rule::ErrorRate, Change::Resolved, PAGE)], "once, and no more");
    assert_eq!(world.state(Rule::ErrorRate), RuleState::Ok);
}

#[test]
fn a_restart_forgets_nothing_and_tells_nothing_twice() {
    let mut world = World::new().with_yesterday();
    let bad = |world: &World| {
        world.calls(4, &ok("a"));
        world.calls(1, &failed("a", FailureClass::Malformed));
    };
    assert!(!world.minutes(5, bad).is_empty());
    world.restart();
    assert_eq!(rules(&world.minutes(5, bad)), [], "it was told before");
    let firing: Vec<_> = world.evaluator.board().firing().map(|alert| alert.id).collect();
    world.restart();
    world.now_ms += 2 * HOUR_MS;
    assert_eq!(rules(&world.look()), [], "nobody watched: it neither ends nor is told again");
    assert!(world.evaluator.board().firing().any(|alert| firing.contains(&alert.id)));
}

#[test]
fn what_is_usual_is_learned_and_what_is_not_is_told() {
    let mut world = World::new().with_yesterday();
    let usual = |world: &World| world.calls(1, &ok("a"));
    assert_eq!(rules(&world.minutes(10, usual)), []);
    for rule in [Rule::LatencyBaseline, Rule::FirstToken, Rule::TokensIn, Rule::TokensOut] {
        assert_eq!(world.state(rule), RuleState::Ok, "{rule:?}");
    }
    assert_eq!(world.state(Rule::Quality), RuleState::Learning, "no consumer ever said anything");
    let slow = Sample { latency_us: 5_000_000, first_token_us: Some(1_500_000), ..ok("a") };
    let changes = world.minutes(10, |world| world.calls(1, &slow));
    let mut fired = rules(&changes);
    fired.sort();
    let expected =
        [(Rule::LatencyBaseline, Change::Fired, WARN), (Rule::FirstToken, Change::Fired, WARN)];
    assert_eq!(fired, expected);
    assert_eq!(changes[0].alert.samples.len(), 3);
}

#[test]
fn longer_answers_are_told_and_a_new_release_is_learned_anew() {
    let mut world = World::new().with_yesterday();
    world.minutes(5, |world| world.calls(1, &ok("a")));
    let usage = Some(Usage { input: 800, output: 900, ..Usage::default() });
    let long = Sample { usage, ..ok("a") };
    let changes = world.minutes(20, |world| world.calls(1, &long));
    assert_eq!(rules(&changes), [(Rule::TokensOut, Change::Fired, WARN)]);
    let alert = &changes[0].alert;
    assert_eq!(alert.release.as_deref(), Some("a@1"));
    assert!(alert.summary.starts_with("answers are longer than usual: "), "{}", alert.summary);
    let longest = alert.samples.first().map(|id| id.0.as_bytes()[15]);
    assert_eq!(longest, Some(5), "the longest of the five calls of the log");
    world.restart();
    let release = Some("a@2".to_owned());
    let other = Sample { key: Key { release, ..long.key.clone() }, ..long };
    let changes = world.minutes(70, |world| world.calls(1, &other));
    assert_eq!(rules(&changes), [(Rule::TokensOut, Change::Resolved, WARN)], "the old one is gone");
}

#[test]
fn a_rung_that_breaks_is_named() {
    let mut world = World::new().with_yesterday();
    world.policies.calls.get_mut("a").unwrap().max_error_rate = 0.5;
    let changes = world.minutes(10, |world| {
        world.calls(4, &ok("a"));
        world.calls(1, &failed("a", FailureClass::Truncated(Cut::Length)));
    });
    assert_eq!(rules(&changes), [(Rule::Quality, Change::Fired, WARN)]);
    let alert = &changes[0].alert;
    assert_eq!(alert.subject.detail.as_deref(), Some("complete"));
    assert!(alert.summary.contains("answers were cut off"), "{}", alert.summary);
}

#[test]
fn lost_reports_are_missed() {
    let mut world = World::new().with_yesterday();
    let usual = |world: &World| {
        world.calls(1, &ok("a"));
        let heard = u64::from(world.now_ms / (10 * SECOND) % 8 < 5);
        world.report(world.now_ms, &ok("a"), heard, 0);
    };
    assert_eq!(rules(&world.minutes(6 * 60, usual)), []);
    assert_eq!(world.state(Rule::Coverage), RuleState::Ok);
    let changes = world.minutes(150, |world| world.calls(1, &ok("a")));
    assert_eq!(rules(&changes), [(Rule::Coverage, Change::Fired, WARN)]);
    let alert = &changes[0].alert;
    assert!(alert.arithmetic.contains("not heard of in 1 h, an hour ago"), "{}", alert.arithmetic);
    world.restart();
    let changes = world.minutes(20 * 60, |world| world.calls(1, &ok("a")));
    let over = |it: &Transition| it.change == Change::Resolved;
    assert!(!changes.iter().any(over), "it is not learned from: {changes:#?}");
    let changes = world.minutes(6 * 60, |world| world.calls(1, &ok("a")));
    assert_eq!(changes.iter().filter(|it| over(it)).count(), 1, "it is usual after a day");
}

#[test]
fn consumers_that_report_the_next_day_are_not_missed() {
    let mut world = World::new().with_yesterday();
    (20..=24).for_each(|hour| world.report(START - hour * HOUR_MS, &ok("a"), 110, 5));
    let changes = world.minutes(26 * 60, |world| {
        world.calls(1, &ok("a"));
        world.report(world.now_ms - 20 * HOUR_MS, &ok("a"), 1, 0);
    });
    assert!(!rules(&changes).iter().any(|it| it.0 == Rule::Coverage), "{changes:#?}");
}

#[test]
fn silence_is_told_unless_nobody_watched() {
    let mut world = World::new();
    world.minutes(60, |world| world.calls(2, &ok("a")));
    let changes = world.minutes(10, |_| {});
    assert_eq!(rules(&changes), [(Rule::NoTraffic, Change::Fired, WARN)]);
    let changes = world.minutes(2, |world| world.calls(2, &ok("a")));
    assert_eq!(rules(&changes), [(Rule::NoTraffic, Change::Resolved, WARN)]);
    world.now_ms += 3 * HOUR_MS;
    assert_eq!(rules(&world.minutes(4, |_| {})), [], "it was Backstay that was away");
    world.policies.calls.clear();
    assert_eq!(rules(&world.minutes(30, |_| {})), [], "nobody expects calls of plain targets");
}

#[test]
fn a_silence_goes_on_though_nobody_watched_for_a_while() {
    let mut world = World::new();
    world.minutes(60, |world| world.calls(2, &ok("a")));
    assert_eq!(rules(&world.minutes(10, |_| {})), [(Rule::NoTraffic, Change::Fired, WARN)]);
    world.restart();
    world.now_ms += 90 * SECOND;
    assert_eq!(rules(&world.minutes(10, |_| {})), [], "it neither ends nor begins anew");
    world.now_ms += 300 * SECOND;
    assert_eq!(rules(&world.minutes(10, |_| {})), []);
    let changes = world.minutes(2, |world| world.calls(2, &ok("a")));
    assert_eq!(rules(&changes), [(Rule::NoTraffic, Change::Resolved, WARN)]);
}

#[test]
fn a_silence_that_nobody_watched_for_a_while_is_one_silence() {
    let mut world = World::new();
    world.minutes(60, |world| world.calls(2, &ok("a")));
    for _ in 0..3 {
        world.minutes(10, |_| {});
        world.now_ms += 90 * SECOND;
    }
    world.minutes(10, |_| {});
    assert_eq!(world.evaluator.calls["a"].usual.silences, [], "it is not over");
    world.minutes(3, |world| world.calls(2, &ok("a")));
    assert_eq!(world.evaluator.calls["a"].usual.silences.len(), 1);
}

#[test]
fn a_job_by_the_hour_is_learned() {
    let mut world = World::new();
    for hour in 0..12 {
        let changes = world.minutes(5, |world| world.calls(20, &ok("a")));
        let quiet = world.minutes(55, |_| {});
        let fired = [changes, quiet].concat().iter().any(|it| it.change == Change::Fired);
        assert!(!fired || hour < 4, "still in hour {hour}");
    }
}

#[test]
fn what_the_engine_says_is_told() {
    let mut world = World::new();
    world.engine.breakers = vec![("a".to_owned(), "sim/m".to_owned())];
    world.engine.holds = vec![
        ("sim/m".to_owned(), FailureClass::UpstreamAuth),
        ("sim/n".to_owned(), FailureClass::RateLimited),
    ];
    world.accounting.shed = shed(3, 0);
    let changes = world.minutes(3, |_| {});
    let expected = [
        (Rule::Credentials, Change::Fired, PAGE),
        (Rule::Shed, Change::Fired, PAGE),
        (Rule::BreakerOpen, Change::Fired, WARN),
    ];
    assert_eq!(rules(&changes), expected);
    assert_eq!(changes[2].alert.subject.target.as_deref(), Some("sim/m"));
    world.engine = EngineView::default();
    let changes = world.minutes(15, |world| world.calls(1, &ok("a")));
    let ended: Vec<_> =
        rules(&changes).into_iter().map(|(rule, change, _)| (rule, change)).collect();
    let expected = [
        (Rule::BreakerOpen, Change::Resolved),
        (Rule::Credentials, Change::Resolved),
        (Rule::Shed, Change::Resolved),
    ];
    assert_eq!(ended, expected);
}

#[test]
fn refused_credentials_are_told_once_until_the_target_answers() {
    let mut world = World::new();
    let held = vec![("sim/m".to_owned(), FailureClass::UpstreamAuth)];
    let refused = failed("a", FailureClass::UpstreamAuth);
    // Neither what was answered before, nor a call without an answer, nor another target proves it.
    world.minutes(10, |world| world.calls(1, &ok("a")));
    let other = ok("a");
    let other =
        Sample { key: Key { target: Some("sim/n".to_owned()), ..other.key.clone() }, ..other };
    for round in 0..3 {
        world.calls(1, &refused);
        world.engine.holds.clone_from(&held);
        let changes = world.minutes(1, |_| {});
        let told = rules(&changes).contains(&(Rule::Credentials, Change::Fired, PAGE));
        assert_eq!(told, round == 0, "round {round}");
        world.engine.holds.clear();
        let changes = world.minutes(20, |world| {
            world.calls(1, &refused);
            world.calls(1, &other);
        });
        assert!(!rules(&changes).iter().any(|it| it.0 == Rule::Credentials), "{changes:#?}");
        world.restart();
    }
    world.calls(1, &ok("a"));
    let changes = world.minutes(6, |_| {});
    assert!(rules(&changes).contains(&(Rule::Credentials, Change::Resolved, PAGE)), "{changes:#?}");
}

#[test]
fn refused_credentials_of_a_target_that_nobody_asks_end_after_a_day() {
    let mut world = World::new();
    world.policies.calls.clear();
    world.engine.holds = vec![("sim/m".to_owned(), FailureClass::UpstreamAuth)];
    assert_eq!(rules(&world.minutes(1, |_| {})), [(Rule::Credentials, Change::Fired, PAGE)]);
    world.engine.holds.clear();
    let changes = world.minutes(25 * 60, |_| {});
    let ends: Vec<_> = changes.iter().filter(|it| it.change == Change::Resolved).collect();
    assert_eq!(ends.len(), 1);
    assert!(ends[0].alert.resolved_ms.unwrap() >= START + DAY_MS);
}

#[test]
fn rules_about_the_gateway_are_turned_off_by_the_defaults() {
    let mut world = World::new();
    let of_gateway: Vec<_> = Rule::ALL.into_iter().filter(|rule| rule.is_of_gateway()).collect();
    world.policies.direct.alerts.off = of_gateway.iter().copied().collect();
    world.policies.calls.get_mut("a").unwrap().alerts.off = [Rule::BreakerOpen].into();
    world.engine.breakers = vec![("a".to_owned(), "sim/m".to_owned())];
    world.engine.holds = vec![("sim/m".to_owned(), FailureClass::UpstreamAuth)];
    world.accounting.shed = shed(3, 0);
    world.calls(1, &Sample { cost: Some(Cost::Unknown), ..ok("a") });
    assert_eq!(rules(&world.minutes(4, |_| {})), []);
    for rule in of_gateway.into_iter().chain([Rule::BreakerOpen]) {
        assert_eq!(world.state(rule), RuleState::Off, "{rule:?}");
    }
}

/// What the recorder counts: records that found the queue full, and reports that no call has.
fn shed(queue_full: u64, unmatched: u64) -> [(&'static str, u64); 4] {
    [("queue_full", queue_full), ("expired", unmatched), ("unmatched", unmatched), ("closed", 0)]
}

#[test]
fn late_and_mistyped_reports_are_no_lost_records() {
    let mut world = World::new();
    world.accounting.shed = shed(0, 7);
    assert_eq!(rules(&world.minutes(3, |_| {})), [], "anybody can send such reports");
    world.accounting.shed = shed(2, 8);
    let changes = world.minutes(1, |_| {});
    assert_eq!(rules(&changes), [(Rule::Shed, Change::Fired, PAGE)]);
    assert!(changes[0].alert.summary.starts_with("2 records"), "{}", changes[0].alert.summary);
}

#[test]
fn unknown_prices_and_other_models_are_told_for_an_hour() {
    let mut world = World::new();
    let seen = |model: &str, first_ms: u64| ModelSeen {
        target: "sim/m".to_owned(),
        model: model.to_owned(),
        fingerprint: None,
        first_ms,
        last_ms: first_ms + 1000,
        calls: 10,
    };
    *world.sums.models.borrow_mut() = vec![seen("m-1", START - DAY_MS)];
    world.minutes(2, |world| world.calls(1, &ok("a")));
    world.calls(1, &Sample { cost: Some(Cost::Unknown), ..ok("a") });
    world.sums.models.borrow_mut().push(seen("m-2", world.now_ms));
    let changes = world.minutes(2, |world| world.calls(1, &ok("a")));
    let expected = [(Rule::Unpriced, Change::Fired, WARN), (Rule::ModelDrift, Change::Fired, WARN)];
    assert_eq!(rules(&changes), expected);
    assert_eq!(changes[1].alert.summary, "sim/m answers as m-2, before as m-1");
    let changes = world.minutes(62, |world| world.calls(1, &ok("a")));
    assert_eq!(changes.iter().filter(|it| it.change == Change::Resolved).count(), 2);
}

#[test]
fn a_slow_burn_is_told_where_there_is_an_slo() {
    let mut world = World::new();
    world.policies.calls.get_mut("a").unwrap().alerts.slo = Some(0.99);
    world.policies.calls.get_mut("a").unwrap().max_error_rate = 0.5;
    let changes = world.minutes(70, |world| {
        world.calls(4, &ok("a"));
        world.calls(1, &failed("a", FailureClass::Schema));
    });
    let burn: Vec<_> = rules(&changes).into_iter().filter(|it| it.0 == Rule::BurnRate).collect();
    assert_eq!(burn, [(Rule::BurnRate, Change::Fired, PAGE)]);
}

#[test]
fn a_rule_that_is_off_is_shown_as_off_and_ends_its_alert() {
    let mut world = World::new();
    let bad = |world: &World| world.calls(2, &failed("a", FailureClass::Schema));
    assert!(!world.minutes(2, bad).is_empty());
    world.policies.calls.get_mut("a").unwrap().alerts.off = [Rule::ErrorRate].into();
    let changes = world.minutes(6, bad);
    assert_eq!(rules(&changes), [(Rule::ErrorRate, Change::Resolved, PAGE)]);
    assert_eq!(world.state(Rule::ErrorRate), RuleState::Off);
}

/// 200 calls with traffic for two hours: a look reads only what may have changed.
#[test]
fn a_look_is_cheap() {
    let mut world = World::new();
    world.policies.calls = (0..200).map(|n| (format!("c{n}"), policy())).collect();
    for minute in 0..120 {
        let at = START - minute * MINUTE_MS;
        (0..200).for_each(|n| world.calls_at(at, 1, &ok(&format!("c{n}"))));
    }
    world.minutes(9, |_| {});
    let before = *world.sums.rows_read.borrow();
    world.minutes(1, |world| (0..200).for_each(|n| world.calls(1, &ok(&format!("c{n}")))));
    let each = (*world.sums.rows_read.borrow() - before) / 6;
    assert!(each <= 200 * 5, "{each} rows a look");
    assert!(world.stored.values().all(|text| text.len() < 4096));
}

/// Random numbers that are the same each time.
struct Dice(u64);

impl Dice {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Around `median`, with a log-normal spread of `sigma`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousands")]
    fn around(&mut self, median: f64, sigma: f64) -> u64 {
        let radius = (-2.0 * (1.0 - self.roll()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.roll()).cos();
        (median * (sigma * normal).exp()) as u64
    }

    /// A healthy call: one in 100 fails.
    fn call(&mut self) -> Sample {
        let bad = self.roll() < 0.01;
        let sample = if bad { failed("a", FailureClass::Schema) } else { ok("a") };
        let (input, output) = (self.around(800.0, 0.4), self.around(200.0, 0.6));
        Sample {
            latency_us: self.around(2_000_000.0, 0.5),
            first_token_us: Some(self.around(500_000.0, 0.5)),
            usage: Some(Usage { input, output, ..Usage::default() }),
            ..sample
        }
    }
}

/// Every rule at once, 20 calls a minute that come by chance, of which one in 100 fails.
#[test]
fn a_healthy_day_is_quiet() {
    let mut world = World::new();
    let dice = RefCell::new(Dice(11));
    let changes = world.minutes(24 * 60, |world| {
        // Of 10 chances a third: a little under three and a half calls in 10 seconds.
        for _ in 0..10 {
            let mut dice = dice.borrow_mut();
            if dice.roll() < 1.0 / 3.0 {
                world.calls(1, &dice.call());
            }
        }
    });
    assert_eq!(rules(&changes), [], "{changes:#?}");
    for rule in [Rule::TokensIn, Rule::TokensOut, Rule::LatencyBaseline, Rule::FirstToken] {
        assert_eq!(world.state(rule), RuleState::Ok, "{rule:?} watched");
    }
}
