//! Works off the outbox: one task a receiver, so that a slow one holds up nobody else.
//!
//! Each notice is tried until the receiver takes it, with growing pauses (exponential, full jitter; a
//! longer `Retry-After` is honoured), until it has waited for too long. What goes wrong with the
//! receiver as a whole holds back all that waits for it. A notice is marked before it is sent and
//! settled afterwards: a crash between the two sends it again, under the same key.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backstay_core::alert::Alert;
use backstay_engine::clock::{Clock, Entropy};
use backstay_providers::transport::Limits;
use backstay_store::{
    AlertStore, StoreError,
    alerts::{Event, Notice, Queued, ReceiverState, Settled},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Fault, Message, Receivers,
    pass::{Pass, pass},
    receiver::Receiver,
};

/// A receiver has this long to take one notification.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The outbox of one receiver is looked at in parts of this size.
const LOOK: usize = 1000;
/// `Retry-After` is honoured up to this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// The outbox is looked at this often although nobody rang: another process may have filled it.
const IDLE: Duration = Duration::from_secs(30);
/// When to stop, a notification under way has this long to be taken.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How patient a delivery is.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The pause after the first failure is at most this; it doubles with each one,
    pub first: Duration,
    /// up to this.
    pub most: Duration,
    /// What waits for longer is given up.
    pub give_up: Duration,
    /// A receiver that forgets is reminded this often.
    pub refresh: Duration,
    /// A receiver has this long to take one notification.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(2),
            most: Duration::from_secs(600),
            give_up: Duration::from_secs(24 * 3600),
            refresh: Duration::from_secs(60),
            patience: PATIENCE,
        }
    }
}

impl Pace {
    pub(super) fn limits(&self) -> Limits {
        Limits { connect: self.patience, headers: self.patience, body_max: 64 << 10 }
    }

    /// The pause after so many failures; `jitter` is drawn from 0 to 1.
    fn pause(&self, failures: u32, jitter: f64, retry_after: Option<Duration>) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1).min(20));
        let drawn = self.first.saturating_mul(doubled).min(self.most).mul_f64(jitter);
        drawn.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER))
    }
}

/// The way from the outbox to the receivers.
#[derive(Clone, Debug)]
pub struct Delivery {
    shared: Arc<Shared>,
}

struct Shared {
    store: Mutex<Box<dyn AlertStore>>,
    receivers: watch::Sender<Arc<Receivers>>,
    /// Rung when something was put into the outbox.
    bell: watch::Sender<()>,
    clock: Clock,
    jitter: Entropy,
    pace: Pace,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("receivers", &self.receivers).finish_non_exhaustive()
    }
}

impl Delivery {
    /// A delivery that does nothing until [`Self::run`]. The store is its own; `seed` is where its
    /// jitter starts.
    #[must_use]
    pub fn new(store: Box<dyn AlertStore>, receivers: Receivers, clock: Clock, seed: u64) -> Self {
        Self::with_pace(store, receivers, (clock, Entropy::seeded(seed)), Pace::default())
    }

    /// As [`Self::new`], with another patience.
    #[must_use]
    pub fn with_pace(
        store: Box<dyn AlertStore>,
        receivers: Receivers,
        (clock, jitter): (Clock, Entropy),
        pace: Pace,
    ) -> Self {
        let shared = Shared {
            store: Mutex::new(store),
            receivers: watch::Sender::new(Arc::new(receivers)),
            bell: watch::Sender::new(()),
            clock,
            jitter,
            pace,
        };
        Self { shared: Arc::new(shared) }
    }

    /// What is to be put into the outbox when this happens to an alert.
    #[must_use]
    pub fn notices(&self, alert: &Alert, event: Event, due_ms: u64) -> Vec<Notice> {
        self.shared.receivers.borrow().notices(alert, event, due_ms)
    }

    /// Says that there is something new in the outbox.
    pub fn ring(&self) {
        self.shared.bell.send_replace(());
    }

    /// Puts other receivers in the place of those that there are.
    pub fn set_receivers(&self, receivers: Receivers) {
        self.shared.receivers.send_replace(Arc::new(receivers));
    }

    /// Everybody who is told.
    #[must_use]
    pub fn receivers(&self) -> Arc<Receivers> {
        Arc::clone(&self.shared.receivers.borrow())
    }

