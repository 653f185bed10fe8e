//! Alerts, their history, and silences.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, Request, State, rejection::PathRejection},
};
use backstay_core::{
    alert::{Alert, Rule, Silence},
    record::CallId,
};
use backstay_store::alerts::AlertFilter;
use http::{StatusCode, Uri};
use serde::Deserialize;

use super::{
    body, query, shape,
    types::{AlertItem, Alerts, History, NewSilence, SilenceItem, Silences},
};
use crate::{
    auth::Visitor,
    desk::{ApiError, ErrorBody},
    state::Server,
};

/// The longest silence.
const MOST_MINUTES: u64 = 30 * 24 * 60;
/// The longest reason, in characters.
const LONGEST_REASON: usize = 500;
const PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;

#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// Only alerts on this call.
    call: Option<String>,
    /// Only alerts of this rule.
    rule: Option<String>,
    /// Only alerts that started before this: the `next_ms` of the page before.
    before_ms: Option<u64>,
    /// At most so many, 1 to 200; 50 if left out.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// Every rule with its state for each call, and what is firing.
#[utoipa::path(
    get, path = "/api/v1/alerts", operation_id = "alerts", tag = "alerts",
    responses(
        (status = 200, description = "Rules and firing alerts", body = Alerts),
        (status = "4XX", description = "Refused", body = ErrorBody)
    )
)]
pub(super) async fn alerts(State(server): State<Arc<Server>>) -> Result<Json<Alerts>, ApiError> {
    let firing = server.desk().alerts().firing();
    let (mut firing, silences) = server.desk().reads().sums(|_| Ok(firing()?)).await?;
    firing.sort_by_key(|alert: &Alert| std::cmp::Reverse(alert.severity));
    let now_ms = server.now_ms();
    let firing = firing.into_iter().map(|alert| shape::alerts::item(alert, &silences, now_ms));
    Ok(Json(Alerts { rules: shape::alerts::rules(&server.alerts()), firing: firing.collect() }))
}

/// Alerts of the past, newest first.
#[utoipa::path(
    get, path = "/api/v1/alerts/history", operation_id = "alert_history", tag = "alerts",
    params(HistoryQuery),
    responses(
        (status = 200, description = "A page of alerts", body = History),
        (status = "4XX", description = "Refused", body = ErrorBody)
    )
)]
pub(super) async fn history(
    State(server): State<Arc<Server>>,
    uri: Uri,
) -> Result<Json<History>, ApiError> {
    let HistoryQuery { call, rule, before_ms, limit } = query::read(&uri)?;
    call.as_deref().map(query::call_name).transpose()?;
    let rule = rule.as_deref().map(rule_named).transpose()?;
    let limit = query::limit(limit, PAGE, LARGEST_PAGE)?;
    let filter = AlertFilter { call, rule, before_ms, limit, ..AlertFilter::default() };
    let view = server.desk().alerts();
    let (alerts, silences) =
        view.with(move |store| Ok((store.history(&filter)?, store.silences()?))).await?;
    let next_ms = alerts.last().filter(|_| alerts.len() >= limit).map(|last| last.started_ms);
    let now_ms = server.now_ms();
    let alerts = alerts.into_iter().map(|alert| shape::alerts::item(alert, &silences, now_ms));
    Ok(Json(History { alerts: alerts.collect(), next_ms }))
}

/// One alert, however old it is.
#[utoipa::path(
    get, path = "/api/v1/alerts/{id}", operation_id = "alert", tag = "alerts",
    params(("id" = String, Path, description = "The alert's id")),
    responses(
        (status = 200, description = "The alert", body = AlertItem),
        (status = 404, description = "No such alert is kept", body = ErrorBody),
        (status = "4XX", description = "Refused", body = ErrorBody)
    )
)]
pub(super) async fn alert(
    State(server): State<Arc<Server>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<AlertItem>, ApiError> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let id: CallId = id.parse().map_err(|_| {
        ApiError::bad("id", "this is not the id of an alert; GET /api/v1/alerts/history lists them")
    })?;
    let view = server.desk().alerts();
    let (alert, silences) =
        view.with(move |store| Ok((store.alert(id)?, store.silences()?))).await?;
    let alert = alert.ok_or_else(|| {
        let why = "no alert with this id is kept: it was never there, passed before it fired, or is \
                   older than `[log] rollups`";
        ApiError::missing("id", why)
    })?;
    Ok(Json(shape::alerts::item(alert, &silences, server.now_ms())))
}

