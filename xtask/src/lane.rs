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

    /// Runs a test runner and counts its tests. That none ran is a failure, and so is a test that it
    /// passed over: some runners end well all the same.
    pub(crate) fn tests(&self, command: &mut Command, limit: Duration) -> anyhow::Result<()> {
        let before = self.output().len();
        process::run(command, &self.log, limit)?;
        let output = self.output();
        verdict(Count::of_log(output.get(before..).unwrap_or_default()))
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

fn verdict(count: Count) -> anyhow::Result<()> {
    match count {
        Count { passed: 0, .. } => bail!("no tests ran"),
        Count { failed: 0, .. } => Ok(()),
        Count { failed, .. } => bail!("{failed} tests were passed over or failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_passed_over_has_not_passed() {
        assert!(verdict(Count::of_log("Ran 12 tests in 0.1s\n\nOK")).is_ok());
        assert!(verdict(Count::of_log("Ran 12 tests in 0.1s\n\nOK (skipped=1)")).is_err());
        assert!(verdict(Count::of_log("Ran 0 tests in 0.1s\n\nOK")).is_err());
        assert!(verdict(Count::of_log("# pass 3\n# fail 0\n# skipped 1")).is_err());
    }
}
