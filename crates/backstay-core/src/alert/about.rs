//! What each rule is for people: the manual and the dashboard are made of this table.

use super::{Rule, Severity};

/// One rule, for people.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// In a few words.
    pub title: &'static str,
    /// What it watches.
    pub watches: &'static str,
    /// When it fires,
    pub fires: &'static str,
    /// and when that is over.
    pub clears: &'static str,
    /// What to do about it.
    pub advice: &'static str,
    /// How urgent it can become.
    pub severity: Severity,
    /// What its value is measured in.
    pub unit: &'static str,
    /// Seconds for which it must hold before somebody is told, and for which all must be well before it
    /// is over.
    pub lasts: (u64, u64),
}

impl Rule {
    /// The rule, for people.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one table, a row for each rule")]
    pub const fn about(self) -> About {
        match self {
            Self::ErrorRate => About {
                title: "Too many calls fail",
                watches: "The share of a call's failures in the last 5 minutes and in the last hour. \
                          Wrong requests and clients that went away do not count.",
                fires: "When so many failures would be that rare if the share were just \
                        `budget.max_error_rate` (2 % unless you say otherwise): once in 100 windows \
                        warns, once in 1000 pages. Two failures are the least. \"Over 2 % in 5 \
                        minutes\" as it stands would fire on healthy calls all day; the dashboard \
                        shows it as a state and tells nobody.",
                clears: "When as many failures as in the last 5 minutes would happen in one window of \
                         five if the share were the allowed one.",
                advice: "Look at the failure class in the alert, then at `backstay show` of one of its \
                         calls. The manual's page on failure classes says what to do about each.",
                severity: Severity::Page,
                unit: "share",
                lasts: (0, 300),
            },
            Self::BurnRate => About {
                title: "The error budget burns too fast",
                watches: "How fast failures use up what the SLO of the call leaves for 30 days. Only \
                          for calls with `alerts.slo`.",
                fires: "Pages at 14.4 times too fast over 1 hour and 5 minutes, and at 6 times over 6 \
                        hours and 30 minutes; warns when 3 days and 6 hours are both over budget. A \
                        few failures of a few calls are no evidence and do not fire it.",
                clears: "When none of the three holds.",
                advice: "The same as for `error_rate`. This rule is slower and says what a month of it \
                         would cost.",
                severity: Severity::Page,
                unit: "times",
                lasts: (0, 300),
            },
            Self::LatencyBudget => About {
                title: "Calls are slower than wanted",
                watches: "The share of calls slower than `alerts.latency_p95`, or than 80 % of \
                          `budget.deadline`.",
                fires: "When more than one call in twenty is slower, by the same test as `error_rate`.",
                clears: "As `error_rate`.",
                advice: "Open the call's page: if one target is slow, put a faster one before it; if \
                         all are, look at the length of prompts and answers, and at retries.",
                severity: Severity::Page,
                unit: "share",
                lasts: (0, 300),
            },
            Self::LatencyBaseline => About {
                title: "Calls are slower than usual",
                watches: "The share of calls slower than 1.5 times the call's own 95th percentile of \
                          the last 7 days (of at least 300 calls).",
                fires: "When more than one call in twenty is slower, and chance alone would do that \
                        once in 1000 windows.",
                clears: "As `error_rate`.",
                advice: "Something changed that nobody announced: compare releases, targets and tokens \
                         on the call's page. If the new latency is fine, silence it: after a day it is \
                         what is usual, and the alert ends.",
                severity: Severity::Warn,
                unit: "share",
                lasts: (0, 300),
            },
            Self::FirstToken => About {
                title: "Streams begin late",
                watches: "The share of streams whose first content comes later than \
                          `alerts.first_token_p95`, or than 1.5 times the call's own 95th percentile \
                          of the last 7 days (of at least 300 streams).",
                fires: "As `latency_baseline`; with a limit of yours, already at once in 100 windows.",
                clears: "As `error_rate`.",
                advice: "Providers under load queue: look at the target's other calls. Longer prompts \
                         begin later too.",
                severity: Severity::Warn,
                unit: "share",
                lasts: (0, 300),
            },
            Self::TokensIn => About {
                title: "Prompts have another length",
                watches: "The input tokens of each release, as logarithms, against what is usual for \
                          it: its calls of the last 7 days, at least 300.",
                fires: "When what deviates by more than half a sigma adds up to 8 sigma (CUSUM); longer \
                        and shorter are summed apart, and no call counts for more than 4 sigma.",
                clears: "When the sum has fallen below 4.",
                advice: "Longer: something is pasted in twice, a retrieval returns more, a client sends \
                         its whole history. Shorter: context is missing. Costs and latency follow.",
                severity: Severity::Warn,
                unit: "sigma",
                lasts: (600, 0),
            },
            Self::TokensOut => About {
                title: "Answers have another length",
                watches: "The output tokens of each release, as `tokens_in`.",
                fires: "As `tokens_in`.",
                clears: "As `tokens_in`.",
                advice: "Read a few of the alert's calls. Shorter answers are often refusals or lost \
                         context; longer ones a model that was changed behind its name.",
                severity: Severity::Warn,
                unit: "sigma",
                lasts: (600, 0),
            },
            Self::Quality => About {
                title: "Answers stop at a rung of the ladder",
                watches: "Each rung (delivered, complete, parsed, schema-valid, checks passed, useful to \
                          its consumer): what fails there of what came so far, against the last 7 days \
                          (at least 300 calls).",
                fires: "When it is more than 1.5 times the usual share, and more than one percentage \
                        point above it, and chance alone would do that once in 1000 windows.",
                clears: "As `error_rate`.",
                advice: "The rung says where: `parsed` and `schema_valid` point at the model or the \
                         prompt, `consumer` at answers that are valid and wrong, which `backstay log \
                         --verdict useless` lists.",
                severity: Severity::Warn,
                unit: "share",
                lasts: (0, 300),
            },
            Self::Coverage => About {
                title: "Consumers have stopped to report",
                watches: "How many calls were reported on by `POST /v1/outcomes` when they were one to \
                          two hours old, where at least 20 % are usual by then (at least 300 calls of 7 \
                          days). Reports that usually come later are not waited for.",
                fires: "When fewer than half of the usual reports came, and chance alone would do that \
                        once in 1000 windows.",
                clears: "As `error_rate`, with the calls of the hour before the last one.",
                advice: "The application no longer says what answers were worth: a deploy dropped the \
                         call, or its key was revoked. Without reports nobody notices wrong answers.",
                severity: Severity::Warn,
                unit: "share",
                lasts: (0, 300),
            },
            Self::NoTraffic => About {
                title: "There are no calls any more",
                watches: "How long a call of the project has not been called, against its rate before \
                          and at the same time of day a week or a day ago.",
                fires: "After 5 minutes and more, when chance alone would leave so many expected calls \
                        out once in 1000 times. A silence that the call kept three times in a week is \
                        taken for usual.",
                clears: "With the next call, or after a day.",
                advice: "Look at the application first: it may have crashed, or call a provider without \
                         Backstay.",
                severity: Severity::Warn,
                unit: "calls",
                lasts: (0, 0),
            },
            Self::BreakerOpen => About {
                title: "A breaker is open",
                watches: "The breakers of each call and target.",
                fires: "When one is not closed.",
                clears: "When it is closed.",
                advice: "The target fails: the calls of the alert say how. Calls go to the next target \
                         of the route meanwhile; without one they fail as `circuit_open`.",
                severity: Severity::Warn,
                unit: "breakers",
                lasts: (60, 60),
            },
            Self::Credentials => About {
                title: "A provider refuses the credentials",
                watches: "Targets that are left alone after `upstream_auth`.",
                fires: "At once: it does not heal by itself.",
                clears: "When the target has answered again for 5 minutes, or was not asked for a day.",
                advice: "Renew the key or pay the bill, check with `backstay check --secrets`, and \
                         restart the gateway.",
                severity: Severity::Page,
                unit: "targets",
                lasts: (0, 300),
            },
            Self::Unpriced => About {
                title: "Calls cost nobody knows what",
                watches: "Calls of the last hour whose target has no known price.",
                fires: "With the first one.",
                clears: "When there was none for an hour.",
                advice: "Give the target a price of your own, or say that it is free; `backstay prices` \
                         shows what is known. Until then no sum of costs holds it.",
                severity: Severity::Warn,
                unit: "calls",
                lasts: (0, 0),
            },
            Self::Shed => About {
                title: "Records are given up",
                watches: "The count of records that could not be kept. Reports of consumers that find \
                          no call do not count.",
                fires: "With the first one.",
                clears: "When there is none any more.",
                advice: "The disk is full, locked or too slow; `/readyz` says what is wrong with the \
                         store. Calls go on, but sums, log and alerts are too low meanwhile.",
                severity: Severity::Page,
                unit: "records",
                lasts: (0, 600),
            },
            Self::ModelDrift => About {
                title: "Another model answers",
                watches: "The model and the build that the provider says it used, for each target.",
                fires: "When a model answers that did not before. A new build of the same model counts \
                        once the target has kept its builds for a day.",
                clears: "After an hour.",
                advice: "The provider moved the name. Run the evals of the calls that use the target; \
                         name a dated model in the route to keep it from happening.",
                severity: Severity::Warn,
                unit: "models",
                lasts: (0, 0),
            },
        }
    }
}
