//! What the users of a call should get for each fault: data, written down by hand. It must not ask
//! the product what it would decide.

use Fate::{Breaks, Declines, Fails, Good, Mended, Short};
use backstay_providers::sim::Fault;

use super::{Case, Degrade};
use crate::reading::Speaks;

/// How one request to the faulty target ends, before a second target or a degradation helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The model's answer as it came.
    Good,
    /// The model's answer, taken out of its wrapping.
    Mended,
    /// Nothing of an answer: the class, and the attempts that are spent on one target.
    Fails(&'static str, u32),
    /// A stream that breaks off after its first content: the class.
    Breaks(&'static str),
    /// The protocol's refusal: the class.
    Declines(&'static str),
    /// A stream that shows by its own last words that it is not whole: the class.
    Short(&'static str),
}

/// What is done about a class, whatever fault it came from.
pub(super) struct Class {
    code: &'static str,
    /// The class without its phase: the header, and OpenAI's `type`.
    pub(super) word: &'static str,
    status: u16,
    /// Attempts on the faulty target until the second one is asked; 0: it is not.
    before_next: u32,
    degrades: bool,
}

const fn class(
    code: &'static str,
    word: &'static str,
    (status, before_next, degrades): (u16, u32, bool),
) -> Class {
    Class { code, word, status, before_next, degrades }
}

const CLASSES: [Class; 18] = [
    class("timeout_headers", "timeout", (504, 1, true)),
    class("timeout_first_token", "timeout", (504, 1, true)),
    class("timeout_idle", "timeout", (504, 1, true)),
    // There is no time left for a second target.
    class("timeout_deadline", "timeout", (504, 0, true)),
    class("connection", "connection", (502, 1, true)),
    class("rate_limited", "rate_limited", (429, 1, true)),
    class("overloaded", "overloaded", (503, 1, true)),
    class("upstream_error", "upstream_error", (502, 1, true)),
    class("upstream_auth", "upstream_auth", (502, 1, true)),
    // The caller has to see its own mistake; another model would say the same.
    class("bad_request", "bad_request", (400, 0, false)),
    // Nothing says that the second target's window is larger.
    class("context_length", "context_length", (400, 0, true)),
    class("content_filter", "content_filter", (200, 0, false)),
    class("refused", "refused", (200, 0, false)),
    class("empty", "empty", (502, 1, true)),
    class("truncated_length", "truncated", (502, 1, true)),
    class("truncated_stream", "truncated", (502, 1, true)),
    // The model is shown its mistake once.
    class("malformed", "malformed", (502, 2, true)),
    class("schema", "schema", (502, 2, true)),
];

pub(super) fn class_of(code: &str) -> &'static Class {
    CLASSES.iter().find(|class| class.code == code).unwrap()
}

/// The four ways to ask: a text whole and streamed, JSON that has to satisfy a schema whole and
/// streamed (and then held back until it is valid).
struct Row(&'static str, [Fate; 4]);

const fn all(name: &'static str, fate: Fate) -> Row {
    Row(name, [fate; 4])
}

/// Differs for a text that is streamed only: what came before the fault was passed on already.
const fn live(name: &'static str, otherwise: Fate, live: Fate) -> Row {
    Row(name, [otherwise, live, otherwise, otherwise])
}

/// Of no importance to a text.
const fn json(name: &'static str, fate: Fate) -> Row {
    Row(name, [Good, Good, fate, fate])
}

const ROWS: [Row; 45] = [
    all("ok", Good),
    // The pause that the provider asks for does not fit the deadline …
    all("429-retry-after", Fails("rate_limited", 1)),
    all("429-retry-after-date", Fails("rate_limited", 1)),
    // … and here it does.
    all("429-retry-after-ms", Fails("rate_limited", 3)),
    all("429", Fails("rate_limited", 3)),
    all("500", Fails("upstream_error", 3)),
    all("502", Fails("upstream_error", 3)),
    all("503", Fails("overloaded", 3)),
    all("529", Fails("overloaded", 3)),
    all("400-context-length", Fails("context_length", 1)),
    all("401", Fails("upstream_auth", 1)),
    all("400", Fails("bad_request", 1)),
    all("content-filter", Declines("content_filter")),
    live("content-filter-finish", Declines("content_filter"), Short("content_filter")),
    live("refusal", Declines("refused"), Short("refused")),
    all("hang-headers", Fails("timeout_headers", 1)),
    Row(
        "hang-first-token",
        [
            Fails("timeout_idle", 1),
            Fails("timeout_first_token", 1),
            Fails("timeout_idle", 1),
            Fails("timeout_first_token", 1),
        ],
    ),
    live("stall", Fails("timeout_idle", 1), Breaks("timeout_idle")),
    // It would be good in the end, but the end is after the deadline.
    live("slow-stream", Fails("timeout_deadline", 1), Breaks("timeout_deadline")),
    all("connection-refused", Fails("connection", 3)),
    all("reset-before-headers", Fails("connection", 3)),
    all("reset-after-headers", Fails("truncated_stream", 3)),
    all("tls-failure", Fails("connection", 3)),
    all("html-200", Fails("upstream_error", 3)),
    Row(
        "truncated-json-body",
        [
            Fails("upstream_error", 3),
            Breaks("truncated_stream"),
            Fails("upstream_error", 3),
            Fails("truncated_stream", 3),
        ],
    ),
    json("fenced-json", Mended),
    json("prose-json", Mended),
    json("malformed-json", Fails("malformed", 3)),
    json("renamed-field", Fails("schema", 3)),
    json("wrong-type", Fails("schema", 3)),
    json("extra-field", Fails("schema", 3)),
    json("missing-field", Fails("schema", 3)),
    all("choices-empty", Fails("empty", 2)),
    all("null-content", Fails("empty", 2)),
    all("empty-content", Fails("empty", 2)),
    live("finish-length", Fails("truncated_length", 1), Short("truncated_length")),
    live("cut-stream", Fails("truncated_stream", 3), Breaks("truncated_stream")),
    // Many compatible servers leave the last event out; the finish reason is enough.
    all("missing-done", Good),
    Row("malformed-sse-line", [Good, Breaks("upstream_error"), Good, Fails("upstream_error", 3)]),
    live("error-event", Fails("upstream_error", 3), Breaks("upstream_error")),
    all("duplicate-usage", Good),
    all("missing-usage", Good),
    all("gzip", Good),
    all("body-50mb", Fails("upstream_error", 3)),
    all("wrong-content-type", Good),
];

/// Where a provider that speaks Anthropic's format says it differently. Texts only.
const FROM_ANTHROPIC: [Row; 2] = [
    // One stop reason stands for both.
    live("content-filter-finish", Declines("refused"), Short("refused")),
    live("error-event", Fails("overloaded", 3), Breaks("overloaded")),
];

fn fate(case: &Case) -> Fate {
    let named = |row: &&Row| row.0 == case.fault.name();
    let from_anthropic = FROM_ANTHROPIC.iter().find(named);
    let from_anthropic = from_anthropic.filter(|_| case.upstream == Speaks::Anthropic);
    let row = from_anthropic.or_else(|| ROWS.iter().find(named)).unwrap_or_else(|| {
        panic!("{}: say in this file what its users should get", case.fault.name())
    });
    row.1[usize::from(case.schema) * 2 + usize::from(case.stream)]
}

/// What the answer to a case says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Answer,
    StandIn,
    Refusal,
    /// A stream whose finish reason tells that it is not whole.
    Short,
    /// An error in place of an answer.
    Error(&'static str),
    /// A stream that ends with an error.
    BreaksOff(&'static str),
}

/// What a client should get and what should be recorded of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) status: u16,
    /// Header `x-backstay-outcome`.
    pub(super) told: &'static str,
    /// The outcome in the record.
    pub(super) outcome: &'static str,
    pub(super) attempts: u32,
    pub(super) degraded: &'static str,
    pub(super) says: Says,
}

pub(super) fn expected(case: &Case) -> Expected {
    // A live stream has begun before anyone knows how it will end.
    let live = case.stream && !case.schema;
    let good = Expected {
        status: 200,
        told: if live { "pending" } else { "ok" },
        outcome: "ok",
        attempts: 1,
        degraded: "none",
        says: Says::Answer,
    };
    match fate(case) {
        Good => good,
        Mended => Expected { told: "repaired", outcome: "repaired", ..good },
        Fails(code, alone) => failed(case, class_of(code), alone, good),
        Breaks(code) => Expected { outcome: code, says: Says::BreaksOff(code), ..good },
        Declines(code) => {
            Expected { told: class_of(code).word, outcome: code, says: Says::Refusal, ..good }
        }
        Short(code) => Expected { outcome: code, says: Says::Short, ..good },
    }
}

fn failed(case: &Case, class: &'static Class, alone: u32, good: Expected) -> Expected {
    if case.two && class.before_next > 0 {
        return Expected { attempts: class.before_next + 1, ..good };
    }
    let failed = Expected { told: class.word, outcome: class.code, attempts: alone, ..good };
    if case.degrade == Degrade::None || !class.degrades {
        return Expected { status: class.status, says: Says::Error(class.code), ..failed };
    }
    Expected { degraded: case.degrade.name(), says: Says::StandIn, ..failed }
}

/// Every fault has its row, once.
#[test]
fn every_fault_has_an_expectation() {
    let rows: Vec<_> = ROWS.iter().map(|row| row.0).collect();
    let faults: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
    assert_eq!(rows, faults);
}
