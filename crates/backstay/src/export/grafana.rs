//! The files for Grafana: a data source, a provider of dashboards, and the dashboard.

use std::net::SocketAddr;

use backstay_core::{config::Project, failure::Rung, release::CallSpec};
use serde_json::{Value, json};

use super::{
    File,
    board::{Board, Drawn, Panel, query},
    prometheus::reachable,
    promql::{counted, error_ratio, errors, neutral, quantile, reached},
};

/// Where Grafana's packages keep dashboards that are provisioned from files.
const DASHBOARDS: &str = "/var/lib/grafana/dashboards/backstay";
/// Only the calls that are chosen at the top of the page.
const CHOSEN: &str = ",call=~\"$call\"";
const WINDOW: &str = "$__rate_interval";

/// Provisioning files and dashboard of a project.
pub(crate) fn grafana(project: &Project) -> anyhow::Result<Vec<File>> {
    let dashboard = serde_json::to_string_pretty(&dashboard(project))? + "\n";
    Ok(vec![
        File::yaml(
            "provisioning/datasources/backstay.yml",
            "Belongs into /etc/grafana/provisioning/datasources; put the address of your Prometheus in.",
            &datasource(project.server.listen),
        )?,
        File::yaml(
            "provisioning/dashboards/backstay.yml",
            "Belongs into /etc/grafana/provisioning/dashboards; backstay.json into the path below.",
            &provider(),
        )?,
        File { path: "dashboards/backstay.json", content: dashboard },
    ])
}

fn datasource(listen: SocketAddr) -> Value {
    let gateway = reachable(listen);
    json!({
        "apiVersion": 1,
        "datasources": [{
            "name": "Prometheus",
            "uid": "backstay-prometheus",
            "type": "prometheus",
            "access": "proxy",
            "url": "http://127.0.0.1:9090",
            "jsonData": {
                "httpMethod": "POST",
                "timeInterval": "15s",
                // The call that an exemplar names, in the gateway's own log explorer.
                "exemplarTraceIdDestinations": [{
                    "name": "call_id",
                    "url": format!("http://{gateway}/log/$${{__value.raw}}"),
                    "urlDisplayLabel": "Show the call",
                }],
            },
        }],
    })
}

fn provider() -> Value {
    json!({
        "apiVersion": 1,
        "providers": [{
            "name": "backstay",
            "orgId": 1,
            "folder": "Backstay",
            "type": "file",
            "disableDeletion": false,
            "allowUiUpdates": false,
            "updateIntervalSeconds": 30,
            "options": { "path": DASHBOARDS },
        }],
    })
}

fn dashboard(project: &Project) -> Value {
    let mut board = Board::default();
    board.row("Calls", false, &traffic());
    board.row("Outcomes by release", false, &outcomes());
    board.row("Times", false, &times());
    board.row("Failures", false, &failures());
    board.row("Tokens and cost", false, &tokens());
    board.row("Targets", false, &targets());
    board.row("Budgets (needs the rules of `backstay export prometheus`)", false, &budgets());
    board.row("Releases side by side", true, &releases());
    board.row("The gateway", true, &gateway());
    for (name, spec) in &project.calls {
        board.row(name, true, &of_call(name, spec));
    }
    board.finish()
}

fn traffic() -> Vec<Panel> {
    let calls = "backstay_calls_total{call=~\"$call\"}";
    let success = format!("outcome=~\"ok|repaired\"{CHOSEN}");
    vec![
        Panel::new(
            "Calls a second",
            "reqps",
            vec![query(format!("sum by (call) (rate({calls}[{WINDOW}]))"), "{{call}}")],
        ),
        Panel::new(
            "Share of failed calls",
            "percentunit",
            vec![query(error_ratio("call", CHOSEN, WINDOW), "{{call}}")],
        )
        .about("Calls that say nothing of the model (wrong requests, clients that went away) are left out."),
        Panel::new(
            "Calls that succeeded",
            "percentunit",
            vec![query(
                format!(
                    "sum(increase(backstay_calls_total{{{success}}}[$__range])) / \
                     sum(increase({}[$__range]))",
                    counted(CHOSEN)
                ),
                "all calls",
            )],
        )
        .drawn(Drawn::Number),
        Panel::new(
            "Alerts that fire",
            "short",
            vec![query("sum(backstay_alerts_firing) or vector(0)", "Backstay's own")],
        )
        .about("Alerts of Backstay's own rules; those of Prometheus are marks on the time axis.")
        .drawn(Drawn::Number)
        .limit(1.0),
    ]
}

