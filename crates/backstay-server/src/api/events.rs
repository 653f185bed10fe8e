//! `GET /api/v1/events`: one ticker looks once a second for all clients.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use backstay_core::{
    alert::{Alert, Severity, Silence, Stage},
    record::CallId,
};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http_body::Frame;
use serde::Serialize;
use tokio::{sync::mpsc, time::interval};

use super::{shape, types::Tick};
use crate::{
    auth::Visitor,
    desk::{ApiError, ErrorBody, sessions::Ticket},
    state::Server,
};

/// How often the ticker looks.
const LOOK: Duration = Duration::from_secs(1);
/// After so many looks without a message a comment keeps the connection.
const HEARTBEAT: u32 = 15;
/// Alerts that are compared from one look to the next.
const MOST_ALERTS: usize = 100;

/// What of an alert makes a difference to those who listen.
type Known = HashMap<CallId, (Stage, Severity)>;

/// Looks once a second for what has happened.
pub(crate) async fn run(server: Arc<Server>) {
    let mut looks = interval(LOOK);
    let (mut seen, mut quiet) = (server.desk().pulse().seen(), 0);
    let mut known = None;
    loop {
        looks.tick().await;
        let hub = server.desk().events();
        if hub.is_empty() {
            // Nobody is told what happened while nobody listened.
            known = None;
            continue;
        }
        let mut message = changed_alerts(&server, &mut known).await;
        let now = server.desk().pulse().seen();
        if now != seen {
            seen = now;
            message.push_str(&event("tick", &Tick { at_ms: server.now_ms(), seq: now }));
        }
        quiet = if message.is_empty() { quiet + 1 } else { 0 };
        if quiet >= HEARTBEAT {
            quiet = 0;
            message.push_str(":\n\n");
        }
        let (keys, sessions, now_ms) = (server.keys(), server.desk().sessions(), server.now_ms());
        let message = Some(message).filter(|message| !message.is_empty()).map(Bytes::from);
        hub.send(message.as_ref(), |visitor, ticket| {
            keys.still_admits(visitor)
                && ticket.is_none_or(|ticket| sessions.is_open(ticket, now_ms))
        });
    }
}

/// An event for each alert that is not what it was at the last look; none at the first.
async fn changed_alerts(server: &Arc<Server>, known: &mut Option<Known>) -> String {
    match server.desk().alerts().latest(MOST_ALERTS).await {
        Ok((alerts, silences)) => events_of(alerts, &silences, known, server.now_ms()),
        Err(_) => String::new(), // its cause is in the server's log; the next look tells it
    }
}

/// `alerts` are the newest first; they are told in the order in which they began.
fn events_of(
    alerts: Vec<Alert>,
    silences: &[Silence],
    known: &mut Option<Known>,
    now_ms: u64,
) -> String {
    let now = alerts.iter().map(|alert| (alert.id, (alert.stage, alert.severity))).collect();
    let Some(before) = known.replace(now) else { return String::new() };
    let is_news = |alert: &Alert| before.get(&alert.id) != Some(&(alert.stage, alert.severity));
    let news = alerts.into_iter().rev().filter(is_news);
    news.map(|alert| event("alert", &shape::alerts::item(alert, silences, now_ms))).collect()
}

fn event(name: &str, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n")
}

/// A stream that ends when its sender is dropped.
#[derive(Debug)]
struct Live(mpsc::Receiver<Bytes>);

impl http_body::Body for Live {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|message| message.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// What happens, as server-sent events: `tick` (data: `Tick`) at most once a second while calls
/// arrive, `alert` (data: `AlertItem`) whenever one starts, fires or is over. A comment every 15
/// seconds keeps the connection.
#[utoipa::path(
    get, path = "/api/v1/events", operation_id = "events", tag = "read",
    responses(
        (status = 200, description = "The events", body = String,
         content_type = "text/event-stream"),
        (status = 503, description = "200 streams are open already", body = ErrorBody),
        (status = "4XX", description = "Refused", body = ErrorBody)
    )
)]
pub(super) async fn events(
    State(server): State<Arc<Server>>,
    Extension(visitor): Extension<Visitor>,
    ticket: Option<Extension<Ticket>>,
) -> Result<Response, ApiError> {
    let ticket = ticket.map(|Extension(ticket)| ticket);
    let messages = server.desk().events().join(visitor, ticket)?;
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::new(Live(messages))).into_response())
}

#[cfg(test)]
mod tests {
    use backstay_core::alert::{Rule, Subject};

    use super::*;

    fn alert(n: u8, stage: Stage) -> Alert {
        Alert {
            id: CallId::new(Duration::from_millis(n.into()), [n; 10]),
            subject: Subject {
                rule: Rule::ErrorRate,
                call: "chat".into(),
                release: None,
                target: None,
                detail: None,
            },
            severity: Severity::Warn,
            stage,
            started_ms: n.into(),
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
    fn an_alert_is_told_whenever_it_is_not_what_it_was() {
        let mut known = None;
        let mut look = |alerts: Vec<Alert>| {
            let told = events_of(alerts, &[], &mut known, 0);
            let data = told.lines().filter_map(|line| line.strip_prefix("data: "));
            let items: Vec<serde_json::Value> =
                data.map(|item| serde_json::from_str(item).unwrap()).collect();
            items.iter().map(|i| (i["started_ms"].clone(), i["state"].clone())).collect::<Vec<_>>()
        };
        let told = |n: u8, state: &str| (n.into(), state.into());
        assert_eq!(look(vec![alert(1, Stage::Firing)]), [], "the page was asked for just now");
        assert_eq!(look(vec![alert(1, Stage::Firing)]), []);
        let more =
            vec![alert(3, Stage::Pending), alert(2, Stage::Pending), alert(1, Stage::Resolved)];
        let expected = [told(1, "resolved"), told(2, "pending"), told(3, "pending")];
        assert_eq!(look(more.clone()), expected, "in the order in which they began");
        assert_eq!(look(more), []);
    }
}
