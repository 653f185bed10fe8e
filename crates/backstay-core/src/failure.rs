//! The failure taxonomy: every way in which a call can fail, and what each one leads to.
//!
//! [`FailureClass`] is closed and [`FailureClass::row`] is the one table that decides. A new class is
//! a new row; the compiler then names every place that has to decide about it. Status codes are the
//! server's business and do not appear here.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// The part of an attempt in which time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// TCP and TLS were not set up in time.
    Connect,
    /// The status line did not arrive in time.
    Headers,
    /// The stream opened, but its first content did not arrive in time.
    FirstToken,
    /// The stream stood still for too long after its first content.
    Idle,
    /// The deadline of the whole call passed.
    Deadline,
}

/// How an answer came to be cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cut {
    /// The model reached its output limit (`finish_reason: length`, `stop_reason: max_tokens`).
    Length,
    /// The stream or body ended before its terminal event or last byte.
    Stream,
}

/// Why a call, or one attempt of it, failed. Closed: see [`FailureClass::row`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureClass {
    /// Time ran out in the named phase.
    Timeout(Phase),
    /// Refused, reset, TLS failure, name not found.
    Connection,
    /// The provider answered 429.
    RateLimited,
    /// The provider is overloaded (503, 529), or Backstay's own limit for the target is reached.
    Overloaded,
    /// Another 5xx, or a reply that is not in the provider's wire format.
    UpstreamError,
    /// The provider refused Backstay's credentials, or their quota is exhausted.
    UpstreamAuth,
    /// The request itself is wrong: the same bytes would fail anywhere.
    BadRequest,
    /// The prompt does not fit the model's context window.
    ContextLength,
    /// A filter of the provider stopped the answer.
    ContentFilter,
    /// The model declined to answer.
    Refused,
    /// A successful reply with nothing in it.
    Empty,
    /// The answer stops before its end.
    Truncated(Cut),
    /// Not JSON where JSON is promised.
    Malformed,
    /// Valid JSON that violates the output schema.
    Schema,
    /// A semantic check of the call failed.
    Check,
    /// Every target of the route is shut off by its breaker.
    CircuitOpen,
    /// The call's own limits (cost, tokens, retry tokens) are spent.
    Budget,
    /// The client went away.
    Cancelled,
    /// The application reported later that the answer was of no use to it.
    Consumer,
}

/// Whether the target that just failed may be asked again by the same call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameTarget {
    /// It would fail in the same way, or must be left alone.
    No,
    /// Yes, after a pause with full jitter.
    Backoff,
    /// Yes, after the pause that the provider asked for, if that fits the deadline.
    AfterHint,
    /// Yes, but only one time.
    Once,
    /// Only by showing the model what was wrong with its answer.
    Repair,
    /// By repair while repairs are left, then as it was.
    RepairThenBackoff,
}

/// Whether another target of the route may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextTarget {
    /// It would fail there too.
    No,
    /// At once.
    Yes,
    /// Only a target whose context window is larger.
    LargerWindow,
    /// Only if the call says `fallback_on_refusal = true`.
    IfRouteSaysSo,
}

/// What the failure tells about the health of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing: neither a success nor a failure.
    Neutral,
    /// The target works; the failure is not its fault.
    Fine,
    /// Counted by the breaker.
    Faulty,
    /// Not counted; the target is left alone until its limit resets.
    Hold,
    /// Not counted; the target is unusable until its credentials are mended.
    Unusable,
}

/// How far up the ladder a model's answer got. What the consumer said of it comes on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rung {
    /// The call was made; nothing came of it.
    Called,
    /// Something of the answer arrived.
    Delivered,
    /// All of it arrived.
    Complete,
    /// It is JSON, where JSON is promised.
    Parsed,
    /// It satisfies the schema, where there is one.
    SchemaValid,
    /// It passes the call's checks.
    ChecksPassed,
}

impl Rung {
    /// Every rung, from the ground up.
    pub const ALL: [Self; 6] = [
        Self::Called,
        Self::Delivered,
        Self::Complete,
        Self::Parsed,
        Self::SchemaValid,
        Self::ChecksPassed,
    ];

    /// The rung in one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Called => "called",
            Self::Delivered => "delivered",
            Self::Complete => "complete",
            Self::Parsed => "parsed",
            Self::SchemaValid => "schema_valid",
            Self::ChecksPassed => "checks_passed",
        }
    }
}

/// One row of the table of failure classes.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The class in one word, as in headers, records, metrics and errors.
    pub name: &'static str,
    /// How the class is recognised (for the manual).
    pub seen_as: &'static str,
    /// May the same target be asked again?
    pub same: SameTarget,
    /// May the next target be asked?
    pub next: NextTarget,
    /// What it says about the target.
    pub health: Health,
    /// May a degraded answer take its place? Not where the caller must see its own mistake.
    pub degrades: bool,
    /// May the *client* usefully send the same request again later?
    pub retryable: bool,
    /// How far up the ladder the answer got; `None` where the failure says nothing of the model.
    pub reached: Option<Rung>,
}

