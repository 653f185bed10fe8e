//! `cargo xtask test`: every check there is, one lane after the other, and one verdict.
//!
//! A lane prints one line with its time; its output is in `target/test-env/logs/LANE.log` and is
//! shown when it fails. A lane that cannot run fails.
#![expect(clippy::disallowed_methods, reason = "the time that a lane takes is shown to people")]

use std::{fs, time::Instant};

use anyhow::bail;

use crate::{
    alertmanager, browser, clients,
    count::Count,
    dashboard,
    lane::{CARGO_LIMIT, Lane},
    otlp, process, prometheus, real_model, tidy,
    workspace::Workspace,
};

/// Lines of a failed lane's log that are shown.
const SHOWN: usize = 150;

type Check = fn(&Lane<'_>) -> anyhow::Result<()>;

/// The lanes in their order: what is fast and fails often comes first.
const LANES: [(&str, Check); 18] = [
    ("fmt", |lane| lane.cargo(&["fmt", "--all", "--check"])),
    ("clippy", |lane| {
        lane.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
    }),
    ("tidy", tidy_lane),
    ("tests", test_lane),
    ("doctests", |lane| lane.cargo(&["test", "--doc", "--workspace"])),
    ("docs", docs_lane),
    ("ui-build", dashboard::build_lane),
    ("build", |lane| lane.cargo(&["build", "--package", "backstay"])),
    ("alertmanager", alertmanager::lane),
    ("clients-python-openai", clients::python_openai),
    ("clients-python-anthropic", clients::python_anthropic),
    ("clients-python-outcomes", clients::python_outcomes),
    ("clients-node-openai", clients::node_openai),
    ("prometheus", prometheus::lane),
    ("otlp", otlp::lane),
    ("clients-node-outcomes", clients::node_outcomes),
    ("ui-browser", browser::lane),
    ("real-model", real_model::lane),
];

/// Runs the lanes whose names start with one of `only`, or all; `false` if any failed.
pub(crate) fn run(workspace: &Workspace, only: &[String], install: bool) -> anyhow::Result<bool> {
    let chosen = |name: &str| only.is_empty() || only.iter().any(|start| name.starts_with(start));
    if let Some(unknown) =
        only.iter().find(|start| !LANES.iter().any(|(name, _)| name.starts_with(start.as_str())))
    {
        let names: Vec<&str> = LANES.iter().map(|(name, _)| *name).collect();
        bail!("there is no lane `{unknown}`; the lanes are {}", names.join(", "));
    }
    let logs = workspace.test_env().join("logs");
    let mut total = Count::default();
    let mut failures = Vec::new();
    for (name, check) in LANES.into_iter().filter(|(name, _)| chosen(name)) {
        let lane = Lane { name, workspace, log: logs.join(format!("{name}.log")), install };
        drop(fs::remove_file(&lane.log)); // absent on the first run
        let started = Instant::now();
        let ended = check(&lane);
        let count = counted(ended.is_ok(), &lane);
        let verdict = if ended.is_ok() { "ok" } else { "FAILED" };
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{verdict:<6} {name:<26} {:>5} tests {seconds:>7.1} s",
            count.passed + count.failed
        );
        if let Err(error) = ended {
            println!("{}\n{error:#}\n", process::tail(&lane.log, SHOWN));
            failures.push((name, format!("{error:#}")));
        }
        total += count;
    }
    if !failures.is_empty() {
        println!("\nfailed:");
    }
    for (name, error) in &failures {
        let first = error.lines().next().unwrap_or_default().trim_end_matches(':');
        println!("  {name}: {first}; all of it in {}", logs.join(format!("{name}.log")).display());
    }
    println!("\n{} passed, {} failed", total.passed, total.failed);
    Ok(failures.is_empty())
}

/// The tests of a lane, or the lane itself as one test. A failed lane has a failure.
fn counted(passed: bool, lane: &Lane<'_>) -> Count {
    let mut count = Count::of_log(&lane.output());
    if count == Count::default() {
        return Count::one(passed);
    }
    if !passed && count.failed == 0 {
        count.failed = 1;
    }
    count
}

fn tidy_lane(lane: &Lane<'_>) -> anyhow::Result<()> {
    let findings = tidy::check(lane.workspace)?;
    if findings.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    bail!("{} rules are broken:\n{}", lines.len(), lines.join("\n"))
}

/// Unit and integration tests, with nextest where the machine has it.
fn test_lane(lane: &Lane<'_>) -> anyhow::Result<()> {
    let mut command = process::command("cargo");
    command.current_dir(&lane.workspace.root);
    if process::read(process::command("cargo").args(["nextest", "--version"])).is_ok() {
        command.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    } else {
        command.args(["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]);
    }
    lane.tests(&mut command, CARGO_LIMIT)
}

fn docs_lane(lane: &Lane<'_>) -> anyhow::Result<()> {
    let mut command = process::command("cargo");
    command.current_dir(&lane.workspace.root).env("RUSTDOCFLAGS", "-D warnings");
    command.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    process::run(&mut command, &lane.log, CARGO_LIMIT)
}
