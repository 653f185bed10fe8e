//! The words that all formats share: what is said of an alert, and under which names.
//!
//! Pure. What is said comes from the alert, which holds no text of users; it is cut to what the
//! strictest receiver takes.

use std::time::{Duration, UNIX_EPOCH};

use backstay_core::alert::{Alert, Rule, Severity};
use backstay_store::alerts::Event;
use serde_json::{Map, Value};

/// `PagerDuty` takes summaries of at most 1024 characters.
const LONGEST_SENTENCE: usize = 500;
/// A name of Prometheus' world for no time at all: an alert that has not ended.
pub(super) const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// What is said to one receiver of one alert.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// The alert.
    pub alert: &'a Alert,
    /// What is told of it.
    pub event: Event,
    /// The receiver's name.
    pub receiver: &'a str,
    /// Where people reach the dashboard, without a slash at its end.
    pub base: &'a str,
    /// Now, in milliseconds since the epoch.
    pub now_ms: u64,
    /// The same for every attempt to tell this, and for nothing else.
    pub key: String,
    /// Whether nothing is wrong and somebody only tries whether this arrives.
    pub test: bool,
}

impl Message<'_> {
    /// Whether the alert is over.
    pub(super) fn resolved(&self) -> bool {
        match self.event {
            Event::Resolved => true,
            Event::Firing | Event::Renotify | Event::Refresh => false,
        }
    }

    /// `firing` or `resolved`.
    pub(super) fn status(&self) -> &'static str {
        if self.resolved() { "resolved" } else { "firing" }
    }

    /// The page of the alert in the dashboard.
    pub(super) fn link(&self) -> String {
        format!("{}/alerts?id={}", self.base, self.alert.id)
    }

    /// The call, or words for all of Backstay.
    pub(super) fn call(&self) -> &str {
        let call = self.alert.subject.call.as_str();
        if call.is_empty() { "all calls" } else { call }
    }

    /// One line: how urgent, what and where.
    pub(super) fn title(&self) -> String {
        let what = match self.event {
            Event::Firing | Event::Refresh => self.alert.severity.name(),
            Event::Renotify => "still firing",
            Event::Resolved => "resolved",
        };
        let test = if self.test { "TEST, " } else { "" };
        format!("[{test}{what}] {}: {}", self.call(), self.alert.subject.rule.name())
    }

    /// What is wrong, in one sentence.
    pub(super) fn summary(&self) -> String {
        let text = cut(&self.alert.summary);
        if self.test { format!("Test, nothing is wrong: {text}") } else { text }
    }

    /// The figures that made the rule hold.
    pub(super) fn arithmetic(&self) -> String {
        cut(&self.alert.arithmetic)
    }

    /// The release that most bad calls were answered by, or the one that the rule watches.
    fn release(&self) -> Option<&str> {
        self.alert.release.as_deref().or(self.alert.subject.release.as_deref())
    }

    /// Everything that helps to find the cause, by a name for people; what is not known is left out.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let (alert, subject) = (self.alert, &self.alert.subject);
        let samples: Vec<_> = alert.samples.iter().take(3).map(ToString::to_string).collect();
        let known = [
            ("Call", Some(self.call().to_owned())),
            ("Release", self.release().map(cut)),
            ("Variant", alert.variant.map(|variant| variant.name().to_owned())),
            ("Target", subject.target.as_deref().map(cut)),
            ("Concerns", subject.detail.as_deref().map(cut)),
            ("Top failure", alert.top_failure.as_deref().map(cut)),
            ("Figures", Some(self.arithmetic())),
            ("Sample calls", Some(samples.join("\n"))),
            ("Since", Some(rfc3339(alert.started_ms))),
            ("Until", alert.resolved_ms.filter(|_| self.resolved()).map(rfc3339)),
        ];
        let known = known.into_iter().filter_map(|(name, value)| Some((name, value?)));
        known.filter(|(_, value)| !value.is_empty()).collect()
    }

    /// What the alert is known by in Prometheus' world: the same as long as it lasts.
    pub(super) fn labels(&self) -> Map<String, Value> {
        let subject = &self.alert.subject;
        let mut labels = Map::new();
        labels.insert("alertname".to_owned(), alert_name(subject.rule).into());
        labels.insert("rule".to_owned(), subject.rule.name().into());
        labels.insert("severity".to_owned(), self.alert.severity.name().into());
        let known = [
            ("call", Some(&subject.call).filter(|call| !call.is_empty())),
            ("release", subject.release.as_ref()),
            ("target", subject.target.as_ref()),
            ("detail", subject.detail.as_ref()),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                labels.insert(name.to_owned(), cut(value).into());
            }
        }
        if self.test {
            labels.insert("test".to_owned(), "true".into());
        }
        labels
    }

    /// What is said besides, in Prometheus' world.
    pub(super) fn annotations(&self) -> Map<String, Value> {
        let alert = self.alert;
        let samples: Vec<_> = alert.samples.iter().take(3).map(ToString::to_string).collect();
        let known = [
            ("summary", Some(self.summary())),
            ("description", Some(self.arithmetic())),
            ("release", self.release().map(cut)),
            ("variant", alert.variant.map(|variant| variant.name().to_owned())),
            ("top_failure", alert.top_failure.as_deref().map(cut)),
            ("sample_calls", Some(samples.join(" "))),
            ("alert_id", Some(alert.id.to_string())),
            ("link", Some(self.link())),
        ];
        let known = known.into_iter().filter_map(|(name, value)| Some((name, value?)));
        known
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect()
    }
}

