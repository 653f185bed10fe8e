//! The page of one call: points over time, releases, targets, bands.

use std::collections::BTreeMap;

use backstay_core::{alert::tokens::TokenBaseline, rollup::Level};
use backstay_store::Rollup;

use super::{
    figures::{MILLI, band, quantiles},
    tally::Tally,
};
use crate::api::types::{Bands, CallPage, CallSettings, LevelName, Point, ReleaseMark, TargetSums};

/// The most points of a page.
const MOST_POINTS: u64 = 300;
/// Targets and releases beyond these numbers are not told one by one.
const MOST_PARTS: usize = 100;
const HOUR_MS: u64 = 3_600_000;

/// A stretch of time, and what its points are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) struct Stretch {
    /// Where it begins: a multiple of `step_ms`.
    pub(in crate::api) since_ms: u64,
    /// Where it ends.
    pub(in crate::api) until_ms: u64,
    /// How long a point is: a multiple of the level's length.
    pub(in crate::api) step_ms: u64,
    /// What points are made of.
    pub(in crate::api) level: Level,
}

impl Stretch {
    /// The stretch that holds `since_ms` to `until_ms`, which is later, in at most 300 points.
    pub(in crate::api) fn of(since_ms: u64, until_ms: u64) -> Self {
        let length = until_ms.saturating_sub(since_ms);
        let level = if length <= 6 * HOUR_MS {
            Level::Minute
        } else if length <= 30 * 24 * HOUR_MS {
            Level::Hour
        } else {
            Level::Day
        };
        // One point is kept for the piece before `since_ms` that the first one takes in.
        let merged = length.div_ceil(level.millis()).div_ceil(MOST_POINTS - 1).max(1);
        let step_ms = merged * level.millis();
        Self { since_ms: since_ms - since_ms % step_ms, until_ms, step_ms, level }
    }
}

/// What a page is made of.
#[derive(Debug)]
pub(in crate::api) struct Material<'a> {
    /// The call.
    pub(in crate::api) call: &'a str,
    /// The release that answers now, if the project has the call.
    pub(in crate::api) configured: Option<Option<&'a str>>,
    /// What the project says.
    pub(in crate::api) settings: CallSettings,
    /// The time that is shown.
    pub(in crate::api) stretch: Stretch,
    /// The sums of that time.
    pub(in crate::api) window: &'a [Rollup],
    /// How many tokens the rules hold for usual, read and written.
    pub(in crate::api) usual: [Option<TokenBaseline>; 2],
    /// Only this target.
    pub(in crate::api) target: Option<&'a str>,
}

#[derive(Debug, Default)]
struct Release {
    first_ms: u64,
    last_ms: u64,
    tally: Tally,
}

/// Puts the page together.
pub(in crate::api) fn page(material: Material<'_>) -> CallPage {
    let Stretch { since_ms, until_ms, step_ms, level } = material.stretch;
    let mut points: BTreeMap<u64, Tally> = BTreeMap::new();
    let mut releases: BTreeMap<Option<&str>, Release> = BTreeMap::new();
    let mut targets: BTreeMap<Option<&str>, Tally> = BTreeMap::new();
    let wanted = |rollup: &&Rollup| {
        material.target.is_none_or(|target| rollup.key.target.as_deref() == Some(target))
    };
    for Rollup { start_ms, key, cell } in material.window.iter().filter(wanted) {
        let start = start_ms - start_ms % step_ms;
        points.entry(start).or_default().add(key.outcome, cell);
        targets.entry(key.target.as_deref()).or_default().add(key.outcome, cell);
        let release = releases
            .entry(key.release.as_deref())
            .or_insert_with(|| Release { first_ms: *start_ms, ..Release::default() });
        release.first_ms = release.first_ms.min(*start_ms);
        release.last_ms = release.last_ms.max(*start_ms);
        release.tally.count(key.outcome, cell);
    }
    let mut totals = Tally::default();
    points.values().for_each(|point| totals.merge(point));
    let [tokens_in, tokens_out] = material.usual.map(|usual| usual.map(band));
    CallPage {
        call: material.call.to_owned(),
        configured: material.configured.is_some(),
        release: material.configured.flatten().map(str::to_owned),
        since_ms,
        until_ms,
        step_ms,
        level: match level {
            Level::Minute => LevelName::Minute,
            Level::Hour => LevelName::Hour,
            Level::Day => LevelName::Day,
        },
        settings: material.settings,
        releases: marks(releases),
        totals: totals.sums(),
        series: points
            .into_iter()
            .map(|(start_ms, tally)| Point { start_ms, sums: tally.sums() })
            .collect(),
        by_target: by_target(targets),
        bands: Bands { tokens_in, tokens_out },
    }
}

fn marks(releases: BTreeMap<Option<&str>, Release>) -> Vec<ReleaseMark> {
    let mut marks: Vec<ReleaseMark> = releases
        .into_iter()
        .map(|(release, Release { first_ms, last_ms, tally })| ReleaseMark {
            release: release.map(str::to_owned),
            first_ms,
            last_ms,
            calls: tally.cell.calls,
            errors: tally.errors,
            error_rate: tally.error_rate(),
        })
        .collect();
    marks.sort_by_key(|mark| mark.first_ms);
    // The last ones are those that people ask about.
    marks.drain(..marks.len().saturating_sub(MOST_PARTS));
    marks
}

