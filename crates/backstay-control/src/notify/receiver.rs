//! The receivers of a project, ready to be told something: filters, formats, and the way there.

use std::{fmt, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use backstay_core::{
    alert::Alert,
    config::{NotifyKind, Project, ReceiverConfig, Setting},
    failure::FailureClass,
};
use backstay_providers::{
    hook,
    transport::{Endpoint, Transport, TransportOptions, Unanswered},
};
use backstay_store::alerts::{Event, Notice};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::{
    Message, alertmanager,
    delivery::{PATIENCE, Pace},
    pagerduty, slack,
    smtp::Mailer,
    webhook,
};
use crate::compile::resolve_secret;

/// Everybody who is told of alerts.
#[derive(Debug, Default)]
pub struct Receivers {
    all: Vec<Arc<Receiver>>,
    base: String,
}

/// One of them.
pub(super) struct Receiver {
    config: ReceiverConfig,
    way: Way,
}

/// How it is reached.
enum Way {
    Http {
        transport: Box<Transport>,
        /// Below the address that the project names.
        path: &'static str,
        format: Format,
    },
    Mail(Box<Mailer>),
    /// Not at all: a secret is missing, or wrong.
    Broken(String),
}

/// What it understands.
enum Format {
    Webhook,
    Alertmanager,
    Slack,
    /// With its integration key.
    Pagerduty(String),
}

/// Why a receiver did not take a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A sentence without secrets.
    pub why: String,
    /// Whether it may have taken it all the same.
    pub maybe_told: bool,
    /// How long it asks to be left alone.
    pub retry_after: Option<Duration>,
    /// Whether it is about this one notification, and others may do better.
    pub only_this: bool,
}

/// Why a test was not sent.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// There is no receiver of that name.
    #[error("there is no receiver `{name}`; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

impl Receivers {
    /// The receivers of `project`, whose files are in `root`; links lead to `listen` unless the project
    /// says where people reach it. The second value says which receivers cannot be reached as they
    /// are: what is to be told to them waits.
    #[must_use]
    pub fn build(root: &Path, project: &Project, listen: SocketAddr) -> (Self, Vec<String>) {
        let base = project.server.url.clone().unwrap_or_else(|| format!("http://{listen}"));
        let mut warnings = Vec::new();
        let all = project.receivers.iter().map(|config| {
            let way = way(root, config).unwrap_or_else(|why| {
                warnings.push(format!("receiver `{}`: {why}", config.name));
                Way::Broken(why)
            });
            Arc::new(Receiver { config: config.clone(), way })
        });
        (Self { all: all.collect(), base }, warnings)
    }

    /// Their names and kinds, in the order of the project.
    pub fn names(&self) -> impl Iterator<Item = (&str, NotifyKind)> {
        self.all.iter().map(|one| (one.config.name.as_str(), one.config.kind))
    }

    /// What is to be put into the outbox when this happens to an alert.
    #[must_use]
    pub fn notices(&self, alert: &Alert, event: Event, due_ms: u64) -> Vec<Notice> {
        let told = self.all.iter().filter(|one| one.config.wants(alert) && one.hears(event));
        let notice = |one: &Arc<Receiver>| Notice {
            alert: alert.id,
            receiver: one.config.name.clone(),
            event,
            due_ms,
        };
        told.map(notice).collect()
    }

    /// Tells `alert`, in which nothing is wrong, to the receiver of that name and says what happened.
    ///
    /// # Errors
    /// When there is no such receiver.
    pub async fn test(
        &self,
        name: &str,
        alert: &Alert,
        now_ms: u64,
    ) -> Result<Result<(), Fault>, TestError> {
        let Some(receiver) = self.all.iter().find(|one| one.config.name == name) else {
            let known: Vec<_> = self.names().map(|(name, _)| format!("`{name}`")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(TestError::Unknown { name: name.to_owned(), known });
        };
        // An incident has to be closed again by whoever opened it.
        let events: &[Event] = match receiver.config.kind {
            NotifyKind::Pagerduty => &[Event::Firing, Event::Resolved],
            NotifyKind::Webhook
            | NotifyKind::Alertmanager
            | NotifyKind::Slack
            | NotifyKind::Smtp => &[Event::Firing],
        };
        for event in events {
            let message = Message {
                alert,
                event: *event,
                receiver: name,
                base: &self.base,
                now_ms,
                key: format!("{}/test/{}", alert.id, event.name()),
                test: true,
            };
            if let Err(fault) = receiver.tell(&message, &Pace::default()).await {
                return Ok(Err(fault));
            }
        }
        Ok(Ok(()))
    }

    pub(super) fn all(&self) -> &[Arc<Receiver>] {
        &self.all
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }
}

impl Receiver {
    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether it forgets an alert that it is not reminded of.
    pub(super) fn forgets(&self) -> bool {
        self.config.kind == NotifyKind::Alertmanager
    }

