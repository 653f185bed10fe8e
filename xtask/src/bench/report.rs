//! The figures as a person reads them: the measured part of `docs/performance.md`. The prose around
//! it is written by hand.

use anyhow::{Context, bail};
use serde_json::Value;

use super::runs::{Runs, Shape, median};
use crate::{setup, workspace::Workspace};

const DOCUMENT: &str = "docs/performance.md";
const BEGIN: &str = "<!-- measured: written by `cargo xtask bench` -->\n";
const END: &str = "<!-- end of what is measured -->";
const SUBJECTS: [&str; 6] = ["direct", "nginx", "log", "log + schema", "no log", "no log + schema"];

/// A figure, its target, and whether it is met.
struct Goal {
    what: &'static str,
    unit: &'static str,
    target: f64,
    at_least: bool,
    seen: Option<f64>,
}

/// Puts the figures into the document, and prints them.
pub(super) fn write(
    workspace: &Workspace,
    runs: &Runs,
    whole: &Value,
    machine: &str,
) -> anyhow::Result<()> {
    let mut text = format!("{machine}\n\n");
    text += &goals_table(&goals(runs, whole));
    text += &subjects_table(runs);
    text += &rest(runs, whole);
    put(workspace, (BEGIN, END), &text)
}

/// Puts figures between two marks of the document, and prints them.
pub(super) fn put(
    workspace: &Workspace,
    marks: (&str, &str),
    measured: &str,
) -> anyhow::Result<()> {
    println!("{measured}");
    let path = workspace.root.join(DOCUMENT);
    let old = setup::read(&path)?;
    std::fs::write(&path, replaced(&old, marks, measured)?)
        .with_context(|| format!("writing {}", path.display()))
}

fn replaced(old: &str, (begin, end): (&str, &str), measured: &str) -> anyhow::Result<String> {
    let parts = old.split_once(begin).and_then(|(head, rest)| {
        let (_, tail) = rest.split_once(end)?;
        Some((head, tail))
    });
    let Some((head, tail)) = parts else {
        bail!("{DOCUMENT} has no place for the figures: a line `{}`, and `{end}`", begin.trim());
    };
    Ok(format!("{head}{begin}\n{measured}\n{end}{tail}"))
}

fn goals(runs: &Runs, whole: &Value) -> Vec<Goal> {
    let at_least = |what, target, seen| Goal { what, unit: "/s", target, at_least: true, seen };
    let at_most = |what, unit, target, seen| Goal { what, unit, target, at_least: false, seen };
    let of = |subject, field| runs.median(subject, Shape::Many, field);
    let added = |shape, field| runs.added_ms("log", shape, field);
    let (idle, peak) = runs.memory_mb("log");
    let starts = whole.get("starts_ms").and_then(Value::as_array).into_iter().flatten();
    let start = median(starts.filter_map(Value::as_f64).collect());
    vec![
        at_least("requests on one core, log on", 12_000.0, of("log", "per_second")),
        at_least("requests on one core, log off", 24_000.0, of("no log", "per_second")),
        at_most("CPU a request, log on", "µs", 70.0, of("log", "cpu_us")),
        at_most("CPU a request, log off", "µs", 40.0, of("no log", "cpu_us")),
        at_most("added p50, one connection", "ms", 0.15, added(Shape::One, "p50_us")),
        at_most("added p99 at 2,000/s", "ms", 1.0, added(Shape::Rate(2000), "p99_us")),
        at_most("added to first content", "ms", 0.3, added(Shape::Streams, "first_p50_us")),
        at_most("memory, idle", "MB", 35.0, idle),
        at_most("memory, at most", "MB", 60.0, peak),
        at_most("start to first answer", "ms", 50.0, start),
    ]
}

