//! The lists of a call, the annotations of its schemas, pseudonyms and erasure: what they take out is in no
//! file, no line of log and no answer about the log.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::{
    http::{self, Answer},
    redaction::{PROVIDER_KEY, assert_clean, assert_clean_files, parrot},
    world::{Project, Server, command},
};

/// Words that no recogniser knows: only the lists of the call can keep them out.
const NAME: &str = "Zebulon Quxworth";
const DIAGNOSIS: &str = "hypervexia nodosa";
const CUSTOMER: &str = "customer-77-vexil";
const UNIT: &str = "unit-quillon-31";
const NOTE: &str = "note-of-the-rejected-grundle";

/// A schema that says what is private, and that the parrot's answers violate where they are asked to.
const SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "patient": {"properties": {"name": {"type": "string", "x-backstay-redact": true}}},
    "customer": {"type": "string", "x-backstay-redact": "pseudonym"},
    "order": {"type": "string", "x-backstay-keep": true},
    "note": {"type": "string", "maxLength": 3, "x-backstay-redact": true}
  }
}"#;

fn private_project(provider: SocketAddr) -> Project {
    let toml = format!(
        "[providers.parrot]\nkind = \"openai\"\nbase_url = \"http://{provider}/v1\"\n\
         api_key = \"env:PROVIDER_KEY\"\n[privacy]\nunits = \"pseudonym\"\n\
         [defaults]\nbudget = {{ attempts = 1 }}\ndegrade = {{ order = [\"error\"] }}\n"
    );
    let call = "route = [\"parrot/echo\"]\n[capture]\nbodies = \"full\"\n\
        deny = [\"$.inputs.patient\", \"$.inputs.say\", \"$..diagnosis\", \
         \"$.messages[*].content\"]\n\
        pseudonymize = [\"$.inputs.customer\"]\nallow = [\"$.inputs.order\"]\n";
    let project = Project::new(&toml).with_call("doctor", call);
    // The parrot's answer is what it was told first.
    project.write("calls/doctor/user.j2", "{{ say }}\n");
    project.write("calls/doctor/output.schema.json", SCHEMA);
    let inputs = r#"{"properties": {"say": {}, "customer": {"type": "string"}}}"#;
    project.write("calls/doctor/input.schema.json", inputs);
    project
}

/// Each way for a private word to come in: inputs, messages, answers, broken answers, units, verdicts,
/// bodies that are too long or no JSON, and requests that name no call.
fn private_calls(gateway: &Server) -> Vec<(u16, Answer)> {
    let answer = json!({"patient": {"name": NAME}, "customer": CUSTOMER, "diagnosis": DIAGNOSIS,
        "order": "+49 171 1234567"});
    let inputs = |say: &str| {
        json!({"say": say, "patient": {"name": NAME}, "deep": [{"diagnosis": DIAGNOSIS}],
            "customer": CUSTOMER, "order": "+49 171 1234567"})
    };
    let native = |inputs: Value| json!({"inputs": inputs, "unit": UNIT});
    let good = answer.to_string();
    let broken = [
        json!({"patient": {"name": [NAME]}}).to_string(),
        json!({"note": NOTE}).to_string(),
        format!("{{\"patient\": {{\"name\": \"{NAME}\""),
        format!("Your diagnosis is {{{DIAGNOSIS}}}"),
    ];
    let path = "/v1/calls/doctor";
    let mut answers = Vec::new();
    let mut ask = |wanted: u16, path: &str, body: &Value| {
        answers.push((wanted, http::post(gateway.address, path, &[], body)));
    };
    ask(200, path, &native(inputs(&good)));
    for broken in &broken {
        ask(502, path, &native(inputs(broken)));
    }
    let openai = json!({"model": "doctor", "backstay": {"inputs": inputs(&good), "unit": UNIT},
        "user": UNIT, "messages": [{"role": "user", "content": format!("I am {NAME}")}]});
    ask(200, "/v1/chat/completions", &openai);
    let mut long = native(inputs(&good));
    long["inputs"]["filler"] = "x".repeat(600 << 10).into();
    ask(200, path, &long);
    ask(404, "/v1/calls/doctr", &native(inputs(&good)));
    let mut violating = native(inputs(&good));
    violating["inputs"]["customer"] = json!([CUSTOMER]);
    ask(400, path, &violating);
    let half = format!("{{\"inputs\": {{\"patient\": \"{NAME}\", \"unit\": \"{UNIT}\"");
    let half = http::send(gateway.address, &format!("POST {path}"), &[], &half);
    answers.push((400, half.and_then(http::Pending::finish).unwrap()));
    answers
}

fn serve(project: &Project) -> Server {
    let args = ["serve", "--listen", "127.0.0.1:0", "--verbosity", "trace"];
    Server::start(command(project.dir(), &args).env("PROVIDER_KEY", PROVIDER_KEY))
}

