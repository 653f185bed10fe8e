//! Requests that nobody should send: each is answered with a 4xx in the client's own protocol that
//! names what is wrong, costs no request to a provider, and leaves a record where it was a call.

use std::collections::HashMap;

use backstay_server::auth;
use backstay_store::{CallRow, RegistryStore, SqliteRegistry};
use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value, json};

use crate::{
    harness::{Ask, Files, Gateway, Told, Upstream, project, send_raw},
    reading::{Speaks, whole},
};

/// How a client reaches the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    OpenAi,
    Anthropic,
    Native,
}

impl Way {
    const ALL: [Self; 3] = [Self::OpenAi, Self::Anthropic, Self::Native];

    const fn speaks(self) -> Speaks {
        match self {
            Self::OpenAi | Self::Native => Speaks::OpenAi,
            Self::Anthropic => Speaks::Anthropic,
        }
    }

    fn path(self, call: &str) -> String {
        match self {
            Self::OpenAi => "/v1/chat/completions".to_owned(),
            Self::Anthropic => "/v1/messages".to_owned(),
            Self::Native => format!("/v1/calls/{call}"),
        }
    }

    /// A sound request for `call`.
    fn body(self, call: &str) -> Map<String, Value> {
        let messages = json!([{ "role": "user", "content": "How will the wind be?" }]);
        let body = match self {
            Self::OpenAi => json!({ "model": call, "messages": messages }),
            Self::Anthropic => json!({ "model": call, "messages": messages, "max_tokens": 100 }),
            Self::Native => json!({ "messages": messages }),
        };
        body.as_object().unwrap().clone()
    }

    /// A request for `call` in which `field` is `value`.
    fn ask(self, call: &str, field: &str, value: Value) -> Ask {
        let mut body = self.body(call);
        body.insert(field.to_owned(), value);
        Ask::json(&self.path(call), &body.into())
    }

    /// A request with Backstay's own `field` in the place where this protocol has it.
    fn steer(self, call: &str, field: &str, value: Value) -> Ask {
        match self {
            Self::Native => self.ask(call, field, value),
            Self::OpenAi | Self::Anthropic => self.ask(call, "backstay", json!({ field: value })),
        }
    }

    fn sound(self, call: &str) -> Ask {
        Ask::json(&self.path(call), &self.body(call).into())
    }

    /// A request whose answer has to satisfy `schema`; native calls cannot ask for that.
    fn with_schema(self, schema: &Value) -> Option<Ask> {
        match self {
            Self::OpenAi => {
                let format = json!({
                    "type": "json_schema", "json_schema": { "name": "n", "schema": schema },
                });
                Some(self.ask("chat", "response_format", format))
            }
            Self::Anthropic => {
                let format = json!({ "format": { "type": "json_schema", "schema": schema } });
                Some(self.ask("chat", "output_config", format))
            }
            Self::Native => None,
        }
    }

    /// A request for something else than a call's name; native calls are named by their path.
    fn model(self, model: &Value) -> Option<Ask> {
        (self != Self::Native).then(|| self.ask("chat", "model", model.clone()))
    }

    /// Where an error about Backstay's own `field` points to.
    fn param(self, field: &str) -> String {
        match self {
            Self::Native => field.to_owned(),
            Self::OpenAi | Self::Anthropic => format!("backstay.{field}"),
        }
    }
}

/// A bad request: what is sent, and what has to be said of it.
struct Bad {
    name: &'static str,
    ask: Ask,
    status: u16,
    param: String,
    /// Words of the message.
    says: &'static [&'static str],
}

fn bad(name: &'static str, ask: Ask, param: &str, says: &'static [&'static str]) -> Bad {
    Bad { name, ask, status: 400, param: param.to_owned(), says }
}

impl Bad {
    fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }
}

