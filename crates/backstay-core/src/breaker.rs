//! The circuit breaker of one target as seen by one call: closed, open, or half-open with one leased
//! probe. A plain value: the engine keeps it behind a lock and hands in the time.
//!
//! A probe holds a lease and not a flag, because its call may be dropped: a lease runs out, a flag
//! would keep the breaker shut for ever.

use std::time::{Duration, Instant};

use crate::release::BreakerPolicy;

const LONGEST_OPEN: Duration = Duration::from_secs(300);
const SLOTS: usize = 10;

/// What a breaker shows to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Attempts pass.
    Closed,
    /// One probe is out, or may go out now.
    HalfOpen,
    /// Attempts are refused.
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    Probing { lease: Instant },
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    number: u64,
    good: u32,
    bad: u32,
}

/// Counts the attempts of a call on a target, and shuts it off when too many fail.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    start: Instant,
    slots: [Slot; SLOTS],
    consecutive: u32,
    /// How many times in a row it has opened without closing: the exponent of the open time.
    reopened: u32,
}

impl Breaker {
    /// A closed breaker; `now` is the start of its counting.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            state: State::Closed,
            start: now,
            slots: [Slot::default(); SLOTS],
            consecutive: 0,
            reopened: 0,
        }
    }

    /// What it shows at `now`.
    #[must_use]
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open,
            State::Open { .. } | State::Probing { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether [`Self::admit`] would let an attempt through.
    #[must_use]
    pub fn would_admit(&self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } => now >= until,
            State::Probing { lease } => now >= lease,
        }
    }

    /// Asks to send an attempt at `now`. In the half-open state the attempt becomes the probe and
    /// holds a lease of `lease`: if nothing is heard of it until then, another one may probe.
    #[must_use]
    pub fn admit(&mut self, now: Instant, lease: Duration) -> bool {
        if !self.would_admit(now) {
            return false;
        }
        if self.state != State::Closed {
            self.state = State::Probing { lease: now + lease };
        }
        true
    }

    /// Counts an attempt that reached its terminal event (`failed = false`) or failed.
    pub fn observe(&mut self, policy: &BreakerPolicy, failed: bool, now: Instant) {
        match self.state {
            State::Closed => self.observe_closed(policy, failed, now),
            State::Open { .. } => {}
            State::Probing { .. } if failed => self.open(policy, now),
            State::Probing { .. } => *self = Self::new(now),
        }
    }

    /// Gives a probe's lease back without a verdict: its attempt told nothing about the target.
    pub fn release(&mut self, now: Instant) {
        if let State::Probing { .. } = self.state {
            self.state = State::Open { until: now };
        }
    }

    fn observe_closed(&mut self, policy: &BreakerPolicy, failed: bool, now: Instant) {
        let number = self.slot_number(policy, now);
        if let Some(slot) = self.slots.get_mut(usize::try_from(number).unwrap_or(0) % SLOTS) {
            if slot.number != number {
                *slot = Slot { number, ..Slot::default() };
            }
            if failed {
                slot.bad = slot.bad.saturating_add(1);
            } else {
                slot.good = slot.good.saturating_add(1);
            }
        }
        self.consecutive = if failed { self.consecutive.saturating_add(1) } else { 0 };
        if failed
            && (self.consecutive >= policy.consecutive.max(1) || self.too_many(policy, number))
        {
            self.open(policy, now);
        }
    }

    fn slot_number(&self, policy: &BreakerPolicy, now: Instant) -> u64 {
        let width = (policy.window / 10).max(Duration::from_millis(1)).as_millis();
        let age = now.saturating_duration_since(self.start).as_millis();
        u64::try_from(age / width).unwrap_or(u64::MAX)
    }

    fn too_many(&self, policy: &BreakerPolicy, number: u64) -> bool {
        let recent = self.slots.iter().filter(|slot| slot.number + SLOTS as u64 > number);
        let (good, bad) = recent.fold((0u64, 0u64), |(good, bad), slot| {
            (good + u64::from(slot.good), bad + u64::from(slot.bad))
        });
        let all = good + bad;
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let rate = bad as f64 / all.max(1) as f64;
        all >= u64::from(policy.min_calls.max(1)) && rate >= policy.failure_rate
    }

    fn open(&mut self, policy: &BreakerPolicy, now: Instant) {
        let wait = policy.open_for.saturating_mul(1 << self.reopened.min(16)).min(LONGEST_OPEN);
        *self = Self {
            state: State::Open { until: now + wait },
            reopened: self.reopened.saturating_add(1),
            ..Self::new(now)
        };
    }
}
