//! What is not judged: sums that cannot be read, or lack what happened lately.

use super::*;

#[test]
fn a_store_that_cannot_be_read_ends_nothing_and_hides_nothing_else() {
    let mut world = World::new();
    let bad = |world: &World| world.calls(2, &failed("a", FailureClass::Schema));
    assert!(!world.minutes(2, bad).is_empty());
    *world.sums.broken.borrow_mut() = true;
    world.engine.holds = vec![("sim/m".to_owned(), FailureClass::UpstreamAuth)];
    assert_eq!(rules(&world.minutes(10, bad)), [(Rule::Credentials, Change::Fired, PAGE)]);
    let board = world.evaluator.board();
    assert_eq!(board.problem.as_deref(), Some("it is locked"));
    assert_eq!(world.state(Rule::ErrorRate), RuleState::Firing);
}

#[test]
fn sums_that_stand_still_are_no_silence_and_end_nothing() {
    for of_rollups in [false, true] {
        let mut world = World::new();
        let bad = |world: &World| world.calls(2, &failed("a", FailureClass::Schema));
        world.minutes(60, |world| world.calls(4, &ok("a")));
        assert!(!world.minutes(5, bad).is_empty());
        let why = Some("the disk is full".to_owned());
        if of_rollups {
            world.accounting.rollup_error = why;
        } else {
            world.accounting.store_error = why;
        }
        assert_eq!(rules(&world.minutes(30, |_| {})), []);
        assert_eq!(world.state(Rule::ErrorRate), RuleState::Firing);
        let problem = world.evaluator.board().problem.clone().unwrap();
        assert!(problem.ends_with("are not up to date: the disk is full"), "{problem}");
        (world.accounting.store_error, world.accounting.rollup_error) = (None, None);
        assert_eq!(rules(&world.minutes(1, bad)), []);
        assert_eq!(world.evaluator.board().problem, None);
    }
}

#[test]
fn a_backlog_is_no_silence_and_ends_nothing() {
    let mut world = World::new();
    let bad = |world: &World| world.calls(2, &failed("a", FailureClass::Schema));
    world.minutes(60, |world| world.calls(4, &ok("a")));
    assert!(!world.minutes(5, bad).is_empty());
    // Calls go on, and are not in the sums: the oldest of them has waited since now.
    let since_ms = world.now_ms;
    world.accounting.waiting_since_ms = Some(since_ms);
    assert_eq!(rules(&world.minutes(1, |_| {})), []);
    assert_eq!(world.evaluator.board().problem, None, "a minute is no backlog");
    assert_eq!(rules(&world.minutes(30, |_| {})), []);
    assert_eq!(world.state(Rule::ErrorRate), RuleState::Firing);
    let problem = world.evaluator.board().problem.clone().unwrap();
    assert_eq!(problem, "sums of calls are not up to date: they are 1860 s behind");
    // They are folded, and the alert ends by what they say.
    world.accounting.waiting_since_ms = None;
    (0..186).for_each(|look| world.calls_at(since_ms + look * 10 * SECOND, 4, &ok("a")));
    let changes = world.minutes(40, |world| world.calls(4, &ok("a")));
    let ended =
        [(Rule::ErrorRate, Change::Resolved, PAGE), (Rule::Quality, Change::Resolved, WARN)];
    assert_eq!(rules(&changes), ended);
    assert_eq!(world.evaluator.board().problem, None);
}
