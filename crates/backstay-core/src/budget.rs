//! The failure budget of one call: what is left of it, and the one decision after a failure.
//!
//! Retry, repair and fallback are one loop over [`BudgetLeft::next`]. It never sleeps and never looks
//! at a clock; the engine hands in the time, a random number and what it knows of the targets.

use std::time::{Duration, Instant};

use crate::{
    failure::{Failure, FailureClass, NextTarget, SameTarget},
    price::Nano,
    record::Cost,
    release::{Backoff, Budget},
};

/// What the engine knows of one target of the route, at the time of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetView {
    /// Its breaker, limit and credentials would let an attempt through now.
    pub admits: bool,
    /// It has retry tokens for an attempt that is not a call's first.
    pub retry_tokens: bool,
    /// Its context window in tokens, if known.
    pub window: Option<u32>,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask target `index` of the route after `pause`.
    Try {
        /// Position in the route.
        index: usize,
        /// How long to wait first.
        pause: Duration,
    },
    /// Show the same target what was wrong with its answer.
    Repair,
    /// The failure is the call's.
    GiveUp,
    /// There would be another attempt, but the call has cost all that it may.
    CostSpent {
        /// What its attempts have cost, as far as that is known.
        spent: Nano,
        /// What it may cost.
        most: Nano,
    },
}

/// What is left of a call's failure budget.
#[derive(Clone, Debug)]
pub struct BudgetLeft {
    deadline: Instant,
    attempts: u32,
    repairs: u32,
    pauses: u32,
    backoff: Backoff,
    fallback_on_refusal: bool,
    /// The last failure of each target of the route; `None`: not asked yet.
    failed: Vec<Option<FailureClass>>,
    /// Targets whose one extra try (`SameTarget::Once`) is used up.
    tried_once: Vec<bool>,
    /// What the attempts have cost, as far as that is known.
    spent: Nano,
    /// What the call may cost.
    most: Option<Nano>,
}

impl BudgetLeft {
    /// The budget of a call that starts at `now` and has `targets` targets. `deadline` may shorten
    /// the budget's own, never lengthen it.
    #[must_use]
    pub fn start(
        budget: &Budget,
        targets: usize,
        now: Instant,
        deadline: Option<Duration>,
    ) -> Self {
        let deadline = deadline.map_or(budget.deadline, |asked| asked.min(budget.deadline));
        Self {
            deadline: now + deadline,
            attempts: budget.attempts.max(1),
            repairs: budget.repair,
            pauses: 0,
            backoff: budget.backoff,
            fallback_on_refusal: false,
            failed: vec![None; targets],
            tried_once: vec![false; targets],
            spent: Nano::default(),
            most: budget.max_cost_usd.map(most_of),
        }
    }

    /// Lets refusals and content filters go on to the next target.
    #[must_use]
    pub fn fallback_on_refusal(mut self, yes: bool) -> Self {
        self.fallback_on_refusal = yes;
        self
    }

