//! `backstay alerts`, and a server that tells what waits in its store.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use backstay_core::{
    alert::{Alert, Rule, Severity, Stage, Subject},
    record::{CallId, Variant},
};
use backstay_store::{
    AlertStore, SqliteAlerts,
    alerts::{AlertChange, Event, Notice},
};
use serde_json::Value;

use crate::{
    golden::{same, session},
    world::{PATIENCE, Project, command, ran, until},
};

const SIM: &str = "[providers.sim]\nkind = \"sim\"\n";

fn project(more: &str) -> Project {
    Project::new(&format!("{SIM}{more}")).with_call("fine", "route = [\"sim/ok\"]")
}

/// A server that takes notifications with `status`, and what it got: path and body.
fn hook(status: u16) -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (told, got) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut seen = Vec::new();
            let whole = loop {
                let mut piece = [0; 16 << 10];
                let read = stream.read(&mut piece).unwrap();
                assert!(read > 0, "half a request");
                seen.extend_from_slice(&piece[..read]);
                let text = String::from_utf8_lossy(&seen).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
                    if body.len() == length.unwrap().parse::<usize>().unwrap() {
                        break text;
                    }
                }
            };
            let (head, body) = whole.split_once("\r\n\r\n").unwrap();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let reply =
                format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(reply.as_bytes()).unwrap();
            if told.send((path, serde_json::from_str(body).unwrap())).is_err() {
                return;
            }
        }
    });
    (url, got)
}

fn alert(n: u8, stage: Stage) -> Alert {
    let started_ms = 1_795_435_200_000 + u64::from(n) * 60_000;
    let id = |n| CallId::new(Duration::from_millis(started_ms), [n; 10]);
    Alert {
        id: id(n),
        subject: Subject {
            rule: Rule::ErrorRate,
            call: "fine".to_owned(),
            release: None,
            target: None,
            detail: None,
        },
        severity: Severity::Page,
        stage,
        started_ms,
        fired_ms: Some(started_ms + 20_000),
        resolved_ms: (stage == Stage::Resolved).then_some(started_ms + 300_000),
        summary: "9 of 100 calls failed in 5 minutes".to_owned(),
        arithmetic: "9/100 = 9.0 % > 2.0 %; P = 0.00028".to_owned(),
        value: Some(0.09),
        threshold: Some(0.02),
        release: Some("fine@7".to_owned()),
        variant: Some(Variant::Stable),
        top_failure: Some("malformed".to_owned()),
        samples: vec![id(n + 1), id(n + 2)],
    }
}

/// Stores alerts as the evaluator of a server does, with one notice each.
fn store(project: &Project, alerts: &[Alert], receiver: &str) -> SqliteAlerts {
    let mut store = SqliteAlerts::open(project.store()).unwrap();
    let notices = alerts.iter().map(|alert| Notice {
        alert: alert.id,
        receiver: receiver.to_owned(),
        event: Event::Firing,
        due_ms: 0,
    });
    let change = AlertChange {
        alerts: alerts.to_vec(),
        notices: notices.collect(),
        // Long before now, and yet not too old.
        at_ms: u64::MAX >> 2,
        ..AlertChange::default()
    };
    store.save(&change).unwrap();
    store
}

#[test]
fn alerts_are_listed() {
    let project = project("");
    let mut text = session(&["alerts"], &project.run(&["alerts"]));
    assert!(!project.store().exists(), "asking changes nothing");
    let pending = Alert {
        subject: Subject {
            call: String::new(),
            rule: Rule::Shed,
            ..alert(2, Stage::Pending).subject
        },
        samples: Vec::new(),
        top_failure: None,
        ..alert(2, Stage::Pending)
    };
    store(&project, &[alert(1, Stage::Resolved), pending, alert(3, Stage::Firing)], "ops");
    let silence = ["alerts", "silence", "--rule", "shed", "--for", "2h", "--reason", "known"];
    assert_eq!(project.run(&silence).code, 0);
    let asked: [&[&str]; 6] = [
        &["alerts"],
        &["alerts", "--history", "--limit", "1"],
        &["alerts", "--history", "--rule", "error_rate", "--json"],
        &["alerts", "--call", "other"],
        &["alerts", "--rule", "weather"],
        &["alerts", "--history", "--call", "other"],
    ];
    for args in asked {
        text.push_str(&session(args, &project.run(args)));
    }
    same("alerts", &text);
}