fn goals_table(goals: &[Goal]) -> String {
    let mut text = "| with the call log on unless it says otherwise | measured | target | |\n\
                    |---|--:|--:|---|\n"
        .to_owned();
    for Goal { what, unit, target, at_least, seen } in goals {
        let sign = if *at_least { "≥" } else { "≤" };
        let met = match seen {
            Some(seen) if (*at_least && seen >= target) || (!at_least && seen <= target) => "met",
            Some(_) => "**missed**",
            None => "not measured",
        };
        let seen = shown(*seen);
        line(&mut text, &format!("| {what} | {seen} {unit} | {sign} {target} {unit} | {met} |"));
    }
    text + "\n"
}

fn subjects_table(runs: &Runs) -> String {
    let mut text = "| | one connection: p50 ms | added | 64 connections: requests/s | of nginx | \
                    CPU µs | 500/s added p50, p99 ms | 2,000/s added p50, p99 ms | \
                    first content added ms |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for subject in SUBJECTS {
        let many = |field| runs.median(subject, Shape::Many, field);
        let ratio = many("per_second")
            .zip(runs.median("nginx", Shape::Many, "per_second"))
            .map(|(own, nginx)| own / nginx);
        let added = |shape, field| shown(runs.added_ms(subject, shape, field));
        let both = |shape| format!("{}, {}", added(shape, "p50_us"), added(shape, "p99_us"));
        let one = runs.median(subject, Shape::One, "p50_us").map(|us| us / 1000.0);
        let cells = [
            subject.to_owned(),
            shown(one),
            added(Shape::One, "p50_us"),
            shown(many("per_second")),
            shown(ratio),
            shown(many("cpu_us")),
            both(Shape::Rate(500)),
            both(Shape::Rate(2000)),
            added(Shape::Streams, "first_p50_us"),
        ];
        line(&mut text, &format!("| {} |", cells.join(" | ")));
    }
    text + "\n"
}

fn rest(runs: &Runs, whole: &Value) -> String {
    let (idle, peak) = runs.memory_mb("no-log");
    let at = |path: &str| whole.pointer(path).map_or_else(|| "–".to_owned(), Value::to_string);
    let direct = |shape, field| shown(runs.median("direct", shape, field).map(|us| us / 1000.0));
    format!(
        "Without the log: {} MB idle, {} MB at most. Direct at 2,000/s: p50 {} ms, p99 {} ms. Records \
         of the gateway with the log: {}.\n\n\
         Overload: {} connections ask a gateway that takes {} calls at once, of an upstream that takes \
         50 ms. Answers by status: {}; with `Retry-After`: {}; broken connections: {}; p99 of the good \
         answers {} ms; memory at most {} MB.\n",
        shown(idle),
        shown(peak),
        direct(Shape::Rate(2000), "p50_us"),
        direct(Shape::Rate(2000), "p99_us"),
        at("/records"),
        at("/overload/crowd"),
        at("/overload/room"),
        at("/overload/statuses"),
        at("/overload/retry_after"),
        at("/overload/broken"),
        shown(whole.pointer("/overload/p99_us").and_then(Value::as_f64).map(|us| us / 1000.0)),
        shown(whole.pointer("/overload/peak_kb").and_then(Value::as_f64).map(|kb| kb / 1024.0)),
    )
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Three digits that mean something.
fn shown(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_measured_is_replaced() {
        let old = format!("head\n{BEGIN}old\n{END}\ntail\n");
        let new = replaced(&old, (BEGIN, END), "new").unwrap();
        assert_eq!(new, format!("head\n{BEGIN}\nnew\n{END}\ntail\n"));
        assert_eq!(replaced(&new, (BEGIN, END), "new").unwrap(), new);
        assert!(replaced("nothing", (BEGIN, END), "new").is_err());
    }

    #[test]
    fn misses_are_said_plainly() {
        let goal = |seen| Goal { what: "x", unit: "ms", target: 1.0, at_least: false, seen };
        let table = goals_table(&[goal(Some(1.5)), goal(Some(0.5)), goal(None)]);
        assert!(table.contains("| 1.50 ms | ≤ 1 ms | **missed** |"), "{table}");
        assert!(table.contains("| 0.50 ms | ≤ 1 ms | met |"), "{table}");
        assert!(table.contains("not measured"), "{table}");
    }
}