    /// How the receivers do. Asks the store: not on a task that may not wait.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn states(&self) -> Result<Vec<ReceiverState>, StoreError> {
        self.shared.lock().receivers()
    }

    /// Drops at most `limit` alerts that were resolved before `before_ms`; how many. Asks the store.
    ///
    /// # Errors
    /// When they cannot be dropped.
    pub fn retain(&self, before_ms: u64, limit: usize) -> Result<u64, StoreError> {
        self.shared.lock().alerts_retain(before_ms, limit)
    }

    /// Tells everybody what is to be told, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut changes = self.shared.receivers.subscribe();
        while !stop.is_cancelled() {
            let receivers = Arc::clone(&changes.borrow_and_update());
            let round = stop.child_token();
            let mut tasks = JoinSet::new();
            for receiver in receivers.all() {
                let desk = Desk {
                    shared: Arc::clone(&self.shared),
                    receivers: Arc::clone(&receivers),
                    receiver: Arc::clone(receiver),
                    stop: round.clone(),
                };
                tasks.spawn(desk.run());
            }
            let shared = Arc::clone(&self.shared);
            let orphans = Arc::clone(&receivers);
            let over = round.clone();
            tasks.spawn(async move {
                over.run_until_cancelled(shared.give_up_orphans(&orphans)).await;
            });
            tokio::select! {
                () = stop.cancelled() => {}
                changed = changes.changed() => if changed.is_err() { return },
            }
            round.cancel();
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "telling a receiver ended in a panic");
                }
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Box<dyn AlertStore>> {
        // Each change of the store is a transaction, so a poisoned one is still sound.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.since_epoch().as_millis()).unwrap_or(u64::MAX)
    }

    /// Asks the store where that may wait.
    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&mut dyn AlertStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || question(&mut **shared.lock()));
        asked.await.unwrap_or_else(|error| {
            let why = format!("asking the store ended in a panic: {error}");
            Err(StoreError::new(backstay_store::ErrorKind::Io, why))
        })
    }

    /// What waits for receivers that the project does not name any more is given up in its time.
    async fn give_up_orphans(self: &Arc<Self>, receivers: &Receivers) {
        let named: Vec<String> = receivers.names().map(|(name, _)| name.to_owned()).collect();
        loop {
            let (now_ms, give_up) = (self.now_ms(), self.pace.give_up);
            let named = named.clone();
            let done = self.ask(move |store| {
                let states = store.receivers()?;
                for state in states.iter().filter(|state| !named.contains(&state.name)) {
                    let orphans = store.outbox(&state.name, LOOK)?;
                    store.outbox_settle(&pass(orphans, now_ms, give_up, false).settled)?;
                }
                Ok(())
            });
            if let Err(error) = done.await {
                tracing::warn!(%error, "the outbox could not be read");
            }
            tokio::time::sleep(IDLE * 10).await;
        }
    }
}

/// Where one receiver is told things.
struct Desk {
    shared: Arc<Shared>,
    receivers: Arc<Receivers>,
    receiver: Arc<Receiver>,
    stop: CancellationToken,
}

