//! `cargo xtask prices`: the vendored price table, made anew from the latest genai-prices.
//!
//! The package is Python, and so is what reads it: `xtask/prices/slim.py`, which runs nothing of it. The
//! licence that the package comes with is kept beside the table.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, bail};

use crate::{process, setup::Setup, workspace::Workspace};

const PACKAGE: &str = "genai-prices";
const LIMIT: Duration = Duration::from_secs(5 * 60);
/// Where the table and its licence stand.
const FOLDER: &str = "crates/backstay-core/prices";

/// Writes the table. `date` is the day on which it appeared, where the package index does not say.
pub(crate) fn run(
    workspace: &Workspace,
    version: Option<&str>,
    date: Option<&str>,
) -> anyhow::Result<bool> {
    let log = workspace.test_env().join("logs/prices.log");
    drop(fs::remove_file(&log)); // absent on the first run
    let python = Setup { workspace, install: true, log: log.clone() }.python()?;
    let wheels = workspace.test_env().join("prices");
    if wheels.exists() {
        fs::remove_dir_all(&wheels).with_context(|| format!("removing {}", wheels.display()))?;
    }
    let wanted =
        version.map_or_else(|| PACKAGE.to_owned(), |version| format!("{PACKAGE}=={version}"));
    let mut pip = process::command(&python);
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]);
    process::run(pip.arg("--dest").arg(&wheels).arg(&wanted), &log, LIMIT)?;
    let wheel = fs::read_dir(&wheels)?.next().context("pip left no wheel")??.path();
    let folder = workspace.root.join(FOLDER);
    let mut slim = process::command(&python);
    slim.arg(workspace.root.join("xtask/prices/slim.py")).arg(&wheel).args(date);
    let table = process::read(&mut slim)?;
    if !table.trim_end().ends_with('}') {
        bail!("slim.py printed no table");
    }
    write(&folder.join("genai-prices.json"), &table)?;
    write(&folder.join("LICENSE-genai-prices"), &licence(&python, &wheel)?)?;
    println!("the table is written; run the tests, and read `git diff {FOLDER}`");
    Ok(true)
}

fn licence(python: &Path, wheel: &Path) -> anyhow::Result<String> {
    let find = "import sys, zipfile\n\
        archive = zipfile.ZipFile(sys.argv[1])\n\
        name = next(n for n in archive.namelist() if n.endswith('/licenses/LICENSE'))\n\
        print(archive.read(name).decode(), end='')";
    let mut show = process::command(python);
    process::read(show.args(["-c", find]).arg(wheel))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
