//! The `backstay` binary: parse, run, exit. The only crate that prints.

mod cli;
mod commands;
mod exit;
mod export;
mod render;

use std::{io::IsTerminal, process::ExitCode};

use clap::{CommandFactory, Parser};
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Cli, Command, LogFormat},
    exit::Exit,
};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(&cli);
    match run(cli.command) {
        Ok(exit) => exit.into(),
        Err(error) if render::reader_left(&error) => Exit::Ok.into(),
        Err(error) => {
            render::error(&error);
            let unreachable = error.downcast_ref::<commands::call::Unreachable>().is_some();
            if unreachable { Exit::Unreachable.into() } else { Exit::Fault.into() }
        }
    }
}

fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Demo(args) => commands::demo::run(&args),
        Command::Init(args) => commands::init::run(&args),
        Command::Check(args) => commands::check::run(&args),
        Command::Serve(args) => commands::serve::run(&args),
        Command::Call(args) => commands::call::run(&args),
        Command::Sim(args) => commands::sim::run(&args),
        Command::Log(args) => commands::log::run(&args),
        Command::Show(args) => commands::show::run(&args),
        Command::Prices(args) => commands::prices::run(&args),
        Command::Alerts(args) => commands::alerts::run(&args),
        Command::Erase(args) => commands::erase::run(&args),
        Command::Keys(args) => commands::keys::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Completions { shell } => {
            // Not straight to stdout: the generator panics where nobody reads to the end.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "backstay", &mut script);
            render::completions(&script)?;
            Ok(Exit::Ok)
        }
    }
}

/// Backstay's own log goes to stderr; stdout is for what was asked.
fn start_logging(cli: &Cli) {
    let filter = EnvFilter::try_new(&cli.verbosity).unwrap_or_else(|_| EnvFilter::new("info"));
    let json = matches!(&cli.command, Command::Serve(args) if args.log_format == LogFormat::Json);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would complain on stderr that stderr is closed, and panic over that.
        .log_internal_errors(false);
    if json {
        builder.json().init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init();
    }
}
