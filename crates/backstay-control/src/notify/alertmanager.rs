//! Prometheus Alertmanager, by its API v2. It forgets an alert whose end has passed, so a firing one is
//! posted again and again with an end a little ahead; grouping, routing and silences are its own.

use std::time::Duration;

use serde_json::{Value, json};

use super::wording::{Message, rfc3339};

/// Below the base address.
pub(super) const PATH: &str = "/api/v2/alerts";

/// The body of a notification. A firing alert ends `lasts` from now unless it is posted again.
pub(super) fn body(message: &Message<'_>, lasts: Duration) -> Value {
    let lasts_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
    let ahead = message.now_ms.saturating_add(lasts_ms);
    let ended = message.alert.resolved_ms.unwrap_or(message.now_ms).min(message.now_ms);
    let ends = if message.resolved() { ended } else { ahead };
    json!([{
        "labels": message.labels(),
        "annotations": message.annotations(),
        "startsAt": rfc3339(message.alert.started_ms),
        "endsAt": rfc3339(ends),
        "generatorURL": message.link(),
    }])
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
        let lasts = Duration::from_secs(240);
        let text = serde_json::to_string_pretty(&body(&message(&firing, Event::Refresh), lasts));
        let text = text.unwrap();
        assert_complete(&text);
        insta::assert_snapshot!("alertmanager_firing", text);
        let over = Alert { stage: Stage::Resolved, resolved_ms: Some(NOON + 9_000), ..firing };
        let resolved = body(&message(&over, Event::Resolved), lasts);
        assert_eq!(resolved[0]["endsAt"], "2026-11-23T12:00:09.000Z");
        assert_eq!(resolved[0]["startsAt"], "2026-11-23T12:00:00.000Z");
    }
}
