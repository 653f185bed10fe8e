//! Receivers that refuse, hang, redirect or come late; and processes that are killed.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use backstay_control::notify::{Delivery, Pace};
use backstay_core::alert::{Alert, Severity};
use backstay_engine::clock::{Clock, Entropy};
use backstay_store::{
    AlertStore, MemoryStore, SqliteAlerts,
    alerts::{AlertChange, Event, Notice},
};
use tokio::net::TcpListener;

use crate::receivers::{Answer, Got, Hook, Office, alert, hasty, receivers, webhook};

/// An office with one webhook.
fn office(url: &str, pace: Pace) -> (Office<MemoryStore>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = MemoryStore::new();
    let receivers = receivers(dir.path(), &webhook("ops", url));
    (Office::open(store.clone(), Box::new(store), receivers, pace), dir)
}

#[tokio::test]
async fn an_alert_is_told_from_its_beginning_to_its_end() {
    let mut hook = Hook::start(&[]).await;
    let (mut office, _dir) = office(&format!("{}/hook/", hook.url), hasty());
    office.happens(&alert(1), Event::Firing);
    let firing = hook.next().await;
    assert_eq!((firing.status(), firing.path.as_str()), ("firing", "/hook/"));
    office.happens(&alert(1), Event::Renotify);
    let again = hook.next().await;
    office.happens(&alert(1), Event::Resolved);
    let resolved = hook.next().await;
    assert_eq!((again.status(), resolved.status()), ("firing", "resolved"));
    assert!(firing.key != again.key && again.key != resolved.key, "each is news");
    office.until("ops", |state| state.pending == 0 && state.last_ok_ms.is_some()).await;
    hook.nothing_more();
}

#[tokio::test]
async fn what_fails_is_tried_again_under_the_same_key() {
    let mut hook =
        Hook::start(&[Answer::Status(500), Answer::Status(503), Answer::Close, Answer::Hang]).await;
    let (mut office, _dir) = office(&hook.url, hasty());
    office.happens(&alert(1), Event::Firing);
    let first = hook.next().await;
    assert_eq!(first.path, "/");
    for _ in 0..4 {
        assert_eq!(hook.next().await.key, first.key);
    }
    office.until("ops", |state| state.pending == 0).await;
    hook.nothing_more();
}

