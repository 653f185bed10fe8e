//! Calls of a simulated provider, stored as a gateway stores them, and an evaluator that reads them from
//! there: in accelerated time.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use backstay_control::{
    alerts::{Keeper, Policies},
    compile::Compiler,
    project::load,
};
use backstay_core::alert::{
    Alert, Rule, Stage,
    machine::{Change, Transition},
};
use backstay_engine::{
    Engine, Sink,
    clock::{Clock, Entropy},
    plan::Address,
    request::{Client, Request},
};
use backstay_store::{
    AlertStore, Entry, RecordStore, SqliteAlerts, SqliteReader, SqliteRecords, SqliteRegistry,
    alerts::{AlertFilter, Notice},
};
use bytes::Bytes;
use serde_json::{Map, json};
use tokio::time::{Instant, advance};

/// A Thursday, 00:00 UTC.
const START: Duration = Duration::from_secs(1_795_651_200);

/// A gateway whose time a test moves.
struct Gateway {
    dir: tempfile::TempDir,
    engine: Arc<Engine>,
    compiler: Compiler,
    registry: SqliteRegistry,
    records: SqliteRecords,
    keeper: Keeper<SqliteReader>,
    policies: Policies,
}

fn write_project(dir: &Path, faults: &str) {
    let call = dir.join("calls/extract");
    fs::create_dir_all(&call).unwrap();
    fs::write(
        dir.join("backstay.toml"),
        format!("[providers.sim]\nseed = 3\nfaults = [{faults}]\n"),
    )
    .unwrap();
    let toml =
        "route = [\"sim/m\"]\n[budget]\nattempts = 1\nrepair = 0\n[degrade]\norder = [\"error\"]\n";
    fs::write(call.join("call.toml"), toml).unwrap();
    fs::write(call.join("user.j2"), "Read {{ document }}.").unwrap();
    let schema =
        r#"{"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}"#;
    fs::write(call.join("output.schema.json"), schema).unwrap();
}

impl Gateway {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_project(dir.path(), "");
        let clock = Clock::Simulated { base: START, start: Instant::now() };
        let engine = Engine::new(Sink::Memory(Mutex::default()), clock, Entropy::seeded(5));
        let engine = Arc::new(engine);
        let store = dir.path().join(".backstay");
        let registry = SqliteRegistry::open(&store).unwrap();
        let records = SqliteRecords::open(&store).unwrap();
        let alerts = Box::new(SqliteAlerts::open(&store).unwrap());
        let keeper = Keeper::open(alerts, SqliteReader::open(&store), 0).unwrap();
        let compiler = Compiler::new(dir.path(), Arc::clone(engine.targets()));
        let policies = Policies::new(&load(dir.path()).unwrap());
        let mut it = Self { dir, engine, compiler, registry, records, keeper, policies };
        it.faults("");
        it
    }

    fn faults(&mut self, faults: &str) {
        write_project(self.dir.path(), faults);
        let project = load(self.dir.path()).unwrap();
        let (plans, _) = self.compiler.compile(&project, &mut self.registry, 0).unwrap();
        self.engine.publish(plans);
    }

    fn alerts(&self) -> SqliteAlerts {
        SqliteAlerts::open(self.dir.path().join(".backstay")).unwrap()
    }

    async fn call(&self) {
        let body: Map<_, _> = Map::new();
        let request = Request {
            id: self.engine.new_id(),
            received: Instant::now(),
            client: Client::Native,
            address: Address { model: "extract".to_owned(), call: None, release: None },
            body: Arc::new(body),
            raw: Bytes::from_static(b"{}"),
            inputs: Some(json!({"document": "an invoice"})),
            unit: None,
            stream: false,
            include_usage: false,
            deadline: None,
            trace: None,
        };
        drop(self.engine.call(request).await);
    }

    /// Ten seconds with so many calls, and a look at their end.
    async fn ten_seconds(&mut self, calls: u32) -> Vec<Transition> {
        self.stretch(Duration::from_secs(10), calls).await
    }

    /// Hours with two calls in half a minute and a look at its end, which is as seldom as time still
    /// counts.
    async fn hours(&mut self, hours: u32) -> Vec<Transition> {
        let mut seen = Vec::new();
        for _ in 0..hours * 120 {
            seen.extend(self.stretch(Duration::from_secs(30), 2).await);
        }
        seen
    }

    async fn stretch(&mut self, lasts: Duration, calls: u32) -> Vec<Transition> {
        for _ in 0..calls {
            advance(lasts / calls).await;
            self.call().await;
        }
        let Sink::Memory(kept) = self.engine.sink() else { panic!("this sink is memory") };
        let records: Vec<_> = kept.lock().unwrap().drain(..).collect();
        let batch: Vec<_> = records.into_iter().map(|it| Entry::Call(Box::new(it))).collect();
        self.records.append(&batch).unwrap();
        while self.records.roll_up().unwrap() {}
        let now_ms = u64::try_from(self.engine.clock().since_epoch().as_millis()).unwrap();
        let told = |alert: &Alert, event, due_ms| {
            vec![Notice { alert: alert.id, receiver: "ops".to_owned(), event, due_ms }]
        };
        self.keeper.look(now_ms, &self.engine, &self.policies, &told)
    }
}