    /// When the call must be answered.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Time left until the deadline, zero after it.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now)
    }

    /// The target of the first attempt: the first one that admits it.
    #[must_use]
    pub fn first(&self, targets: &[TargetView]) -> Option<usize> {
        targets.iter().position(|target| target.admits)
    }

    /// Takes one attempt out of the budget. The engine calls it when it sends, not when a target is
    /// shut off by its breaker: what was never sent costs nothing.
    pub fn spend_attempt(&mut self) {
        self.attempts = self.attempts.saturating_sub(1);
    }

    /// Counts what an attempt has cost. An unknown cost cannot be counted, and does not end a call.
    pub fn spend_cost(&mut self, cost: Cost) {
        if let Cost::Priced(nano) = cost {
            self.spent = Nano(self.spent.0.saturating_add(nano));
        }
    }

    /// Decides what follows `failure` of target `index`. `jitter` is drawn evenly from 0 to 1.
    pub fn next(
        &mut self,
        index: usize,
        failure: &Failure,
        targets: &[TargetView],
        moment: (Instant, f64),
    ) -> Next {
        match (self.decide(index, failure, targets, moment), self.most) {
            (Next::Try { .. } | Next::Repair, Some(most)) if self.spent >= most => {
                Next::CostSpent { spent: self.spent, most }
            }
            (next, _) => next,
        }
    }

    fn decide(
        &mut self,
        index: usize,
        failure: &Failure,
        targets: &[TargetView],
        (now, jitter): (Instant, f64),
    ) -> Next {
        if let Some(last) = self.failed.get_mut(index) {
            *last = Some(failure.class);
        }
        if self.attempts == 0 || now >= self.deadline {
            return Next::GiveUp;
        }
        if self.may_repair(index, failure.class, targets) {
            self.repairs -= 1;
            return Next::Repair;
        }
        if let Some(index) = self.fallback(index, failure.class, targets) {
            return Next::Try { index, pause: Duration::ZERO };
        }
        self.again(index, failure, targets, (now, jitter))
    }

    fn may_repair(&self, index: usize, class: FailureClass, targets: &[TargetView]) -> bool {
        let repairable =
            matches!(class.row().same, SameTarget::Repair | SameTarget::RepairThenBackoff);
        let able = targets.get(index).is_some_and(|target| target.admits && target.retry_tokens);
        repairable && able && self.repairs > 0
    }

    /// The first target that was not asked yet and may be, given how the last one failed.
    fn fallback(&self, index: usize, class: FailureClass, targets: &[TargetView]) -> Option<usize> {
        let fresh = |index: usize| self.failed.get(index).is_some_and(Option::is_none);
        targets.iter().enumerate().find_map(|(other, target)| {
            let able = target.admits && target.retry_tokens;
            (fresh(other) && able && self.may_go_on(index, other, class, targets)).then_some(other)
        })
    }

    /// Whether target `other` may be asked after target `index` failed with `class`.
    fn may_go_on(
        &self,
        index: usize,
        other: usize,
        class: FailureClass,
        targets: &[TargetView],
    ) -> bool {
        let window = |index: usize| targets.get(index).and_then(|target| target.window);
        match class.row().next {
            NextTarget::No => false,
            NextTarget::Yes => true,
            NextTarget::LargerWindow => window(other) > window(index),
            NextTarget::IfRouteSaysSo => self.fallback_on_refusal,
        }
    }

    /// The same target again or, if that will not do, an earlier one whose own failure allows it.
    fn again(
        &mut self,
        index: usize,
        failure: &Failure,
        targets: &[TargetView],
        (now, jitter): (Instant, f64),
    ) -> Next {
        let class = failure.class;
        let drawn = self.draw(jitter);
        let others = (0..targets.len())
            .filter(|&other| other != index && self.may_go_on(index, other, class, targets))
            .filter(|&other| targets.get(other).is_some_and(|target| target.admits))
            .map(|other| (other, drawn));
        // What the provider asks for is asked by this target, and no reason to wait for another. A
        // target on hold does not admit, yet after this pause it will.
        let held = class.row().same == SameTarget::AfterHint && failure.retry_after.is_some();
        let own = targets.get(index).filter(|target| target.admits || held);
        let own = own.map(|_| (index, failure.retry_after.map_or(drawn, |hint| hint.max(drawn))));
        let left = self.remaining(now);
        let chosen = own
            .into_iter()
            .chain(others)
            .find(|&(other, pause)| pause < left && self.may_ask_again(other, targets));
        let Some((index, pause)) = chosen else { return Next::GiveUp };
        self.pauses += 1;
        if self.failed_with(index).is_some_and(|class| class.row().same == SameTarget::Once)
            && let Some(once) = self.tried_once.get_mut(index)
        {
            *once = true;
        }
        Next::Try { index, pause }
    }

    fn failed_with(&self, index: usize) -> Option<FailureClass> {
        self.failed.get(index).copied().flatten()
    }

    /// Whether the last failure of target `index` and its retry tokens let it be asked again.
    fn may_ask_again(&self, index: usize, targets: &[TargetView]) -> bool {
        let allowed = self.failed_with(index).is_some_and(|class| match class.row().same {
            SameTarget::No | SameTarget::Repair => false,
            SameTarget::Backoff | SameTarget::AfterHint | SameTarget::RepairThenBackoff => true,
            SameTarget::Once => !self.tried_once.get(index).copied().unwrap_or(true),
        });
        allowed && targets.get(index).is_some_and(|target| target.retry_tokens)
    }

    /// Full jitter (Brooker, "Exponential Backoff and Jitter", AWS 2015).
    fn draw(&self, jitter: f64) -> Duration {
        let bound =
            self.backoff.base.saturating_mul(1 << self.pauses.min(16)).min(self.backoff.max);
        bound.mul_f64(jitter.clamp(0.0, 1.0))
    }
}

