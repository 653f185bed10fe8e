//! The two ends of a measurement: an upstream that costs next to nothing, and clients that put a
//! known load on whatever stands in front of it; and a call log of any size. `cargo xtask bench` runs
//! them; this crate measures only. It knows the store, and nothing else of the gateway.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its result goes to its caller")]
#![expect(clippy::disallowed_methods, reason = "it reads clocks to measure, and has no draining")]

mod client;
mod load;
mod log;
mod mock;
mod sample;

use std::{net::SocketAddr, process::ExitCode};

use clap::{Args, Parser, Subcommand};

/// Upstream and load of `cargo xtask bench`.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answers chat completions at once, after a pause, or as a stream.
    Mock {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// So many connections, each of which asks again as soon as it is answered.
    Closed {
        #[command(flatten)]
        load: Load,
        /// Connections.
        #[arg(long, default_value_t = 64)]
        connections: usize,
    },
    /// A fixed rate, whether or not answers keep up; latency counts from the scheduled time.
    Open {
        #[command(flatten)]
        load: Load,
        /// Requests a second.
        #[arg(long)]
        rate: u32,
        /// Requests at once; what is due beyond them is counted as not sent.
        #[arg(long, default_value_t = 512)]
        outstanding: usize,
    },
    /// Streams, one after the other.
    Streams {
        #[command(flatten)]
        load: Load,
    },
    /// Fills a call log as a month of a busy project would.
    FillLog(log::Fill),
    /// Asks a call log what the dashboard asks.
    AskLog(log::Ask),
    /// Drops the older half of a call log.
    ShortenLog(log::Shorten),
}

/// What is asked, and for how long.
#[derive(Clone, Debug, Args)]
struct Load {
    /// Host and port.
    #[arg(long)]
    to: SocketAddr,
    /// The `model` of the requests.
    #[arg(long)]
    model: String,
    /// For how long.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = match command {
        Command::Mock { listen } => return runtime.block_on(mock::serve(listen)),
        Command::Closed { load, connections } => runtime.block_on(load::closed(&load, connections)),
        Command::Open { load, rate, outstanding } => {
            runtime.block_on(load::open(&load, rate, outstanding))
        }
        Command::Streams { load } => runtime.block_on(load::streams(&load)),
        Command::FillLog(fill) => log::fill(&fill),
        Command::AskLog(ask) => log::ask(&ask),
        Command::ShortenLog(shorten) => log::shorten(&shorten),
    }?;
    println!("{result}");
    Ok(())
}
