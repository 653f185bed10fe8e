//! The control API over real sockets: what each page is told with nothing, with a little, and for
//! questions that cannot be answered.

use std::time::Duration;

use backstay_core::{
    alert::{Alert, Rule, Severity, Stage, Subject},
    record::CallId,
};
use backstay_store::{AlertStore, alerts::AlertChange, sqlite::SqliteAlerts};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::harness::{Ask, Files, Gateway, Told, Upstream};

fn files(upstream: &Upstream) -> Files {
    let call = |target: &str| {
        format!(
            "route = [\"up/{target}\"]\n[budget]\nattempts = 1\nmax_error_rate = \"10%\"\n\
             [degrade]\norder = [\"error\"]\n"
        )
    };
    vec![
        ("backstay.toml".into(), upstream.provider("up", "openai")),
        ("calls/chat/call.toml".into(), call("chat/ok")),
        ("calls/fails/call.toml".into(), call("fails/500")),
        ("calls/idle/call.toml".into(), call("idle/ok")),
    ]
}

async fn get(gateway: &Gateway, path: &str) -> Value {
    let told = gateway.send(Ask::get(&format!("/api/v1/{path}"))).await;
    assert_eq!(told.status, 200, "{path}: {told:?}");
    assert_eq!(told.header("x-content-type-options"), "nosniff");
    told.json()
}

/// The status, parameter and message of an error.
fn refused(told: &Told) -> (u16, String, String) {
    let error = &told.json()["error"];
    let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
    (told.status, text("param"), text("message"))
}

async fn call(gateway: &Gateway, name: &str) -> String {
    let messages = json!([{ "role": "user", "content": "How will the wind be?" }]);
    let body = json!({ "model": name, "messages": messages, "user": "skipper" });
    let told = gateway.send(Ask::json("/v1/chat/completions", &body)).await;
    told.header("x-backstay-call-id").to_owned()
}

/// The board, once it shows so many calls: sums may lag by a moment.
async fn board(gateway: &Gateway, window: &str, calls: u64) -> Value {
    let shown = async {
        loop {
            let board = get(gateway, &format!("board?window={window}")).await;
            if board["totals"]["calls"] == calls {
                return board;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), shown).await.expect("the board shows all calls")
}

fn row<'a>(board: &'a Value, call: &str) -> &'a Value {
    board["calls"].as_array().unwrap().iter().find(|row| row["call"] == call).unwrap()
}

#[tokio::test]
async fn every_page_has_something_to_say_about_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    for window in ["5m", "1h", "24h", "7d"] {
        let board = get(&gateway, &format!("board?window={window}")).await;
        let names: Vec<_> = board["calls"].as_array().unwrap().iter().map(|c| &c["call"]).collect();
        assert_eq!(names, ["chat", "fails", "idle"], "{window}");
        let chat = row(&board, "chat");
        assert_eq!(
            (&chat["state"], &chat["configured"], &chat["release"]),
            (&json!("no_traffic"), &json!(true), &json!("chat@1"))
        );
        for unknown in ["error_rate", "budget_left", "latency", "cost_usd", "coverage"] {
            assert!(chat[unknown].is_null(), "{unknown}: {chat}");
        }
        assert_eq!(chat["max_error_rate"], 0.1);
        let points = chat["spark"].as_array().unwrap().len();
        assert!((5..=60).contains(&points), "{points}");
        assert_eq!(board["health"], json!({ "state": "ok", "problems": [] }));
    }
    let page = get(&gateway, "calls/chat").await;
    assert_eq!((&page["series"], &page["totals"]["calls"]), (&json!([]), &json!(0)));
    assert_eq!((&page["level"], &page["bands"]["tokens_in"]), (&json!("hour"), &Value::Null));
    assert_eq!(page["settings"]["route"], json!(["up/chat/ok"]));
    let p95 = page["settings"]["deadline_ms"].as_f64().unwrap() * 0.8;
    assert_eq!(page["settings"]["latency_p95_ms"], json!(p95), "as the rule about latency says");
    assert_eq!(get(&gateway, "log").await, json!({ "rows": [], "next": null }));
    assert_eq!(get(&gateway, "alerts").await["firing"], json!([]));
    assert_eq!(get(&gateway, "alerts/history").await, json!({ "alerts": [], "next_ms": null }));
    assert_eq!(get(&gateway, "silences").await, json!({ "silences": [] }));
    let health = get(&gateway, "health").await;
    assert_eq!(
        (&health["project"]["state"], &health["project"]["calls"]),
        (&json!("ok"), &json!(3))
    );
    assert_eq!((&health["records"]["received"], &health["overhead"]), (&json!(0), &Value::Null));
    let targets: Vec<_> =
        health["targets"].as_array().unwrap().iter().map(|t| &t["target"]).collect();
    assert_eq!(targets, ["up/chat/ok", "up/fails/500", "up/idle/ok"]);
    assert_eq!(get(&gateway, "prices").await["targets"].as_array().unwrap().len(), 3);
    let session = get(&gateway, "session").await;
    assert_eq!((&session["required"], &session["signed_in"]), (&json!(false), &json!(true)));
    gateway.end().await;
}

