//! What everything that is exported is called: one row for each attribute and metric, one column for
//! each version of OpenTelemetry's conventions. A new version is a new column.
//!
//! Names of Backstay's own begin with `backstay.` and are the same in every version. The page of the
//! manual is made of this table, and a test holds it against the published lists.

use backstay_core::config::Semconv;

/// A name in each version; `None` where a version has none, and nothing is exported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Versions {
    pub(super) v1_41: Option<&'static str>,
    pub(super) experimental: Option<&'static str>,
}

impl Versions {
    pub(super) const fn of(self, version: Semconv) -> Option<&'static str> {
        match version {
            Semconv::V1_41 => self.v1_41,
            Semconv::Experimental => self.experimental,
        }
    }
}

/// The same name in every version.
const fn same(name: &'static str) -> Versions {
    Versions { v1_41: Some(name), experimental: Some(name) }
}

/// A name that came, or changed, after 1.41.1.
const fn since(v1_41: Option<&'static str>, experimental: &'static str) -> Versions {
    Versions { v1_41, experimental: Some(experimental) }
}

/// A name that is gone after 1.41.1.
const fn until(name: &'static str) -> Versions {
    Versions { v1_41: Some(name), experimental: None }
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "the manual is made of all of it"))]
pub(super) struct Row {
    /// What it holds, in the words of Backstay.
    pub(super) holds: &'static str,
    /// Where it is found: `c` call span, `a` attempt span, `m` metrics, `e` events, and `t` where it
    /// is a text that is exported on request only.
    pub(super) on: &'static str,
    /// Its names.
    pub(super) names: Versions,
}

macro_rules! attributes {
    ($($field:ident: $names:expr, $on:literal, $holds:literal;)*) => {
        /// What an attribute is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Field { $($field),* }

        /// Every attribute, in the order of [`Field`].
        pub(super) const ATTRIBUTES: &[Row] =
            &[$(Row { holds: $holds, on: $on, names: $names }),*];
    };
}