    fn hears(&self, event: Event) -> bool {
        match event {
            Event::Firing => true,
            // One that is reminded anyway repeats it by itself, as its own config says.
            Event::Renotify => !self.forgets(),
            Event::Refresh => self.forgets(),
            Event::Resolved => self.config.send_resolved,
        }
    }

    /// Tells it something, once.
    pub(super) async fn tell(&self, message: &Message<'_>, pace: &Pace) -> Result<(), Fault> {
        let told = match &self.way {
            Way::Http { transport, path, format } => {
                let body = match format {
                    Format::Webhook => webhook::body(message),
                    Format::Alertmanager => alertmanager::body(message, pace.refresh * 4),
                    Format::Slack => slack::body(message),
                    Format::Pagerduty(key) => pagerduty::body(message, key),
                };
                let headers = idempotency(&message.key);
                let body = Bytes::from(body.to_string());
                hook::post(transport, path, headers, body, &pace.limits()).await
            }
            Way::Mail(mailer) => mailer.send(message).await,
            Way::Broken(why) => {
                return Err(Fault {
                    why: why.clone(),
                    maybe_told: false,
                    retry_after: None,
                    only_this: false,
                });
            }
        };
        told.map_err(fault)
    }
}

/// The key by which a receiver can tell the same notification from another one.
fn idempotency(key: &str) -> Vec<(HeaderName, HeaderValue)> {
    let value = HeaderValue::from_str(key).ok();
    value.map(|value| (HeaderName::from_static("idempotency-key"), value)).into_iter().collect()
}

fn fault(unanswered: Unanswered) -> Fault {
    let Unanswered { failure, maybe_seen } = unanswered;
    let only_this = matches!(failure.class, FailureClass::BadRequest | FailureClass::ContextLength);
    Fault {
        why: failure.message,
        maybe_told: maybe_seen,
        retry_after: failure.retry_after,
        only_this,
    }
}

fn way(root: &Path, config: &ReceiverConfig) -> Result<Way, String> {
    let read = |secret| {
        let found = resolve_secret(root, secret);
        found.map_err(|why| format!("the secret `{secret}` is not there: {why}"))
    };
    let url = match &config.url {
        Some(Setting::Plain(url)) => url.clone(),
        Some(Setting::Secret(secret)) => read(secret)?,
        None => pagerduty::ADDRESS.to_owned(),
    };
    let wrong = |why: String| format!("its `url` {why}");
    let format = match config.kind {
        NotifyKind::Webhook => Format::Webhook,
        NotifyKind::Alertmanager => Format::Alertmanager,
        NotifyKind::Slack => Format::Slack,
        NotifyKind::Pagerduty => Format::Pagerduty(
            config.routing_key.as_ref().map(read).transpose()?.unwrap_or_default(),
        ),
        NotifyKind::Smtp => {
            let from = config.from.as_deref().unwrap_or_default();
            let mailer = Mailer::new(&url, from, &config.to, PATIENCE);
            return Ok(Way::Mail(Box::new(mailer.map_err(wrong)?)));
        }
    };
    let endpoint = Endpoint::parse(&url).map_err(wrong)?;
    let options = TransportOptions {
        allow_private_network: config.allow_private_network,
        ca_file: config.ca_file.as_ref().map(|path| root.join(path)),
        max_idle: 2,
        ..TransportOptions::default()
    };
    let path = match &format {
        Format::Alertmanager => alertmanager::PATH,
        Format::Webhook | Format::Slack | Format::Pagerduty(_) => slash(&url),
    };
    Ok(Way::Http { transport: Box::new(Transport::new(endpoint, options)), path, format })
}

/// What the transport takes off the end of an address, which may matter to a receiver.
fn slash(url: &str) -> &'static str {
    let address = url.split('?').next().unwrap_or_default();
    let after_scheme = address.split_once("://").map_or(address, |(_, rest)| rest);
    if address.ends_with('/') || !after_scheme.contains('/') { "/" } else { "" }
}

/// Shows neither address nor key.
impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("name", &self.config.name).finish_non_exhaustive()
    }
}