#[tokio::test]
async fn board_and_call_page_count_what_happened() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    // Five failures in a row open a breaker; a sixth would not reach the provider.
    for _ in 0..5 {
        call(&gateway, "chat").await;
        call(&gateway, "fails").await;
    }
    let board = board(&gateway, "1h", 10).await;
    let names: Vec<_> = board["calls"].as_array().unwrap().iter().map(|c| &c["call"]).collect();
    assert_eq!(names, ["chat", "fails", "idle"], "no alert is firing");
    let chat = row(&board, "chat");
    assert_eq!(
        (&chat["state"], &chat["calls"], &chat["errors"]),
        (&json!("ok"), &json!(5), &json!(0))
    );
    assert_eq!((&chat["error_rate"], &chat["budget_left"]), (&json!(0.0), &json!(1.0)));
    assert_eq!(
        (&chat["five_minutes"]["state"], &chat["releases"]),
        (&json!("ok"), &json!(["chat@1"]))
    );
    assert_eq!(chat["latency"]["count"], 5);
    let (median, max) = (&chat["latency"]["p50"], &chat["latency"]["max"]);
    assert!(0.0 < median.as_f64().unwrap() && median.as_f64() <= max.as_f64(), "{chat}");
    let sparks = chat["spark"].as_array().unwrap();
    assert_eq!(sparks.iter().map(|p| p["calls"].as_u64().unwrap()).sum::<u64>(), 5);
    let fails = row(&board, "fails");
    assert_eq!(
        (&fails["error_rate"], &fails["top_failure"]),
        (&json!(1.0), &json!("upstream_error"))
    );
    let left = fails["budget_left"].as_f64().unwrap();
    assert!((left + 9.0).abs() < 1e-9, "ten times the budget was spent: {left}");
    assert_eq!(fails["five_minutes"]["state"], "over");
    assert_eq!((&board["totals"]["calls"], &board["totals"]["errors"]), (&json!(10), &json!(5)));

    let page = get(&gateway, "calls/fails").await;
    assert_eq!((&page["release"], &page["totals"]["errors"]), (&json!("fails@1"), &json!(5)));
    let points = page["series"].as_array().unwrap();
    assert_eq!(points.iter().map(|p| p["calls"].as_u64().unwrap()).sum::<u64>(), 5);
    assert!(points.iter().all(|p| p["start_ms"].as_u64().unwrap() % 3_600_000 == 0));
    assert_eq!(page["totals"]["outcomes"], json!({ "upstream_error": 5 }));
    assert_eq!(
        (&page["by_target"][0]["target"], &page["by_target"][0]["calls"]),
        (&json!("up/fails/500"), &json!(5))
    );
    assert_eq!(
        (&page["releases"][0]["release"], &page["releases"][0]["error_rate"]),
        (&json!("fails@1"), &json!(1.0))
    );
    let heat = page["totals"]["latency_heat"].as_array().unwrap();
    assert_eq!(heat.iter().map(|bucket| bucket[2].as_u64().unwrap()).sum::<u64>(), 5);
    let other = get(&gateway, "calls/fails?target=up/other").await;
    assert_eq!(other["totals"]["calls"], 0);
    let now = page["until_ms"].as_u64().unwrap();
    let minutes = get(&gateway, &format!("calls/chat?since_ms={}", now - 3_600_000)).await;
    assert_eq!((&minutes["level"], &minutes["totals"]["calls"]), (&json!("minute"), &json!(5)));
    gateway.end().await;
}

