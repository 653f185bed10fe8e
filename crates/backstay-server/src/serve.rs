//! The wiring: opens the store, builds the engine, publishes plans, listens, reloads, and drains.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, response::Response, routing::future::RouteFuture};
use backstay_control::{
    alerts::{Keeper, Policies},
    compile::{CompileError, Compiler},
    notify::{Delivery, Receivers},
    project::load,
    watch::Watch,
};
use backstay_core::{
    config::{Mistake, OtlpConfig, Project},
    privacy::PseudonymKey,
};
use backstay_engine::{
    Engine, Observer, Sink,
    clock::{Clock, Entropy},
    plan::Plans,
};
use backstay_store::{
    RegistryStore, Retention, Spool, StoreError, pseudonym_key,
    recorder::{Limits as RecorderLimits, Recorder},
    sqlite::{SqliteAlerts, SqliteReader, SqliteRecords, SqliteRegistry},
};
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;

use crate::{
    alerting, api,
    auth::Keys,
    dashboard,
    desk::{Desk, Pulse},
    gateway, health,
    metrics::Metrics,
    otlp::{Export, Exporter, Telemetry},
    scrape,
    state::{Limits, Peer, Server},
};

/// A client has this long to send the head of a request, and may leave its connection unused as long:
/// longer than the pools of the usual SDKs keep one, so that it is they who close it.
const HEAD_PATIENCE: Duration = Duration::from_secs(75);
/// Past the drain limit, what is cut off has this long to tell its client and to be recorded.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What was just told to somebody has this long to be marked as told.
const LAST_NOTICE: Duration = Duration::from_secs(3);
/// At most so many old alerts are dropped at once.
const MOST_DROPPED: usize = 10_000;
/// Connections at once; the next ones wait in the system's own queue.
const MOST_CONNECTIONS: usize = 10_000;
/// The head of a request is at most this large, in bytes.
const LARGEST_HEAD: usize = 64 << 10;

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The project.
    pub dir: PathBuf,
    /// Where to listen instead of where the project says.
    pub listen: Option<SocketAddr>,
    /// Whether calls are recorded.
    pub log: bool,
    /// Where the engine's random numbers start.
    pub seed: u64,
    /// Random bytes for the store's key of pseudonyms, if it has none yet.
    pub fresh_key: [u8; 32],
}

/// Why a server did not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The project has mistakes.
    #[error("the project has {} mistakes", .0.len())]
    Project(Vec<Mistake>),
    /// The project cannot be run.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Telemetry cannot be exported as the project asks.
    #[error("{0}")]
    Otlp(String),
    /// The recorder's thread does not start.
    #[error("the recorder's thread does not start: {0}")]
    Thread(std::io::Error),
    /// The address can be reached from other machines, and nobody needs a key.
    #[error(
        "{0} can be reached from other machines, and no API key is configured; make one with \
         `backstay keys create NAME`, or listen on 127.0.0.1"
    )]
    OpenToTheWorld(SocketAddr),
}

/// A server that has opened everything and listens, but does not answer yet.
#[derive(Debug)]
pub struct Started {
    server: Arc<Server>,
    listener: TcpListener,
    control: Arc<Mutex<Control>>,
    keeper: Keeper<SqliteReader>,
    watch: Watch,
    dir: PathBuf,
    /// The directory of the store.
    store: PathBuf,
    drain: Duration,
    warnings: Vec<String>,
    export: Option<Export>,
}

/// The part that changes plans.
#[derive(Debug)]
struct Control {
    compiler: Compiler,
    registry: SqliteRegistry,
    retention: Retention,
    delivery: Delivery,
    /// Where links in notifications lead, unless the project says where.
    address: SocketAddr,
    /// The `[otlp]` that the process was started with.
    otlp: Option<OtlpConfig>,
}

impl Control {
    fn plans(
        &mut self,
        project: &Project,
        now_ms: u64,
    ) -> Result<(Plans, Vec<String>), CompileError> {
        self.compiler.compile(project, &mut self.registry, now_ms)
    }
}

/// Opens the project and its store, and binds the address.
///
/// # Errors
/// See [`ServeError`]; nothing is left running.
pub async fn start(options: &Options) -> Result<Started, ServeError> {
    // Watched before it is loaded, so that no edit falls between the two.
    let watch = Watch::start(&options.dir);
    let project = load(&options.dir).map_err(ServeError::Project)?;
    let store = options.dir.join(&project.store.path);
    let registry = SqliteRegistry::open(&store)?;
    let keys = Keys::new(&registry.key_list()?);
    let address = options.listen.unwrap_or(project.server.listen);
    if !address.ip().is_loopback() && !keys.required() {
        return Err(ServeError::OpenToTheWorld(address));
    }
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })?;
    assemble(options, project, registry, (listener, keys, watch))
}

