//! Who is told of alerts: the receivers of `[[alerts.notify]]` after their rules were checked.
//!
//! Addresses and keys are references still, or were typed; whoever sends resolves them.

use std::path::PathBuf;

use super::{
    file::{NotifyFile, NotifyKind},
    mistake::{nearest, one_of},
    project::Setting,
    rules::{Rules, names_private_host, url_fault},
    units::SecretRef,
};
use crate::alert::{Alert, Rule, Severity};

/// More receivers than this are a mistake: each one has a task of its own.
const MOST: usize = 50;
/// A mail goes to at most so many people.
const MOST_PEOPLE: usize = 50;

/// A place that alerts are sent to.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceiverConfig {
    /// What people and the outbox call it; unique.
    pub name: String,
    /// What is there.
    pub kind: NotifyKind,
    /// Its address; `pagerduty` has one by itself.
    pub url: Option<Setting>,
    /// The integration key of `pagerduty`.
    pub routing_key: Option<SecretRef>,
    /// The sender of a mail,
    pub from: Option<String>,
    /// and who gets it.
    pub to: Vec<String>,
    /// What is less urgent is not sent here.
    pub min_severity: Severity,
    /// Only alerts of these calls are sent here; all if there are none.
    pub calls: Vec<String>,
    /// Only alerts of these rules are sent here; all if there are none.
    pub rules: Vec<Rule>,
    /// Whether the end of an alert is told.
    pub send_resolved: bool,
    /// Whether its name may lead to a private address.
    pub allow_private_network: bool,
    /// Certificate authorities to trust, absolute or relative to the project.
    pub ca_file: Option<PathBuf>,
}

impl ReceiverConfig {
    /// Whether this alert is sent here. What concerns all of Backstay is, whatever `calls` says.
    #[must_use]
    pub fn wants(&self, alert: &Alert) -> bool {
        let (call, rule) = (&alert.subject.call, alert.subject.rule);
        alert.severity >= self.min_severity
            && (self.calls.is_empty() || call.is_empty() || self.calls.contains(call))
            && (self.rules.is_empty() || self.rules.contains(&rule))
    }
}

/// Checks all receivers of a project.
pub(super) fn check(files: Vec<NotifyFile>, rules: &mut Rules<'_>) -> Vec<ReceiverConfig> {
    if files.len() > MOST {
        let remedy = "send to a channel, or let Alertmanager pass alerts on";
        rules.say(&["alerts", "notify"], format!("these are more than {MOST} receivers"), remedy);
    }
    let mut receivers: Vec<ReceiverConfig> = Vec::new();
    for (index, file) in files.into_iter().take(MOST).enumerate() {
        let at = index.to_string();
        let receiver = one(file, index, rules);
        if receivers.iter().any(|known| known.name == receiver.name) {
            let reason = format!("another receiver is named `{}`", receiver.name);
            rules.say(&["alerts", "notify", &at, "name"], reason, "give each one its own name");
        }
        receivers.push(receiver);
    }
    receivers
}