attributes! {
    Operation: same("gen_ai.operation.name"), "cm", "`chat`";
    Provider: same("gen_ai.provider.name"), "cam", "the provider of the last attempt, known by its address; `backstay` where none was asked";
    RequestModel: same("gen_ai.request.model"), "cam", "the model of the last attempt's target";
    ErrorType: same("error.type"), "cam", "the failure's code (`timeout_headers`); on the call only if its client got an error or a degraded answer";
    ServerAddress: same("server.address"), "ca", "host of the provider";
    ServerPort: same("server.port"), "ca", "port of the provider";
    OutputType: same("gen_ai.output.type"), "c", "`json` where JSON is promised";
    PromptName: since(None, "gen_ai.prompt.name"), "c", "the call";
    PromptVersion: since(None, "gen_ai.prompt.version"), "c", "the number of the release";
    Stream: same("gen_ai.request.stream"), "c", "whether the client asked for a stream";
    Choices: same("gen_ai.request.choice.count"), "c", "`n`, if it is not 1";
    Seed: same("gen_ai.request.seed"), "c", "`seed`";
    TopK: same("gen_ai.request.top_k"), "c", "`top_k`";
    TopP: same("gen_ai.request.top_p"), "c", "`top_p`";
    Temperature: same("gen_ai.request.temperature"), "c", "`temperature`";
    MaxTokens: same("gen_ai.request.max_tokens"), "c", "`max_completion_tokens` or `max_tokens`";
    FrequencyPenalty: same("gen_ai.request.frequency_penalty"), "c", "`frequency_penalty`";
    PresencePenalty: same("gen_ai.request.presence_penalty"), "c", "`presence_penalty`";
    Stop: same("gen_ai.request.stop_sequences"), "c", "`stop` or `stop_sequences`";
    ReasoningLevel: since(None, "gen_ai.request.reasoning.level"), "c", "`reasoning_effort`";
    ResponseId: same("gen_ai.response.id"), "ce", "the provider's id of the answer";
    ResponseModel: same("gen_ai.response.model"), "cm", "the model that the provider says it used";
    FinishReasons: same("gen_ai.response.finish_reasons"), "c", "why the model stopped";
    FirstChunk: same("gen_ai.response.time_to_first_chunk"), "c", "seconds to the first content of a stream";
    InputTokens: same("gen_ai.usage.input_tokens"), "c", "all input tokens, over all attempts";
    OutputTokens: same("gen_ai.usage.output_tokens"), "c", "all output tokens, over all attempts";
    CacheRead: same("gen_ai.usage.cache_read.input_tokens"), "c", "input tokens read from the provider's cache";
    CacheWrite: since(Some("gen_ai.usage.cache_creation.input_tokens"), "gen_ai.usage.cache_write.input_tokens"), "c", "input tokens written to the provider's cache";
    Reasoning: same("gen_ai.usage.reasoning.output_tokens"), "c", "output tokens of reasoning";
    FlagKey: same("feature_flag.key"), "c", "the call, where a release answered";
    FlagVariant: same("feature_flag.result.variant"), "c", "the variant";
    FlagReason: same("feature_flag.result.reason"), "c", "`targeting_match` if the request named the release, else `default`";
    Status: same("http.response.status_code"), "a", "the provider's HTTP status";
    TokenType: until("gen_ai.token.type"), "m", "`input` or `output`";
    TokenModality: since(None, "gen_ai.token.modality"), "m", "`unknown`";
    EvaluationName: same("gen_ai.evaluation.name"), "e", "`parsed`, `schema_valid`, `checks_passed` or `consumer`";
    ScoreValue: same("gen_ai.evaluation.score.value"), "e", "1 or 0; the consumer's score if it gave one";
    ScoreLabel: same("gen_ai.evaluation.score.label"), "e", "`pass` or `fail`";
    Explanation: same("gen_ai.evaluation.explanation"), "et", "the broken rule, or the consumer's reason";
    SystemInstructions: same("gen_ai.system_instructions"), "ct", "Anthropic's `system`";
    InputMessages: same("gen_ai.input.messages"), "ct", "the client's messages";
    OutputMessages: same("gen_ai.output.messages"), "ct", "the model's answer, the rejected one if none held";
    ToolDefinitions: same("gen_ai.tool.definitions"), "ct", "the client's `tools`";
    Inputs: same("backstay.inputs"), "ct", "the variables of the prompt template";
    Message: same("backstay.message"), "cat", "the failure in a sentence";
    CallId: same("backstay.call.id"), "ce", "the id of the call";
    Call: same("backstay.call"), "cme", "the call";
    Release: same("backstay.release"), "cme", "the release, `extract-invoice@7`";
    Variant: same("backstay.variant"), "m", "the variant";
    Outcome: same("backstay.outcome"), "cam", "`ok`, `repaired`, or the failure's code";
    Degraded: same("backstay.degraded"), "cm", "what was answered instead";
    Protocol: same("backstay.protocol"), "c", "the client's wire format";
    Attempts: same("backstay.attempts"), "c", "how many attempts were made";
    Overhead: same("backstay.overhead"), "c", "seconds of Backstay's own";
    Rule: same("backstay.violation.rule"), "c", "the rule that the last answer broke";
    CostState: same("backstay.cost.state"), "c", "`priced`, `free` or `unknown`";
    CostUsd: same("backstay.cost.usd"), "c", "US dollars, where a price is known";
    Estimated: same("backstay.usage.estimated"), "c", "whether Backstay counted the tokens itself";
    Target: same("backstay.target"), "am", "`provider/model`";
    AttemptNumber: same("backstay.attempt.number"), "a", "from 1";
    AttemptKind: same("backstay.attempt.kind"), "a", "`first`, `retry`, `fallback` or `repair`";
    AttemptFirstChunk: same("backstay.attempt.time_to_first_chunk"), "a", "seconds to its first content";
    AttemptInput: same("backstay.attempt.input_tokens"), "a", "its input tokens";
    AttemptOutput: same("backstay.attempt.output_tokens"), "a", "its output tokens";
    RetryAfter: same("backstay.attempt.retry_after"), "a", "seconds that the provider asked to be left alone";
    ReportOk: same("backstay.ok"), "m", "whether the consumer found the answer of use";
}

