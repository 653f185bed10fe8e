//! `GET /api/v1/calls/{call}`: answered from the sums alone, whatever the log holds.

use std::sync::Arc;

use axum::{
    extract::{Path, State, rejection::PathRejection},
    response::Response,
};
use backstay_control::alerts::Policy;
use backstay_core::{
    alert::Rule,
    rollup::{Level, OTHER},
};
use backstay_engine::plan::Plans;
use backstay_store::RollupFilter;
use bytes::Bytes;
use http::Uri;
use serde::Deserialize;

use super::{
    json, query,
    shape::call::{self, Material, Stretch},
    types::{CallPage, CallSettings},
};
use crate::{
    desk::{ApiError, ErrorBody, LogStore},
    state::Server,
};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// The longest time that a page shows.
const LONGEST_MS: u64 = 400 * DAY_MS;
/// The longest name of a release or a target.
const LONGEST_NAME: usize = 256;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CallQuery {
    /// Where the page begins; 24 hours before its end if left out.
    since_ms: Option<u64>,
    /// Where it ends; now if left out.
    until_ms: Option<u64>,
    /// Only calls that this release answered: `extract-invoice@7`.
    release: Option<String>,
    /// Only calls whose last attempt went to this target: `provider/model`.
    target: Option<String>,
}

/// One call over a stretch of time of at most 400 days.
#[utoipa::path(
    get, path = "/api/v1/calls/{call}", operation_id = "call_page", tag = "read",
    params(("call" = String, Path, description = "The call's name"), CallQuery),
    responses(
        (status = 200, description = "The call", body = CallPage),
        (status = 404, description = "No such call in project and log", body = ErrorBody),
        (status = "4XX", description = "Refused", body = ErrorBody)
    )
)]
pub(super) async fn call_page(
    State(server): State<Arc<Server>>,
    call: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let call = call.map(|Path(call)| call).unwrap_or_default();
    query::call_name(&call)?;
    let asked: CallQuery = query::read(&uri)?;
    for (param, name) in [("release", &asked.release), ("target", &asked.target)] {
        if name.as_ref().is_some_and(|name| name.len() > LONGEST_NAME) {
            return Err(ApiError::bad(param, format!("it has more than {LONGEST_NAME} bytes")));
        }
    }
    let now_ms = server.now_ms();
    let stretch = stretch(&asked, now_ms)?;
    let CallQuery { release, target, .. } = &asked;
    let key = format!("call {call} {stretch:?} {release:?} {target:?}");
    let page = server.desk().fresh().answer(key, make(&server, (call, asked), stretch));
    Ok(json(page.await?))
}

/// The time that is asked for.
fn stretch(asked: &CallQuery, now_ms: u64) -> Result<Stretch, ApiError> {
    let until_ms = asked.until_ms.map_or(now_ms, |until| until.min(now_ms + DAY_MS));
    let since_ms = asked.since_ms.unwrap_or(until_ms.saturating_sub(DAY_MS));
    if since_ms >= until_ms {
        return Err(ApiError::bad(
            "since_ms",
            "`since_ms` has to be before `until_ms`, and before now; both are milliseconds since \
             1970",
        ));
    }
    if until_ms - since_ms > LONGEST_MS {
        return Err(ApiError::bad(
            "since_ms",
            "a page shows at most 400 days; send a later `since_ms` or an earlier `until_ms`",
        ));
    }
    // Those who ask for "until now" within one step of the clock share an answer.
    let clock_ms = if until_ms - since_ms <= 6 * HOUR_MS { 1_000 } else { 60_000 };
    let since_ms = since_ms.next_multiple_of(clock_ms);
    let until_ms = until_ms.next_multiple_of(clock_ms).max(since_ms + clock_ms);
    Ok(Stretch::of(since_ms, until_ms))
}