fn outcomes() -> Vec<Panel> {
    let by = |labels: &str, more: &str| {
        format!("sum by ({labels}) (rate(backstay_calls_total{{{more}call=~\"$call\"}}[{WINDOW}]))")
    };
    vec![
        Panel::new("Calls by release", "reqps", vec![query(by("release", ""), "{{release}}")])
            .drawn(Drawn::Stacked),
        Panel::new("Outcomes", "reqps", vec![query(by("outcome", ""), "{{outcome}}")])
            .drawn(Drawn::Stacked),
        Panel::new(
            "Failures by release",
            "reqps",
            vec![query(
                format!("sum by (release, outcome) (rate({}[{WINDOW}])) > 0", errors(CHOSEN)),
                "{{release}} {{outcome}}",
            )],
        )
        .drawn(Drawn::Stacked),
        Panel::new(
            "How far calls get",
            "percentunit",
            [
                (Rung::Delivered, "delivered"),
                (Rung::Complete, "complete"),
                (Rung::Parsed, "parsed"),
                (Rung::SchemaValid, "schema valid"),
                (Rung::ChecksPassed, "checks passed"),
            ]
            .into_iter()
            .map(|(rung, legend)| query(reached(rung, CHOSEN, WINDOW), legend))
            .collect(),
        )
        .about("The ladder: what share of calls got at least to each rung."),
        Panel::new(
            "Answers whose consumer was heard of",
            "percentunit",
            vec![query(
                format!(
                    "sum by (call) (increase(backstay_outcome_reports_total{{call=~\"$call\"}}[1h])) / \
                     (sum by (call) (increase({}[1h])) > 0)",
                    counted(CHOSEN)
                ),
                "{{call}}",
            )],
        )
        .about("Reports to /v1/outcomes over calls, by the hour. Several reports on one call count each."),
    ]
}

fn times() -> Vec<Panel> {
    let duration = "backstay_call_duration_seconds";
    let all = |q| quantile(q, duration, "call", "call=~\"$call\"");
    vec![
        Panel::new(
            "How long calls take",
            "s",
            vec![query(
                format!("sum by (le) (increase({duration}_bucket{{call=~\"$call\"}}[{WINDOW}]))"),
                "{{le}}",
            )],
        )
        .drawn(Drawn::Heatmap),
        Panel::new(
            "Time of calls: p50, p95, p99",
            "s",
            vec![
                query(all("0.5"), "p50 {{call}}"),
                query(all("0.95"), "p95 {{call}}"),
                query(all("0.99"), "p99 {{call}}"),
            ],
        ),
        Panel::new(
            "Time to first token: p50, p95",
            "s",
            ["0.5", "0.95"]
                .into_iter()
                .zip(["p50 {{call}}", "p95 {{call}}"])
                .map(|(q, legend)| {
                    let name = "backstay_time_to_first_token_seconds";
                    query(quantile(q, name, "call", "call=~\"$call\""), legend)
                })
                .collect(),
        )
        .about("Streams only."),
    ]
}

fn failures() -> Vec<Panel> {
    vec![
        Panel::new(
            "Failed calls by class",
            "reqps",
            vec![query(
                format!("sum by (outcome) (rate({}[{WINDOW}]))", errors(CHOSEN)),
                "{{outcome}}",
            )],
        )
        .drawn(Drawn::Stacked),
        Panel::new(
            "Answered by something else",
            "reqps",
            vec![query(
                format!(
                    "sum by (call, mode) (rate(backstay_degraded_total{{call=~\"$call\"}}[{WINDOW}]))"
                ),
                "{{call}} {{mode}}",
            )],
        )
        .drawn(Drawn::Stacked),
        Panel::new(
            "Wrong requests, and clients that went away",
            "reqps",
            vec![query(
                format!(
                    "sum by (call, outcome) (rate(backstay_calls_total{{outcome=~\"{}\"\
                     {CHOSEN}}}[{WINDOW}]))",
                    neutral()
                ),
                "{{call}} {{outcome}}",
            )],
        ),
    ]
}

