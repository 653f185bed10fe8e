//! What a lane of `cargo xtask test` runs with: where it is, and how it runs its commands.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::bail;

use crate::{count::Count, process, setup::Setup, workspace::Workspace};

/// The longest that one command of cargo may take: a build of everything on a slow machine.
pub(crate) const CARGO_LIMIT: Duration = Duration::from_secs(25 * 60);

/// What a lane runs with.
#[derive(Debug)]
pub(crate) struct Lane<'a> {
    pub(crate) name: &'static str,
    pub(crate) workspace: &'a Workspace,
    pub(crate) log: PathBuf,
    pub(crate) install: bool,
}

impl Lane<'_> {
    /// What installs components for this lane.
    pub(crate) fn setup(&self) -> Setup<'_> {
        Setup { workspace: self.workspace, install: self.install, log: self.log.clone() }
    }

    /// Runs a test runner and counts its tests. That none ran is a failure.
    pub(crate) fn tests(&self, command: &mut Command, limit: Duration) -> anyhow::Result<()> {
        let ran = process::run(command, &self.log, limit);
        if ran.is_ok() && Count::of_log(&self.output()) == Count::default() {
            bail!("no tests ran");
        }
        ran
    }

    /// Runs cargo in the workspace.
    pub(crate) fn cargo(&self, args: &[&str]) -> anyhow::Result<()> {
        let mut command = process::command("cargo");
        command.current_dir(&self.workspace.root).args(args);
        process::run(&mut command, &self.log, CARGO_LIMIT)
    }

    /// What the lane's commands have printed so far.
    pub(crate) fn output(&self) -> String {
        fs::read(&self.log)
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }
}