#[tokio::test]
async fn a_receiver_that_forgets_hears_news_before_its_next_reminder() {
    let mut hook = Hook::start(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let store = MemoryStore::new();
    let url = &hook.url;
    let toml =
        format!("[[alerts.notify]]\nkind = \"alertmanager\"\nname = \"am\"\nurl = \"{url}\"\n");
    let pace = Pace { refresh: Duration::from_secs(3600), ..hasty() };
    let receivers = receivers(dir.path(), &toml);
    let mut office = Office::open(store.clone(), Box::new(store), receivers, pace);
    let severity = |got: &Got| got.body[0]["labels"]["severity"].clone();
    office.happens(&Alert { severity: Severity::Warn, ..alert(1) }, Event::Firing);
    assert_eq!(severity(&hook.next().await), "warn");
    office.until("am", |state| state.last_ok_ms.is_some()).await;
    office.happens(&Alert { severity: Severity::Page, ..alert(1) }, Event::Firing);
    assert_eq!(severity(&hook.next().await), "page");
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it() {
    let mut hook = Hook::start(&[Answer::With(429, "retry-after: 1800\r\n")]).await;
    let mut other = Hook::start(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let store = MemoryStore::new();
    let receivers =
        receivers(dir.path(), &(webhook("ops", &hook.url) + &webhook("other", &other.url)));
    let mut office = Office::open(store.clone(), Box::new(store), receivers, hasty());
    office.happens(&alert(1), Event::Firing);
    hook.next().await;
    office.until("ops", |state| state.last_error.is_some()).await;
    // What comes later waits too, whatever others hear meanwhile: it is the receiver that asked.
    for n in 2..12 {
        other.next().await;
        office.happens(&alert(n), Event::Firing);
    }
    other.next().await;
    let waiting = office.store.outbox("ops", 99).unwrap();
    let ahead = waiting[0].due_ms - waiting[0].created_ms;
    assert!((1_800_000..1_900_000).contains(&ahead), "{ahead}");
    assert!(!waiting[0].told, "it said that it did not take it");
    assert_eq!(waiting.iter().map(|one| one.attempts).sum::<u32>(), 1);
    let state =
        office.store.receivers().unwrap().into_iter().find(|one| one.name == "ops").unwrap();
    assert_eq!(state.pending, 11);
    assert!(state.last_error.as_ref().unwrap().contains("(429)"), "{state:?}");
    hook.nothing_more();
}

#[tokio::test]
async fn a_redirect_is_a_failure() {
    let mut elsewhere = Hook::start(&[]).await;
    let location: &'static str = format!("location: {}/\r\n", elsewhere.url).leak();
    let mut hook = Hook::start(&[Answer::With(307, location)]).await;
    let (mut office, _dir) = office(&hook.url, hasty());
    office.happens(&alert(1), Event::Firing);
    hook.next().await;
    hook.next().await;
    office.until("ops", |state| state.pending == 0).await;
    elsewhere.nothing_more();
}

#[tokio::test]
async fn one_bad_notification_does_not_hold_up_the_next() {
    let mut hook = Hook::start(&[Answer::With(400, "retry-after: 1800\r\n")]).await;
    let (mut office, _dir) = office(&hook.url, hasty());
    office.happens(&alert(1), Event::Firing);
    hook.next().await;
    office.until("ops", |state| state.last_error.is_some()).await;
    office.happens(&alert(2), Event::Firing);
    assert_eq!(hook.next().await.body["groupLabels"]["call"], "call-2");
    office.until("ops", |state| state.pending == 1).await;
}

#[tokio::test]
async fn a_slow_receiver_holds_up_nobody_else() {
    let mut slow = Hook::start(&[Answer::Hang]).await;
    let mut quick = Hook::start(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let toml = webhook("slow", &slow.url) + &webhook("quick", &quick.url);
    let store = MemoryStore::new();
    let patient = Pace { patience: Duration::from_secs(3600), ..hasty() };
    let receivers = receivers(dir.path(), &toml);
    let mut office = Office::open(store.clone(), Box::new(store), receivers, patient);
    office.happens(&alert(1), Event::Firing);
    slow.next().await;
    quick.next().await;
    office.happens(&alert(2), Event::Firing);
    quick.next().await;
    office.until("quick", |state| state.pending == 0).await;
    office.until("slow", |state| state.pending == 2).await;
    slow.nothing_more();
}

#[tokio::test]
async fn the_end_of_what_nobody_heard_of_is_not_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (mut office, _dir) = office(&format!("http://{address}"), hasty());
    office.happens(&alert(1), Event::Firing);
    office.until("ops", |state| state.last_error.is_some()).await;
    office.happens(&alert(1), Event::Resolved);
    office.until("ops", |state| state.pending == 0).await;
    assert_eq!(office.store.receivers().unwrap()[0].given_up, 0);
    // It is there again, and hears of the next one only.
    let mut hook = Hook::on(TcpListener::bind(address).await.unwrap(), &[]);
    office.happens(&alert(2), Event::Firing);
    assert_eq!(hook.next().await.body["groupLabels"]["call"], "call-2");
    office.until("ops", |state| state.pending == 0).await;
    hook.nothing_more();
}

#[tokio::test]
async fn the_end_of_what_may_have_arrived_is_told() {
    let mut hook = Hook::start(&[Answer::Status(500)]).await;
    let slow =
        Pace { first: Duration::from_secs(3600), most: Duration::from_secs(3600), ..hasty() };
    let (mut office, _dir) = office(&hook.url, slow);
    office.happens(&alert(1), Event::Firing);
    assert_eq!(hook.next().await.status(), "firing");
    office.until("ops", |state| state.last_error.is_some()).await;
    office.happens(&alert(1), Event::Resolved);
    // A new project makes it look again at once.
    let dir = tempfile::tempdir().unwrap();
    office.delivery.set_receivers(receivers(dir.path(), &webhook("ops", &hook.url)));
    assert_eq!(hook.next().await.status(), "resolved");
    office.until("ops", |state| state.pending == 0).await;
    hook.nothing_more();
}

#[tokio::test]
async fn what_cannot_be_told_is_given_up_and_counted() {
    let mut hook = Hook::start(&vec![Answer::Status(500); 1000]).await;
    let brief = Pace { give_up: Duration::from_millis(50), ..hasty() };
    let (mut office, _dir) = office(&hook.url, brief);
    office.happens(&alert(1), Event::Firing);
    hook.next().await;
    office.until("ops", |state| state.given_up == 1 && state.pending == 0).await;
    let why = office.store.receivers().unwrap()[0].last_error.clone().unwrap();
    assert!(why.contains("50ms"), "{why}");
}

#[tokio::test]
async fn alertmanager_is_reminded_until_the_end() {
    let mut manager = Hook::start(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let toml = format!(
        "[[alerts.notify]]\nkind = \"alertmanager\"\nname = \"am\"\nurl = \"{}/am/\"\n",
        manager.url
    );
    let store = MemoryStore::new();
    let receivers = receivers(dir.path(), &toml);
    let mut office = Office::open(store.clone(), Box::new(store), receivers, hasty());
    office.happens(&alert(1), Event::Firing);
    let mut keys = std::collections::HashSet::new();
    for _ in 0..4 {
        let got = manager.next().await;
        assert_eq!(got.path, "/am/api/v2/alerts");
        let ends = got.body[0]["endsAt"].as_str().unwrap().to_owned();
        let starts = got.body[0]["startsAt"].as_str().unwrap();
        assert!(ends.as_str() > starts, "{ends}");
        assert!(keys.insert(got.key), "each reminder is another one");
    }
    // It repeats by itself, so nobody is told once more by us.
    assert_eq!(office.delivery.notices(&alert(1), Event::Renotify, 0), []);
    office.happens(&alert(1), Event::Resolved);
    let end = loop {
        let got = manager.next().await;
        if got.body[0]["endsAt"] == "2026-11-23T12:01:00.000Z" {
            break got;
        }
    };
    assert_eq!(end.body[0]["labels"]["alertname"], "BackstayErrorRate");
    let settled = async {
        while !office.store.outbox("am", 9).unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::receivers::SOON, settled).await.unwrap();
    manager.nothing_more();
}

#[tokio::test]
async fn receivers_hear_what_they_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let toml = "[[alerts.notify]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1\"\ncalls = [\"call-1\"]\n\
                [[alerts.notify]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1\"\nsend_resolved = false\n";
    let receivers = receivers(dir.path(), toml);
    let names = |n, event| -> Vec<String> {
        let notices: Vec<Notice> = receivers.notices(&alert(n), event, 0);
        notices.into_iter().map(|notice| notice.receiver).collect()
    };
    assert_eq!(names(1, Event::Firing), ["webhook-1", "webhook-2"]);
    assert_eq!(names(2, Event::Firing), ["webhook-2"]);
    assert_eq!(names(1, Event::Resolved), ["webhook-1"]);
    assert_eq!(names(1, Event::Refresh), Vec::<String>::new());
}

/// The address of a receiver is as good as a password.
#[tokio::test]
async fn nobody_learns_the_address_of_a_receiver() {
    let mut hook = Hook::start(&[Answer::Status(404), Answer::Close, Answer::Hang]).await;
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("url");
    std::fs::write(&secret, format!("{}/hunter2?token=hunter2\n", hook.url)).unwrap();
    let toml = "[[alerts.notify]]\nkind = \"slack\"\nname = \"ops\"\nurl = \"file:url\"\n";
    let receivers = receivers(dir.path(), toml);
    let shown = format!("{receivers:?}");
    let stored = dir.path().join("store");
    let mut office = Office::open(
        SqliteAlerts::open(&stored).unwrap(),
        Box::new(SqliteAlerts::open(&stored).unwrap()),
        receivers,
        hasty(),
    );
    let mut said = Vec::new();
    office.happens(&alert(1), Event::Firing);
    for _ in 0..3 {
        assert_eq!(hook.next().await.path, "/hunter2?token=hunter2");
        let before = said.last().cloned();
        office.until("ops", |state| state.last_error.is_some() && state.last_error != before).await;
        said.extend(office.store.receivers().unwrap()[0].last_error.clone());
    }
    hook.next().await;
    office.until("ops", |state| state.pending == 0).await;
    office.stop.cancel();
    let address = hook.url.strip_prefix("http://").unwrap();
    for text in said.iter().chain([&shown]) {
        assert!(!text.contains("hunter2") && !text.contains(address), "{text}");
    }
    for entry in std::fs::read_dir(&stored).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(7).any(|part| part == b"hunter2"));
    }
}

#[tokio::test]
async fn a_missing_secret_is_told_and_what_waits_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let toml = "[[alerts.notify]]\nkind = \"slack\"\nname = \"ops\"\nurl = \"file:nowhere\"\n";
    std::fs::write(dir.path().join("backstay.toml"), toml).unwrap();
    let project = backstay_control::project::load(dir.path()).unwrap();
    let (broken, warnings) =
        backstay_control::notify::Receivers::build(dir.path(), &project, project.server.listen);
    assert!(warnings[0].contains("`ops`") && warnings[0].contains("file:nowhere"), "{warnings:?}");
    let store = MemoryStore::new();
    let mut office = Office::open(store.clone(), Box::new(store), broken, hasty());
    office.happens(&alert(1), Event::Firing);
    office.until("ops", |state| state.last_error.is_some()).await;
    let mut hook = Hook::start(&[]).await;
    std::fs::write(dir.path().join("nowhere"), &hook.url).unwrap();
    office.delivery.set_receivers(receivers(dir.path(), toml));
    assert!(hook.next().await.body["text"].as_str().unwrap().contains("call-1"));
    office.until("ops", |state| state.pending == 0).await;
}

