//! Tests of the page of metrics against plans and records that are made here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use backstay_core::{
    alert::Rule,
    breaker::BreakerState,
    failure::{Cut, FailureClass, Phase},
    price::quote::ProviderPrices,
    record::{
        AttemptKind, AttemptRecord, CallId, CallRecord, Cost, Degraded, Outcome, OutcomeReport,
        Usage, Variant,
    },
    release::CallSpec,
};
use backstay_engine::{
    Observer,
    plan::{CallPlan, Plans, ProviderPlan, ReleasePlan},
    targets::{Limit, Targets},
};
use backstay_providers::{
    provider::{Provider, Upstream},
    sim::{Sim, SimConfig},
    wire::Protocol,
};
use backstay_store::Accounting;
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::MetricFamily;
use proptest::prelude::*;
use prost::Message;

use super::{
    Format, Gauges, METRICS, Metrics,
    catalogue::{LATENCY, OWN, TOKEN_COUNTS},
    format::write,
    series::{MOST_RELEASES, OUTCOMES, Series},
};

/// Plans with these calls, each with its releases and its targets.
fn plans(calls: &[(&str, std::ops::RangeInclusive<u32>, &[&str])]) -> Plans {
    let targets = Arc::new(Targets::default());
    let provider = Provider {
        name: "sim".to_owned(),
        wire: Protocol::OpenAi.wire(),
        upstream: Upstream::Sim(Sim::new(SimConfig::default())),
    };
    let windows = BTreeMap::from([("sized".to_owned(), 8192)]);
    let prices = ProviderPrices::new("sim", None, &[]);
    let (provider, limit) = (Arc::new(provider), Limit::default());
    let plan = ProviderPlan { provider, limit, windows, prices };
    let providers = HashMap::from([("sim".to_owned(), Arc::new(plan))]);
    let made = calls.iter().map(|(name, numbers, route)| {
        let releases: BTreeMap<_, _> = numbers
            .clone()
            .map(|number| {
                let mut spec = CallSpec::direct().towards(name, route[0].parse().unwrap());
                spec.route = route.iter().map(|target| target.parse().unwrap()).collect();
                let plan = ReleasePlan::compile(spec, Some(number), &providers, &targets);
                (number, Arc::new(plan.unwrap()))
            })
            .collect();
        let stable = Arc::clone(&releases[numbers.end()]);
        ((*name).to_owned(), CallPlan { stable, releases })
    });
    let made = made.collect();
    Plans::new(made, providers, CallSpec::direct(), targets)
}

fn metrics(calls: &[(&str, std::ops::RangeInclusive<u32>, &[&str])]) -> Metrics {
    let metrics = Metrics::default();
    metrics.learn(&plans(calls));
    metrics
}

fn attempt(target: &str, failure: Option<FailureClass>, cost: Option<Cost>) -> AttemptRecord {
    AttemptRecord {
        target: target.to_owned(),
        kind: AttemptKind::First,
        failure,
        message: None,
        started_us: 0,
        took_us: 250_000,
        first_token_us: None,
        status: None,
        retry_after_ms: None,
        usage: cost.map(|_| Usage { input: 100, output: 20, ..Usage::default() }),
        cost,
    }
}

fn record(call: &str, release: Option<&str>, attempts: Vec<AttemptRecord>) -> CallRecord {
    let failure = attempts.last().and_then(|last| last.failure);
    CallRecord {
        id: CallId::new(Duration::from_millis(1_795_435_200_000), [7; 10]),
        call: call.to_owned(),
        release: release.map(str::to_owned),
        variant: if release.is_some() { Variant::Stable } else { Variant::Direct },
        protocol: "openai".to_owned(),
        stream: true,
        unit: None,
        outcome: failure.map_or(Outcome::Ok, Outcome::Failed),
        degraded: Degraded::None,
        message: None,
        violation: None,
        latency_us: 1_500_000,
        first_token_us: Some(300_000),
        overhead_us: 150,
        usage: Some(Usage { input: 100, output: 20, ..Usage::default() }),
        cost: attempts.iter().filter_map(|attempt| attempt.cost).reduce(Cost::plus),
        model: None,
        fingerprint: None,
        finish: None,
        trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok(),
        upstream_id: None,
        attempts,
        request: None,
        answer: None,
        rejected: None,
    }
}

