//! What the control API keeps between requests: who reads the stores, the last answers, sessions, and
//! everybody who listens. It knows no request and decides nothing.

mod alerts;
mod error;
mod fresh;
mod hub;
mod pulse;
mod reads;
pub(crate) mod sessions;

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use backstay_core::config::ReceiverConfig;
use backstay_store::AlertStore;

use self::sessions::Sessions;
pub(crate) use self::{
    alerts::AlertsView,
    error::{ApiError, ErrorBody},
    fresh::Fresh,
    hub::Hub,
    pulse::Pulse,
    reads::{LogStore, Reads},
};

/// What the handlers of the control API share.
#[derive(Debug)]
pub(crate) struct Desk {
    reads: Arc<Reads>,
    fresh: Fresh,
    alerts: AlertsView,
    sessions: Sessions,
    events: Hub,
    pulse: Arc<Pulse>,
    started_ms: u64,
    /// Name and kind of each place that the project sends alerts to.
    receivers: ArcSwap<Vec<(String, &'static str)>>,
}

impl Desk {
    /// The desk over the store in `dir` and its alerts. `pulse` observes the engine.
    pub(crate) fn new(
        dir: PathBuf,
        alerts: impl AlertStore + 'static,
        pulse: Arc<Pulse>,
        started_ms: u64,
    ) -> Self {
        let reads = Arc::new(Reads::of(dir));
        Self {
            fresh: Fresh::default(),
            alerts: AlertsView::of(alerts, Arc::clone(&reads)),
            reads,
            sessions: Sessions::default(),
            events: Hub::default(),
            pulse,
            started_ms,
            receivers: ArcSwap::default(),
        }
    }

    /// Name and kind of each place that the project sends alerts to.
    pub(crate) fn receivers(&self) -> Arc<Vec<(String, &'static str)>> {
        self.receivers.load_full()
    }

    /// Puts other receivers in force.
    pub(crate) fn set_receivers(&self, receivers: &[ReceiverConfig]) {
        let named = receivers.iter().map(|receiver| (receiver.name.clone(), receiver.kind.name()));
        self.receivers.store(Arc::new(named.collect()));
    }

    /// Who reads the stores.
    pub(crate) fn reads(&self) -> &Reads {
        &self.reads
    }

    /// The last answers.
    pub(crate) fn fresh(&self) -> &Fresh {
        &self.fresh
    }

    /// Alerts and silences.
    pub(crate) fn alerts(&self) -> &AlertsView {
        &self.alerts
    }

    /// Who signed in.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Who listens to events.
    pub(crate) fn events(&self) -> &Hub {
        &self.events
    }

    /// What the engine was seen to do.
    pub(crate) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// When the server started, in milliseconds since the epoch.
    pub(crate) const fn started_ms(&self) -> u64 {
        self.started_ms
    }
}