async fn make(
    server: &Arc<Server>,
    (call, asked): (String, CallQuery),
    stretch: Stretch,
) -> Result<Bytes, ApiError> {
    let (plans, policies) = (server.engine().plans(), server.policies());
    let tokens = server.tokens();
    let question = move |log: &dyn LogStore| {
        let ask = |level, since_ms, until_ms| {
            let (call, release) = (Some(call.clone()), asked.release.clone());
            log.rollups(&RollupFilter { level, since_ms, until_ms, call, release })
        };
        let window = ask(stretch.level, stretch.since_ms, stretch.until_ms)?;
        let (configured, settings) = settings(&plans, &call, policies.of(&call));
        let known = configured.is_some() || call == OTHER;
        if !known && window.is_empty() && !was_called(log, &call)? {
            return Err(ApiError::missing("call", unknown(&plans)));
        }
        // What is usual is so for a release: that which is asked for, or the one that answers now.
        let release = asked.release.as_deref().or(configured.flatten()).unwrap_or_default();
        let usual = tokens.get(&call).and_then(|known| known.get(release)).copied();
        let usual = usual.unwrap_or_default();
        super::encoded(&call::page(Material {
            call: &call,
            configured,
            settings,
            stretch,
            window: &window,
            usual,
            target: asked.target.as_deref(),
        }))
    };
    server.desk().reads().sums(question).await
}

/// Whether the sums know the call at all.
fn was_called(log: &dyn LogStore, call: &str) -> Result<bool, ApiError> {
    let (since_ms, until_ms) = (0, u64::MAX);
    let call = Some(call.to_owned());
    let all = RollupFilter { level: Level::Day, since_ms, until_ms, call, release: None };
    Ok(!log.rollups(&all)?.is_empty())
}

/// The release that answers now, if the project has the call, and what the project says.
fn settings<'a>(
    plans: &'a Plans,
    call: &str,
    policy: &Policy,
) -> (Option<Option<&'a str>>, CallSettings) {
    let stable = plans.stable(call);
    let spec = stable.map_or(plans.base(), |stable| stable.spec());
    let deadline_ms = u64::try_from(spec.budget.deadline.as_millis()).unwrap_or(u64::MAX);
    let watched = !policy.alerts.off.contains(&Rule::LatencyBudget);
    let settings = CallSettings {
        max_error_rate: spec.budget.max_error_rate,
        deadline_ms,
        route: spec.route.iter().map(ToString::to_string).collect(),
        latency_p95_ms: watched.then(|| policy.latency_p95().as_secs_f64() * 1000.0),
    };
    (stable.map(|stable| stable.id()), settings)
}

fn unknown(plans: &Plans) -> String {
    let known: Vec<&str> = plans.call_names().take(20).collect();
    format!(
        "neither the project nor the log has such a call; the project has {}",
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_until_now_at_about_the_same_time_asks_the_same() {
        let of = |now: u64, length| {
            let asked = CallQuery { since_ms: Some(now - length), ..CallQuery::default() };
            stretch(&CallQuery { until_ms: Some(now), ..asked }, now).unwrap()
        };
        let now = 1_795_435_261_001;
        for (length, apart, level) in [
            (HOUR_MS, 999, Level::Minute),
            (6 * HOUR_MS, 999, Level::Minute),
            (DAY_MS, 58_999, Level::Hour),
            (30 * DAY_MS, 58_999, Level::Hour),
        ] {
            assert_eq!(of(now, length), of(now + apart, length), "{length}");
            assert_eq!(of(now, length).level, level);
        }
        let short = of(now, 1);
        assert!(short.since_ms < short.until_ms && short.until_ms >= now, "{short:?}");
    }

    #[test]
    fn a_page_begins_before_it_ends_and_is_not_too_long() {
        let now = 1_795_435_261_234;
        let of = |since_ms, until_ms| {
            stretch(&CallQuery { since_ms, until_ms, ..CallQuery::default() }, now)
        };
        let usual = of(None, None).unwrap();
        let minute = now.next_multiple_of(60_000);
        assert_eq!((usual.until_ms, usual.level), (minute, Level::Hour));
        assert_eq!(of(None, Some(u64::MAX)).unwrap().until_ms, minute + DAY_MS);
        assert_eq!(of(Some(now - LONGEST_MS), None).unwrap().level, Level::Day);
        for (since, until) in [
            (Some(now), None),
            (Some(now + 1), Some(now)),
            (Some(u64::MAX), None),
            (Some(0), None),
            (Some(now - LONGEST_MS - 1), None),
            (None, Some(0)),
        ] {
            assert!(of(since, until).is_err(), "{since:?} to {until:?}");
        }
    }
}
