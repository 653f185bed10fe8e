//! What becomes usual and what does not: incidents are left out, what lasts for a day is taken in.

use super::*;

const LASTED: &str = "; it has lasted for a day, and is what is usual from now on";

fn usual(world: &World) {
    world.calls(4, &ok("a"));
}

/// Slow, with longer answers, of which one in five is cut off.
fn changed(world: &World) {
    let usage = Some(Usage { input: 800, output: 900, ..Usage::default() });
    let slow = Sample { latency_us: 5_000_000, usage, ..ok("a") };
    let cut = CallOutcome::Failed(FailureClass::Truncated(Cut::Length));
    world.calls(4, &slow);
    world.calls(1, &Sample { key: Key { outcome: cut, ..slow.key.clone() }, ..slow });
}

/// A look every 30 seconds, which is often enough for what takes days.
fn hours(world: &mut World, hours: u64, each: impl Fn(&World)) -> Vec<Transition> {
    let mut seen = Vec::new();
    for _ in 0..hours * 120 {
        each(world);
        world.now_ms += 30 * SECOND;
        seen.extend(world.look());
    }
    seen
}

/// A call with six days of healthy traffic, that may fail: only rules about what is usual fire.
fn world() -> World {
    let mut world = World::new().with_yesterday();
    (25..=144).for_each(|hour| world.calls_at(START - hour * HOUR_MS, 120, &ok("a")));
    world.policies.calls.get_mut("a").unwrap().max_error_rate = 0.5;
    assert_eq!(rules(&world.minutes(30, usual)), []);
    world
}

fn told(changes: &[Transition], change: Change) -> Vec<(Rule, Option<&str>)> {
    let own = changes.iter().filter(|it| it.change == change);
    let mut told: Vec<_> =
        own.map(|it| (it.alert.subject.rule, it.alert.subject.detail.as_deref())).collect();
    told.sort_unstable();
    told
}

const CHANGED: [(Rule, Option<&str>); 3] =
    [(Rule::LatencyBaseline, None), (Rule::TokensOut, None), (Rule::Quality, Some("complete"))];

fn latency_us(world: &World) -> u64 {
    world.evaluator.calls["a"].usual.latency_us.unwrap()
}

#[test]
fn an_incident_of_six_hours_does_not_become_usual() {
    let mut world = world();
    let before = latency_us(&world);
    hours(&mut world, 3, usual);
    let mut changes = hours(&mut world, 3, changed);
    // Only what was stored is known of the first half,
    world.restart();
    changes.extend(hours(&mut world, 3, changed));
    assert_eq!(told(&changes, Change::Fired), CHANGED);
    let changes = hours(&mut world, 14, usual);
    assert_eq!(told(&changes, Change::Resolved), CHANGED);
    assert!(!changes.iter().any(|it| it.alert.arithmetic.contains(LASTED)), "{changes:#?}");
    // and of all of it when everything is learned anew, a day after it was last.
    world.restart();
    hours(&mut world, 6, usual);
    assert!(world.evaluator.calls["a"].usual.learned_ms > START + DAY_MS);
    assert_eq!(latency_us(&world), before);
    let [_, complete, ..] = world.evaluator.calls["a"].usual.stopped;
    assert_eq!(complete.bad, 0, "of {}", complete.all);
    let changes = world.minutes(30, changed);
    assert_eq!(told(&changes, Change::Fired), CHANGED, "it is noticed again");
}

#[test]
fn a_change_that_lasts_for_a_day_is_usual_from_then_on() {
    let mut world = world();
    let changes = hours(&mut world, 20, changed);
    assert_eq!(told(&changes, Change::Fired), CHANGED);
    assert_eq!(told(&changes, Change::Resolved), []);
    world.restart();
    let changes = hours(&mut world, 6, changed);
    assert_eq!(told(&changes, Change::Resolved), CHANGED);
    let ended = changes.iter().filter(|it| it.change == Change::Resolved);
    for Transition { alert, notify, .. } in ended {
        assert!(alert.arithmetic.ends_with(LASTED) && *notify, "{}", alert.arithmetic);
        assert!(alert.resolved_ms.unwrap() - alert.fired_ms.unwrap() < 26 * HOUR_MS);
    }
    world.restart();
    let changes = hours(&mut world, 26, changed);
    assert_eq!(rules(&changes), [], "nor is it told when all is learned anew");
    assert!(latency_us(&world) > 4_500_000);
    let changes = world.minutes(2 * 60, |world| {
        world.calls(4, &Sample { latency_us: 9_000_000, ..ok("a") });
    });
    let rest = [(Rule::LatencyBaseline, None), (Rule::TokensOut, None)];
    assert_eq!(told(&changes, Change::Fired), rest, "what is usual now is watched");
}

