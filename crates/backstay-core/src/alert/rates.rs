//! Rules about shares: how many of the calls of a window did what only so many may do.
//!
//! Each is the exact binomial tail: how likely so many are if the share were just the allowed one. A
//! plain comparison of shares would fire 16 times a day on a healthy call with one call a second.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Severity,
    reading::{Reading, Verdict, chance, per_cent, time},
};
use crate::stats::{binomial_tail, share};

/// A window with fewer calls says nothing, unless most of them fail.
pub const FEWEST_CALLS: u64 = 5;
/// One bad call is never an alert.
pub const FEWEST_BAD: u64 = 2;
/// Someone is told when chance alone would do it so rarely.
pub const WARN: f64 = 0.01;
/// Someone is woken when chance alone would do it so rarely.
pub const PAGE: f64 = 0.001;
/// An alert may end when chance alone would do it so often.
pub const WELL: f64 = 0.2;
/// Of 100 calls so many may be slower than the 95th percentile that is wanted.
const SLOW: f64 = 0.05;
/// What is usual is taken from so many calls or more.
pub const BASELINE_CALLS: u64 = 300;

/// So many of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Calls that did what they should not.
    pub bad: u64,
    /// All calls that could have.
    pub all: u64,
}

impl Tally {
    fn share(self) -> f64 {
        share(self.bad, self.all)
    }
}

/// The calls of a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How long it is, in words: `5 min`.
    pub name: &'static str,
    /// Its calls.
    pub tally: Tally,
}

/// What shares are tested against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowed {
    /// The share that is allowed.
    pub share: f64,
    /// How rare is rare enough to warn,
    pub warn: f64,
    /// and to page, if ever.
    pub page: Option<f64>,
}

/// What windows came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// The window that speaks loudest.
    pub window: Window,
    /// How likely its calls are if the share is the allowed one.
    pub tail: f64,
}

/// Judges windows, the shortest first: any of them can begin an alert; the first one that has enough
/// calls says whether it may end. `None` without windows.
#[must_use]
pub fn judge(windows: &[Window], allowed: &Allowed) -> Option<Judged> {
    let tail = |window: &Window| binomial_tail(window.tally.bad, window.tally.all, allowed.share);
    let enough = |window: &&Window| window.tally.all >= FEWEST_CALLS;
    let last = windows.iter().find(enough).or(windows.last())?;
    let telling = windows.iter().filter(|window| window.tally.bad >= FEWEST_BAD);
    let loudest = telling.map(|window| (*window, tail(window))).min_by(|a, b| a.1.total_cmp(&b.1));
    if let Some((window, tail)) = loudest.filter(|(_, tail)| *tail <= allowed.warn) {
        let pages = allowed.page.is_some_and(|page| tail <= page);
        let severity = if pages { Severity::Page } else { Severity::Warn };
        return Some(Judged { verdict: Verdict::Holds(severity), window, tail });
    }
    let tail = tail(last);
    let verdict = match tail {
        _ if last.tally.all < FEWEST_CALLS => Verdict::Insufficient,
        _ if tail > WELL => Verdict::Clear,
        _ => Verdict::Lingers,
    };
    Some(Judged { verdict, window: *last, tail })
}

/// `7 of 61 calls failed in 5 min (11.5 %), allowed 2 %: P(>=7 | 61, 2 %) = 0.00022 <= 0.001`.
fn sentence(judged: &Judged, allowed: &Allowed, did: &str) -> String {
    let Judged { verdict, window: Window { name, tally }, tail } = *judged;
    let Tally { bad, all } = tally;
    let may = per_cent(allowed.share);
    let bound = match verdict {
        Verdict::Holds(Severity::Page) => allowed.page.unwrap_or(allowed.warn),
        Verdict::Holds(Severity::Warn)
        | Verdict::Insufficient
        | Verdict::Learning
        | Verdict::Clear
        | Verdict::Lingers => allowed.warn,
    };
    let sign = if tail <= bound { "<=" } else { ">" };
    let head =
        format!("{bad} of {all} {did} in {name} ({}), allowed {may}", per_cent(tally.share()));
    match verdict {
        Verdict::Insufficient => format!("{head}: fewer than {FEWEST_CALLS} say nothing"),
        Verdict::Learning | Verdict::Clear | Verdict::Lingers | Verdict::Holds(_) => {
            format!("{head}: P(>={bad} | {all}, {may}) = {} {sign} {bound}", chance(tail))
        }
    }
}

