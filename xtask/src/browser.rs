//! The lane of the dashboard: Debian's Chromium against real gateways, with no calls, a few, a million,
//! and with keys.
#![expect(clippy::disallowed_methods, reason = "a filled log is good for the day on which it was")]

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;

use crate::{
    lane::{CARGO_LIMIT, Lane},
    process,
    project::{self, Project},
    setup,
};

const LIMIT: Duration = Duration::from_secs(15 * 60);
const PROJECT: &str = "ui/project";
/// How many calls the largest log holds.
const CALLS: &str = "1000000";
const TESTS: [&str; 7] = [
    "browser.mjs",
    "empty.test.mjs",
    "keys.test.mjs",
    "little.test.mjs",
    "live.test.mjs",
    "much.test.mjs",
    "pages.mjs",
];

/// Every page of the dashboard, as people use it.
pub(crate) fn lane(lane: &Lane<'_>) -> anyhow::Result<()> {
    let setup = lane.setup();
    let chromium = setup.chromium()?;
    let package = setup.node_package("ui-browser", "ui")?;
    let source = lane.workspace.root.join("tests/ui");
    for file in TESTS {
        setup::copy(&source.join(file), &package.dir.join(file))?;
    }
    let upstream = project::upstream(lane)?;
    let serve = |name| Project::copy(lane, PROJECT, name, &upstream.url)?.serve();
    let (empty, little, live) = (serve("empty")?, serve("little")?, serve("live")?);
    let keyed = Project::copy(lane, PROJECT, "keyed", &upstream.url)?;
    let key = keyed.add_key()?;
    let keyed = keyed.serve()?;
    let much = Project::copy(lane, PROJECT, "much", &upstream.url)?;
    fill(lane, much.dir())?;
    let much = much.serve()?;
    let mut node = package.node();
    node.args(["--test", "--test-reporter=tap", "--test-concurrency=1"]);
    node.args(TESTS.iter().filter(|file| file.ends_with(".test.mjs")));
    node.env("BACKSTAY_CHROMIUM", chromium)
        .env("BACKSTAY_URL_EMPTY", &empty.url)
        .env("BACKSTAY_URL_LITTLE", &little.url)
        .env("BACKSTAY_URL_LIVE", &live.url)
        .env("BACKSTAY_URL_MUCH", &much.url)
        .env("BACKSTAY_URL_WITH_KEYS", &keyed.url)
        .env("BACKSTAY_TEST_KEY", key);
    lane.tests(&mut node, LIMIT)
}

/// Puts a month of a busy project into a project's log. It is made once a day, and copied.
fn fill(lane: &Lane<'_>, project: &Path) -> anyhow::Result<()> {
    let today = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 86_400;
    let filled =
        lane.setup().once("ui-log", &format!("{CALLS} calls up to day {today}"), |dir| {
            let mut cargo = process::command("cargo");
            cargo.current_dir(&lane.workspace.root);
            cargo.args(["run", "--quiet", "--package", "backstay-bench", "--", "fill-log"]);
            cargo.arg(dir).args(["--calls", CALLS, "--days", "30"]);
            process::run(&mut cargo, &lane.log, CARGO_LIMIT)
        })?;
    let store = project.join(".backstay");
    fs::create_dir_all(&store).with_context(|| format!("creating {}", store.display()))?;
    for entry in fs::read_dir(&filled).with_context(|| filled.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            setup::copy(&entry.path(), &store.join(entry.file_name()))?;
        }
    }
    Ok(())
}
