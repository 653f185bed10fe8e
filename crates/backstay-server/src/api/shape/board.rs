//! The board: one row a call, those in trouble first.

use std::collections::{BTreeMap, BTreeSet};

use backstay_core::alert::{Alert, Severity};
use backstay_store::Rollup;

use super::{
    figures::{MILLI, float, quantiles},
    tally::Tally,
};
use crate::api::types::{
    Board, BoardCall, BoardHealth, BoardTotals, FiveMinutes, FiveState, Light, SparkPoint,
};

/// With fewer calls nothing is said of a rate.
const LEAST_CALLS: u64 = 5;

/// A stretch of time in equal steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) struct Span {
    /// Where it begins.
    pub(in crate::api) since_ms: u64,
    /// How long a step is.
    pub(in crate::api) step_ms: u64,
    /// How many there are.
    pub(in crate::api) steps: u64,
}

impl Span {
    fn starts(self) -> impl Iterator<Item = u64> {
        (0..self.steps).map(move |step| self.since_ms + step * self.step_ms)
    }

    /// The start of the step that holds `at_ms`.
    fn start_of(self, at_ms: u64) -> Option<u64> {
        let step = at_ms.checked_sub(self.since_ms)? / self.step_ms.max(1);
        (step < self.steps).then(|| self.since_ms + step * self.step_ms)
    }
}

/// A call of the project.
#[derive(Clone, Debug)]
pub(in crate::api) struct Configured {
    /// Its name.
    pub(in crate::api) call: String,
    /// The release that answers now.
    pub(in crate::api) release: Option<String>,
    /// What its budget allows.
    pub(in crate::api) max_error_rate: f64,
}

/// What a board is made of.
#[derive(Debug)]
pub(in crate::api) struct Material<'a> {
    /// Now.
    pub(in crate::api) at_ms: u64,
    /// The window in the steps of the sparklines.
    pub(in crate::api) span: Span,
    /// The sums of the window.
    pub(in crate::api) window: &'a [Rollup],
    /// The sums of the last five minutes.
    pub(in crate::api) recent: &'a [Rollup],
    /// The calls of the project.
    pub(in crate::api) configured: &'a [Configured],
    /// What the budget of all other calls allows.
    pub(in crate::api) max_error_rate: f64,
    /// What is firing.
    pub(in crate::api) firing: &'a [Alert],
    /// How Backstay itself fares.
    pub(in crate::api) health: BoardHealth,
}

#[derive(Debug, Default)]
struct Row {
    window: Tally,
    recent: Tally,
    releases: BTreeSet<String>,
    spark: BTreeMap<u64, SparkPoint>,
}

/// Puts the board together.
pub(in crate::api) fn board(material: Material<'_>) -> Board {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for configured in material.configured {
        rows.entry(&configured.call).or_default();
    }
    for rollup in material.window {
        take(rows.entry(&rollup.key.call).or_default(), rollup, material.span);
    }
    for Rollup { key, cell, .. } in material.recent {
        rows.entry(&key.call).or_default().recent.add(key.outcome, cell);
    }
    let totals = totals(rows.values());
    let mut calls: Vec<BoardCall> =
        rows.into_iter().map(|(call, row)| line(call, &row, &material)).collect();
    // The sort is stable: within the same urgency they stay in the order of their names.
    calls.sort_by_key(|call| match call.state {
        Light::Page => 0,
        Light::Warn => 1,
        Light::Ok | Light::Insufficient | Light::NoTraffic => 2,
    });
    Board {
        at_ms: material.at_ms,
        since_ms: material.span.since_ms,
        window_ms: material.span.step_ms * material.span.steps,
        calls,
        totals,
        health: material.health,
    }
}

fn take(row: &mut Row, rollup: &Rollup, span: Span) {
    let Rollup { start_ms, key, cell } = rollup;
    row.window.add(key.outcome, cell);
    if let Some(release) = &key.release
        && !row.releases.contains(release)
    {
        row.releases.insert(release.clone());
    }
    if let Some(start_ms) = span.start_of(*start_ms) {
        let point = row.spark.entry(start_ms).or_default();
        point.calls += cell.calls;
        if key.outcome.is_error() {
            point.errors += cell.calls;
        }
    }
}

