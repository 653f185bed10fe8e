//! The page of the manual on OpenTelemetry, whose tables are made of the names. In tests only; one of
//! them compares it with `docs/manual/opentelemetry.md`.

use std::{fmt::Write, path::Path};

use super::names::{ATTRIBUTES, Kind, METRICS, Versions};

const HEAD: &str = include_str!("testdata/manual.md");

fn columns(names: Versions) -> String {
    let cell = |name: Option<&str>| name.map_or_else(|| "–".to_owned(), |name| format!("`{name}`"));
    format!("{} | {}", cell(names.v1_41), cell(names.experimental))
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n## Attributes\n\n");
    page.push_str(
        "On: **c**all span, **a**ttempt span, **m**etrics, **e**vents; **t**: a text, exported only \
         with `content = true`.\n\n",
    );
    page.push_str("| 1.41.1 | experimental | on | holds |\n|---|---|---|---|\n");
    for row in ATTRIBUTES {
        writeln!(page, "| {} | {} | {} |", columns(row.names), row.on, row.holds).unwrap();
    }
    page.push_str("\n## Metrics\n\n");
    page.push_str("| 1.41.1 | experimental | kind | unit | holds |\n|---|---|---|---|---|\n");
    for (_, row) in METRICS {
        let kind = match row.kind {
            Kind::Sum => "sum",
            Kind::Seconds | Kind::Tokens => "histogram",
        };
        let (names, unit) = (columns(row.names), row.unit);
        writeln!(page, "| {names} | {kind} | `{unit}` | {} |", row.holds).unwrap();
    }
    page
}

#[test]
fn the_manual_says_what_the_names_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manual/opentelemetry.md");
    let wanted = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{} is stale: run UPDATE_GOLDEN=1 cargo test", path.display());
}