#[test]
fn silences_are_made_listed_and_ended() {
    let project = project("");
    let commands: [&[&str]; 9] = [
        &["alerts", "silences"],
        &["alerts", "silence", "--for", "2h", "--reason", "known"],
        &["alerts", "silence", "--call", "fien", "--for", "2h", "--reason", "known"],
        &["alerts", "silence", "--call", "fine", "--for", "2h", "--reason", " "],
        &["alerts", "silence", "--call", "fine", "--for", "31d", "--reason", "known"],
        &[
            "alerts", "silence", "--call", "fine", "--rule", "quality", "--for", "2h1m",
            "--reason", "x",
        ],
        &[
            "alerts",
            "silence",
            "--call",
            "fine",
            "--for",
            "121m",
            "--reason",
            "the provider is down",
        ],
        &["alerts", "silences"],
        &["alerts", "unsilence", "01234567"],
    ];
    let mut text: String = commands.iter().map(|args| session(args, &project.run(args))).collect();
    let listed = project.run(&["alerts", "silences", "--json"]).lines();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["call"], &listed[0]["by"]), (&"fine".into(), &"local".into()));
    let id = listed[0]["id"].as_str().unwrap();
    text.push_str(&session(
        &["alerts", "unsilence", "ID"],
        &project.run(&["alerts", "unsilence", id]),
    ));
    assert_eq!(project.run(&["alerts", "silences", "--json"]).lines(), Vec::<Value>::new());
    same("silences", &text);
}

#[test]
fn receivers_are_tested_one_by_one() {
    let none = project("").run(&["alerts", "test"]);
    assert_eq!((none.code, none.stdout.as_str()), (1, ""));
    assert!(none.stderr.contains("add [[alerts.notify]]"), "{}", none.stderr);
    let (good, taken) = hook(200);
    let (bad, _refused) = hook(403);
    let project = project(&format!(
        "[[alerts.notify]]\nkind = \"slack\"\nname = \"team\"\nurl = \"{good}/hooks/1\"\n\
         [[alerts.notify]]\nkind = \"webhook\"\nname = \"old\"\nurl = \"{bad}/secret-path\"\n\
         [[alerts.notify]]\nkind = \"pagerduty\"\nurl = \"{good}/enqueue\"\nrouting_key = \"env:KEY\"\n"
    ));
    let test = |args: &[&str]| {
        let args = [&["alerts", "test"], args].concat();
        let ran = ran(command(project.dir(), &args).env("KEY", "R0UT1NG"));
        assert!(!ran.stdout.contains("secret-path") && !ran.stdout.contains("R0UT1NG"));
        ran
    };
    let mut text = session(&["alerts", "test"], &test(&[]));
    let (path, body) = taken.recv_timeout(PATIENCE).unwrap();
    assert_eq!(path, "/hooks/1");
    assert!(body["text"].as_str().unwrap().starts_with("[TEST, warn]"), "{body}");
    let (_, trigger) = taken.recv_timeout(PATIENCE).unwrap();
    let (_, resolve) = taken.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (&trigger["event_action"], &resolve["event_action"]),
        (&"trigger".into(), &"resolve".into())
    );
    assert_eq!(
        (&trigger["dedup_key"], &trigger["routing_key"]),
        (&resolve["dedup_key"], &"R0UT1NG".into())
    );
    for args in [&["team"][..], &["old", "--json"], &["nobody"]] {
        text.push_str(&session(&[&["alerts", "test"], args].concat(), &test(args)));
    }
    let keyless = project.run(&["alerts", "test", "pagerduty-3"]);
    text.push_str(&session(&["alerts", "test", "pagerduty-3"], &keyless));
    same("alerts-test", &text);
}

/// What an earlier process left is told at the start, and what a new project names is told at once.
#[test]
fn a_server_tells_what_waits() {
    let (first, got) = hook(200);
    let receiver = |name: &str, url: &str| {
        format!("[[alerts.notify]]\nkind = \"webhook\"\nname = \"{name}\"\nurl = \"{url}\"\n")
    };
    let project = project(&format!(
        "[server]\nurl = \"https://backstay.example.com\"\n{}",
        receiver("ops", &first)
    ));
    let alerts = store(&project, &[alert(1, Stage::Firing)], "ops");
    let server = project.serve(&[]);
    let (_, body) = got.recv_timeout(PATIENCE).unwrap();
    assert_eq!(body["externalURL"], "https://backstay.example.com");
    assert_eq!(body["commonLabels"]["call"], "fine");
    until("the notice to be settled", || alerts.outbox("ops", 9).unwrap().is_empty().then_some(()));
    drop(alerts);
    let alerts = store(&project, &[alert(9, Stage::Firing)], "later");
    let (second, later) = hook(202);
    project.write("backstay.toml", &format!("{SIM}{}", receiver("later", &second)));
    let (_, body) = later.recv_timeout(PATIENCE).unwrap();
    assert_eq!(body["receiver"], "later");
    assert_eq!(body["externalURL"], server.url());
    until("the notice to be settled", || {
        alerts.outbox("later", 9).unwrap().is_empty().then_some(())
    });
    let said = server.stop();
    assert!(!said.contains("error") && !said.contains(&first), "{said}");
}