#[tokio::test]
async fn the_log_is_filtered_paged_and_told_whole() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    let mut made = Vec::new();
    for name in ["chat", "fails", "chat", "fails", "chat"] {
        made.push((call(&gateway, name).await, name));
    }
    // Those of one millisecond are in no order but that of their ids.
    made.sort_unstable_by(|a, b| b.cmp(a));
    let of = |wanted: &str| -> Vec<String> {
        made.iter().filter(|(_, name)| *name == wanted).map(|(id, _)| id.clone()).collect()
    };
    let ids: Vec<String> = made.iter().map(|(id, _)| id.clone()).collect();
    gateway.flushed().await;
    let listed = async |query: &str| -> Vec<String> {
        let page = get(&gateway, &format!("log?{query}")).await;
        let rows = page["rows"].as_array().unwrap();
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed("").await, ids);
    let (chats, fails) = (of("chat"), of("fails"));
    for (query, expected) in [
        ("call=chat", &chats[..]),
        ("release=chat@1", &chats),
        ("outcome=ok", &chats),
        ("outcome=upstream_error", &fails),
        ("outcome=ok,upstream_error", &ids),
        ("failed=true", &fails),
        ("failed=false", &ids),
        ("degraded=true", &[]),
        ("target=up/fails/500", &fails),
        ("unit=skipper", &ids),
        ("unit=nobody", &[]),
        ("until_ms=1000000000000", &[]),
        ("q=nothing-like-it", &[]),
    ] {
        assert_eq!(listed(query).await, expected, "{query}");
    }
    assert_eq!(listed(&format!("q={}", ids[3])).await, [ids[3].clone()]);
    let mut paged = Vec::new();
    let mut next = String::new();
    loop {
        let page = get(&gateway, &format!("log?limit=2{next}")).await;
        for row in page["rows"].as_array().unwrap() {
            paged.push(row["id"].as_str().unwrap().to_owned());
        }
        let Some(before) = page["next"].as_str() else { break };
        next = format!("&before={before}");
    }
    assert_eq!(paged, ids, "every row once");

    let entry = get(&gateway, &format!("log/{}", fails[0])).await;
    assert_eq!(
        (&entry["row"]["outcome"], &entry["row"]["call"]),
        (&json!("upstream_error"), &json!("fails"))
    );
    let attempts = entry["record"]["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["kind"]), (1, &json!("first")));
    assert_eq!(
        (&attempts[0]["status"], &attempts[0]["failure"]),
        (&json!(500), &json!("upstream_error"))
    );
    assert!(entry["record"]["request"].as_str().unwrap().contains("the wind"));
    assert_eq!((&entry["record"]["protocol"], &entry["reports"]), (&json!("openai"), &json!([])));
    let verdict = json!({ "call_id": ids[0], "ok": false, "reason": "wrong town" });
    assert_eq!(gateway.send(Ask::json("/v1/outcomes", &verdict)).await.status, 202);
    gateway.flushed().await;
    let entry = get(&gateway, &format!("log/{}", ids[0])).await;
    assert_eq!(
        (&entry["row"]["consumer_ok"], &entry["reports"][0]["reason"]),
        (&json!(false), &json!("wrong town"))
    );
    gateway.end().await;
}

#[tokio::test]
async fn the_log_is_filtered_by_what_consumers_said_last() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    let (good, bad) = (call(&gateway, "chat").await, call(&gateway, "chat").await);
    let silent = call(&gateway, "fails").await;
    let said = async |id: &str, ok: bool| {
        let verdict = json!({ "call_id": id, "ok": ok });
        assert_eq!(gateway.send(Ask::json("/v1/outcomes", &verdict)).await.status, 202);
        gateway.flushed().await;
    };
    let listed = async |query: &str| -> Vec<String> {
        let page = get(&gateway, &format!("log?{query}")).await;
        let rows = page["rows"].as_array().unwrap();
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    gateway.flushed().await;
    assert_eq!(listed("verdict=unheard").await.len(), 3);
    assert_eq!(listed("verdict=useless").await, [""; 0]);
    said(&good, false).await;
    said(&bad, false).await;
    assert_eq!(listed("verdict=useless&call=chat").await.len(), 2);
    said(&good, true).await;
    for (verdict, expected) in [("useful", good), ("useless", bad), ("unheard", silent)] {
        assert_eq!(listed(&format!("verdict={verdict}")).await, [expected], "{verdict}");
    }
    gateway.end().await;
}

