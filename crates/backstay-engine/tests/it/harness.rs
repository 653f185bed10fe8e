//! A gateway whose providers are simulated, and a client that reads what it answers. It knows nothing
//! of the engine but its public face.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use backstay_core::{
    price::{
        Price,
        quote::{PriceRule, ProviderPrices},
    },
    record::CallRecord,
    release::{CallSpec, TargetName},
};
use backstay_engine::{
    Engine, Sink,
    answer::{Answer, AnswerBody, Piece},
    clock::{Clock, Entropy},
    plan::{Address, CallPlan, Plans, ProviderPlan, ReleasePlan},
    request::{Client, Request},
    targets::Limit,
};
use backstay_providers::{
    provider::{Provider, Upstream},
    sim::{Fault, Latency, Sim, SimConfig},
    wire::Protocol,
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// The date at which every simulated gateway starts.
const DATE: Duration = Duration::from_secs(1_750_000_000);

pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// One target of the route, alone at its provider.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) faults: Vec<Fault>,
    pub(crate) protocol: Protocol,
    pub(crate) pace: SimConfig,
    pub(crate) window: Option<u32>,
    pub(crate) limit: Limit,
    /// What it costs; without a word, nothing: it is simulated.
    pub(crate) price: Option<Price>,
}

impl Target {
    /// A target whose n-th request meets the n-th of `faults`, and which is healthy after them.
    pub(crate) fn meeting(faults: &[Fault]) -> Self {
        Self {
            faults: faults.to_vec(),
            protocol: Protocol::OpenAi,
            pace: SimConfig::default(),
            window: None,
            limit: Limit::default(),
            price: None,
        }
    }

    pub(crate) fn healthy() -> Self {
        Self::meeting(&[])
    }

    pub(crate) fn speaking(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// Takes `latency` until its headers.
    pub(crate) fn slow(self, latency: Duration) -> Self {
        Self { pace: SimConfig { latency: Latency::fixed(latency), ..self.pace }, ..self }
    }

    /// Writes so many words a second.
    pub(crate) fn writing(self, tokens_per_second: f64) -> Self {
        let tokens_per_second = Some(tokens_per_second);
        Self { pace: SimConfig { tokens_per_second, ..self.pace }, ..self }
    }

    pub(crate) fn window(self, tokens: u32) -> Self {
        Self { window: Some(tokens), ..self }
    }

    pub(crate) fn at_price(self, price: Price) -> Self {
        Self { price: Some(price), ..self }
    }

    pub(crate) fn limit(self, concurrency: usize, queue: usize) -> Self {
        Self { limit: Limit { concurrency, queue }, ..self }
    }
}

/// An engine with one call, `story`, and one simulated provider for each target of its route.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) engine: Arc<Engine>,
    pub(crate) spec: CallSpec,
    pub(crate) start: Instant,
    providers: HashMap<String, Arc<ProviderPlan>>,
}

fn name(index: usize) -> TargetName {
    let provider = char::from(b'a' + u8::try_from(index).unwrap());
    format!("{provider}/model").parse().unwrap()
}

impl Gateway {
    /// `change` makes the call's release out of the default one.
    pub(crate) fn new(targets: &[Target], change: impl FnOnce(&mut CallSpec)) -> Self {
        let start = Instant::now();
        let clock = Clock::Simulated { base: DATE, start };
        let sink = Sink::Memory(Mutex::default());
        let engine = Arc::new(Engine::new(sink, clock, Entropy::seeded(7)));
        let mut spec = CallSpec::direct().towards("story", name(0));
        spec.route = (0..targets.len()).map(name).collect();
        change(&mut spec);
        let mut gateway = Self { engine, spec, start, providers: HashMap::new() };
        gateway.publish(targets);
        gateway
    }

