//! Runs the built `backstay` for the lanes that test it from outside: a copy of a project that
//! stands in the tree, served on a port that the system chooses.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{
    lane::{CARGO_LIMIT, Lane},
    process::{self, Server},
    setup,
    workspace::Workspace,
};

/// How long a server may take until it listens.
const READY: Duration = Duration::from_secs(30);
/// Stands in a project's `backstay.toml` where the address of the upstream server belongs.
const UPSTREAM: &str = "http://upstream.invalid";

/// The scripted upstream: `backstay sim`, which speaks both protocols and fails as models name it.
pub(crate) fn upstream(lane: &Lane<'_>) -> anyhow::Result<Server> {
    let mut command = backstay(lane)?;
    command.args(["sim", "--listen", "127.0.0.1:0"]);
    Server::start(&mut command, &log(lane, "upstream"), READY)
}

/// A copy of a project of the tree, whose provider is a server of the lane.
#[derive(Debug)]
pub(crate) struct Project<'a> {
    lane: &'a Lane<'a>,
    name: &'static str,
    dir: PathBuf,
}

impl<'a> Project<'a> {
    /// Copies the project in `tests/SOURCE`, without anything that an earlier run has left.
    pub(crate) fn copy(
        lane: &'a Lane<'a>,
        source: &str,
        name: &'static str,
        upstream: &str,
    ) -> anyhow::Result<Self> {
        let dir = lane.workspace.test_env().join("projects").join(lane.name).join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        copy_tree(&lane.workspace.root.join("tests").join(source), &dir)?;
        let config = dir.join("backstay.toml");
        let text = setup::read(&config)?;
        if !text.contains(UPSTREAM) {
            bail!("tests/{source}/backstay.toml has no `{UPSTREAM}` to put an address into");
        }
        fs::write(&config, text.replace(UPSTREAM, upstream))
            .with_context(|| format!("writing {}", config.display()))?;
        Ok(Self { lane, name, dir })
    }

    /// Where the copy is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes an API key; from then on every request to the project's server has to carry one.
    pub(crate) fn add_key(&self) -> anyhow::Result<String> {
        let mut command = backstay(self.lane)?;
        command.args(["keys", "create", "test", "--json", "--dir"]).arg(&self.dir);
        let answer: Value = serde_json::from_str(&process::read(&mut command)?)
            .context("`backstay keys create --json` did not print JSON")?;
        let key = answer.get("key").and_then(Value::as_str);
        Ok(key.context("`backstay keys create --json` printed no `key`")?.to_owned())
    }

    /// Starts `backstay serve`.
    pub(crate) fn serve(&self) -> anyhow::Result<Server> {
        self.serve_with(&[])
    }

    /// Starts `backstay serve` with more in its environment.
    pub(crate) fn serve_with(&self, environment: &[(&str, &str)]) -> anyhow::Result<Server> {
        let mut command = backstay(self.lane)?;
        command.envs(environment.iter().copied());
        command.arg("serve").arg(&self.dir).args(["--listen", "127.0.0.1:0"]);
        Server::start(&mut command, &log(self.lane, self.name), READY)
    }
}

/// The binary of the lane `build`, built if that lane did not run.
fn backstay(lane: &Lane<'_>) -> anyhow::Result<Command> {
    let mut build = process::command("cargo");
    build.current_dir(&lane.workspace.root).args(["build", "--quiet", "--package", "backstay"]);
    process::run(&mut build, &lane.log, CARGO_LIMIT)?;
    let mut command = process::command(binary(lane.workspace));
    command.current_dir(lane.workspace.test_env());
    Ok(command)
}

/// Where cargo puts the binary.
pub(crate) fn binary(workspace: &Workspace) -> PathBuf {
    workspace.target.join("debug/backstay")
}

fn log(lane: &Lane<'_>, server: &str) -> PathBuf {
    let log = lane.log.with_file_name(format!("{}.{server}.log", lane.name));
    drop(fs::remove_file(&log)); // absent on the first run
    log
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            setup::copy(&entry.path(), &target)?;
        }
    }
    Ok(())
}
