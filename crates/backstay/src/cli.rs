//! The command line, as typed.
#![expect(clippy::doc_markdown, reason = "the docs are help texts, where backticks are noise")]

mod alerts;
#[cfg(test)]
mod manual;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use backstay_store::Verdict;
use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};

pub(crate) use alerts::{AlertsAction, AlertsArgs, SilenceArgs, begins};

/// The engineering layer between an application and its model providers.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Exit codes: 0 ok, 1 fault, 2 usage, 3 unreachable server.\n\n\
        Start with `backstay demo`, or with `backstay init my-project`."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// How much of its own doings Backstay tells on stderr: error, warn, info, debug, or a filter.
    #[arg(
        long,
        global = true,
        env = "BACKSTAY_LOG",
        default_value = "info",
        hide_env = true,
        value_parser = verbosity
    )]
    pub(crate) verbosity: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the gateway at work: simulated providers that fail, and what their callers get.
    #[command(after_help = "Examples:\n  backstay demo\n  backstay demo --once --json")]
    Demo(DemoArgs),
    /// Writes a project that runs at once, against the simulated provider.
    #[command(after_help = "Examples:\n  backstay init\n  backstay init my-project")]
    Init(DirArgs),
    /// Finds every mistake in a project's files at once.
    #[command(after_help = "Examples:\n  backstay check\n  backstay check my-project --json\n  \
        backstay check --secrets      also fails where a secret is not set")]
    Check(CheckArgs),
    /// Runs the gateway.
    #[command(
        after_help = "Examples:\n  backstay serve\n  backstay serve my-project --listen 127.0.0.1:4800\n\n\
        SIGTERM or Ctrl-C drains: calls under way are finished, within server.drain."
    )]
    Serve(ServeArgs),
    /// Sends one call to a running gateway.
    #[command(after_help = "Examples:\n  backstay call hello --input name=Ada\n  \
        backstay call extract-invoice --inputs invoice.json --json")]
    Call(CallArgs),
    /// Runs the simulated provider as a server of its own, for tests of applications.
    #[command(after_help = "Examples:\n  backstay sim --listen 127.0.0.1:4999\n  \
        backstay sim --list           names every fault\n  \
        curl http://127.0.0.1:4999/v1/chat/completions --json \\\n    \
        '{\"model\":\"empty-content\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}'")]
    Sim(SimArgs),
    /// Lists calls, newest first.
    #[command(
        after_help = "Examples:\n  backstay log\n  backstay log --call extract-invoice --outcome schema\n  \
        backstay log --failed --since 1h --json\n  backstay log --verdict useless --since 1d\n  \
        backstay log --follow"
    )]
    Log(LogArgs),
    /// Shows one call: its attempts, what was wrong, what was answered and why.
    #[command(
        after_help = "Examples:\n  backstay show 019abc12\n  backstay show chatcmpl-8f2… --json"
    )]
    Show(ShowArgs),
    /// Shows what the targets of a project cost, and what to write where that is not known.
    #[command(after_help = "Examples:\n  backstay prices\n  backstay prices --check           \
        fails where a target has no known price\n  backstay prices gpt-5-mini openai/gpt-5\n\n\
        Exit codes: 0 ok, 1 mistakes in the project, or with --check a target without a known price.")]
    Prices(PricesArgs),
    /// Shows what is wrong now, tests who is told, and silences alerts.
    #[command(
        after_help = "Examples:\n  backstay alerts\n  backstay alerts --history --call extract-invoice\n  \
        backstay alerts test\n  \
        backstay alerts silence --call extract-invoice --for 2h --reason \"the provider is down\""
    )]
    Alerts(AlertsArgs),
    /// Takes everything of one unit out of the call log, for good.
    #[command(after_help = "Examples:\n  backstay erase --unit user-17 --dry-run\n  \
        backstay erase --unit user-17 --yes --json\n\n\
        Works while the gateway runs. Sums over calls stay: they name nobody.")]
    Erase(EraseArgs),
    /// Makes, lists and revokes the API keys of a gateway.
    #[command(after_help = "Examples:\n  backstay keys create ci\n  backstay keys list --json\n  \
        backstay keys revoke ci")]
    Keys(KeysArgs),
    /// Makes files for Prometheus and Grafana, from the calls and budgets of a project.
    Export(ExportArgs),
    /// Prints a completion script for a shell.
    #[command(
        after_help = "Example:\n  backstay completions bash > ~/.local/share/bash-completion/completions/backstay"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DirArgs {
    /// The project's directory.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) project: DirArgs,
    /// Also looks whether every secret is there.
    #[arg(long)]
    pub(crate) secrets: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The project's directory.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Where to listen, instead of server.listen.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) listen: Option<SocketAddr>,
    /// Keeps no call log.
    #[arg(long)]
    pub(crate) no_log: bool,
    /// How Backstay writes its own log to stderr.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The gateway.
    #[arg(
        long,
        env = "BACKSTAY_SERVER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:4700",
        value_name = "URL"
    )]
    pub(crate) server: String,
    /// Its key.
    #[arg(long, env = "BACKSTAY_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// The call.
    pub(crate) call: String,
    /// An input as NAME=TEXT; may be repeated.
    #[arg(long = "input", value_name = "NAME=TEXT")]
    pub(crate) inputs: Vec<String>,
    /// All inputs as a JSON object in a file; `-` for standard input.
    #[arg(long = "inputs", value_name = "FILE", conflicts_with = "inputs")]
    pub(crate) file: Option<PathBuf>,
    /// A release instead of the stable one.
    #[arg(long, value_name = "N")]
    pub(crate) release: Option<String>,
    /// What the variant is assigned to.
    #[arg(long)]
    pub(crate) unit: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Prints the whole answer as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:4999", value_name = "ADDR", value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// Lists every fault and ends.
    #[arg(long)]
    pub(crate) list: bool,
    /// Where its random numbers start.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Median time to the first byte of an answer: 300ms.
    #[arg(long, value_parser = duration, default_value = "0ms")]
    pub(crate) latency: Duration,
    /// The time that one answer in a hundred exceeds; the median if absent.
    #[arg(long, value_parser = duration)]
    pub(crate) latency_p99: Option<Duration>,
    /// Speed of the answers; all at once if absent.
    #[arg(long)]
    pub(crate) tokens_per_second: Option<f64>,
    /// A fault and its share of the requests, FAULT=2%; may be repeated.
    #[arg(long = "fault", value_name = "FAULT=SHARE")]
    pub(crate) faults: Vec<String>,
    /// Prints JSON (with --list).
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own on the command line"
)]
pub(crate) struct LogArgs {
    /// The project's directory.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Only this call.
    #[arg(long)]
    pub(crate) call: Option<String>,
    /// Only this release, `extract-invoice@7`.
    #[arg(long)]
    pub(crate) release: Option<String>,
    /// Only this outcome: ok, repaired, or a failure class such as timeout or timeout_headers.
    #[arg(long)]
    pub(crate) outcome: Option<String>,
    /// Only calls that asked this target.
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// Only calls of this unit, as the application names it or as the log does.
    #[arg(long)]
    pub(crate) unit: Option<String>,
    /// Only failed calls, degraded ones included.
    #[arg(long)]
    pub(crate) failed: bool,
    /// Only degraded calls.
    #[arg(long)]
    pub(crate) degraded: bool,
    /// Only calls of which their consumer said this last, unheard if nothing yet; not with --follow,
    /// for it is said after the call.
    #[arg(long, value_parser = verdicts(), conflicts_with = "follow")]
    pub(crate) verdict: Option<Verdict>,
    /// Only the last while: 15m, 1h, 2d.
    #[arg(long, value_parser = duration)]
    pub(crate) since: Option<Duration>,
    /// How many at most.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
    /// Goes on with new calls as they are stored.
    #[arg(long)]
    pub(crate) follow: bool,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The call's id, its first characters (8 or more), or the provider's id of the answer.
    pub(crate) id: String,
    /// The project's directory.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PricesArgs {
    /// Targets (provider/model) or models to look up, instead of the project's targets.
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Fails where a price is not known.
    #[arg(long)]
    pub(crate) check: bool,
    /// The project's directory.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EraseArgs {
    /// The unit, as the application names it or as the log does.
    #[arg(long)]
    pub(crate) unit: String,
    /// The project's directory.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Shows what would go, and erases nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Does not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) action: KeysAction,
    /// The project's directory.
    #[arg(long, default_value = ".", value_name = "DIR", global = true)]
    pub(crate) dir: PathBuf,
    /// Prints JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysAction {
    /// Makes a key and shows it, this one time.
    Create {
        /// What people call it.
        name: String,
    },
    /// Lists all keys, revoked ones included.
    List,
    /// Revokes a key, by its id or its name. Running gateways notice within a second.
    Revoke {
        /// Its id or name.
        key: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    pub(crate) kind: ExportKind,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExportKind {
    /// Recording and alerting rules, and a scrape configuration.
    #[command(after_help = "Examples:\n  backstay export prometheus --out /etc/prometheus\n  \
        backstay export prometheus my-project --file backstay-rules.yml | promtool check rules")]
    Prometheus(ExportFiles),
    /// A dashboard, and the files that provision it with its data source.
    #[command(after_help = "Examples:\n  backstay export grafana --out grafana\n  \
        backstay export grafana my-project --file dashboards/backstay.json > dashboard.json")]
    Grafana(ExportFiles),
}

#[derive(Debug, Args)]
pub(crate) struct ExportFiles {
    /// The project's directory.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Writes the files below this directory, over older ones, instead of showing them.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Only this file, and nothing but its content.
    #[arg(long, value_name = "NAME")]
    pub(crate) file: Option<String>,
    /// Prints JSON: one object a file, or with --out the list of files.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where the gateway listens.
    #[arg(long, default_value = "127.0.0.1:4700", value_name = "ADDR", value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// Ends after the tour instead of leaving the gateway running.
    #[arg(long)]
    pub(crate) once: bool,
    /// Prints one JSON object a scene.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A filter of Backstay's own log; a wrong one would otherwise hide what is looked for.
fn verbosity(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(why) => Err(format!("{why}; write a level such as debug, or backstay_engine=debug")),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:4800".to_owned())
}

/// A verdict of a consumer by its name.
fn verdicts() -> impl TypedValueParser<Value = Verdict> {
    PossibleValuesParser::new(Verdict::ALL.map(Verdict::name))
        .try_map(|name| Verdict::named(&name).ok_or("there is no such verdict"))
}

/// A duration as the project files write it.
fn duration(text: &str) -> Result<Duration, String> {
    backstay_core::config::units::Time::try_from(text.to_owned())
        .map(|time| time.0)
        .map_err(|why| format!("{why}; write a number with a unit, such as 15m"))
}