fn verdicts(gateway: &Server, answers: &[(u16, Answer)]) {
    let verdict = |(_, answer): &(u16, Answer)| {
        json!({"call_id": answer.header("x-backstay-call-id").unwrap(), "ok": false,
            "reason": "ask ada.lovelace@analytical.example.org",
            "expected": {"patient": {"name": NAME}, "customer": CUSTOMER, "note": NOTE,
                "why": [{"diagnosis": DIAGNOSIS}]}})
    };
    let verdicts: Vec<_> = answers.iter().map(verdict).collect();
    let told = http::post(gateway.address, "/v1/outcomes", &[], &json!({"outcomes": verdicts}));
    assert_eq!(told.status, 202, "{told:?}");
}

#[test]
fn what_a_call_takes_out_is_nowhere() {
    let secrets = [NAME, DIAGNOSIS, CUSTOMER, UNIT, NOTE, "ada.lovelace@analytical.example.org"];
    let project = private_project(parrot());
    let gateway = serve(&project);
    let answers = private_calls(&gateway);
    for (wanted, answer) in &answers {
        assert_eq!(answer.status, *wanted, "{answer:?}");
    }
    assert!(answers[0].1.body.contains(NAME), "an answer is not touched on its way");
    verdicts(&gateway, &answers);
    let asked = u64::try_from(answers.len()).unwrap();
    assert_clean_files(&project.store(), &secrets);
    gateway.stored(2 * asked);
    assert_clean_files(&project.store(), &secrets);
    for path in [
        "/readyz",
        "/healthz",
        "/metrics",
        "/v1/models",
        "/api/v1/board?window=1h",
        "/api/v1/calls/doctor",
        "/api/v1/log?limit=200",
        "/api/v1/alerts",
        "/api/v1/health",
    ] {
        let told = http::get(gateway.address, path);
        assert_clean(path, told.body.as_bytes(), &secrets);
    }
    let calls = project.run(&["log", "--json"]).lines();
    assert_eq!(calls.len(), answers.len());
    let mut shown = Vec::new();
    for call in &calls {
        let id = call["id"].as_str().unwrap();
        let text = project.run(&["show", id]).stdout;
        assert_clean("show", text.as_bytes(), &secrets);
        let json = project.run(&["show", id, "--json"]);
        assert_clean("show --json", json.stdout.as_bytes(), &secrets);
        shown.push(json.lines().remove(0));
    }
    what_is_left_is_of_use(&project, &shown);
    assert_clean("stderr", gateway.stop().as_bytes(), &secrets);
    assert_clean_files(&project.store(), &secrets);
}

/// Not everything is gone: joins work, allowed numbers stay, and what is missing says why.
fn what_is_left_is_of_use(project: &Project, shown: &[Value]) {
    let first = shown.last().unwrap();
    let body = |field: &str| -> Value {
        serde_json::from_str(first["record"][field].as_str().unwrap()).unwrap()
    };
    let (request, answer) = (body("request"), body("answer"));
    assert_eq!(request["inputs"]["order"], "+49 171 1234567");
    assert_eq!(answer["order"], "+49 171 1234567");
    assert_eq!(request["inputs"]["patient"], "[redacted:denied]");
    let customer = request["inputs"]["customer"].as_str().unwrap();
    assert!(customer.starts_with("p_") && customer.len() == 22, "{customer}");
    assert_eq!(answer["customer"], customer, "the same one, in both");
    assert_eq!(first["reports"][0]["expected"]["customer"], customer);
    assert_eq!(request["unit"], first["record"]["unit"]);
    let texts: Vec<_> = shown.iter().map(ToString::to_string).collect();
    for why in ["[not kept: this is not whole JSON", "[not kept: longer than 512 KiB"] {
        assert!(texts.iter().any(|text| text.contains(why)), "{why}");
    }
    // By the name that the application uses, and by that of the log.
    let unit = first["record"]["unit"].as_str().unwrap();
    for named in [UNIT, unit] {
        let found = project.run(&["log", "--unit", named, "--json"]).lines();
        assert!(found.len() >= 7 && found.iter().all(|call| call["unit"] == unit), "{found:?}");
    }
    assert!(project.run(&["log", "--unit", "nobody", "--json"]).lines().is_empty());
}

