//! The command line of `backstay alerts`.
#![expect(clippy::doc_markdown, reason = "the docs are help texts, where backticks are noise")]

use std::{path::PathBuf, time::Duration};

use backstay_core::{alert::Rule, record::CallId};
use clap::{ArgGroup, Args, Subcommand};

use super::duration;

#[derive(Debug, Args)]
pub(crate) struct AlertsArgs {
    #[command(subcommand)]
    pub(crate) action: Option<AlertsAction>,
    /// The project's directory.
    #[arg(long, default_value = ".", value_name = "DIR", global = true)]
    pub(crate) dir: PathBuf,
    /// Prints JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Only alerts of this call.
    #[arg(long)]
    pub(crate) call: Option<String>,
    /// Only alerts of this rule, such as error_rate.
    #[arg(long, value_parser = rule)]
    pub(crate) rule: Option<Rule>,
    /// Alerts that are over, too, newest first.
    #[arg(long)]
    pub(crate) history: bool,
    /// How many at most.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlertsAction {
    /// Sends a test to the receivers of the project, and says what became of each.
    #[command(
        after_help = "Examples:\n  backstay alerts test\n  backstay alerts test slack-1 pager\n\n\
        Exit code 1 if one of them did not take it. PagerDuty gets an incident that is resolved at once;\n\
        Alertmanager an alert that ends after some minutes."
    )]
    Test {
        /// Only these; all if absent.
        receivers: Vec<String>,
    },
    /// Keeps alerts from being told for a while.
    #[command(after_help = "Examples:\n  \
        backstay alerts silence --call extract-invoice --for 2h --reason \"the provider is down\"\n  \
        backstay alerts silence --rule tokens_out --for 1d --reason \"the new prompt is longer\"\n  \
        backstay alerts silence --all --for 30m --reason \"moving the gateway\"")]
    Silence(SilenceArgs),
    /// Ends a silence.
    #[command(after_help = "Example:\n  backstay alerts unsilence 019abc12")]
    Unsilence {
        /// Its id, or the first characters of it (8 or more).
        id: String,
    },
    /// Lists the silences in force.
    #[command(
        after_help = "Examples:\n  backstay alerts silences\n  backstay alerts silences --json"
    )]
    Silences,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["call", "rule", "all"]))]
pub(crate) struct SilenceArgs {
    /// Only alerts of this call.
    #[arg(long)]
    pub(crate) call: Option<String>,
    /// Only alerts of this rule.
    #[arg(long, value_parser = rule)]
    pub(crate) rule: Option<Rule>,
    /// All alerts.
    #[arg(long, conflicts_with_all = ["call", "rule"])]
    pub(crate) all: bool,
    /// How long: 30m, 2h, 7d; at most 30 days.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) lasts: Duration,
    /// Why; whoever finds the silence has to understand it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

fn rule(text: &str) -> Result<Rule, String> {
    Rule::from_name(text).ok_or_else(|| {
        let names: Vec<_> = Rule::ALL.into_iter().map(Rule::name).collect();
        format!("there is no such rule; there are {}", names.join(", "))
    })
}

/// Whether `text` is the beginning of an id that is long enough to mean one.
pub(crate) fn begins(id: CallId, text: &str) -> bool {
    let (id, text) = (id.to_string().replace('-', ""), text.to_ascii_lowercase().replace('-', ""));
    text.len() >= 8 && id.starts_with(&text)
}