/// The silences that are in force, and those that ended of late.
#[utoipa::path(
    get, path = "/api/v1/silences", operation_id = "silences", tag = "alerts",
    responses(
        (status = 200, description = "The silences", body = Silences),
        (status = "4XX", description = "Refused", body = ErrorBody)
    )
)]
pub(super) async fn silences(
    State(server): State<Arc<Server>>,
) -> Result<Json<Silences>, ApiError> {
    let silences = server.desk().alerts().with(|store| store.silences()).await?;
    let silences = silences.into_iter().rev().map(shape::alerts::silence);
    Ok(Json(Silences { silences: silences.collect() }))
}

/// Keeps alerts from being told for a while.
#[utoipa::path(
    post, path = "/api/v1/silences", operation_id = "silence_add", tag = "alerts",
    request_body = NewSilence,
    responses(
        (status = 201, description = "The silence", body = SilenceItem),
        (status = "4XX", description = "Refused", body = ErrorBody)
    )
)]
pub(super) async fn silence_add(
    State(server): State<Arc<Server>>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
) -> Result<(StatusCode, Json<SilenceItem>), ApiError> {
    let wanted: NewSilence = body::read(request).await?;
    let (id, by) = (server.engine().new_id(), visitor.name().to_owned());
    let silence = checked(wanted, id, by, server.now_ms())?;
    let kept = silence.clone();
    server.desk().alerts().with(move |store| store.silence_add(&kept)).await?;
    Ok((StatusCode::CREATED, Json(shape::alerts::silence(silence))))
}

/// Ends a silence.
#[utoipa::path(
    delete, path = "/api/v1/silences/{id}", operation_id = "silence_end", tag = "alerts",
    params(("id" = String, Path, description = "The silence's id")),
    responses(
        (status = 204, description = "It is over"),
        (status = 404, description = "There is no such silence in force", body = ErrorBody),
        (status = "4XX", description = "Refused", body = ErrorBody)
    )
)]
pub(super) async fn silence_end(
    State(server): State<Arc<Server>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let id: CallId = id.parse().map_err(|_| {
        ApiError::bad("id", "this is not the id of a silence; GET /api/v1/silences lists them")
    })?;
    let now_ms = server.now_ms();
    let ended = server.desk().alerts().with(move |store| store.silence_end(id, now_ms)).await?;
    match ended {
        Some(_) => Ok(StatusCode::NO_CONTENT),
        None => Err(ApiError::missing("id", "no silence with this id is in force")),
    }
}

fn rule_named(name: &str) -> Result<Rule, ApiError> {
    Rule::from_name(name).ok_or_else(|| {
        let known: Vec<_> = Rule::ALL.into_iter().map(Rule::name).collect();
        ApiError::bad("rule", format!("there is no such rule; there are {}", known.join(", ")))
    })
}

/// The silence that is asked for.
fn checked(
    wanted: NewSilence,
    id: CallId,
    by: String,
    created_ms: u64,
) -> Result<Silence, ApiError> {
    let NewSilence { call, rule, reason, minutes } = wanted;
    call.as_deref().map(query::call_name).transpose()?;
    let rule = rule.as_deref().map(rule_named).transpose()?;
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > LONGEST_REASON {
        return Err(ApiError::bad(
            "reason",
            format!(
                "say why, in at most {LONGEST_REASON} characters: whoever finds the silence \
                     has to understand it"
            ),
        ));
    }
    if !(1..=MOST_MINUTES).contains(&minutes) {
        return Err(ApiError::bad(
            "minutes",
            format!("`minutes` must be 1 to {MOST_MINUTES}, which is 30 days"),
        ));
    }
    Ok(Silence {
        id,
        call,
        rule,
        reason: reason.to_owned(),
        by,
        created_ms,
        expires_ms: created_ms + minutes * 60_000,
    })
}
