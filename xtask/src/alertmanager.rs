//! The lane `alertmanager`: what Backstay posts, told to a real Alertmanager.

use crate::{
    lane::{CARGO_LIMIT, Lane},
    process,
};

/// Sees to it that Alertmanager is there, and runs the tests that need it.
pub(crate) fn lane(lane: &Lane<'_>) -> anyhow::Result<()> {
    lane.setup().prometheus()?;
    let mut cargo = process::command("cargo");
    cargo.current_dir(&lane.workspace.root).args([
        "test",
        "--package",
        "backstay-control",
        "--test",
        "it",
        "alertmanager::",
        "--",
        "--ignored",
    ]);
    lane.tests(&mut cargo, CARGO_LIMIT)
}
