//! The data plane: answers calls. Start with [`call`](../src/backstay_engine/call.rs.html), which tells
//! the whole path top to bottom.
//!
//! The engine never waits for a store and never knows the control plane: plans are published to it as
//! one snapshot, and records are handed over without looking back.

pub mod answer;
mod attempt;
mod cache;
mod call;
pub mod clock;
mod degrade;
mod frames;
mod meter;
pub mod plan;
pub mod request;
mod stream;
pub mod targets;
mod validate;

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use backstay_core::{
    failure::{Failure, FailureClass},
    output::Schema,
    record::{CallId, CallRecord, OutcomeReport},
    release::CallSpec,
    trace::{Sampling, TraceParent},
};
use backstay_store::recorder::Recorder;
use quick_cache::sync::Cache;
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    answer::Answer,
    cache::{CacheKey, StaleCache},
    clock::{Clock, Entropy},
    plan::Plans,
    request::Request,
    targets::{Targets, lock},
};

/// Schemas of clients that are kept compiled.
const MOST_SCHEMAS: usize = 256;

/// So many calls are known by the provider's ids of their answers.
const MOST_ANSWERS: usize = 1 << 15;

/// Where records go.
#[derive(Debug)]
pub enum Sink {
    /// Into the call log.
    Log(Recorder),
    /// Into memory, for tests.
    Memory(Mutex<Vec<CallRecord>>),
    /// Nowhere.
    Off,
}

/// Is told of every call that ended and of every verdict of a consumer, as they are recorded. Runs on
/// the call path: it must neither wait nor fail.
pub trait Observer: std::fmt::Debug + Send + Sync {
    /// A call ended; its texts are redacted already.
    fn call_ended(&self, record: &CallRecord);
    /// A consumer said what an answer was worth. The call's id is nil where the consumer knows the
    /// answer by the provider's id only and that call did not end lately, or in another process.
    fn reported(&self, report: &OutcomeReport);
}

/// Answers calls, from the plans that were published last.
#[derive(Debug)]
pub struct Engine {
    plans: ArcSwap<Plans>,
    targets: Arc<Targets>,
    cache: StaleCache,
    schemas: Cache<CacheKey, Arc<Schema>>,
    sink: Sink,
    observers: Vec<Arc<dyn Observer>>,
    /// The calls of answers by the provider's ids, for observers.
    answers: Cache<Box<str>, CallId>,
    /// Which calls are traced; `None`: none, and nobody exports spans.
    sampling: Option<Sampling>,
    clock: Clock,
    entropy: Entropy,
    tasks: TaskTracker,
    ending: CancellationToken,
}

impl Engine {
    /// An engine that has nothing to call yet.
    #[must_use]
    pub fn new(sink: Sink, clock: Clock, entropy: Entropy) -> Self {
        let targets = Arc::new(Targets::default());
        let nothing = Plans::new(
            Default::default(),
            Default::default(),
            CallSpec::direct(),
            Arc::clone(&targets),
        );
        Self {
            plans: ArcSwap::from_pointee(nothing),
            targets,
            cache: StaleCache::new(),
            schemas: Cache::new(MOST_SCHEMAS),
            sink,
            observers: Vec::new(),
            answers: Cache::new(MOST_ANSWERS),
            sampling: None,
            clock,
            entropy,
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
        }
    }

    /// The same engine, which tells `observers` too, in their order.
    #[must_use]
    pub fn with_observers(mut self, observers: Vec<Arc<dyn Observer>>) -> Self {
        self.observers = observers;
        self
    }

    /// The same engine, whose calls have spans of their own in traces.
    #[must_use]
    pub fn with_sampling(mut self, sampling: Option<Sampling>) -> Self {
        self.sampling = sampling;
        self
    }

    /// What attempt `number` of a call tells its target of the trace that it belongs to: its own span,
    /// or the client's as it came where no spans are made here. Nothing if nobody traces.
    pub(crate) fn traceparent(&self, request: &Request, number: usize) -> Option<TraceParent> {
        let Some(sampling) = self.sampling else { return request.trace };
        let call = sampling.call(request.id.0.into_bytes(), request.trace.as_ref());
        Some(call.attempt(number))
    }

    /// The plans in force.
    #[must_use]
    pub fn plans(&self) -> Arc<Plans> {
        self.plans.load_full()
    }

