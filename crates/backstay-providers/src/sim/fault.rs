//! The faults that the simulated provider can play: one row each, and nothing else.
//!
//! A row says what a fault is called, what it does (its effect) and what a gateway should make of it
//! ([`Seen`]). How an effect looks in bytes is the business of `script.rs` and of the two format
//! files; this file must not know any bytes.

use std::{borrow::Cow, fmt::Write as _};

use backstay_core::failure::{Cut, FailureClass as Class, Phase};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::wire::Protocol;

/// What a gateway should make of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The fault has no meaning for this kind of request: the reply is the healthy one.
    Unaffected,
    /// A good answer, in spite of the fault.
    Ok,
    /// An answer that is good once it is taken out of its wrapping, else `malformed`.
    Mended,
    /// A failure of this class.
    Fails(Class),
}

impl Seen {
    /// The word in the manual's table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unaffected => "–",
            Self::Ok => "ok",
            Self::Mended => "ok, mended",
            Self::Fails(class) => class.code(),
        }
    }
}

/// A connection that does not get as far as a status line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// Nobody listens.
    Refuse,
    /// The peer resets the connection once it has the request.
    ResetBeforeHeaders,
    /// The TLS handshake fails.
    Tls,
}

/// How a 429 says when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    Absent,
    Seconds,
    Date,
    Millis,
}

/// An error reply with a status of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorReply {
    RateLimited(Hint),
    Internal,
    BadGateway,
    Unavailable,
    Overloaded,
    ContextLength,
    Unauthorized,
    BadRequest,
    ContentFilter,
}

impl ErrorReply {
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::RateLimited(_) => 429,
            Self::Internal => 500,
            Self::BadGateway => 502,
            Self::Unavailable => 503,
            Self::Overloaded => 529,
            Self::Unauthorized => 401,
            Self::ContextLength | Self::BadRequest | Self::ContentFilter => 400,
        }
    }
}

/// A change of what the model says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    FilterStop,
    Refusal,
    FencedJson,
    ProseJson,
    MalformedJson,
    RenamedField,
    WrongType,
    ExtraField,
    MissingField,
    NoChoices,
    Null,
    Empty,
    TooLong,
    UsageTwice,
    NoUsage,
}

/// A change of how a good answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sends {
    HangHeaders,
    HangBody,
    Stall,
    Slow,
    ResetAfterHeaders,
    CutJson,
    Cut,
    NoTerminal,
    BadLine,
    ErrorInside,
    Gzip,
    Huge,
    WrongType,
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    Drop(Drop),
    Error(ErrorReply),
    Html,
    Says(Says),
    Sends(Sends),
}

struct Row {
    name: &'static str,
    effect: Effect,
    whole: Seen,
    stream: Seen,
    about: &'static str,
}

macro_rules! faults {
    ($($fault:ident $name:literal $effect:expr, $whole:expr, $stream:expr, $about:literal;)+) => {
        /// One way in which a provider misbehaves. Its name is used as a model, in the header
        /// `x-sim-fault` and in the configuration.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Fault {
            $(#[doc = $about] $fault,)+
        }

        impl Fault {
            /// Every fault, in the order of the manual.
            pub const ALL: &'static [Self] = &[$(Self::$fault),+];

            const fn row(self) -> Row {
                match self {
                    $(Self::$fault => Row {
                        name: $name, effect: $effect, whole: $whole, stream: $stream, about: $about,
                    },)+
                }
            }
        }
    };
}

const fn fails(class: Class) -> Seen {
    Seen::Fails(class)
}

const fn late(phase: Phase) -> Seen {
    Seen::Fails(Class::Timeout(phase))
}

const fn cut(cut: Cut) -> Seen {
    Seen::Fails(Class::Truncated(cut))
}