const fn row(
    name: &'static str,
    seen_as: &'static str,
    acts: (SameTarget, NextTarget, Health),
) -> Row {
    let (same, next, health) = acts;
    let reached = Some(Rung::Called);
    Row { name, seen_as, same, next, health, degrades: true, retryable: true, reached }
}

impl Row {
    const fn never_degrades(mut self) -> Self {
        self.degrades = false;
        self
    }
    const fn reaches(mut self, rung: Rung) -> Self {
        self.reached = Some(rung);
        self
    }
    const fn says_nothing_of_the_model(mut self) -> Self {
        self.reached = None;
        self
    }
    const fn final_for_client(mut self) -> Self {
        self.retryable = false;
        self
    }
}

impl FailureClass {
    /// Every class, each phase and cut on its own, in the order of the manual.
    pub const ALL: [Self; 24] = [
        Self::Timeout(Phase::Connect),
        Self::Timeout(Phase::Headers),
        Self::Timeout(Phase::FirstToken),
        Self::Timeout(Phase::Idle),
        Self::Timeout(Phase::Deadline),
        Self::Connection,
        Self::RateLimited,
        Self::Overloaded,
        Self::UpstreamError,
        Self::UpstreamAuth,
        Self::BadRequest,
        Self::ContextLength,
        Self::ContentFilter,
        Self::Refused,
        Self::Empty,
        Self::Truncated(Cut::Length),
        Self::Truncated(Cut::Stream),
        Self::Malformed,
        Self::Schema,
        Self::Check,
        Self::CircuitOpen,
        Self::Budget,
        Self::Cancelled,
        Self::Consumer,
    ];

    /// The table: what each class leads to.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one table, a row for each class")]
    pub const fn row(self) -> Row {
        use {Health as H, NextTarget as N, SameTarget as S};
        match self {
            Self::Timeout(Phase::Idle) => {
                row("timeout", "a limit of the failure budget passed", (S::No, N::Yes, H::Faulty))
                    .reaches(Rung::Delivered)
            }
            Self::Timeout(
                Phase::Connect | Phase::Headers | Phase::FirstToken | Phase::Deadline,
            ) => row("timeout", "a limit of the failure budget passed", (S::No, N::Yes, H::Faulty)),
            Self::Connection => row(
                "connection",
                "refused, reset, TLS failure, name not found",
                (S::Backoff, N::Yes, H::Faulty),
            ),
            Self::RateLimited => {
                row("rate_limited", "429, with or without headers", (S::AfterHint, N::Yes, H::Hold))
            }
            Self::Overloaded => row(
                "overloaded",
                "503, 529, or Backstay's own limit for the target",
                (S::Backoff, N::Yes, H::Faulty),
            ),
            Self::UpstreamError => row(
                "upstream_error",
                "another 5xx, or a reply outside the wire format",
                (S::Backoff, N::Yes, H::Faulty),
            ),
            Self::UpstreamAuth => row(
                "upstream_auth",
                "401, 403, exhausted quota; 404, a model that is not there",
                (S::No, N::Yes, H::Unusable),
            )
            .final_for_client(),
            Self::BadRequest => {
                row("bad_request", "another 4xx, or an invalid request", (S::No, N::No, H::Fine))
                    .never_degrades()
                    .final_for_client()
                    .says_nothing_of_the_model()
            }
            Self::ContextLength => row(
                "context_length",
                "by the provider's code, or counted before sending",
                (S::No, N::LargerWindow, H::Fine),
            )
            .final_for_client(),
            Self::ContentFilter => row(
                "content_filter",
                "filter error or finish reason",
                (S::No, N::IfRouteSaysSo, H::Fine),
            )
            .never_degrades()
            .final_for_client()
            .reaches(Rung::Delivered),
            Self::Refused => {
                row("refused", "refusal field or stop reason", (S::No, N::IfRouteSaysSo, H::Fine))
                    .never_degrades()
                    .final_for_client()
                    .reaches(Rung::Complete)
            }
            Self::Empty => row("empty", "nothing in it", (S::Once, N::Yes, H::Faulty)),
            Self::Truncated(Cut::Length) => {
                row("truncated", "finish reason `length`", (S::No, N::Yes, H::Fine))
                    .final_for_client()
                    .reaches(Rung::Delivered)
            }
            Self::Truncated(Cut::Stream) => row(
                "truncated",
                "missing terminal event, body shorter than announced",
                (S::Backoff, N::Yes, H::Faulty),
            )
            .reaches(Rung::Delivered),
            Self::Malformed => row(
                "malformed",
                "not JSON where JSON is promised",
                (S::RepairThenBackoff, N::Yes, H::Faulty),
            )
            .reaches(Rung::Complete),
            Self::Schema => row(
                "schema",
                "valid JSON that violates the schema: path, rule, value",
                (S::RepairThenBackoff, N::Yes, H::Faulty),
            )
            .reaches(Rung::Parsed),
            Self::Check => row("check", "a semantic check failed", (S::Repair, N::Yes, H::Faulty))
                .reaches(Rung::SchemaValid),
            Self::CircuitOpen => {
                row("circuit_open", "the target's breaker is open", (S::No, N::Yes, H::Neutral))
            }
            Self::Budget => {
                row("budget", "cost, tokens or retry tokens spent", (S::No, N::No, H::Neutral))
            }
            Self::Cancelled => row("cancelled", "the client went away", (S::No, N::No, H::Neutral))
                .never_degrades()
                .says_nothing_of_the_model(),
            Self::Consumer => {
                row("consumer", "reported later by the application", (S::No, N::No, H::Neutral))
                    .never_degrades()
                    .final_for_client()
                    .reaches(Rung::ChecksPassed)
            }
        }
    }

