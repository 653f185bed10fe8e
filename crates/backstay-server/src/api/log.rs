//! `GET /api/v1/log` and `GET /api/v1/log/{id}`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use backstay_core::record::{CallId, Outcome};
use backstay_store::{CallRow, Filter, Lookup, RecordReader, StoreError, StoredCall, Verdict};
use http::Uri;
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    query, shape,
    types::{LogEntry, LogPage},
};
use crate::{
    desk::{ApiError, ErrorBody, LogStore},
    state::Server,
};

const PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;
/// The longest name or id that is looked for.
const LONGEST: usize = 256;
/// The most outcomes that are asked for at once.
const MOST_OUTCOMES: usize = 20;
const DAY_MS: u64 = 86_400_000;
/// How far back a page looks at most, from where it begins.
const FARTHEST_DAYS: u64 = 400;
/// How long a page is searched for; then it is told as far as it has come.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LogQuery {
    /// The call.
    call: Option<String>,
    /// The release: `extract-invoice@7`.
    release: Option<String>,
    /// A target that was attempted: `provider/model`.
    target: Option<String>,
    /// How the calls ended: `ok`, `timeout` (all its phases), `timeout_headers`; several with commas.
    outcome: Option<String>,
    /// Only calls that failed, whatever was answered in place.
    failed: Option<bool>,
    /// Only calls that were answered with something else than a model's answer.
    degraded: Option<bool>,
    /// What the consumer of the answer said last: `useful`, `useless`, or `unheard` if nothing was said.
    verdict: Option<String>,
    /// What the variant was assigned to.
    unit: Option<String>,
    /// Started at or after this.
    since_ms: Option<u64>,
    /// Started before this.
    until_ms: Option<u64>,
    /// Older than the call with this id: the `next` of the page before.
    before: Option<String>,
    /// At most so many rows, 1 to 200; 50 if left out.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// One call: its id, the first eight or more characters of it, or the provider's id of the answer.
    q: Option<String>,
}

/// The call log, newest first. A page may hold fewer rows than asked for and still have a `next`.
#[utoipa::path(
    get, path = "/api/v1/log", operation_id = "log", tag = "read", params(LogQuery),
    responses(
        (status = 200, description = "A page of the log", body = LogPage),
        (status = "4XX", description = "Refused", body = ErrorBody)
    )
)]
pub(super) async fn log(
    State(server): State<Arc<Server>>,
    uri: Uri,
) -> Result<Json<LogPage>, ApiError> {
    let asked: LogQuery = query::read(&uri)?;
    asked.check_lengths()?;
    let now_ms = server.now_ms();
    if let Some(id) = asked.q.clone().filter(|q| !q.is_empty()) {
        return server.desk().reads().log(move |log| one(log, &id)).await.map(Json);
    }
    let (filter, limit) = asked.filter(now_ms)?;
    let by = Instant::now() + PATIENCE;
    let question =
        move |log: &dyn LogStore| Ok(search(log, filter, limit, || Instant::now() < by)?);
    server.desk().reads().log(question).await.map(Json)
}

/// One whole call, by its id, the first eight or more characters of it, or the provider's id of the
/// answer.
#[utoipa::path(
    get, path = "/api/v1/log/{id}", operation_id = "log_entry", tag = "read",
    params(("id" = String, Path, description = "The id of the call, or its beginning")),
    responses(
        (status = 200, description = "The call", body = LogEntry),
        (status = 404, description = "There is no such call", body = ErrorBody),
        (status = 409, description = "Several ids begin like this; `ids` names them",
         body = ErrorBody),
        (status = "4XX", description = "Refused", body = ErrorBody)
    )
)]
pub(super) async fn entry(
    State(server): State<Arc<Server>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<LogEntry>, ApiError> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    short("id", &id)?;
    let question = move |log: &dyn LogStore| match log.call(&id)? {
        Lookup::Found(stored) => Ok(shape::log::entry(*stored)),
        Lookup::Missing => Err(ApiError::missing(
            "id",
            "the log holds no such call: look at the id, or its retention has passed",
        )),
        Lookup::Ambiguous(ids) => Err(ApiError::ambiguous(&ids)),
    };
    server.desk().reads().log(question).await.map(Json)
}

fn short(param: &str, text: &str) -> Result<(), ApiError> {
    if text.len() > LONGEST {
        return Err(ApiError::bad(param, format!("`{param}` has more than {LONGEST} bytes")));
    }
    Ok(())
}

