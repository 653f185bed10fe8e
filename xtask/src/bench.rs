//! `cargo xtask bench`: measures the gateway against nginx and against no gateway at all, on this
//! machine, in one run, and writes what it saw into `docs/performance.md`.
//!
//! The upstream and the load run on CPU 0, the gateway on CPU 1: every figure of a gateway is of one
//! core. Figures of different runs must not be compared; the ratios of one run may.

#![expect(clippy::disallowed_methods, reason = "it measures real time, in a program of its own")]

pub(crate) mod log;
mod machine;
mod report;
mod runs;
mod subject;

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::{process, workspace::Workspace};
use runs::{Runs, Shape};
use subject::{Bench, Pinned};

/// Building with link-time optimisation takes its time on a small machine.
const BUILD: Duration = Duration::from_secs(60 * 60);
/// Calls at once that the overloaded gateway takes, and connections that ask it.
const ROOM: u32 = 128;
const CROWD: u32 = 512;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Of one measurement.
    seconds: f64,
    repetitions: usize,
}

/// One thing that is measured, and what it answers to.
struct Subject<'a> {
    name: &'static str,
    server: Option<&'a Pinned>,
    to: String,
    model: &'static str,
    shapes: &'static [Shape],
}

/// Measures everything and writes the table.
pub(crate) fn run(workspace: &Workspace, quick: bool) -> anyhow::Result<bool> {
    let effort = if quick {
        Effort { seconds: 1.0, repetitions: 2 }
    } else {
        Effort { seconds: 2.5, repetitions: 3 }
    };
    if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) < 2 {
        bail!("this needs two cores: one for the gateway, one for those who ask and answer it");
    }
    build(workspace)?;
    let bench = Bench::new(workspace)?;
    let mock = bench.mock()?;
    let nginx = bench.nginx(&mock);
    if let Err(why) = &nginx {
        println!("without nginx: {why:#}");
    }
    let nginx = nginx.ok();
    let starts = starts(&bench, &mock, if quick { 3 } else { 7 })?;
    let logged = bench.backstay("log", &mock, true, 10_000)?;
    let silent = bench.backstay("no-log", &mock, false, 10_000)?;
    let mut runs = Runs::default();
    for gateway in [&logged, &silent] {
        bench.warm_up(gateway, "mock/text-0")?;
        runs.idle(gateway.name, gateway.rss_kb()?);
    }
    let subjects = subjects(&mock, nginx.as_ref(), &logged, &silent);
    for repetition in 1..=effort.repetitions {
        for subject in &subjects {
            println!("run {repetition} of {}: {}", effort.repetitions, subject.name);
            measure(&bench, subject, effort, &mut runs)?;
        }
    }
    for gateway in [&logged, &silent] {
        runs.peak(gateway.name, gateway.peak_kb()?);
    }
    let records = logged.records()?;
    let overload = overload(&bench, &mock, effort)?;
    let whole = json!({"starts_ms": starts, "records": records, "overload": overload});
    report::write(workspace, &runs, &whole, &machine::describe(effort))?;
    Ok(true)
}

fn build(workspace: &Workspace) -> anyhow::Result<()> {
    println!("building (release)");
    let mut cargo = process::command("cargo");
    cargo.current_dir(&workspace.root).args(["build", "--release"]);
    cargo.args(["--package", "backstay", "--package", "backstay-bench"]);
    process::run(&mut cargo, &workspace.test_env().join("bench/build.log"), BUILD)
}

fn subjects<'a>(
    mock: &Pinned,
    nginx: Option<&'a Pinned>,
    logged: &'a Pinned,
    silent: &'a Pinned,
) -> Vec<Subject<'a>> {
    let gateway = |name, server: &'a Pinned, model, shapes| Subject {
        name,
        server: Some(server),
        to: server.address.clone(),
        model,
        shapes,
    };
    let direct = Subject {
        name: "direct",
        server: None,
        to: mock.address.clone(),
        model: "text",
        shapes: Shape::ALL,
    };
    let mut all = vec![direct];
    all.extend(nginx.map(|nginx| gateway("nginx", nginx, "text", Shape::ALL)));
    all.push(gateway("log", logged, "mock/text", Shape::ALL));
    all.push(gateway("log + schema", logged, "sort", Shape::SHORT));
    all.push(gateway("no log", silent, "mock/text", Shape::ALL));
    all.push(gateway("no log + schema", silent, "sort", Shape::SHORT));
    all
}

fn measure(
    bench: &Bench<'_>,
    subject: &Subject<'_>,
    effort: Effort,
    runs: &mut Runs,
) -> anyhow::Result<()> {
    for &shape in subject.shapes {
        let before = subject.server.map(Pinned::cpu_ms).transpose()?;
        let pause = shape.upstream_ms();
        let model = format!("{}-{pause}", subject.model);
        let mut seen = bench.load(&shape.args(), &subject.to, &model, effort.seconds)?;
        if let (Some(server), Some(before)) = (subject.server, before) {
            // What the log has still to write belongs to these requests.
            server.settle()?;
            let spent = server.cpu_ms()? - before;
            let requests = number(&seen, "requests")?;
            put(&mut seen, "cpu_us", json!(spent * 1000.0 / requests));
            put(&mut seen, "rss_kb", json!(server.rss_kb()?));
        }
        let good = seen.pointer("/statuses/200").and_then(Value::as_f64).unwrap_or(0.0);
        if good < number(&seen, "requests")? || good == 0.0 {
            bail!("{} at {shape:?}: not every answer was a 200: {seen}", subject.name);
        }
        runs.add(subject.name, shape, seen);
    }
    Ok(())
}

/// From the start of the process to the whole of its first answer, several times, in milliseconds.
fn starts(bench: &Bench<'_>, mock: &Pinned, times: usize) -> anyhow::Result<Vec<f64>> {
    (0..times).map(|_| bench.start_to_answer(mock)).collect()
}

/// Four times as many callers as the gateway takes at once.
fn overload(bench: &Bench<'_>, mock: &Pinned, effort: Effort) -> anyhow::Result<Value> {
    println!("overload");
    let gateway = bench.backstay("overload", mock, true, ROOM)?;
    bench.warm_up(&gateway, "mock/text-0")?;
    let shape = ["closed".to_owned(), "--connections".to_owned(), CROWD.to_string()];
    let mut seen = bench.load(&shape, &gateway.address, "mock/text-50", effort.seconds * 2.0)?;
    gateway.settle()?;
    put(&mut seen, "peak_kb", json!(gateway.peak_kb()?));
    put(&mut seen, "room", json!(ROOM));
    put(&mut seen, "crowd", json!(CROWD));
    Ok(seen)
}

fn number(seen: &Value, field: &str) -> anyhow::Result<f64> {
    let value = seen.get(field).and_then(Value::as_f64);
    value.with_context(|| format!("no `{field}` in {seen}"))
}

fn put(seen: &mut Value, field: &str, value: Value) {
    if let Some(seen) = seen.as_object_mut() {
        seen.insert(field.to_owned(), value);
    }
}