/// The name of a rule as alerts are named in Prometheus' world: `BackstayErrorRate`.
fn alert_name(rule: Rule) -> String {
    let mut name = "Backstay".to_owned();
    for word in rule.name().split('_') {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

/// The colour of a message, as six hexadecimal digits.
pub(super) fn colour(message: &Message<'_>) -> &'static str {
    match (message.resolved(), message.alert.severity) {
        (true, _) => "2eb67d",
        (false, Severity::Warn) => "ecb22e",
        (false, Severity::Page) => "e01e5a",
    }
}

/// A moment as `2026-11-23T12:00:00.000Z`.
pub(super) fn rfc3339(millis: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis)).to_string()
}

/// The first part of a text, without line breaks and control characters.
fn cut(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut cut: String = clean.clone().take(LONGEST_SENTENCE).collect();
    if clean.count() > LONGEST_SENTENCE {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
pub(super) mod tests {
    use backstay_core::{
        alert::{Stage, Subject},
        record::{CallId, Variant},
    };

    use super::*;

    /// 2026-11-23, noon.
    pub(crate) const NOON: u64 = 1_795_435_200_000;

    fn id(n: u8) -> CallId {
        CallId::new(Duration::from_millis(NOON), [n; 10])
    }

    /// An alert with every field set.
    pub(crate) fn alert() -> Alert {
        Alert {
            id: id(7),
            subject: Subject {
                rule: Rule::ErrorRate,
                call: "extract-invoice".to_owned(),
                release: Some("extract-invoice@7".to_owned()),
                target: Some("openai/gpt-5-mini".to_owned()),
                detail: Some("parsed".to_owned()),
            },
            severity: Severity::Page,
            stage: Stage::Firing,
            started_ms: NOON,
            fired_ms: Some(NOON + 20_000),
            resolved_ms: None,
            summary: "9 of 100 calls of extract-invoice failed in 5 minutes".to_owned(),
            arithmetic: "9/100 = 9.0 % > 2.0 %; P(≥ 9 | 2 %) = 0.00028 ≤ 0.001".to_owned(),
            value: Some(0.09),
            threshold: Some(0.02),
            release: Some("extract-invoice@7".to_owned()),
            variant: Some(Variant::Stable),
            top_failure: Some("malformed".to_owned()),
            samples: vec![id(1), id(2), id(3)],
        }
    }

    pub(crate) fn message(alert: &Alert, event: Event) -> Message<'_> {
        Message {
            alert,
            event,
            receiver: "ops",
            base: "https://backstay.example.com",
            now_ms: NOON + 25_000,
            key: format!("{}/firing/42", alert.id),
            test: false,
        }
    }

    /// What every format has to carry.
    pub(crate) fn assert_complete(text: &str) {
        let alert = alert();
        let mut wanted = vec![
            "extract-invoice@7".to_owned(),
            "stable".to_owned(),
            "malformed".to_owned(),
            "9/100 = 9.0 %".to_owned(),
            format!("https://backstay.example.com/alerts?id={}", alert.id),
        ];
        wanted.extend(alert.samples.iter().map(ToString::to_string));
        for part in wanted {
            assert!(text.contains(&part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn titles() {
        let mut alert = alert();
        let title = |alert: &Alert, event| message(alert, event).title();
        assert_eq!(title(&alert, Event::Firing), "[page] extract-invoice: error_rate");
        assert_eq!(title(&alert, Event::Renotify), "[still firing] extract-invoice: error_rate");
        assert_eq!(title(&alert, Event::Resolved), "[resolved] extract-invoice: error_rate");
        alert.subject.call.clear();
        let test = Message { test: true, ..message(&alert, Event::Firing) };
        assert_eq!(test.title(), "[TEST, page] all calls: error_rate");
        assert!(test.summary().starts_with("Test, nothing is wrong"));
        assert!(!test.labels().contains_key("call"));
        assert_eq!(test.labels()["test"], "true");
    }

    #[test]
    fn names_of_alerts() {
        assert_eq!(alert_name(Rule::ErrorRate), "BackstayErrorRate");
        assert_eq!(alert_name(Rule::Shed), "BackstayShed");
        assert_eq!(alert_name(Rule::TokensIn), "BackstayTokensIn");
    }

    #[test]
    fn long_and_broken_texts_are_cut() {
        let long = Alert { summary: format!("a\nb{}", "ü".repeat(5000)), ..alert() };
        let summary = message(&long, Event::Firing).summary();
        assert!(summary.starts_with("a bü") && summary.ends_with('…'));
        assert_eq!(summary.chars().count(), LONGEST_SENTENCE + 1);
    }

    #[test]
    fn labels_stay_the_same_while_an_alert_lasts() {
        let (first, mut later) = (alert(), alert());
        later.release = Some("extract-invoice@8".to_owned());
        later.top_failure = None;
        later.samples.clear();
        later.arithmetic = "12/100".to_owned();
        let firing = message(&first, Event::Firing).labels();
        assert_eq!(firing, message(&later, Event::Resolved).labels());
    }
}
