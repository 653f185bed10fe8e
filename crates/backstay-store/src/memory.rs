//! All stores in memory, bounded, for tests: their threads never wait for a disk, so that a paused
//! clock does not run ahead of them.

mod alerts;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use backstay_core::{
    record::{CallId, CallRecord, OutcomeReport},
    rollup::{Cell, Key, Sample},
};

use crate::{
    Appended, CallRow, Counts, Entry, ErrorKind, Filter, KeyRow, Lookup, ModelSeen, RESPONSE_DAYS,
    RecordReader, RecordStore, RegistryStore, ReleaseRow, Retained, Retention, Rollup,
    RollupFilter, RollupReader, StoreError, StoredCall,
    query::{IdRange, MAX_AMBIGUOUS},
    sqlite::{self, Day},
};

/// How many calls are kept before the oldest ones make room.
const KEPT: usize = 100_000;

/// Every clone is the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// In the order of storing.
    calls: VecDeque<StoredCall>,
    ids: HashSet<CallId>,
    last_seq: u64,
    releases: Vec<ReleaseRow>,
    keys: Vec<KeyRow>,
    version: u64,
    alerts: alerts::Alerts,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change below is whole before the next one starts, so a poisoned one is still sound.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add_call(&mut self, record: &CallRecord) {
        if !self.ids.insert(record.id) {
            return;
        }
        self.last_seq += 1;
        if self.calls.len() == KEPT
            && let Some(oldest) = self.calls.pop_front()
        {
            self.ids.remove(&oldest.record.id);
        }
        self.calls.push_back(StoredCall {
            seq: self.last_seq,
            record: record.clone(),
            reports: Vec::new(),
        });
    }

    /// The call of the newest day, and of a day the last one, whose answer has this id.
    fn call_of(&self, response_id: &str) -> Option<CallId> {
        let mut days: Vec<Day> = self.calls.iter().map(|stored| day_of(stored.record.id)).collect();
        days.sort_unstable_by(|a, b| b.cmp(a));
        days.dedup();
        let oldest = *days.get(RESPONSE_DAYS.min(days.len()).checked_sub(1)?)?;
        let own = self.calls.iter().map(|stored| &stored.record);
        own.filter(|record| day_of(record.id) >= oldest)
            .filter(|record| record.upstream_id.as_deref() == Some(response_id))
            .map(|record| record.id)
            .max()
    }

    /// Whether its call's day is kept.
    fn add_report(&mut self, report: &OutcomeReport) -> bool {
        let day = day_of(report.call_id);
        let mut kept = false;
        for stored in &mut self.calls {
            kept |= day_of(stored.record.id) == day;
            if stored.record.id == report.call_id {
                let same = |known: &OutcomeReport| {
                    OutcomeReport { reported_ms: known.reported_ms, ..report.clone() } == *known
                };
                if !stored.reports.iter().any(same) {
                    stored.reports.push(report.clone());
                }
                return true;
            }
        }
        kept
    }
}

impl RecordStore for MemoryStore {
    fn append(&mut self, batch: &[Entry]) -> Result<Appended, StoreError> {
        let mut inner = self.lock();
        let mut appended = Appended::default();
        for entry in batch {
            if let Entry::Call(record) = entry {
                inner.add_call(record);
            }
        }
        for entry in batch {
            match entry {
                Entry::Call(_) => {}
                Entry::Outcome(report) => {
                    appended.expired += u64::from(!inner.add_report(report));
                }
                Entry::Response(response_id, report) => match inner.call_of(response_id) {
                    Some(call_id) => {
                        let report = OutcomeReport { call_id, ..report.clone() };
                        appended.expired += u64::from(!inner.add_report(&report));
                    }
                    None => appended.unmatched += 1,
                },
            }
        }
        Ok(appended)
    }

    fn roll_up(&mut self) -> Result<bool, StoreError> {
        // Sums are made when somebody asks.
        Ok(false)
    }