impl LogQuery {
    fn check_lengths(&self) -> Result<(), ApiError> {
        let texts = [
            ("release", &self.release),
            ("target", &self.target),
            ("unit", &self.unit),
            ("q", &self.q),
        ];
        texts
            .into_iter()
            .try_for_each(|(param, text)| text.as_deref().map_or(Ok(()), |text| short(param, text)))
    }

    /// What is asked for, and how many rows of it at once.
    fn filter(self, now_ms: u64) -> Result<(Filter, usize), ApiError> {
        self.call.as_deref().map(query::call_name).transpose()?;
        let limit = query::limit(self.limit, PAGE, LARGEST_PAGE)?;
        let before: Option<CallId> =
            self.before.as_deref().map(str::parse).transpose().map_err(|_| {
                ApiError::bad("before", "`before` has to be the `next` of the page before")
            })?;
        let newest = self.until_ms.unwrap_or(now_ms.saturating_add(DAY_MS));
        let newest = before.map_or(newest, |id| newest.min(id.unix_millis().saturating_add(1)));
        let oldest = self.since_ms.unwrap_or(0);
        if self.until_ms.is_some_and(|until| until <= oldest) {
            return Err(ApiError::bad("since_ms", "`since_ms` has to be before `until_ms`"));
        }
        let filter = Filter {
            call: self.call,
            release: self.release,
            target: self.target,
            units: self.unit.into_iter().collect(),
            outcomes: self.outcome.as_deref().map_or(Ok(Vec::new()), outcomes)?,
            failures_only: self.failed == Some(true),
            degraded_only: self.degraded == Some(true),
            verdict: self.verdict.as_deref().map(verdict).transpose()?,
            since_ms: Some(oldest.max(newest.saturating_sub(FARTHEST_DAYS * DAY_MS))),
            until_ms: Some(newest),
            before,
            after: None,
            limit,
        };
        Ok((filter, limit))
    }
}

fn outcomes(names: &str) -> Result<Vec<Outcome>, ApiError> {
    let mut all = Vec::new();
    for (place, name) in names.split(',').map(str::trim).enumerate() {
        let found = Filter::outcomes_named(name);
        if found.is_empty() || place >= MOST_OUTCOMES {
            return Err(ApiError::bad(
                "outcome",
                "`outcome` has to be `ok`, `repaired`, or a failure class such as `timeout` or \
                 `timeout_headers`; several with commas between them",
            ));
        }
        all.extend(found);
    }
    Ok(all)
}

fn verdict(name: &str) -> Result<Verdict, ApiError> {
    Verdict::named(name).ok_or_else(|| {
        ApiError::bad("verdict", "`verdict` has to be `useful`, `useless` or `unheard`")
    })
}

/// One call, or the few that its beginning fits.
fn one(log: &dyn LogStore, id: &str) -> Result<LogPage, ApiError> {
    let row = |stored: StoredCall| shape::log::entry(stored).row;
    let rows = match log.call(id)? {
        Lookup::Found(stored) => vec![row(*stored)],
        Lookup::Missing => Vec::new(),
        Lookup::Ambiguous(ids) => {
            let mut rows = Vec::new();
            for id in ids {
                if let Lookup::Found(stored) = log.call(&id.to_string())? {
                    rows.push(row(*stored));
                }
            }
            rows
        }
    };
    Ok(LogPage { rows, next: None })
}

/// Searches day by day, newest first, while there is time.
fn search<Log: RecordReader + ?Sized>(
    log: &Log,
    mut filter: Filter,
    limit: usize,
    in_time: impl Fn() -> bool,
) -> Result<LogPage, StoreError> {
    let mut found: Vec<CallRow> = Vec::new();
    let (oldest, mut until) = (filter.since_ms.unwrap_or(0), filter.until_ms.unwrap_or(u64::MAX));
    while found.len() < limit && until > oldest {
        if !in_time() {
            // Everything from `until` on has been looked at.
            let next = CallId::new(Duration::from_millis(until), [0; 10]);
            return Ok(page(found, Some(next)));
        }
        let day = (until - 1) - (until - 1) % DAY_MS;
        filter.since_ms = Some(day.max(oldest));
        filter.until_ms = Some(until);
        filter.limit = limit - found.len();
        found.extend(log.calls(&filter)?);
        until = day.max(oldest);
    }
    let next = found.last().filter(|_| found.len() >= limit).map(|last| last.id);
    Ok(page(found, next))
}

fn page(found: Vec<CallRow>, next: Option<CallId>) -> LogPage {
    LogPage {
        rows: found.into_iter().map(shape::log::row).collect(),
        next: next.map(|id| id.to_string()),
    }
}