/// Puts all parts together around the engine, with the project's plans in force.
fn assemble(
    options: &Options,
    project: Project,
    mut registry: SqliteRegistry,
    (listener, keys, watch): (TcpListener, Keys, Watch),
) -> Result<Started, ServeError> {
    let store = options.dir.join(&project.store.path);
    let sink = if options.log { Sink::Log(open_log(&store)?) } else { Sink::Off };
    let telemetry = Telemetry::prepare(project.otlp.as_ref(), &options.dir, options.seed)
        .map_err(ServeError::Otlp)?;
    let otlp = telemetry.exporter;
    let metrics = Arc::new(Metrics::default());
    let pulse = Arc::new(Pulse::default());
    let engine = Engine::new(sink, Clock::System, Entropy::seeded(options.seed))
        .with_observers(observers(&metrics, &pulse, otlp.as_ref()))
        .with_sampling(otlp.as_ref().and_then(|exporter| exporter.sampling()));
    let engine = Arc::new(engine);
    let key = pseudonym_key::read_or_make(&store, &options.fresh_key)?;
    let key = PseudonymKey::new(&key).map_err(CompileError::Privacy)?;
    let mut compiler =
        Compiler::new(&options.dir, Arc::clone(engine.targets())).with_pseudonyms(key);
    let (plans, mut warnings) = compiler.compile(&project, &mut registry, now_ms(&engine))?;
    metrics.learn(&plans);
    engine.publish(plans);
    warnings.extend(telemetry.missing);
    let address = listener.local_addr().unwrap_or(project.server.listen);
    let (receivers, broken) = Receivers::build(&options.dir, &project, address);
    warnings.extend(broken);
    warnings.extend(dead_links(&project, address));
    let alerts = Box::new(SqliteAlerts::open(&store)?);
    let delivery = Delivery::new(alerts, receivers, Clock::System, !options.seed);
    let desk = Desk::new(store.clone(), SqliteAlerts::open(&store)?, pulse, now_ms(&engine));
    desk.set_receivers(&project.receivers);
    let keeper = alerting::open(&store, now_ms(&engine))?;
    let server = Server::new(engine, keys, limits(&project), desk, metrics).with_otlp(otlp);
    let server = Arc::new(server);
    server.set_policies(Policies::new(&project));
    Ok(Started {
        server,
        listener,
        control: Arc::new(Mutex::new(Control {
            compiler,
            registry,
            retention: retention(&project),
            delivery,
            address,
            otlp: project.otlp,
        })),
        keeper,
        watch,
        dir: options.dir.clone(),
        store,
        drain: project.server.drain,
        warnings,
        export: telemetry.export,
    })
}

/// Says that the links in notifications lead nowhere, if they do.
fn dead_links(project: &Project, address: SocketAddr) -> Option<String> {
    let dead = address.ip().is_unspecified()
        && project.server.url.is_none()
        && !project.receivers.is_empty();
    dead.then(|| {
        format!(
            "links in notifications would begin with http://{address}, which nobody can follow: say \
             in backstay.toml where people reach this server, as `[server] url`"
        )
    })
}

/// Everyone who is told of each call on its path, besides the call log.
fn observers(
    metrics: &Arc<Metrics>,
    pulse: &Arc<Pulse>,
    otlp: Option<&Arc<Exporter>>,
) -> Vec<Arc<dyn Observer>> {
    let otlp = otlp.map(|exporter| -> Arc<dyn Observer> { Arc::<Exporter>::clone(exporter) });
    let own: [Arc<dyn Observer>; 2] = [Arc::<Metrics>::clone(metrics), Arc::<Pulse>::clone(pulse)];
    own.into_iter().chain(otlp).collect()
}

/// Opens the call log; what an earlier process did not get to store is stored first.
fn open_log(dir: &Path) -> Result<Recorder, ServeError> {
    let (spool, recovered) = Spool::open(dir.join("spool"))?;
    let records = Box::new(SqliteRecords::open(dir)?);
    Recorder::start(records, Some((spool, recovered)), RecorderLimits::default())
        .map_err(ServeError::Thread)
}

fn now_ms(engine: &Engine) -> u64 {
    u64::try_from(engine.clock().since_epoch().as_millis()).unwrap_or(u64::MAX)
}

fn limits(project: &Project) -> Limits {
    Limits {
        calls: usize::try_from(project.server.max_in_flight).unwrap_or(usize::MAX),
        body: usize::try_from(project.server.max_body).unwrap_or(usize::MAX),
    }
}

fn retention(project: &Project) -> Retention {
    let log = &project.log;
    Retention { bodies: log.bodies, metadata: log.metadata, rollups: log.rollups }
}

