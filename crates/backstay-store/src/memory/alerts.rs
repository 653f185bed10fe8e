//! Alerts, silences and the outbox in memory.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use backstay_core::{
    alert::{Alert, Silence},
    record::CallId,
};

use super::MemoryStore;
use crate::{
    AlertStore, ErrorKind, StoreError,
    alerts::{
        AlertChange, AlertFilter, AlertsKept, Event, MOST_ALERTS, MOST_NOTICES, Notice, Queued,
        ReceiverState, STRANGER, Settled, TOO_MANY, silence_fault, state_fault,
    },
};

#[derive(Debug, Default)]
pub(super) struct Alerts {
    alerts: BTreeMap<CallId, Alert>,
    states: BTreeMap<String, String>,
    silences: Vec<Silence>,
    notices: BTreeMap<u64, Kept>,
    last_notice: u64,
    receivers: BTreeMap<String, ReceiverState>,
}

/// A notice, settled or not.
#[derive(Debug)]
struct Kept {
    notice: Notice,
    created_ms: u64,
    attempts: u32,
    told: Told,
    waiting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    No,
    /// An attempt is under way, and nobody was told before it.
    Begun,
    Yes,
}

impl Alerts {
    fn put(&mut self, notice: &Notice, created_ms: u64) {
        self.last_notice += 1;
        let kept =
            Kept { notice: notice.clone(), created_ms, attempts: 0, told: Told::No, waiting: true };
        self.notices.insert(self.last_notice, kept);
    }

    fn remove(&mut self, alert: CallId) {
        self.alerts.remove(&alert);
        self.notices.retain(|_, kept| kept.notice.alert != alert);
    }

    fn waiting(&self) -> impl Iterator<Item = (u64, &Kept)> {
        self.notices.iter().filter(|(_, kept)| kept.waiting).map(|(id, kept)| (*id, kept))
    }

    fn make_room(&mut self, at_ms: u64) {
        let excess = self.waiting().count().saturating_sub(MOST_NOTICES);
        let oldest: Vec<_> = self.waiting().map(|(id, _)| id).take(excess).collect();
        for id in oldest {
            self.settle(id, &Settled::GivenUp { at_ms, why: TOO_MANY.to_owned() });
        }
    }

    fn settle(&mut self, id: u64, settled: &Settled) {
        let Some(kept) = self.notices.get_mut(&id).filter(|kept| kept.waiting) else { return };
        let name = kept.notice.receiver.clone();
        match settled {
            Settled::Delivered { again_ms, .. } => {
                kept.told = Told::Yes;
                match again_ms {
                    None => kept.waiting = false,
                    Some(again) => {
                        kept.notice.event = Event::Refresh;
                        kept.notice.due_ms = *again;
                        kept.attempts = 0;
                    }
                }
            }
            Settled::Failed { due_ms, maybe_told, .. } => {
                kept.notice.due_ms = *due_ms;
                kept.told = match (kept.told, maybe_told) {
                    (_, true) | (Told::Yes, _) => Told::Yes,
                    (Told::No | Told::Begun, false) => Told::No,
                };
            }
            Settled::GivenUp { .. } | Settled::Dropped => kept.waiting = false,
        }
        self.account(name, settled);
    }

    /// Keeps how the receiver does.
    fn account(&mut self, name: String, settled: &Settled) {
        if *settled == Settled::Dropped {
            return;
        }
        let state = self.receivers.entry(name).or_insert_with_key(|name| ReceiverState {
            name: name.clone(),
            ..ReceiverState::default()
        });
        match settled {
            Settled::Delivered { at_ms, .. } => {
                state.last_ok_ms = Some(*at_ms);
                state.last_error = None;
            }
            Settled::Failed { at_ms, why, .. } | Settled::GivenUp { at_ms, why } => {
                state.last_failed_ms = Some(*at_ms);
                state.last_error = Some(why.clone());
                state.given_up += u64::from(matches!(settled, Settled::GivenUp { .. }));
            }
            Settled::Dropped => {}
        }
    }

    /// Whether the receiver of `kept` was told of its alert by it or by an earlier one.
    fn told(&self, id: u64, kept: &Kept) -> bool {
        self.notices.range(..=id).any(|(_, earlier)| {
            earlier.told != Told::No
                && earlier.notice.alert == kept.notice.alert
                && earlier.notice.receiver == kept.notice.receiver
        })
    }
}

impl AlertStore for MemoryStore {
    fn load(&self) -> Result<AlertsKept, StoreError> {
        let inner = self.lock();
        let kept = &inner.alerts;
        let mut open: Vec<_> =
            kept.alerts.values().filter(|alert| alert.resolved_ms.is_none()).cloned().collect();
        open.sort_by_key(|alert| (alert.started_ms, alert.id));
        let states = kept.states.iter().map(|(key, text)| (key.clone(), text.clone())).collect();
        Ok(AlertsKept { open, states, silences: kept.silences.clone() })
    }

