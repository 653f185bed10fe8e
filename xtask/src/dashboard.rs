//! The dashboard: `cargo xtask ui` builds it, and a lane proves that the committed build is what its
//! source makes, byte for byte. It is built on a copy in another place than a developer's own.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{
    lane::Lane,
    process,
    setup::{NodePackage, Setup, copy, read},
    workspace::Workspace,
};

const LIMIT: Duration = Duration::from_secs(5 * 60);
/// What the build reads, relative to `ui`.
const SOURCES: [&str; 6] =
    ["index.html", "tsconfig.json", "vite.config.ts", "public", "src", "dev/size.mjs"];
const TYPES: &str = "src/api/schema.d.ts";

/// Types, unit tests, size, and whether the committed files are those that the source makes.
pub(crate) fn build_lane(lane: &Lane<'_>) -> anyhow::Result<()> {
    let package = prepare(&lane.setup())?;
    let node = |args: &[&str]| process::run(package.node().args(args), &lane.log, LIMIT);
    node(&["node_modules/typescript/bin/tsc", "--noEmit"])?;
    lane.tests(package.node().args(["node_modules/vitest/vitest.mjs", "run"]), LIMIT)?;
    let types = types(lane.workspace, &package, &lane.log)?;
    if read(&types)? != read(&lane.workspace.root.join("ui").join(TYPES))? {
        bail!("ui/{TYPES} is not what schemas/openapi.json says: run `cargo xtask ui`");
    }
    let dist = build(&package, &lane.log)?;
    node(&["dev/size.mjs", "dist"])?;
    let differences = differences(&dist, &lane.workspace.root.join("ui/dist"))?;
    if !differences.is_empty() {
        bail!(
            "ui/dist is not what ui/ makes; run `cargo xtask ui` and commit:\n{}",
            differences.join("\n")
        );
    }
    Ok(())
}

/// Writes the types of the API and the build into the tree.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<bool> {
    let log = workspace.test_env().join("logs/ui.log");
    let setup = Setup { workspace, install: true, log: log.clone() };
    let package = prepare(&setup)?;
    let types = types(workspace, &package, &log)?;
    copy(&types, &workspace.root.join("ui").join(TYPES))?;
    copy(&types, &package.dir.join(TYPES))?;
    let dist = build(&package, &log)?;
    let into = workspace.root.join("ui/dist");
    if into.exists() {
        fs::remove_dir_all(&into).with_context(|| format!("removing {}", into.display()))?;
    }
    copy_tree(&dist, &into)?;
    println!("ui/dist is written");
    Ok(true)
}

/// A copy of the source next to the packages that it needs; nothing of an earlier run is left in it.
fn prepare(setup: &Setup<'_>) -> anyhow::Result<NodePackage> {
    let package = setup.dashboard()?;
    let source = setup.workspace.root.join("ui");
    for name in SOURCES {
        let (from, to) = (source.join(name), package.dir.join(name));
        if to.is_dir() {
            fs::remove_dir_all(&to).with_context(|| format!("removing {}", to.display()))?;
        }
        copy_tree(&from, &to)?;
    }
    Ok(package)
}

/// The types that the description of the API makes.
fn types(workspace: &Workspace, package: &NodePackage, log: &Path) -> anyhow::Result<PathBuf> {
    let types = package.dir.join("schema.d.ts");
    let mut command = package.node();
    command.arg("node_modules/openapi-typescript/bin/cli.js");
    command.arg(workspace.root.join("schemas/openapi.json")).arg("--output").arg(&types);
    process::run(&mut command, log, LIMIT)?;
    Ok(types)
}

fn build(package: &NodePackage, log: &Path) -> anyhow::Result<PathBuf> {
    let mut vite: Command = package.node();
    process::run(vite.args(["node_modules/vite/bin/vite.js", "build"]), log, LIMIT)?;
    Ok(package.dir.join("dist"))
}

/// What differs between two directories, in the order of names.
fn differences(built: &Path, committed: &Path) -> anyhow::Result<Vec<String>> {
    let (built, mut committed) = (files(built)?, files(committed)?);
    let mut differences = Vec::new();
    for (name, bytes) in built {
        match committed.remove(&name) {
            Some(other) if other == bytes => {}
            Some(_) => differences.push(format!("{}: is another", name.display())),
            None => differences.push(format!("{}: is not committed", name.display())),
        }
    }
    differences.extend(committed.keys().map(|name| format!("{}: is old", name.display())));
    Ok(differences)
}

/// The files below a directory, by their paths in it. None, if it does not exist.
fn files(dir: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(inside) = open.pop() {
        let at = dir.join(&inside);
        if !at.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&at).with_context(|| format!("reading {}", at.display()))? {
            let entry = entry?;
            let name = inside.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                open.push(name);
            } else {
                let path = entry.path();
                let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
                files.insert(name, bytes);
            }
        }
    }
    Ok(files)
}

/// Copies a file, or a directory with all that is in it.
fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    if !from.is_dir() {
        return copy(from, to);
    }
    for (name, bytes) in files(from)? {
        let into = to.join(name);
        if let Some(dir) = into.parent() {
            fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        }
        fs::write(&into, bytes).with_context(|| format!("writing {}", into.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (built, committed) = (dir.path().join("built"), dir.path().join("committed"));
        for (dir, files) in [
            (&built, [("same", "1"), ("a/other", "2"), ("new", "3")]),
            (&committed, [("same", "1"), ("a/other", "X"), ("a/old", "4")]),
        ] {
            for (name, text) in files {
                fs::create_dir_all(dir.join("a")).unwrap();
                fs::write(dir.join(name), text).unwrap();
            }
        }
        let found = differences(&built, &committed).unwrap();
        assert_eq!(found, ["a/other: is another", "new: is not committed", "a/old: is old"]);
        assert_eq!(differences(&built, &built).unwrap(), Vec::<String>::new());
        assert_eq!(differences(&built, &dir.path().join("none")).unwrap().len(), 3);
        copy_tree(&built, &dir.path().join("copy/of")).unwrap();
        assert!(differences(&built, &dir.path().join("copy/of")).unwrap().is_empty());
    }
}