impl Started {
    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What does not stop the server, but someone should know.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The engine, for those who run in the same process.
    #[must_use]
    pub fn engine(&self) -> Arc<Engine> {
        Arc::clone(self.server.engine())
    }

    /// The way to those who are told of alerts, for whoever finds out about them.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.control.lock().unwrap_or_else(PoisonError::into_inner).delivery.clone()
    }

    /// Answers requests until `stop`; then finishes what is under way, within the drain limit, and
    /// stores every record.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let delivery = self.delivery();
        let tasks = TaskTracker::new();
        let ending = CancellationToken::new();
        tasks.spawn(ending.clone().run_until_cancelled_owned(reload(
            Arc::clone(&self.server),
            Arc::clone(&self.control),
            (self.dir, self.watch),
        )));
        tasks.spawn(ending.clone().run_until_cancelled_owned(housekeeping(
            Arc::clone(&self.server),
            Arc::clone(&self.control),
        )));
        let exported = CancellationToken::new();
        let exporting = self.export.map(|export| {
            tasks.spawn(export.run(Arc::clone(self.server.engine()), exported.clone()))
        });
        tasks.spawn(
            ending.clone().run_until_cancelled_owned(api::tell_events(Arc::clone(&self.server))),
        );
        tasks.spawn(ending.clone().run_until_cancelled_owned(alerting::watch(
            Arc::clone(&self.server),
            self.keeper,
            (self.store, delivery.clone()),
        )));
        let until = ending.clone();
        let telling = tasks.spawn(async move { delivery.run(until).await });
        let app = gateway::routes()
            .merge(health::routes())
            .merge(scrape::routes())
            .merge(api::routes(&self.server))
            .merge(dashboard::routes())
            .with_state(Arc::clone(&self.server));
        let connections = GracefulShutdown::new();
        tokio::select! {
            () = accept(&self.listener, app, &connections, &tasks) => {}
            () = stop => {}
        }
        self.server.start_draining();
        self.server.desk().events().close();
        drop(self.listener);
        ending.cancel();
        tasks.close();
        drain(self.server.engine(), connections, self.drain).await;
        exported.cancel();
        close_log(self.server.engine()).await;
        if timeout(LAST_NOTICE, telling).await.is_err() {
            tracing::warn!("a notification may be sent again: nobody knows whether it arrived");
        }
        if let Some(exporting) = exporting
            && let Err(error) = exporting.await
        {
            tracing::error!(%error, "the export of telemetry ended in a panic");
        }
    }
}

/// Lets calls and connections end by themselves; past `limit`, ends them by name.
async fn drain(engine: &Engine, connections: GracefulShutdown, limit: Duration) {
    let mut drained = pin!(async {
        // Together: a connection that somebody keeps open must not hide that all calls ended.
        tokio::join!(connections.shutdown(), engine.drain());
    });
    if timeout(limit, &mut drained).await.is_ok() {
        return;
    }
    tracing::warn!(calls = engine.under_way(), "the drain limit passed; calls are ended by name");
    engine.cut_off_calls();
    if timeout(LAST_WORDS, drained).await.is_err() {
        tracing::warn!("clients that do not read their answers are cut off");
    }
}

/// Stores every record that is still queued.
async fn close_log(engine: &Engine) {
    let Sink::Log(recorder) = engine.sink() else { return };
    let recorder = recorder.clone();
    match tokio::task::spawn_blocking(move || recorder.close(Duration::from_secs(10))).await {
        Ok(accounting) if accounting.pending == 0 => {}
        Ok(accounting) => {
            tracing::warn!(
                records = accounting.pending,
                "not stored yet; the next start stores them"
            );
        }
        Err(error) => tracing::error!(%error, "closing the call log ended in a panic"),
    }
}

/// Tells the control API which machine a request came from. Calls need not know.
#[derive(Clone, Debug)]
struct WithPeer {
    app: Router,
    peer: IpAddr,
}

impl Service<Request<Incoming>> for WithPeer {
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        <Router as Service<Request<Incoming>>>::poll_ready(&mut self.app, context)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        if request.uri().path().starts_with("/api/") {
            request.extensions_mut().insert(Peer(self.peer));
        }
        self.app.call(request)
    }
}

/// Takes connections until the listener breaks for good.
async fn accept(
    listener: &TcpListener,
    app: Router,
    connections: &GracefulShutdown,
    tasks: &TaskTracker,
) {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(LARGEST_HEAD);
    http.http2().timer(TokioTimer::new()).max_header_list_size(64 << 10);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or a connection that was gone at once: others may still do.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let service = TowerToHyperService::new(WithPeer { app: app.clone(), peer: peer.ip() });
        let connection = http.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = connections.watch(connection);
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
}