fn gauges() -> Gauges {
    Gauges {
        under_way: 3,
        up: true,
        records: Some(Accounting {
            received: 16,
            stored: 9,
            pending: 1,
            shed: [("queue_full", 1), ("expired", 1), ("unmatched", 3), ("closed", 1)],
            rollup_error: Some("the disk is full".to_owned()),
            ..Accounting::default()
        }),
        now_ms: 1_795_435_262_000,
        last_look_ms: 1_795_435_261_500,
        breakers: vec![
            ("sim/a".to_owned(), BreakerState::HalfOpen),
            ("sim/a".to_owned(), BreakerState::Open),
            ("sim/of-a-client".to_owned(), BreakerState::HalfOpen),
        ],
    }
}

fn page(metrics: &Metrics, format: Format) -> Vec<u8> {
    write_page(metrics, gauges(), format)
}

fn write_page(metrics: &Metrics, gauges: Gauges, format: Format) -> Vec<u8> {
    let mut page = metrics.page(gauges);
    page.process = None;
    write(page, format).unwrap()
}

fn text(metrics: &Metrics) -> String {
    String::from_utf8(page(metrics, Format::Text)).unwrap()
}

/// The value of one series of the page in text.
fn value(text: &str, series: &str) -> Option<f64> {
    let line =
        text.lines().find(|line| line.strip_prefix(series).is_some_and(|l| l.starts_with(' ')));
    line.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

fn samples(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

#[test]
fn a_log_that_cannot_be_written_is_told_apart_from_its_sums() {
    let books = Accounting { store_error: Some("it is full".to_owned()), ..Accounting::default() };
    let gauges = Gauges { records: Some(books), ..gauges() };
    let text = String::from_utf8(write_page(&metrics(&[]), gauges, Format::Text)).unwrap();
    let failing = |part: &str| value(&text, &format!("backstay_log_failing{{part=\"{part}\"}}"));
    assert_eq!([failing("records"), failing("sums")], [Some(1.0), Some(0.0)]);
}

#[test]
fn sums_that_fall_behind_fail_though_nothing_says_why() {
    let metrics = metrics(&[]);
    let failing = |waits_ms: u64| {
        let now_ms = gauges().now_ms;
        let waiting_since_ms = Some(now_ms - waits_ms);
        let records = Some(Accounting { waiting_since_ms, ..Accounting::default() });
        let gauges = Gauges { records, ..gauges() };
        let text = String::from_utf8(write_page(&metrics, gauges, Format::Text)).unwrap();
        value(&text, r#"backstay_log_failing{part="sums"}"#).unwrap()
    };
    assert_eq!([failing(60_000), failing(60_001)], [0.0, 1.0]);
}

/// Some traffic of one call.
fn busy() -> Metrics {
    let metrics = metrics(&[("greet", 1..=2, &["sim/a", "sim/b"])]);
    metrics.call_ended(&record(
        "greet",
        Some("greet@2"),
        vec![attempt("sim/a", None, Some(Cost::Priced(1_500_000)))],
    ));
    let failed = FailureClass::Timeout(Phase::Headers);
    let mut degraded = record(
        "greet",
        Some("greet@2"),
        vec![
            attempt("sim/a", Some(failed), None),
            attempt("sim/b", Some(FailureClass::Truncated(Cut::Length)), Some(Cost::Unknown)),
        ],
    );
    degraded.degraded = Degraded::Static;
    metrics.call_ended(&degraded);
    metrics.reported(&OutcomeReport {
        call_id: degraded.id,
        ok: false,
        score: None,
        reason: None,
        expected: None,
        reported_ms: 0,
    });
    metrics.firing().store(Arc::new(vec![
        ("greet".to_owned(), Rule::ErrorRate, 1),
        (String::new(), Rule::Shed, 1),
        ("forged".to_owned(), Rule::ErrorRate, 2),
    ]));
    metrics
}

#[track_caller]
fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{}: run with UPDATE_GOLDEN=1 and read the diff", path.display());
}

#[test]
fn a_page_in_text_and_in_open_metrics() {
    let metrics = busy();
    golden("page.txt", &text(&metrics));
    golden("page.openmetrics", &String::from_utf8(page(&metrics, Format::OpenMetrics)).unwrap());
}

#[test]
fn every_metric_is_on_the_page_and_nothing_else() {
    let text = String::from_utf8(page(&busy(), Format::OpenMetrics)).unwrap();
    let typed: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned))
        .collect();
    let process = |name: &String| name.starts_with("process_");
    let known: BTreeSet<_> = METRICS
        .iter()
        .map(|metric| metric.name().trim_end_matches("_total").to_owned())
        .filter(|name| !process(name))
        .collect();
    assert_eq!(typed, known);
    let labels = |line: &str| -> Vec<String> {
        let inside =
            line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(l, _)| l);
        let pairs = inside.unwrap_or_default().split("\",").filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, _)| name.to_owned()).filter(|name| name != "le").collect()
    };
    for metric in METRICS.iter().filter(|metric| !process(&metric.name())) {
        let base = metric.name();
        let line =
            text.lines().find(|line| line.starts_with(&base)).unwrap_or_else(|| panic!("{base}"));
        assert_eq!(labels(line), metric.labels, "{line}");
    }
}

