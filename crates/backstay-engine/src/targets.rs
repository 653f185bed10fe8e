//! What the engine remembers of each target between calls: retry tokens, holds, the limit of
//! concurrent attempts, and a breaker for each pair of call and target.
//!
//! The state is keyed by name and outlives a reload of the plans. A breaker belongs to a call *and* a
//! target, because one call's impossible schema must not shut a healthy model off for the others; the
//! rest belongs to the target alone, because a provider's limits do not care which call asks.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use backstay_core::{
    breaker::{Breaker, BreakerState, Ticket},
    budget::{RetryTokens, TargetView},
    failure::{Failure, FailureClass, Health},
    release::{BreakerPolicy, TargetName},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// A target with bad credentials is asked again after this long: someone may have paid the bill.
const UNUSABLE_FOR: Duration = Duration::from_secs(60);
/// No hold is longer, whatever the provider asks for.
const LONGEST_HOLD: Duration = Duration::from_secs(600);
/// Names come from requests when plain targets are called, so their number is bounded; those that no
/// plan uses any more make room first.
const MOST_STATES: usize = 4096;

/// Locks a mutex whose data stays whole even if a holder panicked: all updates are single stores.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a target is left alone, and until when.
#[derive(Clone, Copy, Debug)]
struct Hold {
    until: Instant,
    class: FailureClass,
}

#[derive(Debug, Default)]
struct Standing {
    tokens: RetryTokens,
    hold: Option<Hold>,
}

/// The state of one target, shared by all calls.
#[derive(Debug)]
pub struct TargetState {
    standing: Mutex<Standing>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
}

impl TargetState {
    fn new(limit: Limit) -> Self {
        Self {
            standing: Mutex::default(),
            permits: Arc::new(Semaphore::new(limit.concurrency.max(1))),
            waiting: AtomicUsize::new(0),
            most_waiting: limit.queue,
        }
    }

    /// Whether one more attempt would be shed.
    fn is_full(&self) -> bool {
        self.permits.available_permits() == 0
            && self.waiting.load(Ordering::Relaxed) >= self.most_waiting
    }

    /// Waits for a place among the target's concurrent attempts.
    ///
    /// # Errors
    /// `overloaded`: at once when the queue is full, at the deadline when no place came free.
    pub(crate) async fn place(
        &self,
        deadline: Instant,
        may_queue: bool,
    ) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let most = if may_queue { self.most_waiting } else { 0 };
        let _place = QueuePlace::take(&self.waiting, most)?;
        match timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Failure::new(
                FailureClass::Overloaded,
                "the deadline passed while waiting for the target's concurrent attempts to end",
            )
            .with_retry_after(Some(Duration::from_secs(1)))),
        }
    }
}

/// One waiter in a target's queue; leaves it when dropped.
#[derive(Debug)]
struct QueuePlace<'a>(&'a AtomicUsize);

impl<'a> QueuePlace<'a> {
    fn take(waiting: &'a AtomicUsize, most: usize) -> Result<Self, Failure> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) < most {
            return Ok(place);
        }
        Err(queue_full())
    }
}

fn queue_full() -> Failure {
    Failure::new(
        FailureClass::Overloaded,
        "the target's limit of concurrent attempts is reached and its queue is full",
    )
    .with_retry_after(Some(Duration::from_secs(1)))
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many attempts a target takes at once, and how many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Attempts at once, at least 1.
    pub concurrency: usize,
    /// Attempts that wait; one more is shed.
    pub queue: usize,
}

impl Default for Limit {
    fn default() -> Self {
        Self { concurrency: 256, queue: 256 }
    }
}

/// What keeps attempts from a target, beside breakers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Congestion {
    /// The class for which it is left alone, and how much longer.
    pub hold: Option<(FailureClass, Duration)>,
    /// Attempts that wait for a place.
    pub waiting: usize,
}

/// A call and a target.
type BreakerKey = (String, TargetName);