/// Puts a changed project in force; a broken edit keeps the last good plans and says so.
async fn reload(
    server: Arc<Server>,
    control: Arc<Mutex<Control>>,
    (dir, mut watch): (PathBuf, Watch),
) {
    loop {
        watch.changed().await;
        let (server, control, dir) = (Arc::clone(&server), Arc::clone(&control), dir.clone());
        let reloaded = tokio::task::spawn_blocking(move || reload_once(&server, &control, &dir));
        if let Err(error) = reloaded.await {
            tracing::error!(%error, "reloading the project ended in a panic");
        }
    }
}

fn reload_once(server: &Server, control: &Mutex<Control>, dir: &Path) {
    let now_ms = now_ms(server.engine());
    let mut control = control.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = load(dir).map_err(|mistakes| {
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        lines.join("\n")
    });
    let made = loaded.and_then(|project| {
        let made = control.plans(&project, now_ms).map_err(|error| error.to_string())?;
        Ok((project, made))
    });
    match made {
        Ok((project, (plans, warnings))) => {
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            // First, so that the first call of a new release finds its counters.
            server.metrics().learn(&plans);
            server.engine().publish(plans);
            server.set_limits(limits(&project));
            server.desk().set_receivers(&project.receivers);
            server.set_policies(Policies::new(&project));
            control.retention = retention(&project);
            let (receivers, broken) = Receivers::build(dir, &project, control.address);
            let dead = dead_links(&project, control.address);
            broken.iter().chain(&dead).for_each(|warning| tracing::warn!("{warning}"));
            control.delivery.set_receivers(receivers);
            if project.otlp != control.otlp {
                tracing::warn!("the table [otlp] has changed; it takes effect at the next start");
            }
            server.set_broken(None);
            tracing::info!(calls = project.calls.len(), "the project was reloaded");
        }
        Err(why) => {
            tracing::error!("the project has mistakes, the last good one stays in force:\n{why}");
            server.set_broken(Some(why));
        }
    }
}

/// Notices new and revoked keys within a second, and drops what is older than its retention.
async fn housekeeping(server: Arc<Server>, control: Arc<Mutex<Control>>) {
    let mut ticks = interval(Duration::from_secs(1));
    let mut version = None;
    for second in 0_u64.. {
        ticks.tick().await;
        let (server, control) = (Arc::clone(&server), Arc::clone(&control));
        let done = tokio::task::spawn_blocking(move || {
            let control = control.lock().unwrap_or_else(PoisonError::into_inner);
            if second % 3600 == 5 {
                drop_old(&control, &server);
            }
            refresh_keys(&server, &control.registry, version)
        });
        version = done.await.unwrap_or(version);
    }
}

/// Drops what is older than its retention: calls, and alerts as long as the sums that tell of them.
fn drop_old(control: &Control, server: &Server) {
    let now_ms = now_ms(server.engine());
    if let Sink::Log(recorder) = server.engine().sink() {
        recorder.retain(now_ms, control.retention);
    }
    let kept = u64::try_from(control.retention.rollups.as_millis()).unwrap_or(u64::MAX);
    if let Err(error) = control.delivery.retain(now_ms.saturating_sub(kept), MOST_DROPPED) {
        tracing::warn!(%error, "old alerts could not be dropped; it is tried again in an hour");
    }
}

/// Reads the keys if the registry has changed since `version`.
fn refresh_keys(server: &Server, registry: &SqliteRegistry, version: Option<u64>) -> Option<u64> {
    let read = registry.version().and_then(|now| {
        if version != Some(now) {
            server.set_keys(Keys::new(&registry.key_list()?));
        }
        Ok(now)
    });
    match read {
        Ok(now) => Some(now),
        Err(error) => {
            tracing::warn!(%error, "the API keys could not be read; the last known ones hold");
            version
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_nobody_can_follow_are_warned_of() {
        let project = |toml: &str| {
            let dir = tempfile::TempDir::new().unwrap();
            std::fs::write(dir.path().join("backstay.toml"), toml).unwrap();
            load(dir.path()).unwrap()
        };
        let receiver = "[[alerts.notify]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\n";
        let url = "[server]\nurl = \"https://backstay.example.com\"\n";
        let any = SocketAddr::from(([0, 0, 0, 0], 4700));
        let told = dead_links(&project(receiver), any).unwrap();
        assert!(told.contains("http://0.0.0.0:4700") && told.contains("`[server] url`"), "{told}");
        for (toml, address) in [
            (receiver.to_owned(), SocketAddr::from(([127, 0, 0, 1], 4700))),
            (format!("{url}{receiver}"), any),
            (String::new(), any),
        ] {
            assert_eq!(dead_links(&project(&toml), address), None, "{toml}");
        }
    }
}
