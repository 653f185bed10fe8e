//! What stands around the calls: lists of models, health, verdicts of consumers, and shedding.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    harness::{Ask, Files, Gateway, Told, Upstream},
    reading::{Speaks, whole},
};

fn files(upstream: &Upstream, server: &str, provider: &str, call: &str) -> Files {
    let toml = format!("[server]\n{server}\n{}{provider}\n", upstream.provider("up", "openai"));
    vec![
        ("backstay.toml".into(), toml),
        ("calls/chat/call.toml".into(), format!("route = [\"up/chat/ok\"]\n{call}")),
        ("calls/hangs/call.toml".into(), format!("route = [\"up/hangs/hang-headers\"]\n{call}")),
    ]
}

fn ask(call: &str) -> Ask {
    let messages = json!([{ "role": "user", "content": "How will the wind be?" }]);
    Ask::json("/v1/chat/completions", &json!({ "model": call, "messages": messages }))
}

#[tokio::test]
async fn models_are_listed_in_the_shape_of_the_sdk() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream, "", "", "")).await;
    let names = ["chat", "hangs", "up/chat/ok", "up/hangs/hang-headers"];
    let ids = |list: &Value| -> Vec<String> {
        let models = list["data"].as_array().unwrap().iter();
        models.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    };
    let list = gateway.send(Ask::get("/v1/models")).await.json();
    assert_eq!((&list["object"], ids(&list)), (&json!("list"), names.map(str::to_owned).to_vec()));
    assert_eq!(list["data"][0]["object"], "model");
    let anthropic = Ask::get("/v1/models").with("anthropic-version", "2023-06-01");
    let list = gateway.send(anthropic).await.json();
    assert_eq!(ids(&list), names);
    assert_eq!((&list["data"][0]["type"], &list["has_more"]), (&json!("model"), &json!(false)));
    assert_eq!((&list["first_id"], &list["last_id"]), (&json!(names[0]), &json!(names[3])));
    gateway.end().await;
}

#[tokio::test]
async fn health_and_readiness_are_told() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream, "", "", "")).await;
    assert_eq!(gateway.send(ask("chat")).await.status, 200);
    gateway.flushed().await;
    let alive = gateway.send(Ask::get("/healthz")).await;
    assert_eq!((alive.status, alive.json()["status"].as_str()), (200, Some("ok")));
    let ready = gateway.send(Ask::get("/readyz")).await;
    let body = ready.json();
    assert_eq!((ready.status, &body["status"], &body["calls"]), (200, &json!("ok"), &json!(2)));
    assert_eq!((&body["project"], &body["under_way"]), (&json!("ok"), &json!(0)));
    let records = &body["records"];
    assert_eq!((&records["received"], &records["stored"]), (&json!(1), &json!(1)));
    gateway.end().await;
}

#[tokio::test]
async fn verdicts_are_kept_once_and_bad_batches_not_at_all() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream, "", "", "")).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(gateway.send(ask("chat")).await.header("x-backstay-call-id").to_owned());
    }
    let report = async |body: Value| gateway.send(Ask::json("/v1/outcomes", &body)).await;
    let kept = async |id: &str| gateway.record(id).await.unwrap().reports;
    let first = json!({ "call_id": ids[0], "ok": false, "score": 0.2, "reason": "wrong town",
                        "expected": { "town": "Kiel" } });
    // An application that is not sure whether it was heard says it again.
    for _ in 0..2 {
        let told = report(first.clone()).await;
        assert_eq!((told.status, told.json()), (202, json!({ "accepted": 1 })));
    }
    let reports = kept(&ids[0]).await;
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!((reports[0].ok, reports[0].score), (false, Some(0.2)));
    assert_eq!(reports[0].reason.as_deref(), Some("wrong town"));
    assert_eq!(reports[0].expected, Some(json!({ "town": "Kiel" })));
    let verdict = |id: &str, ok: bool| json!({ "call_id": id, "ok": ok });
    let batch = json!([verdict(&ids[1], true), verdict(&ids[2], false)]);
    assert_eq!(report(batch).await.json(), json!({ "accepted": 2 }));
    let named = json!({ "outcomes": [verdict(&ids[2], true)] });
    assert_eq!(report(named).await.json(), json!({ "accepted": 1 }));
    assert_eq!((kept(&ids[1]).await.len(), kept(&ids[2]).await.len()), (1, 2));
    let row = gateway.rows().await.into_iter().find(|row| row.id.to_string() == ids[2]).unwrap();
    assert_eq!(row.consumer_ok, Some(true), "the last word counts");
    for bad in [
        json!(17),
        json!({}),
        json!({ "call_id": ids[0] }),
        json!({ "call_id": "17", "ok": true }),
        json!({ "call_id": ids[0], "ok": "yes" }),
        json!({ "call_id": ids[0], "ok": true, "grade": 1 }),
        json!({ "outcomes": 1 }),
        json!([verdict(&ids[0], true), verdict("17", true)]),
        json!({ "call_id": ids[0], "ok": true, "reason": "x".repeat(20_000) }),
        Value::Array(vec![verdict(&ids[0], true); 1001]),
    ] {
        let told = report(bad).await;
        assert_eq!(
            (told.status, whole(Speaks::OpenAi, &told.body).code(Speaks::OpenAi)),
            (400, Some("bad_request")),
            "{told:?}"
        );
    }
    assert_eq!(kept(&ids[0]).await.len(), 1);
    gateway.end().await;
}

