//! Golden cases: `golden/<wire>/<kind>/<case>.in.*` gives `<case>.out.*`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p backstay-providers --test it` writes what comes out; read the diff.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use backstay_core::failure::{Failure, FailureClass};
use backstay_providers::{
    sse::SseReader,
    wire::{
        AnswerSchema, Delta, ErrorView, PROTOCOLS, Prompt, Protocol, Reply, Role, StreamOpening,
        Turn,
    },
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde_json::{Map, Value, json};

const CREATED: u64 = 1_700_000_000;

/// Every case of `kind` with the wire that it is for.
pub(crate) fn cases(kind: &str) -> Vec<(Protocol, PathBuf)> {
    let mut cases = Vec::new();
    for protocol in PROTOCOLS {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let folder = root.join(protocol.name()).join(kind);
        let before = cases.len();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.to_str().unwrap().contains(".in.") {
                cases.push((protocol, path));
            }
        }
        assert!(cases.len() > before, "no case in {}", folder.display());
    }
    cases.sort_by(|a, b| a.1.cmp(&b.1));
    cases
}

/// Runs every case of `kind` and compares; all differences are told at once.
pub(crate) fn check(kind: &str, extension: &str, run: impl Fn(Protocol, &[u8]) -> String) {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = String::new();
    for (protocol, path) in cases(kind) {
        let actual = run(protocol, &fs::read(&path).unwrap());
        let name = path.to_str().unwrap();
        let out = format!("{}.out.{extension}", name.split_once(".in.").unwrap().0);
        if update {
            fs::write(&out, &actual).unwrap();
        }
        let expected = fs::read_to_string(&out).unwrap_or_default();
        if expected != actual {
            writeln!(wrong, "{out}\nexpected:\n{expected}\nactual:\n{actual}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

pub(crate) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

pub(crate) fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn show_failure(failure: &Failure) -> Value {
    json!({"failure": {
        "class": failure.class.code(),
        "message": failure.message,
        "status": failure.status,
        "retry_after_ms": failure.retry_after.map(|pause| u64::try_from(pause.as_millis()).unwrap()),
        "param": failure.param,
    }})
}

fn turns(value: &Value) -> Vec<Turn> {
    let turn = |turn: &Value| {
        let roles = [Role::System, Role::User, Role::Assistant];
        let role = roles.into_iter().find(|role| turn[0] == role.name()).unwrap();
        Turn { role, text: turn[1].as_str().unwrap().to_owned() }
    };
    value.as_array().into_iter().flatten().map(turn).collect()
}

pub(crate) fn prompt_of(case: &Value) -> Prompt {
    let map = |key: &str| Arc::new(case[key].as_object().cloned().unwrap_or_else(Map::new));
    let protocol = PROTOCOLS.into_iter().find(|p| case["protocol"] == p.name()).unwrap();
    Prompt {
        protocol,
        body: map("body"),
        before: turns(&case["before"]),
        after: turns(&case["after"]),
        params: map("params"),
        schema: case.get("schema").map(|schema| {
            Arc::new(AnswerSchema { name: "invoice".to_owned(), schema: schema.clone() })
        }),
        stream: case["stream"] == true,
    }
}

#[test]
fn requests() {
    check("encode", "json", |protocol, input| {
        let prompt = prompt_of(&json_of(input));
        pretty(&match protocol.wire().encode(&prompt, "the-model") {
            Err(failure) => show_failure(&failure),
            Ok(request) => {
                let headers: Map<String, Value> = request
                    .headers
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
                    .collect();
                json!({"path": request.path, "headers": headers, "body": json_of(&request.body)})
            }
        })
    });
}

fn show_reply(reply: &Reply) -> Value {
    let choices: Vec<String> = reply.choices.iter().map(|choice| format!("{choice:?}")).collect();
    json!({"id": reply.id, "model": reply.model, "choices": choices, "usage": reply.usage})
}

fn rendered(protocol: Protocol, reply: &Reply) -> Value {
    match protocol.render_reply(reply, CREATED) {
        Ok(body) => json_of(&body),
        Err(failure) => show_failure(&failure),
    }
}

#[test]
fn replies() {
    check("reply", "json", |protocol, input| {
        let raw = Bytes::copy_from_slice(input);
        let mut reply = match protocol.wire().decode(&raw) {
            Ok(reply) => reply,
            Err(failure) => return pretty(&show_failure(&failure)),
        };
        let verbatim = protocol.render_reply(&reply, CREATED).unwrap();
        assert_eq!(verbatim, raw, "an unchanged reply passes as it came");
        let mut out = json!({"reply": show_reply(&reply)});
        for other in PROTOCOLS.into_iter().filter(|other| *other != protocol) {
            out[other.name()] = rendered(other, &reply);
        }
        if let Some(choice) = reply.choices.first_mut().filter(|choice| !choice.text.is_empty()) {
            "{\"mended\":true}".clone_into(&mut choice.text);
            reply.changed = true;
            out["mended"] = rendered(protocol, &reply);
        }
        reply.raw = Bytes::new();
        out["assembled"] = rendered(protocol, &reply);
        pretty(&out)
    });
}

/// The deltas of a recorded stream, and the failure that ended it.
pub(crate) fn deltas(protocol: Protocol, input: &[u8]) -> (Vec<Delta>, Option<Failure>) {
    let mut reader = SseReader::new(1 << 20);
    reader.push(Bytes::copy_from_slice(input));
    let mut all = Vec::new();
    loop {
        let event = match reader.next() {
            Ok(Some(event)) => event,
            Ok(None) => return (all, None),
            Err(failure) => return (all, Some(failure)),
        };
        match protocol.wire().decode_event(&event) {
            Ok(deltas) => all.extend(deltas),
            Err(failure) => return (all, Some(failure)),
        }
    }
}

pub(crate) fn opening() -> StreamOpening {
    StreamOpening {
        id: "call-1".to_owned(),
        model: "the-call".to_owned(),
        created_unix: CREATED,
        include_usage: true,
    }
}

fn view(failure: &Failure) -> ErrorView {
    ErrorView {
        class: failure.class,
        refusal: failure.refusal,
        message: failure.message.clone(),
        param: failure.param.clone(),
        call_id: "call-1".to_owned(),
        attempts: vec![("a/b".to_owned(), failure.class.code(), 12)],
    }
}

#[test]
fn event_streams() {
    check("stream", "txt", |protocol, input| {
        let (deltas, failure) = deltas(protocol, input);
        let mut out = String::new();
        for delta in &deltas {
            writeln!(out, "{delta:?}").unwrap();
        }
        if let Some(failure) = &failure {
            write!(out, "{}", pretty(&show_failure(failure))).unwrap();
        }
        for client in PROTOCOLS {
            let mut writer = client.stream_writer(opening());
            let mut bytes = Vec::new();
            for delta in &deltas {
                writer.write(delta, &mut bytes);
            }
            if let Some(failure) = &failure {
                bytes.extend(client.error_event(&view(failure)));
            }
            write!(out, "\n=== {}\n{}", client.name(), String::from_utf8(bytes).unwrap()).unwrap();
        }
        out
    });
}

#[test]
fn rejections() {
    check("error", "json", |protocol, input| {
        let case = json_of(input);
        let headers: HeaderMap = case["headers"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().unwrap();
                (name, value.as_str().unwrap().parse().unwrap())
            })
            .collect();
        // A string is a body that is not JSON.
        let body = &case["body"];
        let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
        let status = u16::try_from(case["status"].as_u64().unwrap()).unwrap();
        let failure = protocol.wire().decode_error(status, &headers, body.as_bytes());
        assert_eq!(failure.status, Some(status));
        assert!(!failure.message.contains("SECRET"), "{}", failure.message);
        pretty(&show_failure(&failure))
    });
}

/// Every class in both formats: the shapes that clients and their SDKs rely on.
#[test]
fn error_bodies() {
    for class in FailureClass::ALL {
        let view = view(&Failure::new(class, "A sentence."));
        let attempts = json!([{"target": "a/b", "failure": class.code(), "ms": 12}]);
        let openai = json!({"error": {
            "message": "A sentence.", "type": class.name(), "code": class.code(), "param": null,
            "call_id": "call-1", "attempts": attempts, "retryable": class.row().retryable,
        }});
        assert_eq!(Protocol::OpenAi.error_body(&view), openai);
        let anthropic = Protocol::Anthropic.error_body(&view);
        assert_eq!(anthropic["type"], "error");
        assert_eq!(anthropic["error"]["failure"], class.code());
        assert_eq!(anthropic["error"]["attempts"], attempts);
        assert_eq!(anthropic["request_id"], "call-1");
        assert_ne!(anthropic["error"]["type"], "authentication_error", "not the caller's own 401");
    }
}
