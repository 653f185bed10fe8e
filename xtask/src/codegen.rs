//! `cargo xtask codegen`: the tests that compare generated files with their generators write them
//! instead, when `UPDATE_GOLDEN` is set.

use std::time::Duration;

use crate::{process, workspace::Workspace};

const LIMIT: Duration = Duration::from_secs(45 * 60);

/// Writes every generated file and formats the code.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<bool> {
    let log = workspace.test_env().join("logs/codegen.log");
    drop(std::fs::remove_file(&log)); // absent on the first run
    for args in [&["test", "--workspace", "--quiet"][..], &["fmt", "--all"][..]] {
        let mut command = process::command("cargo");
        command.current_dir(&workspace.root).env("UPDATE_GOLDEN", "1").args(args);
        if let Err(error) = process::run(&mut command, &log, LIMIT) {
            println!("{}\n{error:#}", process::tail(&log, 60));
            return Ok(false);
        }
    }
    println!("generated files are written; `git diff` shows what changed");
    Ok(true)
}