fn reading(windows: &[Window], allowed: &Allowed, did: &str) -> Reading {
    let Some(judged) = judge(windows, allowed) else {
        return Reading::plain(Verdict::Insufficient, "there were no calls");
    };
    let Window { name, tally } = judged.window;
    let may = per_cent(allowed.share);
    Reading {
        verdict: judged.verdict,
        value: (tally.all > 0).then(|| tally.share()),
        threshold: Some(allowed.share),
        summary: format!("{} of {did} in {name}, {may} may", per_cent(tally.share())),
        arithmetic: sentence(&judged, allowed, did),
    }
}

/// More calls fail than `allowed`, a share.
#[must_use]
pub fn error_rate(windows: &[Window], allowed: f64) -> Reading {
    let allowed = Allowed { share: allowed, warn: WARN, page: Some(PAGE) };
    reading(windows, &allowed, "calls failed")
}

/// Where the share of failures of the last five minutes stands, taken literally. Shown, never told to
/// anybody: on small numbers it says little.
#[must_use]
pub fn literal_state(tally: Tally, allowed: f64) -> &'static str {
    match tally {
        Tally { all, .. } if all < FEWEST_CALLS => "insufficient",
        tally if tally.share() > allowed => "over",
        Tally { .. } => "ok",
    }
}

/// More calls than one in twenty take longer than `limit`, which the budget sets.
#[must_use]
pub fn over_budget(windows: &[Window], limit: Duration) -> Reading {
    let allowed = Allowed { share: SLOW, warn: WARN, page: Some(PAGE) };
    reading(windows, &allowed, &format!("calls took longer than {}", time(limit)))
}

/// More calls than one in twenty take longer than `limit`, which is 1.5 times what is usual.
#[must_use]
pub fn over_baseline(windows: &[Window], limit: Duration) -> Reading {
    // Only what is rare indeed: nobody set this limit.
    let allowed = Allowed { share: SLOW, warn: PAGE, page: None };
    let did = format!("calls took longer than {}, 1.5 times the usual p95,", time(limit));
    reading(windows, &allowed, &did)
}

/// More streams than one in twenty begin later than `limit`; `usual`: because it is 1.5 times what is
/// usual, and not because somebody set it.
#[must_use]
pub fn late_streams(windows: &[Window], limit: Duration, usual: bool) -> Reading {
    let warn = if usual { PAGE } else { WARN };
    let allowed = Allowed { share: SLOW, warn, page: None };
    let why = if usual { ", 1.5 times the usual p95," } else { "" };
    reading(windows, &allowed, &format!("streams began later than {}{why}", time(limit)))
}

/// More answers stop at one rung of the ladder than usual. `usual` is what stopped there of what had
/// come so far; `stopped` says it in words: `answers were not JSON`.
#[must_use]
pub fn quality(windows: &[Window], usual: Tally, stopped: &str) -> Reading {
    if usual.all < BASELINE_CALLS {
        return learning(usual.all);
    }
    let share = usual.share();
    let share = (1.5 * share).max(share + 0.01);
    let allowed = Allowed { share, warn: PAGE, page: None };
    let mut reading = reading(windows, &allowed, stopped);
    reading.arithmetic = format!("{}; usual are {}", reading.arithmetic, per_cent(usual.share()));
    reading
}