fn totals<'a>(rows: impl Iterator<Item = &'a Row>) -> BoardTotals {
    let mut totals =
        BoardTotals { calls: 0, errors: 0, neutral: 0, cost_usd: None, unpriced: 0, free: 0 };
    for Row { window, .. } in rows {
        totals.calls += window.cell.calls;
        totals.errors += window.errors;
        totals.neutral += window.ladder.neutral;
        totals.unpriced += window.cell.unpriced;
        totals.free += window.cell.free;
        if let Some(cost) = window.cost_usd() {
            totals.cost_usd = Some(totals.cost_usd.unwrap_or_default() + cost);
        }
    }
    totals
}

fn line(call: &str, row: &Row, material: &Material<'_>) -> BoardCall {
    let configured = material.configured.iter().find(|known| known.call == call);
    let max_error_rate = configured.map_or(material.max_error_rate, |known| known.max_error_rate);
    let Row { window, recent, releases, spark } = row;
    let cell = &window.cell;
    let firing = material.firing.iter().filter(|alert| alert.subject.call == call);
    let mut alerts: Vec<&'static str> =
        firing.clone().map(|alert| alert.subject.rule.name()).collect();
    alerts.sort_unstable();
    alerts.dedup();
    let cost_usd = window.cost_usd();
    let all_priced = cost_usd.filter(|_| cell.unpriced == 0 && window.succeeded() > 0);
    BoardCall {
        call: call.to_owned(),
        configured: configured.is_some(),
        state: light(window, firing.map(|alert| alert.severity).max()),
        alerts: alerts.into_iter().map(str::to_owned).collect(),
        release: configured.and_then(|known| known.release.clone()),
        releases: releases.iter().cloned().collect(),
        calls: cell.calls,
        errors: window.errors,
        neutral: window.ladder.neutral,
        error_rate: window.error_rate(),
        max_error_rate,
        budget_left: budget_left(window, max_error_rate),
        five_minutes: five_minutes(recent, max_error_rate),
        latency: quantiles(&cell.latency_us, MILLI),
        first_token: quantiles(&cell.first_token_us, MILLI),
        tokens_in: quantiles(&cell.input_tokens, 1.0),
        tokens_out: quantiles(&cell.output_tokens, 1.0),
        cost_usd,
        unpriced: cell.unpriced,
        free: cell.free,
        cost_per_ok_usd: all_priced.map(|cost| cost / float(window.succeeded())),
        degraded: window.degraded(),
        coverage: window.ladder.coverage(),
        useful: cell.useful,
        useless: cell.useless,
        top_failure: window.top_failure().map(str::to_owned),
        spark: material
            .span
            .starts()
            .map(|start_ms| SparkPoint {
                start_ms,
                ..spark.get(&start_ms).copied().unwrap_or_default()
            })
            .collect(),
    }
}

fn light(window: &Tally, worst: Option<Severity>) -> Light {
    match worst {
        Some(Severity::Page) => Light::Page,
        Some(Severity::Warn) => Light::Warn,
        None if window.cell.calls == 0 => Light::NoTraffic,
        None if window.counted() < LEAST_CALLS => Light::Insufficient,
        None => Light::Ok,
    }
}

fn budget_left(window: &Tally, max_error_rate: f64) -> Option<f64> {
    let allowed = max_error_rate * float(window.counted());
    (allowed > 0.0).then(|| 1.0 - float(window.errors) / allowed)
}

fn five_minutes(recent: &Tally, max_error_rate: f64) -> FiveMinutes {
    let error_rate = recent.error_rate();
    let state = match error_rate {
        Some(rate) if recent.counted() >= LEAST_CALLS => {
            if rate > max_error_rate {
                FiveState::Over
            } else {
                FiveState::Ok
            }
        }
        Some(_) | None => FiveState::Insufficient,
    };
    FiveMinutes { calls: recent.cell.calls, errors: recent.errors, error_rate, state }
}

#[cfg(test)]
mod tests {
    use backstay_core::{
        alert::{Rule, Stage, Subject},
        failure::FailureClass,
        record::{CallId, Outcome, Variant},
        rollup::{Cell, Key},
    };

    use super::*;
    use crate::api::types::HealthState;

    const SPAN: Span = Span { since_ms: 60_000, step_ms: 60_000, steps: 5 };