#[tokio::test]
async fn what_cannot_be_answered_says_which_parameter_and_how_to_mend_it() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    let (first, second) = (call(&gateway, "chat").await, call(&gateway, "chat").await);
    gateway.flushed().await;
    let both = &first[..first.bytes().zip(second.bytes()).take_while(|(a, b)| a == b).count()];
    let long = "x".repeat(300);
    for (path, status, param, remedy) in [
        ("board?window=2h", 400, "window", "`24h`"),
        ("board?windows=1h", 400, "windows", "`window`"),
        ("calls/Chat", 400, "call", "a-z"),
        ("calls/nobody", 404, "call", "chat, fails, idle"),
        ("calls/chat?since_ms=17", 400, "since_ms", "400 days"),
        ("calls/chat?since_ms=99999999999999", 400, "since_ms", "before"),
        ("calls/chat?since_ms=yesterday", 400, "since_ms", "whole number"),
        (&format!("calls/chat?target={long}"), 400, "target", "256"),
        ("log?limit=0", 400, "limit", "1 to 200"),
        ("log?limit=201", 400, "limit", "1 to 200"),
        ("log?outcome=broken", 400, "outcome", "timeout_headers"),
        ("log?before=17", 400, "before", "next"),
        ("log?verdict=bad", 400, "verdict", "`useless`"),
        ("log?failed=maybe", 400, "failed", "`true` or `false`"),
        ("log?since_ms=20&until_ms=10", 400, "since_ms", "before"),
        ("log?call=A", 400, "call", "a-z"),
        (&format!("log?q={long}"), 400, "q", "256"),
        ("log/no-such-call", 404, "id", "retention"),
        (&format!("log/{both}"), 409, "id", "more characters"),
        (&format!("log/{long}"), 400, "id", "256"),
        ("alerts/history?rule=all", 400, "rule", "error_rate"),
        ("alerts/history?limit=1000", 400, "limit", "1 to 200"),
        ("alerts/first", 400, "id", "alerts/history"),
        ("alerts/0193f2a0-0000-7000-8000-000000000000", 404, "id", "no alert"),
        ("nothing", 404, "path", "openapi.json"),
    ] {
        let told = gateway.send(Ask::get(&format!("/api/v1/{path}"))).await;
        let (found, named, message) = refused(&told);
        assert_eq!((found, named.as_str()), (status, param), "{path}: {message}");
        assert!(message.contains(remedy), "{path}: {message}");
        assert!(message.len() < 600, "no error grows with its input: {message}");
    }
    let told = gateway.send(Ask::get(&format!("/api/v1/log/{both}"))).await.json();
    assert_eq!(told["error"]["ids"].as_array().unwrap().len(), 2, "{told}");
    let wrong = gateway.send(Ask::post("/api/v1/board", "{}")).await;
    assert_eq!(refused(&wrong).0, 405);
    let under_v1 = gateway.send(Ask::get("/v1/nothing")).await;
    assert_eq!((under_v1.status, &under_v1.json()["error"]["type"]), (404, &json!("bad_request")));
    gateway.end().await;
}

#[tokio::test]
async fn an_alert_is_found_by_its_id_however_old_it_is() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    let alert = |id: u8| Alert {
        id: CallId::new(Duration::from_millis(id.into()), [id; 10]),
        subject: Subject {
            rule: Rule::ErrorRate,
            call: "chat".into(),
            release: None,
            target: None,
            detail: None,
        },
        severity: Severity::Page,
        stage: Stage::Resolved,
        started_ms: id.into(),
        fired_ms: Some(id.into()),
        resolved_ms: Some(300),
        summary: "too many calls fail".into(),
        arithmetic: "7 of 100".into(),
        value: None,
        threshold: None,
        release: None,
        variant: None,
        top_failure: None,
        samples: Vec::new(),
    };
    let alerts: Vec<_> = (0..=250).map(alert).collect();
    let (oldest, store) = (alerts[0].id, gateway.dir.path().join(".backstay"));
    let change = AlertChange { alerts, ..AlertChange::default() };
    tokio::task::spawn_blocking(move || {
        SqliteAlerts::open(store).unwrap().save(&change).unwrap();
    })
    .await
    .unwrap();
    let newest = get(&gateway, "alerts/history?limit=200").await.to_string();
    assert!(!newest.contains(&oldest.to_string()), "it is on no page that is shown first");
    let told = get(&gateway, &format!("alerts/{oldest}")).await;
    assert_eq!(
        (&told["id"], &told["arithmetic"]),
        (&json!(oldest.to_string()), &json!("7 of 100"))
    );
    gateway.end().await;
}