/// All target states and breakers by name.
#[derive(Debug, Default)]
pub struct Targets {
    states: Mutex<HashMap<TargetName, (Limit, Arc<TargetState>)>>,
    breakers: Mutex<HashMap<BreakerKey, Arc<Mutex<Breaker>>>>,
}

impl Targets {
    /// The state of `name`; a changed limit starts a new one.
    pub(crate) fn state(&self, name: &TargetName, limit: Limit) -> Arc<TargetState> {
        let mut states = lock(&self.states);
        match states.get(name) {
            Some((known, state)) if *known == limit => Arc::clone(state),
            Some(_) | None => {
                let state = Arc::new(TargetState::new(limit));
                if states.len() >= MOST_STATES {
                    states.retain(|_, (_, state)| Arc::strong_count(state) > 1);
                }
                if states.len() < MOST_STATES {
                    states.insert(name.clone(), (limit, Arc::clone(&state)));
                }
                state
            }
        }
    }

    pub(crate) fn breaker(&self, call: &str, name: &TargetName) -> Arc<Mutex<Breaker>> {
        let mut breakers = lock(&self.breakers);
        let key = (call.to_owned(), name.clone());
        if let Some(breaker) = breakers.get(&key) {
            return Arc::clone(breaker);
        }
        let breaker = Arc::new(Mutex::new(Breaker::new(Instant::now().into_std())));
        if breakers.len() >= MOST_STATES {
            breakers.retain(|_, breaker| Arc::strong_count(breaker) > 1);
        }
        if breakers.len() < MOST_STATES {
            breakers.insert(key, Arc::clone(&breaker));
        }
        breaker
    }

    /// Every breaker that is not closed: call, target, state.
    #[must_use]
    pub fn open_breakers(&self) -> Vec<(String, TargetName, BreakerState)> {
        let mut states = self.breakers();
        states.retain(|(_, _, state)| *state != BreakerState::Closed);
        states
    }

    /// Every breaker: call, target, state.
    #[must_use]
    pub fn breakers(&self) -> Vec<(String, TargetName, BreakerState)> {
        let now = Instant::now().into_std();
        let breakers = lock(&self.breakers);
        let states = breakers.iter().map(|((call, target), breaker)| {
            (call.clone(), target.clone(), lock(breaker).state(now))
        });
        states.collect()
    }

    /// Every target that was ever called, with what keeps attempts from it.
    #[must_use]
    pub fn congestion(&self) -> Vec<(TargetName, Congestion)> {
        let now = Instant::now();
        let states = lock(&self.states);
        let seen = states.iter().map(|(name, (_, state))| {
            let hold = lock(&state.standing).hold.filter(|hold| now < hold.until);
            let hold = hold.map(|hold| (hold.class, hold.until.duration_since(now)));
            let waiting = state.waiting.load(Ordering::Relaxed);
            (name.clone(), Congestion { hold, waiting })
        });
        seen.collect()
    }

    /// Every target that is left alone: why, and for how long from now.
    #[must_use]
    pub fn holds(&self) -> Vec<(TargetName, FailureClass, Duration)> {
        let now = Instant::now();
        let states = lock(&self.states);
        let held = states.iter().filter_map(|(target, (_, state))| {
            let hold = lock(&state.standing).hold.filter(|hold| now < hold.until)?;
            Some((target.clone(), hold.class, hold.until.duration_since(now)))
        });
        held.collect()
    }
}

/// A target as one call sees it.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) state: Arc<TargetState>,
    pub(crate) breaker: Arc<Mutex<Breaker>>,
    pub(crate) policy: BreakerPolicy,
}

impl Gate {
    /// What the budget needs to know for its decision.
    pub(crate) fn view(&self, window: Option<u32>, now: Instant) -> TargetView {
        let (held, retry_tokens) = {
            let standing = lock(&self.state.standing);
            (standing.hold.is_some_and(|hold| now < hold.until), standing.tokens.allow())
        };
        let open = !held && !self.state.is_full();
        let admits = open && lock(&self.breaker).would_admit(now.into_std());
        TargetView { admits, retry_tokens, window }
    }

