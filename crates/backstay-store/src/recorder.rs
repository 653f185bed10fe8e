//! Between the call path and the store: takes records without ever waiting for the store, and writes
//! them in batches on a thread of its own.
//!
//! A record is in the spool before [`Recorder::record`] returns, and in the store a few milliseconds
//! later. When the store is slow or fails the queue fills, up to its bounds; past them bodies are shed
//! first and records next. What is shed is counted at once, and stays in the spool: it is stored when
//! the store has caught up, or at the next start. `received = stored + pending + shed` holds at every
//! instant, because all four change under one lock.

mod accounting;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use backstay_core::record::{CallRecord, OutcomeReport};

pub use accounting::Accounting;

use crate::{
    Appended, Entry, RecordStore, Retained, Retention, Spool,
    spool::{Recovered, RecoveredSegment, Segment},
};

const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// After so long without anything to store the rollups are brought up to date,
const ROLL_UP_AFTER: Duration = Duration::from_millis(100);
/// and after so many batches if there is always something.
const ROLL_UP_EVERY: u32 = 16;
/// While the rollups fail, it is tried more and more rarely, down to so many times less often.
const MOST_PATIENCE: u32 = 64;

/// From so many waiting entries on, whoever adds one lets the writer run first if they share a core:
/// else a saturated core would fill the queue and shed what there is time to store.
const GIVE_WAY: usize = 1024;

/// The bounds of the queue and the rhythm of the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most entries that wait.
    pub entries: usize,
    /// The most bytes that wait, as JSON.
    pub bytes: usize,
    /// The most entries of one transaction.
    pub batch: usize,
    /// So many entries wake the writer before `gather` has passed.
    pub wake_at: usize,
    /// How long the writer lets entries gather: the time for which a record is only in the spool.
    pub gather: Duration,
    /// The first pause after a failure of the store; doubled each time, up to 5 seconds.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 65_536,
            bytes: 32 << 20,
            batch: 4096,
            wake_at: 256,
            gather: Duration::from_millis(10),
            pause: Duration::from_millis(50),
        }
    }
}

#[derive(Debug)]
struct Item {
    entry: Entry,
    bytes: usize,
    /// `None`: the spool could not take it.
    segment: Option<Segment>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Item>,
    queued_bytes: usize,
    in_flight: usize,
    received: u64,
    stored: u64,
    queue_full: u64,
    expired: u64,
    unmatched: u64,
    closed: u64,
    bodies_shed: u64,
    replayed: u64,
    unreadable: u64,
    spool_errors: u64,
    store_errors: u64,
    store_error: Option<String>,
    rollup_error: Option<String>,
    retention_error: Option<String>,
    /// The rollups may lack something of what is stored;
    unrolled: bool,
    /// so many entries that left the queue for good are in them.
    rolled: u64,
    /// The call that has waited longest for them: it is in them when so many entries are, and ended then.
    waiting: Option<(u64, u64)>,
    retained: Retained,
    /// Asked for and not done yet, with its time.
    retain: Option<(u64, Retention)>,
    /// Entries that were shed and are still in the spool.
    held: u64,
    phase: Phase,
    /// Somebody waits: do not gather, and roll up at once.
    hurry: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// What an earlier process left behind is being stored.
    #[default]
    Replaying,
    Running,
    /// Nothing new is taken in.
    Closing,
    /// The writer's thread has ended.
    Stopped,
}

impl State {
    /// All entries that were ever queued and have left the queue for good.
    fn settled(&self) -> u64 {
        self.stored + self.expired + self.unmatched
    }

