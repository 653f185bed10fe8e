//! `/metrics` over HTTP: who may read it, and that no client can make it grow.

use std::collections::BTreeSet;

use serde_json::json;
use tokio::time::{Duration, sleep, timeout};

use crate::harness::{Ask, Files, Gateway, Told, Upstream};

fn files(upstream: &Upstream) -> Files {
    vec![
        ("backstay.toml".into(), upstream.provider("up", "openai")),
        ("calls/chat/call.toml".into(), "route = [\"up/chat/ok\"]\n".into()),
        (
            "calls/weather/call.toml".into(),
            "route = [\"up/weather/ok\", \"up/weather/http-500\"]\n".into(),
        ),
    ]
}

fn ask(model: &str) -> Ask {
    let messages = json!([{ "role": "user", "content": "How will the wind be?" }]);
    Ask::json("/v1/chat/completions", &json!({ "model": model, "messages": messages }))
}

fn text(told: &Told) -> String {
    String::from_utf8(told.body.to_vec()).unwrap()
}

/// The page as text.
async fn scrape(gateway: &Gateway) -> String {
    let told = gateway.send(Ask::get("/metrics")).await;
    assert_eq!((told.status, told.header("cache-control")), (200, "no-store"), "{told:?}");
    assert_eq!(told.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    text(&told)
}

fn samples(page: &str) -> usize {
    page.lines().filter(|line| !line.starts_with('#')).count()
}

/// Every value of a label on the page.
fn values<'a>(page: &'a str, label: &str) -> BTreeSet<&'a str> {
    let start = format!("{label}=\"");
    page.lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once(&start)?;
            rest.split_once('"').map(|(value, _)| value)
        })
        .collect()
}

/// The sum over all series of a counter.
fn total(page: &str, name: &str) -> f64 {
    let start = format!("{name}{{");
    let lines = page.lines().filter(|line| line.starts_with(&start));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test]
async fn each_format_on_request() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    let id = gateway.send(ask("chat")).await.header("x-backstay-call-id").to_owned();
    let page = scrape(&gateway).await;
    let counted =
        r#"backstay_calls_total{call="chat",release="chat@1",variant="stable",outcome="ok"} 1"#;
    assert!(page.contains(counted), "{page}");
    let open = gateway.send(Ask::get("/metrics").with("accept", "application/openmetrics-text"));
    let open = open.await;
    assert!(open.header("content-type").starts_with("application/openmetrics-text"));
    assert!(
        text(&open).contains(&format!("# {{call_id=\"{id}\"}}"))
            && text(&open).ends_with("# EOF\n")
    );
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                  encoding=delimited";
    let protobuf = gateway.send(Ask::get("/metrics").with("accept", accept)).await;
    assert!(protobuf.header("content-type").starts_with("application/vnd.google.protobuf"));
    let names = b"backstay_calls_total";
    assert!(protobuf.body.windows(names.len()).any(|window| window == names));
    let wrong = gateway.send(Ask::post("/metrics", "")).await;
    assert_eq!(wrong.status, 405);
    gateway.end().await;
}

#[tokio::test]
async fn a_key_is_needed_where_there_are_keys_and_a_page_of_another_site_is_turned_away() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    let foreign = Ask::get("/metrics").with("origin", "https://evil.example");
    assert_ne!(gateway.send(foreign).await.status, 200);
    let (key, row) = backstay_server::auth::make("prometheus", &[7; 24], 0);
    let mut registry =
        backstay_store::SqliteRegistry::open(gateway.dir.path().join(".backstay")).unwrap();
    backstay_store::RegistryStore::key_create(&mut registry, &row).unwrap();
    let refused = async {
        while gateway.send(Ask::get("/metrics")).await.status != 401 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), refused).await.expect("the key is noticed");
    let with_key = Ask::get("/metrics").with("authorization", &format!("Bearer {key}"));
    assert_eq!(gateway.send(with_key).await.status, 200);
    gateway.end().await;
}

/// Requests in which everything that a client can name is made up.
fn attack(n: usize) -> Ask {
    let made_up = format!("m{n}-{}", n * 7919);
    match n % 6 {
        0 => ask(&format!("up/{made_up}/ok")).with("x-backstay-call", &made_up),
        1 => ask(&made_up),
        2 => ask("chat").with("x-backstay-release", &made_up),
        3 => ask(&format!("chat@{n}")).with("x-backstay-unit", &made_up),
        4 => ask(&format!("up/{made_up}/http-500")).with("x-backstay-call", "chat"),
        _ => {
            let inputs = json!({ "inputs": {}, "unit": made_up });
            Ask::json(&format!("/v1/calls/{made_up}"), &inputs)
        }
    }
}

#[tokio::test]
async fn no_client_can_make_it_grow() {
    const ATTACKS: usize = 3000;
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    for call in ["chat", "weather"] {
        gateway.send(ask(call)).await;
    }
    for n in 0..60 {
        gateway.send(attack(n)).await;
    }
    let warm = scrape(&gateway).await;
    for n in 60..ATTACKS {
        gateway.send(attack(n)).await;
        let verdict = json!({ "call_id": format!("01a21724-a49a-7b3e-9fe1-{n:012x}"), "ok": true });
        if n % 100 == 0 {
            assert_eq!(gateway.send(Ask::json("/v1/outcomes", &verdict)).await.status, 202);
        }
    }
    let page = scrape(&gateway).await;
    assert_eq!(samples(&page), samples(&warm), "3000 made-up names, and not one series more");
    let two = BTreeSet::from(["chat", "default", "other", "weather"]);
    assert_eq!(values(&page, "call"), two);
    let releases = BTreeSet::from(["chat@1", "none", "weather@1"]);
    assert_eq!(values(&page, "release"), releases);
    let targets = BTreeSet::from(["other", "up/chat/ok", "up/weather/http-500", "up/weather/ok"]);
    assert_eq!(values(&page, "target"), targets);
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let sent = (ATTACKS + 2) as f64;
    assert_eq!(total(&page, "backstay_calls_total"), sent, "and every call is counted");
    gateway.end().await;
}

#[tokio::test]
async fn reloads_do_not_make_it_grow_either() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    let call = gateway.dir.path().join("calls/chat/call.toml");
    let mut pages = Vec::new();
    for n in 1..=30 {
        std::fs::write(&call, format!("route = [\"up/chat/ok\"]\nparams.seed = {n}\n")).unwrap();
        let release = format!("chat@{}", n + 1);
        let reloaded = async {
            while gateway.send(ask("chat")).await.header("x-backstay-release") != release {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), reloaded).await.unwrap_or_else(|_| panic!("{release}"));
        pages.push(scrape(&gateway).await);
    }
    let page = pages.last().unwrap();
    let releases = values(page, "release");
    let of_chat = releases.iter().filter(|release| release.starts_with("chat@")).count();
    assert!(of_chat <= 24 && releases.contains("chat@31"), "{releases:?}");
    assert!(!releases.contains("chat@1") && !releases.contains("chat@5"), "{releases:?}");
    let (before, after) = (samples(&pages[24]), samples(page));
    assert_eq!(before, after, "an old release leaves for each new one");
    let weight = r#"backstay_rollout_weight{call="chat",release="chat@31"} 1"#;
    assert!(page.contains(weight), "{page}");
    gateway.end().await;
}