#[test]
fn what_is_counted() {
    let text = text(&busy());
    let is = |series: &str, wanted: f64| assert_eq!(value(&text, series), Some(wanted), "{series}");
    is(
        r#"backstay_calls_total{call="greet",release="greet@2",variant="stable",outcome="ok"}"#,
        1.0,
    );
    is(
        r#"backstay_calls_total{call="greet",release="greet@2",variant="stable",outcome="schema"}"#,
        0.0,
    );
    is(r#"backstay_attempts_total{target="sim/a",outcome="timeout"}"#, 1.0);
    is(r#"backstay_cost_usd_total{call="greet",release="greet@2"}"#, 0.0015);
    is(r#"backstay_unpriced_calls_total{target="sim/b"}"#, 1.0);
    is(r#"backstay_unpriced_calls_total{target="sim/a"}"#, 0.0);
    is(r#"backstay_degraded_total{call="greet",mode="static"}"#, 1.0);
    is(r#"backstay_outcome_reports_total{call="greet",ok="false"}"#, 1.0);
    is(r#"backstay_breaker_state{target="sim/a"}"#, 2.0);
    is(r#"backstay_breaker_state{target="sim/b"}"#, 0.0);
    is(r#"backstay_breaker_state{target="other"}"#, 1.0);
    is(r#"backstay_records_total{result="shed"}"#, 2.0);
    is(r#"backstay_records_total{result="unplaced"}"#, 4.0);
    is(r#"backstay_log_failing{part="records"}"#, 0.0);
    is(r#"backstay_log_failing{part="sums"}"#, 1.0);
    is("backstay_alerts_last_look_timestamp_seconds", 1_795_435_261.5);
    is(r#"backstay_rollout_weight{call="greet",release="greet@2"}"#, 1.0);
    is(r#"backstay_alerts_firing{call="other",rule="error_rate"}"#, 2.0);
    is(r#"backstay_alerts_firing{call="none",rule="shed"}"#, 1.0);
    is(r#"backstay_call_duration_seconds_bucket{call="greet",variant="stable",le="1.28"}"#, 0.0);
    is(r#"backstay_call_duration_seconds_bucket{call="greet",variant="stable",le="2.56"}"#, 2.0);
}

#[test]
fn protobuf_has_classic_and_native_buckets_and_exemplars() {
    let mut bytes = &page(&busy(), Format::Protobuf)[..];
    let mut histograms = 0;
    while !bytes.is_empty() {
        let family = MetricFamily::decode_length_delimited(&mut bytes).unwrap();
        assert!(!family.metric.is_empty(), "{}", family.name);
        for metric in &family.metric {
            let Some(histogram) = &metric.histogram else { continue };
            histograms += 1;
            let mut so_far = 0;
            let native: i64 = histogram
                .positive_delta
                .iter()
                .map(|delta| {
                    so_far += delta;
                    so_far
                })
                .sum();
            let all = histogram.zero_count + u64::try_from(native).unwrap();
            assert_eq!(all, histogram.sample_count, "{}", family.name);
            assert_eq!(histogram.bucket.last().unwrap().cumulative_count, histogram.sample_count);
            let exemplar = histogram.exemplars.first().expect(&family.name);
            assert_eq!(exemplar.label[0].name, "call_id");
            assert!(exemplar.timestamp.is_some());
            assert_eq!(
                histogram.bucket.iter().filter_map(|b| b.exemplar.as_ref()).next(),
                Some(exemplar)
            );
        }
    }
    assert_eq!(
        histograms, 7,
        "two of the call's times, two of its tokens, two targets, the overhead"
    );
}

#[test]
fn a_scraper_gets_the_format_that_it_likes_best() {
    const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    for (accept, format) in [
        ("", Format::Text),
        ("*/*", Format::Text),
        ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text),
        ("text/plain;version=0.0.4", Format::Text),
        ("application/openmetrics-text", Format::OpenMetrics),
        ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", Format::Text),
        ("application/openmetrics-text;version=1.0.0;q=0", Format::Text),
        ("application/openmetrics-text;version=1.0.0;q=x", Format::Text),
        ("text/plain,application/openmetrics-text", Format::OpenMetrics),
        (PROTOBUF, Format::Protobuf),
        ("application/vnd.google.protobuf;proto=other.Message;encoding=delimited", Format::Text),
        // Prometheus 2.42, without and with native histograms, and Prometheus 3.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
             q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format::OpenMetrics,
        ),
        (
            &format!(
                "{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5"
            ),
            Format::Protobuf,
        ),
        (
            &format!(
                "{PROTOBUF};q=0.5,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;\
                 q=0.6,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
            ),
            Format::OpenMetrics,
        ),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept}");
    }
}

#[test]
fn a_new_release_goes_on_where_it_was_and_an_old_one_leaves() {
    let metrics = busy();
    let of = |release: &str| {
        format!(
            r#"backstay_calls_total{{call="greet",release="{release}",variant="stable",outcome="ok"}}"#
        )
    };
    metrics.learn(&plans(&[("greet", 2..=3, &["sim/b"])]));
    metrics.call_ended(&record("greet", Some("greet@1"), vec![attempt("sim/a", None, None)]));
    let text = text(&metrics);
    assert_eq!(value(&text, &of("greet@2")), Some(1.0), "it is still there");
    assert_eq!(value(&text, &of("greet@3")), Some(0.0), "a stable release begins at zero");
    assert_eq!(value(&text, &of("other")), Some(1.0), "it ended after its release had left");
    assert!(!text.contains("greet@1") && !text.contains("sim/a"), "{text}");
    let count = r#"backstay_call_duration_seconds_count{call="greet",variant="stable"}"#;
    assert_eq!(value(&text, count), Some(3.0));
    metrics.learn(&plans(&[]));
    assert!(!String::from_utf8(page(&metrics, Format::Text)).unwrap().contains("greet"));
}

/// The most samples that a page of these plans can have.
fn bound(calls: usize, releases: usize, targets: usize) -> usize {
    let outcomes = OUTCOMES.len();
    // Count, sum and the bucket without a limit come on top of the buckets.
    let histogram = |buckets: usize| buckets + 3;
    // `default` and `other` have `none` and `other`, as every call has.
    let (calls, releases, targets) = (calls + 2, releases + 2 * (calls + 2), targets + 1);
    releases * (3 * outcomes + 2 + 1)
        + calls * (2 * 3 * histogram(LATENCY.len()) + 2 * histogram(TOKEN_COUNTS.len()) + 3 + 2 + 1)
        + targets * (1 + outcomes + histogram(LATENCY.len()) + 1)
        + histogram(OWN.len())
        + (calls + 1) * Rule::ALL.len()
        + 12
}

fn any_failure() -> impl Strategy<Value = Option<FailureClass>> {
    prop::option::of(prop::sample::select(FailureClass::ALL.to_vec()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn no_string_makes_a_series(
        calls in prop::collection::vec(
            ("[a-z\"\\\\\n]{1,12}", prop::option::of("[a-z@0-9]{1,12}"), "[a-z/]{1,12}", any_failure()),
            1..200,
        ),
        reloads in 1_usize..4,
    ) {
        let metrics = metrics(&[("greet", 1..=40, &["sim/a"]), ("other-one", 1..=1, &["sim/b"])]);
        for _ in 0..reloads {
            for (call, release, target, failure) in &calls {
                let attempts = vec![attempt(target, *failure, Some(Cost::Unknown))];
                metrics.call_ended(&record(call, release.as_deref(), attempts.clone()));
                metrics.call_ended(&record("greet", Some("greet@40"), attempts));
            }
            metrics.learn(&plans(&[
                ("greet", 1..=40, &["sim/a"]),
                ("other-one", 1..=1, &["sim/b"]),
            ]));
        }
        let text = text(&metrics);
        prop_assert!(samples(&text) <= bound(2, MOST_RELEASES + 1, 3), "{}", samples(&text));
        let counted = text.lines().filter(|line| line.starts_with("backstay_calls_total{"));
        let counted: f64 = counted.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let made = (calls.len() * reloads * 2) as f64;
        prop_assert_eq!(counted, made, "every call is counted somewhere");
    }
}

#[test]
fn a_call_keeps_its_newest_releases_and_the_stable_one() {
    let series = Series::of_plans(&plans(&[("greet", 1..=60, &["sim/a"])]), &Series::default());
    let greet = &series.calls["greet"];
    assert_eq!(greet.releases.len(), MOST_RELEASES + 2);
    assert!(greet.releases.contains_key("greet@60") && greet.releases.contains_key("greet@37"));
    assert!(!greet.releases.contains_key("greet@36"));
    assert!(series.targets.contains_key("sim/sized"), "a model of the project is a known target");
}
