//! A real Alertmanager: it takes what is posted, passes it on, and forgets it in the end. The lane
//! `alertmanager` of `cargo xtask test` runs this where the program is installed.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use backstay_control::notify::Pace;
use backstay_store::{MemoryStore, alerts::Event};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::receivers::{Hook, Office, SOON, alert, hasty, receivers, webhook};

/// Ends with its test.
struct Manager {
    child: Child,
    address: SocketAddr,
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Manager {
    /// An Alertmanager that passes everything on to `hook`, at once.
    async fn start(dir: &Path, hook: &str) -> Self {
        let config = format!(
            "route: {{receiver: hook, group_by: [alertname, call], group_wait: 100ms, \
             group_interval: 1s, repeat_interval: 1h}}\n\
             receivers: [{{name: hook, webhook_configs: [{{url: \"{hook}\", send_resolved: true}}]}}]\n"
        );
        std::fs::write(dir.join("alertmanager.yml"), config).unwrap();
        // The system gives a free port, and hardly gives it again at once.
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", dir.join("alertmanager.yml").display()))
            .arg(format!("--storage.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stderr(Stdio::null())
            .spawn()
            .expect(
                "Alertmanager is not installed: cargo xtask test --only alertmanager does that",
            );
        let manager = Self { child, address };
        until("Alertmanager to be ready", async || manager.get("/-/ready").await).await;
        manager
    }

    /// The body of an answer with success.
    async fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.split(' ').nth(1).filter(|status| *status == "200").map(|_| body.to_owned())
    }

    /// What it holds for active, by its API.
    async fn active(&self) -> Vec<Value> {
        let listed = self.get("/api/v2/alerts?active=true").await.unwrap();
        serde_json::from_str(&listed).unwrap()
    }
}

/// Looks until `look` sees something.
async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, looking).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
#[ignore = "body of a child process of the lane `alertmanager`, which installs what it needs"]
async fn alertmanager_takes_alerts_passes_them_on_and_forgets_them() {
    let mut passed_on = Hook::start(&[]).await;
    let mut own = Hook::start(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), &passed_on.url).await;
    let toml = format!(
        "[[alerts.notify]]\nkind = \"alertmanager\"\nname = \"am\"\nurl = \"http://{}\"\n{}",
        manager.address,
        webhook("own", &own.url)
    );
    let store = MemoryStore::new();
    let pace = Pace { refresh: Duration::from_millis(500), ..hasty() };
    let receivers = receivers(dir.path(), &toml);
    let mut office = Office::open(store.clone(), Box::new(store), receivers, pace);
    office.happens(&alert(1), Event::Firing);
    let listed = until("the alert", async || manager.active().await.pop()).await;
    assert_eq!(listed["labels"]["alertname"], "BackstayErrorRate");
    assert_eq!(listed["labels"]["call"], "call-1");
    assert_eq!(listed["status"]["state"], "active");
    assert_eq!(listed["startsAt"], "2026-11-23T12:00:00.000Z");
    assert_eq!(listed["annotations"]["top_failure"], "schema");
    // It is reminded before it forgets.
    let ends = |listed: &Value| listed["endsAt"].as_str().unwrap().to_owned();
    let first = ends(&listed);
    until("a reminder", async || {
        let now = manager.active().await.pop()?;
        (ends(&now) > first).then_some(())
    })
    .await;
    // Our own webhook has the shape of what it passes on, down to the identity of the alert.
    let theirs = passed_on.next().await.body;
    let ours = own.next().await.body;
    assert_eq!(keys(&theirs), keys(&ours));
    assert_eq!(keys(&theirs["alerts"][0]), keys(&ours["alerts"][0]));
    assert_eq!(theirs["groupKey"], ours["groupKey"]);
    assert_eq!(theirs["alerts"][0]["fingerprint"], ours["alerts"][0]["fingerprint"]);
    assert_eq!(theirs["alerts"][0]["labels"], ours["alerts"][0]["labels"]);
    assert_eq!(theirs["commonAnnotations"], ours["commonAnnotations"]);
    assert_eq!((&theirs["version"], &theirs["status"]), (&ours["version"], &ours["status"]));
    office.happens(&alert(1), Event::Resolved);
    until("the end of the alert", async || manager.active().await.is_empty().then_some(())).await;
    assert_eq!(passed_on.next().await.status(), "resolved");
    assert_eq!(own.next().await.status(), "resolved");
}