fn tokens() -> Vec<Panel> {
    let sizes = |q| quantile(q, "backstay_call_tokens", "call, direction", "call=~\"$call\"");
    let usual = "call_direction:backstay_call_tokens:p50_5m{call=~\"$call\"}";
    let band =
        |sign: char| format!("avg_over_time({usual}[1d]) {sign} 3 * stddev_over_time({usual}[1d])");
    let cost = "backstay_cost_usd_total{call=~\"$call\"}";
    let good = format!("backstay_calls_total{{outcome=~\"ok|repaired\"{CHOSEN}}}");
    vec![
        Panel::new(
            "Tokens of a call: p50, p95",
            "short",
            vec![
                query(sizes("0.5"), "p50 {{call}} {{direction}}"),
                query(sizes("0.95"), "p95 {{call}} {{direction}}"),
            ],
        ),
        Panel::new(
            "Usual tokens of a call",
            "short",
            vec![
                query(usual, "p50 {{call}} {{direction}}"),
                query(band('+'), "usual, at most {{call}} {{direction}}"),
                query(band('-'), "usual, at least {{call}} {{direction}}"),
            ],
        )
        .about("The median with what is usual of it over a day: three deviations either way. Needs the rules."),
        Panel::new(
            "US dollars an hour",
            "currencyUSD",
            vec![query(format!("sum by (call) (rate({cost}[{WINDOW}])) * 3600"), "{{call}}")],
        )
        .about("As far as prices are known."),
        Panel::new(
            "US dollars for a good answer",
            "currencyUSD",
            vec![query(
                format!(
                    "sum by (call) (increase({cost}[1h])) / (sum by (call) (increase({good}[1h])) > 0)"
                ),
                "{{call}}",
            )],
        )
        .about("What failed calls cost is part of it."),
        Panel::new(
            "Calls without a known price",
            "short",
            vec![query(
                "sum by (target) (increase(backstay_unpriced_calls_total[1h]))",
                "{{target}}",
            )],
        )
        .limit(1.0),
    ]
}

fn targets() -> Vec<Panel> {
    vec![
        Panel::new(
            "Attempts by outcome",
            "reqps",
            vec![query(
                format!("sum by (target, outcome) (rate(backstay_attempts_total[{WINDOW}])) > 0"),
                "{{target}} {{outcome}}",
            )],
        )
        .drawn(Drawn::Stacked),
        Panel::new(
            "Attempts for each call",
            "short",
            vec![query(
                format!(
                    "sum(rate(backstay_attempts_total[{WINDOW}])) / \
                     sum(rate(backstay_calls_total[{WINDOW}]))"
                ),
                "all calls",
            )],
        )
        .about("1 without retries, repairs and fallbacks."),
        Panel::new(
            "Time of attempts: p95",
            "s",
            vec![query(
                quantile("0.95", "backstay_attempt_duration_seconds", "target", ""),
                "{{target}}",
            )],
        ),
        Panel::new(
            "Breakers",
            "short",
            vec![query("max by (target) (backstay_breaker_state)", "{{target}}")],
        )
        .about("0 closed, 1 half-open, 2 open; the worst over all calls.")
        .limit(2.0),
    ]
}

fn budgets() -> Vec<Panel> {
    let of = |series: &str| format!("{series}{{call=~\"$call\"}}");
    let budget = of("call:backstay_budget:error_ratio");
    let burn =
        |window: &str| format!("{} / {budget}", of(&format!("call:backstay_error_ratio:{window}")));
    vec![
        Panel::new(
            "Error budget left, 3 days",
            "percentunit",
            vec![query(format!("1 - {}", burn("3d")), "{{call}}")],
        )
        .below_zero()
        .about("1 while nothing fails, 0 when as many calls fail as may, below 0 beyond it."),
        Panel::new(
            "How fast it burns",
            "short",
            vec![query(burn("1h"), "1 h {{call}}"), query(burn("6h"), "6 h {{call}}")],
        )
        .about("1 uses the budget up exactly.")
        .limit(1.0),
        Panel::new(
            "p95 over the deadline",
            "percentunit",
            vec![query(
                format!(
                    "{} / {}",
                    of("call:backstay_call_duration_seconds:p95_5m"),
                    of("call:backstay_budget:deadline_seconds")
                ),
                "{{call}}",
            )],
        )
        .limit(0.8),
    ]
}

