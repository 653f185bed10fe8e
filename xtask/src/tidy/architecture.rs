//! What each crate must not depend on. A crate is worth its manifest when it forbids something.

use std::collections::BTreeSet;

use anyhow::Context;
use toml::Value;

use super::Finding;
use crate::{process, workspace::Workspace};

/// A crate, and the dependencies that its own manifest must not name.
const NOT_NAMED: [(&str, &[&str]); 5] = [
    ("backstay-core", &["getrandom", "backstay-providers", "backstay-store"]),
    ("backstay-providers", &["rusqlite", "axum", "backstay-store"]),
    ("backstay-store", &["tokio"]),
    ("backstay-engine", &["axum", "rusqlite", "backstay-control", "backstay-server"]),
    ("backstay-control", &["axum", "rusqlite", "backstay-server"]),
];

/// A crate, and what must not be anywhere below it. `getrandom` is not in the list of the core only
/// because a hasher of its schema validator seeds itself with it.
const NOT_BELOW: [(&str, &[&str]); 2] = [
    ("backstay-core", &["tokio", "hyper", "rusqlite", "tracing", "rand", "axum"]),
    ("backstay-store", &["tokio", "hyper", "axum"]),
];

/// The one crate that may name a dependency.
const ONLY: [(&str, &str); 2] = [("axum", "backstay-server"), ("rusqlite", "backstay-store")];

/// Checks manifests and the dependency tree.
pub(super) fn check(
    workspace: &Workspace,
    files: &[(String, String)],
) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for member in &workspace.crates {
        findings.extend(named(&member.name, &member.dependencies));
    }
    for (name, forbidden) in NOT_BELOW {
        let tree = process::read(
            process::command("cargo")
                .current_dir(&workspace.root)
                .args(["tree", "--package", name, "--edges", "normal", "--prefix", "none"])
                .args(["--format", "{p}"]),
        )?;
        findings.extend(below(name, forbidden, &tree));
    }
    for (name, text) in files.iter().filter(|(name, _)| name.ends_with("Cargo.toml")) {
        findings.extend(manifest(name, text)?);
    }
    Ok(findings)
}

fn named(name: &str, dependencies: &[String]) -> Vec<Finding> {
    let forbidden =
        NOT_NAMED.iter().filter(|(member, _)| *member == name).flat_map(|(_, not)| *not);
    let reserved = ONLY.iter().filter(|(_, owner)| *owner != name).map(|(crate_, _)| crate_);
    let forbidden: BTreeSet<&str> = forbidden.chain(reserved).copied().collect();
    let broken = dependencies.iter().filter(|used| forbidden.contains(used.as_str()));
    broken.map(|used| Finding::new(name, format!("must not depend on `{used}`"))).collect()
}

/// `tree` has one line a crate: `name v1.2.3 …`.
fn below(name: &str, forbidden: &[&str], tree: &str) -> Vec<Finding> {
    let used: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let broken = forbidden.iter().filter(|crate_| used.contains(**crate_));
    let why =
        |crate_| format!("pulls in `{crate_}`: see `cargo tree -p {name} -e normal -i {crate_}`");
    broken.map(|crate_| Finding::new(name, why(crate_))).collect()
}

/// The workspace's manifest gives a reason for each dependency; the others take it from there.
fn manifest(name: &str, text: &str) -> anyhow::Result<Vec<Finding>> {
    let value: Value = toml::from_str(text).with_context(|| name.to_owned())?;
    let mut findings = Vec::new();
    for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (used, entry) in value.get(table).and_then(Value::as_table).into_iter().flatten() {
            let inherited = entry.get("workspace").and_then(Value::as_bool) == Some(true);
            if !inherited {
                let message = format!(
                    "`{used}` does not say `workspace = true`: versions stand in one place"
                );
                findings.push(Finding::new(name, message));
            }
        }
    }
    let all = value.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    for (used, entry) in all.and_then(Value::as_table).into_iter().flatten() {
        if entry.get("path").is_none() && !has_reason(text, used) {
            let message = format!("`{used}` has no comment that says why it is worth its place");
            findings.push(Finding::new(name, message));
        }
    }
    Ok(findings)
}

/// Whether the line of a dependency ends with a comment. No dependency has a `#` in its values.
fn has_reason(manifest: &str, dependency: &str) -> bool {
    let line = manifest.lines().find(|line| {
        let rest = line.trim_start().strip_prefix(dependency);
        rest.is_some_and(|rest| rest.trim_start().starts_with(['=', '.']))
    });
    let reason = line.and_then(|line| line.split_once('#')).map(|(_, reason)| reason.trim());
    reason.is_some_and(|reason| !reason.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn manifests_name_only_what_they_may() {
        for (name, forbidden) in NOT_NAMED {
            for used in forbidden {
                assert_eq!(named(name, &owned(&["serde", used])).len(), 1, "{name} {used}");
            }
        }
        assert_eq!(named("backstay-server", &owned(&["axum", "tokio"])), []);
        assert_eq!(named("backstay", &owned(&["axum"])).len(), 1);
    }

    #[test]
    fn the_tree_is_searched_by_whole_names() {
        let tree = "backstay-core v0.1.0\ntokio v1.2.0\ntracing-core v0.1.0\n";
        let found = below("backstay-core", &["tokio", "tracing"], tree);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("`tokio`"), "{}", found[0]);
    }

    #[test]
    fn dependencies_have_one_version_and_a_reason() {
        let root = "[workspace.dependencies]\na = \"1\" # reads\nb = { version = \"1\" }\nb-c = \"1\" #\nown = { path = \"x\" }\n";
        assert_eq!(manifest("Cargo.toml", root).unwrap().len(), 2);
        let member = "[dependencies]\na.workspace = true\n[dev-dependencies]\nb = \"1\"\n";
        assert_eq!(manifest("x/Cargo.toml", member).unwrap().len(), 1);
    }
}