impl Field {
    /// Its name in `version`.
    pub(super) fn name(self, version: Semconv) -> Option<&'static str> {
        ATTRIBUTES.get(self as usize)?.names.of(version)
    }
}

/// How a metric is summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Counted up.
    Sum,
    /// Distributed over buckets of seconds.
    Seconds,
    /// Distributed over buckets of tokens.
    Tokens,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub(super) struct MetricRow {
    pub(super) names: Versions,
    pub(super) kind: Kind,
    pub(super) unit: &'static str,
    pub(super) holds: &'static str,
}

macro_rules! metrics {
    ($($metric:ident: $names:expr, $kind:ident, $unit:literal, $holds:literal;)*) => {
        /// What is measured.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Metric { $($metric),* }

        /// Every metric, in the order of [`Metric`].
        pub(super) const METRICS: &[(Metric, MetricRow)] = &[$((
            Metric::$metric,
            MetricRow { names: $names, kind: Kind::$kind, unit: $unit, holds: $holds },
        )),*];
    };
}

metrics! {
    Duration: since(Some("gen_ai.client.operation.duration"), "gen_ai.client.inference.duration"), Seconds, "s", "how long calls took, retries and pauses included";
    FirstChunk: since(Some("gen_ai.client.operation.time_to_first_chunk"), "gen_ai.client.inference.time_to_first_chunk"), Seconds, "s", "how long streams took to their first content";
    TokenUsage: until("gen_ai.client.token.usage"), Tokens, "{token}", "tokens of calls, by type";
    InputUsed: since(None, "gen_ai.client.inference.usage.input_tokens"), Sum, "{token}", "all input tokens";
    OutputUsed: since(None, "gen_ai.client.inference.usage.output_tokens"), Sum, "{token}", "all output tokens";
    CacheReadUsed: since(None, "gen_ai.client.inference.usage.cache_read.input_tokens"), Sum, "{token}", "input tokens read from caches";
    CacheWriteUsed: since(None, "gen_ai.client.inference.usage.cache_write.input_tokens"), Sum, "{token}", "input tokens written to caches";
    ReasoningUsed: since(None, "gen_ai.client.inference.usage.reasoning.output_tokens"), Sum, "{token}", "output tokens of reasoning";
    InputOfCall: since(None, "gen_ai.client.inference.operation.input_tokens"), Tokens, "{token}", "input tokens of calls";
    OutputOfCall: since(None, "gen_ai.client.inference.operation.output_tokens"), Tokens, "{token}", "output tokens of calls";
    Calls: same("backstay.calls"), Sum, "{call}", "calls, by release and outcome";
    Attempts: same("backstay.attempts"), Sum, "{attempt}", "attempts, by target and outcome";
    AttemptDuration: same("backstay.attempt.duration"), Seconds, "s", "how long attempts took";
    Cost: same("backstay.cost"), Sum, "{USD}", "US dollars, as far as prices are known";
    Reports: same("backstay.outcome_reports"), Sum, "{report}", "verdicts of consumers";
}

impl Metric {
    /// Its row.
    pub(super) fn row(self) -> Option<&'static MetricRow> {
        METRICS.get(self as usize).map(|(_, row)| row)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const VERSIONS: [Semconv; 2] = [Semconv::V1_41, Semconv::Experimental];

    #[test]
    fn no_two_rows_share_a_name_and_every_row_has_one() {
        for version in VERSIONS {
            let names: Vec<_> = ATTRIBUTES.iter().filter_map(|row| row.names.of(version)).collect();
            let different: BTreeSet<_> = names.iter().collect();
            assert_eq!(names.len(), different.len(), "{version:?}");
        }
        assert!(ATTRIBUTES.iter().all(|row| VERSIONS.iter().any(|v| row.names.of(*v).is_some())));
        assert_eq!(Field::Operation.name(Semconv::V1_41), Some("gen_ai.operation.name"));
        assert_eq!(Field::ReportOk.name(Semconv::Experimental), Some("backstay.ok"));
        for (metric, row) in METRICS {
            let names = (row.names.v1_41, row.names.experimental);
            let own = metric.row().map(|row| (row.names.v1_41, row.names.experimental));
            assert_eq!(own, Some(names), "{metric:?}");
        }
    }
}
