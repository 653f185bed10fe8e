//! What is typed of a receiver: the keys of `[[alerts.notify]]`. The comments here are read by users.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::words;
use crate::{alert::Severity, config::units::SecretRef};

/// The kind of a place that alerts are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotifyKind {
    /// A POST of JSON in the shape of Alertmanager's own webhooks.
    Webhook,
    /// Prometheus Alertmanager.
    Alertmanager,
    /// A Slack webhook, or what understands the same messages.
    Slack,
    /// `PagerDuty` events.
    Pagerduty,
    /// Mail.
    Smtp,
}

impl NotifyKind {
    /// The kind in one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Alertmanager => "alertmanager",
            Self::Slack => "slack",
            Self::Pagerduty => "pagerduty",
            Self::Smtp => "smtp",
        }
    }
}

/// A place that alerts are sent to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyFile {
    /// What is there: `webhook` gets JSON in the shape of Alertmanager's own webhooks, `slack` is an
    /// incoming webhook, `pagerduty` gets events (v2), `smtp` is mail.
    #[schemars(schema_with = "notify_kinds")]
    pub kind: NotifyKind,
    /// What people call it, unique; the kind and its place in the list if absent: `slack-1`.
    #[serde(default)]
    pub name: Option<String>,
    /// Its address, or a secret reference to it. All kinds but `pagerduty` need it. `alertmanager`: the
    /// base address, such as `http://127.0.0.1:9093`. `smtp`: `smtps://host`, or `smtp://host:25`; with
    /// a user name and password only as a secret reference.
    #[serde(default)]
    pub url: Option<String>,
    /// `pagerduty`: the integration key.
    #[serde(default)]
    pub routing_key: Option<SecretRef>,
    /// `smtp`: the sender.
    #[serde(default)]
    pub from: Option<String>,
    /// `smtp`: the receivers.
    #[serde(default)]
    pub to: Vec<String>,
    /// What is less urgent is not sent here.
    #[serde(default = "warn")]
    #[schemars(schema_with = "severities")]
    pub min_severity: Severity,
    /// Only alerts of these calls are sent here, and those that concern all of Backstay. All if empty.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub calls: Vec<String>,
    /// Only alerts of these rules are sent here, such as `error_rate`. All if empty.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub rules: Vec<String>,
    /// Tell the end of an alert to those that were told of it.
    #[serde(default = "yes")]
    pub send_resolved: bool,
    /// Let the name in `url` lead into a private network. An address, or `localhost`, needs no
    /// permission.
    #[serde(default)]
    pub allow_private_network: bool,
    /// PEM file of private certificate authorities, trusted besides the public ones.
    #[serde(default)]
    pub ca_file: Option<String>,
}

const fn warn() -> Severity {
    Severity::Warn
}

const fn yes() -> bool {
    true
}

fn severities(_: &mut SchemaGenerator) -> Schema {
    words(&["warn", "page"])
}

fn notify_kinds(_: &mut SchemaGenerator) -> Schema {
    words(&["webhook", "alertmanager", "slack", "pagerduty", "smtp"])
}