    fn rollup(call: &str, start_ms: u64, outcome: Outcome, calls: u64) -> Rollup {
        let key = Key {
            call: call.into(),
            release: Some(format!("{call}@1")),
            variant: Variant::Stable,
            target: None,
            outcome,
        };
        Rollup { start_ms, key, cell: Cell { calls, ..Cell::default() } }
    }

    fn told(window: &[Rollup], recent: &[Rollup], firing: &[Alert]) -> Board {
        let configured = ["idle", "read", "write"].map(|call| Configured {
            call: call.into(),
            release: Some(format!("{call}@2")),
            max_error_rate: 0.02,
        });
        board(Material {
            at_ms: 300_000,
            span: SPAN,
            window,
            recent,
            configured: &configured,
            max_error_rate: 0.1,
            firing,
            health: BoardHealth { state: HealthState::Ok, problems: Vec::new() },
        })
    }

    fn firing(call: &str, severity: Severity) -> Alert {
        let id = CallId::new(Default::default(), [0; 10]);
        let subject = Subject {
            rule: Rule::ErrorRate,
            call: call.into(),
            release: None,
            target: None,
            detail: None,
        };
        Alert {
            id,
            subject,
            severity,
            stage: Stage::Firing,
            started_ms: 1,
            fired_ms: Some(1),
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

    const SCHEMA: Outcome = Outcome::Failed(FailureClass::Schema);

    #[test]
    fn every_call_has_a_row_and_trouble_comes_first() {
        let window = [
            rollup("write", 60_000, Outcome::Ok, 96),
            rollup("write", 240_000, SCHEMA, 4),
            rollup("gone", 120_000, Outcome::Ok, 3),
            rollup("write", 360_000, SCHEMA, 0),
        ];
        let firing = [firing("write", Severity::Page)];
        let board = told(&window, &[], &firing);
        let rows: Vec<_> =
            board.calls.iter().map(|c| (c.call.as_str(), c.state, c.configured)).collect();
        assert_eq!(
            rows,
            [
                ("write", Light::Page, true),
                ("gone", Light::Insufficient, false),
                ("idle", Light::NoTraffic, true),
                ("read", Light::NoTraffic, true),
            ]
        );
        let write = &board.calls[0];
        assert_eq!((write.calls, write.errors, write.error_rate), (100, 4, Some(0.04)));
        assert_eq!(write.budget_left, Some(-1.0), "twice the budget was spent");
        assert_eq!(
            (write.alerts.as_slice(), &write.top_failure),
            (&["error_rate".to_owned()][..], &Some("schema".into()))
        );
        assert_eq!(
            (write.release.as_deref(), write.releases.as_slice()),
            (Some("write@2"), &["write@1".to_owned()][..])
        );
        assert_eq!(board.calls[1].max_error_rate, 0.1);
        assert_eq!(board.calls[3].budget_left, None);
        assert_eq!((board.totals.calls, board.totals.errors), (103, 4));
        assert_eq!((board.totals.cost_usd, board.window_ms), (None, 300_000));
    }

    #[test]
    fn a_sparkline_has_a_point_for_every_step() {
        let window = [
            rollup("read", 60_000, Outcome::Ok, 5),
            rollup("read", 240_000, SCHEMA, 2),
            rollup("read", 0, SCHEMA, 7),
        ];
        let board = told(&window, &[], &[]);
        let spark = &board.calls.iter().find(|call| call.call == "read").unwrap().spark;
        let points: Vec<_> = spark.iter().map(|p| (p.start_ms, p.calls, p.errors)).collect();
        let expected =
            [(60_000, 5, 0), (120_000, 0, 0), (180_000, 0, 0), (240_000, 2, 2), (300_000, 0, 0)];
        assert_eq!(points, expected);
    }

    #[test]
    fn five_minutes_are_held_against_the_budget_to_the_letter() {
        for (ok, failed, state) in [
            (98, 2, FiveState::Ok),
            (97, 3, FiveState::Over),
            (0, 4, FiveState::Insufficient),
            (0, 0, FiveState::Insufficient),
        ] {
            let recent =
                [rollup("read", 240_000, Outcome::Ok, ok), rollup("read", 240_000, SCHEMA, failed)];
            let board = told(&[], &recent, &[]);
            let read = board.calls.iter().find(|call| call.call == "read").unwrap();
            assert_eq!(read.five_minutes.state, state, "{failed} of {}", ok + failed);
        }
    }
}