    /// Whether the writer has nothing to do.
    fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.retain.is_none()
            && self.held == 0
            && self.phase < Phase::Closing
            && !self.hurry
    }

    fn pending(&self) -> u64 {
        u64::try_from(self.queue.len() + self.in_flight).unwrap_or(u64::MAX)
    }

    /// Queues an entry or sheds it. The entry's JSON is `bytes` long.
    fn push(&mut self, mut item: Item, limits: &Limits) {
        self.received += 1;
        if self.phase >= Phase::Closing {
            self.closed += 1;
            return;
        }
        if self.queued_bytes + item.bytes > limits.bytes
            && let Entry::Call(record) = &mut item.entry
        {
            let bodies = strip(record);
            if bodies > 0 {
                self.bodies_shed += 1;
                item.bytes = item.bytes.saturating_sub(bodies);
            }
        }
        if self.queue.len() >= limits.entries || self.queued_bytes + item.bytes > limits.bytes {
            self.queue_full += 1;
            self.held += u64::from(item.segment.is_some());
            return;
        }
        self.queued_bytes += item.bytes;
        let ended_ms = ended_ms(&item.entry);
        self.queue.push_back(item);
        self.waiting =
            self.waiting.or(ended_ms.map(|at_ms| (self.settled() + self.pending(), at_ms)));
    }

    /// Everything that is stored is in the rollups.
    fn all_rolled_up(&mut self) {
        self.rolled = self.settled();
        if self.waiting.is_some_and(|(target, _)| target <= self.rolled) {
            let next = self.queue.iter().find_map(|item| ended_ms(&item.entry));
            self.waiting = next.map(|at_ms| (self.rolled + self.pending(), at_ms));
        }
    }
}

/// When the call ended, in milliseconds since the epoch. Nobody waits for verdicts.
fn ended_ms(entry: &Entry) -> Option<u64> {
    match entry {
        Entry::Call(record) => Some(record.id.unix_millis() + record.latency_us / 1000),
        Entry::Outcome(_) | Entry::Response(..) => None,
    }
}

/// Takes the bodies away; their length.
fn strip(record: &mut CallRecord) -> usize {
    let length = |body: Option<String>| body.map_or(0, |body| body.len());
    length(record.request.take()) + length(record.answer.take()) + length(record.rejected.take())
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The writer waits on this one,
    work: Condvar,
    /// and those who wait for the writer on this one.
    settled: Condvar,
    spool: Option<Spool>,
    limits: Limits,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; counters that go on are better than none.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut state = self.lock();
        state.phase = state.phase.max(Phase::Closing);
        drop(state);
        self.work.notify_all();
    }
}

/// A handle on the recorder; every clone is the same one. With the last one the writer stores what it
/// has and ends; [`Recorder::close`] waits for that.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    thread: Arc<Thread>,
}

#[derive(Debug)]
struct Thread {
    shared: Arc<Shared>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Recorder {
    /// Starts the writer's thread. It first stores what is in the spool from before, while calls are
    /// taken in already. Tests without a disk leave the spool out.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        store: Box<dyn RecordStore>,
        spool: Option<(Spool, Recovered)>,
        limits: Limits,
    ) -> io::Result<Self> {
        let (spool, recovered) = spool.unzip();
        let state = Mutex::new(State::default());
        let (work, settled) = (Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { state, work, settled, spool, limits });
        let writer =
            Writer { shared: Arc::clone(&shared), store, batches: 0, patience: 1, last_steps: 16 };
        let handle = thread::Builder::new()
            .name("backstay-recorder".to_owned())
            .spawn(move || writer.run(recovered))?;
        let thread = Thread { shared: Arc::clone(&shared), handle: Mutex::new(Some(handle)) };
        Ok(Self { shared, thread: Arc::new(thread) })
    }

    /// Takes a call's record. When it returns, the record is in the spool: the call may be answered.
    pub fn record(&self, record: CallRecord) {
        self.receive(Entry::Call(Box::new(record)));
    }

    /// Takes the verdict of a consumer, with the same promise.
    pub fn report(&self, report: OutcomeReport) {
        self.receive(Entry::Outcome(report));
    }

    /// Takes the verdict of a consumer that knows its answer by the provider's id only; the call's id
    /// in `report` is not looked at.
    pub fn report_response(&self, response_id: String, report: OutcomeReport) {
        self.receive(Entry::Response(response_id, report));
    }

