//! The failure budget of one call: what is left of it, and the one decision after a failure.
//!
//! Retry, repair and fallback are one loop over [`BudgetLeft::next`]. It never sleeps and never looks
//! at a clock; the engine hands in the time, a random number and what it knows of the targets.

use std::time::{Duration, Instant};

use crate::{
    failure::{Failure, FailureClass, NextTarget, SameTarget},
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

    /// Decides what follows `failure` of target `index`. `jitter` is drawn evenly from 0 to 1.
    pub fn next(
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
        let others = (0..targets.len())
            .filter(|&other| other != index && self.may_go_on(index, other, class, targets));
        let Some(index) = std::iter::once(index)
            .chain(others)
            .find(|&candidate| self.may_ask_again(candidate, targets))
        else {
            return Next::GiveUp;
        };
        let pause = self.pause(failure, jitter);
        if pause >= self.remaining(now) {
            return Next::GiveUp;
        }
        self.pauses += 1;
        if let Some(once) = self.tried_once.get_mut(index) {
            *once = true;
        }
        Next::Try { index, pause }
    }

    fn may_ask_again(&self, index: usize, targets: &[TargetView]) -> bool {
        let Some(Some(class)) = self.failed.get(index) else { return false };
        let Some(target) = targets.get(index) else { return false };
        let allowed = match class.row().same {
            SameTarget::No | SameTarget::Repair => false,
            SameTarget::Backoff | SameTarget::AfterHint | SameTarget::RepairThenBackoff => true,
            SameTarget::Once => !self.tried_once.get(index).copied().unwrap_or(true),
        };
        // A target on hold does not admit, yet the pause below is what it asked for.
        let held = class.row().same == SameTarget::AfterHint;
        allowed && (target.admits || held) && target.retry_tokens
    }

    /// Full jitter (Brooker, "Exponential Backoff and Jitter", AWS 2015), or the provider's own hint
    /// where that is longer.
    fn pause(&self, failure: &Failure, jitter: f64) -> Duration {
        let bound =
            self.backoff.base.saturating_mul(1 << self.pauses.min(16)).min(self.backoff.max);
        let drawn = bound.mul_f64(jitter.clamp(0.0, 1.0));
        failure.retry_after.map_or(drawn, |hint| hint.max(drawn))
    }
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

    proptest! {
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