impl Desk {
    async fn run(self) {
        let mut bell = self.shared.bell.subscribe();
        let mut troubled = false;
        while !self.stop.is_cancelled() {
            bell.borrow_and_update();
            let (wake, held) = match self.look().await {
                Ok(next) => {
                    troubled = false;
                    next
                }
                Err(error) => {
                    // Once: it would be said every few seconds.
                    if !troubled {
                        tracing::warn!(receiver = self.receiver.name(), %error, "the outbox failed");
                    }
                    troubled = true;
                    (IDLE, true)
                }
            };
            let wake = Instant::now() + wake;
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = sleep_until(wake) => {}
                // What is new would fare no better while the receiver as a whole fails.
                rung = bell.changed(), if !held => if rung.is_err() { return },
            }
        }
    }

    /// Tells everything that is due; how long to wait, and whether whatever may come.
    async fn look(&self) -> Result<(Duration, bool), StoreError> {
        let name = self.receiver.name().to_owned();
        let (now_ms, give_up) = (self.shared.now_ms(), self.shared.pace.give_up);
        let forgets = self.receiver.forgets();
        let asked = self.shared.ask(move |store| {
            let found = pass(store.outbox(&name, LOOK)?, now_ms, give_up, forgets);
            if !found.settled.is_empty() {
                store.outbox_settle(&found.settled)?;
            }
            Ok(found)
        });
        let Pass { send, wake_ms, settled } = asked.await?;
        for (_, settled) in &settled {
            if let Settled::GivenUp { why, .. } = settled {
                tracing::error!(receiver = self.receiver.name(), why, "a notification is given up");
            }
        }
        let progress = !send.is_empty();
        for notice in send {
            if let Some(hold) = self.tell(notice).await? {
                return Ok((hold, true));
            }
        }
        if progress {
            // More may be due by now, and what comes after what was told.
            return Ok((Duration::ZERO, false));
        }
        let ahead = wake_ms.map(|at| Duration::from_millis(at.saturating_sub(now_ms)));
        Ok((ahead.unwrap_or(IDLE).min(IDLE), false))
    }

    /// Tells one thing; how long the receiver is to be left alone, if it is.
    async fn tell(&self, notice: Queued) -> Result<Option<Duration>, StoreError> {
        if self.stop.is_cancelled() {
            return Ok(Some(Duration::ZERO));
        }
        let id = notice.id;
        self.shared.ask(move |store| store.outbox_begin(id)).await?;
        let Some(told) = self.send(&notice).await else { return Ok(Some(Duration::ZERO)) };
        let at_ms = self.shared.now_ms();
        let name = self.receiver.name();
        let (settled, hold) = match told {
            Ok(()) => {
                let again = self.receiver.forgets() && notice.event != Event::Resolved;
                let again_ms =
                    again.then(|| at_ms.saturating_add(millis(self.shared.pace.refresh)));
                tracing::debug!(receiver = name, alert = %notice.alert.id, "told");
                (Settled::Delivered { at_ms, again_ms }, None)
            }
            Err(Fault { why, maybe_told, retry_after, only_this }) => {
                let failures = notice.attempts.saturating_add(1);
                let jitter = self.shared.jitter.unit();
                let pause = self.shared.pace.pause(failures, jitter, retry_after);
                let due_ms = at_ms.saturating_add(millis(pause));
                tracing::warn!(receiver = name, failures, why, "a notification was not taken");
                let hold = (!only_this).then_some(pause);
                (Settled::Failed { at_ms, due_ms, maybe_told, why }, hold)
            }
        };
        self.shared.ask(move |store| store.outbox_settle(&[(id, settled)])).await?;
        Ok(hold)
    }

    /// `None`: the delivery ends, and nobody knows whether this one arrived.
    async fn send(&self, notice: &Queued) -> Option<Result<(), Fault>> {
        let message = Message {
            alert: &notice.alert,
            event: notice.event,
            receiver: self.receiver.name(),
            base: self.receivers.base(),
            now_ms: self.shared.now_ms(),
            key: key(notice),
            test: false,
        };
        let pace = &self.shared.pace;
        // Each step has its own limit; this one is for what none of them sees.
        let limit = pace.patience * 4;
        let mut telling = std::pin::pin!(timeout(limit, self.receiver.tell(&message, pace)));
        let told = tokio::select! {
            told = &mut telling => told,
            () = self.stop.cancelled() => timeout(LAST_WORDS, telling).await.ok()?,
        };
        Some(told.unwrap_or_else(|_| {
            Err(Fault {
                why: format!("the receiver did not take it within {limit:?}"),
                maybe_told: true,
                retry_after: None,
                only_this: false,
            })
        }))
    }
}

/// The same for every attempt to tell this. A reminder is another one each time.
fn key(notice: &Queued) -> String {
    let reminder = match notice.event {
        Event::Refresh => format!("/{}", notice.due_ms),
        Event::Firing | Event::Renotify | Event::Resolved => String::new(),
    };
    format!("{}/{}/{}{reminder}", notice.alert.id, notice.event.name(), notice.id)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let pace = Pace::default();
        let pauses: Vec<_> =
            [1, 2, 3, 9, 10, 11, 500, u32::MAX].map(|n| pace.pause(n, 1.0, None).as_secs()).into();
        assert_eq!(pauses, [2, 4, 8, 512, 600, 600, 600, 600]);
        assert_eq!(pace.pause(3, 0.5, None), Duration::from_secs(4));
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(pace.pause(1, 1.0, asked(30)), Duration::from_secs(30));
        assert_eq!(pace.pause(9, 1.0, asked(30)), Duration::from_secs(512));
        assert_eq!(pace.pause(1, 0.0, asked(86_400)), LONGEST_RETRY_AFTER);
    }
}
