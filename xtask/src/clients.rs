//! The lanes of real clients: the vendors' own SDKs, pointed at a Backstay server.
//!
//! Each lane starts a scripted upstream and two servers of its own (one wants a key), so that the
//! breakers that one lane's failures open are not seen by the next.

use std::{process::Command, time::Duration};

use crate::{
    lane::Lane,
    process,
    project::{self, Project},
    setup,
};

const LIMIT: Duration = Duration::from_secs(5 * 60);
const PROJECT: &str = "clients/project";

/// OpenAI's SDK for Python.
pub(crate) fn python_openai(lane: &Lane<'_>) -> anyhow::Result<()> {
    python(lane, "test_openai")
}

/// Anthropic's SDK for Python.
pub(crate) fn python_anthropic(lane: &Lane<'_>) -> anyhow::Result<()> {
    python(lane, "test_anthropic")
}

/// The helpers for Python in the manual's page on outcomes.
pub(crate) fn python_outcomes(lane: &Lane<'_>) -> anyhow::Result<()> {
    python(lane, "test_outcomes")
}

/// OpenAI's SDK for Node.js.
pub(crate) fn node_openai(lane: &Lane<'_>) -> anyhow::Result<()> {
    node(lane, "openai.test.mjs")
}

/// The helpers for TypeScript in the manual's page on outcomes.
pub(crate) fn node_outcomes(lane: &Lane<'_>) -> anyhow::Result<()> {
    node(lane, "outcomes.test.mjs")
}

fn node(lane: &Lane<'_>, test: &str) -> anyhow::Result<()> {
    let package = lane.setup().node_package("node-clients", "clients/node")?;
    let source = lane.workspace.root.join("tests/clients/node").join(test);
    // Node looks for packages next to the file that imports them.
    setup::copy(&source, &package.dir.join(test))?;
    let mut node = package.node();
    node.args(["--test", "--test-reporter=tap", test]);
    against_backstay(lane, &mut node)
}

fn python(lane: &Lane<'_>, module: &str) -> anyhow::Result<()> {
    let mut python = process::command(lane.setup().python()?);
    python.current_dir(lane.workspace.root.join("tests/clients/python"));
    python.env("PYTHONDONTWRITEBYTECODE", "1").args(["-m", "unittest", "--verbose", module]);
    against_backstay(lane, &mut python)
}

fn against_backstay(lane: &Lane<'_>, driver: &mut Command) -> anyhow::Result<()> {
    let upstream = project::upstream(lane)?;
    let open = Project::copy(lane, PROJECT, "open", &upstream.url)?.serve()?;
    let keyed = Project::copy(lane, PROJECT, "keyed", &upstream.url)?;
    let key = keyed.add_key()?;
    let keyed = keyed.serve()?;
    driver
        .env("BACKSTAY_DOCS", lane.workspace.root.join("docs"))
        .env("BACKSTAY_URL", &open.url)
        .env("BACKSTAY_URL_WITH_KEYS", &keyed.url)
        .env("BACKSTAY_TEST_KEY", key);
    lane.tests(driver, LIMIT)
}