    /// Puts new plans in force. Calls under way keep the release they started with.
    pub fn publish(&self, plans: Plans) {
        self.plans.store(Arc::new(plans));
    }

    /// The state of targets, which outlives plans.
    #[must_use]
    pub fn targets(&self) -> &Arc<Targets> {
        &self.targets
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Where records go.
    #[must_use]
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    pub(crate) fn entropy(&self) -> &Entropy {
        &self.entropy
    }

    pub(crate) fn cache(&self) -> &StaleCache {
        &self.cache
    }

    pub(crate) fn schemas(&self) -> &Cache<CacheKey, Arc<Schema>> {
        &self.schemas
    }

    /// A fresh identity for a call that starts now.
    #[must_use]
    pub fn new_id(&self) -> CallId {
        self.entropy.call_id(self.clock.since_epoch())
    }

    /// Answers a request. The call runs on a task of its own: dropping this future tells it that the
    /// client is gone, and it ends by itself and is recorded.
    pub async fn call(self: &Arc<Self>, request: impl Into<Arc<Request>>) -> Answer {
        let (to, answer) = oneshot::channel();
        let engine = Arc::clone(self);
        let request = request.into();
        let spare = Arc::clone(&request);
        // Boxed, because a task is moved several times on its way to the runtime and at its end.
        let running = Box::pin(async move { call::run(&engine, request, to).await });
        self.tasks.spawn(running);
        match answer.await {
            Ok(answer) => answer,
            Err(_) => {
                // The task panicked: a defect of Backstay, which must neither hang nor vanish.
                tracing::error!(call_id = %spare.id, "a call ended in a panic");
                let failure = Failure::new(
                    FailureClass::UpstreamError,
                    "a defect in Backstay ended this call; the server's log has the details",
                );
                self.refuse(&spare, None, &failure)
            }
        }
    }

    /// Takes in a consumer's verdict.
    pub fn report(&self, report: OutcomeReport) {
        let report = self.cleaned(report);
        self.observers.iter().for_each(|observer| observer.reported(&report));
        match &self.sink {
            Sink::Log(recorder) => recorder.report(report),
            Sink::Memory(_) | Sink::Off => {}
        }
    }

    /// Takes in the verdict of a consumer that knows its answer by the provider's id only.
    pub fn report_response(&self, response_id: String, report: OutcomeReport) {
        let report = self.cleaned(report);
        if !self.observers.is_empty() {
            let call_id = self.answers.get(response_id.as_str()).unwrap_or(report.call_id);
            let told = OutcomeReport { call_id, ..report.clone() };
            self.observers.iter().for_each(|observer| observer.reported(&told));
        }
        match &self.sink {
            Sink::Log(recorder) => recorder.report_response(response_id, report),
            Sink::Memory(_) | Sink::Off => {}
        }
    }

    /// A report without what any call takes out of its answers: its own may be long gone, so that nobody
    /// can say what that one would.
    fn cleaned(&self, mut report: OutcomeReport) -> OutcomeReport {
        if let Some(expected) = &mut report.expected {
            let plans = self.plans();
            plans.stray().0.clean_expected(expected, plans.privacy());
        }
        report
    }

    /// How many calls are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.tasks.len()
    }

    /// Waits until every call under way has ended.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Ends every call under way by name: the server has no more time for them.
    pub fn cut_off_calls(&self) {
        self.ending.cancel();
    }

    /// Ends when calls are cut off.
    pub(crate) async fn cut_off(&self) {
        self.ending.cancelled().await;
    }

    /// Hands a record over; it is only made if someone wants it.
    pub(crate) fn keep(&self, record: impl FnOnce() -> CallRecord) {
        if matches!(self.sink, Sink::Off) && self.observers.is_empty() {
            return;
        }
        let record = record();
        if let Some(id) = record.upstream_id.as_deref().filter(|_| !self.observers.is_empty()) {
            self.answers.insert(id.into(), record.id);
        }
        self.observers.iter().for_each(|observer| observer.call_ended(&record));
        match &self.sink {
            Sink::Log(recorder) => recorder.record(record),
            Sink::Memory(kept) => lock(kept).push(record),
            Sink::Off => {}
        }
    }
}
