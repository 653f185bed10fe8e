//! `backstay sim`: the simulated provider as a server of its own.

use std::sync::Arc;

use anyhow::{Context, bail};
use backstay_core::config::units::Share;
use backstay_providers::sim::{Fault, FaultRate, Latency, Sim, SimConfig, serve};
use serde_json::Value;
use tokio::net::TcpListener;

use super::{asked_to_stop, runtime};
use crate::{cli::SimArgs, exit::Exit, render};

pub(crate) fn run(args: &SimArgs) -> anyhow::Result<Exit> {
    if args.list {
        render::faults(args.json)?;
        return Ok(Exit::Ok);
    }
    let faults: anyhow::Result<Vec<_>> = args.faults.iter().map(|text| fault_rate(text)).collect();
    let config = SimConfig {
        seed: args.seed,
        latency: Latency { p50: args.latency, p99: args.latency_p99.unwrap_or(args.latency) },
        tokens_per_second: args.tokens_per_second,
        faults: faults?,
        schedule: Vec::new(),
    };
    runtime()?.block_on(async {
        let listener = TcpListener::bind(args.listen)
            .await
            .with_context(|| format!("cannot listen on {}", args.listen))?;
        let stop = asked_to_stop();
        render::listening(listener.local_addr()?);
        serve(listener, Arc::new(Sim::new(config)), stop).await?;
        Ok(Exit::Ok)
    })
}

fn fault_rate(text: &str) -> anyhow::Result<FaultRate> {
    let Some((name, share)) = text.split_once('=') else {
        bail!("--fault {text}: write FAULT=SHARE, such as 500=2%")
    };
    let Some(fault) = Fault::from_name(name) else {
        bail!("--fault {text}: there is no fault `{name}`; `backstay sim --list` names them all")
    };
    match Share::try_from(Value::from(share)) {
        Ok(rate) => Ok(FaultRate { fault, rate: rate.0 }),
        Err(why) => bail!("--fault {text}: {why}; write a share such as 2%"),
    }
}