#[tokio::test]
async fn a_silence_is_made_listed_and_ended() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    let add = async |body: Value| gateway.send(Ask::json("/api/v1/silences", &body)).await;
    for (body, param) in [
        (json!({ "minutes": 5 }), "reason"),
        (json!({ "reason": " ", "minutes": 5 }), "reason"),
        (json!({ "reason": "x".repeat(501), "minutes": 5 }), "reason"),
        (json!({ "reason": "known" }), "minutes"),
        (json!({ "reason": "known", "minutes": 0 }), "minutes"),
        (json!({ "reason": "known", "minutes": 43_201 }), "minutes"),
        (json!({ "reason": "known", "minutes": "5" }), "minutes"),
        (json!({ "reason": "known", "minutes": 5, "rule": "all" }), "rule"),
        (json!({ "reason": "known", "minutes": 5, "call": "A" }), "call"),
        (json!({ "reason": "known", "minutes": 5, "calls": "a" }), "calls"),
        (json!("known"), "body"),
    ] {
        let (status, named, message) = refused(&add(body).await);
        assert_eq!((status, named.as_str()), (400, param), "{message}");
    }
    let form = Ask::post("/api/v1/silences", "{}").with("content-type", "text/plain");
    let form = Ask { headers: form.headers[1..].to_vec(), ..form };
    assert_eq!(refused(&gateway.send(form).await).1, "content-type");
    let large = json!({ "reason": "x".repeat(20_000), "minutes": 5 });
    assert_eq!(refused(&add(large).await).0, 413);

    let wanted =
        json!({ "call": "chat", "rule": "error_rate", "reason": "a drill", "minutes": 30 });
    let told = add(wanted).await;
    assert_eq!(told.status, 201);
    let made = told.json();
    assert_eq!((&made["by"], &made["reason"]), (&json!("local"), &json!("a drill")));
    let lasts = made["expires_ms"].as_u64().unwrap() - made["created_ms"].as_u64().unwrap();
    assert_eq!(lasts, 30 * 60_000);
    assert_eq!(get(&gateway, "silences").await["silences"], json!([made]));
    let path = format!("/api/v1/silences/{}", made["id"].as_str().unwrap());
    let end = Ask { method: http::Method::DELETE, ..Ask::get(&path) };
    assert_eq!(gateway.send(end.clone()).await.status, 204);
    assert_eq!(gateway.send(end.clone()).await.status, 404, "it is over already");
    let other = Ask { path: "/api/v1/silences/17".to_owned(), ..end };
    assert_eq!(refused(&gateway.send(other).await).1, "id");
    gateway.end().await;
}

#[tokio::test]
async fn health_tells_of_open_breakers_and_broken_projects() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    for _ in 0..6 {
        call(&gateway, "fails").await;
    }
    gateway.flushed().await;
    let health = get(&gateway, "health").await;
    let target = |name: &str| {
        let targets = health["targets"].as_array().unwrap();
        targets.iter().find(|target| target["target"] == name).unwrap().clone()
    };
    assert_eq!(target("up/fails/500")["breakers"], json!([{ "call": "fails", "state": "open" }]));
    assert_eq!(health["summary"]["state"], "warn");
    assert!(health["summary"]["problems"][0].as_str().unwrap().contains("up/fails/500"));
    assert_eq!(
        (&health["records"]["stored"], &health["overhead"]["count"]),
        (&json!(6), &json!(6))
    );

    std::fs::write(gateway.dir.path().join("calls/idle/call.toml"), "route = 17\n").unwrap();
    let noticed = async {
        loop {
            let project = get(&gateway, "health").await["project"].clone();
            if project["state"] == "broken" {
                return project;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let project = timeout(Duration::from_secs(20), noticed).await.unwrap();
    assert!(project["problem"].as_str().unwrap().contains("calls/idle/call.toml"), "{project}");
    gateway.end().await;
}
