//! The lane `prometheus`: a real Prometheus and a real Alertmanager on a running Backstay, with the
//! rules and the dashboard that `backstay export` makes of its project.

use std::time::Duration;

use crate::{
    lane::Lane,
    process,
    project::{self, Project},
};

const LIMIT: Duration = Duration::from_secs(8 * 60);

/// Scrapes, fires, receives, and asks every question of the dashboard.
pub(crate) fn lane(lane: &Lane<'_>) -> anyhow::Result<()> {
    let setup = lane.setup();
    setup.prometheus()?;
    let mut python = process::command(setup.venv_of("prometheus")?);
    let upstream = project::upstream(lane)?;
    let project = Project::copy(lane, "prometheus/project", "keyed", &upstream.url)?;
    let key = project.add_key()?;
    let backstay = project.serve()?;
    python
        .current_dir(lane.workspace.root.join("tests/prometheus"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("BACKSTAY_URL", &backstay.url)
        .env("BACKSTAY_KEY", key)
        .env("BACKSTAY_BIN", project::binary(lane.workspace))
        .env("BACKSTAY_DIR", project.dir())
        .args(["-m", "unittest", "--verbose", "lane"]);
    lane.tests(&mut python, LIMIT)
}