    fn retain(&mut self, now_ms: u64, retention: &Retention) -> Result<Retained, StoreError> {
        let mut inner = self.lock();
        let old = |id: CallId, keep: std::time::Duration| {
            u128::from(day_of(id).end_ms()) + keep.as_millis() <= u128::from(now_ms)
        };
        let mut body_days = Vec::new();
        let mut call_days = Vec::new();
        for stored in &mut inner.calls {
            let id = stored.record.id;
            let record = &stored.record;
            let has_bodies =
                record.request.is_some() || record.answer.is_some() || record.rejected.is_some();
            let metadata_old = old(id, retention.metadata);
            if has_bodies && (old(id, retention.bodies) || metadata_old) {
                stored.record.request = None;
                stored.record.answer = None;
                stored.record.rejected = None;
                body_days.push(day_of(id));
            }
            if metadata_old {
                call_days.push(day_of(id));
            }
        }
        inner.calls.retain(|stored| !old(stored.record.id, retention.metadata));
        inner.ids.retain(|id| !old(*id, retention.metadata));
        let distinct = |mut days: Vec<Day>| {
            days.sort_unstable();
            days.dedup();
            u64::try_from(days.len()).unwrap_or(u64::MAX)
        };
        Ok(Retained { body_days: distinct(body_days), call_days: distinct(call_days) })
    }
}

impl RecordReader for MemoryStore {
    fn calls(&self, filter: &Filter) -> Result<Vec<CallRow>, StoreError> {
        let inner = self.lock();
        let mut found: Vec<&StoredCall> = inner
            .calls
            .iter()
            .filter(|stored| filter.admits(&stored.record, consumer_ok(stored)))
            .filter(|stored| filter.after.is_none_or(|after| stored.seq > after))
            .collect();
        if filter.after.is_none() {
            found.sort_unstable_by_key(|stored| Reverse(stored.record.id));
        }
        Ok(found.into_iter().take(filter.rows()).map(row).collect())
    }

    fn call(&self, id: &str) -> Result<Lookup, StoreError> {
        let inner = self.lock();
        if let Some(range) = IdRange::of_prefix(id) {
            let mut found: Vec<&StoredCall> = inner
                .calls
                .iter()
                .filter(|stored| (range.first..=range.last).contains(&stored.record.id))
                .collect();
            found.sort_unstable_by_key(|stored| stored.record.id);
            match found.as_slice() {
                [] => {}
                [one] => return Ok(Lookup::Found(Box::new((*one).clone()))),
                several => {
                    let ids = several.iter().map(|stored| stored.record.id);
                    return Ok(Lookup::Ambiguous(ids.take(usize::from(MAX_AMBIGUOUS)).collect()));
                }
            }
        }
        let by_upstream = inner
            .calls
            .iter()
            .filter(|stored| stored.record.upstream_id.as_deref() == Some(id))
            .max_by_key(|stored| stored.record.id);
        Ok(by_upstream.map_or(Lookup::Missing, |stored| Lookup::Found(Box::new(stored.clone()))))
    }

    fn counts(&self, filter: &Filter) -> Result<Counts, StoreError> {
        let mut counts = Counts::default();
        let inner = self.lock();
        let admitted = |stored: &&StoredCall| filter.admits(&stored.record, consumer_ok(stored));
        for stored in inner.calls.iter().filter(admitted) {
            counts.add(stored.record.outcome, stored.record.degraded, 1);
        }
        Ok(counts.sorted())
    }
}

impl RollupReader for MemoryStore {
    fn rollups(&self, filter: &RollupFilter) -> Result<Vec<Rollup>, StoreError> {
        let mut cells: BTreeMap<(u64, Key), Cell> = BTreeMap::new();
        for stored in &self.lock().calls {
            let sample = Sample::of(&stored.record);
            let start_ms = filter.level.start(sample.started_ms);
            if !(filter.since_ms..filter.until_ms).contains(&start_ms)
                || filter.call.as_ref().is_some_and(|call| *call != sample.key.call)
                || filter
                    .release
                    .as_ref()
                    .is_some_and(|own| Some(own) != sample.key.release.as_ref())
            {
                continue;
            }
            let cell = cells.entry((start_ms, sample.key.clone())).or_default();
            cell.add(&sample);
            if let Some(report) = stored.reports.last() {
                cell.report(report.ok, None);
            }
        }
        let found = cells.into_iter();
        Ok(found.map(|((start_ms, key), cell)| Rollup { start_ms, key, cell }).collect())
    }