    fn receive(&self, entry: Entry) {
        // A record is made of strings and numbers: writing it to memory cannot fail.
        let json = serde_json::to_vec(&entry).unwrap_or_default();
        let spooled = self.shared.spool.as_ref().map(|spool| spool.append(&json));
        let mut state = self.shared.lock();
        state.spool_errors += u64::from(matches!(spooled, Some(Err(_))));
        let segment = spooled.and_then(Result::ok);
        let before = state.queue.len();
        state.push(Item { entry, bytes: json.len(), segment }, &self.shared.limits);
        // To wake the writer for every record would cost each call a change of threads.
        let grown = state.queue.len() > before;
        let wake = grown && (before == 0 || before + 1 == self.shared.limits.wake_at);
        let behind = before >= GIVE_WAY;
        drop(state);
        if wake {
            self.shared.work.notify_one();
        }
        if behind {
            // Not a wait: where the writer shares this core, it gets its turn before more calls come.
            thread::yield_now();
        }
    }

    /// Asks the writer to drop what is too old at `now_ms` (since the epoch).
    pub fn retain(&self, now_ms: u64, retention: Retention) {
        self.shared.lock().retain = Some((now_ms, retention));
        self.shared.work.notify_one();
    }

    /// Waits until everything received so far is stored and, if they work, in the rollups; `false` if
    /// that did not happen in time.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        let mut state = self.shared.lock();
        let target = state.settled() + state.pending();
        let open = |state: &State| {
            state.settled() < target
                || state.phase == Phase::Replaying
                || (state.rollup_error.is_none() && (state.rolled < target || state.unrolled))
        };
        state.hurry = open(&state);
        self.shared.work.notify_one();
        let (state, _) = self
            .shared
            .settled
            .wait_timeout_while(state, timeout, |state| {
                open(state) && state.phase != Phase::Stopped
            })
            .unwrap_or_else(PoisonError::into_inner);
        !open(&state)
    }

    /// Waits until everything is stored, for `timeout` at most, and ends the writer. What could not be
    /// stored is still pending in the answer, and in the spool for the next start.
    #[must_use]
    pub fn close(&self, timeout: Duration) -> Accounting {
        let _in_time = self.flush(timeout);
        self.shared.close();
        let handle = self.thread.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(handle) = handle {
            // If it panicked, the accounting says what is left.
            drop(handle.join());
        }
        self.accounting()
    }

    /// What became of all that was received, at this instant.
    #[must_use]
    pub fn accounting(&self) -> Accounting {
        let state = self.shared.lock();
        Accounting {
            received: state.received,
            stored: state.stored,
            pending: state.pending(),
            shed: [
                ("queue_full", state.queue_full),
                ("expired", state.expired),
                ("unmatched", state.unmatched),
                ("closed", state.closed),
            ],
            bodies_shed: state.bodies_shed,
            replayed: state.replayed,
            unreadable: state.unreadable,
            spool_errors: state.spool_errors,
            store_errors: state.store_errors,
            store_error: state.store_error.clone(),
            rollup_error: state.rollup_error.clone(),
            retention_error: state.retention_error.clone(),
            unsummed: state.settled().saturating_sub(state.rolled),
            waiting_since_ms: state.waiting.map(|(_, at_ms)| at_ms),
            retained: state.retained,
        }
    }
}

/// What the writer does next.
enum Work {
    Store(Vec<Item>),
    Retain(u64, Retention),
    /// Store what was shed.
    Reclaim,
    /// Bring the rollups up to date.
    RollUp,
    Stop,
}

/// The shutdown has begun and the store fails: what is left stays in the spool.
struct GivenUp;

struct Writer {
    shared: Arc<Shared>,
    store: Box<dyn RecordStore>,
    /// Batches that the rollups lack.
    batches: u32,
    /// Grows while the rollups fail, so that they do not keep the log from being written.
    patience: u32,
    /// Steps of the rollups that a shutdown waits for.
    last_steps: u32,
}

