//! Every fault of a provider × every way to ask × every way to degrade, over sockets: what the client
//! gets, what it is told of it, how long it takes, and what is recorded.
//!
//! `UPDATE_GOLDEN=1 cargo test -p backstay-server --test it` writes `docs/manual/fault-matrix.md`
//! from what was seen; read the diff.

mod expected;
mod manual;

use std::{collections::HashMap, fmt::Write as _, sync::Arc, time::Duration};

use backstay_providers::sim::Fault;
use backstay_store::CallRow;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    harness::{Ask, Files, Gateway, Told, Upstream},
    reading::{Heard, Speaks, stream, whole},
};
use expected::{Expected, Says, class_of, expected};

/// How long a call may take.
const DEADLINE: Duration = Duration::from_millis(1500);
/// How much longer than that calls take at the median of those that use their time up, by their
/// records; a machine with other work cannot promise that of each of them …
const SLACK: Duration = Duration::from_millis(50);
/// … but this, for the client's side of the exchange too.
const MOST_SLACK: Duration = Duration::from_millis(300);
/// Cases at once, and those of them that shovel a hundred megabytes each.
const AT_ONCE: usize = 24;
const LARGE_AT_ONCE: usize = 3;

const STATIC_TEXT: &str = "All hands are on deck.";
const MESSAGE: &str = "No forecast today ({{ failure }}).";

/// What is answered when the budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Degrade {
    None,
    Stale,
    Static,
    Message,
}

impl Degrade {
    const ALL: [Self; 4] = [Self::None, Self::Stale, Self::Static, Self::Message];

    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Stale => "stale",
            Self::Static => "static",
            Self::Message => "message",
        }
    }

    const fn step(self) -> &'static str {
        match self {
            Self::None => "error",
            Self::Stale | Self::Static | Self::Message => self.name(),
        }
    }
}

/// One call: its fault and how it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Case {
    fault: Fault,
    stream: bool,
    two: bool,
    schema: bool,
    degrade: Degrade,
    client: Speaks,
    upstream: Speaks,
}

impl Case {
    /// The name of its call.
    fn call(&self) -> String {
        let letter = |speaks| match speaks {
            Speaks::OpenAi => 'o',
            Speaks::Anthropic => 'a',
        };
        format!(
            "{}-{}{}{}-{}-{}{}",
            self.fault.name(),
            if self.stream { 's' } else { 'w' },
            if self.two { '2' } else { '1' },
            if self.schema { 'j' } else { 't' },
            self.degrade.name(),
            letter(self.client),
            letter(self.upstream),
        )
    }

    /// The name of its provider: each simulated one counts up to a thousand models.
    const fn provider(&self) -> &'static str {
        match (self.client, self.upstream) {
            (Speaks::OpenAi, _) => self.degrade.name(),
            (Speaks::Anthropic, Speaks::OpenAi) => "translated",
            (Speaks::Anthropic, Speaks::Anthropic) => "anthropic",
        }
    }

    /// The model that has the fault; a stale answer needs a good one before.
    fn model(&self) -> String {
        let spared = if self.degrade == Degrade::Stale { "~1" } else { "" };
        format!("{}/{}{spared}", self.call(), self.fault.name())
    }

    fn files(&self) -> Files {
        let (call, provider, model) = (self.call(), self.provider(), self.model());
        let mut route = format!("\"{provider}/{model}\"");
        if self.two {
            write!(route, ", \"{provider}/{call}/spare/ok\"").unwrap();
        }
        let step = self.degrade.step();
        let toml = format!(
            "route = [{route}]\n[degrade]\norder = [\"{step}\"]\nmessage = \"{MESSAGE}\"\n"
        );
        let path = |file: &str| format!("calls/{call}/{file}");
        let mut files = vec![(path("call.toml"), toml)];
        if self.schema {
            files.push((path("output.schema.json"), output_schema().to_string()));
        }
        if self.degrade == Degrade::Static {
            files.push((path("static.json"), self.static_answer().to_string()));
        }
        files
    }

    fn static_answer(&self) -> Value {
        if self.schema {
            json!({ "forecast": "x".repeat(120), "wind": 0 })
        } else {
            json!(STATIC_TEXT)
        }
    }

    fn ask(&self) -> Ask {
        let mut body = json!({
            "model": self.call(),
            "stream": self.stream,
            "messages": [{ "role": "user", "content": "How will the wind be?" }],
        });
        match self.client {
            Speaks::OpenAi => Ask::json("/v1/chat/completions", &body),
            Speaks::Anthropic => {
                body["max_tokens"] = json!(500);
                Ask::json("/v1/messages", &body).with("anthropic-version", "2023-06-01")
            }
        }
    }
}

