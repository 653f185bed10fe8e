//! `cargo xtask bench --log`: what a call log of ten million calls costs to write, to ask and to shorten,
//! and what the dashboard costs on top of it.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, bail};
use serde_json::Value;

use super::{build, machine, report};
use crate::{
    process::{self, Server},
    workspace::Workspace,
};

const CALLS: u64 = 10_000_000;
const READY: Duration = Duration::from_secs(60);
const BEGIN: &str = "<!-- measured: written by `cargo xtask bench --log` -->\n";
const END: &str = "<!-- end of what is measured of the log -->";

/// Measures, and writes the figures into the document.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<bool> {
    build(workspace)?;
    let dir = workspace.test_env().join("bench/log");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let project = dir.join("project");
    fs::create_dir_all(&project)?;
    fs::write(project.join("backstay.toml"), "")?;
    let store = project.join(".backstay");
    println!("filling a log of {CALLS} calls");
    let calls = CALLS.to_string();
    let filled = bench(workspace, &["fill-log", text(&store)?, "--calls", &calls])?;
    println!("asking it");
    let mut serve = process::command(workspace.target.join("release/backstay"));
    serve.args(["serve", text(&project)?, "--listen", "127.0.0.1:0"]);
    let server = Server::start(&mut serve, &dir.join("serve.log"), READY)?;
    let address = server.url.trim_start_matches("http://").to_owned();
    let asked =
        bench(workspace, &["ask-log", text(&store)?, "--server", &address, "--times", "5"])?;
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    drop(server);
    println!("shortening it");
    let shortened = bench(workspace, &["shorten-log", text(&store)?])?;
    fs::remove_dir_all(&dir)?;
    let head = machine::line("cargo xtask bench --log");
    let text = format!("{head}\n\n{}", table(&filled, &asked, &shortened, &status)?);
    report::put(workspace, (BEGIN, END), &text)?;
    Ok(true)
}

fn bench(workspace: &Workspace, args: &[&str]) -> anyhow::Result<Value> {
    let mut command = process::command(workspace.target.join("release/backstay-bench"));
    let told = process::read(command.args(args))?;
    serde_json::from_str(&told).with_context(|| format!("{args:?} said {told}"))
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("the target directory has a name that is not UTF-8")
}

fn table(filled: &Value, asked: &Value, shortened: &Value, status: &str) -> anyhow::Result<String> {
    let of = |value: &Value, field: &str| -> anyhow::Result<f64> {
        value[field].as_f64().with_context(|| format!("no `{field}` in {value}"))
    };
    let (received, stored) = (of(filled, "received")?, of(filled, "stored")?);
    let shed = of(filled, "shed")?;
    if (received - stored - shed).abs() > 0.5 {
        bail!("the accounting is not exact: {filled}");
    }
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?");
    let mut text = format!(
        "| | |\n|---|--:|\n\
         | calls, over 30 days | {CALLS} |\n\
         | records and reports received = stored + shed | {received} = {stored} + {shed} |\n\
         | stored, through the spool, a second | {:.0} |\n\
         | memory of the writer after a tenth, at the end | {:.0} MB, {:.0} MB |\n\
         | disk | {} MB |\n\
         | the older half dropped in, disk after | {:.0} ms, {} MB |\n\
         | memory of the gateway that answered the pages, at most | {} |\n\n",
        of(filled, "entries_a_second")?,
        of(filled, "resident_kb_after_a_tenth")? / 1000.0,
        of(filled, "resident_kb_at_the_end")? / 1000.0,
        shortened["disk_mb_before"],
        of(shortened, "milliseconds")?,
        shortened["disk_mb_after"],
        peak.trim(),
    );
    text += "| question | median ms | slowest ms |\n|---|--:|--:|\n";
    for (name, took) in asked.as_object().into_iter().flatten() {
        let (median, max) = (of(took, "median_ms")?, of(took, "max_ms")?);
        text += &format!("| {name} | {median:.1} | {max:.1} |\n");
    }
    Ok(text)
}