#[tokio::test]
async fn a_verdict_may_name_the_answer_by_the_id_that_its_sdk_shows() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream, "", "", "")).await;
    let answered = gateway.send(ask("chat")).await;
    let (call, response) =
        (answered.header("x-backstay-call-id"), answered.json()["id"].as_str().unwrap().to_owned());
    assert!(!response.contains(call), "it is the provider's own id");
    let report = async |body: Value| gateway.send(Ask::json("/v1/outcomes", &body)).await;
    // At once: the record may still be on its way.
    for id in [response.as_str(), &format!("chatcmpl-{call}"), call] {
        let told = report(json!({ "response_id": id, "ok": true, "reason": id })).await;
        assert_eq!((told.status, told.json()), (202, json!({ "accepted": 1 })));
    }
    assert_eq!(gateway.record(call).await.unwrap().reports.len(), 3);
    let page = gateway.send(Ask::get("/metrics")).await;
    let page = String::from_utf8_lossy(&page.body);
    assert!(page.contains(r#"backstay_outcome_reports_total{call="chat",ok="true"} 3"#), "{page}");
    // Nobody knows this one: it is accepted, since its call may come, and counted as given up.
    assert_eq!(report(json!({ "response_id": "chatcmpl-none", "ok": true })).await.status, 202);
    gateway.rows().await;
    let ready = gateway.send(Ask::get("/readyz")).await.json();
    assert_eq!(ready["records"]["shed"]["unmatched"], json!(1), "{ready}");
    for bad in [
        json!({ "response_id": "", "ok": true }),
        json!({ "response_id": "x".repeat(300), "ok": true }),
        json!({ "response_id": response, "call_id": call, "ok": true }),
    ] {
        assert_eq!(report(bad).await.status, 400);
    }
    gateway.end().await;
}

/// Waits until `held` calls are under way and `sent` of them have reached the provider.
async fn until_busy(gateway: &Gateway, upstream: &Upstream, held: usize, sent: u64) {
    let busy = async {
        while gateway.engine.under_way() < held || upstream.sim.requests() < sent {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(10), busy).await.unwrap();
}

fn shed(told: &Told) {
    assert_eq!(told.status, 503, "{told:?}");
    assert_eq!(whole(Speaks::OpenAi, &told.body).code(Speaks::OpenAi), Some("overloaded"));
    assert!(told.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert!(told.took < Duration::from_millis(500), "shed after {:?}", told.took);
}

#[tokio::test]
async fn a_target_sheds_what_its_queue_does_not_hold_at_once() {
    let upstream = Upstream::start().await;
    let limits = "max_concurrency = 1\nmax_queue = 1";
    let call = "[budget]\ndeadline = \"3s\"\n";
    let gateway = Gateway::start(&files(&upstream, "", limits, call)).await;
    let after_the_first = async |call| {
        until_busy(&gateway, &upstream, 1, 1).await;
        gateway.send(ask(call)).await
    };
    // One of the second and the third finds a place in the queue.
    let (first, second, third, other) = tokio::join!(
        gateway.send(ask("hangs")),
        after_the_first("hangs"),
        after_the_first("hangs"),
        after_the_first("chat"),
    );
    let (queued, sent_away) =
        if second.took > third.took { (second, third) } else { (third, second) };
    shed(&sent_away);
    assert_eq!(first.status, 504);
    assert_ne!(queued.status, 200, "it hangs too, or has no time left");
    assert_eq!(other.status, 200, "other targets have places of their own");
    assert_eq!(gateway.rows().await.len(), 4);
    gateway.end().await;
}

#[tokio::test]
async fn a_server_sheds_beyond_its_limit_of_calls() {
    let upstream = Upstream::start().await;
    let call = "[budget]\ndeadline = \"1s\"\n";
    let gateway = Gateway::start(&files(&upstream, "max_in_flight = 1", "", call)).await;
    let (first, ()) = tokio::join!(gateway.send(ask("hangs")), async {
        until_busy(&gateway, &upstream, 1, 1).await;
        shed(&gateway.send(ask("chat")).await);
        assert_eq!(gateway.send(Ask::get("/healthz")).await.status, 200);
    });
    assert_eq!(first.status, 504);
    assert_eq!(gateway.send(ask("chat")).await.status, 200, "there is room again");
    assert_eq!(gateway.rows().await.len(), 3, "a shed call is recorded");
    gateway.end().await;
}

/// Bodies that come slowly would else be a way around every limit.
#[tokio::test]
async fn verdicts_that_are_still_arriving_count_against_the_limit() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream, "max_in_flight = 1", "", "")).await;
    let told = Ask::json("/v1/outcomes", &json!({ "response_id": "chatcmpl-1", "ok": true }));
    assert_eq!(gateway.send(told.clone()).await.status, 202);
    let mut slow = TcpStream::connect(gateway.address).await.unwrap();
    let head = "POST /v1/outcomes HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    let until = async |status: u16| {
        let wait = async { while gateway.send(told.clone()).await.status != status {} };
        timeout(Duration::from_secs(20), wait).await.expect("the limit in time");
    };
    until(503).await;
    drop(slow);
    until(202).await;
    gateway.end().await;
}
