//! A small real language model, for development and for the lane that asks what Backstay makes of
//! answers that nobody scripted.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, bail};

use crate::{
    lane::Lane,
    process::{self, Server},
    project::{self, Project},
    setup::{self, Setup},
    workspace::Workspace,
};

/// How long loading the model may take.
const READY: Duration = Duration::from_secs(120);
/// How long the lane's questions may take altogether.
const LIMIT: Duration = Duration::from_secs(6 * 60);

/// Fetches the model and serves it in the foreground.
pub(crate) fn run(workspace: &Workspace, port: u16, fetch: bool) -> anyhow::Result<bool> {
    let log: PathBuf = workspace.test_env().join("logs/real-model-setup.log");
    let setup = Setup { workspace, install: true, log };
    let mut server = command(&setup, port)?;
    if fetch {
        println!("the model and its server are in {}", workspace.test_env().display());
        return Ok(true);
    }
    let status = server.status().context("starting node")?;
    if !status.success() {
        bail!("the model server ended: {status}");
    }
    Ok(true)
}

/// Sends real answers of a real model through Backstay.
pub(crate) fn lane(lane: &Lane<'_>) -> anyhow::Result<()> {
    let setup = lane.setup();
    let mut python = process::command(setup.python()?);
    let log = lane.log.with_file_name("real-model.upstream.log");
    drop(std::fs::remove_file(&log)); // absent on the first run
    let model = Server::start(&mut command(&setup, 0)?, &log, READY)?;
    let project = Project::copy(lane, "real-model/project", "open", &model.url)?;
    let backstay = project.serve()?;
    python
        .current_dir(lane.workspace.root.join("tests/real-model"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("BACKSTAY_URL", &backstay.url)
        .env("BACKSTAY_BIN", project::binary(lane.workspace))
        .env("BACKSTAY_DIR", project.dir())
        .arg("lane.py");
    lane.tests(&mut python, LIMIT)
}

/// Installs what the server needs and returns the command that starts it.
fn command(setup: &Setup<'_>, port: u16) -> anyhow::Result<Command> {
    let weights = setup.model()?;
    let package = setup.node_package("real-model", "real-model")?;
    let source = setup.workspace.root.join("tests/real-model/server.mjs");
    // Node looks for packages next to the file that imports them.
    setup::copy(&source, &package.dir.join("server.mjs"))?;
    let mut node = package.node();
    node.arg("server.mjs").arg("--port").arg(port.to_string()).arg("--model").arg(weights);
    Ok(node)
}
