//! `GET /api/v1/health` and `GET /api/v1/prices`.

use std::sync::Arc;

use axum::{Json, extract::State};
use backstay_core::price::table::Table;
use backstay_engine::Sink;
use backstay_store::Accounting;

use super::{
    shape::{self, health::Signs},
    types::{
        BoardHealth, Health, LimitsInForce, Otlp, Prices, ProjectHealth, ProjectState, TargetHealth,
    },
};
use crate::{
    desk::{ApiError, ErrorBody},
    otlp::Status,
    state::Server,
};

/// Microseconds in a millisecond.
const MILLI: f64 = 1000.0;
/// The longest text of a broken project's mistakes.
const LONGEST_PROBLEM: usize = 8 << 10;

/// How Backstay itself fares.
#[utoipa::path(
    get, path = "/api/v1/health", operation_id = "health", tag = "read",
    responses(
        (status = 200, description = "Queue, store, targets, breakers", body = Health),
        (status = "4XX", description = "Refused", body = ErrorBody)
    )
)]
pub(super) async fn health(State(server): State<Arc<Server>>) -> Result<Json<Health>, ApiError> {
    let now_ms = server.now_ms();
    let engine = server.engine();
    let told = server.desk().alerts().with(|store| store.receivers()).await?;
    let broken = server.broken();
    let problem = broken.as_deref().map(|why| why.chars().take(LONGEST_PROBLEM).collect());
    let started_ms = server.desk().started_ms();
    Ok(Json(Health {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_ms,
        uptime_ms: now_ms.saturating_sub(started_ms),
        draining: server.draining(),
        summary: summary(&server, now_ms),
        project: ProjectHealth {
            state: if broken.is_some() { ProjectState::Broken } else { ProjectState::Ok },
            problem,
            calls: count(engine.plans().call_names().count()),
        },
        records: books(&server).map(shape::health::records),
        rollups: shape::health::rollups(books(&server).as_ref()),
        alerting: shape::health::alerting(&server.alerts()),
        notifications: shape::alerts::notifications(&server.desk().receivers(), told),
        under_way: count(engine.under_way()),
        limits: LimitsInForce { max_in_flight: count(server.limits().calls) },
        targets: targets(&server, now_ms),
        overhead: shape::quantiles(&server.desk().pulse().overhead_us(), MILLI),
        otlp: otlp(&server),
    }))
}

fn otlp(server: &Server) -> Option<Otlp> {
    let Status { enabled, exported, dropped, last_error } = server.otlp();
    enabled.then_some(Otlp { enabled, exported, dropped, last_error })
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn books(server: &Server) -> Option<Accounting> {
    match server.engine().sink() {
        Sink::Log(recorder) => Some(recorder.accounting()),
        Sink::Memory(_) | Sink::Off => None,
    }
}

fn targets(server: &Server, now_ms: u64) -> Vec<TargetHealth> {
    let engine = server.engine();
    let (states, named) = (engine.targets(), engine.plans().target_names());
    shape::health::targets(&named, states.breakers(), states.congestion(), now_ms)
}

/// All of it in one word, and what is wrong.
pub(super) fn summary(server: &Server, now_ms: u64) -> BoardHealth {
    shape::health::summary(&Signs {
        broken: server.broken().is_some(),
        draining: server.draining(),
        books: books(server).as_ref(),
        alerts: &server.alerts(),
        started_ms: server.desk().started_ms(),
        now_ms,
        targets: &targets(server, now_ms),
    })
}

/// The price table, and what it says of the project's targets.
#[utoipa::path(
    get, path = "/api/v1/prices", operation_id = "prices", tag = "read",
    responses(
        (status = 200, description = "Prices", body = Prices),
        (status = "4XX", description = "Refused", body = ErrorBody)
    )
)]
pub(super) async fn prices(State(server): State<Arc<Server>>) -> Json<Prices> {
    let (plans, now_ms) = (server.engine().plans(), server.now_ms());
    let quotes = plans.target_names().into_iter().filter_map(|name| {
        let quote = plans.quote(&name.parse().ok()?)?;
        Some((name, quote))
    });
    Json(shape::health::prices(Table::vendored(), quotes, now_ms))
}