fn by_target(targets: BTreeMap<Option<&str>, Tally>) -> Vec<TargetSums> {
    let mut sums: Vec<TargetSums> = targets
        .into_iter()
        .map(|(target, tally)| TargetSums {
            target: target.map(str::to_owned),
            calls: tally.cell.calls,
            errors: tally.errors,
            neutral: tally.ladder.neutral,
            latency: quantiles(&tally.cell.latency_us, MILLI),
            cost_usd: tally.cost_usd(),
            unpriced: tally.cell.unpriced,
            free: tally.cell.free,
        })
        .collect();
    sums.sort_by_key(|target| std::cmp::Reverse(target.calls));
    sums.truncate(MOST_PARTS);
    sums
}

#[cfg(test)]
mod tests {
    use backstay_core::{
        failure::FailureClass,
        histogram::Histogram,
        record::{Outcome, Variant},
        rollup::{Cell, Key},
    };
    use proptest::prelude::*;

    use super::*;

    const DAY_MS: u64 = 24 * HOUR_MS;

    #[test]
    fn the_level_follows_the_length() {
        let now = 1_795_435_261_234;
        for (length, level) in [
            (1, Level::Minute),
            (6 * HOUR_MS, Level::Minute),
            (6 * HOUR_MS + 1, Level::Hour),
            (30 * DAY_MS, Level::Hour),
            (30 * DAY_MS + 1, Level::Day),
            (400 * DAY_MS, Level::Day),
        ] {
            assert_eq!(Stretch::of(now - length, now).level, level, "{length}");
        }
        assert_eq!(Stretch::of(now - HOUR_MS, now).step_ms, 60_000);
        assert_eq!(Stretch::of(now - 6 * HOUR_MS, now).step_ms, 120_000);
        assert_eq!(Stretch::of(now - DAY_MS, now).step_ms, HOUR_MS);
    }

    proptest! {
        #[test]
        fn a_stretch_holds_what_was_asked_for_in_at_most_300_points(
            since in 1_000_000_000_000u64..2_000_000_000_000, length in 1u64..400 * DAY_MS
        ) {
            let stretch = Stretch::of(since, since + length);
            prop_assert!(stretch.since_ms <= since && stretch.until_ms == since + length);
            prop_assert_eq!(stretch.since_ms % stretch.step_ms, 0);
            prop_assert_eq!(stretch.step_ms % stretch.level.millis(), 0);
            let points = (stretch.until_ms - stretch.since_ms).div_ceil(stretch.step_ms);
            prop_assert!(points <= MOST_POINTS, "{} points", points);
        }
    }

    fn rollup(
        start_ms: u64,
        (release, target): (&str, &str),
        outcome: Outcome,
        calls: u64,
    ) -> Rollup {
        let mut cell = Cell { calls, attempts: calls, ..Cell::default() };
        cell.latency_us.record(2_000, calls);
        cell.input_tokens.record(500, calls);
        let key = Key {
            call: "read".into(),
            release: Some(release.into()),
            variant: Variant::Stable,
            target: Some(target.into()),
            outcome,
        };
        Rollup { start_ms, key, cell }
    }

    #[test]
    fn cells_become_points_releases_and_targets() {
        let stretch =
            Stretch { since_ms: 0, until_ms: 600_000, step_ms: 120_000, level: Level::Minute };
        let schema = Outcome::Failed(FailureClass::Schema);
        let window = [
            rollup(0, ("read@1", "a/m"), Outcome::Ok, 10),
            rollup(60_000, ("read@1", "a/m"), schema, 5),
            rollup(240_000, ("read@2", "a/m"), Outcome::Ok, 20),
            rollup(300_000, ("read@2", "b/m"), Outcome::Ok, 50),
        ];
        let settings = CallSettings {
            max_error_rate: 0.02,
            deadline_ms: 1,
            route: Vec::new(),
            latency_p95_ms: None,
        };
        let mut lengths = Histogram::default();
        lengths.record(500, 1000);
        let usual = TokenBaseline::of(&lengths).unwrap();
        let material = |target| Material {
            call: "read",
            configured: Some(Some("read@2")),
            settings: settings.clone(),
            stretch,
            window: &window,
            usual: [Some(usual), None],
            target,
        };
        let told = page(material(None));
        let points: Vec<_> =
            told.series.iter().map(|p| (p.start_ms, p.sums.calls, p.sums.errors)).collect();
        assert_eq!(points, [(0, 15, 5), (240_000, 70, 0)], "empty stretches are left out");
        let marks: Vec<_> = told
            .releases
            .iter()
            .map(|r| (r.release.as_deref().unwrap(), r.first_ms, r.last_ms, r.calls))
            .collect();
        assert_eq!(marks, [("read@1", 0, 60_000, 15), ("read@2", 240_000, 300_000, 70)]);
        let targets: Vec<_> = told
            .by_target
            .iter()
            .map(|t| (t.target.as_deref().unwrap(), t.calls, t.errors))
            .collect();
        assert_eq!(targets, [("b/m", 50, 0), ("a/m", 35, 5)]);
        assert_eq!((told.totals.calls, told.totals.error_rate), (85, Some(5.0 / 85.0)));
        assert_eq!((told.release.as_deref(), told.bands.tokens_out), (Some("read@2"), None));
        assert_eq!(told.bands.tokens_in, Some(band(usual)));
        let one = page(material(Some("b/m")));
        assert_eq!((one.totals.calls, one.series.len(), one.by_target.len()), (50, 1, 1));
    }
}