fn bodies(way: Way) -> Vec<Bad> {
    let post = |body: Vec<u8>| Ask::post(&way.path("chat"), body);
    let whole = serde_json::to_vec(&way.body("chat")).unwrap();
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep = format!(r#"{{"model":"chat","messages":{deep}}}"#);
    let broken = whole[..whole.len() / 2].to_vec();
    let mut not_utf8 = whole.clone();
    let at = not_utf8.windows(4).position(|four| four == b"wind").unwrap();
    not_utf8[at] = 0xff;
    let huge = way.ask("chat", "user", json!("x".repeat(13_000_000)));
    vec![
        bad("invalid JSON", post(broken), "body", &["not valid JSON"]),
        bad("an empty body", post(Vec::new()), "body", &["no body"]),
        bad("an array", post(b"[]".to_vec()), "body", &["must be a JSON object"]),
        bad("JSON of 10,000 levels", post(deep.into_bytes()), "body", &["not valid JSON"]),
        bad("invalid UTF-8", post(not_utf8), "body", &["not valid JSON"]),
        bad("a body that is too large", huge, "content-length", &["12000000", "server.max_body"])
            .status(413),
    ]
}

fn fields(way: Way) -> Vec<Bad> {
    vec![
        bad(
            "messages of a wrong type",
            way.ask("chat", "messages", json!("hello")),
            "messages",
            &["must be an array"],
        ),
        bad(
            "no messages",
            way.ask("chat", "messages", json!([])),
            "messages",
            &["nothing to answer"],
        ),
        bad(
            "inputs of a wrong type",
            way.steer("weather", "inputs", json!("Kiel")),
            &way.param("inputs"),
            &["must be a JSON object"],
        ),
        bad(
            "a unit of a wrong type",
            way.steer("chat", "unit", json!(5)),
            &way.param("unit"),
            &["must be a string"],
        ),
        bad(
            "a unit that is too long",
            way.steer("chat", "unit", json!("u".repeat(300))),
            "unit",
            &["256"],
        ),
        bad(
            "an unknown option",
            way.steer("chat", "unitt", json!("u")),
            &way.param("unitt"),
            &["unknown", "`unit`"],
        ),
        bad(
            "a missing input",
            way.sound("free"),
            &way.param("inputs.city"),
            &["`city`", "missing"],
        ),
        bad(
            "an input that violates the schema",
            way.steer("weather", "inputs", json!({ "city": 7 })),
            &way.param("inputs"),
            &["$.city", "`type`"],
        ),
        bad(
            "an input that is not there",
            way.sound("weather"),
            &way.param("inputs"),
            &["`required`", "city"],
        ),
    ]
}

/// Fields that native requests do not have, or not there.
fn outer_fields(way: Way) -> Vec<Bad> {
    if way == Way::Native {
        return Vec::new();
    }
    vec![
        bad(
            "a stream of a wrong type",
            way.ask("chat", "stream", json!("yes")),
            "stream",
            &["true or false"],
        ),
        bad(
            "options of a wrong type",
            way.ask("chat", "backstay", json!([])),
            "backstay",
            &["an object"],
        ),
    ]
}

fn names(way: Way) -> Vec<Bad> {
    let mut all = vec![
        bad("an unknown call", way.sound("wether"), "model", &["`wether`", "weather"]).status(404),
        bad(
            "an unknown release",
            way.sound("chat").with("x-backstay-release", "99"),
            "model",
            &["no release `99`", "stable"],
        )
        .status(404),
    ];
    let models = [
        ("a model of a wrong type", json!(17), 400, &["a string of 1 to 256 bytes"][..]),
        ("an empty model", json!(""), 400, &["a string of 1 to 256 bytes"]),
        ("an endless model", json!("sim/x".repeat(60)), 400, &["a string of 1 to 256 bytes"]),
        ("an unknown pinned release", json!("chat@99"), 404, &["no release `99`"]),
        ("a release that is no number", json!("chat@newest"), 404, &["no release `newest`"]),
        ("an unknown provider", json!("nowhere/gpt"), 404, &["no provider `nowhere`", "up"]),
        ("a target without a model", json!("up/"), 404, &["provider/model"]),
    ];
    for (name, model, status, says) in models {
        all.extend(way.model(&model).map(|ask| bad(name, ask, "model", says).status(status)));
    }
    if way != Way::Native {
        let mut body = way.body("chat");
        body.remove("model");
        let ask = Ask::json(&way.path("chat"), &body.into());
        all.push(bad("no model", ask, "model", &["missing"]));
    }
    all
}

fn headers(way: Way) -> Vec<Bad> {
    let mut all = Vec::new();
    for value in ["soon", "0", "-5", "1.5", "99999999999999999999999"] {
        let ask = way.sound("chat").with("x-backstay-deadline-ms", value);
        all.push(bad("a bad deadline", ask, "x-backstay-deadline-ms", &["positive number"]));
    }
    let ask = way.sound("chat").with("x-backstay-unit", "M\u{fc}ller");
    all.push(bad("a unit that is not ASCII", ask, "x-backstay-unit", &["ASCII"]));
    for (name, value) in [("origin", "https://example.com"), ("host", "example.com")] {
        let ask = way.sound("chat").with(name, value);
        let says = &["this machine"];
        all.push(bad("a request of another site", ask, name, says).status(403));
    }
    all.extend(way.model(&json!("up/ok")).map(|ask| {
        let ask = ask.with("x-backstay-call", "Not A Call");
        bad("a bad name of a call", ask, "x-backstay-call", &["a-z"])
    }));
    all
}

fn schemas(way: Way) -> Vec<Bad> {
    let mut deep = json!({ "type": "string" });
    for _ in 0..40 {
        deep = json!({ "properties": { "a": deep } });
    }
    let wide: Map<String, Value> =
        (0..20_000).map(|n| (format!("field_{n}"), json!({ "type": "string" }))).collect();
    let all = [
        ("a schema that is none", json!({ "type": "nonsense" })),
        ("a schema of a wrong type", json!("object")),
        ("a remote schema", json!({ "$ref": "https://example.com/schema.json" })),
        ("a schema from a file", json!({ "$ref": "file:///etc/passwd" })),
        ("a schema that turns in circles", json!({ "$ref": "#" })),
        ("a deep schema", deep),
        ("a huge schema", json!({ "properties": wide })),
        ("a pattern that explodes", json!({ "pattern": "((a{1,1000}){1,1000}){1,1000}" })),
    ];
    let param = match way {
        Way::OpenAi | Way::Native => "response_format",
        Way::Anthropic => "output_config.format",
    };
    all.into_iter()
        .filter_map(|(name, schema)| Some(bad(name, way.with_schema(&schema)?, param, &[])))
        .collect()
}

fn files(upstream: &Upstream) -> Files {
    let toml = format!("[server]\nmax_body = \"12MB\"\n{}", upstream.provider("up", "openai"));
    let input = json!({
        "type": "object", "required": ["city"], "properties": { "city": { "type": "string" } },
    });
    let route = "route = [\"up/ok\"]\n".to_owned();
    vec![
        ("backstay.toml".into(), toml),
        ("calls/chat/call.toml".into(), route.clone()),
        ("calls/free/call.toml".into(), route.clone()),
        ("calls/free/user.j2".into(), "The weather in {{ city }}?".into()),
        ("calls/weather/call.toml".into(), route),
        ("calls/weather/user.j2".into(), "The weather in {{ city }}?".into()),
        ("calls/weather/input.schema.json".into(), input.to_string()),
    ]
}

/// The error of a bad request, in the client's protocol and complete.
fn error_of(speaks: Speaks, told: &Told) -> Value {
    assert_eq!(told.header("content-type"), "application/json");
    let heard = whole(speaks, &told.body);
    assert_eq!(heard.code(speaks), Some("bad_request"), "{heard:?}");
    let error = heard.error.unwrap();
    assert_eq!(error["call_id"], told.header("x-backstay-call-id"));
    assert_eq!((&error["retryable"], &error["attempts"]), (&json!(false), &json!([])));
    for (name, value) in [
        ("release", None),
        ("variant", None),
        ("outcome", Some("bad_request")),
        ("degraded", Some("none")),
        ("attempts", Some("0")),
        ("overhead-us", None),
    ] {
        let found = told.header(&format!("x-backstay-{name}"));
        assert!(value.is_none_or(|value| value == found), "{name} is {found}");
    }
    error
}

fn check(way: Way, bad: &Bad, told: &Told, rows: &HashMap<String, CallRow>) {
    assert_eq!(told.status, bad.status, "{told:?}");
    let error = error_of(way.speaks(), told);
    assert_eq!(error["param"], bad.param.as_str(), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(bad.says.iter().all(|words| message.contains(words)), "{message}");
    assert!(told.body.len() < 4096, "an error of {} bytes", told.body.len());
    let row = rows.get(told.header("x-backstay-call-id")).expect("a record");
    assert_eq!((row.outcome.code(), row.attempts), ("bad_request", 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_request_is_told_what_is_wrong_and_costs_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    let mut told = Vec::new();
    for way in Way::ALL {
        for bad in
            [bodies, fields, outer_fields, names, headers, schemas].into_iter().flat_map(|f| f(way))
        {
            let answer = gateway.send(bad.ask.clone()).await;
            told.push((way, bad, answer));
        }
    }
    assert_eq!(upstream.sim.requests(), 0, "nothing of this is worth a request");
    let rows: HashMap<_, _> =
        gateway.rows().await.into_iter().map(|row| (row.id.to_string(), row)).collect();
    assert_eq!(rows.len(), told.len(), "one record for each call");
    let mut wrong = 0;
    for (way, bad, told) in &told {
        let check = std::panic::AssertUnwindSafe(|| check(*way, bad, told, &rows));
        if std::panic::catch_unwind(check).is_err() {
            wrong += 1;
            eprintln!("^^^ {way:?}: {}", bad.name);
        }
    }
    assert_eq!(wrong, 0, "of {} bad requests", told.len());
    gateway.end().await;
}

#[tokio::test]
async fn a_large_prompt_below_the_limit_is_answered() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    for way in Way::ALL {
        let content = "wind ".repeat(2_000_000);
        let messages = json!([{ "role": "user", "content": content }]);
        let told = gateway.send(way.ask("chat", "messages", messages)).await;
        assert_eq!(told.status, 200, "{way:?}: {told:?}");
    }
    gateway.end().await;
}

#[tokio::test]
async fn a_request_that_is_no_call_is_told_so_and_not_recorded() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    let get = |path: &str| Ask::get(path);
    let delete = Ask { method: Method::DELETE, ..get("/v1/models") };
    for (ask, status, param) in [
        (get("/nothing"), 404, "path"),
        (get("/v1/nothing"), 404, "path"),
        (Ask::json("/v1/chat", &json!({})), 404, "path"),
        (get("/v1/chat/completions"), 405, "method"),
        (get("/v1/messages"), 405, "method"),
        (get("/v1/calls/chat"), 405, "method"),
        (delete, 405, "method"),
        (get("/v1/models").with("host", "example.com"), 403, "host"),
        (Ask::json("/v1/outcomes", &json!({})).with("origin", "http://a.example"), 403, "origin"),
    ] {
        for speaks in [Speaks::OpenAi, Speaks::Anthropic] {
            let ask = match speaks {
                Speaks::OpenAi => ask.clone(),
                Speaks::Anthropic => ask.clone().with("anthropic-version", "2023-06-01"),
            };
            let told = gateway.send(ask.clone()).await;
            assert_eq!(told.status, status, "{ask:?}: {told:?}");
            assert_eq!(error_of(speaks, &told)["param"], param);
        }
    }
    assert_eq!(gateway.flushed().await.received, 0);
    gateway.end().await;
}

#[tokio::test]
async fn broken_http_ends_at_the_door() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n";
    let long = "x".repeat(66_000);
    let oversize = format!("{head}x-long: {long}\r\n\r\n");
    let oversize = send_raw(gateway.address, oversize.as_bytes()).await;
    assert!(oversize.starts_with("HTTP/1.1 431 "), "{oversize}");
    let nonsense = send_raw(gateway.address, b"HELO mail.example.com\r\n\r\n").await;
    assert!(nonsense.starts_with("HTTP/1.1 400 "), "{nonsense}");
    let cut = format!("{head}content-length: 1000\r\n\r\n{{\"model\":");
    let cut = send_raw(gateway.address, cut.as_bytes()).await;
    // Who has stopped sending may still listen; who is gone hears nothing.
    if !cut.is_empty() {
        assert!(cut.starts_with("HTTP/1.1 400 ") && cut.contains("cut off"), "{cut}");
    }
    let rows = gateway.rows().await;
    assert_eq!(rows.len(), 1, "only the last one was a call: {rows:?}");
    assert_eq!(rows[0].outcome.code(), "bad_request");
    assert_eq!(upstream.sim.requests(), 0);
    let sound = gateway.send(Way::OpenAi.sound("chat")).await;
    assert_eq!(sound.status, 200);
    gateway.end().await;
}

#[tokio::test]
async fn only_a_valid_key_opens() {
    let upstream = Upstream::start().await;
    let dir = project(&files(&upstream));
    let mut registry = SqliteRegistry::open(dir.path().join(".backstay")).unwrap();
    let (key, row) = auth::make("app", &[7; 24], 1);
    let (revoked, revoked_row) = auth::make("old", &[8; 24], 1);
    for row in [&row, &revoked_row] {
        registry.key_create(row).unwrap();
    }
    registry.key_revoke("old", 2).unwrap();
    drop(registry);
    let gateway = Gateway::start_in(dir).await;
    let (wrong, _) = auth::make("app", &[9; 24], 1);
    let half = &key[..key.len() - 1];
    let with_key = |ask: Ask, key: &str| ask.with("authorization", &format!("Bearer {key}"));
    let asks = Way::ALL.map(|way| (way.speaks(), way.sound("chat")));
    let others = [Ask::get("/v1/models"), Ask::json("/v1/outcomes", &json!({}))];
    let others = others.map(|ask| (Speaks::OpenAi, ask));
    for (speaks, ask) in asks.iter().chain(&others) {
        let refused = [
            ask.clone(),
            with_key(ask.clone(), &wrong),
            with_key(ask.clone(), &revoked),
            with_key(ask.clone(), half),
            ask.clone().with("x-api-key", &wrong),
            ask.clone().with("authorization", &key),
        ];
        for ask in refused {
            let told = gateway.send(ask.clone()).await;
            assert_eq!(told.status, 401, "{ask:?}: {told:?}");
            let error = error_of(*speaks, &told);
            assert_eq!(error["param"], "authorization");
            assert!(!String::from_utf8_lossy(&told.body).contains(half), "{error}");
        }
    }
    assert_eq!(upstream.sim.requests(), 0);
    for (_, ask) in asks {
        for ask in [with_key(ask.clone(), &key), ask.with("x-api-key", &key)] {
            assert_eq!(gateway.send(ask).await.status, 200);
        }
    }
    for row in gateway.rows().await {
        let stored = gateway.record(&row.id.to_string()).await.unwrap();
        assert!(!format!("{stored:?}").contains(half), "a key in the call log");
    }
    gateway.end().await;
}

/// Nothing of a request's body is repeated in an error beyond the names that it got wrong.
#[tokio::test]
async fn an_error_does_not_repeat_what_was_sent() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&files(&upstream)).await;
    let secret = "sk-proj-0123456789abcdefghijklmnop";
    let body = format!(r#"{{"model":"chat","messages":[{{"role":"user","content":"{secret}"}}"#);
    let told = gateway.send(Ask::post("/v1/chat/completions", Bytes::from(body))).await;
    assert_eq!(told.status, 400);
    assert!(!String::from_utf8_lossy(&told.body).contains(secret));
    let id = told.header("x-backstay-call-id");
    let stored = gateway.record(id).await.unwrap();
    assert!(!format!("{stored:?}").contains(secret), "{stored:?}");
    gateway.end().await;
}