#[test]
fn what_is_judged_stands_still_and_all_else_is_learned_meanwhile() {
    let mut world = world();
    let (before, first_us) = (latency_us(&world), world.evaluator.calls["a"].usual.first_us);
    let slower = Sample { latency_us: 2_500_000, first_token_us: Some(600_000), ..ok("a") };
    assert_eq!(rules(&hours(&mut world, 22, |world| world.calls(20, &slower))), []);
    assert!(!hours(&mut world, 3, changed).is_empty());
    let usual = &world.evaluator.calls["a"].usual;
    assert!(usual.learned_ms >= START + DAY_MS && usual.first_us > first_us);
    assert_eq!(latency_us(&world), before, "it is judged");
}

#[test]
fn a_budget_is_not_learned_however_long_it_is_exceeded() {
    let mut world = World::new().with_yesterday();
    let alerts = &mut world.policies.calls.get_mut("a").unwrap().alerts;
    alerts.first_token_p95 = Some(Duration::from_secs(1));
    let late = Sample { first_token_us: Some(1_500_000), ..ok("a") };
    let changes = hours(&mut world, 50, |world| {
        world.calls(3, &late);
        world.calls(1, &failed("a", FailureClass::Schema));
    });
    assert_eq!(told(&changes, Change::Resolved), [(Rule::Quality, Some("schema_valid"))]);
    let firing = [world.state(Rule::ErrorRate), world.state(Rule::FirstToken)];
    assert_eq!(firing, [RuleState::Firing; 2]);
    // What has been open for longer than a day does not keep other things from being learned.
    let usual = &world.evaluator.calls["a"].usual;
    assert!(
        usual.learned_ms >= START + 2 * DAY_MS
            && !usual.incidents.leaves((Rule::FirstToken, None), START + 20 * HOUR_MS)
    );
    assert!(usual.incidents.leaves((Rule::FirstToken, None), START + 40 * HOUR_MS));
}

#[test]
fn reports_are_not_expected_as_rarely_as_in_an_incident() {
    let mut world = World::new().with_yesterday();
    let heard = |world: &World| {
        world.calls(2, &ok("a"));
        world.report(world.now_ms, &ok("a"), 1, 0);
    };
    let known = |world: &World| world.evaluator.calls["a"].usual.unheard();
    hours(&mut world, 5, heard);
    // As if nobody watched reports: what misses them is no alert then.
    world.policies.calls.get_mut("a").unwrap().alerts.off = [Rule::Coverage].into();
    let refused = |world: &World| world.calls(2, &failed("a", FailureClass::Schema));
    let before = known(&world);
    let changes = hours(&mut world, 6, refused);
    assert!(told(&changes, Change::Fired).contains(&(Rule::ErrorRate, None)));
    assert_eq!(known(&world), before);
    hours(&mut world, 6, heard);
    let after = known(&world);
    let (bad, all) = (after.bad - before.bad, after.all - before.all);
    assert!(all >= 200 && bad * 2 == all, "{bad} of {all} were not heard of");
}

#[test]
fn too_few_calls_make_nothing_usual_and_are_no_reason_to_forget() {
    let world = World::new();
    let usage = Some(Usage { input: 800, output: 900, ..Usage::default() });
    let slow = Sample { latency_us: 5_000_000, usage, ..ok("a") };
    world.calls_at(START - 2 * HOUR_MS, 299, &slow);
    let latency: About<'_> = (Rule::LatencyBaseline, None);
    let mut known = Usual { latency_us: Some(7), ..Usual::default() };
    known.incidents.mark(START - HOUR_MS, START);
    let mut usual = known.clone();
    let since_ms = START - 3 * HOUR_MS;
    assert!(!usual.accept(("a", latency), since_ms, START, &world.sums).unwrap());
    assert_eq!(usual, known);
    usual.learn("a", START, &[], &world.sums).unwrap();
    assert_eq!((usual.latency_us, usual.calls), (Some(7), 0), "all of it is left out");
    world.calls_at(START - 2 * HOUR_MS, 1, &slow);
    assert!(usual.accept(("a", latency), since_ms, START, &world.sums).unwrap());
    assert!(usual.latency_us > Some(4_500_000), "{:?}", usual.latency_us);
    assert_eq!(usual.stopped, known.stopped, "it is about latency");
    let mut without = Usual { latency_us: Some(7), ..Usual::default() };
    without.learn("a", START, &[], &World::new().sums).unwrap();
    assert_eq!(without.latency_us, None, "nothing has called for a week");
}

#[test]
fn what_was_summed_up_against_another_length_is_forgotten() {
    let mut world = world();
    hours(&mut world, 3, changed);
    let call = world.evaluator.calls.get_mut("a").unwrap();
    let sum = |usual: &Usual| usual.releases["a@1"].output_sum.longer.sum;
    assert!(sum(&call.usual) > 8.0);
    let about = (Rule::TokensOut, Some("a@1"));
    assert!(call.usual.accept(("a", about), START, world.now_ms, &world.sums).unwrap());
    assert_eq!(sum(&call.usual), 0.0, "a call in ten minutes would raise it again");
}

