//! `PagerDuty`, by its Events API v2. One alert is one incident, known by its deduplication key.

use backstay_core::alert::Severity;
use serde_json::{Map, Value, json};

use super::wording::{Message, rfc3339};

/// Where events go unless the project says otherwise.
pub(super) const ADDRESS: &str = "https://events.pagerduty.com/v2/enqueue";

/// The body of an event.
pub(super) fn body(message: &Message<'_>, routing_key: &str) -> Value {
    let severity = match (message.test, message.alert.severity) {
        (true, _) => "info",
        (false, Severity::Warn) => "warning",
        (false, Severity::Page) => "critical",
    };
    let details: Map<_, _> =
        message.facts().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    json!({
        "routing_key": routing_key,
        "event_action": if message.resolved() { "resolve" } else { "trigger" },
        "dedup_key": format!("backstay/{}", message.alert.id),
        "payload": {
            "summary": format!("{}: {}", message.title(), message.summary()),
            "source": message.base,
            "severity": severity,
            "timestamp": rfc3339(message.alert.started_ms),
            "component": message.call(),
            "group": "backstay",
            "class": message.alert.subject.rule.name(),
            "custom_details": details,
        },
        "client": "Backstay",
        "client_url": message.link(),
        "links": [{ "href": message.link(), "text": "Open in Backstay" }],
    })
}

#[cfg(test)]
mod tests {
    use backstay_core::alert::{Alert, Stage};
    use backstay_store::alerts::Event;

    use super::super::wording::tests::{NOON, alert, assert_complete, message};
    use super::*;

    #[test]
    fn bodies() {
        let firing = alert();
        let first = body(&message(&firing, Event::Firing), "R0UT1NG");
        let text = serde_json::to_string_pretty(&first).unwrap();
        assert_complete(&text);
        insta::assert_snapshot!("pagerduty_trigger", text);
        assert!(first["dedup_key"].as_str().unwrap().len() <= 255);
        let over = Alert { stage: Stage::Resolved, resolved_ms: Some(NOON + 90_000), ..firing };
        let last = body(&message(&over, Event::Resolved), "R0UT1NG");
        assert_eq!(
            (&last["event_action"], &last["dedup_key"]),
            (&"resolve".into(), &first["dedup_key"])
        );
        let test = Message { test: true, ..message(&over, Event::Firing) };
        assert_eq!(body(&test, "R0UT1NG")["payload"]["severity"], "info");
    }

    #[test]
    fn summaries_are_never_too_long() {
        let long = Alert { summary: "ü".repeat(5000), ..alert() };
        let event = body(&message(&long, Event::Firing), "R0UT1NG");
        assert!(event["payload"]["summary"].as_str().unwrap().chars().count() <= 1024);
    }
}