    /// Puts other providers behind the same targets; what the engine knows of the targets stays.
    pub(crate) fn publish(&mut self, targets: &[Target]) {
        let provide = |(index, target): (usize, &Target)| {
            let sim = Sim::scripted(target.faults.clone()).paced(target.pace.clone());
            let TargetName { provider, model } = name(index);
            let wire = target.protocol.wire();
            let rule = |price: &Price| PriceRule { pattern: "*".to_owned(), price: price.clone() };
            let rules: Vec<_> = target.price.iter().map(rule).collect();
            let plan = ProviderPlan {
                provider: Arc::new(Provider {
                    name: provider.clone(),
                    wire,
                    upstream: Upstream::Sim(sim),
                }),
                limit: target.limit,
                windows: target.window.map(|window| (model, window)).into_iter().collect(),
                prices: ProviderPrices::new(&provider, None, &rules),
            };
            (provider, Arc::new(plan))
        };
        self.providers = targets.iter().enumerate().map(provide).collect();
        let state = self.engine.targets();
        let spec = self.spec.clone();
        let release = ReleasePlan::compile(spec, Some(1), &self.providers, state).unwrap();
        let stable = Arc::new(release);
        let call =
            CallPlan { stable: Arc::clone(&stable), releases: BTreeMap::from([(1, stable)]) };
        let calls = BTreeMap::from([("story".to_owned(), call)]);
        self.engine.publish(Plans::new(
            calls,
            self.providers.clone(),
            CallSpec::direct(),
            Arc::clone(state),
        ));
    }

    /// A new release of the call, on the same providers.
    pub(crate) fn release(&mut self, change: impl FnOnce(&mut CallSpec)) {
        change(&mut self.spec);
        let state = self.engine.targets();
        let spec = self.spec.clone();
        let release = ReleasePlan::compile(spec, Some(2), &self.providers, state).unwrap();
        let call = CallPlan { stable: Arc::new(release), releases: BTreeMap::new() };
        let calls = BTreeMap::from([("story".to_owned(), call)]);
        self.engine.publish(Plans::new(
            calls,
            self.providers.clone(),
            CallSpec::direct(),
            Arc::clone(state),
        ));
    }

    /// How many requests the provider of target `index` has seen.
    pub(crate) fn asked(&self, index: usize) -> u64 {
        match &self.providers[&name(index).provider].provider.upstream {
            Upstream::Sim(sim) => sim.requests(),
            Upstream::Http(_) => panic!("all providers are simulated"),
        }
    }

    /// A request of an OpenAI client that says hello to the call, now.
    pub(crate) fn hello(&self) -> Request {
        Request {
            id: self.engine.new_id(),
            received: Instant::now(),
            client: Client::OpenAi,
            address: Address { model: "story".to_owned(), ..Address::default() },
            body: object(json!({ "messages": [{ "role": "user", "content": "Hello!" }] })),
            raw: Bytes::from_static(b"{}"),
            inputs: None,
            unit: None,
            stream: false,
            include_usage: false,
            deadline: None,
            trace: None,
        }
    }

    pub(crate) fn hello_stream(&self) -> Request {
        Request { stream: true, ..self.hello() }
    }

    pub(crate) async fn ask(&self, request: Request) -> Answer {
        self.engine.call(request).await
    }

    /// Asks, and reads the answer to its end.
    pub(crate) async fn heard(&self, request: Request) -> Heard {
        let protocol = request.client.protocol();
        let answer = self.ask(request).await;
        hear(answer, protocol, Duration::ZERO).await
    }

    /// Waits until no call is under way.
    pub(crate) async fn settled(&self) {
        self.engine.drain().await;
    }

    pub(crate) fn records(&self) -> Vec<CallRecord> {
        match self.engine.sink() {
            Sink::Memory(records) => records.lock().unwrap().clone(),
            Sink::Log(_) | Sink::Off => panic!("records are kept in memory"),
        }
    }

    pub(crate) fn last_record(&self) -> CallRecord {
        self.records().pop().expect("a record")
    }
}

pub(crate) fn object(value: Value) -> Arc<serde_json::Map<String, Value>> {
    match value {
        Value::Object(fields) => Arc::new(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            panic!("not an object: {value}")
        }
    }
}

/// The schema of the calls that have one.
pub(crate) fn invoice() -> Value {
    json!({
        "type": "object",
        "required": ["total", "currency"],
        "additionalProperties": false,
        "properties": { "total": { "type": "number" }, "currency": { "type": "string" } },
    })
}

/// What a client made of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// What was said, all pieces joined.
    pub(crate) text: String,
    pub(crate) refusal: String,
    pub(crate) tools: usize,
    /// The error, as its type is named to the client.
    pub(crate) errors: Vec<String>,
    /// Streams only: terminal events of the protocol, error events apart.
    pub(crate) ends: usize,
    /// Streams only: events after the first terminal one.
    pub(crate) after_the_end: usize,
    /// Streams only: events that tell nothing but the usage.
    pub(crate) usages: usize,
    pub(crate) is_stream: bool,
    pub(crate) bytes: Vec<u8>,
}

