//! `backstay erase`: takes everything of one unit out of the call log.

use std::{
    io::{self, IsTerminal},
    path::Path,
    time::Duration,
};

use anyhow::bail;
use backstay_store::{Erase, Erasure, ErrorKind, StoreError, Traces, sqlite::SqliteEraser};
use tokio::time::{Instant, interval};

use super::{names_of, now_ms, runtime, store_path};
use crate::{cli::EraseArgs, exit::Exit, render};

/// How long a running gateway is given to store what it has taken in.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) fn run(args: &EraseArgs) -> anyhow::Result<Exit> {
    if args.unit.is_empty() {
        bail!("the unit is empty; calls without a unit cannot be told apart");
    }
    let names = names_of(&args.unit, &args.dir)?;
    let mut eraser = SqliteEraser::open(store_path(&args.dir)?);
    let found = eraser.traces(&names)?;
    if args.dry_run {
        render::traces(&found, false, args.json)?;
        return Ok(Exit::Ok);
    }
    if !args.yes && !found.is_empty() && !confirmed(&found, &args.dir)? {
        bail!("nothing was erased");
    }
    let erased = runtime()?.block_on(erase(&mut eraser, &names, found))?;
    render::traces(&erased, true, args.json)?;
    Ok(Exit::Ok)
}

/// Whether somebody at a terminal says yes.
fn confirmed(found: &Traces, dir: &Path) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!(
            "this would erase {} calls for good: say --yes, or look first with --dry-run",
            found.calls() + found.spooled
        );
    }
    render::ask_to_erase(found, dir);
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// Erases; waits for a gateway that is still storing, or for one who reads the files.
async fn erase(
    eraser: &mut SqliteEraser,
    names: &[String],
    found: Traces,
) -> anyhow::Result<Traces> {
    let (now, until) = (now_ms(), Instant::now() + PATIENCE);
    let mut looks = interval(LOOK);
    let mut begun = false;
    loop {
        looks.tick().await;
        let late = Instant::now() >= until;
        match eraser.erase(names, now) {
            // What an attempt that was disturbed had erased is not told by the next one.
            Ok(Erasure::Done(erased)) => return Ok(if begun { found } else { erased }),
            Ok(Erasure::Waiting(records)) if late => bail!(
                "the gateway has not stored {records} records of this unit yet, and nothing more was \
                 erased; see `store_error` in its /readyz, and try again"
            ),
            Ok(Erasure::Waiting(_)) => {}
            Err(StoreError { kind: ErrorKind::Busy, .. }) if !late => begun = true,
            Err(error) => return Err(error.into()),
        }
    }
}