impl Drop for Writer {
    /// Also when the store panics: nobody must wait for a thread that is gone.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.phase = Phase::Stopped;
        if thread::panicking() {
            let told = "the thread that writes the call log panicked: restart the server, and report \
                        the panic that it logged; what was answered is in the spool";
            state.store_error = Some(told.to_owned());
        }
        drop(state);
        self.shared.settled.notify_all();
    }
}

impl Writer {
    fn run(mut self, recovered: Option<Recovered>) {
        // That it gave up is said by the accounting: pending, and the error of the store.
        let _gave_up = self.work(recovered).is_err();
        if let Some(spool) = &self.shared.spool
            && spool.close().is_err()
        {
            self.shared.lock().spool_errors += 1;
        }
    }

    fn work(&mut self, recovered: Option<Recovered>) -> Result<(), GivenUp> {
        for segment in recovered.into_iter().flatten() {
            match segment {
                Ok(segment) => self.replay(segment)?,
                Err(_) => self.shared.lock().spool_errors += 1,
            }
        }
        let mut state = self.shared.lock();
        state.phase = state.phase.max(Phase::Running);
        // Also what a process that was killed had stored and not summed up.
        state.unrolled = true;
        drop(state);
        self.shared.settled.notify_all();
        loop {
            match self.next_work() {
                Work::Store(items) => self.store_items(items)?,
                Work::Retain(now_ms, retention) => self.retain(now_ms, retention),
                Work::Reclaim => self.reclaim()?,
                Work::RollUp => self.roll_up(),
                Work::Stop => return Ok(()),
            }
        }
    }

    fn next_work(&self) -> Work {
        let limits = &self.shared.limits;
        let mut state = self.shared.lock();
        while state.queue.is_empty() || self.batches >= ROLL_UP_EVERY * self.patience {
            if let Some((now_ms, retention)) = state.retain.take() {
                return Work::Retain(now_ms, retention);
            }
            if state.held > 0 && state.queue.is_empty() {
                state.held = 0;
                return Work::Reclaim;
            }
            let due = state.hurry || state.phase >= Phase::Closing || !state.queue.is_empty();
            if state.unrolled && due {
                return Work::RollUp;
            }
            if state.phase >= Phase::Closing {
                return Work::Stop;
            }
            state.hurry = false;
            let longest =
                if state.unrolled { ROLL_UP_AFTER * self.patience } else { Duration::MAX };
            let wait = self.shared.work.wait_timeout_while(state, longest, |state| state.is_idle());
            let waited;
            (state, waited) = wait.unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() && state.is_idle() {
                return Work::RollUp;
            }
        }
        if let Some((now_ms, retention)) = state.retain.take() {
            return Work::Retain(now_ms, retention);
        }
        let few = |state: &mut State| {
            state.queue.len() < limits.wake_at && !state.hurry && state.phase < Phase::Closing
        };
        let wait = self.shared.work.wait_timeout_while(state, limits.gather, few);
        let (mut state, _) = wait.unwrap_or_else(PoisonError::into_inner);
        let size = state.queue.len().min(limits.batch);
        let items: Vec<Item> = state.queue.drain(..size).collect();
        state.queued_bytes -= items.iter().map(|item| item.bytes).sum::<usize>();
        state.in_flight = size;
        Work::Store(items)
    }