    fn models(&self) -> Result<Vec<ModelSeen>, StoreError> {
        let mut models: BTreeMap<_, ModelSeen> = BTreeMap::new();
        for StoredCall { record, .. } in &self.lock().calls {
            let (Some(attempt), Some(model)) = (record.attempts.last(), &record.model) else {
                continue;
            };
            let (target, fingerprint) = (attempt.target.clone(), record.fingerprint.clone());
            let at_ms = record.id.unix_millis();
            let seen = models
                .entry((target.clone(), model.clone(), fingerprint.clone()))
                .or_insert_with(|| ModelSeen {
                    target,
                    model: model.clone(),
                    fingerprint,
                    first_ms: at_ms,
                    last_ms: at_ms,
                    calls: 0,
                });
            seen.first_ms = seen.first_ms.min(at_ms);
            seen.last_ms = seen.last_ms.max(at_ms);
            seen.calls += 1;
        }
        let mut models: Vec<_> = models.into_values().collect();
        models.sort_by(|a, b| {
            (&a.target, a.first_ms, &a.model, &a.fingerprint).cmp(&(
                &b.target,
                b.first_ms,
                &b.model,
                &b.fingerprint,
            ))
        });
        Ok(models)
    }
}

fn day_of(id: CallId) -> Day {
    Day::of_millis(id.unix_millis())
}

/// What the consumer said last.
fn consumer_ok(stored: &StoredCall) -> Option<bool> {
    stored.reports.last().map(|report| report.ok)
}

fn row(stored: &StoredCall) -> CallRow {
    let record = stored.record.clone();
    CallRow {
        seq: stored.seq,
        id: record.id,
        call: record.call,
        release: record.release,
        variant: record.variant,
        protocol: record.protocol,
        stream: record.stream,
        unit: record.unit,
        outcome: record.outcome,
        degraded: record.degraded,
        message: record.message,
        latency_us: record.latency_us,
        first_token_us: record.first_token_us,
        overhead_us: record.overhead_us,
        usage: record.usage,
        cost: record.cost,
        model: record.model,
        target: record.attempts.last().map(|attempt| attempt.target.clone()),
        attempts: u32::try_from(record.attempts.len()).unwrap_or(u32::MAX),
        consumer_ok: consumer_ok(stored),
    }
}

impl RegistryStore for MemoryStore {
    fn release_put(
        &mut self,
        call: &str,
        digest: &str,
        content_json: &str,
        now_ms: u64,
    ) -> Result<u32, StoreError> {
        let mut inner = self.lock();
        let own = inner.releases.iter().filter(|release| release.call == call);
        let mut last = 0;
        for release in own {
            if release.digest == digest {
                return Ok(release.number);
            }
            last = last.max(release.number);
        }
        inner.releases.push(ReleaseRow {
            call: call.to_owned(),
            number: last + 1,
            digest: digest.to_owned(),
            content_json: content_json.to_owned(),
            created_ms: now_ms,
        });
        inner.version += 1;
        Ok(last + 1)
    }

    fn releases(&self, call: &str, limit: u32) -> Result<Vec<ReleaseRow>, StoreError> {
        let inner = self.lock();
        let own = inner.releases.iter().rev().filter(|release| release.call == call);
        Ok(own.take(usize::try_from(limit).unwrap_or(usize::MAX)).cloned().collect())
    }

    fn release(&self, call: &str, number: u32) -> Result<Option<ReleaseRow>, StoreError> {
        let inner = self.lock();
        let same = |release: &&ReleaseRow| release.call == call && release.number == number;
        Ok(inner.releases.iter().find(same).cloned())
    }

    fn key_create(&mut self, key: &KeyRow) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let taken = |known: &KeyRow| {
            known.id == key.id || (known.revoked_ms.is_none() && known.name == key.name)
        };
        if inner.keys.iter().any(taken) {
            return Err(StoreError::new(ErrorKind::Conflict, sqlite::key_conflict(&key.name)));
        }
        inner.keys.push(key.clone());
        inner.keys.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
        inner.version += 1;
        Ok(())
    }

    fn key_list(&self) -> Result<Vec<KeyRow>, StoreError> {
        Ok(self.lock().keys.clone())
    }

    fn key_revoke(&mut self, id_or_name: &str, now_ms: u64) -> Result<Option<KeyRow>, StoreError> {
        let mut inner = self.lock();
        let active = |key: &KeyRow| key.revoked_ms.is_none();
        let place =
            inner.keys.iter().position(|key| active(key) && key.id == id_or_name).or_else(|| {
                inner.keys.iter().position(|key| active(key) && key.name == id_or_name)
            });
        let Some(key) = place.and_then(|place| inner.keys.get_mut(place)) else { return Ok(None) };
        key.revoked_ms = Some(now_ms);
        let revoked = key.clone();
        inner.version += 1;
        Ok(Some(revoked))
    }

    fn version(&self) -> Result<u64, StoreError> {
        Ok(self.lock().version)
    }
}
