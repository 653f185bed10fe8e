//! Every rule of one call: what is known of the call goes in, readings come out.

use std::time::Duration;

use backstay_core::{
    alert::{
        Rule, Severity, Subject,
        rates::{self, Tally, Window},
        reading::{Reading, Verdict},
        traffic::{Quiet, no_traffic},
    },
    failure::Rung,
    rollup::Level,
};

use super::{
    Policy,
    history::{History, Limits, Sums},
    usual::{ReleaseUsual, Usual, stopped},
};

const MINUTE_MS: u64 = Level::Minute.millis();
const HOUR_MS: u64 = Level::Hour.millis();
/// A release without calls for so long has nothing to say.
const RELEASE_MS: u64 = HOUR_MS;

/// One call as its rules see it.
pub(super) struct Seen<'a> {
    pub(super) call: &'a str,
    pub(super) now_ms: u64,
    pub(super) policy: &'a Policy,
    pub(super) history: &'a History,
    pub(super) usual: &'a Usual,
    /// Failures of the last 6 hours and 3 days, where the call has an SLO.
    pub(super) long: Option<[Tally; 2]>,
    /// How long it has not been called, where somebody expects calls.
    pub(super) quiet: Option<Quiet>,
}

/// What is slow for a call.
pub(super) fn limits(policy: &Policy, usual: &Usual) -> Limits {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let half_more = |us: u64| us.saturating_add(us / 2);
    Limits {
        budget_us: micros(policy.latency_p95()),
        usual_us: usual.latency_us.map(half_more),
        first_us: policy
            .alerts
            .first_token_p95
            .map(micros)
            .or_else(|| usual.first_us.map(half_more)),
    }
}

