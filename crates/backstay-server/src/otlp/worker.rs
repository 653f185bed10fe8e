//! The tasks behind the exporter: one turns records into batches, one sends them.
//!
//! They are two so that a slow receiver holds up nothing but the batches behind it; what does not fit
//! is dropped and counted. A batch is sent again only while there is time and hope, never for ever.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use backstay_core::{
    record::{CallId, CallRecord, OutcomeReport},
    trace::{Sampling, TraceParent},
};
use backstay_engine::{Engine, clock::Entropy};
use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::InstrumentationScope,
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{ResourceMetrics, ScopeMetrics},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use quick_cache::sync::Cache;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Counts, Told,
    event::{self, About},
    known::Known,
    metric::Metrics,
    send::{Receiver, Refused, Signal},
    settings::Signals,
    span::{self, Style},
    value::pair,
};

/// Spans and events wait this long for others to go with them.
const LINGER: Duration = Duration::from_secs(1);
/// A batch of so many is sent at once.
const FULL: usize = 512;
/// So is one of so many bytes: receivers take 4 MiB at least.
const LARGEST: usize = 1 << 20;
/// Batches that may wait for the receiver.
const BATCHES: usize = 16;
/// Calls that a late report finds its trace of.
const REMEMBERED: usize = 16_384;
/// How often a batch is sent, first time included.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// At the end, everything that is left has this long to go out.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What the tasks are started with.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) told: mpsc::Receiver<Told>,
    pub(super) counts: Arc<Counts>,
    pub(super) receiver: Receiver,
    pub(super) signals: Signals,
    pub(super) sampling: Sampling,
    pub(super) style: Style,
    pub(super) resource: Vec<(String, String)>,
    pub(super) metric_interval: Duration,
    pub(super) seed: u64,
}

/// Something to be sent.
struct Batch {
    signal: Signal,
    message: Bytes,
    /// Spans or events in it. Metrics count nothing: the next ones hold them too.
    items: u64,
}

impl Worker {
    /// Exports until `ending`, and then what is left, within a limit.
    pub(super) async fn run(self, engine: Arc<Engine>, ending: CancellationToken) {
        let (batches, to_send) = mpsc::channel(BATCHES);
        let delivery = Delivery {
            receiver: self.receiver,
            counts: Arc::clone(&self.counts),
            entropy: Entropy::seeded(self.seed),
            ending: ending.clone(),
        };
        let tasks = TaskTracker::new();
        let delivering = tasks.spawn(delivery.run(to_send));
        let collector = Collector {
            told: self.told,
            counts: Arc::clone(&self.counts),
            signals: self.signals,
            sampling: self.sampling,
            style: self.style,
            resource: resource_of(&self.resource, &engine),
            metrics: Metrics::new(self.style.version, now_ns(&engine)),
            known: Known::of(engine.plans()),
            calls: Cache::new(REMEMBERED),
            spans: Vec::new(),
            events: Vec::new(),
            bytes: 0,
            batches,
            engine,
        };
        let collecting = tasks.spawn(collector.run(self.metric_interval, ending.clone()));
        ending.cancelled().await;
        tasks.close();
        if timeout(LAST_WORDS, tasks.wait()).await.is_err() {
            collecting.abort();
            delivering.abort();
            self.counts.give_up("the receiver did not take everything before the end");
        }
    }
}

fn now_ns(engine: &Engine) -> u64 {
    u64::try_from(engine.clock().since_epoch().as_nanos()).unwrap_or(u64::MAX)
}

fn resource_of(named: &[(String, String)], engine: &Engine) -> Resource {
    let mut attributes: Vec<_> =
        named.iter().map(|(name, value)| pair(name, value.as_str())).collect();
    if !named.iter().any(|(name, _)| name == "service.instance.id") {
        attributes.push(pair("service.instance.id", engine.new_id().to_string()));
    }
    Resource { attributes, ..Resource::default() }
}

/// Turns what is told into batches.
struct Collector {
    told: mpsc::Receiver<Told>,
    counts: Arc<Counts>,
    signals: Signals,
    sampling: Sampling,
    style: Style,
    resource: Resource,
    metrics: Metrics,
    known: Known,
    /// What reports need to know of calls.
    calls: Cache<CallId, Arc<About>>,
    spans: Vec<Span>,
    events: Vec<LogRecord>,
    /// How large they are, encoded.
    bytes: usize,
    batches: mpsc::Sender<Batch>,
    engine: Arc<Engine>,
}

impl Collector {
    async fn run(mut self, metric_interval: Duration, ending: CancellationToken) {
        let mut linger = interval(LINGER);
        let mut measure = interval(metric_interval);
        linger.set_missed_tick_behavior(MissedTickBehavior::Delay);
        measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
        measure.reset();
        loop {
            tokio::select! {
                told = self.told.recv() => match told {
                    Some(told) => self.take(told),
                    None => break,
                },
                _ = linger.tick() => self.hand_over(),
                _ = measure.tick() => self.hand_metrics_over(),
                () = ending.cancelled() => break,
            }
        }
        while let Ok(told) = self.told.try_recv() {
            self.take(told);
        }
        self.hand_over();
        self.hand_metrics_over();
    }

    fn take(&mut self, told: Told) {
        self.known.refresh(self.engine.plans());
        match told {
            Told::Call(record, bytes) => {
                self.counts.leave_queue(bytes);
                self.take_call(&record);
            }
            Told::Report(report) => self.take_report(&report),
        }
        let full = self.spans.len() >= FULL || self.events.len() >= FULL;
        if full || self.bytes >= LARGEST {
            self.hand_over();
        }
    }

