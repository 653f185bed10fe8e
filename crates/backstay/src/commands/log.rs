//! `backstay log`: calls, newest first, or as they come.

use std::time::Duration;

use anyhow::bail;
use backstay_store::{Filter, RecordReader, sqlite::SqliteReader};

use super::{asked_to_stop, names_of, runtime, since, store_path};
use crate::{cli::LogArgs, exit::Exit, render};

/// How often a follower looks for new calls.
const LOOK: Duration = Duration::from_millis(250);

pub(crate) fn run(args: &LogArgs) -> anyhow::Result<Exit> {
    let reader = SqliteReader::open(store_path(&args.dir)?);
    let mut filter = Filter {
        call: args.call.clone(),
        release: args.release.clone(),
        target: args.target.clone(),
        outcomes: outcomes(args)?,
        failures_only: args.failed,
        degraded_only: args.degraded,
        verdict: args.verdict,
        units: match &args.unit {
            Some(unit) => names_of(unit, &args.dir)?,
            None => Vec::new(),
        },
        since_ms: args.since.map(since),
        limit: args.limit,
        ..Filter::default()
    };
    let mut rows = reader.calls(&filter)?;
    if !args.follow {
        render::calls(&rows, args.json)?;
        return Ok(Exit::Ok);
    }
    // A follower reads on downwards: the last calls first, then each new one below.
    rows.reverse();
    render::calls(&rows, args.json)?;
    filter.after = Some(rows.iter().map(|row| row.seq).max().unwrap_or(0));
    filter.limit = 1000;
    runtime()?.block_on(async {
        tokio::select! {
            ended = follow(&reader, filter, args.json) => ended,
            () = asked_to_stop() => Ok(Exit::Ok),
        }
    })
}

async fn follow(reader: &SqliteReader, mut filter: Filter, json: bool) -> anyhow::Result<Exit> {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        let rows = reader.calls(&filter)?;
        filter.after = rows.iter().map(|row| row.seq).max().or(filter.after);
        render::more_calls(&rows, json)?;
    }
}

fn outcomes(args: &LogArgs) -> anyhow::Result<Vec<backstay_core::record::Outcome>> {
    let Some(text) = &args.outcome else { return Ok(Vec::new()) };
    let named = Filter::outcomes_named(text);
    if named.is_empty() {
        bail!("there is no outcome `{text}`; there are ok, repaired and {}", render::classes())
    }
    Ok(named)
}