/// Fewer consumers than usual say what answers were worth. Both tallies count as bad the calls that
/// nobody said anything of.
#[must_use]
pub fn coverage(windows: &[Window], usual: Tally) -> Reading {
    if usual.all < BASELINE_CALLS {
        return learning(usual.all);
    }
    let heard = 1.0 - usual.share();
    if heard < 0.2 {
        let why =
            format!("{} of the calls are heard of, which is too few to miss", per_cent(heard));
        return Reading::plain(Verdict::Clear, why);
    }
    // Half of the usual reports missing is worth a word; less than that comes and goes.
    let allowed = Allowed { share: 1.0 - heard / 2.0, warn: PAGE, page: None };
    let mut reading = reading(windows, &allowed, "calls were not heard of");
    reading.arithmetic =
        format!("{}; usually {} are heard of", reading.arithmetic, per_cent(heard));
    reading
}

/// Says that what is usual is not known yet.
#[must_use]
pub fn learning(calls: u64) -> Reading {
    Reading {
        value: None,
        ..Reading::plain(
            Verdict::Learning,
            format!(
                "what is usual is taken from {BASELINE_CALLS} calls; there were {calls} so far"
            ),
        )
    }
}

/// One row of the burn-rate rule: both windows must burn the budget so many times too fast.
struct Burn {
    long: usize,
    short: usize,
    factor: f64,
    severity: Severity,
}

/// The windows of [`burn_rate`], in its order.
pub const BURN_WINDOWS: [&str; 5] = ["5 min", "30 min", "1 h", "6 h", "3 d"];

/// The multi-window table of the SRE workbook for 30 days.
const BURNS: [Burn; 3] = [
    Burn { long: 2, short: 0, factor: 14.4, severity: Severity::Page },
    Burn { long: 3, short: 1, factor: 6.0, severity: Severity::Page },
    Burn { long: 4, short: 3, factor: 1.0, severity: Severity::Warn },
];

/// The error budget of 30 days, all that `slo` leaves, burns too fast. `tallies` are those of
/// [`BURN_WINDOWS`].
#[must_use]
pub fn burn_rate(tallies: &[Tally; 5], slo: f64) -> Reading {
    let budget = (1.0 - slo).max(1e-9);
    let at = |index: usize| tallies.get(index).copied().unwrap_or_default();
    let name = |index: usize| BURN_WINDOWS.get(index).copied().unwrap_or_default();
    let rate = |index| at(index).share() / budget;
    let holds = |burn: &&Burn| {
        let long = at(burn.long);
        rate(burn.long) > burn.factor
            && rate(burn.short) > burn.factor
            && at(burn.short).bad >= FEWEST_BAD
            // Two failures of ten calls are a high rate, and no evidence.
            && binomial_tail(long.bad, long.all, budget) <= WARN
    };
    let first = BURNS.iter().find(holds);
    let (burn, verdict) = match first {
        Some(burn) => (Some(burn), Verdict::Holds(burn.severity)),
        None if at(3).all < FEWEST_CALLS => (BURNS.first(), Verdict::Insufficient),
        None => (BURNS.first(), Verdict::Clear),
    };
    let Some(Burn { long, short, factor, .. }) = burn else {
        return Reading::plain(Verdict::Clear, "there is no row");
    };
    let (fast, slow) = (at(*short), at(*long));
    Reading {
        verdict,
        value: Some(rate(*long)),
        threshold: Some(*factor),
        summary: format!(
            "the error budget burns {:.1} times too fast over {}",
            rate(*long),
            name(*long)
        ),
        arithmetic: format!(
            "{} of {} calls failed in {} and {} of {} in {}: {:.1} and {:.1} times the {} that an \
             SLO of {} leaves, at most {factor}",
            slow.bad,
            slow.all,
            name(*long),
            fast.bad,
            fast.all,
            name(*short),
            rate(*long),
            rate(*short),
            per_cent(budget),
            per_cent(slo),
        ),
    }
}

#[cfg(test)]
mod tests;
