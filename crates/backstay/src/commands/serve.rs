//! `backstay serve`: the gateway.

use anyhow::bail;
use backstay_server::serve::{Options, ServeError, start};

use super::{asked_to_stop, fresh_key, runtime, seed};
use crate::{cli::ServeArgs, exit::Exit, render};

pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<Exit> {
    let options = Options {
        dir: args.dir.clone(),
        listen: args.listen,
        log: !args.no_log,
        seed: seed()?,
        fresh_key: fresh_key()?,
    };
    runtime()?.block_on(async {
        let started = match start(&options).await {
            Ok(started) => started,
            Err(ServeError::Project(mistakes)) => {
                render::mistakes(&mistakes);
                bail!("the project has mistakes; nothing was started");
            }
            Err(error) => return Err(error.into()),
        };
        started.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        let stop = asked_to_stop();
        render::listening(started.address()?);
        started.run(stop).await;
        Ok(Exit::Ok)
    })
}
