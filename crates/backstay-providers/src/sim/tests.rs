//! The simulated provider in process: every fault shows what its name says, under paused time.

use std::collections::BTreeMap;

use http::{HeaderName, header::RETRY_AFTER};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    config::{FaultRate, Latency, Schedule},
    *,
};

const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn ask(protocol: Protocol, model: &str, stream: bool) -> WireRequest {
    let schema = json!({
        "type": "object",
        "required": ["total", "currency"],
        "additionalProperties": false,
        "properties": { "total": { "type": "number" }, "currency": { "type": "string" } },
    });
    let mut body = json!({
        "model": model,
        "stream": stream,
        "stream_options": { "include_usage": true },
        "messages": [{ "role": "user", "content": "How much is it?" }],
    });
    let path = match protocol {
        Protocol::OpenAi => {
            body["response_format"] =
                json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema } });
            "/chat/completions"
        }
        Protocol::Anthropic => {
            body["output_config"] =
                json!({ "format": { "type": "json_schema", "schema": schema } });
            "/messages"
        }
    };
    WireRequest { path, headers: Vec::new(), body: body.to_string().into() }
}

/// What a client sees of one request, pauses included.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    head: Result<(u16, HeaderMap), String>,
    /// Milliseconds since the request, and the bytes (of a huge body: its size).
    body: Vec<(u128, Bytes)>,
    size: u64,
    end: &'static str,
}

async fn play(sim: &Sim, request: &WireRequest) -> Seen {
    let began = Instant::now();
    let mut seen = Seen { head: Err(String::new()), body: Vec::new(), size: 0, end: "none" };
    let opened = match timeout(MINUTE, sim.open(request)).await {
        Err(_) => return Seen { head: Err("hangs".to_owned()), ..seen },
        Ok(Err(failure)) => return Seen { head: Err(failure.to_string()), ..seen },
        Ok(Ok(exchange)) => exchange,
    };
    seen.head = Ok((opened.status, opened.headers));
    let mut body = opened.body;
    loop {
        match timeout(MINUTE, body.chunk()).await {
            Ok(Ok(Some(bytes))) => {
                seen.size += bytes.len() as u64;
                if seen.body.len() < 100 {
                    seen.body.push((began.elapsed().as_millis(), bytes));
                }
            }
            Ok(Ok(None)) => return Seen { end: "complete", ..seen },
            Ok(Err(failure)) => return Seen { end: failure.class.code(), ..seen },
            Err(_) => return Seen { end: "hangs", ..seen },
        }
    }
}

