//! `cargo xtask tidy`: rules of the source tree that neither the compiler nor clippy knows.
//!
//! Every rule is a pure function from file contents to [`Finding`]s, so that each has a test in
//! which it fails. This file says which rule reads what.

mod architecture;
mod cycles;
mod manual;
mod source;
mod text;

use std::fmt;

use crate::workspace::{Crate, Workspace};

/// One broken rule: where, what, and how to mend it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    place: String,
    message: String,
}

impl Finding {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Prints what is wrong; `false` if anything is.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<bool> {
    let findings = check(workspace)?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("tidy"),
        count => println!("{count} rules are broken"),
    }
    Ok(findings.is_empty())
}

/// Checks every rule, and returns what is broken in the order of places.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<Vec<Finding>> {
    let files = workspace.text_files()?;
    let mut findings = Vec::new();
    for (name, text) in &files {
        findings.extend(text::check(name, text));
    }
    for member in &workspace.crates {
        let sources = sources_of(workspace, member, &files);
        findings.extend(source::check_crate(&member.name, &sources));
        findings.extend(cycles::check(&member.name, &sources));
    }
    findings.extend(architecture::check(workspace, &files)?);
    findings.extend(manual::check(&files));
    findings.sort();
    Ok(findings)
}

/// The files below `src` of a crate: path relative to `src`, path to show, text.
fn sources_of(
    workspace: &Workspace,
    member: &Crate,
    files: &[(String, String)],
) -> Vec<source::File> {
    let dir = member.dir.strip_prefix(&workspace.root).unwrap_or(&member.dir);
    let src = format!("{}/src/", dir.display());
    let rust = files.iter().filter_map(|(name, text)| {
        let path = name.strip_prefix(&src).filter(|path| path.ends_with(".rs"))?;
        Some(source::File::new(path, name, text))
    });
    source::without_test_files(rust.collect())
}