impl Seen<'_> {
    /// Every reading of the call but those that are about a target.
    pub(super) fn readings(&self) -> Vec<(Subject, Reading)> {
        let limits = limits(self.policy, self.usual);
        let short = self.sums(4, &limits);
        let hour = self.sums(59, &limits);
        let mut found = Vec::new();
        self.rates(&short, &hour, &limits, &mut found);
        self.qualities(&short, &hour, &limits, &mut found);
        found.push(self.coverage(&limits));
        self.tokens(&mut found);
        if let Some(quiet) = &self.quiet {
            found.push((self.subject(Rule::NoTraffic), no_traffic(quiet)));
        }
        if let (Some(slo), Some([six_hours, three_days])) = (self.policy.alerts.slo, self.long) {
            let half = self.sums(29, &limits).errors;
            let tallies = [short.errors, half, hour.errors, six_hours, three_days];
            found.push((self.subject(Rule::BurnRate), rates::burn_rate(&tallies, slo)));
        }
        found
    }

    fn subject(&self, rule: Rule) -> Subject {
        Subject { rule, call: self.call.to_owned(), release: None, target: None, detail: None }
    }

    /// The sums of this minute and so many before it.
    fn sums(&self, minutes: u64, limits: &Limits) -> Sums {
        let since = Level::Minute.start(self.now_ms).saturating_sub(minutes * MINUTE_MS);
        self.history.sums(since, self.now_ms, limits)
    }

    /// The two windows of a rule. After an alert has ended, the long one begins where it ended: else
    /// the same calls would begin it again.
    fn windows(
        &self,
        (rule, detail): (Rule, Option<&str>),
        (short, hour): (&Sums, &Sums),
        limits: &Limits,
        tally: &dyn Fn(&Sums) -> Tally,
    ) -> [Window; 2] {
        let ended = self.usual.ended_ms(rule, detail);
        let hour_ago = Level::Minute.start(self.now_ms).saturating_sub(59 * MINUTE_MS);
        let long = if ended > hour_ago {
            let since = Level::Minute.start(ended) + MINUTE_MS;
            tally(&self.history.sums(since, self.now_ms, limits))
        } else {
            tally(hour)
        };
        [Window { name: "5 min", tally: tally(short) }, Window { name: "1 h", tally: long }]
    }

    fn rates(
        &self,
        short: &Sums,
        hour: &Sums,
        limits: &Limits,
        found: &mut Vec<(Subject, Reading)>,
    ) {
        let windows = |rule, tally: &dyn Fn(&Sums) -> Tally| {
            self.windows((rule, None), (short, hour), limits, tally)
        };
        let errors = windows(Rule::ErrorRate, &|sums| sums.errors);
        let allowed = self.policy.max_error_rate;
        found.push((self.subject(Rule::ErrorRate), rates::error_rate(&errors, allowed)));
        let slow = windows(Rule::LatencyBudget, &|sums| sums.slow);
        let limit = self.policy.latency_p95();
        found.push((self.subject(Rule::LatencyBudget), rates::over_budget(&slow, limit)));
        let unusual = windows(Rule::LatencyBaseline, &|sums| sums.unusual);
        let reading = limits.usual_us.map_or_else(
            || rates::learning(self.usual.calls),
            |us| rates::over_baseline(&unusual, Duration::from_micros(us)),
        );
        found.push((self.subject(Rule::LatencyBaseline), reading));
        let late = windows(Rule::FirstToken, &|sums| sums.late);
        let wanted = self.policy.alerts.first_token_p95.is_some();
        let reading = limits.first_us.map_or_else(
            || rates::learning(self.usual.streams),
            |us| rates::late_streams(&late, Duration::from_micros(us), !wanted),
        );
        found.push((self.subject(Rule::FirstToken), reading));
    }

    fn qualities(
        &self,
        short: &Sums,
        hour: &Sums,
        limits: &Limits,
        found: &mut Vec<(Subject, Reading)>,
    ) {
        for (rung, usual) in self.usual.stopped.iter().enumerate() {
            let (name, words) = rung_words(rung);
            let tally = |sums: &Sums| stopped(&sums.ladder).get(rung).copied().unwrap_or_default();
            let rule = (Rule::Quality, Some(name));
            let windows = self.windows(rule, (short, hour), limits, &tally);
            let subject = Subject { detail: Some(name.to_owned()), ..self.subject(Rule::Quality) };
            found.push((subject, rates::quality(&windows, *usual, words)));
        }
    }

    /// Of the hour before the last one: what will be heard of is heard of by now.
    fn coverage(&self, limits: &Limits) -> (Subject, Reading) {
        let until = self.now_ms.saturating_sub(HOUR_MS);
        let since = until.saturating_sub(HOUR_MS).max(self.usual.ended_ms(Rule::Coverage, None));
        let tally = self.history.sums(since, until, limits).unheard;
        let windows = [Window { name: "1 h, an hour ago", tally }];
        (self.subject(Rule::Coverage), rates::coverage(&windows, self.usual.unheard()))
    }

    fn tokens(&self, found: &mut Vec<(Subject, Reading)>) {
        let lately = |usual: &ReleaseUsual| self.now_ms.saturating_sub(usual.last_ms) < RELEASE_MS;
        for (name, usual) in self.usual.releases.iter().filter(|(_, usual)| lately(usual)) {
            let release = (!name.is_empty()).then(|| name.clone());
            let sides = [
                (Rule::TokensIn, &usual.input_sum, &usual.input, "prompts"),
                (Rule::TokensOut, &usual.output_sum, &usual.output, "answers"),
            ];
            for (rule, sum, baseline, what) in sides {
                let subject = Subject { release: release.clone(), ..self.subject(rule) };
                found.push((subject, sum.reading(baseline.as_ref(), usual.seen, what)));
            }
        }
    }
}

/// The rung that is not reached by what stops at the one of this number, and what that means.
pub(super) fn rung_words(rung: usize) -> (&'static str, &'static str) {
    let words = [
        (Rung::Delivered.name(), "calls brought no answer"),
        (Rung::Complete.name(), "answers were cut off"),
        (Rung::Parsed.name(), "answers were not JSON"),
        (Rung::SchemaValid.name(), "answers violated the schema"),
        (Rung::ChecksPassed.name(), "answers failed a check"),
    ];
    words.get(rung).copied().unwrap_or(("consumer", "answers were of no use to their consumer"))
}

/// A reading of something that is there or not.
pub(super) fn fact(severity: Severity, summary: String, arithmetic: String) -> Reading {
    Reading {
        verdict: Verdict::Holds(severity),
        value: Some(1.0),
        threshold: Some(0.0),
        summary,
        arithmetic,
    }
}