    /// The class in one word: `timeout`, `schema`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The class with its phase or cut, unique for each value: `timeout_headers`, `truncated_length`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Timeout(Phase::Connect) => "timeout_connect",
            Self::Timeout(Phase::Headers) => "timeout_headers",
            Self::Timeout(Phase::FirstToken) => "timeout_first_token",
            Self::Timeout(Phase::Idle) => "timeout_idle",
            Self::Timeout(Phase::Deadline) => "timeout_deadline",
            Self::Truncated(Cut::Length) => "truncated_length",
            Self::Truncated(Cut::Stream) => "truncated_stream",
            Self::Connection
            | Self::RateLimited
            | Self::Overloaded
            | Self::UpstreamError
            | Self::UpstreamAuth
            | Self::BadRequest
            | Self::ContextLength
            | Self::ContentFilter
            | Self::Refused
            | Self::Empty
            | Self::Malformed
            | Self::Schema
            | Self::Check
            | Self::CircuitOpen
            | Self::Budget
            | Self::Cancelled
            | Self::Consumer => self.name(),
        }
    }

    /// The class whose [`Self::code`] is `code`.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.code() == code)
    }

    /// A failed answer that arrived on HTTP 200: wrong in meaning, not in transport.
    #[must_use]
    pub const fn is_semantic(self) -> bool {
        matches!(self, Self::Empty | Self::Malformed | Self::Schema | Self::Check)
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for FailureClass {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for FailureClass {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::from_code(&code)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown failure class `{code}`")))
    }
}

/// Where an answer breaks a schema or a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// JSONPath of the offending place, `$` for the whole answer.
    pub path: String,
    /// The rule that it breaks: a schema keyword or the name of a check.
    pub rule: String,
    /// The rule and the offending value in words, shortened.
    pub reason: String,
}

/// Why a request was turned away before it became a call; the detail of a `bad_request`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// Something in it is wrong.
    #[default]
    Invalid,
    /// It carries no valid key.
    Unauthenticated,
    /// It comes from where it must not.
    Forbidden,
    /// What it names does not exist.
    NotFound,
    /// Its path does not answer to its method.
    Method,
    /// It is too large.
    TooLarge,
}

/// One failure: its class, and what a person needs in order to understand it.
///
/// The message is Backstay's own sentence. The text of a provider's error never gets into it, since
/// that can echo keys and user input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub class: FailureClass,
    /// What happened, in one sentence, with no text from the provider.
    pub message: String,
    /// How long the provider asked to be left alone.
    pub retry_after: Option<Duration>,
    /// The provider's HTTP status, if there was one.
    pub status: Option<u16>,
    /// The broken rule, for `malformed`, `schema` and `check`.
    pub violation: Option<Violation>,
    /// The field of the client's request that is wrong, for `bad_request`.
    pub param: Option<String>,
    /// Why the request was turned away, for `bad_request`.
    pub refusal: Refusal,
}

impl Failure {
    /// A failure of `class`, explained by `message`.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            retry_after: None,
            status: None,
            violation: None,
            param: None,
            refusal: Refusal::Invalid,
        }
    }

    /// A request that the client has to mend: which field is wrong, and why.
    pub fn bad_request(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(FailureClass::BadRequest, message) }
    }

    /// The same failure, with why the request was turned away.
    #[must_use]
    pub fn because(mut self, refusal: Refusal) -> Self {
        self.refusal = refusal;
        self
    }

    /// The same failure, with the provider's status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The same failure, with the pause that the provider asked for.
    #[must_use]
    pub fn with_retry_after(mut self, pause: Option<Duration>) -> Self {
        self.retry_after = pause;
        self
    }

    /// The same failure, with the rule that the answer breaks.
    #[must_use]
    pub fn with_violation(mut self, violation: Violation) -> Self {
        self.violation = Some(violation);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_code_of_its_own_and_is_found_by_it() {
        for class in FailureClass::ALL {
            assert_eq!(FailureClass::from_code(class.code()), Some(class));
        }
    }

    #[test]
    fn a_class_survives_json() {
        for class in FailureClass::ALL {
            let json = serde_json::to_string(&class).unwrap();
            assert_eq!(serde_json::from_str::<FailureClass>(&json).unwrap(), class);
        }
    }
}