/// Asks as `unit`; the id of the call.
fn ask_as(gateway: &Server, unit: &str) -> String {
    let body = json!({"inputs": {"name": format!("name of {unit}")}, "unit": unit});
    let answer = http::post(gateway.address, "/v1/calls/hi", &[], &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("x-backstay-call-id").unwrap().to_owned()
}

fn erase(project: &Project, unit: &str, more: &[&str]) -> Value {
    let erased = project.run(&[&["erase", "--unit", unit, "--json"], more].concat());
    assert_eq!(erased.code, 0, "{erased:?}");
    erased.lines().remove(0)
}

fn logged(project: &Project, unit: &str) -> usize {
    project.run(&["log", "--unit", unit, "--json"]).lines().len()
}

const MAIL: &str = "zeb@example.org";
const ANOTHER: &str = "unit-of-another";

/// A gateway that 40 calls each of three units went through; and the calls of the first.
fn busy(project: &Project) -> (Server, Vec<String>) {
    let gateway = project.serve(&[]);
    let mut calls = Vec::new();
    for _ in 0..40 {
        calls.push(ask_as(&gateway, UNIT));
        ask_as(&gateway, MAIL);
        ask_as(&gateway, ANOTHER);
    }
    let verdict = json!({"call_id": calls[0], "ok": false, "reason": format!("asked by {UNIT}")});
    http::post(gateway.address, "/v1/outcomes", &[], &verdict);
    gateway.stored(121);
    (gateway, calls)
}

#[test]
fn a_unit_is_erased_while_the_gateway_runs() {
    let project = Project::new("[providers.sim]\n").with_call("hi", "route = [\"sim/ok\"]\n");
    let (gateway, calls) = busy(&project);
    let erased = erase(&project, UNIT, &["--yes"]);
    assert_eq!((&erased["calls"], &erased["erased"]), (&json!(40), &json!(true)));
    assert_eq!(erased["days"][0]["reports"], 1);
    assert_clean_files(&project.store(), &[UNIT]);
    for id in &calls {
        assert_eq!(project.run(&["show", id]).code, 1, "{id} is gone");
    }
    // A mail address is kept as a pseudonym, so that it can be erased alone.
    assert_eq!(erase(&project, MAIL, &["--yes"])["calls"], 40);
    assert_eq!(logged(&project, ANOTHER), 40, "the others are whole");
    // The gateway goes on, and it can be done again when it has ended.
    let late = ask_as(&gateway, UNIT);
    gateway.stored(122);
    assert_eq!(project.run(&["show", &late]).code, 0);
    gateway.stop();
    assert_eq!(erase(&project, UNIT, &["--yes"])["calls"], 1);
    assert_clean_files(&project.store(), &[UNIT]);
    assert_eq!(logged(&project, ANOTHER), 40);
}

#[test]
fn nothing_is_erased_without_a_yes() {
    let project = Project::new("[providers.sim]\n").with_call("hi", "route = [\"sim/ok\"]\n");
    let (_gateway, _) = busy(&project);
    let refused = project.run(&["erase", "--unit", UNIT]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("--yes") && refused.stderr.contains("40 calls"), "{refused:?}");
    let dry = erase(&project, UNIT, &["--dry-run"]);
    assert_eq!((&dry["calls"], &dry["erased"]), (&json!(40), &json!(false)));
    assert_eq!(logged(&project, UNIT), 40);
    let nobody = project.run(&["erase", "--unit", "nobody"]);
    assert_eq!((nobody.code, nobody.stdout.contains("nothing of this unit")), (0, true));
    assert_eq!(project.run(&["erase", "--unit", ""]).code, 1);
}

#[test]
fn gateways_with_one_key_make_the_same_pseudonyms() {
    let toml = "[privacy]\nkey = \"env:PSEUDONYMS\"\nunits = \"pseudonym\"\n[providers.sim]\n";
    let unit_of = |key: &str| {
        let project = Project::new(toml).with_call("hi", "route = [\"sim/ok\"]\n");
        let args = ["serve", "--listen", "127.0.0.1:0"];
        let gateway = Server::start(command(project.dir(), &args).env("PSEUDONYMS", key));
        let body = json!({"inputs": {"name": "x"}, "unit": UNIT});
        http::post(gateway.address, "/v1/calls/hi", &[], &body);
        gateway.stored(1);
        let args = ["log", "--unit", UNIT, "--json"];
        let found = crate::world::ran(command(project.dir(), &args).env("PSEUDONYMS", key));
        found.lines()[0]["unit"].as_str().unwrap().to_owned()
    };
    let one = unit_of("a key of sixteen bytes or more");
    assert_eq!(one, unit_of("a key of sixteen bytes or more"));
    assert_ne!(one, unit_of("another key of sixteen bytes"));
    // Without it nothing starts, rather than people being named.
    for (key, told) in [(None, "PSEUDONYMS is not set"), (Some("short"), "16 bytes")] {
        let project = Project::new(toml);
        let mut command = command(project.dir(), &["serve", "--listen", "127.0.0.1:0"]);
        key.map(|key| command.env("PSEUDONYMS", key));
        let refused = crate::world::ran(&mut command);
        assert!(refused.code == 1 && refused.stderr.contains(told), "{refused:?}");
    }
}