    fn take_call(&mut self, record: &CallRecord) {
        if self.signals.metrics {
            self.metrics.call(record, &self.known);
        }
        let call = self.span_of(record);
        let about = Arc::new(About::of(record, call, self.signals.traces));
        self.calls.insert(record.id, Arc::clone(&about));
        if self.signals.traces && about.sampled {
            let spans = span::spans(record, &call, &self.known, self.style);
            self.bytes += spans.iter().map(Message::encoded_len).sum::<usize>();
            self.spans.extend(spans);
        }
        if self.signals.events && about.sampled {
            let events = event::of_call(record, &about, &self.known, self.style);
            self.bytes += events.iter().map(Message::encoded_len).sum::<usize>();
            self.events.extend(events);
        }
    }

    fn span_of(&self, record: &CallRecord) -> TraceParent {
        self.sampling.call(record.id.0.into_bytes(), record.trace.as_ref())
    }

    fn take_report(&mut self, report: &OutcomeReport) {
        let about = self.calls.get(&report.call_id);
        let sampled = about.as_ref().is_none_or(|about| about.sampled);
        if self.signals.metrics {
            self.metrics.report(report, about.as_deref(), &self.known);
        }
        if self.signals.events && sampled {
            let event = event::of_report(report, about.as_deref(), self.style);
            self.bytes += event.encoded_len();
            self.events.push(event);
        }
    }

    fn hand_over(&mut self) {
        let scope = Some(scope());
        let resource = || Some(self.resource.clone());
        self.bytes = 0;
        let spans = std::mem::take(&mut self.spans);
        let events = std::mem::take(&mut self.events);
        let (traces, logs) = (spans.len(), events.len());
        if traces > 0 {
            let spans = vec![ScopeSpans { scope: scope.clone(), spans, ..ScopeSpans::default() }];
            let of = ResourceSpans {
                resource: resource(),
                scope_spans: spans,
                ..ResourceSpans::default()
            };
            let request = ExportTraceServiceRequest { resource_spans: vec![of] };
            self.queue(Signal::Traces, &request, traces);
        }
        if logs > 0 {
            let logs_of_scope =
                vec![ScopeLogs { scope, log_records: events, ..ScopeLogs::default() }];
            let of = ResourceLogs {
                resource: Some(self.resource.clone()),
                scope_logs: logs_of_scope,
                ..ResourceLogs::default()
            };
            let request = ExportLogsServiceRequest { resource_logs: vec![of] };
            self.queue(Signal::Events, &request, logs);
        }
    }

    fn hand_metrics_over(&self) {
        if !self.signals.metrics {
            return;
        }
        let metrics = self.metrics.export(now_ns(&self.engine));
        if metrics.is_empty() {
            return;
        }
        let metrics =
            vec![ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() }];
        let of = ResourceMetrics {
            resource: Some(self.resource.clone()),
            scope_metrics: metrics,
            ..ResourceMetrics::default()
        };
        let request = ExportMetricsServiceRequest { resource_metrics: vec![of] };
        self.queue(Signal::Metrics, &request, 0);
    }

    fn queue(&self, signal: Signal, request: &impl Message, items: usize) {
        let items = u64::try_from(items).unwrap_or(u64::MAX);
        let batch = Batch { signal, message: request.encode_to_vec().into(), items };
        self.counts.pending.fetch_add(items, Ordering::Relaxed);
        if self.batches.try_send(batch).is_err() {
            self.counts.pending.fetch_sub(items, Ordering::Relaxed);
            self.counts.dropped(items, "the receiver is slower than calls come in");
        }
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "backstay".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// Sends batches in their order.
struct Delivery {
    receiver: Receiver,
    counts: Arc<Counts>,
    entropy: Entropy,
    ending: CancellationToken,
}

impl Delivery {
    async fn run(self, mut batches: mpsc::Receiver<Batch>) {
        while let Some(batch) = batches.recv().await {
            let delivered = self.deliver(&batch).await;
            self.counts.pending.fetch_sub(batch.items, Ordering::Relaxed);
            match delivered {
                Ok(rejected) => {
                    self.counts.exported(batch.items.saturating_sub(rejected));
                    if rejected > 0 {
                        let rejected_for_good = format!("the receiver rejected {rejected} items");
                        self.counts.dropped(rejected.min(batch.items), &rejected_for_good);
                    }
                }
                Err(refused) => self.counts.dropped(batch.items, &refused.why),
            }
        }
    }

    /// Sends a batch until it is taken, there is no hope, or no time.
    async fn deliver(&self, batch: &Batch) -> Result<u64, Refused> {
        let mut most = FIRST_PAUSE;
        for _ in 1..TRIES {
            let refused = match self.receiver.send(batch.signal, &batch.message).await {
                Ok(rejected) => return Ok(rejected),
                Err(refused) if !refused.again || self.ending.is_cancelled() => {
                    return Err(refused);
                }
                Err(refused) => refused,
            };
            self.counts.failed(&refused.why);
            // Full jitter, so that gateways that were cut off together do not come back together.
            let pause = refused.pause.unwrap_or_else(|| most.mul_f64(self.entropy.unit()));
            most *= 2;
            tokio::select! {
                () = sleep(pause) => {}
                // At the end it is tried once more, at once.
                () = self.ending.cancelled() => break,
            }
        }
        self.receiver.send(batch.signal, &batch.message).await
    }
}