    fn store_items(&mut self, items: Vec<Item>) -> Result<(), GivenUp> {
        let size = u64::try_from(items.len()).unwrap_or(u64::MAX);
        let mut segments: Vec<(Segment, u64)> = Vec::new();
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            entries.push(item.entry);
            let Some(segment) = item.segment else { continue };
            match segments.last_mut() {
                Some((last, frames)) if *last == segment => *frames += 1,
                Some(_) | None => segments.push((segment, 1)),
            }
        }
        let appended = self.append(&entries)?;
        let mut spool_errors = 0;
        if let Some(spool) = &self.shared.spool {
            for (segment, frames) in segments {
                spool_errors += u64::from(spool.committed(segment, frames).is_err());
            }
        }
        let mut state = self.shared.lock();
        state.in_flight = 0;
        state.stored += size - appended.given_up();
        state.expired += appended.expired;
        state.unmatched += appended.unmatched;
        state.spool_errors += spool_errors;
        state.unrolled = true;
        drop(state);
        self.batches += 1;
        self.shared.settled.notify_all();
        Ok(())
    }

    fn roll_up(&mut self) {
        let result = self.store.roll_up();
        let mut state = self.shared.lock();
        self.batches = 0;
        match result {
            Ok(more) => {
                if more {
                    // A step a batch from here on: the sums catch up, and the log goes on meanwhile.
                    self.batches = ROLL_UP_EVERY - 1;
                }
                self.patience = 1;
                state.rollup_error = None;
                // The next start rolls up what is left.
                state.unrolled = more && (state.phase < Phase::Closing || self.last_steps > 0);
                let last = state.phase >= Phase::Closing && more;
                self.last_steps = self.last_steps.saturating_sub(u32::from(last));
                if !more {
                    state.all_rolled_up();
                    state.hurry &= !state.queue.is_empty();
                }
            }
            Err(error) => {
                self.patience = (self.patience * 2).min(MOST_PATIENCE);
                state.store_errors += 1;
                state.rollup_error = Some(error.to_string());
                state.hurry &= !state.queue.is_empty();
                state.unrolled = state.phase < Phase::Closing;
            }
        }
        drop(state);
        self.shared.settled.notify_all();
    }

    /// Appends a batch; as long as that fails, again after a growing pause.
    fn append(&mut self, entries: &[Entry]) -> Result<Appended, GivenUp> {
        let mut pause = self.shared.limits.pause;
        loop {
            let result = self.store.append(entries);
            let mut state = self.shared.lock();
            match result {
                Ok(appended) => {
                    state.store_error = None;
                    return Ok(appended);
                }
                Err(error) => {
                    state.store_errors += 1;
                    state.store_error = Some(error.to_string());
                }
            }
            if state.phase >= Phase::Closing {
                return Err(GivenUp);
            }
            // Ended early by the shutdown only; the batch is then tried one last time.
            let open = |state: &mut State| state.phase < Phase::Closing;
            drop(self.shared.work.wait_timeout_while(state, pause, open));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn retain(&mut self, now_ms: u64, retention: Retention) {
        let result = self.store.retain(now_ms, &retention);
        let mut state = self.shared.lock();
        match result {
            Ok(retained) => {
                state.retention_error = None;
                state.retained.body_days += retained.body_days;
                state.retained.call_days += retained.call_days;
            }
            Err(error) => {
                state.store_errors += 1;
                state.retention_error = Some(error.to_string());
            }
        }
    }

    /// Stores what was shed while the store could not keep up, from the spool.
    fn reclaim(&mut self) -> Result<(), GivenUp> {
        let shared = Arc::clone(&self.shared);
        let Some(spool) = &shared.spool else { return Ok(()) };
        loop {
            match spool.reclaim() {
                Ok(Some(segment)) => self.replay(segment)?,
                Ok(None) => return Ok(()),
                Err(_) => {
                    shared.lock().spool_errors += 1;
                    return Ok(());
                }
            }
        }
    }

    /// Stores the frames of a segment and unlinks it.
    fn replay(&mut self, mut segment: RecoveredSegment) -> Result<(), GivenUp> {
        loop {
            let (mut entries, mut unreadable) = (Vec::new(), 0);
            while entries.len() < self.shared.limits.batch
                && let Some(frame) = segment.next_frame()
            {
                match serde_json::from_slice(frame) {
                    Ok(entry) => entries.push(entry),
                    Err(_) => unreadable += 1,
                }
            }
            let done = entries.is_empty();
            if !done {
                self.append(&entries)?;
            }
            let mut state = self.shared.lock();
            state.replayed += u64::try_from(entries.len()).unwrap_or(u64::MAX);
            state.unrolled = true;
            state.unreadable += unreadable;
            if done {
                state.unreadable += u64::from(segment.unread() > 0);
                break;
            }
        }
        if segment.remove().is_err() {
            self.shared.lock().spool_errors += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
