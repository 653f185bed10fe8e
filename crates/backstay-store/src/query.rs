//! Questions to the call log and their answers, the same for every store.

use serde::Serialize;

use backstay_core::{
    failure::FailureClass,
    record::{CallId, CallRecord, Cost, Degraded, Outcome, OutcomeReport, Usage, Variant},
};

/// The most rows that one question is answered with.
pub(crate) const MAX_ROWS: usize = 10_000;
/// The most ids that [`Lookup::Ambiguous`] names.
pub(crate) const MAX_AMBIGUOUS: u8 = 8;

/// What the consumer of an answer said of it last, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was of use.
    Useful,
    /// It was of no use.
    Useless,
    /// Nothing was heard.
    Unheard,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Useful, Self::Useless, Self::Unheard];

    /// The name in queries and addresses: `useless`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Useful => "useful",
            Self::Useless => "useless",
            Self::Unheard => "unheard",
        }
    }

    /// The one that goes by `text`.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.name() == text)
    }

    /// As [`CallRow::consumer_ok`] has it.
    pub(crate) const fn consumer_ok(self) -> Option<bool> {
        match self {
            Self::Useful => Some(true),
            Self::Useless => Some(false),
            Self::Unheard => None,
        }
    }
}

/// Which calls are meant: those that satisfy every field that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The call site.
    pub call: Option<String>,
    /// The release: `extract-invoice@7`.
    pub release: Option<String>,
    /// A target that was attempted: `provider/model`.
    pub target: Option<String>,
    /// Any of these units, as they are kept; empty means all.
    pub units: Vec<String>,
    /// Any of these outcomes; empty means all. See [`Filter::outcomes_named`].
    pub outcomes: Vec<Outcome>,
    /// Only calls that failed, whatever was answered in place.
    pub failures_only: bool,
    /// Only calls that were answered with something else than a model's answer.
    pub degraded_only: bool,
    /// Only calls of which their consumer said this last, as far as reports are stored by now.
    pub verdict: Option<Verdict>,
    /// Started at or after this, in milliseconds since the epoch.
    pub since_ms: Option<u64>,
    /// Started before this, in milliseconds since the epoch.
    pub until_ms: Option<u64>,
    /// Older than this call: the last row of the page before.
    pub before: Option<CallId>,
    /// Stored after the row with this [`CallRow::seq`], in the order of storing: to follow the log.
    /// Rows that are stored more than a day after their call began are not followed.
    pub after: Option<u64>,
    /// At most this many rows; never more than 10 000.
    pub limit: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            call: None,
            release: None,
            target: None,
            units: Vec::new(),
            outcomes: Vec::new(),
            failures_only: false,
            degraded_only: false,
            verdict: None,
            since_ms: None,
            until_ms: None,
            before: None,
            after: None,
            limit: 100,
        }
    }
}

impl Filter {
    /// The outcomes that go by `text`, a name (`timeout`: all its phases) or a code
    /// (`timeout_headers`); none if it is neither.
    #[must_use]
    pub fn outcomes_named(text: &str) -> Vec<Outcome> {
        [Outcome::Ok, Outcome::Repaired]
            .into_iter()
            .chain(FailureClass::ALL.into_iter().map(Outcome::Failed))
            .filter(|outcome| outcome.name() == text || outcome.code() == text)
            .collect()
    }

    /// Whether the filter lets `record` through with what its consumer said last, `after` and `limit`
    /// aside.
    pub(crate) fn admits(&self, record: &CallRecord, consumer_ok: Option<bool>) -> bool {
        let started = record.id.unix_millis();
        self.call.as_ref().is_none_or(|call| *call == record.call)
            && self.release.as_ref().is_none_or(|own| Some(own) == record.release.as_ref())
            && self.target.as_ref().is_none_or(|target| {
                record.attempts.iter().any(|attempt| attempt.target == *target)
            })
            && (self.outcomes.is_empty() || self.outcomes.contains(&record.outcome))
            && (self.units.is_empty()
                || record.unit.as_ref().is_some_and(|unit| self.units.contains(unit)))
            && (!self.failures_only || record.outcome.failure().is_some())
            && (!self.degraded_only || record.degraded != Degraded::None)
            && self.verdict.is_none_or(|verdict| verdict.consumer_ok() == consumer_ok)
            && self.since_ms.is_none_or(|since| started >= since)
            && self.until_ms.is_none_or(|until| started < until)
            && self.before.is_none_or(|before| record.id < before)
    }

