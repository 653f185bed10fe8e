//! What the handlers share.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use backstay_control::alerts::{Board, Policies, TokensUsual};
use backstay_core::failure::{Failure, FailureClass};
use backstay_engine::Engine;
use http::HeaderMap;

use crate::{
    auth::Keys,
    desk::Desk,
    metrics::Metrics,
    otlp::{Exporter, Status as OtlpStatus},
};

/// Bounds of what comes in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Calls at once.
    pub(crate) calls: usize,
    /// Bytes of a request's body.
    pub(crate) body: usize,
}

/// The machine that a request came from; requests to the control API carry it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The server as its handlers see it.
#[derive(Debug)]
pub(crate) struct Server {
    engine: Arc<Engine>,
    keys: ArcSwap<Keys>,
    limits: ArcSwap<Limits>,
    /// Why the project on disk is not the one in force, if it is not.
    broken: ArcSwap<Option<String>>,
    draining: AtomicBool,
    /// The export of telemetry, if the project asks for one.
    otlp: Option<Arc<Exporter>>,
    /// Requests whose bodies are being read; the engine does not know of them yet.
    arriving: AtomicUsize,
    desk: Desk,
    metrics: Arc<Metrics>,
    /// Every rule as it stood at the last look.
    alerts: ArcSwap<Board>,
    /// How many tokens calls usually read and write, as the rules knew at the last look.
    tokens: ArcSwap<TokensUsual>,
    /// What the project says of alerts.
    policies: ArcSwap<Policies>,
}

/// A request that is being read; counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Arriving<'a>(&'a AtomicUsize);

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    pub(crate) fn new(
        engine: Arc<Engine>,
        keys: Keys,
        limits: Limits,
        desk: Desk,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            engine,
            keys: ArcSwap::from_pointee(keys),
            limits: ArcSwap::from_pointee(limits),
            broken: ArcSwap::from_pointee(None),
            draining: AtomicBool::new(false),
            otlp: None,
            arriving: AtomicUsize::new(0),
            desk,
            metrics,
            alerts: ArcSwap::from_pointee(Board::default()),
            tokens: ArcSwap::from_pointee(TokensUsual::default()),
            policies: ArcSwap::from_pointee(Policies::default()),
        }
    }

    /// The same server, whose telemetry is exported.
    pub(crate) fn with_otlp(mut self, otlp: Option<Arc<Exporter>>) -> Self {
        self.otlp = otlp;
        self
    }

    /// How the export of telemetry fares.
    pub(crate) fn otlp(&self) -> OtlpStatus {
        self.otlp.as_ref().map(|exporter| exporter.status()).unwrap_or_default()
    }

    /// Every rule as it stood at the last look.
    pub(crate) fn alerts(&self) -> Arc<Board> {
        self.alerts.load_full()
    }

    pub(crate) fn set_alerts(&self, board: Board) {
        self.alerts.store(Arc::new(board));
    }

    /// How many tokens calls usually read and write.
    pub(crate) fn tokens(&self) -> Arc<TokensUsual> {
        self.tokens.load_full()
    }

    pub(crate) fn set_tokens(&self, tokens: TokensUsual) {
        self.tokens.store(Arc::new(tokens));
    }

    pub(crate) fn policies(&self) -> Arc<Policies> {
        self.policies.load_full()
    }

    pub(crate) fn set_policies(&self, policies: Policies) {
        self.policies.store(Arc::new(policies));
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    /// Milliseconds since the epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.engine.clock().since_epoch().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn limits(&self) -> Limits {
        **self.limits.load()
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    pub(crate) fn set_keys(&self, keys: Keys) {
        self.keys.store(Arc::new(keys));
    }

    pub(crate) fn broken(&self) -> Arc<Option<String>> {
        self.broken.load_full()
    }

    pub(crate) fn set_broken(&self, why: Option<String>) {
        self.broken.store(Arc::new(why));
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Lets a request in by its key.
    pub(crate) fn let_in(&self, headers: &HeaderMap) -> Result<(), Failure> {
        self.keys.load().admit(headers)
    }

    /// Lets a request in: by its key, and while there is room.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<Arriving<'_>, Failure> {
        self.let_in(headers)?;
        let limit = self.limits().calls;
        let arriving = Arriving(&self.arriving);
        let before = self.arriving.fetch_add(1, Ordering::Relaxed);
        if before + self.engine.under_way() >= limit {
            return Err(too_many_calls(limit));
        }
        Ok(arriving)
    }
}

/// The failure of a request beyond the server's own limit of calls at once.
fn too_many_calls(limit: usize) -> Failure {
    Failure::new(
        FailureClass::Overloaded,
        format!("{limit} calls are under way, which is this server's limit (server.max_in_flight)"),
    )
    .with_retry_after(Some(Duration::from_secs(1)))
}
