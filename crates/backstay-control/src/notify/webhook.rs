//! The generic webhook: the body that Alertmanager itself posts (version 4), so that everything that
//! understands Alertmanager understands Backstay.

use serde_json::{Value, json};

use super::wording::{Message, NO_TIME, rfc3339};

/// The body of a notification.
pub(super) fn body(message: &Message<'_>) -> Value {
    let (labels, annotations) = (message.labels(), message.annotations());
    let group: serde_json::Map<_, _> = labels
        .iter()
        .filter(|(name, _)| ["alertname", "call"].contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let ended = message.alert.resolved_ms.filter(|_| message.resolved());
    json!({
        "version": "4",
        "groupKey": group_key(&group),
        "truncatedAlerts": 0,
        "status": message.status(),
        "receiver": message.receiver,
        "groupLabels": group,
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": message.base,
        "alerts": [{
            "status": message.status(),
            "labels": labels,
            "annotations": annotations,
            "startsAt": rfc3339(message.alert.started_ms),
            "endsAt": ended.map_or_else(|| NO_TIME.to_owned(), rfc3339),
            "generatorURL": message.link(),
            "fingerprint": fingerprint(&labels),
        }],
    })
}

/// The group as Alertmanager writes it: the (here empty) route, then the labels.
fn group_key(group: &serde_json::Map<String, Value>) -> String {
    let labels: Vec<_> = group.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{{}}:{{{}}}", labels.join(", "))
}

/// Sixteen hexadecimal digits that are the same for the same labels.
fn fingerprint(labels: &serde_json::Map<String, Value>) -> String {
    let mut sorted: Vec<_> = labels.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    // FNV-1a, as Prometheus has it: name, 255, value, 255.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let parts = sorted
        .into_iter()
        .flat_map(|(name, value)| [name.as_str(), value.as_str().unwrap_or_default()]);
    for part in parts {
        for byte in part.bytes().chain([255]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
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
        let text = serde_json::to_string_pretty(&body(&message(&firing, Event::Firing))).unwrap();
        assert_complete(&text);
        insta::assert_snapshot!("webhook_firing", text);
        let over =
            Alert { stage: Stage::Resolved, resolved_ms: Some(NOON + 90_000), ..firing.clone() };
        let resolved = body(&message(&over, Event::Resolved));
        insta::assert_snapshot!(
            "webhook_resolved",
            serde_json::to_string_pretty(&resolved).unwrap()
        );
        let first = body(&message(&firing, Event::Firing));
        assert_eq!(first["alerts"][0]["fingerprint"], resolved["alerts"][0]["fingerprint"]);
        assert_eq!(first["groupKey"], resolved["groupKey"]);
    }

    /// `{alertname="a"}`, worked out by hand from the definition of FNV-1a.
    #[test]
    fn fingerprints() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(n, v)| ((*n).to_owned(), Value::from(*v))).collect()
        };
        let empty = fingerprint(&labels(&[]));
        assert_eq!(empty, "cbf29ce484222325");
        let one = fingerprint(&labels(&[("a", "b"), ("c", "d")]));
        assert_eq!(one, fingerprint(&labels(&[("c", "d"), ("a", "b")])));
        assert_ne!(one, fingerprint(&labels(&[("a", "bc"), ("", "d")])));
    }
}
