//! `GET /api/v1/board`: answered from the sums alone, whatever the log holds.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use backstay_core::rollup::Level;
use backstay_store::{RollupFilter, StoreError};
use bytes::Bytes;
use http::Uri;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    health, json, query,
    shape::board::{self, Configured, Material, Span},
    types::Board,
};
use crate::{
    desk::{ApiError, ErrorBody, LogStore},
    state::Server,
};

const MINUTE_MS: u64 = 60_000;
/// The stretch of the literal error rate, in minutes.
const FIVE: u64 = 5;

/// How far back the board looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub(crate) enum Window {
    /// Five minutes.
    #[serde(rename = "5m")]
    FiveMinutes,
    /// One hour.
    #[default]
    #[serde(rename = "1h")]
    Hour,
    /// A day.
    #[serde(rename = "24h")]
    Day,
    /// A week.
    #[serde(rename = "7d")]
    Week,
}

impl Window {
    /// What it is summed from, how many of those make a step of a sparkline, and how many steps.
    const fn steps(self) -> (Level, u64, u64) {
        match self {
            Self::FiveMinutes => (Level::Minute, 1, 5),
            Self::Hour => (Level::Minute, 1, 60),
            Self::Day => (Level::Hour, 1, 24),
            Self::Week => (Level::Hour, 3, 56),
        }
    }

    /// The steps up to the one under way at `now_ms`.
    fn span(self, now_ms: u64) -> (Level, Span) {
        let (level, merged, steps) = self.steps();
        let step_ms = merged * level.millis();
        let end_ms = level.start(now_ms) + level.millis();
        (level, Span { since_ms: end_ms.saturating_sub(steps * step_ms), step_ms, steps })
    }
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct BoardQuery {
    /// How far back to look; one hour if left out.
    #[param(inline)]
    window: Option<Window>,
}

/// How every call fares.
#[utoipa::path(
    get, path = "/api/v1/board", operation_id = "board", tag = "read", params(BoardQuery),
    responses(
        (status = 200, description = "The board", body = Board),
        (status = "4XX", description = "Refused", body = ErrorBody)
    )
)]
pub(super) async fn board(
    State(server): State<Arc<Server>>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let BoardQuery { window } = query::read(&uri)?;
    let window = window.unwrap_or_default();
    let board = server.desk().fresh().answer(format!("board {window:?}"), make(&server, window));
    Ok(json(board.await?))
}

async fn make(server: &Arc<Server>, window: Window) -> Result<Bytes, ApiError> {
    let at_ms = server.now_ms();
    let (level, span) = window.span(at_ms);
    let (configured, max_error_rate) = configured(server);
    let health = health::summary(server, at_ms);
    let firing = server.desk().alerts().firing();
    let question = move |log: &dyn LogStore| {
        let (window, recent) = sums(log, (level, span), at_ms)?;
        let (firing, _) = firing()?;
        let material = Material {
            at_ms,
            span,
            window: &window,
            recent: &recent,
            configured: &configured,
            max_error_rate,
            firing: &firing,
            health,
        };
        super::encoded(&board::board(material))
    };
    server.desk().reads().sums(question).await
}

type Rollups = Vec<backstay_store::Rollup>;

/// The sums of the window, and those of the last five minutes.
fn sums(
    log: &dyn LogStore,
    (level, span): (Level, Span),
    at_ms: u64,
) -> Result<(Rollups, Rollups), StoreError> {
    let ask = |level, since_ms| {
        let until_ms = u64::MAX;
        log.rollups(&RollupFilter { level, since_ms, until_ms, call: None, release: None })
    };
    let recent_ms = (Level::Minute.start(at_ms) + MINUTE_MS).saturating_sub(FIVE * MINUTE_MS);
    Ok((ask(level, span.since_ms)?, ask(Level::Minute, recent_ms)?))
}

/// The calls of the project, and the error rate that all others are held to.
fn configured(server: &Server) -> (Vec<Configured>, f64) {
    let plans = server.engine().plans();
    let calls = plans.call_names().filter_map(|call| {
        let stable = plans.stable(call)?;
        Some(Configured {
            call: call.to_owned(),
            release: stable.id().map(str::to_owned),
            max_error_rate: stable.spec().budget.max_error_rate,
        })
    });
    (calls.collect(), plans.base().budget.max_error_rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_with_the_step_that_is_under_way() {
        let now = 1_795_435_261_234;
        for (window, long_ms) in [
            (Window::FiveMinutes, 5 * MINUTE_MS),
            (Window::Hour, 60 * MINUTE_MS),
            (Window::Day, 24 * 60 * MINUTE_MS),
            (Window::Week, 7 * 24 * 60 * MINUTE_MS),
        ] {
            let (level, Span { since_ms, step_ms, steps }) = window.span(now);
            assert_eq!((step_ms * steps, since_ms % level.millis()), (long_ms, 0), "{window:?}");
            assert!(steps <= 60);
            let end = since_ms + step_ms * steps;
            assert!(end > now && end - now <= level.millis(), "{window:?}");
        }
    }
}
