//! A gateway's life: it starts or says why not, follows its project, and ends without losing a call.

use std::{fs, net::TcpListener, process::Stdio, time::Duration};

use serde_json::json;

use crate::{
    http::{self, Answer, Pending},
    world::{Project, Server, command, until},
};

const SIM: &str = "[providers.sim]\nkind = \"sim\"\n";
const OK: &str = "route = [\"sim/ok\"]";

fn project() -> Project {
    Project::new(SIM).with_call("hello", OK)
}

fn ask(gateway: &Server) -> Answer {
    ask_with(gateway, &[])
}

fn ask_with(gateway: &Server, headers: &[(&str, &str)]) -> Answer {
    let body = json!({"inputs": {"name": "Ada"}});
    http::post(gateway.address, "/v1/calls/hello", headers, &body)
}

/// Waits until calls are answered by this release.
#[track_caller]
fn answers_with(gateway: &Server, release: &str) {
    until(release, || (ask(gateway).header("x-backstay-release") == Some(release)).then_some(()));
}

/// Starts a stream of some seconds, and waits for its first words.
fn slow_stream(gateway: &Server) -> Pending {
    let body = json!({"model": "hello", "stream": true, "backstay": {"inputs": {"name": "Ada"}}});
    let request = "POST /v1/chat/completions";
    let mut stream = http::send(gateway.address, request, &[], &body.to_string()).unwrap();
    stream.read_to("\"content\":\"The").unwrap();
    stream
}

#[test]
fn a_taken_port_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = project().run(&["serve", "--listen", &address]);
    assert_eq!(ran.code, 1);
    let wanted = format!("cannot listen on {address}: Address already in use");
    assert!(ran.stderr.contains(&wanted) && ran.stderr.contains("--listen"), "{}", ran.stderr);
}

#[test]
fn other_machines_need_keys() {
    let project = project();
    let refused = project.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("backstay keys create NAME"), "{}", refused.stderr);
    let made = project.run(&["keys", "create", "ci", "--json"]).lines();
    let key = made[0]["key"].as_str().unwrap();
    let serve = ["serve", "--listen", "0.0.0.0:0"];
    let mut gateway = Server::start(&mut command(project.dir(), &serve));
    gateway.address.set_ip([127, 0, 0, 1].into());
    assert_eq!(ask(&gateway).status, 401);
    assert_eq!(ask_with(&gateway, &[("authorization", &format!("Bearer {key}"))]).status, 200);
    gateway.stop();
}

#[test]
fn keys_are_noticed_while_it_runs() {
    let project = project();
    let gateway = project.serve(&[]);
    assert_eq!(ask(&gateway).status, 200);
    let make = |name| {
        let made = project.run(&["keys", "create", name, "--json"]).lines();
        made[0]["key"].as_str().unwrap().to_owned()
    };
    let (one, other) = (make("one"), make("other"));
    until("calls without a key are refused", || (ask(&gateway).status == 401).then_some(()));
    let with = |key: &str| ask_with(&gateway, &[("x-api-key", key)]).status;
    assert_eq!((with(&one), with(&other)), (200, 200));
    assert_eq!(project.run(&["keys", "revoke", "one"]).code, 0);
    until("the revoked key is refused", || (with(&one) == 401).then_some(()));
    assert_eq!(with(&other), 200);
    assert_eq!(project.run(&["keys", "revoke", "other"]).code, 0);
    until("the last key is refused", || (with(&other) == 401).then_some(()));
    // No key in force is not the same as no key ever made: nobody gets in.
    assert_eq!(ask(&gateway).status, 401);
    gateway.stop();
}

#[test]
fn edits_take_force_and_broken_ones_do_not() {
    let project = project();
    let gateway = project.serve(&[]);
    answers_with(&gateway, "hello@1");
    project.write("calls/hello/user.j2", "Greet {{ name }} warmly.\n");
    answers_with(&gateway, "hello@2");

    project.write("calls/hello/user.j2", "Greet {{ name\n");
    let said = until("/readyz names the mistake", || {
        let said = gateway.ready()["project"].as_str().unwrap().to_owned();
        (said != "ok").then_some(said)
    });
    assert!(said.contains("calls/hello/user.j2:1"), "{said}");
    assert!(gateway.stderr().contains("the last good one stays in force"), "{}", gateway.stderr());
    assert_eq!(http::get(gateway.address, "/readyz").status, 200);
    answers_with(&gateway, "hello@2");

    project.write("calls/hello/user.j2", "Say hello to {{ name }}.\n");
    // What was there before is the release that it was before.
    answers_with(&gateway, "hello@1");
    assert_eq!(gateway.ready()["project"], "ok");

    project.write("calls/new/call.toml", OK);
    project.write("calls/new/user.j2", "Hello.");
    let fresh = || http::post(gateway.address, "/v1/calls/new", &[], &json!({})).status;
    until("a new call is answered", || (fresh() == 200).then_some(()));
    gateway.stop();
}