const DIR: &str = "BACKSTAY_TEST_DELIVERY_DIR";

#[tokio::test]
#[ignore = "body of a child process of a_killed_process_tells_it_again"]
async fn child_delivers_until_it_is_killed() {
    let dir = std::path::PathBuf::from(std::env::var_os(DIR).unwrap());
    let toml = std::fs::read_to_string(dir.join("backstay.toml")).unwrap();
    let own = Box::new(SqliteAlerts::open(dir.join("store")).unwrap());
    let clock = (Clock::System, Entropy::seeded(1));
    let patient = Pace { patience: Duration::from_secs(3600), ..hasty() };
    let delivery = Delivery::with_pace(own, receivers(&dir, &toml), clock, patient);
    delivery.run(tokio_util::sync::CancellationToken::new()).await;
}

fn child(dir: &std::path::Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["delivery::child_delivers_until_it_is_killed", "--exact", "--ignored"])
        .env(DIR, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_killed_process_tells_it_again() {
    let mut hook = Hook::start(&[Answer::Hang]).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("backstay.toml"), webhook("ops", &hook.url)).unwrap();
    let mut store = SqliteAlerts::open(dir.path().join("store")).unwrap();
    let now_ms = u64::try_from(Clock::System.since_epoch().as_millis()).unwrap();
    let notice =
        |event| Notice { alert: alert(1).id, receiver: "ops".to_owned(), event, due_ms: now_ms };
    let change = AlertChange {
        alerts: vec![alert(1)],
        notices: vec![notice(Event::Firing)],
        at_ms: now_ms,
        ..AlertChange::default()
    };
    store.save(&change).unwrap();
    let mut first = child(dir.path());
    let firing = hook.next().await;
    first.kill().unwrap();
    first.wait().unwrap();
    let queued = &store.outbox("ops", 9).unwrap()[0];
    assert_eq!((queued.attempts, queued.told), (1, true), "nobody knows whether it arrived");
    let mut second = child(dir.path());
    assert_eq!(hook.next().await.key, firing.key, "so it is told again, under the same key");
    let settled = async {
        while !store.outbox("ops", 9).unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::receivers::SOON, settled).await.unwrap();
    second.kill().unwrap();
    second.wait().unwrap();
    hook.nothing_more();
}