    fn save(&mut self, change: &AlertChange) -> Result<(), StoreError> {
        state_fault(&change.states)?;
        let mut inner = self.lock();
        let kept = &mut inner.alerts;
        let mut known: BTreeSet<CallId> = kept.alerts.keys().copied().collect();
        known.extend(change.alerts.iter().map(|alert| alert.id));
        for id in &change.forgotten {
            known.remove(id);
        }
        if change.notices.iter().any(|notice| !known.contains(&notice.alert)) {
            return Err(StoreError::new(ErrorKind::Conflict, STRANGER));
        }
        for alert in &change.alerts {
            kept.alerts.insert(alert.id, alert.clone());
        }
        for id in &change.forgotten {
            kept.remove(*id);
        }
        for (key, content) in &change.states {
            match content {
                Some(content) => kept.states.insert(key.clone(), content.clone()),
                None => kept.states.remove(key),
            };
        }
        for notice in &change.notices {
            kept.put(notice, change.at_ms);
        }
        kept.make_room(change.at_ms);
        Ok(())
    }

    fn alert(&self, id: CallId) -> Result<Option<Alert>, StoreError> {
        Ok(self.lock().alerts.alerts.get(&id).cloned())
    }

    fn history(&self, filter: &AlertFilter) -> Result<Vec<Alert>, StoreError> {
        let inner = self.lock();
        let mut found: Vec<_> =
            inner.alerts.alerts.values().filter(|alert| filter.admits(alert)).cloned().collect();
        found.sort_by_key(|alert| Reverse((alert.started_ms, alert.id)));
        let last = found.iter().take(filter.rows()).next_back().map(|alert| alert.started_ms);
        found.retain(|alert| last.is_some_and(|last| alert.started_ms >= last));
        Ok(found)
    }

    fn silences(&self) -> Result<Vec<Silence>, StoreError> {
        Ok(self.lock().alerts.silences.clone())
    }

    fn silence_add(&mut self, silence: &Silence) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let silences = &mut inner.alerts.silences;
        let in_force = silences.iter().filter(|known| known.expires_ms > silence.created_ms);
        silence_fault(silence, in_force.count())?;
        silences.push(silence.clone());
        silences.sort_by_key(|silence| (silence.created_ms, silence.id));
        Ok(())
    }

    fn silence_end(&mut self, id: CallId, now_ms: u64) -> Result<Option<Silence>, StoreError> {
        let mut inner = self.lock();
        let in_force = |silence: &&mut Silence| silence.id == id && silence.expires_ms > now_ms;
        let ended = inner.alerts.silences.iter_mut().find(in_force);
        Ok(ended.map(|silence| {
            silence.expires_ms = now_ms.max(silence.created_ms);
            silence.clone()
        }))
    }

    fn outbox(&self, receiver: &str, limit: usize) -> Result<Vec<Queued>, StoreError> {
        let inner = self.lock();
        let kept = &inner.alerts;
        let own = kept.waiting().filter(|(_, queued)| queued.notice.receiver == receiver);
        let queued = own.filter_map(|(id, queued)| {
            Some(Queued {
                id,
                alert: kept.alerts.get(&queued.notice.alert)?.clone(),
                event: queued.notice.event,
                created_ms: queued.created_ms,
                due_ms: queued.notice.due_ms,
                attempts: queued.attempts,
                told: kept.told(id, queued),
            })
        });
        Ok(queued.take(limit.min(MOST_ALERTS)).collect())
    }

    fn outbox_begin(&mut self, notice: u64) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if let Some(kept) = inner.alerts.notices.get_mut(&notice).filter(|kept| kept.waiting) {
            kept.attempts += 1;
            kept.told = if kept.told == Told::No { Told::Begun } else { Told::Yes };
        }
        Ok(())
    }

    fn outbox_settle(&mut self, settled: &[(u64, Settled)]) -> Result<(), StoreError> {
        let mut inner = self.lock();
        for (id, settled) in settled {
            inner.alerts.settle(*id, settled);
        }
        Ok(())
    }

    fn receivers(&self) -> Result<Vec<ReceiverState>, StoreError> {
        let inner = self.lock();
        let mut states = inner.alerts.receivers.clone();
        for (_, kept) in inner.alerts.waiting() {
            let name = &kept.notice.receiver;
            let state = states.entry(name.clone()).or_insert_with(|| ReceiverState {
                name: name.clone(),
                ..ReceiverState::default()
            });
            state.pending += u64::from(kept.notice.event != Event::Refresh);
        }
        Ok(states.into_values().collect())
    }

    fn alerts_retain(&mut self, before_ms: u64, limit: usize) -> Result<u64, StoreError> {
        let mut inner = self.lock();
        let kept = &mut inner.alerts;
        let old = |alert: &&Alert| alert.resolved_ms.is_some_and(|at| at < before_ms);
        let mut dropped: Vec<_> = kept.alerts.values().filter(old).cloned().collect();
        dropped.sort_by_key(|alert| alert.resolved_ms);
        dropped.truncate(limit);
        for alert in &dropped {
            kept.remove(alert.id);
        }
        let mut ended: Vec<_> = kept
            .silences
            .iter()
            .filter(|silence| silence.expires_ms < before_ms)
            .cloned()
            .collect();
        ended.sort_by_key(|silence| silence.expires_ms);
        ended.truncate(limit);
        kept.silences.retain(|silence| !ended.contains(silence));
        let waiting: BTreeSet<_> =
            kept.waiting().map(|(_, kept)| kept.notice.receiver.clone()).collect();
        kept.receivers.retain(|name, state| {
            state.last_ok_ms.max(state.last_failed_ms) >= Some(before_ms) || waiting.contains(name)
        });
        Ok(u64::try_from(dropped.len()).unwrap_or(u64::MAX))
    }
}