/// A budget in billionths of a dollar. What is finer is cut off; what is larger is more than any call
/// could cost.
fn most_of(dollars: f64) -> Nano {
    let odd = if dollars < 1.0 { Nano(0) } else { Nano(u64::MAX) };
    Nano::from_dollars(dollars).unwrap_or(odd)
}

/// Retry tokens of one target, shared by all calls: a failure takes one, a success gives a tenth,
/// and at half or below nothing but first attempts is sent (gRPC A6, `retryThrottling`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryTokens {
    /// Tenths of a token, so that counting stays exact.
    tenths: u32,
}

impl RetryTokens {
    const FULL: u32 = 100;

    /// Whether another attempt than a call's first may be sent.
    #[must_use]
    pub const fn allow(self) -> bool {
        self.tenths > Self::FULL / 2
    }

    /// Counts an attempt.
    pub const fn observe(&mut self, failed: bool) {
        self.tenths = if failed {
            self.tenths.saturating_sub(10)
        } else if self.tenths < Self::FULL {
            self.tenths + 1
        } else {
            Self::FULL
        };
    }

    /// Whole tokens left, 0 to 10.
    #[must_use]
    pub const fn left(self) -> u32 {
        self.tenths / 10
    }
}

impl Default for RetryTokens {
    fn default() -> Self {
        Self { tenths: Self::FULL }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::failure::Cut;

    #[test]
    fn five_failures_use_up_the_retry_tokens_and_one_success_is_a_tenth() {
        let mut tokens = RetryTokens::default();
        for left in [9, 8, 7, 6, 5] {
            assert!(tokens.allow());
            tokens.observe(true);
            assert_eq!(tokens.left(), left);
        }
        assert!(!tokens.allow(), "half is not enough");
        tokens.observe(false);
        assert!(tokens.allow(), "a tenth above half is");
    }

    const OPEN: TargetView = TargetView { admits: true, retry_tokens: true, window: None };
    const SHUT: TargetView = TargetView { admits: false, ..OPEN };
    const EMPTIED: TargetView = TargetView { retry_tokens: false, ..OPEN };
    const FIRST_PAUSE: Duration = Duration::from_millis(250);
    const AGAIN: Next = Next::Try { index: 0, pause: FIRST_PAUSE };
    const OTHER: Next = Next::Try { index: 1, pause: Duration::ZERO };

    const fn window(tokens: u32) -> TargetView {
        TargetView { window: Some(tokens), ..OPEN }
    }

    fn start(repair: u32, targets: usize) -> (BudgetLeft, Instant) {
        let now = any_instant();
        (BudgetLeft::start(&Budget { repair, ..Budget::default() }, targets, now, None), now)
    }

    /// Any instant will do as the start of a test.
    #[expect(clippy::disallowed_methods, reason = "time is an argument; a test needs a first one")]
    fn any_instant() -> Instant {
        Instant::now()
    }

    /// What is decided after one failure of the first target, with the longest pause drawn.
    fn after(class: FailureClass, repair: u32, targets: &[TargetView]) -> Next {
        let (mut left, now) = start(repair, targets.len());
        left.next(0, &Failure::new(class, ""), targets, (now, 1.0))
    }

    #[test]
    fn every_class_leads_where_its_row_says() {
        use FailureClass as F;
        for class in F::ALL {
            // Alone with a repair left, alone without, with a second target.
            let expected = match class {
                F::Connection
                | F::RateLimited
                | F::Overloaded
                | F::UpstreamError
                | F::Empty
                | F::Truncated(Cut::Stream) => [AGAIN, AGAIN, OTHER],
                F::Malformed | F::Schema => [Next::Repair, AGAIN, OTHER],
                F::Check => [Next::Repair, Next::GiveUp, OTHER],
                F::Timeout(_) | F::UpstreamAuth | F::Truncated(Cut::Length) | F::CircuitOpen => {
                    [Next::GiveUp, Next::GiveUp, OTHER]
                }
                F::BadRequest
                | F::ContextLength
                | F::ContentFilter
                | F::Refused
                | F::Budget
                | F::Cancelled
                | F::Consumer => [Next::GiveUp; 3],
            };
            let seen = [
                after(class, 1, &[OPEN]),
                after(class, 0, &[OPEN]),
                after(class, 0, &[OPEN, OPEN]),
            ];
            assert_eq!(seen, expected, "{class}");
        }
    }

    #[test]
    fn what_is_shut_or_out_of_tokens_is_passed_over() {
        let class = FailureClass::UpstreamError;
        let third = Next::Try { index: 2, pause: Duration::ZERO };
        for (targets, expected) in [
            (&[OPEN, SHUT, OPEN][..], third),
            (&[OPEN, EMPTIED, OPEN], third),
            (&[OPEN, SHUT, EMPTIED], AGAIN),
            (&[EMPTIED, SHUT], Next::GiveUp),
            (&[SHUT], Next::GiveUp),
        ] {
            assert_eq!(after(class, 0, targets), expected, "{targets:?}");
        }
        assert_eq!(
            after(FailureClass::Schema, 1, &[EMPTIED, OPEN]),
            OTHER,
            "a repair costs tokens"
        );
    }

    #[test]
    fn a_repair_comes_before_a_fallback_and_as_often_as_the_budget_says() {
        let ((mut left, now), targets) = (start(2, 2), [OPEN, OPEN]);
        let schema = Failure::new(FailureClass::Schema, "");
        for expected in [Next::Repair, Next::Repair, OTHER] {
            assert_eq!(left.next(0, &schema, &targets, (now, 1.0)), expected);
        }
        let again = Next::Try { index: 1, pause: FIRST_PAUSE };
        assert_eq!(left.next(1, &schema, &targets, (now, 1.0)), again, "repairs are the call's");
    }

    #[test]
    fn an_empty_answer_is_asked_for_once_more_whatever_failed_before() {
        let ((mut left, now), targets) = (start(0, 1), [OPEN]);
        let (empty, cut) = (FailureClass::Empty, FailureClass::Truncated(Cut::Stream));
        let mut next = |class| left.next(0, &Failure::new(class, ""), &targets, (now, 0.0));
        let again = Next::Try { index: 0, pause: Duration::ZERO };
        assert_eq!([next(cut), next(empty), next(empty)], [again, again, Next::GiveUp]);
    }

    #[test]
    fn a_prompt_that_is_too_long_goes_to_a_larger_window_only() {
        let class = FailureClass::ContextLength;
        let third = Next::Try { index: 2, pause: Duration::ZERO };
        assert_eq!(after(class, 1, &[window(8), window(8), window(9)]), third);
        assert_eq!(after(class, 1, &[window(8), window(4), OPEN]), Next::GiveUp);
    }

    #[test]
    fn a_refusal_goes_on_only_where_the_call_says_so() {
        for class in [FailureClass::Refused, FailureClass::ContentFilter] {
            let ((left, now), targets) = (start(1, 2), [OPEN, OPEN]);
            let mut left = left.fallback_on_refusal(true);
            let failure = Failure::new(class, "");
            assert_eq!(left.next(0, &failure, &targets, (now, 1.0)), OTHER);
            assert_eq!(left.next(1, &failure, &targets, (now, 1.0)), Next::GiveUp);
        }
    }

    fn limited(seconds: u64) -> Failure {
        Failure::new(FailureClass::RateLimited, "")
            .with_retry_after(Some(Duration::from_secs(seconds)))
    }

    #[test]
    fn a_hint_is_waited_for_if_it_fits_the_deadline() {
        let (left, now) = start(0, 1);
        let pause = |seconds| left.clone().next(0, &limited(seconds), &[SHUT], (now, 1.0));
        assert_eq!(pause(29), Next::Try { index: 0, pause: Duration::from_secs(29) });
        assert_eq!(pause(30), Next::GiveUp, "the deadline is at 30 s");
        let soon =
            Failure::new(FailureClass::Overloaded, "").with_retry_after(Some(Duration::ZERO));
        assert_eq!(
            left.clone().next(0, &soon, &[OPEN], (now, 1.0)),
            AGAIN,
            "the longer one counts"
        );
    }

    #[test]
    fn a_hint_is_its_own_targets_and_no_others() {
        let error = Failure::new(FailureClass::UpstreamError, "");
        // The second is to be left alone for longer than the call lasts: back to the first.
        let ((mut left, now), targets) = (start(0, 2), [OPEN, SHUT]);
        assert_eq!(left.next(0, &error, &[OPEN, OPEN], (now, 1.0)), OTHER);
        assert_eq!(left.next(1, &limited(60), &targets, (now, 1.0)), AGAIN);
        // The first is still held: what the second says does not open it.
        let ((mut left, now), targets) = (start(0, 2), [SHUT, EMPTIED]);
        assert_eq!(left.next(0, &limited(20), &[SHUT, OPEN], (now, 1.0)), OTHER);
        assert_eq!(left.next(1, &error, &targets, (now, 1.0)), Next::GiveUp);
    }

    #[test]
    fn the_deadline_and_the_attempts_end_it() {
        let (mut left, now) = start(1, 2);
        let error = Failure::new(FailureClass::UpstreamError, "");
        let late = now + Duration::from_secs(30);
        assert_eq!(left.next(0, &error, &[OPEN, OPEN], (late, 0.0)), Next::GiveUp);
        for _ in 0..3 {
            left.spend_attempt();
        }
        assert_eq!(left.next(0, &error, &[OPEN, OPEN], (now, 0.0)), Next::GiveUp);
        let budget = Budget::default();
        let asked = BudgetLeft::start(&budget, 1, now, Some(Duration::from_secs(99)));
        assert_eq!(asked.remaining(now), budget.deadline, "a request may only shorten it");
    }

    #[test]
    fn no_attempt_is_made_once_the_call_has_cost_what_it_may() {
        let budget = Budget { max_cost_usd: Some(0.001), ..Budget::default() };
        let now = any_instant();
        let mut left = BudgetLeft::start(&budget, 2, now, None);
        let schema = Failure::new(FailureClass::Schema, "");
        let most = Nano(1_000_000);
        left.spend_cost(Cost::Priced(999_999));
        left.spend_cost(Cost::Unknown);
        left.spend_cost(Cost::Free);
        let next = |left: &mut BudgetLeft| left.next(0, &schema, &[OPEN, OPEN], (now, 1.0));
        assert_eq!(next(&mut left), Next::Repair, "a billionth is left");
        left.spend_cost(Cost::Priced(1));
        assert_eq!(next(&mut left), Next::CostSpent { spent: most, most });
        for (dollars, nano) in [(0.05, 50_000_000), (1e-12, 0), (1e300, u64::MAX)] {
            assert_eq!(most_of(dollars), Nano(nano));
        }
        // Where there would be no other attempt, the failure stays what it is.
        let refused = Failure::new(FailureClass::BadRequest, "");
        assert_eq!(left.next(0, &refused, &[OPEN, OPEN], (now, 1.0)), Next::GiveUp);
    }

    /// One event of a random call.
    #[derive(Clone, Debug)]
    struct Step {
        class: FailureClass,
        hint: Option<u64>,
        took: u64,
        jitter: f64,
        targets: Vec<TargetView>,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let view = (any::<bool>(), any::<bool>(), proptest::option::of(1..3_u32))
            .prop_map(|(admits, retry_tokens, window)| TargetView { admits, retry_tokens, window });
        let step = (
            proptest::sample::select(&FailureClass::ALL[..]),
            proptest::option::of(0..4000_u64),
            0..500_u64,
            0.0..=1.0,
            proptest::collection::vec(view, 3),
        );
        proptest::collection::vec(
            step.prop_map(|(class, hint, took, jitter, targets)| Step {
                class,
                hint,
                took,
                jitter,
                targets,
            }),
            40,
        )
    }

    proptest! {
        #[test]
        fn a_call_never_oversteps_its_budget(
            steps in steps(), attempts in 1..6_u32, repair in 0..3_u32, refusals: bool
        ) {
            let start = any_instant();
            let budget = Budget { attempts, repair, ..Budget::default() };
            let deadline = Duration::from_secs(5);
            let mut left = BudgetLeft::start(&budget, 3, start, Some(deadline))
                .fallback_on_refusal(refusals);
            let (mut now, mut index, mut sent, mut repairs) = (start, 0, 0, 0);
            let mut asked = [false; 3];
            for step in &steps {
                now += Duration::from_millis(step.took);
                left.spend_attempt();
                sent += 1;
                asked[index] = true;
                let hint = step.hint.map(Duration::from_millis);
                let failure = Failure::new(step.class, "").with_retry_after(hint);
                match left.next(index, &failure, &step.targets, (now, step.jitter)) {
                    Next::GiveUp => {
                        prop_assert!(sent <= attempts && repairs <= repair);
                        return Ok(());
                    }
                    Next::CostSpent { .. } => prop_assert!(false, "nothing was spent"),
                    Next::Repair => {
                        prop_assert!(step.targets[index].admits);
                        repairs += 1;
                    }
                    Next::Try { index: next, pause } => {
                        let view = step.targets[next];
                        let own_hint = next == index
                            && step.class == FailureClass::RateLimited
                            && hint.is_some_and(|hint| pause >= hint);
                        prop_assert!(view.admits || own_hint);
                        prop_assert!(view.retry_tokens);
                        prop_assert!(now + pause < start + deadline);
                        prop_assert!(asked[next] || pause.is_zero(), "a fallback does not wait");
                        now += pause;
                        index = next;
                    }
                }
            }
            prop_assert!(false, "it never gave up");
        }

        /// What is never sent costs no attempt; then time or the lack of targets ends the call.
        #[test]
        fn a_call_that_sends_nothing_comes_to_an_end(
            classes in proptest::collection::vec(0..3_usize, 4000), jitter in 0.01..=1.0
        ) {
            let (mut left, mut now) = start(1, 3);
            let mut index = 0;
            let second = Some(Duration::from_secs(1));
            for class in classes {
                let failure = match class {
                    0 => Failure::new(FailureClass::CircuitOpen, "").with_retry_after(second),
                    1 => Failure::new(FailureClass::Overloaded, "").with_retry_after(second),
                    _ => Failure::new(FailureClass::ContextLength, ""),
                };
                let targets = [window(1), window(2), window(3)];
                match left.next(index, &failure, &targets, (now, jitter)) {
                    Next::GiveUp => return Ok(()),
                    Next::CostSpent { .. } => prop_assert!(false, "nothing was spent"),
                    Next::Repair => prop_assert!(false, "there is nothing to repair"),
                    Next::Try { index: next, pause } => (index, now) = (next, now + pause),
                }
            }
            prop_assert!(false, "it never gave up");
        }

        #[test]
        fn retry_tokens_are_counted_in_exact_tenths(events: Vec<bool>) {
            let (mut tokens, mut tenths) = (RetryTokens::default(), 100_i64);
            for failed in events {
                tokens.observe(failed);
                tenths = (tenths + if failed { -10 } else { 1 }).clamp(0, 100);
                prop_assert_eq!(i64::from(tokens.left()), tenths / 10);
                prop_assert_eq!(tokens.allow(), tenths > 50);
            }
        }
    }
}