fn one(file: NotifyFile, index: usize, rules: &mut Rules<'_>) -> ReceiverConfig {
    let at = index.to_string();
    let at = |key: &'static str| ["alerts".to_owned(), "notify".to_owned(), at.clone(), key.into()];
    let mut say = |key: &'static str, reason: String, remedy: &str| {
        let path = at(key);
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        rules.say(&path, reason, remedy);
    };
    let name = file.name.clone().unwrap_or_else(|| format!("{}-{}", file.kind.name(), index + 1));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
        let remedy = "use letters, digits, - and _, at most 63 of them";
        say("name", "this is not the name of a receiver".to_owned(), remedy);
    }
    for (key, reason, remedy) in missing(&file).into_iter().chain(misplaced(&file)) {
        say(key, reason.to_owned(), remedy);
    }
    if let Some((key, reason, remedy)) = address_fault(&file) {
        say(key, reason.to_owned(), remedy);
    }
    if file.to.len() > MOST_PEOPLE {
        let remedy = "write to a mailing list";
        say("to", format!("these are more than {MOST_PEOPLE} people"), remedy);
    }
    for (key, address) in
        file.from.iter().map(|one| ("from", one)).chain(file.to.iter().map(|one| ("to", one)))
    {
        if !is_mail_address(address) {
            let remedy = "write name@example.com, or \"Name <name@example.com>\"";
            say(key, format!("`{address}` is not a mail address"), remedy);
        }
    }
    let mut known = Vec::new();
    for word in &file.rules {
        let names = || Rule::ALL.into_iter().map(Rule::name);
        match (Rule::from_name(word), nearest(word, names())) {
            (Some(rule), _) => known.push(rule),
            (None, Some(near)) => {
                say("rules", format!("there is no rule `{word}`"), &format!("write \"{near}\""));
            }
            (None, None) => {
                let remedy = format!("write {}", one_of(names()));
                say("rules", format!("there is no rule `{word}`"), &remedy);
            }
        }
    }
    let private = file.url.as_deref().is_some_and(names_private_host);
    ReceiverConfig {
        name,
        kind: file.kind,
        url: file.url.as_deref().map(Setting::read),
        routing_key: file.routing_key,
        from: file.from,
        to: file.to,
        min_severity: file.min_severity,
        calls: file.calls,
        rules: known,
        send_resolved: file.send_resolved,
        allow_private_network: file.allow_private_network || private,
        ca_file: file.ca_file.map(Into::into),
    }
}

/// Whether this has the form of an address, with a name before it or without one.
fn is_mail_address(text: &str) -> bool {
    let address = match text.split_once('<') {
        Some((_, rest)) => rest.strip_suffix('>').unwrap_or_default(),
        None => text,
    };
    let plain = |c: char| c.is_ascii_graphic() && !"<>,;\"".contains(c);
    let parts = address.split_once('@');
    text.len() <= 320
        && !text.chars().any(char::is_control)
        && address.chars().all(plain)
        && parts
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'))
}

