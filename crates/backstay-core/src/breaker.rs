//! The circuit breaker of one target as seen by one call: closed, open, or half-open with one leased
//! probe. A plain value: the engine keeps it behind a lock and hands in the time.
//!
//! A probe holds a lease and not a flag, because its call may be dropped: a lease runs out, a flag
//! would keep the breaker shut for ever. An attempt holds a ticket: what was let through before the
//! breaker last changed its state tells nothing about the target's health since.

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

/// Leave for one attempt, from [`Breaker::admit`]; worth nothing once the breaker has changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

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
    /// How many times it has changed its state; each probe is a change.
    changes: u64,
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
            changes: 0,
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

    /// How long an open breaker stays so from `now` on; `None` where that is not known or not so.
    #[must_use]
    pub fn open_for(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { until } if now < until => Some(until.duration_since(now)),
            State::Open { .. } | State::Closed | State::Probing { .. } => None,
        }
    }

    /// Asks to send an attempt at `now`. In the half-open state the attempt becomes the probe and
    /// holds a lease of `lease`: if nothing is heard of it until then, another one may probe.
    #[must_use]
    pub fn admit(&mut self, now: Instant, lease: Duration) -> Option<Ticket> {
        if !self.would_admit(now) {
            return None;
        }
        if self.state != State::Closed {
            self.change(State::Probing { lease: now + lease });
        }
        Some(Ticket(self.changes))
    }

    /// Counts an attempt that reached its terminal event (`failed = false`) or failed. One that was
    /// let through before the last change of state is not counted: it is no verdict on a probe.
    pub fn observe(&mut self, policy: &BreakerPolicy, ticket: Ticket, failed: bool, now: Instant) {
        if ticket.0 != self.changes {
            return;
        }
        match self.state {
            State::Closed => self.observe_closed(policy, failed, now),
            State::Open { .. } => {}
            State::Probing { .. } if failed => self.open(policy, now),
            State::Probing { .. } => *self = Self { changes: self.changes + 1, ..Self::new(now) },
        }
    }

    /// Gives a probe's lease back without a verdict: its attempt told nothing about the target.
    pub fn release(&mut self, ticket: Ticket, now: Instant) {
        if ticket.0 == self.changes
            && let State::Probing { .. } = self.state
        {
            self.change(State::Open { until: now });
        }
    }

    fn change(&mut self, state: State) {
        self.state = state;
        self.changes += 1;
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
            changes: self.changes + 1,
            reopened: self.reopened.saturating_add(1),
            ..Self::new(now)
        };
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn opened(start: Instant, policy: &BreakerPolicy) -> Breaker {
        let mut breaker = Breaker::new(start);
        for _ in 0..policy.consecutive {
            let ticket = breaker.admit(start, LEASE).unwrap();
            breaker.observe(policy, ticket, true, start);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_probe_closes_it() {
        let (start, policy) = (Instant::now(), BreakerPolicy::default());
        let mut breaker = opened(start, &policy);
        assert_eq!(breaker.state(start), BreakerState::Open);
        let later = start + policy.open_for;
        assert!(!breaker.would_admit(later - Duration::from_millis(1)));
        let probe = breaker.admit(later, LEASE).unwrap();
        assert_eq!(breaker.admit(later, LEASE), None, "one probe at a time");
        breaker.observe(&policy, probe, false, later);
        assert_eq!(breaker.state(later), BreakerState::Closed);
    }

    #[test]
    fn it_tells_how_long_it_stays_open() {
        let (start, policy) = (Instant::now(), BreakerPolicy::default());
        let mut breaker = opened(start, &policy);
        let second = Duration::from_secs(1);
        assert_eq!(breaker.open_for(start), Some(policy.open_for));
        assert_eq!(breaker.open_for(start + second), Some(policy.open_for - second));
        let later = start + policy.open_for;
        assert_eq!(breaker.open_for(later), None, "a probe may go out");
        assert!(breaker.admit(later, second).is_some());
        assert_eq!(breaker.open_for(later), None, "a probe is out");
        assert_eq!(Breaker::new(start).open_for(start), None);
    }

    #[test]
    fn a_dropped_probe_does_not_shut_it_for_ever() {
        let (start, policy) = (Instant::now(), BreakerPolicy::default());
        let mut breaker = opened(start, &policy);
        let later = start + policy.open_for;
        let dropped = breaker.admit(later, LEASE).unwrap();
        let probe = breaker.admit(later + LEASE, LEASE).expect("the lease ran out");
        breaker.release(dropped, later + LEASE);
        assert!(!breaker.would_admit(later + LEASE), "its lease was not the first one's to give");
        breaker.release(probe, later + LEASE);
        assert!(breaker.would_admit(later + LEASE), "the lease was given back");
    }

    #[test]
    fn open_time_doubles_up_to_five_minutes() {
        let (start, policy) = (Instant::now(), BreakerPolicy::default());
        let (mut breaker, mut now) = (opened(start, &policy), start);
        for expected in [15, 30, 60, 120, 240, 300, 300] {
            let wait = Duration::from_secs(expected);
            assert!(!breaker.would_admit(now + wait - Duration::from_millis(1)), "{expected}");
            now += wait;
            let probe = breaker.admit(now, LEASE).unwrap();
            breaker.observe(&policy, probe, true, now);
        }
    }

    #[test]
    fn the_rate_counts_from_min_calls_on_and_the_window_forgets() {
        let (start, policy) = (Instant::now(), BreakerPolicy::default());
        let mut breaker = Breaker::new(start);
        let ticket = breaker.admit(start, LEASE).unwrap();
        for call in 0..9 {
            breaker.observe(&policy, ticket, call % 2 == 0, start);
            assert_eq!(breaker.state(start), BreakerState::Closed);
        }
        let mut forgetful = breaker.clone();
        breaker.observe(&policy, ticket, true, start);
        assert_eq!(breaker.state(start), BreakerState::Open);
        forgetful.observe(&policy, ticket, true, start + policy.window);
        assert_eq!(forgetful.state(start + policy.window), BreakerState::Closed);
    }

    #[test]
    fn an_attempt_from_before_is_no_verdict_on_the_probe() {
        let (start, policy) = (Instant::now(), BreakerPolicy::default());
        for failed in [true, false] {
            let mut breaker = Breaker::new(start);
            let slow = breaker.admit(start, LEASE).unwrap();
            for _ in 0..policy.consecutive {
                breaker.observe(&policy, slow, true, start);
            }
            let later = start + policy.open_for;
            let probe = breaker.admit(later, LEASE).unwrap();
            breaker.observe(&policy, slow, failed, later);
            breaker.release(slow, later);
            assert_eq!(breaker.state(later), BreakerState::HalfOpen);
            assert!(!breaker.would_admit(later), "the probe is still out");
            breaker.observe(&policy, probe, false, later);
            assert_eq!(breaker.state(later), BreakerState::Closed);
            for _ in 0..policy.consecutive {
                breaker.observe(&policy, slow, true, later);
            }
            assert_eq!(breaker.state(later), BreakerState::Closed, "nor on what came after it");
        }
    }

    #[derive(Clone, Debug)]
    enum Event {
        Wait(u64),
        Admit(u64),
        Observe(usize, bool),
        Release(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            2 => (0..40_000_u64).prop_map(Event::Wait),
            3 => (0..30_000_u64).prop_map(Event::Admit),
            6 => (any::<usize>(), proptest::bool::weighted(0.8))
                .prop_map(|(which, failed)| Event::Observe(which, failed)),
            1 => any::<usize>().prop_map(Event::Release),
        ]
    }

    proptest! {
        #[test]
        fn one_probe_a_lease_and_never_shut_for_ever(
            events in proptest::collection::vec(event(), 0..120)
        ) {
            let (mut now, policy) = (Instant::now(), BreakerPolicy::default());
            let mut breaker = Breaker::new(now);
            let mut tickets = Vec::new();
            // The probe that is out, and until when nobody else may go.
            let mut probe: Option<(Ticket, Instant)> = None;
            for event in events {
                match event {
                    Event::Wait(millis) => now += Duration::from_millis(millis),
                    Event::Admit(millis) => {
                        let lease = Duration::from_millis(millis);
                        let (state, expected) = (breaker.state(now), breaker.would_admit(now));
                        let ticket = breaker.admit(now, lease);
                        prop_assert_eq!(ticket.is_some(), expected);
                        let Some(ticket) = ticket else { continue };
                        prop_assert!(probe.is_none_or(|(_, until)| now >= until), "a second probe");
                        probe = (state == BreakerState::HalfOpen).then(|| (ticket, now + lease));
                        tickets.push(ticket);
                    }
                    Event::Observe(which, failed) if !tickets.is_empty() => {
                        let ticket = tickets.swap_remove(which % tickets.len());
                        breaker.observe(&policy, ticket, failed, now);
                        probe = probe.filter(|&(out, _)| out != ticket);
                    }
                    Event::Release(which) if !tickets.is_empty() => {
                        let ticket = tickets.swap_remove(which % tickets.len());
                        breaker.release(ticket, now);
                        probe = probe.filter(|&(out, _)| out != ticket);
                    }
                    Event::Observe(..) | Event::Release(_) => {}
                }
                prop_assert!(breaker.would_admit(now + LONGEST_OPEN), "shut for ever");
            }
        }
    }
}