/// Long enough that a streamed answer has many pieces.
fn output_schema() -> Value {
    json!({
        "type": "object",
        "required": ["forecast", "wind"],
        "additionalProperties": false,
        "properties": {
            "forecast": { "type": "string", "minLength": 120 },
            "wind": { "type": "integer" },
        },
    })
}

/// All cases, so mixed that those that run at once have different faults.
fn cases() -> Vec<Case> {
    let mut kinds = Vec::new();
    for degrade in Degrade::ALL {
        for bits in 0..8_u8 {
            let (stream, two, schema) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
            kinds.push((stream, two, schema, degrade, Speaks::OpenAi, Speaks::OpenAi));
        }
    }
    for upstream in [Speaks::OpenAi, Speaks::Anthropic] {
        for stream in [false, true] {
            kinds.push((stream, false, false, Degrade::None, Speaks::Anthropic, upstream));
        }
    }
    let all = kinds.into_iter().flat_map(|(stream, two, schema, degrade, client, upstream)| {
        Fault::ALL.iter().map(move |&fault| Case {
            fault,
            stream,
            two,
            schema,
            degrade,
            client,
            upstream,
        })
    });
    all.collect()
}

/// What came of one case.
struct Seen {
    case: Case,
    told: Told,
    /// The answer before it, where there was one: what `stale` has to be.
    before: Option<Told>,
}