    /// Whether an attempt could be sent at once.
    pub(crate) fn has_room(&self, now: Instant) -> bool {
        self.state.permits.available_permits() > 0 && self.view(None, now).admits
    }

    /// Why it does not admit an attempt at `now`.
    pub(crate) fn refusal(&self, now: Instant) -> Failure {
        let hold = lock(&self.state.standing).hold.filter(|hold| now < hold.until);
        let Some(hold) = hold else {
            if lock(&self.breaker).would_admit(now.into_std()) && self.state.is_full() {
                return queue_full();
            }
            // While a probe is out, nobody knows; it may be over in a moment.
            let open_for = lock(&self.breaker).open_for(now.into_std());
            return Failure::new(
                FailureClass::CircuitOpen,
                "the breaker of this target is open after too many failures",
            )
            .with_retry_after(open_for.or(Some(Duration::from_secs(1))));
        };
        let left = hold.until.duration_since(now);
        let failure = Failure::new(hold.class, "the target is left alone after its last refusal");
        match hold.class.row().health {
            Health::Hold => failure.with_retry_after(Some(left)),
            Health::Neutral | Health::Fine | Health::Faulty | Health::Unusable => failure,
        }
    }

    /// How long the provider still wants to be left alone.
    pub(crate) fn held_for(&self, now: Instant) -> Option<Duration> {
        let hold = lock(&self.state.standing).hold?;
        let held = hold.class == FailureClass::RateLimited && now < hold.until;
        held.then(|| hold.until.duration_since(now))
    }

    /// Takes the breaker's admission for an attempt that ends within `lease`.
    pub(crate) fn admit(&self, now: Instant, lease: Duration) -> Result<Admission, Failure> {
        let held = lock(&self.state.standing).hold.is_some_and(|hold| now < hold.until);
        if held {
            return Err(self.refusal(now));
        }
        let ticket = lock(&self.breaker).admit(now.into_std(), lease);
        let ticket = ticket.ok_or_else(|| self.refusal(now))?;
        Ok(Admission { gate: self.clone(), ticket, told: false })
    }
}

/// Leave to send one attempt. It ends with [`Self::observe`]; given back without a verdict (the call
/// was cancelled), it gives a half-open breaker's lease back.
#[derive(Debug)]
pub(crate) struct Admission {
    gate: Gate,
    ticket: Ticket,
    told: bool,
}

impl Admission {
    /// Ends without a verdict on the target.
    pub(crate) fn give_back(self) {
        drop(self);
    }

