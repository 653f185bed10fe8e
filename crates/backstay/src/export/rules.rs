//! Recording and alerting rules.
//!
//! They say in Prometheus' words what Backstay's own rules say of errors, latency, traffic and the
//! gateway. What needs a baseline of its own (tokens, quality, drift) is not repeated: those alerts are
//! passed on as Backstay finds them.

use std::collections::BTreeMap;

use backstay_core::{alert::Rule as OwnRule, config::Project};
use serde::Serialize;
use serde_saphyr::LitString;

use super::promql::{LONG, SHORT, counted, errors, quantile_over};

/// A file of rules.
#[derive(Debug, Serialize)]
pub(super) struct Rules {
    groups: Vec<Group>,
}

#[derive(Debug, Serialize)]
struct Group {
    name: &'static str,
    interval: &'static str,
    rules: Vec<Rule>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Rule {
    Recording {
        record: String,
        expr: LitString,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<&'static str, String>,
    },
    Alerting {
        alert: &'static str,
        expr: LitString,
        #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
        lasts: Option<&'static str>,
        labels: BTreeMap<&'static str, String>,
        annotations: BTreeMap<&'static str, String>,
    },
}

/// The rules of a project.
pub(super) fn rules(project: &Project) -> Rules {
    let group = |name, interval, rules| Group { name, interval, rules };
    Rules {
        groups: vec![
            group("backstay-budgets", "1m", budgets(project)),
            group("backstay-errors", "30s", sums(&SHORT)),
            group("backstay-errors-long", "5m", sums(&LONG)),
            group("backstay-times-and-tokens", "30s", distributions()),
            group("backstay-alerts-calls", "30s", call_alerts()),
            group("backstay-alerts-gateway", "15s", gateway_alerts()),
        ],
    }
}

fn record(name: impl Into<String>, expr: impl Into<String>) -> Rule {
    Rule::Recording { record: name.into(), expr: LitString(expr.into()), labels: BTreeMap::new() }
}

/// What each call may spend, as series: an alert compares with them, a dashboard draws them.
fn budgets(project: &Project) -> Vec<Rule> {
    let budget = |name: &str, call: &str, value: f64| Rule::Recording {
        record: format!("call:backstay_budget:{name}"),
        expr: LitString(format!("vector({value})")),
        labels: BTreeMap::from([("call", call.to_owned())]),
    };
    let each = project.calls.iter().flat_map(|(call, spec)| {
        [
            budget("error_ratio", call, spec.budget.max_error_rate),
            budget("deadline_seconds", call, spec.budget.deadline.as_secs_f64()),
        ]
    });
    each.collect()
}

fn sums(windows: &[&str]) -> Vec<Rule> {
    let each = windows.iter().flat_map(|window| {
        let sum = |selector: String| format!("sum by (call) (increase({selector}[{window}]))");
        let (all, failed) =
            (format!("call:backstay_counted:{window}"), format!("call:backstay_errors:{window}"));
        let ratio = format!("{failed} / ({all} > 0)");
        [
            record(all, sum(counted(""))),
            record(failed, sum(errors(""))),
            record(format!("call:backstay_error_ratio:{window}"), ratio),
        ]
    });
    each.collect()
}

fn distributions() -> Vec<Rule> {
    let quantile = |q, name: &str, by| quantile_over("5m", q, &format!("{name}_bucket"), by);
    vec![
        record(
            "call:backstay_call_duration_seconds:p95_5m",
            quantile("0.95", "backstay_call_duration_seconds", "call"),
        ),
        record(
            "call:backstay_time_to_first_token_seconds:p95_5m",
            quantile("0.95", "backstay_time_to_first_token_seconds", "call"),
        ),
        record(
            "call_direction:backstay_call_tokens:p50_5m",
            quantile("0.5", "backstay_call_tokens", "call, direction"),
        ),
    ]
}

/// An alert as it is told.
struct Told {
    alert: &'static str,
    severity: &'static str,
    lasts: Option<&'static str>,
    summary: &'static str,
    description: &'static str,
}

impl Told {
    fn when(self, expr: impl Into<String>) -> Rule {
        Rule::Alerting {
            alert: self.alert,
            expr: LitString(expr.into()),
            lasts: self.lasts,
            labels: BTreeMap::from([("severity", self.severity.to_owned())]),
            annotations: BTreeMap::from([
                ("summary", self.summary.to_owned()),
                ("description", self.description.to_owned()),
            ]),
        }
    }
}

/// Calls whose errors of a window are more than its budget makes likely: the tail of the binomial
/// distribution, approximated by its mean, its deviation times `z`, and what its skew and its whole
/// numbers add.
fn beyond_budget(window: &str, z: f64) -> String {
    let correction = 0.5 + (z * z - 1.0) / 6.0;
    let (errors, counted) =
        (format!("call:backstay_errors:{window}"), format!("call:backstay_counted:{window}"));
    let budget = "call:backstay_budget:error_ratio";
    format!(
        "(\n  call:backstay_error_ratio:{window}\n    and\n  {errors} >= 5\n    and\n  {errors}\n    \
         > {budget} * {counted}\n      + {z} * sqrt({budget} * (1 - {budget}) * {counted})\n      \
         + {correction:.2}\n)"
    )
}

/// Calls that burn the budget of a month `factor` times too fast, over both windows.
fn burns(long: &str, short: &str, factor: f64) -> String {
    let over = |window: &str| {
        format!("call:backstay_error_ratio:{window} > {factor} * call:backstay_budget:error_ratio")
    };
    format!("(\n  {}\n    and\n  {}\n)", over(long), over(short))
}

const LIST_FAILED: &str = "List them with `backstay log --call {{ $labels.call }} --failed --since \
                           1h`, and look at one with `backstay show ID`. If a release is new, go back \
                           to the one before.";

fn call_alerts() -> Vec<Rule> {
    let mut rules = error_alerts();
    rules.extend([
        Told {
            alert: "BackstayLatency",
            severity: "warn",
            lasts: Some("5m"),
            summary: "{{ $labels.call }}: one call in twenty takes longer than {{ $value | \
                      humanizeDuration }}, close to its deadline",
            description: "Calls that reach their deadline fail. Compare the targets with \
                          `backstay log --call {{ $labels.call }} --since 1h`; take a faster one first \
                          in the route, shorten the answer, or raise budget.deadline.",
        }
        .when(
            "call:backstay_call_duration_seconds:p95_5m\n  > 0.8 * \
             call:backstay_budget:deadline_seconds\n    and\ncall:backstay_counted:5m >= 20",
        ),
        Told {
            alert: "BackstayNoTraffic",
            severity: "warn",
            lasts: None,
            summary: "{{ $labels.call }}: no call for 15 minutes, after {{ $value | humanize }} in \
                      the hour before",
            description: "Either nobody asks any more, or they do not get here. Look at the \
                          application that calls {{ $labels.call }}, and at what stands between it and \
                          the gateway.",
        }
        .when(
            "(\n  sum by (call) (increase(backstay_calls_total[1h] offset 15m)) >= 60\n    and\n  \
             call:backstay_budget:error_ratio\n)\n  unless\nsum by (call) \
             (increase(backstay_calls_total[15m])) > 0",
        ),
        Told {
            alert: "BackstayReportsStopped",
            severity: "warn",
            lasts: None,
            summary: "{{ $labels.call }}: its consumer has stopped telling what answers are worth",
            description: "Answers are still given, but for an hour nothing came to /v1/outcomes, where \
                          there were reports before. Without them nobody sees answers that are valid \
                          and useless.",
        }
        .when(
            "(\n  sum by (call) (increase(backstay_outcome_reports_total[6h] offset 1h)) >= 20\n    \
             and\n  call:backstay_counted:1h >= 20\n)\n  unless\nsum by (call) \
             (increase(backstay_outcome_reports_total[1h])) > 0",
        ),
        anomaly(),
    ]);
    rules
}

fn error_alerts() -> Vec<Rule> {
    let either = |z: f64| format!("{}\n  or\n{}", beyond_budget("5m", z), beyond_budget("1h", z));
    let burning = |expr: String| format!("({expr})\n  and\ncall:backstay_errors:1h >= 10");
    vec![
        Told {
            alert: "BackstayErrorRate",
            severity: "warn",
            lasts: None,
            summary: "{{ $labels.call }}: {{ $value | humanizePercentage }} of calls fail, more than \
                      its budget allows",
            description: LIST_FAILED,
        }
        .when(either(2.33)),
        Told {
            alert: "BackstayErrorRateSevere",
            severity: "page",
            lasts: None,
            summary: "{{ $labels.call }}: {{ $value | humanizePercentage }} of calls fail, far more \
                      than its budget allows",
            description: LIST_FAILED,
        }
        .when(either(3.09)),
        Told {
            alert: "BackstayBudgetBurnsFast",
            severity: "page",
            lasts: None,
            summary: "{{ $labels.call }}: at {{ $value | humanizePercentage }} of failed calls, the \
                      error budget of a month is gone in days",
            description: LIST_FAILED,
        }
        .when(burning(format!(
            "{}\n  or\n{}",
            burns("1h", "5m", 14.4),
            burns("6h", "30m", 6.0)
        ))),
        Told {
            alert: "BackstayBudgetBurnsSlowly",
            severity: "warn",
            lasts: None,
            summary: "{{ $labels.call }}: at {{ $value | humanizePercentage }} of failed calls, the \
                      error budget of a month will not last it",
            description: LIST_FAILED,
        }
        .when(burning(format!(
            "{}\n  or\n{}",
            burns("1d", "2h", 3.0),
            burns("3d", "6h", 1.0)
        ))),
    ]
}

/// Alerts that Backstay finds by baselines of its own.
fn anomaly() -> Rule {
    let here = |rule: &OwnRule| match rule {
        OwnRule::LatencyBaseline
        | OwnRule::FirstToken
        | OwnRule::TokensIn
        | OwnRule::TokensOut
        | OwnRule::Quality
        | OwnRule::ModelDrift => true,
        OwnRule::ErrorRate
        | OwnRule::BurnRate
        | OwnRule::LatencyBudget
        | OwnRule::Coverage
        | OwnRule::NoTraffic
        | OwnRule::BreakerOpen
        | OwnRule::Credentials
        | OwnRule::Unpriced
        | OwnRule::Shed => false,
    };
    let names: Vec<_> = OwnRule::ALL.iter().filter(|r| here(r)).map(|r| r.name()).collect();
    Told {
        alert: "BackstayAnomaly",
        severity: "warn",
        lasts: None,
        summary: "{{ $labels.call }}: Backstay's own rule `{{ $labels.rule }}` fires",
        description: "It compares the call with what it usually does. The arithmetic and sample calls \
                      are on the gateway's page of alerts.",
    }
    .when(format!(
        "max by (call, rule) (backstay_alerts_firing{{rule=~\"{}\"}}) > 0",
        names.join("|")
    ))
}

fn gateway_alerts() -> Vec<Rule> {
    vec![
        Told {
            alert: "BackstayDown",
            severity: "page",
            lasts: Some("1m"),
            summary: "the gateway {{ $labels.instance }} cannot be scraped",
            description: "It does not run, cannot be reached, or refuses the key of the scrape. Its \
                          own log says more; `curl` its /healthz.",
        }
        .when("up{job=\"backstay\"} == 0"),
        Told {
            alert: "BackstayBreakerOpen",
            severity: "warn",
            lasts: Some("30s"),
            summary: "{{ $labels.target }} is left alone after too many failures",
            description: "Calls go to the next target of their route, or fail. See which failures with \
                          `backstay log --target {{ $labels.target }} --failed --since 15m`, and look \
                          at the provider's page of incidents.",
        }
        .when("max by (target) (backstay_breaker_state) > 0"),
        Told {
            alert: "BackstayCredentialsRefused",
            severity: "page",
            lasts: None,
            summary: "{{ $labels.target }} refuses Backstay's credentials, or their quota is spent",
            description: "No retry helps. Look at the key that [providers] of backstay.toml names, and \
                          at the bill.",
        }
        .when(
            "sum by (target) (increase(backstay_attempts_total{outcome=\"upstream_auth\"}[5m])) > 0",
        ),
        Told {
            alert: "BackstayUnpricedCalls",
            severity: "warn",
            lasts: None,
            summary: "{{ $labels.target }}: {{ $value | humanize }} calls in an hour cost nobody knows \
                      what",
            description: "Sums of costs are too low by them. Give the model a price in backstay.toml, \
                          or say that it is free.",
        }
        .when("sum by (target) (increase(backstay_unpriced_calls_total[1h])) > 0"),
        Told {
            alert: "BackstayRecordsShed",
            severity: "page",
            lasts: None,
            summary: "{{ $value | humanize }} records of calls were given up in 5 minutes",
            description: "The disk is full or too slow. Calls are still answered; figures of the log \
                          are too low until the spool has been read. /readyz says what is wrong.",
        }
        .when("sum(increase(backstay_records_total{result=\"shed\"}[5m])) > 0"),
        Told {
            alert: "BackstayLogFailing",
            severity: "page",
            lasts: Some("2m"),
            summary: "The {{ $labels.part }} of the call log cannot be written, or fall behind",
            description: "Calls are still answered, and their records wait in the spool. Without \
                          records or sums Backstay's own alerts and its board stand still. /readyz \
                          says what is wrong.",
        }
        .when("max by (part) (backstay_log_failing) > 0"),
        Told {
            alert: "BackstayAlertsBlind",
            severity: "page",
            lasts: None,
            summary: "Backstay has not looked for alerts for {{ $value | humanizeDuration }}",
            description: "Its own alerts neither begin nor end. The server's log says why.",
        }
        .when("time() - max(backstay_alerts_last_look_timestamp_seconds) > 120"),
    ]
}