// name, effect, seen without a stream, seen with a stream, what happens
faults! {
    None "ok" Effect::Nothing,
        Seen::Ok, Seen::Ok,
        "A healthy answer.";
    RateLimitedSeconds "429-retry-after" Effect::Error(ErrorReply::RateLimited(Hint::Seconds)),
        fails(Class::RateLimited), fails(Class::RateLimited),
        "Status 429 with `retry-after: 2`.";
    RateLimitedDate "429-retry-after-date" Effect::Error(ErrorReply::RateLimited(Hint::Date)),
        fails(Class::RateLimited), fails(Class::RateLimited),
        "Status 429 with `retry-after` as an HTTP date, two to three seconds ahead.";
    RateLimitedMillis "429-retry-after-ms" Effect::Error(ErrorReply::RateLimited(Hint::Millis)),
        fails(Class::RateLimited), fails(Class::RateLimited),
        "Status 429 with `retry-after-ms: 250`.";
    RateLimited "429" Effect::Error(ErrorReply::RateLimited(Hint::Absent)),
        fails(Class::RateLimited), fails(Class::RateLimited),
        "Status 429 without any header.";
    Internal "500" Effect::Error(ErrorReply::Internal),
        fails(Class::UpstreamError), fails(Class::UpstreamError),
        "Status 500.";
    BadGateway "502" Effect::Error(ErrorReply::BadGateway),
        fails(Class::UpstreamError), fails(Class::UpstreamError),
        "Status 502 with the HTML page of a proxy.";
    Unavailable "503" Effect::Error(ErrorReply::Unavailable),
        fails(Class::Overloaded), fails(Class::Overloaded),
        "Status 503.";
    Overloaded "529" Effect::Error(ErrorReply::Overloaded),
        fails(Class::Overloaded), fails(Class::Overloaded),
        "Status 529.";
    ContextLength "400-context-length" Effect::Error(ErrorReply::ContextLength),
        fails(Class::ContextLength), fails(Class::ContextLength),
        "Status 400: the prompt is longer than the context window.";
    Unauthorized "401" Effect::Error(ErrorReply::Unauthorized),
        fails(Class::UpstreamAuth), fails(Class::UpstreamAuth),
        "Status 401: the key is not valid.";
    BadRequest "400" Effect::Error(ErrorReply::BadRequest),
        fails(Class::BadRequest), fails(Class::BadRequest),
        "Status 400: a parameter is wrong.";
    ContentFilter "content-filter" Effect::Error(ErrorReply::ContentFilter),
        fails(Class::ContentFilter), fails(Class::ContentFilter),
        "Status 400: a content filter stopped the prompt.";
    ContentFilterFinish "content-filter-finish" Effect::Says(Says::FilterStop),
        fails(Class::ContentFilter), fails(Class::ContentFilter),
        "Half an answer, stopped by a content filter.";
    Refusal "refusal" Effect::Says(Says::Refusal),
        fails(Class::Refused), fails(Class::Refused),
        "The model declines, in the format's own way.";
    HangHeaders "hang-headers" Effect::Sends(Sends::HangHeaders),
        late(Phase::Headers), late(Phase::Headers),
        "The request is taken and nothing ever comes back.";
    HangFirstToken "hang-first-token" Effect::Sends(Sends::HangBody),
        late(Phase::Idle), late(Phase::FirstToken),
        "Headers at once, then nothing.";
    Stall "stall" Effect::Sends(Sends::Stall),
        late(Phase::Idle), late(Phase::Idle),
        "Half of the answer, then nothing.";
    SlowStream "slow-stream" Effect::Sends(Sends::Slow),
        Seen::Ok, Seen::Ok,
        "A good answer, one piece every 250 ms.";
    ConnectionRefused "connection-refused" Effect::Drop(Drop::Refuse),
        fails(Class::Connection), fails(Class::Connection),
        "Nobody listens. Over a socket: reset.";
    ResetBeforeHeaders "reset-before-headers" Effect::Drop(Drop::ResetBeforeHeaders),
        fails(Class::Connection), fails(Class::Connection),
        "The connection is reset once the request is sent.";
    ResetAfterHeaders "reset-after-headers" Effect::Sends(Sends::ResetAfterHeaders),
        cut(Cut::Stream), cut(Cut::Stream),
        "Headers, then the connection is reset.";
    TlsFailure "tls-failure" Effect::Drop(Drop::Tls),
        fails(Class::Connection), fails(Class::Connection),
        "The TLS handshake fails. Over a socket: reset.";
    Html200 "html-200" Effect::Html,
        fails(Class::UpstreamError), fails(Class::UpstreamError),
        "Status 200 with an HTML page.";
    TruncatedJsonBody "truncated-json-body" Effect::Sends(Sends::CutJson),
        fails(Class::UpstreamError), cut(Cut::Stream),
        "A body of the announced length whose JSON stops half-way; a stream that ends inside an event.";
    FencedJson "fenced-json" Effect::Says(Says::FencedJson),
        Seen::Mended, Seen::Mended,
        "The JSON answer stands in a Markdown fence.";
    ProseJson "prose-json" Effect::Says(Says::ProseJson),
        Seen::Mended, Seen::Mended,
        "The JSON answer stands between sentences.";
    MalformedJson "malformed-json" Effect::Says(Says::MalformedJson),
        fails(Class::Malformed), fails(Class::Malformed),
        "The JSON answer is none: a quote is missing.";
    RenamedField "renamed-field" Effect::Says(Says::RenamedField),
        fails(Class::Schema), fails(Class::Schema),
        "A field of the JSON answer has another name.";
    WrongType "wrong-type" Effect::Says(Says::WrongType),
        fails(Class::Schema), fails(Class::Schema),
        "A field of the JSON answer has another type.";
    ExtraField "extra-field" Effect::Says(Says::ExtraField),
        fails(Class::Schema), fails(Class::Schema),
        "The JSON answer has a field too many (a failure where the schema forbids that).";
    MissingField "missing-field" Effect::Says(Says::MissingField),
        fails(Class::Schema), fails(Class::Schema),
        "A field of the JSON answer is missing (a failure where the schema requires it).";
    ChoicesEmpty "choices-empty" Effect::Says(Says::NoChoices),
        fails(Class::Empty), fails(Class::Empty),
        "`choices: []`, or `content: []` in Anthropic's format.";
    NullContent "null-content" Effect::Says(Says::Null),
        fails(Class::Empty), fails(Class::Empty),
        "The content is `null`.";
    EmptyContent "empty-content" Effect::Says(Says::Empty),
        fails(Class::Empty), fails(Class::Empty),
        "The content is an empty text.";
    FinishLength "finish-length" Effect::Says(Says::TooLong),
        cut(Cut::Length), cut(Cut::Length),
        "Half an answer, stopped by the output limit.";
    CutStream "cut-stream" Effect::Sends(Sends::Cut),
        cut(Cut::Stream), cut(Cut::Stream),
        "The stream ends after half of the answer, without a terminal event; a body that is shorter than announced.";
    MissingDone "missing-done" Effect::Sends(Sends::NoTerminal),
        Seen::Unaffected, Seen::Ok,
        "A whole stream, finish reason included, but no terminal event.";
    MalformedSseLine "malformed-sse-line" Effect::Sends(Sends::BadLine),
        Seen::Unaffected, fails(Class::UpstreamError),
        "An event in the middle of the stream is not JSON.";
    ErrorEvent "error-event" Effect::Sends(Sends::ErrorInside),
        fails(Class::UpstreamError), fails(Class::UpstreamError),
        "An error event in the middle of the stream; an error object with status 200.";
    DuplicateUsage "duplicate-usage" Effect::Says(Says::UsageTwice),
        Seen::Unaffected, Seen::Ok,
        "The usage is reported twice in one stream.";
    MissingUsage "missing-usage" Effect::Says(Says::NoUsage),
        Seen::Ok, Seen::Ok,
        "The usage is not reported.";
    Gzip "gzip" Effect::Sends(Sends::Gzip),
        Seen::Ok, Seen::Ok,
        "`content-encoding: gzip`, asked for or not.";
    Body50Mb "body-50mb" Effect::Sends(Sends::Huge),
        fails(Class::UpstreamError), fails(Class::UpstreamError),
        "An answer of 50 MiB; in a stream, as one event.";
    WrongContentType "wrong-content-type" Effect::Sends(Sends::WrongType),
        Seen::Ok, Seen::Ok,
        "A good answer under a wrong `content-type`.";
}