#[test]
fn what_is_about_to_end_is_not_taken_for_usual() {
    let mut world = world();
    world.minutes(30, changed);
    for tracked in world.evaluator.tracked.values() {
        let lasts = |held_ms, clear_ms| {
            is_lasting(&Tracked { held_ms, clear_ms, ..tracked.clone() }, &policy())
        };
        assert_eq!([lasts(DAY_MS - 1, 0), lasts(DAY_MS, 0)], [false, true]);
        assert!(!lasts(2 * DAY_MS, 10 * SECOND), "it has been well for ten seconds");
    }
    assert_eq!(world.evaluator.tracked.len(), 3);
}

#[test]
fn an_alert_that_nobody_watched_for_a_day_is_not_taken_for_usual() {
    let mut world = world();
    assert_eq!(told(&world.minutes(90, changed), Change::Fired), CHANGED);
    world.restart();
    world.now_ms += 30 * HOUR_MS;
    let changes = world.minutes(60, changed);
    assert!(!changes.iter().any(|it| it.alert.arithmetic.contains(LASTED)), "{changes:#?}");
    assert!(latency_us(&world) < 3_000_000);
}

#[test]
fn what_older_versions_stored_is_read() {
    let mut world = world();
    world.minutes(90, changed);
    let learned = |world: &World| world.evaluator.calls["a"].usual.clone();
    let before = learned(&world);
    let text = world.stored.get_mut("call:a").unwrap();
    let mut state: serde_json::Value = serde_json::from_str(text).unwrap();
    assert!(state.as_object_mut().unwrap().remove("incidents").is_some());
    *text = state.to_string();
    world.restart();
    assert_eq!(learned(&world).latency_us, before.latency_us);
    assert!(learned(&world).incidents.is_empty());
    // What is open is known from the alerts.
    world.minutes(1, changed);
    assert_eq!(learned(&world).incidents, before.incidents);
}

/// Eight hours a day with calls, sixteen without; what each day told.
fn office(world: &mut World, days: u64, each: fn(&World)) -> Vec<Vec<Transition>> {
    let day = |_| {
        let mut seen = hours(world, 8, each);
        seen.extend(hours(world, 16, |_| ()));
        seen
    };
    (0..days).map(day).collect()
}

/// Its alerts end every evening, so that none of them lasts for a day.
#[test]
fn what_lasts_in_office_hours_becomes_usual() {
    let mut world = World::new();
    world.policies.calls.get_mut("a").unwrap().alerts.off =
        [Rule::NoTraffic, Rule::Coverage].into();
    office(&mut world, 7, |world| world.calls(1, &ok("a")));
    let before = latency_us(&world);
    let slow = |world: &World| {
        let usage = Some(Usage { input: 800, output: 900, ..Usage::default() });
        world.calls(1, &Sample { latency_us: 5_000_000, usage, ..ok("a") });
    };
    let days = office(&mut world, 12, slow);
    assert!(told(&days[0], Change::Fired).contains(&(Rule::LatencyBaseline, None)));
    assert!(latency_us(&world) > before);
    for quiet in &days[9..] {
        assert_eq!(told(quiet, Change::Fired), []);
    }
}

#[test]
fn a_budget_that_is_exceeded_every_day_keeps_nothing_from_being_learned() {
    let mut world = World::new();
    world.policies.calls.get_mut("a").unwrap().alerts.off =
        [Rule::NoTraffic, Rule::Coverage].into();
    let days = office(&mut world, 8, |world| {
        world.calls(9, &ok("a"));
        world.calls(1, &failed("a", FailureClass::Schema));
    });
    let fired = told(&days[7], Change::Fired);
    assert!(
        !fired.is_empty() && fired.iter().all(|it| *it == (Rule::ErrorRate, None)),
        "{fired:?}"
    );
    let usual = &world.evaluator.calls["a"].usual;
    assert!(usual.latency_us.is_some() && !usual.tokens().is_empty(), "{usual:#?}");
}

#[test]
fn what_is_so_every_night_becomes_usual() {
    let mut world = world();
    let before = latency_us(&world);
    let slow = |world: &World| world.calls(4, &Sample { latency_us: 5_000_000, ..ok("a") });
    let nights: Vec<_> = (0..7)
        .map(|_| {
            let seen = hours(&mut world, 3, slow);
            hours(&mut world, 21, usual);
            seen
        })
        .collect();
    assert_eq!(told(&nights[0], Change::Fired), [(Rule::LatencyBaseline, None)]);
    assert_eq!(told(&nights[6], Change::Fired), []);
    assert!(latency_us(&world) > before);
}

#[test]
fn an_incident_of_last_year_keeps_nothing() {
    let mut usual = Usual { latency_us: Some(7), ..Usual::default() };
    usual.incidents.mark(START - HOUR_MS, START);
    usual.learn("a", START + 365 * DAY_MS, &[], &World::new().sums).unwrap();
    assert_eq!(usual.latency_us, None, "nothing has called for a year");
}
