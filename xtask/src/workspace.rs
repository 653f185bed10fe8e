//! Where the workspace is and what it consists of, as cargo and git tell it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::process;

/// One crate of the workspace.
#[derive(Debug)]
pub(crate) struct Crate {
    /// Its name in Cargo.toml.
    pub(crate) name: String,
    /// The directory of its Cargo.toml.
    pub(crate) dir: PathBuf,
    /// The crates that it names under `[dependencies]` (neither dev nor build).
    pub(crate) dependencies: Vec<String>,
}

/// The workspace on disk.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The directory of the workspace's Cargo.toml.
    pub(crate) root: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
    /// The crates, in the order of their names.
    pub(crate) crates: Vec<Crate>,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load() -> anyhow::Result<Self> {
        let text = process::read(process::command("cargo").args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
        ]))?;
        let metadata: Value = serde_json::from_str(&text).context("reading `cargo metadata`")?;
        let mut crates = Vec::new();
        for package in array(&metadata, "packages") {
            let manifest = PathBuf::from(string(package, "manifest_path")?);
            crates.push(Crate {
                name: string(package, "name")?,
                dir: manifest.parent().map(Path::to_owned).unwrap_or_default(),
                dependencies: array(package, "dependencies")
                    .filter(|dependency| dependency.get("kind").is_some_and(Value::is_null))
                    .map(|dependency| string(dependency, "name"))
                    .collect::<anyhow::Result<_>>()?,
            });
        }
        crates.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            root: string(&metadata, "workspace_root")?.into(),
            target: string(&metadata, "target_directory")?.into(),
            crates,
        })
    }

    /// Where test components are installed and lanes keep their files.
    pub(crate) fn test_env(&self) -> PathBuf {
        self.target.join("test-env")
    }

    /// Every text file that is or will be in version control, relative to the root.
    pub(crate) fn text_files(&self) -> anyhow::Result<Vec<(String, String)>> {
        let listing = process::read(process::command("git").current_dir(&self.root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))?;
        let mut files = Vec::new();
        for name in listing.split('\0').filter(|name| !name.is_empty()) {
            let path = self.root.join(name);
            if !path.is_file() {
                continue; // deleted, but not yet from the index
            }
            let bytes = fs::read(&path).with_context(|| format!("reading {name}"))?;
            if let Ok(text) = String::from_utf8(bytes)
                && !text.contains('\0')
            {
                files.push((name.to_owned(), text));
            }
        }
        if files.is_empty() {
            bail!("git knows no files in {}", self.root.display());
        }
        Ok(files)
    }
}

fn array<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn string(value: &Value, key: &str) -> anyhow::Result<String> {
    let text = value.get(key).and_then(Value::as_str);
    Ok(text.with_context(|| format!("`cargo metadata` has no `{key}`"))?.to_owned())
}
