//! Looks in every order, with clocks that jump and processes that restart.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::alert::{Rule, Silence};

const TIMING: Timing = Timing { hold_ms: 60_000, clear_ms: 300_000, renotify_ms: 3_600_000 };

fn subject() -> Subject {
    Subject {
        rule: Rule::ErrorRate,
        call: "a".to_owned(),
        release: None,
        target: None,
        detail: None,
    }
}

/// Plays looks; each has a time, a verdict and whether there is a silence.
fn play(
    looks: impl IntoIterator<Item = (u64, Verdict, bool)>,
) -> (Option<Tracked>, Vec<Transition>) {
    let mut tracked: Option<Tracked> = None;
    let mut changes = Vec::new();
    for (number, (now_ms, verdict, silenced)) in looks.into_iter().enumerate() {
        // Every look survives a restart.
        let kept = tracked.map(|tracked| serde_json::to_string(&tracked).unwrap());
        let kept = kept.map(|text| serde_json::from_str(&text).unwrap());
        let reading = Reading::plain(verdict, format!("look {number}"));
        let look = Look { now_ms, timing: TIMING, silenced };
        let id = || CallId::new(Duration::from_millis(now_ms), [0; 10]);
        let done = step(kept, &subject(), &reading, &look, id);
        changes.extend(done.transition);
        tracked = done.tracked;
    }
    (tracked, changes)
}

/// `verdict` from `from` to `to` (seconds), a look every 10 seconds.
fn steady(from: u64, to: u64, verdict: Verdict) -> impl Iterator<Item = (u64, Verdict, bool)> {
    (from..to).step_by(10).map(move |second| (second * 1000, verdict, false))
}

const WARN: Verdict = Verdict::Holds(Severity::Warn);
const PAGE: Verdict = Verdict::Holds(Severity::Page);

fn seen(changes: &[Transition]) -> Vec<(Change, bool, Severity)> {
    changes.iter().map(|it| (it.change, it.notify, it.alert.severity)).collect()
}

#[test]
fn it_is_pending_then_fires_then_ends() {
    let looks = steady(1000, 1100, WARN).chain(steady(1100, 1500, Verdict::Clear));
    let (tracked, changes) = play(looks);
    assert_eq!(tracked, None);
    let expected =
        [(Change::Fired, true, Severity::Warn), (Change::Resolved, true, Severity::Warn)];
    assert_eq!(seen(&changes), expected);
    let end = &changes[1].alert;
    assert_eq!((end.started_ms, end.fired_ms), (1_000_000, Some(1_060_000)));
    assert_eq!(end.resolved_ms, Some(1_390_000), "well since the look at 1090 s");
}

#[test]
fn what_does_not_last_is_forgotten() {
    let looks = steady(1000, 1050, WARN).chain(steady(1050, 1060, Verdict::Lingers));
    assert_eq!(play(looks.chain(steady(1060, 1100, WARN))).1, []);
}

#[test]
fn what_lingers_neither_begins_nor_ends_it() {
    assert_eq!(play(steady(0, 900, Verdict::Lingers)), (None, Vec::new()));
    let looks = steady(1000, 1100, WARN).chain(steady(1100, 9000, Verdict::Lingers));
    let (tracked, changes) = play(looks);
    assert_eq!(tracked.unwrap().alert.stage, Stage::Firing);
    assert_eq!(changes.iter().filter(|it| it.change == Change::Resolved).count(), 0);
}

#[test]
fn it_is_told_again_after_a_while_and_at_once_when_it_is_worse() {
    let looks =
        steady(0, 8000, WARN).chain(steady(8000, 8020, PAGE)).chain(steady(8020, 8100, WARN));
    let expected = [
        (Change::Fired, true, Severity::Warn),
        (Change::Reminded, true, Severity::Warn),
        (Change::Reminded, true, Severity::Warn),
        (Change::Fired, true, Severity::Page),
    ];
    let (tracked, changes) = play(looks);
    assert_eq!(seen(&changes), expected);
    assert_eq!(tracked.unwrap().alert.severity, Severity::Page, "it keeps its worst");
}

