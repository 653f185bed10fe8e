//! Receivers that answer as a test says, and alerts to tell them.

use std::{path::Path, sync::Arc, time::Duration};

use backstay_control::{
    notify::{Delivery, Pace, Receivers},
    project::load,
};
use backstay_core::{
    alert::{Alert, Rule, Severity, Stage, Subject},
    record::{CallId, Variant},
};
use backstay_engine::clock::{Clock, Entropy};
use backstay_store::{
    AlertStore,
    alerts::{AlertChange, Event, ReceiverState},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc},
    time::timeout,
};

/// No test waits for longer than this for what has to happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// How a receiver answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Status(u16),
    With(u16, &'static str),
    /// Takes the request and says nothing.
    Hang,
    /// Takes the request and closes the connection.
    Close,
}

/// What a receiver got.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) path: String,
    pub(crate) key: String,
    pub(crate) body: serde_json::Value,
}

impl Got {
    /// `firing` or `resolved`, of the generic webhook.
    pub(crate) fn status(&self) -> &str {
        self.body["status"].as_str().unwrap()
    }
}

/// An HTTP server that answers as it was told, and then with 200.
#[derive(Debug)]
pub(crate) struct Hook {
    pub(crate) url: String,
    got: mpsc::UnboundedReceiver<Got>,
}

impl Hook {
    pub(crate) async fn start(answers: &[Answer]) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answers)
    }

    pub(crate) fn on(listener: TcpListener, answers: &[Answer]) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut answers = answers.to_vec();
        answers.reverse();
        let answers = Arc::new(Mutex::new(answers));
        let (told, got) = mpsc::unbounded_channel();
        let serve = async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                spawn(answer(stream, Arc::clone(&answers), told.clone()));
            }
        };
        spawn(serve);
        Self { url, got }
    }

    pub(crate) async fn next(&mut self) -> Got {
        timeout(SOON, self.got.recv()).await.expect("nothing came").unwrap()
    }

    pub(crate) fn nothing_more(&mut self) {
        assert!(self.got.try_recv().is_err());
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of its test")]
    drop(tokio::spawn(task));
}

async fn answer(
    mut stream: TcpStream,
    answers: Arc<Mutex<Vec<Answer>>>,
    told: mpsc::UnboundedSender<Got>,
) {
    while let Some(got) = read(&mut stream).await {
        let answer = answers.lock().await.pop().unwrap_or(Answer::Status(200));
        if told.send(got).is_err() {
            return;
        }
        let (status, headers) = match answer {
            Answer::Status(status) => (status, ""),
            Answer::With(status, headers) => (status, headers),
            Answer::Hang => std::future::pending().await,
            Answer::Close => return,
        };
        let reply = format!("HTTP/1.1 {status} x\r\n{headers}content-length: 2\r\n\r\nok");
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Got> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let length: usize = header("content-length").parse().unwrap();
    while bytes.len() < end + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    Some(Got {
        path: head.split(' ').nth(1).unwrap().to_owned(),
        key: header("idempotency-key"),
        body: serde_json::from_slice(&bytes[end..end + length]).unwrap(),
    })
}

pub(crate) fn alert(n: u8) -> Alert {
    Alert {
        id: CallId::new(Duration::from_millis(1_795_435_200_000), [n; 10]),
        subject: Subject {
            rule: Rule::ErrorRate,
            call: format!("call-{n}"),
            release: None,
            target: None,
            detail: None,
        },
        severity: Severity::Page,
        stage: Stage::Firing,
        started_ms: 1_795_435_200_000,
        fired_ms: Some(1_795_435_200_000),
        resolved_ms: None,
        summary: "9 of 100 calls failed".to_owned(),
        arithmetic: "9/100 = 9 % > 2 %".to_owned(),
        value: Some(0.09),
        threshold: Some(0.02),
        release: None,
        variant: Some(Variant::Stable),
        top_failure: Some("schema".to_owned()),
        samples: Vec::new(),
    }
}

/// A project whose receivers are those of `toml`.
pub(crate) fn receivers(dir: &Path, toml: &str) -> Receivers {
    std::fs::write(dir.join("backstay.toml"), toml).unwrap();
    let project = load(dir).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let (receivers, warnings) = Receivers::build(dir, &project, project.server.listen);
    assert_eq!(warnings, Vec::<String>::new());
    receivers
}

pub(crate) fn webhook(name: &str, url: &str) -> String {
    format!("[[alerts.notify]]\nkind = \"webhook\"\nname = \"{name}\"\nurl = \"{url}\"\n")
}

pub(crate) fn hasty() -> Pace {
    Pace {
        first: Duration::from_millis(2),
        most: Duration::from_millis(20),
        refresh: Duration::from_millis(20),
        patience: Duration::from_millis(300),
        ..Pace::default()
    }
}

/// A delivery that runs until its test ends, and the store beside it.
pub(crate) struct Office<S> {
    pub(crate) delivery: Delivery,
    pub(crate) store: S,
    pub(crate) stop: tokio_util::sync::CancellationToken,
}

impl<S: AlertStore> Office<S> {
    pub(crate) fn open(
        store: S,
        own: Box<dyn AlertStore>,
        receivers: Receivers,
        pace: Pace,
    ) -> Self {
        let clock = (Clock::System, Entropy::seeded(1));
        let delivery = Delivery::with_pace(own, receivers, clock, pace);
        let stop = tokio_util::sync::CancellationToken::new();
        let (running, until) = (delivery.clone(), stop.clone());
        spawn(async move { running.run(until).await });
        Self { delivery, store, stop }
    }

    /// As the evaluator does it.
    pub(crate) fn happens(&mut self, alert: &Alert, event: Event) {
        let mut alert = alert.clone();
        if event == Event::Resolved {
            alert.stage = Stage::Resolved;
            alert.resolved_ms = Some(alert.started_ms + 60_000);
        }
        let at_ms = u64::try_from(Clock::System.since_epoch().as_millis()).unwrap();
        let notices = self.delivery.notices(&alert, event, at_ms);
        let change = AlertChange { alerts: vec![alert], notices, at_ms, ..AlertChange::default() };
        self.store.save(&change).unwrap();
        self.delivery.ring();
    }

    /// Waits until the receiver does as `wanted`.
    pub(crate) async fn until(&self, name: &str, wanted: impl Fn(&ReceiverState) -> bool) {
        let settled = async {
            loop {
                let states = self.store.receivers().unwrap();
                if states.iter().any(|state| state.name == name && wanted(state)) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        if timeout(SOON, settled).await.is_err() {
            panic!("{name}: {:?}", self.store.receivers().unwrap());
        }
    }
}
