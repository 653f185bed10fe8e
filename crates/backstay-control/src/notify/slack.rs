//! Slack's incoming webhooks, which Mattermost and others take too: a text for notifications, and an
//! attachment with a colour and the figures.

use serde_json::{Value, json};

use super::wording::{Message, colour};

/// The body of a notification.
pub(super) fn body(message: &Message<'_>) -> Value {
    let fields: Vec<_> = message
        .facts()
        .into_iter()
        .map(|(title, value)| {
            // Long ones have a line of their own.
            let short = value.chars().count() <= 32 && !value.contains('\n');
            json!({ "title": title, "value": escaped(&value), "short": short })
        })
        .collect();
    let (title, summary) = (message.title(), message.summary());
    json!({
        // What is shown where attachments are not: on a lock screen, or by a screen reader.
        "text": escaped(&format!("{title}\n{summary}")),
        "attachments": [{
            "fallback": escaped(&format!("{title}: {summary} {}", message.link())),
            "color": format!("#{}", colour(message)),
            "title": "Open in Backstay",
            "title_link": message.link(),
            "fields": fields,
        }],
    })
}

/// Slack's three control characters.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use backstay_core::alert::{Alert, Severity, Stage};
    use backstay_store::alerts::Event;

    use super::super::wording::tests::{NOON, alert, assert_complete, message};
    use super::*;

    #[test]
    fn bodies() {
        let firing = alert();
        let text = serde_json::to_string_pretty(&body(&message(&firing, Event::Firing))).unwrap();
        assert_complete(&text);
        insta::assert_snapshot!("slack_firing", text);
        let over =
            Alert { stage: Stage::Resolved, resolved_ms: Some(NOON + 90_000), ..firing.clone() };
        let resolved = body(&message(&over, Event::Resolved));
        insta::assert_snapshot!("slack_resolved", serde_json::to_string_pretty(&resolved).unwrap());
        let warning = Alert { severity: Severity::Warn, ..firing };
        let warned = body(&message(&warning, Event::Firing));
        assert_eq!(warned["attachments"][0]["color"], "#ecb22e");
    }

    /// A name must not make a link or call somebody.
    #[test]
    fn control_characters_are_escaped() {
        let odd = Alert { summary: "a <!channel> & <http://x|y>".to_owned(), ..alert() };
        let text = body(&message(&odd, Event::Firing))["text"].as_str().unwrap().to_owned();
        assert!(text.contains("a &lt;!channel&gt; &amp; &lt;http://x|y&gt;"), "{text}");
    }
}
