//! OpenTelemetry: calls as traces, metrics and events, sent by OTLP to where the project says.
//!
//! Everything is made of finished records, which the engine tells an [`Observer`] of. A call waits for
//! nothing here: its record goes into a bounded queue, or is dropped and counted.
//!
//! Why the official messages but not the official SDK: an SDK's spans are begun and ended while the
//! work runs, under ids that it draws itself, and its processors drop without saying how much. Here a
//! record comes with all its times when the call is over, the ids are known to the providers already,
//! and what was dropped has to be told. The official exporters would also bring a second HTTP client
//! with its own TLS, limits and retries; [`backstay_providers::transport`] has them.

mod content;
mod event;
mod known;
#[cfg(test)]
mod manual;
mod metric;
mod names;
mod send;
mod settings;
mod span;
#[cfg(test)]
mod tests;
mod value;
mod worker;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use backstay_control::compile::resolve_secret;
use backstay_core::{
    config::OtlpConfig,
    record::{CallRecord, OutcomeReport},
    trace::Sampling,
};
use backstay_engine::{Engine, Observer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::{
    send::Receiver,
    settings::{Environment, Settings, Signals},
    span::Style,
    worker::Worker,
};

/// Records that may wait to be turned into spans.
const QUEUE: usize = 4096;
/// Bytes of their texts that may wait.
const QUEUE_BYTES: usize = 32 << 20;

/// How the export fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Whether anything is exported at all.
    pub(crate) enabled: bool,
    /// Spans and events that the receiver took.
    pub(crate) exported: u64,
    /// Spans and events that it did not get, or did not take.
    pub(crate) dropped: u64,
    /// What last went wrong.
    pub(crate) last_error: Option<String>,
}

/// What the parts of the exporter count together.
#[derive(Debug, Default)]
struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
    /// Spans and events in batches that are on their way.
    pending: AtomicU64,
    queued_bytes: AtomicUsize,
    last_error: Mutex<Option<String>>,
}

impl Counts {
    fn exported(&self, items: u64) {
        self.exported.fetch_add(items, Ordering::Relaxed);
    }

    /// Counts everything as dropped that is still on its way.
    fn give_up(&self, why: &str) {
        let items = self.pending.swap(0, Ordering::Relaxed);
        if items > 0 {
            self.dropped(items, why);
        }
    }

    fn dropped(&self, items: u64, why: &str) {
        self.dropped.fetch_add(items, Ordering::Relaxed);
        self.failed(why);
    }

    /// Remembers what went wrong; it is logged when it is something new.
    fn failed(&self, why: &str) {
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() != Some(why) {
            tracing::warn!("OTLP: {why}");
            *last = Some(why.to_owned());
        }
    }

    /// Makes room for a record with so many bytes of text, if there is any.
    fn enter_queue(&self, bytes: usize) -> bool {
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= QUEUE_BYTES;
        if !fits {
            self.leave_queue(bytes);
        }
        fits
    }

    fn leave_queue(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What the engine tells the exporter.
#[derive(Debug)]
enum Told {
    /// A call, and how many bytes of text it holds.
    Call(Box<CallRecord>, usize),
    Report(OutcomeReport),
}

/// The end of the exporter that the engine talks to, and where its state is read.
#[derive(Debug)]
pub(crate) struct Exporter {
    told: mpsc::Sender<Told>,
    counts: Arc<Counts>,
    signals: Signals,
    sampling: Sampling,
    content: bool,
}

/// The end of the exporter that works; nothing is sent until it runs.
#[derive(Debug)]
pub(crate) struct Export {
    worker: Worker,
}

/// Both ends of the export, if the project asks for one.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    pub(crate) exporter: Option<Arc<Exporter>>,
    pub(crate) export: Option<Export>,
    /// What is missing, but does not stop it.
    pub(crate) missing: Vec<String>,
}

impl Telemetry {
    /// Prepares the export that the table `[otlp]` of the project in `root` asks for.
    ///
    /// # Errors
    /// What is wrong, where, and how to mend it.
    pub(crate) fn prepare(
        config: Option<&OtlpConfig>,
        root: &Path,
        seed: u64,
    ) -> Result<Self, String> {
        let environment = Environment::read();
        let Some(config) = config else {
            if environment.endpoint.is_some() {
                tracing::info!(
                    "OTEL_EXPORTER_OTLP_ENDPOINT is set, but backstay.toml has no table [otlp]: \
                     nothing is exported"
                );
            }
            return Ok(Self::default());
        };
        let (exporter, export, missing) = Exporter::prepare(config, &environment, root, seed)?;
        Ok(Self { exporter: Some(exporter), export: Some(export), missing })
    }
}

impl Exporter {
    /// Prepares the export that a project asks for. The last value says what is missing, but does not
    /// stop it.
    ///
    /// # Errors
    /// What is wrong, where, and how to mend it.
    fn prepare(
        config: &OtlpConfig,
        environment: &Environment,
        root: &Path,
        seed: u64,
    ) -> Result<(Arc<Self>, Export, Vec<String>), String> {
        let resolve = |secret: &_| resolve_secret(root, secret);
        let (mut settings, missing) = Settings::of(config, environment, &resolve)?;
        settings.ca_file = settings.ca_file.map(|path| root.join(path));
        let (told, queue) = mpsc::channel(QUEUE);
        let exporter = Arc::new(Self {
            told,
            counts: Arc::default(),
            signals: settings.signals,
            sampling: Sampling::of(settings.sample),
            content: settings.content,
        });
        let worker = Worker {
            told: queue,
            counts: Arc::clone(&exporter.counts),
            receiver: Receiver::new(&settings),
            signals: settings.signals,
            sampling: exporter.sampling,
            style: Style { version: settings.version, content: settings.content },
            resource: settings.resource.into_iter().collect(),
            metric_interval: settings.metric_interval,
            seed,
        };
        Ok((exporter, Export { worker }, missing))
    }