impl Heard {
    /// Whether there is anything in it that a person could act on.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.trim().is_empty()
            && self.refusal.is_empty()
            && self.tools == 0
            && self.errors.is_empty()
    }

    pub(crate) fn wire(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    fn event(&mut self, protocol: Protocol, name: Option<&str>, data: &str) {
        if self.ends + self.errors.len() > 0 {
            self.after_the_end += 1;
        }
        if data == "[DONE]" {
            self.ends += 1;
            return;
        }
        let data: Value = serde_json::from_str(data).unwrap();
        if let Some(error) = data.get("error").filter(|error| !error.is_null()) {
            let kind = ["code", "failure", "type"].iter().find_map(|key| error[key].as_str());
            self.errors.push(kind.unwrap_or_default().to_owned());
            return;
        }
        match protocol {
            Protocol::OpenAi => self.chunk(&data),
            Protocol::Anthropic => {
                assert_eq!(name, data["type"].as_str(), "the event is named after its type");
                self.message_event(&data);
            }
        }
    }

    fn chunk(&mut self, data: &Value) {
        let alone = data["choices"].as_array().is_none_or(Vec::is_empty);
        self.usages += usize::from(alone && !data["usage"].is_null());
        for choice in data["choices"].as_array().into_iter().flatten() {
            let delta = &choice["delta"];
            self.text.push_str(delta["content"].as_str().unwrap_or_default());
            self.refusal.push_str(delta["refusal"].as_str().unwrap_or_default());
            self.tools += delta["tool_calls"].as_array().map_or(0, Vec::len);
        }
    }

    fn message_event(&mut self, data: &Value) {
        match data["type"].as_str().unwrap() {
            "content_block_delta" => {
                self.text.push_str(data["delta"]["text"].as_str().unwrap_or_default());
            }
            "content_block_start" => {
                self.tools += usize::from(data["content_block"]["type"] == "tool_use");
            }
            "message_stop" => self.ends += 1,
            "message_start" | "message_delta" | "content_block_stop" | "ping" => {}
            other => panic!("an event of type {other}"),
        }
    }
}

/// Reads an answer to its end as a client that speaks `protocol`, with a pause before each piece.
pub(crate) async fn hear(answer: Answer, protocol: Protocol, pause: Duration) -> Heard {
    match answer.body {
        AnswerBody::Reply(reply) => {
            let rendered = protocol.render_reply(&reply, 0).unwrap();
            let choice = reply.choices.into_iter().next().unwrap_or_default();
            Heard {
                text: choice.text,
                refusal: choice.refusal.unwrap_or_default(),
                tools: choice.tool_calls.len(),
                bytes: rendered.to_vec(),
                ..Heard::default()
            }
        }
        AnswerBody::Events(bytes) => read_events(protocol, bytes.to_vec()),
        AnswerBody::Live(mut pieces) => {
            let mut bytes = Vec::new();
            loop {
                if !pause.is_zero() {
                    sleep(pause).await;
                }
                match pieces.recv().await.expect("a stream ends with its last piece") {
                    Piece::More(piece) => bytes.extend_from_slice(&piece),
                    Piece::Last(piece) => {
                        bytes.extend_from_slice(&piece);
                        assert!(pieces.recv().await.is_none(), "nothing follows the last piece");
                        break;
                    }
                }
            }
            read_events(protocol, bytes)
        }
        AnswerBody::Failed(failure) => {
            Heard { errors: vec![failure.class.code().to_owned()], ..Heard::default() }
        }
    }
}

fn read_events(protocol: Protocol, bytes: Vec<u8>) -> Heard {
    let mut heard = Heard { is_stream: true, ..Heard::default() };
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.ends_with("\n\n"), "a stream ends with a whole event: {text}");
    for event in text.split_terminator("\n\n") {
        let field = |name: &str| {
            let lines = event.lines().filter_map(move |line| line.strip_prefix(name));
            let values: Vec<_> = lines.map(str::trim_start).collect();
            (!values.is_empty()).then(|| values.join("\n"))
        };
        // A comment keeps the connection alive and says nothing.
        let Some(data) = field("data:") else { continue };
        heard.event(protocol, field("event:").as_deref(), &data);
    }
    heard.bytes = bytes;
    heard
}