fn releases() -> Vec<Panel> {
    vec![
        Panel::new(
            "Share of the traffic",
            "percentunit",
            vec![query(
                "max by (release) (backstay_rollout_weight{call=~\"$call\"})",
                "{{release}}",
            )],
        ),
        Panel::new(
            "Share of failed calls",
            "percentunit",
            vec![query(error_ratio("release, variant", CHOSEN, "1h"), "{{release}} {{variant}}")],
        ),
        Panel::new(
            "Time of calls by variant: p95",
            "s",
            vec![query(
                quantile(
                    "0.95",
                    "backstay_call_duration_seconds",
                    "call, variant",
                    "call=~\"$call\"",
                ),
                "{{call}} {{variant}}",
            )],
        ),
        Panel::new(
            "Tokens of a call, on average",
            "short",
            vec![query(
                "sum by (release, direction) (increase(backstay_tokens_total{call=~\"$call\"}[1h])) / \
                 ignoring (direction) group_left sum by (release) \
                 (increase(backstay_calls_total{call=~\"$call\"}[1h]))",
                "{{release}} {{direction}}",
            )],
        ),
    ]
}

fn gateway() -> Vec<Panel> {
    vec![
        Panel::new(
            "Records",
            "short",
            vec![
                query(
                    format!("sum by (result) (rate(backstay_records_total[{WINDOW}]))"),
                    "{{result}} a second",
                ),
                query("sum(backstay_records_pending)", "pending"),
            ],
        )
        .about("What is shed was given up: the disk is full or too slow."),
        Panel::new(
            "Backstay's own time: p50, p99",
            "s",
            vec![
                query(
                    format!(
                        "histogram_quantile(0.5, sum by (le) \
                         (rate(backstay_overhead_seconds_bucket[{WINDOW}])))"
                    ),
                    "p50",
                ),
                query(
                    format!(
                        "histogram_quantile(0.99, sum by (le) \
                         (rate(backstay_overhead_seconds_bucket[{WINDOW}])))"
                    ),
                    "p99",
                ),
            ],
        ),
        Panel::new(
            "Calls under way",
            "short",
            vec![query("sum by (instance) (backstay_calls_under_way)", "{{instance}}")],
        ),
        Panel::new(
            "Memory",
            "bytes",
            vec![query("process_resident_memory_bytes{job=\"backstay\"}", "{{instance}}")],
        ),
        Panel::new(
            "CPU",
            "percentunit",
            vec![query(
                format!("rate(process_cpu_seconds_total{{job=\"backstay\"}}[{WINDOW}])"),
                "{{instance}}",
            )],
        ),
        Panel::new(
            "Open files",
            "percentunit",
            vec![query(
                "process_open_fds{job=\"backstay\"} / process_max_fds{job=\"backstay\"}",
                "{{instance}}",
            )],
        )
        .limit(0.8),
    ]
}

/// One call against its own budget.
fn of_call(name: &str, spec: &CallSpec) -> Vec<Panel> {
    let only = format!("call=\"{name}\"");
    let more = format!(",{only}");
    let duration = |q| quantile(q, "backstay_call_duration_seconds", "call", &only);
    vec![
        Panel::new(
            "Share of failed calls, and its budget",
            "percentunit",
            vec![
                query(error_ratio("call", &more, "5m"), "5 minutes"),
                query(error_ratio("call", &more, "1h"), "1 hour"),
            ],
        )
        .limit(spec.budget.max_error_rate),
        Panel::new(
            "Time of calls, and the deadline",
            "s",
            vec![query(duration("0.5"), "p50"), query(duration("0.95"), "p95")],
        )
        .limit(spec.budget.deadline.as_secs_f64()),
        Panel::new(
            "Failures by class",
            "reqps",
            vec![query(
                format!("sum by (outcome) (rate({}[{WINDOW}]))", errors(&more)),
                "{{outcome}}",
            )],
        )
        .drawn(Drawn::Stacked),
        Panel::new(
            "US dollars an hour",
            "currencyUSD",
            vec![query(
                format!(
                    "sum by (release) (rate(backstay_cost_usd_total{{{only}}}[{WINDOW}])) * 3600"
                ),
                "{{release}}",
            )],
        ),
    ]
}
