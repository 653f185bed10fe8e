//! The page of the manual on metrics, made of their table. In tests only; one of them compares it with
//! `docs/manual/metrics.md`.

use std::{fmt::Write, path::Path};

use super::{
    METRICS,
    catalogue::{LATENCY, OWN, TOKEN_COUNTS},
    series::MOST_RELEASES,
};

const HEAD: &str = "\
<!-- Generated from the table in crates/backstay-server/src/metrics. `UPDATE_GOLDEN=1 cargo test -p backstay-server`
writes it anew. -->

# Metrics

`GET /metrics` is what Prometheus scrapes. Rules, dashboards and a scrape configuration that fit your project come from
`backstay export`: see [Prometheus and Grafana](prometheus-grafana.md).

```console
$ curl -s http://127.0.0.1:4700/metrics | grep backstay_calls_total
```

Where API keys are configured it needs one, like every request: `Authorization: Bearer bsk_…`. Make one that is used for
nothing else (`backstay keys create prometheus`), so that it can be revoked alone. It is answered while the gateway is
overloaded, and while it drains. One scrape is written at a time.
";

const TAIL: &str = "\
## Labels

Labels come from the project's files and from closed lists, never from what a client sends. So no client can make series,
and their number is known:

- `call`: a call of the project; `default` for plain targets that name no call, and for requests that were refused before
  their call was known; `other` for everything else, such as a name made up in `x-backstay-call`.
- `release`: `extract-invoice@7`; `none` for plain targets; `other` for a release that is not among the stable one and the
  newest MOST_OTHERS others. When a project is reloaded, series of what left go away.
- `variant`: `stable`, `pinned` (the request named a release) or `direct` (a plain target).
- `outcome`: `ok`, `repaired`, or one of the [failure classes](failure-classes.md).
- `target`: one that a route names, or a model that has a table under `[providers.NAME.models]`; else `other`.

The counters of a call's stable release, and of the targets of the project, begin at 0 when the gateway starts, so that
`rate()` sees the first failure of each kind. Those of other releases appear when they first count.

Which outcomes are errors: all but `ok`, `repaired`, and those that say nothing of the model (NEUTRAL).

## Formats

The `Accept` header decides, as Prometheus sends it:

| format | with |
|---|---|
| text 0.0.4, also where nothing is asked for | classic histograms |
| OpenMetrics 1.0 | exemplars: the last call in each bucket, by its `call_id` (and `trace_id`, if the client sent a `traceparent`) |
| protobuf | exemplars, and classic *and* native histograms on each metric |

Native histograms have buckets that grow by at most a tenth, 160 at most. Prometheus asks for protobuf when it is told to
scrape them (`scrape_native_histograms: true`; before version 3 `--enable-feature=native-histograms`).

`backstay show ID` and the log explorer show the call that an exemplar names.

## Buckets

| of | limits |
|---|---|
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n## List\n\n| name | type | labels | meaning |\n|---|---|---|---|\n");
    for metric in METRICS {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind) = (metric.name(), metric.type_name());
        writeln!(page, "| `{name}` | {kind} | {} | {} |", labels.join(", "), metric.help).unwrap();
    }
    let neutral: Vec<_> = neutral().iter().map(|name| format!("`{name}`")).collect();
    let tail = TAIL
        .replace("MOST_OTHERS", &(MOST_RELEASES - 1).to_string())
        .replace("NEUTRAL", &neutral.join(", "));
    page.push('\n');
    page.push_str(&tail);
    for (of, limits) in [
        ("seconds of calls and attempts", &LATENCY[..]),
        ("seconds of Backstay's own", &OWN[..]),
        ("tokens", &TOKEN_COUNTS[..]),
    ] {
        let limits: Vec<_> = limits.iter().map(ToString::to_string).collect();
        writeln!(page, "| {of} | {} |", limits.join(", ")).unwrap();
    }
    page
}

/// Outcomes that are neither a success nor an error.
fn neutral() -> Vec<&'static str> {
    let classes = backstay_core::failure::FailureClass::ALL.into_iter();
    let mut names: Vec<_> =
        classes.filter(|class| class.row().reached.is_none()).map(|class| class.name()).collect();
    names.dedup();
    names
}

#[test]
fn the_manual_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manual/metrics.md");
    let wanted = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{} is stale: run UPDATE_GOLDEN=1 cargo test", path.display());
}