    /// Counts how the attempt ended.
    pub(crate) fn observe(mut self, failure: Option<&Failure>) {
        self.told = true;
        let now = Instant::now();
        let health = failure.map_or(Health::Fine, |failure| failure.class.row().health);
        let mut breaker = lock(&self.gate.breaker);
        let mut standing = lock(&self.gate.state.standing);
        match health {
            Health::Neutral => breaker.release(self.ticket, now.into_std()),
            Health::Fine | Health::Faulty => {
                let failed = health == Health::Faulty;
                breaker.observe(&self.gate.policy, self.ticket, failed, now.into_std());
                standing.tokens.observe(failed);
            }
            Health::Hold | Health::Unusable => {
                breaker.release(self.ticket, now.into_std());
                standing.tokens.observe(true);
                let asked = failure.and_then(|failure| failure.retry_after);
                let pause = if health == Health::Unusable { Some(UNUSABLE_FOR) } else { asked };
                let asked = failure.zip(pause).map(|(failure, pause)| Hold {
                    until: now + pause.min(LONGEST_HOLD),
                    class: failure.class,
                });
                // An attempt that ends later may bring a shorter hold, or none: the longest counts.
                standing.hold =
                    standing.hold.into_iter().chain(asked).max_by_key(|hold| hold.until);
            }
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if !self.told {
            lock(&self.gate.breaker).release(self.ticket, Instant::now().into_std());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(limit: Limit) -> Gate {
        let (targets, name) = (Targets::default(), "sim/model".parse().unwrap());
        Gate {
            state: targets.state(&name, limit),
            breaker: targets.breaker("call", &name),
            policy: BreakerPolicy::default(),
        }
    }

    fn limited(seconds: u64) -> Failure {
        let pause = (seconds > 0).then(|| Duration::from_secs(seconds));
        Failure::new(FailureClass::RateLimited, "slow down").with_retry_after(pause)
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_in_the_queue_comes_back_whatever_becomes_of_its_waiter() {
        let gate = gate(Limit { concurrency: 1, queue: 1 });
        let soon = || Instant::now() + Duration::from_secs(1);
        let running = gate.state.place(soon(), true).await.unwrap();
        for _ in 0..3 {
            let waiting = gate.state.place(soon(), true);
            let (waited, shed) = tokio::join!(waiting, gate.state.place(soon(), true));
            assert_eq!(waited.unwrap_err().class, FailureClass::Overloaded, "at the deadline");
            assert_eq!(shed.unwrap_err().class, FailureClass::Overloaded, "at once");
            let gone = timeout_at(Instant::now(), gate.state.place(soon(), true)).await;
            assert!(gone.is_err(), "this one waited until it was dropped");
        }
        drop(running);
        assert!(gate.state.place(soon(), true).await.is_ok());
        assert_eq!(gate.state.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_hold_counts_and_none_is_longer_than_ten_minutes() {
        let gate = gate(Limit::default());
        let (now, lease) = (Instant::now(), Duration::from_secs(1));
        let admitted: Vec<_> = (0..4).map(|_| gate.admit(now, lease).unwrap()).collect();
        for (admission, (asked, held)) in
            admitted.into_iter().zip([(20, 20), (5, 20), (0, 20), (86_400, 600)])
        {
            admission.observe(Some(&limited(asked)));
            assert_eq!(gate.held_for(now), Some(Duration::from_secs(held)), "asked for {asked}");
        }
        let refusal = gate.admit(now, lease).unwrap_err();
        assert_eq!(refusal.class, FailureClass::RateLimited);
        assert_eq!(refusal.retry_after, Some(LONGEST_HOLD));
        assert!(gate.admit(now + LONGEST_HOLD, lease).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn holds_are_listed_while_they_last() {
        let (targets, name) = (Targets::default(), "sim/model".parse().unwrap());
        let gate = Gate {
            state: targets.state(&name, Limit::default()),
            breaker: targets.breaker("call", &name),
            policy: BreakerPolicy::default(),
        };
        assert_eq!(targets.holds(), []);
        let refused = Failure::new(FailureClass::UpstreamAuth, "the key is refused");
        gate.admit(Instant::now(), Duration::from_secs(1)).unwrap().observe(Some(&refused));
        assert_eq!(targets.holds(), [(name, FailureClass::UpstreamAuth, UNUSABLE_FOR)]);
        tokio::time::advance(UNUSABLE_FOR).await;
        assert_eq!(targets.holds(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_is_shared_by_name_until_its_limit_changes() {
        let (targets, name) = (Targets::default(), "sim/model".parse().unwrap());
        let limit = Limit { concurrency: 2, queue: 0 };
        let first = targets.state(&name, limit);
        assert!(Arc::ptr_eq(&first, &targets.state(&name, limit)));
        assert!(!Arc::ptr_eq(&first, &targets.state(&name, Limit::default())));
        assert!(Arc::ptr_eq(&targets.breaker("a", &name), &targets.breaker("a", &name)));
        assert!(!Arc::ptr_eq(&targets.breaker("a", &name), &targets.breaker("b", &name)));
    }
}