type Finding = (&'static str, &'static str, &'static str);

/// Keys that this kind needs and that are not there.
fn missing(file: &NotifyFile) -> Vec<Finding> {
    let mut found = Vec::new();
    match file.kind {
        NotifyKind::Pagerduty if file.routing_key.is_none() => found.push((
            "routing_key",
            "the key `routing_key` is missing",
            "add routing_key = \"env:PAGERDUTY_KEY\"",
        )),
        NotifyKind::Smtp if file.url.is_none() => found.push((
            "url",
            "the key `url` is missing",
            "add url = \"env:SMTP_URL\", which holds smtps://USER:PASSWORD@HOST",
        )),
        NotifyKind::Webhook | NotifyKind::Alertmanager | NotifyKind::Slack
            if file.url.is_none() =>
        {
            found.push(("url", "the key `url` is missing", "add url = \"env:ALERT_URL\""));
        }
        NotifyKind::Webhook
        | NotifyKind::Alertmanager
        | NotifyKind::Slack
        | NotifyKind::Pagerduty
        | NotifyKind::Smtp => {}
    }
    if file.kind == NotifyKind::Smtp && (file.from.is_none() || file.to.is_empty()) {
        let remedy = "add from = \"…\" and to = [\"…\"]";
        found.push(("to", "mail needs a sender and receivers", remedy));
    }
    found
}

/// Keys that were typed for another kind.
fn misplaced(file: &NotifyFile) -> Vec<Finding> {
    let remedy = "leave it out, or change `kind`";
    let mut found = Vec::new();
    if file.kind != NotifyKind::Pagerduty && file.routing_key.is_some() {
        found.push(("routing_key", "only `pagerduty` has this key", remedy));
    }
    if file.kind != NotifyKind::Smtp && file.from.is_some() {
        found.push(("from", "only `smtp` has this key", remedy));
    }
    if file.kind != NotifyKind::Smtp && !file.to.is_empty() {
        found.push(("to", "only `smtp` has this key", remedy));
    }
    if file.kind == NotifyKind::Smtp && file.allow_private_network {
        let reason = "a mail server may be anywhere";
        found.push(("allow_private_network", reason, "leave it out"));
    }
    if file.kind == NotifyKind::Smtp && file.ca_file.is_some() {
        let reason = "mail trusts the machine's own certificate authorities";
        found.push(("ca_file", reason, "add the authority to those of the machine"));
    }
    found
}

/// What is wrong with an address that was typed. The text of a reference is checked where it is
/// resolved.
fn address_fault(file: &NotifyFile) -> Option<Finding> {
    let url = file.url.as_deref().filter(|url| SecretRef::parse(url).is_err())?;
    if file.kind != NotifyKind::Smtp {
        if let Some(fault) = url_fault(url) {
            return Some(("url", fault, "write an address or \"env:NAME\""));
        }
        // Whoever knows the address can write to the channel.
        let secret = file.kind == NotifyKind::Slack && !names_private_host(url);
        let remedy = "put it into an environment variable, and write \"env:NAME\"";
        return secret.then_some(("url", "the address of a Slack webhook is a secret", remedy));
    }
    let rest = url.strip_prefix("smtp://").or_else(|| url.strip_prefix("smtps://"));
    match rest {
        None => Some((
            "url",
            "this is not an address that begins with smtp:// or smtps://",
            "write \"smtps://host\", \"smtp://host:25\", or \"env:NAME\"",
        )),
        Some(rest) if rest.contains('@') => Some((
            "url",
            "a user name or password stands in this address",
            "put the whole address into an environment variable, and write \"env:NAME\"",
        )),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        alert::{Stage, Subject},
        record::CallId,
    };

    fn alert(call: &str, rule: Rule, severity: Severity) -> Alert {
        let subject =
            Subject { rule, call: call.to_owned(), release: None, target: None, detail: None };
        Alert {
            id: CallId::new(std::time::Duration::ZERO, [0; 10]),
            subject,
            severity,
            stage: Stage::Firing,
            started_ms: 0,
            fired_ms: None,
            resolved_ms: None,
            summary: String::new(),
            arithmetic: String::new(),
            value: None,
            threshold: None,
            release: None,
            variant: None,
            top_failure: None,
            samples: Vec::new(),
        }
    }

    #[test]
    fn mail_addresses() {
        for good in ["a@b", "Backstay <backstay@example.com>", "ops+alerts@mail.example.com"] {
            assert!(is_mail_address(good), "{good}");
        }
        for bad in ["", "a", "@b", "a@", "a@b@c", "a b@c", "A <a@b", "a@b, c@d", "a@b\r\nBcc: c@d"]
        {
            assert!(!is_mail_address(bad), "{bad}");
        }
    }

    #[test]
    fn a_receiver_gets_what_it_asked_for() {
        let all = ReceiverConfig {
            name: "slack-1".to_owned(),
            kind: NotifyKind::Slack,
            url: None,
            routing_key: None,
            from: None,
            to: Vec::new(),
            min_severity: Severity::Warn,
            calls: Vec::new(),
            rules: Vec::new(),
            send_resolved: true,
            allow_private_network: false,
            ca_file: None,
        };
        let warning = alert("a", Rule::ErrorRate, Severity::Warn);
        let page = alert("a", Rule::ErrorRate, Severity::Page);
        let shed = alert("", Rule::Shed, Severity::Page);
        assert!([&warning, &page, &shed].into_iter().all(|one| all.wants(one)));
        let pages = ReceiverConfig { min_severity: Severity::Page, ..all.clone() };
        assert_eq!([&warning, &page, &shed].map(|one| pages.wants(one)), [false, true, true]);
        let others = ReceiverConfig { calls: vec!["b".to_owned()], ..all.clone() };
        assert_eq!([&warning, &page, &shed].map(|one| others.wants(one)), [false, false, true]);
        let rates = ReceiverConfig { rules: vec![Rule::ErrorRate], ..all };
        assert_eq!([&warning, &page, &shed].map(|one| rates.wants(one)), [true, true, false]);
    }
}
