//! Automation of the workspace: `cargo xtask test` checks everything, and is what CI runs.
//!
//! One module a command. It stays independent of the product's crates, so that it still runs and
//! says what is wrong while they do not compile.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what xtask is for")]

mod alertmanager;
mod bench;
mod browser;
mod clients;
mod codegen;
mod count;
mod dashboard;
mod lane;
mod lanes;
mod otlp;
mod prices;
mod process;
mod project;
mod prometheus;
mod real_model;
mod setup;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Automation of the Backstay workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check everything: format, lints, tidy, tests, docs, real clients and a real model.
    Test {
        /// Run only the lanes whose name starts with NAME; may be given several times.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// Install nothing: a lane whose components are missing fails.
        #[arg(long)]
        no_install: bool,
    },
    /// Check the rules of the source tree that the compiler and clippy do not know.
    Tidy,
    /// Serve a small real language model in OpenAI's format, until it is interrupted.
    RealModel {
        /// Port on 127.0.0.1.
        #[arg(long, default_value_t = 58200)]
        port: u16,
        /// Only fetch what it needs.
        #[arg(long)]
        fetch: bool,
    },
    /// Measure the gateway on this machine, and write the figures into docs/performance.md.
    Bench {
        /// Two minutes instead of six: rough figures.
        #[arg(long)]
        quick: bool,
        /// Ten million calls in the log instead: writing, asking and shortening it, and the pages of the
        /// dashboard. Needs 6 GB of disk.
        #[arg(long, conflicts_with = "quick")]
        log: bool,
    },
    /// Build the dashboard into ui/dist, with its types of the API written anew.
    Ui,
    /// Write the generated files anew and format the code.
    Codegen,
    /// Take the prices of models anew from the latest genai-prices.
    Prices {
        /// Another version than the latest.
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
        /// The day on which it appeared, YYYY-MM-DD, where the package index does not say.
        #[arg(long, value_name = "DATE")]
        date: Option<String>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command; `Ok(false)` says that it found something wrong and has printed it.
fn run(cli: Cli) -> anyhow::Result<bool> {
    let workspace = Workspace::load()?;
    match cli.command {
        Command::Test { only, no_install } => lanes::run(&workspace, &only, !no_install),
        Command::Tidy => tidy::run(&workspace),
        Command::RealModel { port, fetch } => real_model::run(&workspace, port, fetch),
        Command::Bench { log: true, .. } => bench::log::run(&workspace),
        Command::Bench { quick, log: false } => bench::run(&workspace, quick),
        Command::Ui => dashboard::run(&workspace),
        Command::Codegen => codegen::run(&workspace),
        Command::Prices { version, date } => {
            prices::run(&workspace, version.as_deref(), date.as_deref())
        }
    }
}