#[tokio::test(start_paused = true)]
async fn broken_answers_are_told_within_the_published_delay() {
    let mut gateway = Gateway::start();
    // What is usual is learned from 420 calls of the first hour and a bit.
    for _ in 0..70 * 6 {
        let changes = gateway.ten_seconds(1).await;
        assert_eq!(changes, [], "nothing is wrong");
    }
    // 100 calls a minute, of which 3 in 100 are malformed JSON.
    gateway.faults("{ fault = \"malformed-json\", rate = \"3%\" }");
    let mut seen = Vec::new();
    for look in 0..40 * 6_u32 {
        let calls = if look % 3 == 0 { 16 } else { 17 };
        let minutes = f64::from(look + 1) / 6.0;
        let changes = gateway.ten_seconds(calls).await;
        seen.extend(changes.into_iter().map(|change| (minutes, change)));
        if seen.iter().any(|(_, it)| it.alert.subject.rule == Rule::ErrorRate) {
            break;
        }
    }
    let first = |rule| seen.iter().find(|(_, it)| it.alert.subject.rule == rule);
    let (minutes, quality) = first(Rule::Quality).expect("the rung is named");
    assert!(*minutes <= 10.0, "after {minutes} minutes");
    assert_eq!(quality.alert.subject.detail.as_deref(), Some("parsed"));
    let (minutes, error_rate) = first(Rule::ErrorRate).expect("the share of failures is told");
    assert!(*minutes <= 30.0, "after {minutes} minutes");
    let alert = &error_rate.alert;
    assert_eq!(alert.top_failure.as_deref(), Some("malformed"));
    assert_eq!(alert.release.as_deref(), Some("extract@1"));
    assert_eq!(alert.samples.len(), 3, "{alert:?}");
    let store = gateway.alerts();
    let firing = AlertFilter { stages: vec![Stage::Firing], ..AlertFilter::default() };
    let stored = store.history(&firing).unwrap();
    assert!(stored.iter().any(|it| it.id == alert.id), "{stored:?}");
    let waiting = store.outbox("ops", 10).unwrap();
    assert!(waiting.iter().any(|it| it.alert.id == alert.id), "it is to be told");
    let others: Vec<_> = seen.iter().map(|(_, it)| it.alert.subject.rule).collect();
    assert!(others.iter().all(|it| [Rule::Quality, Rule::ErrorRate].contains(it)), "{others:?}");
}

#[tokio::test(start_paused = true)]
async fn an_alert_outlives_the_process() {
    let mut gateway = Gateway::start();
    gateway.faults("{ fault = \"wrong-type\", rate = \"60%\" }");
    let mut fired = Vec::new();
    for _ in 0..6 {
        fired.extend(gateway.ten_seconds(10).await);
    }
    assert!(!fired.is_empty());
    let store = Box::new(gateway.alerts());
    let reader = SqliteReader::open(gateway.dir.path().join(".backstay"));
    gateway.keeper = Keeper::open(store, reader, 0).unwrap();
    let mut again = Vec::new();
    for _ in 0..6 {
        again.extend(gateway.ten_seconds(10).await);
    }
    let of_errors = |changes: &[Transition]| {
        changes.iter().filter(|it| it.alert.subject.rule == Rule::ErrorRate).count()
    };
    assert!(of_errors(&fired) > 0);
    assert_eq!(of_errors(&again), 0, "it was told before: {again:?}");
    let firing = gateway.keeper.board().firing().next().unwrap();
    assert!(fired.iter().any(|it| it.alert.id == firing.id));
}

/// The rungs whose alerts changed so.
fn rungs(changes: &[Transition], change: Change) -> Vec<&str> {
    let own = changes.iter().filter(|it| it.change == change);
    own.filter_map(|it| it.alert.subject.detail.as_deref()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_incident_is_noticed_again_and_a_lasting_change_is_not() {
    let mut gateway = Gateway::start();
    assert_eq!(gateway.hours(3).await, []);
    let broken = "{ fault = \"malformed-json\", rate = \"10%\" }";
    gateway.faults(broken);
    assert_eq!(rungs(&gateway.hours(6).await, Change::Fired), ["parsed"]);
    gateway.faults("");
    // Over midnight, after which all is learned anew.
    assert_eq!(rungs(&gateway.hours(17).await, Change::Resolved), ["parsed"]);
    let store = Box::new(gateway.alerts());
    let reader = SqliteReader::open(gateway.dir.path().join(".backstay"));
    gateway.keeper = Keeper::open(store, reader, 0).unwrap();
    gateway.faults(broken);
    let changes = gateway.hours(26).await;
    assert_eq!(rungs(&changes, Change::Fired), ["parsed"]);
    assert_eq!(rungs(&changes, Change::Resolved), ["parsed"]);
    let over = AlertFilter { stages: vec![Stage::Resolved], ..AlertFilter::default() };
    let stored = gateway.alerts().history(&over).unwrap();
    let usual = |alert: &&Alert| {
        alert.arithmetic.ends_with("; it has lasted for a day, and is what is usual from now on")
    };
    let ended: Vec<_> = stored.iter().filter(usual).map(|alert| alert.subject.rule).collect();
    assert_eq!(ended, [Rule::Quality], "{stored:#?}");
}