#[test]
fn providers_change_while_it_runs() {
    let project = project();
    let gateway = project.serve(&[]);
    assert_eq!(ask(&gateway).status, 200);
    let other = format!("{SIM}[providers.other]\nkind = \"sim\"\n");
    project.write("backstay.toml", &other);
    project.write("calls/hello/call.toml", "route = [\"other/ok\"]");
    until("the new provider is asked", || {
        (ask(&gateway).json()["attempts"][0]["target"] == "other/ok").then_some(())
    });
    // The provider of a call goes: a mistake, and the last good project stays.
    project.write("backstay.toml", SIM);
    until("/readyz says so", || (gateway.ready()["project"] != "ok").then_some(()));
    assert_eq!(ask(&gateway).status, 200);
    gateway.stop();
}

#[test]
fn a_drain_finishes_what_is_under_way() {
    let project = Project::new(SIM)
        .with_call("hello", "route = [\"sim/slow-stream\"]\n[stream]\nmode = \"auto\"");
    let mut gateway = project.serve(&[]);
    let stream = slow_stream(&gateway);
    gateway.terminate();
    // New connections are refused, or told that this server is leaving.
    until("new calls are turned away", || {
        let answer = http::try_post(gateway.address, "/readyz", &[], &json!({}));
        answer.map_or(true, |answer| answer.status == 503).then_some(())
    });
    let answer = stream.finish().unwrap();
    assert!(answer.body.trim_end().ends_with("data: [DONE]"), "{}", answer.body);
    let status = gateway.ended();
    assert!(status.success(), "{status}: {}", gateway.stderr());
    let log = project.run(&["log", "--json"]).lines();
    assert_eq!((log.len(), &log[0]["outcome"]), (1, &json!("ok")), "{log:?}");
}

#[test]
fn a_drain_ends_in_time() {
    let project = Project::new(&format!("[server]\ndrain = \"500ms\"\n{SIM}")).with_call(
        "hello",
        "route = [\"sim/stall\"]\n[budget]\nidle = \"30s\"\ndeadline = \"30s\"",
    );
    let mut gateway = project.serve(&[]);
    let stream = slow_stream(&gateway);
    #[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
    let begun = std::time::Instant::now();
    gateway.terminate();
    let status = gateway.ended();
    assert!(status.success(), "{status}: {}", gateway.stderr());
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(15), "{took:?}");
    assert!(gateway.stderr().contains("the drain limit passed"), "{}", gateway.stderr());
    let body = stream.finish().unwrap().body;
    assert!(body.contains("\"type\":\"overloaded\"") && !body.contains("[DONE]"), "{body}");
    // A started call yields exactly one record, even then.
    let log = project.run(&["log", "--json"]).lines();
    assert_eq!((log.len(), &log[0]["outcome"]), (1, &json!("overloaded")), "{log:?}");
}

#[test]
fn a_store_has_one_server() {
    let project = project();
    let gateway = project.serve(&[]);
    let second = project.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.code, 1);
    assert!(second.stderr.contains(&gateway.pid().to_string()), "{}", second.stderr);
    assert!(!second.stderr.contains("listening on"), "{}", second.stderr);
    assert_eq!(ask(&gateway).status, 200);
    gateway.stop();
    // The lock goes with its process.
    project.serve(&[]).stop();
}

#[test]
fn no_log_keeps_none() {
    let project = project();
    let gateway = project.serve(&["--no-log"]);
    assert_eq!(ask(&gateway).status, 200);
    assert_eq!(gateway.ready()["records"], json!(null));
    gateway.stop();
    let files = fs::read_dir(project.store()).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with("calls-")), "{names:?}");
}

#[test]
fn its_own_log_can_be_json() {
    let project = Project::new(SIM).with_call("hello", OK);
    let gateway = project.serve(&["--log-format", "json"]);
    project.write("calls/hello/user.j2", "{{");
    until("the mistake is logged", || {
        let said = gateway.stderr();
        let line = said.lines().find(|line| line.contains("last good one"))?;
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        (line["level"] == "ERROR").then_some(())
    });
    gateway.stop();
}

#[test]
fn it_outlives_the_reader_of_its_log() {
    use std::io::{BufRead, BufReader};
    let project = project();
    let mut command = command(project.dir(), &["serve", "--listen", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap().parse().unwrap();
    project.write("calls/hello/user.j2", "{{");
    until("the mistake was seen, and told to nobody", || {
        (http::get(address, "/readyz").json()["project"] != "ok").then_some(())
    });
    project.write("calls/hello/user.j2", "Say hello to {{ name }} again.");
    until("the mended prompt answers", || {
        let body = json!({"inputs": {"name": "Ada"}});
        let answer = http::post(address, "/v1/calls/hello", &[], &body);
        (answer.header("x-backstay-release") == Some("hello@2")).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
}