#[test]
fn a_silence_keeps_it_quiet_and_its_end_tells_it() {
    let quiet = |looks: &mut dyn Iterator<Item = (u64, Verdict, bool)>| -> Vec<_> {
        looks.map(|(at, verdict, _)| (at, verdict, true)).collect()
    };
    let mut looks = quiet(&mut steady(0, 9000, WARN));
    let expected = [(Change::Fired, false, Severity::Warn)];
    assert_eq!(seen(&play(looks.clone()).1), expected, "kept once, told nobody");
    let mut over = looks.clone();
    over.extend(quiet(&mut steady(9000, 9400, Verdict::Clear)));
    assert!(!play(over).1[1].notify, "nobody knew of it");
    looks.extend(steady(9000, 9010, WARN));
    let changes = play(looks).1;
    assert_eq!(seen(&changes)[1..], [(Change::Fired, true, Severity::Warn)]);
    let told = steady(0, 100, WARN).chain(quiet(&mut steady(100, 500, Verdict::Clear)));
    assert!(play(told).1[1].notify, "whoever was told is told the end");
}

#[test]
fn a_silence_covers_what_it_names_while_it_lasts() {
    let silence = Silence {
        id: CallId::new(Duration::ZERO, [0; 10]),
        call: Some("a".to_owned()),
        rule: None,
        reason: "maintenance".to_owned(),
        by: "local".to_owned(),
        created_ms: 10,
        expires_ms: 20,
    };
    assert!(silence.covers(&subject(), 10) && !silence.covers(&subject(), 20));
    let other = Subject { call: "b".to_owned(), ..subject() };
    assert!(!silence.covers(&other, 10));
}

#[test]
fn a_gap_fires_and_ends_nothing() {
    let pending = [(0, WARN, false), (7_200_000, WARN, false)];
    let (tracked, changes) = play(pending);
    assert_eq!((tracked.unwrap().alert.stage, changes), (Stage::Pending, Vec::new()));
    let looks = steady(0, 100, WARN)
        .chain([(7_200_000, Verdict::Clear, false), (7_210_000, Verdict::Clear, false)]);
    assert_eq!(play(looks).0.unwrap().alert.stage, Stage::Firing);
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Insufficient),
        Just(Verdict::Learning),
        Just(Verdict::Clear),
        Just(Verdict::Lingers),
        Just(WARN),
        Just(PAGE),
    ]
}

proptest! {
    #[test]
    fn whatever_the_clock_does_an_alert_has_its_order(
        looks in prop::collection::vec((0u64..4_000_000, verdicts(), any::<bool>()), 1..300)
    ) {
        let changes = play(looks).1;
        let mut open: Option<CallId> = None;
        let mut told = false;
        for Transition { alert, change, notify } in changes {
            prop_assert!(alert.fired_ms.unwrap() >= alert.started_ms);
            prop_assert!(alert.resolved_ms.is_none_or(|end| Some(end) >= alert.fired_ms));
            match change {
                Change::Fired | Change::Reminded => {
                    prop_assert!(open.is_none_or(|id| id == alert.id), "one at a time");
                    prop_assert!(change == Change::Fired || (told && notify));
                    open = Some(alert.id);
                    told |= notify;
                }
                Change::Resolved => {
                    prop_assert_eq!(open.take(), Some(alert.id));
                    prop_assert_eq!(notify, told, "told at the end if told before");
                    told = false;
                }
            }
        }
    }

    #[test]
    fn it_never_fires_without_having_been_watched_for_long_enough(
        steps in prop::collection::vec(0u64..100_000, 1..100), back in 0u64..100_000_000
    ) {
        let mut now = 200_000_000u64;
        let (mut watched, mut last) = (0, None);
        let mut looks = Vec::new();
        let mut first_fire = None;
        for (number, step) in steps.into_iter().enumerate() {
            now = if number % 7 == 6 { now.saturating_sub(back) } else { now + step };
            let passed = last.map_or(0, |last| now.saturating_sub(last).min(LONGEST_STEP_MS));
            last = Some(now);
            watched += passed;
            looks.push((now, WARN, false));
            if watched >= TIMING.hold_ms && first_fire.is_none() {
                first_fire = Some(now);
            }
        }
        let fired = play(looks).1.first().and_then(|it| it.alert.fired_ms);
        prop_assert_eq!(fired.is_some(), first_fire.is_some());
    }
}

#[test]
fn what_has_become_usual_ends_with_words_that_say_so() {
    let (tracked, _) = play(steady(1000, 1100, WARN));
    let told = tracked.unwrap();
    let end = end_as_usual(told.clone(), 2_000_000);
    assert_eq!(
        (end.change, end.notify, end.alert.stage),
        (Change::Resolved, true, Stage::Resolved)
    );
    assert_eq!(end.alert.resolved_ms, Some(2_000_000));
    let figures = "look 9; it has lasted for a day, and is what is usual from now on";
    assert_eq!(end.alert.arithmetic, figures);
    let silenced = Tracked { told: None, ..told };
    assert!(!end_as_usual(silenced, 2_000_000).notify, "nobody knows of it");
}