impl Fault {
    /// The name: `hang-headers`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// What happens, in one line of the manual.
    #[must_use]
    pub const fn about(self) -> &'static str {
        self.row().about
    }

    /// What a gateway should make of it.
    #[must_use]
    pub const fn seen(self, protocol: Protocol, stream: bool) -> Seen {
        match (self, protocol) {
            // Anthropic has one stop reason for both.
            (Self::ContentFilterFinish, Protocol::Anthropic) => Seen::Fails(Class::Refused),
            (Self::ErrorEvent, Protocol::Anthropic) => Seen::Fails(Class::Overloaded),
            (_, Protocol::OpenAi | Protocol::Anthropic) => {
                if stream {
                    self.row().stream
                } else {
                    self.row().whole
                }
            }
        }
    }

    pub(super) const fn effect(self) -> Effect {
        self.row().effect
    }

    /// The fault of that name; `none` is another word for `ok`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "none" {
            return Some(Self::None);
        }
        Self::ALL.iter().copied().find(|fault| fault.name() == name)
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <Cow<'de, str>>::deserialize(deserializer)?;
        Self::from_name(&name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|fault| fault.name()).collect();
            serde::de::Error::custom(format!(
                "`{name}` is not a fault of the simulated provider; it knows {}",
                names.join(", ")
            ))
        })
    }
}

impl JsonSchema for Fault {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Fault")
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<_> = Self::ALL.iter().map(|fault| fault.name()).collect();
        schemars::json_schema!({
            "type": "string",
            "enum": names,
            "description": "A fault of the simulated provider.",
        })
    }
}

/// The table of faults as Markdown, for the manual.
#[must_use]
pub fn manual_table() -> String {
    let mut table = String::from(
        "| name | what happens | a gateway sees | … in a stream |\n|---|---|---|---|\n",
    );
    for fault in Fault::ALL {
        let whole = fault.seen(Protocol::OpenAi, false).name();
        let stream = fault.seen(Protocol::OpenAi, true).name();
        // Writing to a String cannot fail.
        let _infallible =
            writeln!(table, "| `{}` | {} | {whole} | {stream} |", fault.name(), fault.about());
    }
    table
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        let names: BTreeSet<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), Fault::ALL.len());
        for fault in Fault::ALL {
            assert_eq!(Fault::from_name(fault.name()), Some(*fault));
        }
        assert_eq!(Fault::from_name("none"), Some(Fault::None));
        assert_eq!(Fault::from_name("teapot"), None);
    }

    #[test]
    fn the_manual_has_the_table() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manual/simulated-provider.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (begin, end) = ("<!-- faults: generated -->\n", "<!-- end of faults -->");
        let (before, rest) = text.split_once(begin).expect("marker before the table");
        let (table, after) = rest.split_once(end).expect("marker after the table");
        if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
            let updated = format!("{before}{begin}{}{end}{after}", manual_table());
            std::fs::write(&path, updated).unwrap();
        } else {
            assert_eq!(table, manual_table(), "run again with UPDATE_GOLDEN=1");
        }
    }
}