impl Seen {
    fn status(&self) -> u16 {
        self.head.as_ref().map_or(0, |(status, _)| *status)
    }
    fn header(&self, name: &str) -> Option<&str> {
        self.head.as_ref().ok()?.1.get(name)?.to_str().ok()
    }
    fn text(&self) -> String {
        self.body.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes)).collect()
    }
    fn json(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

const KINDS: [(Protocol, bool); 4] = [
    (Protocol::OpenAi, false),
    (Protocol::OpenAi, true),
    (Protocol::Anthropic, false),
    (Protocol::Anthropic, true),
];

async fn fresh(fault: Fault, (protocol, stream): (Protocol, bool)) -> Seen {
    // The model is the same for all, so that replies differ by their fault alone.
    let sim = Sim::scripted(vec![fault]);
    play(&sim, &ask(protocol, "m", stream)).await
}

#[tokio::test(start_paused = true)]
async fn every_fault_differs_from_every_other_and_from_health() {
    for kind @ (protocol, stream) in KINDS {
        let mut all: Vec<(Fault, Seen)> = Vec::new();
        for fault in Fault::ALL.iter().copied() {
            let seen = fresh(fault, kind).await;
            let twins: Vec<_> =
                all.iter().filter(|(_, other)| *other == seen).map(|(other, _)| *other).collect();
            // In process nothing is packed on the way: there, gzip is health.
            let unaffected =
                fault == Fault::Gzip || fault.seen(protocol, stream) == fault::Seen::Unaffected;
            let expected = if unaffected { vec![Fault::None] } else { Vec::new() };
            assert_eq!(twins, expected, "{fault:?} {kind:?}");
            if !unaffected {
                all.push((fault, seen));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn faults_of_the_connection_look_as_a_transport_would_report_them() {
    for kind in KINDS {
        assert_eq!(fresh(Fault::HangHeaders, kind).await.head, Err("hangs".to_owned()));
        for fault in [Fault::ConnectionRefused, Fault::ResetBeforeHeaders, Fault::TlsFailure] {
            let error = fresh(fault, kind).await.head.unwrap_err();
            assert!(error.starts_with("connection: "), "{error}");
        }
        let hung = fresh(Fault::HangFirstToken, kind).await;
        assert_eq!((hung.status(), hung.size, hung.end), (200, 0, "hangs"));
        let reset = fresh(Fault::ResetAfterHeaders, kind).await;
        assert_eq!((reset.status(), reset.size, reset.end), (200, 0, "truncated_stream"));
        let stalled = fresh(Fault::Stall, kind).await;
        assert_eq!(stalled.end, "hangs");
        assert!(stalled.size > 0 && stalled.size < fresh(Fault::None, kind).await.size);
        let slow = fresh(Fault::SlowStream, kind).await;
        assert_eq!(slow.text(), fresh(Fault::None, kind).await.text());
        assert!(slow.body.last().unwrap().0 >= 500, "{:?}", slow.body);
        assert_eq!(slow.end, "complete");
        let huge = fresh(Fault::Body50Mb, kind).await;
        assert!(huge.size > 50 * 1024 * 1024 && huge.end == "complete");
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_are_cut_where_they_should_be() {
    for kind @ (protocol, stream) in KINDS {
        let cut = fresh(Fault::CutStream, kind).await;
        let healthy = fresh(Fault::None, kind).await;
        assert!(healthy.text().starts_with(&cut.text()) && cut.size < healthy.size);
        let terminal = match protocol {
            Protocol::OpenAi => "[DONE]",
            Protocol::Anthropic => "message_stop",
        };
        let half = fresh(Fault::TruncatedJsonBody, kind).await;
        assert!(healthy.text().starts_with(&half.text()) && half.size < healthy.size);
        assert_eq!(half.end, "complete");
        if stream {
            assert!(healthy.text().contains(terminal));
            assert!(!cut.text().contains(terminal) && cut.text().ends_with("\n\n"));
            assert!(!half.text().ends_with('\n'));
            let missing = fresh(Fault::MissingDone, kind).await.text();
            assert!(!missing.contains(terminal) && missing.contains("stop"), "{missing}");
            let error = fresh(Fault::ErrorEvent, kind).await.text();
            assert!(error.contains("\"error\"") && !error.contains(terminal));
            assert!(fresh(Fault::MalformedSseLine, kind).await.text().contains(terminal));
        } else {
            assert_eq!(cut.end, "truncated_stream");
            let length = |seen: &Seen| seen.header("content-length").unwrap().parse::<u64>();
            assert!(length(&cut).unwrap() > cut.size);
            assert_eq!(length(&half), Ok(half.size));
            assert!(serde_json::from_str::<Value>(&half.text()).is_err());
            assert!(fresh(Fault::ErrorEvent, kind).await.json()["error"].is_object());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn errors_have_the_status_and_the_shape_of_their_vendor() {
    for kind @ (protocol, _) in KINDS {
        for (fault, status, openai, anthropic) in [
            (Fault::RateLimited, 429, "rate_limit_exceeded", "rate_limit_error"),
            (Fault::Internal, 500, "server_error", "api_error"),
            (Fault::Unavailable, 503, "server_error", "overloaded_error"),
            (Fault::Overloaded, 529, "server_error", "overloaded_error"),
            (Fault::ContextLength, 400, "context_length_exceeded", "invalid_request_error"),
            (Fault::Unauthorized, 401, "invalid_api_key", "authentication_error"),
            (Fault::BadRequest, 400, "invalid_request_error", "invalid_request_error"),
            (Fault::ContentFilter, 400, "content_filter", "invalid_request_error"),
        ] {
            let seen = fresh(fault, kind).await;
            assert_eq!(seen.status(), status, "{fault:?}");
            let error = &seen.json()["error"];
            let (word, expected) = match protocol {
                Protocol::OpenAi => (error["code"].as_str().or(error["type"].as_str()), openai),
                Protocol::Anthropic => (error["type"].as_str(), anthropic),
            };
            if fault == Fault::BadRequest {
                assert_eq!(error["type"], "invalid_request_error");
            } else {
                assert_eq!(word, Some(expected), "{fault:?}");
            }
        }
        let header = async |fault, name: HeaderName| {
            fresh(fault, kind).await.header(name.as_str()).map(str::to_owned)
        };
        let millis = HeaderName::from_static("retry-after-ms");
        assert_eq!(header(Fault::RateLimited, RETRY_AFTER).await, None);
        assert_eq!(header(Fault::RateLimitedSeconds, RETRY_AFTER).await.as_deref(), Some("2"));
        assert_eq!(header(Fault::RateLimitedMillis, millis).await.as_deref(), Some("250"));
        let date = header(Fault::RateLimitedDate, RETRY_AFTER).await.unwrap();
        assert!(httpdate::parse_http_date(&date).is_ok(), "{date}");
        assert!(fresh(Fault::BadGateway, kind).await.text().contains("<html>"));
    }
}

#[tokio::test(start_paused = true)]
async fn answers_say_what_went_wrong_with_them() {
    let openai = (Protocol::OpenAi, false);
    let choice = async |fault| fresh(fault, openai).await.json()["choices"][0].clone();
    assert_eq!(choice(Fault::FinishLength).await["finish_reason"], "length");
    assert_eq!(choice(Fault::ContentFilterFinish).await["finish_reason"], "content_filter");
    assert!(choice(Fault::Refusal).await["message"]["refusal"].is_string());
    assert!(choice(Fault::NullContent).await["message"]["content"].is_null());
    assert_eq!(choice(Fault::EmptyContent).await["message"]["content"], "");
    assert!(choice(Fault::ChoicesEmpty).await.is_null());
    assert!(fresh(Fault::MissingUsage, openai).await.json().get("usage").is_none());
    let anthropic = (Protocol::Anthropic, false);
    let reply = async |fault| fresh(fault, anthropic).await.json();
    assert_eq!(reply(Fault::FinishLength).await["stop_reason"], "max_tokens");
    assert_eq!(reply(Fault::Refusal).await["stop_reason"], "refusal");
    assert!(reply(Fault::NullContent).await["content"].is_null());
    assert_eq!(reply(Fault::ChoicesEmpty).await["content"], json!([]));
    assert_eq!(reply(Fault::EmptyContent).await["content"][0]["text"], "");
    let usage = async |fault, protocol| {
        fresh(fault, (protocol, true)).await.text().matches("\"usage\":{").count()
    };
    assert_eq!(usage(Fault::None, Protocol::OpenAi).await, 1);
    assert_eq!(usage(Fault::DuplicateUsage, Protocol::OpenAi).await, 2);
    assert_eq!(usage(Fault::None, Protocol::Anthropic).await, 2);
    assert_eq!(usage(Fault::DuplicateUsage, Protocol::Anthropic).await, 3);
}

#[tokio::test(start_paused = true)]
async fn openai_streams_the_usage_only_if_it_is_asked_for() {
    let mut request = ask(Protocol::OpenAi, "m", true);
    let mut body: Value = serde_json::from_slice(&request.body).unwrap();
    body.as_object_mut().unwrap().remove("stream_options");
    request.body = body.to_string().into();
    let sim = Sim::new(SimConfig::default());
    assert!(!play(&sim, &request).await.text().contains("\"usage\""));
}

#[tokio::test(start_paused = true)]
async fn gzip_unpacks_to_the_healthy_answer_as_it_arrives() {
    use std::io::Read as _;
    for kind in KINDS {
        let healthy = fresh(Fault::None, kind).await.text();
        assert_eq!(fresh(Fault::Gzip, kind).await.text(), healthy, "in process");
        let request = ask(kind.0, "m", kind.1);
        let script = Sim::scripted(vec![Fault::Gzip]).script(kind.0, &request.body, None);
        assert_eq!(script.headers["content-encoding"], "gzip");
        let bytes: Vec<u8> = script.pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, healthy, "over a socket");
        let mut begin = [0; 6];
        flate2::read::GzDecoder::new(&script.pieces[0].bytes[..]).read_exact(&mut begin).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_bytes() {
    let run = async |seed| {
        let latency = Latency { p50: Duration::from_millis(20), p99: Duration::from_secs(1) };
        let faults = vec![FaultRate { fault: Fault::Internal, rate: 0.3 }];
        let sim = Sim::new(SimConfig { seed, latency, faults, ..SimConfig::default() });
        let mut all = Vec::new();
        for kind in KINDS.iter().cycle().take(40) {
            all.push(play(&sim, &ask(kind.0, "m", kind.1)).await);
        }
        all
    };
    assert_eq!(run(1).await, run(1).await);
    assert_ne!(run(1).await, run(2).await);
}

#[tokio::test(start_paused = true)]
async fn names_count_heal_and_come_before_the_settings() {
    let share = FaultRate { fault: Fault::Internal, rate: 1.0 };
    let sim = Sim::new(SimConfig { faults: vec![share], ..SimConfig::default() });
    let status =
        async |model: &str| play(&sim, &ask(Protocol::OpenAi, model, false)).await.status();
    assert_eq!(status("any-model").await, 500);
    assert_eq!(status("ok").await, 200);
    assert_eq!(status("some/path/529").await, 529);
    assert_eq!([status("503*2").await, status("503*2").await], [503, 503]);
    assert_eq!([status("503*2").await, status("503*1").await], [200, 503]);
    assert_eq!([status("500~1").await, status("500~1").await], [200, 500]);
    let once = [status("500~1*1").await, status("500~1*1").await, status("500~1*1").await];
    assert_eq!(once, [200, 500, 200]);
    let mut request = ask(Protocol::OpenAi, "503", false);
    let header = HeaderName::from_static(FAULT_HEADER);
    request.headers.push((header.clone(), HeaderValue::from_static("401")));
    assert_eq!(play(&sim, &request).await.status(), 401);
    request.headers = vec![(header, HeaderValue::from_static("teapot"))];
    let refused = play(&sim, &request).await;
    assert_eq!(refused.status(), 400);
    assert!(refused.text().contains("teapot"));
    assert_eq!(sim.requests(), 14);
    assert_eq!(sim.requests_by_model()["503*2"], 3);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_heals_keeps_its_word_once_it_is_told() {
    let sim = Sim::new(SimConfig::default());
    for kind @ (protocol, stream) in KINDS {
        let first = ask(protocol, "missing-field+heals", stream);
        let mut body: Value = serde_json::from_slice(&first.body).unwrap();
        let told = "Your answer did not satisfy the schema: $.total is missing.";
        let messages = body["messages"].as_array_mut().unwrap();
        messages.push(json!({ "role": "assistant", "content": "{}" }));
        messages.push(json!({ "role": "user", "content": [{ "type": "text", "text": told }] }));
        let second = WireRequest { body: body.to_string().into(), ..first.clone() };
        let total = r#"total\":"#;
        assert!(!play(&sim, &first).await.text().contains(total), "{kind:?}");
        assert!(play(&sim, &second).await.text().contains(total), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_strikes_in_its_time() {
    let schedule = |after, lasts: Option<u64>, fault| Schedule {
        after: Duration::from_secs(after),
        lasts: lasts.map(Duration::from_secs),
        fault,
    };
    let config = SimConfig {
        schedule: vec![
            schedule(10, Some(5), Fault::Unavailable),
            schedule(60, None, Fault::Internal),
        ],
        ..SimConfig::default()
    };
    let sim = Sim::new(config);
    let mut seen = BTreeMap::new();
    for second in 0..100 {
        seen.insert(second, play(&sim, &ask(Protocol::OpenAi, "m", false)).await.status());
        sleep(Duration::from_secs(1)).await;
    }
    for (second, status) in seen {
        let expected = match second {
            10..15 => 503,
            60.. => 500,
            _ => 200,
        };
        assert_eq!(status, expected, "after {second} s");
    }
}

#[tokio::test(start_paused = true)]
async fn shares_and_latencies_are_what_was_asked_for() {
    let share = |fault, rate| FaultRate { fault, rate };
    let config = SimConfig {
        seed: 3,
        latency: Latency { p50: Duration::from_millis(100), p99: Duration::from_secs(1) },
        faults: vec![share(Fault::Internal, 0.1), share(Fault::RateLimited, 0.05)],
        ..SimConfig::default()
    };
    let sim = Sim::new(config);
    let (mut statuses, mut waits) = (BTreeMap::new(), Vec::new());
    for _ in 0..4_000 {
        let began = Instant::now();
        let seen = play(&sim, &ask(Protocol::OpenAi, "m", false)).await;
        *statuses.entry(seen.status()).or_insert(0) += 1;
        waits.push(began.elapsed().as_millis());
    }
    assert!((330..470).contains(&statuses[&500]), "{statuses:?}");
    assert!((150..250).contains(&statuses[&429]), "{statuses:?}");
    waits.sort_unstable();
    assert!((92..110).contains(&waits[2_000]), "{}", waits[2_000]);
    assert!((750..1_300).contains(&waits[3_960]), "{}", waits[3_960]);
}

#[tokio::test(start_paused = true)]
async fn pieces_come_at_the_set_speed() {
    let config = SimConfig {
        latency: Latency::fixed(Duration::from_millis(300)),
        tokens_per_second: Some(50.0),
        ..SimConfig::default()
    };
    let sim = Sim::new(config);
    let seen = play(&sim, &ask(Protocol::OpenAi, "m", true)).await;
    let contents: Vec<_> = seen
        .body
        .iter()
        .filter(|(_, bytes)| String::from_utf8_lossy(bytes).contains("{\"content\":\""))
        .map(|(at, _)| *at)
        .collect();
    assert!(contents.len() > 2 && contents[0] >= 300, "{contents:?}");
    let steps: Vec<_> = contents.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.iter().all(|step| (19..=22).contains(step)), "{steps:?}");
}

#[tokio::test(start_paused = true)]
async fn what_comes_from_outside_is_bounded() {
    let sim = Sim::new(SimConfig::default());
    for number in 0..MAX_MODELS + 50 {
        let model = format!("m{number}");
        let _script =
            sim.script(Protocol::OpenAi, json!({ "model": model }).to_string().as_bytes(), None);
    }
    assert_eq!(sim.requests_by_model().len(), MAX_MODELS + 1);
    assert_eq!(sim.requests_by_model()[OTHER], 50);
    for body in ["", "[]", "{", "null"] {
        assert_eq!(sim.script(Protocol::Anthropic, body.as_bytes(), None).status, 400);
    }
    let elsewhere = WireRequest { path: "/embeddings", ..ask(Protocol::OpenAi, "m", false) };
    assert_eq!(sim.open(&elsewhere).await.unwrap_err().class, FailureClass::BadRequest);
}