    pub(crate) fn rows(&self) -> usize {
        self.limit.min(MAX_ROWS)
    }
}

/// A call in one line: everything but its attempts and bodies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallRow {
    /// The place in the order of storing; a cursor for [`Filter::after`].
    pub seq: u64,
    /// The call's identity and start.
    pub id: CallId,
    /// The call site.
    pub call: String,
    /// `extract-invoice@7`.
    pub release: Option<String>,
    /// Which release answered.
    pub variant: Variant,
    /// The client's wire format.
    pub protocol: String,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// What the variant was assigned to.
    pub unit: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// What was answered instead.
    pub degraded: Degraded,
    /// The failure in Backstay's words.
    pub message: Option<String>,
    /// Microseconds from the request to the last byte.
    pub latency_us: u64,
    /// Microseconds to the first content; streams only.
    pub first_token_us: Option<u64>,
    /// Microseconds of Backstay's own.
    pub overhead_us: u64,
    /// Tokens of all attempts.
    pub usage: Option<Usage>,
    /// What they cost.
    pub cost: Option<Cost>,
    /// The model that the provider says it used.
    pub model: Option<String>,
    /// The target of the last attempt.
    pub target: Option<String>,
    /// How many attempts were made.
    pub attempts: u32,
    /// What the consumer said last, if anything.
    pub consumer_ok: Option<bool>,
}

/// A whole call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredCall {
    /// The place in the order of storing.
    pub seq: u64,
    /// The record; its request and answer are absent once their retention has passed.
    pub record: CallRecord,
    /// What its consumer said, in the order in which it was received.
    pub reports: Vec<OutcomeReport>,
}

/// What a look-up by id found.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// One call.
    Found(Box<StoredCall>),
    /// No call.
    Missing,
    /// The prefix fits several calls; at most eight of them.
    Ambiguous(Vec<CallId>),
}

/// How calls ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All of them.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that were answered with something else than a model's answer.
    pub degraded: u64,
    /// By outcome, the most frequent first.
    pub outcomes: Vec<(Outcome, u64)>,
}

impl Counts {
    pub(crate) fn add(&mut self, outcome: Outcome, degraded: Degraded, calls: u64) {
        self.calls += calls;
        if outcome.failure().is_some() {
            self.failed += calls;
        }
        if degraded != Degraded::None {
            self.degraded += calls;
        }
        match self.outcomes.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, count)) => *count += calls,
            None => self.outcomes.push((outcome, calls)),
        }
    }

    pub(crate) fn sorted(mut self) -> Self {
        self.outcomes.sort_by(|(a, n), (b, m)| m.cmp(n).then(a.code().cmp(b.code())));
        self
    }
}

/// What a text may mean as a call's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdRange {
    pub(crate) first: CallId,
    pub(crate) last: CallId,
}

impl IdRange {
    /// The ids that begin with `text`, if it is 8 to 32 hex digits, hyphens aside.
    pub(crate) fn of_prefix(text: &str) -> Option<Self> {
        if text.len() > 36 {
            return None;
        }
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        if !(8..=32).contains(&digits.len()) || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        let value = u128::from_str_radix(&digits, 16).ok()?;
        let missing = 4 * u32::try_from(32 - digits.len()).ok()?;
        let first = value << missing;
        let last = first | ((1u128 << missing) - 1);
        let id = |bits| CallId(uuid::Uuid::from_u128(bits));
        Some(Self { first: id(first), last: id(last) })
    }
}