    /// Which calls have spans of their own; `None` if no spans are exported.
    pub(crate) fn sampling(&self) -> Option<Sampling> {
        self.signals.traces.then_some(self.sampling)
    }

    /// How the export fares.
    pub(crate) fn status(&self) -> Status {
        let last_error = self.counts.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        Status {
            enabled: true,
            exported: self.counts.exported.load(Ordering::Relaxed),
            dropped: self.counts.dropped.load(Ordering::Relaxed),
            last_error: last_error.clone(),
        }
    }

    /// The record with as much of its texts as is needed. The request's parameters are read from its
    /// text, so that it is needed for every span.
    fn needed(&self, record: &CallRecord, sampled: bool) -> CallRecord {
        let texts = sampled && self.content;
        let request = record.request.as_ref().filter(|_| sampled && self.signals.traces);
        CallRecord {
            id: record.id,
            call: record.call.clone(),
            release: record.release.clone(),
            variant: record.variant,
            protocol: record.protocol.clone(),
            stream: record.stream,
            unit: None,
            outcome: record.outcome,
            degraded: record.degraded,
            message: record.message.clone(),
            violation: record.violation.clone(),
            latency_us: record.latency_us,
            first_token_us: record.first_token_us,
            overhead_us: record.overhead_us,
            usage: record.usage,
            cost: record.cost,
            model: record.model.clone(),
            fingerprint: None,
            finish: record.finish.clone(),
            upstream_id: record.upstream_id.clone(),
            trace: record.trace,
            attempts: record.attempts.clone(),
            request: request.cloned(),
            answer: record.answer.clone().filter(|_| texts),
            rejected: record.rejected.clone().filter(|_| texts),
        }
    }
}

impl Observer for Exporter {
    fn call_ended(&self, record: &CallRecord) {
        let span = self.sampling.call(record.id.0.into_bytes(), record.trace.as_ref());
        let needed = self.needed(record, span.is_sampled());
        let texts = [&needed.request, &needed.answer, &needed.rejected];
        let bytes = texts.iter().filter_map(|text| text.as_ref()).map(String::len).sum();
        let spans = 1 + u64::try_from(record.attempts.len()).unwrap_or(u64::MAX - 1);
        let lost = if span.is_sampled() && self.signals.traces { spans } else { 1 };
        if !self.counts.enter_queue(bytes) {
            return self.counts.dropped(lost, "the exporter is slower than calls come in");
        }
        if self.told.try_send(Told::Call(Box::new(needed), bytes)).is_err() {
            self.counts.leave_queue(bytes);
            self.counts.dropped(lost, "the exporter is slower than calls come in");
        }
    }

    fn reported(&self, report: &OutcomeReport) {
        let report = OutcomeReport { expected: None, ..report.clone() };
        if self.told.try_send(Told::Report(report)).is_err() {
            self.counts.dropped(1, "the exporter is slower than calls come in");
        }
    }
}

impl Export {
    /// Exports until `ending`, and then what is left, within a limit.
    pub(crate) async fn run(self, engine: Arc<Engine>, ending: CancellationToken) {
        self.worker.run(engine, ending).await;
    }
}