/// The providers of all cases, and their part of the project file.
struct Upstreams(Vec<(&'static str, Upstream)>);

impl Upstreams {
    async fn start() -> Self {
        let mut all = Vec::new();
        for name in ["none", "stale", "static", "message", "translated", "anthropic"] {
            all.push((name, Upstream::start().await));
        }
        Self(all)
    }

    fn toml(&self) -> String {
        let mut toml = "\
            [defaults.budget]\ndeadline = \"1500ms\"\nheaders = \"500ms\"\nfirst_token = \"500ms\"\n\
            idle = \"600ms\"\nattempts = 3\nrepair = 1\n\
            backoff = { base = \"10ms\", max = \"50ms\" }\n"
            .to_owned();
        for (name, upstream) in &self.0 {
            let kind = if *name == "anthropic" { "anthropic" } else { "openai" };
            toml.push_str(&upstream.provider(name, kind));
            toml.push_str("max_concurrency = 1000\n");
        }
        toml
    }

    /// How many requests came for `model`.
    fn requests(&self, provider: &str, model: &str) -> u64 {
        let (_, upstream) = self.0.iter().find(|(name, _)| *name == provider).unwrap();
        upstream.sim.requests_by_model().get(model).copied().unwrap_or(0)
    }
}

async fn play(gateway: &Gateway, case: Case) -> Seen {
    let before = match case.degrade {
        Degrade::Stale => Some(gateway.send(case.ask()).await),
        Degrade::None | Degrade::Static | Degrade::Message => None,
    };
    let told = gateway.send(case.ask()).await;
    Seen { case, told, before }
}

async fn play_all(gateway: &Arc<Gateway>, cases: Vec<Case>, at_once: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut playing = JoinSet::new();
    for case in cases {
        if playing.len() == at_once {
            seen.push(playing.join_next().await.unwrap().unwrap());
        }
        let gateway = Arc::clone(gateway);
        playing.spawn(async move { play(&gateway, case).await });
    }
    seen.extend(playing.join_all().await);
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_leads_to_what_its_users_were_promised() {
    let (cases, upstreams) = (cases(), Upstreams::start().await);
    let mut files = vec![("backstay.toml".to_owned(), upstreams.toml())];
    files.extend(cases.iter().flat_map(Case::files));
    let gateway = Arc::new(Gateway::start(&files).await);
    let (large, small) = cases.iter().partition(|case| case.fault == Fault::Body50Mb);
    let mut seen = play_all(&gateway, small, AT_ONCE).await;
    seen.extend(play_all(&gateway, large, LARGE_AT_ONCE).await);
    let rows = gateway.rows().await;
    let mut by_id: HashMap<String, Vec<&CallRow>> = HashMap::new();
    for row in &rows {
        by_id.entry(row.id.to_string()).or_default().push(row);
    }
    let mut wrong = Vec::new();
    for seen in &seen {
        let found = std::panic::catch_unwind(|| {
            check(seen, &by_id);
            check_requests(seen, &upstreams);
        });
        if let Err(panic) = found {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            wrong.push(format!("{}: {}", seen.case.call(), said.unwrap_or_default()));
        }
    }
    wrong.sort_unstable();
    assert!(
        wrong.is_empty(),
        "{} of {} cases are wrong:\n{}",
        wrong.len(),
        seen.len(),
        wrong.join("\n\n")
    );
    let received = gateway.flushed().await.received;
    let asked = seen.len() + seen.iter().filter(|seen| seen.before.is_some()).count();
    assert_eq!((rows.len(), received), (asked, asked as u64), "one record for each call");
    seen.sort_by_key(|seen| cases.iter().position(|case| *case == seen.case));
    check_deadlines(&rows);
    manual::compare(&seen);
    Arc::into_inner(gateway).unwrap().end().await;
}

fn heard(case: &Case, told: &Told) -> Heard {
    let kind = told.header("content-type");
    if kind.starts_with("text/event-stream") {
        assert!(case.stream, "a stream that nobody asked for");
        return stream(case.client, &told.body);
    }
    assert_eq!(kind, "application/json");
    assert!(!case.stream || told.status != 200, "a document in place of a stream");
    whole(case.client, &told.body)
}

fn check(seen: &Seen, rows: &HashMap<String, Vec<&CallRow>>) {
    let Seen { case, told, before } = seen;
    let expected = expected(case);
    if let Some(before) = before {
        assert_eq!(before.status, 200, "the request before: {before:?}");
    }
    let heard = heard(case, told);
    assert!(!heard.is_empty(), "an empty answer: {told:?}");
    let header = |name: &str| told.header(&format!("x-backstay-{name}"));
    let found = (told.status, header("outcome"), header("degraded"), header("attempts"));
    let attempts = expected.attempts.to_string();
    let wanted = (expected.status, expected.told, expected.degraded, attempts.as_str());
    let body = String::from_utf8_lossy(&told.body[..told.body.len().min(2000)]);
    assert_eq!(found, wanted, "status and headers; the body is {body}");
    assert_eq!(header("release"), format!("{}@1", case.call()));
    assert_eq!(header("variant"), "stable");
    assert!(header("overhead-us").parse::<u64>().is_ok());
    let rows = rows.get(header("call-id")).map(Vec::as_slice).unwrap_or_default();
    let [row] = rows else { panic!("{} records of the call", rows.len()) };
    check_row(case, &expected, row);
    check_body(seen, &expected, &heard);
    if expected.says == Says::Error("rate_limited") && case.fault != Fault::RateLimited {
        assert!(header_seconds(told) >= 1, "{told:?}");
    }
    assert!(told.took <= DEADLINE + MOST_SLACK, "the client waited for {:?}", told.took);
}

fn header_seconds(told: &Told) -> u64 {
    told.header("retry-after").parse().unwrap()
}

fn check_row(case: &Case, expected: &Expected, row: &CallRow) {
    let found = (row.outcome.code(), row.degraded.name(), row.attempts);
    assert_eq!(found, (expected.outcome, expected.degraded, expected.attempts), "the record");
    let protocol = match case.client {
        Speaks::OpenAi => "openai",
        Speaks::Anthropic => "anthropic",
    };
    assert_eq!(
        (row.protocol.as_str(), row.stream, &row.call),
        (protocol, case.stream, &case.call())
    );
}

/// The deadline holds: of the calls that it ended, by their records.
fn check_deadlines(rows: &[CallRow]) {
    let ended = rows.iter().filter(|row| row.outcome.code() == "timeout_deadline");
    let mut took: Vec<_> = ended.map(|row| Duration::from_micros(row.latency_us)).collect();
    took.sort_unstable();
    let median = took[took.len() / 2];
    assert!((DEADLINE..=DEADLINE + SLACK).contains(&median), "the median is {median:?}: {took:?}");
}

fn check_body(seen: &Seen, expected: &Expected, heard: &Heard) {
    let Seen { case, told, before } = seen;
    let code = heard.code(case.client);
    match expected.says {
        Says::Error(wanted) => {
            assert_eq!(code, Some(wanted));
            let error = heard.error.as_ref().unwrap();
            assert_eq!(error["call_id"], told.header("x-backstay-call-id"));
            let attempts = error["attempts"].as_array().unwrap().len();
            assert_eq!(attempts, usize::try_from(expected.attempts).unwrap(), "{error}");
            if case.client == Speaks::OpenAi {
                assert_eq!(error["type"], class_of(wanted).word);
            }
        }
        Says::BreaksOff(wanted) => {
            assert_eq!(code, Some(wanted));
            assert!(!heard.text.is_empty() && heard.finish.is_none(), "{heard:?}");
        }
        Says::Refusal => check_refusal(case, heard),
        Says::Short => {
            let finish = heard.finish.as_deref();
            let words = ["length", "content_filter", "refusal", "max_tokens"];
            let by_field = !heard.refusal.is_empty();
            assert!(by_field || finish.is_some_and(|word| words.contains(&word)), "{heard:?}");
        }
        Says::Answer | Says::StandIn => {
            assert_eq!(code, None);
            check_answer(case, heard);
        }
    }
    if expected.says == Says::StandIn {
        check_stand_in(case, told, heard, before.as_ref());
    }
}

fn check_refusal(case: &Case, heard: &Heard) {
    let finish = heard.finish.as_deref();
    match case.client {
        Speaks::OpenAi => assert!(
            finish == Some("content_filter") || !heard.refusal.is_empty(),
            "nothing says that it was refused: {heard:?}"
        ),
        Speaks::Anthropic => assert_eq!(finish, Some("refusal"), "{heard:?}"),
    }
}

fn check_answer(case: &Case, heard: &Heard) {
    let words = ["stop", "end_turn"];
    assert!(heard.finish.as_deref().is_some_and(|word| words.contains(&word)), "{heard:?}");
    // A message is for people: it is no JSON even where JSON was promised.
    let message = heard.text.starts_with("No forecast today");
    if case.schema && !message {
        let answer: Value = serde_json::from_str(&heard.text).unwrap();
        assert!(answer["forecast"].as_str().is_some_and(|text| text.chars().count() >= 120));
        assert!(answer["wind"].is_i64() && answer.as_object().unwrap().len() == 2, "{answer}");
    }
}

fn check_stand_in(case: &Case, told: &Told, heard: &Heard, before: Option<&Told>) {
    let class = told.header("x-backstay-outcome");
    match case.degrade {
        Degrade::None => panic!("nothing was to stand in"),
        Degrade::Stale => {
            assert_eq!(heard.text, self::heard(case, before.unwrap()).text);
        }
        Degrade::Static if case.schema => {
            let answer: Value = serde_json::from_str(&heard.text).unwrap();
            assert_eq!(answer, case.static_answer());
        }
        Degrade::Static => assert_eq!(heard.text, STATIC_TEXT),
        Degrade::Message => assert_eq!(heard.text, MESSAGE.replace("{{ failure }}", class)),
    }
    if !case.stream {
        let mark = heard.mark.as_ref().expect("a degraded answer says so in its body");
        assert_eq!(mark["degraded"], case.degrade.name());
        assert_eq!(mark["call_id"], told.header("x-backstay-call-id"));
    }
}

/// What is recorded as an attempt was sent, once, and nothing else was.
fn check_requests(seen: &Seen, upstreams: &Upstreams) {
    let case = &seen.case;
    let second = upstreams.requests(case.provider(), &format!("{}/spare/ok", case.call()));
    let first = upstreams.requests(case.provider(), &case.model());
    let warm_up = u64::from(case.degrade == Degrade::Stale);
    assert_eq!(first + second, u64::from(expected(case).attempts) + warm_up, "requests");
}
